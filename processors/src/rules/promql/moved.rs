//! What a rules task sends to another one when a change of the rules has made a group the other's: what the group has up, and which of its alerts are over.
//!
//! The rules themselves start anew there, as edited ones do. But who takes down what
//! was up has to be the one who may put it up again, and it may have done so already: the words of two tasks about one alert come in any order.
//!
//! ```text
//! record of `__highwater.rules`, highwater-rows: __moved, highwater-definition: 1
//! one batch: moved Utf8, one row: a `Moved` in JSON
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray, StringArray};
use arrow::record_batch::RecordBatch;
use highwater_pipeline::runtime::{ProcessorError, StageRows};
use serde::{Deserialize, Serialize};

use super::group::Saved;
use super::silent::Selects;
use super::ticks::SavedRule;

/// Name of these rows in the rules topic, and the version of their meaning.
pub(in crate::rules) const ROWS: &str = "__moved";
const ROWS_VERSION: u64 = 1;
const COLUMN: &str = "moved";
/// Most alerts of one record.
const MAX_ALERTS: usize = 500;

/// Something of a group that is another task's now.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::rules) enum Moved {
    /// A rule as it was left, or a part of its alerts.
    Rule {
        /// The rule.
        rule: Box<SavedRule>,
        /// How far time had come, Unix milliseconds.
        now_ms: i64,
        /// True where this is all of it, with the parts before.
        is_last: bool,
    },
    /// Alerts that are over, by fingerprint, and since when, Unix microseconds.
    Over {
        /// The group's name.
        group: String,
        /// The alerts.
        since_us: BTreeMap<String, i64>,
    },
}

impl Moved {
    /// A rule, in parts of bounded size.
    pub(super) fn rule(mut rule: SavedRule, now_ms: i64) -> Vec<Self> {
        let mut parts = Vec::new();
        for (tenant, saved) in &mut rule.tenants {
            while saved.alerts.len() > MAX_ALERTS {
                let alerts = saved.alerts.split_off(saved.alerts.len() - MAX_ALERTS);
                let part = Saved {
                    alerts,
                    written: Vec::new(),
                    last_error: None,
                    last_evaluation_ms: None,
                    selects: Selects::default(),
                };
                let tenants = BTreeMap::from([(tenant.clone(), part)]);
                let (id, group, name) = (rule.id.clone(), rule.group.clone(), rule.name.clone());
                let part = SavedRule { id, group, name, shown: rule.shown.clone(), tenants };
                parts.push(Self::Rule { rule: Box::new(part), now_ms, is_last: false });
            }
        }
        parts.push(Self::Rule { rule: Box::new(rule), now_ms, is_last: true });
        parts
    }

    /// The group that it is of.
    pub(in crate::rules) fn group(&self) -> &str {
        match self {
            Self::Rule { rule, .. } => &rule.group,
            Self::Over { group, .. } => group,
        }
    }

    /// The rows that carry it.
    pub(in crate::rules) fn to_rows(&self, source: &str) -> Result<StageRows, ProcessorError> {
        let failed = |e: &dyn std::fmt::Display| {
            ProcessorError::new(format!("what group {} leaves behind cannot be written: {e}", self.group()))
        };
        let text = serde_json::to_string(self).map_err(|e| failed(&e))?;
        let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
        let batch = RecordBatch::try_from_iter([(COLUMN, column)]).map_err(|e| failed(&e))?;
        Ok(StageRows { name: ROWS.into(), definition: ROWS_VERSION, source: source.into(), batch })
    }

    /// Reads it back.
    pub(in crate::rules) fn parse(rows: &StageRows) -> Result<Self, ProcessorError> {
        let column = rows.batch.column_by_name(COLUMN).and_then(|column| column.as_string_opt::<i32>());
        let text = column.filter(|column| column.len() == 1 && rows.definition == ROWS_VERSION);
        let text =
            text.ok_or_else(|| ProcessorError::new(format!("rows of {ROWS} are of a form that is not known")))?;
        serde_json::from_str(text.value(0))
            .map_err(|e| ProcessorError::caused(format!("rows of {ROWS} are unreadable"), e))
    }
}
