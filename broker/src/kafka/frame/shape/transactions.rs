//! Shapes of what transactions are made of.

use kafka_protocol::messages::ApiKey;

use super::Kind::{NullableText, Structs, Text, Values};
use super::{BOOL, Field, I16, I32, I64, Shape, always, since, until};

pub(super) fn shape(key: ApiKey) -> Option<&'static Shape> {
    match key {
        ApiKey::InitProducerId => Some(&INIT_PRODUCER_ID),
        ApiKey::AddPartitionsToTxn => Some(&ADD_PARTITIONS_TO_TXN),
        ApiKey::AddOffsetsToTxn => Some(&ADD_OFFSETS_TO_TXN),
        ApiKey::EndTxn => Some(&END_TXN),
        ApiKey::TxnOffsetCommit => Some(&TXN_OFFSET_COMMIT),
        _ => None,
    }
}

const INIT_PRODUCER_ID: Shape = Shape {
    flexible: 2,
    fields: &[
        always(NullableText), // transactional id
        always(I32),          // transaction_timeout_ms
        since(3, I64),        // producer id
        since(3, I16),        // producer epoch
    ],
};

const ADD_PARTITIONS_TO_TXN: Shape = Shape {
    flexible: 3,
    fields: &[
        since(
            4,
            Structs(&[
                always(Text), // transactional id
                always(I64),  // producer id
                always(I16),  // producer epoch
                always(BOOL), // verify only
                always(Structs(TOPIC_PARTITIONS)),
            ]),
        ),
        until(3, Text), // transactional id
        until(3, I64),  // producer id
        until(3, I16),  // producer epoch
        until(3, Structs(TOPIC_PARTITIONS)),
    ],
};

const TOPIC_PARTITIONS: &[Field] = &[
    always(Text),         // topic
    always(Values(&I32)), // partitions
];

const ADD_OFFSETS_TO_TXN: Shape = Shape {
    flexible: 3,
    fields: &[
        always(Text), // transactional id
        always(I64),  // producer id
        always(I16),  // producer epoch
        always(Text), // group
    ],
};

const END_TXN: Shape = Shape {
    flexible: 3,
    fields: &[
        always(Text), // transactional id
        always(I64),  // producer id
        always(I16),  // producer epoch
        always(BOOL), // commit
    ],
};

const TXN_OFFSET_COMMIT: Shape = Shape {
    flexible: 3,
    fields: &[
        always(Text),           // transactional id
        always(Text),           // group
        always(I64),            // producer id
        always(I16),            // producer epoch
        since(3, I32),          // generation
        since(3, Text),         // member
        since(3, NullableText), // instance
        always(Structs(&[
            always(Text), // topic
            always(Structs(&[
                always(I32),          // partition
                always(I64),          // offset
                since(2, I32),        // leader epoch
                always(NullableText), // metadata
            ])),
        ])),
    ],
};
