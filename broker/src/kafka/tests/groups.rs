//! Consumer groups over the wire: every API in every version.

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;

use super::*;
use crate::groups::GroupSettings;

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const OFFSET_METADATA_TOO_LARGE: i16 = 12;
const ILLEGAL_GENERATION: i16 = 22;
const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
const INVALID_GROUP_ID: i16 = 24;
const UNKNOWN_MEMBER_ID: i16 = 25;
const INVALID_SESSION_TIMEOUT: i16 = 26;
const GROUP_AUTHORIZATION_FAILED: i16 = 30;
const INVALID_REQUEST: i16 = 42;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_ID_NOT_FOUND: i16 = 69;
const MEMBER_ID_REQUIRED: i16 = 79;
const FENCED_INSTANCE_ID: i16 = 82;
const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;
const UNSTABLE_OFFSET_COMMIT: i16 = 88;

/// What a consumer of the topic "logs" says about itself.
const SUBSCRIPTION: &[u8] = b"\0\0\0\0\0\x01\0\x04logs\xff\xff\xff\xff";

/// A door whose groups begin at once, with the topic "logs".
async fn door() -> Door {
    let groups = GroupSettings { initial_rebalance_delay_ms: 0, ..GroupSettings::default() };
    let door = Door::with(DoorSettings { groups, ..DoorSettings::default() }).await;
    door.topic("logs", 3).await;
    door
}

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

fn join(name: &str, member_id: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(SUBSCRIPTION.into());
    JoinGroupRequest::default()
        .with_group_id(group(name))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(60_000)
        .with_member_id(text(member_id))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

/// A version of an API as near to `version` as its highest allows.
fn up_to(highest: i16, version: i16) -> i16 {
    version.min(highest)
}

/// Joins and gets everything assigned, all in about this version. Answers with member id and generation.
async fn settle(client: &mut Client<TcpStream>, name: &str, version: i16) -> (String, i32) {
    let request = if version == 0 { join(name, "").with_rebalance_timeout_ms(-1) } else { join(name, "") };
    let mut joined = client.ask(&request, version).await;
    if version >= 4 {
        assert_eq!((joined.error_code, joined.generation_id), (MEMBER_ID_REQUIRED, -1), "version {version}");
        let again = request.with_member_id(joined.member_id.clone());
        joined = client.ask(&again, version).await;
    }
    assert_eq!(joined.error_code, NONE, "version {version}");
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!(joined.protocol_name, Some(text("range")));
    assert_eq!(joined.protocol_type, (version >= 7).then(|| text("consumer")));
    let members: Vec<_> = joined.members.iter().map(|m| (m.member_id.clone(), m.metadata.clone())).collect();
    assert_eq!(members, [(joined.member_id.clone(), Bytes::from_static(SUBSCRIPTION))]);
    assert!(joined.member_id.starts_with("tests-"), "an id begins with the client's: {}", joined.member_id.as_str());

    let version = up_to(5, version);
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(Bytes::from_static(b"everything"));
    let sync = SyncGroupRequest::default()
        .with_group_id(group(name))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_protocol_type((version >= 5).then(|| text("consumer")))
        .with_protocol_name((version >= 5).then(|| text("range")))
        .with_assignments(vec![assignment]);
    let synced = client.ask(&sync, version).await;
    assert_eq!((synced.error_code, synced.assignment.as_ref()), (NONE, &b"everything"[..]), "version {version}");
    assert_eq!(synced.protocol_name, (version >= 5).then(|| text("range")));
    (joined.member_id.to_string(), joined.generation_id)
}

fn heartbeat(name: &str, member_id: &str, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(group(name))
        .with_member_id(text(member_id))
        .with_generation_id(generation)
}

fn commit(name: &str, member_id: &str, generation: i32, offsets: &[(&str, i32, i64, &str)]) -> OffsetCommitRequest {
    let topics = offsets.iter().map(|(topic, partition, offset, metadata)| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_committed_metadata(Some(text(metadata)));
        OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition])
    });
    OffsetCommitRequest::default()
        .with_group_id(group(name))
        .with_member_id(text(member_id))
        .with_generation_id_or_member_epoch(generation)
        .with_topics(topics.collect())
}

fn commit_codes(response: &OffsetCommitResponse) -> Vec<i16> {
    response.topics.iter().flat_map(|topic| topic.partitions.iter().map(|p| p.error_code)).collect()
}

/// Topic, partition, offset, leader epoch, metadata and code of an answer for one group, in whatever version.
type Fetched = Vec<(String, i32, i64, i32, String, i16)>;

