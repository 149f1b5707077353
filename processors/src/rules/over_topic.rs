//! A rule in SQL that reads a topic: `FROM logs`, `metrics` or `spans`. It is two things in one text, and is taken apart into them: a rollup, which is what
//! the rule writes, and a rule that takes every row of it.
//!
//! ```yaml
//! - alert: AuthenticationFailures
//!   window: 1m                          # or GROUP BY tumble(...) or hop(...) in the query
//!   sql: >
//!     SELECT host, count(*) AS failures FROM logs
//!     WHERE message ILIKE '%failed password%' GROUP BY host HAVING count(*) > 10
//! ```
//!
//! The window slides by the group's `interval`, or is as long as that where there is none. Over logs the rollup keeps the first lines that matched, which
//! the alert shows.

use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, Query, Select, SelectItem, SetExpr, Statement, TableFactor,
};
use datafusion::sql::sqlparser::parser::Parser;
use highwater_pipeline::functions::{HOP, HighwaterDialect, SESSION, TUMBLE};
use twox_hash::XxHash64;

use super::file::{Rule, RuleGroup};
use crate::rollups::{RollupConfig, Source};

/// The column of such a rollup that has the lines.
pub(crate) const LINES: &str = "matching_lines";
/// Longest part of a rollup's name that is the rule's.
const MAX_NAME: usize = 40;

/// What such a rule is taken apart into.
#[derive(Debug)]
pub(super) struct OverTopic {
    /// Rows of the windows in which the rule's condition holds.
    pub(super) rollup: RollupConfig,
    /// The query over it.
    pub(super) sql: String,
}

/// Takes a rule apart; `None` of one that reads no topic. The error is for people.
pub(super) fn take_apart(group: &RuleGroup, rule: &Rule) -> Result<Option<OverTopic>, String> {
    let Some(mut query) = parse(&rule.sql) else { return Ok(None) };
    let SetExpr::Select(select) = &mut *query.body else { return Ok(None) };
    let Some(topic) = table(select).and_then(|name| Source::ALL.into_iter().find(|s| s.topic() == name)) else {
        return match rule.window_ms {
            0 => Ok(None),
            _ => Err("window: it is for rules over logs, metrics or spans; a rollup has its own".to_owned()),
        };
    };
    let topic = topic.topic();
    let name = name(group, rule);
    name_columns(select);
    let columns: Vec<String> = select.projection.iter().filter_map(column_name).collect();
    let GroupByExpr::Expressions(grouped, _) = &mut select.group_by else {
        return Err("sql: GROUP BY ALL does not say what tells alerts apart; name the columns".to_owned());
    };
    let has_window = grouped.iter().chain(projected(&select.projection)).any(is_window);
    match (has_window, rule.window_ms) {
        (true, 0) => {}
        (true, _) => return Err("window: the query has one already, in GROUP BY".to_owned()),
        (false, 0) => {
            return Err(format!(
                "sql: FROM {topic}: over which time? Say `window: 1m` beside `sql:`, or GROUP BY tumble(timestamp, INTERVAL '1 minute')"
            ));
        }
        (false, window_ms) => {
            let interval = |ms: i64| format!("INTERVAL '{ms} milliseconds'");
            let window = match group.interval_ms {
                slide_ms if slide_ms > 0 && slide_ms < window_ms => {
                    format!("{HOP}(timestamp, {}, {})", interval(slide_ms), interval(window_ms))
                }
                _ => format!("{TUMBLE}(timestamp, {})", interval(window_ms)),
            };
            grouped.push(expression(&window).ok_or("window: it is no duration")?);
        }
    }
    if topic == "logs" {
        let filter = projected(&select.projection).find_map(filter_of).map(|f| format!(" FILTER (WHERE {f})"));
        let lines = format!(
            "evidence_lines(timestamp, level, service, host, message, _partition, _offset, _row){}",
            filter.unwrap_or_default()
        );
        let expr = expression(&lines).ok_or("sql: its FILTER is not understood")?;
        select.projection.push(SelectItem::ExprWithAlias { expr, alias: Ident::new(LINES) });
    }
    let sql = format!("SELECT {} FROM {name}", columns.join(", "));
    // Stored rows are no news.
    Ok(Some(OverTopic { rollup: RollupConfig { backfill: false, ..RollupConfig::new(name, query.to_string()) }, sql }))
}

/// Whether a rule's query reads a topic.
pub(super) fn reads_topic(sql: &str) -> bool {
    parse(sql).is_some_and(|query| match &*query.body {
        SetExpr::Select(select) => table(select).is_some_and(|name| Source::ALL.iter().any(|s| s.topic() == name)),
        _ => false,
    })
}

/// The rollup's name: it is a table, too.
fn name(group: &RuleGroup, rule: &Rule) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let mut readable: String = rule.alert.chars().map(letter).collect();
    readable.truncate(MAX_NAME);
    let hash = XxHash64::oneshot(0, format!("{}\0{}", group.name, rule.alert).as_bytes());
    format!("rule_{readable}_{:06x}", hash & 0xff_ffff)
}

