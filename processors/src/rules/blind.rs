//! SQL rules that have gone blind, as PromQL rules can (`promql::silent`): the rollup has no rows for the rule any more, and had some before. A service that was renamed, an
//! agent that has stopped: the rule itself would be silent for ever.
//!
//! It is told once nothing was there for [`QUIET_US`] of event time, or three windows where those are longer. Three kinds of rules are left alone: those that ask for
//! absence (over no rows they have an alert); those whose rollup has rows only where something is wrong, so that none is as it should be: with a HAVING, or a
//! WHERE that asks for more than who sent the rows ([`SENDERS`]); and those over logs or spans that name nobody, because it is no mistake that nothing happens.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::record_batch::RecordBatch;
use datafusion::sql::sqlparser::ast::{self, BinaryOperator, Expr};
use highwater_pipeline::data::alerts::{State, Transition};
use highwater_pipeline::data::labels;
use highwater_pipeline::log::Record;
use highwater_pipeline::runtime::ProcessorError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::alert::Identity;
use super::evidence::{quoted, quoted_name, select_of};
use super::promql::{SELECTS_NOTHING, nothing_labels, nothing_texts};
use crate::rollups::{RollupPlan, Source};

/// How long nothing has to be there, in event time.
const QUIET_US: i64 = 15 * 60 * 1_000_000;
const QUIET_WINDOWS: i64 = 3;
/// Columns that say who sent a row.
const SENDERS: [&str; 8] = ["service", "host", "name", "job", "instance", "labels", "series_id", "kind"];

/// What a rule has to see.
#[derive(Debug)]
pub(super) struct Watch {
    /// Columns of the rollup and the texts, one of which the rule wants there.
    wanted: Vec<(String, Vec<String>)>,
    quiet_us: i64,
}

/// What a rule has seen, for one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sight {
    /// End of the last window with rows for it.
    seen_us: i64,
    /// Since when it is told to be blind.
    blind_us: Option<i64>,
}

/// A rule that has gone blind, or sees again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) tenant: String,
    pub(super) is_blind: bool,
    pub(super) at_us: i64,
    since_us: i64,
    /// End of the last window with rows for it.
    pub(super) seen_us: i64,
}

/// What a rule has seen, by tenant.
pub(super) type Sights = BTreeMap<String, Sight>;

impl Watch {
    /// Of a rule's query over a rollup; `None` where none has to be there.
    pub(super) fn new(rollup: &RollupPlan, sql: &str) -> Option<Self> {
        // Samples come whatever happens.
        let mut names_somebody = rollup.source() == Source::Metrics;
        let mut below = Some(rollup);
        while let Some(one) = below {
            let select = select_of(one.sql())?;
            names_somebody |= select.selection.is_some();
            if select.having.is_some() || !select.selection.iter().all(asks_who) {
                return None;
            }
            below = one.upstream().map(|upstream| &**upstream);
        }
        let schema = rollup.output_schema();
        let mut wanted = Vec::new();
        // Of the rollup's own rows and nothing made of them.
        let reads_it = |select: &ast::Select| match select.from.as_slice() {
            [from] => from.joins.is_empty() && from.relation.to_string().trim_matches('"') == rollup.name(),
            _ => false,
        };
        if let Some(condition) = select_of(sql).filter(reads_it).and_then(|select| select.selection) {
            conjuncts(&condition, &mut wanted);
        }
        wanted.retain(|(column, _)| SENDERS.contains(&column.as_str()) && schema.column_with_name(column).is_some());
        if !names_somebody && wanted.is_empty() {
            return None;
        }
        let windows = rollup.width_us().saturating_mul(QUIET_WINDOWS);
        Some(Self { wanted, quiet_us: QUIET_US.max(windows) })
    }

    /// Looks at the rows of a window that ends at `end_us`, by tenant. Windows come in order, but for those that late rows have changed.
    pub(super) fn look(
        &self,
        sights: &mut Sights,
        end_us: i64,
        rows: &BTreeMap<String, Vec<RecordBatch>>,
    ) -> Vec<Turn> {
        let mut turns = Vec::new();
        for (tenant, batches) in rows {
            if !batches.iter().any(|batch| self.is_in(batch)) {
                continue;
            }
            let Some(sight) = sights.get_mut(tenant) else {
                sights.insert(tenant.clone(), Sight { seen_us: end_us, blind_us: None });
                continue;
            };
            // As if the silence before this window had been looked at by itself.
            turns.extend(self.miss(tenant, sight, end_us - 1));
            sight.seen_us = sight.seen_us.max(end_us);
            if let Some(since_us) = sight.blind_us.filter(|since_us| end_us >= *since_us) {
                sight.blind_us = None;
                let (tenant, seen_us) = (tenant.clone(), sight.seen_us);
                turns.push(Turn { tenant, is_blind: false, at_us: end_us, since_us, seen_us });
            }
        }
        turns
    }

