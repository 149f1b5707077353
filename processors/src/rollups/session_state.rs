//! Sessions in a snapshot: a batch with a row for each session, and one with a row for each fragment, in the same order.
//!
//! | sessions | | fragments | |
//! |---|---|---|---|
//! | `start_us`, `last_us` | Int64 | `source` | Int32 |
//! | `phase` | Int32: 0 open, 1 late, 2 closed | `arrived` | Int64 |
//! | `since_us` | Int64: of the phase; 0 where open | `size_bytes` | Int64 |
//! | `fragments` | Int64: how many it has | the columns of a partial | |
//! | `written` | List of Int64: starts its rows stand under | | |

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, Int64Builder, ListBuilder};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result};

use super::folding::Phase;
use super::fragments::{Fragment, Fragments};
use super::plan::RollupPlan;
use super::sessions::Session;

/// Columns before those of a partial.
const FRAGMENT_COLUMNS: usize = 3;

/// A session read back.
pub(super) struct Saved {
    /// A partial of one row, of its group.
    pub(super) group: RecordBatch,
    pub(super) start_us: i64,
    pub(super) session: Session,
}

/// The two batches; none where there is no session.
pub(super) fn write(
    plan: &RollupPlan,
    fragments: &Fragments,
    sessions: &[(i64, &Session)],
) -> Result<Vec<RecordBatch>> {
    if sessions.is_empty() {
        return Ok(Vec::new());
    }
    let numbers = |of: &dyn Fn(&(i64, &Session)) -> i64| -> ArrayRef {
        Arc::new(sessions.iter().map(|session| Some(of(session))).collect::<Int64Array>())
    };
    let phase: Int32Array = sessions.iter().map(|(_, session)| Some(split(session.phase).0)).collect();
    let mut written = ListBuilder::new(Int64Builder::new());
    for (_, session) in sessions {
        session.written.iter().for_each(|&start_us| written.values().append_value(start_us));
        written.append(true);
    }
    let described = RecordBatch::try_from_iter([
        ("start_us", numbers(&|(start_us, _)| *start_us)),
        ("last_us", numbers(&|(_, session)| session.last_us)),
        ("phase", Arc::new(phase) as ArrayRef),
        ("since_us", numbers(&|(_, session)| split(session.phase).1)),
        ("fragments", numbers(&|(_, session)| session.fragments.len() as i64)),
        ("written", Arc::new(written.finish()) as ArrayRef),
    ])?;
    let all: Vec<&Fragment> = sessions.iter().flat_map(|(_, session)| &session.fragments).collect();
    let source: Int32Array = all.iter().map(|f| i32::try_from(f.source).ok()).collect();
    let arrived: Int64Array = all.iter().map(|f| Some(f.arrived)).collect();
    let size: Int64Array = all.iter().map(|f| Some(i64::from(f.size_bytes))).collect();
    let gathered: Vec<(i64, &[Fragment])> =
        sessions.iter().map(|(us, session)| (*us, &session.fragments[..])).collect();
    let partial = fragments.gather(plan, &gathered)?;
    let mut columns: Vec<(&str, ArrayRef)> =
        vec![("source", Arc::new(source)), ("arrived", Arc::new(arrived)), ("size_bytes", Arc::new(size))];
    let schema = partial.schema();
    columns.extend(schema.fields().iter().zip(partial.columns()).map(|(f, c)| (f.name().as_str(), Arc::clone(c))));
    Ok(vec![described, RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))?])
}

/// Reads them back; the fragments go where they are kept.
pub(super) fn read(plan: &RollupPlan, fragments: &mut Fragments, batches: &[RecordBatch]) -> Result<Vec<Saved>> {
    let incomplete = || DataFusionError::Internal("the state of sessions is incomplete".to_owned());
    let (described, all) = match batches {
        [] => return Ok(Vec::new()),
        [described, all] => (described, all),
        _ => return Err(incomplete()),
    };
    let number = |batch: &RecordBatch, name: &str| -> Result<Int64Array> {
        let column = batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>());
        column.cloned().ok_or_else(incomplete)
    };
    let partial = RecordBatch::try_new(
        Arc::clone(&plan.partial_schema),
        all.columns().get(FRAGMENT_COLUMNS..).ok_or_else(incomplete)?.to_vec(),
    )?;
    let source = all.column(0).as_primitive_opt::<Int32Type>().ok_or_else(incomplete)?;
    let (arrived, size) = (number(all, "arrived")?, number(all, "size_bytes")?);
    let mut read: Vec<Fragment> = (0..all.num_rows())
        .map(|row| {
            let source = usize::try_from(source.value(row)).unwrap_or(0);
            Fragments::described(source, arrived.value(row), u32::try_from(size.value(row)).unwrap_or(u32::MAX))
        })
        .collect();
    fragments.adopt(partial.clone(), &mut read);
    let (start_us, last_us) = (number(described, "start_us")?, number(described, "last_us")?);
    let (since_us, counts) = (number(described, "since_us")?, number(described, "fragments")?);
    let phase =
        described.column_by_name("phase").and_then(|c| c.as_primitive_opt::<Int32Type>()).ok_or_else(incomplete)?;
    let written = described.column_by_name("written").and_then(|c| c.as_list_opt::<i32>()).ok_or_else(incomplete)?;
    let mut from = 0;
    let mut saved = Vec::with_capacity(described.num_rows());
    for row in 0..described.num_rows() {
        let count = usize::try_from(counts.value(row)).unwrap_or(0);
        let own = read.get(from..from + count).filter(|own| !own.is_empty()).ok_or_else(incomplete)?;
        let written = written.value(row);
        saved.push(Saved {
            group: partial.slice(from, 1),
            start_us: start_us.value(row),
            session: Session {
                last_us: last_us.value(row),
                phase: joined(phase.value(row), since_us.value(row)).ok_or_else(incomplete)?,
                fragments: own.to_vec(),
                written: written.as_primitive::<Int64Type>().values().to_vec(),
            },
        });
        from += count;
    }
    Ok(saved)
}

fn split(phase: Phase) -> (i32, i64) {
    match phase {
        Phase::Open => (0, 0),
        Phase::Late(since_us) => (1, since_us),
        Phase::Closed(since_us) => (2, since_us),
    }
}

fn joined(phase: i32, since_us: i64) -> Option<Phase> {
    match phase {
        0 => Some(Phase::Open),
        1 => Some(Phase::Late(since_us)),
        2 => Some(Phase::Closed(since_us)),
        _ => None,
    }
}
