//! Clients none of us wrote, by their released versions, against the Kafka door: librdkafka through confluent-kafka (Python), kcat, the Java
//! clients and console tools of Apache Kafka, and franz-go.
//!
//! Each scenario is a program in the client's own language (in a directory beside this file), which asserts what it sees, or a call of a tool,
//! of which the test asserts what it prints. `program` runs them, `subject` is the broker they talk to, `tools` finds the clients; `.ci/prepare`
//! installs them. Where a client cannot be had, its tests say SKIPPED, or fail if its `HIGHWATER_REQUIRE_...=1`.
//!
//! What proves the scenarios themselves: with `HIGHWATER_CLIENTS_AGAINST=kafka` they run against a real Apache Kafka, and have to pass there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    unreachable_pub,
    missing_docs
)]

#[path = "../../../tests/kafka/fixture.rs"]
mod fixture;

mod program;
mod subject;
mod tools;

mod confluent;
mod console;
mod franz;
mod java;
mod kcat;
