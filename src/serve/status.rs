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

use super::definitions::LogDefinitions;
use super::members::Members;
use super::readiness::Health;
use super::workers::WorkersView;
use crate::cli::{MemberLine, Status, TableLine, TaskLine};

/// How often gauges and health follow the workers.
const OBSERVE_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Door {
    health: Health,
    workers: WorkersView,
    members: Members,
    definitions: LogDefinitions,
    log: Arc<dyn Log>,
    /// Where the log is reached over Kafka.
    kafka: Option<String>,
}

/// The status path. What it says is of all processes that work on this log.
pub(crate) fn router(
    health: Health,
    workers: WorkersView,
    members: Members,
    definitions: LogDefinitions,
    log: Arc<dyn Log>,
    kafka: Option<String>,
) -> Router {
    let door = Door { health, workers, members, definitions, log, kafka };
    Router::new().route("/api/v1/status", get(status)).with_state(door)
}

async fn status(State(door): State<Door>) -> Response {
    let mut all = own(&door.health, &door.workers, &door.members, door.log.as_ref()).await;
    all.definitions_version = door.definitions.version();
    all.kafka.clone_from(&door.kafka);
    match door.members.others(door.log.as_ref()).await {
        Ok(others) => {
            for other in others {
                all.members.extend(other.members);
                all.tasks.extend(other.tasks);
                all.tables.extend(other.tables);
            }
        }
        Err(error) => tracing::warn!(%error, "what other processes say of themselves cannot be read"),
    }
    all.members.sort_by(|a, b| a.name.cmp(&b.name));
    all.tasks.sort_by(|a, b| a.task.cmp(&b.task));
    all.tables.sort_by(|a, b| (&a.table, &a.topic, a.partition).cmp(&(&b.table, &b.topic, b.partition)));
    Json(all).into_response()
}

/// How this process stands.
pub(crate) async fn own(health: &Health, workers: &WorkersView, me: &Members, log: &dyn Log) -> Status {
    let now_ms = SystemClock.now_ms();
    let tasks = workers.tasks().into_iter().map(|task| task_line(task, me.name(), now_ms)).collect();
    let mut tables = Vec::new();
    for table in workers.tables() {
        tables.extend(table_lines(table, me.name(), log).await);
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let uptime_s = health.uptime_s();
    let member = MemberLine {
        name: me.name().to_owned(),
        roles: me.roles().to_owned(),
        version: version.clone(),
        uptime_s,
        ready: health.ready(),
    };
    Status { version, uptime_s, kafka: None, definitions_version: 0, members: vec![member], tasks, tables }
}

fn task_line(task: TaskStatus, owner: &str, now_ms: i64) -> TaskLine {
    let snapshot_age_s = task.snapshot_age_ms(now_ms).map(|ms| ms as f64 / 1000.0);
    let watermark = task.watermark_us.and_then(DateTime::from_timestamp_micros);
    TaskLine {
        task: task.task.to_string(),
        owner: owner.to_owned(),
        state: match &task.state {
            TaskState::Failed(reason) => format!("failed: {reason}"),
            other => other.name().to_owned(),
        },
        epoch: task.epoch,
        definitions_version: task.version,
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

async fn table_lines(table: TableStatus, owner: &str, log: &dyn Log) -> Vec<TableLine> {
    let (state, _) = table_state(&table.state);
    let mut lines = Vec::new();
    for (topic, partition, committed) in table.positions {
        let end = log.offsets(&topic, partition).await.map_or(committed, |offsets| offsets.high_watermark);
        let lag = (end - committed).max(0);
        lines.push(TableLine {
            table: table.table.clone(),
            owner: owner.to_owned(),
            topic,
            partition,
            committed,
            lag,
            state: state.clone(),
        });
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
