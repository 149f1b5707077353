//! Bugs put in on purpose: each must be found within a few histories.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use highwater_simulation::{Bug, run_guarded};

/// Histories within which each is found.
const WITHIN: u64 = 200;

#[test]
fn every_bug_is_found() {
    let bugs: Vec<Bug> = Bug::ALL.to_vec();
    let missed = parking_lot::Mutex::new(Vec::new());
    let left = parking_lot::Mutex::new(bugs);
    let work = || {
        while let Some(bug) = { left.lock().pop() } {
            let found = (0..WITHIN).find_map(|seed| run_guarded(seed, Some(bug)).err().map(|error| (seed, error)));
            match found {
                Some((seed, error)) => println!("{bug:?} is found by seed {seed}: {error:.300}"),
                None => missed.lock().push(bug),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    assert!(missed.lock().is_empty(), "not found within {WITHIN} histories: {:?}", missed.lock());
}
