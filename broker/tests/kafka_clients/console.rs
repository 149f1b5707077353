//! The console tools of Apache Kafka, from its jars: what they print is what people see.

use std::process::Command;

use crate::program::{attempt, tool};
use crate::subject::Subject;
use crate::tools;

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const GROUP_LIST: &str = "org.apache.kafka.tools.GroupsCommand";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const DELETE_RECORDS: &str = "org.apache.kafka.tools.DeleteRecordsCommand";
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const PRODUCER_PERF: &str = "org.apache.kafka.tools.ProducerPerformance";
const CONSUMER_PERF: &str = "org.apache.kafka.tools.ConsumerPerformance";
const VERIFIABLE_PRODUCER: &str = "org.apache.kafka.tools.VerifiableProducer";
const END_TO_END: &str = "org.apache.kafka.tools.EndToEndLatency";
const API_VERSIONS: &str = "org.apache.kafka.tools.BrokerApiVersionsCommand";
const CLUSTER: &str = "org.apache.kafka.tools.ClusterTool";

/// The tools, pointed at a broker.
struct Console {
    address: String,
}

impl Console {
    fn shared() -> Option<Self> {
        tools::jars()?;
        Some(Self { address: Subject::shared()?.address() })
    }

    fn command(&self, class: &str, arguments: &str) -> Command {
        let mut command = tools::java(class).unwrap();
        command.args(arguments.split_whitespace());
        if class == PRODUCER_PERF {
            command.args(["--producer-props", &format!("bootstrap.servers={}", self.address), "acks=all"]);
        } else if class != END_TO_END {
            command.args(["--bootstrap-server", &self.address]);
        }
        command
    }

    /// Runs a tool, which has to end with 0; what it printed, with one space where there were several.
    fn run(&self, class: &str, arguments: &str) -> String {
        squeezed(&tool(&mut self.command(class, arguments), ""))
    }

    fn produce(&self, arguments: &str, lines: &str) {
        tool(&mut self.command(PRODUCER, arguments), lines);
    }
}

