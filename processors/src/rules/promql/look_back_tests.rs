//! More samples than there is room for: rules that look back to what was dropped say so, and the others go on.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use highwater_pipeline::data::Control;
use highwater_pipeline::runtime::{At, Effects};
use serde_json::Value;

use super::super::file::RuleFile;
use super::incremental_tests::{START_MS, rows, snapshot};
use super::plan::GroupPlan;
use super::ticks::Ticks;

const RULES: &str = "
groups:
  - name: g
    rules:
      - {record: long, expr: 'sum_over_time(a[1h])'}
      - {record: short, expr: 'sum_over_time(a[6s])'}
";

#[test]
fn rules_that_look_back_to_what_was_dropped_say_so() {
    let plans = GroupPlan::of_files(&[RuleFile::parse("rules.yaml", RULES).unwrap()]).unwrap();
    let make = || Ticks::new("__highwater.rules", 0, 1, &plans, &Arc::default(), false).keeping_at_most(100);
    let errors = |ticks: &Ticks| {
        let state = snapshot(ticks);
        let error = |rule: usize| {
            let section = state.sections().iter().find(|one| one.name == format!("promql/rule/0/{rule}")).unwrap();
            let saved: Value = serde_json::from_slice(&section.body).unwrap();
            saved["tenants"]["default"]["last_error"].as_str().map(str::to_owned)
        };
        (error(0), error(1))
    };
    let mut ticks = make();
    let mut effects = Effects::new();
    let mut second = |ticks: &mut Ticks, second: i64| {
        let now_ms = START_MS + second * 1_000;
        ticks.rows(&rows(now_ms, &[(0, 0, 1)], second)).unwrap();
        let watermark_us = Some(now_ms * 1_000);
        let source = "metrics/0".to_owned();
        let progress = Control::Progress { source, position: second, watermark_us, idle: false, rules: None };
        let at = At { position: second, append_time_us: 0, watermark_us: None, idle: false };
        ticks.progress(at, &progress, &mut effects).unwrap();
    };
    // One sample comes and two are recorded a second.
    (0..30).for_each(|at| second(&mut ticks, at));
    assert_eq!(errors(&ticks), (None, None));
    (30..60).for_each(|at| second(&mut ticks, at));
    let (long, short) = errors(&ticks);
    let long = long.unwrap();
    assert!(long.starts_with("the rule looks back 3600s, and samples up to 2026-03-01T00:00:"), "{long}");
    assert_eq!(short, None);
    // A restart does not forget it.
    let saved = snapshot(&ticks);
    let mut restored = make();
    restored.restore(&saved).unwrap();
    second(&mut restored, 60);
    assert_eq!(errors(&restored), (Some(long), None));
}
