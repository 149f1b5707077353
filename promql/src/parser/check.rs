//! Types: what the grammar lets through and makes no sense.

use super::ast::{AggregateOp, Binary, BinaryOp, Call, Cardinality, Expr, ValueType, VectorSelector};
use crate::error::{ParseError, Span};
use crate::labels::{METRIC_NAME, Quoted};

type Result<T> = std::result::Result<T, ParseError>;

/// Checks a tree; the first problem is the one that Prometheus names first.
pub(super) fn check(text: &str, expr: &Expr) -> Result<()> {
    Checker { text }.expr(expr).map(|_| ())
}

/// Checks a selector that stands alone: it may select everything.
pub(super) fn check_selector(text: &str, selector: &VectorSelector) -> Result<()> {
    Checker { text }.selector(selector, true)
}

struct Checker<'a> {
    text: &'a str,
}

impl Checker<'_> {
    fn error<T>(&self, span: Span, message: impl Into<String>) -> Result<T> {
        Err(ParseError::new(self.text, span, message))
    }

    fn expect(&self, expr: &Expr, wanted: ValueType, context: &str) -> Result<()> {
        let got = self.expr(expr)?;
        if got == wanted {
            return Ok(());
        }
        self.error(expr.span(), format!("expected type {} in {context}, got {}", wanted.describe(), got.describe()))
    }

    fn expr(&self, expr: &Expr) -> Result<ValueType> {
        crate::deep(|| self.expr_inner(expr))
    }

    fn expr_inner(&self, expr: &Expr) -> Result<ValueType> {
        match expr {
            Expr::Number { .. } | Expr::String { .. } => {}
            Expr::Vector(v) => self.selector(v, false)?,
            Expr::Matrix(m) => self.selector(&m.vector, false)?,
            Expr::Subquery(s) => {
                let inner = self.expr(&s.expr)?;
                if inner != ValueType::Vector {
                    let message = format!("subquery is only allowed on instant vector, got {} instead", inner.name());
                    return self.error(expr.span(), message);
                }
            }
            Expr::Aggregation(a) => {
                self.expect(&a.expr, ValueType::Vector, "aggregation expression")?;
                if let Some(parameter) = &a.parameter {
                    let wanted = if a.op == AggregateOp::CountValues { ValueType::String } else { ValueType::Scalar };
                    self.expect(parameter, wanted, "aggregation parameter")?;
                }
            }
            Expr::Binary(b) => self.binary(expr, b)?,
            Expr::Call(call) => self.call(call)?,
            Expr::Paren { inner, .. } | Expr::StepInvariant(inner) => {
                self.expr(inner)?;
            }
            Expr::Unary { inner, span, .. } => {
                let got = self.expr(inner)?;
                if !matches!(got, ValueType::Scalar | ValueType::Vector) {
                    let message = "unary expression only allowed on expressions of type scalar or instant vector, got";
                    return self.error(*span, format!("{message} {}", Quoted(got.describe())));
                }
            }
        }
        Ok(expr.value_type())
    }

    fn binary(&self, expr: &Expr, b: &Binary) -> Result<()> {
        let left = self.expr(&b.left)?;
        let right = self.expr(&b.right)?;
        let operator = || {
            let start = b.left.span().end;
            let spaces = self.text[start..].bytes().take_while(u8::is_ascii_whitespace).count();
            Span { start: start + spaces, end: b.right.span().start }
        };
        if b.return_bool && !b.op.is_comparison() {
            return self.error(operator(), "bool modifier can only be used on comparison operators");
        }
        if b.op.is_comparison() && !b.return_bool && left == ValueType::Scalar && right == ValueType::Scalar {
            return self.error(operator(), "comparisons between scalars must use BOOL modifier");
        }
        let Some(matching) = &b.matching else { return Ok(()) };
        if matching.on
            && let Some(label) = matching.labels.iter().find(|l| matching.include.contains(l))
        {
            return self
                .error(operator(), format!("label {} must not occur in ON and GROUP clause at once", Quoted(label)));
        }
        for (operand, got) in [(&b.left, left), (&b.right, right)] {
            if !matches!(got, ValueType::Scalar | ValueType::Vector) {
                return self
                    .error(operand.span(), "binary expression must contain only scalar and instant vector types");
            }
        }
        let filled = matching.fill_left.is_some() || matching.fill_right.is_some();
        if left != ValueType::Vector || right != ValueType::Vector {
            if !matching.labels.is_empty() {
                return self.error(expr.span(), "vector matching only allowed between instant vectors");
            }
            if filled {
                return self.error(expr.span(), "filling in missing series only allowed between instant vectors");
            }
        } else if b.op.is_set() {
            if matches!(matching.cardinality, Cardinality::OneToMany | Cardinality::ManyToOne) {
                return self.error(expr.span(), format!("no grouping allowed for {} operation", Quoted(b.op.as_str())));
            }
            if filled {
                return self.error(expr.span(), "filling in missing series not allowed for set operators");
            }
        }
        if (left == ValueType::Scalar || right == ValueType::Scalar) && b.op.is_set() {
            let op = Quoted(b.op.as_str());
            return self.error(expr.span(), format!("set operator {op} not allowed in binary scalar expression"));
        }
        if matches!(b.op, BinaryOp::TrimLower | BinaryOp::TrimUpper)
            && left == ValueType::Scalar
            && right == ValueType::Scalar
        {
            let op = Quoted(b.op.as_str());
            return self.error(expr.span(), format!("operator {op} not allowed for Scalar operations"));
        }
        Ok(())
    }

    fn call(&self, call: &Call) -> Result<()> {
        let function = call.function;
        let (wanted, got) = (function.args.len(), call.args.len());
        let name = Quoted(function.name);
        if function.variadic == 0 {
            if wanted != got {
                return self.error(call.span, format!("expected {wanted} argument(s) in call to {name}, got {got}"));
            }
        } else {
            let least = wanted - 1;
            if least > got {
                return self
                    .error(call.span, format!("expected at least {least} argument(s) in call to {name}, got {got}"));
            }
            if let Ok(more) = usize::try_from(function.variadic)
                && least + more < got
            {
                return self.error(
                    call.span,
                    format!("expected at most {} argument(s) in call to {name}, got {got}", least + more),
                );
            }
        }
        let is_info = function.name == "info";
        if is_info && let Some(data) = call.args.get(1) {
            if data.value_type() != ValueType::Vector {
                let got = data.value_type().describe();
                return self
                    .error(call.span, format!("expected type instant vector in call to function {name}, got {got}"));
            }
            match data {
                Expr::Vector(v) if v.name.is_empty() => {}
                Expr::Vector(_) => {
                    return self.error(data.span(), "expected label selectors only, got vector selector instead");
                }
                _ => return self.error(data.span(), "expected label selectors only"),
            }
        }
        for (i, arg) in call.args.iter().enumerate() {
            let wanted = function.args[i.min(function.args.len() - 1)];
            let got = match arg {
                // The data of `info` may select every label.
                Expr::Vector(_) if is_info && i == 1 => ValueType::Vector,
                arg => self.expr(arg)?,
            };
            if got != wanted {
                let (wanted, got) = (wanted.describe(), got.describe());
                let message =
                    format!("expected type {wanted} in call to function {}, got {got}", Quoted(function.name));
                return self.error(arg.span(), message);
            }
        }
        Ok(())
    }

    fn selector(&self, v: &VectorSelector, alone: bool) -> Result<()> {
        if !v.name.is_empty() {
            let others = &v.matchers[..v.matchers.len() - 1];
            if let Some(other) = others.iter().find(|m| m.label == METRIC_NAME) {
                let (name, value) = (Quoted(&v.name), Quoted(&other.value));
                return self.error(v.span, format!("metric name must not be set twice: {name} or {value}"));
            }
            return Ok(());
        }
        let selects = v.matchers.iter().any(|m| m.compile().is_ok_and(|m| !m.matches("")));
        if selects || alone {
            return Ok(());
        }
        self.error(v.span, "vector selector must contain at least one non-empty matcher")
    }
}
