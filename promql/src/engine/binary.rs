//! Binary operators: arithmetic, comparisons and sets, between scalars and vectors.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use ahash::{AHashMap, RandomState};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::eval::{Evaluated, Evaluator};
use super::rows::{ABSENT, Cell, Row, is_absent};
use crate::annotations::Annotations;
use crate::error::{Error, Span, execution};
use crate::histogram::{CounterResetHint, Histogram};
use crate::labels::{Labels, is_metric_identity};
use crate::options::Steps;
use crate::parser::{Binary, BinaryOp, Cardinality, Expr, Matching};

pub(super) fn eval(ev: &mut Evaluator<'_>, expr: &Expr, b: &Binary, steps: &Steps) -> Result<Evaluated, Error> {
    let left = ev.eval(&b.left, steps)?;
    let right = ev.eval(&b.right, steps)?;
    let span = expr.span();
    Ok(match (left, right) {
        (Evaluated::Scalar(l), Evaluated::Scalar(r)) => {
            Evaluated::Scalar(l.iter().zip(&r).map(|(l, r)| scalars(b.op, *l, *r)).collect())
        }
        (Evaluated::Vector(rows), Evaluated::Scalar(s)) => {
            Evaluated::Vector(with_scalar(ev, b, rows, &s, false, steps, span)?)
        }
        (Evaluated::Scalar(s), Evaluated::Vector(rows)) => {
            Evaluated::Vector(with_scalar(ev, b, rows, &s, true, steps, span)?)
        }
        (Evaluated::Vector(l), Evaluated::Vector(r)) => {
            let Some(matching) = &b.matching else { return execution("vectors without matching") };
            let sides = Sides::new(matching, &l, &r);
            let rows = if b.op.is_set() {
                sets(b.op, l, r, &sides, steps.count())
            } else {
                vectors(ev, b, matching, &l, &r, &sides, steps, span)?
            };
            Evaluated::Vector(ev.unique(rows, steps)?)
        }
        _ => return execution("binary expression must contain only scalar and instant vector types"),
    })
}

fn bool_value(b: bool) -> f64 {
    if b { 1.0 } else { 0.0 }
}

/// The value of arithmetic.
#[inline(always)]
fn arithmetic(op: BinaryOp, l: f64, r: f64) -> f64 {
    match op {
        BinaryOp::Add => l + r,
        BinaryOp::Sub => l - r,
        BinaryOp::Mul => l * r,
        BinaryOp::Div => l / r,
        BinaryOp::Mod => l % r,
        BinaryOp::Pow => l.powf(r),
        _ => l.atan2(r),
    }
}

#[inline(always)]
fn compare(op: BinaryOp, l: f64, r: f64) -> bool {
    match op {
        BinaryOp::Equal => l == r,
        BinaryOp::NotEqual => l != r,
        BinaryOp::Less => l < r,
        BinaryOp::LessEqual => l <= r,
        BinaryOp::Greater => l > r,
        _ => l >= r,
    }
}

fn scalars(op: BinaryOp, l: f64, r: f64) -> f64 {
    if op.is_comparison() { bool_value(compare(op, l, r)) } else { arithmetic(op, l, r) }
}

/// What an operator makes of two values.
enum Element {
    /// A value.
    Value(Value),
    /// A comparison's left operand, and whether the comparison holds.
    Compared(Value, bool),
    /// The types do not go together.
    Impossible,
}

enum Value {
    Float(f64),
    Histogram(Arc<Histogram>),
}

