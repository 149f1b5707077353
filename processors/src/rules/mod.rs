//! Rules: alerts and recorded metrics, in PromQL ([`promql`]) or SQL.
//!
//! A rule file is Prometheus's; in place of `expr:` a rule may have `sql:`, a query over one rollup, or over a topic with a window (`over_topic`). It runs at
//! every closing of a window of that rollup, per tenant: every row it returns is an alert. String columns are its labels, the first numeric column its value.
//!
//! ```text
//!             row seen, for > 0           held for `for`
//!  inactive ───────────────────► pending ───────────────► firing ──► resolved
//!     ▲  │                          │ row gone              ▲   row gone for
//!     │  └── row seen, no `for` ────┼───────────────────────┘   keep_firing_for
//!     └─────────────────────────────┘
//! ```
//!
//! Time is the end of the window: event time, and nothing else. A window without rows is evaluated as well, once every stage-2 task has
//! closed it, so that alerts resolve in silence. Where late rows change a window that was evaluated, it and what followed are evaluated again, and what
//! is different is told (`corrections`). What comes for windows that are no longer kept is counted (`highwater_rules_late_rows_total`) and changes nothing.
//!
//! - [`RuleFile`]: reads and checks a file. [`RulePlan`]: a rule, planned against its rollup.
//! - [`RulesProcessor`]: the task. Its effects are the records of topic `alerts`.

mod alert;
mod blind;
mod closed;
mod corrections;
mod duration;
mod evidence;
mod file;
mod health;
mod lines;
mod lints;
mod over_topic;
mod place;
mod plan;
mod processor;
pub mod promql;
mod query;
mod selectors;
pub mod slos;
mod tombstones;
pub mod unit_tests;

pub use duration::parse_duration_ms;
pub use file::{Problem, Rule, RuleFile, RuleGroup};
pub use health::{Health, health};
pub use place::Place;
pub use plan::RulePlan;
pub use processor::RulesProcessor;
pub use selectors::Selector;

#[cfg(test)]
mod tests;
