//! A load of logs whose sender never gives up: every batch is retried under its `Idempotency-Key` until it is acknowledged.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

/// Rows in one request.
const BATCH_ROWS: u64 = 500;
const CONNECTIONS: usize = 8;

/// `rows` logs, numbered in `request_id` from 0, over 40 hosts and so over every partition. Their event times are spread
/// over two minutes from `start_s` (Unix seconds), in no order that matters.
pub struct Load {
    pub name: String,
    pub rows: u64,
    pub start_s: i64,
}

/// How far a load has come.
#[derive(Default)]
pub struct Progress {
    next_batch: AtomicU64,
    /// Rows acknowledged by the server.
    pub acknowledged: AtomicU64,
    /// Requests that had to be sent again.
    pub retries: AtomicU64,
}

impl Load {
    /// The NDJSON of rows `from..to`.
    fn body(&self, from: u64, to: u64) -> String {
        let mut body = String::with_capacity(256 * (to - from) as usize);
        for row in from..to {
            let at = self.start_s + (row * 7919 % 120) as i64;
            let (host, service) = (row % 40, row % 5);
            writeln!(
                body,
                r#"{{"timestamp":{at},"level":"info","service":"service-{service}","host":"host-{host}","request_id":"{row}","message":"row {row} of a load that has to arrive exactly once"}}"#
            )
            .unwrap();
        }
        body
    }

    /// Sends everything, following the server's address as it changes. Ends when every row is acknowledged.
    pub async fn run(self: Arc<Self>, address: watch::Receiver<String>, progress: Arc<Progress>) {
        let mut senders = JoinSet::new();
        for _ in 0..CONNECTIONS {
            senders.spawn(Arc::clone(&self).send_batches(address.clone(), Arc::clone(&progress)));
        }
        while let Some(ended) = senders.join_next().await {
            ended.unwrap();
        }
    }

    async fn send_batches(self: Arc<Self>, address: watch::Receiver<String>, progress: Arc<Progress>) {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        loop {
            let batch = progress.next_batch.fetch_add(1, Ordering::Relaxed);
            let from = batch * BATCH_ROWS;
            if from >= self.rows {
                return;
            }
            let to = self.rows.min(from + BATCH_ROWS);
            let (key, body) = (format!("{}-{batch}", self.name), self.body(from, to));
            while !self.acknowledged(&client, &address, &key, &body).await {
                progress.retries.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            progress.acknowledged.fetch_add(to - from, Ordering::Relaxed);
        }
    }

    /// Sends once. False where it has to be sent again: no connection, no answer, or the server said later.
    async fn acknowledged(
        &self,
        client: &reqwest::Client,
        address: &watch::Receiver<String>,
        key: &str,
        body: &str,
    ) -> bool {
        let url = format!("{}/logs", address.borrow().as_str());
        let request = client.post(url).header("content-type", "application/x-ndjson").header("idempotency-key", key);
        let Ok(response) = request.body(body.to_owned()).send().await else { return false };
        let status = response.status().as_u16();
        let Ok(text) = response.text().await else { return false };
        match status {
            200 => true,
            429 | 503 => false,
            _ => panic!("batch {key} was refused: {status} {text}"),
        }
    }
}