fn element(op: BinaryOp, l: Cell<'_>, r: Cell<'_>, notes: &mut Annotations, span: Span) -> Element {
    let histogram = |h: Histogram| Element::Value(Value::Histogram(Arc::new(h)));
    let mut impossible = |l: &str, r: &str| {
        notes.incompatible_types(l, op.as_str(), r, span);
        Element::Impossible
    };
    match (l, r) {
        (Cell::Float(l), Cell::Float(r)) => {
            if op.is_comparison() {
                Element::Compared(Value::Float(l), compare(op, l, r))
            } else if matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper) {
                impossible("float", "float")
            } else {
                Element::Value(Value::Float(arithmetic(op, l, r)))
            }
        }
        (Cell::Float(l), Cell::Histogram(r)) => match op {
            BinaryOp::Mul => histogram(r.mul(l).compacted()),
            _ => impossible("float", "histogram"),
        },
        (Cell::Histogram(l), Cell::Float(r)) => match op {
            BinaryOp::Mul => histogram(l.mul(r).compacted()),
            BinaryOp::Div => histogram(l.div(r).compacted()),
            BinaryOp::TrimUpper => histogram(l.trimmed(r, true)),
            BinaryOp::TrimLower => histogram(l.trimmed(r, false)),
            _ => impossible("histogram", "float"),
        },
        (Cell::Histogram(l), Cell::Histogram(r)) => match op {
            BinaryOp::Add | BinaryOp::Sub => {
                let add = op == BinaryOp::Add;
                let mut result = (**l).clone();
                let combined = if add { result.add(r) } else { result.sub(r) };
                let Ok(combined) = combined else {
                    notes.incompatible_bucket_layout(op.as_str(), span);
                    return Element::Impossible;
                };
                let operation = if add { "addition" } else { "subtraction" };
                if combined.counter_resets_collide {
                    notes.counter_reset_collision(operation, span);
                }
                if combined.bounds_reconciled {
                    notes.mismatched_custom_buckets(operation, span);
                }
                if !add {
                    result.counter_reset_hint = CounterResetHint::Gauge;
                }
                histogram(result.compacted())
            }
            BinaryOp::Equal => Element::Compared(Value::Histogram(Arc::clone(l)), l.same_data(r)),
            BinaryOp::NotEqual => Element::Compared(Value::Histogram(Arc::clone(l)), !l.same_data(r)),
            _ => impossible("histogram", "histogram"),
        },
        (Cell::Absent, _) | (_, Cell::Absent) => Element::Impossible,
    }
}

/// Writes two columns' result into one.
#[inline(always)]
fn columns(
    op: BinaryOp,
    return_bool: bool,
    n: usize,
    out: &mut [f64],
    l: impl Fn(usize) -> f64,
    r: impl Fn(usize) -> f64,
    kept: impl Fn(f64, f64) -> f64,
) {
    macro_rules! each {
        ($f:expr) => {
            for step in 0..n {
                let (l, r) = (l(step), r(step));
                out[step] = if is_absent(l) || is_absent(r) { ABSENT } else { $f(l, r) };
            }
        };
    }
    match op {
        BinaryOp::Add => each!(|l: f64, r: f64| l + r),
        BinaryOp::Sub => each!(|l: f64, r: f64| l - r),
        BinaryOp::Mul => each!(|l: f64, r: f64| l * r),
        BinaryOp::Div => each!(|l: f64, r: f64| l / r),
        op if !op.is_comparison() => each!(|l, r| arithmetic(op, l, r)),
        op if return_bool => each!(|l, r| bool_value(compare(op, l, r))),
        op => each!(|l, r| if compare(op, l, r) { kept(l, r) } else { ABSENT }),
    }
}

fn with_scalar(
    ev: &mut Evaluator<'_>,
    b: &Binary,
    rows: Vec<Row>,
    scalar: &[f64],
    swapped: bool,
    steps: &Steps,
    span: Span,
) -> Result<Vec<Row>, Error> {
    let n = steps.count();
    let op = b.op;
    let trims = matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
    let mut out = Vec::with_capacity(rows.len());
    for mut row in rows {
        if let Some(histograms) = row.histograms.take() {
            let source = Row { histograms: Some(histograms), ..row };
            let mut result = Row { drop_name: source.drop_name, ..Row::empty(source.labels.clone(), n) };
            for (step, s) in scalar.iter().enumerate() {
                let cell = source.cell(step);
                if matches!(cell, Cell::Absent) {
                    continue;
                }
                let s = Cell::Float(*s);
                let (l, r) = if swapped { (s, cell) } else { (cell, s) };
                match element(op, l, r, &mut ev.annotations, span) {
                    Element::Impossible => {}
                    Element::Value(Value::Float(v)) => result.values[step] = v,
                    Element::Value(Value::Histogram(h)) => result.set_histogram(step, h),
                    Element::Compared(_, holds) if b.return_bool => result.values[step] = bool_value(holds),
                    // Of a comparison the vector's element stays, on whichever side it is.
                    Element::Compared(_, true) => result.set(step, cell),
                    Element::Compared(_, false) => {}
                }
            }
            row = result;
        } else if trims {
            if row.has_any() {
                ev.annotations.incompatible_types("float", op.as_str(), "float", span);
            }
            continue;
        } else {
            let mut values = vec![ABSENT; n];
            let (v, s) = (&row.values, scalar);
            if swapped {
                columns(op, b.return_bool, n, &mut values, |i| s[i], |i| v[i], |_, r| r);
            } else {
                columns(op, b.return_bool, n, &mut values, |i| v[i], |i| s[i], |l, _| l);
            }
            row.values = values;
        }
        if !row.has_any() {
            continue;
        }
        if op.changes_metric() || b.return_bool {
            ev.drop_metric_name(&mut row);
        }
        out.push(row);
    }
    ev.unique(out, steps)
}

