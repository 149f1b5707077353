//! Alerts by subscription: consumers none of us wrote, on topic `alerts` of the server's Kafka port. What they see is what the table has; who comes back goes on
//! where he was; who is new sees, once the topic was compacted, how every alert stands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::deployments::kafka;
use crate::end_to_end::START_S;
use crate::senders::{absent, python};
use crate::support::{DEADLINE, Server, Site, within};

const RULES: &str = "
groups:
  - name: rooms
    rules:
      - alert: Hot
        expr: temperature > 30
        labels: {severity: page}
        annotations: {summary: '{{ $labels.room }} has {{ $value }}'}
";

/// One partition of samples, and what belongs together in one record, so that a slow machine tells the same: which tick sees what is decided by the log.
const ONE_PARTITION: &str = "log: { partitions: 1 }\nrule_files: [rules.yaml]\n";
/// Seconds between acts: more than silence, which carries time on, makes up for meanwhile; less than the five minutes after which a sample is out of sight.
const ACT_S: i64 = 250;

/// Rooms have these temperatures in these seconds.
async fn heat(server: &Server, rooms: &[(&str, std::ops::Range<i64>, f64)]) {
    let sample = |second: i64, room: &str, value: f64| json!({"name": "temperature", "value": value, "timestamp": START_S + second, "labels": {"room": room}});
    let mut samples: Vec<(i64, Value)> = Vec::new();
    for (room, seconds, value) in rooms {
        samples.extend(seconds.clone().map(|second| (second, sample(second, room, *value))));
    }
    samples.sort_by_key(|(second, _)| *second);
    let samples: Vec<Value> = samples.into_iter().map(|(_, sample)| sample).collect();
    server.accepted("/metrics", json!({"metrics": samples}).to_string()).await;
}

/// What a subscriber has seen, oldest first: offset, room and state.
type Seen = Vec<(i64, String, String)>;

fn seen(record: &Value) -> (i64, String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{record}")).to_owned();
    let value = &record["value"];
    assert_eq!(record["key"], value["fingerprint"], "the key is the fingerprint: {record}");
    (record["offset"].as_i64().unwrap(), text(&value["labels"]["room"]), text(&value["state"]))
}

/// The same, of the table.
async fn told(server: &Server, from: usize) -> Seen {
    let rows = server.sql("SELECT _offset AS at, labels ->> 'room' AS room, state FROM alerts ORDER BY _offset").await;
    let row = |row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        (row["at"].as_i64().unwrap(), text("room"), text("state"))
    };
    rows.iter().skip(from).map(row).collect()
}

/// Waits until this many transitions are there.
async fn until_told(server: &Server, count: i64) {
    server.until("SELECT count(*) FROM alerts", count).await;
}

/// A program that prints a line per record.
struct Subscriber {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Subscriber {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn next(&mut self) -> Option<String> {
        within(DEADLINE, "the subscriber sees a record, or ends", self.lines.next_line()).await.unwrap()
    }

    /// Everything up to its end, which has to be a good one.
    async fn rest(mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(line) = self.next().await {
            all.push(line);
        }
        let status = within(DEADLINE, "the subscriber ends", self.child.wait()).await.unwrap();
        assert!(status.success(), "{status}: {all:?}");
        all
    }
}

/// A kind of consumer.
enum Client {
    /// librdkafka, by `follow.py`.
    Librdkafka(PathBuf),
    /// kcat, librdkafka's own tool. It has no group that can be resumed by count.
    Kcat,
    /// Kafka's own console consumer.
    Java(PathBuf),
}

impl Client {
    /// All that can be had.
    async fn all() -> Vec<Self> {
        let mut found = Vec::new();
        found.extend(python("CONFLUENT", "confluent_kafka").await.map(Self::Librdkafka));
        if Command::new("kcat").arg("-V").output().await.is_ok_and(|output| output.status.success()) {
            found.push(Self::Kcat);
        } else {
            absent("KCAT", "there is no kcat");
        }
        match tokio::task::spawn_blocking(kafka::jars).await.unwrap() {
            Ok(jars) => found.push(Self::Java(jars)),
            Err((_, why)) => absent("KAFKA", why.trim()),
        }
        found
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Librdkafka(_) => "librdkafka",
            Self::Kcat => "kcat",
            Self::Java(_) => "java",
        }
    }

