//! LeaveGroup (13), versions 0-5: members leave, or an administrator makes them.
//!
//! Up to version 2 it is one member, and its error is the answer's; from 3 on several, each with its own, static ones by instance id alone if
//! need be; from 5 with a reason.

use std::ops::RangeInclusive;

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::text::{ours, ours_if_any};
use crate::groups::Leaver;
use crate::kafka::Context;
use crate::kafka::errors::group_code;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=5;

pub(in crate::kafka) async fn handle(cx: &Context, request: LeaveGroupRequest, version: i16) -> LeaveGroupResponse {
    let members =
        if version < 3 { vec![MemberIdentity::default().with_member_id(request.member_id)] } else { request.members };
    let leaver = |member: &MemberIdentity| Leaver {
        member_id: ours(&member.member_id),
        instance_id: ours_if_any(member.group_instance_id.as_ref()),
        reason: ours_if_any(member.reason.as_ref()),
    };
    let leavers: Vec<Leaver> = members.iter().map(leaver).collect();
    let outcomes = match cx.groups.leave(&request.group_id, &leavers) {
        Ok(outcomes) => outcomes,
        Err(error) => return LeaveGroupResponse::default().with_error_code(group_code(error)),
    };
    let code = |outcome: Result<(), _>| outcome.map_or_else(group_code, |()| 0);
    if version < 3 {
        let first = outcomes.into_iter().next().map_or(0, code);
        return LeaveGroupResponse::default().with_error_code(first);
    }
    let answers = members.into_iter().zip(outcomes).map(|(member, outcome)| {
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code(outcome))
    });
    LeaveGroupResponse::default().with_members(answers.collect())
}