/// Which series of the two sides belong together.
struct Sides {
    left: Vec<usize>,
    right: Vec<usize>,
    count: usize,
}

impl Sides {
    fn new(matching: &Matching, left: &[Row], right: &[Row]) -> Self {
        let hasher = RandomState::new();
        let hash = |labels: &Labels| {
            let mut state = hasher.build_hasher();
            matched(matching, labels).for_each(|label| label.hash(&mut state));
            state.finish()
        };
        // Each group by its first series: signatures as label sets of their own would be an allocation per series.
        let mut groups: Vec<&Labels> = Vec::new();
        let mut table: HashTable<usize> = HashTable::with_capacity(left.len().max(right.len()));
        let mut of_rows = Vec::with_capacity(left.len() + right.len());
        for Row { labels, .. } in left.iter().chain(right) {
            let same = |group: &usize| matched(matching, groups[*group]).eq(matched(matching, labels));
            let entry = table.entry(hash(labels), same, |group| hash(groups[*group]));
            let group = match entry {
                Entry::Occupied(found) => *found.get(),
                Entry::Vacant(place) => {
                    place.insert(groups.len());
                    groups.push(labels);
                    groups.len() - 1
                }
            };
            of_rows.push(group);
        }
        let right = of_rows.split_off(left.len());
        Sides { left: of_rows, right, count: groups.len() }
    }
}

fn is_matched(matching: &Matching, name: &str) -> bool {
    let named = matching.labels.iter().any(|label| label == name);
    if matching.on { named } else { !named && !is_metric_identity(name) }
}

/// The labels by which series match.
fn matched<'a>(matching: &'a Matching, labels: &'a Labels) -> impl Iterator<Item = (&'a str, &'a str)> {
    labels.iter().filter(|(name, _)| is_matched(matching, name))
}

/// The same as a label set.
fn signature(matching: &Matching, labels: &Labels) -> Labels {
    labels.filter(|name| is_matched(matching, name))
}

/// At which steps each group has a series.
fn presence(rows: &[Row], groups: &[usize], count: usize, n: usize) -> Vec<Vec<bool>> {
    let mut present: Vec<Vec<bool>> = vec![Vec::new(); count];
    for (row, group) in rows.iter().zip(groups) {
        let steps = &mut present[*group];
        steps.resize(n, false);
        for (step, there) in steps.iter_mut().enumerate() {
            *there |= row.is_present(step);
        }
    }
    present
}

fn sets(op: BinaryOp, left: Vec<Row>, right: Vec<Row>, sides: &Sides, n: usize) -> Vec<Row> {
    let there = |present: &[Vec<bool>], group: usize, step: usize| present[group].get(step).copied().unwrap_or(false);
    let mut out = Vec::new();
    match op {
        BinaryOp::Or => {
            let present = presence(&left, &sides.left, sides.count, n);
            out.extend(left);
            out.extend(right.iter().zip(&sides.right).map(|(row, g)| row.masked(|step| !there(&present, *g, step))));
        }
        op => {
            let present = presence(&right, &sides.right, sides.count, n);
            let wanted = op == BinaryOp::And;
            out.extend(
                left.iter().zip(&sides.left).map(|(row, g)| row.masked(|step| there(&present, *g, step) == wanted)),
            );
        }
    }
    out.retain(Row::has_any);
    out
}

