//! Who may come in, over HTTP, with the real binary: keys, tenants, TLS, limits.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Certificate, Client, Identity, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{Server, Site, eventually, signal};

const LOG: &str = r#"{"message": "hello", "service": "web"}"#;

/// A new key, and the line that the server needs to know it.
async fn key(site: &Site, arguments: &[&str]) -> (String, String) {
    let made = site.run(&[&["api-key", "new"], arguments].concat()).await;
    (made.stdout.trim().to_owned(), made.stderr.lines().last().unwrap().trim().to_owned())
}

/// Asks with a key, maybe for a tenant; the status and the body.
async fn ask(request: RequestBuilder, key: &str, tenant: Option<&str>) -> (u16, String) {
    let request = match tenant {
        Some(tenant) => request.header("x-scope-orgid", tenant),
        None => request,
    };
    let response = request.bearer_auth(key).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_opens_its_tenant_and_nothing_else() {
    let site = Site::new();
    let (shop, shop_line) = key(&site, &["shop", "--tenant", "shop"]).await;
    let (grafana, grafana_line) = key(&site, &["grafana", "--any-tenant", "--may", "query"]).await;
    let (ops, ops_line) = key(&site, &["ops", "--may", "admin"]).await;
    site.write("keys.yaml", &format!("{shop_line}\n{grafana_line}\n{ops_line}\n"));
    site.configure("api_keys: keys.yaml\n");
    let server = site.start().await;
    let client = Client::new();
    let post = |path: &str, body: &str| client.post(server.url(path)).body(body.to_owned());
    let get = |path: &str| client.get(server.url(path));

    // Strangers see that it is well, and nothing more.
    for path in ["/health", "/health/live", "/health/ready", "/-/healthy", "/-/ready"] {
        assert_eq!(get(path).send().await.unwrap().status(), 200, "{path}");
    }
    let count = r#"{"query": "SELECT count(*) AS n FROM logs"}"#;
    for request in [
        post("/logs", LOG),
        post("/metrics", "{}"),
        post("/api/v1/sql", count),
        get("/metrics"),
        get("/api/v1/status"),
        post("/-/reload", ""),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 401, "{}", response.url());
        assert!(response.headers().get_all("www-authenticate").iter().count() == 2);
    }
    assert_eq!(ask(post("/logs", LOG), "hw_wrong", None).await.0, 401);

    // The tenant is the key's.
    assert_eq!(ask(post("/logs", LOG), &shop, None).await.0, 200);
    let (status, said) = ask(post("/logs", LOG), &shop, Some("bank")).await;
    assert!(status == 403 && said.contains("belongs to tenant `shop`"), "{status} {said}");
    assert_eq!(ask(post("/logs", LOG), &grafana, Some("shop")).await.0, 403);
    let rows = async |key: &str, tenant: Option<&str>| {
        let (status, said) = ask(post("/api/v1/sql", count), key, tenant).await;
        assert_eq!(status, 200, "{said}");
        serde_json::from_str::<Value>(&said).unwrap()[0]["n"].clone()
    };
    assert_eq!(rows(&shop, None).await, json!(1));
    assert_eq!(rows(&grafana, Some("shop")).await, json!(1));
    assert_eq!(rows(&grafana, None).await, json!(0));
    let basic = post("/api/v1/sql", count).basic_auth("anybody", Some(&shop)).send().await.unwrap();
    assert_eq!(basic.status(), 200);
    let alone = post("/api/v1/sql", count).header("x-api-key", &shop).send().await.unwrap();
    assert_eq!(alone.status(), 200);

    // The command line has a key too.
    let sql = ["sql", "--server", &server.url(""), "-o", "csv", "SELECT count(*) AS n FROM logs"];
    let refused = site.run(&sql).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("401"), "{refused:?}");
    assert_eq!(site.run(&[&sql[..], &["--api-key", &shop]].concat()).await.output(), "n\n1\n");

    // A key that is taken away opens nothing after a reload.
    site.write("keys.yaml", &format!("{grafana_line}\n{ops_line}\n"));
    assert_eq!(ask(post("/-/reload", ""), &grafana, None).await.0, 403);
    assert_eq!(ask(post("/-/reload", ""), &ops, None).await.0, 200);
    assert_eq!(ask(post("/logs", LOG), &shop, None).await.0, 401);
    let (_, page) = ask(get("/metrics"), &grafana, None).await;
    assert!(page.contains(r#"highwater_access_refused_total{need="ingest",reason="other_tenant"} 1"#), "{page}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_too_much_is_told_when_to_come_back() {
    let site = Site::with_config(
        "limits: { tenants: { loud: { requests_per_s: 0.001, burst_s: 2000 }, wide: { rows_per_s: 0.001, burst_s: 1000 }, many: { max_active_series: 2 } } }\n",
    );
    let server = site.start().await;
    let send = async |path: &str, tenant: &str, body: String| {
        server.send(server.request(path).header("x-scope-orgid", tenant).body(body)).await
    };
    assert_eq!(send("/logs", "loud", LOG.into()).await.status, 200);
    assert_eq!(send("/logs", "loud", LOG.into()).await.status, 200);
    let refused = send("/logs", "loud", LOG.into()).await;
    assert_eq!(refused.status, 429);
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 900, "{refused:?}");
    // Others are not concerned.
    assert_eq!(send("/logs", "quiet", LOG.into()).await.status, 200);
    // A request of more rows than may come at once passes, and is owed for.
    assert_eq!(send("/logs", "wide", format!("[{LOG},{LOG},{LOG}]")).await.status, 200);
    assert_eq!(send("/logs", "wide", LOG.into()).await.status, 429);
    // Samples of known series go on when there is no room for new ones.
    let sample = |host: &str| format!(r#"{{"name": "up", "value": 1, "labels": {{"host": "{host}"}}}}"#);
    let series: Vec<_> = (0..40).map(|n| sample(&format!("h{n}"))).collect();
    let answer = send("/metrics", "many", format!("[{}]", series.join(","))).await.json();
    assert_eq!((answer["accepted"].as_u64(), answer["rejected"].as_u64()), (Some(2), Some(38)), "{answer}");
    let rows = server
        .post("/api/v1/sql", json!({"query": "SELECT count(*) AS n FROM logs", "format": "json"}).to_string())
        .await;
    assert_eq!(rows.status, 200);
    let page = server.get("/metrics").await.text;
    for reason in ["rate_requests", "rate_rows"] {
        assert!(page.contains(&format!("highwater_limited_requests_total{{reason=\"{reason}\"}} 1")), "{page}");
    }
    server.stop().await;
    site.verify().await;
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("broker/src/kafka/tests/tls").join(name)
}

/// A client that believes this certificate, and shows one if it has any.
fn tls_client(trusted: &str, own: Option<&str>) -> Client {
    let pem = std::fs::read(fixture(trusted)).unwrap();
    let mut builder =
        Client::builder().tls_built_in_root_certs(false).add_root_certificate(Certificate::from_pem(&pem).unwrap());
    if let Some(own) = own {
        let mut both = std::fs::read(fixture(&format!("{own}cert.pem"))).unwrap();
        both.extend(std::fs::read(fixture(&format!("{own}key.pem"))).unwrap());
        builder = builder.identity(Identity::from_pem(&both).unwrap());
    }
    builder.build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_shown_and_changed_without_a_restart() {
    let site = Site::new();
    let install = |name: &str| {
        for part in ["cert.pem", "key.pem"] {
            std::fs::copy(fixture(&format!("{name}{part}")), site.path().join(part)).unwrap();
        }
    };
    install("");
    site.configure("http: { tls: { cert: cert.pem, key: key.pem } }\n");
    let server = site.spawn().announced().await;
    let url = server.url("/health/ready").replace("http://127.0.0.1", "https://localhost");
    let status = async |client: &Client| match client.request(Method::GET, &url).send().await {
        Ok(response) => response.status().as_u16(),
        Err(_) => 0,
    };
    let client = tls_client("cert.pem", None);
    eventually("ready under TLS", 200, async || status(&client).await).await;
    // The agent and the command line speak TLS too.
    let ca = fixture("cert.pem");
    let base = url.strip_suffix("/health/ready").unwrap();
    site.write("app.log", "2026-03-01 12:00:00 INFO one\n2026-03-01 12:00:01 INFO two\n");
    let log = site.path().join("app.log");
    let ship = [
        "agent",
        "logs",
        "--service",
        "web",
        "--no-follow",
        "--server",
        base,
        "--ca-file",
        ca.to_str().unwrap(),
        "--file",
        log.to_str().unwrap(),
    ];
    site.run(&ship).await.output();
    let sql =
        ["sql", "--server", base, "--ca-file", ca.to_str().unwrap(), "-o", "csv", "SELECT count(*) AS n FROM logs"];
    assert_eq!(site.run(&sql).await.output(), "n\n2\n");

    install("other-");
    signal(server.pid(), "HUP").await;
    let renewed = tls_client("other-cert.pem", None);
    eventually("the new certificate", 200, async || status(&renewed).await).await;
    let old = tls_client("cert.pem", None);
    assert_eq!(status(&old).await, 0);
    signal(server.pid(), "TERM").await;
    server.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_show_a_certificate_where_they_are_asked_to() {
    let site = Site::new();
    let (cert, key) = (fixture("cert.pem"), fixture("key.pem"));
    site.configure(&format!(
        "http: {{ tls: {{ cert: {}, key: {}, client_ca: {} }} }}\n",
        cert.display(),
        key.display(),
        cert.display()
    ));
    let server: Server = site.spawn().announced().await;
    let url = server.url("/health/live").replace("http://127.0.0.1", "https://localhost");
    let known = tls_client("cert.pem", Some(""));
    eventually("live under mutual TLS", 200, async || {
        known.get(&url).timeout(Duration::from_secs(30)).send().await.map_or(0, |response| response.status().as_u16())
    })
    .await;
    assert!(tls_client("cert.pem", None).get(&url).send().await.is_err());
    assert!(tls_client("cert.pem", Some("other-")).get(&url).send().await.is_err());
    signal(server.pid(), "TERM").await;
    server.ended().await;
}