    /// All windows up to `closed_us` were looked at.
    pub(super) fn closed(&self, sights: &mut Sights, closed_us: i64) -> Vec<Turn> {
        sights.iter_mut().filter_map(|(tenant, sight)| self.miss(tenant, sight, closed_us)).collect()
    }

    fn miss(&self, tenant: &str, sight: &mut Sight, until_us: i64) -> Option<Turn> {
        let at_us = sight.seen_us.saturating_add(self.quiet_us);
        if at_us > until_us || sight.blind_us.is_some() {
            return None;
        }
        sight.blind_us = Some(at_us);
        Some(Turn { tenant: tenant.to_owned(), is_blind: true, at_us, since_us: at_us, seen_us: sight.seen_us })
    }

    fn is_in(&self, batch: &RecordBatch) -> bool {
        let is_wanted = |row: usize| {
            self.wanted.iter().all(|(column, texts)| {
                let column = batch.column_by_name(column).and_then(|column| column.as_string_opt::<i32>());
                column.is_none_or(|column| column.is_valid(row) && texts.iter().any(|text| text == column.value(row)))
            })
        };
        (0..batch.num_rows()).any(is_wanted)
    }

    /// What the rule asks of the rollup's rows, as a condition in SQL.
    pub(super) fn conditions(&self) -> String {
        let one = |(column, texts): &(String, Vec<String>)| {
            let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
            format!(" AND {} IN ({})", quoted_name(column), texts.join(", "))
        };
        self.wanted.iter().map(one).collect()
    }
}

/// Takes away what is told of a rule that is no more.
pub(super) fn abandon(sights: Sights, now_us: i64) -> Vec<Turn> {
    let told = sights.into_iter().filter_map(|(tenant, sight)| {
        let since_us = sight.blind_us?;
        Some(Turn { tenant, is_blind: false, at_us: now_us, since_us, seen_us: sight.seen_us })
    });
    told.collect()
}

impl Turn {
    /// The record of topic `alerts`.
    pub(super) fn to_record(&self, rule: &Identity, source: Value) -> Result<Record, ProcessorError> {
        let labels = nothing_labels(&rule.group, &rule.name);
        let mut canonical = String::new();
        labels::write_canonical(labels.iter().map(|(k, v)| (k.as_str(), v.as_str())), &mut canonical);
        let transition = Transition {
            timestamp_us: self.at_us,
            fingerprint: labels::fingerprint(&self.tenant, &rule.group, SELECTS_NOTHING, &canonical),
            alertname: SELECTS_NOTHING.to_owned(),
            group_name: rule.group.clone(),
            state: if self.is_blind { State::Firing } else { State::Resolved },
            labels,
            annotations: nothing_texts(&rule.group, &rule.name),
            value: Some(0.0),
            starts_at_us: Some(self.since_us),
            fired_at_us: Some(self.since_us),
            ends_at_us: (!self.is_blind).then_some(self.at_us),
            rule: rule.shown.clone(),
            source,
            tenant: self.tenant.clone(),
        };
        metrics::counter!("highwater_alert_transitions_total", "state" => transition.state.as_str()).increment(1);
        let written = transition.to_record();
        written.map_err(|e| ProcessorError::caused(format!("an alert of rule {} cannot be written", rule.name), e))
    }
}

/// True where a condition names nothing but who sent a row.
fn asks_who(condition: &Expr) -> bool {
    let walked = ast::visit_expressions(condition, |part| {
        let name = match part {
            Expr::Identifier(name) => Some(name),
            Expr::CompoundIdentifier(names) => names.last(),
            _ => None,
        };
        match name {
            Some(name) if !SENDERS.contains(&name.value.to_lowercase().as_str()) => std::ops::ControlFlow::Break(()),
            _ => std::ops::ControlFlow::Continue(()),
        }
    });
    walked.is_continue()
}

