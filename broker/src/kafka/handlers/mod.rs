//! One file per API: its versions, its behaviour, its handler. `super::apis` lists them.

pub(in crate::kafka) mod api_versions;
pub(in crate::kafka) mod describe_cluster;