/// The labels of a result.
fn result_labels(ev: &Evaluator<'_>, b: &Binary, matching: &Matching, many: &Labels, one: &Labels) -> Labels {
    let drops = b.op.changes_metric() || b.return_bool && !ev.options.delayed_name_removal;
    let one_to_one = matching.cardinality == Cardinality::OneToOne;
    let mut labels = many.filter(|n| {
        if drops && is_metric_identity(n) {
            return false;
        }
        !one_to_one || matching.labels.iter().any(|l| l == n) == matching.on
    });
    for name in &matching.include {
        labels = labels.with(name, one.value(name));
    }
    labels
}

#[expect(clippy::too_many_arguments, reason = "both sides, how they match, and where")]
fn vectors(
    ev: &mut Evaluator<'_>,
    b: &Binary,
    matching: &Matching,
    left: &[Row],
    right: &[Row],
    sides: &Sides,
    steps: &Steps,
    span: Span,
) -> Result<Vec<Row>, Error> {
    let n = steps.count();
    let swapped = matching.cardinality == Cardinality::OneToMany;
    // From here on the right side is the "one".
    let (many, one, many_groups, one_groups) =
        if swapped { (right, left, &sides.right, &sides.left) } else { (left, right, &sides.left, &sides.right) };
    let mut groups: Vec<(Vec<usize>, Vec<usize>)> = vec![Default::default(); sides.count];
    for (i, g) in many_groups.iter().enumerate() {
        groups[*g].0.push(i);
    }
    for (i, g) in one_groups.iter().enumerate() {
        groups[*g].1.push(i);
    }
    let filled = matching.fill_left.is_some() || matching.fill_right.is_some();
    let mut op = Operation { ev, b, matching, many, one, swapped, span, n, any_many: None };
    let mut out = Vec::with_capacity(many.len());
    for (m, o) in &groups {
        op.ev.cancel.check()?;
        if o.len() == 1 && !m.is_empty() && !filled && op.single(m, o[0], &mut out)? {
            continue;
        }
        op.group(m, o, &mut out)?;
    }
    out.retain(Row::has_any);
    Ok(out)
}

struct Operation<'a, 'e> {
    ev: &'a mut Evaluator<'e>,
    b: &'a Binary,
    matching: &'a Matching,
    many: &'a [Row],
    one: &'a [Row],
    swapped: bool,
    span: Span,
    n: usize,
    /// At which steps the "many" side has anything; made when it is asked for.
    any_many: Option<Vec<bool>>,
}

impl Operation<'_, '_> {
    fn labels(&self, many: &Labels, one: &Labels) -> Labels {
        result_labels(self.ev, self.b, self.matching, many, one)
    }

    /// A group with one series on the one side, column by column. False where it has to go step by step.
    fn single(&mut self, many: &[usize], one: usize, out: &mut Vec<Row>) -> Result<bool, Error> {
        let o = &self.one[one];
        if o.histograms.is_some() || many.iter().any(|m| self.many[*m].histograms.is_some()) {
            return Ok(false);
        }
        if matches!(self.b.op, BinaryOp::TrimLower | BinaryOp::TrimUpper) {
            return Ok(false);
        }
        let labels: Vec<Labels> = many.iter().map(|m| self.labels(&self.many[*m].labels, &o.labels)).collect();
        if many.len() > 1 {
            let mut seen = ahash::AHashSet::with_capacity(labels.len());
            let unique = labels.iter().all(|l| seen.insert(l));
            if self.matching.cardinality == Cardinality::OneToOne || !unique {
                return Ok(false);
            }
        }
        for (m, labels) in many.iter().zip(labels) {
            let m = &self.many[*m];
            let (l, r) = if self.swapped { (&o.values, &m.values) } else { (&m.values, &o.values) };
            let mut row = Row::empty(labels, self.n);
            columns(self.b.op, self.b.return_bool, self.n, &mut row.values, |i| l[i], |i| r[i], |l, _| l);
            row.drop_name = self.b.return_bool;
            out.push(row);
        }
        Ok(true)
    }

    fn many_at(&mut self, step: usize) -> bool {
        let (many, n) = (self.many, self.n);
        self.any_many.get_or_insert_with(|| (0..n).map(|s| many.iter().any(|m| m.is_present(s))).collect())[step]
    }

