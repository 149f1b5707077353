//! What Postgres and DuckDB write otherwise than the engine: the tree is changed into what it knows, with the column's name as it was.
//!
//! | written | planned |
//! |---|---|
//! | `t AT TIME ZONE zone`, `date_trunc(unit, t, zone)` | `timezone(zone, t)`, and `date_trunc` between two of them |
//! | `x::float` | a float of 64 bits |
//! | `TIMESTAMP '2026-01-02 03:04'` | with seconds |
//! | `FROM generate_series(...) g`, where somebody says `g` | the column is called so, too |
//! | `FROM generate_series(...) WITH ORDINALITY` | a query with `row_number()` |
//! | `m LIKE ANY (ARRAY['a%', 'b%'])`, `substring(m FROM '\d+')` | `LIKE`s with OR between, `regexp_substr(m, '\d+')` |
//! | `x #> '{a,0}'`, `#>>`, `jsonb_extract_path_text(x, 'a')` | `json_get(x, 'a', 0)`, `json_as_text(...)` |
//! | `jsonb_array_elements(x)`, `jsonb_object_keys(x)` | `unnest` of the array, of the keys |
//! | `json_object_agg(k, v)` | `string_agg` of the pairs, in braces |
//! | `age(t)`, `mod(a, b)`, `make_interval(hours => 2)`, `clock_timestamp()` | `age(current_date, t)`, `a % b`, all its arguments, `now()` |
//! | `to_timestamp(x, 'YYYY-MM-DD')`, `to_date(...)` | with the patterns of `strftime` |

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName,
    Query, SelectItem, SetExpr, Statement, TableFactor, Value, VisitMut, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use highwater_pipeline::functions::strftime;

/// The arguments of `make_interval`, in order.
const INTERVAL_PARTS: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];

/// Changes a statement into what the engine knows.
pub(crate) fn respell(statement: &mut Statement) {
    let mut said = Said::default();
    let _all: ControlFlow<()> = ast::Visit::visit(statement, &mut said);
    let _all: ControlFlow<()> = statement.visit(&mut Speller { said: said.0 });
}

/// Names that stand alone somewhere in the statement, or as `g.g`.
#[derive(Default)]
struct Said(HashSet<String>);

impl Visitor for Said {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(name) => {
                self.0.insert(folded(name));
            }
            Expr::CompoundIdentifier(parts) => {
                if let [table, column] = parts.as_slice()
                    && folded(table) == folded(column)
                {
                    self.0.insert(folded(column));
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

struct Speller {
    said: HashSet<String>,
}

impl VisitorMut for Speller {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = query.body.as_mut() else { return ControlFlow::Continue(()) };
        for item in &mut select.projection {
            // What it is called does not change with what it is made into.
            if let SelectItem::UnnamedExpr(Expr::Function(function)) = item
                && let Some(name) = bare(&function.name)
                && is_changed(&name, function)
            {
                let expr = Expr::Function(function.clone());
                *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) };
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name, args: Some(args), alias, with_ordinality, .. } = factor else {
            return ControlFlow::Continue(());
        };
        let Some(function) = bare(name) else { return ControlFlow::Continue(()) };
        if function == "generate_series"
            && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(width))) = args.args.get_mut(2)
            && let Expr::Value(value) = width
            && let Value::SingleQuotedString(words) = &value.value
            && let Some(interval) = expression(&format!("INTERVAL '{}'", words.replace('\'', "''")))
        {
            *width = interval;
        }
        let arguments = || args.args.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let shown = match alias {
            Some(alias) if alias.explicit => alias.to_string(),
            Some(alias) => format!("AS {alias}"),
            None => format!("AS {function}"),
        };
        let elements = elements_of(&function);
        if elements.is_some() {
            let from = format!("(SELECT {function}({}) AS value) {shown}", arguments());
            if let Some(table) = table(&from) {
                *factor = table;
            }
            return ControlFlow::Continue(());
        }
        if !matches!(function.as_str(), "generate_series" | "range") {
            return ControlFlow::Continue(());
        }
        if *with_ordinality {
            let from =
                format!("(SELECT value, row_number() OVER () AS ordinality FROM {function}({})) {shown}", arguments());
            if let Some(table) = table(&from) {
                *factor = table;
            }
        } else if let Some(alias) = alias
            && alias.columns.is_empty()
            && self.said.contains(&folded(&alias.name))
        {
            alias.columns = vec![ast::TableAliasColumnDef { name: alias.name.clone(), data_type: None }];
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(changed) = changed(expr) {
            *expr = changed;
        }
        ControlFlow::Continue(())
    }
}