async fn fetch(
    client: &mut Client<TcpStream>,
    name: &str,
    asked: Option<&[(&str, i32)]>,
    stable: bool,
    version: i16,
) -> Fetched {
    let request = if version >= 8 {
        let topic = |(topic, partition): &(&str, i32)| {
            OffsetFetchRequestTopics::default().with_name(topic_name(topic)).with_partition_indexes(vec![*partition])
        };
        let topics = asked.map(|asked| asked.iter().map(topic).collect());
        let one = OffsetFetchRequestGroup::default().with_group_id(group(name)).with_topics(topics);
        let other = OffsetFetchRequestGroup::default().with_group_id(group("another group")).with_topics(None);
        OffsetFetchRequest::default().with_groups(vec![one, other]).with_require_stable(stable)
    } else {
        let topic = |(topic, partition): &(&str, i32)| {
            OffsetFetchRequestTopic::default().with_name(topic_name(topic)).with_partition_indexes(vec![*partition])
        };
        let topics = asked.map(|asked| asked.iter().map(topic).collect());
        OffsetFetchRequest::default().with_group_id(group(name)).with_topics(topics).with_require_stable(stable)
    };
    let response = client.ask(&request, version).await;
    assert_eq!(response.error_code, NONE);
    let mut all = Vec::new();
    for topic in &response.topics {
        for p in &topic.partitions {
            let metadata = p.metadata.as_deref().unwrap().to_owned();
            let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
            all.push((topic.name.to_string(), p.partition_index, offset, epoch, metadata, p.error_code));
        }
    }
    if version >= 8 {
        let codes: Vec<_> = response.groups.iter().map(|g| (g.group_id.to_string(), g.error_code)).collect();
        assert_eq!(codes, [(name.to_owned(), NONE), ("another group".to_owned(), NONE)]);
        assert_eq!(response.groups[1].topics, []);
        for topic in &response.groups[0].topics {
            for p in &topic.partitions {
                let metadata = p.metadata.as_deref().unwrap().to_owned();
                let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
                all.push((topic.name.to_string(), p.partition_index, offset, epoch, metadata, p.error_code));
            }
        }
    }
    all
}

#[tokio::test]
async fn a_member_lives_its_life_in_every_version() {
    let door = door().await;
    let mut client = door.dial().await;
    for version in 0..=9 {
        let name = format!("g{version}");
        let (id, generation) = settle(&mut client, &name, version).await;
        let beat_version = up_to(4, version);
        let beat = client.ask(&heartbeat(&name, &id, generation), beat_version).await;
        assert_eq!(beat.error_code, NONE);
        let stale = client.ask(&heartbeat(&name, &id, generation - 1), beat_version).await;
        assert_eq!(stale.error_code, ILLEGAL_GENERATION);
        let leave_version = up_to(5, version);
        let leave = LeaveGroupRequest::default().with_group_id(group(&name));
        if leave_version < 3 {
            let left = client.ask(&leave.clone().with_member_id(text("stranger")), leave_version).await;
            assert_eq!(left.error_code, UNKNOWN_MEMBER_ID);
            let left = client.ask(&leave.with_member_id(text(&id)), leave_version).await;
            assert_eq!((left.error_code, left.members.len()), (NONE, 0));
        } else {
            let reason = (leave_version >= 5).then(|| text("the test is over"));
            let member = |id: &str| MemberIdentity::default().with_member_id(text(id)).with_reason(reason.clone());
            let left = client.ask(&leave.with_members(vec![member("stranger"), member(&id)]), leave_version).await;
            let codes: Vec<_> = left.members.iter().map(|m| (m.member_id.to_string(), m.error_code)).collect();
            assert_eq!(
                (left.error_code, codes),
                (NONE, vec![("stranger".to_owned(), UNKNOWN_MEMBER_ID), (id.clone(), NONE)])
            );
        }
        let beat = client.ask(&heartbeat(&name, &id, generation), beat_version).await;
        assert_eq!(beat.error_code, UNKNOWN_MEMBER_ID);
    }
}

