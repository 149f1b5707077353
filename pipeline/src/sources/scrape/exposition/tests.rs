#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use proptest::prelude::*;

use super::*;
use crate::data::protobuf::{put_bytes, put_double, put_varint, to_zigzag};

/// What a page says, one line an event; or the error.
fn events(page: &[u8], format: Format) -> Result<Vec<String>, String> {
    let mut said = Vec::new();
    let options = Options { native_histograms: true, classic_histograms: false };
    read(page, format, options, |event| {
        said.push(match event {
            Event::Type(name, kind) => format!("type {name} {kind:?}"),
            Event::Help(name, text) => format!("help {name} {}", series::unescape(text)),
            Event::Unit(name, unit) => format!("unit {name} {unit}"),
            Event::Sample { series, value, timestamp_ms } => {
                let labels = series::parse(series).ok_or_else(|| format!("not a series: {series}"))?;
                let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let at = timestamp_ms.map(|ms| format!(" @{ms}")).unwrap_or_default();
                format!("{} {value}{at}", labels.join(","))
            }
            Event::Histogram { series, message, .. } => format!("histogram {series} of {} bytes", message.len()),
        });
        Ok(())
    })
    .map_err(|error| error.to_string())?;
    Ok(said)
}

fn text(page: &str) -> Result<Vec<String>, String> {
    events(page.as_bytes(), Format::Text)
}

fn open_metrics(page: &str) -> Result<Vec<String>, String> {
    events(page.as_bytes(), Format::OpenMetrics)
}

#[test]
fn text_is_read_as_its_definition_says() {
    let page = r#"# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9
metric_without_timestamp_and_labels 12.47
something_weird{problem="division by zero"} +Inf -3982045
#comment
  spaced   { a = "b" , c="d", }   NaN  
# HELP odd A\\B\nC
"#;
    assert_eq!(
        text(page).unwrap(),
        [
            "help http_requests_total The total number of HTTP requests.",
            "type http_requests_total Counter",
            "__name__=http_requests_total,code=200,method=post 1027 @1395066363000",
            "__name__=http_requests_total,code=400,method=post 3 @1395066363000",
            "__name__=msdos_file_access_time_seconds,error=Cannot find file:\n\"FILE.TXT\",path=C:\\DIR\\FILE.TXT 1458255915",
            "__name__=metric_without_timestamp_and_labels 12.47",
            "__name__=something_weird,problem=division by zero inf @-3982045",
            "__name__=spaced,a=b,c=d NaN",
            "help odd A\\B\nC",
        ]
    );
    assert_eq!(text("").unwrap(), [""; 0]);
    assert_eq!(text("a 1").unwrap(), ["__name__=a 1"], "without a line feed");
    assert_eq!(text("a{}1").unwrap(), ["__name__=a 1"]);
    assert_eq!(text("a -inf\nb 1e3\nc .5\nd 1.\ne Infinity").unwrap().len(), 5);
}

#[test]
fn names_may_be_utf8_in_quotes() {
    let page = "# TYPE \"my.metric\" gauge\n{\"my.metric\",\"a b\"=\"c\"} 1\n{\"ünï\"} 2\n{a=\"b\",\"later\"} 3\n";
    assert_eq!(
        text(page).unwrap(),
        ["type my.metric Gauge", "__name__=my.metric,a b=c 1", "__name__=ünï 2", "__name__=later,a=b 3"]
    );
}

