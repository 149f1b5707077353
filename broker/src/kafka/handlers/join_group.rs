//! JoinGroup (11), versions 0-9: a member wants in, and is answered when all members are complete.
//!
//! From version 1 the time for a rebalance is apart from the session timeout; from 4 a member without an id is given one and has to come back
//! with it; from 5 a member may be static (`group.instance.id`); from 9 a static leader that comes back may be told to assign nothing.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use super::text::{ours, ours_if_any, theirs, theirs_if_any};
use crate::groups::{GroupError, JoinRefused, JoinRequest, Joined, Protocol};
use crate::kafka::Context;
use crate::kafka::errors::group_code;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=9;

/// What stands where an answer has no generation.
const NO_GENERATION: i32 = -1;

pub(in crate::kafka) async fn handle(cx: &Context, request: JoinGroupRequest, version: i16) -> JoinGroupResponse {
    let member_id = ours(&request.member_id);
    let rebalance_timeout_ms = if version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
    let protocol = |protocol: kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol| Protocol {
        name: ours(&protocol.name),
        metadata: protocol.metadata,
    };
    let join = JoinRequest {
        member_id: Arc::clone(&member_id),
        instance_id: ours_if_any(request.group_instance_id.as_ref()),
        client_id: cx.client.id.as_str().into(),
        // As Kafka writes addresses, which its tools show as they are.
        client_host: format!("/{}", cx.client.host).into(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: ours(&request.protocol_type),
        protocols: request.protocols.into_iter().map(protocol).collect(),
        reason: ours_if_any(request.reason.as_ref()),
        needs_member_id_first: version >= 4,
        can_skip_assignment: version >= 9,
    };
    let closed = || Err(JoinRefused { error: GroupError::CoordinatorNotAvailable, member_id });
    match cx.groups.join(&request.group_id, join).await.unwrap_or_else(|_| closed()) {
        Ok(joined) => accepted(joined, version),
        Err(refused) => JoinGroupResponse::default()
            .with_error_code(group_code(refused.error))
            .with_generation_id(NO_GENERATION)
            .with_member_id(theirs(&refused.member_id))
            .with_protocol_type(None)
            // Only from version 7 on may it be missing.
            .with_protocol_name((version < 7).then(Default::default)),
    }
}

fn accepted(joined: Joined, version: i16) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(theirs(&member.id))
            .with_group_instance_id(theirs_if_any(member.instance_id.as_ref()).filter(|_| version >= 5))
            .with_metadata(member.metadata)
    });
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(theirs_if_any(joined.protocol_type.as_ref()))
        .with_protocol_name(Some(theirs(joined.protocol.as_deref().unwrap_or_default())))
        .with_leader(theirs(&joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(theirs(&joined.member_id))
        .with_members(members.collect())
}
