//! The tree of a query.

use super::functions::Function;
use crate::error::Span;
use crate::source::Matcher;

/// What an expression evaluates to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// A number per step.
    Scalar,
    /// A string.
    String,
    /// One sample per series and step.
    Vector,
    /// A range of samples per series.
    Matrix,
}

impl ValueType {
    /// As Prometheus's messages name it.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::String => "string",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
        }
    }

    /// The name of the type in the HTTP API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::String => "string",
            ValueType::Vector => "vector",
            ValueType::Matrix => "matrix",
        }
    }
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// `1`, `0x1F`, `5m`.
    Number {
        /// The number; a duration's in seconds.
        value: f64,
        /// Whether it was written as a duration.
        is_duration: bool,
        /// Where.
        span: Span,
    },
    /// `"a"`.
    String {
        /// The string without quotes.
        value: String,
        /// Where.
        span: Span,
    },
    /// `x{...}`.
    Vector(VectorSelector),
    /// `x{...}[5m]`.
    Matrix(MatrixSelector),
    /// `expr[5m:1m]`.
    Subquery(Box<Subquery>),
    /// `sum by (a) (expr)`.
    Aggregation(Box<Aggregation>),
    /// `a + b`.
    Binary(Box<Binary>),
    /// `f(a, b)`.
    Call(Call),
    /// `(expr)`.
    Paren {
        /// What is inside.
        inner: Box<Expr>,
        /// Where.
        span: Span,
    },
    /// `-expr`, `+expr`.
    Unary {
        /// Whether it is `-`.
        negative: bool,
        /// The operand.
        inner: Box<Expr>,
        /// Where.
        span: Span,
    },
    /// Never parsed: the planner puts it around what has the same value at every step.
    StepInvariant(Box<Expr>),
}

/// Where a selector's `@` points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum At {
    /// A time, Unix milliseconds.
    Time(i64),
    /// `start()` of the query.
    Start,
    /// `end()` of the query.
    End,
}

/// What a range does at its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Extended {
    /// `anchored`: ends have the values of the samples before them.
    Anchored,
    /// `smoothed`: ends have interpolated values.
    Smoothed,
}

/// A length of time: known, or an expression over the query's step and range.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TimeSpan {
    /// Milliseconds; once planned, always right.
    pub ms: i64,
    /// How it is computed, if it is an expression.
    pub expr: Option<Box<DurationExpr>>,
}

impl TimeSpan {
    pub(crate) fn known(ms: i64) -> Self {
        TimeSpan { ms, expr: None }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.ms != 0 || self.expr.is_some()
    }
}

/// Arithmetic where a duration stands. Values are seconds.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationExpr {
    /// A number, or a duration.
    Number {
        /// Seconds.
        value: f64,
        /// Whether it was written as a duration.
        is_duration: bool,
        /// Where.
        span: Span,
    },
    /// `step()`
    Step(Span),
    /// `range()`
    Range(Span),
    /// `min_of(a, b)` or `max_of(a, b)`
    Extreme {
        /// Whether it is `max_of`.
        max: bool,
        /// First.
        left: Box<DurationExpr>,
        /// Second.
        right: Box<DurationExpr>,
        /// Where.
        span: Span,
    },
    /// `-a`
    Negative(Box<DurationExpr>, Span),
    /// `a + b`
    Binary {
        /// One of `+ - * / % ^`.
        op: BinaryOp,
        /// Left.
        left: Box<DurationExpr>,
        /// Right.
        right: Box<DurationExpr>,
    },
    /// `(a)`
    Paren(Box<DurationExpr>, Span),
}

impl DurationExpr {
    /// Where it is.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            DurationExpr::Number { span, .. }
            | DurationExpr::Step(span)
            | DurationExpr::Range(span)
            | DurationExpr::Extreme { span, .. }
            | DurationExpr::Negative(_, span)
            | DurationExpr::Paren(_, span) => *span,
            DurationExpr::Binary { left, right, .. } => Span { start: left.span().start, end: right.span().end },
        }
    }
}

