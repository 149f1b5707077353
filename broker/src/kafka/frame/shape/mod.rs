//! The wire shape of every request that is served, as data, and the proof that a body has it.
//!
//! `kafka-protocol` reserves memory for the counts that a request claims. So a body is walked first: each string, blob and list must lie
//! within the bytes that are there, each must be well-formed UTF-8 where it is text, and null only where null is allowed. What passes
//! decodes, and takes memory in proportion to its size: a list has as many elements as it says, and all lists together have no
//! more than [`MAX_ELEMENTS`].
//!
//! ```text
//!            plain                                  flexible (from a version of each API on)
//! text       i16 length (-1 null), UTF-8            varint length + 1 (0 null), UTF-8
//! blob       i32 length (-1 null), bytes            varint length + 1 (0 null), bytes
//! list       i32 count (-1 null), elements          varint count + 1 (0 null), elements
//! struct     fields                                 fields, varint count of tagged fields, of each: varint tag, varint size, bytes
//! ```
//!
//! The tables follow Kafka's message definitions for the versions that `apis` serves, field by field. Tests hold them against
//! `kafka-protocol`: whatever it encodes passes, and whatever passes it decodes.

use kafka_protocol::messages::ApiKey;

mod admin;
mod groups;
mod records;
mod sessions;
#[cfg(test)]
mod tests;
mod transactions;
mod walk;

pub(in crate::kafka) use walk::{ShapeError, Walk};

/// Elements of all lists of one request, and its tagged fields. An element takes up to some 200 bytes once it is decoded.
pub(super) const MAX_ELEMENTS: usize = 100_000;

/// A version that never comes.
const NEVER: i16 = i16::MAX;

/// The shape of a request in all its versions.
#[derive(Debug)]
pub(in crate::kafka) struct Shape {
    /// The first version with compact lengths and tagged fields.
    flexible: i16,
    fields: &'static [Field],
}

impl Shape {
    /// The shape of an API's requests; `None` where it is not served.
    pub(in crate::kafka) fn of(key: ApiKey) -> Option<&'static Self> {
        records::shape(key)
            .or_else(|| groups::shape(key))
            .or_else(|| transactions::shape(key))
            .or_else(|| admin::shape(key))
            .or_else(|| sessions::shape(key))
    }

    /// True where lengths are compact and fields may be tagged, in header and body alike.
    pub(in crate::kafka) fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible
    }
}

/// A field of a request or of a struct in it, and the versions that have it.
#[derive(Debug)]
struct Field {
    since: i16,
    until: i16,
    kind: Kind,
}

/// What a field is on the wire.
#[derive(Debug)]
enum Kind {
    /// So many bytes, whatever they are: numbers, booleans, UUIDs.
    Fixed(usize),
    Text,
    NullableText,
    Blob,
    NullableBlob,
    /// A list of structs.
    Structs(&'static [Field]),
    NullableStructs(&'static [Field]),
    /// A list of bare values.
    Values(&'static Kind),
    NullableValues(&'static Kind),
    /// A tagged field of this number. It comes behind the others, if at all.
    Tagged(u32, &'static Kind),
}

const BOOL: Kind = Kind::Fixed(1);
const I8: Kind = Kind::Fixed(1);
const I16: Kind = Kind::Fixed(2);
const I32: Kind = Kind::Fixed(4);
const I64: Kind = Kind::Fixed(8);
const UUID: Kind = Kind::Fixed(16);

/// A field of every version.
const fn always(kind: Kind) -> Field {
    between(0, NEVER, kind)
}

/// A field of this version and later ones.
const fn since(version: i16, kind: Kind) -> Field {
    between(version, NEVER, kind)
}

/// A field of the versions up to this one.
const fn until(version: i16, kind: Kind) -> Field {
    between(0, version, kind)
}

/// A field of these versions.
const fn between(since: i16, until: i16, kind: Kind) -> Field {
    Field { since, until, kind }
}
