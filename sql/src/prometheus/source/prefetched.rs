//! What a query's selectors need, read before the query is evaluated: the engine asks from a thread that does not wait.

use std::sync::Arc;

use highwater_promql::{Matcher, Selection, Series, SeriesSource, SourceError};
use parking_lot::Mutex;

use super::{ReadError, SampleBudget, Snapshot, Wanted};

/// The samples of all selections of a query.
#[derive(Debug, Default)]
pub(in crate::prometheus) struct Prefetched {
    reads: Vec<Read>,
    /// Whether each is asked for once: its series need not be copied.
    asked_once: bool,
}

/// One read, for all selections with the same matchers whose times overlap.
#[derive(Debug)]
struct Read {
    matchers: Vec<Matcher>,
    /// Exclusive.
    start_ms: i64,
    end_ms: i64,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    series: Vec<Series>,
    /// Whether the series were given away.
    taken: bool,
}

impl Prefetched {
    /// Reads what these selections need. `asked_once` where each is of one selector only.
    pub(in crate::prometheus) async fn read(
        snapshot: &Snapshot,
        selections: &[Selection],
        asked_once: bool,
        budget: &Arc<SampleBudget>,
    ) -> Result<Self, ReadError> {
        let mut reads: Vec<Read> = Vec::new();
        let count = selections.len();
        // In the order of time, so that each joins those before it.
        let mut selections: Vec<&Selection> = selections.iter().collect();
        selections.sort_by_key(|selection| selection.start_ms);
        for selection in selections {
            // `x - x offset 1w` is two reads: what lies between is nobody's.
            let joins = |read: &&mut Read| read.matchers == selection.matchers && read.end_ms >= selection.start_ms;
            match reads.iter_mut().find(joins) {
                Some(read) => read.end_ms = read.end_ms.max(selection.end_ms),
                None => reads.push(Read {
                    matchers: selection.matchers.clone(),
                    start_ms: selection.start_ms,
                    end_ms: selection.end_ms,
                    kept: Mutex::new(Kept { series: Vec::new(), taken: false }),
                }),
            }
        }
        for read in &mut reads {
            let wanted = Wanted::new([read.matchers.as_slice()], read.start_ms.saturating_add(1), read.end_ms);
            let wanted = wanted.map_err(|e| crate::error::SqlError::Internal { message: e.to_string() })?;
            read.kept.get_mut().series = snapshot.samples(&Arc::new(wanted), budget).await?;
        }
        let asked_once = asked_once && reads.len() == count;
        Ok(Self { reads, asked_once })
    }
}

impl SeriesSource for Prefetched {
    fn select(&self, selection: &Selection) -> Result<Vec<Series>, SourceError> {
        let covers = |read: &&Read| {
            read.matchers == selection.matchers
                && read.start_ms <= selection.start_ms
                && read.end_ms >= selection.end_ms
        };
        let Some(read) = self.reads.iter().find(covers) else {
            return Err(SourceError::Storage(format!("samples of {selection:?} were not read")));
        };
        let mut kept = read.kept.lock();
        if kept.taken {
            return Err(SourceError::Storage(format!("samples of {selection:?} were asked for twice")));
        }
        let has_samples = |series: &Series| {
            let float = series.timestamps_ms.partition_point(|time| *time <= selection.start_ms);
            let float = series.timestamps_ms.get(float).copied();
            let histogram = series.histograms.partition_point(|(time, _)| *time <= selection.start_ms);
            let histogram = series.histograms.get(histogram).map(|(time, _)| *time);
            float.into_iter().chain(histogram).any(|time| time <= selection.end_ms)
        };
        if self.asked_once {
            kept.taken = true;
            let mut series = std::mem::take(&mut kept.series);
            series.retain(has_samples);
            return Ok(series);
        }
        Ok(kept.series.iter().filter(|series| has_samples(series)).cloned().collect())
    }
}