/// What has to hold of columns compared with texts, of all that has to hold.
fn conjuncts(condition: &Expr, found: &mut Vec<(String, Vec<String>)>) {
    let column = |expr: &Expr| match expr {
        Expr::Identifier(name) if name.quote_style.is_some() => Some(name.value.clone()),
        Expr::Identifier(name) => Some(name.value.to_lowercase()),
        _ => None,
    };
    let text = |expr: &Expr| match expr {
        Expr::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    };
    match condition {
        Expr::Nested(inner) => conjuncts(inner, found),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjuncts(left, found);
            conjuncts(right, found);
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            let pair = column(left).zip(text(right)).or_else(|| column(right).zip(text(left)));
            found.extend(pair.map(|(column, text)| (column, vec![text])));
        }
        Expr::InList { expr, list, negated: false } => {
            let texts: Option<Vec<String>> = list.iter().map(text).collect();
            found.extend(column(expr).zip(texts));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};

    use super::*;
    use crate::rollups::RollupConfig;

    const MINUTE_US: i64 = 60_000_000;

    fn watch(condition: &str, rule: &str) -> Option<Watch> {
        let sql = format!(
            "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, service, host, count(*) AS n FROM logs {condition}"
        );
        Watch::new(&RollupPlan::new(&RollupConfig::new("requests", &sql)).unwrap(), rule)
    }

    fn rows(services: &[&str]) -> BTreeMap<String, Vec<RecordBatch>> {
        let column: ArrayRef = Arc::new(StringArray::from(services.to_vec()));
        BTreeMap::from([("a".to_owned(), vec![RecordBatch::try_from_iter([("service", column)]).unwrap()])])
    }

    /// One letter per minute: what was there; the answer is what is told, and at which minute.
    fn play(watch: &Watch, script: &str) -> String {
        let (mut sights, mut said) = (Sights::new(), String::new());
        for (end_us, letter) in (1..).map(|minute| minute * MINUTE_US).zip(script.chars()) {
            let mut turns = match letter {
                's' => watch.look(&mut sights, end_us, &rows(&["other", "shop"])),
                'o' => watch.look(&mut sights, end_us, &rows(&["other"])),
                _ => Vec::new(),
            };
            // '-': nobody looks.
            if letter != '-' {
                turns.extend(watch.closed(&mut sights, end_us));
            }
            for turn in turns {
                said.push_str(if turn.is_blind { "blind " } else { "sees " });
                said.push_str(&format!("{} ", turn.at_us / MINUTE_US));
            }
        }
        said
    }

    #[test]
    fn it_is_told_after_a_quarter_of_an_hour_without_rows_however_time_comes() {
        let all =
            watch("WHERE host LIKE '%' GROUP BY 1, 2, 3", "SELECT service, n FROM requests WHERE n > 10").unwrap();
        assert_eq!(play(&all, "....s..............."), "blind 20 ");
        assert_eq!(play(&all, "s..............o"), "", "in time");
        assert_eq!(play(&all, "s.................o.."), "blind 16 sees 19 ");
        assert_eq!(play(&all, "s-----------------o.."), "blind 16 sees 19 ");
        let one =
            watch("GROUP BY 1, 2, 3", "SELECT service, n FROM requests WHERE (service = 'shop' AND n > 1)").unwrap();
        assert_eq!(play(&one, "ooosoooooooooooooooo"), "blind 19 ");
        assert_eq!(one.conditions(), " AND \"service\" IN ('shop')");
        let errors = "SELECT service, n FROM requests WHERE service = 'shop' AND level = 'ERROR'";
        assert_eq!(
            watch("GROUP BY 1, 2, 3", errors).unwrap().conditions(),
            " AND \"service\" IN ('shop')",
            "no errors are well"
        );
        let two = "SELECT service, n FROM requests WHERE service IN ('shop', 'other') AND n > 1 OR host = 'a'";
        assert_eq!(watch("WHERE host LIKE '%' GROUP BY 1, 2, 3", two).unwrap().conditions(), "");
    }

    #[test]
    fn rules_for_which_nothing_is_as_it_should_be_are_left_alone() {
        let rule = "SELECT service, n FROM requests WHERE n > 10";
        assert!(watch("WHERE service = 'shop' AND host LIKE 'web-%' GROUP BY 1, 2, 3", rule).is_some());
        assert!(watch("WHERE level = 'ERROR' GROUP BY 1, 2, 3", rule).is_none());
        assert!(watch("WHERE service = 'shop' AND message LIKE '%failed%' GROUP BY 1, 2, 3", rule).is_none());
        assert!(watch("GROUP BY 1, 2, 3 HAVING count(*) > 10", rule).is_none());
        assert!(watch("GROUP BY 1, 2, 3", rule).is_none(), "nobody is named: logs come or do not");
        let metrics = "SELECT tumble(timestamp, INTERVAL '1 minute') AS window_start, name, count(*) AS n FROM metrics GROUP BY 1, 2";
        let metrics = RollupPlan::new(&RollupConfig::new("requests", metrics)).unwrap();
        assert!(Watch::new(&metrics, "SELECT name, n FROM requests WHERE n > 10").is_some(), "samples come always");
    }
}
