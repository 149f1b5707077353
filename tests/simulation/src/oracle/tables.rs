//! Tables, against an independent replay of their topics.

use std::sync::Arc;

use highwater_pipeline::data::content_type;

use super::mirror::Mirror;
use crate::table::Table;

/// A table never stands where the log does not reach.
///
/// # Errors
/// Where it does.
pub fn check_reach(tables: &[Arc<Table>], mirror: &Mirror) -> Result<(), String> {
    for table in tables {
        for (partition, stands) in table.stands() {
            let end = mirror.records(&(Arc::from(table.topic()), partition)).len() as i64;
            if stands > end {
                let topic = table.topic();
                return Err(format!("the table of {topic}/{partition} stands at {stands}; the log ends at {end}"));
            }
        }
    }
    Ok(())
}

/// A table holds every record of its topic below where it stands, once.
///
/// # Errors
/// Where one is missing or twice.
pub fn check_tables(tables: &[Arc<Table>], mirror: &Mirror) -> Result<(), String> {
    check_reach(tables, mirror)?;
    for table in tables {
        let mut expected = Vec::new();
        for (partition, stands) in table.stands() {
            let records = mirror.records(&(Arc::from(table.topic()), partition));
            let below = records.iter().take_while(|r| r.offset < stands);
            let rows = below.filter(|r| content_type::of(r) != Some(content_type::CONTROL));
            expected.extend(rows.map(|r| (partition, r.offset)));
        }
        let mut rows = table.rows();
        rows.sort_unstable();
        if rows != expected {
            let twice = rows.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
            let missing = expected.iter().find(|row| rows.binary_search(row).is_err());
            return Err(format!(
                "the table of {} has {} rows where a replay has {}; twice: {twice:?}, missing: {missing:?}",
                table.topic(),
                rows.len(),
                expected.len()
            ));
        }
    }
    Ok(())
}