/// The function's name, where nothing but `pg_catalog` stands before it.
fn bare(name: &ObjectName) -> Option<String> {
    let ident = |part: &ast::ObjectNamePart| part.as_ident().map(folded);
    match name.0.as_slice() {
        [part] => ident(part),
        [schema, part] if ident(schema).as_deref() == Some("pg_catalog") => ident(part),
        _ => None,
    }
}

fn table(from: &str) -> Option<TableFactor> {
    let sql = format!("SELECT * FROM {from}");
    let Statement::Query(query) = Parser::parse_sql(&PostgreSqlDialect {}, &sql).ok()?.pop()? else { return None };
    let SetExpr::Select(mut select) = *query.body else { return None };
    select.from.pop().map(|from| from.relation)
}

fn expression(sql: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).and_then(|mut parser| parser.parse_expr()).ok()
}

fn text(text: impl Into<String>) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.into()).with_empty_span())
}

fn number(number: impl ToString) -> Expr {
    Expr::Value(Value::Number(number.to_string(), false).with_empty_span())
}

fn string_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        Expr::Cast { expr, .. } | Expr::Nested(expr) => string_of(expr),
        _ => None,
    }
}

fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let args = arguments.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    let list = ast::FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() };
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(list),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// The arguments of a function, where they are plain values.
fn arguments(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let plain = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    list.args.iter().map(plain).collect()
}

/// True for a function that is called otherwise once it is changed.
fn is_changed(name: &str, function: &Function) -> bool {
    elements_of(name).is_some() || changed_call(name, function).is_some()
}

/// What there is of a JSON text in several rows, as an array of it.
fn elements_of(name: &str) -> Option<&'static str> {
    match name {
        "json_array_elements" | "jsonb_array_elements" | "json_array_elements_text" | "jsonb_array_elements_text" => {
            Some("json_get_array")
        }
        "jsonb_object_keys" => Some("json_object_keys"),
        _ => None,
    }
}

