//! The process dies at every step of a group's life, with every kind of crash: what was answered is true afterwards.

use super::*;

/// What a client was told before the process died.
#[derive(Debug, Default, Clone)]
struct Told {
    id: Option<String>,
    assigned: Option<(i32, String)>,
    committed: Option<i64>,
    left: bool,
    deleted: bool,
}

/// A life: join, get an assignment, commit twice, join again, commit, leave, delete the group. Ends where the disk does.
fn live(node: &mut Node, told: &mut Told) -> Option<()> {
    let groups = node.groups();
    let id = groups.join("g", join_request("", None)).try_recv().ok()?.unwrap_err().member_id.to_string();
    told.id = Some(id.clone());
    let mut joining = groups.join("g", join_request(&id, None));
    node.pass(3_100);
    let mut generation = joining.try_recv().ok()?.ok()?.generation;
    for round in 0..2 {
        let share = format!("share of {generation}");
        let mut syncing = groups.sync("g", sync_request(&id, generation, &[(&id, &share)]));
        node.write();
        let synced = syncing.try_recv().ok()?.ok()?;
        assert_eq!(synced.assignment, share);
        told.assigned = Some((generation, share));
        for offset in [10 * round + 1, 10 * round + 2] {
            let mut answer = node.commit("g", &id, generation, 0, offset).ok()?;
            node.write();
            answer.try_recv().ok()?.ok()?;
            told.committed = Some(offset);
        }
        if round == 0 {
            generation = groups.join("g", join_request(&id, None)).try_recv().ok()?.ok()?.generation;
        }
    }
    let leaver = Leaver { member_id: id.as_str().into(), instance_id: None, reason: None };
    groups.leave("g", &[leaver]).ok()?;
    node.write();
    told.left = groups.list().first().is_some_and(|g| g.state == GroupState::Empty);
    let mut deleting = groups.hand_over_delete("g").ok()?;
    node.write();
    deleting.try_recv().ok()?.ok()?;
    told.deleted = true;
    Some(())
}

fn check(node: &mut Node, told: &Told, place: &str) {
    let groups = node.groups();
    let found = groups.describe("g");
    if told.deleted {
        assert_eq!(found.state, GroupState::Dead, "{place}: deleted, and back");
        assert_eq!(node.committed("g", 0), None, "{place}");
        return;
    }
    // A deletion that was not answered may have happened.
    let may_be_deleted = told.left;
    if let Some(offset) = told.committed {
        let kept = node.committed("g", 0);
        assert!(
            kept >= Some(offset) || may_be_deleted && kept.is_none(),
            "{place}: {offset} was acknowledged, {kept:?} is kept"
        );
    }
    if let (Some((generation, share)), Some(id), false) = (&told.assigned, &told.id, told.left) {
        // It may have left, or the next generation may be durable, without anyone having been told.
        match groups.heartbeat("g", id, None, *generation) {
            Ok(()) => {
                let mut synced = groups.sync("g", sync_request(id, *generation, &[]));
                assert_eq!(synced.try_recv().unwrap().unwrap().assignment, share.as_bytes(), "{place}");
                let mut answer = node.commit("g", id, *generation, 0, 1_000).unwrap();
                node.write();
                assert_eq!(answer.try_recv().unwrap(), Ok(()), "{place}");
            }
            Err(GroupError::IllegalGeneration) => {
                assert!(
                    found.generation > *generation,
                    "{place}: generation {} is older than {generation}",
                    found.generation
                );
            }
            Err(GroupError::UnknownMemberId) => {
                assert!(found.state == GroupState::Empty && found.generation > *generation, "{place}: thrown out");
            }
            Err(error) => panic!("{place}: {error}"),
        }
    }
    // And whatever it is, the group works.
    let settled = settle_alone_beside(node);
    assert!(settled, "{place}: the group does not settle any more");
}

/// A new member comes; whoever was there does not say a word and goes.
fn settle_alone_beside(node: &mut Node) -> bool {
    let groups = node.groups();
    let id = groups.join("g", join_request("", None)).try_recv().unwrap().unwrap_err().member_id;
    let mut joining = groups.join("g", join_request(&id, None));
    // Those who were there have their rebalance timeout to come, and do not.
    let joined = (0..320).find_map(|_| {
        node.pass(100);
        joining.try_recv().ok()
    });
    let Some(Ok(joined)) = joined else { return false };
    let mut synced = groups.sync("g", sync_request(&id, joined.generation, &[(&id, "all")]));
    node.write();
    matches!(synced.try_recv(), Ok(Ok(synced)) if synced.assignment == "all")
}

#[test]
fn dying_at_any_step_keeps_what_was_told() {
    let mut steps = 0;
    loop {
        let mut whole = false;
        for crash in [Crash::Kill, Crash::LoseUnsynced, Crash::Tear(steps)] {
            let mut node = Node::new();
            node.fs.die_after(steps);
            let mut told = Told::default();
            whole = live(&mut node, &mut told).is_some();
            node.restart(crash);
            check(&mut node, &told, &format!("step {steps}, {crash:?}, told {told:?}"));
        }
        if whole {
            break;
        }
        steps += 1;
    }
    assert!(steps > 10, "only {steps} steps");
}

#[test]
fn a_failed_sync_stops_commits_and_a_restart_mends_it() {
    let mut node = Node::new();
    let (id, generation) = settle_alone(&mut node, "g");
    node.fs.fail_next_sync("journal");
    let mut answer = node.commit("g", &id, generation, 0, 1).unwrap();
    node.write();
    assert_eq!(answer.try_recv().unwrap(), Err(GroupError::CoordinatorNotAvailable));
    let mut answer = node.commit("g", &id, generation, 0, 2).unwrap();
    node.write();
    assert_eq!(answer.try_recv().unwrap(), Err(GroupError::CoordinatorNotAvailable), "nobody knows what the disk has");
    assert_eq!(node.committed("g", 0), None);
    node.restart(Crash::LoseUnsynced);
    assert_eq!(node.groups().heartbeat("g", &id, None, generation), Ok(()), "the client goes on where it was");
    let mut answer = node.commit("g", &id, generation, 0, 3).unwrap();
    node.write();
    assert_eq!(answer.try_recv().unwrap(), Ok(()));
}
