//! The partitions that a table's writer has been given, and how far it is with each.
//!
//! ```text
//! assign ─► Wanted ──look──► Looking ──found──► Following ──► let_go
//!             ▲                 │ not yet           │ another owner was at work
//!             └──── Resting ◄───┴───────────────────┘
//! ```
//!
//! Each time a partition is given, or has to start over, is a new *holding* with a number of its own. What was begun under an earlier
//! holding (a read, a look, a flush) is known by its number and no longer counts.
//!
//! Nothing here reads or waits: the writer asks what there is to do, and says what came of it.

use std::collections::BTreeMap;

use highwater_pipeline::log::{TopicInfo, TopicPartition};

/// One holding of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holding {
    pub(super) key: TopicPartition,
    number: u64,
}

#[derive(Debug, Default)]
pub(super) struct Partitions {
    held: BTreeMap<TopicPartition, Partition>,
    /// Holdings so far.
    holdings: u64,
}

#[derive(Debug)]
struct Partition {
    holding: u64,
    phase: Phase,
    /// To be let go once nothing of it is buffered or being committed.
    leaving: bool,
    /// Reads or looks that failed since the last that did not.
    failures: u32,
    /// Times another owner was found since the last commit of ours.
    displaced: u32,
}

#[derive(Debug)]
enum Phase {
    /// Waits before it is looked at again.
    Resting,
    /// Where does the table stand in it? To be found out.
    Wanted,
    /// Being found out.
    Looking,
    /// Read from `next` on.
    Following { topic: Box<TopicInfo>, next: i64, reading: bool },
}

/// A read to be started.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) holding: Holding,
    pub(super) topic: TopicInfo,
    pub(super) next: i64,
    /// Failures in a row: wait before this one.
    pub(super) failures: u32,
}

impl Partitions {
    /// Takes a partition on; true where that is news. One that is about to be let go starts over.
    pub(super) fn assign(&mut self, key: &TopicPartition) -> bool {
        if self.held.get(key).is_some_and(|p| !p.leaving) {
            return false;
        }
        self.holdings += 1;
        let phase = Phase::Wanted;
        let partition = Partition { holding: self.holdings, phase, leaving: false, failures: 0, displaced: 0 };
        self.held.insert(key.clone(), partition);
        true
    }

    /// Begins to let a partition go: nothing more is read of it. The holding that ends, if it is held.
    pub(super) fn leave(&mut self, key: &TopicPartition) -> Option<Holding> {
        let partition = self.held.get_mut(key)?;
        partition.leaving = true;
        Some(Holding { key: key.clone(), number: partition.holding })
    }

    /// Lets a partition go at once; true where it was held.
    pub(super) fn let_go(&mut self, key: &TopicPartition) -> bool {
        self.held.remove(key).is_some()
    }

    /// Those that are about to be let go.
    pub(super) fn leaving(&self) -> impl Iterator<Item = &TopicPartition> {
        self.held.iter().filter(|(_, p)| p.leaving).map(|(key, _)| key)
    }

