//! Groups: joining, syncing, heartbeats, leaving, offsets, and what administrators do.

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ApiKey, DeleteGroupsRequest, DescribeGroupsRequest, DescribeGroupsResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::{make, text, topic};
use crate::side::{Side, Versions};

pub async fn play(side: &mut Side, versions: &Versions) {
    make(side, "grouped", 3, &[]).await;
    coordinators(side, versions).await;
    members(side, versions).await;
    static_members(side).await;
    refused(side, versions).await;
    offsets(side, versions).await;
    administer(side, versions).await;
}

async fn coordinators(side: &mut Side, versions: &Versions) {
    let hide = |answer: &mut FindCoordinatorResponse| {
        // A text that says nothing of note may be there or not.
        answer.error_message = None;
        for one in &mut answer.coordinators {
            one.error_message = None;
        }
    };
    for version in versions.of(ApiKey::FindCoordinator) {
        for (step, kind, key) in
            [("group", 0, "g"), ("transaction", 1, "t"), ("group of no name", 0, ""), ("what?", 9, "g")]
        {
            if version == 0 && kind != 0 {
                continue;
            }
            let request = FindCoordinatorRequest::default().with_key_type(kind);
            let request = if version >= 4 {
                request.with_coordinator_keys(vec![text(key), text("another")])
            } else {
                request.with_key(text(key))
            };
            side.step(&format!("FindCoordinator of {step}"), &request, version, hide).await;
        }
    }
}

/// A subscription to `grouped`, as consumers write it: Kafka reads it, too.
const SUBSCRIPTION: &[u8] = b"\0\0\0\0\0\x01\0\x07grouped\xff\xff\xff\xff";

fn join(group: &str, member: &StrBytes, protocols: &[&str]) -> JoinGroupRequest {
    let protocols = protocols.iter().map(|name| {
        JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(Bytes::from_static(SUBSCRIPTION))
    });
    JoinGroupRequest::default()
        .with_group_id(text(group).into())
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(30_000)
        .with_member_id(member.clone())
        .with_protocol_type(text("consumer"))
        .with_protocols(protocols.collect())
}

fn sync(group: &str, member: &StrBytes, generation: i32, version: i16) -> SyncGroupRequest {
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(member.clone())
        .with_assignment(Bytes::from_static(b"all of it"));
    let request = SyncGroupRequest::default()
        .with_group_id(text(group).into())
        .with_member_id(member.clone())
        .with_generation_id(generation)
        .with_assignments(vec![assignment]);
    if version < 5 {
        return request;
    }
    request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range")))
}

fn heartbeat(group: &str, member: &StrBytes, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(text(group).into())
        .with_member_id(member.clone())
        .with_generation_id(generation)
}

fn leave(group: &str, member: &StrBytes, version: i16) -> LeaveGroupRequest {
    let request = LeaveGroupRequest::default().with_group_id(text(group).into());
    if version < 3 {
        return request.with_member_id(member.clone());
    }
    request.with_members(vec![MemberIdentity::default().with_member_id(member.clone())])
}

fn commit(group: &str, member: &StrBytes, generation: i32, of: &[(&str, i32, i64, &str)]) -> OffsetCommitRequest {
    let topics = of.iter().map(|(name, partition, offset, metadata)| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text(metadata)));
        OffsetCommitRequestTopic::default().with_name(topic(name)).with_partitions(vec![partition])
    });
    OffsetCommitRequest::default()
        .with_group_id(text(group).into())
        .with_member_id(member.clone())
        .with_generation_id_or_member_epoch(generation)
        .with_topics(topics.collect())
}

