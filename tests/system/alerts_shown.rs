//! Alerts of rules in SQL as people see them: `alerts show` with lines of a log and with what late rows have changed, `alerts list`, and the rules page with
//! their health and with rules that have gone blind.

use serde_json::{Value, json};

use crate::end_to_end::START_S;
use crate::support::{EventStream, Server, Site, eventually};

const ROLLUPS: &str = "
rule_files: [rules.yaml]
rollups:
  - name: per_10s
    sql: SELECT tumble(timestamp, INTERVAL '10 seconds') AS window_start, service, count(*) AS n FROM logs GROUP BY 1, 2
";
const RULES: &str = "
groups:
  - name: shown
    rules:
      - alert: TooFew
        sql: SELECT service, n FROM per_10s WHERE n < 5
      - alert: FailedLogins
        window: 10s
        sql: SELECT host, count(*) AS failures FROM logs WHERE message LIKE '%failed%' GROUP BY host HAVING count(*) >= 3
      - alert: ShopBusy
        sql: SELECT service, n FROM per_10s WHERE service = 'shop' AND n > 1000
";

/// Lines of the shop, all of one host, so of one partition.
async fn lines(server: &Server, message: &str, seconds: impl IntoIterator<Item = i64>) {
    let line = |second: i64| json!({"timestamp": START_S + second, "service": "shop", "host": "web-1", "level": "warn", "message": message});
    let lines: Vec<Value> = seconds.into_iter().map(line).collect();
    server.accepted("/logs", json!(lines).to_string()).await;
}

/// The rules page: each rule with its health, and the alerts that are up.
async fn page(server: &Server) -> Vec<(String, String, Vec<String>)> {
    let told = server.get("/api/v1/rules").await.json();
    let groups = told["data"]["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap().clone());
    let shown = rules.map(|rule| {
        let alerts = rule["alerts"].as_array().unwrap().iter();
        let alerts = alerts.map(|alert| {
            format!("{} {}", alert["state"].as_str().unwrap(), alert["labels"]["rule"].as_str().unwrap_or("-"))
        });
        let text = |name: &str| rule[name].as_str().unwrap().to_owned();
        (text("name"), text("health"), alerts.collect())
    });
    shown.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_show_their_lines_their_corrections_and_rules_their_health() {
    let site = Site::with_config(ROLLUPS);
    site.write("rules.yaml", RULES);
    let server = site.start().await;
    let unknown = |name: &str| (name.to_owned(), "unknown".to_owned(), Vec::new());
    assert_eq!(page(&server).await, ["TooFew", "FailedLogins", "ShopBusy"].map(unknown));
    let mut stream = EventStream::open(&server, "/api/v1/alerts/stream?from=earliest", None).await;
    lines(&server, "login failed for root", [1, 2, 3]).await;
    for window in 1..4 {
        lines(&server, "GET /", (0..6).map(|line| window * 10 + line)).await;
    }
    // Past the lateness of a rollup.
    lines(&server, "GET /", (40..46).chain(50..56)).await;
    let mut told = Vec::new();
    while told.len() < 4 {
        let one: Value = serde_json::from_str(&stream.next().await.data).unwrap();
        told.push(format!("{} {}", one["alertname"].as_str().unwrap(), one["state"].as_str().unwrap()));
    }
    told.sort();
    assert_eq!(told, ["FailedLogins firing", "FailedLogins resolved", "TooFew firing", "TooFew resolved"]);
    let ok = |name: &str| (name.to_owned(), "ok".to_owned(), Vec::new());
    eventually("all rules are well", ["TooFew", "FailedLogins", "ShopBusy"].map(ok).to_vec(), async || {
        page(&server).await
    })
    .await;
    let told = server.get("/api/v1/rules").await.json();
    let group = &told["data"]["groups"][0];
    assert!(group["rules"][0]["evaluationTime"].as_f64().unwrap() > 0.0, "{told}");
    assert!(group["evaluationTime"].as_f64().unwrap() > 0.0, "{told}");
    for place in [group, &group["rules"][0]] {
        assert!(place["lastEvaluation"].as_str().unwrap().starts_with("2026-03-01T00:0"), "{told}");
    }

    // There were more than enough, it turns out: the window is closed once more.
    lines(&server, "GET /", [4, 5, 6, 7]).await;
    let retracted: Value = serde_json::from_str(&stream.next().await.data).unwrap();
    assert_eq!((&retracted["alertname"], &retracted["state"]), (&json!("TooFew"), &json!("retracted")), "{retracted}");
    let url = server.url("");
    let at = ["--server", &url];
    let shown = async |alertname: &str| {
        let fingerprint =
            server.value(&format!("SELECT max(fingerprint) FROM alerts WHERE alertname = '{alertname}'")).await;
        let page = site.run(&[&["alerts", "show", fingerprint.as_str().unwrap()], &at[..]].concat()).await.output();
        // A space where there are several: columns are as wide as they have to be.
        page.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let page_of = shown("TooFew").await;
    for line in [
        "TooFew is inactive",
        "Late rows have shown that it should not have fired.",
        "Evidence that it was firing",
        "Evidence that it was retracted",
    ] {
        assert!(page_of.iter().any(|found| found == line), "{line}: {page_of:#?}");
    }
    assert!(page_of.iter().any(|line| line.contains(" retracted (resolved -> inactive) ")), "{page_of:#?}");
    let page_of = shown("FailedLogins").await;
    assert!(page_of.contains(&"LINE LEVEL SERVICE HOST MESSAGE RECORD".to_owned()), "{page_of:#?}");
    let found: Vec<&String> = page_of.iter().filter(|line| line.contains("login failed for root logs/")).collect();
    assert_eq!(found.len(), 3, "{page_of:#?}");
    assert!(
        found[0].starts_with("2026-03-01T00:00:01.000000Z WARNING shop web-1 login failed for root logs/"),
        "{found:?}"
    );
    let list = site.run(&[&["alerts", "list", "-o", "json"], &at[..]].concat()).await.output();
    assert_eq!(serde_json::from_str::<Value>(&list).unwrap(), json!([]), "none of them is up");

    // The shop is silent for a quarter of an hour, others are not.
    server.pass_time("other", START_S + 1_200).await;
    server.pass_time("other", START_S + 1_220).await;
    let blind = ("HighwaterRuleSelectsNothing".to_owned(), "ok".to_owned(), vec!["firing ShopBusy".to_owned()]);
    eventually("the blind rule is on the page", Some(blind), async || page(&server).await.pop()).await;
    let active = server.get("/api/v1/alerts").await.json();
    let active: Vec<&Value> =
        active["data"]["alerts"].as_array().unwrap().iter().map(|alert| &alert["labels"]).collect();
    let labels = json!({"alertname": "HighwaterRuleSelectsNothing", "group": "shown", "rule": "ShopBusy", "severity": "warning"});
    assert_eq!(active, [&labels]);
    let source = "SELECT source ->> 'sql' AS sql FROM alerts WHERE alertname = 'HighwaterRuleSelectsNothing' AND labels ->> 'rule' = 'ShopBusy'";
    let sql = server.value(source).await;
    assert_eq!(server.sql(sql.as_str().unwrap()).await, Vec::<Value>::new(), "nothing is there: {sql}");
    // It is back.
    lines(&server, "GET /", [1_240, 1_241]).await;
    server.pass_time("other", START_S + 1_260).await;
    eventually("all rules are well again", "ShopBusy".to_owned(), async || page(&server).await.pop().unwrap().0).await;
    server.stop().await;
    site.verify().await;
}