    /// Those that stay.
    pub(super) fn staying(&self) -> impl Iterator<Item = &TopicPartition> {
        self.held.iter().filter(|(_, p)| !p.leaving).map(|(key, _)| key)
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// True where this holding has not ended.
    pub(super) fn is_current(&self, holding: &Holding) -> bool {
        self.held.get(&holding.key).is_some_and(|p| p.holding == holding.number)
    }

    /// The holding of a partition now.
    pub(super) fn holding(&self, key: &TopicPartition) -> Option<Holding> {
        self.held.get(key).map(|p| Holding { key: key.clone(), number: p.holding })
    }

    fn current(&mut self, holding: &Holding) -> Option<&mut Partition> {
        self.held.get_mut(&holding.key).filter(|p| p.holding == holding.number)
    }

    /// Those whose stand is to be found out; they count as being looked at from here on.
    pub(super) fn take_wanted(&mut self) -> Vec<Holding> {
        let mut wanted = Vec::new();
        for (key, partition) in &mut self.held {
            if matches!(partition.phase, Phase::Wanted) && !partition.leaving {
                partition.phase = Phase::Looking;
                wanted.push(Holding { key: key.clone(), number: partition.holding });
            }
        }
        wanted
    }

    /// It is known where the table stands: read on from there. False where the holding has ended.
    pub(super) fn follow(&mut self, holding: &Holding, topic: TopicInfo, next: i64) -> bool {
        let Some(partition) = self.current(holding) else { return false };
        partition.phase = Phase::Following { topic: Box::new(topic), next, reading: false };
        partition.failures = 0;
        true
    }

    /// It could not be found out: to be looked at again after a rest. How many times in a row that was so; `None` where the holding has ended.
    pub(super) fn rest(&mut self, holding: &Holding) -> Option<u32> {
        let partition = self.current(holding)?;
        partition.phase = Phase::Resting;
        partition.failures += 1;
        Some(partition.failures)
    }

    /// The rest is over.
    pub(super) fn rested(&mut self, holding: &Holding) {
        if let Some(partition) = self.current(holding)
            && matches!(partition.phase, Phase::Resting)
        {
            partition.phase = Phase::Wanted;
        }
    }

    /// The reads to start; they count as started.
    pub(super) fn take_reads(&mut self) -> Vec<Read> {
        let mut reads = Vec::new();
        for (key, partition) in &mut self.held {
            let Phase::Following { topic, next, reading } = &mut partition.phase else { continue };
            if !*reading && !partition.leaving {
                *reading = true;
                let holding = Holding { key: key.clone(), number: partition.holding };
                reads.push(Read { holding, topic: (**topic).clone(), next: *next, failures: partition.failures });
            }
        }
        reads
    }

    /// A read has ended well, with everything before `next` read. False where it no longer counts.
    pub(super) fn read(&mut self, holding: &Holding, next: Option<i64>) -> bool {
        let Some(partition) = self.current(holding).filter(|p| !p.leaving) else { return false };
        let Phase::Following { next: at, reading, .. } = &mut partition.phase else { return false };
        *reading = false;
        *at = next.unwrap_or(*at);
        partition.failures = 0;
        true
    }

    /// A read has failed. False where it no longer counts.
    pub(super) fn read_failed(&mut self, holding: &Holding) -> bool {
        let Some(partition) = self.current(holding) else { return false };
        let Phase::Following { reading, .. } = &mut partition.phase else { return false };
        *reading = false;
        partition.failures += 1;
        true
    }

    /// What was read since the table's last commit is not to be used: the partition starts over with a new holding.
    pub(super) fn start_over(&mut self, holding: &Holding) -> Option<Holding> {
        self.holdings += 1;
        let number = self.holdings;
        let partition = self.current(holding)?;
        partition.holding = number;
        partition.phase = Phase::Wanted;
        Some(Holding { key: holding.key.clone(), number })
    }

    /// As [`Self::start_over`], after a rest: another owner is at work in it. How many times in a row that was so, and the new holding.
    pub(super) fn displaced(&mut self, holding: &Holding) -> Option<(u32, Holding)> {
        let fresh = self.start_over(holding)?;
        let partition = self.current(&fresh)?;
        partition.phase = Phase::Resting;
        partition.displaced += 1;
        Some((partition.displaced, fresh))
    }

    /// A commit of ours went in.
    pub(super) fn committed(&mut self, holding: &Holding) {
        if let Some(partition) = self.current(holding) {
            partition.displaced = 0;
        }
    }

    /// True where everything before `target` was read, or the partition is no longer ours to read.
    pub(super) fn has_reached(&self, key: &TopicPartition, target: i64) -> bool {
        match self.held.get(key) {
            Some(Partition { leaving: false, phase, .. }) => {
                matches!(phase, Phase::Following { next, .. } if *next >= target)
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_pipeline::log::TopicConfig;

    fn key(partition: i32) -> TopicPartition {
        TopicPartition { topic: "logs".into(), partition }
    }

    fn topic() -> TopicInfo {
        TopicInfo { name: "logs".into(), id: uuid::Uuid::nil(), config: TopicConfig::default() }
    }

    /// One partition, followed from `next` on.
    fn following(next: i64) -> (Partitions, Holding) {
        let mut partitions = Partitions::default();
        assert!(partitions.assign(&key(0)));
        let holding = partitions.take_wanted().remove(0);
        assert!(partitions.follow(&holding, topic(), next));
        (partitions, holding)
    }

    #[test]
    fn a_partition_given_twice_is_taken_once() {
        let (mut partitions, _) = following(5);
        assert!(!partitions.assign(&key(0)));
        assert!(partitions.take_wanted().is_empty());
        assert_eq!(partitions.take_reads().iter().map(|r| r.next).collect::<Vec<_>>(), [5]);
        assert!(partitions.take_reads().is_empty(), "one read at a time");
    }

    #[test]
    fn what_was_begun_before_a_partition_came_back_does_not_count() {
        let (mut partitions, old) = following(5);
        let read = partitions.take_reads().remove(0);
        assert!(partitions.let_go(&key(0)));
        assert!(partitions.assign(&key(0)));
        assert!(!partitions.read(&read.holding, Some(9)));
        assert!(!partitions.read_failed(&read.holding));
        assert!(!partitions.is_current(&old));
        assert!(!partitions.follow(&old, topic(), 9), "an old look neither");
        let new = partitions.take_wanted().remove(0);
        assert!(partitions.follow(&new, topic(), 7));
        assert_eq!(partitions.take_reads()[0].next, 7);
    }

    #[test]
    fn a_partition_that_leaves_is_not_read_and_starts_over_if_it_is_given_back() {
        let (mut partitions, holding) = following(5);
        assert_eq!(partitions.leave(&key(0)), Some(holding.clone()));
        assert!(partitions.take_reads().is_empty());
        assert!(partitions.has_reached(&key(0), 100), "nobody waits for it");
        assert!(partitions.assign(&key(0)));
        assert!(!partitions.is_current(&holding));
        assert!(!partitions.has_reached(&key(0), 0), "not before it is known where the table stands");
        assert_eq!(partitions.take_wanted().len(), 1);
        assert_eq!(partitions.leave(&key(1)), None);
    }

    #[test]
    fn a_displaced_partition_rests_and_is_looked_at_again() {
        let (mut partitions, holding) = following(5);
        let (times, fresh) = partitions.displaced(&holding).unwrap();
        assert_eq!(times, 1);
        assert!(!partitions.is_current(&holding));
        assert!(partitions.take_wanted().is_empty() && partitions.take_reads().is_empty());
        partitions.rested(&fresh);
        let looked = partitions.take_wanted().remove(0);
        assert!(partitions.follow(&looked, topic(), 8));
        assert_eq!(partitions.displaced(&looked).unwrap().0, 2, "twice in a row");
        let again = partitions.holding(&key(0)).unwrap();
        partitions.committed(&again);
        assert_eq!(partitions.displaced(&again).unwrap().0, 1);
    }

    #[test]
    fn failures_are_counted_until_one_succeeds() {
        let mut partitions = Partitions::default();
        partitions.assign(&key(0));
        let holding = partitions.take_wanted().remove(0);
        assert_eq!(partitions.rest(&holding), Some(1));
        partitions.rested(&holding);
        assert_eq!(partitions.take_wanted(), std::slice::from_ref(&holding));
        assert_eq!(partitions.rest(&holding), Some(2));
        partitions.rested(&holding);
        assert!(partitions.follow(&partitions.holding(&key(0)).unwrap(), topic(), 0));
        let read = partitions.take_reads().remove(0);
        assert_eq!(read.failures, 0);
        assert!(partitions.read_failed(&read.holding));
        let read = partitions.take_reads().remove(0);
        assert_eq!(read.failures, 1);
        assert!(partitions.read(&read.holding, Some(3)));
        assert_eq!((partitions.take_reads()[0].failures, partitions.has_reached(&key(0), 3)), (0, true));
    }
}
