//! Which samples a query sees: those of files and tail, each once, in order.

use serde_json::{Value, json};

use super::data::{BEGIN_MS, TestSeries, metrics_table};
use super::server::Server;

fn seconds(samples: &[(i64, Option<f64>)]) -> Vec<(i64, Option<f64>)> {
    samples.iter().map(|(second, value)| (BEGIN_MS + second * 1000, *value)).collect()
}

/// The samples of the one series that a range selector finds: seconds after the beginning, and values as they are written.
async fn raw(server: &Server, query: &str, second: i64) -> Vec<(f64, String)> {
    let result = server.at(query, second).await;
    let points = result[0]["values"].as_array().cloned().unwrap_or_default();
    let begin = (BEGIN_MS / 1000) as f64;
    let point = |point: Value| {
        (((point[0].as_f64().unwrap() - begin) * 1000.0).round() / 1000.0, point[1].as_str().unwrap().to_owned())
    };
    points.into_iter().map(point).collect()
}

fn written(samples: &[(f64, &str)]) -> Vec<(f64, String)> {
    samples.iter().map(|(second, value)| (*second, (*value).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_are_the_same_wherever_they_lie() {
    let series = TestSeries::new("x", &[("a", "1")], &[]);
    let wanted = written(&[(0.0, "1"), (15.0, "2"), (30.0, "3"), (45.0, "4")]);
    let all = seconds(&[(0, Some(1.0)), (15, Some(2.0)), (30, Some(3.0)), (45, Some(4.0))]);
    for stored in 0..=4 {
        let server = Server::with(&[]).await;
        for (i, sample) in all.iter().enumerate() {
            if i == stored {
                server.fixture.commit(&metrics_table()).await;
            }
            server.fixture.put(&series, &[*sample]).await;
        }
        if stored == 4 {
            server.fixture.commit(&metrics_table()).await;
        }
        assert_eq!(raw(&server, "x[1m]", 45).await, wanted[..].to_vec(), "{stored} in files");
        assert_eq!(raw(&server, "x[30s]", 45).await, wanted[2..].to_vec(), "open on the left");
        assert_eq!(raw(&server, "{a=\"1\"}[30s]", 30).await, wanted[1..3].to_vec());
        assert_eq!(raw(&server, "{a=\"2\"}[1m]", 45).await, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_out_of_order_are_put_in_order() {
    let series = TestSeries::new("x", &[], &[]);
    let server = Server::with(&[]).await;
    server.fixture.put(&series, &seconds(&[(30, Some(3.0)), (0, Some(1.0))])).await;
    server.fixture.commit(&metrics_table()).await;
    server.fixture.put(&series, &seconds(&[(45, Some(4.0)), (15, Some(2.0)), (10, Some(9.0))])).await;
    let wanted = written(&[(0.0, "1"), (10.0, "9"), (15.0, "2"), (30.0, "3"), (45.0, "4")]);
    assert_eq!(raw(&server, "x[1m]", 45).await, wanted);
    server.fixture.commit(&metrics_table()).await;
    assert_eq!(raw(&server, "x[1m]", 45).await, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_samples_at_one_time_the_last_in_the_log_stays() {
    let series = TestSeries::new("x", &[], &[]);
    let server = Server::with(&[]).await;
    let table = metrics_table();
    server.fixture.put(&series, &seconds(&[(0, Some(1.0)), (15, Some(2.0)), (15, Some(2.5))])).await;
    assert_eq!(raw(&server, "x[1m]", 45).await, written(&[(0.0, "1"), (15.0, "2.5")]), "one record");
    server.fixture.commit(&table).await;
    assert_eq!(raw(&server, "x[1m]", 45).await, written(&[(0.0, "1"), (15.0, "2.5")]), "one file");
    server.fixture.put(&series, &seconds(&[(15, Some(7.0)), (0, Some(1.0))])).await;
    assert_eq!(raw(&server, "x[1m]", 45).await, written(&[(0.0, "1"), (15.0, "7")]), "file and tail");
    server.fixture.commit(&table).await;
    assert_eq!(raw(&server, "x[1m]", 45).await, written(&[(0.0, "1"), (15.0, "7")]), "two files");
    server.fixture.put(&series, &seconds(&[(15, None)])).await;
    assert_eq!(raw(&server, "x[1m]", 45).await, written(&[(0.0, "1")]), "a marker replaces a value");
}

#[tokio::test(flavor = "multi_thread")]
async fn less_than_a_millisecond_is_no_difference() {
    let series = TestSeries::new("x", &[], &[]);
    let server = Server::with(&[]).await;
    let us = |us: i64| BEGIN_MS * 1000 + us;
    let rows = series.rows_us("default", &[(us(0), Some(1.0)), (us(999), Some(2.0)), (us(1000), Some(3.0))]);
    server.fixture.append_rows("metrics", 0, &rows).await;
    assert_eq!(raw(&server, "x[1m]", 1).await, written(&[(0.0, "2"), (0.001, "3")]));
    assert_eq!(server.at("x", 0).await[0]["value"][1], "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_ends_at_its_marker() {
    let series = TestSeries::new("x", &[], &[]);
    let server = Server::with(&[]).await;
    server.fixture.put(&series, &seconds(&[(0, Some(1.0)), (15, None), (60, Some(f64::NAN))])).await;
    for _ in 0..2 {
        assert_eq!(server.at("x", 14).await[0]["value"][1], "1");
        assert_eq!(server.at("x", 15).await, json!([]));
        assert_eq!(server.at("x", 59).await, json!([]));
        assert_eq!(server.at("x", 60).await[0]["value"][1], "NaN");
        assert_eq!(raw(&server, "x[2m]", 60).await, written(&[(0.0, "1"), (60.0, "NaN")]));
        server.fixture.commit(&metrics_table()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_selector_of_a_query_has_its_own_samples() {
    let all = [
        TestSeries::new("x", &[("a", "1")], &[1.0, 2.0, 3.0, 4.0]),
        TestSeries::new("x", &[("a", "2")], &[10.0, 20.0, 30.0, 40.0]),
        TestSeries::new("y", &[("a", "1")], &[100.0, 200.0, 300.0, 400.0]),
    ];
    let server = Server::with(&all).await;
    for (query, wanted) in [
        ("x{a=\"1\"} + x{a=\"1\"} offset 30s", "6"),
        ("x{a=\"1\"} + ignoring(a) x{a=\"2\"}", "44"),
        ("x{a=\"1\"} + on() y + on() x{a=\"2\"} offset 45s", "414"),
        ("sum({__name__=~\"x|y\"})", "444"),
        ("sum({__name__=~\"x|y\", a!=\"2\"})", "404"),
        ("sum({__name__=~\".+\"})", "444"),
        ("sum({__name__!=\"y\", a=~\".+\"})", "44"),
        ("count({__name__=~\"(x|z)\"})", "2"),
        ("sum(x{a=\"1\"} @ 1767322800)", "1"),
        ("sum_over_time(x{a=\"1\"}[1m]) + max_over_time(x{a=\"1\"}[45s])", "14"),
        ("sum(sum_over_time(x[45s:15s]))", "99"),
    ] {
        assert_eq!(server.at(query, 45).await[0]["value"][1], wanted, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_series_in_several_row_groups_are_found_by_name_and_label() {
    let all: Vec<TestSeries> = (0..200)
        .map(|i| {
            let (name, host) = (format!("metric_{}", i % 20), format!("host-{}", i / 20));
            TestSeries::new(&name, &[("host", &host), ("text", "a \"quoted\"\nü")], &[f64::from(i), f64::from(i) + 0.5])
        })
        .collect();
    let server = Server::with(&all).await;
    assert_eq!(server.at("count(metric_7)", 15).await[0]["value"][1], "10");
    assert_eq!(server.at("count({host=\"host-3\"})", 15).await[0]["value"][1], "20");
    let one = server.at("metric_7{host=\"host-3\"}", 15).await;
    assert_eq!(one[0]["metric"]["text"], "a \"quoted\"\nü");
    assert_eq!(one[0]["value"][1], "67.5");
    assert_eq!(server.data("label/host/values", &[("match[]", "metric_1")]).await.as_array().unwrap().len(), 10);
}
