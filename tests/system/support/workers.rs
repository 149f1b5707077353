//! Waiting for those who work on a log, as `/api/v1/status` tells of them.

use serde_json::Value;

use super::{Server, eventually};

impl Server {
    /// Waits until so many workers share all partitions, each owned once.
    pub async fn settled(&self, workers: usize) {
        eventually("every partition has one owner", (true, workers), async || {
            let status = self.get("/api/v1/status").await.json();
            let tasks = status["tasks"].as_array().unwrap();
            let mut names: Vec<_> = tasks.iter().map(|task| task["task"].as_str().unwrap()).collect();
            names.sort_unstable();
            let all = names.len();
            names.dedup();
            let running = tasks.iter().all(|task| task["state"] == "running");
            let mut owners: Vec<_> = tasks.iter().map(|task| task["owner"].as_str().unwrap()).collect();
            owners.sort_unstable();
            owners.dedup();
            (all >= 8 && all == names.len() && running, owners.len())
        })
        .await;
    }

    /// Waits until every task and every table has read all there is.
    pub async fn caught_up(&self) {
        eventually("tasks and tables have caught up", false, async || {
            let status = self.get("/api/v1/status").await.json();
            let lag = |kind: &str| -> i64 {
                status[kind].as_array().unwrap().iter().map(|line: &Value| line["lag"].as_i64().unwrap()).sum()
            };
            lag("tasks") + lag("tables") > 200
        })
        .await;
    }
}