/// The offsets of some partitions of `grouped`, or with none of all there are.
fn offsets_of(group: &str, partitions: &[i32], version: i16) -> OffsetFetchRequest {
    if version >= 8 {
        let topics = vec![
            OffsetFetchRequestTopics::default().with_name(topic("grouped")).with_partition_indexes(partitions.to_vec()),
        ];
        let topics = Some(topics).filter(|_| !partitions.is_empty());
        let one = OffsetFetchRequestGroup::default().with_group_id(text(group).into()).with_topics(topics);
        let other = OffsetFetchRequestGroup::default().with_group_id(text("nobody").into()).with_topics(None);
        return OffsetFetchRequest::default().with_groups(vec![one, other]);
    }
    let topics = vec![
        OffsetFetchRequestTopic::default().with_name(topic("grouped")).with_partition_indexes(partitions.to_vec()),
    ];
    let topics = Some(topics).filter(|_| !partitions.is_empty());
    OffsetFetchRequest::default().with_group_id(text(group).into()).with_topics(topics)
}

/// In whatever order they are told.
fn sort_offsets(answer: &mut OffsetFetchResponse) {
    for one in &mut answer.topics {
        one.partitions.sort_by_key(|partition| partition.partition_index);
    }
    for one in answer.groups.iter_mut().flat_map(|group| &mut group.topics) {
        one.partitions.sort_by_key(|partition| partition.partition_index);
    }
}

/// Joins where it has to be done twice; the id of the member.
async fn joined(side: &mut Side, group: &str, version: i16) -> StrBytes {
    let mut member = StrBytes::default();
    if version >= 4 {
        let answer = side.ask(&join(group, &member, &["range"]), version).await.unwrap();
        member = answer.member_id;
    }
    let answer = side.ask(&join(group, &member, &["range"]), version).await.unwrap();
    assert_eq!(answer.error_code, 0, "{answer:?}");
    answer.member_id
}

/// A member's life, in every version of its requests.
async fn members(side: &mut Side, versions: &Versions) {
    let (syncs, beats, leaves, commits) = (
        versions.of(ApiKey::SyncGroup),
        versions.of(ApiKey::Heartbeat),
        versions.of(ApiKey::LeaveGroup),
        versions.of(ApiKey::OffsetCommit),
    );
    for version in versions.of(ApiKey::JoinGroup) {
        let group = &format!("life-{version}");
        let nobody = StrBytes::default();
        let mut id = nobody.clone();
        if version >= 4 {
            let answer =
                learnt(side, "JoinGroup for an id", &join(group, &nobody, &["range", "sticky"]), version, group).await;
            id = answer.member_id;
        }
        let answer = learnt(side, "JoinGroup", &join(group, &id, &["range", "sticky"]), version, group).await;
        let (id, generation) = (answer.member_id, answer.generation_id);
        let at = |range: &std::ops::RangeInclusive<i16>| version.clamp(*range.start(), *range.end());
        let stranger = text("stranger");

        side.step("Heartbeat before a sync", &heartbeat(group, &id, generation), at(&beats), |_| {}).await;
        side.step("SyncGroup of another generation", &sync(group, &id, generation + 1, at(&syncs)), at(&syncs), |_| {})
            .await;
        side.step("SyncGroup of a stranger", &sync(group, &stranger, generation, at(&syncs)), at(&syncs), |_| {}).await;
        side.step("SyncGroup", &sync(group, &id, generation, at(&syncs)), at(&syncs), |_| {}).await;
        side.step("SyncGroup again", &sync(group, &id, generation, at(&syncs)), at(&syncs), |_| {}).await;
        side.step("Heartbeat", &heartbeat(group, &id, generation), at(&beats), |_| {}).await;
        side.step("Heartbeat of another generation", &heartbeat(group, &id, generation + 1), at(&beats), |_| {}).await;
        side.step("Heartbeat of a stranger", &heartbeat(group, &stranger, generation), at(&beats), |_| {}).await;
        for (step, member, generation) in [
            ("", &id, generation),
            ("of another generation", &id, generation - 1),
            ("of a stranger", &stranger, generation),
            ("of nobody", &nobody, -1),
        ] {
            let request = commit(group, member, generation, &[("grouped", 0, 7, "seven")]);
            side.step(&format!("OffsetCommit {step}"), &request, at(&commits), |_| {}).await;
        }
        learnt(side, "JoinGroup of a stranger", &join(group, &stranger, &["range"]), version, group).await;
        let other_kind = join(group, &nobody, &["range"]).with_protocol_type(text("connect"));
        learnt(side, "JoinGroup of another kind", &other_kind, version, group).await;
        learnt(side, "JoinGroup without a protocol in common", &join(group, &nobody, &["other"]), version, group).await;
        learnt(side, "JoinGroup of a member again", &join(group, &id, &["range", "sticky"]), version, group).await;
        side.step("LeaveGroup of a stranger", &leave(group, &stranger, at(&leaves)), at(&leaves), |_| {}).await;
        side.step("LeaveGroup", &leave(group, &id, at(&leaves)), at(&leaves), |_| {}).await;
        side.step("LeaveGroup again", &leave(group, &id, at(&leaves)), at(&leaves), |_| {}).await;
        side.step("Heartbeat of one who left", &heartbeat(group, &id, generation), at(&beats), |_| {}).await;
    }
}

