//! Views in SQL, over the tables that every Highwater has. The text of each is beside this file.
//!
//! A view is planned with the query that names it, over the very tables of that query: it sees the same tenant, at the same moment, and a condition on its
//! columns reaches the files where the view lets it through.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use datafusion::execution::session_state::SessionState;
use datafusion::sql::parser::Statement;
use futures::FutureExt;
use highwater_pipeline::functions::HighwaterDialect;

use crate::guard;

/// Name and text of each.
const ALL: [(&str, &str); 3] = [
    ("alert_history", include_str!("alert_history.sql")),
    ("slo_status", include_str!("slo_status.sql")),
    ("telemetry_summary", include_str!("telemetry_summary.sql")),
];

/// A view in SQL.
#[derive(Debug)]
pub(crate) struct SqlView {
    /// Its text.
    pub(crate) sql: &'static str,
    /// The same, parsed.
    pub(crate) statement: Statement,
    /// Its columns.
    pub(crate) schema: SchemaRef,
}

/// Views by name.
pub(crate) type SqlViews = BTreeMap<&'static str, SqlView>;

/// Those that can be planned in this session: a directory of files may lack a table that one of them reads.
pub(crate) fn over(state: &SessionState) -> SqlViews {
    let view = |sql: &'static str| {
        let statement = guard::parse(sql, &HighwaterDialect).ok()?;
        // Nothing is waited for: no table is looked into for its columns.
        let plan = state.statement_to_plan(statement.clone()).now_or_never()?.ok()?;
        let plan = state.optimize(&plan).ok()?;
        Some(SqlView { sql, statement, schema: SchemaRef::clone(plan.schema().inner()) })
    };
    ALL.iter().filter_map(|(name, sql)| Some((*name, view(sql)?))).collect()
}
