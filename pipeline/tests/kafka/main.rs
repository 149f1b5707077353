//! The Kafka log against a real Apache Kafka. How it is started: `tests/kafka/start`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::clone_on_ref_ptr, unreachable_pub)]

#[path = "../../../tests/kafka/fixture.rs"]
mod fixture;

mod appending;
mod bridging;
mod definitions;
mod driving;
mod keys;
mod membership;
mod outage;
mod reading;
mod security;
mod tasks;
mod world;
