//! The same requests, one after the other, to a real Apache Kafka and to us: the answers are compared field by field.
//!
//! `script` has the requests, of every version that both sides speak. `side` sends them and notes each answer as lines of `path: value` (`lines`),
//! in which what every broker chooses for itself (ids, addresses, member names) has a name instead. `differences` lists what may differ, and why;
//! an entry that nothing needs any more fails the test, too.

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

mod batch;
mod differences;
mod lines;
mod script;
mod side;

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_broker::kafka::{DoorSettings, KafkaServer};
use highwater_broker::{Broker, BrokerConfig, GroupSettings, RealFs, SystemClock};

use side::{Side, Transcript};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_kafka() {
    let Some(kafka) = fixture::Kafka::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(BrokerConfig::new(dir.path()), Arc::new(RealFs), Arc::new(SystemClock)).unwrap();
    // The real one does not wait either.
    let groups = GroupSettings { initial_rebalance_delay_ms: 0, ..GroupSettings::default() };
    let listen = "127.0.0.1:0".parse().unwrap();
    let settings = DoorSettings { listen, auto_create_partitions: None, groups, ..DoorSettings::default() };
    let server = KafkaServer::start(Arc::new(broker), settings).await.unwrap();

    let mut theirs = Side::dial("Kafka", &kafka.brokers()).await;
    let ours = Side::dial("Highwater", &server.address().to_string()).await;
    let versions = theirs.versions().intersection(ours.versions());
    theirs.settle().await;
    let theirs = script::play(theirs, &versions).await;
    let ours = script::play(ours, &versions).await;

    let wrong = compare(&theirs, &ours);
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

/// Every difference that no entry of the list allows, and every entry that nothing needed.
fn compare(theirs: &Transcript, ours: &Transcript) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    let steps = |transcript: &Transcript| transcript.iter().map(|(step, _)| step.clone()).collect::<Vec<_>>();
    assert_eq!(steps(theirs), steps(ours), "the script is the same for both");
    for ((step, theirs), (_, ours)) in theirs.iter().zip(ours) {
        let paths: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
        for path in paths {
            let nothing = "(not there)".to_owned();
            let (their, our) = (theirs.get(path).unwrap_or(&nothing), ours.get(path).unwrap_or(&nothing));
            if their == our {
                continue;
            }
            match differences::LIST.iter().position(|allowed| allowed.covers(step, path, their, our)) {
                Some(index) => {
                    used.insert(index);
                }
                None => wrong.push(format!("{step}: {path}: Kafka {their}, Highwater {our}")),
            }
        }
    }
    for (index, allowed) in differences::LIST.iter().enumerate() {
        if !used.contains(&index) {
            wrong.push(format!("the list of differences has {allowed:?}, but nothing differs so"));
        }
    }
    wrong
}
