//! Which windows a row belongs to, and the panes they are made of.
//!
//! A *pane* is the stretch of event time that stage 1 accumulates into one partial per group. Every window is a run of whole panes, so a row is
//! accumulated once, however many windows it is in:
//!
//! ```text
//! tumble(1m)          a window is one pane
//! hop(1m, 5m)         panes of one slide; a window is five of them, folded at close
//! session(10m)        panes no wider than the gap: rows of one group in one pane are in one session; which panes belong together
//!                     is found in stage 2, group by group
//! ```

use highwater_pipeline::functions::tumble_start_us;

/// Most panes of one window: beyond, folding them costs more than the rows.
const MAX_PANES: i64 = 10_000;
/// Most panes of one window over a rollup, where a pane is all that one of its windows has.
const MAX_PANES_OF_ROLLUP: i64 = 100_000;
/// A session's panes are this many to a gap, but never narrower than [`MIN_SESSION_PANE_US`].
const PANES_PER_GAP: i64 = 10;
const MIN_SESSION_PANE_US: i64 = 1_000_000;

/// The windows of a rollup. All widths are positive microseconds; everything is aligned to the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Windows {
    /// `tumble` and `hop`: a window begins every `slide_us` and is `size_us` wide.
    Fixed {
        /// From one window's start to the next.
        slide_us: i64,
        /// From a window's start to its end. At least the slide.
        size_us: i64,
        /// Divides both.
        pane_us: i64,
    },
    /// `session`: a window per group, from its first row to `gap_us` past its last.
    Session {
        /// Rows this far apart, or farther, are in two sessions.
        gap_us: i64,
        /// At most the gap.
        pane_us: i64,
    },
}

impl Windows {
    /// Windows of this width, one behind the other.
    pub(super) fn tumble(width_us: i64) -> Self {
        Self::Fixed { slide_us: width_us, size_us: width_us, pane_us: width_us }
    }

    /// Windows that begin every `slide_us`; the error says why there cannot be any.
    pub(super) fn hop(slide_us: i64, size_us: i64) -> Result<Self, String> {
        if size_us < slide_us {
            return Err("the window is smaller than the slide, so rows between windows would be in none; hop is hop(timestamp, slide, size) with the slide first".to_owned());
        }
        let pane_us = greatest_common_divisor(slide_us, size_us);
        if size_us / pane_us > MAX_PANES {
            return Err(format!(
                "a window would be made of {} panes, and {MAX_PANES} is the most; take a slide that divides the size, and at least a {MAX_PANES}th of it",
                size_us / pane_us
            ));
        }
        Ok(Self::Fixed { slide_us, size_us, pane_us })
    }

    /// Sessions that end where a group has had no row for the gap.
    pub(super) fn session(gap_us: i64) -> Self {
        let tenth = gap_us / PANES_PER_GAP;
        let whole_seconds = tenth - tenth % MIN_SESSION_PANE_US;
        Self::Session { gap_us, pane_us: whole_seconds.max(MIN_SESSION_PANE_US).min(gap_us) }
    }

    /// The same windows over the rows of a rollup whose windows begin every `slide_us`: of one pane there is one of those at most, so that
    /// a window which is closed again replaces a pane.
    pub(super) fn over(self, slide_us: i64) -> Result<Self, String> {
        let Self::Fixed { slide_us: slide, size_us, pane_us } = self else {
            return Err("session(...) over a rollup: its rows are windows, which have no gaps to go by; take session over logs or metrics, or tumble here".to_owned());
        };
        let pane_us = greatest_common_divisor(pane_us, slide_us);
        if size_us / pane_us > MAX_PANES_OF_ROLLUP {
            return Err(format!(
                "a window would be made of {} panes, and {MAX_PANES_OF_ROLLUP} is the most; roll up in more steps, or take a width that is a multiple of the windows below",
                size_us / pane_us
            ));
        }
        Ok(Self::Fixed { slide_us: slide, size_us, pane_us })
    }

    /// The width of a pane.
    pub(super) fn pane_us(self) -> i64 {
        match self {
            Self::Fixed { pane_us, .. } | Self::Session { pane_us, .. } => pane_us,
        }
    }

    /// The start of the pane that an instant falls into.
    pub(super) fn pane_of(self, instant_us: i64) -> i64 {
        tumble_start_us(instant_us, self.pane_us())
    }

    /// The watermark, lateness not counted, by which stage 2 has to have a pane's partials: the end of the first window that holds the pane. A session
    /// may end anywhere, so its panes go as soon as they are over.
    pub(super) fn due_us(self, pane_start_us: i64) -> i64 {
        let end_us = pane_start_us.saturating_add(self.pane_us());
        match self {
            Self::Fixed { slide_us, size_us, .. } => {
                first_start_us(pane_start_us, slide_us, size_us, self.pane_us()).saturating_add(size_us)
            }
            Self::Session { .. } => end_us,
        }
    }