#[tokio::test]
async fn refusals_are_encoded_in_every_version() {
    let door = door().await;
    let mut client = door.dial().await;
    for version in 0..=9 {
        for (request, code) in [
            (join("", ""), INVALID_GROUP_ID),
            (join("g", "stranger"), UNKNOWN_MEMBER_ID),
            (join("g", "").with_session_timeout_ms(1), INVALID_SESSION_TIMEOUT),
            (join("g", "").with_protocols(vec![]), INCONSISTENT_GROUP_PROTOCOL),
            (join("__highwater.tasks", ""), GROUP_AUTHORIZATION_FAILED),
        ] {
            let refused = client.ask(&request, version).await;
            assert_eq!((refused.error_code, refused.generation_id), (code, -1), "version {version}");
            assert_eq!(refused.protocol_name, (version < 7).then(|| text("")), "version {version}");
        }
        let version = up_to(5, version);
        let sync = SyncGroupRequest::default().with_group_id(group("nobody")).with_member_id(text("stranger"));
        let code = if version >= 5 { INCONSISTENT_GROUP_PROTOCOL } else { UNKNOWN_MEMBER_ID };
        assert_eq!(client.ask(&sync, version).await.error_code, code, "version {version}");
    }
}

#[tokio::test]
async fn static_members_come_back_and_fence() {
    let door = door().await;
    let mut client = door.dial().await;
    let instance = Some(text("one"));
    for version in 5..=9 {
        let name = format!("g{version}");
        let first = client.ask(&join(&name, "").with_group_instance_id(instance.clone()), version).await;
        assert_eq!(first.error_code, NONE, "a static member needs no second try");
        assert_eq!(first.members[0].group_instance_id, instance);
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(first.member_id.clone())
            .with_assignment(Bytes::from_static(b"mine"));
        let sync = SyncGroupRequest::default()
            .with_group_id(group(&name))
            .with_generation_id(1)
            .with_member_id(first.member_id.clone())
            .with_group_instance_id(instance.clone())
            .with_assignments(vec![assignment]);
        assert_eq!(client.ask(&sync, 4).await.error_code, NONE);
        let second = client.ask(&join(&name, "").with_group_instance_id(instance.clone()), version).await;
        assert_eq!((second.error_code, second.generation_id), (NONE, 1), "no rebalance");
        assert_eq!(second.skip_assignment, version >= 9);
        assert_eq!(second.leader, if version >= 9 { second.member_id.clone() } else { first.member_id.clone() });
        let zombie = heartbeat(&name, &first.member_id, 1).with_group_instance_id(instance.clone());
        assert_eq!(client.ask(&zombie, 4).await.error_code, FENCED_INSTANCE_ID);
        let commit = commit(&name, &first.member_id, 1, &[("logs", 0, 1, "")]).with_group_instance_id(instance.clone());
        assert_eq!(commit_codes(&client.ask(&commit, 9).await), [FENCED_INSTANCE_ID]);
        let again = sync.with_member_id(second.member_id).with_assignments(vec![]);
        assert_eq!(client.ask(&again, 4).await.assignment.as_ref(), b"mine");
    }
}

#[tokio::test]
async fn offsets_are_committed_and_fetched_in_every_version() {
    let door = door().await;
    let mut client = door.dial().await;
    let (id, generation) = settle(&mut client, "g", 9).await;
    for version in 2..=9 {
        let offset = i64::from(version) * 10;
        let mut request =
            commit("g", &id, generation, &[("logs", 1, offset, "note"), ("logs", 9, 1, ""), ("gone", 0, 1, "")]);
        if version >= 6 {
            request.topics[0].partitions[0].committed_leader_epoch = 0;
        }
        let codes = commit_codes(&client.ask(&request, version).await);
        assert_eq!(codes, [NONE, UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_OR_PARTITION], "version {version}");
        for fetched in 1..=9 {
            let known_epoch = if version >= 6 && fetched >= 5 { 0 } else { -1 };
            let committed = ("logs".to_owned(), 1, offset, known_epoch, "note".to_owned(), NONE);
            let nothing = ("logs".to_owned(), 2, -1, -1, String::new(), NONE);
            let asked = fetch(&mut client, "g", Some(&[("logs", 1), ("logs", 2)]), false, fetched).await;
            assert_eq!(asked, [committed.clone(), nothing], "committed in {version}, fetched in {fetched}");
            if fetched >= 2 {
                assert_eq!(fetch(&mut client, "g", None, false, fetched).await, [committed]);
            }
        }
    }
}

