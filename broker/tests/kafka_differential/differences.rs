//! What may differ, and why. Everything else is the same.

/// A difference that is meant.
#[derive(Debug)]
pub struct Allowed {
    /// How the name of the step begins; all steps where empty.
    step: &'static str,
    /// How the path ends.
    path: &'static str,
    /// What Kafka answers; `*` for anything.
    theirs: &'static str,
    /// What we answer; `*` for anything.
    ours: &'static str,
    #[expect(dead_code, reason = "it is printed, and read by people")]
    why: &'static str,
}

impl Allowed {
    pub fn covers(&self, step: &str, path: &str, theirs: &str, ours: &str) -> bool {
        let is = |pattern: &str, value: &str| pattern == "*" || pattern == value;
        step.starts_with(self.step) && path.ends_with(self.path) && is(self.theirs, theirs) && is(self.ours, ours)
    }
}

const fn allow(
    step: &'static str,
    path: &'static str,
    theirs: &'static str,
    ours: &'static str,
    why: &'static str,
) -> Allowed {
    Allowed { step, path, theirs, ours, why }
}

pub const LIST: &[Allowed] = &[
    allow(
        "CreateTopics only checked",
        "topic_id",
        "<id>",
        "00000000-0000-0000-0000-000000000000",
        "a topic that is not made has no id",
    ),
    allow("CreatePartitions", "error_message", "None", "\"something\"", "we say why"),
    allow("DescribeConfigs", "error_message", "None", "\"something\"", "we say why"),
    allow("Produce", "partition_responses[0].error_message", "None", "\"something\"", "we say why"),
    // Settings: `configs` are those of `settings` in the script, by name.
    allow(
        "DescribeConfigs",
        "configs[11].value",
        "\"1073741824\"",
        "\"134217728\"",
        "segment.bytes: ours are 128 MiB unless the topic says otherwise",
    ),
    allow("DescribeConfigs", "configs[11].config_source", "5", "4", "segment.bytes: it is a setting of the broker"),
    allow(
        "DescribeConfigs with synonyms",
        "configs[11].synonyms[0].value",
        "\"1073741824\"",
        "\"134217728\"",
        "segment.bytes, as above",
    ),
    allow("DescribeConfigs with synonyms", "configs[11].synonyms[0].source", "5", "4", "segment.bytes, as above"),
    allow(
        "DescribeConfigs with synonyms",
        "configs[11].synonyms.len",
        "1",
        "2",
        "segment.bytes: Kafka's default is behind the broker's",
    ),
    allow(
        "DescribeConfigs",
        "configs[8].config_source",
        "3",
        "5",
        "min.insync.replicas: one node has no cluster to set it for",
    ),
    allow("DescribeConfigs", "configs[8].read_only", "false", "true", "min.insync.replicas: one node has one replica"),
    allow("DescribeConfigs with synonyms", "configs[8].synonyms.len", "2", "1", "min.insync.replicas, as above"),
    allow("DescribeConfigs with synonyms", "configs[8].synonyms[0].source", "3", "5", "min.insync.replicas, as above"),
    allow(
        "DescribeConfigs with synonyms",
        "configs[10].synonyms.len",
        "1",
        "2",
        "retention.ms: Kafka derives it from hours, of which it tells nothing",
    ),
    allow(
        "DescribeConfigs with synonyms",
        "configs[12].synonyms.len",
        "0",
        "1",
        "segment.ms: Kafka derives it from hours, too",
    ),
    allow("DescribeConfigs with synonyms of one", "configs[0].synonyms.len", "1", "2", "retention.ms, as above"),
    allow(
        "DescribeConfigs with synonyms",
        "synonyms[1].name",
        "*",
        "*",
        "the synonyms that one of them does not have, as above",
    ),
    allow("DescribeConfigs with synonyms", "synonyms[1].source", "*", "*", "the same"),
    allow("DescribeConfigs with synonyms", "synonyms[1].value", "*", "*", "the same"),
    allow("DescribeConfigs with synonyms", "synonyms[1].unknown_tagged_fields", "*", "*", "the same"),
    allow(
        "DescribeConfigs with synonyms",
        "configs[12].synonyms[0].name",
        "(not there)",
        "\"log.roll.ms\"",
        "segment.ms, as above",
    ),
    allow("DescribeConfigs with synonyms", "configs[12].synonyms[0].source", "(not there)", "5", "the same"),
    allow("DescribeConfigs with synonyms", "configs[12].synonyms[0].value", "(not there)", "\"604800000\"", "the same"),
    allow(
        "DescribeConfigs with synonyms",
        "configs[12].synonyms[0].unknown_tagged_fields",
        "(not there)",
        "{}",
        "the same",
    ),
    allow(
        "IncrementalAlterConfigs bad operation",
        "error_code",
        "-1",
        "42",
        "Kafka fails over it; it is the request that is invalid",
    ),
    allow("IncrementalAlterConfigs bad operation", "error_message", "None", "\"something\"", "we say why"),
    // What is told of a batch that was refused.
    allow(
        "Produce",
        "log_start_offset",
        "0",
        "-1",
        "the log start is told of what was written; clients read it only there",
    ),
    allow(
        "Produce without keys, compacted",
        "record_errors.len",
        "1",
        "0",
        "the batch is refused, not one record of it",
    ),
    allow("Produce without keys, compacted", "record_errors[0].batch_index", "0", "(not there)", "the same"),
    allow(
        "Produce without keys, compacted",
        "record_errors[0].batch_index_error_message",
        "\"something\"",
        "(not there)",
        "the same",
    ),
    allow("Produce without keys, compacted", "record_errors[0].unknown_tagged_fields", "{}", "(not there)", "the same"),
    allow("Produce cut short", "error_code", "87", "2", "what is cut short is corrupt; Kafka sees no batch at all"),
    allow(
        "Produce with a negative epoch",
        "error_code",
        "47",
        "87",
        "such a batch contradicts itself, whoever sent it",
    ),
    allow(
        "Produce first again",
        "log_append_time_ms",
        "1",
        "-1",
        "under CreateTime there is no time of append; Kafka tells it of repeated batches only",
    ),
    allow("Produce next again", "log_append_time_ms", "1", "-1", "the same"),
    allow("Produce of the last five", "log_append_time_ms", "1", "-1", "the same"),
    allow(
        "Fetch",
        "aborted_transactions",
        "None",
        "(not there)",
        "with an error there are none, told as an empty list",
    ),
    allow("Fetch", "aborted_transactions.len", "(not there)", "0", "the same"),
    // Groups and transactions.
    allow(
        "DescribeGroups",
        "authorized_operations",
        "3400",
        "328",
        "read, delete, describe; our groups have no settings to describe and alter",
    ),
    allow(
        "AddPartitionsToTxn without a name",
        "partition_error_code",
        "42",
        "49",
        "no producer has the empty name; it is told as any that is not known",
    ),
    allow("EndTxn without a name", "error_code", "42", "49", "the same"),
    allow(
        "TxnOffsetCommit of a stranger",
        "error_code",
        "25",
        "22",
        "a group is there from its first committed offset on, not from the first pending one; either aborts the transaction",
    ),
];