/// A join; the member's id is each broker's own.
async fn learnt(
    side: &mut Side,
    step: &str,
    request: &JoinGroupRequest,
    version: i16,
    group: &str,
) -> kafka_protocol::messages::JoinGroupResponse {
    // What is learnt has to be known before it is noted.
    let answer = side.ask(request, version).await.unwrap();
    if !answer.member_id.starts_with("stranger") {
        side.learn(&answer.member_id, format!("<member of {group}>"));
    }
    side.note(&format!("{step} v{version}"), &answer);
    answer
}

async fn static_members(side: &mut Side) {
    let (join_version, group) = (5, "named");
    let named = |member: &StrBytes| join(group, member, &["range"]).with_group_instance_id(Some(text("a")));
    let nobody = StrBytes::default();
    let first = learnt(side, "JoinGroup of a static member", &named(&nobody), join_version, "named, first").await;
    let request = sync(group, &first.member_id, 1, 3).with_group_instance_id(Some(text("a")));
    side.step("SyncGroup of a static member", &request, 3, |_| {}).await;
    let again =
        learnt(side, "JoinGroup of a static member that is back", &named(&nobody), join_version, "named, second").await;
    let with_name = |member: &StrBytes, name: &str| {
        heartbeat(group, member, again.generation_id).with_group_instance_id(Some(text(name)))
    };
    side.step("Heartbeat of the older one", &with_name(&first.member_id, "a"), 3, |_| {}).await;
    side.step("Heartbeat of the newer one", &with_name(&again.member_id, "a"), 3, |_| {}).await;
    side.step("Heartbeat of another name", &with_name(&again.member_id, "b"), 3, |_| {}).await;
    learnt(side, "JoinGroup of the older one", &named(&first.member_id), join_version, "named, third").await;
    let request = commit(group, &first.member_id, again.generation_id, &[("grouped", 0, 1, "")])
        .with_group_instance_id(Some(text("a")));
    side.step("OffsetCommit of the older one", &request, 7, |_| {}).await;
    let request = sync(group, &first.member_id, again.generation_id, 3).with_group_instance_id(Some(text("a")));
    side.step("SyncGroup of the older one", &request, 3, |_| {}).await;
    told(side, group, "Stable").await;
    describe(side, "a static member", group, 5).await;
    let member = MemberIdentity::default().with_group_instance_id(Some(text("a")));
    let stranger = MemberIdentity::default().with_group_instance_id(Some(text("z")));
    let wrong =
        MemberIdentity::default().with_member_id(first.member_id.clone()).with_group_instance_id(Some(text("a")));
    for version in [3, 4, 5] {
        let request = LeaveGroupRequest::default().with_group_id(text(group).into()).with_members(vec![
            wrong.clone(),
            stranger.clone(),
            member.clone(),
        ]);
        side.step("LeaveGroup by names", &request, version, |_| {}).await;
    }
}