fn changed(expr: &mut Expr) -> Option<Expr> {
    match expr {
        Expr::AtTimeZone { timestamp, time_zone } => {
            Some(call("timezone", vec![Expr::clone(time_zone), Expr::clone(timestamp)]))
        }
        Expr::TypedString(typed) if is_time(&typed.data_type) => {
            if let Value::SingleQuotedString(text) = &mut typed.value.value
                && let Some(whole) = with_seconds(text)
            {
                *text = whole;
            }
            None
        }
        Expr::Cast { data_type, expr: of, .. } => {
            if let DataType::Float(ast::ExactNumberInfo::None) = data_type {
                *data_type = DataType::DoublePrecision;
            }
            if is_time(data_type)
                && let Expr::Value(value) = of.as_mut()
                && let Value::SingleQuotedString(text) = &mut value.value
                && let Some(whole) = with_seconds(text)
            {
                *text = whole;
            }
            None
        }
        Expr::BinaryOp { left, op: op @ (BinaryOperator::HashArrow | BinaryOperator::HashLongArrow), right } => {
            let path = string_of(right)?.trim().strip_prefix('{')?.strip_suffix('}')?;
            let mut arguments = vec![Expr::clone(left)];
            arguments.extend(path.split(',').map(str::trim).filter(|step| !step.is_empty()).map(step));
            let function = if *op == BinaryOperator::HashArrow { "json_get" } else { "json_as_text" };
            Some(call(function, arguments))
        }
        Expr::Like { any: true, pattern, .. } | Expr::ILike { any: true, pattern, .. } => {
            let patterns = elements(pattern)?;
            let each = patterns.into_iter().map(|one| {
                let mut compared = expr.clone();
                if let Expr::Like { any, pattern, .. } | Expr::ILike { any, pattern, .. } = &mut compared {
                    (*any, **pattern) = (false, one);
                }
                compared
            });
            let any = each.reduce(|left, right| Expr::BinaryOp {
                left: Box::new(left),
                op: BinaryOperator::Or,
                right: Box::new(right),
            });
            Some(Expr::Nested(Box::new(any?)))
        }
        Expr::Substring { expr: of, substring_from: Some(pattern), substring_for: None, .. } => {
            let regex = string_of(pattern)?;
            let arguments = vec![Expr::clone(of), Expr::clone(pattern)];
            Some(if regex.replace("\\(", "").replace("(?:", "").contains('(') {
                let group = call("regexp_extract", [arguments, vec![number(1)]].concat());
                call("nullif", vec![group, text("")])
            } else {
                call("regexp_substr", arguments)
            })
        }
        Expr::Function(function) => changed_call(&bare(&function.name)?, function),
        _ => None,
    }
}

/// The elements of `ARRAY[...]` and of `(...)`.
fn elements(list: &Expr) -> Option<Vec<Expr>> {
    match list {
        Expr::Array(array) => Some(array.elem.clone()),
        Expr::Tuple(elements) => Some(elements.clone()),
        Expr::Nested(one) => elements(one).or_else(|| Some(vec![Expr::clone(one)])),
        _ => None,
    }
}

/// A step into JSON: a number goes into an array.
fn step(step: &str) -> Expr {
    match step.parse::<i64>() {
        Ok(index) => number(index),
        Err(_) => text(step.trim_matches('"')),
    }
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::TimestampNtz(_) | DataType::Datetime(_))
}

/// `2026-01-02 03:04`, perhaps with a zone, with seconds; `None` for what is no such time.
pub(crate) fn with_seconds(time: &str) -> Option<String> {
    let trimmed = time.trim();
    let pattern = b"dddd-dd-dd dd:dd";
    let (head, zone) = (trimmed.get(..pattern.len())?, trimmed.get(pattern.len()..)?);
    let fits = |(byte, wanted): (u8, &u8)| match wanted {
        b'd' => byte.is_ascii_digit(),
        b' ' => matches!(byte, b' ' | b'T' | b't'),
        other => byte == *other,
    };
    let is_zone = zone.is_empty()
        || zone.eq_ignore_ascii_case("z")
        || zone.trim_start().starts_with(['+', '-'])
        || zone.strip_prefix(' ').is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()));
    (is_zone && head.bytes().zip(pattern).all(fits)).then(|| format!("{head}:00{zone}"))
}

