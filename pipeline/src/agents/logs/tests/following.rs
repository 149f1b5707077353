//! Files that grow, are rotated and truncated while an agent follows them, or while none runs.
//!
//! Most tests drive the follower by hand through made-up time and look into the spool.

use super::super::follower::{Follower, Progress};
use super::super::patterns::Patterns;
use super::*;
use crate::agents::report::Counters;
use crate::agents::shipping::Spool;
use crate::agents::testing::TestServer;

/// A follower, its spool, and the time.
pub(super) struct Bench {
    follower: Follower,
    spool: Arc<Spool>,
    pub(super) now_ms: i64,
}

impl Bench {
    pub(super) fn open(directory: &Path, patterns: &[&str], start: StartAt) -> Self {
        let patterns: Vec<String> = patterns.iter().map(|p| directory.join(p).display().to_string()).collect();
        let input = Input::Files { patterns: patterns.clone(), exclude: Vec::new(), start, follow: true };
        // The usual waits, for time is made up here.
        let mut options = LogsOptions::new(shipping("http://nobody", directory), "svc", "h1", input);
        options.shipping.batch_wait = Duration::from_secs(5);
        let options = Arc::new(options);
        let counters = Arc::new(Counters::default());
        let spool = Arc::new(Spool::open(&options.shipping, Arc::clone(&counters)).unwrap());
        let patterns = Patterns::new(&patterns, &[], &options.shipping.state_dir).unwrap();
        let follower = Follower::new(options, patterns, start, true, Arc::clone(&spool), counters).unwrap();
        Self { follower, spool, now_ms: 1_800_000_000_000 }
    }

    /// Lets time pass, a tenth of a second at a time.
    pub(super) fn pass(&mut self, seconds: i64) {
        for _ in 0..seconds * 10 {
            self.now_ms += 100;
            while self.follower.step(self.now_ms).unwrap() == Progress::Busy {}
        }
    }

    /// Looks once.
    pub(super) fn step(&mut self) {
        self.follower.step(self.now_ms).unwrap();
    }

    /// The messages in the spool, oldest first, which leave it.
    pub(super) fn take(&self) -> Vec<String> {
        let mut messages = Vec::new();
        while let Some(claimed) = self.spool.claim() {
            let body = crate::agents::shipping::body_of(&fs::read(&claimed.path).unwrap());
            for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let row: serde_json::Value = serde_json::from_slice(line).unwrap();
                messages.push(row["message"].as_str().unwrap().to_owned());
            }
            self.spool.settle(&[claimed]).unwrap();
        }
        messages
    }
}

#[test]
fn a_file_renamed_is_finished_before_its_successor() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (dir.path().join("app.log"), dir.path().join("app.log.1"));
    append(&path, "1\n");
    let mut bench = Bench::open(dir.path(), &["app.log"], StartAt::Beginning);
    bench.pass(1);
    let mut writer = File::options().append(true).open(&path).unwrap();
    fs::rename(&path, &old).unwrap();
    append(&path, "4\n");
    writer.write_all(b"2\n").unwrap();
    bench.pass(1);
    // The writer has not noticed yet.
    writer.write_all(b"3\n").unwrap();
    bench.pass(8);
    assert_eq!(bench.take(), ["1", "2", "3", "4"]);
    assert_eq!((bench.spool.report().files_rotated, bench.spool.report().rows_made), (1, 4));
    append(&path, "5\n");
    bench.pass(6);
    assert_eq!(bench.take(), ["5"]);
}

#[test]
fn a_writer_that_notices_late_is_waited_for_however_quiet_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (dir.path().join("app.log"), dir.path().join("app.log.1"));
    append(&path, "1\n");
    let mut bench = Bench::open(dir.path(), &["app.log"], StartAt::Beginning);
    bench.pass(60);
    let mut writer = File::options().append(true).open(&path).unwrap();
    fs::rename(&path, &old).unwrap();
    bench.pass(4);
    writer.write_all(b"2\n").unwrap();
    bench.pass(4);
    writer.write_all(b"3\n").unwrap();
    bench.pass(10);
    assert_eq!(bench.take(), ["1", "2", "3"]);
    writer.write_all(b"too late\n").unwrap();
    bench.pass(10);
    assert_eq!(bench.take(), Vec::<String>::new(), "it is closed");
}

