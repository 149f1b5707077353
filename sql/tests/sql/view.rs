//! Views: tables that are made when they are read.

use std::sync::Arc;

use arrow::array::{Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use highwater_sql::View;

use crate::fixture::Fixture;

/// One row: the tenant, and how often it was asked for.
#[derive(Default)]
struct Asked(std::sync::atomic::AtomicI64);

#[async_trait]
impl View for Asked {
    fn schema(&self) -> SchemaRef {
        let fields = [Field::new("tenant", DataType::Utf8, false), Field::new("times", DataType::Int64, false)];
        Arc::new(Schema::new(fields.to_vec()))
    }

    async fn rows(&self, tenant: &str) -> Result<RecordBatch, Box<dyn std::error::Error + Send + Sync>> {
        let times = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        if times > 2 {
            return Err("asked too often".into());
        }
        let columns: Vec<arrow::array::ArrayRef> =
            vec![Arc::new(StringArray::from(vec![tenant])), Arc::new(Int64Array::from(vec![times]))];
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_asked_at_each_query_by_its_tenant_and_its_error_is_the_answer() {
    let fixture = Fixture::new().await;
    fixture.engine.register_view("asked", Arc::new(Asked::default()));
    assert_eq!(fixture.rows("SELECT times, tenant FROM asked").await.unwrap(), ["1,default"]);
    assert_eq!(fixture.rows("SELECT count(*) FROM asked WHERE times > 5").await.unwrap(), ["0"]);
    let error = fixture.error("SELECT * FROM asked").await.to_string();
    assert!(error.contains("asked too often"), "{error}");
    let tables = fixture
        .rows("SELECT table_name, table_type FROM information_schema.tables WHERE table_name = 'asked'")
        .await
        .unwrap();
    assert_eq!(tables, ["asked,VIEW"]);
    let error = fixture.error("SELECT * FROM askd").await.to_string();
    assert!(error.contains("Did you mean 'asked'?"), "{error}");
}
