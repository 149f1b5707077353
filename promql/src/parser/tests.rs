use super::*;
use crate::ErrorKind;

fn all(text: &str) -> Expr {
    parse(text, &ParserOptions::all()).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn refused(text: &str) -> String {
    let error = parse(text, &ParserOptions::default()).expect_err(text);
    assert_eq!(error.kind(), ErrorKind::BadData);
    error.to_string()
}

#[test]
fn what_is_parsed_is_printed_as_prometheus_does() {
    for (text, printed) in [
        ("1", "1"),
        ("+Inf", "+Inf"),
        ("0x1F", "31"),
        ("017", "15"),
        ("1_000.5", "1000.5"),
        ("5m", "5m"),
        ("-5m", "-5m"),
        ("1e3", "1000"),
        (r#"foo{a="b",c=~"d.*"}"#, r#"foo{a="b",c=~"d.*"}"#),
        (r#"{"foo.bar", "a.b"="c"}"#, r#"{"a.b"="c",__name__="foo.bar"}"#),
        ("sum by (a, b) (foo)", "sum by (a, b) (foo)"),
        ("sum(foo) without (a)", "sum without (a) (foo)"),
        ("topk(5, foo)", "topk(5, foo)"),
        ("a + on (x) group_left (y) b", "a + on (x) group_left (y) b"),
        ("a > bool b", "a > bool b"),
        ("a and b or c unless d", "a and b or c unless d"),
        ("foo[5m] offset 1h @ 10", "foo[5m] @ 10.000 offset 1h"),
        ("foo @ start() offset -5m", "foo @ start() offset -5m"),
        ("rate(foo[5m])[1h:5m] offset 1m", "rate(foo[5m])[1h:5m] offset 1m"),
        ("foo[90s]", "foo[1m30s]"),
        ("foo[5m * 2]", "foo[5m * 2]"),
        ("foo offset (step() + 1s)", "foo offset (step() + 1s)"),
        ("foo offset (1m) * 2", "foo offset (1m) * 2"),
        ("a + fill(0) b", "a + fill (0) b"),
        ("a + fill_left(1) fill_right(-2) b", "a + fill_left (1) fill_right (-2) b"),
        ("rate(foo[5m] smoothed)", "rate(foo[5m] smoothed)"),
        ("sum{a=\"b\"} + by", "sum{a=\"b\"} + by"),
        ("start_time # a comment\n + 1", "start_time + 1"),
        ("h </ 2", "h </ 2"),
        (r#"label_replace(a, "b", "$1", "c", "\\d\"")"#, r#"label_replace(a, "b", "$1", "c", "\\d\"")"#),
    ] {
        let expr = all(text);
        assert_eq!(expr.to_string(), printed, "{text}");
        assert_eq!(all(&expr.to_string()).to_string(), printed, "{text}, printed and parsed again");
    }
}

#[test]
fn operators_bind_as_prometheus_says() {
    let shape = |text: &str| -> String {
        fn nested(e: &Expr) -> String {
            match e {
                Expr::Binary(b) => format!("({}{}{})", nested(&b.left), b.op.as_str(), nested(&b.right)),
                Expr::Unary { negative, inner, .. } => {
                    format!("({}{})", if *negative { '-' } else { '+' }, nested(inner))
                }
                e => e.to_string(),
            }
        }
        nested(&all(text))
    };
    assert_eq!(shape("a + b * c ^ d ^ e"), "(a+(b*(c^(d^e))))");
    assert_eq!(shape("-a ^ b"), "(-(a^b))");
    assert_eq!(shape("-a * b"), "((-a)*b)");
    assert_eq!(shape("a - b - c"), "((a-b)-c)");
    assert_eq!(shape("a or b and c"), "(aor(bandc))");
    assert_eq!(shape("a == bool b + c"), "(a==(b+c))");
    assert_eq!(shape("a offset 1m ^ 2"), "(a offset 1m^2)");
    assert_eq!(shape("2 ^ -a"), "(2^(-a))");
}

#[test]
fn messages_are_prometheus_s() {
    for (text, message) in [
        ("", "unknown position: parse error: no expression found in input"),
        (" ", "1:1: parse error: no expression found in input"),
        ("1 2", "1:3: parse error: unexpected number \"2\""),
        ("foo(", "1:5: parse error: unclosed left parenthesis"),
        ("foo)", "1:5: parse error: unexpected right parenthesis ')'"),
        ("foo{", "1:5: parse error: unexpected end of input inside braces"),
        ("foo{a}", "1:6: parse error: unexpected \"}\" in label matching, expected label matching operator"),
        ("foo{a=1}", "1:7: parse error: unexpected character inside braces: '1'"),
        ("foo[5m", "1:7: parse error: unclosed left bracket"),
        (
            "foo[5m] offset",
            "1:15: parse error: unexpected end of input in offset, expected number, duration, step(), or range()",
        ),
        ("nope(foo)", "1:1: parse error: unknown function with name \"nope\""),
        ("info(foo)", "1:1: parse error: function \"info\" is not enabled"),
        ("rate(foo)", "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector"),
        ("rate(foo[5m], 1)", "1:1: parse error: expected 1 argument(s) in call to \"rate\", got 2"),
        ("sum(foo[5m])", "1:5: parse error: expected type instant vector in aggregation expression, got range vector"),
        (
            "topk(foo)",
            "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1",
        ),
        ("sum()", "1:1: parse error: no arguments for aggregate expression provided"),
        ("1 > 2", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
        ("foo + bool bar", "1:5: parse error: bool modifier can only be used on comparison operators"),
        ("foo and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression"),
        ("foo + \"a\"", "1:7: parse error: binary expression must contain only scalar and instant vector types"),
        ("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ("{a=~\".*\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ("foo{__name__=\"bar\"}", "1:1: parse error: metric name must not be set twice: \"foo\" or \"bar\""),
        (
            "foo offset (1m + 30s) * bar",
            "1:25: parse error: unexpected identifier \"bar\" in offset, expected number, duration, step(), or range()",
        ),
        (
            "foo[1m + ]",
            "1:10: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()",
        ),
        ("foo offset 1m offset 2m", "1:1: parse error: offset may not be set multiple times"),
        (
            "sum(a) offset 1m",
            "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        ("foo @ Inf", "1:1: parse error: timestamp out of bounds for @ modifier: +Inf"),
        ("sum(a)[5m]", "1:7: parse error: ranges only allowed for vector selectors"),
        ("foo[0]", "1:5: parse error: duration must be greater than 0"),
        ("a + on (b) group_left (b) c", "1:3: parse error: label \"b\" must not occur in ON and GROUP clause at once"),
        ("a and on (b) group_left c", "1:1: parse error: no grouping allowed for \"and\" operation"),
        ("a + fill(0) b", "1:1: parse error: binop fill modifiers are experimental and not enabled"),
        (
            "limitk(1, a)",
            "1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
        ),
        ("sum(a,)", "1:6: parse error: trailing commas not allowed in function call args"),
        ("1h1d", "1:1: parse error: not a valid duration string: \"1h1d\""),
        ("\"a", "1:1: parse error: unterminated quoted string"),
        (
            "-\"a\"",
            "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"string\"",
        ),
    ] {
        assert_eq!(refused(text), message, "{text}");
    }
}

#[test]
fn deep_nesting_is_refused_not_overflown() {
    assert!(refused(&"(".repeat(100_000)).contains("nested more than"));
    assert!(refused(&"-".repeat(100_000)).contains("nested more than"));
    assert!(refused(&"a + ".repeat(100_000)).contains("operators in a row"));
    let long = format!("{}a", "a + ".repeat(900));
    assert_eq!(all(&long).to_string(), long);
}

#[test]
fn long_expressions_are_split_over_lines() {
    let expr = all(
        "sum by (job) (rate(http_requests_total{job=\"a\",instance=~\"b.*\"}[5m])) / sum by (job) (rate(http_requests_total{job=\"c\"}[5m]))",
    );
    assert_eq!(
        expr.pretty(),
        "  sum by (job) (rate(http_requests_total{instance=~\"b.*\",job=\"a\"}[5m]))\n/\n  sum by (job) (rate(http_requests_total{job=\"c\"}[5m]))"
    );
}

#[test]
fn series_descriptions() {
    let series = parse_series(r#"up{job="a b"} 1 _ 2x2 _x2 3+2x2 -1-1x1 stale NaN -Inf 1e3"#).unwrap();
    assert_eq!(series.labels.to_string(), r#"up{job="a b"}"#);
    let shown: Vec<String> = series
        .values
        .iter()
        .map(|v| match v {
            SequenceValue::Omitted => "_".to_owned(),
            SequenceValue::Float(v) if crate::is_stale(*v) => "stale".to_owned(),
            SequenceValue::Float(v) => v.to_string(),
            SequenceValue::Histogram(h, _) => h.test_expression(),
        })
        .collect();
    assert_eq!(shown.join(" "), "1 _ 2 2 2 _ _ 3 5 7 -1 -2 stale NaN -inf 1000");
    let series =
        parse_series("h {{schema:1 count:3 sum:2 buckets:[1 2] offset:-1}}+{{schema:1 count:1 buckets:[0 0 1]}}x1")
            .unwrap();
    let SequenceValue::Histogram(last, false) = &series.values[1] else { panic!("{series:?}") };
    assert_eq!(last.test_expression(), "{{schema:1 count:4 sum:2 offset:-1 buckets:[1 2 0 1]}}");
    assert!(parse_series("up 1,2").is_err());
}
