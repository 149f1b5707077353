//! `highwater-load`: sends NDJSON logs over HTTP as fast as the server takes them, and says how fast that was.
//!
//! It speaks plain HTTP to any URL, so that a rival can be put in our place:
//!
//! ```text
//! highwater-load --url http://127.0.0.1:8080/logs --rows 3000000
//! highwater-load --url 'http://127.0.0.1:9428/insert/jsonline?_time_field=timestamp&_msg_field=message' ...
//! ```

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use highwater_benches::compression::Compression;
use highwater_benches::logs::LogGenerator;
use serde_json::json;
use tokio::task::JoinSet;

/// Send NDJSON logs over HTTP and report rows/s and MB/s.
#[derive(Debug, Clone, Parser)]
#[command(name = "highwater-load", version)]
struct Args {
    /// Where to POST.
    #[arg(long, default_value = "http://127.0.0.1:8080/logs")]
    url: String,
    /// How many logs, over all connections.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Logs in one request.
    #[arg(long, default_value_t = 2_000)]
    batch_rows: u64,
    /// Requests under way at once, each on a connection of its own.
    #[arg(long, default_value_t = 4)]
    connections: u64,
    /// Threads of this program.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// How bodies are compressed.
    #[arg(long, value_enum, default_value = "none")]
    compression: Compression,
    /// Give each request an Idempotency-Key, so that its retry is harmless.
    #[arg(long)]
    idempotency_keys: bool,
    /// Distinct services.
    #[arg(long, default_value_t = 50)]
    services: u32,
    /// Hosts of each service.
    #[arg(long, default_value_t = 10)]
    hosts: u32,
    /// Event time of the first log, Unix milliseconds (default: 2026-03-01).
    #[arg(long, default_value_t = 1_772_323_200_000)]
    start_ms: i64,
    /// Logs per millisecond of event time.
    #[arg(long, default_value_t = 100)]
    rows_per_ms: u64,
    /// The same seed sends the same logs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Report as one JSON object.
    #[arg(long)]
    json: bool,
}

/// What one connection did.
#[derive(Debug, Default)]
struct Sent {
    rows: u64,
    /// Of NDJSON, before compression.
    size_bytes: u64,
    /// As sent.
    wire_bytes: u64,
    retries: u64,
    /// Of each acknowledged request, retries included.
    latencies: Vec<Duration>,
}

#[expect(clippy::disallowed_methods, reason = "a load generator measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads).enable_all().build();
    let result = runtime.map_err(|error| format!("cannot start: {error}")).and_then(|runtime| {
        let started = now();
        let sent = runtime.block_on(send(&args))?;
        Ok((sent, started.elapsed()))
    });
    match result {
        Ok((sent, elapsed)) => {
            report(&args, sent, elapsed);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("highwater-load: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn send(args: &Args) -> Result<Sent, String> {
    let next_batch = Arc::new(AtomicU64::new(0));
    let mut connections = JoinSet::new();
    for connection in 0..args.connections {
        connections.spawn(send_batches(args.clone(), connection, Arc::clone(&next_batch)));
    }
    let mut total = Sent::default();
    while let Some(ended) = connections.join_next().await {
        let sent = ended.map_err(|error| error.to_string())??;
        total.rows += sent.rows;
        total.size_bytes += sent.size_bytes;
        total.wire_bytes += sent.wire_bytes;
        total.retries += sent.retries;
        total.latencies.extend(sent.latencies);
    }
    Ok(total)
}

async fn send_batches(args: Args, connection: u64, next_batch: Arc<AtomicU64>) -> Result<Sent, String> {
    let client = reqwest::Client::builder().build().map_err(|error| error.to_string())?;
    let mut sent = Sent::default();
    loop {
        let batch = next_batch.fetch_add(1, Ordering::Relaxed);
        let from = batch * args.batch_rows;
        if from >= args.rows {
            return Ok(sent);
        }
        let rows = args.batch_rows.min(args.rows - from);
        // Each batch from its own seed: what is sent does not depend on which connection sends it.
        let seed = args.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ batch;
        let start_ms = args.start_ms + (from / args.rows_per_ms.max(1)) as i64;
        let mut logs = LogGenerator::new(seed, args.services, args.hosts, start_ms, args.rows_per_ms);
        let mut body = Vec::with_capacity(320 * rows as usize);
        logs.ndjson(rows as usize, &mut body).map_err(|error| error.to_string())?;
        sent.size_bytes += body.len() as u64;
        let body = Bytes::from(args.compression.compress(body).map_err(|error| error.to_string())?);
        sent.wire_bytes += body.len() as u64;
        let begun = now();
        while !post(&client, &args, batch, &body).await? {
            sent.retries += 1;
        }
        sent.latencies.push(begun.elapsed());
        sent.rows += rows;
        if connection == 0 && sent.latencies.len().is_multiple_of(500) && !args.json {
            eprintln!("{from} of {} rows sent", args.rows);
        }
    }
}

/// Sends once. False where the server asked for it again later; anything but success or that ends the run.
async fn post(client: &reqwest::Client, args: &Args, batch: u64, body: &Bytes) -> Result<bool, String> {
    let mut request = client.post(&args.url).header("content-type", "application/x-ndjson").body(body.clone());
    if let Some(encoding) = args.compression.header() {
        request = request.header("content-encoding", encoding);
    }
    if args.idempotency_keys {
        request = request.header("idempotency-key", format!("load-{}-{batch}", args.seed));
    }
    let response = request.send().await.map_err(|error| format!("POST {}: {error:?}", args.url))?;
    let status = response.status();
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let text = response.text().await.map_err(|error| error.to_string())?;
    if status.is_success() {
        return Ok(true);
    }
    if status.as_u16() == 429 || status.as_u16() == 503 {
        tokio::time::sleep(Duration::from_secs(retry_after.unwrap_or(1))).await;
        return Ok(false);
    }
    Err(format!("POST {} answered {status}: {text}", args.url))
}

fn report(args: &Args, mut sent: Sent, elapsed: Duration) {
    sent.latencies.sort_unstable();
    let quantile = |q: f64| {
        let index = ((sent.latencies.len() as f64 * q) as usize).min(sent.latencies.len().saturating_sub(1));
        sent.latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    };
    let seconds = elapsed.as_secs_f64();
    let (rows_per_s, mb_per_s) = (sent.rows as f64 / seconds, sent.size_bytes as f64 / 1e6 / seconds);
    let (p50_ms, p99_ms, max_ms) = (quantile(0.5), quantile(0.99), quantile(1.0));
    if args.json {
        let report = json!({
            "rows": sent.rows, "size_bytes": sent.size_bytes, "wire_bytes": sent.wire_bytes, "seconds": seconds,
            "rows_per_s": rows_per_s, "mb_per_s": mb_per_s, "retries": sent.retries,
            "p50_ms": p50_ms, "p99_ms": p99_ms, "max_ms": max_ms,
        });
        println!("{report}");
        return;
    }
    println!("{} rows, {:.1} MB of NDJSON in {seconds:.2} s", sent.rows, sent.size_bytes as f64 / 1e6);
    println!("{rows_per_s:.0} rows/s, {mb_per_s:.1} MB/s ({:.1} MB sent)", sent.wire_bytes as f64 / 1e6);
    println!(
        "a request took {p50_ms:.1} ms (p50), {p99_ms:.1} ms (p99), {max_ms:.1} ms (max); {} retries",
        sent.retries
    );
}