#[test]
fn a_log_that_gets_the_number_of_a_compressed_file_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("a.log"), dir.path().join("b.log"));
    fs::write(&old, b"\x1f\x8b\x08 compressed\n").unwrap();
    let mut bench = Bench::open(dir.path(), &["*.log"], StartAt::Beginning);
    bench.pass(2);
    // The same inode, another file to its readers.
    fs::rename(&old, &new).unwrap();
    fs::write(&new, "text\n").unwrap();
    bench.pass(7);
    assert_eq!(bench.take(), ["text"]);
}

#[test]
fn three_rotations_between_two_looks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    append(&path, "a\n");
    let mut bench = Bench::open(dir.path(), &["app.log*"], StartAt::Beginning);
    bench.pass(1);
    for (generation, name) in ["b", "c", "d"].iter().enumerate() {
        fs::rename(&path, dir.path().join(format!("app.log.{generation}"))).unwrap();
        append(&path, &format!("{name}\n"));
    }
    bench.pass(7);
    let mut messages = bench.take();
    messages.sort();
    assert_eq!(messages, ["a", "b", "c", "d"], "each once, also under its new name");
}

#[test]
fn a_file_truncated_is_read_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    append(&path, "old 1\nold 2\npart");
    let mut bench = Bench::open(dir.path(), &["app.log"], StartAt::Beginning);
    bench.pass(1);
    fs::copy(&path, dir.path().join("copy")).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    append(&path, "new 1\n");
    bench.pass(6);
    assert_eq!(bench.take(), ["old 1", "old 2", "part", "new 1"]);
    assert_eq!(bench.spool.report().files_truncated, 1);
}

#[test]
fn a_file_truncated_and_grown_past_its_old_size_is_noticed_by_its_head() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    append(&path, "old\n");
    let mut bench = Bench::open(dir.path(), &["app.log"], StartAt::Beginning);
    bench.pass(6);
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    append(&path, "new and longer than before\n");
    bench.pass(6);
    assert_eq!(bench.take(), ["old", "new and longer than before"]);
}

#[test]
fn a_last_line_without_newline_goes_out_after_five_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    append(&path, "whole\npart");
    let mut bench = Bench::open(dir.path(), &["app.log"], StartAt::Beginning);
    bench.pass(4);
    append(&path, "ial");
    bench.pass(4);
    assert_eq!(bench.take(), ["whole"], "bytes came, so it waits five seconds more");
    bench.pass(7);
    assert_eq!(bench.take(), ["partial"]);
    append(&path, " rest\n");
    bench.pass(6);
    assert_eq!(bench.take(), [" rest"]);
}

#[test]
fn a_batch_goes_out_at_a_hundred_rows_or_after_five_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    append(&path, &text_of(&numbered(0..250)));
    let mut bench = Bench::open(dir.path(), &["app.log"], StartAt::Beginning);
    bench.pass(1);
    assert_eq!((bench.spool.len(), bench.spool.report().rows_spooled), (2, 200));
    bench.pass(3);
    assert_eq!(bench.spool.len(), 2);
    bench.pass(2);
    assert_eq!((bench.spool.len(), bench.spool.report().rows_spooled), (3, 250));
}

#[test]
fn a_restart_goes_on_where_the_spool_and_the_checkpoint_say() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    append(&path, "1\n2\n");
    let mut bench = Bench::open(dir.path(), &["app.log"], StartAt::Beginning);
    bench.pass(6);
    assert_eq!(bench.take(), ["1", "2"]);
    append(&path, "3\n");
    bench.pass(6);
    append(&path, "4\n");
    drop(bench);
    let mut bench = Bench::open(dir.path(), &["app.log"], StartAt::Beginning);
    bench.pass(6);
    assert_eq!(bench.take(), ["3", "4"]);
}

#[test]
fn rotated_while_no_agent_ran() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (dir.path().join("app.log"), dir.path().join("app.log.1"));
    append(&path, "1\n");
    let mut bench = Bench::open(dir.path(), &["app.log"], StartAt::Beginning);
    bench.pass(6);
    drop(bench);
    append(&path, "2\n");
    fs::rename(&path, &old).unwrap();
    append(&path, "3\n");
    let mut bench = Bench::open(dir.path(), &["app.log"], StartAt::Beginning);
    bench.pass(12);
    assert_eq!(bench.take(), ["1", "2", "3"]);
    drop(bench);
    let mut bench = Bench::open(dir.path(), &["app.log"], StartAt::Beginning);
    bench.pass(12);
    assert_eq!(bench.take(), Vec::<String>::new());
}

