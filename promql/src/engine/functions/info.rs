//! `info`: labels of info metrics, `target_info` above all, for series of the same instance and job.

use ahash::{AHashMap, AHashSet};

use crate::engine::eval::Evaluator;
use crate::engine::plan::{InfoData, info_data, info_reference, info_window};
use crate::engine::rows::{Cell, Row, is_absent, merge_duplicates};
use crate::engine::select::{load, newest};
use crate::error::{Error, execution};
use crate::labels::{Labels, is_metric_identity};
use crate::options::Steps;
use crate::parser::Expr;
use crate::source::{CompiledMatcher, Series};

/// Labels by which a series and an info series find each other.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// An info series at all steps: the times of its samples, and what it is matched by.
struct Info {
    labels: Labels,
    times: Row,
}

pub(super) fn eval(ev: &mut Evaluator<'_>, args: &[Expr], steps: &Steps) -> Result<Vec<Row>, Error> {
    let data = info_data(args);
    let base = ev.vector(&args[0], steps)?;
    let names = data.names.iter().map(|m| m.compile()).collect::<Result<Vec<_>, _>>()?;
    let labels = data.labels.iter().map(|m| m.compile()).collect::<Result<Vec<_>, _>>()?;
    // An info series is not enriched itself.
    let is_info = |row: &Row| names.iter().all(|m| m.matches(row.labels.name()));
    let wanted: Vec<bool> = base.iter().map(|r| !is_info(r)).collect();
    let identified = base.iter().zip(&wanted).any(|(r, w)| *w && IDENTIFYING.iter().any(|l| r.labels.get(l).is_some()));
    let infos = if identified { read(ev, args, &data, &base, &wanted, steps)? } else { Vec::new() };
    let rows = enrich(ev, base, &wanted, &infos, &labels, steps)?;
    merge_duplicates(rows)
}

fn read(
    ev: &mut Evaluator<'_>,
    args: &[Expr],
    data: &InfoData,
    base: &[Row],
    wanted: &[bool],
    steps: &Steps,
) -> Result<Vec<Info>, Error> {
    let series = load(ev, &data.matchers(), info_window(&args[0], steps, ev.options), &|| "info".to_owned())?;
    let lookback = ev.options.lookback_ms;
    let (at, offset) = info_reference(&args[0]);
    // Of series that identify themselves by the same labels, the values of each; an info series has those labels and no other.
    let mut groups: [[AHashSet<&str>; IDENTIFYING.len()]; 1 << IDENTIFYING.len()] = Default::default();
    for row in base.iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(row, _)| row) {
        for (values, label) in groups[presence(&row.labels)].iter_mut().zip(IDENTIFYING) {
            values.insert(row.labels.value(label));
        }
    }
    let identified = |s: &Series| {
        let present = presence(&s.labels);
        present != 0 && groups[present].iter().zip(IDENTIFYING).all(|(values, l)| values.contains(s.labels.value(l)))
    };
    let mut out = Vec::new();
    for s in series.iter().filter(|s| identified(s)) {
        ev.cancel.check()?;
        let times = newest(s, steps, lookback, |t| at.unwrap_or(t) - offset, |time, _| time as f64);
        if times.histograms.is_some() {
            return execution(format!("this should be an info metric, with float samples: {}", s.labels.braced()));
        }
        if times.has_any() {
            out.push(Info { labels: s.labels.clone(), times });
        }
    }
    Ok(out)
}

/// Which of the identifying labels there are, as bits.
fn presence(labels: &Labels) -> usize {
    IDENTIFYING.iter().enumerate().map(|(i, l)| usize::from(labels.get(l).is_some()) << i).sum()
}

fn identity(labels: &Labels) -> Labels {
    labels.filter(|n| IDENTIFYING.contains(&n))
}

fn enrich(
    ev: &Evaluator<'_>,
    base: Vec<Row>,
    wanted: &[bool],
    infos: &[Info],
    labels: &[CompiledMatcher],
    steps: &Steps,
) -> Result<Vec<Row>, Error> {
    let n = steps.count();
    // By identity, then by name.
    let mut index: AHashMap<Labels, Vec<(String, Vec<usize>)>> = AHashMap::new();
    for (i, info) in infos.iter().enumerate() {
        let by_name = index.entry(identity(&info.labels)).or_default();
        match by_name.iter_mut().find(|(name, _)| name == info.labels.name()) {
            Some((_, all)) => all.push(i),
            None => by_name.push((info.labels.name().to_owned(), vec![i])),
        }
    }
    // Two info series of one name and identity at one time: there is no telling which is right.
    for (_, all) in index.values().flatten() {
        for step in 0..n {
            newest_info(infos, all, step)?;
        }
    }
    let needs_match = labels.iter().any(|m| !m.matches(""));
    let mut out: Vec<Row> = Vec::with_capacity(base.len());
    for (row, wanted) in base.into_iter().zip(wanted) {
        ev.cancel.check()?;
        if !wanted {
            out.push(row);
            continue;
        }
        let found = index.get(&identity(&row.labels));
        // Its labels change when another info series becomes the newest.
        let mut made: Vec<(Vec<usize>, Row)> = Vec::new();
        for step in 0..n {
            let cell = row.cell(step);
            if matches!(cell, Cell::Absent) {
                continue;
            }
            let mut chosen = Vec::new();
            for (_, all) in found.into_iter().flatten() {
                chosen.extend(newest_info(infos, all, step)?);
            }
            if chosen.is_empty() && needs_match {
                continue;
            }
            let at = match made.iter().position(|(by, _)| *by == chosen) {
                Some(at) => at,
                None => {
                    let enriched = with_info(&row.labels, chosen.iter().map(|i| &infos[*i].labels), labels)?;
                    made.push((chosen, Row { drop_name: row.drop_name, ..Row::empty(enriched, n) }));
                    made.len() - 1
                }
            };
            made[at].1.set(step, cell);
        }
        out.extend(made.into_iter().map(|(_, row)| row));
    }
    Ok(out)
}

/// The one of some info series whose sample at a step is the newest.
fn newest_info(infos: &[Info], all: &[usize], step: usize) -> Result<Option<usize>, Error> {
    let mut best: Option<(f64, usize)> = None;
    for &i in all {
        let time = infos[i].times.values[step];
        if is_absent(time) {
            continue;
        }
        match best {
            Some((other, _)) if other > time => {}
            Some((other, existing)) if other == time => {
                let (a, b) = (infos[existing].labels.braced(), infos[i].labels.braced());
                return execution(format!(
                    "found duplicate series for info metric: existing {a} @ {other}, new {b} @ {time}"
                ));
            }
            _ => best = Some((time, i)),
        }
    }
    Ok(best.map(|(_, i)| i))
}

fn with_info<'a>(
    base: &Labels,
    infos: impl Iterator<Item = &'a Labels>,
    wanted: &[CompiledMatcher],
) -> Result<Labels, Error> {
    let mut added: Vec<(String, String)> = Vec::new();
    for info in infos {
        for (name, value) in info.iter() {
            if is_metric_identity(name) || !wanted.is_empty() && !wanted.iter().any(|m| m.label() == name) {
                continue;
            }
            if added.iter().any(|(n, v)| n == name && v != value) {
                return execution(format!("conflicting label: {name}"));
            }
            if base.get(name).is_none() {
                added.push((name.to_owned(), value.to_owned()));
            }
        }
    }
    let mut labels = base.clone();
    for (name, value) in added {
        labels = labels.with(&name, &value);
    }
    Ok(labels)
}
