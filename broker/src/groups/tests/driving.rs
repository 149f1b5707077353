//! The driver: groups by name, timers, commits, administration.

use super::*;
use crate::topic::GroupOffset;

#[test]
fn a_commit_is_answered_once_it_is_durable_and_then_seen() {
    let mut node = Node::new();
    let (id, generation) = settle_alone(&mut node, "g");
    let mut answer = node.commit("g", &id, generation, 0, 42).unwrap();
    assert!(answer.try_recv().is_err(), "not synced yet");
    assert_eq!(node.committed("g", 0), None);
    node.write();
    assert_eq!(answer.try_recv().unwrap(), Ok(()));
    let fetched = node.groups().fetch("g", &Arc::from(TOPIC), 0).unwrap();
    assert_eq!((fetched.offset, fetched.leader_epoch, fetched.metadata.as_str()), (42, 0, "generation 1"));
    assert_eq!(node.groups().fetch_all("g"), [fetched]);
    assert_eq!(node.commit("g", &id, generation - 1, 0, 43).unwrap_err(), GroupError::IllegalGeneration);
    assert_eq!(node.commit("g", "stranger", generation, 0, 43).unwrap_err(), GroupError::UnknownMemberId);
    assert_eq!(node.commit("g", "", -1, 0, 43).unwrap_err(), GroupError::UnknownMemberId);
}

#[test]
fn a_client_that_assigns_itself_needs_no_group_before_it_commits() {
    let mut node = Node::new();
    assert_eq!(node.commit("alone", "member", 3, 0, 1).unwrap_err(), GroupError::GroupIdNotFound);
    let mut answer = node.commit("alone", "", -1, 0, 1).unwrap();
    node.write();
    assert_eq!(answer.try_recv().unwrap(), Ok(()));
    assert_eq!(node.commit("alone", "member", 3, 0, 1).unwrap_err(), GroupError::UnknownMemberId);
    let listed = node.groups().list();
    let expected = GroupListing { name: "alone".into(), protocol_type: "".into(), state: GroupState::Empty };
    assert_eq!(listed, [expected]);
    assert_eq!(node.groups().describe("alone").state, GroupState::Empty);
    assert_eq!(node.groups().describe("nobody").state, GroupState::Dead);
}

#[test]
fn an_offset_of_a_topic_that_was_deleted_does_not_count_for_a_new_one() {
    let mut node = Node::new();
    node.commit("g", "", -1, 0, 9).unwrap();
    node.write();
    let path = std::path::Path::new("/data/topics/logs");
    node.running = None;
    node.fs.crash(Crash::Kill);
    crate::fs::Fs::remove_dir_all(&node.fs, path).unwrap();
    node.start();
    assert_eq!(node.groups().fetch_all("g"), []);
}

#[test]
fn highwaters_own_groups_are_seen_and_not_touched() {
    let node = Node::new();
    let own = "__highwater.tasks";
    let groups = node.groups();
    let join = groups.join(own, join_request("", None)).try_recv().unwrap();
    assert_eq!(join.unwrap_err().error, GroupError::GroupAuthorizationFailed);
    let sync = groups.sync(own, sync_request("m", 1, &[])).try_recv().unwrap();
    assert_eq!(sync.unwrap_err(), GroupError::GroupAuthorizationFailed);
    assert_eq!(groups.heartbeat(own, "m", None, 1), Err(GroupError::GroupAuthorizationFailed));
    assert_eq!(groups.leave(own, &[]), Err(GroupError::GroupAuthorizationFailed));
    assert_eq!(groups.in_generation(own, "", None, -1, || ()), Err(GroupError::GroupAuthorizationFailed));
    assert_eq!(node.commit(own, "", -1, 0, 1).unwrap_err(), GroupError::GroupAuthorizationFailed);
    assert_eq!(groups.hand_over_delete(own).unwrap_err(), GroupError::GroupAuthorizationFailed);
    assert_eq!(groups.describe(own).state, GroupState::Dead);
    assert_eq!(groups.list(), []);
}

