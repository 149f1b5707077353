//! What the API takes and answers, path by path.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use highwater_promql::Labels;
use highwater_sql::prometheus::{
    Alert, AlertState, PromqlConfig, Rule, RuleGroup, RuleHealth, RuleKind, RulesView, ViewError,
};
use serde_json::{Value, json};

use super::data::{BEGIN_MS, TestSeries};
use super::server::{NOW_MS, Server, with_headers};

const BEGIN: &str = "1767322800";

pub(super) fn two_jobs() -> Vec<TestSeries> {
    vec![
        TestSeries::new("up", &[("job", "a"), ("instance", "x")], &[1.0, 1.0, 0.0, 1.0]),
        TestSeries::new("up", &[("job", "b"), ("instance", "y")], &[0.5, 2.0, 3.0, f64::NAN]),
        TestSeries::new("system.memory.usage", &[("host.name", "h")], &[7.0; 4]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instant_query_answers_at_its_time() {
    let server = Server::with(&two_jobs()).await;
    let wanted = json!({ "resultType": "vector", "result": [
        { "metric": { "__name__": "up", "instance": "x", "job": "a" }, "value": [1_767_322_830, "0"] },
    ]});
    let pairs = [("query", "up{job=\"a\"}"), ("time", "1767322830")];
    assert_eq!(server.data("query", &pairs).await, wanted);
    let (status, body) = server.post("query", &pairs).await;
    assert_eq!((status, &body["data"]), (StatusCode::OK, &wanted));
    assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["data", "status"], "nothing to remark");
    let rfc = server.data("query", &[("query", "up{job=\"a\"}"), ("time", "2026-01-02T03:00:30Z")]).await;
    assert_eq!(rfc, wanted);
    let fraction = server.data("query", &[("query", "up{job=\"a\"}"), ("time", "1767322830.125")]).await;
    assert_eq!(fraction["result"][0]["value"], json!([1_767_322_830.125, "0"]));
    // An hour later is now, and nothing is that fresh.
    assert_eq!(server.data("query", &[("query", "up")]).await["result"], json!([]));
    let lookback = server.data("query", &[("query", "sum(up)"), ("lookback_delta", "2h")]).await;
    assert_eq!(lookback["result"][0]["value"][1], "NaN");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_as_received_can_be_selected() {
    let server = Server::with(&two_jobs()).await;
    for query in ["{\"system.memory.usage\"}", "{__name__=\"system.memory.usage\"}", "{\"host.name\"=\"h\"}"] {
        let result = server.at(query, 45).await;
        assert_eq!(
            result,
            json!([{ "metric": { "__name__": "system.memory.usage", "host.name": "h" }, "value": [BEGIN_MS / 1000 + 45, "7"] }]),
            "{query}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scalars_and_strings_are_answers_too() {
    let server = Server::with(&[]).await;
    assert_eq!(
        server.data("query", &[("query", "1 + 1"), ("time", "5.5")]).await,
        json!({ "resultType": "scalar", "result": [5.5, "2"] })
    );
    assert_eq!(
        server.data("query", &[("query", "\"a\""), ("time", "5")]).await,
        json!({ "resultType": "string", "result": [5, "a"] })
    );
    let matrix = server.data("query_range", &[("query", "1"), ("start", "0"), ("end", "60"), ("step", "30s")]).await;
    assert_eq!(
        matrix,
        json!({ "resultType": "matrix", "result": [{ "metric": {}, "values": [[0, "1"], [30, "1"], [60, "1"]] }] })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_query_answers_at_each_step() {
    let server = Server::with(&two_jobs()).await;
    let pairs =
        [("query", "sum by (job) (up)"), ("start", BEGIN), ("end", "1767322845"), ("step", "15"), ("timeout", "30s")];
    let wanted = json!({ "resultType": "matrix", "result": [
        { "metric": { "job": "a" }, "values": [[1_767_322_800, "1"], [1_767_322_815, "1"], [1_767_322_830, "0"], [1_767_322_845, "1"]] },
        { "metric": { "job": "b" }, "values": [[1_767_322_800, "0.5"], [1_767_322_815, "2"], [1_767_322_830, "3"], [1_767_322_845, "NaN"]] },
    ]});
    assert_eq!(server.data("query_range", &pairs).await, wanted);
    assert_eq!(server.post("query_range", &pairs).await.1["data"], wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_as_prometheus_says_it() {
    let server = Server::with(&two_jobs()).await;
    let range = |start, end, step| [("query", "up"), ("start", start), ("end", end), ("step", step)];
    for (path, pairs, status, kind, message) in [
        (
            "query",
            vec![("query", "up"), ("time", "abc")],
            400,
            "bad_data",
            "invalid parameter \"time\": invalid time value for 'time': cannot parse \"abc\" to a valid timestamp",
        ),
        (
            "query",
            vec![("query", "up"), ("timeout", "abc")],
            400,
            "bad_data",
            "invalid parameter \"timeout\": cannot parse \"abc\" to a valid duration",
        ),
        (
            "query",
            vec![("query", "up"), ("limit", "x")],
            400,
            "bad_data",
            "invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        (
            "query",
            vec![("query", "up"), ("lookback_delta", "x")],
            400,
            "bad_data",
            "error parsing lookback delta duration: cannot parse \"x\" to a valid duration",
        ),
        (
            "query_range",
            range("2", "1", "1").to_vec(),
            400,
            "bad_data",
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        (
            "query_range",
            range("", "1", "1").to_vec(),
            400,
            "bad_data",
            "invalid parameter \"start\": cannot parse \"\" to a valid timestamp",
        ),
        (
            "query_range",
            range("1", "2", "0").to_vec(),
            400,
            "bad_data",
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        ),
        (
            "query_range",
            range("1", "2", "").to_vec(),
            400,
            "bad_data",
            "invalid parameter \"step\": cannot parse \"\" to a valid duration",
        ),
        (
            "query_range",
            range("0", "11001", "1").to_vec(),
            400,
            "bad_data",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        ("series", vec![], 400, "bad_data", "no match[] parameter provided"),
        (
            "series",
            vec![("match[]", "{job=~\".*\"}")],
            400,
            "bad_data",
            "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher",
        ),
        ("labels", vec![("match[]", "{}")], 400, "bad_data", "match[] must contain at least one non-empty matcher"),
        (
            "labels",
            vec![("start", "x")],
            400,
            "bad_data",
            "invalid parameter \"start\": invalid time value for 'start': cannot parse \"x\" to a valid timestamp",
        ),
        ("metadata", vec![("limit", "x")], 400, "bad_data", "limit must be a number"),
        ("rules", vec![("type", "x")], 400, "bad_data", "invalid parameter \"type\": not supported value \"x\""),
        ("status/tsdb", vec![("limit", "0")], 400, "bad_data", "limit must be a positive number"),
    ] {
        let refused = server.refusal(path, &pairs).await;
        assert_eq!(refused, (status, kind.to_owned(), message.to_owned()), "{path} {pairs:?}");
    }
    for (query, wanted) in
        [("up{", "invalid parameter \"query\": 1:4: parse error"), ("", "invalid parameter \"query\":")]
    {
        let (status, kind, message) = server.refusal("query", &[("query", query)]).await;
        assert_eq!((status, kind.as_str()), (400, "bad_data"));
        assert!(message.starts_with(wanted), "{message}");
    }
    let (status, kind, _) =
        server.refusal("query", &[("query", "up + on(nosuch) group_left up"), ("time", BEGIN)]).await;
    assert_eq!((status, kind.as_str()), (422, "execution"));
}

#[tokio::test(flavor = "multi_thread")]
async fn eleven_thousand_points_are_allowed() {
    let server = Server::with(&[]).await;
    let data =
        server.data("query_range", &[("query", "vector(1)"), ("start", "0"), ("end", "11000"), ("step", "1")]).await;
    assert_eq!(data["result"][0]["values"].as_array().unwrap().len(), 11_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_and_paths_are_refused() {
    let server = Server::with(&[]).await;
    assert_eq!(server.post("metadata", &[]).await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(server.post("label/job/values", &[]).await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(server.get("nosuch", &[]).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_cut_and_say_so() {
    let server = Server::with(&two_jobs()).await;
    let at = [("time", "1767322830"), ("limit", "1")];
    let (_, body) = server.get("query", &[("query", "up"), at[0], at[1]]).await;
    assert_eq!(body["data"]["result"].as_array().unwrap().len(), 1);
    assert_eq!(body["warnings"], json!(["results truncated due to limit"]));
    for (path, pairs) in [("labels", vec![]), ("label/job/values", vec![]), ("series", vec![("match[]", "up")])] {
        let (_, body) = server.get(path, &[pairs.as_slice(), &[("limit", "1")]].concat()).await;
        assert_eq!(body["data"].as_array().unwrap().len(), 1, "{path}");
        assert_eq!(body["warnings"], json!(["results truncated due to limit"]), "{path}");
        let (_, body) = server.get(path, &[pairs.as_slice(), &[("limit", "100")]].concat()).await;
        assert_eq!(body["warnings"], Value::Null, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_come_when_asked_for() {
    let server = Server::with(&two_jobs()).await;
    let stats = |value: &'static str| [("query", "up"), ("time", "1767322830"), ("stats", value)];
    assert_eq!(server.data("query", &stats("")).await["stats"], Value::Null);
    for value in ["true", "all"] {
        let data = server.data("query", &stats(value)).await;
        assert_eq!(data["stats"]["samples"]["totalQueryableSamples"], 2, "{data}");
        assert!(data["stats"]["timings"]["evalTotalTime"].is_number());
    }
    let (_, body) = server.get("query", &stats("yes")).await;
    assert!(body["warnings"][0].as_str().unwrap().starts_with("value \"yes\" for parameter \"stats\" is deprecated"));
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_and_infos_go_along() {
    let server = Server::with(&two_jobs()).await;
    let (_, body) = server.get("query", &[("query", "quantile(2, up)"), ("time", "1767322830")]).await;
    assert_eq!(body["warnings"], json!(["PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)"]));
    let (_, body) = server.get("query", &[("query", "rate(up[1m])"), ("time", "1767322845")]).await;
    assert_eq!(
        body["infos"],
        json!([
            "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"up\" (1:6)"
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn series_labels_and_values() {
    let server = Server::with(&two_jobs()).await;
    let up = |job: &str, instance: &str| json!({ "__name__": "up", "instance": instance, "job": job });
    assert_eq!(server.data("series", &[("match[]", "up")]).await, json!([up("a", "x"), up("b", "y")]));
    assert_eq!(
        server.data("series", &[("match[]", "up{job=\"b\"}"), ("match[]", "{\"host.name\"=~\".+\"}")]).await,
        json!([{ "__name__": "system.memory.usage", "host.name": "h" }, up("b", "y")])
    );
    assert_eq!(server.post("series", &[("match[]", "up{job=\"b\"}")]).await.1["data"], json!([up("b", "y")]));
    assert_eq!(server.data("series", &[("match[]", "nosuch")]).await, json!([]));
    assert_eq!(server.data("labels", &[]).await, json!(["__name__", "host.name", "instance", "job"]));
    assert_eq!(server.data("labels", &[("match[]", "up")]).await, json!(["__name__", "instance", "job"]));
    assert_eq!(server.post("labels", &[("match[]", "nosuch")]).await.1["data"], json!([]));
    assert_eq!(server.data("label/__name__/values", &[]).await, json!(["system.memory.usage", "up"]));
    assert_eq!(server.data("label/job/values", &[("match[]", "up{instance=\"y\"}")]).await, json!(["b"]));
    assert_eq!(server.data("label/U__host_2e_name/values", &[]).await, json!(["h"]));
    assert_eq!(server.data("label/host.name/values", &[]).await, json!(["h"]));
    assert_eq!(server.data("label/nosuch/values", &[]).await, json!([]));
    let before = [("start", "0"), ("end", "1767322799.999")];
    assert_eq!(server.data("labels", &before).await, json!([]));
    assert_eq!(server.data("label/job/values", &before).await, json!([]));
    let last = [("match[]", "up"), ("start", "1767322845"), ("end", "1767322845")];
    assert_eq!(server.data("series", &last).await.as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_by_family() {
    let mut all = two_jobs();
    all[0].kind = Some("gauge");
    all[1].kind = Some("gauge");
    for (name, le) in [("latency_bucket", Some("1")), ("latency_sum", None), ("latency_count", None)] {
        let labels: Vec<_> = le.map(|le| ("le", le)).into_iter().collect();
        let mut series = TestSeries::new(name, &labels, &[1.0]);
        series.kind = Some("histogram");
        all.push(series);
    }
    let server = Server::with(&all).await;
    let of = |kind: &str| json!([{ "type": kind, "help": "", "unit": "" }]);
    let wanted = json!({ "latency": of("histogram"), "system.memory.usage": of("unknown"), "up": of("gauge") });
    assert_eq!(server.data("metadata", &[]).await, wanted);
    assert_eq!(server.data("metadata", &[("metric", "up")]).await, json!({ "up": of("gauge") }));
    assert_eq!(server.data("metadata", &[("limit", "1")]).await, json!({ "latency": of("histogram") }));
    assert_eq!(server.data("metadata", &[("limit", "0")]).await, json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_empty() {
    let server = Server::with(&[]).await;
    for (path, pairs, wanted) in [
        ("query", vec![("query", "up")], json!({ "resultType": "vector", "result": [] })),
        ("query_exemplars", vec![("query", "up")], json!([])),
        ("rules", vec![], json!({ "groups": [] })),
        ("rules", vec![("type", "alert")], json!({ "groups": [] })),
        ("alerts", vec![], json!({ "alerts": [] })),
        ("targets", vec![], json!({ "activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {} })),
        (
            "targets",
            vec![("state", "active")],
            json!({ "activeTargets": [], "droppedTargets": [], "droppedTargetCounts": null }),
        ),
        ("scrape_pools", vec![], json!({ "scrapePools": [] })),
        ("targets/metadata", vec![], json!([])),
        ("alertmanagers", vec![], json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] })),
        ("metadata", vec![], json!({})),
        ("labels", vec![], json!([])),
        ("status/walreplay", vec![], json!({ "min": 0, "max": 0, "current": 0 })),
    ] {
        assert_eq!(server.data(path, &pairs).await, wanted, "{path} {pairs:?}");
    }
    assert_eq!(server.get("query_exemplars", &[("query", "1")]).await.0, StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_says_what_it_is() {
    let server = Server::with(&two_jobs()).await;
    assert_eq!(server.data("status/buildinfo", &[]).await["version"], "3.5.0+highwater.0.1.0");
    let runtime = server.data("status/runtimeinfo", &[]).await;
    assert_eq!(runtime["startTime"], "2026-01-02T03:00:00Z");
    assert_eq!(runtime["serverTime"], "2026-01-02T04:00:00Z");
    assert!(server.data("status/config", &[]).await["yaml"].is_string());
    assert_eq!(server.data("status/flags", &[]).await["query.lookback-delta"], "5m");
    let tsdb = server.data("status/tsdb", &[]).await;
    assert_eq!(tsdb["headStats"]["numSeries"], 3);
    assert_eq!(tsdb["headStats"]["maxTime"], NOW_MS);
    assert_eq!(tsdb["seriesCountByMetricName"][0], json!({ "name": "up", "value": 2 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_formatted() {
    let server = Server::with(&[]).await;
    assert_eq!(server.data("format_query", &[("query", "sum(up)by(job)")]).await, "sum by (job) (up)");
    let (status, kind, message) = server.refusal("format_query", &[("query", "sum(")]).await;
    assert_eq!((status, kind.as_str()), (400, "bad_data"));
    assert!(message.starts_with("invalid parameter \"query\": "), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_holds_too_much_or_takes_too_long_is_refused() {
    let few = PromqlConfig { max_samples: 5, ..PromqlConfig::default() };
    let server = Server::configured(&two_jobs(), few).await;
    let (status, kind, message) = server.refusal("query", &[("query", "up[5m]"), ("time", "1767322845")]).await;
    assert_eq!((status, kind.as_str()), (422, "execution"));
    assert_eq!(message, "query processing would load too many samples into memory in query execution");

    let few = PromqlConfig { max_series: 1, ..PromqlConfig::default() };
    let server = Server::configured(&two_jobs(), few).await;
    let (status, kind, message) = server.refusal("query", &[("query", "up"), ("time", "1767322845")]).await;
    assert_eq!((status, kind.as_str()), (422, "execution"));
    assert!(message.contains("more than 1 series"), "{message}");

    let hurried = PromqlConfig { timeout: Duration::from_nanos(1), ..PromqlConfig::default() };
    let server = Server::configured(&two_jobs(), hurried).await;
    let (status, kind, message) = server.refusal("query", &[("query", "up"), ("time", "1767322845")]).await;
    assert_eq!((status, kind.as_str()), (503, "timeout"));
    assert!(message.starts_with("query timed out"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_its_own_series() {
    use axum::body::Body;
    use axum::http::Request;

    let server = Server::with(&two_jobs()).await;
    let own = TestSeries::new("up", &[("job", "other")], &[]);
    let rows = own.rows_us("other", &[(BEGIN_MS * 1000, Some(9.0))]);
    server.fixture.append_rows("metrics", 0, &rows).await;
    let ask = |tenant: &'static str| {
        let uri = format!("/api/v1/query?query=up&time={BEGIN}");
        server.send(Request::get(uri).header("x-scope-orgid", tenant).body(Body::empty()).unwrap())
    };
    let (status, body) = ask("other").await;
    assert_eq!(status, StatusCode::OK);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body["data"]["result"],
        json!([{ "metric": { "__name__": "up", "job": "other" }, "value": [BEGIN_MS / 1000, "9"] }])
    );
    assert_eq!(server.at("count(up)", 0).await[0]["value"][1], "2");
    let (status, body) = ask("../x").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("bad_data"), "{body}");
}

/// One group of each kind of rule.
struct OneOfEach;

#[async_trait::async_trait]
impl RulesView for OneOfEach {
    async fn groups(&self, tenant: &str) -> Result<Vec<RuleGroup>, ViewError> {
        assert_eq!(tenant, "default");
        let alert = Alert {
            labels: Labels::from_pairs([("alertname", "Down"), ("job", "a")]),
            annotations: Labels::empty(),
            state: AlertState::Firing,
            active_at_ms: BEGIN_MS,
            keep_firing_since_ms: None,
            value: 1.0,
        };
        let rule = |name: &str, kind: RuleKind| Rule {
            name: name.to_owned(),
            query: "up == 0".to_owned(),
            labels: Labels::from_pairs([("severity", "page")]),
            health: RuleHealth::Ok,
            last_error: None,
            evaluation_time_s: 0.25,
            last_evaluation_ms: Some(BEGIN_MS),
            kind,
        };
        let alerting = |alerts| RuleKind::Alerting {
            duration_s: 60.0,
            keep_firing_for_s: 0.0,
            annotations: Labels::empty(),
            alerts,
        };
        let group = |name: &str, rules| RuleGroup {
            name: name.to_owned(),
            file: "rules.yml".to_owned(),
            interval_s: 15.0,
            limit: 0,
            rules,
            evaluation_time_s: 0.5,
            last_evaluation_ms: None,
        };
        Ok(vec![
            group("one", vec![rule("Down", alerting(vec![alert])), rule("job:up:sum", RuleKind::Recording)]),
            group("two", vec![rule("Quiet", alerting(Vec::new()))]),
        ])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_alerts_are_shown() {
    let server = Server::made(&[], PromqlConfig::default(), |api| api.with_rules(std::sync::Arc::new(OneOfEach))).await;
    let data = server.data("rules", &[]).await;
    assert_eq!(data["groups"][0]["interval"], 15.0);
    assert_eq!(data["groups"][0]["lastEvaluation"], "0001-01-01T00:00:00Z");
    assert_eq!(
        data["groups"][0]["rules"][0],
        json!({
            "state": "firing", "name": "Down", "query": "up == 0", "duration": 60.0, "keepFiringFor": 0.0,
            "labels": { "severity": "page" }, "annotations": {},
            "alerts": [{
                "labels": { "alertname": "Down", "job": "a" }, "annotations": {}, "state": "firing",
                "activeAt": "2026-01-02T03:00:00Z", "value": "1e+00",
            }],
            "health": "ok", "evaluationTime": 0.25, "lastEvaluation": "2026-01-02T03:00:00Z", "type": "alerting",
        })
    );
    assert_eq!(data["groups"][0]["rules"][1]["type"], "recording");
    assert_eq!(data["groups"][0]["rules"][1].get("state"), None);
    assert_eq!(data["groups"][1]["rules"][0]["state"], "inactive");
    let names = |data: &Value| -> Vec<String> {
        let groups = data["groups"].as_array().unwrap();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        rules.map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()
    };
    for (pairs, wanted) in [
        (vec![("type", "alert")], vec!["Down", "Quiet"]),
        (vec![("type", "record")], vec!["job:up:sum"]),
        (vec![("rule_name[]", "Quiet"), ("rule_name[]", "job:up:sum")], vec!["job:up:sum", "Quiet"]),
        (vec![("rule_group[]", "two")], vec!["Quiet"]),
        (vec![("file[]", "other.yml")], vec![]),
        (vec![("match[]", "{severity=\"page\"}")], vec!["Down", "job:up:sum", "Quiet"]),
        (vec![("match[]", "{severity=\"none\"}")], vec![]),
        (vec![("group_limit", "1")], vec!["Down", "job:up:sum"]),
    ] {
        assert_eq!(names(&server.data("rules", &pairs).await), wanted, "{pairs:?}");
    }
    let first = server.data("rules", &[("group_limit", "1")]).await;
    let token = first["groupNextToken"].as_str().unwrap();
    let second = server.data("rules", &[("group_limit", "1"), ("group_next_token", token)]).await;
    assert_eq!(names(&second), ["Quiet"]);
    assert_eq!(second.get("groupNextToken"), None);
    assert_eq!(server.refusal("rules", &[("group_next_token", token)]).await.0, 400);
    let bare = server.data("rules", &[("exclude_alerts", "true")]).await;
    assert_eq!(bare["groups"][0]["rules"][0]["alerts"], Value::Null);
    let alerts = server.data("alerts", &[]).await;
    assert_eq!(alerts["alerts"].as_array().unwrap().len(), 1);
    assert_eq!(alerts["alerts"][0]["state"], "firing");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_compressed_for_those_who_take_it() {
    use std::io::Read;
    let server = Server::with(&two_jobs()).await;
    let uri = "/api/v1/query_range?query=vector(1)&start=0&end=10000&step=1";
    let plain = server.answer(with_headers(Method::GET, uri, &[])).await;
    assert_eq!(plain.headers().get("content-encoding"), None);
    for (accept, coding) in [("gzip, deflate, br", "gzip"), ("deflate", "deflate")] {
        let answer = server.answer(with_headers(Method::GET, uri, &[("accept-encoding", accept)])).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-encoding"], coding);
        assert_eq!(answer.headers()["content-type"], "application/json");
        let vary: Vec<_> = answer.headers().get_all("vary").iter().collect();
        assert_eq!(vary, ["Accept-Encoding", "Origin"]);
        let mut text = Vec::new();
        match coding {
            "gzip" => flate2::read::GzDecoder::new(answer.body().as_slice()).read_to_end(&mut text).unwrap(),
            _ => flate2::read::ZlibDecoder::new(answer.body().as_slice()).read_to_end(&mut text).unwrap(),
        };
        assert_eq!(&text, plain.body());
        assert!(answer.body().len() < plain.body().len() / 2, "{} of {}", answer.body().len(), plain.body().len());
    }
    // Refusals and small answers, too.
    let refused = with_headers(Method::GET, "/api/v1/query?query=(", &[("accept-encoding", "gzip")]);
    let refused = server.answer(refused).await;
    assert_eq!(
        (refused.status(), &refused.headers()["content-encoding"]),
        (StatusCode::BAD_REQUEST, &"gzip".parse().unwrap())
    );
    let head = server.answer(with_headers(Method::HEAD, uri, &[("accept-encoding", "gzip")])).await;
    assert_eq!((head.status(), head.headers().get("content-encoding"), head.body().len()), (StatusCode::OK, None, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_may_ask() {
    let server = Server::with(&[]).await;
    let origin = [("origin", "http://elsewhere.example")];
    for uri in ["/api/v1/query?query=1", "/api/v1/query?query=(", "/api/v1/labels"] {
        let answer = server.answer(with_headers(Method::GET, uri, &origin)).await;
        assert_eq!(answer.headers()["access-control-allow-origin"], "*", "{uri}");
        assert_eq!(answer.headers()["access-control-expose-headers"], "Date");
    }
    let before = server.answer(with_headers(Method::OPTIONS, "/api/v1/query", &origin)).await;
    assert_eq!(before.status(), StatusCode::NO_CONTENT);
    assert_eq!(before.headers()["access-control-allow-methods"], "GET, POST, OPTIONS");
    assert!(before.headers()["access-control-allow-headers"].to_str().unwrap().contains("Authorization"));
    let same = server.answer(with_headers(Method::GET, "/api/v1/query?query=1", &[])).await;
    assert_eq!(same.headers().get("access-control-allow-origin"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_at_once_is_evaluated_some_steps_at_a_time() {
    let values: Vec<f64> = (0..400).map(|i| f64::from(i * i % 97)).collect();
    let all: Vec<TestSeries> =
        ["a", "b", "c"].iter().map(|job| TestSeries::new("x_total", &[("job", job)], &values)).collect();
    let config = |max_samples| PromqlConfig { max_samples, experimental_functions: true, ..PromqlConfig::default() };
    let whole = Server::configured(&all, config(1_000_000)).await;
    let tight = Server::configured(&all, config(500)).await;
    let end = (BEGIN_MS / 1000 + 400 * 15).to_string();
    let range = |query, step| [("query", query), ("start", BEGIN), ("end", &*end), ("step", step)];
    for query in [
        "sum(rate(x_total[2m]))",
        "max by (job) (x_total) > 50",
        "topk(1, x_total offset 5m)",
        "time() - start() + range() + count(x_total)",
        "sum(x_total @ start()) + sum_over_time(count(x_total)[5m:1m])",
        "absent(x_total)",
    ] {
        let wanted = whole.get("query_range", &range(query, "60")).await;
        assert_eq!(wanted.0, StatusCode::OK, "{query}: {}", wanted.1);
        assert_eq!(tight.get("query_range", &range(query, "60")).await, wanted, "{query}");
    }
    // One step that needs more, and an answer that is larger, are refused.
    for query in ["rate(x_total[2h])", "x_total"] {
        let (status, kind, why) = tight.refusal("query_range", &range(query, "15")).await;
        assert_eq!((status, kind.as_str()), (422, "execution"), "{query}");
        assert_eq!(why, "query processing would load too many samples into memory in query execution");
    }
}
