//! Members with an instance id: they come back without disturbing anyone, and only one process may be each.

use super::*;

fn beat(bench: &mut Bench, member_id: &str, instance_id: &str, generation: i32) -> Result<(), GroupError> {
    bench.group.heartbeat(bench.now(), member_id, Some(instance_id), generation)
}

#[test]
fn a_static_member_that_comes_back_takes_its_place_without_a_rebalance() {
    let (mut bench, ids) = Bench::stable(vec![of_instance("one"), of_instance("two")]);
    let follower = ids.iter().position(|id| !bench.group.members.is_leader(id)).unwrap();
    let instance = ["one", "two"][follower];
    let back = bench.join(of_instance(instance));
    assert!(bench.waits(back), "it is told its id once that is durable");
    bench.write();
    let joined = bench.joined(back).clone();
    assert_eq!((joined.generation, joined.skip_assignment), (1, false));
    assert_ne!(joined.member_id.as_ref(), ids[follower]);
    assert_eq!(bench.group.state(), GroupState::Stable);
    let synced = bench.sync(&joined.member_id, 1, &[]);
    assert_eq!(bench.synced(synced), Ok(format!("for {}", ids[follower]).as_str()), "and has what it had");
    assert!(bench.durable.as_ref().unwrap().members.iter().any(|m| m.id == joined.member_id));
    // The process it replaced, if it still runs, must stop.
    assert_eq!(beat(&mut bench, &ids[follower], instance, 1), Err(GroupError::FencedInstanceId));
    assert_eq!(beat(&mut bench, &joined.member_id, instance, 1), Ok(()));
    let zombie = bench.join(JoinRequest { member_id: ids[follower].as_str().into(), ..of_instance(instance) });
    assert_eq!(bench.refused(zombie).0, GroupError::FencedInstanceId);
    let commit = bench.group.check_commit(&ids[follower], Some(instance), 1, false);
    assert_eq!(commit, Err(GroupError::FencedInstanceId));
}

#[test]
fn a_static_leader_that_comes_back_leads_and_assigns_nothing() {
    let (mut bench, ids) = Bench::stable(vec![of_instance("one"), of_instance("two")]);
    let leader = ids.iter().position(|id| bench.group.members.is_leader(id)).unwrap();
    let instance = ["one", "two"][leader];
    let back = bench.join(of_instance(instance));
    bench.write();
    let joined = bench.joined(back).clone();
    assert_eq!(joined.leader, joined.member_id);
    assert!(joined.skip_assignment);
    assert_eq!(joined.members.len(), 2);
    // A client that does not know the flag is told that its old self leads, so that it assigns nothing either.
    let back = bench.join(JoinRequest { can_skip_assignment: false, ..of_instance(instance) });
    bench.write();
    let older = bench.joined(back).clone();
    assert_eq!((&older.leader, older.skip_assignment, older.members.len()), (&joined.member_id, false, 0));
    assert_ne!(older.member_id, joined.member_id);
}

