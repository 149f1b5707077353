//! Any events in any order, against what must hold of every group. Clients are as careless as they like: they ask twice, with old ids and
//! generations, under each other's instance ids, and the process restarts from what is durable.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const CLIENTS: usize = 5;

#[derive(Debug, Clone)]
enum Step {
    /// With the id it has, or none.
    Join {
        client: usize,
        protocols: usize,
        careful: bool,
        rebalance_timeout_ms: i32,
    },
    /// With the id of another one.
    JoinAs {
        client: usize,
        other: usize,
    },
    Restart {
        client: usize,
    },
    Sync {
        client: usize,
        behind: i32,
    },
    Heartbeat {
        client: usize,
        behind: i32,
    },
    Leave {
        clients: Vec<usize>,
    },
    Pass {
        ms: i64,
    },
    Write,
    FailWrites,
    /// The process ends, and begins with what is durable.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = || 0..CLIENTS;
    // Some clients ask for nonsense.
    let timeout = || prop_oneof![6 => Just(REBALANCE), 1 => Just(0), 1 => Just(-1)];
    let step = prop_oneof![
        6 => (client(), 0..4usize, any::<bool>(), timeout()).prop_map(|(client, protocols, careful, rebalance_timeout_ms)| {
            Step::Join { client, protocols, careful, rebalance_timeout_ms }
        }),
        1 => (client(), client()).prop_map(|(client, other)| Step::JoinAs { client, other }),
        1 => client().prop_map(|client| Step::Restart { client }),
        6 => (client(), prop_oneof![9 => Just(0), 1 => 1..3i32]).prop_map(|(client, behind)| Step::Sync { client, behind }),
        3 => (client(), prop_oneof![9 => Just(0), 1 => 1..3i32]).prop_map(|(client, behind)| Step::Heartbeat { client, behind }),
        1 => prop::collection::vec(client(), 1..3).prop_map(|clients| Step::Leave { clients }),
        4 => prop_oneof![0..4_000i64, Just(10_000), Just(60_000), Just(300_000)].prop_map(|ms| Step::Pass { ms }),
        5 => Just(Step::Write),
        1 => Just(Step::FailWrites),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..120)
}

/// A client, as far as it knows itself. The last two are static.
#[derive(Debug, Clone, Default)]
struct Client {
    id: Option<Arc<str>>,
    generation: i32,
    instance: Option<&'static str>,
    join: Option<Ticket>,
    sync: Option<(Ticket, i32)>,
}

struct World {
    bench: Bench,
    clients: Vec<Client>,
    /// Assignments made so far; each member's share names the one it is from.
    attempts: u32,
    /// Which assignment was handed out in each generation.
    handed_out: BTreeMap<i32, String>,
    /// The protocol that members were told of each generation since the process began.
    told: BTreeMap<i32, Option<Arc<str>>>,
    /// Tickets of this life that are not answered.
    open: BTreeSet<Ticket>,
    last_generation: i32,
}

impl World {
    fn new() -> Self {
        let instances = [None, None, None, Some("one"), Some("two")];
        let clients = instances.into_iter().map(|instance| Client { instance, ..Client::default() }).collect();
        Self {
            bench: Bench::new(),
            clients,
            attempts: 0,
            handed_out: BTreeMap::new(),
            told: BTreeMap::new(),
            open: BTreeSet::new(),
            last_generation: 0,
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Join { client, protocols, careful, rebalance_timeout_ms } => {
                let id = self.clients[client].id.clone().unwrap_or_default();
                self.join(client, id, protocols, careful, rebalance_timeout_ms);
            }
            Step::JoinAs { client, other } => {
                let id = self.clients[other].id.clone().unwrap_or_default();
                self.join(client, id, 0, false, REBALANCE);
            }
            Step::Restart { client } => {
                let instance = self.clients[client].instance;
                self.clients[client] = Client { instance, ..Client::default() };
            }
            Step::Sync { client, behind } => self.sync(client, behind),
            Step::Heartbeat { client, behind } => {
                let Client { id: Some(id), generation, instance, .. } = self.clients[client].clone() else { return };
                let now = self.bench.now();
                let beat = self.bench.group.heartbeat(now, &id, instance, generation - behind);
                if beat.is_ok() {
                    assert_eq!(generation - behind, self.bench.group.generation());
                    assert!(self.bench.group.members.contains(&id));
                }
            }
            Step::Leave { clients } => {
                let leaver = |client: &usize| {
                    let Client { id, instance, .. } = &self.clients[*client];
                    let instance_id = instance.map(Arc::from);
                    Leaver { member_id: id.clone().unwrap_or_default(), instance_id, reason: None }
                };
                let leavers: Vec<_> = clients.iter().map(leaver).collect();
                let now = self.bench.now();
                self.bench.group.leave(now, &leavers).unwrap();
            }
            Step::Pass { ms } => self.bench.pass(ms),
            Step::Write => self.bench.write(),
            Step::FailWrites => self.bench.end_writes(Err(GroupError::CoordinatorNotAvailable)),
            Step::Crash => self.crash(),
        }
        self.bench.collect();
        self.hear();
        self.check();
    }