#[test]
fn bad_names_and_session_timeouts_are_refused() {
    let node = Node::new();
    let groups = node.groups();
    let refused = |group: &str, request| groups.join(group, request).try_recv().unwrap().unwrap_err().error;
    assert_eq!(refused("", join_request("", None)), GroupError::InvalidGroupId);
    assert_eq!(refused(&"x".repeat(40_000), join_request("", None)), GroupError::InvalidGroupId);
    for session_timeout_ms in [5_999, 1_800_001, -1] {
        let request = JoinRequest { session_timeout_ms, ..join_request("", None) };
        assert_eq!(refused("g", request), GroupError::InvalidSessionTimeout);
    }
    assert_eq!(refused("g", join_request("who", None)), GroupError::UnknownMemberId);
    assert_eq!(groups.list(), [], "and no group comes to be by it");
    assert_eq!(groups.heartbeat("g", "who", None, 1), Err(GroupError::UnknownMemberId));
    let leaver = Leaver { member_id: "who".into(), instance_id: None, reason: None };
    assert_eq!(groups.leave("g", &[leaver]), Ok(vec![Err(GroupError::UnknownMemberId)]));
    let sync = groups.sync("g", sync_request("who", 1, &[])).try_recv().unwrap();
    assert_eq!(sync.unwrap_err(), GroupError::UnknownMemberId);
}

#[test]
fn there_are_only_so_many_groups() {
    let node = Node::with(GroupSettings { max_groups: 2, ..GroupSettings::default() });
    let groups = node.groups();
    let join = |group: &str| groups.join(group, join_request("", None)).try_recv().unwrap().unwrap_err().error;
    assert_eq!([join("a"), join("b")], [GroupError::MemberIdRequired; 2]);
    assert_eq!(join("c"), GroupError::GroupMaxSizeReached);
    assert_eq!(join("b"), GroupError::MemberIdRequired);
}

#[test]
fn what_all_groups_hold_is_bounded() {
    let node = Node::with(GroupSettings { max_metadata_size_bytes: 2_000, ..GroupSettings::default() });
    let groups = node.groups();
    let request = |size: usize| {
        let protocols = vec![Protocol { name: "range".into(), metadata: Bytes::from(vec![0; size]) }];
        JoinRequest { protocols, needs_member_id_first: false, ..join_request("", None) }
    };
    let mut waiting = groups.join("a", request(1_200));
    assert!(waiting.try_recv().is_err(), "it waits for more members");
    let refused = groups.join("b", request(1_200)).try_recv().unwrap().unwrap_err();
    assert_eq!(refused.error, GroupError::GroupMaxSizeReached);
    let mut small = groups.join("b", request(100));
    assert!(small.try_recv().is_err());
    // It joins, is not heard of, and is gone; there is room again.
    node.clock.advance_ms(3_000);
    groups.tick();
    node.clock.advance_ms(10_000);
    groups.tick();
    let mut room = groups.join("c", request(1_200));
    assert!(room.try_recv().is_err());
}

#[test]
fn the_timer_is_told_when_something_is_due() {
    let mut node = Node::new();
    let check = GroupSettings::default().offsets_retention_check_interval_ms;
    assert_eq!(node.groups().tick(), check);
    let (id, generation) = settle_alone(&mut node, "g");
    let groups = node.groups();
    groups.heartbeat("g", &id, None, generation).unwrap();
    assert_eq!(groups.tick(), 10_000, "its session");
    node.clock.advance_ms(9_999);
    assert_eq!(groups.tick(), 1);
    node.clock.advance_ms(1);
    groups.tick();
    assert_eq!(groups.describe("g").state, GroupState::Empty);
    assert!(groups.tick() > 10_000);
}

#[test]
fn a_group_is_deleted_with_its_offsets_once_it_is_empty() {
    let mut node = Node::new();
    let (id, generation) = settle_alone(&mut node, "g");
    node.commit("g", &id, generation, 0, 5).unwrap();
    node.commit("alone", "", -1, 0, 6).unwrap();
    node.write();
    let groups = node.groups();
    assert_eq!(groups.hand_over_delete("g").unwrap_err(), GroupError::NonEmptyGroup);
    assert_eq!(groups.hand_over_delete("nobody").unwrap_err(), GroupError::GroupIdNotFound);
    let leaver = Leaver { member_id: id.as_str().into(), instance_id: None, reason: None };
    groups.leave("g", &[leaver]).unwrap();
    node.write();
    for group in ["g", "alone"] {
        let mut deleted = groups.hand_over_delete(group).unwrap();
        assert_eq!(groups.hand_over_delete(group).unwrap_err(), GroupError::GroupIdNotFound);
        let late = node.commit(group, "", -1, 0, 7);
        assert_eq!(late.unwrap_err(), GroupError::CoordinatorNotAvailable, "it is on its way out");
        node.write();
        assert_eq!(deleted.try_recv().unwrap(), Ok(()));
        assert_eq!(node.committed(group, 0), None);
    }
    assert_eq!(groups.list(), []);
    node.restart(Crash::LoseUnsynced);
    assert_eq!(node.groups().list(), []);
    settle_alone(&mut node, "g");
}

