//! Many histories, none of which may go wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicU64, Ordering};

use highwater_simulation::coverage::Coverage;
use highwater_simulation::{run, run_guarded};
use parking_lot::Mutex;

/// How many there are if nobody says otherwise.
const SEEDS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, but must be a number")))
}

#[test]
fn every_history_goes_well() {
    if let Some(seed) = number("HIGHWATER_SIM_SEED") {
        tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
        let outcome = run(seed, None).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        println!("seed {seed}: trace {:016x}, {:#?}", outcome.trace, outcome.coverage.counts());
        return;
    }
    let first = number("HIGHWATER_SIM_FIRST").unwrap_or(0);
    let last = first + number("HIGHWATER_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(first);
    let coverage = Coverage::default();
    let failures = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= last || failures.lock().len() >= 5 {
                return;
            }
            match run_guarded(seed, None) {
                Ok(outcome) => coverage.add(&outcome.coverage),
                Err(error) => failures.lock().push((seed, error)),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let failures: Vec<String> = failures
        .into_inner()
        .into_iter()
        .map(|(seed, error)| format!("seed {seed}: {error}\n  again: HIGHWATER_SIM_SEED={seed} cargo test --workspace --test seeds -- --nocapture"))
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    println!("{} histories met {:#?}", last - first, coverage.counts());
    if last - first >= SEEDS {
        for what in MET {
            assert!(coverage.counts().contains_key(what), "no history met: {what}");
        }
    }
}

/// What so many histories must come upon, or they show nothing.
const MET: [&str; 26] = [
    "alert transitions",
    "answered requests sent again",
    "calls of fenced runs refused",
    "calls refused after a failed sync",
    "calls refused for want of room",
    "changes of definitions",
    "clock jumps",
    "crashes of the process",
    "crashes while starting",
    "dead letters",
    "double starts",
    "effects suppressed",
    "keyed requests known",
    "losses of power",
    "replies lost",
    "requests given up on",
    "restarts in order",
    "rows of closed windows",
    "rules that moved to another task",
    "calls refused by storage",
    "slices of stored rows",
    "storage calls whose answer was lost",
    "stored rows that could not be read",
    "table commits in conflict",
    "table commits whose answer was lost",
    "versions of definitions",
];

#[test]
fn a_seed_is_one_history() {
    for seed in 0..4 {
        let [one, two] = [0, 1].map(|_| run(seed, None).unwrap_or_else(|error| panic!("seed {seed}: {error}")).trace);
        assert_eq!(one, two, "seed {seed} went two ways");
    }
}
