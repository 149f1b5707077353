//! What holds on every deployment.

use serde_json::{Value, json};

use super::Deployment;
use crate::end_to_end::{ALERTING, RULES, START_S};
use crate::support::{EventStream, Server, eventually};

const FILES: [(&str, &str); 1] = [("rules.yaml", RULES)];

/// One window of traffic: 40 requests from 40 hosts (so from every partition), the first `errors` of them errors.
async fn window(gateway: &Server, index: i64, errors: usize) {
    let rows: Vec<_> = (0..40)
        .map(|host| {
            let level = if host < errors { "error" } else { "info" };
            let at = START_S + index * 10 + (host % 10) as i64;
            json!({"timestamp": at, "service": "shop", "host": format!("host-{host}"), "level": level, "message": "GET /"})
        })
        .collect();
    gateway.accepted("/logs", json!(rows).to_string()).await;
}

/// What is acknowledged is visible to the next query, wherever it is asked.
async fn rows_are_there_at_once(mut deployment: Deployment) {
    deployment
        .gateway()
        .accepted("/logs", r#"[{"message": "one", "host": "a"}, {"message": "two", "host": "b"}]"#)
        .await;
    deployment.gateway().accepted("/metrics", r#"{"name": "m", "value": 1.5, "labels": {"job": "x"}}"#).await;
    assert_eq!(deployment.query().number("SELECT count(*) FROM logs").await, 2);
    assert_eq!(deployment.query().value("SELECT value FROM metrics WHERE name = 'm'").await, json!(1.5));
    deployment.crash().await;
    deployment.gateway().accepted("/logs", r#"{"message": "three"}"#).await;
    assert_eq!(deployment.query().number("SELECT count(*) FROM logs").await, 3);
    deployment.finish().await;
}

/// A request sent again under its key is stored once, also across a crash.
async fn a_retry_is_stored_once(mut deployment: Deployment) {
    let rows: Vec<_> = (0..100).map(|i| json!({"message": format!("m{i}"), "host": format!("h{i}")})).collect();
    let send = async |server: &Server| {
        let request = server.request("/logs").header("content-type", "application/json");
        let request = request.header("idempotency-key", "order-17").body(json!(rows).to_string());
        assert_eq!(server.send(request).await.status, 200);
    };
    send(deployment.gateway()).await;
    send(deployment.gateway()).await;
    assert_eq!(deployment.query().number("SELECT count(*) FROM logs").await, 100);
    deployment.crash().await;
    send(deployment.gateway()).await;
    assert_eq!(deployment.query().number("SELECT count(*) FROM logs").await, 100);
    deployment.finish().await;
}

/// Windows close, a rule fires and resolves, and a crash of everything in between leaves no trace.
async fn windows_close_and_rules_fire(mut deployment: Deployment) {
    let mut stream = EventStream::open(deployment.query(), "/api/v1/alerts/stream?from=earliest", None).await;
    for (index, errors) in [0, 7, 8, 0, 0, 0].into_iter().enumerate() {
        window(deployment.gateway(), index as i64, errors).await;
    }
    let mut states = Vec::new();
    for _ in 0..3 {
        let alert: Value = serde_json::from_str(&stream.next().await.data).unwrap();
        assert_eq!(alert["alertname"], "TooManyErrors", "{alert}");
        states.push(alert["state"].as_str().unwrap().to_owned());
    }
    assert_eq!(states, ["pending", "firing", "resolved"]);

    deployment.crash().await;
    for (index, errors) in [(25, 9), (26, 9), (27, 0), (28, 0), (29, 0), (30, 0)] {
        window(deployment.gateway(), index, errors).await;
    }
    let alerts = "SELECT state FROM alerts ORDER BY _offset";
    let expected: Vec<_> =
        ["pending", "firing", "resolved", "pending", "firing", "resolved"].map(|state| json!({"state": state})).into();
    eventually("six transitions", expected, async || deployment.query().sql(alerts).await).await;

    let rollup =
        "SELECT CAST(window_start AS BIGINT) / 1000000 AS at, requests, errors FROM errors_10s ORDER BY 1 LIMIT 10";
    let oracle = "SELECT CAST(tumble(timestamp, INTERVAL '10 seconds') AS BIGINT) / 1000000 AS at, count(*) AS requests, \
                    count(*) FILTER (WHERE level IN ('ERROR', 'CRITICAL')) AS errors FROM logs GROUP BY 1 ORDER BY 1 LIMIT 10";
    let expected = deployment.query().sql(oracle).await;
    assert_eq!(expected.len(), 10);
    eventually("the rollup is what the query over the rows gives", expected, async || {
        deployment.query().sql(rollup).await
    })
    .await;
    deployment.finish().await;
}

macro_rules! everywhere {
    ($($scenario:ident),* $(,)?) => {
        mod alone {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                super::$scenario(super::Deployment::alone(super::ALERTING, &super::FILES).await).await;
            })*
        }
        mod on_kafka {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                if let Some(deployment) = super::Deployment::together(super::ALERTING, &super::FILES, false).await {
                    super::$scenario(deployment).await;
                }
            })*
        }
    };
}

everywhere!(rows_are_there_at_once, a_retry_is_stored_once, windows_close_and_rules_fire);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_close_and_rules_fire_on_kafka_and_s3() {
    if let Some(deployment) = Deployment::together(ALERTING, &FILES, true).await {
        windows_close_and_rules_fire(deployment).await;
    }
}
