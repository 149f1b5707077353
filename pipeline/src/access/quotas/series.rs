//! Which series of a tenant are active: those seen in the last half hour or so, counted exactly, in two generations of bare ids.

use std::hash::BuildHasherDefault;

use hashbrown::HashSet;
use parking_lot::Mutex;

/// A generation lasts so long; a series is forgotten after one to two of them.
const GENERATION_MS: i64 = 20 * 60 * 1000;
/// Sets, each under a lock of its own.
const SHARDS: usize = 16;
/// Below this limit there is one.
const SMALL: usize = 1024;

/// Ids are hashes already.
#[derive(Default)]
struct AsIs(u64);

impl std::hash::Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_i64(&mut self, id: i64) {
        // The highest bits chose the shard.
        self.0 = u64::from_ne_bytes(id.to_ne_bytes()).rotate_left(8);
    }
}

type Ids = HashSet<i64, BuildHasherDefault<AsIs>>;

/// The active series of one tenant.
#[derive(Debug)]
pub(super) struct ActiveSeries {
    limit: usize,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    began_ms: i64,
    current: Ids,
    /// Of the generation before, without those seen again since.
    previous: Ids,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("active", &(self.current.len() + self.previous.len())).finish_non_exhaustive()
    }
}

impl ActiveSeries {
    /// None yet, at most so many. Ids are spread evenly, so each shard has its share of the limit.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, shards: Default::default() }
    }

    /// True where the series is active, or becomes so within the limit.
    pub(super) fn admit(&self, id: i64, now_ms: i64) -> bool {
        // Small limits are exact only in one piece.
        let shards = if self.limit < SMALL { 1 } else { SHARDS };
        let number = (u64::from_ne_bytes(id.to_ne_bytes()) >> 60) as usize % shards;
        let mut shard = self.shards[number].lock();
        shard.pass(now_ms);
        if shard.current.contains(&id) {
            return true;
        }
        // The remainder goes to the first shards, so that the shares sum up to the limit.
        let share = self.limit / shards + usize::from(number < self.limit % shards);
        let known = shard.previous.remove(&id);
        if !known && shard.current.len() + shard.previous.len() >= share {
            return false;
        }
        shard.current.insert(id);
        true
    }

    /// How many there may be.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// How many there are.
    pub(super) fn count(&self, now_ms: i64) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let mut shard = shard.lock();
            shard.pass(now_ms);
            shard.current.len() + shard.previous.len()
        };
        self.shards.iter().map(count).sum()
    }
}

impl Shard {
    /// Begins the next generation where it is time for one.
    fn pass(&mut self, now_ms: i64) {
        let age_ms = now_ms - self.began_ms;
        if !(0..GENERATION_MS).contains(&age_ms) {
            let current = std::mem::take(&mut self.current);
            // After a long silence the last generation is as old as the one before.
            self.previous = if age_ms < 2 * GENERATION_MS { current } else { Ids::default() };
            self.began_ms = now_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(from: u64, count: u64) -> impl Iterator<Item = i64> {
        (from..from + count)
            .map(|n| i64::from_ne_bytes(twox_hash::XxHash64::oneshot(0, &n.to_le_bytes()).to_ne_bytes()))
    }

    #[test]
    fn new_series_stop_at_the_limit_and_old_ones_go_on() {
        let active = ActiveSeries::new(1_600);
        let admitted = ids(0, 10_000).filter(|id| active.admit(*id, 0)).collect::<Vec<_>>();
        assert_eq!((admitted.len(), active.count(0)), (1_600, 1_600));
        assert!(admitted.iter().all(|id| active.admit(*id, GENERATION_MS)));
        assert_eq!(ids(50_000, 1_000).filter(|id| active.admit(*id, GENERATION_MS)).count(), 0);
        // Those that are not seen for two generations make room.
        assert!(ids(50_000, 10).all(|id| active.admit(id, 3 * GENERATION_MS + 1)));
        assert!(ids(50_000, 10).all(|id| active.admit(id, 4 * GENERATION_MS + 2)));
        assert_eq!(active.count(4 * GENERATION_MS + 2), 10);
    }

    #[test]
    fn millions_of_made_up_series_take_no_more_room_than_the_limit() {
        const LIMIT: usize = 20_000;
        let active = ActiveSeries::new(LIMIT);
        let honest: Vec<i64> = ids(1 << 40, 1_000).collect();
        assert!(honest.iter().all(|id| active.admit(*id, 0)));
        // Over four generations, the honest ones among them as a scrape has them.
        let mut admitted = 0;
        for (round, from) in (0..1_000_000).step_by(10_000).enumerate() {
            let now_ms = round as i64 * GENERATION_MS / 25;
            admitted += ids(from, 10_000).filter(|id| active.admit(*id, now_ms)).count();
            assert!(honest.iter().all(|id| active.admit(*id, now_ms)), "round {round}");
            assert!(active.count(now_ms) <= LIMIT);
        }
        assert!((LIMIT - 1_000..4 * LIMIT).contains(&admitted), "{admitted}");
        let room: usize = active
            .shards
            .iter()
            .map(|shard| shard.lock())
            .map(|shard| shard.current.capacity() + shard.previous.capacity())
            .sum();
        assert!(room <= 8 * LIMIT, "room for {room} series");
    }

    #[test]
    fn small_limits_hold_too() {
        let active = ActiveSeries::new(3);
        assert_eq!(ids(0, 100).filter(|id| active.admit(*id, 0)).count(), 3);
        let active = ActiveSeries::new(0);
        assert_eq!(ids(0, 100).filter(|id| active.admit(*id, 0)).count(), 0);
    }
}
