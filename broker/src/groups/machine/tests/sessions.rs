//! Signs of life, leaving, and time running out.

use super::*;

#[test]
fn a_member_that_is_not_heard_of_is_thrown_out_and_the_others_rebalance() {
    let (mut bench, ids) = Bench::stable(vec![request(""), request("")]);
    for _ in 0..5 {
        bench.pass(3_000);
        assert_eq!(
            bench.heartbeat(&ids[0], 1),
            if bench.group.state() == GroupState::Stable { Ok(()) } else { Err(GroupError::RebalanceInProgress) }
        );
    }
    assert_eq!(bench.member_ids(), ids[..1]);
    assert_eq!(bench.heartbeat(&ids[1], 1), Err(GroupError::UnknownMemberId));
    let back = bench.join(request(&ids[0]));
    assert_eq!(bench.joined(back).generation, 2);
    assert_eq!(bench.heartbeat(&ids[0], 1), Err(GroupError::IllegalGeneration));
    assert_eq!(bench.heartbeat(&ids[0], 2), Ok(()), "also while assignments are awaited");
}

#[test]
fn the_session_ends_to_the_millisecond() {
    let (mut bench, ids) = Bench::stable(vec![request("")]);
    bench.pass(1_000);
    bench.heartbeat(&ids[0], 1).unwrap();
    bench.pass(i64::from(SESSION) - 1);
    assert_eq!(bench.member_ids(), ids);
    bench.pass(1);
    assert_eq!((bench.member_ids().len(), bench.group.state()), (0, GroupState::Empty));
    assert_eq!(bench.group.generation(), 2);
    bench.write();
    let durable = bench.durable.unwrap();
    assert_eq!((durable.generation, durable.members.len(), durable.protocol), (2, 0, None));
    assert_eq!(durable.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(durable.since_ms, WALL + bench.elapsed_ms, "from here its offsets age");
}

#[test]
fn who_waits_for_us_needs_no_heartbeat() {
    let (mut bench, ids) = Bench::stable(vec![request(""), request("")]);
    let waiting = bench.join(JoinRequest { protocols: protocols(&["range"]), ..request(&ids[0]) });
    for _ in 0..5 {
        bench.pass(9_000);
        assert_eq!(bench.heartbeat(&ids[1], 1), Err(GroupError::RebalanceInProgress));
    }
    assert!(bench.waits(waiting), "45 s: long past its session, but it is us who let it wait");
    bench.pass(15_000);
    assert_eq!(bench.joined(waiting).generation, 2, "60 s: whoever has not joined by now is out");
    assert_eq!(bench.member_ids(), ids[..1]);
}

#[test]
fn a_new_member_whose_join_nobody_waits_for_any_more_goes_after_five_minutes() {
    let long = JoinRequest { rebalance_timeout_ms: 3_600_000, ..request("") };
    let (mut bench, ids) = Bench::stable(vec![long]);
    let lost = bench.join(request(""));
    let mut passed_ms = 0;
    while bench.waits(lost) {
        bench.pass(1_000);
        passed_ms += 1_000;
        assert_eq!(bench.heartbeat(&ids[0], 1), Err(GroupError::RebalanceInProgress));
    }
    assert_eq!(passed_ms, 300_000);
    assert_eq!(bench.refused(lost), (GroupError::UnknownMemberId, String::new()));
}

#[test]
fn who_does_not_fetch_its_assignment_in_time_is_out() {
    let mut bench = Bench::new();
    let (a, b) = (bench.join(request("")), bench.join(request("")));
    bench.pass(6_000);
    let (a, b) = (bench.joined(a).member_id.to_string(), bench.joined(b).member_id.to_string());
    bench.sync(&a, 1, &[(&a, "left"), (&b, "right")]);
    bench.write();
    assert_eq!(bench.group.state(), GroupState::Stable);
    for _ in 0..19 {
        bench.pass(3_000);
        for id in [&a, &b] {
            assert_eq!(bench.heartbeat(id, 1), Ok(()), "it lives, but never asks");
        }
    }
    bench.pass(3_000);
    assert_eq!(bench.member_ids(), std::slice::from_ref(&a));
    let back = bench.join(request(&a));
    assert_eq!(bench.joined(back).generation, 2);
}

#[test]
fn a_leader_that_dies_between_join_and_sync_holds_the_others_up_for_its_session() {
    let mut bench = Bench::new();
    let (a, b) = (bench.join(request("")), bench.join(request("")));
    bench.pass(6_000);
    let (a, b) = (bench.joined(a).member_id.to_string(), bench.joined(b).member_id.to_string());
    let waiting = bench.sync(&b, 1, &[]);
    bench.pass(i64::from(SESSION));
    assert_eq!(bench.synced(waiting), Err(GroupError::RebalanceInProgress));
    assert_eq!(bench.member_ids(), std::slice::from_ref(&b));
    let again = bench.join(request(&b));
    assert_eq!(bench.joined(again).leader.as_ref(), b);
    assert_eq!(bench.heartbeat(&a, 1), Err(GroupError::UnknownMemberId));
}

#[test]
fn several_leave_at_once_and_each_is_answered() {
    let (mut bench, ids) = Bench::stable((0..4).map(|_| request("")).collect());
    let answers = bench.leave(&[&ids[0], "stranger", &ids[2]]);
    assert_eq!(answers, [Ok(()), Err(GroupError::UnknownMemberId), Ok(())]);
    assert_eq!(bench.group.state(), GroupState::PreparingRebalance);
    let left: Vec<String> = [ids[1].clone(), ids[3].clone()].to_vec();
    assert_eq!(bench.member_ids(), left);
    let tickets: Vec<_> = left.iter().map(|id| bench.join(request(id))).collect();
    assert!(tickets.iter().all(|t| bench.joined(*t).generation == 2));
    assert_eq!(bench.leave(&["stranger"]), [Err(GroupError::UnknownMemberId)]);
    assert_eq!(bench.group.state(), GroupState::CompletingRebalance, "nothing happened");
}

#[test]
fn the_last_to_leave_leaves_an_empty_group_which_begins_anew() {
    let (mut bench, ids) = Bench::stable(vec![request("")]);
    assert_eq!(bench.leave(&[&ids[0]]), [Ok(())]);
    assert_eq!((bench.group.state(), bench.group.generation()), (GroupState::Empty, 2));
    let back = bench.join(request(&ids[0]));
    assert_eq!(bench.refused(back).0, GroupError::UnknownMemberId);
    let anew = bench.join(JoinRequest { protocol_type: "connect".into(), ..request("") });
    bench.pass(3_000);
    assert_eq!(bench.joined(anew).generation, 3);
    assert_eq!(
        bench.joined(anew).protocol_type.as_deref(),
        Some("connect"),
        "an empty group may be used for something else"
    );
}

#[test]
fn who_leaves_while_it_waits_to_join_is_told_so() {
    let (mut bench, ids) = Bench::stable(vec![request(""), request("")]);
    let waiting = bench.join(JoinRequest { protocols: protocols(&["range"]), ..request(&ids[0]) });
    assert_eq!(bench.leave(&[&ids[0]]), [Ok(())]);
    assert_eq!(bench.refused(waiting).0, GroupError::UnknownMemberId);
    let rest = bench.join(request(&ids[1]));
    assert_eq!(bench.joined(rest).generation, 2);
}

#[test]
fn a_pending_member_may_leave_and_then_nobody_waits_for_it() {
    let (mut bench, ids) = Bench::stable(vec![request("")]);
    let pending = bench.join(JoinRequest { needs_member_id_first: true, ..request("") });
    let (_, id) = bench.refused(pending);
    let leader = bench.join(request(&ids[0]));
    assert!(bench.waits(leader));
    assert_eq!(bench.leave(&[&id]), [Ok(())]);
    assert_eq!(bench.joined(leader).generation, 2);
}
