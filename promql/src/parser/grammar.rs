//! Tokens to tree. The first error ends the parse: it is the one that Prometheus shows.

use super::ast::{
    AggregateOp, Aggregation, At, Binary, BinaryOp, Call, Cardinality, DurationExpr, Expr, Extended, Matching,
    MatrixSelector, Subquery, TimeSpan, VectorSelector,
};
use super::functions;
use super::lexer::{Keyword, Kind, Token, tokens, unquote};
use super::numbers::{parse_duration_ms, parse_number};
use crate::error::{ParseError, Span};
use crate::labels::{Labels, METRIC_NAME, Quoted, is_label_name};
use crate::options::ParserOptions;
use crate::source::{MatchOp, Matcher};

type Result<T> = std::result::Result<T, ParseError>;

/// Prefix operators bind as tightly as `*`.
const UNARY: u8 = 5;
/// Expressions inside each other up to which a query is accepted; more is an attack on the stack.
const MAX_DEPTH: usize = 250;
/// Operators in a row up to which a query is accepted: `a + b + c ...` is a tree as deep as it is long.
const MAX_OPERATORS: usize = 1000;
/// Seconds that fit into the nanoseconds of a 64-bit number.
const MAX_DURATION_S: f64 = 9_223_372_036.854_775;

pub(super) struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    options: ParserOptions,
    depth: usize,
    /// What the duration being read is part of, and what is expected there.
    duration_of: (&'static str, &'static str),
}

