//! Rules in PromQL, in the real binary: by event time, over a kill, told to a webhook; and the tools beside promtool.

use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::alertmanager::prometheus;
use crate::end_to_end::START_S;
use crate::support::*;

const RULES: &str = "
groups:
  - name: load
    interval: 10s
    rules:
      - record: job:load:sum
        expr: sum by (job) (load)
      - alert: Loaded
        expr: job:load:sum > 10
        for: 10m
        labels: {severity: page}
        annotations: {summary: '{{ $labels.job }} has {{ $value | printf \"%.1f\" }}'}
";

async fn webhook() -> (String, Arc<Mutex<Vec<Value>>>) {
    let told: Arc<Mutex<Vec<Value>>> = Arc::default();
    let take = |State(told): State<Arc<Mutex<Vec<Value>>>>, Json(body): Json<Value>| async move {
        told.lock().push(body);
    };
    let router = Router::new().route("/hook", post(take)).with_state(Arc::clone(&told));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, told)
}

/// Samples of two instances each ten seconds, in one request: the seconds, and the value from the first of each on.
async fn load(server: &Server, spans: &[(std::ops::Range<i64>, f64)]) {
    let sample = |second: i64, value: f64, instance: &str| json!({"name": "load", "value": value, "timestamp": START_S + second, "labels": {"job": "web", "instance": instance}});
    let times = spans.iter().flat_map(|(seconds, value)| seconds.clone().step_by(10).map(|second| (second, *value)));
    let samples: Vec<Value> =
        times.flat_map(|(second, value)| ["a", "b"].map(|instance| sample(second, value, instance))).collect();
    server.accepted("/metrics", json!({"metrics": samples}).to_string()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promql_rule_fires_over_a_kill_and_a_webhook_is_told() {
    let (url, told) = webhook().await;
    // One partition, and many minutes of samples in a request: time goes on by itself between requests, on a slow machine for long.
    let site = Site::with_config(&format!(
        "log: {{ partitions: 1 }}\nrule_files: [rules.yaml]\nnotify: {{ webhook: [{{ url: \"{url}\" }}] }}\n"
    ));
    site.write("rules.yaml", RULES);
    let server = site.start().await;
    let mut stream = EventStream::open(&server, "/api/v1/alerts/stream?from=earliest", None).await;
    for asked in ["healthy", "ready"] {
        let Some(mut promtool) = prometheus::promtool() else { break };
        let said = promtool.args(["check", asked, &format!("--url={}", server.url(""))]).output().unwrap();
        assert!(said.status.success(), "{asked}: {said:?}");
    }
    load(&server, &[(0..120, 8.0)]).await;
    let pending: Value = serde_json::from_str(&stream.next().await.data).unwrap();
    assert_eq!((&pending["state"], &pending["value"]), (&json!("pending"), &json!(16.0)));
    assert_eq!(pending["starts_at"], "2026-03-01T00:00:00.000000Z", "{pending}");
    // As Grafana asks for them.
    let shown = json!(["load", "recording", "ok", "alerting", "pending", "16"]);
    eventually("the Prometheus API shows the rules and the alert", shown, async || {
        let told = server.get("/api/v1/rules").await.json();
        let group = &told["data"]["groups"][0];
        let (recording, alerting) = (&group["rules"][0], &group["rules"][1]);
        let value = alerting["alerts"][0]["value"].as_str().and_then(|text| text.parse::<f64>().ok());
        let value = value.map(|value| value.to_string());
        json!([group["name"], recording["type"], recording["health"], alerting["type"], alerting["state"], value])
    })
    .await;
    let active = server.get("/api/v1/alerts").await.json();
    assert_eq!(active["data"]["alerts"][0]["labels"], json!({"alertname": "Loaded", "job": "web", "severity": "page"}));
    assert_eq!(active["data"]["alerts"].as_array().map(Vec::len), Some(1), "{active}");
    server.kill().await;

    let server = site.start().await;
    let mut stream = EventStream::open(&server, "/api/v1/alerts/stream?from=0:0", None).await;
    load(&server, &[(120..650, 8.0)]).await;
    let firing: Value = serde_json::from_str(&stream.next().await.data).unwrap();
    // Ten minutes after it was pending: the kill has reset nothing.
    assert_eq!(
        (&firing["state"], &firing["timestamp"]),
        (&json!("firing"), &json!("2026-03-01T00:10:00.000000Z")),
        "{firing}"
    );
    assert_eq!(firing["annotations"]["summary"], "web has 16.0");
    assert_eq!(firing["labels"], json!({"alertname": "Loaded", "job": "web", "severity": "page"}));
    let evidence = &firing["source"]["series"][0];
    assert_eq!(evidence["labels"]["__name__"], "job:load:sum", "{firing}");
    load(&server, &[(650..1_200, 8.0), (1_200..1_600, 1.0)]).await;
    let resolved: Value = serde_json::from_str(&stream.next().await.data).unwrap();
    assert_eq!(
        (&resolved["state"], &resolved["timestamp"]),
        (&json!("resolved"), &json!("2026-03-01T00:20:00.000000Z")),
        "{resolved}"
    );

    eventually("both are told", vec!["firing".to_owned(), "resolved".to_owned()], async || {
        told.lock().iter().map(|message| message["status"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    })
    .await;
    let first = told.lock()[0].clone();
    assert_eq!(first["alerts"][0]["startsAt"], "2026-03-01T00:10:00.000000Z", "{first}");

    // What was recorded is beside what came in, and so is the alert.
    let recorded = "SELECT count(*) FROM metrics WHERE name = 'job:load:sum' AND value = 16";
    assert_eq!(server.number(recorded).await, 120);
    let alerts =
        "SELECT count(*) FROM metrics WHERE name = 'ALERTS' AND labels->>'alertstate' = 'pending' AND value = 1";
    assert_eq!(server.number(alerts).await, 60);
    // The same rules over what is stored say the same, from a server and from its directory.
    let rules = site.path().join("rules.yaml").display().to_string();
    let window = ["--from", "2026-03-01T00:00:00Z", "--to", "2026-03-01T00:25:00Z"];
    let url = server.url("");
    let asked = [&["rules", "backtest", &rules, "-o", "json", "--server", &url], &window[..]].concat();
    let backtest = site.run(&asked).await;
    assert_eq!(backtest.code, Some(0), "{backtest:?}");
    assert!(backtest.stderr.contains("3 transitions from"), "{backtest:?}");
    let found: Value = serde_json::from_str(&backtest.stdout).unwrap();
    let found: Vec<String> = found["transitions"].as_array().unwrap().iter().map(said).collect();
    assert_eq!(found, [said(&pending), said(&firing), said(&resolved)]);
    server.stop().await;
    site.verify().await;

    let directory = site.data_dir().display().to_string();
    let stored = ["--data-dir", &directory];
    let read = site.run(&[&["rules", "backtest", &rules, "-o", "json"], &stored[..], &window[..]].concat()).await;
    assert_eq!((read.code, read.stdout), (Some(0), backtest.stdout), "{}", read.stderr);

    // An edit, and what it changes: it fires two minutes earlier.
    let edited = site.write("edited.yaml", &RULES.replace("for: 10m", "for: 8m")).display().to_string();
    let difference = [&["rules", "backtest", &edited, "--diff", &rules], &stored[..], &window[..]].concat();
    let differs = site.run(&difference).await;
    assert_eq!(differs.code, Some(1), "{differs:?}");
    assert!(differs.stderr.contains("they differ: 1 new, 1 gone, 2 the same"), "{differs:?}");
    let lines: Vec<Vec<&str>> = differs.stdout.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let labels = "{job=\"web\",";
    assert_eq!(lines[0][..5], ["+", "2026-03-01T00:08:00Z", "firing", "Loaded", labels], "{differs:?}");
    assert_eq!(lines[1][..5], ["-", "2026-03-01T00:10:00Z", "firing", "Loaded", labels], "{differs:?}");
    let same = [&["rules", "backtest", &rules, "--diff", &rules, "-o", "graph"], &stored[..], &window[..]].concat();
    let same = site.run(&same).await;
    assert_eq!(same.code, Some(0), "{same:?}");
    assert!(same.stderr.contains("no difference: 3 transitions"), "{same:?}");
    // Pending for two fifths of the time, firing for two fifths.
    let bar = same.stdout.lines().nth(1).unwrap();
    assert_eq!((bar.matches('░').count(), bar.matches('█').count()), (40, 40), "{}", same.stdout);
    assert!(bar.ends_with("│ fired 1x, 10m"), "{bar}");
}

/// A rule that is added sees the hours before it, from the table; one that was there goes on as if nothing had happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_is_added_sees_the_hours_before_it() {
    let site = Site::with_config("log: { partitions: 2 }\nrule_files: [rules.yaml]\n");
    let there = "
groups:
  - name: there
    rules:
      - {alert: There, expr: 'max_over_time(load{instance=\"0\"}[1h]) > 0'}
";
    let added = format!(
        "{there}
  - name: added
    rules:
      - {{alert: Mean, expr: 'avg_over_time(load{{instance=\"0\"}}[2h]) > 7'}}
      - {{alert: Before, expr: 'load{{instance=\"1\"}} offset 90m > 7'}}
      - {{alert: Fell, expr: 'sum(delta(load{{instance=\"2\"}}[1h])) < -3'}}
      - {{alert: Fired, expr: 'max_over_time(ALERTS{{alertname=\"There\"}}[1h]) > 0'}}
"
    );
    site.write("rules.yaml", there);
    let server = site.start().await;
    let mut stream = EventStream::open(&server, "/api/v1/alerts/stream?from=earliest", None).await;
    let send = async |server: &Server, seconds: Vec<i64>, value: f64| {
        let sample = |second: &i64, instance: usize| {
            let labels = json!({"job": "web", "instance": instance.to_string()});
            json!({"name": "load", "value": value, "timestamp": START_S + second, "labels": labels})
        };
        let samples: Vec<Value> =
            seconds.iter().flat_map(|second| (0..20).map(move |instance| sample(second, instance))).collect();
        server.accepted("/metrics", json!({"metrics": samples}).to_string()).await;
    };
    send(&server, (0..240).map(|at| at * 30).collect(), 8.0).await;
    let mut next = async || -> Value { serde_json::from_str(&stream.next().await.data).unwrap() };
    let first = next().await;
    assert_eq!((&first["alertname"], &first["state"]), (&json!("There"), &json!("firing")), "{first}");

    site.write("rules.yaml", &added);
    assert_eq!(server.post("/-/reload", "").await.status, 200);
    send(&server, vec![7_230], 1.0).await;
    let mut fired = std::collections::BTreeMap::new();
    while fired.len() < 4 {
        let one = next().await;
        assert_eq!(one["state"], "firing", "{one}");
        assert!(
            one["timestamp"].as_str().unwrap() > "2026-03-01T01:59:20",
            "nothing is evaluated of what was before: {one}"
        );
        fired.insert(one["alertname"].as_str().unwrap().to_owned(), one["value"].as_f64().unwrap());
    }
    // With the last sample of all, or before it.
    let mean = fired["Mean"];
    assert!((7.9..=8.0).contains(&mean), "{fired:?}");
    assert_eq!((fired["Before"], fired["Fired"]), (8.0, 1.0), "{fired:?}");
    assert!(fired["Fell"] < -6.9, "{fired:?}");
    eventually("the rules are well", json!(vec![json!(["ok", true]); 5]), async || {
        let told = server.get("/api/v1/rules").await.json();
        let groups = told["data"]["groups"].as_array().unwrap().clone();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        rules.map(|rule| json!([rule["health"], rule["evaluationTime"].as_f64().unwrap() > 0.0])).collect()
    })
    .await;
    assert_eq!(server.number("SELECT count(*) FROM alerts WHERE alertname = 'There'").await, 1);
    server.stop().await;
    site.verify().await;
}

/// What the statement in an alert's evidence gives is what decided: the newest sample of each series, or all of the range.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_statement_in_the_evidence_gives_the_samples_that_decided() {
    // The groups are in tasks of their own.
    let site = Site::with_config("log: { partitions: 1, rule_partitions: 8 }\nrule_files: [rules.yaml]\n");
    let rules = "
groups:
  - name: evidence
    rules:
      - alert: Now
        expr: max by (job) (load) > 10
  - name: range
    rules:
      - alert: Lately
        expr: sum_over_time(load{instance=\"a\"}[7s]) > 30
";
    site.write("rules.yaml", rules);
    let server = site.start().await;
    // In one record: which tick sees what does not depend on how quickly they are sent.
    let sample = |second: i64, instance: &str| {
        let value = if second < 10 { 1.0 } else { 12.0 };
        json!({"name": "load", "value": value, "timestamp": START_S + second, "labels": {"job": "web", "instance": instance}})
    };
    let samples: Vec<Value> = (0..30).flat_map(|second| [sample(second, "a"), sample(second, "b")]).collect();
    server.accepted("/metrics", json!({"metrics": samples}).to_string()).await;
    let mut stream = EventStream::open(&server, "/api/v1/alerts/stream?from=earliest", None).await;
    let mut fired = std::collections::BTreeMap::new();
    while fired.len() < 2 {
        let one: Value = serde_json::from_str(&stream.next().await.data).unwrap();
        assert_eq!(one["state"], "firing", "{one}");
        fired.insert(one["alertname"].as_str().unwrap().to_owned(), one);
    }
    let place = |name: &str| fired[name]["source"]["partition"].clone();
    assert_ne!(place("Now"), place("Lately"));
    // With a fraction or without.
    let instant = |at: &Value| at.as_str().unwrap().trim_end_matches("Z").trim_end_matches(".000000").to_owned();
    let rows = async |alert: &Value| {
        let rows = server.sql(alert["source"]["sql"].as_str().unwrap()).await;
        let mut rows: Vec<Value> = rows
            .iter()
            .map(|row| {
                let labels: Value = serde_json::from_str(row["labels"].as_str().unwrap()).unwrap();
                json!([labels["instance"], instant(&row["timestamp"]), row["value"], row["_partition"], row["_offset"]])
            })
            .collect();
        rows.sort_by_key(ToString::to_string);
        rows
    };
    let second = |second: i64| format!("2026-03-01T00:00:{second:02}");
    // Both series are behind the greatest; of each the newest sample, and the record that it came with.
    let now = &fired["Now"];
    let evaluated = now["timestamp"].as_str().unwrap();
    assert!(evaluated.starts_with(&second(10)), "{now}");
    let shown: Vec<Value> = now["source"]["series"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            json!([
                one["labels"]["instance"],
                instant(&one["timestamp"]),
                one["value"],
                one["record"]["partition"],
                one["record"]["offset"]
            ])
        })
        .collect();
    let found = rows(now).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found, shown);
    assert!(found.iter().all(|row| row[1] == instant(&now["timestamp"]) && row[2] == 12.0), "{found:?}");
    // Of a range all samples: what they sum up to is the value.
    let lately = &fired["Lately"];
    let found = rows(lately).await;
    assert_eq!(found.len(), 7, "{found:?}");
    assert!(found.iter().all(|row| row[0] == "a"), "{found:?}");
    assert_eq!(found.iter().map(|row| row[2].as_f64().unwrap()).sum::<f64>(), lately["value"].as_f64().unwrap());
    assert_eq!(found.last().unwrap()[1], instant(&lately["timestamp"]), "{found:?}");
    server.stop().await;
    site.verify().await;
}

/// All of a transition but where in the log it was found.
fn said(transition: &Value) -> String {
    let mut transition = transition.clone();
    for place in ["offset", "watermark"] {
        transition["source"].as_object_mut().unwrap().remove(place);
    }
    transition.to_string()
}

/// The shipped rules and their tests, as they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_rules_are_fine_and_their_tests_pass_here_and_in_promtool() {
    let site = Site::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    let path = |name: &str| folder.join(name).display().to_string();
    let logs = std::fs::read_to_string(path("logs_test.yaml")).unwrap();
    let rollups = logs.split("rollups:\n").nth(1).unwrap().split("tests:\n").next().unwrap();
    let config = site.write("logs.yaml", &format!("rollups:\n{rollups}")).display().to_string();
    let checked =
        site.run(&["rules", "check", "--config", &config, &path("[a-z]*s.yaml"), &path("highwater.yaml")]).await;
    assert_eq!((checked.code, checked.stdout.matches("SUCCESS").count()), (Some(0), 5), "{checked:?}");
    assert!(!checked.stdout.contains("warning"), "{checked:?}");
    let tested = site.run(&["rules", "test", &path("*_test.yaml")]).await;
    assert_eq!((tested.code, tested.stdout.matches("SUCCESS").count()), (Some(0), 5), "{tested:?}");
    // promtool says the same of what it knows, word for word.
    let ours: Vec<String> =
        ["services", "hosts", "jobs", "highwater"].map(|name| path(&format!("{name}_test.yaml"))).to_vec();
    let mut arguments = vec!["rules", "test"];
    arguments.extend(ours.iter().map(String::as_str));
    let tested = site.run(&arguments).await;
    if let Some(mut promtool) = crate::alertmanager::prometheus::promtool() {
        let theirs = promtool.args(["test", "rules"]).args(&ours).output().unwrap();
        assert_eq!(theirs.status.code(), tested.code);
        assert_eq!(tested.stdout, String::from_utf8(theirs.stdout).unwrap());
    }
    let wrong = site.write(
        "wrong_test.yaml",
        &format!("rule_files: [{:?}]\ntests:\n  - input_series: [{{series: 'up{{job=\"a\"}}', values: '0x10'}}]\n    alert_rule_test: [{{eval_time: 5m, alertname: ServiceDown}}]\n", path("services.yaml")),
    );
    let failed = site.run(&["rules", "test", &wrong.display().to_string()]).await;
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.contains("FAILED") && failed.stderr.contains("got:["), "{failed:?}");
    if let Some(mut promtool) = crate::alertmanager::prometheus::promtool() {
        let theirs = promtool.args(["test", "rules"]).arg(&wrong).output().unwrap();
        assert_eq!(theirs.status.code(), failed.code);
        assert_eq!(failed.stderr, String::from_utf8(theirs.stderr).unwrap());
    }
    // Several files, those that fail among them, and the results as JUnit's XML: but for the time, promtool's.
    let (junit, theirs) = (site.path().join("ours.xml"), site.path().join("theirs.xml"));
    let services = path("services_test.yaml");
    let files = [wrong.display().to_string(), services, site.write("none_test.yaml", "tests: [").display().to_string()];
    let written = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        regex::Regex::new(" timestamp=\"[^\"]*\"").unwrap().replace_all(&text, "").into_owned()
    };
    let mut arguments = vec!["rules", "test", "--junit", junit.to_str().unwrap()];
    arguments.extend(files.iter().map(String::as_str));
    let failed = site.run(&arguments).await;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    let ours = written(&junit);
    let begin =
        format!("<testsuites><testsuite name=\"{}\" tests=\"1\" failures=\"1\" errors=\"0\" skipped=\"0\">", files[0]);
    assert!(ours.starts_with(&begin) && ours.contains("tests=\"1\" failures=\"0\" errors=\"1\""), "{ours}");
    if let Some(mut promtool) = crate::alertmanager::prometheus::promtool() {
        let said =
            promtool.args(["test", &format!("--junit={}", theirs.display()), "rules"]).args(&files).output().unwrap();
        assert_eq!(said.status.code(), failed.code);
        let theirs = written(&theirs);
        // The words for what is no YAML are the reader's own.
        let without_error =
            |text: &str| regex::Regex::new("<error>.*?</error>").unwrap().replace_all(text, "").into_owned();
        assert_eq!(without_error(&ours), without_error(&theirs));
    }
    let different = site.run(&["rules", "test", "--diff", &files[0]]).await;
    assert_eq!(different.code, Some(1));
    assert!(
        different.stderr.contains("diff: [") && different.stderr.contains("\u{1b}[0;32m\"alertname\""),
        "{different:?}"
    );
    let nothing = site.run(&["rules", "test", "--run", "no such test", &files[0]]).await;
    assert_eq!(nothing.code, Some(0), "what is not chosen does not fail: {nothing:?}");
    // Rules from a pipe, and lint as asked for.
    let twice =
        "groups:\n  - name: g\n    rules:\n      - {record: 'a:b', expr: up}\n      - {record: 'a:b', expr: up}\n";
    for (more, code) in [
        (&["--lint-fatal"][..], 3),
        (&["--lint-fatal", "--lint", "none"][..], 0),
        (&["--lint=duplicate-rules,all"][..], 0),
    ] {
        let (said, found) = checked_from_a_pipe(&site, more, twice).await;
        assert_eq!(found, Some(code), "{said}");
        assert!(said.starts_with("Checking standard input\n  SUCCESS: 2 rules found\n"), "{said}");
        assert_eq!(said.contains("warning: a:b is there twice"), !more.contains(&"none"), "{said}");
    }
    let broken = site.write("broken.yaml", "groups:\n  - name: g\n    rules:\n      - alert: A\n        expr: sum(\n");
    let failed = site.run(&["rules", "check", &broken.display().to_string()]).await;
    assert_eq!(failed.code, Some(1));
    assert!(failed.stdout.contains("broken.yaml:5:"), "{failed:?}");
}