    fn join(&mut self, client: usize, member_id: Arc<str>, first: usize, careful: bool, rebalance_timeout_ms: i32) {
        let names = ["range", "sticky", "roundrobin", "lag"];
        let protocols = protocols(&[names[first], "range", "sticky"]);
        let request = JoinRequest {
            instance_id: self.clients[client].instance.map(Arc::from),
            protocols,
            needs_member_id_first: careful,
            rebalance_timeout_ms,
            ..request(&member_id)
        };
        let ticket = self.bench.join(request);
        self.open.insert(ticket);
        self.clients[client].join = Some(ticket);
    }

    fn sync(&mut self, client: usize, behind: i32) {
        let Client { id: Some(id), generation, .. } = self.clients[client].clone() else { return };
        let mut assignments = Vec::new();
        if self.bench.group.members.is_leader(&id) {
            self.attempts += 1;
            let share = format!("attempt {}", self.attempts);
            assignments = self.bench.member_ids().into_iter().map(|id| (id, share.clone())).collect();
        }
        let assignments: Vec<(&str, &str)> =
            assignments.iter().map(|(id, share)| (id.as_str(), share.as_str())).collect();
        let ticket = self.bench.sync(&id, generation - behind, &assignments);
        self.open.insert(ticket);
        self.clients[client].sync = Some((ticket, generation - behind));
    }

    /// Clients take in what they were answered.
    fn hear(&mut self) {
        for client in &mut self.clients {
            if let Some(answer) = client.join.and_then(|ticket| self.bench.joins.get(&ticket)) {
                client.join = None;
                match answer {
                    Ok(joined) => {
                        client.id = Some(Arc::clone(&joined.member_id));
                        client.generation = joined.generation;
                        let known = self.told.entry(joined.generation).or_insert_with(|| joined.protocol.clone());
                        assert_eq!(*known, joined.protocol, "generation {} has two protocols", joined.generation);
                    }
                    Err(JoinRefused { error: GroupError::MemberIdRequired, member_id }) => {
                        client.id = Some(Arc::clone(member_id));
                    }
                    Err(JoinRefused { error: GroupError::UnknownMemberId, .. }) => client.id = None,
                    Err(_) => {}
                }
            }
            if let Some((ticket, generation)) = client.sync
                && let Some(answer) = self.bench.syncs.get(&ticket)
            {
                client.sync = None;
                if let Ok(synced) = answer {
                    let share = String::from_utf8(synced.assignment.to_vec()).unwrap();
                    let durable = self.bench.durable.as_ref().expect("handed out before anything was durable");
                    assert!(durable.generation >= generation, "handed out before it was durable");
                    // A member that was not there when the leader assigned has nothing.
                    if !share.is_empty() {
                        let known = self.handed_out.entry(generation).or_insert_with(|| share.clone());
                        assert_eq!(*known, share, "generation {generation} was assigned twice");
                    }
                }
            }
        }
        self.open.retain(|ticket| self.bench.waits(*ticket));
    }

    fn check(&mut self) {
        let group = &self.bench.group;
        assert!(group.generation() >= self.last_generation, "generations go back");
        self.last_generation = group.generation();
        let members: Vec<&Member> = group.members.iter().collect();
        let instances: BTreeSet<_> = members.iter().filter_map(|m| m.instance_id.clone()).collect();
        assert_eq!(instances.len(), members.iter().filter(|m| m.instance_id.is_some()).count());
        for instance in &instances {
            assert!(group.members.contains(group.members.member_of_instance(instance).unwrap()));
        }
        assert_eq!(group.members.leader().is_some(), !members.is_empty());
        assert!(group.members.leader().is_none_or(|id| group.members.contains(id)));
        assert!(group.pending_sync.iter().all(|id| group.members.contains(id)));
        assert!(group.pending.keys().all(|id| !group.members.contains(id)));
        for member in &members {
            assert!(
                member.deadline_ms.is_some() || member.join.is_some() || member.sync.is_some(),
                "{member:?} is for ever"
            );
        }
        match group.state() {
            GroupState::Empty => assert!(members.is_empty()),
            GroupState::PreparingRebalance => assert!(group.join_timer.is_some(), "nothing ends this rebalance"),
            GroupState::CompletingRebalance => {
                assert!(group.protocol.is_some() && !members.is_empty());
                assert!(members.iter().all(|m| m.assignment.is_empty() || group.generation > 0));
            }
            GroupState::Stable => assert!(!members.is_empty() && members.iter().all(|m| m.sync.is_none())),
            GroupState::Dead => panic!("nobody deletes here"),
        }
    }

    fn crash(&mut self) {
        let now = self.bench.now();
        let group = match &self.bench.durable {
            Some(stored) => GroupMachine::restore("g".into(), Arc::new(settings()), stored.clone(), now),
            None => GroupMachine::new("g".into(), Arc::new(settings()), now),
        };
        self.bench.group = group;
        // Connections break: nobody is answered any more.
        self.bench.writing.clear();
        self.open.clear();
        self.told.clear();
        for client in &mut self.clients {
            (client.join, client.sync) = (None, None);
        }
        self.last_generation = self.bench.group.generation();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn whatever_clients_do_nobody_is_forgotten_and_no_generation_is_assigned_twice(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.apply(step);
        }
        // Everyone falls silent: within the longest timeouts all are answered, and gone.
        for _ in 0..4 {
            world.apply(Step::Pass { ms: 400_000 });
            world.apply(Step::Write);
        }
        prop_assert_eq!(world.bench.group.state(), GroupState::Empty);
        prop_assert!(world.open.is_empty(), "never answered: {:?}", world.open);
        prop_assert_eq!(world.bench.group.next_deadline_ms(), None);
    }
}
