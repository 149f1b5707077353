//! `/api/v1/parse_query`: the tree of a query, as Prometheus's explainer shows it.

use highwater_promql::parser::{
    Aggregation, At, Binary, Call, Cardinality, DurationExpr, Expr, Extended, Subquery, TimeSpan, ValueType,
    VectorSelector,
};
use highwater_promql::{Matcher, Query, format_float};
use serde_json::{Value, json};

use axum::response::Response;

use super::Request;
use crate::prometheus::Prometheus;
use crate::prometheus::encode::success;
use crate::prometheus::error::ApiError;

/// `GET|POST /api/v1/parse_query`.
pub(super) async fn parse(server: &Prometheus, request: &Request) -> Result<Response, ApiError> {
    let (text, options) = (request.form.value("query").to_owned(), server.parser_options());
    // Trees are deep as the query is: on a thread with the stack for it.
    let parsed = server.on_thread(move || Query::parse(&text, &options).map(|query| success(&tree(query.expr()))));
    parsed.await?.map_err(|e| ApiError::from(e).in_parameter("query"))
}

fn tree(expr: &Expr) -> Value {
    match expr {
        Expr::Number { value, .. } => json!({ "type": "numberLiteral", "val": format_float(*value) }),
        Expr::String { value, .. } => json!({ "type": "stringLiteral", "val": value }),
        Expr::Vector(v) => selector("vectorSelector", v, None),
        Expr::Matrix(m) => selector("matrixSelector", &m.vector, Some(&m.range)),
        Expr::Subquery(s) => subquery(s),
        Expr::Aggregation(a) => aggregation(a),
        Expr::Binary(b) => binary(b),
        Expr::Call(call) => function(call),
        Expr::Paren { inner, .. } => json!({ "type": "parenExpr", "expr": tree(inner) }),
        Expr::Unary { negative, inner, .. } => {
            json!({ "type": "unaryExpr", "op": if *negative { "-" } else { "+" }, "expr": tree(inner) })
        }
        // Only a plan has these.
        Expr::StepInvariant(inner) => tree(inner),
    }
}

fn selector(kind: &str, v: &VectorSelector, range: Option<&TimeSpan>) -> Value {
    let mut out = json!({
        "type": kind,
        "name": v.name,
        "offset": v.offset.ms,
        "offsetExpr": duration_of(&v.offset),
        "matchers": v.matchers.iter().map(matcher).collect::<Vec<_>>(),
        "timestamp": timestamp(v.at),
        "startOrEnd": start_or_end(v.at),
        "anchored": v.extended == Some(Extended::Anchored),
        "smoothed": v.extended == Some(Extended::Smoothed),
    });
    if let Some(range) = range {
        out["range"] = range.ms.into();
        out["rangeExpr"] = duration_of(range);
    }
    out
}

fn matcher(m: &Matcher) -> Value {
    json!({ "name": m.label, "value": m.value, "type": m.op.as_str() })
}

fn timestamp(at: Option<At>) -> Value {
    match at {
        Some(At::Time(ms)) => ms.into(),
        _ => Value::Null,
    }
}

fn start_or_end(at: Option<At>) -> Value {
    match at {
        Some(At::Start) => "start".into(),
        Some(At::End) => "end".into(),
        _ => Value::Null,
    }
}

fn subquery(s: &Subquery) -> Value {
    json!({
        "type": "subquery",
        "expr": tree(&s.expr),
        "range": s.range.ms,
        "rangeExpr": duration_of(&s.range),
        "offset": s.offset.ms,
        "offsetExpr": duration_of(&s.offset),
        "step": s.step.ms,
        "stepExpr": duration_of(&s.step),
        "timestamp": timestamp(s.at),
        "startOrEnd": start_or_end(s.at),
    })
}

fn aggregation(a: &Aggregation) -> Value {
    json!({
        "type": "aggregation",
        "op": a.op.as_str(),
        "expr": tree(&a.expr),
        "param": a.parameter.as_ref().map_or(Value::Null, tree),
        "grouping": a.grouping,
        "without": a.without,
    })
}

fn binary(b: &Binary) -> Value {
    // Where a side is a scalar there is nothing to match.
    let vectors = b.left.value_type() == ValueType::Vector && b.right.value_type() == ValueType::Vector;
    let matching = b.matching.as_ref().filter(|_| vectors).map(|m| {
        let cardinality = match m.cardinality {
            _ if b.op.is_set() => "many-to-many",
            Cardinality::OneToOne => "one-to-one",
            Cardinality::ManyToOne => "many-to-one",
            Cardinality::OneToMany => "one-to-many",
            Cardinality::ManyToMany => "many-to-many",
        };
        json!({
            "card": cardinality,
            "labels": m.labels,
            "on": m.on,
            "include": m.include,
            "fillValues": { "lhs": m.fill_left, "rhs": m.fill_right },
        })
    });
    json!({
        "type": "binaryExpr",
        "op": b.op.as_str(),
        "lhs": tree(&b.left),
        "rhs": tree(&b.right),
        "matching": matching,
        "bool": b.return_bool,
    })
}

fn function(call: &Call) -> Value {
    let function = call.function;
    json!({
        "type": "call",
        "func": {
            "name": function.name,
            "argTypes": function.args.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
            "variadic": function.variadic,
            "returnType": function.returns.name(),
        },
        "args": call.args.iter().map(tree).collect::<Vec<_>>(),
    })
}

fn duration_of(span: &TimeSpan) -> Value {
    span.expr.as_deref().map_or(Value::Null, |expr| duration(expr, false))
}

/// A duration; `wrapped` in parentheses.
fn duration(expr: &DurationExpr, wrapped: bool) -> Value {
    let node = |op: &str, left: Value, right: Value| json!({ "type": "durationExpr", "op": op, "lhs": left, "rhs": right, "wrapped": wrapped });
    match expr {
        DurationExpr::Number { value, is_duration, .. } => {
            let number = json!({ "type": "numberLiteral", "val": format_float(*value), "duration": is_duration });
            // A number has no place for parentheses; a plus in front of it has.
            if wrapped { node("+", Value::Null, number) } else { number }
        }
        DurationExpr::Step(_) => node("step", Value::Null, Value::Null),
        DurationExpr::Range(_) => node("range", Value::Null, Value::Null),
        DurationExpr::Extreme { max, left, right, .. } => {
            node(if *max { "max_of" } else { "min_of" }, duration(left, false), duration(right, false))
        }
        DurationExpr::Negative(inner, _) => node("-", Value::Null, duration(inner, false)),
        DurationExpr::Binary { op, left, right } => node(op.as_str(), duration(left, false), duration(right, false)),
        DurationExpr::Paren(inner, _) => duration(inner, true),
    }
}