fn changed_call(name: &str, function: &Function) -> Option<Expr> {
    if let "json_object_agg" | "jsonb_object_agg" = name {
        return object_agg(name, function);
    }
    if name == "make_interval" {
        return make_interval(function);
    }
    let mut arguments = arguments(function)?;
    match (name, arguments.len()) {
        ("date_trunc", 3) => {
            let zone = arguments.pop()?;
            let time = call("timezone", vec![zone.clone(), arguments.pop()?]);
            arguments.push(time);
            Some(call("timezone", vec![zone, call("date_trunc", arguments)]))
        }
        ("age", 1) => {
            let today = Expr::Cast {
                kind: ast::CastKind::Cast,
                expr: Box::new(call("current_date", Vec::new())),
                data_type: DataType::Timestamp(None, ast::TimezoneInfo::None),
                array: false,
                format: None,
            };
            arguments.insert(0, today);
            Some(call("age", arguments))
        }
        ("mod", 2) => {
            let (right, left) = (arguments.pop()?, arguments.pop()?);
            let nested = |expr| Box::new(Expr::Nested(Box::new(expr)));
            Some(Expr::Nested(Box::new(Expr::BinaryOp {
                left: nested(left),
                op: BinaryOperator::Modulo,
                right: nested(right),
            })))
        }
        ("sign", 1) => Some(call("signum", arguments)),
        ("clock_timestamp" | "statement_timestamp" | "transaction_timestamp", 0) => Some(call("now", arguments)),
        ("to_timestamp" | "to_date", 2) => {
            let pattern = string_of(&arguments[1]).filter(|pattern| !pattern.contains('%'))?;
            let is_postgres = ["YY", "MM", "DD", "HH", "MI", "SS"].iter().any(|part| pattern.contains(part));
            let pattern = is_postgres.then(|| strftime(pattern))?;
            arguments[1] = text(pattern);
            Some(call(name, arguments))
        }
        ("json_extract_path_text" | "jsonb_extract_path_text", 1..) => Some(call("json_as_text", stepped(arguments))),
        ("json_extract_path" | "jsonb_extract_path", 1..) => Some(call("json_get", stepped(arguments))),
        ("json_array_length" | "jsonb_array_length", 1) => Some(call("json_length", arguments)),
        (name, 1) => {
            let rows = call("unnest", vec![call(elements_of(name)?, arguments)]);
            Some(if name.ends_with("_text") { call("json_unquoted", vec![rows]) } else { rows })
        }
        _ => None,
    }
}

/// Where literals are steps into JSON that are numbers, they go into arrays.
fn stepped(mut arguments: Vec<Expr>) -> Vec<Expr> {
    for argument in arguments.iter_mut().skip(1) {
        if let Some(index) = string_of(argument).and_then(|text| text.parse::<i64>().ok()) {
            *argument = number(index);
        }
    }
    arguments
}

/// `json_object_agg(k, v)` as `json_object_of(string_agg(json_pair(k, v), ', '))`, with its order and filter.
fn object_agg(name: &str, function: &Function) -> Option<Expr> {
    let pair = call("json_pair", arguments(function).filter(|arguments| arguments.len() == 2)?);
    let mut gathered = function.clone();
    gathered.name = ObjectName::from(vec![Ident::new("string_agg")]);
    if let FunctionArguments::List(list) = &mut gathered.args {
        list.args = [pair, text(", ")].map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).to_vec();
    }
    let whole = if name.starts_with("jsonb") { "jsonb_object_of" } else { "json_object_of" };
    Some(call(whole, vec![Expr::Function(gathered)]))
}

