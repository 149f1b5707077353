//! The machine event by event. `Bench` hands out tickets, keeps the answers, and writes records when told to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, VecDeque};

use uuid::Uuid;

use super::*;

mod joining;
mod keeping;
mod model;
mod sessions;
mod static_members;

const WALL: i64 = 1_700_000_000_000;
const SESSION: i32 = 10_000;
const REBALANCE: i32 = 60_000;

struct Bench {
    group: GroupMachine,
    elapsed_ms: i64,
    next: u64,
    joins: BTreeMap<Ticket, Result<Joined, JoinRefused>>,
    syncs: BTreeMap<Ticket, Result<Synced, GroupError>>,
    /// Records on their way to the disk.
    writing: VecDeque<(StoredGroup, Stored)>,
    /// The last that arrived there.
    durable: Option<StoredGroup>,
}

fn settings() -> GroupSettings {
    GroupSettings { max_members: 5, ..GroupSettings::default() }
}

fn protocols(names: &[&str]) -> Vec<Protocol> {
    let protocol =
        |name: &&str| Protocol { name: Arc::from(*name), metadata: Bytes::from(format!("metadata of {name}")) };
    names.iter().map(protocol).collect()
}

fn request(member_id: &str) -> JoinRequest {
    JoinRequest {
        member_id: member_id.into(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/10.0.0.1".into(),
        session_timeout_ms: SESSION,
        rebalance_timeout_ms: REBALANCE,
        protocol_type: "consumer".into(),
        protocols: protocols(&["range", "sticky"]),
        reason: None,
        needs_member_id_first: false,
        can_skip_assignment: true,
    }
}

fn of_instance(instance_id: &str) -> JoinRequest {
    JoinRequest { instance_id: Some(instance_id.into()), ..request("") }
}

impl Bench {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: GroupSettings) -> Self {
        let now = Now { elapsed_ms: 0, wall_ms: WALL };
        Self::of(GroupMachine::new("g".into(), Arc::new(settings), now))
    }

    fn of(group: GroupMachine) -> Self {
        Self {
            group,
            elapsed_ms: 0,
            next: 0,
            joins: BTreeMap::new(),
            syncs: BTreeMap::new(),
            writing: VecDeque::new(),
            durable: None,
        }
    }

    fn now(&self) -> Now {
        Now { elapsed_ms: self.elapsed_ms, wall_ms: WALL + self.elapsed_ms }
    }

    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }

    fn join(&mut self, request: JoinRequest) -> Ticket {
        let ticket = self.ticket();
        let fresh = Uuid::from_u128(u128::from(self.next));
        self.group.join(self.now(), request, fresh, ticket);
        self.collect();
        ticket
    }

    fn sync(&mut self, member_id: &str, generation: i32, assignments: &[(&str, &str)]) -> Ticket {
        let ticket = self.ticket();
        let assignment = |(id, what): &(&str, &str)| (Arc::from(*id), Bytes::from((*what).to_owned()));
        let request = SyncRequest {
            member_id: member_id.into(),
            instance_id: None,
            generation,
            protocol_type: None,
            protocol: None,
            assignments: assignments.iter().map(assignment).collect(),
        };
        self.group.sync(self.now(), request, ticket);
        self.collect();
        ticket
    }

    fn heartbeat(&mut self, member_id: &str, generation: i32) -> Result<(), GroupError> {
        let beat = self.group.heartbeat(self.now(), member_id, None, generation);
        self.collect();
        beat
    }

    fn leave(&mut self, member_ids: &[&str]) -> Vec<Result<(), GroupError>> {
        let leaver = |id: &&str| Leaver { member_id: Arc::from(*id), instance_id: None, reason: None };
        let leavers: Vec<_> = member_ids.iter().map(leaver).collect();
        let left = self.group.leave(self.now(), &leavers).unwrap();
        self.collect();
        left
    }

    /// Lets time pass, and what is due happen when it is.
    fn pass(&mut self, ms: i64) {
        let until = self.elapsed_ms + ms;
        while let Some(at_ms) = self.group.next_deadline_ms().filter(|at| *at <= until) {
            self.elapsed_ms = at_ms.max(self.elapsed_ms);
            self.group.tick(self.now());
            self.collect();
        }
        self.elapsed_ms = until;
    }

    /// What is on its way to the disk arrives there.
    fn write(&mut self) {
        self.end_writes(Ok(()));
    }

    fn end_writes(&mut self, outcome: Result<(), GroupError>) {
        while let Some((state, why)) = self.writing.pop_front() {
            if outcome.is_ok() {
                self.durable = Some(state);
            }
            self.group.stored(self.now(), why, outcome);
            self.collect();
        }
    }

    fn collect(&mut self) {
        for effect in self.group.take_effects() {
            match effect {
                Effect::Joined { ticket, answer } => {
                    assert!(self.joins.insert(ticket, answer).is_none(), "{ticket:?} is answered twice");
                }
                Effect::Synced { ticket, answer } => {
                    assert!(self.syncs.insert(ticket, answer).is_none(), "{ticket:?} is answered twice");
                }
                Effect::Store { state, why } => self.writing.push_back((*state, why)),
            }
        }
    }

    fn joined(&self, ticket: Ticket) -> &Joined {
        self.joins.get(&ticket).expect("an answer").as_ref().expect("joined")
    }

    fn refused(&self, ticket: Ticket) -> (GroupError, String) {
        let refused = self.joins.get(&ticket).expect("an answer").as_ref().expect_err("refused");
        (refused.error, refused.member_id.to_string())
    }

    fn synced(&self, ticket: Ticket) -> Result<&str, GroupError> {
        let synced = self.syncs.get(&ticket).expect("an answer").as_ref();
        synced.map(|s| std::str::from_utf8(&s.assignment).unwrap()).map_err(|error| *error)
    }

    fn waits(&self, ticket: Ticket) -> bool {
        !self.joins.contains_key(&ticket) && !self.syncs.contains_key(&ticket)
    }

    /// A stable group of these requests, all assigned the words "for <id>". Answers with their ids.
    fn stable(requests: Vec<JoinRequest>) -> (Self, Vec<String>) {
        let mut bench = Self::new();
        let tickets: Vec<_> = requests.into_iter().map(|request| bench.join(request)).collect();
        bench.pass(6_000);
        let ids: Vec<String> = tickets.iter().map(|t| bench.joined(*t).member_id.to_string()).collect();
        bench.settle(&ids);
        assert_eq!(bench.group.state(), GroupState::Stable);
        (bench, ids)
    }

    /// All members of the generation sync, the leader with assignments, and it is written.
    fn settle(&mut self, ids: &[String]) {
        let generation = self.group.generation();
        let assignments: Vec<(String, String)> = ids.iter().map(|id| (id.clone(), format!("for {id}"))).collect();
        let assignments: Vec<(&str, &str)> =
            assignments.iter().map(|(id, what)| (id.as_str(), what.as_str())).collect();
        for id in ids {
            let leads = self.group.members.is_leader(id);
            self.sync(id, generation, if leads { &assignments } else { &[] });
        }
        self.write();
    }

    fn member_ids(&self) -> Vec<String> {
        self.group.members.ids().iter().map(ToString::to_string).collect()
    }
}
