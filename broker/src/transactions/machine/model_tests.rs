//! The machine against a model that knows no epochs: only which run holds a transactional id, and what became of its transaction.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::coordinator::{Committed, CommittedOffset};

const RUNS: usize = 4;
const IDS: [&str; 2] = ["a", "b"];
const SETTINGS: TransactionSettings = TransactionSettings { max_timeout_ms: 100, id_expiration_ms: 1000, max_ids: 10 };
const TIMEOUT_MS: i32 = 100;

#[derive(Debug, Clone)]
enum Op {
    /// A run takes the id, or goes on from what it has.
    Init {
        id: usize,
        run: usize,
        goes_on: bool,
    },
    Add {
        id: usize,
        run: usize,
        partition: i32,
    },
    Offset {
        id: usize,
        run: usize,
        offset: i64,
    },
    End {
        id: usize,
        run: usize,
        commit: bool,
    },
    Complete {
        id: usize,
    },
    Wait {
        ms: i64,
    },
    Restart,
    Anonymous,
}

fn op() -> impl Strategy<Value = Op> {
    let (id, run) = (0..IDS.len(), 0..RUNS);
    prop_oneof![
        3 => (id.clone(), run.clone(), any::<bool>()).prop_map(|(id, run, goes_on)| Op::Init { id, run, goes_on }),
        5 => (id.clone(), run.clone(), 0..3).prop_map(|(id, run, partition)| Op::Add { id, run, partition }),
        3 => (id.clone(), run.clone(), 0..100i64).prop_map(|(id, run, offset)| Op::Offset { id, run, offset }),
        4 => (id.clone(), run, any::<bool>()).prop_map(|(id, run, commit)| Op::End { id, run, commit }),
        4 => id.prop_map(|id| Op::Complete { id }),
        2 => prop_oneof![4 => 0..60i64, 1 => Just(1000i64)].prop_map(|ms| Op::Wait { ms }),
        1 => Just(Op::Restart),
        1 => Just(Op::Anonymous),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Nothing,
    Open,
    Ending(bool),
    Ended(bool),
}

/// What the model knows of an id.
#[derive(Debug, Clone)]
struct Known {
    /// `None` where it was fenced.
    holder: Option<usize>,
    /// The holder asked for another epoch amid its transaction and has not got it yet.
    renews: bool,
    stage: Stage,
    started_ms: i64,
    updated_ms: i64,
    partitions: BTreeSet<i32>,
    pending: Option<i64>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Done,
    Again,
    Refused,
}

struct Model {
    known: [Option<Known>; 2],
    committed: [Option<i64>; 2],
    now_ms: i64,
}

impl Model {
    fn init(&mut self, id: usize, run: usize, goes_on: bool) -> Verdict {
        let now_ms = self.now_ms;
        let fresh = Known {
            holder: Some(run),
            renews: false,
            stage: Stage::Nothing,
            started_ms: 0,
            updated_ms: now_ms,
            partitions: BTreeSet::new(),
            pending: None,
        };
        let Some(known) = &mut self.known[id] else {
            self.known[id] = Some(fresh);
            return Verdict::Done;
        };
        if goes_on && known.holder != Some(run) {
            return Verdict::Refused;
        }
        match known.stage {
            Stage::Open => {
                known.stage = Stage::Ending(false);
                known.pending = None;
                known.updated_ms = now_ms;
                known.renews = goes_on;
                if !goes_on {
                    known.holder = None;
                }
                Verdict::Again
            }
            Stage::Ending(_) => Verdict::Again,
            Stage::Nothing | Stage::Ended(_) => {
                self.known[id] = Some(fresh);
                Verdict::Done
            }
        }
    }

    /// The id, where this run is in charge of it.
    fn held(&mut self, id: usize, run: usize) -> Option<&mut Known> {
        self.known[id].as_mut().filter(|known| known.holder == Some(run) && !known.renews)
    }

    fn add(&mut self, id: usize, run: usize, partition: i32) -> Verdict {
        let now_ms = self.now_ms;
        let Some(known) = self.held(id, run) else { return Verdict::Refused };
        match known.stage {
            Stage::Ending(_) => return Verdict::Again,
            Stage::Open => {}
            Stage::Nothing | Stage::Ended(_) => {
                known.started_ms = now_ms;
                known.partitions.clear();
            }
        }
        known.stage = Stage::Open;
        known.partitions.insert(partition);
        Verdict::Done
    }

    fn end(&mut self, id: usize, run: usize, commit: bool) -> Verdict {
        let now_ms = self.now_ms;
        let Some(known) = self.held(id, run) else { return Verdict::Refused };
        match known.stage {
            Stage::Open => {
                known.stage = Stage::Ending(commit);
                known.updated_ms = now_ms;
                let pending = known.pending.take();
                if commit && pending.is_some() {
                    self.committed[id] = pending;
                }
                Verdict::Done
            }
            Stage::Ending(outcome) if outcome == commit => Verdict::Again,
            Stage::Ended(outcome) if outcome == commit => Verdict::Done,
            Stage::Nothing | Stage::Ending(_) | Stage::Ended(_) => Verdict::Refused,
        }
    }

    fn tick(&mut self) {
        for slot in &mut self.known {
            let Some(known) = slot else { continue };
            match known.stage {
                Stage::Open if self.now_ms >= known.started_ms + i64::from(TIMEOUT_MS) => {
                    known.stage = Stage::Ending(false);
                    known.holder = None;
                    known.pending = None;
                    known.updated_ms = self.now_ms;
                }
                Stage::Nothing | Stage::Ended(_) if self.now_ms >= known.updated_ms + SETTINGS.id_expiration_ms => {
                    *slot = None;
                }
                _ => {}
            }
        }
    }
}

/// The machine with its journal.
struct Subject {
    machine: TransactionMachine,
    journal: Vec<TransactionEntry>,
    committed: [Option<i64>; 2],
}

impl Subject {
    fn run<T>(&mut self, decide: impl FnOnce(&mut TransactionMachine) -> Step<T>) -> (Verdict, Option<T>) {
        let step = decide(&mut self.machine);
        for entry in step.entries {
            self.journal.push(entry.clone());
            let mut table = self.machine.table().clone();
            for (group, offsets) in table.apply(entry.clone()) {
                let id = IDS.iter().position(|id| **id == *group).unwrap();
                self.committed[id] = offsets.values().map(|offset| offset.committed.offset).next();
            }
            self.machine.apply(entry);
        }
        match step.answer {
            Ok(answer) => (Verdict::Done, Some(answer)),
            Err(TransactionError::ConcurrentTransactions { .. }) => (Verdict::Again, None),
            Err(_) => (Verdict::Refused, None),
        }
    }

    fn restart(&mut self) {
        let mut table = TransactionTable::default();
        self.journal.iter().for_each(|entry| drop(table.apply(entry.clone())));
        assert_eq!(&table, self.machine.table(), "a restart knows what there was");
        let mut rewritten = TransactionTable::default();
        table.entries().for_each(|entry| drop(rewritten.apply(entry)));
        assert_eq!(rewritten, table, "and so does a journal that was written anew");
        self.machine = TransactionMachine::new(table, SETTINGS);
    }
}

fn offsets(offset: i64) -> PendingOffsets {
    let committed =
        Committed { offset, leader_epoch: -1, metadata: String::new(), committed_at_ms: None, expires_at_ms: None };
    let topic: Arc<str> = Arc::from("in");
    let whole = CommittedOffset { topic: Arc::clone(&topic), topic_id: Uuid::nil(), partition: 0, committed };
    PendingOffsets::from([((topic, 0), whole)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_machine_does_what_the_model_says(ops in prop::collection::vec(op(), 1..120)) {
        let mut model = Model { known: [None, None], committed: [None, None], now_ms: 1_000_000 };
        let machine = TransactionMachine::new(TransactionTable::default(), SETTINGS);
        let mut subject = Subject { machine, journal: Vec::new(), committed: [None, None] };
        // What each run was given, per id; a run that was given nothing names something that never was.
        let mut given = [[None::<Producer>; RUNS]; IDS.len()];
        let mut seen = BTreeSet::new();
        let nobody = Producer { id: 1 << 40, epoch: 0 };
        for op in ops {
            let now_ms = model.now_ms;
            match op {
                Op::Init { id, run, goes_on } => {
                    let current = goes_on.then(|| given[id][run].unwrap_or(nobody));
                    let expected = model.init(id, run, goes_on);
                    let key = Arc::from(IDS[id]);
                    let (verdict, producer) =
                        subject.run(|m| m.init_producer(Some(&key), TIMEOUT_MS, current, now_ms));
                    prop_assert_eq!(verdict, expected);
                    if let Some(producer) = producer {
                        prop_assert!(seen.insert(producer), "{producer:?} was given out twice");
                        given[id][run] = Some(producer);
                    }
                }
                Op::Add { id, run, partition } => {
                    let producer = given[id][run].unwrap_or(nobody);
                    let key = Arc::from(IDS[id]);
                    let partitions = Partitions::from([(Arc::from("out"), [partition].into())]);
                    let (verdict, _) = subject.run(|m| m.add_partitions(&key, producer, partitions, now_ms));
                    let before = model.known[id].clone();
                    prop_assert_eq!(&verdict, &model.add(id, run, partition));
                    if let (Verdict::Done, Some(known)) = (verdict, &mut model.known[id]) {
                        let more = before.is_none_or(|b| b.stage != Stage::Open || !b.partitions.contains(&partition));
                        if more {
                            known.updated_ms = now_ms;
                        }
                    }
                }
                Op::Offset { id, run, offset } => {
                    let producer = given[id][run].unwrap_or(nobody);
                    let (key, group) = (Arc::from(IDS[id]), Arc::from(IDS[id]));
                    let (added, _) = subject.run(|m| m.add_group(&key, producer, &group, now_ms));
                    let held = model.held(id, run).map(|known| known.stage);
                    let expected = match held {
                        None => Verdict::Refused,
                        Some(Stage::Ending(_)) => Verdict::Again,
                        Some(_) => Verdict::Done,
                    };
                    prop_assert_eq!(&added, &expected);
                    let (verdict, _) = subject.run(|m| m.add_offsets(&key, producer, &group, offsets(offset), now_ms));
                    prop_assert_eq!(&verdict, &expected);
                    if let (Verdict::Done, Some(known)) = (verdict, &mut model.known[id]) {
                        if known.stage != Stage::Open {
                            known.started_ms = now_ms;
                            known.partitions.clear();
                        }
                        known.stage = Stage::Open;
                        known.pending = Some(offset);
                        known.updated_ms = now_ms;
                    }
                }
                Op::End { id, run, commit } => {
                    let producer = given[id][run].unwrap_or(nobody);
                    let key = Arc::from(IDS[id]);
                    let (verdict, _) = subject.run(|m| m.end(&key, producer, commit, now_ms));
                    prop_assert_eq!(verdict, model.end(id, run, commit));
                }
                Op::Complete { id } => {
                    let producer = subject.machine.table().get(IDS[id]).map_or(nobody, |t| t.producer);
                    let key = Arc::from(IDS[id]);
                    subject.run(|m| m.complete(&key, producer, now_ms));
                    if let Some(known) = &mut model.known[id] && let Stage::Ending(outcome) = known.stage {
                        known.stage = Stage::Ended(outcome);
                        known.updated_ms = now_ms;
                        known.partitions.clear();
                    }
                }
                Op::Wait { ms } => {
                    model.now_ms += ms;
                    let now_ms = model.now_ms;
                    model.tick();
                    subject.run(|m| m.tick(now_ms, now_ms));
                }
                Op::Restart => subject.restart(),
                Op::Anonymous => {
                    let (_, producer) = subject.run(|m| m.init_producer(None, 0, None, now_ms));
                    prop_assert!(seen.insert(producer.unwrap()), "{producer:?} was given out twice");
                }
            }
            prop_assert_eq!(subject.committed, model.committed, "offsets count when, and only when, their transaction commits");
            let table = subject.machine.table();
            for (id, key) in IDS.iter().enumerate() {
                let stage = model.known[id].as_ref().map(|known| known.stage);
                let phase = table.get(key).map(|transaction| transaction.phase);
                let expected = stage.map(|stage| match stage {
                    Stage::Nothing => Phase::Empty,
                    Stage::Open => Phase::Ongoing,
                    Stage::Ending(true) => Phase::PrepareCommit,
                    Stage::Ending(false) => Phase::PrepareAbort,
                    Stage::Ended(true) => Phase::CompleteCommit,
                    Stage::Ended(false) => Phase::CompleteAbort,
                });
                prop_assert_eq!(phase, expected);
                let pending = model.known[id].as_ref().is_some_and(|known| known.pending.is_some());
                prop_assert_eq!(!table.pending(key).is_empty(), pending);
                for (run, producer) in given[id].iter().enumerate() {
                    let Some(producer) = *producer else { continue };
                    for partition in 0..3 {
                        let open = model.known[id].as_ref().is_some_and(|known| {
                            known.holder == Some(run) && known.stage == Stage::Open && known.partitions.contains(&partition)
                        });
                        prop_assert_eq!(table.is_open(producer, "out", partition), open, "run {} partition {}", run, partition);
                    }
                }
            }
        }
    }
}
