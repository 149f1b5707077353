//! Lines that begin with an ISO 8601 or RFC 3339 stamp, bare or in brackets, and state a level soon after it: the
//! default layouts of log4j, logback, Spring Boot, Python's logging, ZooKeeper, Kafka, PostgreSQL, Rust's tracing and
//! many more.
//!
//! ```text
//! 2015-07-29 17:41:44,747 - INFO  [QuorumPeer[myid=1]:FastLeaderElection@774] - text
//! 2024-01-02T03:04:05.678Z  WARN 1234 --- [main] c.example.App : text
//! [2024-01-02 03:04:05,678] ERROR text (kafka.server.KafkaServer)
//! ```
//! What follows may also be a syslog header (rsyslog's newer default): `2024-01-02T03:04:05.678+00:00 host sshd[12]:
//! text`. Then the level is guessed as for syslog; without any of this there is none.

use super::scan::Scan;
use super::{Context, Found, syslog_3164, words};

pub(super) fn parse<'a>(line: &'a str, context: &Context) -> Option<Found<'a>> {
    let mut scan = Scan::new(line);
    let bracketed = scan.accept(b'[');
    let timestamp_us = Some(scan.iso(context)?);
    if bracketed {
        scan.spaces();
        // `[2024-01-02 03:04:05 INFO]` closes later.
        scan.accept(b']');
    }
    let rest = scan.rest();
    let level = words::stated_near(rest).or_else(|| syslog_3164::is_header(rest).then(|| syslog_3164::level_of(rest)));
    Some(Found { timestamp_us, level })
}