#[test]
fn offsets_are_deleted_but_not_those_of_what_is_read() {
    let mut node = Node::new();
    let (id, generation) = settle_alone(&mut node, "g");
    for (group, member, generation) in [("g", id.as_str(), generation), ("alone", "", -1)] {
        node.commit(group, member, generation, 0, 5).unwrap();
        node.commit(group, member, generation, 1, 6).unwrap();
    }
    node.write();
    let groups = node.groups();
    let logs: Arc<str> = TOPIC.into();
    let mut delete = |group: &str, keys: Vec<(Arc<str>, i32)>| {
        let mut deleting = std::pin::pin!(groups.delete_offsets(group, keys));
        match now_or_never(deleting.as_mut()) {
            Some(answer) => answer,
            None => {
                node.write();
                now_or_never(deleting).expect("answered once it is written")
            }
        }
    };
    // "logs" is what its member subscribes to.
    let answers = delete("g", vec![(Arc::clone(&logs), 0), (Arc::from("metrics"), 0)]);
    assert_eq!(answers, Ok(vec![OffsetDeletion::Subscribed, OffsetDeletion::Allowed]));
    assert_eq!(delete("alone", vec![(logs, 0)]), Ok(vec![OffsetDeletion::Allowed]));
    assert_eq!(delete("nobody", vec![]), Err(GroupError::GroupIdNotFound));
    assert_eq!(node.committed("g", 0), Some(5));
    assert_eq!((node.committed("alone", 0), node.committed("alone", 1)), (None, Some(6)));
}

const DAY: i64 = 24 * 3_600_000;

#[test]
fn what_nobody_reads_by_for_a_week_is_forgotten_and_what_highwater_commits_never_is() {
    let mut node = Node::new();
    let (id, generation) = settle_alone(&mut node, "g");
    node.commit("g", &id, generation, 0, 5).unwrap();
    node.commit("alone", "", -1, 0, 6).unwrap();
    let own = GroupOffset { topic: TOPIC.into(), partition: 0, offset: 7, metadata: String::new() };
    {
        let Running { broker, stepper, .. } = node.running.as_mut().unwrap();
        let mut commit = std::pin::pin!(broker.commit_offsets("__highwater.tasks", vec![own], None));
        assert!(now_or_never(commit.as_mut()).is_none());
        stepper.step_committer();
        assert!(now_or_never(commit).unwrap().is_ok());
    }
    let groups = node.groups();
    let day = |node: &mut Node| {
        node.clock.advance_ms(DAY);
        node.groups().tick();
        node.write();
    };
    for _ in 0..3 {
        groups.heartbeat("g", &id, None, generation).ok();
        day(&mut node);
    }
    // On the first of these days the session ended; the commits are as old.
    assert_eq!(groups.describe("g").state, GroupState::Empty);
    for _ in 0..3 {
        day(&mut node);
    }
    assert_eq!((node.committed("g", 0), node.committed("alone", 0)), (Some(5), Some(6)), "six days");
    node.commit("alone", "", -1, 1, 8).unwrap();
    node.write();
    day(&mut node);
    assert_eq!((node.committed("g", 0), node.committed("alone", 0)), (Some(5), None), "the group was left a day later");
    assert_eq!(node.committed("alone", 1), Some(8));
    day(&mut node);
    assert_eq!(node.committed("g", 0), None);
    let names: Vec<_> = groups.list().into_iter().map(|g| g.name.to_string()).collect();
    assert_eq!(names, ["__highwater.tasks", "alone"], "a group with nothing left is gone");
    for _ in 0..10 {
        day(&mut node);
    }
    assert_eq!(node.committed("__highwater.tasks", 0), Some(7));
    assert_eq!(node.committed("alone", 1), None);
}

#[test]
fn a_commit_on_its_way_is_not_taken_for_the_old_one_that_expires() {
    let mut node = Node::new();
    node.commit("alone", "", -1, 0, 6).unwrap();
    node.write();
    node.clock.advance_ms(8 * DAY);
    let mut answer = node.commit("alone", "", -1, 0, 9).unwrap();
    node.groups().tick();
    node.write();
    assert_eq!(answer.try_recv().unwrap(), Ok(()));
    assert_eq!(node.committed("alone", 0), Some(9));
    node.restart(Crash::LoseUnsynced);
    assert_eq!(node.committed("alone", 0), Some(9));
}