    /// The watermark, lateness not counted, at which a session with its last row at this instant is over: every row that could still belong to it
    /// has been passed on by then, because the pane that its end falls into is over.
    pub(super) fn session_over_us(self, last_us: i64) -> i64 {
        let Self::Session { gap_us, pane_us } = self else { return last_us };
        let end_us = last_us.saturating_add(gap_us);
        let start_us = tumble_start_us(end_us, pane_us);
        if start_us == end_us { end_us } else { start_us.saturating_add(pane_us) }
    }

    /// The starts of the fixed windows that hold this pane, in order.
    pub(super) fn of_pane(self, pane_start_us: i64) -> impl Iterator<Item = i64> {
        let (first_us, last_us, slide_us) = match self {
            Self::Fixed { slide_us, size_us, pane_us } => {
                let first_us = first_start_us(pane_start_us, slide_us, size_us, pane_us);
                (first_us, tumble_start_us(pane_start_us, slide_us), slide_us)
            }
            Self::Session { .. } => (0, -1, 1),
        };
        let mut next = Some(first_us);
        std::iter::from_fn(move || {
            let start_us = next.filter(|&start_us| start_us <= last_us)?;
            next = start_us.checked_add(slide_us);
            Some(start_us)
        })
    }
}

/// The start of the first window that holds the pane.
fn first_start_us(pane_start_us: i64, slide_us: i64, size_us: i64, pane_us: i64) -> i64 {
    let last_us = tumble_start_us(pane_start_us, slide_us);
    // A window that begins this much before the last one still reaches past the pane's end.
    let before_us = (last_us.saturating_add(size_us).saturating_sub(pane_start_us).saturating_sub(pane_us)) / slide_us;
    last_us.saturating_sub(before_us.saturating_mul(slide_us))
}

fn greatest_common_divisor(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const S: i64 = 1_000_000;

    fn starts(windows: Windows, instant_us: i64) -> Vec<i64> {
        windows.of_pane(windows.pane_of(instant_us)).collect()
    }

    #[test]
    fn every_row_is_in_exactly_the_windows_that_span_it() {
        for (slide, size) in [(1, 1), (1, 5), (2, 6), (3, 7), (4, 6), (7, 10), (10, 10)] {
            let windows = Windows::hop(slide * S, size * S).unwrap();
            for instant in -40..40 {
                let at = instant * S + 17;
                let spanning: Vec<i64> =
                    (-60..60).map(|n| n * slide * S).filter(|&start| start <= at && at < start + size * S).collect();
                assert_eq!(starts(windows, at), spanning, "hop({slide}, {size}) at {instant}");
                // Stage 2 has the pane by the time the first of them closes, and not before the pane is over.
                let pane = windows.pane_of(at);
                assert_eq!(windows.due_us(pane), spanning[0] + size * S);
                assert!(windows.due_us(pane) >= pane + windows.pane_us());
            }
        }
    }

    #[test]
    fn a_window_is_as_wide_as_its_slide_at_least_and_of_few_panes() {
        assert!(Windows::hop(2 * S, S).unwrap_err().contains("smaller than the slide"));
        assert!(Windows::hop(S, 3_600 * S).is_ok());
        assert!(Windows::hop(7, 3_600 * S).unwrap_err().contains("panes"));
        assert_eq!(Windows::hop(4 * S, 6 * S).unwrap().pane_us(), 2 * S);
    }

    #[test]
    fn a_sessions_panes_are_narrower_than_its_gap_and_it_closes_within_one_of_its_end() {
        for gap_us in [1, 500_000, S, 9 * S, 25 * S, 61 * S, 1_800 * S] {
            let windows = Windows::session(gap_us);
            assert!(windows.pane_us() <= gap_us);
            for last_us in [-7 * S - 1, 0, 1, 123_456_789] {
                let over_us = windows.session_over_us(last_us);
                assert!((last_us + gap_us..last_us + gap_us + windows.pane_us()).contains(&over_us));
                assert_eq!(over_us.rem_euclid(windows.pane_us()), 0);
                // A row that would prolong it lies in a pane that has been passed on.
                let joining = windows.pane_of(last_us + gap_us - 1);
                assert!(windows.due_us(joining) <= over_us);
            }
        }
        assert_eq!(Windows::session(1_800 * S).pane_us(), 180 * S);
        assert_eq!(Windows::session(25 * S).pane_us(), 2 * S);
    }

    #[test]
    fn the_edges_of_time_are_windows_too() {
        for windows in [Windows::hop(S, 5 * S).unwrap(), Windows::tumble(60 * S), Windows::session(S)] {
            for at in [i64::MIN, i64::MIN + 1, i64::MAX] {
                let _ = windows.due_us(windows.pane_of(at));
                assert!(windows.of_pane(windows.pane_of(at)).count() < 10);
            }
        }
    }
}
