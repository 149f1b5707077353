//! JSON without a tree: spans of the text go straight into column builders.
//!
//! - [`reader`]: the tokens of one JSON text;
//! - [`entries`]: the forms a body may have (object, array, wrapper, lines), entry by entry;
//! - `docs/decisions/0003-json-reader.md` says why there is a reader of our own.

mod entries;
mod error;
mod reader;
mod string;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use entries::{EntrySink, Limits, read_entries};
pub(crate) use error::SyntaxError;
pub use error::{BodyError, Position};
pub(crate) use reader::Reader;
pub(crate) use string::Str;
pub(crate) use value::Value;
