//! Runs a program to its end and keeps what it says. A scenario may ask for its broker to be killed or started, by a line on stdout that begins
//! with `@`; it is answered by a line on stdin.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::subject::Subject;

/// No scenario takes as long, on a machine however busy.
const LIMIT: Duration = Duration::from_secs(240);

/// What a program said.
#[derive(Debug)]
pub struct Said {
    /// On stdout, less the lines that ask for something.
    pub out: String,
    /// On stderr.
    pub err: String,
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
}

/// Runs a scenario, which has to end with 0.
pub fn scenario(subject: &Subject, command: &mut Command) -> Said {
    let said = run(Some(subject), command, None);
    assert_eq!(said.code, Some(0), "{command:?}\n--- stdout\n{}\n--- stderr\n{}", said.out, said.err);
    said
}

/// Runs a tool, which has to end with 0, with this on its stdin; what it said on stdout.
pub fn tool(command: &mut Command, input: &str) -> String {
    let said = run(None, command, Some(input));
    assert_eq!(said.code, Some(0), "{command:?}\n--- stdout\n{}\n--- stderr\n{}", said.out, said.err);
    said.out
}

/// Runs a tool, whatever it ends with.
pub fn attempt(command: &mut Command, input: &str) -> Said {
    run(None, command, Some(input))
}

fn run(subject: Option<&Subject>, command: &mut Command, input: Option<&str>) -> Said {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take();
    if let Some(input) = input {
        // It may have ended without reading.
        drop(stdin.take().unwrap().write_all(input.as_bytes()));
    }
    let mut stderr = child.stderr.take().unwrap();
    let errors = std::thread::spawn(move || {
        let mut all = Vec::new();
        drop(stderr.read_to_end(&mut all));
        String::from_utf8_lossy(&all).into_owned()
    });
    let lines = lines(&mut child);
    let end = Instant::now() + LIMIT;
    let mut out = String::new();
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => match (line.trim_end().strip_prefix('@'), subject) {
                (Some(wish), Some(subject)) => grant(subject, wish, stdin.as_mut()),
                _ => out.push_str(&line),
            },
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!(
                    "{command:?}: still running after {LIMIT:?}\n--- stdout\n{out}\n--- stderr\n{}",
                    errors.join().unwrap()
                );
            }
        }
    }
    let status = child.wait().unwrap();
    Said { out, err: errors.join().unwrap(), code: status.code() }
}

/// The lines of its stdout, as they come.
fn lines(child: &mut Child) -> Receiver<String> {
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut line = Vec::new();
        while stdout.read_until(b'\n', &mut line).is_ok_and(|size_bytes| size_bytes > 0) {
            let text = String::from_utf8_lossy(&line).into_owned();
            line.clear();
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    receiver
}

fn grant(subject: &Subject, wish: &str, stdin: Option<&mut ChildStdin>) {
    match wish {
        "kill" => subject.kill(),
        "start" => subject.restart(),
        "restart" => {
            subject.kill();
            subject.restart();
        }
        other => panic!("a scenario asked for {other:?}"),
    }
    stdin.unwrap().write_all(b"done\n").unwrap();
}
