//! Go's `text/template`, as Prometheus's rules and Alertmanager's receivers use it.
//!
//! Why our own: rule files have to load unchanged, and what is in them is Go's language to its corners (whitespace trimming, `else if`, `break`, typed
//! comparison, `printf`'s verbs, floats as Go prints them).
//!
//! - [`Template`]: parsed once, executed often. Unknown functions and variables are found when it is parsed.
//! - [`Value`]: what a template sees.
//! - [`Functions`]: what it can call besides the built-ins; [`prometheus`] has those of rules, [`alertmanager`] those of receivers.
//!
//! Nothing in here has a clock: times are arguments. Output and depth are bounded, so that a template cannot take the process with it.

pub mod alertmanager;
mod builtins;
mod error;
mod exec;
mod format;
mod lexer;
mod parser;
pub mod prometheus;
mod strings;
mod value;

pub use error::TemplateError;
pub use exec::{Functions, Template};
pub use format::{format_float, sprintf};
pub use strings::{match_label, query_escape};
pub use value::{Duration, Value};

#[cfg(test)]
mod tests;
