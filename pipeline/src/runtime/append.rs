//! From effects to appends.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::log::{Append, Guard, Record};

use super::effects::Effect;

/// Most records of one append.
const MAX_RECORDS: usize = 1_000;
/// Most bytes of values in one append; a single larger record goes alone.
const MAX_SIZE_BYTES: usize = 4 << 20;

/// Groups effects by output partition, each in effect order, cut into appends of bounded size.
pub(crate) fn appends(task: &Arc<str>, epoch: i32, effects: Vec<Effect>) -> Vec<Append> {
    let mut lanes: BTreeMap<(Arc<str>, i32), LaneBuilder> = BTreeMap::new();
    for effect in effects {
        let lane = lanes.entry((Arc::clone(&effect.topic), effect.partition)).or_default();
        let size = size_bytes(&effect.record);
        if lane.done.is_empty() || lane.records >= MAX_RECORDS || lane.size_bytes + size > MAX_SIZE_BYTES {
            let guard = Guard::Effects { task: Arc::clone(task), epoch, marks: Vec::new() };
            let Effect { topic, partition, .. } = &effect;
            lane.done.push(Append { topic: Arc::clone(topic), partition: *partition, records: Vec::new(), guard });
            (lane.records, lane.size_bytes) = (0, 0);
        }
        if let Some(Append { records, guard: Guard::Effects { marks, .. }, .. }) = lane.done.last_mut() {
            marks.push(effect.mark);
            records.push(effect.record);
            lane.records += 1;
            lane.size_bytes += size;
        }
    }
    lanes.into_values().flat_map(|lane| lane.done).collect()
}

#[derive(Default)]
struct LaneBuilder {
    done: Vec<Append>,
    records: usize,
    size_bytes: usize,
}

fn size_bytes(record: &Record) -> usize {
    record.value.as_ref().map_or(0, |v| v.len()) + record.key.as_ref().map_or(0, |k| k.len())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::log::EffectMark;

    fn effect(position: i64, index: i32, topic: &str, partition: i32, size_bytes: usize) -> Effect {
        let record = Record { value: Some(Bytes::from(vec![0; size_bytes])), ..Record::default() };
        Effect { mark: EffectMark { position, index }, topic: topic.into(), partition, record }
    }

    fn marks(append: &Append) -> Vec<(i64, i32)> {
        match &append.guard {
            Guard::Effects { marks, .. } => marks.iter().map(|m| (m.position, m.index)).collect(),
            other => panic!("not guarded: {other:?}"),
        }
    }

    #[test]
    fn each_output_partition_gets_its_effects_in_order() {
        let effects =
            vec![effect(1, 0, "b", 0, 1), effect(1, 1, "a", 1, 1), effect(1, 2, "b", 0, 1), effect(2, 0, "a", 1, 1)];
        let appends = appends(&"logs/0".into(), 3, effects);
        assert_eq!(appends.len(), 2);
        assert_eq!((&*appends[0].topic, marks(&appends[0])), ("a", vec![(1, 1), (2, 0)]));
        assert_eq!((&*appends[1].topic, marks(&appends[1])), ("b", vec![(1, 0), (1, 2)]));
    }

    #[test]
    fn appends_are_bounded_and_a_large_record_goes_alone() {
        let effects =
            vec![effect(1, 0, "a", 0, 10), effect(2, 0, "a", 0, MAX_SIZE_BYTES + 1), effect(3, 0, "a", 0, 10)];
        let appends = appends(&"logs/0".into(), 3, effects);
        let sizes: Vec<_> = appends.iter().map(marks).collect();
        assert_eq!(sizes, [vec![(1, 0)], vec![(2, 0)], vec![(3, 0)]]);
    }
}
