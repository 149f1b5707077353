//! Every script in `scripts/` passes, and together they call every function and use every aggregation.

#![expect(clippy::expect_used, reason = "a test may stop where it stands")]

use std::collections::BTreeSet;
use std::path::Path;

use highwater_promql::parser::{FUNCTIONS, parse};
use highwater_promql::script::{options, run};
use highwater_promql::{Options, ParserOptions};

fn scripts() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut scripts: Vec<(String, String)> = std::fs::read_dir(&directory)
        .expect("tests/scripts")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "test"))
        .map(|path| {
            (
                path.file_name().expect("a name").to_string_lossy().into_owned(),
                std::fs::read_to_string(&path).expect("a script"),
            )
        })
        .collect();
    scripts.sort();
    scripts
}

fn failures(options: &Options, scripts: &[(String, String)]) -> (usize, Vec<String>) {
    let mut passed = 0;
    let mut failures = Vec::new();
    for (name, text) in scripts {
        let report = run(text, options);
        passed += report.passed;
        failures.extend(report.failures.iter().map(|f| format!("{name}:{}: {}\n  {}", f.line, f.query, f.message)));
    }
    (passed, failures)
}

#[test]
fn all_scripts_pass() {
    let (passed, failures) = failures(&options(), &scripts());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(passed > 400, "{passed} evaluations passed");
}

/// Prometheus's default: names go at once. What a script says of names that stay until the end is left out.
#[test]
fn names_that_go_at_once_change_nothing_else() {
    let options = Options { delayed_name_removal: false, ..options() };
    let scripts: Vec<_> =
        scripts().into_iter().filter(|(name, _)| name != "names.test" && name != "classic_histograms.test").collect();
    let (_, failures) = failures(&options, &scripts);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_function_and_aggregation_is_called() {
    let all: String = scripts().into_iter().map(|(_, text)| text).collect();
    let mut words = BTreeSet::new();
    for line in all.lines().filter(|l| l.starts_with("eval")) {
        words.extend(line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map(str::to_owned));
    }
    let missing: Vec<&str> = FUNCTIONS.iter().map(|f| f.name).filter(|f| !words.contains(*f)).collect();
    assert!(missing.is_empty(), "no script calls {missing:?}");
    for op in [
        "avg",
        "bottomk",
        "count",
        "count_values",
        "group",
        "limitk",
        "limit_ratio",
        "max",
        "min",
        "quantile",
        "stddev",
        "stdvar",
        "sum",
        "topk",
    ] {
        assert!(words.contains(op), "no script uses {op}");
    }
}

#[test]
fn what_is_printed_means_the_same() {
    for (name, text) in scripts() {
        for line in text.lines() {
            let Some(query) = line.strip_prefix("eval instant at 0 ") else { continue };
            let Ok(expr) = parse(query, &ParserOptions::all()) else { continue };
            let printed = expr.to_string();
            let again = parse(&printed, &ParserOptions::all()).unwrap_or_else(|e| panic!("{name}: {printed}: {e}"));
            assert_eq!(again.to_string(), printed, "{name}: {query}");
        }
    }
}
