//! Seeded histories of transactional producers over a broker that dies, again and again, at any step. What a seed does it does each time.
//!
//! Two applications, each with two processes that do not know of each other and take the transactional id from each other. They write to
//! several partitions, hand in offsets, commit, abort, give up half way, and have requests that arrive late. In between the disk forgets what was not synced, or is full for a
//! while, and the clock is set. At the end nothing more goes wrong, time passes, and it is looked at what there is:
//!
//! - what a transaction wrote is seen in all its partitions or in none, each record once; all of it where the commit was acknowledged, none
//!   where it was not asked for;
//! - its offsets count where, and only where, it was committed;
//! - nobody wrote after being fenced;
//! - no transaction is left open.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::yield_now;
use uuid::Uuid;

use super::machine::PendingOffsets;
use super::testing::{NOW, TestClock, batch, committed_values, name};
use super::{Producer, TransactionError, Transactions};
use crate::broker::{Broker, Stepper};
use crate::coordinator::{Committed, CommittedOffset};
use crate::fs::{Crash, SimFs};
use crate::topic_config::TopicConfig;
use crate::{BrokerConfig, Clock};

const APPS: [&str; 2] = ["app-0", "app-1"];
const PARTITIONS: [(&str, i32); 3] = [("x", 0), ("x", 1), ("y", 0)];
const TIMEOUT_MS: i32 = 3_000;
const LIVES: usize = 4;

/// Splitmix64: enough chance for a test, the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Nobody asked for a commit.
    NotAsked,
    /// Asked for, and not answered.
    Asked,
    Committed,
}

/// What a transaction is known to have done.
#[derive(Debug)]
struct Told {
    app: usize,
    /// Acknowledged records, by value.
    wrote: Vec<(usize, String)>,
    /// Acknowledged offset.
    offset: Option<i64>,
    outcome: Outcome,
}

/// What clients were told, over all lives.
#[derive(Default)]
struct Ledger {
    transactions: Vec<Told>,
    /// The last producer that was given to each application.
    in_charge: BTreeMap<usize, Producer>,
    violations: Vec<String>,
    committed: usize,
    fenced: usize,
}

struct Life {
    broker: Arc<Broker>,
    transactions: Arc<Transactions>,
    clock: Arc<TestClock>,
    ledger: Arc<Mutex<Ledger>>,
}

/// A process of an application: takes the id, does some transactions, and does it again. Ends when the broker does.
async fn process(life: Arc<Life>, app: usize, seed: u64) {
    let mut random = Random(seed);
    loop {
        pause(&life, &mut random, 400).await;
        let mut current = None;
        for _ in 0..1 + random.below(3) {
            let Some(mut producer) = begin(&life, app, current, &mut random).await else { break };
            let mut sequences = [0; PARTITIONS.len()];
            for _ in 0..1 + random.below(4) {
                match transaction(&life, app, producer, &mut sequences, &mut random).await {
                    Ok(()) => {}
                    Err(Stop::Renew) => break,
                    Err(Stop::Fenced) => {
                        life.ledger.lock().fenced += 1;
                        producer.epoch = -1;
                        break;
                    }
                }
            }
            // Fenced: only a new start helps.
            current = (producer.epoch >= 0).then_some(producer);
        }
    }
}

enum Stop {
    /// Something failed: what is open is left, or aborted by going on with the next epoch.
    Renew,
    Fenced,
}

async fn pause(life: &Life, random: &mut Random, up_to_ms: u64) {
    life.clock.sleep(Duration::from_millis(random.below(up_to_ms))).await;
}

async fn begin(life: &Life, app: usize, current: Option<Producer>, random: &mut Random) -> Option<Producer> {
    for _ in 0..50 {
        match life.transactions.init_producer(Some(APPS[app]), TIMEOUT_MS, current).await {
            Ok(producer) => {
                life.ledger.lock().in_charge.insert(app, producer);
                return Some(producer);
            }
            Err(TransactionError::ConcurrentTransactions { .. }) => pause(life, random, 60).await,
            Err(_) => {
                pause(life, random, 200).await;
                return None;
            }
        }
    }
    None
}

