//! Tables that are made when they are read, by whoever puts the rooms together: the loss ledger is one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::datasource::{MemTable, TableType};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

/// Something that answers as a table. What it gives is small: it is held in memory for the query.
#[async_trait]
pub trait View: Send + Sync + 'static {
    /// The columns of every answer.
    fn schema(&self) -> SchemaRef;

    /// The rows, as of now, that this tenant may see.
    ///
    /// # Errors
    /// Why they cannot be had now; the query fails with it.
    async fn rows(&self, tenant: &str) -> std::result::Result<RecordBatch, Box<dyn std::error::Error + Send + Sync>>;
}

/// Views by name.
pub(crate) type Views = BTreeMap<String, Arc<dyn View>>;

/// A view in one query.
pub(crate) struct TenantView {
    view: Arc<dyn View>,
    tenant: Arc<str>,
}

impl TenantView {
    pub(crate) fn new(view: Arc<dyn View>, tenant: Arc<str>) -> Self {
        Self { view, tenant }
    }
}

impl fmt::Debug for TenantView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantView").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for TenantView {
    fn schema(&self) -> SchemaRef {
        self.view.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = self.view.rows(&self.tenant).await.map_err(DataFusionError::External)?;
        MemTable::try_new(self.schema(), vec![vec![rows]])?.scan(state, projection, filters, limit).await
    }
}
