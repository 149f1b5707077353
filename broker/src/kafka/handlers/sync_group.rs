//! SyncGroup (14), versions 0-5: the leader brings the assignments, everyone fetches theirs; answered when they are durable.
//!
//! From version 3 a member may be static; from 5 it has to say what it takes the group's protocol type and chosen protocol to be.

use std::ops::RangeInclusive;

use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::text::{ours, ours_if_any, theirs_if_any};
use crate::groups::{GroupError, SyncRequest};
use crate::kafka::Context;
use crate::kafka::errors::group_code;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=5;

pub(in crate::kafka) async fn handle(cx: &Context, request: SyncGroupRequest, version: i16) -> SyncGroupResponse {
    let refused = |error| SyncGroupResponse::default().with_error_code(group_code(error));
    if version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return refused(GroupError::InconsistentGroupProtocol);
    }
    let sync = SyncRequest {
        member_id: ours(&request.member_id),
        instance_id: ours_if_any(request.group_instance_id.as_ref()),
        generation: request.generation_id,
        protocol_type: ours_if_any(request.protocol_type.as_ref()),
        protocol: ours_if_any(request.protocol_name.as_ref()),
        assignments: request.assignments.into_iter().map(|a| (ours(&a.member_id), a.assignment)).collect(),
    };
    let closed = || Err(GroupError::CoordinatorNotAvailable);
    match cx.groups.sync(&request.group_id, sync).await.unwrap_or_else(|_| closed()) {
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(theirs_if_any(synced.protocol_type.as_ref()))
            .with_protocol_name(theirs_if_any(synced.protocol.as_ref()))
            .with_assignment(synced.assignment),
        Err(error) => refused(error),
    }
}