#[tokio::test]
async fn commits_are_refused_for_what_is_wrong_with_them() {
    let door = door().await;
    let mut client = door.dial().await;
    let (id, generation) = settle(&mut client, "g", 9).await;
    let logs = [("logs", 0, 1, "")];
    for version in 2..=9 {
        let mut codes = Vec::new();
        for request in [
            commit("g", &id, generation - 1, &logs),
            commit("g", "stranger", generation, &logs),
            commit("g", "", -1, &logs),
            commit("nobody", &id, generation, &logs),
            commit("__highwater.tasks", "", -1, &logs),
            commit("g", "stranger", generation, &[("gone", 0, 1, "")]),
        ] {
            codes.extend(commit_codes(&client.ask(&request, version).await));
        }
        let no_group = if version >= 9 { GROUP_ID_NOT_FOUND } else { ILLEGAL_GENERATION };
        let expected = [ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, UNKNOWN_MEMBER_ID, no_group, GROUP_AUTHORIZATION_FAILED];
        assert_eq!(codes[..5], expected, "version {version}");
        assert_eq!(codes[5], UNKNOWN_TOPIC_OR_PARTITION, "the group is not even asked");
    }
    let long = "ü".repeat(4_097);
    let request = commit("g", &id, generation, &[("logs", 0, 1, &long), ("logs", 1, 2, &long[2..])]);
    assert_eq!(
        commit_codes(&client.ask(&request, 9).await),
        [OFFSET_METADATA_TOO_LARGE, NONE],
        "characters count, not bytes"
    );
    let stale = commit("g", &id, generation - 1, &[("logs", 0, 1, &long)]);
    assert_eq!(commit_codes(&client.ask(&stale, 9).await), [ILLEGAL_GENERATION]);
}

#[tokio::test]
async fn a_client_that_assigns_itself_commits_to_a_group_without_members() {
    let door = door().await;
    let mut client = door.dial().await;
    for version in 2..=9 {
        let name = format!("alone {version}");
        let codes = commit_codes(&client.ask(&commit(&name, "", -1, &[("logs", 2, 5, "")]), version).await);
        assert_eq!(codes, [NONE]);
        assert_eq!(fetch(&mut client, &name, None, true, 7).await[0].2, 5);
    }
    let listed = client.ask(&ListGroupsRequest::default(), 4).await;
    let states: Vec<_> =
        listed.groups.iter().map(|g| (g.group_state.to_string(), g.protocol_type.to_string())).collect();
    assert_eq!(states, vec![("Empty".to_owned(), String::new()); 8]);
}

#[tokio::test]
async fn groups_are_listed_by_state_and_type() {
    let door = door().await;
    let mut client = door.dial().await;
    settle(&mut client, "stable", 9).await;
    client.ask(&commit("empty", "", -1, &[("logs", 0, 1, "")]), 9).await;
    let names = |response: ListGroupsResponse| -> Vec<String> {
        response.groups.iter().map(|g| g.group_id.to_string()).collect()
    };
    for version in 0..=5 {
        let all = client.ask(&ListGroupsRequest::default(), version).await;
        let types: Vec<_> = all.groups.iter().map(|g| g.protocol_type.to_string()).collect();
        assert_eq!(types, ["", "consumer"]);
        assert_eq!(all.groups[1].group_state.as_str(), if version >= 4 { "Stable" } else { "" });
        assert_eq!(all.groups[1].group_type.as_str(), if version >= 5 { "classic" } else { "" });
        assert_eq!(names(all), ["empty", "stable"]);
    }
    let states =
        |states: &[&str]| ListGroupsRequest::default().with_states_filter(states.iter().map(|s| text(s)).collect());
    assert_eq!(names(client.ask(&states(&["stable"]), 4).await), ["stable"]);
    assert_eq!(names(client.ask(&states(&["Empty", "Dead"]), 5).await), ["empty"]);
    assert_eq!(names(client.ask(&states(&["no such state"]), 5).await), [""; 0]);
    let types =
        |types: &[&str]| ListGroupsRequest::default().with_types_filter(types.iter().map(|s| text(s)).collect());
    assert_eq!(names(client.ask(&types(&["Classic", "consumer"]), 5).await), ["empty", "stable"]);
    assert_eq!(names(client.ask(&types(&["consumer", "share"]), 5).await), [""; 0]);
}

