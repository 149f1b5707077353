//! The event time that several sources have reached together.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::MAX_BEHIND_US;

/// What one source last reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceWatermark {
    /// The source task, e.g. `logs/2`.
    pub source: Arc<str>,
    /// True once it has reported at all.
    pub reported: bool,
    /// Its watermark, Unix microseconds.
    pub watermark_us: Option<i64>,
    /// True while its input is idle.
    pub idle: bool,
}

/// The minimum over the sources that are neither idle nor more than 5 minutes behind the furthest.
///
/// While every source is idle, or all that are not idle lag too far behind, the furthest leads, so that silence and old data hold up nobody. Before
/// every known source has reported there is no merged watermark. It never goes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergedWatermark {
    sources: Vec<SourceWatermark>,
    merged_us: Option<i64>,
    /// Every source counts, however far behind.
    #[serde(default, skip_serializing_if = "is_false")]
    waits_for_all: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl MergedWatermark {
    /// Over these sources, in this order; the order is the one in which partials are folded.
    pub fn new<S: Into<Arc<str>>>(sources: impl IntoIterator<Item = S>) -> Self {
        let sources = sources
            .into_iter()
            .map(|source| SourceWatermark { source: source.into(), reported: false, watermark_us: None, idle: false })
            .collect();
        Self { sources, merged_us: None, waits_for_all: false }
    }

    /// The minimum over all sources, none of which is ever passed over: of sources that follow one line of time, and of which one that is behind has only not said so yet.
    #[must_use]
    pub fn waiting_for_all(self) -> Self {
        Self { waits_for_all: true, ..self }
    }

    /// The sources and what they last said.
    pub fn sources(&self) -> &[SourceWatermark] {
        &self.sources
    }

    /// Index of a source; `None` for one that is not known.
    pub fn index(&self, source: &str) -> Option<usize> {
        self.sources.iter().position(|s| &*s.source == source)
    }

    /// The merged watermark, Unix microseconds.
    pub fn watermark_us(&self) -> Option<i64> {
        self.merged_us
    }

    /// Counts a report of the source with this index. Returns the merged watermark where it has advanced.
    pub fn report(&mut self, index: usize, watermark_us: Option<i64>, idle: bool) -> Option<i64> {
        let source = self.sources.get_mut(index)?;
        source.reported = true;
        source.watermark_us = source.watermark_us.max(watermark_us);
        source.idle = idle;
        let merged = self.minimum();
        if merged > self.merged_us {
            self.merged_us = merged;
            return merged;
        }
        None
    }

    fn minimum(&self) -> Option<i64> {
        if self.sources.iter().any(|s| !s.reported) {
            return None;
        }
        if self.waits_for_all {
            return self.sources.iter().map(|s| s.watermark_us).min().flatten();
        }
        let furthest = self.sources.iter().filter_map(|s| s.watermark_us).max()?;
        let limit = furthest.saturating_sub(MAX_BEHIND_US);
        let counted = self.sources.iter().filter(|s| !s.idle).filter_map(|s| s.watermark_us).filter(|&w| w >= limit);
        Some(counted.min().unwrap_or(furthest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn merged(sources: usize) -> MergedWatermark {
        MergedWatermark::new((0..sources).map(|i| format!("logs/{i}")))
    }

    #[test]
    fn nothing_before_all_have_reported_then_the_minimum() {
        let mut m = merged(2);
        assert_eq!(m.report(0, Some(100), false), None);
        assert_eq!(m.report(1, Some(40), false), Some(40));
        assert_eq!(m.report(1, Some(90), false), Some(90));
        assert_eq!(m.report(0, Some(110), false), None, "the other holds it");
        assert_eq!(m.watermark_us(), Some(90));
    }

    #[test]
    fn idle_sources_and_those_without_rows_are_not_waited_for() {
        let mut m = merged(3);
        m.report(0, None, true);
        m.report(1, Some(10), true);
        assert_eq!(m.report(2, Some(100), false), Some(100));
        assert_eq!(m.report(1, Some(50), false), None, "back from idle it is behind, and time does not go back");
        assert_eq!(m.watermark_us(), Some(100));
    }

    #[test]
    fn while_all_are_idle_the_furthest_leads() {
        let mut m = merged(2);
        m.report(0, Some(100), true);
        assert_eq!(m.report(1, Some(30), true), Some(100));
        assert_eq!(m.report(0, Some(200), true), Some(200));
    }

    #[test]
    fn a_source_more_than_five_minutes_behind_holds_nobody_up() {
        let mut m = merged(2);
        m.report(0, Some(10 * MINUTE), false);
        assert_eq!(m.report(1, Some(5 * MINUTE), false), Some(5 * MINUTE), "exactly five minutes still counts");
        assert_eq!(m.report(0, Some(10 * MINUTE + 1), false), Some(10 * MINUTE + 1));
    }

    #[test]
    fn one_that_waits_for_all_passes_nobody_over() {
        let mut m = merged(2).waiting_for_all();
        m.report(0, Some(60 * MINUTE), false);
        assert_eq!(m.report(1, None, true), None);
        assert_eq!(m.report(1, Some(MINUTE), true), Some(MINUTE));
        assert_eq!(m.report(1, Some(61 * MINUTE), false), Some(60 * MINUTE));
    }

    #[test]
    fn an_unknown_source_is_nobody() {
        let mut m = merged(1);
        assert_eq!(m.index("metrics/0"), None);
        assert_eq!(m.report(7, Some(1), false), None);
    }
}