#[test]
fn text_that_is_none_is_refused_with_its_line() {
    for (page, said) in [
        ("a", "no value after the name of a metric at line 1"),
        ("a 1\nb", "line 2"),
        ("a{b=\"c\" 1", "no `,` or `}` after a label at line 1"),
        ("a{b=\"c} 1", "a value of a label that is not in quotes"),
        ("a{b=c} 1", "not in quotes"),
        ("a{b} 1", "no `=`"),
        ("a{1b=\"c\"} 1", "no name of a label"),
        ("a 1 2 3", "something after the timestamp"),
        ("a 1 1.5", "milliseconds"),
        ("a 0x1p3", "no number"),
        ("a 1_000", "no number"),
        ("a 1e999", "no number"),
        ("a b", "no number"),
        ("9a 1", "no name of a metric"),
        ("{a=\"b\"} 1", "no name of a metric"),
        ("{} 1", "no name of a metric"),
        ("# TYPE a fish", "a type that there is not"),
        ("a{b=\"\\", "not in quotes"),
    ] {
        let error = text(page).unwrap_err();
        assert!(error.contains(said), "{page}: {error}");
    }
    assert_eq!(events(b"a{b=\"\xff\"} 1", Format::Text).unwrap_err(), "invalid UTF-8 at line 1");
    assert!(text("a{b=\"c\",b=\"d\"} 1").unwrap_err().contains("not a series"), "a label twice");
}

#[test]
fn open_metrics_is_read_as_its_definition_says() {
    let page = r#"# TYPE foo histogram
# UNIT foo_seconds seconds
# HELP foo Some "help" \n here
foo_bucket{le="0.1"} 8 # {} 0.054
foo_bucket{le="+Inf"} 17 # {trace_id="oHg5SJYRHA0",span="a}b"} 9.8 1520879607.789
foo_count 17 1520879608.25
foo_sum 324789.3
foo_created 1520430000.123
# TYPE up stateset
up{up="a"} 1
# EOF
"#;
    assert_eq!(
        open_metrics(page).unwrap(),
        [
            "type foo Histogram",
            "unit foo_seconds seconds",
            "help foo Some \"help\" \n here",
            "__name__=foo_bucket,le=0.1 8",
            "__name__=foo_bucket,le=+Inf 17",
            "__name__=foo_count 17 @1520879608250",
            "__name__=foo_sum 324789.3",
            "__name__=foo_created 1520430000.123",
            "type up StateSet",
            "__name__=up,up=a 1",
        ]
    );
    assert_eq!(open_metrics("# EOF").unwrap(), [""; 0]);
}

#[test]
fn open_metrics_is_stricter() {
    for (page, said) in [
        ("a 1\n", "no # EOF at line 1"),
        ("", "no name of a metric"),
        ("# EOF\na 1\n", "something after # EOF at line 2"),
        ("# EOF\n\n", "something after # EOF"),
        ("\n# EOF\n", "no name of a metric at line 1"),
        ("# a comment\n# EOF", "a comment"),
        ("#comment\n# EOF", "a comment"),
        ("a  1\n# EOF", "no number"),
        ("a 1 \n# EOF", "a timestamp"),
        ("a 1 x\n# EOF", "a timestamp"),
        ("a 1 NaN\n# EOF", "a timestamp"),
        ("a 1 # {a=\"b\"}\n# EOF", "an exemplar"),
        ("a 1 # 1\n# EOF", "an exemplar"),
        ("# TYPE a fish\n# EOF", "a type"),
        ("# UNIT a_seconds metres\n# EOF", "a unit"),
    ] {
        let error = open_metrics(page).unwrap_err();
        assert!(error.contains(said), "{page}: {error}");
    }
}

fn labelled(label: &str, value: &str, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut pair = Vec::new();
    put_bytes(1, label.as_bytes(), &mut pair);
    put_bytes(2, value.as_bytes(), &mut pair);
    let mut metric = Vec::new();
    put_bytes(1, &pair, &mut metric);
    body(&mut metric);
    metric
}

fn family(name: &str, kind: u64, metric: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    put_bytes(1, name.as_bytes(), &mut message);
    put_bytes(2, b"help", &mut message);
    put_varint(3, kind, &mut message);
    put_bytes(4, metric, &mut message);
    let mut page = Vec::new();
    protobuf::delimit(&message, &mut page);
    page
}

