//! `highwater-push`: sends metrics or logs by a standard push protocol as fast as the server takes them, and says how fast that was.
//!
//! ```text
//! highwater-push remote-write --url http://127.0.0.1:8080 --series 1000000 --rows 10000000
//! highwater-push otlp-logs --url http://127.0.0.1:4318 --rows 1000000 --message-size-bytes 1000
//! highwater-push remote-write --url http://127.0.0.1:8428 ...          # VictoriaMetrics in our place
//! ```

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use highwater_benches::requests::{Protocol, Requests};
use serde_json::json;
use tokio::task::JoinSet;

/// Send rows by a push protocol and report rows/s.
#[derive(Debug, Clone, Parser)]
#[command(name = "highwater-push", version)]
struct Args {
    /// What to speak.
    #[arg(value_enum)]
    protocol: Protocol,
    /// The server; the protocol's path is appended.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// How many samples or logs, over all connections.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Rows in one request.
    #[arg(long, default_value_t = 2_000)]
    batch_rows: u64,
    /// Requests under way at once, each on a connection of its own.
    #[arg(long, default_value_t = 4)]
    connections: u64,
    /// Threads of this program.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Distinct series; of logs, hosts.
    #[arg(long, default_value_t = 100_000)]
    series: u64,
    /// Size of a log's message.
    #[arg(long, default_value_t = 1_000)]
    message_size_bytes: usize,
    /// Event time of the first row, Unix milliseconds (default: 2026-03-01).
    #[arg(long, default_value_t = 1_772_323_200_000)]
    start_ms: u64,
    /// Milliseconds between two samples of a series.
    #[arg(long, default_value_t = 15_000)]
    interval_ms: u64,
    /// Report as one JSON object.
    #[arg(long)]
    json: bool,
}

/// What one connection did.
#[derive(Debug, Default)]
struct Sent {
    rows: u64,
    /// Of bodies, before and after compression.
    size_bytes: u64,
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
            eprintln!("highwater-push: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn send(args: &Args) -> Result<Sent, String> {
    let next_batch = Arc::new(AtomicU64::new(0));
    let mut connections = JoinSet::new();
    for _ in 0..args.connections {
        connections.spawn(send_batches(args.clone(), Arc::clone(&next_batch)));
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

async fn send_batches(args: Args, next_batch: Arc<AtomicU64>) -> Result<Sent, String> {
    let requests = Requests {
        protocol: args.protocol,
        series: args.series.max(1),
        message_size_bytes: args.message_size_bytes,
        start_ms: args.start_ms,
        interval_ms: args.interval_ms,
    };
    let client = reqwest::Client::new();
    let mut snappy = snap::raw::Encoder::new();
    let mut sent = Sent::default();
    loop {
        let from = next_batch.fetch_add(1, Ordering::Relaxed) * args.batch_rows;
        if from >= args.rows {
            return Ok(sent);
        }
        let to = args.rows.min(from + args.batch_rows);
        let plain = requests.encode(from, to);
        sent.size_bytes += plain.len() as u64;
        let body = match args.protocol.is_snappy() {
            true => Bytes::from(snappy.compress_vec(&plain).map_err(|error| error.to_string())?),
            false => Bytes::from(plain),
        };
        sent.wire_bytes += body.len() as u64;
        let begun = now();
        while !post(&client, &args, &body).await? {
            sent.retries += 1;
        }
        sent.latencies.push(begun.elapsed());
        sent.rows += to - from;
    }
}

/// Sends once. False where the server asked for it again later; anything but success or that ends the run.
async fn post(client: &reqwest::Client, args: &Args, body: &Bytes) -> Result<bool, String> {
    let url = format!("{}{}", args.url.trim_end_matches('/'), args.protocol.path());
    let mut request = client.post(&url).body(body.clone());
    for (name, value) in args.protocol.headers() {
        request = request.header(*name, *value);
    }
    let response = request.send().await.map_err(|error| format!("POST {url}: {error:?}"))?;
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
    Err(format!("POST {url} answered {status}: {text}"))
}

fn report(args: &Args, mut sent: Sent, elapsed: Duration) {
    sent.latencies.sort_unstable();
    let quantile = |q: f64| {
        let index = ((sent.latencies.len() as f64 * q) as usize).min(sent.latencies.len().saturating_sub(1));
        sent.latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    };
    let seconds = elapsed.as_secs_f64();
    let rows_per_s = sent.rows as f64 / seconds;
    let (p50_ms, p99_ms, max_ms) = (quantile(0.5), quantile(0.99), quantile(1.0));
    if args.json {
        let report = json!({
            "rows": sent.rows, "size_bytes": sent.size_bytes, "wire_bytes": sent.wire_bytes, "seconds": seconds,
            "rows_per_s": rows_per_s, "retries": sent.retries, "p50_ms": p50_ms, "p99_ms": p99_ms, "max_ms": max_ms,
        });
        println!("{report}");
        return;
    }
    println!(
        "{} rows in {seconds:.2} s: {rows_per_s:.0} rows/s, {:.1} MB/s on the wire, {} retries; p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, max {max_ms:.1} ms",
        sent.rows,
        sent.wire_bytes as f64 / 1e6 / seconds,
        sent.retries,
    );
}