#[test]
fn a_group_that_someone_joins_while_it_expires_is_kept() {
    let mut node = Node::new();
    let groups = node.groups();
    assert!(groups.join("g", join_request("", None)).try_recv().unwrap().is_err());
    node.pass(20_000);
    node.clock.advance_ms(DAY);
    groups.tick();
    // The deletion is on its way to the journal when somebody comes.
    let asked = groups.join("g", join_request("", None)).try_recv().unwrap().unwrap_err();
    assert_eq!(asked.error, GroupError::MemberIdRequired);
    node.write();
    let mut joined = groups.join("g", join_request(&asked.member_id, None));
    node.pass(3_100);
    assert_eq!(joined.try_recv().unwrap().unwrap().generation, 1);
}

#[test]
fn a_full_disk_refuses_commits_and_assignments_and_the_group_recovers() {
    let mut node = Node::new();
    let (id, generation) = settle_alone(&mut node, "g");
    node.fs.set_capacity(Some(node.fs.used_bytes()));
    let mut refused = 0;
    for offset in 0..5_000 {
        let mut answer = node.commit("g", &id, generation, 0, offset).unwrap();
        node.write();
        refused += i32::from(answer.try_recv().unwrap() == Err(GroupError::CoordinatorNotAvailable));
    }
    assert!(refused > 0, "the journal never filled the disk");
    let groups = node.groups();
    let rejoin = groups.join("g", join_request(&id, None)).try_recv().unwrap().unwrap();
    let mut synced = groups.sync("g", sync_request(&id, rejoin.generation, &[(&id, &"x".repeat(100_000))]));
    node.write();
    assert_eq!(synced.try_recv().unwrap().unwrap_err(), GroupError::CoordinatorNotAvailable);
    assert_eq!(groups.heartbeat("g", &id, None, rejoin.generation), Err(GroupError::RebalanceInProgress));
    node.fs.set_capacity(None);
    let rejoin = groups.join("g", join_request(&id, None)).try_recv().unwrap().unwrap();
    let mut synced = groups.sync("g", sync_request(&id, rejoin.generation, &[(&id, "all")]));
    node.write();
    assert_eq!(synced.try_recv().unwrap().unwrap().assignment, "all");
}

#[test]
fn the_members_of_transactions_are_checked() {
    let mut node = Node::new();
    let groups = node.groups();
    assert_eq!(groups.in_generation("g", "", None, -1, || ()), Ok(()));
    assert_eq!(groups.in_generation("g", "m", None, 1, || ()), Err(GroupError::IllegalGeneration));
    let (id, generation) = settle_alone(&mut node, "g");
    assert_eq!(groups.in_generation("g", &id, None, generation, || ()), Ok(()));
    assert_eq!(groups.in_generation("g", &id, None, generation - 1, || ()), Err(GroupError::IllegalGeneration));
    assert_eq!(groups.in_generation("g", "zombie", None, generation, || ()), Err(GroupError::UnknownMemberId));
    assert_eq!(groups.in_generation("g", &id, Some("instance"), generation, || ()), Err(GroupError::UnknownMemberId));
    assert_eq!(groups.in_generation("g", "", None, -1, || ()), Ok(()), "an old client");
}

/// In real time, and short: the other tests call the timer by hand.
#[tokio::test]
async fn the_timer_task_minds_deadlines_and_ends_with_the_groups() {
    let broker = Broker::open(config(), Arc::new(SimFs::new()), Arc::new(crate::SystemClock)).unwrap();
    let settings =
        GroupSettings { initial_rebalance_delay_ms: 20, min_session_timeout_ms: 1, ..GroupSettings::default() };
    let groups = Groups::start(&broker, settings);
    let request = |id: &str| JoinRequest { session_timeout_ms: 50, ..join_request(id, None) };
    let asked = groups.join("g", request("")).await.unwrap().unwrap_err();
    let joined = groups.join("g", request(&asked.member_id)).await.unwrap().unwrap();
    assert_eq!(joined.generation, 1, "the timer ended the first rebalance");
    while groups.describe("g").state != GroupState::Empty {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(groups.describe("g").generation, 2, "and the session of a member that fell silent");
    let weak = Arc::downgrade(&groups);
    drop(groups);
    broker.shutdown().await;
    assert!(weak.upgrade().is_none());
}
