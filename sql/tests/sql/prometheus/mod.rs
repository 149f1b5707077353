//! The Prometheus API over a real log and real tables.

mod api;
mod data;
mod differential;
mod grafana;
mod server;
mod source;

#[path = "../../../../tests/prometheus/fixture.rs"]
mod real;