/// What can stand after `offset`, and at the beginning of a range.
const A_DURATION: &str = "number, duration, step(), or range()";
/// What can stand after the colon of a subquery.
const A_STEP: &str = "number, duration, step(), range(), or \"]\"";

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str, options: ParserOptions) -> Self {
        Parser { text, tokens: tokens(text, options.unquoted_names), at: 0, options, depth: 0, duration_of: ("", "") }
    }

    pub(super) fn expression(mut self) -> Result<Expr> {
        if self.peek().kind == Kind::Eof {
            return Err(ParseError::new(self.text, Span::default(), "no expression found in input"));
        }
        let expr = self.binary(0)?;
        self.end()?;
        Ok(expr)
    }

    pub(super) fn selector(mut self) -> Result<VectorSelector> {
        let selector = self.vector_selector()?;
        self.end()?;
        Ok(selector)
    }

    pub(super) fn metric(mut self) -> Result<Labels> {
        let mut labels: Vec<(String, String)> = Vec::new();
        if self.metric_name_follows() {
            let token = self.take();
            labels.push((METRIC_NAME.to_owned(), self.value(&token).to_owned()));
        }
        if self.peek().kind == Kind::LeftBrace {
            self.take();
            while self.peek().kind != Kind::RightBrace {
                let name = match self.peek().kind {
                    Kind::Identifier => self.text[self.peek().span.start..self.peek().span.end].to_owned(),
                    Kind::String => unquote(&self.text[self.peek().span.start..self.peek().span.end]),
                    _ => return self.unexpected("label set", "identifier or \"}\""),
                };
                let quoted = self.take().kind == Kind::String;
                if self.peek().kind == Kind::Assign {
                    self.take();
                    if self.peek().kind != Kind::String {
                        return self.unexpected("label set", "string");
                    }
                    let token = self.take();
                    labels.push((name, unquote(self.value(&token))));
                } else if quoted {
                    labels.push((METRIC_NAME.to_owned(), name));
                } else {
                    return self.unexpected("label set", "\"=\"");
                }
                match self.peek().kind {
                    Kind::Comma => {
                        self.take();
                    }
                    Kind::RightBrace => {}
                    _ => return self.unexpected("label set", "\",\" or \"}\""),
                }
            }
            self.take();
        }
        self.end()?;
        Ok(Labels::from_pairs(labels))
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn peek_second(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn value(&self, token: &Token) -> &'a str {
        &self.text[token.span.start..token.span.end]
    }

    /// Where the last taken token ended.
    fn last_end(&self) -> usize {
        self.tokens[self.at.saturating_sub(1).min(self.tokens.len() - 1)].span.end
    }

    fn error<T>(&self, span: Span, message: impl Into<String>) -> Result<T> {
        Err(ParseError::new(self.text, span, message))
    }

    fn unexpected<T>(&self, context: &str, expected: &str) -> Result<T> {
        let token = self.peek();
        if token.kind == Kind::Error {
            return self.error(token.span, token.error.clone());
        }
        let mut message = format!("unexpected {}", token.describe(self.text));
        if !context.is_empty() {
            message.push_str(&format!(" in {context}"));
        }
        if !expected.is_empty() {
            message.push_str(&format!(", expected {expected}"));
        }
        self.error(token.span, message)
    }

    fn expect(&mut self, kind: Kind, context: &str, expected: &str) -> Result<Token> {
        if self.peek().kind == kind { Ok(self.take()) } else { self.unexpected(context, expected) }
    }

    fn end(&self) -> Result<()> {
        if self.peek().kind == Kind::Eof { Ok(()) } else { self.unexpected("", "") }
    }

    fn binary(&mut self, min_precedence: u8) -> Result<Expr> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error(self.peek().span, format!("expressions are nested more than {MAX_DEPTH} deep"));
        }
        let expr = crate::deep(|| self.operators(min_precedence))?;
        self.depth -= 1;
        Ok(expr)
    }

    fn operators(&mut self, min_precedence: u8) -> Result<Expr> {
        let mut left = self.unary()?;
        let mut count = 0;
        while let Kind::Operator(op) = self.peek().kind {
            if op.precedence() < min_precedence {
                break;
            }
            count += 1;
            if count > MAX_OPERATORS {
                return self.error(self.peek().span, format!("more than {MAX_OPERATORS} operators in a row"));
            }
            self.take();
            let (return_bool, matching) = self.matching()?;
            let right = self.binary(if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 })?;
            let filled = matching.fill_left.is_some() || matching.fill_right.is_some();
            left = Expr::Binary(Box::new(Binary { op, left, right, return_bool, matching: Some(matching) }));
            if filled && !self.options.fill_modifiers {
                return self.error(left.span(), "binop fill modifiers are experimental and not enabled");
            }
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr> {
        let Kind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) = self.peek().kind else { return self.postfix() };
        let start = self.take().span.start;
        let negative = op == BinaryOp::Sub;
        // Only what binds tighter than `*` belongs to the operand.
        let inner = self.binary(UNARY + 1)?;
        Ok(match inner {
            Expr::Number { value, is_duration, span } => Expr::Number {
                value: if negative { -value } else { value },
                is_duration,
                span: Span { start, end: span.end },
            },
            inner => {
                let span = Span { start, end: inner.span().end };
                Expr::Unary { negative, inner: Box::new(inner), span }
            }
        })
    }

    /// A primary expression and the modifiers behind it.
    fn postfix(&mut self) -> Result<Expr> {
        let mut expr = self.primary()?;
        loop {
            match self.peek().kind {
                Kind::LeftBracket => expr = self.range(expr)?,
                Kind::Keyword(Keyword::Offset) => {
                    self.take();
                    let offset = self.offset_duration()?;
                    self.set_offset(&mut expr, offset)?;
                }
                Kind::At => {
                    self.take();
                    let at = self.at_time(&expr)?;
                    self.set_at(&mut expr, at)?;
                }
                Kind::Keyword(Keyword::Anchored) => {
                    self.take();
                    self.set_extended(&mut expr, Extended::Anchored)?;
                }
                Kind::Keyword(Keyword::Smoothed) => {
                    self.take();
                    self.set_extended(&mut expr, Extended::Smoothed)?;
                }
                _ => return Ok(expr),
            }
        }
    }

    fn primary(&mut self) -> Result<Expr> {
        let token = self.peek().clone();
        match token.kind {
            Kind::Number | Kind::Duration => {
                let (value, is_duration, span) = self.number()?;
                Ok(Expr::Number { value, is_duration, span })
            }
            Kind::String => {
                self.take();
                Ok(Expr::String { value: unquote(self.value(&token)), span: token.span })
            }
            Kind::LeftParen => {
                self.take();
                let inner = self.binary(0)?;
                let end = self.expect(Kind::RightParen, "", "")?.span.end;
                Ok(Expr::Paren { inner: Box::new(inner), span: Span { start: token.span.start, end } })
            }
            Kind::Aggregate(_)
                if matches!(
                    self.peek_second().kind,
                    Kind::LeftParen | Kind::Keyword(Keyword::By | Keyword::Without)
                ) =>
            {
                self.aggregation()
            }
            Kind::Identifier if self.peek_second().kind == Kind::LeftParen => self.call(),
            Kind::Keyword(
                Keyword::Start | Keyword::End | Keyword::Step | Keyword::Range | Keyword::MaxOf | Keyword::MinOf,
            ) if self.peek_second().kind == Kind::LeftParen => self.call(),
            _ => Ok(Expr::Vector(self.vector_selector()?)),
        }
    }

    fn number(&mut self) -> Result<(f64, bool, Span)> {
        let token = self.take();
        let text = self.value(&token);
        if token.kind == Kind::Duration {
            return match parse_duration_ms(text) {
                Ok(ms) => Ok((ms as f64 / 1000.0, true, token.span)),
                Err(message) => self.error(token.span, message),
            };
        }
        match parse_number(text) {
            Some(value) => Ok((value, false, token.span)),
            None => {
                let quoted = Quoted(text);
                self.error(
                    token.span,
                    format!("error parsing number: strconv.ParseFloat: parsing {quoted}: invalid syntax"),
                )
            }
        }
    }

    fn metric_name_follows(&self) -> bool {
        match self.peek().kind {
            Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregate(_) => true,
            Kind::Operator(op) => op.is_set(),
            Kind::Keyword(k) => {
                !matches!(k, Keyword::Bool | Keyword::GroupLeft | Keyword::GroupRight | Keyword::Ignoring | Keyword::On)
            }
            _ => false,
        }
    }

    fn vector_selector(&mut self) -> Result<VectorSelector> {
        let start = self.peek().span.start;
        let mut name = String::new();
        let mut matchers = Vec::new();
        if self.metric_name_follows() {
            let token = self.take();
            name = self.value(&token).to_owned();
        } else if self.peek().kind != Kind::LeftBrace {
            return self.unexpected("", "");
        }
        if self.peek().kind == Kind::LeftBrace {
            self.take();
            self.label_matchers(&mut matchers)?;
        } else if matches!(self.peek().kind, Kind::Error) {
            return self.unexpected("", "");
        }
        if !name.is_empty() {
            matchers.push(Matcher::equal(METRIC_NAME, name.clone()));
        }
        let span = Span { start, end: self.last_end() };
        Ok(VectorSelector {
            name,
            matchers,
            offset: TimeSpan::default(),
            at: None,
            extended: None,
            counts_only: false,
            span,
        })
    }

    fn label_matchers(&mut self, matchers: &mut Vec<Matcher>) -> Result<()> {
        loop {
            if self.peek().kind == Kind::RightBrace {
                self.take();
                return Ok(());
            }
            let label = self.peek().clone();
            let name = match label.kind {
                Kind::Identifier => self.value(&label).to_owned(),
                Kind::String => unquote(self.value(&label)),
                _ => return self.unexpected("label matching", "identifier or \"}\""),
            };
            self.take();
            let op = match self.peek().kind {
                Kind::Assign => Some(MatchOp::Equal),
                Kind::Operator(BinaryOp::NotEqual) => Some(MatchOp::NotEqual),
                Kind::Match => Some(MatchOp::Regex),
                Kind::NotMatch => Some(MatchOp::NotRegex),
                _ => None,
            };
            match op {
                Some(op) => {
                    self.take();
                    let value = self.expect(Kind::String, "label matching", "string")?;
                    let matcher = Matcher::new(name, op, unquote(self.value(&value)));
                    if let Err(e) = matcher.compile() {
                        return self.error(Span { start: label.span.start, end: value.span.end }, e.to_string());
                    }
                    matchers.push(matcher);
                }
                None if label.kind == Kind::String => matchers.push(Matcher::equal(METRIC_NAME, name)),
                None => return self.unexpected("label matching", "label matching operator"),
            }
            match self.peek().kind {
                Kind::Comma => {
                    self.take();
                }
                Kind::RightBrace => {}
                _ => return self.unexpected("label matching", "\",\" or \"}\""),
            }
        }
    }

    fn labels_of(&mut self) -> Result<Vec<String>> {
        if self.peek().kind != Kind::LeftParen {
            return self.unexpected("grouping opts", "\"(\"");
        }
        self.take();
        let mut labels = Vec::new();
        loop {
            let token = self.peek().clone();
            match token.kind {
                Kind::RightParen => {
                    self.take();
                    return Ok(labels);
                }
                Kind::String => labels.push(unquote(self.value(&token))),
                Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregate(_) | Kind::Keyword(_) => {
                    labels.push(self.value(&token).to_owned());
                }
                Kind::Operator(op) if op.is_set() || op == BinaryOp::Atan2 => {
                    labels.push(self.value(&token).to_owned())
                }
                _ => return self.unexpected("grouping opts", "label"),
            }
            if let Some(wrong) = labels.last().filter(|l| !is_label_name(l)) {
                return self.error(token.span, format!("invalid label name for grouping: {}", Quoted(wrong)));
            }
            self.take();
            match self.peek().kind {
                Kind::Comma => {
                    self.take();
                }
                Kind::RightParen => {}
                _ => return self.unexpected("grouping opts", "\",\" or \")\""),
            }
        }
    }

    fn matching(&mut self) -> Result<(bool, Matching)> {
        let mut matching = Matching {
            cardinality: Cardinality::OneToOne,
            labels: Vec::new(),
            on: false,
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        let return_bool = self.peek().kind == Kind::Keyword(Keyword::Bool);
        if return_bool {
            self.take();
        }
        if let Kind::Keyword(k @ (Keyword::On | Keyword::Ignoring)) = self.peek().kind {
            self.take();
            matching.labels = self.labels_of()?;
            matching.on = k == Keyword::On;
            if let Kind::Keyword(k @ (Keyword::GroupLeft | Keyword::GroupRight)) = self.peek().kind {
                self.take();
                matching.cardinality =
                    if k == Keyword::GroupLeft { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                if self.peek().kind == Kind::LeftParen {
                    matching.include = self.labels_of()?;
                }
            }
        }
        while let Kind::Keyword(k @ (Keyword::Fill | Keyword::FillLeft | Keyword::FillRight)) = self.peek().kind {
            let left = k != Keyword::FillRight;
            let right = k != Keyword::FillLeft;
            if (left && matching.fill_left.is_some()) || (right && matching.fill_right.is_some()) {
                return self.unexpected("", "");
            }
            self.take();
            self.expect(Kind::LeftParen, "", "")?;
            let negative = match self.peek().kind {
                Kind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                    self.take();
                    op == BinaryOp::Sub
                }
                _ => false,
            };
            if !matches!(self.peek().kind, Kind::Number | Kind::Duration) {
                return self.unexpected("", "");
            }
            let value = self.number()?.0;
            let value = Some(if negative { -value } else { value });
            self.expect(Kind::RightParen, "", "")?;
            if left {
                matching.fill_left = value;
            }
            if right {
                matching.fill_right = value;
            }
        }
        Ok((return_bool, matching))
    }

    fn arguments(&mut self) -> Result<Vec<Expr>> {
        self.expect(Kind::LeftParen, "", "")?;
        let mut args = Vec::new();
        if self.peek().kind == Kind::RightParen {
            self.take();
            return Ok(args);
        }
        loop {
            args.push(self.binary(0)?);
            match self.peek().kind {
                Kind::RightParen => {
                    self.take();
                    return Ok(args);
                }
                Kind::Comma => {
                    let comma = self.take();
                    if self.peek().kind == Kind::RightParen {
                        return self.error(comma.span, "trailing commas not allowed in function call args");
                    }
                }
                _ => return self.unexpected("", ""),
            }
        }
    }

    fn call(&mut self) -> Result<Expr> {
        let name = self.take();
        let args = self.arguments()?;
        let text = self.value(&name);
        let Some(function) = functions::find(text) else {
            return self.error(name.span, format!("unknown function with name {}", Quoted(text)));
        };
        if function.experimental && !self.options.experimental_functions {
            return self.error(name.span, format!("function {} is not enabled", Quoted(text)));
        }
        Ok(Expr::Call(Call { function, args, span: Span { start: name.span.start, end: self.last_end() } }))
    }

    fn aggregation(&mut self) -> Result<Expr> {
        let token = self.take();
        let Kind::Aggregate(op) = token.kind else { return self.unexpected("aggregation", "") };
        let mut modifier = self.aggregate_modifier()?;
        if self.peek().kind != Kind::LeftParen {
            return self.unexpected("aggregation", "");
        }
        let mut args = self.arguments()?;
        if modifier.is_none() {
            modifier = self.aggregate_modifier()?;
        }
        let span = Span { start: token.span.start, end: self.last_end() };
        let (grouping, without) = modifier.unwrap_or_default();
        if args.is_empty() {
            return self.error(span, "no arguments for aggregate expression provided");
        }
        let mut wanted = 1;
        if op.has_parameter() {
            if op.is_experimental() && !self.options.experimental_functions {
                let name = op.as_str();
                let flag = "--enable-feature=promql-experimental-functions";
                return self.error(span, format!("{name}() is experimental and must be enabled with {flag}"));
            }
            wanted = 2;
        }
        if args.len() != wanted {
            let got = args.len();
            let message =
                format!("wrong number of arguments for aggregate expression provided, expected {wanted}, got {got}");
            return self.error(span, message);
        }
        let expr = args.remove(wanted - 1);
        let parameter = args.pop();
        Ok(Expr::Aggregation(Box::new(Aggregation { op, parameter, expr, grouping, without, span })))
    }

    fn aggregate_modifier(&mut self) -> Result<Option<(Vec<String>, bool)>> {
        let Kind::Keyword(k @ (Keyword::By | Keyword::Without)) = self.peek().kind else { return Ok(None) };
        self.take();
        Ok(Some((self.labels_of()?, k == Keyword::Without)))
    }

    /// `[range]` or `[range:step]`.
    fn range(&mut self, expr: Expr) -> Result<Expr> {
        let open = self.take();
        self.duration_of = ("subquery or range selector", A_DURATION);
        if !self.duration_follows() {
            return self.unexpected_in_duration();
        }
        let range = self.positive_duration()?;
        match self.peek().kind {
            Kind::RightBracket => {
                let close = self.take();
                let span = Span { start: open.span.start, end: close.span.end };
                let Expr::Vector(vector) = expr else {
                    return self.error(span, "ranges only allowed for vector selectors");
                };
                if vector.offset.is_set() {
                    return self.error(span, "no offset modifiers allowed before range");
                }
                if vector.at.is_some() {
                    return self.error(span, "no @ modifiers allowed before range");
                }
                Ok(Expr::Matrix(MatrixSelector { vector, range, end: close.span.end }))
            }
            Kind::Colon => {
                self.take();
                let mut step = TimeSpan::default();
                if self.peek().kind != Kind::RightBracket {
                    self.duration_of = ("subquery selector", A_STEP);
                    if !self.duration_follows() {
                        return self.unexpected_in_duration();
                    }
                    step = self.positive_duration()?;
                }
                let end = self.expect(Kind::RightBracket, "subquery selector", "\"]\"")?.span.end;
                Ok(Expr::Subquery(Box::new(Subquery { expr, range, step, offset: TimeSpan::default(), at: None, end })))
            }
            _ => self.unexpected("subquery or range", "\":\" or \"]\""),
        }
    }

    /// `min(` and `max(` stood for `min_of` and `max_of` until 3.9.
    fn old_extreme_follows(&self) -> bool {
        matches!(self.peek().kind, Kind::Aggregate(AggregateOp::Min | AggregateOp::Max))
            && self.peek_second().kind == Kind::LeftParen
    }

    fn duration_follows(&self) -> bool {
        if self.old_extreme_follows() {
            return true;
        }
        matches!(
            self.peek().kind,
            Kind::Number
                | Kind::Duration
                | Kind::LeftParen
                | Kind::Operator(BinaryOp::Add | BinaryOp::Sub)
                | Kind::Keyword(Keyword::Step | Keyword::Range | Keyword::MaxOf | Keyword::MinOf)
        )
    }

    fn positive_duration(&mut self) -> Result<TimeSpan> {
        let expr = self.duration(0)?;
        if let DurationExpr::Number { value, span, .. } = expr {
            if value.is_nan() || value <= 0.0 {
                return self.error(span, "duration must be greater than 0");
            }
            return Ok(TimeSpan::known(to_ms(value)));
        }
        Ok(TimeSpan { ms: 0, expr: Some(Box::new(expr)) })
    }

    fn checked_number(&self, number: (f64, bool, Span), reported: Span) -> Result<DurationExpr> {
        let (value, is_duration, span) = number;
        if value.abs() > MAX_DURATION_S {
            return self.error(reported, "duration out of range");
        }
        Ok(DurationExpr::Number { value, is_duration, span })
    }

    fn duration(&mut self, min_precedence: u8) -> Result<DurationExpr> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error(self.peek().span, format!("expressions are nested more than {MAX_DEPTH} deep"));
        }
        let expr = crate::deep(|| self.duration_operators(min_precedence))?;
        self.depth -= 1;
        Ok(expr)
    }

    fn duration_operators(&mut self, min_precedence: u8) -> Result<DurationExpr> {
        let mut left = self.duration_unary()?;
        while let Kind::Operator(
            op @ (BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Pow),
        ) = self.peek().kind
        {
            if op.precedence() < min_precedence {
                break;
            }
            let at = self.take().span;
            let right = self.duration(if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 })?;
            if let DurationExpr::Number { value: 0.0, .. } = right {
                match op {
                    BinaryOp::Div => return self.error(at, "division by zero"),
                    BinaryOp::Mod => return self.error(at, "modulo by zero"),
                    _ => {}
                }
            }
            left = DurationExpr::Binary { op, left: Box::new(left), right: Box::new(right) };
        }
        Ok(left)
    }

    fn duration_unary(&mut self) -> Result<DurationExpr> {
        let Kind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) = self.peek().kind else {
            return self.duration_primary();
        };
        let at = self.take().span;
        let inner = self.duration(UNARY + 1)?;
        self.signed(op == BinaryOp::Sub, at, inner)
    }

    fn signed(&self, negative: bool, at: Span, inner: DurationExpr) -> Result<DurationExpr> {
        let span = Span { start: at.start, end: inner.span().end };
        match inner {
            DurationExpr::Number { value, is_duration, .. } => {
                self.checked_number((if negative { -value } else { value }, is_duration, span), at)
            }
            inner if negative => Ok(DurationExpr::Negative(Box::new(inner), span)),
            inner => Ok(inner),
        }
    }

    fn duration_primary(&mut self) -> Result<DurationExpr> {
        let mut token = self.peek().clone();
        if self.old_extreme_follows() {
            let max = token.kind == Kind::Aggregate(AggregateOp::Max);
            token.kind = Kind::Keyword(if max { Keyword::MaxOf } else { Keyword::MinOf });
        }
        match token.kind {
            Kind::Number | Kind::Duration => {
                let number = self.number()?;
                self.checked_number(number, token.span)
            }
            Kind::LeftParen => {
                self.take();
                let inner = self.duration(0)?;
                let end = self.expect_in_duration(Kind::RightParen)?.span.end;
                Ok(DurationExpr::Paren(Box::new(inner), Span { start: token.span.start, end }))
            }
            Kind::Keyword(k @ (Keyword::Step | Keyword::Range)) => {
                self.take();
                self.expect_in_duration(Kind::LeftParen)?;
                let end = self.expect_in_duration(Kind::RightParen)?.span.end;
                let span = Span { start: token.span.start, end };
                Ok(if k == Keyword::Step { DurationExpr::Step(span) } else { DurationExpr::Range(span) })
            }
            Kind::Keyword(k @ (Keyword::MaxOf | Keyword::MinOf)) => {
                self.take();
                self.expect_in_duration(Kind::LeftParen)?;
                let left = Box::new(self.duration(0)?);
                self.expect_in_duration(Kind::Comma)?;
                let right = Box::new(self.duration(0)?);
                let end = self.expect_in_duration(Kind::RightParen)?.span.end;
                let span = Span { start: token.span.start, end };
                Ok(DurationExpr::Extreme { max: k == Keyword::MaxOf, left, right, span })
            }
            _ => self.unexpected_in_duration(),
        }
    }

    fn unexpected_in_duration<T>(&self) -> Result<T> {
        let (context, expected) = self.duration_of;
        self.unexpected(context, expected)
    }

    fn expect_in_duration(&mut self, kind: Kind) -> Result<Token> {
        let (context, expected) = self.duration_of;
        self.expect(kind, context, expected)
    }

    /// What follows `offset`: one operand, which may have a sign. Operators behind it belong to the expression around, but those behind a
    /// parenthesis, or behind two signs, to the duration: `a offset 1m * 2` is twice `a`, `a offset (1m) * 2` is `a` two minutes ago.
    fn offset_duration(&mut self) -> Result<TimeSpan> {
        let is_sign = |token: &Token| matches!(token.kind, Kind::Operator(BinaryOp::Add | BinaryOp::Sub));
        self.duration_of = ("offset", A_DURATION);
        if !self.duration_follows() {
            return self.unexpected_in_duration();
        }
        let goes_on = self.peek().kind == Kind::LeftParen || (is_sign(self.peek()) && is_sign(self.peek_second()));
        let expr = match self.peek().kind {
            _ if goes_on => self.duration(0)?,
            Kind::Operator(op) => {
                let at = self.take().span;
                let operand = self.duration_primary()?;
                self.signed(op == BinaryOp::Sub, at, operand)?
            }
            _ => self.duration_primary()?,
        };
        Ok(match expr {
            DurationExpr::Number { value, .. } => TimeSpan::known(to_ms(value)),
            expr => TimeSpan { ms: 0, expr: Some(Box::new(expr)) },
        })
    }

    fn set_offset(&self, expr: &mut Expr, new: TimeSpan) -> Result<()> {
        let end = self.last_end();
        let span = expr.span();
        let (offset, expr_end) = match expr {
            Expr::Vector(v) => (&mut v.offset, &mut v.span.end),
            Expr::Matrix(m) => (&mut m.vector.offset, &mut m.end),
            Expr::Subquery(s) => (&mut s.offset, &mut s.end),
            _ => {
                return self.error(
                    span,
                    "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
                );
            }
        };
        if offset.is_set() {
            return self.error(span, "offset may not be set multiple times");
        }
        *offset = new;
        *expr_end = end;
        Ok(())
    }

    fn at_time(&mut self, expr: &Expr) -> Result<At> {
        match self.peek().kind {
            Kind::Keyword(k @ (Keyword::Start | Keyword::End)) => {
                self.take();
                self.expect(Kind::LeftParen, "", "")?;
                self.expect(Kind::RightParen, "", "")?;
                Ok(if k == Keyword::Start { At::Start } else { At::End })
            }
            Kind::Number | Kind::Duration | Kind::Operator(BinaryOp::Add | BinaryOp::Sub) => {
                let negative = match self.peek().kind {
                    Kind::Operator(op) => {
                        self.take();
                        op == BinaryOp::Sub
                    }
                    _ => false,
                };
                if !matches!(self.peek().kind, Kind::Number | Kind::Duration) {
                    return self.unexpected("@", "timestamp");
                }
                let value = self.number()?.0;
                let seconds = if negative { -value } else { value };
                if !seconds.is_finite() || seconds.abs() >= i64::MAX as f64 {
                    let shown = crate::value::format_float(seconds);
                    let shown = if seconds.is_finite() { format!("{seconds:.6}") } else { shown };
                    return self.error(expr.span(), format!("timestamp out of bounds for @ modifier: {shown}"));
                }
                Ok(At::Time((seconds * 1000.0).round() as i64))
            }
            _ => self.unexpected("@", "timestamp"),
        }
    }

    fn set_at(&self, expr: &mut Expr, new: At) -> Result<()> {
        let end = self.last_end();
        let span = expr.span();
        let (at, expr_end) = match expr {
            Expr::Vector(v) => (&mut v.at, &mut v.span.end),
            Expr::Matrix(m) => (&mut m.vector.at, &mut m.end),
            Expr::Subquery(s) => (&mut s.at, &mut s.end),
            _ => {
                return self.error(
                    span,
                    "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
                );
            }
        };
        if at.is_some() {
            return self.error(span, "@ <timestamp> may not be set multiple times");
        }
        *at = Some(new);
        *expr_end = end;
        Ok(())
    }

    fn set_extended(&self, expr: &mut Expr, new: Extended) -> Result<()> {
        let name = if new == Extended::Anchored { "anchored" } else { "smoothed" };
        let span = expr.span();
        let extended = match expr {
            Expr::Vector(v) => &mut v.extended,
            Expr::Matrix(m) => &mut m.vector.extended,
            Expr::Subquery(_) => return self.error(span, format!("{name} modifier is not supported for subqueries")),
            _ => return self.error(span, format!("{name} modifier not implemented")),
        };
        if extended.is_some_and(|e| e != new) {
            return self.error(span, "anchored and smoothed modifiers cannot be used together");
        }
        *extended = Some(new);
        Ok(())
    }
}

/// Seconds to milliseconds by way of whole nanoseconds, as Prometheus does.
fn to_ms(seconds: f64) -> i64 {
    ((seconds * 1e9).round() as i64) / 1_000_000
}