/// The query of a text that is one query.
fn parse(sql: &str) -> Option<Query> {
    let mut statements =
        DFParserBuilder::new(sql).with_dialect(&HighwaterDialect).build().ok()?.parse_statements().ok()?;
    let (Some(Parsed::Statement(statement)), None) = (statements.pop_front(), statements.pop_front()) else {
        return None;
    };
    let Statement::Query(query) = *statement else { return None };
    Some(*query)
}

/// The name of the one table that it reads.
fn table(select: &Select) -> Option<String> {
    let [from] = select.from.as_slice() else { return None };
    let TableFactor::Table { name, .. } = &from.relation else { return None };
    from.joins.is_empty().then(|| name.to_string().trim_matches('"').to_owned())
}

fn expression(sql: &str) -> Option<Expr> {
    Parser::new(&HighwaterDialect).try_with_sql(sql).ok()?.parse_expr().ok()
}

/// The expressions of a SELECT list.
fn projected(items: &[SelectItem]) -> impl Iterator<Item = &Expr> {
    items.iter().filter_map(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    })
}

fn is_window(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(function) if [TUMBLE, HOP, SESSION].iter().any(|name| function.name.to_string().eq_ignore_ascii_case(name)))
}

/// The condition of an aggregate's FILTER.
fn filter_of(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Function(function) => function.filter.as_deref(),
        _ => None,
    }
}

/// The column that an item of a SELECT list makes.
fn column_name(item: &SelectItem) -> Option<String> {
    let expr = match item {
        SelectItem::ExprWithAlias { expr, alias } => return (!is_window(expr)).then(|| alias.to_string()),
        SelectItem::UnnamedExpr(expr) => expr,
        _ => return None,
    };
    match expr {
        Expr::Identifier(name) => Some(name.to_string()),
        Expr::CompoundIdentifier(names) => names.last().map(ToString::to_string),
        _ => None,
    }
}

/// Gives what has no name one: `value`, `value_2`, ...
fn name_columns(select: &mut Select) {
    let mut unnamed = 0;
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        if matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
            continue;
        }
        let alias = if is_window(expr) {
            Ident::new("window_start")
        } else {
            unnamed += 1;
            Ident::new(if unnamed == 1 { "value".to_owned() } else { format!("value_{unnamed}") })
        };
        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn apart(interval_ms: i64, window_ms: i64, sql: &str) -> Result<Option<OverTopic>, String> {
        let group = RuleGroup { name: "g".to_owned(), interval_ms, ..RuleGroup::default() };
        let rule = Rule { alert: "SSH brute-force".to_owned(), sql: sql.to_owned(), window_ms, ..Rule::default() };
        take_apart(&group, &rule)
    }

    #[test]
    fn a_rule_over_a_topic_is_a_rollup_and_a_rule() {
        let sql = "SELECT host, count(*) FROM logs WHERE message LIKE '%fail%' GROUP BY host HAVING count(*) > 10";
        let apart = apart(10_000, 60_000, sql).unwrap().unwrap();
        assert!(apart.rollup.name.starts_with("rule_ssh_brute_force_"), "{}", apart.rollup.name);
        assert_eq!(apart.sql, format!("SELECT host, value FROM {}", apart.rollup.name));
        assert_eq!(
            apart.rollup.sql,
            "SELECT host, count(*) AS value, evidence_lines(timestamp, level, service, host, message, _partition, _offset, _row) AS matching_lines \
             FROM logs WHERE message LIKE '%fail%' \
             GROUP BY host, hop(timestamp, INTERVAL '10000 milliseconds', INTERVAL '60000 milliseconds') HAVING count(*) > 10"
        );
        assert!(!apart.rollup.backfill);
    }

    #[test]
    fn the_window_may_stand_in_the_query() {
        let sql = "SELECT tumble(timestamp, INTERVAL '1 minute'), name, max(value) AS high FROM metrics GROUP BY 1, 2";
        let of = apart(0, 0, sql).unwrap().unwrap();
        assert_eq!(of.sql, format!("SELECT name, high FROM {}", of.rollup.name));
        assert!(!of.rollup.sql.contains("evidence_lines"), "{}", of.rollup.sql);
        assert!(apart(0, 60_000, sql).unwrap_err().contains("has one already"));
        assert!(apart(0, 0, "SELECT count(*) AS n FROM logs").unwrap_err().contains("window: 1m"));
    }

    #[test]
    fn a_rule_over_a_rollup_is_left_alone() {
        assert!(apart(0, 0, "SELECT service, n FROM requests WHERE n > 10").unwrap().is_none());
        assert!(apart(0, 60_000, "SELECT service, n FROM requests").unwrap_err().contains("a rollup has its own"));
        assert!(apart(0, 0, "not SQL").unwrap().is_none());
    }
}