#[tokio::test]
async fn groups_are_described_in_every_version() {
    let door = door().await;
    let mut client = door.dial().await;
    let (id, _) = settle(&mut client, "g", 9).await;
    for version in 0..=6 {
        let request = DescribeGroupsRequest::default()
            .with_groups(vec![group("g"), group("nobody")])
            .with_include_authorized_operations(version >= 3);
        let response = client.ask(&request, version).await;
        let [found, missing] = response.groups.as_slice() else { panic!("{response:?}") };
        assert_eq!((found.error_code, found.group_state.as_str()), (NONE, "Stable"));
        assert_eq!((found.protocol_type.as_str(), found.protocol_data.as_str()), ("consumer", "range"));
        let [member] = found.members.as_slice() else { panic!("{found:?}") };
        assert_eq!((member.member_id.as_str(), member.client_id.as_str()), (id.as_str(), "tests"));
        assert_eq!(member.client_host.as_str(), "/127.0.0.1");
        assert_eq!(
            (member.member_metadata.as_ref(), member.member_assignment.as_ref()),
            (SUBSCRIPTION, &b"everything"[..])
        );
        let not_asked = i32::MIN;
        assert_eq!(found.authorized_operations, if version >= 3 { 0b1_0100_1000 } else { not_asked });
        assert_eq!(missing.group_state.as_str(), "Dead");
        assert_eq!(missing.error_code, if version >= 6 { GROUP_ID_NOT_FOUND } else { NONE });
        assert_eq!(missing.error_message, (version >= 6).then(|| text("Group nobody not found.")));
    }
}

#[tokio::test]
async fn groups_and_offsets_are_deleted() {
    let door = door().await;
    door.topic("metrics", 1).await;
    let mut client = door.dial().await;
    let (id, generation) = settle(&mut client, "busy", 9).await;
    client.ask(&commit("busy", &id, generation, &[("logs", 0, 1, ""), ("metrics", 0, 2, "")]), 9).await;
    for version in 0..=2 {
        client.ask(&commit("idle", "", -1, &[("logs", 0, 1, "")]), 9).await;
        let names = ["busy", "idle", "nobody", "idle", "__highwater.tasks"].map(group).to_vec();
        let deleted = client.ask(&DeleteGroupsRequest::default().with_groups_names(names), version).await;
        let codes: Vec<_> = deleted.results.iter().map(|r| (r.group_id.as_str(), r.error_code)).collect();
        let expected = [
            ("busy", NON_EMPTY_GROUP),
            ("idle", NONE),
            ("nobody", GROUP_ID_NOT_FOUND),
            ("__highwater.tasks", GROUP_AUTHORIZATION_FAILED),
        ];
        assert_eq!(codes, expected);
        assert_eq!(fetch(&mut client, "idle", None, false, 8).await, []);
    }
    let delete = |name: &str, topics: &[(&str, i32)]| {
        let topic = |(topic, partition): &(&str, i32)| {
            let partition = OffsetDeleteRequestPartition::default().with_partition_index(*partition);
            OffsetDeleteRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition])
        };
        OffsetDeleteRequest::default().with_group_id(group(name)).with_topics(topics.iter().map(topic).collect())
    };
    let response = client.ask(&delete("busy", &[("logs", 0), ("metrics", 0), ("metrics", 7), ("gone", 0)]), 0).await;
    let codes: Vec<_> = response.topics.iter().flat_map(|t| t.partitions.iter().map(|p| p.error_code)).collect();
    assert_eq!(response.error_code, NONE);
    let expected = [GROUP_SUBSCRIBED_TO_TOPIC, NONE, UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_OR_PARTITION];
    assert_eq!(codes, expected, "the member reads logs");
    let left: Vec<_> = fetch(&mut client, "busy", None, false, 8).await.into_iter().map(|f| f.0).collect();
    assert_eq!(left, ["logs"]);
    for (name, code) in
        [("", INVALID_GROUP_ID), ("nobody", GROUP_ID_NOT_FOUND), ("__highwater.tasks", GROUP_AUTHORIZATION_FAILED)]
    {
        assert_eq!(client.ask(&delete(name, &[("logs", 0)]), 0).await.error_code, code);
    }
}

#[tokio::test]
async fn the_coordinator_is_this_broker_in_every_version() {
    let door = door().await;
    let mut client = door.dial().await;
    let port = i32::from(door.server.address().port());
    for version in 0..=3 {
        for key_type in if version == 0 { vec![0] } else { vec![0, 1] } {
            let request = FindCoordinatorRequest::default().with_key(text("g")).with_key_type(key_type);
            let found = client.ask(&request, version).await;
            assert_eq!(
                (found.error_code, found.node_id, found.host.as_str(), found.port),
                (NONE, BrokerId(1), "127.0.0.1", port)
            );
            // Version 0 has no such field.
            assert_eq!(found.error_message, Some(text(if version >= 1 { "NONE" } else { "" })));
        }
    }
    let many = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("a"), text("b")]);
    let found = client.ask(&many, 4).await;
    let keys: Vec<_> = found.coordinators.iter().map(|c| (c.key.as_str(), c.node_id, c.port, c.error_code)).collect();
    assert_eq!(keys, [("a", BrokerId(1), port, NONE), ("b", BrokerId(1), port, NONE)]);
    for version in [1, 4] {
        let request = FindCoordinatorRequest::default().with_key_type(7);
        let request =
            if version == 4 { request.with_coordinator_keys(vec![text("g")]) } else { request.with_key(text("g")) };
        let found = client.ask(&request, version).await;
        let (code, node) =
            found.coordinators.first().map_or((found.error_code, found.node_id), |c| (c.error_code, c.node_id));
        assert_eq!((code, node), (INVALID_REQUEST, BrokerId(-1)), "version {version}");
    }
}