#[test]
fn a_static_member_whose_return_cannot_be_written_is_as_it_was() {
    let (mut bench, ids) = Bench::stable(vec![of_instance("one")]);
    let back =
        bench.join(JoinRequest { session_timeout_ms: 7_000, protocols: protocols(&["range"]), ..of_instance("one") });
    bench.end_writes(Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(bench.refused(back), (GroupError::CoordinatorNotAvailable, String::new()));
    assert_eq!(bench.member_ids(), ids);
    let member = bench.group.members.get(&ids[0]).unwrap();
    assert_eq!((member.session_timeout_ms, &member.protocols), (SESSION, &protocols(&["range", "sticky"])));
    assert_eq!(beat(&mut bench, &ids[0], "one", 1), Ok(()));
    assert!(bench.group.members.is_leader(&ids[0]));
    bench.pass(3_000);
    let synced = bench.sync(&ids[0], 1, &[]);
    assert_eq!(bench.synced(synced), Ok(format!("for {}", ids[0]).as_str()));
}

#[test]
fn a_static_member_that_changes_the_protocol_rebalances() {
    let (mut bench, _) = Bench::stable(vec![of_instance("one"), of_instance("two")]);
    let back = bench.join(JoinRequest { protocols: protocols(&["sticky"]), ..of_instance("two") });
    assert_eq!(bench.group.state(), GroupState::PreparingRebalance);
    assert!(bench.waits(back));
    let one = bench.group.members.member_of_instance("one").unwrap().to_string();
    let other = bench.join(JoinRequest { member_id: one.as_str().into(), ..of_instance("one") });
    assert_eq!(bench.joined(other).protocol.as_deref(), Some("sticky"));
    assert_eq!(bench.joined(back).generation, 2);
}

#[test]
fn a_static_member_that_comes_back_amid_a_rebalance_joins_it_and_its_old_self_is_fenced() {
    let (mut bench, ids) = Bench::stable(vec![of_instance("one"), of_instance("two")]);
    let old = bench.join(JoinRequest {
        member_id: ids[0].as_str().into(),
        protocols: protocols(&["range"]),
        ..of_instance("one")
    });
    let new = bench.join(of_instance("one"));
    assert_eq!(bench.refused(old), (GroupError::FencedInstanceId, ids[0].clone()));
    assert!(bench.waits(new));
    let two = bench.join(JoinRequest { member_id: ids[1].as_str().into(), ..of_instance("two") });
    let new_id = bench.joined(new).member_id.to_string();
    assert_eq!((bench.joined(new).generation, bench.joined(two).generation), (2, 2));
    // While assignments are awaited there is a rebalance anew: the leader may be assigning to the old id.
    let waiting = bench.sync(&new_id, 2, &[]);
    let newer = bench.join(of_instance("one"));
    assert_eq!(bench.synced(waiting), Err(GroupError::FencedInstanceId));
    assert_eq!(bench.group.state(), GroupState::PreparingRebalance);
    let two = bench.join(JoinRequest { member_id: ids[1].as_str().into(), ..of_instance("two") });
    assert_eq!((bench.joined(newer).generation, bench.joined(two).generation), (3, 3));
}

#[test]
fn a_static_member_that_is_away_keeps_its_place_for_its_session() {
    let (mut bench, ids) = Bench::stable(vec![of_instance("one"), of_instance("two"), request("")]);
    let dynamic = ids[2].clone();
    bench.leave(&[&dynamic]);
    let one = bench.join(JoinRequest { member_id: ids[0].as_str().into(), ..of_instance("one") });
    assert!(bench.waits(one));
    // "two" is restarting; it counts as there until its session ends, and the rebalance waits for it that long.
    bench.pass(i64::from(SESSION) - 1);
    assert!(bench.waits(one));
    bench.pass(1);
    assert_eq!(bench.joined(one).generation, 2);
    assert_eq!(bench.member_ids(), ids[..1]);
}

#[test]
fn where_only_static_members_are_expected_and_none_is_there_the_rebalance_waits_for_them() {
    let patient = |instance: &str| JoinRequest { session_timeout_ms: 300_000, ..of_instance(instance) };
    let (mut bench, ids) = Bench::stable(vec![patient("one"), request("")]);
    bench.leave(&[&ids[1]]);
    bench.pass(2 * i64::from(REBALANCE));
    assert_eq!((bench.group.state(), bench.group.generation()), (GroupState::PreparingRebalance, 1));
    let back = bench.join(patient("one"));
    assert_eq!(bench.joined(back).generation, 2, "one is back, and nobody else is missing");
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance() {
    let (mut bench, ids) = Bench::stable(vec![of_instance("one"), of_instance("two")]);
    let leaver = |member_id: &str, instance: &str| Leaver {
        member_id: member_id.into(),
        instance_id: Some(instance.into()),
        reason: Some("made redundant".into()),
    };
    let leavers = [leaver("", "three"), leaver(&ids[0], "two"), leaver("", "one")];
    let now = bench.now();
    let answers = bench.group.leave(now, &leavers).unwrap();
    let expected = [Err(GroupError::UnknownMemberId), Err(GroupError::FencedInstanceId), Ok(())];
    assert_eq!(answers, expected);
    assert_eq!(bench.member_ids(), ids[1..]);
}
