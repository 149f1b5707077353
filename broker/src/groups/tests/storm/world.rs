//! The broker, the members, the weather, and what must hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::{Node, TOPIC};
use super::member::{Answer, GROUP, Member, News, Phase, Request};
use super::{MEMBERS, PARTITIONS, Random};
use crate::fs::Crash;
use crate::groups::{CommitRequest, OffsetToCommit};

const STEP_MS: i64 = 250;

pub(super) struct World {
    random: Random,
    node: Node,
    members: Vec<Member>,
    now: i64,
    /// How many processes there ever were, for their names.
    started: usize,
    /// Owner of a partition in a generation.
    owners: BTreeMap<(i32, i32), String>,
    /// What is acknowledged per partition.
    acknowledged: BTreeMap<i32, i64>,
    /// Offset and generation that a reader saw last per partition.
    seen: BTreeMap<i32, (i64, i32)>,
    /// Commits that took another way than the rest of their connection, and when they arrive.
    late: Vec<(i64, CommitRequest)>,
    /// How many of them arrived after their generation.
    pub(super) late_arrived: usize,
    commits: usize,
    rebalances: i32,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut world = Self {
            random: Random::new(seed),
            node: Node::new(),
            members: Vec::new(),
            now: 0,
            started: 0,
            owners: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            seen: BTreeMap::new(),
            late: Vec::new(),
            late_arrived: 0,
            commits: 0,
            rebalances: 0,
        };
        for _ in 0..MEMBERS / 2 {
            world.start_member();
        }
        world
    }

    /// Bad weather for so long.
    pub(super) fn storm(&mut self, ms: i64) {
        let until = self.now + ms;
        while self.now < until {
            self.weather();
            self.step(true);
        }
        assert!(self.commits > 10, "nobody got anything done: {} commits", self.commits);
        assert!(self.rebalances > 5, "what storm? {} generations", self.rebalances);
    }

    /// Good weather until everything has settled, which it has to in the time of a session, a rebalance and a restart.
    pub(super) fn calm(&mut self) {
        for member in &mut self.members {
            member.paused_until = 0;
        }
        if self.members.iter().all(|member| member.phase == Phase::Gone) {
            self.start_member();
        }
        let until = self.now + 120_000;
        while self.now < until {
            self.step(false);
        }
        let generation = self.node.groups().describe(GROUP).generation;
        let state = self.node.groups().describe(GROUP).state;
        assert_eq!(state, crate::GroupState::Stable);
        let alive: Vec<&Member> = self.members.iter().filter(|m| m.phase != Phase::Gone).collect();
        let mut owned: Vec<i32> = alive.iter().flat_map(|m| m.owned.keys().copied()).collect();
        owned.sort_unstable();
        assert_eq!(owned, (0..PARTITIONS).collect::<Vec<_>>(), "every partition has one owner");
        for member in &alive {
            assert_eq!((member.phase, member.generation), (Phase::Working, generation), "{}", member.name);
        }
        let members = self.node.groups().describe(GROUP).members.len();
        assert_eq!(members, alive.len(), "the group has members that are gone, or lacks some that live");
        let before = self.seen.clone();
        for _ in 0..200 {
            self.step(false);
        }
        for (partition, (offset, _)) in before {
            assert!(self.seen[&partition].0 > offset, "nobody makes progress in {partition}");
        }
    }

    fn weather(&mut self) {
        let now = self.now;
        if self.random.once_in(8) && self.alive() < MEMBERS {
            self.start_member();
        }
        let index = self.random.below(self.members.len() as i64) as usize;
        let what = self.random.below(90);
        let pause = 1_000 + self.random.below(25_000);
        let delay = self.random.below(500);
        let member = &mut self.members[index];
        match what {
            0..=4 => member.leave(now, delay),
            5..=7 => member.phase = Phase::Gone,
            // SIGSTOP, for up to two and a half sessions. What it is about to send when it wakes is of the old generation.
            8..=13 if member.phase == Phase::Working => {
                member.paused_until = now + pause;
                member.commit(now, pause);
            }
            14..=15 => member.disconnect(),
            16 | 17 => {
                // A static process is restarted: the new one has its instance id, and the old one may not know that it is dead.
                if let Some(instance) = member.instance.clone() {
                    member.paused_until = now + pause;
                    self.started += 1;
                    self.members.push(Member::new(format!("member {}", self.started), Some(instance)));
                }
            }
            18 => self.crash(),
            19..=29 if member.phase == Phase::Working => {
                let (id, generation, offsets) = (Arc::clone(&member.id), member.generation, member.owned.clone());
                let request = self.commit_of(index, &id, generation, &offsets);
                self.late.push((now + pause, request));
            }
            _ => {}
        }
        self.members.retain(|member| member.phase != Phase::Gone || member.paused_until > now);
    }

    fn alive(&self) -> usize {
        self.members.iter().filter(|member| member.phase != Phase::Gone).count()
    }

    fn start_member(&mut self) {
        self.started += 1;
        let name = format!("member {}", self.started);
        // A third are static.
        let instance = self.started.is_multiple_of(3).then(|| format!("instance {}", self.started));
        self.members.push(Member::new(name, instance));
    }

    fn crash(&mut self) {
        let crash = match self.random.below(3) {
            0 => Crash::Kill,
            1 => Crash::LoseUnsynced,
            _ => Crash::Tear(self.random.next()),
        };
        self.node.restart(crash);
        for member in &mut self.members {
            member.disconnect();
        }
        for (partition, offset) in self.acknowledged.clone() {
            let kept = self.node.committed(GROUP, partition);
            assert!(
                kept >= Some(offset),
                "partition {partition}: {offset} was acknowledged, {kept:?} is kept after {crash:?}"
            );
        }
        // What was seen may have been taken back only where nobody was told; nothing is visible before it is durable.
        self.look();
    }

    fn step(&mut self, stormy: bool) {
        self.now += STEP_MS;
        self.node.clock.advance_ms(STEP_MS);
        self.node.groups().tick();
        self.deliver_late();
        for index in 0..self.members.len() {
            self.deliver(index);
            let delay = if stormy { self.random.below(1_000) } else { 10 };
            let commit = self.random.once_in(8);
            let work = self.random.once_in(2);
            let now = self.now;
            if let Some(news) = self.members[index].act(now, delay, work, commit) {
                self.learn(index, news);
            }
            // The journal may lag behind.
            if !stormy || self.random.once_in(3) {
                self.node.write();
                self.look();
            }
        }
    }

    fn deliver(&mut self, index: usize) {
        let groups = self.node.groups();
        let member = &mut self.members[index];
        let Some(request) = member.arrived(self.now) else { return };
        let answer = match &request {
            Request::Join { .. } => Answer::Join(groups.join(GROUP, member.request_of(&request).unwrap())),
            Request::Sync { generation, .. } => {
                Answer::Sync(*generation, groups.sync(GROUP, member.sync_of(&request).unwrap()))
            }
            Request::Heartbeat { id, generation } => {
                Answer::Heartbeat(groups.heartbeat(GROUP, id, member.instance.as_deref(), *generation))
            }
            Request::Leave { id } => {
                groups.leave(GROUP, &[member.leaver(id)]).unwrap();
                Answer::Nothing
            }
            Request::Commit { id, generation, offsets } => {
                let request = self.commit_of(index, id, *generation, offsets);
                Answer::Commit(offsets.clone(), groups.hand_over(GROUP, request))
            }
        };
        self.members[index].answered(answer);
    }

    fn commit_of(&self, index: usize, id: &Arc<str>, generation: i32, offsets: &BTreeMap<i32, i64>) -> CommitRequest {
        let topic_id = self.node.topic_id(TOPIC);
        let offset = |(partition, offset): (&i32, &i64)| OffsetToCommit {
            topic: TOPIC.into(),
            topic_id,
            partition: *partition,
            offset: *offset,
            leader_epoch: 0,
            metadata: generation.to_string(),
        };
        CommitRequest {
            member_id: id.to_string(),
            instance_id: self.members[index].instance.clone(),
            generation,
            retention_ms: None,
            offsets: offsets.iter().map(offset).collect(),
        }
    }

    /// Commits that were long under way arrive. Within its generation a member's own late commit may replace a later one of its own, as with
    /// any Kafka; what is looked for here is one that outlived its generation.
    fn deliver_late(&mut self) {
        let now = self.now;
        let arrived: Vec<_> = self.late.extract_if(.., |(at, _)| *at <= now).collect();
        let generation = self.node.groups().describe(GROUP).generation;
        for (_, request) in arrived.into_iter().filter(|(_, request)| request.generation != generation) {
            self.late_arrived += 1;
            // Refused or not: if it lands, a reader sees it.
            drop(self.node.groups().hand_over(GROUP, request));
        }
    }

    fn learn(&mut self, index: usize, news: News) {
        match news {
            News::Owns { generation, partitions } => {
                self.rebalances = self.rebalances.max(generation);
                let owner = self.members[index].owner();
                for partition in partitions {
                    let known = self.owners.entry((generation, partition)).or_insert_with(|| owner.clone());
                    assert_eq!(*known, owner, "partition {partition} has two owners in generation {generation}");
                    let from = self.node.committed(GROUP, partition).unwrap_or(0);
                    self.members[index].owned.insert(partition, from);
                }
            }
            News::Committed { offsets } => {
                self.commits += 1;
                for (partition, offset) in offsets {
                    let known = self.acknowledged.entry(partition).or_insert(offset);
                    *known = offset.max(*known);
                }
            }
        }
    }

    /// What a reader of the committed offsets sees never goes back.
    fn look(&mut self) {
        for offset in self.node.groups().fetch_all(GROUP) {
            let generation: i32 = offset.metadata.parse().unwrap();
            let seen = (offset.offset, generation);
            let (last_offset, last_generation) = *self.seen.get(&offset.partition).unwrap_or(&seen);
            assert!(
                seen.0 >= last_offset && generation >= last_generation,
                "partition {}: {} of generation {generation} after {last_offset} of generation {last_generation}",
                offset.partition,
                seen.0
            );
            self.seen.insert(offset.partition, seen);
        }
    }
}
