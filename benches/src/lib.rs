//! What the benchmarks share: the logs they send, and how bodies are compressed.
//!
//! Figures, and the commands that made them, are in `docs/benchmarks.md`. No test asserts a time.

pub mod compression;
pub mod logs;
pub mod protobuf;
pub mod requests;