#[test]
fn a_new_file_with_an_old_inode_number_is_read_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    append(&path, "the first file\n");
    let mut bench = Bench::open(dir.path(), &["app.log"], StartAt::Beginning);
    bench.pass(6);
    bench.take();
    drop(bench);
    // Written anew in place: same inode, larger, another head.
    fs::write(&path, "another file, which is longer\n").unwrap();
    let mut bench = Bench::open(dir.path(), &["app.log"], StartAt::Beginning);
    bench.pass(6);
    assert_eq!(bench.take(), ["another file, which is longer"]);
}

#[test]
fn starting_at_the_end_holds_over_a_restart_and_not_for_files_that_appear() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    append(&path, "before\n");
    let mut bench = Bench::open(dir.path(), &["*.log"], StartAt::End);
    bench.pass(1);
    drop(bench);
    append(&path, "while none ran\n");
    let mut bench = Bench::open(dir.path(), &["*.log"], StartAt::End);
    bench.pass(6);
    append(&dir.path().join("new.log"), "in a new file\n");
    bench.pass(7);
    assert_eq!(bench.take(), ["while none ran", "in a new file"]);
}

#[test]
fn a_deleted_file_is_forgotten_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    append(&path, "1\n");
    let mut bench = Bench::open(dir.path(), &["*.log"], StartAt::Beginning);
    bench.pass(6);
    bench.take();
    drop(bench);
    assert_eq!(Bench::open(dir.path(), &["*.log"], StartAt::Beginning).spool.positions().len(), 1);
    // In this order, or the new file may be given the number of the old one.
    append(&dir.path().join("b.log"), "2\n");
    fs::remove_file(&path).unwrap();
    let mut bench = Bench::open(dir.path(), &["*.log"], StartAt::Beginning);
    bench.pass(1);
    assert_eq!(bench.spool.positions().len(), 0);
}

#[test]
fn a_file_that_cannot_be_read_does_not_keep_the_others_from_being_read() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/proc/self/mem", dir.path().join("a.log")).unwrap();
    append(&dir.path().join("b.log"), "fine\n");
    let mut bench = Bench::open(dir.path(), &["*.log"], StartAt::Beginning);
    bench.pass(6);
    assert_eq!(bench.take(), ["fine"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_agent_follows_growth_rotation_and_new_files() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("logs/app.log");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let agent = Running::start(options(&server.url(), dir.path(), files(&dir.path().join("logs/**/*.log"), true)));
    let lines = numbered(0..600);
    for (at, chunk) in lines.chunks(50).enumerate() {
        append(&path, &text_of(chunk));
        if at % 4 == 3 {
            fs::rename(&path, dir.path().join(format!("logs/app.{at}"))).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let nested = dir.path().join("logs/a/b/c.log");
    fs::create_dir_all(nested.parent().unwrap()).unwrap();
    append(&nested, "nested, no newline");
    server.wait_for_rows(601).await;
    let report = agent.stop().await;
    let mut messages = server.messages();
    messages.retain(|message| message != "nested, no newline");
    assert_eq!(messages, lines);
    assert_eq!((report.rows_shipped, report.rows_spooled), (601, 0));
    assert!(report.files_rotated >= 2, "{}", report.files_rotated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_stop_flushes_whole_lines_and_leaves_the_rest_for_the_next_run() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("app.log");
    let mut patient = options(&server.url(), dir.path(), files(&path, true));
    patient.shipping.batch_wait = Duration::from_secs(3600);
    patient.partial_wait = Duration::from_secs(3600);
    append(&path, "whole\npart");
    let agent = Running::start(patient.clone());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.requests(), 0);
    assert_eq!(agent.stop().await.rows_shipped, 1);
    assert_eq!(server.messages(), ["whole"]);
    append(&path, "ial\n");
    ship(LogsOptions { input: files(&path, false), ..patient }).await.unwrap();
    assert_eq!(server.messages(), ["whole", "partial"]);
}
