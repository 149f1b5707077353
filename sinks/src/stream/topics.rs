//! `GET /api/v1/topics/{topic}/stream`: the rows of a table's topic as server-sent events, as [`crate::stream`] has them. The `data` of an event is one row, a JSON
//! object with the columns SQL has, NULLs left out; rows of one record share its id. Rows of other tenants are left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use highwater_pipeline::data::{Decoded, Decoder};
use highwater_pipeline::log::{Log, StoredRecord};
use highwater_pipeline::tables::{TENANT_COLUMN, TableSpec};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{Door, Render, StreamConfig, refuse, tenant};

/// Which tables there are now; asked at each subscription, because a reload changes them.
pub type TablesSource = Arc<dyn Fn() -> Vec<TableSpec> + Send + Sync>;

/// The route. Streams end when `shutdown` is cancelled.
pub fn router(log: Arc<dyn Log>, tables: TablesSource, config: StreamConfig, shutdown: CancellationToken) -> Router {
    let door = TopicsDoor { door: Door::new(log, config, shutdown), tables };
    Router::new().route("/api/v1/topics/{topic}/stream", get(subscribe)).with_state(door)
}

#[derive(Clone)]
struct TopicsDoor {
    door: Door,
    tables: TablesSource,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    from: Option<String>,
}

async fn subscribe(
    State(door): State<TopicsDoor>,
    Path(topic): Path<String>,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Response {
    let tables: BTreeMap<String, TableSpec> = (door.tables)()
        .into_iter()
        .flat_map(|t| t.topics.clone().into_iter().map(move |topic| (topic, t.clone())))
        .collect();
    match tables.get(&topic) {
        Some(table) => {
            let rows = Rows { decoder: Decoder::new(table.kind.clone()), tenant: tenant(&headers) };
            door.door.subscribe(&topic, params.from.as_deref(), &headers, rows).await
        }
        None => {
            let known: Vec<_> = tables.into_keys().collect();
            refuse(
                StatusCode::NOT_FOUND,
                format!("no rows are known of topic {topic:?}; there are: {}", known.join(", ")),
            )
        }
    }
}

/// Decodes records to the rows of one tenant.
struct Rows {
    decoder: Decoder,
    tenant: String,
}

impl Rows {
    fn of_tenant(&self, batch: &RecordBatch) -> Option<RecordBatch> {
        let tenants = batch.column_by_name(TENANT_COLUMN)?.as_string_opt::<i32>()?;
        let wanted: BooleanArray = tenants.iter().map(|tenant| Some(tenant == Some(&self.tenant))).collect();
        filter_record_batch(batch, &wanted).ok()
    }
}

impl Render for Rows {
    fn render(&mut self, partition: i32, record: &StoredRecord) -> Vec<String> {
        let Decoded::Rows { batch, .. } = self.decoder.decode(partition, record) else { return Vec::new() };
        let Some(batch) = self.of_tenant(&batch) else { return Vec::new() };
        let mut text = Vec::new();
        let mut writer = arrow::json::LineDelimitedWriter::new(&mut text);
        if let Err(error) = writer.write(&batch).and_then(|()| writer.finish()) {
            tracing::warn!(%error, partition, offset = record.offset, "a record's rows have no JSON form and are left out of a stream");
            return Vec::new();
        }
        String::from_utf8_lossy(&text).lines().map(str::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::body::Body;
    use axum::http::Request;
    use futures::StreamExt;
    use highwater_pipeline::log::Record;
    use highwater_pipeline::tables::built_in_tables;
    use tower::ServiceExt;

    use super::*;
    use crate::testing::MemoryLog;

    fn record(value: &str) -> Record {
        Record { value: Some(value.to_string().into()), ..Record::default() }
    }

    #[tokio::test]
    async fn rows_arrive_as_json_with_their_coordinate() {
        let log = MemoryLog::with_topic("logs", 1);
        log.push("logs", 0, record(r#"{"message": "one", "service": "a"}"#));
        log.push("logs", 0, record(r#"[{"message": "two"}]"#));
        let tables: TablesSource = Arc::new(built_in_tables);
        let router = router(log, tables, StreamConfig::default(), CancellationToken::new());
        let ask = |path: &str| router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap());
        assert_eq!(ask("/api/v1/topics/nope/stream").await.unwrap().status(), StatusCode::NOT_FOUND);

        let mut body = ask("/api/v1/topics/logs/stream?from=earliest").await.unwrap().into_body().into_data_stream();
        let mut text = String::new();
        while text.matches("data:").count() < 2 {
            text.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
        }
        assert!(text.contains("id: 0:0\n") && text.contains("id: 0:1\n"), "{text}");
        assert!(text.contains(r#""message":"one""#) && text.contains(r#""service":"a""#), "{text}");
        assert!(text.contains(r#""message":"two""#) && text.contains(r#""_offset":1"#), "{text}");
    }
}
