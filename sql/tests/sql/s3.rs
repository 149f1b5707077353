//! The same tables on a real S3 server, read through a proxy that fails on purpose. Where no server can be had these tests say so and pass.

use std::sync::Arc;

use highwater_pipeline::storage::{Access, Storage, connect};
use highwater_pipeline::tables::{TableSpec, built_in_tables};
use serde_json::json;

use crate::fixture::{Fixture, small};
use crate::log::MemoryLog;
use crate::proxy::{FaultProxy, Faults};
use crate::server;

fn logs_table() -> TableSpec {
    built_in_tables().into_iter().find(|t| t.name == "logs").unwrap()
}

async fn fixture_on(storage: Storage, log: &Arc<MemoryLog>) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    Fixture::on(storage, directory, Arc::clone(log), small(), built_in_tables()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn history_on_s3_and_the_live_tail_are_one_snapshot_however_the_store_fails() {
    let Some(endpoint) = server::start() else { return };
    let url = server::fresh_url();
    let log = Arc::new(MemoryLog::default());
    let writer = fixture_on(connect(&url, &server::options(endpoint), Access::Write).await.unwrap(), &log).await;
    let proxy = FaultProxy::start(endpoint, 1).await;
    let reader = fixture_on(connect(&url, &server::options(proxy.url()), Access::Read).await.unwrap(), &log).await;
    assert_eq!(reader.one("SELECT count(*) FROM logs").await, "0", "there is no table yet");

    proxy.set(Faults { refused: 0.10, lost_replies: 0.10 });
    let mut rows = 0;
    for commit in 0..8 {
        for partition in 0..4 {
            let day = format!("2026-01-{:02}T03:00:00Z", 1 + commit % 3);
            let line = json!({"timestamp": day, "service": format!("s{partition}"), "message": rows.to_string()});
            writer.append_json("logs", partition, &line).await;
            rows += 1;
        }
        assert_eq!(reader.one("SELECT count(*) FROM logs").await, rows.to_string(), "live");
        writer.commit(&logs_table()).await;
        assert_eq!(reader.one("SELECT count(*), count(DISTINCT message) FROM logs").await, format!("{rows},{rows}"));
    }
    assert_eq!(reader.one("SELECT count(*) FROM logs WHERE date = '2026-01-02' AND service = 's1'").await, "3");
    let last = reader.engine.query("default", "SELECT * FROM logs").await.unwrap();
    assert_eq!(last.info().tables[0].delta_version, Some(8));
    let (_, refused, lost) = proxy.counts();
    assert!(refused > 0 && lost > 0, "{refused} refused, {lost} lost");
}
