//! `highwater topic` and `highwater groups`, on Highwater's own Kafka port and on a real Apache Kafka: the same commands, the same answers.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::{Value, json};

use crate::deployments::kafka::{Kafka, unique};
use crate::support::{Site, eventually};

/// A cluster to speak to, and a place to run in.
struct At {
    site: Site,
    brokers: String,
}

impl At {
    /// Runs a command and gives what it prints. It has nothing to complain of.
    async fn run(&self, arguments: &[&str]) -> String {
        let ran = self.site.run(&[arguments, &["--brokers", &self.brokers]].concat()).await;
        assert_eq!(ran.stderr, "", "{arguments:?}");
        ran.output()
    }

    /// Runs a command that has to fail, and gives what it says.
    async fn refused(&self, arguments: &[&str]) -> String {
        let ran = self.site.run(&[arguments, &["--brokers", &self.brokers]].concat()).await;
        assert_eq!(ran.code, Some(1), "{arguments:?}: {ran:?}");
        assert_eq!(ran.stdout, "", "{arguments:?}");
        ran.stderr
    }

    /// Writes lines as records.
    async fn produce(&self, topic: &str, lines: &str, more: &[&str]) {
        let file = self.site.write("lines.txt", lines);
        let said =
            [&["topic", "produce", topic, "--file", file.to_str().unwrap(), "--brokers", &self.brokers], more].concat();
        let ran = self.site.run(&said).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
        let count = lines.lines().count();
        assert!(ran.stderr.contains(&format!("{count} records written to {topic}")), "{}", ran.stderr);
    }

    /// All records of a topic, by partition and offset.
    async fn records(&self, topic: &str, more: &[&str]) -> Vec<Value> {
        let said = [&["topic", "tail", topic, "--no-follow", "-o", "json"], more].concat();
        let mut records: Vec<Value> =
            self.run(&said).await.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        records.sort_by_key(|record| (record["partition"].as_i64(), record["offset"].as_i64()));
        records
    }

