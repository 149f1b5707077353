//! `GET /api/v1/status`: tasks and tables as they are now; and the same as gauges for `/metrics` and as errors for `/health`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use chrono::{DateTime, SecondsFormat};
use highwater_broker::{Clock, SystemClock};
use highwater_pipeline::log::Log;
use highwater_pipeline::runtime::{TaskState, TaskStatus};
use highwater_sinks::tables::{TableState, TableStatus};
use tokio_util::sync::CancellationToken;

use super::readiness::Health;
use super::workers::WorkersView;
use crate::cli::{Status, TableLine, TaskLine};

/// How often gauges and health follow the workers.
const OBSERVE_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Door {
    health: Health,
    workers: WorkersView,
    log: Arc<dyn Log>,
}

/// The status path.
pub(crate) fn router(health: Health, workers: WorkersView, log: Arc<dyn Log>) -> Router {
    Router::new().route("/api/v1/status", get(status)).with_state(Door { health, workers, log })
}

async fn status(State(door): State<Door>) -> Response {
    let now_ms = SystemClock.now_ms();
    let tasks = door.workers.tasks().into_iter().map(|task| task_line(task, now_ms)).collect();
    let mut tables = Vec::new();
    for table in door.workers.tables() {
        tables.extend(table_lines(table, door.log.as_ref()).await);
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Json(Status { version, uptime_s: door.health.uptime_s(), tasks, tables }).into_response()
}

fn task_line(task: TaskStatus, now_ms: i64) -> TaskLine {
    let snapshot_age_s = task.snapshot_age_ms(now_ms).map(|ms| ms as f64 / 1000.0);
    let watermark = task.watermark_us.and_then(DateTime::from_timestamp_micros);
    TaskLine {
        task: task.task.to_string(),
        state: match &task.state {
            TaskState::Failed(reason) => format!("failed: {reason}"),
            other => other.name().to_owned(),
        },
        epoch: task.epoch,
        offset: task.offset,
        lag: task.lag,
        watermark: watermark.map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true)),
        idle: task.idle,
        snapshot_age_s,
    }
}

fn table_state(state: &TableState) -> (String, Option<&str>) {
    match state {
        TableState::Idle => ("idle".into(), None),
        TableState::Starting => ("starting".into(), None),
        TableState::Running => ("running".into(), None),
        TableState::Stopped => ("stopped".into(), None),
        TableState::Retrying(reason) => (format!("retrying: {reason}"), Some(reason)),
        TableState::Failed(reason) => (format!("failed: {reason}"), Some(reason)),
    }
}

async fn table_lines(table: TableStatus, log: &dyn Log) -> Vec<TableLine> {
    let (state, _) = table_state(&table.state);
    let mut lines = Vec::new();
    for (topic, partition, committed) in table.positions {
        let end = log.offsets(&topic, partition).await.map_or(committed, |offsets| offsets.high_watermark);
        let lag = (end - committed).max(0);
        lines.push(TableLine { table: table.table.clone(), topic, partition, committed, lag, state: state.clone() });
    }
    lines
}

/// Keeps gauges and health in step with the workers until `shutdown`.
pub(crate) async fn observe(workers: WorkersView, health: Health, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(OBSERVE_EVERY)).await.is_some() {
        for task in workers.tasks() {
            let name = task.task.to_string();
            metrics::gauge!("highwater_task_lag_records", "task" => name.clone()).set(task.lag as f64);
            metrics::gauge!("highwater_task_running", "task" => name.clone())
                .set(f64::from(u8::from(task.state == TaskState::Running)));
            if let Some(watermark_us) = task.watermark_us {
                metrics::gauge!("highwater_task_watermark_seconds", "task" => name.clone())
                    .set(watermark_us as f64 / 1e6);
            }
            let error = match &task.state {
                TaskState::Failed(reason) => Some(reason.clone()),
                TaskState::Fenced => Some("another run of this task has taken over".to_owned()),
                _ => None,
            };
            health.set_error(&format!("task {name}"), error);
        }
        for table in workers.tables() {
            metrics::gauge!("highwater_table_lag_records", "table" => table.table.clone())
                .set(table.lag_records as f64);
            health.set_error(&format!("table {}", table.table), table_state(&table.state).1.map(str::to_owned));
        }
    }
}
