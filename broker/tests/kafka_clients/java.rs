//! The Java clients of Apache Kafka. The scenarios are in `java/`.

use crate::program;
use crate::subject::{PASSWORD, Subject, USER};
use crate::tools;

/// One test per scenario.
macro_rules! scenarios {
    ($($name:ident on $broker:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            $broker(stringify!($name));
        })*
    };
}

scenarios! {
    compressions on shared,
    idempotence on shared,
    sizes on shared,
    positions on shared,
    restarts on its_own,
    eager on shared,
    cooperative on shared,
    static_members on shared,
    generations on shared,
    topics on shared,
    settings on shared,
    offsets on shared,
    group_tools on shared,
    commit_and_abort on shared,
    fencing on shared,
    zombie_offsets on shared,
}

/// A copying process that dies at a step its seed decides, again and again: its output is its input, once each.
#[test]
fn exactly_once() {
    let Some(subject) = Subject::shared() else { return };
    if tools::compiled_java().is_none() {
        return;
    }
    program::scenario(subject, &mut command(subject, "copy_prepare", &["name=copy"]));
    for seed in 1..=4 {
        let said = program::attempt(&mut command(subject, "copy", &["name=copy", &format!("seed={seed}")]), "");
        assert_eq!(said.code, Some(9), "seed {seed} was to die on its way: {said:?}");
    }
    program::scenario(subject, &mut command(subject, "copy", &["name=copy"]));
    program::scenario(subject, &mut command(subject, "copy_check", &["name=copy"]));
}

/// A login over TLS, and the same scenario behind it; a wrong password is told apart.
#[test]
fn security() {
    let Some(subject) = Subject::start_secure() else { return };
    if tools::compiled_java().is_none() {
        return;
    }
    let login = |password: &str| {
        let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
        [
            "set.security.protocol=SASL_SSL".to_owned(),
            "set.sasl.mechanism=PLAIN".to_owned(),
            "set.ssl.truststore.type=PEM".to_owned(),
            format!("set.ssl.truststore.location={}", subject.certificate().display()),
            format!("set.sasl.jaas.config={module} required username=\"{USER}\" password=\"{password}\";"),
        ]
    };
    let options = login(PASSWORD);
    program::scenario(&subject, &mut command(&subject, "compressions", &options.each_ref().map(String::as_str)));
    let options = login("wrong");
    let said = program::attempt(&mut command(&subject, "compressions", &options.each_ref().map(String::as_str)), "");
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("SaslAuthenticationException"), "{}", said.err);
}

fn shared(scenario: &str) {
    if let Some(subject) = Subject::shared() {
        run(subject, scenario);
    }
}

fn its_own(scenario: &str) {
    if let Some(subject) = Subject::start() {
        run(&subject, scenario);
    }
}

fn run(subject: &Subject, scenario: &str) {
    if tools::compiled_java().is_some() {
        program::scenario(subject, &mut command(subject, scenario, &[]));
    }
}

fn command(subject: &Subject, scenario: &str, options: &[&str]) -> std::process::Command {
    let mut command = tools::java("Scenarios").expect("jars, without which nothing was compiled");
    command.arg(scenario).arg(subject.address()).args(options);
    command
}
