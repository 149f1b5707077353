//! librdkafka, through confluent-kafka for Python. The scenarios are in `confluent/`.

use std::process::Command;

use crate::program;
use crate::subject::{PASSWORD, Subject, USER, make_certificate};
use crate::tools;

/// One test per scenario: on the shared broker, or on one of its own where it is killed.
macro_rules! scenarios {
    ($($file:ident on $broker:ident { $($name:ident),* $(,)? })*) => {
        $(mod $file {
            $(#[test]
            fn $name() {
                super::$broker(stringify!($file), stringify!($name));
            })*
        })*
    };
}

scenarios! {
    produce on shared { compressions, acks, partitions, idempotence, large_messages, times, long_poll, positions, missing }
    groups on shared { eager, cooperative, r#static, offsets, storm, administered }
    admin on shared { topics, cluster, settings, list_offsets, delete_records, compaction, retention }
    transactions on shared {
        commit_and_abort, last_stable_offset, interleaved, offsets_in_transaction, fencing, timeout, exactly_once,
    }
    faults on its_own { producing, consuming, transaction, standing }
}

/// Who gets in over TLS, and who does not.
#[test]
fn security() {
    let Some(subject) = Subject::start_secure() else { return };
    let dir = tempfile::tempdir().unwrap();
    make_certificate(dir.path());
    let settings = [
        "security.protocol=SASL_SSL".to_owned(),
        "sasl.mechanism=PLAIN".to_owned(),
        format!("sasl.username={USER}"),
        format!("sasl.password={PASSWORD}"),
        format!("ssl.ca.location={}", subject.certificate().display()),
        format!(".another_ca={}", dir.path().join("ca.pem").display()),
    ];
    run(&subject, "security", "password", &settings);
}

fn shared(file: &str, scenario: &str) {
    if let Some(subject) = Subject::shared() {
        run(subject, file, scenario, &[]);
    }
}

fn its_own(file: &str, scenario: &str) {
    if let Some(subject) = Subject::start() {
        run(&subject, file, scenario, &[]);
    }
}

/// Runs `confluent/<file>.py`.
fn run(subject: &Subject, file: &str, scenario: &str, settings: &[String]) {
    let Some(python) = tools::python() else { return };
    let mut command = Command::new(python);
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(tools::sources().join("confluent").join(format!("{file}.py")))
        .arg(scenario.trim_start_matches("r#"))
        .arg(subject.address())
        .args(settings);
    program::scenario(subject, &mut command);
}
