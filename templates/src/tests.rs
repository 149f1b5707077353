//! What Go, Prometheus and Alertmanager make of the same templates.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use crate::prometheus::{Context, Query, Sample, expand, parse};
use crate::value::Value;
use crate::{format_float, sprintf};

struct Fixed;

impl Query for Fixed {
    fn query(&self, expr: &str) -> Result<Vec<Sample>, String> {
        let sample = |pairs: &[(&str, &str)], value| Sample {
            labels: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            value,
        };
        match expr {
            "metric" => Ok(vec![
                sample(&[("__name__", "metric"), ("instance", "b")], 21.0),
                sample(&[("__name__", "metric"), ("instance", "a")], 11.0),
            ]),
            "none" => Ok(Vec::new()),
            "string" => Ok(vec![sample(&[("__value__", "a")], 0.0)]),
            other => Err(format!("parse error: {other}")),
        }
    }
}

fn render_with(text: &str, value: f64) -> Result<String, String> {
    let labels =
        BTreeMap::from([("instance".to_owned(), "host:9100".to_owned()), ("job".to_owned(), "node".to_owned())]);
    let external = BTreeMap::from([("region".to_owned(), "eu".to_owned())]);
    let context = Context {
        queries: &Fixed,
        now_ms: 1_433_497_661_620,
        external_labels: &external,
        external_url: "http://testhost:9090/path/prefix",
    };
    let template = parse("test", text).map_err(|e| e.to_string())?;
    template.execute(&context.data(&labels, value), &context).map_err(|e| e.to_string())
}

