//! Tree to text: on one line, and split over lines as `format_query` does.

use std::fmt::{self, Display, Formatter, Write as _};

use super::ast::{
    Aggregation, At, Binary, Cardinality, DurationExpr, Expr, Extended, MatrixSelector, Subquery, TimeSpan,
    VectorSelector,
};
use super::numbers::format_duration_ms;
use crate::labels::{METRIC_NAME, Quoted, is_classic_label_name};
use crate::source::MatchOp;
use crate::value::{format_float, format_float_g};

/// Characters from which on an expression is split over lines.
const MAX_LINE: usize = 100;

fn labels(names: &[String]) -> String {
    names
        .iter()
        .map(|n| if is_classic_label_name(n) { n.clone() } else { Quoted(n).to_string() })
        .collect::<Vec<_>>()
        .join(", ")
}

fn number(value: f64, is_duration: bool) -> String {
    if is_duration {
        return format_duration_ms((value * 1000.0).round() as i64);
    }
    format_float(value)
}

fn span(span: &TimeSpan) -> String {
    span.expr.as_ref().map_or_else(|| format_duration_ms(span.ms), ToString::to_string)
}

fn offset(f: &mut Formatter<'_>, offset: &TimeSpan) -> fmt::Result {
    if offset.is_set() { write!(f, " offset {}", span(offset)) } else { Ok(()) }
}

fn at(f: &mut Formatter<'_>, at: Option<At>) -> fmt::Result {
    match at {
        None => Ok(()),
        Some(At::Start) => f.write_str(" @ start()"),
        Some(At::End) => f.write_str(" @ end()"),
        Some(At::Time(ms)) => write!(f, " @ {:.3}", ms as f64 / 1000.0),
    }
}

fn extended(f: &mut Formatter<'_>, extended: Option<Extended>) -> fmt::Result {
    match extended {
        None => Ok(()),
        Some(Extended::Anchored) => f.write_str(" anchored"),
        Some(Extended::Smoothed) => f.write_str(" smoothed"),
    }
}

fn bare_selector(f: &mut Formatter<'_>, v: &VectorSelector) -> fmt::Result {
    f.write_str(&v.name)?;
    let is_name = |m: &&crate::Matcher| {
        m.label == METRIC_NAME && m.op == MatchOp::Equal && m.value == v.name && !m.value.is_empty()
    };
    let mut matchers: Vec<String> = v.matchers.iter().filter(|m| !is_name(m)).map(ToString::to_string).collect();
    matchers.sort();
    if matchers.is_empty() && !v.name.is_empty() { Ok(()) } else { write!(f, "{{{}}}", matchers.join(",")) }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        bare_selector(f, self)?;
        at(f, self.at)?;
        extended(f, self.extended)?;
        offset(f, &self.offset)
    }
}

impl Display for MatrixSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        bare_selector(f, &self.vector)?;
        write!(f, "[{}]", span(&self.range))?;
        extended(f, self.vector.extended)?;
        at(f, self.vector.at)?;
        offset(f, &self.vector.offset)
    }
}

struct SubquerySuffix<'a>(&'a Subquery);

impl Display for SubquerySuffix<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let step = if self.0.step.is_set() { span(&self.0.step) } else { String::new() };
        write!(f, "[{}:{step}]", span(&self.0.range))?;
        at(f, self.0.at)?;
        offset(f, &self.0.offset)
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            DurationExpr::Number { value, is_duration, .. } => f.write_str(&number(*value, *is_duration)),
            DurationExpr::Step(_) => f.write_str("step()"),
            DurationExpr::Range(_) => f.write_str("range()"),
            DurationExpr::Extreme { max, left, right, .. } => {
                write!(f, "{}({left}, {right})", if *max { "max_of" } else { "min_of" })
            }
            DurationExpr::Negative(inner, _) => write!(f, "-{inner}"),
            DurationExpr::Binary { op, left, right } => write!(f, "{left} {} {right}", op.as_str()),
            DurationExpr::Paren(inner, _) => write!(f, "({inner})"),
        }
    }
}

struct AggregationHead<'a>(&'a Aggregation);

impl Display for AggregationHead<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let a = self.0;
        f.write_str(a.op.as_str())?;
        if a.without {
            write!(f, " without ({}) ", labels(&a.grouping))
        } else if a.grouping.is_empty() {
            Ok(())
        } else {
            write!(f, " by ({}) ", labels(&a.grouping))
        }
    }
}

