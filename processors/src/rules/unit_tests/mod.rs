//! Tests of rules: promtool's unit-test files, unchanged.
//!
//! Samples are written out, rules are evaluated at every `evaluation_interval` from 0 on, and the alerts that fire at a time, or the answers of queries,
//! are compared with what is expected. What evaluates is what evaluates on the stream.

mod compare;
mod file;
mod run;

pub use file::TestFile;
pub use run::run;

#[cfg(test)]
mod tests;
