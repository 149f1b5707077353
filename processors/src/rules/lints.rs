//! What is allowed in a rule and does not do what was meant: texts that name labels which the rule's expression has aggregated away, and so stay empty.

use std::collections::BTreeSet;

use highwater_promql::parser::{AggregateOp, BinaryOp, Cardinality, Expr, ValueType};
use highwater_promql::{METRIC_NAME, ParserOptions, Query};

use super::file::{Rule, RuleFile};

/// The labels that a result can have.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Labels {
    /// All but these.
    But(BTreeSet<String>),
    /// At most these.
    Only(BTreeSet<String>),
}

impl RuleFile {
    /// Warnings of what is written in its PromQL alerts, for people.
    pub fn lints(&self) -> Vec<String> {
        self.groups.iter().flat_map(|group| &group.rules).flat_map(of_rule).collect()
    }
}

fn of_rule(rule: &Rule) -> Vec<String> {
    if !rule.is_promql() || rule.alert.is_empty() {
        return Vec::new();
    }
    let Ok(query) = Query::parse(&rule.expr, &ParserOptions::all()) else { return Vec::new() };
    let left = labels_of(query.expr());
    let texts = rule.annotations.iter().map(|(name, text)| ("annotation", name, text));
    let texts = texts.chain(rule.labels.iter().map(|(name, text)| ("label", name, text)));
    let mut warnings = Vec::new();
    for (what, name, text) in texts {
        for label in named(text).into_iter().filter(|label| !left.has(label)) {
            let there = match &left {
                Labels::Only(labels) if labels.is_empty() => "it has no labels".to_owned(),
                Labels::Only(labels) => format!("it has {}", labels.iter().cloned().collect::<Vec<_>>().join(", ")),
                Labels::But(_) => "it is left out".to_owned(),
            };
            warnings.push(format!(
                "rule {}: {what} {name} names $labels.{label}, which the expression does not have: {there}",
                rule.alert
            ));
        }
    }
    warnings
}

/// The labels that a template names as `$labels.name`, each once.
fn named(text: &str) -> BTreeSet<&str> {
    let after = ["$labels.", ".Labels."].into_iter().flat_map(|before| text.split(before).skip(1));
    // Inside a range over other samples `.Labels` is theirs.
    let is_plain = !text.contains("range") && !text.contains("with");
    let names = after.filter_map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        rest.get(..end).filter(|name| !name.is_empty())
    });
    let all: BTreeSet<&str> = names.collect();
    if is_plain { all } else { all.into_iter().filter(|name| text.contains(&format!("$labels.{name}"))).collect() }
}

fn set<'a>(labels: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
    labels.into_iter().cloned().collect()
}

impl Labels {
    fn has(&self, label: &str) -> bool {
        match self {
            Self::But(gone) => !gone.contains(label),
            Self::Only(there) => there.contains(label),
        }
    }

    fn unknown() -> Self {
        Self::But(BTreeSet::new())
    }

    fn without(self, labels: &[String]) -> Self {
        match self {
            Self::But(mut gone) => {
                gone.extend(labels.iter().cloned());
                Self::But(gone)
            }
            Self::Only(mut there) => {
                there.retain(|label| !labels.contains(label));
                Self::Only(there)
            }
        }
    }

    fn with(self, label: &str) -> Self {
        match self {
            Self::But(mut gone) => {
                gone.remove(label);
                Self::But(gone)
            }
            Self::Only(mut there) => {
                there.insert(label.to_owned());
                Self::Only(there)
            }
        }
    }

    /// Those that either can have.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::But(a), Self::But(b)) => Self::But(a.intersection(&b).cloned().collect()),
            (Self::Only(a), Self::Only(b)) => Self::Only(a.union(&b).cloned().collect()),
            (Self::But(gone), Self::Only(there)) | (Self::Only(there), Self::But(gone)) => {
                Self::But(gone.difference(&there).cloned().collect())
            }
        }
    }
}