struct Operator<'a>(&'a Binary);

impl Display for Operator<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let b = self.0;
        f.write_str(b.op.as_str())?;
        if b.return_bool {
            f.write_str(" bool")?;
        }
        let Some(m) = &b.matching else { return Ok(()) };
        let grouped = matches!(m.cardinality, Cardinality::ManyToOne | Cardinality::OneToMany);
        if !m.labels.is_empty() || m.on || grouped {
            write!(f, " {} ({})", if m.on { "on" } else { "ignoring" }, labels(&m.labels))?;
        }
        if grouped {
            let side = if m.cardinality == Cardinality::ManyToOne { "left" } else { "right" };
            write!(f, " group_{side} ({})", labels(&m.include))?;
        }
        match (m.fill_left, m.fill_right) {
            (Some(left), Some(right)) if left == right => write!(f, " fill ({})", format_float_g(left)),
            (left, right) => {
                if let Some(left) = left {
                    write!(f, " fill_left ({})", format_float_g(left))?;
                }
                if let Some(right) = right {
                    write!(f, " fill_right ({})", format_float_g(right))?;
                }
                Ok(())
            }
        }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Number { value, is_duration, .. } => f.write_str(&number(*value, *is_duration)),
            Expr::String { value, .. } => write!(f, "{}", Quoted(value)),
            Expr::Vector(v) => write!(f, "{v}"),
            Expr::Matrix(m) => write!(f, "{m}"),
            Expr::Subquery(s) => write!(f, "{}{}", s.expr, SubquerySuffix(s)),
            Expr::Aggregation(a) => {
                write!(f, "{}(", AggregationHead(a))?;
                if let Some(parameter) = &a.parameter {
                    write!(f, "{parameter}, ")?;
                }
                write!(f, "{})", a.expr)
            }
            Expr::Binary(b) => write!(f, "{} {} {}", b.left, Operator(b), b.right),
            Expr::Call(call) => {
                write!(f, "{}(", call.function.name)?;
                for (i, arg) in call.args.iter().enumerate() {
                    write!(f, "{}{arg}", if i == 0 { "" } else { ", " })?;
                }
                f.write_char(')')
            }
            Expr::Paren { inner, .. } => write!(f, "({inner})"),
            Expr::Unary { negative, inner, .. } => write!(f, "{}{inner}", if *negative { '-' } else { '+' }),
            Expr::StepInvariant(inner) => write!(f, "{inner}"),
        }
    }
}

impl Expr {
    /// As Prometheus's `format_query` writes it: split over lines where it is long.
    #[must_use]
    pub fn pretty(&self) -> String {
        self.pretty_at(0)
    }

    fn pretty_at(&self, level: usize) -> String {
        let indent = "  ".repeat(level);
        let line = self.to_string();
        let short = line.len() <= MAX_LINE;
        match self {
            Expr::Subquery(s) => {
                if short {
                    line
                } else {
                    format!("{}{}", s.expr.pretty_at(level), SubquerySuffix(s))
                }
            }
            Expr::StepInvariant(inner) => inner.pretty_at(level),
            Expr::Unary { negative, inner, .. } => {
                format!("{indent}{}{}", if *negative { '-' } else { '+' }, inner.pretty_at(level).trim())
            }
            Expr::Aggregation(a) if !short => {
                let parameter =
                    a.parameter.as_ref().map_or_else(String::new, |p| format!("{},\n", p.pretty_at(level + 1)));
                format!("{indent}{}(\n{parameter}{}\n{indent})", AggregationHead(a), a.expr.pretty_at(level + 1))
            }
            Expr::Binary(b) if !short => {
                format!("{}\n{indent}{}\n{}", b.left.pretty_at(level + 1), Operator(b), b.right.pretty_at(level + 1))
            }
            Expr::Call(call) if !short => {
                let args: Vec<String> = call.args.iter().map(|a| a.pretty_at(level + 1)).collect();
                format!("{indent}{}(\n{}\n{indent})", call.function.name, args.join(",\n"))
            }
            Expr::Paren { inner, .. } if !short => format!("{indent}(\n{}\n{indent})", inner.pretty_at(level + 1)),
            _ => format!("{indent}{line}"),
        }
    }
}