fn render(text: &str) -> String {
    render_with(text, 1.0).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn prometheus_own_examples() {
    let cases = [
        ("plain text", "plain text"),
        ("{{ query \"metric\" | len }}", "2"),
        ("{{ query \"metric\" | first | value }}", "21"),
        ("{{ query \"metric\" | first | label \"instance\" }}", "b"),
        ("{{ query \"string\" | first | strvalue }}", "a"),
        ("{{ range query \"none\" }}X{{ else }}none{{ end }}", "none"),
        (
            "{{ range query \"metric\" | sortByLabel \"instance\" }}{{.Labels.instance}}:{{.Value}}: {{end}}",
            "a:11: b:21: ",
        ),
        ("{{ (query \"metric\" | first).Value }}", "21"),
        ("{{ query \"none\" | len }}{{ $labels.nothing }}", "0"),
        ("{{ with query \"metric\" }}{{ . | first | value | printf \"%.1f\" }}{{ end }}", "21.0"),
        ("{{ range $i, $s := query \"metric\" }}{{ $i }}={{ $s.Labels.instance }};{{ end }}", "0=b;1=a;"),
        ("{{define \"x\"}}x{{.}}{{end}}{{template \"x\" 1}}", "x1"),
        ("{{define \"x\"}}{{.arg0}}-{{.arg1}}{{end}}{{template \"x\" (args 1 \"b\")}}", "1-b"),
        ("{{ define \"a.b\" }}hi {{ . }}{{ end }}{{ tmpl \"a.b\" \"you\" }}", "hi you"),
        ("{{ \"http://x y/?a=b\" | urlQueryEscape }}", "http%3A%2F%2Fx+y%2F%3Fa%3Db"),
        (
            "{{ pathPrefix }} {{ externalURL }} {{ $externalURL }}",
            "/path/prefix http://testhost:9090/path/prefix http://testhost:9090/path/prefix",
        ),
        ("{{ $externalLabels.region }} {{ .ExternalLabels.region }}", "eu eu"),
        ("{{ graphLink \"up{a=\\\"b\\\"}\" }}", "/graph?g0.expr=up%7Ba%3D%22b%22%7D&g0.tab=0"),
        ("{{ tableLink \"up\" }}", "/graph?g0.expr=up&g0.tab=1"),
        ("{{ reReplaceAll \"(a)b\" \"x$1\" \"ab\" }}", "xa"),
        (
            "{{ \"aa bb CC\" | title }} {{ \"aa bb CC\" | toUpper }} {{ \"aa bb CC\" | toLower }}",
            "Aa Bb CC AA BB CC aa bb cc",
        ),
        ("{{ match \"[a-z]+\" \"aa\" }} {{ match \"[0-9]\" \"aa\" }}", "true false"),
        ("{{ stripPort \"host:80\" }} {{ stripPort \"[::1]:80\" }} {{ stripPort \"host\" }}", "host ::1 host"),
        (
            "{{ stripDomain \"host.example.org\" }} {{ stripDomain \"host.example.org:80\" }} {{ stripDomain \"1.2.3.4:80\" }}",
            "host host:80 1.2.3.4:80",
        ),
        ("{{ parseDuration \"1h2m10ms\" }}", "3720.01"),
        (
            "{{ 1435065584.128 | humanizeTimestamp }} {{ humanizeTimestamp 0 }}",
            "2015-06-23 13:19:44.128 +0000 UTC 1970-01-01 00:00:00 +0000 UTC",
        ),
        (
            "{{ (1435065584.128 | toTime).Year }} {{ (toTime 1435065584.128).Format \"2006-01-02T15:04:05.000Z07:00\" }}",
            "2015 2015-06-23T13:19:44.128Z",
        ),
        ("{{ toDuration 3723.5 }} {{ now }}", "1h2m3.5s 1.43349766162e+09"),
        ("{{ toJson $labels }}", "{\"instance\":\"host:9100\",\"job\":\"node\"}"),
        ("{{ $labels }}", "map[instance:host:9100 job:node]"),
        ("{{ .Value }} {{ .Labels.job }}", "1 node"),
        ("{{ safeHtml \"<b>\" }}", "<b>"),
    ];
    for (text, expected) in cases {
        assert_eq!(render(text), expected, "{text}");
    }
}

#[test]
fn humanised() {
    let cases: &[(&str, &[(f64, &str)])] = &[
        (
            "humanize",
            &[
                (0.0, "0"),
                (1.0, "1"),
                (1_234_567.0, "1.235M"),
                (0.12, "120m"),
                (-1_500.0, "-1.5k"),
                (1e30, "1e+06Y"),
                (f64::INFINITY, "+Inf"),
                (f64::NEG_INFINITY, "-Inf"),
                (f64::NAN, "NaN"),
                (999.96, "1000"),
                (1e-7, "100n"),
            ],
        ),
        (
            "humanize1024",
            &[(0.0, "0"), (1.0, "1"), (1_048_576.0, "1Mi"), (0.12, "0.12"), (-2_048.0, "-2ki"), (1e12, "931.3Gi")],
        ),
        (
            "humanizeDuration",
            &[
                (0.0, "0s"),
                (1.0, "1s"),
                (60.0, "1m 0s"),
                (3_600.0, "1h 0m 0s"),
                (86_400.0, "1d 0h 0m 0s"),
                (86_400.0 + 3_661.0, "1d 1h 1m 1s"),
                (-90.0, "-1m 30s"),
                (0.1, "100ms"),
                (0.0001, "100us"),
                (0.12345, "123.5ms"),
                (899.9, "14m 59s"),
                (59.9, "59.9s"),
            ],
        ),
        (
            "humanizePercentage",
            &[(-0.22222, "-22.22%"), (0.0, "0%"), (0.1234567, "12.35%"), (1.23456, "123.5%"), (f64::INFINITY, "+Inf%")],
        ),
    ];
    for (function, values) in cases {
        for (value, expected) in *values {
            let text = render_with(&format!("{{{{ $value | {function} }}}}"), *value).unwrap();
            assert_eq!(text, *expected, "{function} {value}");
        }
    }
    assert_eq!(render("{{ humanize \"1500\" }} {{ humanizeDuration 90 }}"), "1.5k 1m 30s");
    assert_eq!(render_with("{{ humanizeTimestamp $value }}", f64::NAN).unwrap(), "NaN");
    assert!(render_with("{{ humanizeTimestamp $value }}", 1e300).unwrap_err().contains("overflows int64"));
    assert!(render_with("{{ humanize \"one\" }}", 0.0).unwrap_err().contains("strconv.ParseFloat"));
}

#[test]
fn go_itself() {
    let cases = [
        ("a {{- 1 -}} b", "a1b"),
        ("a {{ 1 }} b", "a 1 b"),
        ("a\n  {{- /* gone */ -}}\n b", "ab"),
        ("x{{/* gone */}}y", "xy"),
        ("{{ if eq $labels.job \"a\" }}1{{ else if eq $labels.job \"node\" }}2{{ else }}3{{ end }}", "2"),
        ("{{ if and (gt $value 0.5) (lt $value 2.0) }}in{{ end }}", "in"),
        ("{{ if or false 0 \"\" }}yes{{ else }}no{{ end }}", "no"),
        ("{{ not true }} {{ not 0 }}", "false true"),
        ("{{ eq 1 2 3 1 }} {{ ne \"a\" \"b\" }} {{ le 1 1 }} {{ ge 1 2 }}", "true true true false"),
        ("{{ with $x := 5 }}{{ $x }}{{ end }}", "5"),
        ("{{ with \"\" }}a{{ else with \"b\" }}{{ . }}{{ end }}", "b"),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
        ("{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ end }}{{ $x }}", "1"),
        ("{{ range $k, $v := $labels }}{{ $k }}={{ $v }},{{ end }}", "instance=host:9100,job=node,"),
        ("{{ range $i, $v := query \"metric\" }}{{ if $i }}{{ break }}{{ end }}{{ $i }}{{ end }}", "0"),
        ("{{ range $i, $v := query \"metric\" }}{{ if not $i }}{{ continue }}{{ end }}{{ $i }}{{ end }}", "1"),
        ("{{ index $labels \"job\" }} {{ index $labels \"nothing\" }}|", "node |"),
        ("{{ slice \"abcdef\" 1 3 }} {{ len \"abc\" }} {{ index \"abc\" 0 }}", "bc 3 97"),
        ("{{ printf \"%s-%d-%.2f-%5d|%-5d|%05d\" \"a\" 3 1.5 42 42 42 }}", "a-3-1.50-   42|42   |00042"),
        ("{{ printf \"%v %q %x %t %%\" 1.5 \"q\\\"\" 255 true }}", "1.5 \"q\\\"\" ff true %"),
        ("{{ print 1 2 \"a\" \"b\" 3 }} {{ println \"x\" 1 }}", "1 2ab3 x 1\n"),
        ("{{ \"a\" | printf \"%s%s\" \"b\" }}", "ba"),
        ("{{ `raw \\n` }} {{ \"esc\\t\\u00e9\" }} {{ 'a' }}", "raw \\n esc\té 97"),
        ("{{ 0x10 }} {{ 1e3 }} {{ -3 }} {{ 1_000 }}", "16 1000 -3 1000"),
        ("{{ html \"<a&'>\" }} {{ urlquery \"a b\" }} {{ js \"it's\" }}", "&lt;a&amp;&#39;&gt; a+b it\\'s"),
        ("{{ block \"b\" 7 }}in {{ . }}{{ end }}", "in 7"),
        ("{{ nil | print }}", ""),
        ("}} { {", "}} { {"),
    ];
    for (text, expected) in cases {
        if text.contains("nil |") {
            assert!(render_with(text, 1.0).unwrap_err().contains("nil is not a command"));
            continue;
        }
        assert_eq!(render(text), expected, "{text}");
    }
    assert_eq!(render_with("{{ $value }}", 1_234_567.0).unwrap(), "1.234567e+06");
    assert_eq!(render_with("{{ $value }}", 0.25).unwrap(), "0.25");
    assert_eq!(render_with("{{ $value }}", 123_456.0).unwrap(), "123456");
}

#[test]
fn floats_as_go_prints_them() {
    let cases = [
        (0.0, 'g', None, "0"),
        (1e6, 'g', None, "1e+06"),
        (123456.0, 'g', None, "123456"),
        (1e-5, 'g', None, "1e-05"),
        (0.0001, 'g', None, "0.0001"),
        (1e100, 'g', None, "1e+100"),
        (100.0, 'g', Some(4), "100"),
        (12345.0, 'g', Some(4), "1.234e+04"),
        (0.5, 'f', Some(0), "0"),
        (1.5, 'f', Some(0), "2"),
        (1.5, 'e', Some(2), "1.50e+00"),
        (-0.0, 'g', None, "-0"),
        (1e21, 'f', None, "1000000000000000000000"),
    ];
    for (number, verb, precision, expected) in cases {
        assert_eq!(format_float(number, verb, precision), expected, "{number} {verb} {precision:?}");
    }
    assert_eq!(sprintf("%d", &[Value::Float(1.0)]), "%!d(float64=1)");
    assert_eq!(sprintf("%s %s", &[Value::text("a")]), "a %!s(MISSING)");
    assert_eq!(sprintf("a", &[Value::Int(1)]), "a%!(EXTRA int=1)");
    assert_eq!(
        sprintf(
            "%+.1f % d %6.2f|%-8s|%8s",
            &[Value::Float(2.0), Value::Int(3), Value::Float(3.25), Value::text("ab"), Value::text("cd")]
        ),
        "+2.0  3   3.25|ab      |      cd"
    );
    assert_eq!(
        sprintf("%f %e %08.3f", &[Value::Float(1.0), Value::Float(1234.5), Value::Float(-3.5)]),
        "1.000000 1.234500e+03 -003.500"
    );
}

#[test]
fn what_is_no_template_is_refused_when_it_is_read() {
    let cases = [
        ("{{ nosuch }}", "function \"nosuch\" not defined"),
        ("{{ $nosuch }}", "undefined variable \"$nosuch\""),
        ("a\n{{ if }}x{{ end }}", ":2: missing value for if"),
        ("{{ if true }}", "unexpected EOF"),
        ("{{ end }}", "unexpected {{end}}"),
        ("{{", "unclosed action"),
        ("{{ \"a }}", "unterminated quoted string"),
        ("{{ $value }", "unrecognized character"),
        ("{{ break }}", "outside {{range}}"),
        ("{{ $labels.a-b }}", "bad number syntax"),
        ("{{ 1 | 2 }}", "non executable command"),
        ("{{ (1 }}", "unclosed left paren"),
    ];
    for (text, expected) in cases {
        let error = parse("test", text).map(|_| ()).expect_err(text);
        assert!(error.is_syntax);
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
}

#[test]
fn what_fails_when_it_is_executed_is_said_in_the_text() {
    let cases = [
        ("{{ query \"metric(\" }}", "error calling query: parse error"),
        ("{{ query \"none\" | first }}", "first() called on vector with no elements"),
        ("{{ .Nothing }}", "can't evaluate field Nothing"),
        ("{{ gt $value 0 }}", "incompatible types for comparison"),
        ("{{ template \"nosuch\" }}", "not defined"),
        ("{{ define \"x\" }}{{ template \"x\" }}{{ end }}{{ template \"x\" }}", "maximum template depth"),
        ("{{ range 2000000 }}{{ end }}", "can't iterate"),
        ("{{ range 1000000 }}{{ range 1000000 }}x{{ end }}{{ end }}", "too much"),
        ("{{ index $labels 1 }}", "should be string"),
        ("{{ 3 4 }}", "can't give argument to non-function"),
    ];
    for (text, expected) in cases {
        let error = render_with(text, 1.0).expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    let labels = BTreeMap::new();
    let context = Context { queries: &Fixed, now_ms: 0, external_labels: &labels, external_url: "" };
    let template = parse("__alert_A", "{{ .Nothing }}").unwrap();
    let text = expand(&template, &context.data(&labels, 0.0), &context);
    assert!(text.starts_with("<error expanding template: "), "{text}");
}
