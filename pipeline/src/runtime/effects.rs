//! What a step causes: records for output topics, each with its place in the order of the task.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::chunks::{Chunk, Scratch};
use crate::log::{EffectMark, Header, Record};

/// Values beyond this are put aside.
const MAX_IN_MEMORY_BYTES: usize = 32 << 20;

/// One output record and its identity within the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The input offset that caused it, and its index among the effects of that offset.
    pub mark: EffectMark,
    /// Output topic.
    pub topic: Arc<str>,
    /// Output partition.
    pub partition: i32,
    /// The record.
    pub record: Record,
}

/// Collects the effects of steps, in order. The index counts all effects of one position, to whatever topic, so it is
/// a function of the input record and of nothing else.
///
/// One record can have many: a window of millions of groups that closes. With a [`Scratch`] values beyond some size are put aside until they are taken.
#[derive(Debug, Default)]
pub struct Effects {
    position: i64,
    next_index: i32,
    collected: Vec<Effect>,
    scratch: Option<Arc<dyn Scratch>>,
    /// Values that are aside, by the index of their effect; in order.
    aside: VecDeque<(usize, Chunk)>,
    /// Of values that are not.
    in_memory_bytes: usize,
    /// How many have been taken in parts.
    taken: usize,
}

impl Effects {
    /// An empty collector.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a place for values that memory has no room for.
    pub(super) fn putting_aside(scratch: Option<Arc<dyn Scratch>>) -> Self {
        Self { scratch, ..Self::default() }
    }

    /// Effects pushed from here on are caused by the record at `position`.
    pub(super) fn begin(&mut self, position: i64) {
        self.position = position;
        self.next_index = 0;
    }

    /// Adds a record for a partition of a topic.
    pub fn push(&mut self, topic: &Arc<str>, partition: i32, mut record: Record) {
        let size = record.value.as_ref().map_or(0, Bytes::len);
        match self.put_aside(&mut record, size) {
            Some(chunk) => self.aside.push_back((self.collected.len(), chunk)),
            None => self.in_memory_bytes += size,
        }
        let mark = EffectMark { position: self.position, index: self.next_index };
        self.next_index += 1;
        self.collected.push(Effect { mark, topic: Arc::clone(topic), partition, record });
    }

    /// Adds a record made of a key, a content type and a value.
    pub fn push_value(
        &mut self,
        topic: &Arc<str>,
        partition: i32,
        key: Option<Bytes>,
        content_type: Header,
        value: impl Into<Bytes>,
    ) {
        let record = Record { key, value: Some(value.into()), headers: vec![content_type], timestamp_ms: None };
        self.push(topic, partition, record);
    }

    /// The value of a record as a chunk that is aside, where there are too many in memory.
    fn put_aside(&self, record: &mut Record, size: usize) -> Option<Chunk> {
        let scratch =
            self.scratch.as_ref().filter(|_| size > 0 && self.in_memory_bytes + size > MAX_IN_MEMORY_BYTES)?;
        let mut chunk = Chunk::new(record.value.clone()?);
        match chunk.put_aside(&**scratch) {
            Ok(()) => {
                record.value = None;
                Some(chunk)
            }
            Err(error) => {
                tracing::debug!(%error, "an output record stays in memory, as it cannot be put aside");
                None
            }
        }
    }

    /// What has been collected so far. With a [`Scratch`], large values are missing here.
    pub fn as_slice(&self) -> &[Effect] {
        &self.collected
    }

    /// True where nothing is left to take.
    pub fn is_empty(&self) -> bool {
        self.taken == self.collected.len()
    }

    /// Takes everything collected, leaving the collector empty. Only without a [`Scratch`].
    pub fn take(&mut self) -> Vec<Effect> {
        debug_assert!(self.aside.is_empty() && self.taken == 0, "values are aside: take them in parts");
        self.in_memory_bytes = 0;
        std::mem::take(&mut self.collected)
    }

    /// Takes the next of what was collected, up to so many bytes of values, but at least one; nothing where nothing is left.
    pub(super) fn take_part(&mut self, most_bytes: usize) -> io::Result<Vec<Effect>> {
        let mut part = Vec::new();
        let mut size = 0;
        while let Some(effect) = self.collected.get_mut(self.taken) {
            let aside = self.aside.front().filter(|(index, _)| *index == self.taken).map(|(_, chunk)| chunk);
            let own = aside.map_or(effect.record.value.as_ref().map_or(0, Bytes::len), Chunk::size_bytes);
            if !part.is_empty() && size + own > most_bytes {
                break;
            }
            let read = aside.map(Chunk::read).transpose()?;
            if let Some(value) = read {
                effect.record.value = Some(value);
                self.aside.pop_front();
            }
            let record = std::mem::take(&mut effect.record);
            part.push(Effect { record, topic: Arc::clone(&effect.topic), ..*effect });
            size += own;
            self.taken += 1;
        }
        if self.is_empty() {
            self.collected.clear();
            (self.taken, self.in_memory_bytes) = (0, 0);
        }
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::chunks::ScratchDirectory;
    use super::*;

    #[test]
    fn values_beyond_a_limit_are_put_aside_and_taken_in_order_in_parts() {
        let place = tempfile::tempdir().unwrap();
        let scratch = Arc::new(ScratchDirectory::open(place.path(), 0, 1 << 30).unwrap());
        let mut effects = Effects::putting_aside(Some(Arc::clone(&scratch) as _));
        let topic: Arc<str> = "out".into();
        let value = |n: i32| Bytes::from(vec![n as u8; 1 << 20]);
        for round in 0..2 {
            effects.begin(round);
            for n in 0..50 {
                effects.push(&topic, n % 4, Record { value: Some(value(n)), ..Record::default() });
                effects.push(&topic, n % 4, Record::default());
            }
            // 32 MiB stay in memory; the file that is being written may hold some that are dropped.
            let aside = scratch.size_bytes() >> 20;
            assert!((18..=22).contains(&aside), "{aside} MiB");
            let mut taken = Vec::new();
            let mut parts = 0;
            while !effects.is_empty() {
                let part = effects.take_part(3 << 20).unwrap();
                assert!((1..=7).contains(&part.len()), "{}", part.len());
                taken.extend(part);
                parts += 1;
            }
            assert_eq!((taken.len(), parts), (100, 17));
            for (n, pair) in (0..).zip(taken.chunks(2)) {
                assert_eq!(pair[0].record.value, Some(value(n)));
                assert_eq!(pair[1].record.value, None);
                let marks = [0, 1].map(|i| EffectMark { position: round, index: 2 * n + i });
                assert_eq!([pair[0].mark, pair[1].mark], marks);
            }
            assert!(effects.take_part(1).unwrap().is_empty());
        }
    }
}
