//! Settings of consumer groups, with Kafka's names and defaults where Kafka has them.

/// Settings of consumer groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// Shortest session timeout a member may ask for, in milliseconds (`group.min.session.timeout.ms`).
    pub min_session_timeout_ms: i32,
    /// Longest session timeout a member may ask for, in milliseconds (`group.max.session.timeout.ms`).
    pub max_session_timeout_ms: i32,
    /// How long the first rebalance of an empty group waits for more members, in milliseconds (`group.initial.rebalance.delay.ms`).
    pub initial_rebalance_delay_ms: i32,
    /// How long a member that has no id yet may wait for its first join to be answered, in milliseconds. Kafka's is fixed at 5 minutes.
    pub new_member_join_timeout_ms: i32,
    /// Members a group may have (`group.max.size`). Kafka sets no limit; memory does.
    pub max_members: usize,
    /// Bytes that the members of one group may bring as metadata together. Its record has to fit into an entry of the journal.
    pub max_group_metadata_size_bytes: usize,
    /// Bytes that the members of all groups may bring as metadata together.
    pub max_metadata_size_bytes: usize,
    /// Groups with members that there may be at once. Beyond it new groups are refused.
    pub max_groups: usize,
    /// Characters of metadata kept with an offset (`offset.metadata.max.bytes`).
    pub max_offset_metadata_size_bytes: usize,
    /// How long offsets are kept after a group became empty, or after the commit where it never had members, in milliseconds
    /// (`offsets.retention.minutes`).
    pub offsets_retention_ms: i64,
    /// How often it is looked which offsets have expired, in milliseconds (`offsets.retention.check.interval.ms`).
    pub offsets_retention_check_interval_ms: i64,
    /// Groups whose name starts so are Highwater's own: clients see them and cannot change them.
    pub own_group_prefix: String,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 30 * 60_000,
            initial_rebalance_delay_ms: 3_000,
            new_member_join_timeout_ms: 5 * 60_000,
            max_members: 10_000,
            max_group_metadata_size_bytes: 8 << 20,
            max_metadata_size_bytes: 256 << 20,
            max_groups: 100_000,
            max_offset_metadata_size_bytes: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60_000,
            offsets_retention_check_interval_ms: 10 * 60_000,
            own_group_prefix: "__highwater".to_owned(),
        }
    }
}
