//! Shapes of what makes, changes and describes topics.

use kafka_protocol::messages::ApiKey;

use super::Kind::{NullableStructs, NullableText, NullableValues, Structs, Text, Values};
use super::{BOOL, I8, I16, I32, I64, Shape, UUID, always, since, until};

pub(super) fn shape(key: ApiKey) -> Option<&'static Shape> {
    match key {
        ApiKey::CreateTopics => Some(&CREATE_TOPICS),
        ApiKey::DeleteTopics => Some(&DELETE_TOPICS),
        ApiKey::DeleteRecords => Some(&DELETE_RECORDS),
        ApiKey::CreatePartitions => Some(&CREATE_PARTITIONS),
        ApiKey::DescribeConfigs => Some(&DESCRIBE_CONFIGS),
        ApiKey::IncrementalAlterConfigs => Some(&INCREMENTAL_ALTER_CONFIGS),
        _ => None,
    }
}

const CREATE_TOPICS: Shape = Shape {
    flexible: 5,
    fields: &[
        always(Structs(&[
            always(Text), // topic
            always(I32),  // partitions
            always(I16),  // replication factor
            always(Structs(&[
                always(I32),          // partition
                always(Values(&I32)), // brokers
            ])),
            always(Structs(&[
                always(Text),         // setting
                always(NullableText), // value
            ])),
        ])),
        always(I32),  // timeout_ms
        always(BOOL), // validate only
    ],
};

const DELETE_TOPICS: Shape = Shape {
    flexible: 4,
    fields: &[
        since(
            6,
            Structs(&[
                always(NullableText), // topic
                always(UUID),         // topic id
            ]),
        ),
        until(5, Values(&Text)), // topics
        always(I32),             // timeout_ms
    ],
};

const DELETE_RECORDS: Shape = Shape {
    flexible: 2,
    fields: &[
        always(Structs(&[
            always(Text), // topic
            always(Structs(&[
                always(I32), // partition
                always(I64), // offset
            ])),
        ])),
        always(I32), // timeout_ms
    ],
};

const CREATE_PARTITIONS: Shape = Shape {
    flexible: 2,
    fields: &[
        always(Structs(&[
            always(Text), // topic
            always(I32),  // partitions
            always(NullableStructs(&[
                always(Values(&I32)), // brokers
            ])),
        ])),
        always(I32),  // timeout_ms
        always(BOOL), // validate only
    ],
};

const DESCRIBE_CONFIGS: Shape = Shape {
    flexible: 4,
    fields: &[
        always(Structs(&[
            always(I8),                    // kind of resource
            always(Text),                  // resource
            always(NullableValues(&Text)), // settings
        ])),
        always(BOOL),   // synonyms
        since(3, BOOL), // documentation
    ],
};

const INCREMENTAL_ALTER_CONFIGS: Shape = Shape {
    flexible: 1,
    fields: &[
        always(Structs(&[
            always(I8),   // kind of resource
            always(Text), // resource
            always(Structs(&[
                always(Text),         // setting
                always(I8),           // operation
                always(NullableText), // value
            ])),
        ])),
        always(BOOL), // validate only
    ],
};
