//! One file per API: its versions, its behaviour, its handler. `super::apis` lists them.

pub(in crate::kafka) mod api_versions;
pub(in crate::kafka) mod create_partitions;
pub(in crate::kafka) mod create_topics;
pub(in crate::kafka) mod delete_groups;
pub(in crate::kafka) mod delete_records;
pub(in crate::kafka) mod delete_topics;
pub(in crate::kafka) mod describe_cluster;
pub(in crate::kafka) mod describe_configs;
pub(in crate::kafka) mod describe_groups;
pub(in crate::kafka) mod find_coordinator;
pub(in crate::kafka) mod heartbeat;
pub(in crate::kafka) mod incremental_alter_configs;
pub(in crate::kafka) mod join_group;
pub(in crate::kafka) mod leave_group;
pub(in crate::kafka) mod list_groups;
pub(in crate::kafka) mod offset_commit;
pub(in crate::kafka) mod offset_delete;
pub(in crate::kafka) mod offset_fetch;
pub(in crate::kafka) mod sync_group;

mod text;