    /// A group step by step.
    fn group(&mut self, many: &[usize], one: &[usize], out: &mut Vec<Row>) -> Result<(), Error> {
        let one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        let (left, right) = (self.matching.fill_left, self.matching.fill_right);
        let (fill_many, fill_one) = if self.swapped { (right, left) } else { (left, right) };
        let mut made: AHashMap<(Option<usize>, Option<usize>), usize> = AHashMap::new();
        for step in 0..self.n {
            let mut partner: Option<usize> = None;
            for o in one {
                if !self.one[*o].is_present(step) {
                    continue;
                }
                if let Some(other) = partner {
                    if self.many_at(step) || fill_many.is_some() || fill_one.is_some() {
                        return self.duplicate(other, *o);
                    }
                    continue;
                }
                partner = Some(*o);
            }
            let mut matched = false;
            let mut seen: Vec<usize> = Vec::new();
            for m in many {
                let row = &self.many[*m];
                let cell = row.cell(step);
                if matches!(cell, Cell::Absent) {
                    continue;
                }
                let (partner_cell, partner_labels) = match (partner, fill_one) {
                    (Some(o), _) => (self.one[o].cell(step), self.one[o].labels.clone()),
                    (None, Some(fill)) => (Cell::Float(fill), signature(self.matching, &row.labels)),
                    (None, None) => continue,
                };
                let key = (Some(*m), partner);
                let done = self.step(step, key, (cell, &row.labels), (partner_cell, &partner_labels), &mut made, out);
                let Some(at) = done else { continue };
                if one_to_one {
                    if matched {
                        return execution(
                            "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                        );
                    }
                } else if seen.iter().any(|other| out[*other].labels == out[at].labels) {
                    return execution("multiple matches for labels: grouping labels must ensure unique matches");
                }
                seen.push(at);
                matched = true;
            }
            if let (Some(fill), Some(o), false) = (fill_many, partner, matched) {
                let row = &self.one[o];
                let labels = signature(self.matching, &row.labels);
                self.step(
                    step,
                    (None, Some(o)),
                    (Cell::Float(fill), &labels),
                    (row.cell(step), &row.labels),
                    &mut made,
                    out,
                );
            }
        }
        Ok(())
    }

    /// One result; the index of its row, or nothing where the two values do not go together.
    fn step(
        &mut self,
        step: usize,
        key: (Option<usize>, Option<usize>),
        many: (Cell<'_>, &Labels),
        one: (Cell<'_>, &Labels),
        made: &mut AHashMap<(Option<usize>, Option<usize>), usize>,
        out: &mut Vec<Row>,
    ) -> Option<usize> {
        let (l, r) = if self.swapped { (one.0, many.0) } else { (many.0, one.0) };
        let result = element(self.b.op, l, r, &mut self.ev.annotations, self.span);
        if matches!(result, Element::Impossible) {
            return None;
        }
        let at = match made.get(&key) {
            Some(at) => *at,
            None => {
                let mut row = Row::empty(self.labels(many.1, one.1), self.n);
                row.drop_name = self.b.return_bool;
                out.push(row);
                made.insert(key, out.len() - 1);
                out.len() - 1
            }
        };
        let row = &mut out[at];
        let value = match result {
            Element::Value(value) | Element::Compared(value, true) if !self.b.return_bool => value,
            Element::Compared(_, holds) if self.b.return_bool => Value::Float(bool_value(holds)),
            _ => return Some(at),
        };
        match value {
            Value::Float(v) => row.values[step] = v,
            Value::Histogram(h) => row.set_histogram(step, h),
        }
        Some(at)
    }

    fn duplicate(&self, a: usize, b: usize) -> Result<(), Error> {
        let side = if self.swapped { "left" } else { "right" };
        let group = signature(self.matching, &self.one[b].labels).braced();
        let (mut first, mut second) = (self.one[a].labels.braced(), self.one[b].labels.braced());
        if first > second {
            std::mem::swap(&mut first, &mut second);
        }
        execution(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{first}, {second}];\
             many-to-many matching not allowed: matching labels must be unique on one side"
        ))
    }
}
