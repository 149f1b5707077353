//! A statement with its parameters, and how far its rows have been sent. Cursors are portals, too.

use std::sync::Arc;

use super::encode::{ColumnFormat, Rows};
use super::error::{PgError, code};
use super::settings::Zone;
use super::statement::{Columns, Prepared, format_of};
use crate::parameters::Parameter;
use crate::query::QueryResult;

/// A portal.
pub(super) struct Portal {
    pub(super) prepared: Arc<Prepared>,
    pub(super) parameters: Vec<Parameter>,
    /// Formats of its columns, as the client asked: none, one for all, or one each.
    pub(super) formats: Vec<i16>,
    pub(super) state: State,
}

/// How far it is.
pub(super) enum State {
    /// Not begun.
    New,
    /// Begun.
    Running(Box<Running>),
    /// All has been sent, or it failed.
    Done,
}

/// Rows that come.
pub(super) struct Running {
    pub(super) result: QueryResult,
    pub(super) columns: Arc<Columns>,
    pub(super) formats: Vec<ColumnFormat>,
    pub(super) rows: Option<Rows>,
    pub(super) zone: Zone,
}

impl Running {
    /// Rows of this result, as columns that the client was told of before.
    pub(super) fn new(
        result: QueryResult,
        columns: Arc<Columns>,
        formats: &[i16],
        zone: Zone,
    ) -> Result<Self, PgError> {
        let arrived = result.schema();
        if arrived.fields().len() != columns.0.len() {
            return Err(PgError::new(code::UNSUPPORTED, "cached plan must not change result type"));
        }
        if formats.len() > 1 && formats.len() != columns.0.len() {
            return Err(PgError::protocol(format!(
                "bind message has {} result formats but query has {} columns",
                formats.len(),
                columns.0.len()
            )));
        }
        let formats = columns
            .0
            .iter()
            .enumerate()
            .map(|(i, column)| ColumnFormat { pg_type: column.pg_type.clone(), binary: format_of(formats, i) == 1 })
            .collect();
        Ok(Self { result, columns, formats, rows: None, zone })
    }
}