/// `x{...} offset 5m @ 0`
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// The name in front of the braces, `""` if there is none.
    pub name: String,
    /// All conditions, the name's among them.
    pub matchers: Vec<Matcher>,
    /// How far back.
    pub offset: TimeSpan,
    /// Where it is pinned.
    pub at: Option<At>,
    /// What it does at the ends of a range.
    pub extended: Option<Extended>,
    /// Set by the planner: of histograms only counts and sums are looked at.
    pub counts_only: bool,
    /// Where.
    pub span: Span,
}

/// `x{...}[5m]`
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSelector {
    /// What is selected; offset and `@` are here.
    pub vector: VectorSelector,
    /// How long.
    pub range: TimeSpan,
    /// The byte after it.
    pub end: usize,
}

/// `expr[1h:5m] offset 5m @ 0`
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// What is evaluated.
    pub expr: Expr,
    /// How long.
    pub range: TimeSpan,
    /// How often; 0 for the default.
    pub step: TimeSpan,
    /// How far back.
    pub offset: TimeSpan,
    /// Where it is pinned.
    pub at: Option<At>,
    /// The byte after it.
    pub end: usize,
}

/// What an aggregation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the operator of its name")]
pub enum AggregateOp {
    Avg,
    Bottomk,
    Count,
    CountValues,
    Group,
    Max,
    Min,
    Quantile,
    Stddev,
    Stdvar,
    Sum,
    Topk,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    pub(crate) const ALL: [(&'static str, AggregateOp); 14] = [
        ("avg", AggregateOp::Avg),
        ("bottomk", AggregateOp::Bottomk),
        ("count", AggregateOp::Count),
        ("count_values", AggregateOp::CountValues),
        ("group", AggregateOp::Group),
        ("max", AggregateOp::Max),
        ("min", AggregateOp::Min),
        ("quantile", AggregateOp::Quantile),
        ("stddev", AggregateOp::Stddev),
        ("stdvar", AggregateOp::Stdvar),
        ("sum", AggregateOp::Sum),
        ("topk", AggregateOp::Topk),
        ("limitk", AggregateOp::Limitk),
        ("limit_ratio", AggregateOp::LimitRatio),
    ];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, op)| *op == self).map_or("", |(name, _)| name)
    }

    /// Whether it has a parameter in front of the vector.
    #[must_use]
    pub fn has_parameter(self) -> bool {
        matches!(
            self,
            AggregateOp::Topk
                | AggregateOp::Bottomk
                | AggregateOp::CountValues
                | AggregateOp::Quantile
                | AggregateOp::Limitk
                | AggregateOp::LimitRatio
        )
    }

    pub(crate) fn is_experimental(self) -> bool {
        matches!(self, AggregateOp::Limitk | AggregateOp::LimitRatio)
    }
}

/// `sum by (a) (expr)`
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregation {
    /// What it does.
    pub op: AggregateOp,
    /// Its parameter, if it has one.
    pub parameter: Option<Expr>,
    /// What is aggregated.
    pub expr: Expr,
    /// The labels of `by` or `without`.
    pub grouping: Vec<String>,
    /// Whether it is `without`.
    pub without: bool,
    /// Where.
    pub span: Span,
}

/// An operator between two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the operator of its name")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// `</`: the histogram without what lies above.
    TrimUpper,
    /// `>/`: the histogram without what lies below.
    TrimLower,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Equal => "==",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Less => "<",
            BinaryOp::LessEqual => "<=",
            BinaryOp::Greater => ">",
            BinaryOp::GreaterEqual => ">=",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
        }
    }

    /// Whether it compares.
    #[must_use]
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            BinaryOp::Equal
                | BinaryOp::NotEqual
                | BinaryOp::Less
                | BinaryOp::LessEqual
                | BinaryOp::Greater
                | BinaryOp::GreaterEqual
        )
    }

    /// Whether it is `and`, `or`, `unless`.
    #[must_use]
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }

    /// Whether its result is no longer the metric that its operand was.
    pub(crate) fn changes_metric(self) -> bool {
        matches!(
            self,
            BinaryOp::Add
                | BinaryOp::Sub
                | BinaryOp::Mul
                | BinaryOp::Div
                | BinaryOp::Mod
                | BinaryOp::Pow
                | BinaryOp::Atan2
        )
    }

    /// Binds tighter the larger it is.
    pub(crate) fn precedence(self) -> u8 {
        match self {
            BinaryOp::Or => 1,
            BinaryOp::And | BinaryOp::Unless => 2,
            BinaryOp::Add | BinaryOp::Sub => 4,
            BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => 5,
            BinaryOp::Pow => 6,
            _ => 3,
        }
    }
}

