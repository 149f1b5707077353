//! ListGroups (16), versions 0-5: all groups, Highwater's own among them. From version 4 only those in given states, if any are given; from 5
//! only of given types, of which there is one here: classic.

use std::ops::RangeInclusive;

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::text::theirs;
use crate::kafka::Context;

pub(in crate::kafka) const VERSIONS: RangeInclusive<i16> = 0..=5;

const CLASSIC: &str = "classic";

pub(in crate::kafka) async fn handle(cx: &Context, request: ListGroupsRequest, version: i16) -> ListGroupsResponse {
    let admits = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(value))
    };
    if !admits(&request.types_filter, CLASSIC) {
        return ListGroupsResponse::default();
    }
    let groups = cx.groups.list().into_iter().filter(|group| admits(&request.states_filter, group.state.as_str()));
    let listed = groups.map(|group| {
        let listed = ListedGroup::default()
            .with_group_id(GroupId(theirs(&group.name)))
            .with_protocol_type(theirs(&group.protocol_type));
        let listed = if version >= 4 { listed.with_group_state(theirs(group.state.as_str())) } else { listed };
        if version >= 5 { listed.with_group_type(StrBytes::from_static_str(CLASSIC)) } else { listed }
    });
    ListGroupsResponse::default().with_groups(listed.collect())
}