/// Lines, words in them a space apart.
fn squeezed(text: &str) -> String {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[track_caller]
fn says(text: &str, line: &str) {
    assert!(text.contains(line), "{line:?} is not in\n{text}");
}

#[test]
fn topics() {
    let Some(console) = Console::shared() else { return };
    assert_eq!(
        console.run(TOPICS, "--create --topic console-topics --partitions 2 --config retention.ms=3600000"),
        "Created topic console-topics.\n"
    );
    let twice = attempt(&mut console.command(TOPICS, "--create --topic console-topics"), "");
    assert_eq!(twice.code, Some(1));
    says(&(twice.out + &twice.err), "TopicExistsException");
    assert_eq!(console.run(TOPICS, "--create --topic console-topics --if-not-exists"), "");
    says(&console.run(TOPICS, "--list"), "console-topics\n");
    assert_eq!(
        console.run(TOPICS, "--alter --topic console-topics --partitions 3"),
        "",
        "partitions are added without a word"
    );
    let described = console.run(TOPICS, "--describe --topic console-topics");
    says(&described, "PartitionCount: 3 ReplicationFactor: 1 Configs: ");
    says(&described, "retention.ms=3600000");
    for partition in 0..3 {
        says(&described, &format!("Topic: console-topics Partition: {partition} Leader: 1 Replicas: 1 Isr: 1"));
    }
    assert_eq!(console.run(TOPICS, "--delete --topic console-topics"), "");
    let gone = attempt(&mut console.command(TOPICS, "--describe --topic console-topics"), "");
    assert_eq!(gone.code, Some(1), "{gone:?}");
}

#[test]
fn configs() {
    let Some(console) = Console::shared() else { return };
    console.run(TOPICS, "--create --topic console-configs --config retention.ms=3600000");
    let of = "--entity-type topics --entity-name console-configs";
    assert_eq!(
        console.run(
            CONFIGS,
            &format!("--alter {of} --add-config max.message.bytes=2000000,cleanup.policy=[compact,delete]")
        ),
        "Completed updating config for topic console-configs.\n"
    );
    let described = console.run(CONFIGS, &format!("--describe {of}"));
    says(&described, "Dynamic configs for topic console-configs are:");
    says(
        &described,
        "max.message.bytes=2000000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:max.message.bytes=2000000",
    );
    says(&described, "cleanup.policy=compact,delete sensitive=false");
    says(&described, "retention.ms=3600000 sensitive=false");
    console.run(CONFIGS, &format!("--alter {of} --delete-config max.message.bytes,cleanup.policy"));
    let described = console.run(CONFIGS, &format!("--describe {of}"));
    assert!(!described.contains("max.message.bytes") && !described.contains("cleanup.policy"), "{described}");
    let all = console.run(CONFIGS, &format!("--describe --all {of}"));
    says(&all, "max.message.bytes=1048588 sensitive=false");
    says(&all, "cleanup.policy=delete sensitive=false");
    let refused = attempt(&mut console.command(CONFIGS, &format!("--alter {of} --add-config retention.ms=soon")), "");
    assert_eq!(refused.code, Some(1));
    says(&(refused.out + &refused.err), "InvalidConfigurationException");
}

#[test]
fn producing_and_consuming() {
    let Some(console) = Console::shared() else { return };
    console.run(TOPICS, "--create --topic console-records --partitions 1");
    for (codec, key) in [("none", "a"), ("gzip", "b"), ("snappy", "c"), ("lz4", "d"), ("zstd", "e")] {
        console.produce(
            &format!("--topic console-records --compression-codec {codec} --property parse.key=true --property parse.headers=true"),
            &format!("h1:{codec},h2:x\t{key}\tvalue of {codec}\n"),
        );
    }
    console.produce("--topic console-records --property parse.key=true --property null.marker=NULL", "a\tNULL\n");
    let read = console.run(
        CONSUMER,
        "--topic console-records --from-beginning --max-messages 6 --property print.key=true --property print.offset=true \
         --property print.headers=true --property print.partition=true",
    );
    let expected = [("none", "a"), ("gzip", "b"), ("snappy", "c"), ("lz4", "d"), ("zstd", "e")]
        .iter()
        .enumerate()
        .map(|(i, (codec, key))| format!("Partition:0 Offset:{i} h1:{codec},h2:x {key} value of {codec}\n"))
        .collect::<String>();
    assert_eq!(read, expected + "Partition:0 Offset:5 NO_HEADERS a null\n");
    let from_4 = console.run(CONSUMER, "--topic console-records --partition 0 --offset 4 --max-messages 1");
    assert_eq!(from_4, "value of zstd\n");
}

#[test]
fn consumer_groups() {
    let Some(console) = Console::shared() else { return };
    console.run(TOPICS, "--create --topic console-groups --partitions 1");
    console.produce("--topic console-groups", "1\n2\n3\n4\n5\n");
    let read = console.run(CONSUMER, "--topic console-groups --from-beginning --max-messages 3 --group console-group");
    assert_eq!(read, "1\n2\n3\n");
    says(&console.run(GROUPS, "--list"), "console-group\n");
    says(&console.run(GROUP_LIST, "--list"), "console-group Classic consumer\n");
    says(&console.run(GROUPS, "--list --state"), "console-group Empty\n");
    let described = console.run(GROUPS, "--describe --group console-group");
    says(&described, "console-group console-groups 0 3 5 2 - - -\n");
    let state = console.run(GROUPS, "--describe --group console-group --state");
    says(&state, &format!("console-group {} (1) - Empty 0\n", console.address));
    let reset = |how: &str| {
        console.run(GROUPS, &format!("--reset-offsets --group console-group --topic console-groups {how} --execute"))
    };
    says(&reset("--shift-by -2"), "console-group console-groups 0 1\n");
    says(&reset("--to-latest"), "console-group console-groups 0 5\n");
    says(&reset("--to-datetime 2000-01-01T00:00:00.000"), "console-group console-groups 0 0\n");
    says(&reset("--to-offset 4"), "console-group console-groups 0 4\n");
    says(&console.run(GROUPS, "--describe --group console-group"), "console-group console-groups 0 4 5 1 - - -\n");
    let read = console.run(CONSUMER, "--topic console-groups --max-messages 1 --group console-group");
    assert_eq!(read, "5\n");
    says(
        &console.run(GROUPS, "--delete-offsets --group console-group --topic console-groups"),
        "console-groups 0 Successful\n",
    );
    let deleted = attempt(&mut console.command(GROUPS, "--delete --group console-group"), "");
    // Without an offset and without a member there may be nothing left to delete.
    let said = deleted.out + &deleted.err;
    assert!(said.contains("was successful") || said.contains("GroupIdNotFoundException"), "{said}");
    assert!(!console.run(GROUPS, "--list").lines().any(|line| line == "console-group"));
}

#[test]
fn offsets_and_records() {
    let Some(console) = Console::shared() else { return };
    console.run(TOPICS, "--create --topic console-offsets --partitions 2");
    console.produce("--topic console-offsets --property parse.key=true --property key.separator=:", "a:1\na:2\na:3\n");
    let at = |time: &str| console.run(OFFSETS, &format!("--topic console-offsets --time {time}"));
    let ends = at("-1");
    // One of the two partitions has all of them.
    let full = usize::from(ends.contains("console-offsets:1:3"));
    let expected = |offset: i64| {
        let mut lines = vec![format!("console-offsets:{full}:{offset}"), format!("console-offsets:{}:0", 1 - full)];
        lines.sort();
        lines
    };
    assert_eq!(sorted(&ends), expected(3));
    assert_eq!(sorted(&at("-2")), expected(0));
    let file = tempfile::NamedTempFile::new().unwrap();
    let below = format!(
        r#"{{"version": 1, "partitions": [{{"topic": "console-offsets", "partition": {full}, "offset": 2}}]}}"#
    );
    std::fs::write(file.path(), below).unwrap();
    let deleted = console.run(DELETE_RECORDS, &format!("--offset-json-file {}", file.path().display()));
    says(&deleted, &format!("partition: console-offsets-{full} low_watermark: 2\n"));
    assert_eq!(sorted(&at("earliest")), expected(2));
    // Of records of one time it is the first.
    assert!(at("max-timestamp").contains(&format!("console-offsets:{full}:")));
}

#[test]
fn performance_tools() {
    let Some(console) = Console::shared() else { return };
    console.run(TOPICS, "--create --topic console-perf --partitions 3");
    let sent = console.run(PRODUCER_PERF, "--topic console-perf --num-records 30000 --record-size 200 --throughput -1");
    says(&sent, "30000 records sent, ");
    // Transactions of 200 ms each.
    let sent = console.run(
        PRODUCER_PERF,
        "--topic console-perf --num-records 20000 --record-size 200 --throughput 20000 --transactional-id console-perf \
         --transaction-duration-ms 200",
    );
    says(&sent, "20000 records sent, ");
    let read = console.run(CONSUMER_PERF, "--topic console-perf --messages 50000");
    let last = read.lines().last().unwrap();
    assert_eq!(last.split(", ").nth(4), Some("50000"), "{read}");
    let verified = console.run(VERIFIABLE_PRODUCER, "--topic console-perf --max-messages 100");
    assert_eq!(verified.matches("producer_send_success").count(), 100, "{verified}");
    says(&verified, r#""sent":100,"acked":100"#);
    console.run(TOPICS, "--create --topic console-latency --partitions 1");
    let latency = console.run(END_TO_END, &format!("{} console-latency 200 all 100", console.address));
    says(&latency, "Percentiles: 50th");
}

#[test]
fn cluster() {
    let Some(console) = Console::shared() else { return };
    let versions = console.run(API_VERSIONS, "");
    says(&versions, &format!("{} (id: 1 rack: null", console.address));
    for api in ["Produce(0)", "Fetch(1)", "OffsetCommit(8)", "JoinGroup(11)", "InitProducerId(22)", "OffsetDelete(47)"]
    {
        let line =
            versions.lines().find(|line| line.contains(api)).unwrap_or_else(|| panic!("no {api} in\n{versions}"));
        assert!(line.contains("usable"), "the Java client cannot use {line}");
    }
    says(&console.run(CLUSTER, "cluster-id"), "Cluster ID: ");
}
