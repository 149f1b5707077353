//! PromQL: (query, time, series source) -> value. This crate knows no broker, no clock and does no IO.
//!
//! ```
//! use highwater_promql::{Cancel, Options, ParserOptions, Query, Selection, Series, SeriesSource, SourceError, Steps};
//!
//! struct Nothing;
//! impl SeriesSource for Nothing {
//!     fn select(&self, _: &Selection) -> Result<Vec<Series>, SourceError> {
//!         Ok(Vec::new())
//!     }
//! }
//!
//! let query = Query::parse("sum by (job) (rate(http_requests_total[5m]))", &ParserOptions::default())?;
//! let steps = Steps::range(0, 3_600_000, 15_000)?;
//! assert_eq!(query.selections(&steps, &Options::default())?[0].start_ms, -300_000);
//! # Ok::<(), highwater_promql::Error>(())
//! ```
//!
//! How it is built, and why: `docs/decisions/0024-promql-engine.md`.

mod annotations;
mod engine;
mod error;
pub mod head;
mod histogram;
mod kahan;
mod labels;
mod options;
pub mod parser;
mod query;
mod regexp;
pub mod script;
mod source;
mod value;

pub use annotations::{Annotations, Severity};
pub use error::{Error, ErrorKind, ParseError, Span};
pub use histogram::{
    Bucket, BucketSpan, CUSTOM_BUCKETS_SCHEMA, Combined, CounterResetHint, Histogram, IncompatibleSchemas, Side,
};
pub use labels::{
    BUCKET_LABEL, Label, Labels, METRIC_NAME, METRIC_TYPE, METRIC_UNIT, Quoted, is_classic_label_name,
    is_classic_metric_name,
};
pub use options::{Cancel, Options, ParserOptions, Steps};
pub use query::Query;
pub use regexp::Pattern;
pub use source::{CompiledMatcher, MatchOp, Matcher, Selection, Series, SeriesSource, SourceError};
pub use value::{
    Answer, STALE_NAN, STALE_NAN_BITS, Sample, Stats, Value, VectorSample, format_float, format_float_g, is_stale,
};

/// Runs a step of a recursion on a stack that has room for it: queries nest deeper than threads like.
pub(crate) fn deep<T>(step: impl FnOnce() -> T) -> T {
    const ROOM: usize = 128 << 10;
    const MORE: usize = 2 << 20;
    stacker::maybe_grow(ROOM, MORE, step)
}