fn message(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

#[test]
fn protobuf_says_what_text_says() {
    let gauge = labelled("a", "q\"\n", |metric| {
        put_bytes(2, &message(|gauge| put_double(1, 1.5, gauge)), metric);
        put_varint(6, 1234, metric);
    });
    let summary = labelled("a", "b", |metric| {
        let quantile = message(|quantile| {
            put_double(1, 0.5, quantile);
            put_double(2, 7.0, quantile);
        });
        let summary = message(|summary| {
            put_varint(1, 3, summary);
            put_double(2, 12.0, summary);
            put_bytes(3, &quantile, summary);
        });
        put_bytes(4, &summary, metric);
    });
    let histogram = labelled("a", "b", |metric| {
        let bucket = message(|bucket| {
            put_varint(1, 2, bucket);
            put_double(2, 1.0, bucket);
        });
        let histogram = message(|histogram| {
            put_varint(1, 3, histogram);
            put_double(2, 5.0, histogram);
            put_bytes(3, &bucket, histogram);
        });
        put_bytes(7, &histogram, metric);
    });
    let page = [family("g", 1, &gauge), family("s", 2, &summary), family("h", 4, &histogram)].concat();
    assert_eq!(
        events(&page, Format::Protobuf).unwrap(),
        [
            "type g Gauge",
            "help g help",
            "__name__=g,a=q\"\n 1.5 @1234",
            "type s Summary",
            "help s help",
            "__name__=s_count,a=b 3",
            "__name__=s_sum,a=b 12",
            "__name__=s,a=b,quantile=0.5 7",
            "type h Histogram",
            "help h help",
            "__name__=h_count,a=b 3",
            "__name__=h_sum,a=b 5",
            "__name__=h_bucket,a=b,le=1.0 2",
            "__name__=h_bucket,a=b,le=+Inf 3",
        ]
    );
    for end in 1..page.len() {
        // Cut anywhere, it is read up to a whole family, or refused; it never panics.
        drop(events(&page[..end], Format::Protobuf));
    }
}

#[test]
fn native_histograms_are_those_of_remote_write() {
    let histogram = message(|histogram| {
        put_varint(1, 3, histogram);
        put_double(2, 5.0, histogram);
        put_varint(5, to_zigzag(3), histogram);
        put_double(6, 1e-128, histogram);
        put_varint(7, 1, histogram);
        let span = message(|span| {
            put_varint(1, to_zigzag(-1), span);
            put_varint(2, 2, span);
        });
        put_bytes(12, &span, histogram);
        put_varint(13, to_zigzag(1), histogram);
        put_varint(13, to_zigzag(0), histogram);
    });
    let metric = labelled("a", "b", |metric| put_bytes(7, &histogram, metric));
    let page = family("h", 4, &metric);
    let mut taken = Vec::new();
    let options = Options { native_histograms: true, classic_histograms: false };
    read(&page, Format::Protobuf, options, |event| {
        if let Event::Histogram { series, message, .. } = event {
            let checked = crate::data::histogram::check(message).unwrap();
            taken.push((series.to_owned(), checked.is_ok()));
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(taken, [("{\"h\",\"a\"=\"b\"}".to_owned(), true)]);
}

#[test]
fn content_that_stops_its_reader_says_why() {
    let stopped = read(b"a 1\nb 2\n", Format::Text, Options::default(), |_| Err("enough".into()));
    assert_eq!(stopped, Err(ReadError::Stopped("enough".into())));
}

proptest! {
    #[test]
    fn no_page_makes_a_reader_panic(page in prop::collection::vec(any::<u8>(), 0..200)) {
        probe(&page);
    }

    #[test]
    fn no_text_makes_a_reader_panic(page in "[a-c{}=\"\\\\, \n#0-9.eE+\\-TYPEHL]{0,60}") {
        probe(page.as_bytes());
    }

    #[test]
    fn what_is_written_is_read_back(name in "\\PC{1,8}", value in "\\PC{0,12}") {
        let mut text = String::new();
        series::write(&name, [("l", value.as_str())].into_iter(), &mut text);
        let labels = series::parse(&text).unwrap();
        prop_assert_eq!(labels.get(series::NAME), Some(name.as_str()));
        prop_assert_eq!(labels.get("l").unwrap_or_default(), value.as_str());
    }
}
