//! Servers that fail, and what becomes of the rows.

use super::*;
use crate::agents::WhenFull;
use crate::agents::shipping::RetryOptions;
use crate::agents::testing::{Act, Nobody, TestServer, eventually};

fn lines_file(directory: &Path, count: usize) -> (PathBuf, Vec<String>) {
    let path = directory.join("app.log");
    let lines = numbered(0..count);
    append(&path, &text_of(&lines));
    (path, lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_and_lost_replies_neither_lose_nor_double() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let (path, lines) = lines_file(dir.path(), 1000);
    use Act::{Fail, LoseReply};
    server.will([Fail(503), LoseReply, Fail(500), LoseReply, LoseReply, Fail(404), Fail(401), LoseReply]);
    let report = ship(options(&server.url(), dir.path(), files(&path, false))).await.unwrap();
    assert_eq!(server.messages(), lines, "once each, in the order of the file");
    assert!(server.duplicates() >= 2, "{} lost replies were sent again", server.duplicates());
    assert_eq!((report.rows_shipped, report.requests_failed), (1000, 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_carries_key_encoding_and_identity() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let (path, _) = lines_file(dir.path(), 1);
    let mut options = options(&server.url(), dir.path(), files(&path, false));
    options.shipping.api_key = Some("secret".into());
    options.shipping.tenant = Some("acme".into());
    ship(options).await.unwrap();
    let headers = server.last_headers();
    assert_eq!(headers["content-encoding"], "zstd");
    assert_eq!(headers["content-type"], "application/x-ndjson");
    assert_eq!(headers["authorization"], "Bearer secret");
    assert_eq!(headers["x-scope-orgid"], "acme");
    assert_eq!(headers["idempotency-key"].len(), 36);
    assert_eq!(server.paths(), ["logs"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_honoured() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let (path, _) = lines_file(dir.path(), 1);
    server.will([Act::Busy(1)]);
    let clock = SystemClock;
    let before_ms = clock.now_ms();
    ship(options(&server.url(), dir.path(), files(&path, false))).await.unwrap();
    assert!(clock.now_ms() - before_ms >= 1000, "asked to wait a second");
    assert_eq!(server.requests(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_refused_for_good_is_kept_aside_and_the_next_ones_go_on() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let (path, lines) = lines_file(dir.path(), 250);
    server.will([Act::Fail(413)]);
    let report = ship(options(&server.url(), dir.path(), files(&path, false))).await.unwrap();
    assert_eq!(server.messages(), lines[100..]);
    assert_eq!((report.rows_shipped, report.rows_refused, report.requests), (150, 100, 3));
    let kept = contents(&dir.path().join("state/refused"));
    assert_eq!(kept.len(), 1);
    let kept: Vec<serde_json::Value> = kept[0]
        .1
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    assert_eq!(kept.len(), 100);
    assert_eq!(kept[99]["row"]["message"], lines[99]);
    assert!(kept[0]["reason"].as_str().unwrap().contains("413"), "{}", kept[0]["reason"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_refused_one_by_one_are_kept_aside() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let (path, lines) = lines_file(dir.path(), 5);
    server.will([Act::RefuseRows(&[1, 3])]);
    let report = ship(options(&server.url(), dir.path(), files(&path, false))).await.unwrap();
    assert_eq!((report.rows_shipped, report.rows_refused), (3, 2));
    assert_eq!(server.messages(), [&lines[0], &lines[2], &lines[4]].map(String::clone));
    let kept = contents(&dir.path().join("state/refused"));
    let text = String::from_utf8(kept[0].1.clone()).unwrap();
    let rows: Vec<&str> = text.lines().collect();
    assert_eq!(rows.len(), 2);
    assert!(
        rows[1].starts_with("{\"reason\":\"`message` is empty\",\"row\":{") && rows[1].contains("line 3"),
        "{}",
        rows[1]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_input_ends_while_the_server_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = Nobody::new();
    let mut first = options(&nobody.url(), dir.path(), Input::Stdin);
    first.shipping.drain_timeout = Duration::from_millis(200);
    let error = run_in(first.clone(), environment(b"a\nb\n"), CancellationToken::new()).await.unwrap_err();
    let AgentError::Undelivered { rows, batches, directory, reason } = &error else { panic!("{error}") };
    assert_eq!((*rows, *batches), (2, 1));
    assert_eq!(*directory, dir.path().join("state/spool"));
    assert!(reason.contains("refused"), "{reason}");
    assert!(error.is_retryable());

    let server = nobody.appear();
    let report = run_in(first, environment(b"c\n"), CancellationToken::new()).await.unwrap();
    assert_eq!(server.messages(), ["a", "b", "c"]);
    assert_eq!((report.rows_found, report.rows_made, report.rows_shipped), (2, 1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_drops_its_oldest_batches_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = Nobody::new();
    let path = dir.path().join("app.log");
    let mut bounded = options(&nobody.url(), dir.path(), files(&path, true));
    bounded.shipping.spool_size_bytes = 20_000;
    bounded.shipping.batch_rows = 10;
    append(&path, "first\n");
    let agent = Running::start(bounded.clone());
    // Only once the server is known to be away are rows dropped; before, reading waits.
    let lines = numbered(0..5000);
    append(&path, &text_of(&lines));
    let spool = dir.path().join("state/spool");
    let newest = || contents(&spool).last().is_some_and(|(path, _)| path.to_string_lossy().contains("501.batch"));
    eventually("the last batch in the spool", newest).await;
    let size_bytes: usize = contents(&spool).iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(size_bytes <= 21_000, "{size_bytes}");

    let server = nobody.appear();
    eventually("an empty spool", || contents(&spool).is_empty()).await;
    let report = agent.stop().await;
    assert_eq!(report.rows_made, 5001);
    assert_eq!(report.rows_shipped + report.rows_dropped, 5001);
    assert!(report.rows_dropped > 1000, "{}", report.rows_dropped);
    assert_eq!(server.rows().len() as u64, report.rows_shipped);
    let messages = server.messages();
    assert_eq!(messages[messages.len() - 200..], lines[4800..], "the newest are kept, in order");
    // What was dropped is not read again.
    let again = ship(LogsOptions { input: files(&path, false), ..bounded }).await.unwrap();
    assert_eq!(again.lines_read, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_read_once_are_not_dropped_for_a_full_spool() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = Nobody::new();
    let (path, lines) = lines_file(dir.path(), 5000);
    let mut bounded = options(&nobody.url(), dir.path(), files(&path, false));
    bounded.shipping.spool_size_bytes = 10_000;
    bounded.shipping.drain_timeout = Duration::from_millis(300);
    let error = ship(bounded.clone()).await.unwrap_err();
    assert!(matches!(error, AgentError::Undelivered { rows: 1..5000, .. }), "{error}");
    let server = nobody.appear();
    bounded.shipping.drain_timeout = Duration::from_secs(20);
    let report = ship(bounded).await.unwrap();
    assert_eq!((server.messages(), report.rows_dropped), (lines, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_breaks_stops_the_agent() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let (path, _) = lines_file(dir.path(), 1);
    let running = Running::start(options(&server.url(), dir.path(), files(&path, true)));
    server.wait_for_rows(1).await;
    let checkpoint = dir.path().join("state/checkpoint.json");
    eventually("the checkpoint", || checkpoint.exists()).await;
    // A directory in its place: it can be replaced by no file.
    fs::remove_file(&checkpoint).unwrap();
    fs::create_dir(&checkpoint).unwrap();
    append(&path, "next\n");
    let error = running.task.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("checkpoint.json"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_may_wait_instead() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = Nobody::new();
    let (path, lines) = lines_file(dir.path(), 5000);
    let mut bounded = options(&nobody.url(), dir.path(), files(&path, true));
    bounded.shipping.spool_size_bytes = 20_000;
    bounded.shipping.when_full = WhenFull::Wait;
    let spool = dir.path().join("state/spool");
    let agent = Running::start(bounded);
    let size_bytes = || contents(&spool).iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    eventually("a full spool", || size_bytes() >= 20_000).await;
    let server = nobody.appear();
    server.wait_for_rows(5000).await;
    assert_eq!(agent.stop().await.rows_dropped, 0);
    assert_eq!(server.messages(), lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_is_left_alone_by_the_breaker() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let (path, lines) = lines_file(dir.path(), 100);
    server.will(vec![Act::Fail(503); 10_000]);
    let mut options = options(&server.url(), dir.path(), files(&path, true));
    // Without the breaker this pace would make hundreds of requests a second.
    let millis = Duration::from_millis;
    options.shipping.retry =
        RetryOptions { min_delay: millis(1), max_delay: millis(2), breaker_requests: 3, breaker_wait: millis(400) };
    let agent = Running::start(options);
    eventually("an open breaker", || server.requests() >= 4).await;
    tokio::time::sleep(millis(1000)).await;
    let requests = server.requests();
    assert!((5..30).contains(&requests), "trial requests only: {requests}");
    server.recover();
    server.wait_for_rows(100).await;
    assert_eq!(server.messages(), lines);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_batch_is_set_aside_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = Nobody::new();
    let (path, lines) = lines_file(dir.path(), 300);
    let mut first = options(&nobody.url(), dir.path(), files(&path, false));
    first.shipping.drain_timeout = Duration::from_millis(50);
    ship(first.clone()).await.unwrap_err();
    let spool = contents(&dir.path().join("state/spool"));
    assert_eq!(spool.len(), 3);
    // The first batch's header is damaged, the second's body.
    for (at, byte) in [(0, 20), (1, spool[1].1.len() - 20)] {
        let (path, mut bytes) = spool[at].clone();
        bytes[byte] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    fs::write(dir.path().join("state/spool/00000000000000000009.tmp"), b"half").unwrap();
    let server = nobody.appear();
    let report = ship(first).await.unwrap();
    assert_eq!(server.messages(), lines[200..]);
    assert_eq!(
        (report.batches_damaged, report.rows_found, report.rows_dropped, report.rows_shipped),
        (2, 200, 100, 100)
    );
    assert_eq!(contents(&dir.path().join("state/refused")).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_cannot_share_a_state_directory() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let (path, _) = lines_file(dir.path(), 1);
    let agent = Running::start(options(&server.url(), dir.path(), files(&path, true)));
    server.wait_for_rows(1).await;
    let error = ship(options(&server.url(), dir.path(), files(&path, false))).await.unwrap_err();
    assert!(matches!(error, AgentError::Locked { .. }), "{error}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_addressed_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for server in ["nonsense", "ftp://x"] {
        let error = run_in(options(server, dir.path(), Input::Stdin), environment(b""), CancellationToken::new()).await;
        assert!(matches!(error, Err(AgentError::Option { option: "--server", .. })), "{server}: {error:?}");
    }
}
