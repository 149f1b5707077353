use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
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
            head.append(&labels(&[("__name__", "up"), ("job", job)]), i * 15_000, offset + i as f64);
        }
    }
    head.append(&labels(&[("__name__", "down")]), 0, 1.0);
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
    let gone = head.append(&short, 0, 1.0);
    for i in 0..1_000_i64 {
        head.append(&long, i * 1000, 1.0);
    }
    assert_eq!(head.truncate(500_000), [gone]);
    assert!(!head.append_to(gone, 1, 1.0));
    assert_eq!(head.find(&short), None);
    assert_eq!(head.matching(&[Matcher::equal("id", "short")]).unwrap(), []);
    // Whole chunks: the one of 480,000 to 599,000 stays.
    assert_eq!(head.sample_count(), 1_000 - 480);
    assert_eq!(select(&head, &[], i64::MIN, i64::MAX)[0].1[0].0, 480_000);
    // Its place is taken again, under other labels.
    let other = head.append(&labels(&[("__name__", "y")]), 0, 2.0);
    assert_eq!(other, gone);
    assert_eq!(head.labels(other).unwrap().to_string(), "y");
    assert_eq!(head.truncate(i64::MAX).len(), 2);
    assert_eq!((head.series_count(), head.sample_count()), (0, 0));
    assert_eq!(head.pairs.find("__name__", "x"), None);
    assert!(head.memory_bytes() < empty + 2_000, "{}", head.memory_bytes());
}

#[test]
fn an_active_series_takes_less_than_four_hundred_bytes() {
    // Three thousand series with ten labels, as a scrape has them, and the last five minutes of a counter each.
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
            head.append(&series, k * 15_000, count);
        }
    }
    let each = head.memory_bytes() / head.series_count();
    assert!(each <= 400, "{each} bytes per series");
}

proptest! {
    /// Against a map: samples in any order, times repeated, truncated now and then.
    #[test]
    fn a_head_is_a_map_of_maps(
        steps in prop::collection::vec((0_u8..4, 0_i64..2_000, prop::num::f64::ANY, 0_u8..200), 0..600),
    ) {
        let mut head = Head::new();
        let mut model: BTreeMap<u8, BTreeMap<i64, u64>> = BTreeMap::new();
        let mut cut = i64::MIN;
        for (series, time_ms, value, truncate) in steps {
            let id = series.to_string();
            head.append(&labels(&[("__name__", "x"), ("id", &id)]), time_ms, value);
            model.entry(series).or_default().insert(time_ms, value.to_bits());
            if truncate == 0 {
                cut = cut.max(1_000);
                head.truncate(1_000);
                for samples in model.values_mut() {
                    samples.retain(|time_ms, _| *time_ms >= 1_000);
                }
                model.retain(|_, samples| !samples.is_empty());
            }
        }
        // Samples before the last cut may have stayed in their chunks.
        let from = cut.saturating_sub(1);
        let wanted: Vec<_> = model
            .iter()
            .map(|(id, samples)| {
                let samples: Vec<_> = samples.iter().filter(|(t, _)| **t > from).map(|(t, v)| (*t, *v)).collect();
                (format!("x{{id=\"{id}\"}}"), samples)
            })
            .filter(|(_, samples)| !samples.is_empty())
            .collect();
        let found: Vec<_> = select(&head, &[], from, i64::MAX)
            .into_iter()
            .map(|(name, samples)| (name, samples.into_iter().map(|(t, v)| (t, v.to_bits())).collect::<Vec<_>>()))
            .collect();
        prop_assert_eq!(found, wanted);
        let count: usize = head.matching(&[]).unwrap().into_iter().map(|s| head.samples(s, i64::MIN, i64::MAX).0.len()).sum();
        prop_assert_eq!(head.sample_count(), count);
    }
}