    async fn offsets_of(&self, group: &str) -> Vec<Vec<String>> {
        let described = self.run(&["groups", "describe", group]).await;
        let table = described.lines().skip_while(|line| !line.starts_with("topic")).skip(1);
        // Behind the table: members that have no partitions.
        table.map(words).filter(|words| words.len() == 8).collect()
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

async fn topics_come_and_go(at: At) {
    let topic = unique("orders");
    assert_eq!(
        at.run(&["topic", "create", &topic, "--partitions", "2", "--compact", "--config", "max.message.bytes=70000"])
            .await,
        format!("created {topic}\n")
    );
    eventually("the topic is listed", true, async || {
        at.run(&["topic", "list"]).await.lines().any(|line| words(line) == [topic.as_str(), "2", "0"])
    })
    .await;
    assert!(at.refused(&["topic", "create", &topic]).await.contains("already exists"));
    let described = at.run(&["topic", "describe", &topic]).await;
    for line in ["cleanup.policy: compact", "max.message.bytes: 70000"] {
        assert!(described.lines().any(|l| l == line), "no {line} in {described}");
    }
    assert!(at.refused(&["topic", "create", "bad/name"]).await.contains("bad/name"));
    assert!(at.refused(&["topic", "create", &unique("x"), "--config", "no.such=1"]).await.contains("onfig"));

    assert_eq!(at.run(&["topic", "alter", &topic, "--partitions", "4"]).await, format!("altered {topic}\n"));
    eventually("the topic has grown", 4, async || {
        let described = at.run(&["topic", "describe", &topic]).await;
        described.lines().skip_while(|line| !line.starts_with("partition")).skip(1).count()
    })
    .await;
    assert_eq!(at.run(&["topic", "delete", &topic]).await, format!("deleted {topic}\n"));
    eventually("the topic is gone", true, async || !at.run(&["topic", "list"]).await.contains(&topic)).await;
    assert!(at.refused(&["topic", "describe", &topic]).await.contains(&topic));
    assert!(at.refused(&["topic", "tail", &topic]).await.contains("topic list"));
    assert!(at.refused(&["topic", "produce", &topic]).await.contains("topic create"));
}

async fn what_is_produced_is_tailed(at: At) {
    let topic = unique("prices");
    at.run(&["topic", "create", &topic, "--partitions", "3"]).await;
    eventually("the topic is there", true, async || at.run(&["topic", "list"]).await.contains(&topic)).await;
    for (partition, compression) in [("0", "none"), ("1", "gzip"), ("2", "zstd")] {
        let more = ["-p", partition, "-K", ":", "-H", "from=test", "--compression", compression];
        at.produce(&topic, "a:{\"n\": 1}\nb:text\n", &more).await;
    }
    at.produce(&topic, "a:\n", &["-p", "0", "-K", ":", "--tombstones", "--compression", "lz4"]).await;
    at.produce(&topic, "no key\n", &["-p", "0", "--acks", "1", "--compression", "snappy"]).await;

    let records = at.records(&topic, &["--from", "earliest"]).await;
    let told: Vec<_> =
        records.iter().map(|r| json!([r["partition"], r["offset"], r["key"], r["value"], r["headers"]])).collect();
    let from = json!([{"from": "test"}]);
    assert_eq!(
        told,
        [
            json!([0, 0, "a", {"n": 1}, from]),
            json!([0, 1, "b", "text", from]),
            json!([0, 2, "a", null, []]),
            json!([0, 3, null, "no key", []]),
            json!([1, 0, "a", {"n": 1}, from]),
            json!([1, 1, "b", "text", from]),
            json!([2, 0, "a", {"n": 1}, from]),
            json!([2, 1, "b", "text", from]),
        ]
    );
    let count = async |more: &[&str]| at.records(&topic, more).await.len();
    assert_eq!(count(&[]).await, 0, "latest is the end");
    assert_eq!(count(&["--from", "-1"]).await, 3);
    assert_eq!(count(&["--from", "2"]).await, 2);
    assert_eq!(count(&["--from", "1h"]).await, 8);
    assert_eq!(count(&["--from", "2100-01-01T00:00:00Z"]).await, 0);
    assert_eq!(count(&["--from", "earliest", "-p", "1"]).await, 2);
    assert_eq!(count(&["--from", "earliest", "-n", "5"]).await, 5);
    assert!(at.refused(&["topic", "tail", &topic, "-p", "7"]).await.contains("0..3"));

    let table = at.run(&["topic", "tail", &topic, "--from", "earliest", "-p", "2", "--no-follow"]).await;
    let lines: Vec<_> = table.lines().map(words).collect();
    assert_eq!((&*lines[0][0], &lines[0][2..]), ("2/0", &["a".to_owned(), "from=test".into(), "{\"n\":1}".into()][..]));
    let values = at.run(&["topic", "tail", &topic, "--from", "earliest", "-p", "1", "-n", "2", "-o", "value"]).await;
    assert_eq!(values, "{\"n\": 1}\ntext\n");
    at.run(&["topic", "delete", &topic]).await;
}

async fn groups_are_described_and_moved(at: At) {
    let (topic, group) = (unique("events"), unique("billing"));
    at.run(&["topic", "create", &topic, "--partitions", "2"]).await;
    eventually("the topic is there", true, async || at.run(&["topic", "list"]).await.contains(&topic)).await;
    at.produce(&topic, "1\n2\n3\n4\n5\n", &["-p", "0"]).await;
    at.produce(&topic, "6\n", &["-p", "1"]).await;
    assert!(at.refused(&["groups", "describe", &group]).await.contains("groups list"));

    let reset = async |more: &[&str]| {
        let printed = at.run(&[&["groups", "reset", &group], more].concat()).await;
        printed.lines().skip(1).filter(|line| line.starts_with(&topic)).map(words).collect::<Vec<_>>()
    };
    let row = |partition: &str, from: &str, to: &str| vec![topic.clone(), partition.into(), from.into(), to.into()];
    // Said, not done.
    assert_eq!(reset(&["--topic", &topic, "--to", "latest"]).await, [row("0", "-", "5"), row("1", "-", "1")]);
    assert!(at.refused(&["groups", "describe", &group]).await.contains(&group));
    // Done.
    let first = format!("{topic}:0");
    assert_eq!(reset(&["--topic", &first, "--to", "latest", "--execute"]).await, [row("0", "-", "5")]);
    assert_eq!(reset(&["--all-topics", "--shift", "-2", "--execute"]).await, [row("0", "5", "3")]);
    assert_eq!(reset(&["--all-topics", "--shift", "100"]).await, [row("0", "3", "5")], "no further than the end");
    assert_eq!(reset(&["--topic", &first, "--to", "2000-01-01T00:00:00Z"]).await, [row("0", "3", "0")]);
    let line = |partition: &str, committed: &str, end: &str, lag: &str| {
        [topic.as_str(), partition, committed, end, lag, "-", "-", "-"].map(str::to_owned).to_vec()
    };
    assert_eq!(at.offsets_of(&group).await, [line("0", "3", "5", "2")]);
    assert!(at.run(&["groups", "list"]).await.lines().any(|line| words(line) == [group.as_str(), "Empty", "0"]));

    // A member at work.
    let member: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &at.brokers)
        .set("group.id", &group)
        .set("client.id", "the-test")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    member.subscribe(&[&topic]).unwrap();
    eventually("the member reads both partitions", vec!["the-test".to_owned(); 2], async || {
        drop(member.poll(Duration::from_millis(100)));
        at.offsets_of(&group).await.into_iter().map(|line| line[6].clone()).filter(|client| client != "-").collect()
    })
    .await;
    let described = at.run(&["groups", "describe", &group]).await;
    assert!(described.contains("state: Stable\nmembers: 1\n"), "{described}");
    let refused = at.refused(&["groups", "reset", &group, "--all-topics", "--to", "earliest", "--execute"]).await;
    assert!(refused.contains("Stable with 1 members; stop them first"), "{refused}");
    tokio::task::spawn_blocking(move || drop(member)).await.unwrap();
    eventually("the member has left", true, async || {
        at.run(&["groups", "describe", &group]).await.contains("state: Empty")
    })
    .await;
    assert_eq!(reset(&["--all-topics", "--to", "earliest", "--execute"]).await, [row("0", "3", "0")]);
}

macro_rules! on_both {
    ($($scenario:ident),* $(,)?) => {
        mod on_highwater {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                let server = Site::new();
                let running = server.start().await;
                super::$scenario(At { site: Site::new(), brokers: running.kafka().to_owned() }).await;
                running.stop().await;
                server.verify().await;
            })*
        }
        mod on_kafka {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                if let Some(kafka) = Kafka::shared() {
                    super::$scenario(At { site: Site::new(), brokers: kafka.brokers() }).await;
                }
            })*
        }
    };
}

on_both!(topics_come_and_go, what_is_produced_is_tailed, groups_are_described_and_moved);
