//! What the APIs that read partitions have in common.

use std::cmp::Ordering;

use kafka_protocol::ResponseError;

use super::context::LEADER_EPOCH;
use crate::raw::{Isolation, PartitionEnds};

/// The isolation of a request: 1 is `read_committed`, all else is not.
pub(in crate::kafka) fn isolation(level: i8) -> Isolation {
    if level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted }
}

/// Where the partition ends for a reader of this isolation.
pub(in crate::kafka) fn end_for(ends: &PartitionEnds, isolation: Isolation) -> i64 {
    match isolation {
        Isolation::ReadUncommitted => ends.high_watermark,
        Isolation::ReadCommitted => ends.last_stable_offset,
    }
}

/// Holds the leader epoch that a client believes in against ours; -1 is a client that does not know. Ours is the first, so none is behind.
pub(in crate::kafka) fn check_leader_epoch(believed: i32) -> Result<(), ResponseError> {
    match believed.cmp(&LEADER_EPOCH) {
        Ordering::Greater => Err(ResponseError::UnknownLeaderEpoch),
        Ordering::Less | Ordering::Equal => Ok(()),
    }
}
