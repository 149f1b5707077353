//! What requests of the Prometheus API are made of: form values, times, durations, limits. Read as Prometheus reads them, refused in its words.

mod duration;
mod form;
mod time;

pub(super) use duration::{NANOS_PER_MS, parse_duration};
pub(super) use form::{Form, parse_int};
pub(super) use time::{Instant, MAX_TIME, MIN_TIME};