    /// Subscribes in its own group, for `count` records, and commits; `None` where it cannot.
    fn subscribe(&self, brokers: &str, count: usize) -> Option<Subscriber> {
        let count = count.to_string();
        let group = format!("pagers-{}", self.name());
        match self {
            Self::Librdkafka(python) => Some(follow(python, &[brokers, &group, &count])),
            Self::Kcat => None,
            Self::Java(jars) => Some(console(jars, brokers, &["--group", &group, "--max-messages", &count])),
        }
    }

    /// Reads everything there is.
    async fn read_all(&self, brokers: &str) -> Seen {
        let lines = match self {
            Self::Librdkafka(python) => follow(python, &[brokers, "a-new-one", "0"]).rest().await,
            Self::Kcat => {
                let mut command = Command::new("kcat");
                let format = r#"{"partition": %p, "offset": %o, "key": "%k", "value": %s}\n"#;
                command.args(["-C", "-q", "-b", brokers, "-t", "alerts", "-o", "beginning", "-e", "-f", format]);
                Subscriber::start(command).rest().await
            }
            // It says that it has seen nothing for so long, and ends.
            Self::Java(jars) => console(jars, brokers, &["--group", "a-new-java", "--timeout-ms", "8000"]).rest().await,
        };
        lines.iter().map(|line| seen(&self.parse(line))).collect()
    }

    fn parse(&self, line: &str) -> Value {
        let Self::Java(_) = self else {
            return serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        };
        // Partition:0 <tab> Offset:7 <tab> key <tab> value
        let mut parts = line.splitn(4, '\t');
        let mut part = || parts.next().unwrap_or_else(|| panic!("{line}")).to_owned();
        let (partition, offset, key, value) = (part(), part(), part(), part());
        json!({
            "partition": partition.strip_prefix("Partition:").unwrap().parse::<i64>().unwrap(),
            "offset": offset.strip_prefix("Offset:").unwrap().parse::<i64>().unwrap(),
            "key": key, "value": serde_json::from_str::<Value>(&value).unwrap(),
        })
    }
}

fn follow(python: &Path, arguments: &[&str]) -> Subscriber {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/subscribers/follow.py");
    let mut command = Command::new(python);
    command.arg(script).args(arguments);
    Subscriber::start(command)
}