async fn refused(side: &mut Side, versions: &Versions) {
    let nobody = StrBytes::default();
    for version in versions.of(ApiKey::JoinGroup) {
        let plain = || join("refused", &nobody, &["range"]);
        for (step, request) in [
            ("without a group", join("", &nobody, &["range"])),
            ("with too short a session", plain().with_session_timeout_ms(100)),
            ("with too long a session", plain().with_session_timeout_ms(100_000_000)),
            ("without a protocol", join("refused", &nobody, &[])),
            ("without a kind", plain().with_protocol_type(StrBytes::default())),
        ] {
            learnt(side, &format!("JoinGroup {step}"), &request, version, step).await;
        }
    }
    for version in versions.of(ApiKey::SyncGroup) {
        side.step("SyncGroup of no group", &sync("no-group", &text("m"), 1, version), version, |_| {}).await;
        side.step("SyncGroup without a group", &sync("", &text("m"), 1, version), version, |_| {}).await;
    }
    for version in versions.of(ApiKey::Heartbeat) {
        side.step("Heartbeat of no group", &heartbeat("no-group", &text("m"), 1), version, |_| {}).await;
        side.step("Heartbeat without a group", &heartbeat("", &text("m"), 1), version, |_| {}).await;
    }
    for version in versions.of(ApiKey::LeaveGroup) {
        side.step("LeaveGroup of no group", &leave("no-group", &text("m"), version), version, |_| {}).await;
        side.step("LeaveGroup without a group", &leave("", &text("m"), version), version, |_| {}).await;
    }
}

async fn offsets(side: &mut Side, versions: &Versions) {
    let nobody = StrBytes::default();
    let long: &'static str = Box::leak("x".repeat(5000).into_boxed_str());
    for version in versions.of(ApiKey::OffsetCommit) {
        for (step, group, generation, of) in [
            ("by hand", "by-hand", -1, &[("grouped", 0, 7, "seven"), ("grouped", 1, 0, "")][..]),
            ("of nowhere", "by-hand", -1, &[("nowhere", 0, 7, "")]),
            ("of no partition", "by-hand", -1, &[("grouped", 9, 7, "")]),
            ("with a long text", "by-hand", -1, &[("grouped", 2, 7, long), ("grouped", 1, 8, "short")]),
            ("with a generation", "by-hand", 4, &[("grouped", 0, 9, "")]),
            ("without a group", "", -1, &[("grouped", 0, 9, "")]),
            ("of a negative offset", "by-hand", -1, &[("grouped", 2, -5, "")]),
        ] {
            side.step(&format!("OffsetCommit {step}"), &commit(group, &nobody, generation, of), version, |_| {}).await;
        }
    }
    for version in versions.of(ApiKey::OffsetFetch) {
        side.step("OffsetFetch", &offsets_of("by-hand", &[0, 1, 2, 9], version), version, sort_offsets).await;
        side.step("OffsetFetch of no group", &offsets_of("no-group", &[0], version), version, sort_offsets).await;
        side.step("OffsetFetch of a member's group", &offsets_of("life-5", &[0, 1], version), version, sort_offsets)
            .await;
        if version >= 2 {
            side.step("OffsetFetch of all", &offsets_of("by-hand", &[], version), version, sort_offsets).await;
        }
        if version >= 7 {
            let request = offsets_of("by-hand", &[0], version).with_require_stable(true);
            side.step("OffsetFetch of what is stable", &request, version, sort_offsets).await;
        }
    }
}

/// Waits until a group is told to be in this state: Kafka tells what is in its log, which is a little later than it answers.
async fn told(side: &mut Side, group: &str, state: &str) {
    let request = DescribeGroupsRequest::default().with_groups(vec![text(group).into()]);
    while side.ask(&request, 0).await.unwrap().groups[0].group_state.as_str() != state {
        side.pause().await;
    }
}

