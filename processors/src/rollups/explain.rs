//! A rollup in words: its window, and how it is kept up to date.

use super::config::LatePolicy;
use super::plan::RollupPlan;
use super::windows::Windows;

impl RollupPlan {
    /// Its window, e.g. `tumble 1m` or `hop 1m, 5m`.
    pub fn window_text(&self) -> String {
        match self.windows {
            Windows::Fixed { slide_us, size_us, .. } if slide_us == size_us => format!("tumble {}", time(size_us)),
            Windows::Fixed { slide_us, size_us, .. } => format!("hop {}, {}", time(slide_us), time(size_us)),
            Windows::Session { gap_us, .. } => format!("session {}", time(gap_us)),
        }
    }

    /// How it is kept up to date, a line for each step.
    pub fn explain(&self) -> Vec<String> {
        let pane = time(self.windows.pane_us());
        let mut lines = vec![format!("{}: {} over {}", self.name, self.window_text(), self.input())];
        if let Some(filter) = &self.filter {
            lines.push(format!("  rows            {filter}"));
        }
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        let keys = if keys.is_empty() { "tenant".to_owned() } else { format!("tenant, {}", keys.join(", ")) };
        lines.push(format!("  groups          {keys}"));
        lines.push(format!(
            "  stage 1         one partial per group and {pane} of event time, in each partition of {}",
            self.input()
        ));
        for aggregate in &self.aggregates {
            let columns = aggregate.state_columns;
            let plural = if columns == 1 { "" } else { "s" };
            lines.push(format!(
                "    {:<60} {columns} column{plural} of state",
                aggregate.function.human_display().unwrap_or_else(|| aggregate.function.name())
            ));
        }
        lines.push(match self.windows {
            Windows::Fixed { slide_us, size_us, pane_us } if size_us > pane_us => format!(
                "  stage 2         a window every {}, each of {} partials, folded in the order of partitions and panes",
                time(slide_us),
                size_us / pane_us
            ),
            Windows::Fixed { .. } => {
                "  stage 2         a window is one partial of each partition, folded in their order".to_owned()
            }
            Windows::Session { gap_us, .. } => {
                format!(
                    "  stage 2         partials of a group that are less than {} apart are one session",
                    time(gap_us)
                )
            }
        });
        lines.push(format!(
            "  closes          once the watermark is {} past the end{}",
            time(self.lateness_us),
            match &self.upstream {
                Some(upstream) => format!(", and {} has closed its last window in it", upstream.name),
                None => String::new(),
            }
        ));
        lines.push(match self.late {
            LatePolicy::Correct => format!(
                "  late rows       open their window again; it closes 10s after the last of them, up to {} after its last closing",
                time(self.horizon_us)
            ),
            LatePolicy::Drop => "  late rows       are left out and counted".to_owned(),
        });
        lines.push(match (&self.upstream, self.backfill) {
            (Some(upstream), _) => {
                format!("  when new        takes in what {} closes from then on, and all of it where that one is new as well", upstream.name)
            }
            (None, true) => format!("  when new        takes in the stored rows of {} up to its first record, then that one on", self.input()),
            (None, false) => "  when new        begins with its first record".to_owned(),
        });
        lines
    }
}

/// A time in the largest unit that it is a whole number of.
fn time(us: i64) -> String {
    let units = [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"), (1_000, "ms")];
    match units.into_iter().find(|(unit_us, _)| us != 0 && us % unit_us == 0) {
        Some((unit_us, name)) => format!("{}{name}", us / unit_us),
        None if us == 0 => "0s".to_owned(),
        None => format!("{us}us"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::RollupConfig;
    use super::*;

    #[test]
    fn a_rollup_is_told_in_words() {
        let sql =
            "SELECT hop(timestamp, INTERVAL '30 seconds', INTERVAL '5 minutes') AS window_start, service, count(*) AS n
                   FROM logs WHERE level = 'ERROR' GROUP BY 1, 2";
        let plan = RollupPlan::new(&RollupConfig::new("errors", sql)).unwrap();
        assert_eq!(plan.window_text(), "hop 30s, 5m");
        let text = plan.explain().join("\n");
        for part in [
            "errors: hop 30s, 5m over logs",
            "level@",
            "tenant, service@",
            "count(",
            "each of 10 partials",
            "5s past",
            "up to 1d after",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
