//! `kill -9` of an agent: a real process, for which this test binary starts itself again.

use std::process::{Child, Command, Stdio};

use super::*;
use crate::agents::testing::{Act, TestServer};

/// Set in the child: the directory to work in, and the server.
const DIRECTORY: &str = "HIGHWATER_TEST_AGENT_DIRECTORY";
const SERVER: &str = "HIGHWATER_TEST_AGENT_SERVER";

/// The child's life. Without its environment, as in an ordinary run of all tests, there is nothing to do.
#[test]
fn child_agent() {
    let (Some(directory), Ok(server)) = (std::env::var_os(DIRECTORY).map(PathBuf::from), std::env::var(SERVER)) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let options = options(&server, &directory, files(&directory.join("app.log"), true));
    runtime.block_on(run_in(options, environment(b""), CancellationToken::new())).unwrap();
}

fn spawn(directory: &Path, server: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "agents::logs::tests::killed::child_agent"])
        .env(DIRECTORY, directory)
        .env(SERVER, server)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_neither_lost_nor_doubled_by_kills_at_any_moment() {
    let (server, dir) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("app.log");
    let lines = numbered(0..12_000);
    let mut rest = lines.chunks(500);
    // Moments from before the first batch is spooled to long after the last reply; every third reply gets lost as well.
    for delay_ms in [0, 5, 15, 30, 45, 60, 80, 100, 130, 170, 220, 300] {
        server.will([Act::LoseReply]);
        append(&path, &text_of(rest.next().unwrap()));
        let mut child = spawn(dir.path(), &server.url());
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        append(&path, &text_of(rest.next().unwrap()));
        tokio::time::sleep(Duration::from_millis(delay_ms / 2)).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let before = server.rows().len();
    assert!(before > 0, "the children have shipped something");
    let report = ship(options(&server.url(), dir.path(), files(&path, false))).await.unwrap();
    assert_eq!(report.rows_spooled, 0);
    assert_eq!(server.messages(), lines);
}