async fn transaction(
    life: &Arc<Life>,
    app: usize,
    producer: Producer,
    sequences: &mut [i32; 3],
    random: &mut Random,
) -> Result<(), Stop> {
    let id = APPS[app];
    let number = {
        let mut ledger = life.ledger.lock();
        let told = Told { app, wrote: Vec::new(), offset: None, outcome: Outcome::NotAsked };
        ledger.transactions.push(told);
        ledger.transactions.len() - 1
    };
    for step in 0..1 + random.below(4) {
        let at = random.below(PARTITIONS.len() as u64) as usize;
        let (topic, partition) = PARTITIONS[at];
        patiently(life, random, || life.transactions.add_partitions(id, producer, vec![(name(topic), partition)]))
            .await?;
        if random.one_in(12) {
            // A pause long enough for the transaction to be aborted, or for another process to take over.
            pause(life, random, 2 * TIMEOUT_MS as u64).await;
        }
        if random.one_in(15) {
            // A request that is held up somewhere, while its sender gives up and aborts. It must not open the transaction again.
            let late = batch(producer, sequences[at], &[format!("{number}/late/0")]);
            let (life, wait_ms) = (Arc::clone(life), random.below(300));
            tokio::spawn({
                let life = Arc::clone(&life);
                async move {
                    life.clock.sleep(Duration::from_millis(wait_ms)).await;
                    drop(life.broker.produce(topic, partition, late).await);
                }
            });
            patiently(&life, random, || life.transactions.end(id, producer, false)).await?;
            return Err(Stop::Renew);
        }
        let values: Vec<String> = (0..1 + random.below(3)).map(|i| format!("{number}/{step}/{i}")).collect();
        let in_charge = life.ledger.lock().in_charge.get(&app).copied();
        let written = life.broker.produce(topic, partition, batch(producer, sequences[at], &values)).await;
        let Ok(_) = written else { return Err(Stop::Renew) };
        sequences[at] += values.len() as i32;
        let mut ledger = life.ledger.lock();
        if in_charge != Some(producer) {
            ledger.violations.push(format!("{id}: {producer:?} wrote while {in_charge:?} was in charge"));
        }
        ledger.transactions[number].wrote.extend(values.into_iter().map(|value| (at, value)));
    }
    if random.one_in(2) {
        patiently(life, random, || life.transactions.add_group(id, producer, id)).await?;
        let offsets = pending(life, number as i64);
        patiently(life, random, || life.transactions.add_offsets(id, producer, id, offsets.clone())).await?;
        life.ledger.lock().transactions[number].offset = Some(number as i64);
    }
    if random.one_in(10) {
        return Err(Stop::Renew);
    }
    let commit = !random.one_in(4);
    if commit {
        life.ledger.lock().transactions[number].outcome = Outcome::Asked;
    }
    patiently(life, random, || life.transactions.end(id, producer, commit)).await?;
    if commit {
        let mut ledger = life.ledger.lock();
        ledger.transactions[number].outcome = Outcome::Committed;
        ledger.committed += 1;
    }
    Ok(())
}

/// Asks again while it is told to.
async fn patiently<F: Future<Output = Result<(), TransactionError>>>(
    life: &Life,
    random: &mut Random,
    ask: impl Fn() -> F,
) -> Result<(), Stop> {
    for _ in 0..30 {
        match ask().await {
            Ok(()) => return Ok(()),
            Err(TransactionError::ConcurrentTransactions { .. }) => pause(life, random, 40).await,
            Err(TransactionError::ProducerFenced { .. } | TransactionError::InvalidProducerIdMapping { .. }) => {
                return Err(Stop::Fenced);
            }
            Err(_) => return Err(Stop::Renew),
        }
    }
    Err(Stop::Renew)
}

