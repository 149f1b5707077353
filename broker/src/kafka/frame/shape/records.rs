//! Shapes of what reads and writes records, and of what finds out where they are.

use kafka_protocol::messages::ApiKey;

use super::Kind::{NullableBlob, NullableStructs, NullableText, Structs, Tagged, Text, Values};
use super::{BOOL, Field, I8, I16, I32, I64, Kind, Shape, UUID, always, between, since};

pub(super) fn shape(key: ApiKey) -> Option<&'static Shape> {
    match key {
        ApiKey::Produce => Some(&PRODUCE),
        ApiKey::Fetch => Some(&FETCH),
        ApiKey::ListOffsets => Some(&LIST_OFFSETS),
        ApiKey::Metadata => Some(&METADATA),
        ApiKey::OffsetForLeaderEpoch => Some(&OFFSET_FOR_LEADER_EPOCH),
        _ => None,
    }
}

const PRODUCE: Shape = Shape {
    flexible: 9,
    fields: &[
        always(NullableText), // transactional id
        always(I16),          // acks
        always(I32),          // timeout_ms
        always(Structs(&[
            always(Text), // topic
            always(Structs(&[
                always(I32),          // partition
                always(NullableBlob), // batches
            ])),
        ])),
    ],
};

const FETCH: Shape = Shape {
    flexible: 12,
    fields: &[
        always(I32),   // replica
        always(I32),   // max_wait_ms
        always(I32),   // min_bytes
        always(I32),   // max_bytes
        always(I8),    // isolation
        since(7, I32), // session id
        since(7, I32), // session epoch
        always(Structs(FETCH_TOPIC)),
        since(
            7,
            Structs(&[
                always(Text),         // topic
                always(Values(&I32)), // forgotten partitions
            ]),
        ),
        since(11, Text),                   // rack
        always(Tagged(0, &NullableText)),  // cluster id
        since(15, Tagged(1, &Kind::Blob)), // replica state, of brokers only
    ],
};

const FETCH_TOPIC: &[Field] = &[
    always(Text), // topic
    always(Structs(&[
        always(I32),                 // partition
        since(9, I32),               // leader epoch the client knows
        always(I64),                 // offset
        since(12, I32),              // leader epoch of the record before
        since(5, I64),               // log start of a follower
        always(I32),                 // max_bytes
        since(17, Tagged(0, &UUID)), // directory of a follower
        since(18, Tagged(1, &I64)),  // high watermark of a follower
    ])),
];

const LIST_OFFSETS: Shape = Shape {
    flexible: 6,
    fields: &[
        always(I32),  // replica
        since(2, I8), // isolation
        always(Structs(&[
            always(Text), // topic
            always(Structs(&[
                always(I32),   // partition
                since(4, I32), // leader epoch the client knows
                always(I64),   // timestamp_ms
            ])),
        ])),
    ],
};

const METADATA: Shape = Shape {
    flexible: 9,
    fields: &[
        always(NullableStructs(&[
            since(10, UUID),      // topic id
            always(NullableText), // topic
        ])),
        since(4, BOOL),       // create topics
        between(8, 10, BOOL), // authorized operations of the cluster
        since(8, BOOL),       // authorized operations of topics
    ],
};

const OFFSET_FOR_LEADER_EPOCH: Shape = Shape {
    flexible: 4,
    fields: &[
        since(3, I32), // replica
        always(Structs(&[
            always(Text), // topic
            always(Structs(&[
                always(I32), // partition
                always(I32), // leader epoch the client knows
                always(I32), // leader epoch asked for
            ])),
        ])),
    ],
};
