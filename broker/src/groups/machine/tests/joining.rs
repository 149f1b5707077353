//! Joining, agreeing, and getting an assignment.

use super::*;

#[test]
fn the_first_rebalance_waits_for_more_members_and_again_while_more_come() {
    let mut bench = Bench::new();
    let a = bench.join(request(""));
    assert_eq!(bench.group.state(), GroupState::PreparingRebalance);
    bench.pass(2_999);
    let b = bench.join(request(""));
    bench.pass(1);
    assert!(bench.waits(a), "the second came in the last moment, so the group waits once more");
    bench.pass(2_999);
    assert!(bench.waits(b));
    bench.pass(1);
    assert_eq!(bench.group.state(), GroupState::CompletingRebalance);
    let (a, b) = (bench.joined(a).clone(), bench.joined(b).clone());
    assert_eq!((a.generation, b.generation), (1, 1));
    assert_eq!(a.leader, a.member_id, "the first to come leads");
    assert_eq!((&b.leader, b.members.len()), (&a.member_id, 0));
    let told: Vec<_> = a.members.iter().map(|m| (m.id.as_ref(), m.metadata.clone())).collect();
    let metadata = Bytes::from("metadata of range");
    assert_eq!(told, [(a.member_id.as_ref(), metadata.clone()), (b.member_id.as_ref(), metadata)]);
    assert_eq!(a.protocol.as_deref(), Some("range"));
    assert_eq!(a.protocol_type.as_deref(), Some("consumer"));
    assert!(!a.skip_assignment);
}

#[test]
fn the_first_rebalance_waits_no_longer_than_the_rebalance_timeout() {
    let mut bench = Bench::new();
    let hurried = JoinRequest { rebalance_timeout_ms: 5_000, ..request("") };
    let first = bench.join(hurried.clone());
    let mut waited_ms = 0;
    while bench.waits(first) {
        bench.pass(1_000);
        waited_ms += 1_000;
        if bench.waits(first) && bench.group.members.len() < 5 {
            bench.join(hurried.clone());
        }
    }
    assert_eq!(waited_ms, 5_000, "3 s, and the 2 s that are left of the 5");
}

#[test]
fn a_delay_of_nothing_is_none() {
    let mut bench = Bench::with(GroupSettings { initial_rebalance_delay_ms: 0, ..settings() });
    let ticket = bench.join(request(""));
    bench.pass(0);
    assert_eq!(bench.joined(ticket).generation, 1);
}

#[test]
fn assignments_are_handed_out_only_once_they_are_durable() {
    let mut bench = Bench::new();
    let (a, b) = (bench.join(request("")), bench.join(request("")));
    bench.pass(6_000);
    let (a, b) = (bench.joined(a).member_id.to_string(), bench.joined(b).member_id.to_string());
    let of_b = bench.sync(&b, 1, &[]);
    let of_a = bench.sync(&a, 1, &[(&a, "left"), (&b, "right"), ("stranger", "nothing")]);
    assert!(bench.waits(of_a) && bench.waits(of_b));
    assert_eq!(bench.group.state(), GroupState::CompletingRebalance);
    bench.write();
    assert_eq!((bench.synced(of_a), bench.synced(of_b)), (Ok("left"), Ok("right")));
    assert_eq!(bench.group.state(), GroupState::Stable);
    let durable = bench.durable.clone().unwrap();
    assert_eq!((durable.generation, durable.leader.as_deref()), (1, Some(a.as_str())));
    let assigned: Vec<_> = durable.members.iter().map(|m| (m.id.to_string(), m.assignment.clone())).collect();
    assert_eq!(assigned, [(a, Bytes::from("left")), (b.clone(), Bytes::from("right"))]);
    let again = bench.sync(&b, 1, &[]);
    assert_eq!(bench.synced(again), Ok("right"), "whoever asks again gets the same");
}

