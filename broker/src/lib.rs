//! The embedded log broker: segments of Kafka record batches, topics, committed offsets.

mod append;
mod record;

pub use append::{
    Append, Appended, EFFECT_HEADER, EffectMark, Guard, IDEMPOTENCY_HEADER, IDEMPOTENCY_HORIZON_MS,
};
pub use record::{Header, Record, StoredRecord};
