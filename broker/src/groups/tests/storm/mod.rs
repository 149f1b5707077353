//! A storm of rebalances (fault 13) with restarts of the broker (12), zombies (14) and commits that come late (16), decided by a seed.
//!
//! Twenty members behave as consumers do: they join, divide eight partitions, work from the committed offset on, commit, send heartbeats.
//! Meanwhile they are started, stopped, killed, and paused for longer than their session; their requests and answers take a while; the
//! broker's process dies, and the disk with it. Time is virtual, so is the network. What must hold:
//!
//! - No two members own a partition in one generation, over restarts of the broker, too.
//! - No commit of an old generation lands: the committed offset of a partition never goes back, whoever commits it, and its generation does not.
//! - What was acknowledged is there after any crash.
//! - When the storm is over, all that live agree on a generation, and every partition has one owner who makes progress.
//!
//! A failure names its seed; `GROUP_STORM_SEEDS=7..8 cargo test -p highwater-broker storm` runs it again.

mod member;
mod random;
mod world;

use random::Random;
use world::World;

const PARTITIONS: i32 = 8;
const MEMBERS: usize = 20;

#[test]
fn a_storm_passes_and_everything_settles() {
    let seeds = std::env::var("GROUP_STORM_SEEDS").ok().and_then(|range| {
        let (from, to) = range.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    let (mut storms, mut late) = (0, 0);
    for seed in seeds.unwrap_or(0..25u64) {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.storm(300_000);
            world.calm();
            world.late_arrived
        });
        storms += 1;
        late += run.as_ref().copied().unwrap_or(0);
        if let Err(panic) = run {
            eprintln!("the storm of seed {seed} failed; GROUP_STORM_SEEDS={seed}..{} runs it again", seed + 1);
            std::panic::resume_unwind(panic);
        }
    }
    assert!(late > 5 * storms, "only {late} commits outlived their generation in {storms} storms");
}