async fn describe(side: &mut Side, step: &str, group: &str, version: i16) {
    let request = DescribeGroupsRequest::default()
        .with_groups(vec![text(group).into()])
        .with_include_authorized_operations(version >= 3);
    let hide = |answer: &mut DescribeGroupsResponse| {
        for group in &mut answer.groups {
            group.error_message = group.error_message.take().map(|_| text("something"));
        }
    };
    side.step(&format!("DescribeGroups of {step}"), &request, version, hide).await;
}

async fn administer(side: &mut Side, versions: &Versions) {
    for version in versions.of(ApiKey::DescribeGroups) {
        let group = &format!("described-{version}");
        describe(side, "no group", group, version).await;
        let id = joined(side, group, 3).await;
        side.learn(&id, "<described member>");
        told(side, group, "CompletingRebalance").await;
        describe(side, "one that waits for its assignment", group, version).await;
        let answer = side.ask(&sync(group, &id, 1, 2), 2).await.unwrap();
        assert_eq!(answer.error_code, 0);
        told(side, group, "Stable").await;
        describe(side, "a stable one", group, version).await;
        let answer = side.ask(&leave(group, &id, 1), 1).await.unwrap();
        assert_eq!(answer.error_code, 0);
        told(side, group, "Empty").await;
        describe(side, "an empty one", group, version).await;
        describe(side, "one of offsets only", "by-hand", version).await;
    }
    let id = joined(side, "listed", 3).await;
    told(side, "listed", "CompletingRebalance").await;
    for version in versions.of(ApiKey::ListGroups) {
        for (step, states, types) in [
            ("", &[][..], &[][..]),
            ("in a state", &["CompletingRebalance"], &[]),
            ("in an unknown state", &["Sleeping"], &[]),
            ("of a type", &[], &["classic"]),
            ("of another type", &[], &["consumer"]),
        ] {
            if (!states.is_empty() && version < 4) || (!types.is_empty() && version < 5) {
                continue;
            }
            let request = ListGroupsRequest::default()
                .with_states_filter(states.iter().map(|state| text(state)).collect())
                .with_types_filter(types.iter().map(|kind| text(kind)).collect());
            side.step(&format!("ListGroups {step}"), &request, version, |answer| {
                answer.groups.retain(|group| ["listed", "by-hand", "life-5"].contains(&group.group_id.as_str()));
                answer.groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
            })
            .await;
        }
    }
    for version in versions.of(ApiKey::OffsetDelete) {
        for (step, group, name, partition) in [
            ("", "by-hand", "grouped", 1),
            ("again", "by-hand", "grouped", 1),
            ("of nowhere", "by-hand", "nowhere", 0),
            ("of no group", "no-group", "grouped", 0),
            ("without a group", "", "grouped", 0),
        ] {
            let partition = OffsetDeleteRequestPartition::default().with_partition_index(partition);
            let one = OffsetDeleteRequestTopic::default().with_name(topic(name)).with_partitions(vec![partition]);
            let request = OffsetDeleteRequest::default().with_group_id(text(group).into()).with_topics(vec![one]);
            side.step(&format!("OffsetDelete {step}"), &request, version, |_| {}).await;
        }
        side.step("OffsetFetch of what was deleted", &offsets_of("by-hand", &[0, 1], 7), 7, sort_offsets).await;
    }
    for version in versions.of(ApiKey::DeleteGroups) {
        let group = &format!("deleted-{version}");
        side.ask(&commit(group, &StrBytes::default(), -1, &[("grouped", 0, 1, "")]), 7).await.unwrap();
        for (step, name) in
            [("", group.as_str()), ("again", group), ("with a member", "listed"), ("without a name", "")]
        {
            let request = DeleteGroupsRequest::default().with_groups_names(vec![text(name).into()]);
            side.step(&format!("DeleteGroups {step}"), &request, version, |_| {}).await;
        }
    }
    side.ask(&leave("listed", &id, 1), 1).await.unwrap();
}
