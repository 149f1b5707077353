//! kcat, as people use it at a prompt.

use std::process::Command;

use crate::program::{attempt, tool};
use crate::subject::Subject;
use crate::tools;

struct Kcat {
    program: &'static str,
    address: String,
}

impl Kcat {
    fn shared() -> Option<Self> {
        Some(Self { program: tools::kcat()?, address: Subject::shared()?.address() })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.args(["-b", &self.address]).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str], input: &str) -> String {
        tool(&mut self.command(arguments), input)
    }
}

/// A topic, made by another client: kcat cannot.
fn create(kcat: &Kcat, topic: &str, partitions: i32) -> Option<()> {
    let python = tools::python()?;
    let code = "import sys; from confluent_kafka.admin import AdminClient, NewTopic; \
                client = AdminClient({'bootstrap.servers': sys.argv[1]}); \
                client.create_topics([NewTopic(sys.argv[2], int(sys.argv[3]), 1)])[sys.argv[2]].result(20)";
    tool(Command::new(python).args(["-c", code, &kcat.address, topic, &partitions.to_string()]), "");
    Some(())
}

#[test]
fn produce_and_consume() {
    let Some(kcat) = Kcat::shared() else { return };
    let Some(()) = create(&kcat, "kcat-records", 1) else { return };
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        kcat.run(
            &["-P", "-t", "kcat-records", "-K", ":", "-H", "codec=naïve", "-H", "codec", "-z", codec],
            &format!("key-{codec}:value “{codec}”\n"),
        );
    }
    // Without a value.
    kcat.run(&["-P", "-t", "kcat-records", "-K", ":", "-Z"], "gone:\n");
    let read = kcat.run(&["-C", "-t", "kcat-records", "-o", "beginning", "-e", "-q", "-f", "%p %o %k %S %s %h\n"], "");
    let mut expected = String::new();
    for (i, codec) in ["none", "gzip", "snappy", "lz4", "zstd"].iter().enumerate() {
        let value = format!("value “{codec}”");
        expected += &format!("0 {i} key-{codec} {} {value} codec=naïve,codec=NULL\n", value.len());
    }
    assert_eq!(read, expected + "0 5 gone -1  \n");
    let last_two = kcat.run(&["-C", "-t", "kcat-records", "-o", "-2", "-e", "-q", "-f", "%k\n"], "");
    assert_eq!(last_two, "key-zstd\ngone\n");
}

#[test]
fn metadata_and_offsets() {
    let Some(kcat) = Kcat::shared() else { return };
    let Some(()) = create(&kcat, "kcat-metadata", 3) else { return };
    let listed: serde_json::Value = serde_json::from_str(&kcat.run(&["-L", "-J", "-t", "kcat-metadata"], "")).unwrap();
    assert_eq!(listed["brokers"], serde_json::json!([{"id": 1, "name": kcat.address}]));
    assert_eq!(listed["controllerid"], 1);
    let partitions: Vec<_> = (0..3)
        .map(|p| serde_json::json!({"partition": p, "leader": 1, "replicas": [{"id": 1}], "isrs": [{"id": 1}]}))
        .collect();
    assert_eq!(listed["topics"], serde_json::json!([{"topic": "kcat-metadata", "partitions": partitions}]));
    kcat.run(&["-P", "-t", "kcat-metadata", "-p", "1"], "1\n2\n3\n");
    let at = |what: &str| kcat.run(&["-Q", "-t", what], "");
    assert_eq!(at("kcat-metadata:1:-1").trim(), "kcat-metadata [1] offset 3");
    assert_eq!(at("kcat-metadata:1:-2").trim(), "kcat-metadata [1] offset 0");
    assert_eq!(at("kcat-metadata:1:1000").trim(), "kcat-metadata [1] offset 0", "by time");
    let missing =
        attempt(&mut kcat.command(&["-C", "-t", "kcat-nowhere", "-e", "-X", "allow.auto.create.topics=false"]), "");
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.err.contains("Unknown topic or partition"), "{}", missing.err);
}

#[test]
fn groups_and_transactions() {
    let Some(kcat) = Kcat::shared() else { return };
    let Some(()) = create(&kcat, "kcat-group", 2) else { return };
    kcat.run(&["-P", "-t", "kcat-group", "-X", "transactional.id=kcat"], "1\n2\n3\n4\n");
    // A group's offsets are kept when it leaves: the second run reads what is new.
    let group = [
        "-G",
        "kcat-group",
        "-e",
        "-q",
        "-X",
        "auto.offset.reset=earliest",
        "-X",
        "isolation.level=read_committed",
        "kcat-group",
    ];
    let read = |kcat: &Kcat| {
        let text = kcat.run(&group, "");
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(read(&kcat), ["1", "2", "3", "4"]);
    kcat.run(&["-P", "-t", "kcat-group"], "5\n6\n");
    assert_eq!(read(&kcat), ["5", "6"]);
}
