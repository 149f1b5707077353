//! `/api/v1/topics`: topics of the embedded log, listed, described, made and removed.
//!
//! Highwater's own topics (`logs`, `rollup.*`, `__highwater.*`, ...) are looked at and not touched: what is in them is what tables and
//! tasks are made of.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use highwater_pipeline::data;
use highwater_pipeline::log::{Log, LogError, TopicConfig, TopicInfo};
use serde::Deserialize;
use serde_json::json;

use crate::cli::{PartitionDescription, TopicDescription};

/// The topic paths.
pub(crate) fn router(log: Arc<dyn Log>) -> Router {
    Router::new()
        .route("/api/v1/topics", get(list).post(create))
        .route("/api/v1/topics/{topic}", get(describe).delete(delete))
        .with_state(log)
}

/// True for the names of Highwater's own topics.
pub(crate) fn is_own(topic: &str) -> bool {
    let named = [
        data::logs::TOPIC,
        data::metrics::TOPIC,
        data::spans::TOPIC,
        data::metrics::RECORDED_TOPIC,
        data::metric_metadata::TOPIC,
        data::alerts::TOPIC,
        data::dead_letter::TOPIC,
    ];
    named.contains(&topic) || topic.starts_with("rollup.") || topic.starts_with("__highwater")
}

fn refuse(status: StatusCode, error: impl std::fmt::Display) -> Response {
    (status, Json(json!({"error": error.to_string()}))).into_response()
}

fn unknown(topic: &str) -> Response {
    refuse(StatusCode::NOT_FOUND, format!("no topic `{topic}`; GET /api/v1/topics lists them"))
}

async fn description(log: &dyn Log, topic: &TopicInfo) -> Result<TopicDescription, LogError> {
    let mut partitions = Vec::new();
    for partition in 0..topic.config.partitions {
        let offsets = log.offsets(&topic.name, partition).await?;
        let (log_start, high_watermark) = (offsets.log_start, offsets.high_watermark);
        partitions.push(PartitionDescription { partition, log_start, high_watermark });
    }
    let mut settings = serde_json::Map::new();
    settings.insert("id".into(), topic.id.to_string().into());
    settings.insert("retention_ms".into(), topic.config.retention_ms.into());
    settings.insert("retention_bytes".into(), topic.config.retention_bytes.into());
    Ok(TopicDescription { name: topic.name.to_string(), settings, partitions })
}

async fn list(State(log): State<Arc<dyn Log>>) -> Response {
    let described = async {
        let mut all = Vec::new();
        for topic in log.topics().await? {
            all.push(description(log.as_ref(), &topic).await?);
        }
        Ok::<_, LogError>(all)
    };
    match described.await {
        Ok(topics) => Json(topics).into_response(),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

async fn describe(State(log): State<Arc<dyn Log>>, Path(topic): Path<String>) -> Response {
    let described = async {
        match log.topic(&topic).await? {
            Some(found) => description(log.as_ref(), &found).await.map(Some),
            None => Ok(None),
        }
    };
    match described.await {
        Ok(Some(topic)) => Json(topic).into_response(),
        Ok(None) => unknown(&topic),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTopic {
    name: String,
    partitions: i32,
    retention_ms: Option<i64>,
}

async fn create(State(log): State<Arc<dyn Log>>, Json(new): Json<NewTopic>) -> Response {
    if is_own(&new.name) {
        return refuse(
            StatusCode::FORBIDDEN,
            format!("`{}` is a name of Highwater's own topics; choose another", new.name),
        );
    }
    match log.topic(&new.name).await {
        Ok(None) => {}
        Ok(Some(_)) => return refuse(StatusCode::CONFLICT, format!("topic `{}` exists already", new.name)),
        Err(error) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
    let config = TopicConfig { partitions: new.partitions, retention_ms: new.retention_ms, ..TopicConfig::default() };
    match log.ensure_topic(&new.name, config).await {
        Ok(topic) => (StatusCode::CREATED, Json(json!({"name": &*topic.name, "id": topic.id}))).into_response(),
        Err(error) if error.is_retryable() => refuse(StatusCode::SERVICE_UNAVAILABLE, error),
        Err(error) => refuse(StatusCode::BAD_REQUEST, error),
    }
}

async fn delete(State(log): State<Arc<dyn Log>>, Path(topic): Path<String>) -> Response {
    if is_own(&topic) {
        return refuse(
            StatusCode::FORBIDDEN,
            format!("`{topic}` is one of Highwater's own topics: tables and tasks read it, so it stays"),
        );
    }
    match log.delete_topic(&topic).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(LogError::UnknownTopicOrPartition { .. }) => unknown(&topic),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}