/// How many series of each side match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the cardinality of its name")]
pub enum Cardinality {
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// How the series of two vectors find each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Matching {
    /// How many.
    pub cardinality: Cardinality,
    /// The labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// Whether it is `on`.
    pub on: bool,
    /// Labels that the one side gives to the result.
    pub include: Vec<String>,
    /// What stands for a series missing on the left.
    pub fill_left: Option<f64>,
    /// What stands for a series missing on the right.
    pub fill_right: Option<f64>,
}

/// `a + on (b) c`
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// Left.
    pub left: Expr,
    /// Right.
    pub right: Expr,
    /// `bool`
    pub return_bool: bool,
    /// Between two vectors: how they match.
    pub matching: Option<Matching>,
}

/// `f(a, b)`
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Which function.
    pub function: &'static Function,
    /// Its arguments.
    pub args: Vec<Expr>,
    /// Where.
    pub span: Span,
}

impl Expr {
    /// What it evaluates to.
    #[must_use]
    pub fn value_type(&self) -> ValueType {
        match self {
            Expr::Number { .. } => ValueType::Scalar,
            Expr::String { .. } => ValueType::String,
            Expr::Vector(_) | Expr::Aggregation(_) => ValueType::Vector,
            Expr::Matrix(_) | Expr::Subquery(_) => ValueType::Matrix,
            Expr::Binary(b) => {
                if b.left.value_type() == ValueType::Scalar && b.right.value_type() == ValueType::Scalar {
                    ValueType::Scalar
                } else {
                    ValueType::Vector
                }
            }
            Expr::Call(call) => call.function.returns,
            Expr::Paren { inner, .. } | Expr::Unary { inner, .. } | Expr::StepInvariant(inner) => inner.value_type(),
        }
    }

    /// Where it is in the text.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Expr::Number { span, .. }
            | Expr::String { span, .. }
            | Expr::Paren { span, .. }
            | Expr::Unary { span, .. } => *span,
            Expr::Vector(v) => v.span,
            Expr::Matrix(m) => Span { start: m.vector.span.start, end: m.end },
            Expr::Subquery(s) => Span { start: s.expr.span().start, end: s.end },
            Expr::Aggregation(a) => a.span,
            Expr::Binary(b) => Span { start: b.left.span().start, end: b.right.span().end },
            Expr::Call(call) => call.span,
            Expr::StepInvariant(inner) => inner.span(),
        }
    }

    /// Without parentheses around it.
    #[must_use]
    pub fn unwrapped(&self) -> &Expr {
        match self {
            Expr::Paren { inner, .. } => inner.unwrapped(),
            other => other,
        }
    }

    /// Calls `f` on this expression and all below it, parents first.
    pub fn walk<'a>(&'a self, f: &mut impl FnMut(&'a Expr)) {
        f(self);
        match self {
            Expr::Number { .. } | Expr::String { .. } | Expr::Vector(_) | Expr::Matrix(_) => {}
            Expr::Subquery(s) => s.expr.walk(f),
            Expr::Aggregation(a) => {
                if let Some(parameter) = &a.parameter {
                    parameter.walk(f);
                }
                a.expr.walk(f);
            }
            Expr::Binary(b) => {
                b.left.walk(f);
                b.right.walk(f);
            }
            Expr::Call(call) => call.args.iter().for_each(|a| a.walk(f)),
            Expr::Paren { inner, .. } | Expr::Unary { inner, .. } | Expr::StepInvariant(inner) => inner.walk(f),
        }
    }
}
