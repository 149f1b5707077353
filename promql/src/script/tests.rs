use super::*;

fn failures(text: &str) -> Vec<String> {
    run(text, &options()).failures.into_iter().map(|f| format!("{}: {}", f.line, f.message)).collect()
}

#[test]
fn what_is_as_expected_passes_and_what_is_not_is_told() {
    let script = "
load 1m
  up{job=\"a\"} 1 2 3

eval instant at 2m up
  up{job=\"a\"} 3

eval instant at 2m up
  up{job=\"a\"} 4

eval instant at 2m up
  up{job=\"b\"} 3

eval instant at 2m 1 + 1
  2

eval range from 0 to 2m step 1m up
  up{job=\"a\"} 1 2 3

eval range from 0 to 2m step 1m up
  up{job=\"a\"} 1 2 _

eval_fail instant at 2m up + on() group_left() up
  expected_fail_message nothing

nonsense
";
    let report = run(script, &options());
    assert_eq!(report.passed, 3);
    let lines: Vec<usize> = report.failures.iter().map(|f| f.line).collect();
    assert_eq!(lines, [8, 11, 20, 23, 26]);
    assert_eq!(report.failures[0].message, "expected up{job=\"a\"} 4, got 3");
    assert_eq!(report.failures[1].message, "unexpected up{job=\"a\"} in up{job=\"a\"} 3");
    assert_eq!(report.failures[4].message, "invalid command \"nonsense\"");
}

#[test]
fn annotations_and_errors_are_checked() {
    let script = "
load 1m
  up 1 2 3

eval instant at 2m rate(up[3m])
  expect no_info
  {} 0.016666666

eval instant at 2m rate(up[3m])
  expect info msg: PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"up\" (1:6)
  expect no_warn
  {} 0.016666666

eval instant at 2m label_replace(up, \"\", \"x\", \"y\", \"z\")
  expect fail regex: invalid destination label name.*

eval instant at 2m \"a\"
  expect string \"b\"
";
    let failures = failures(script);
    assert_eq!(failures.len(), 2, "{failures:#?}");
    assert!(failures[0].starts_with("5: expected no info"), "{failures:?}");
    assert_eq!(failures[1], "17: expected string \"b\", got \"a\"");
}

#[test]
fn what_newer_and_careless_scripts_have_is_understood() {
    let script = "
load 1m
  # Of two lines for one series the last counts.
  up 1 2 3
  up 4
  down 1x2

eval instant at 0 up
  # It is what was loaded last.
  up 4
# Comments end a command where another follows.
eval instant at 0 down
  expect fail msg: nothing

eval_fail instant at 0 sum(

eval instant at 0 down
  expect no_info
  expect info

eval instant at 0 down
  expect fail
  expect fail

eval instant at 0 sum(

load_with_nhcb 1m
  h_bucket{le=\"1\"} 5
  h_bucket{le=\"+Inf\"} 3

load 1m
  a@st -1m
  b 1
";
    let report = run(script, &options());
    assert_eq!(report.passed, 2, "{report:#?}");
    let told: Vec<String> = report.failures.iter().map(|f| format!("{}: {}", f.line, f.message)).collect();
    assert_eq!(
        told,
        [
            "12: expected an error \"nothing\", got none",
            "19: invalid expect lines, info and no_info cannot be used together",
            "23: invalid expect lines, multiple expect fail lines are not allowed",
            "25: 1:5: parse error: unclosed left parenthesis in sum(",
            "27: h at 0 ms is no native histogram: count is not cumulative: 3 < 5",
            "33: @st line does not fit the following sample line",
        ]
    );
}