/// What is not known for sure may be there.
fn labels_of(expr: &Expr) -> Labels {
    match expr {
        Expr::Number { .. } | Expr::String { .. } => Labels::Only(BTreeSet::new()),
        // A label that has to be empty is not there.
        Expr::Vector(_) | Expr::Matrix(_) => Labels::unknown(),
        Expr::Subquery(subquery) => labels_of(&subquery.expr),
        Expr::Paren { inner, .. } | Expr::Unary { inner, .. } => labels_of(inner),
        Expr::StepInvariant(inner) => labels_of(inner),
        Expr::Aggregation(aggregation) => {
            let inner = labels_of(&aggregation.expr);
            if matches!(
                aggregation.op,
                AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk | AggregateOp::LimitRatio
            ) {
                return inner;
            }
            let mut labels = if aggregation.without {
                inner.without(&aggregation.grouping)
            } else {
                // What the inner one does not have is not there by being named.
                let there = aggregation.grouping.iter().filter(|label| inner.has(label));
                Labels::Only(set(there))
            };
            if aggregation.op == AggregateOp::CountValues
                && let Some(Expr::String { value, .. }) = &aggregation.parameter
            {
                labels = labels.with(value);
            }
            labels.without(&[METRIC_NAME.to_owned()])
        }
        Expr::Binary(binary) => {
            let (left, right) = (labels_of(&binary.left), labels_of(&binary.right));
            let is_scalar = |side: &Expr| side.value_type() == ValueType::Scalar;
            let matching = match &binary.matching {
                Some(matching) if !is_scalar(&binary.left) && !is_scalar(&binary.right) => matching,
                _ => return if is_scalar(&binary.left) { right } else { left },
            };
            match (binary.op, matching.cardinality) {
                (BinaryOp::And | BinaryOp::Unless, _) => left,
                (BinaryOp::Or, _) => left.or(right),
                // Only `on` takes labels away for sure: what is filled in may come from either side.
                (_, Cardinality::OneToOne) if matching.on => Labels::Only(set(&matching.labels)),
                (_, Cardinality::OneToOne) if matching.fill_left.is_none() && matching.fill_right.is_none() => {
                    left.without(&matching.labels)
                }
                (_, Cardinality::ManyToOne) => matching.include.iter().fold(left, |labels, name| labels.with(name)),
                (_, Cardinality::OneToMany) => matching.include.iter().fold(right, |labels, name| labels.with(name)),
                _ => Labels::unknown(),
            }
        }
        Expr::Call(call) => match call.function.name {
            "absent" | "absent_over_time" | "label_replace" | "label_join" | "info" => Labels::unknown(),
            "vector" => Labels::Only(BTreeSet::new()),
            "histogram_quantile" => {
                call.args.get(1).map_or_else(Labels::unknown, |inner| labels_of(inner).without(&["le".to_owned()]))
            }
            _ => {
                let is_scalar = |arg: &&Expr| matches!(arg.value_type(), ValueType::Vector | ValueType::Matrix);
                call.args.iter().find(is_scalar).map_or_else(Labels::unknown, labels_of)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn lints(expr: &str, text: &str) -> Vec<String> {
        let rules = format!(
            "groups: [{{name: g, rules: [{{alert: A, expr: {expr:?}, labels: {{severity: page}}, annotations: {{summary: {text:?}}}}}]}}]"
        );
        RuleFile::parse("rules.yaml", &rules).unwrap().lints()
    }

    #[test]
    fn labels_that_were_aggregated_away_are_told() {
        let text = "{{ $labels.job }} on {{ $labels.instance }}";
        assert_eq!(
            lints("sum by (job) (rate(errors_total[5m])) > 1", text),
            ["rule A: annotation summary names $labels.instance, which the expression does not have: it has job"]
        );
        for expr in [
            "sum(up) > 1 or vector(0)",
            "sum without (instance) (up) == 0",
            "max by (job) (a) / on (job) max by (job, instance) (b) > 0.5",
            "1 < sum by (job) (up)",
            "histogram_quantile(0.9, sum by (job, le) (rate(h_bucket[5m]))) > 1",
            "max_over_time(sum by (job) (up)[5m:1m]) > 3",
            "max by (instance, job) (sum by (job) (up)) > 1",
        ] {
            let found = lints(expr, text);
            assert!(found.iter().any(|warning| warning.contains("$labels.instance")), "{expr}: {found:?}");
        }
    }

    #[test]
    fn labels_that_may_be_there_are_not() {
        let text = "{{ $labels.job }} on {{ $labels.instance }}";
        for expr in [
            "up == 0",
            "100 * (count by (job, instance) (up == 0) / count by (job, instance) (up)) > 10",
            "topk(3, up) > 0",
            "sum by (job, instance) (up) > 1",
            "sum(a) by (job) > 1 or up == 0",
            "up == 0 and on (job) sum by (job) (a) > 1",
            "up * on (job) group_left (instance) max by (job, instance) (a) > 0",
            "absent(up{job=\"a\", instance=\"b\"})",
            "label_replace(sum by (job) (up), \"instance\", \"$1\", \"job\", \"(.*)\") > 0",
            "rate(errors_total[5m]) / rate(all_total[5m]) > 0.1",
        ] {
            assert_eq!(lints(expr, text), Vec::<String>::new(), "{expr}");
        }
        // Of other samples.
        let text = "{{ range query \"up\" }}{{ .Labels.instance }}{{ end }}";
        assert_eq!(lints("sum(up) > 1", text), Vec::<String>::new());
    }
}