#[test]
fn an_assignment_that_cannot_be_written_is_not_handed_out_and_the_group_rebalances() {
    let mut bench = Bench::new();
    let a = bench.join(request(""));
    bench.pass(3_000);
    let a = bench.joined(a).member_id.to_string();
    let sync = bench.sync(&a, 1, &[(&a, "all")]);
    bench.end_writes(Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(bench.synced(sync), Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(bench.group.state(), GroupState::PreparingRebalance);
    let again = bench.join(request(&a));
    assert_eq!(bench.joined(again).generation, 2);
    bench.settle(&[a]);
    assert_eq!(bench.group.state(), GroupState::Stable);
}

#[test]
fn who_joins_while_an_assignment_is_written_makes_it_void() {
    let mut bench = Bench::new();
    let a = bench.join(request(""));
    bench.pass(3_000);
    let a = bench.joined(a).member_id.to_string();
    let sync = bench.sync(&a, 1, &[(&a, "all")]);
    let b = bench.join(request(""));
    assert_eq!(bench.synced(sync), Err(GroupError::RebalanceInProgress));
    bench.write();
    assert_eq!(bench.group.state(), GroupState::PreparingRebalance, "the record is of a generation that is over");
    let again = bench.join(request(&a));
    assert_eq!(bench.joined(again).generation, 2);
    let b = bench.joined(b).member_id.to_string();
    let stale = bench.sync(&a, 1, &[(&a, "all")]);
    assert_eq!(bench.synced(stale), Err(GroupError::IllegalGeneration));
    bench.settle(&[a, b]);
    assert_eq!(bench.group.state(), GroupState::Stable);
}

#[test]
fn a_member_without_an_id_is_given_one_and_counts_when_it_comes_back_with_it() {
    let mut bench = Bench::new();
    let careful = JoinRequest { needs_member_id_first: true, ..request("") };
    let first = bench.join(careful.clone());
    let (error, id) = bench.refused(first);
    assert_eq!(error, GroupError::MemberIdRequired);
    assert_eq!(id, "client-00000000-0000-0000-0000-000000000001");
    assert_eq!(bench.group.state(), GroupState::Empty);
    let back = bench.join(JoinRequest { member_id: id.as_str().into(), ..careful.clone() });
    bench.pass(3_000);
    assert_eq!(bench.joined(back).member_id.as_ref(), id);
    // One that never comes back holds the others up for its session timeout at most.
    bench.settle(std::slice::from_ref(&id));
    let lost = bench.join(careful);
    assert_eq!(bench.refused(lost).0, GroupError::MemberIdRequired);
    let again = bench.join(request(&id));
    assert!(bench.waits(again), "the leader asks for a rebalance, which waits for the pending member");
    bench.pass(i64::from(SESSION));
    assert_eq!(bench.joined(again).generation, 2);
    assert_eq!(bench.member_ids(), [id]);
    let stranger = bench.join(request("client-unheard-of"));
    assert_eq!(bench.refused(stranger), (GroupError::UnknownMemberId, "client-unheard-of".to_owned()));
}

#[test]
fn the_protocol_is_the_one_with_most_votes_of_those_that_all_know() {
    let with = |names: &[&str]| JoinRequest { protocols: protocols(names), ..request("") };
    let mut bench = Bench::new();
    let tickets = [&["a", "b", "c"][..], &["c", "b"], &["c", "b", "d"]].map(|names| bench.join(with(names)));
    bench.pass(60_000);
    assert_eq!(
        bench.joined(tickets[0]).protocol.as_deref(),
        Some("c"),
        "one votes for b, two for c; a and d are not known to all"
    );

    let mut bench = Bench::new();
    let tickets = [&["b", "c"][..], &["c", "b"]].map(|names| bench.join(with(names)));
    bench.pass(60_000);
    assert_eq!(bench.joined(tickets[0]).protocol.as_deref(), Some("b"), "a tie is the leader's to break");
}

#[test]
fn a_member_with_nothing_in_common_is_turned_away() {
    let (mut bench, ids) = Bench::stable(vec![request("")]);
    let alone = bench.join(JoinRequest { protocols: protocols(&["roundrobin"]), ..request("") });
    assert_eq!(bench.refused(alone).0, GroupError::InconsistentGroupProtocol);
    let other = bench.join(JoinRequest { protocol_type: "connect".into(), ..request("") });
    assert_eq!(bench.refused(other).0, GroupError::InconsistentGroupProtocol);
    assert_eq!(bench.member_ids(), ids);
    assert_eq!(bench.group.state(), GroupState::Stable, "and nobody is disturbed by it");
    let mut empty = Bench::new();
    for nothing in
        [JoinRequest { protocols: vec![], ..request("") }, JoinRequest { protocol_type: "".into(), ..request("") }]
    {
        let ticket = empty.join(nothing);
        assert_eq!(empty.refused(ticket).0, GroupError::InconsistentGroupProtocol);
    }
}

#[test]
fn a_follower_that_joins_unchanged_hears_where_things_stand_a_changed_one_and_the_leader_rebalance() {
    let (mut bench, ids) = Bench::stable(vec![request(""), request("")]);
    let (leader, follower) =
        if bench.group.members.is_leader(&ids[0]) { (&ids[0], &ids[1]) } else { (&ids[1], &ids[0]) };
    let same = bench.join(request(follower));
    assert_eq!(bench.joined(same).generation, 1);
    assert_eq!(bench.group.state(), GroupState::Stable);
    let changed = bench.join(JoinRequest { protocols: protocols(&["sticky", "range"]), ..request(follower) });
    assert!(bench.waits(changed));
    assert_eq!(bench.heartbeat(leader, 1), Err(GroupError::RebalanceInProgress));
    let back = bench.join(request(leader));
    assert_eq!((bench.joined(back).generation, bench.joined(changed).generation), (2, 2));
    // In the middle of it, an unchanged member that lost its answer gets it again.
    let lost = bench.join(request(leader));
    assert_eq!(bench.joined(lost), bench.joined(back));
    bench.settle(&ids);
    let wants_more = bench.join(request(leader));
    assert!(bench.waits(wants_more));
    assert_eq!(bench.group.state(), GroupState::PreparingRebalance);
}

#[test]
fn who_asks_again_before_it_is_answered_is_answered_once_and_the_first_question_is_not_forgotten() {
    let (mut bench, ids) = Bench::stable(vec![request(""), request("")]);
    bench.join(JoinRequest { protocols: protocols(&["range"]), ..request(&ids[0]) });
    let first = bench.join(request(&ids[0]));
    let second = bench.join(request(&ids[0]));
    assert_eq!(bench.refused(first).0, GroupError::RebalanceInProgress);
    let other = bench.join(request(&ids[1]));
    assert_eq!((bench.joined(second).generation, bench.joined(other).generation), (2, 2));
    let follower = ids.iter().find(|id| !bench.group.members.is_leader(id)).unwrap();
    let (first, second) = (bench.sync(follower, 2, &[]), bench.sync(follower, 2, &[]));
    assert_eq!(bench.synced(first), Err(GroupError::RebalanceInProgress));
    assert!(bench.waits(second));
}

#[test]
fn a_full_group_takes_no_more() {
    let (mut bench, ids) = Bench::stable((0..5).map(|_| request("")).collect());
    let sixth = bench.join(request(""));
    assert_eq!(bench.refused(sixth), (GroupError::GroupMaxSizeReached, String::new()));
    assert_eq!(bench.group.state(), GroupState::Stable);
    let known = bench.join(request(&ids[0]));
    assert!(bench.waits(known) || bench.joins[&known].is_ok(), "those inside may join again");

    let mut bench = Bench::new();
    let tickets: Vec<_> = (0..6).map(|_| bench.join(request(""))).collect();
    assert_eq!(bench.refused(tickets[5]).0, GroupError::GroupMaxSizeReached);
    assert!(tickets[..5].iter().all(|ticket| bench.waits(*ticket)));

    let mut bench = Bench::new();
    let careful = JoinRequest { needs_member_id_first: true, ..request("") };
    for _ in 0..5 {
        let ticket = bench.join(careful.clone());
        assert_eq!(bench.refused(ticket).0, GroupError::MemberIdRequired);
    }
    let flood = bench.join(careful);
    assert_eq!(
        bench.refused(flood).0,
        GroupError::GroupMaxSizeReached,
        "ids that nobody comes back with are bounded, too"
    );
}

#[test]
fn what_members_bring_is_bounded() {
    let mut bench = Bench::with(GroupSettings { max_group_metadata_size_bytes: 1_000, ..settings() });
    let brings = |size: usize| vec![Protocol { name: "range".into(), metadata: Bytes::from(vec![7; size]) }];
    let first = bench.join(JoinRequest { protocols: brings(600), ..request("") });
    let second = bench.join(JoinRequest { protocols: brings(400), ..request("") });
    assert_eq!(bench.refused(second).0, GroupError::GroupMaxSizeReached, "the names count, too");
    bench.pass(3_000);
    let id = bench.joined(first).member_id.to_string();
    let grown = bench.join(JoinRequest { protocols: brings(990), ..request(&id) });
    assert_eq!(bench.joined(grown).generation, 2, "what it brought before makes room for what it brings now");
    assert_eq!(bench.group.members.size_bytes(), 995);
    bench.leave(&[&id]);
    assert_eq!(bench.group.size_bytes(), 0);
}

#[test]
fn a_sync_that_takes_the_group_for_another_is_refused() {
    let (mut bench, ids) = Bench::stable(vec![request("")]);
    let ask = |bench: &mut Bench, protocol_type: Option<&str>, protocol: Option<&str>| {
        let ticket = bench.ticket();
        let request = SyncRequest {
            member_id: ids[0].as_str().into(),
            instance_id: None,
            generation: 1,
            protocol_type: protocol_type.map(Arc::from),
            protocol: protocol.map(Arc::from),
            assignments: vec![],
        };
        bench.group.sync(bench.now(), request, ticket);
        bench.collect();
        bench.synced(ticket).map(str::to_owned)
    };
    let expected = Ok(format!("for {}", ids[0]));
    assert_eq!(ask(&mut bench, Some("consumer"), Some("range")), expected);
    assert_eq!(ask(&mut bench, None, None), expected);
    assert_eq!(ask(&mut bench, Some("connect"), None), Err(GroupError::InconsistentGroupProtocol));
    assert_eq!(ask(&mut bench, None, Some("sticky")), Err(GroupError::InconsistentGroupProtocol));
}