/// With names, the arguments may stand in any order, and some be missing.
fn make_interval(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let is_named = |argument: &FunctionArg| !matches!(argument, FunctionArg::Unnamed(_));
    if !list.args.iter().any(is_named) {
        return None;
    }
    let mut parts: Vec<Expr> = INTERVAL_PARTS.iter().map(|_| number(0)).collect();
    for (at, argument) in list.args.iter().enumerate() {
        let (at, value) = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (at, value),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => {
                (INTERVAL_PARTS.iter().position(|part| *part == folded(name))?, value)
            }
            FunctionArg::ExprNamed { name: Expr::Identifier(name), arg: FunctionArgExpr::Expr(value), .. } => {
                (INTERVAL_PARTS.iter().position(|part| *part == folded(name))?, value)
            }
            _ => return None,
        };
        *parts.get_mut(at)? = value.clone();
    }
    Some(call("make_interval", parts))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use highwater_pipeline::functions::HighwaterDialect;

    use crate::guard;

    #[test]
    fn what_others_write_becomes_what_the_engine_knows() {
        for (sql, expected) in [
            ("SELECT t AT TIME ZONE 'Europe/Zurich' FROM x", "SELECT timezone('Europe/Zurich', t) FROM x"),
            (
                "SELECT date_trunc('day', t, 'UTC') FROM x GROUP BY date_trunc('day', t, 'UTC')",
                "SELECT timezone('UTC', date_trunc('day', timezone('UTC', t))) AS \"date_trunc\" FROM x GROUP BY timezone('UTC', date_trunc('day', timezone('UTC', t)))",
            ),
            ("SELECT date_trunc('day', t) FROM x", "SELECT date_trunc('day', t) FROM x"),
            ("SELECT a::float, CAST(b AS real)", "SELECT a::DOUBLE PRECISION, CAST(b AS REAL)"),
            ("SELECT TIMESTAMP '2026-01-02 03:04+01'", "SELECT TIMESTAMP '2026-01-02 03:04:00+01'"),
            ("SELECT g FROM generate_series(1, 3) g", "SELECT g FROM generate_series(1, 3) g (g)"),
            ("SELECT g.value FROM generate_series(1, 3) g", "SELECT g.value FROM generate_series(1, 3) g"),
            (
                "SELECT * FROM generate_series(1, 3) WITH ORDINALITY AS t(x, n)",
                "SELECT * FROM (SELECT value, row_number() OVER () AS ordinality FROM generate_series(1, 3)) AS t (x, n)",
            ),
            ("SELECT x #> '{a, 0}', x #>> '{b}'", "SELECT json_get(x, 'a', 0), json_as_text(x, 'b')"),
            (
                "SELECT json_object_agg(k, v ORDER BY k) FILTER (WHERE v > 0) FROM x",
                "SELECT json_object_of(string_agg(json_pair(k, v), ', ' ORDER BY k) FILTER (WHERE v > 0)) AS \"json_object_agg\" FROM x",
            ),
            (
                "SELECT 1 FROM x WHERE m NOT ILIKE ANY (ARRAY['a%', 'b%'])",
                "SELECT 1 FROM x WHERE (m NOT ILIKE 'a%' OR m NOT ILIKE 'b%')",
            ),
            (
                "SELECT h FROM generate_series(a, b, '1 hour') AS h",
                "SELECT h FROM generate_series(a, b, INTERVAL '1 hour') AS h (h)",
            ),
            ("SELECT substring(m FROM '\\d+') AS d", "SELECT regexp_substr(m, '\\d+') AS d"),
            (
                "SELECT substring(m FROM 'a(\\d)') AS d, substring(m FROM 2) AS s",
                "SELECT nullif(regexp_extract(m, 'a(\\d)', 1), '') AS d, SUBSTRING(m FROM 2) AS s",
            ),
            ("SELECT mod(a + 1, b) AS m", "SELECT ((a + 1) % (b)) AS m"),
            ("SELECT make_interval(mins => 5) AS i", "SELECT make_interval(0, 0, 0, 0, 0, 5, 0) AS i"),
            ("SELECT to_date(d, 'YYYYMMDD') AS d", "SELECT to_date(d, '%Y%m%d') AS d"),
            (
                "SELECT value FROM jsonb_array_elements_text('[1]')",
                "SELECT value FROM (SELECT json_unquoted(unnest(json_get_array('[1]'))) AS value) AS jsonb_array_elements_text",
            ),
        ] {
            assert_eq!(guard::parse(sql, &HighwaterDialect).unwrap().to_string(), expected, "{sql}");
        }
    }

    #[test]
    fn times_without_seconds() {
        let with = super::with_seconds;
        assert_eq!(with("2026-01-02 03:04").as_deref(), Some("2026-01-02 03:04:00"));
        assert_eq!(with("2026-01-02T03:04Z").as_deref(), Some("2026-01-02T03:04:00Z"));
        assert_eq!(with("2026-01-02 03:04 Europe/Zurich").as_deref(), Some("2026-01-02 03:04:00 Europe/Zurich"));
        for other in ["2026-01-02 03:04:05", "2026-01-02", "2026-01-02 03:04 5", "ï2026-01-02 03:04", ""] {
            assert_eq!(with(other), None, "{other}");
        }
    }
}
