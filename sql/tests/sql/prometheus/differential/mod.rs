//! The same samples and the same queries to a real Prometheus and to us: answers are equal.
//!
//! Queries are generated from a seed. `HIGHWATER_PROMQL_QUERIES=n` asks n instead of a few hundred, `HIGHWATER_PROMQL_SEED=n` begins elsewhere.
//! What may differ, and why, is in `compare.rs`.

mod compare;
mod queries;
mod remote_write;
mod samples;

use serde_json::Value;

use super::real::Prometheus;
use super::server::{Server, encode};
use compare::{Answer, compare};
use queries::{Asked, Generator};

/// Queries of a run that says nothing.
const QUERIES: u64 = 400;
/// Differences shown.
const SHOWN: usize = 20;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// The real one, with the samples.
async fn real(all: &[super::data::TestSeries]) -> Option<(Prometheus, reqwest::Client)> {
    let prometheus = tokio::task::spawn_blocking(|| Prometheus::start(&[])).await.unwrap()?;
    let client = reqwest::Client::new();
    for series in all.chunks(20) {
        let request = client
            .post(format!("{}/api/v1/write", prometheus.url()))
            .header("content-encoding", "snappy")
            .header("content-type", "application/x-protobuf")
            .header("x-prometheus-remote-write-version", "0.1.0")
            .body(remote_write::request(series));
        let answer = request.send().await.unwrap();
        let status = answer.status();
        assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap());
    }
    Some((prometheus, client))
}

async fn ask_real(prometheus: &Prometheus, client: &reqwest::Client, asked: &Asked) -> Answer {
    let request = client
        .post(format!("{}/api/v1/{}", prometheus.url(), asked.path))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(encode(&asked.parameters()));
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    Answer { status, body: answer.json().await.unwrap_or(Value::Null) }
}

async fn ask_own(server: &Server, asked: &Asked) -> Answer {
    let (status, body) = server.post(asked.path, &asked.parameters()).await;
    Answer { status: status.as_u16(), body }
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_queries_have_equal_answers() {
    let all = samples::all();
    let Some((prometheus, client)) = real(&all).await else { return };
    let server = Server::with(&all).await;
    let (seed, count) = (number("HIGHWATER_PROMQL_SEED", 1), number("HIGHWATER_PROMQL_QUERIES", QUERIES));
    let (mut differences, mut answered, mut refused) = (Vec::new(), 0, 0);
    for seed in seed..seed + count {
        let asked = Generator::new(seed).next();
        let theirs = ask_real(&prometheus, &client, &asked).await;
        let ours = ask_own(&server, &asked).await;
        *(if theirs.status == 200 { &mut answered } else { &mut refused }) += 1;
        if let Err(difference) = compare(&asked, &theirs, &ours) {
            differences.push(format!("seed {seed}: {asked:?}\n  {difference}"));
        }
    }
    println!("{answered} answered, {refused} refused, {} different", differences.len());
    let shown = differences.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(differences.is_empty(), "{} of {count} differ:\n{shown}", differences.len());
    assert!(answered > refused, "{answered} answered, {refused} refused: the generator makes nonsense");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_around_queries_have_equal_answers() {
    let all = samples::all();
    let Some((prometheus, client)) = real(&all).await else { return };
    let server = Server::with(&all).await;
    let mut differences = Vec::new();
    for (path, pairs) in queries::around() {
        let uri = format!("/api/v1/{path}?{}", encode(&pairs));
        let answer = client.get(format!("{}{uri}", prometheus.url())).send().await.unwrap();
        let status = answer.status().as_u16();
        let theirs = Answer { status, body: answer.json().await.unwrap_or(Value::Null) };
        let (status, body) = server.get(path, &pairs).await;
        let ours = Answer { status: status.as_u16(), body };
        if let Err(difference) = compare::compare_exactly(&theirs, &ours) {
            differences.push(format!("{path} {pairs:?}\n  {difference}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
