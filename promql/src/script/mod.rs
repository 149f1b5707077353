//! Test scripts in Prometheus's own format: `load` series, `eval` queries, and say what must come out.
//!
//! ```text
//! load 5m
//!   http_requests{job="api"}  0+10x10
//!
//! eval instant at 50m  sum(http_requests)
//!   {} 100
//!
//! eval range from 0 to 10m step 5m  http_requests * 2
//!   expect no_warn
//!   {job="api"}  0 20 40
//! ```

mod compare;
mod parse;
mod run;
mod storage;
#[cfg(test)]
mod tests;

pub use run::{Failure, Report, run};

/// How scripts are run: every part of the language on, as Prometheus runs its own.
#[must_use]
pub fn options() -> crate::Options {
    crate::Options {
        delayed_name_removal: true,
        use_start_timestamps: true,
        max_samples: 1_000_000,
        max_steps: 1_000_000,
        ..crate::Options::default()
    }
}