fn pending(life: &Life, offset: i64) -> PendingOffsets {
    let (topic, topic_id) = life.broker.topic_id_of("in", 0).unwrap();
    let metadata = String::new();
    let committed = Committed { offset, leader_epoch: -1, metadata, committed_at_ms: Some(NOW), expires_at_ms: None };
    let key = (Arc::clone(&topic), 0);
    PendingOffsets::from([(key, CommittedOffset { topic, topic_id, partition: 0, committed })])
}

struct World {
    fs: SimFs,
    clock: Arc<TestClock>,
    ledger: Arc<Mutex<Ledger>>,
    random: Random,
    ids: Arc<AtomicU64>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            fs: SimFs::new(),
            clock: Arc::default(),
            ledger: Arc::default(),
            random: Random(seed),
            ids: Arc::default(),
        }
    }

    /// `None` where the disk dies on the way.
    fn open(&self) -> Option<(Arc<Life>, Stepper)> {
        let config = BrokerConfig { segment_size_bytes: 64 << 10, writer_threads: 2, ..BrokerConfig::new("/data") };
        let (fs, clock) = (Arc::new(self.fs.clone()), Arc::clone(&self.clock) as Arc<dyn Clock>);
        let ids = Arc::clone(&self.ids);
        let new_id = move || Uuid::from_u128(u128::from(ids.fetch_add(1, Ordering::Relaxed)) + 1);
        let (broker, stepper) = Broker::open_stepped(config, fs, clock, new_id).ok()?;
        let broker = Arc::new(broker);
        let transactions = Transactions::start(Arc::clone(&broker));
        let (clock, ledger) = (Arc::clone(&self.clock), Arc::clone(&self.ledger));
        Some((Arc::new(Life { broker, transactions, clock, ledger }), stepper))
    }

    /// Lets everybody run, and does one thing that is nobody's: a step of a thread, or time.
    async fn step(&mut self, stepper: &mut Stepper) {
        for _ in 0..self.random.below(6) {
            yield_now().await;
        }
        match self.random.below(8) {
            0..=2 => stepper.step_committer(),
            3..=5 => stepper.step_writer(self.random.below(2) as usize),
            _ => self.clock.advance_ms(self.random.below(60) as i64),
        }
    }

    async fn live(&mut self, steps: u64) {
        let Some((life, mut stepper)) = self.open() else { return };
        for (app, _) in APPS.iter().enumerate() {
            for _ in 0..2 {
                tokio::spawn(process(Arc::clone(&life), app, self.random.next()));
            }
        }
        for _ in 0..steps {
            self.step(&mut stepper).await;
            if self.random.one_in(600) {
                let day_ms = 24 * 60 * 60 * 1000;
                self.clock.jump_ms(if self.random.one_in(2) { day_ms } else { -day_ms });
            }
            if self.random.one_in(400) {
                self.fs.set_capacity(Some(self.fs.used_bytes()));
            } else if self.random.one_in(60) {
                self.fs.set_capacity(None);
            }
        }
    }

    /// Nobody asks for anything any more: what is open comes to its end.
    async fn settle(&mut self) -> (Arc<Life>, Stepper) {
        let (life, mut stepper) = self.open().unwrap();
        for _ in 0..20_000 {
            self.step(&mut stepper).await;
            let at_rest = life
                .broker
                .coordinator()
                .with_transactions(|table| table.ongoing().next().is_none() && table.decided().next().is_none());
            let stable = PARTITIONS.iter().all(|(topic, partition)| {
                let ends = life.broker.ends(topic, *partition).unwrap();
                ends.last_stable_offset == ends.high_watermark
            });
            if at_rest && stable {
                return (life, stepper);
            }
        }
        panic!("a transaction is left open");
    }
}

