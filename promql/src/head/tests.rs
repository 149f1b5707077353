use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::histogram::Histogram;
use crate::source::MatchOp;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn select(head: &Head, matchers: &[Matcher], start_ms: i64, end_ms: i64) -> Vec<(String, Vec<(i64, f64)>)> {
    let selection = Selection { matchers: matchers.to_vec(), start_ms, end_ms };
    let mut all: Vec<_> = head
        .select(&selection)
        .unwrap()
        .into_iter()
        .map(|s| (s.labels.to_string(), s.timestamps_ms.into_iter().zip(s.values).collect()))
        .collect();
    all.sort_by(|a: &(String, _), b| a.0.cmp(&b.0));
    all
}

#[test]
fn samples_are_found_by_labels_and_time() {
    let mut head = Head::new();
    for (job, offset) in [("a", 0.0), ("b", 100.0)] {
        for i in 0..300_i64 {
            head.append(&labels(&[("__name__", "up"), ("job", job)]), Point::new(i * 15_000, offset + i as f64));
        }
    }
    head.append(&labels(&[("__name__", "down")]), Point::new(0, 1.0));
    assert_eq!((head.series_count(), head.sample_count()), (3, 601));
    let up = Matcher::equal("__name__", "up");
    assert_eq!(
        select(&head, &[up.clone(), Matcher::equal("job", "b")], 15_000, 45_000),
        [(r#"up{job="b"}"#.to_owned(), vec![(30_000, 102.0), (45_000, 103.0)])]
    );
    assert_eq!(select(&head, std::slice::from_ref(&up), i64::MIN, i64::MAX)[1].1.len(), 300);
    for (matchers, count) in [
        (vec![Matcher::new("__name__", MatchOp::Regex, "up|down")], 3),
        (vec![Matcher::new("__name__", MatchOp::Regex, "u.*")], 2),
        (vec![Matcher::new("job", MatchOp::Equal, "")], 1),
        (vec![Matcher::new("job", MatchOp::Regex, "a|")], 2),
        (vec![Matcher::new("job", MatchOp::NotEqual, "a")], 2),
        (vec![up.clone(), Matcher::new("job", MatchOp::NotRegex, "a|b")], 0),
        (vec![Matcher::equal("job", "nosuch")], 0),
        (vec![Matcher::equal("nosuch", "a")], 0),
        (vec![], 3),
    ] {
        assert_eq!(head.matching(&matchers).unwrap().len(), count, "{matchers:?}");
    }
    assert!(head.matching(&[Matcher::new("job", MatchOp::Regex, "(")]).is_err());
}

#[test]
fn what_is_old_goes_and_leaves_nothing_behind() {
    let mut head = Head::new();
    let empty = head.memory_bytes();
    let short = labels(&[("__name__", "x"), ("id", "short")]);
    let long = labels(&[("__name__", "x"), ("id", "long")]);
    let gone = head.append(&short, Point::new(0, 1.0));
    assert!(gone.is_new);
    let gone = gone.series;
    let mut kept = gone;
    for i in 0..1_000_i64 {
        kept = head.append(&long, Point::new(i * 1000, 1.0)).series;
    }
    let mut dropped = Vec::new();
    assert_eq!(head.truncate(500_000, |series, last_ms| dropped.push((series, last_ms))), [gone]);
    assert_eq!(dropped, [(gone, 0), (kept, 499_000)]);
    assert!(!head.append_to(gone, Point::new(1, 1.0)));
    assert_eq!((head.find(&short), head.labels(gone)), (None, None));
    assert_eq!(head.matching(&[Matcher::equal("id", "short")]).unwrap(), []);
    assert_eq!(head.sample_count(), 500);
    assert_eq!(select(&head, &[], i64::MIN, i64::MAX)[0].1[0].0, 500_000);
    assert_eq!(head.truncate(500_000, |_, _| panic!("nothing is older")), []);
    // Its place is taken again, under other labels.
    let other = head.append(&labels(&[("__name__", "y")]), Point::new(0, 2.0)).series;
    assert_eq!(other, gone);
    assert_eq!(head.labels(other).unwrap().to_string(), "y");
    assert_eq!(head.truncate(i64::MAX, |_, _| {}).len(), 2);
    assert_eq!((head.series_count(), head.sample_count()), (0, 0));
    assert!(!head.has_label("__name__", "x"));
    assert!(head.memory_bytes() < empty + 2_000, "{}", head.memory_bytes());
}

#[test]
fn labels_are_built_for_as_long_as_somebody_reads_them() {
    let mut head = Head::new();
    let series: Vec<SeriesRef> = ["b", "a", "ab"]
        .map(|id| head.append(&labels(&[("__name__", "x"), ("id", id), ("z", "1")]), Point::new(10, 1.0)).series)
        .into();
    let bare = head.memory_bytes();
    let mut sorted = series.clone();
    sorted.sort_by(|a, b| head.compare(*a, *b));
    assert_eq!(sorted, [series[1], series[2], series[0]]);
    assert_eq!(head.compare(series[0], series[0]), Ordering::Equal);
    assert_eq!(head.memory_bytes(), bare);
    assert_eq!(head.labels(series[0]).unwrap().get("id"), Some("b"));
    let built = head.memory_bytes();
    assert!(built > bare + 3 * 32, "{built}");
    head.truncate(0, |_, _| {});
    assert_eq!(head.memory_bytes(), built);
    head.truncate(0, |_, _| {});
    assert_eq!(head.memory_bytes(), bare);
}

#[test]
fn a_time_has_a_float_or_a_native_histogram() {
    let mut head = Head::new();
    let x = labels(&[("__name__", "x")]);
    let histogram = |time_ms: i64, count: f64| {
        let histogram = Arc::new(Histogram { count, ..Histogram::default() });
        HistogramPoint { time_ms, histogram, mark: time_ms * 2 }
    };
    let all = |head: &Head, from_ms: i64, to_ms: i64| {
        let read = head.read(head.find(&x).unwrap(), from_ms, to_ms).unwrap_or_default();
        let histograms = read.histograms.iter().map(|(time_ms, histogram)| (*time_ms, histogram.count));
        (read.timestamps_ms.clone(), histograms.collect::<Vec<_>>())
    };
    let series = head.append_histogram(&x, histogram(20, 1.0)).series;
    for time_ms in 0..30 {
        head.append_to(series, Point::new(time_ms, 1.0));
    }
    assert_eq!((head.sample_count(), all(&head, 0, 100).1), (30, vec![]));
    // Among the compressed ones, and among the newest.
    for (time_ms, count) in [(5, 5.0), (29, 2.0), (5, 6.0), (40, 3.0)] {
        head.append_histogram(&x, histogram(time_ms, count));
    }
    assert_eq!(head.sample_count(), 31);
    let times: Vec<i64> = (0..29).filter(|time_ms| *time_ms != 5).collect();
    assert_eq!(all(&head, -1, 100), (times, vec![(5, 6.0), (29, 2.0), (40, 3.0)]));
    assert_eq!(all(&head, 5, 29), ((6..29).collect(), vec![(29, 2.0)]));
    assert_eq!(head.histograms(series, 5, 29)[0].mark, 58);
    assert_eq!(
        (head.next_ms(series, 4), head.next_ms(series, 28), head.next_ms(series, 40)),
        (Some(5), Some(29), None)
    );
    assert_eq!(head.newest(series, 29).unwrap().time_ms, 28);
    assert_eq!(head.truncate(29, |_, _| {}), []);
    assert_eq!((head.sample_count(), all(&head, 0, 100)), (2, (vec![], vec![(29, 2.0), (40, 3.0)])));
    assert_eq!(head.newest_histogram(series, 39).unwrap().time_ms, 29);
    let mut dropped = None;
    assert_eq!(head.truncate(41, |_, last_ms| dropped = Some(last_ms)), [series]);
    assert_eq!(dropped, Some(40));
    assert_eq!(head.sample_count(), 0);
}

#[test]
fn an_active_series_takes_at_most_half_a_kilobyte() {
    // Three thousand series with ten labels, as a scrape has them, and the last five minutes of a counter each, with the
    // offset of each sample.
    let mut head = Head::new();
    for i in 0..3_000_u32 {
        let (instance, path) = (format!("10.0.{}.{}:9100", i / 250, i % 250), format!("/api/v1/{}", i % 40));
        let series = labels(&[
            ("__name__", "http_requests_total"),
            ("job", "api-server"),
            ("instance", &instance),
            ("method", "GET"),
            ("code", "200"),
            ("path", &path),
            ("region", "eu-west-1"),
            ("zone", "eu-west-1a"),
            ("cluster", "production"),
            ("pod", &format!("api-{i:08x}")),
        ]);
        let mut count = 0.0;
        for k in 0..20_i64 {
            count += f64::from(i % 7) + (k % 3) as f64;
            let offset = k * 3_000 + i64::from(i % 13);
            head.append(&series, Point { time_ms: k * 15_000, value: count, mark: offset });
        }
    }
    let each = head.memory_bytes() / head.series_count();
    assert!(each <= 512, "{each} bytes per series");
}

proptest! {
    /// Against a map: samples in any order, times repeated, truncated now and then.
    #[test]
    fn a_head_is_a_map_of_maps(
        steps in prop::collection::vec(
            (
                0_u8..4,
                prop_oneof![3 => 0_i64..2_000, 1 => -9_000_000_000_i64..9_000_000_000],
                prop_oneof![prop::num::f64::ANY, (0..100_i32).prop_map(f64::from)],
                prop_oneof![3 => 0_i64..9, 1 => Just(NO_MARK), 1 => any::<i64>()],
                0_u8..200,
            ),
            0..900,
        ),
        in_order in any::<bool>(),
    ) {
        let mut head = Head::new();
        let mut model: BTreeMap<u8, BTreeMap<i64, (u64, i64)>> = BTreeMap::new();
        for (at, (series, time_ms, value, mark, truncate)) in (0..).zip(steps) {
            let time_ms = if in_order { at * 7 + time_ms % 10 } else { time_ms };
            let id = series.to_string();
            head.append(&labels(&[("__name__", "x"), ("id", &id)]), Point { time_ms, value, mark });
            model.entry(series).or_default().insert(time_ms, (value.to_bits(), mark));
            if truncate == 0 {
                let before_ms = if in_order { at * 3 } else { 1_000 };
                let gone = head.truncate(before_ms, |_, _| {});
                let were = model.len();
                for samples in model.values_mut() {
                    samples.retain(|time_ms, _| *time_ms >= before_ms);
                }
                model.retain(|_, samples| !samples.is_empty());
                prop_assert_eq!(gone.len(), were - model.len());
            }
        }
        prop_assert_eq!(head.sample_count(), model.values().map(BTreeMap::len).sum::<usize>());
        prop_assert_eq!(head.series_count(), model.len());
        for (id, samples) in &model {
            let id = id.to_string();
            let series = head.find(&labels(&[("__name__", "x"), ("id", &id)])).unwrap();
            for (from_ms, to_ms) in [(i64::MIN, i64::MAX), (99, 1_500), (1_000, 1_000), (-1, 8_000_000_000), (700, 900)] {
                let wanted: Vec<_> = samples.iter().filter(|(t, _)| from_ms < **t && **t <= to_ms).collect();
                let points: Vec<_> =
                    head.points(series, from_ms, to_ms).map(|p| (p.time_ms, (p.value.to_bits(), p.mark))).collect();
                prop_assert_eq!(points, wanted.iter().map(|(t, v)| (**t, **v)).collect::<Vec<_>>());
                let read = head.read(series, from_ms, to_ms).unwrap_or_default();
                prop_assert_eq!(&read.timestamps_ms, &wanted.iter().map(|(t, _)| **t).collect::<Vec<_>>());
                let values: Vec<u64> = read.values.iter().map(|value| value.to_bits()).collect();
                prop_assert_eq!(values, wanted.iter().map(|(_, v)| v.0).collect::<Vec<_>>());
                let newest = samples.range(..=to_ms).next_back().map(|(t, v)| (*t, v.0, v.1));
                prop_assert_eq!(head.newest(series, to_ms).map(|p| (p.time_ms, p.value.to_bits(), p.mark)), newest);
                let next = samples.keys().copied().find(|t| *t > from_ms);
                prop_assert_eq!(head.next_ms(series, from_ms), next);
            }
        }
        let all = select(&head, &[], i64::MIN, i64::MAX);
        prop_assert_eq!(all.len(), model.len());
    }
}
