//! What Grafana's Prometheus datasource sends, and promtool's client: recorded from them, parameters and all.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

use super::data::TestSeries;
use super::server::Server;

fn requests() -> TestSeries {
    let mut series =
        TestSeries::new("http_requests_total", &[("job", "web"), ("code", "200")], &[0.0, 15.0, 30.0, 45.0, 60.0]);
    series.kind = Some("counter");
    series
}

async fn server() -> Server {
    Server::with(&[requests()]).await
}

async fn form(server: &Server, path: &str, body: &str) -> (StatusCode, Value) {
    let request = Request::post(path)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-datasource-uid", "prom")
        .header("x-dashboard-uid", "abc")
        .header("x-panel-id", "2")
        .body(Body::from(body.to_owned()))
        .unwrap();
    let (status, body) = server.send(request).await;
    (status, serde_json::from_str(&body).unwrap())
}

async fn get(server: &Server, path: &str) -> Value {
    let (status, body) = server.send(Request::get(path).body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{path}: {body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["status"], "success", "{path}");
    body["data"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panel_asks_for_a_range() {
    let server = server().await;
    let body =
        "query=sum+by%28job%29+%28rate%28http_requests_total%5B1m0s%5D%29%29&start=1767322800&end=1767322860&step=15";
    let (status, body) = form(&server, "/api/v1/query_range", body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["data"]["resultType"], "matrix");
    let series = &body["data"]["result"][0];
    assert_eq!(series["metric"], json!({ "job": "web" }));
    let last = series["values"].as_array().unwrap().last().unwrap();
    assert_eq!(last[0], 1_767_322_860);
    assert!((last[1].as_str().unwrap().parse::<f64>().unwrap() - 1.0).abs() < 1e-9, "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panel_with_the_health_check_and_explore_ask_for_an_instant() {
    let server = server().await;
    let (status, body) = form(&server, "/api/v1/query", "query=1%2B1&time=1767322860.000").await;
    assert_eq!(
        (status, &body["data"]),
        (StatusCode::OK, &json!({ "resultType": "scalar", "result": [1_767_322_860, "2"] }))
    );
    let (_, body) =
        form(&server, "/api/v1/query", "query=http_requests_total&time=1767322860&stats=all&limit=40000").await;
    assert_eq!(body["data"]["result"][0]["value"], json!([1_767_322_860, "60"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_and_the_metrics_browser_ask_for_names_and_values() {
    let server = server().await;
    let range = "start=1767322800&end=1767326400";
    assert_eq!(get(&server, &format!("/api/v1/label/__name__/values?{range}")).await, json!(["http_requests_total"]));
    let selector = "match%5B%5D=%7B__name__%3D%22http_requests_total%22%7D";
    assert_eq!(
        get(&server, &format!("/api/v1/label/__name__/values?{selector}&{range}&limit=40000")).await,
        json!(["http_requests_total"])
    );
    assert_eq!(get(&server, &format!("/api/v1/label/code/values?{range}&{selector}")).await, json!(["200"]));
    let (_, body) = form(&server, "/api/v1/labels", &format!("{range}&{selector}&limit=40000")).await;
    assert_eq!(body["data"], json!(["__name__", "code", "job"]));
    let (_, body) = form(&server, "/api/v1/series", &format!("{selector}&{range}&limit=40000")).await;
    assert_eq!(body["data"], json!([{ "__name__": "http_requests_total", "code": "200", "job": "web" }]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_datasource_asks_what_it_talks_to() {
    let server = server().await;
    assert!(get(&server, "/api/v1/status/buildinfo").await["version"].as_str().unwrap().starts_with('3'));
    assert_eq!(
        get(&server, "/api/v1/metadata?limit=40000").await,
        json!({ "http_requests_total": [{ "type": "counter", "help": "", "unit": "" }] })
    );
    assert_eq!(get(&server, "/api/v1/rules?type=alert").await, json!({ "groups": [] }));
    assert_eq!(get(&server, "/api/v1/rules").await, json!({ "groups": [] }));
    assert_eq!(get(&server, "/api/v1/alerts").await, json!({ "alerts": [] }));
    let exemplars = "query=http_requests_total&start=1767322800&end=1767326400&step=15";
    assert_eq!(get(&server, &format!("/api/v1/query_exemplars?{exemplars}")).await, json!([]));
    assert_eq!(form(&server, "/api/v1/query_exemplars", exemplars).await.1["data"], json!([]));
}

/// promtool, against a port.
#[tokio::test(flavor = "multi_thread")]
async fn promtool_asks() {
    let buckets = [("0.1", 1.0), ("1", 3.0), ("+Inf", 3.0)].map(|(le, step)| {
        let values: Vec<f64> = (0..5).map(|i| step * f64::from(i)).collect();
        TestSeries::new("latency_bucket", &[("le", le)], &values)
    });
    let server = Server::with(&[[requests()].as_slice(), &buckets].concat()).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = server.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let ran = tokio::task::spawn_blocking(move || {
        let ask = |arguments: &[&str]| {
            let mut promtool = super::real::promtool()?;
            let output = promtool.args(["query"]).args(arguments).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{arguments:?}: {said}");
            Some(String::from_utf8(output.stdout).unwrap())
        };
        let selector = "http_requests_total{code=\"200\"}";
        let instant = ask(&["instant", "--time=1767322860", &url, "http_requests_total"])?;
        assert_eq!(instant, "http_requests_total{code=\"200\", job=\"web\"} => 60 @[1767322860]\n");
        let range =
            ask(&["range", "--start=1767322800", "--end=1767322830", "--step=15s", &url, "sum(http_requests_total)"])?;
        assert_eq!(range, "{} =>\n0 @[1767322800]\n15 @[1767322815]\n30 @[1767322830]\n");
        let series = ask(&["series", "--match", selector, "--start=1767322800", "--end=1767326400", &url])?;
        assert_eq!(series, "{__name__=\"http_requests_total\", code=\"200\", job=\"web\"}\n");
        let values = ask(&["labels", "--start=1767322800", "--end=1767326400", &url, "job"])?;
        assert_eq!(values, "web\n");
        let analyzed = ask(&[
            "analyze",
            &format!("--server={url}"),
            "--type=histogram",
            "--duration=2m",
            "--time=1767322860",
            "--match=latency_bucket",
        ])?;
        assert!(analyzed.contains("- latency_bucket{} (classic): 0/1.600/2/3"), "{analyzed}");
        Some(())
    });
    ran.await.unwrap();
}