fn console(jars: &Path, brokers: &str, arguments: &[&str]) -> Subscriber {
    let mut command = Command::new("java");
    command
        .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true"])
        .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp", &format!("{}/*", jars.display())])
        .args(["org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", brokers, "--topic", "alerts"])
        .arg("--from-beginning");
    for print in ["print.partition", "print.offset", "print.key"] {
        command.args(["--property", &format!("{print}=true")]);
    }
    command.args(arguments);
    Subscriber::start(command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_consumers_see_transitions_go_on_where_they_were_and_begin_with_how_things_stand() {
    let clients = Client::all().await;
    if clients.is_empty() {
        return;
    }
    let site = Site::with_config(ONE_PARTITION);
    site.write("rules.yaml", RULES);
    let server = site.start().await;
    let brokers = server.kafka().to_owned();
    // They are there before the first alert, and see each as it comes: no committed offset, so from the beginning.
    let mut waiting: Vec<(&Client, Subscriber)> =
        clients.iter().filter_map(|client| Some((client, client.subscribe(&brokers, 2)?))).collect();
    // Past the tick, and how late samples may be.
    heat(&server, &[("kitchen", 0..20, 40.0), ("kitchen", 20..30, 20.0)]).await;
    until_told(&server, 2).await;
    let first = told(&server, 0).await;
    let states =
        |seen: &Seen| -> Vec<String> { seen.iter().map(|(_, room, state)| format!("{room} {state}")).collect() };
    assert_eq!(states(&first), ["kitchen firing", "kitchen resolved"]);
    for (client, subscriber) in waiting.drain(..) {
        let lines = subscriber.rest().await;
        let found: Seen = lines.iter().map(|line| seen(&client.parse(line))).collect();
        assert_eq!(found, first, "{}", client.name());
    }

    // Nobody listens meanwhile.
    let (early, late) = (ACT_S..ACT_S + 10, ACT_S + 10..ACT_S + 30);
    let kitchen = ("kitchen", early.start..late.end, 35.0);
    heat(&server, &[kitchen, ("hall", early, 35.0), ("hall", late, 10.0)]).await;
    until_told(&server, 5).await;
    let second = told(&server, 2).await;
    let mut sorted = states(&second);
    sorted.sort();
    assert_eq!(sorted, ["hall firing", "hall resolved", "kitchen firing"]);
    for client in &clients {
        let Some(subscriber) = client.subscribe(&brokers, 3) else { continue };
        let lines = subscriber.rest().await;
        let found: Seen = lines.iter().map(|line| seen(&client.parse(line))).collect();
        assert_eq!(found, second, "{} goes on where it was", client.name());
    }

    for client in &clients {
        assert_eq!(client.read_all(&brokers).await, told(&server, 0).await, "{} from the beginning", client.name());
    }
    server.stop().await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_consumer_of_a_compacted_topic_begins_with_how_every_alert_stands() {
    let clients = Client::all().await;
    if clients.is_empty() {
        return;
    }
    // Records are compacted as soon as they are a second old.
    let site = Site::with_config("log: { partitions: 1, retention: 1s }\nrule_files: [rules.yaml]\n");
    site.write("rules.yaml", RULES);
    let server = site.start().await;
    let brokers = server.kafka().to_owned();
    let rooms = ["kitchen", "hall"];
    let (mut second, mut count) = (0, 0);
    // A pass takes what is there when it comes by, and comes again when there is enough to do.
    within(DEADLINE * 2, "the topic is compacted", async {
        while superseded(&server).await == 0.0 {
            let hot = rooms.map(|room| (room, second..second + 10, 40.0));
            let cold = rooms.map(|room| (room, second + 10..second + 20, 20.0));
            heat(&server, &[hot, cold].concat()).await;
            (second, count) = (second + ACT_S, count + 4);
            until_told(&server, count).await;
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    })
    .await;
    heat(&server, &[("hall", second..second + 10, 20.0), ("kitchen", second..second + 10, 50.0)]).await;
    until_told(&server, count + 1).await;
    let all = told(&server, 0).await;
    let newest = |seen: &Seen| -> BTreeMap<String, (i64, String)> {
        seen.iter().map(|(offset, room, state)| (room.clone(), (*offset, state.clone()))).collect()
    };
    let now = newest(&all);
    let states: Vec<(&str, &str)> = now.iter().map(|(room, (_, state))| (room.as_str(), state.as_str())).collect();
    assert_eq!(states, [("hall", "resolved"), ("kitchen", "firing")]);
    for client in &clients {
        let found = client.read_all(&brokers).await;
        assert_eq!(newest(&found), now, "{}: {found:?}", client.name());
        assert!(found.len() < all.len(), "{}: what is superseded is gone: {found:?}", client.name());
        // What is left is as it was, under its offset, in order.
        let kept: Seen = all.iter().filter(|one| found.contains(one)).cloned().collect();
        assert_eq!(found, kept, "{}", client.name());
    }
    // The history stays in the table, and so does the proof of it.
    server.stop().await;
    site.verify().await;
}

/// Records of `alerts` that compaction has taken because newer ones of their key were there.
async fn superseded(server: &Server) -> f64 {
    let metrics = server.get("/metrics").await.text;
    let lines = metrics.lines().filter(|line| line.starts_with("highwater_broker_compacted_records_total{"));
    let of_alerts = lines.filter(|line| line.contains("topic=\"alerts\"") && line.contains("superseded"));
    of_alerts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}
