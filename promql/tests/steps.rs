//! Steps evaluated together give what each instant gives alone, whatever the samples.

#![expect(clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]

use std::collections::BTreeMap;

use highwater_promql::{
    Answer, Cancel, CompiledMatcher, Error, ErrorKind, Labels, Options, ParserOptions, Query, STALE_NAN, Sample,
    Selection, Series, SeriesSource, SourceError, Steps, Value,
};
use proptest::prelude::*;

/// Series in memory; answers no more than it is asked for.
struct Memory(Vec<Series>);

impl SeriesSource for Memory {
    fn select(&self, selection: &Selection) -> Result<Vec<Series>, SourceError> {
        let matchers: Vec<CompiledMatcher> =
            selection.matchers.iter().map(|m| m.compile().expect("a matcher")).collect();
        let inside = |t: i64| t > selection.start_ms && t <= selection.end_ms;
        Ok(self
            .0
            .iter()
            .filter(|s| matchers.iter().all(|m| m.matches_labels(&s.labels)))
            .map(|s| {
                let points = s.timestamps_ms.iter().zip(&s.values).filter(|(t, _)| inside(**t));
                let (timestamps_ms, values) = points.map(|(t, v)| (*t, *v)).unzip();
                Series::floats(s.labels.clone(), timestamps_ms, values)
            })
            .filter(|s| !s.is_empty())
            .collect())
    }
}

const QUERIES: &[&str] = &[
    "m",
    "m offset 40s",
    "m offset -40s",
    "m @ 100",
    "-m",
    "m > 3",
    "m > bool 3",
    "m + on (a, b) n",
    "m * on (a) group_left () sum by (a) (n)",
    "m and on (a) n",
    "m or n",
    "m unless on (a, b) n",
    "m / on (a, b) fill (2) n",
    "rate(m[1m])",
    "increase(m[90s])",
    "delta(m[90s])",
    "irate(m[90s])",
    "idelta(m[90s])",
    "changes(m[90s])",
    "resets(m[90s])",
    "sum_over_time(m[70s])",
    "avg_over_time(m[70s])",
    "min_over_time(m[70s])",
    "max_over_time(m[70s])",
    "stddev_over_time(m[70s])",
    "quantile_over_time(0.3, m[70s])",
    "last_over_time(m[70s])",
    "first_over_time(m[70s] offset 20s)",
    "count_over_time(m[70s] @ 200)",
    "absent_over_time(m[20s])",
    "deriv(m[2m])",
    "predict_linear(m[2m], 60)",
    "sum(m)",
    "avg by (a) (m)",
    "min without (a) (m)",
    "max(m)",
    "count by (b) (m)",
    "group(m)",
    "stdvar(m)",
    "quantile(0.7, m)",
    "topk(2, m)",
    "bottomk by (a) (1, m)",
    "count_values(\"v\", m)",
    "absent(m)",
    "scalar(m{a=\"0\", b=\"0\"})",
    "timestamp(m)",
    "clamp(m, 2, 4)",
    "round(m / 3, 0.5)",
    "label_replace(m, \"c\", \"$1\", \"a\", \"(.*)\")",
    "max_over_time(m[2m:30s])",
    "sum_over_time(rate(m[1m])[90s:20s] offset 10s)",
    "avg_over_time(sum(m)[1m:15s] @ 150)",
    "histogram_quantile(0.5, sum by (le) (label_replace(m, \"le\", \"$1\", \"b\", \"(.*)\")))",
    "time() - m",
    "m smoothed",
    "rate(m[1m] smoothed)",
    "increase(m[1m] anchored)",
];

fn series() -> impl Strategy<Value = Vec<Series>> {
    let value = prop_oneof![8 => (0i32..8).prop_map(f64::from), 1 => Just(f64::NAN), 1 => Just(STALE_NAN), 1 => Just(f64::INFINITY)];
    let points = prop::collection::btree_map(0i64..400_000, value, 0..25);
    let one = |name: &'static str, a: u8, b: u8, points: BTreeMap<i64, f64>| {
        let labels = Labels::from_pairs([("__name__", name.to_owned()), ("a", a.to_string()), ("b", b.to_string())]);
        let (times, values) = points.into_iter().unzip();
        Series::floats(labels, times, values)
    };
    prop::collection::vec(points, 8).prop_map(move |all| {
        all.into_iter()
            .enumerate()
            .map(|(i, points)| one(if i < 4 { "m" } else { "n" }, (i % 2) as u8, (i / 2 % 2) as u8, points))
            .collect()
    })
}

fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// What each label set has at a time.
fn vector(value: Value, time: i64) -> BTreeMap<String, f64> {
    match value {
        Value::Scalar { value, .. } => BTreeMap::from([("{}".to_owned(), value)]),
        Value::Vector(samples) => samples
            .into_iter()
            .map(|s| match s.sample {
                Sample::Float(v) => (s.labels.to_string(), v),
                Sample::Histogram(h) => panic!("no histogram was put in, {h} came out"),
            })
            .collect(),
        Value::Matrix(series) => series
            .into_iter()
            .filter_map(|s| s.timestamps_ms.binary_search(&time).ok().map(|i| (s.labels.to_string(), s.values[i])))
            .collect(),
        Value::String { value, .. } => panic!("{value}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn steps_together_are_each_instant_alone(series in series(), start in 0i64..200_000, step in 1_000i64..50_000, steps in 1i64..12, delayed: bool) {
        let source = Memory(series);
        let options = Options { delayed_name_removal: delayed, ..Options::default() };
        for text in QUERIES {
            let query = Query::parse(text, &ParserOptions::all()).expect(text);
            let range = Steps::range(start, start + (steps - 1) * step, step).expect("steps");
            let together = query.evaluate(&source, &range, &options, &Cancel::new());
            let mut parts: Option<Result<Answer, Error>> = None;
            for first in (0..steps as usize).step_by(3) {
                let part = query.evaluate_part(&source, &range, &range.part(first, 3), &options, &Cancel::new());
                parts = Some(match (parts.take(), part) {
                    (Some(Ok(mut all)), Ok(part)) => {
                        all.append(part);
                        Ok(all)
                    }
                    (None, part) => part,
                    (Some(Err(error)), _) | (_, Err(error)) => Err(error),
                });
            }
            match (&together, parts.expect("a part")) {
                (Ok(together), Ok(parts)) => {
                    prop_assert_eq!(format!("{:?}", together.value), format!("{:?}", parts.value), "{} in parts", text);
                    let remarks = |a: &Answer| (a.annotations.warnings(text, 0), a.annotations.infos(text, 0));
                    prop_assert_eq!(remarks(together), remarks(&parts), "{} in parts", text);
                }
                (together, parts) => prop_assert_eq!(together.is_err(), parts.is_err(), "{} in parts", text),
            }
            let alone: Vec<(i64, Result<Value, Error>)> = (0..steps)
                .map(|i| start + i * step)
                .map(|t| (t, query.evaluate(&source, &Steps::instant(t), &options, &Cancel::new()).map(|a| a.value)))
                .collect();
            match together {
                Err(error) => {
                    prop_assert_eq!(error.kind(), ErrorKind::Execution);
                    // An error at one step is an error of the whole; labels that clash clash at no single step perhaps.
                    let clash = error.to_string().contains("same labelset");
                    prop_assert!(clash || alone.iter().any(|(_, v)| v.is_err()), "{}: {}", text, error);
                }
                Ok(answer) => {
                    for (time, value) in alone {
                        let value = value.unwrap_or_else(|e| panic!("{text} at {time}: {e}, together it went well"));
                        let (alone, together) = (vector(value, time), vector(answer.value.clone(), time));
                        prop_assert_eq!(alone.keys().collect::<Vec<_>>(), together.keys().collect::<Vec<_>>(), "{} at {}", text, time);
                        for (labels, v) in &alone {
                            prop_assert!(same(*v, together[labels]), "{} at {}: {} {} {}", text, time, labels, v, together[labels]);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[ -~]{0,60}") {
        let _parsed = Query::parse(&text, &ParserOptions::all());
    }

    #[test]
    fn no_mixture_of_tokens_makes_the_parser_panic(tokens in prop::collection::vec(prop::sample::select(vec![
        "a", "sum", "by", "(", ")", "{", "}", "[", "]", ",", "5m", "1", "\"x\"", "=", "=~", "offset", "@", "+", "-", "^", "and", "on", "bool",
        "group_left", ":", "rate", "start", "step", "fill", "anchored", "#", "\\", "'", "`",
    ]), 0..20)) {
        let text = tokens.join(" ");
        if let Ok(query) = Query::parse(&text, &ParserOptions::all()) {
            let printed = query.expr().to_string();
            prop_assert!(Query::parse(&printed, &ParserOptions::all()).is_ok(), "{} printed as {}", text, printed);
        }
        let _selector = highwater_promql::parser::parse_selector(&text);
        let _series = highwater_promql::parser::parse_series(&text);
    }
}

#[test]
fn limits_and_cancellation_end_a_query() {
    let points: (Vec<i64>, Vec<f64>) = (0..1000).map(|i| (i * 1000, i as f64)).unzip();
    let one = |i: usize| {
        Series::floats(
            Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())]),
            points.0.clone(),
            points.1.clone(),
        )
    };
    let source = Memory((0..10).map(one).collect());
    let query = Query::parse("rate(m[5m])", &ParserOptions::default()).expect("a query");
    let steps = Steps::range(0, 900_000, 1000).expect("steps");
    let ask = |options: Options, cancel: &Cancel| query.evaluate(&source, &steps, &options, cancel).map(|a| a.stats);

    let stats = ask(Options::default(), &Cancel::new()).expect("an answer");
    assert_eq!(stats.series, 10);
    assert!(stats.peak_samples >= 9_000 && stats.total_samples > stats.peak_samples, "{stats:?}");

    let error =
        ask(Options { max_samples: 5_000, ..Options::default() }, &Cancel::new()).expect_err("too many samples");
    assert_eq!(error.to_string(), "query processing would load too many samples into memory in query execution");
    assert_eq!((error.kind(), error.kind().http_status()), (ErrorKind::Execution, 422));

    let error = ask(Options { max_series: 9, ..Options::default() }, &Cancel::new()).expect_err("too many series");
    assert!(error.to_string().contains("more than 9 series (selector m)"), "{error}");

    let error = ask(Options { max_steps: 100, ..Options::default() }, &Cancel::new()).expect_err("too many steps");
    assert_eq!(
        error.to_string(),
        "exceeded maximum resolution of 100 points per timeseries. Try decreasing the query resolution (?step=XX)"
    );
    assert_eq!(error.kind(), ErrorKind::BadData);

    let cancel = Cancel::new();
    cancel.cancel();
    cancel.time_out();
    assert_eq!(
        ask(Options::default(), &cancel).expect_err("canceled").to_string(),
        "query was canceled in query execution"
    );
    let late = Cancel::new();
    late.time_out();
    assert_eq!(ask(Options::default(), &late).expect_err("timed out").kind(), ErrorKind::Timeout);
}

/// What a query says it needs is what it asks for, and all that its answer depends on.
#[test]
fn selections_are_what_is_asked_for() {
    struct Spy(std::cell::RefCell<Vec<Selection>>);
    impl SeriesSource for Spy {
        fn select(&self, selection: &Selection) -> Result<Vec<Series>, SourceError> {
            self.0.borrow_mut().push(selection.clone());
            let point = Series::floats(
                Labels::from_pairs([("__name__", "m"), ("job", "j"), ("instance", "i")]),
                vec![selection.end_ms],
                vec![1.0],
            );
            Ok(vec![point])
        }
    }
    for text in
        QUERIES.iter().chain(&["info(m)", "info(m @ 100, {x=\"y\"})", "m @ start() + m @ end()", "rate(m[step()])"])
    {
        let query = Query::parse(text, &ParserOptions::all()).expect(text);
        let spy = Spy(Default::default());
        let steps = Steps::range(1_000_000, 2_000_000, 30_000).expect("steps");
        let wanted = query.selections(&steps, &Options::default()).expect(text);
        let _answer = query.evaluate(&spy, &steps, &Options::default(), &Cancel::new());
        for asked in spy.0.into_inner() {
            assert!(wanted.contains(&asked), "{text}: {asked:?} is not among {wanted:?}");
        }
    }
}