/// One history; what it came to, to see that something happened in it.
fn history(seed: u64) -> (usize, usize) {
    let mut world = World::new(seed);
    on_a_runtime(async {
        let (life, mut stepper) = world.open().unwrap();
        for (topic, partitions) in [("x", 2), ("y", 1), ("in", 1)] {
            life.broker.ensure_topic(topic, TopicConfig::kafka(partitions)).await.unwrap();
        }
        world.step(&mut stepper).await;
        stepper.finish();
    });
    for _ in 0..LIVES {
        let steps = 200 + world.random.below(1500);
        if world.random.one_in(3) {
            let changes = world.random.below(400);
            world.fs.die_after(changes);
        }
        on_a_runtime(world.live(steps));
        world.fs.set_capacity(None);
        let crash = match world.random.below(3) {
            0 => Crash::Kill,
            1 => Crash::LoseUnsynced,
            _ => Crash::Tear(world.random.next()),
        };
        world.fs.crash(crash);
    }
    on_a_runtime(async {
        let (life, _stepper) = world.settle().await;
        check(&life).await;
    });
    let ledger = world.ledger.lock();
    (ledger.committed, ledger.fenced)
}

async fn check(life: &Life) {
    let mut seen: BTreeMap<usize, Vec<(usize, String)>> = BTreeMap::new();
    for (at, (topic, partition)) in PARTITIONS.iter().enumerate() {
        for value in committed_values(&life.broker, topic, *partition).await {
            let number = value.split('/').next().unwrap().parse().unwrap();
            seen.entry(number).or_default().push((at, value));
        }
    }
    let ledger = life.ledger.lock();
    assert_eq!(ledger.violations, Vec::<String>::new());
    let mut offsets: [Option<i64>; 2] = [None, None];
    for (number, told) in ledger.transactions.iter().enumerate() {
        let mut wrote = told.wrote.clone();
        wrote.sort();
        let mut seen = seen.remove(&number).unwrap_or_default();
        seen.sort();
        match told.outcome {
            Outcome::Committed => assert_eq!(seen, wrote, "transaction {number} was committed"),
            Outcome::NotAsked => assert_eq!(seen, [], "transaction {number} was not to be committed"),
            Outcome::Asked => assert!(seen.is_empty() || seen == wrote, "transaction {number}: {seen:?} of {wrote:?}"),
        }
        if !seen.is_empty() && told.offset.is_some() {
            offsets[told.app] = told.offset;
        }
    }
    assert!(seen.is_empty(), "nobody wrote {seen:?}");
    for (app, id) in APPS.iter().enumerate() {
        let committed = life.broker.committed(id).first().map(|offset| offset.offset);
        assert_eq!(committed, offsets[app], "the offset of {id} is that of its last committed transaction");
    }
}

#[test]
fn a_seed_does_the_same_each_time() {
    for seed in 0..3 {
        assert_eq!(history(seed), history(seed));
    }
}

fn on_a_runtime<T>(run: impl Future<Output = T>) -> T {
    // Time is the clock's, so nothing depends on a driver; dropping it ends whoever still runs.
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run)
}

#[test]
fn transactions_are_atomic_whatever_happens() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("HIGHWATER_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HIGHWATER_SIM_SEEDS").unwrap_or(60),
    };
    let (mut committed, mut fenced) = (0, 0);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let result = std::panic::catch_unwind(|| history(seed));
        match result {
            Ok((of_seed, fenced_of_seed)) => {
                committed += of_seed;
                fenced += fenced_of_seed;
            }
            Err(panic) => {
                eprintln!("seed {seed} failed; HIGHWATER_SIM_SEED={seed} repeats it");
                std::panic::resume_unwind(panic);
            }
        }
    }
    eprintln!("{committed} transactions were committed, {fenced} processes fenced");
    assert!(
        count == 1 || (committed > 1000 && fenced > 100),
        "{committed} committed, {fenced} fenced: too little happened"
    );
}
