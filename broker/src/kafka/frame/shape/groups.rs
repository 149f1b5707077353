//! Shapes of what consumer groups are made of.

use kafka_protocol::messages::ApiKey;

use super::Kind::{Blob, NullableStructs, NullableText, Structs, Text, Values};
use super::{BOOL, Field, I8, I32, I64, NEVER, Shape, always, since, until};

pub(super) fn shape(key: ApiKey) -> Option<&'static Shape> {
    match key {
        ApiKey::OffsetCommit => Some(&OFFSET_COMMIT),
        ApiKey::OffsetFetch => Some(&OFFSET_FETCH),
        ApiKey::FindCoordinator => Some(&FIND_COORDINATOR),
        ApiKey::JoinGroup => Some(&JOIN_GROUP),
        ApiKey::Heartbeat => Some(&HEARTBEAT),
        ApiKey::LeaveGroup => Some(&LEAVE_GROUP),
        ApiKey::SyncGroup => Some(&SYNC_GROUP),
        ApiKey::DescribeGroups => Some(&DESCRIBE_GROUPS),
        ApiKey::ListGroups => Some(&LIST_GROUPS),
        ApiKey::DeleteGroups => Some(&DELETE_GROUPS),
        ApiKey::OffsetDelete => Some(&OFFSET_DELETE),
        _ => None,
    }
}

const OFFSET_COMMIT: Shape = Shape {
    flexible: 8,
    fields: &[
        always(Text),           // group
        always(I32),            // generation
        always(Text),           // member
        since(7, NullableText), // instance
        until(4, I64),          // retention_time_ms
        always(Structs(&[
            always(Text), // topic
            always(Structs(&[
                always(I32),          // partition
                always(I64),          // offset
                since(6, I32),        // leader epoch
                always(NullableText), // metadata
            ])),
        ])),
    ],
};

const OFFSET_FETCH: Shape = Shape {
    flexible: 6,
    fields: &[
        until(7, Text), // group
        until(7, NullableStructs(TOPIC_PARTITIONS)),
        since(
            8,
            Structs(&[
                always(Text),           // group
                since(9, NullableText), // member
                since(9, I32),          // member epoch
                always(NullableStructs(TOPIC_PARTITIONS)),
            ]),
        ),
        since(7, BOOL), // require stable
    ],
};

const TOPIC_PARTITIONS: &[Field] = &[
    always(Text),         // topic
    always(Values(&I32)), // partitions
];

const FIND_COORDINATOR: Shape = Shape {
    flexible: 3,
    fields: &[
        until(3, Text),          // key
        since(1, I8),            // its type
        since(4, Values(&Text)), // keys
    ],
};

const JOIN_GROUP: Shape = Shape {
    flexible: 6,
    fields: &[
        always(Text),           // group
        always(I32),            // session_timeout_ms
        since(1, I32),          // rebalance_timeout_ms
        always(Text),           // member
        since(5, NullableText), // instance
        always(Text),           // protocol type
        always(Structs(&[
            always(Text), // protocol
            always(Blob), // metadata
        ])),
        since(8, NullableText), // reason
    ],
};

const HEARTBEAT: Shape = Shape {
    flexible: 4,
    fields: &[
        always(Text),           // group
        always(I32),            // generation
        always(Text),           // member
        since(3, NullableText), // instance
    ],
};

const LEAVE_GROUP: Shape = Shape {
    flexible: 4,
    fields: &[
        always(Text),   // group
        until(2, Text), // member
        since(
            3,
            Structs(&[
                always(Text),           // member
                always(NullableText),   // instance
                since(5, NullableText), // reason
            ]),
        ),
    ],
};

const SYNC_GROUP: Shape = Shape {
    flexible: 4,
    fields: &[
        always(Text),           // group
        always(I32),            // generation
        always(Text),           // member
        since(3, NullableText), // instance
        since(5, NullableText), // protocol type
        since(5, NullableText), // protocol
        always(Structs(&[
            always(Text), // member
            always(Blob), // assignment
        ])),
    ],
};

const DESCRIBE_GROUPS: Shape = Shape {
    flexible: 5,
    fields: &[
        always(Values(&Text)), // groups
        since(3, BOOL),        // authorized operations
    ],
};

const LIST_GROUPS: Shape = Shape {
    flexible: 3,
    fields: &[
        since(4, Values(&Text)), // states
        since(5, Values(&Text)), // types
    ],
};

const DELETE_GROUPS: Shape = Shape {
    flexible: 2,
    fields: &[
        always(Values(&Text)), // groups
    ],
};

const OFFSET_DELETE: Shape = Shape {
    flexible: NEVER,
    fields: &[
        always(Text), // group
        always(Structs(&[
            always(Text), // topic
            always(Structs(&[
                always(I32), // partition
            ])),
        ])),
    ],
};
