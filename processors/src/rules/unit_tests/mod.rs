//! Tests of rules: promtool's unit-test files, unchanged.
//!
//! Samples are written out, rules are evaluated at every `evaluation_interval` from 0 on, and the alerts that fire at a time, or the answers of queries,
//! are compared with what is expected. What evaluates is what evaluates on the stream.
//!
//! Two keys more than promtool's are for rules in SQL: `rollups:` beside `tests:`, and in a test `input_logs:`, lines as `POST /logs` takes them with
//! how many come at each step. `input_series` is for them as well. What fires at a time is what had fired in windows that end by then, with the texts it fired with.

mod compare;
mod file;
mod run;
mod sql;

pub use file::TestFile;
pub use run::{Case, run};

#[cfg(test)]
mod tests;