/// What `rules check` says of rules on its standard input, and its exit code.
async fn checked_from_a_pipe(site: &Site, more: &[&str], rules: &str) -> (String, Option<i32>) {
    use tokio::io::AsyncWriteExt;
    let mut command = command(site.path());
    let mut child = command.args(["rules", "check"]).args(more).stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(rules.as_bytes()).await.unwrap();
    let output = within(DEADLINE, "rules check ends", child.wait_with_output()).await.unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

/// Every metric and label that a rule asks for, beside what is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rules_select_is_looked_up_where_it_should_be() {
    let site = Site::new();
    let rules = "groups:
  - name: g
    rules:
      - record: job:load:sum
        expr: sum by (job, region) (load)
      - alert: Known
        expr: job:load:sum > 1 and load{job=\"web\", zone=\"\"} > 0
      - alert: Unknown
        expr: |
          rate(no_such_total[5m]) > 0
            or load{job=\"shop\"} > 0 or load{zone=~\"a.*\"}
";
    let rules = site.write("rules.yaml", rules).display().to_string();
    let server = site.start().await;
    load(&server, &[(0..20, 1.0)]).await;
    let url = server.url("");
    let warnings = [
        "5:15: rule job:load:sum: unknown label region: load has instance, job",
        "10:16: rule Unknown: unknown metric no_such_total: nothing of that name is stored",
        "11:16: rule Unknown: no stored series of load has job=\"shop\"",
        "11:40: rule Unknown: unknown label zone: load has instance, job",
    ];
    let warnings: String = warnings.map(|warning| format!("  warning: {rules}:{warning}\n")).concat();
    let expected = format!("Checking {rules}\n  SUCCESS: 3 rules found\n{warnings}\n");
    let asked = site.run(&["rules", "check", &rules, "--server", &url]).await;
    assert_eq!((asked.code, asked.stdout.as_str()), (Some(0), expected.as_str()), "{}", asked.stderr);
    server.stop().await;
    let directory = site.data_dir().display().to_string();
    let read = site.run(&["rules", "check", &rules, "--data-dir", &directory, "--lint-fatal"]).await;
    assert_eq!((read.code, read.stdout.as_str()), (Some(3), expected.as_str()), "{}", read.stderr);
    let plain = site.run(&["rules", "check", &rules]).await;
    assert!(plain.code == Some(0) && !plain.stdout.contains("warning"), "{plain:?}");
}
