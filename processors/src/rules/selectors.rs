//! The series that the PromQL of a rule file selects, each with its place: for comparing them with what is stored.

use highwater_promql::parser::Expr;
use highwater_promql::{METRIC_NAME, MatchOp, Matcher, Query};

use super::place::Place;

/// A selector in a rule's expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Selector {
    /// Where it is.
    pub place: Place,
    /// The rule's name.
    pub rule: String,
    /// The metric it names; `None` where it names none, or several.
    pub metric: Option<String>,
    /// What it asks of other labels.
    pub matchers: Vec<Matcher>,
    /// The labels by which an aggregation around it groups, and where that is.
    pub grouping: Vec<(Place, String)>,
}

/// Those of an expression; `within` is where a line and column of it stand in the file.
pub(super) fn of(rule: &str, query: &Query, within: impl Fn((usize, usize)) -> Place) -> Vec<Selector> {
    let mut found = Vec::new();
    let mut walk = Walk { rule, text: query.text(), within: &within, found: &mut found };
    walk.expr(query.expr(), &[]);
    found
}

struct Walk<'a> {
    rule: &'a str,
    text: &'a str,
    within: &'a dyn Fn((usize, usize)) -> Place,
    found: &'a mut Vec<Selector>,
}

type Grouping<'a> = &'a [(Place, String)];

impl Walk<'_> {
    fn place(&self, byte: usize) -> Place {
        let before = &self.text[..byte.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, str::len) + 1;
        (self.within)((line, column))
    }

    fn expr(&mut self, expr: &Expr, grouping: Grouping<'_>) {
        match expr {
            Expr::Number { .. } | Expr::String { .. } => {}
            Expr::Vector(selector) => {
                let named = selector.matchers.iter().find(|m| m.label == METRIC_NAME && m.op == MatchOp::Equal);
                self.found.push(Selector {
                    place: self.place(selector.span.start),
                    rule: self.rule.to_owned(),
                    metric: named.map(|matcher| matcher.value.clone()),
                    matchers: selector.matchers.iter().filter(|m| m.label != METRIC_NAME).cloned().collect(),
                    grouping: grouping.to_vec(),
                });
            }
            Expr::Matrix(matrix) => self.expr(&Expr::Vector(matrix.vector.clone()), grouping),
            Expr::Subquery(subquery) => self.expr(&subquery.expr, grouping),
            Expr::Aggregation(aggregation) => {
                let place = self.place(aggregation.span.start);
                let own = aggregation.grouping.iter().map(|label| (place, label.clone()));
                let own: Vec<_> = if aggregation.without { Vec::new() } else { own.collect() };
                self.expr(&aggregation.expr, &own);
                if let Some(parameter) = &aggregation.parameter {
                    self.expr(parameter, &[]);
                }
            }
            // Labels may come from the other side, or from elsewhere in one.
            Expr::Binary(binary) => {
                self.expr(&binary.left, &[]);
                self.expr(&binary.right, &[]);
            }
            Expr::Call(call) => {
                let makes_labels = matches!(call.function.name, "label_replace" | "label_join" | "info");
                for argument in &call.args {
                    self.expr(argument, if makes_labels { &[] } else { grouping });
                }
            }
            Expr::Paren { inner, .. } | Expr::Unary { inner, .. } => self.expr(inner, grouping),
            Expr::StepInvariant(inner) => self.expr(inner, grouping),
        }
    }
}
