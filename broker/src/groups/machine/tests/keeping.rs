//! What is kept: over restarts, and how long.

use super::*;
use crate::coordinator::Committed;

fn restored(bench: &Bench, elapsed_ms: i64) -> Bench {
    let stored = bench.durable.clone().expect("something durable");
    let now = Now { elapsed_ms, wall_ms: WALL + 1_000_000 };
    let mut restored = Bench::of(GroupMachine::restore("g".into(), Arc::new(settings()), stored, now));
    restored.elapsed_ms = elapsed_ms;
    restored
}

#[test]
fn a_restart_throws_nobody_out() {
    let (bench, ids) = Bench::stable(vec![request(""), of_instance("one")]);
    let mut after = restored(&bench, 77);
    assert_eq!((after.group.state(), after.group.generation()), (GroupState::Stable, 1));
    assert_eq!(after.group.members(), bench.group.members());
    assert_eq!(after.group.members.leader(), bench.group.members.leader());
    after.pass(i64::from(SESSION) - 1);
    for id in &ids {
        assert_eq!(after.heartbeat(id, 1), Ok(()), "it has its whole session to be heard of");
        let synced = after.sync(id, 1, &[]);
        assert_eq!(after.synced(synced), Ok(format!("for {id}").as_str()));
    }
    let follower = ids.iter().find(|id| !after.group.members.is_leader(id)).unwrap();
    let instance = after.group.members.get(follower).unwrap().instance_id.clone();
    let same = after.join(JoinRequest { instance_id: instance, ..request(follower) });
    assert_eq!(after.joined(same).generation, 1, "what it brings is what it brought");
}

#[test]
fn after_a_restart_amid_a_rebalance_the_generation_before_is_back_and_the_next_is_made_anew() {
    let (mut bench, ids) = Bench::stable(vec![request("")]);
    let new = bench.join(request(""));
    let old = bench.join(request(&ids[0]));
    assert_eq!((bench.joined(new).generation, bench.joined(old).generation), (2, 2));
    let new = bench.joined(new).member_id.to_string();
    let mut after = restored(&bench, 0);
    assert_eq!(after.group.generation(), 1);
    let sync = after.sync(&new, 2, &[]);
    assert_eq!(after.synced(sync), Err(GroupError::UnknownMemberId));
    let sync = after.sync(&ids[0], 2, &[]);
    assert_eq!(after.synced(sync), Err(GroupError::IllegalGeneration));
    let again = after.join(request(&ids[0]));
    assert_eq!(after.joined(again).generation, 2, "nobody was assigned anything in the first generation 2");
}

#[test]
fn commits_are_checked_against_member_generation_and_state() {
    let check = |bench: &Bench, id: &str, generation| bench.group.check_commit(id, None, generation, false);
    let mut bench = Bench::new();
    assert_eq!(check(&bench, "", -1), Ok(()), "a client that assigns itself");
    assert_eq!(check(&bench, "x", 1), Err(GroupError::UnknownMemberId));
    let a = bench.join(request(""));
    assert_eq!(check(&bench, "", -1), Err(GroupError::UnknownMemberId), "the group has members now");
    bench.pass(3_000);
    let a = bench.joined(a).member_id.to_string();
    assert_eq!(check(&bench, &a, 1), Err(GroupError::RebalanceInProgress));
    assert_eq!(bench.group.check_commit(&a, None, 1, true), Ok(()), "a transaction's are let in");
    bench.settle(std::slice::from_ref(&a));
    assert_eq!(check(&bench, &a, 1), Ok(()));
    assert_eq!(check(&bench, &a, 0), Err(GroupError::IllegalGeneration));
    assert_eq!(check(&bench, &a, -1), Err(GroupError::IllegalGeneration));
    assert_eq!(check(&bench, "", -1), Err(GroupError::UnknownMemberId));
    assert_eq!(bench.group.check_commit("", None, -1, true), Ok(()), "an old client does not name its member");
    assert_eq!(bench.group.check_commit("", None, 0, true), Err(GroupError::UnknownMemberId));
    bench.join(request(""));
    assert_eq!(check(&bench, &a, 1), Ok(()), "last commits before it joins again");
}

#[test]
fn who_commits_lives() {
    let (mut bench, ids) = Bench::stable(vec![request("")]);
    for _ in 0..4 {
        bench.pass(9_000);
        let now = bench.now();
        bench.group.has_committed(now, &ids[0]);
    }
    assert_eq!(bench.member_ids(), ids);
}

fn committed(at_ms: i64, expires_at_ms: Option<i64>) -> Committed {
    Committed { offset: 1, leader_epoch: -1, metadata: String::new(), committed_at_ms: Some(at_ms), expires_at_ms }
}

