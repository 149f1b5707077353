//! The Prometheus API over a real log and real tables.

mod api;
mod data;
mod differential;
mod federate;
mod grafana;
mod server;
mod source;
mod targets;

#[path = "../../../../tests/prometheus/fixture.rs"]
mod real;