#[tokio::test]
async fn two_members_share_and_the_one_that_stays_hears_of_the_rebalance() {
    let door = door().await;
    let (mut a, mut b) = (door.dial().await, door.dial().await);
    let (id, generation) = settle(&mut a, "g", 9).await;
    let given = b.ask(&join("g", ""), 9).await;
    assert_eq!(given.error_code, MEMBER_ID_REQUIRED);
    b.post(&join("g", &given.member_id), 9).await;
    // The other one's join is on its way; until it has arrived the heartbeat is well.
    let code = loop {
        match a.ask(&heartbeat("g", &id, generation), 4).await.error_code {
            NONE => tokio::time::sleep(Duration::from_millis(1)).await,
            code => break code,
        }
    };
    assert_eq!(code, 27, "REBALANCE_IN_PROGRESS");
    let leader = a.ask(&join("g", &id), 9).await;
    let follower = b.answer::<JoinGroupRequest>(2, 9).await;
    assert_eq!((leader.generation_id, follower.generation_id), (2, 2));
    assert_eq!((leader.members.len(), follower.members.len()), (2, 0));
    assert_eq!((leader.leader.as_str(), follower.leader.as_str()), (id.as_str(), id.as_str()));
}

#[tokio::test]
async fn an_offset_that_a_transaction_holds_is_held_back_from_who_wants_it_stable() {
    let door = door().await;
    let mut client = door.dial().await;
    client.ask(&commit("g", "", -1, &[("logs", 0, 5, ""), ("logs", 1, 6, "")]), 9).await;
    let id = TransactionalId(text("t"));
    let init =
        InitProducerIdRequest::default().with_transactional_id(Some(id.clone())).with_transaction_timeout_ms(60_000);
    let producer = client.ask(&init, 4).await;
    assert_eq!(producer.error_code, NONE);
    let add = AddOffsetsToTxnRequest::default()
        .with_transactional_id(id.clone())
        .with_producer_id(producer.producer_id)
        .with_producer_epoch(producer.producer_epoch)
        .with_group_id(group("g"));
    assert_eq!(client.ask(&add, 3).await.error_code, NONE);
    let partition = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(50);
    let topic = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
        .with_name(topic_name("logs"))
        .with_partitions(vec![partition]);
    let pending = TxnOffsetCommitRequest::default()
        .with_transactional_id(id.clone())
        .with_group_id(group("g"))
        .with_producer_id(producer.producer_id)
        .with_producer_epoch(producer.producer_epoch)
        .with_generation_id(-1)
        .with_topics(vec![topic]);
    assert_eq!(client.ask(&pending, 3).await.topics[0].partitions[0].error_code, NONE);
    let offsets = |fetched: Fetched| -> Vec<_> { fetched.into_iter().map(|f| (f.1, f.2, f.5)).collect() };
    for version in [7, 8, 9] {
        for asked in [None, Some(&[("logs", 0), ("logs", 1)][..])] {
            let stable = offsets(fetch(&mut client, "g", asked, true, version).await);
            assert_eq!(stable, [(0, -1, UNSTABLE_OFFSET_COMMIT), (1, 6, NONE)], "version {version}");
            let any = offsets(fetch(&mut client, "g", asked, false, version).await);
            assert_eq!(any, [(0, 5, NONE), (1, 6, NONE)], "version {version}");
        }
    }
    let end = EndTxnRequest::default()
        .with_transactional_id(id)
        .with_producer_id(producer.producer_id)
        .with_producer_epoch(producer.producer_epoch)
        .with_committed(true);
    assert_eq!(client.ask(&end, 3).await.error_code, NONE);
    assert_eq!(offsets(fetch(&mut client, "g", None, true, 9).await), [(0, 50, NONE), (1, 6, NONE)]);
}