const WEEK: i64 = 7 * 24 * 3_600_000;

#[test]
fn offsets_of_clients_that_assign_themselves_go_a_week_after_their_commit() {
    let bench = Bench::new();
    let rule = |now| bench.group.expiry_rule(now).unwrap();
    assert!(!rule(WALL + WEEK - 1).has_expired("logs", &committed(WALL, None)));
    assert!(rule(WALL + WEEK).has_expired("logs", &committed(WALL, None)));
    assert!(rule(WALL + 500).has_expired("logs", &committed(WALL, Some(WALL + 500))), "its client said so");
    let for_ever = Committed { committed_at_ms: None, ..committed(0, None) };
    assert!(!rule(i64::MAX).has_expired("logs", &for_ever));
}

#[test]
fn offsets_of_a_group_go_a_week_after_its_last_member() {
    let (mut bench, ids) = Bench::stable(vec![JoinRequest { protocol_type: "connect".into(), ..request("") }]);
    assert!(bench.group.expiry_rule(WALL + 10 * WEEK).is_none(), "it has members");
    bench.elapsed_ms = 2 * WEEK;
    bench.leave(&[&ids[0]]);
    bench.write();
    let left_at = WALL + 2 * WEEK;
    for group in [&bench.group, &restored(&bench, 5).group] {
        let rule = |now| group.expiry_rule(now).unwrap();
        assert!(!rule(left_at + WEEK - 1).has_expired("logs", &committed(WALL, None)));
        assert!(rule(left_at + WEEK).has_expired("logs", &committed(WALL, None)));
    }
    assert!(bench.group.may_be_forgotten());
}

fn subscription(topics: &[&str]) -> Vec<Protocol> {
    let mut metadata = vec![0, 1];
    metadata.extend_from_slice(&(topics.len() as i32).to_be_bytes());
    for topic in topics {
        metadata.extend_from_slice(&(topic.len() as i16).to_be_bytes());
        metadata.extend_from_slice(topic.as_bytes());
    }
    vec![Protocol { name: "range".into(), metadata: metadata.into() }]
}

#[test]
fn a_stable_group_of_consumers_keeps_the_offsets_of_what_it_reads() {
    let reads = |topics: &[&str]| JoinRequest { protocols: subscription(topics), ..request("") };
    let (bench, _) = Bench::stable(vec![reads(&["logs"]), reads(&["metrics", "logs"])]);
    for group in [&bench.group, &restored(&bench, 5).group] {
        let rule = group.expiry_rule(WALL + 2 * WEEK).unwrap();
        assert!(!rule.has_expired("logs", &committed(WALL, None)));
        assert!(!rule.has_expired("metrics", &committed(WALL, None)));
        assert!(rule.has_expired("traces", &committed(WALL, None)));
        assert_eq!(group.offset_deletion("logs"), OffsetDeletion::Subscribed);
        assert_eq!(group.offset_deletion("traces"), OffsetDeletion::Allowed);
        assert_eq!(group.check_offset_delete(), Ok(()));
    }
}

#[test]
fn a_group_of_consumers_that_does_not_say_what_it_reads_keeps_everything() {
    let (bench, _) = Bench::stable(vec![request("")]);
    assert!(bench.group.expiry_rule(WALL + 2 * WEEK).is_none());
    assert_eq!(bench.group.offset_deletion("anything"), OffsetDeletion::Subscribed);
}

#[test]
fn only_an_empty_group_is_deleted_and_on_its_way_out_it_lets_nobody_in() {
    let (mut bench, ids) = Bench::stable(vec![JoinRequest { protocol_type: "connect".into(), ..request("") }]);
    assert_eq!(bench.group.check_delete(), Err(GroupError::NonEmptyGroup));
    assert_eq!(bench.group.check_offset_delete(), Err(GroupError::NonEmptyGroup));
    bench.leave(&[&ids[0]]);
    assert_eq!(bench.group.check_delete(), Ok(()));
    let now = bench.now();
    bench.group.kill(now);
    assert_eq!(bench.group.check_delete(), Err(GroupError::GroupIdNotFound));
    let join = bench.join(request(""));
    assert_eq!(bench.refused(join).0, GroupError::CoordinatorNotAvailable);
    let sync = bench.sync(&ids[0], 1, &[]);
    assert_eq!(bench.synced(sync), Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(bench.heartbeat(&ids[0], 1), Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(bench.group.leave(now, &[]), Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(bench.group.check_commit("", None, -1, false), Err(GroupError::CoordinatorNotAvailable));
    bench.group.revive(now);
    let join = bench.join(request(""));
    bench.pass(3_000);
    assert_eq!(bench.joined(join).generation, 3);
}
