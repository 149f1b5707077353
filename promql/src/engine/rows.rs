//! Vectors over all steps: one row per series.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};

use crate::error::{Error, execution};
use crate::histogram::Histogram;
use crate::labels::Labels;
use crate::value::{STALE_NAN, is_stale};

/// What a column has where the series has no float at a step. No sample of a vector has these bits: selectors end a series
/// at its staleness marker, and arithmetic makes every NaN a quiet one.
pub(super) const ABSENT: f64 = STALE_NAN;

#[inline]
pub(super) fn is_absent(value: f64) -> bool {
    is_stale(value)
}

/// Histograms of a row, one slot per step.
pub(super) type Histograms = Vec<Option<Arc<Histogram>>>;

/// A series of a vector: one value, or none, at each step.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) labels: Labels,
    /// The metric's name goes once the query is evaluated (only with delayed name removal).
    pub(super) drop_name: bool,
    /// As many as there are steps.
    pub(super) values: Vec<f64>,
    /// As many as there are steps; where one is, `values` has [`ABSENT`].
    pub(super) histograms: Option<Box<Histograms>>,
}

/// A value at a step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cell<'a> {
    Absent,
    Float(f64),
    Histogram(&'a Arc<Histogram>),
}

impl Row {
    pub(super) fn floats(labels: Labels, values: Vec<f64>) -> Self {
        Row { labels, drop_name: false, values, histograms: None }
    }

    pub(super) fn empty(labels: Labels, steps: usize) -> Self {
        Row::floats(labels, vec![ABSENT; steps])
    }

    #[inline]
    pub(super) fn cell(&self, step: usize) -> Cell<'_> {
        let value = self.values[step];
        if !is_absent(value) {
            return Cell::Float(value);
        }
        match self.histograms.as_ref().and_then(|h| h[step].as_ref()) {
            Some(h) => Cell::Histogram(h),
            None => Cell::Absent,
        }
    }

    #[inline]
    pub(super) fn is_present(&self, step: usize) -> bool {
        !matches!(self.cell(step), Cell::Absent)
    }

    pub(super) fn has_any(&self) -> bool {
        self.histograms.is_some() && (0..self.values.len()).any(|s| self.is_present(s))
            || self.values.iter().any(|v| !is_absent(*v))
    }

    /// How many samples it counts as.
    pub(super) fn samples(&self) -> usize {
        let floats = self.values.iter().filter(|v| !is_absent(**v)).count();
        let histograms = self.histograms.as_ref().map_or(0, |h| h.iter().flatten().map(|h| h.size_in_samples()).sum());
        floats + histograms
    }

    pub(super) fn set_histogram(&mut self, step: usize, h: Arc<Histogram>) {
        let steps = self.values.len();
        self.values[step] = ABSENT;
        self.histograms.get_or_insert_with(|| Box::new(vec![None; steps]))[step] = Some(h);
    }

    pub(super) fn set(&mut self, step: usize, cell: Cell<'_>) {
        match cell {
            Cell::Absent => {}
            Cell::Float(v) => self.values[step] = v,
            Cell::Histogram(h) => self.set_histogram(step, Arc::clone(h)),
        }
    }

    pub(super) fn remove(&mut self, step: usize) {
        self.values[step] = ABSENT;
        if let Some(h) = &mut self.histograms {
            h[step] = None;
        }
    }

    /// The same with only the steps that `keep` says yes to.
    pub(super) fn masked(&self, keep: impl Fn(usize) -> bool) -> Row {
        let mut row = self.clone();
        for step in 0..row.values.len() {
            if !keep(step) {
                row.remove(step);
            }
        }
        row
    }

    /// The one value of the first step, at all steps.
    pub(super) fn broadcast(&self, steps: usize) -> Row {
        let mut row = Row {
            labels: self.labels.clone(),
            drop_name: self.drop_name,
            values: vec![self.values[0]; steps],
            histograms: None,
        };
        if let Some(h) = &self.histograms {
            row.histograms = Some(Box::new(vec![h[0].clone(); steps]));
        }
        row
    }
}

/// Whether two rows have the same labels.
pub(super) fn has_duplicates(rows: &[Row]) -> bool {
    if rows.len() <= 1 {
        return false;
    }
    if rows.len() == 2 {
        return rows[0].labels == rows[1].labels;
    }
    let mut seen = AHashSet::with_capacity(rows.len());
    !rows.iter().all(|r| seen.insert(&r.labels))
}

/// Makes one row of those with the same labels.
///
/// # Errors
/// Where two of them have a value at the same step.
pub(super) fn merge_duplicates(rows: Vec<Row>) -> Result<Vec<Row>, Error> {
    if !has_duplicates(&rows) {
        return Ok(rows);
    }
    let mut index: AHashMap<Labels, usize> = AHashMap::with_capacity(rows.len());
    let mut out: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        match index.get(&row.labels) {
            None => {
                index.insert(row.labels.clone(), out.len());
                out.push(row);
            }
            Some(at) => {
                let into = &mut out[*at];
                for step in 0..row.values.len() {
                    let cell = row.cell(step);
                    if matches!(cell, Cell::Absent) {
                        continue;
                    }
                    if into.is_present(step) {
                        return execution("vector cannot contain metrics with the same labelset");
                    }
                    into.set(step, cell);
                }
            }
        }
    }
    Ok(out)
}
