//! Where the clients are. Each is looked for, or built, once.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::fixture;

/// An interpreter that has confluent-kafka: `HIGHWATER_PYTHON`, or the one `.ci/prepare` makes, or the system's.
pub fn python() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let prepared = cache().join("python/bin/python");
            let candidates =
                [std::env::var_os("HIGHWATER_PYTHON").map(PathBuf::from), Some(prepared), Some("python3".into())];
            let mut why = String::new();
            for python in candidates.into_iter().flatten() {
                match says(Command::new(&python).args(["-c", "import confluent_kafka"])) {
                    Ok(_) => return Some(python),
                    Err(error) => why = error,
                }
            }
            skipped("confluent-kafka (Python)", "HIGHWATER_REQUIRE_CONFLUENT", &why)
        })
        .as_deref()
}

/// kcat.
pub fn kcat() -> Option<&'static str> {
    static FOUND: OnceLock<Option<&str>> = OnceLock::new();
    *FOUND.get_or_init(|| match says(Command::new("kcat").arg("-V")) {
        Ok(_) => Some("kcat"),
        Err(why) => skipped("kcat", "HIGHWATER_REQUIRE_KCAT", &why),
    })
}

/// The directory of Apache Kafka's jars.
pub fn jars() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| match fixture::jars() {
            Ok(jars) => Some(jars),
            Err((_, why)) => skipped("Apache Kafka's clients and tools", "HIGHWATER_REQUIRE_KAFKA", &why),
        })
        .as_deref()
}

/// A Java program of Apache Kafka, or of ours with its clients.
pub fn java(class: &str) -> Option<Command> {
    let jars = jars()?;
    let mut command = Command::new("java");
    // What runs for a second or two is better not compiled twice.
    command
        .args([
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Xshare:auto",
            "-Djava.net.preferIPv4Stack=true",
        ])
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
        .arg("-cp")
        .arg(format!("{}/*:{}", jars.display(), classes().display()))
        .arg(class);
    Some(command)
}

/// Where [`compiled_java`] puts them.
fn classes() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka_clients_java")
}

/// Compiles the scenarios in Java; `None` where that cannot be done.
pub fn compiled_java() -> Option<()> {
    static DONE: OnceLock<Option<()>> = OnceLock::new();
    *DONE.get_or_init(|| {
        let jars = jars()?;
        let sources = std::fs::read_dir(sources().join("java")).unwrap().map(|entry| entry.unwrap().path());
        let mut command = Command::new("javac");
        command
            .arg("-cp")
            .arg(format!("{}/*", jars.display()))
            .arg("-d")
            .arg(classes())
            .args(["-Xlint:all,-processing", "-Werror"]);
        command.args(sources);
        if let Err(why) = says(Command::new("javac").arg("-version")) {
            return skipped("scenarios in Java", "HIGHWATER_REQUIRE_KAFKA", &why);
        }
        says(&mut command).unwrap_or_else(|why| panic!("{why}"));
        Some(())
    })
}

/// The scenarios with franz-go, built by `HIGHWATER_GO` or the `go` there is.
pub fn franz() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let go = std::env::var_os("HIGHWATER_GO").unwrap_or_else(|| "go".into());
            if let Err(why) = says(Command::new(&go).arg("version")) {
                return skipped("franz-go", "HIGHWATER_REQUIRE_FRANZ", &why);
            }
            let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka_clients_franz");
            let mut command = Command::new(&go);
            command.current_dir(sources().join("franz")).args(["build", "-o"]).arg(&built).arg(".");
            match says(&mut command) {
                Ok(_) => Some(built),
                // Its modules come by the network; what does not compile is another matter.
                Err(why) if why.contains("proxy.golang.org") || why.contains("dial tcp") => {
                    skipped("franz-go", "HIGHWATER_REQUIRE_FRANZ", &why)
                }
                Err(why) => panic!("{why}"),
            }
        })
        .as_deref()
}

/// The directory of the scenarios.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka_clients")
}

fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"), PathBuf::from);
    base.join("highwater")
}

/// What a program says that ends with 0, or what went wrong.
fn says(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{command:?}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

fn skipped<T>(what: &str, variable: &str, why: &str) -> Option<T> {
    assert!(std::env::var_os(variable).is_none_or(|v| v != "1"), "{variable}=1, but there is no {what}: {why}");
    // Past the test runner, which keeps what passing tests print.
    drop(writeln!(std::io::stderr(), "\nSKIPPED: tests with {what}: {}", why.trim()));
    None
}
