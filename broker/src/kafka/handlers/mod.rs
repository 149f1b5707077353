//! One file per API: its versions, its behaviour, its handler. `super::apis` lists them.

pub(in crate::kafka) mod api_versions;
pub(in crate::kafka) mod create_partitions;
pub(in crate::kafka) mod create_topics;
pub(in crate::kafka) mod delete_records;
pub(in crate::kafka) mod delete_topics;
pub(in crate::kafka) mod describe_cluster;
pub(in crate::kafka) mod describe_configs;
pub(in crate::kafka) mod incremental_alter_configs;
