//! DescribeGroups (15), versions 0-6: state, protocol and members of groups.
//!
//! From version 3 it may be asked what the client may do: with a group of Highwater itself only this, with others all there is. A group
//! that does not exist is Dead; from version 6 on that is the error GROUP_ID_NOT_FOUND.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};

use super::text::{theirs, theirs_if_any};
use crate::groups::{GroupDescription, GroupState};
use crate::kafka::Context;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=6;

/// Bits of Kafka's operations on groups.
const READ: i32 = 1 << 3;
const DELETE: i32 = 1 << 6;
const DESCRIBE: i32 = 1 << 8;

pub(in crate::kafka) async fn handle(
    cx: &Context,
    request: DescribeGroupsRequest,
    version: i16,
) -> DescribeGroupsResponse {
    let operations = version >= 3 && request.include_authorized_operations;
    let groups = request.groups.into_iter().map(|id| {
        let group = described(&id, cx.groups.describe(&id), version);
        if !operations || group.error_code != 0 {
            return group;
        }
        let own = cx.groups.check_own(&id).is_err();
        group.with_authorized_operations(if own { DESCRIBE } else { READ | DELETE | DESCRIBE })
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn described(id: &GroupId, group: GroupDescription, version: i16) -> DescribedGroup {
    let answer = DescribedGroup::default().with_group_id(id.clone()).with_group_state(theirs(group.state.as_str()));
    if group.state == GroupState::Dead {
        if version < 6 {
            return answer;
        }
        return answer
            .with_error_code(ResponseError::GroupIdNotFound.code())
            .with_error_message(Some(theirs(&format!("Group {} not found.", id.as_str()))));
    }
    let members = group.members.into_iter().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(theirs(&member.id))
            .with_group_instance_id(theirs_if_any(member.instance_id.as_ref()).filter(|_| version >= 4))
            .with_client_id(theirs(&member.client_id))
            .with_client_host(theirs(&member.client_host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    });
    answer
        .with_protocol_type(theirs(&group.protocol_type))
        .with_protocol_data(theirs(&group.protocol))
        .with_members(members.collect())
}
