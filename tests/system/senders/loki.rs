//! Loki's push API, by python-logging-loki.

use serde_json::{Value, json};

use super::{python, run};
use crate::support::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_a_loki_client_are_rows() {
    let Some(python) = python("LOKI", "logging_loki").await else { return };
    let site = Site::new();
    let server = site.start().await;
    let sent = run(&python, "loki_handler.py", &[&server.url("/loki/api/v1/push")]).await;
    let sent = sent.as_array().unwrap();
    assert_eq!(sent.len(), 21);
    let rows = server
        .sql(
            "SELECT message, CAST(timestamp AS BIGINT) AS timestamp_us, service, host, level, attributes['order'] AS \"order\", \
             attributes['logger'] AS logger FROM logs ORDER BY timestamp",
        )
        .await;
    let expected: Vec<Value> = sent
        .iter()
        .enumerate()
        .map(|(number, line)| {
            let last = number == 20;
            json!({
                "message": line["message"], "timestamp_us": line["timestamp_us"], "service": "checkout", "host": "web-1",
                "level": if last { "ERROR" } else { "INFO" },
                "order": if last { Value::Null } else { json!(number.to_string()) }, "logger": "shop",
            })
        })
        .collect();
    assert_eq!(rows, expected);
    server.balanced("loki", "logs", 21).await;
    server.stop().await;
    site.verify().await;
    assert_eq!(site.offline_number("SELECT count(*) FROM logs").await, 21);
}
