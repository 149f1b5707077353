//! franz-go. The scenarios are in `franz/`.

use std::process::Command;

use crate::program;
use crate::subject::Subject;
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
    groups on shared,
    administer on shared,
    commit_and_abort on shared,
    restarts on its_own,
}

/// A copying process that dies at a step its seed decides, again and again: its output is its input, once each.
#[test]
fn exactly_once() {
    let Some(subject) = Subject::shared() else { return };
    let Some(franz) = tools::franz() else { return };
    let command = |scenario: &str, seed: Option<i32>| {
        let mut command = Command::new(franz);
        command.args([scenario, &subject.address(), "name=copy"]);
        command.args(seed.map(|seed| format!("seed={seed}")));
        command
    };
    program::scenario(subject, &mut command("copy_prepare", None));
    for seed in 1..=4 {
        let said = program::attempt(&mut command("copy", Some(seed)), "");
        assert_eq!(said.code, Some(9), "seed {seed} was to die on its way: {said:?}");
    }
    program::scenario(subject, &mut command("copy", None));
    program::scenario(subject, &mut command("copy_check", None));
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
    let Some(franz) = tools::franz() else { return };
    program::scenario(subject, Command::new(franz).args([scenario, &subject.address()]));
}
