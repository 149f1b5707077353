//! Answers of the Prometheus API as JSON, written in pieces so that a large one is never in memory as text.
//!
//! Numbers are as Prometheus writes them: values are strings (shortest digits that read back, an exponent below 1e-6 and from 1e21 on in
//! vectors and matrices, none in scalars), times are seconds with up to three decimals.

use std::io::Write as _;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use highwater_promql::{Labels, Sample, Series, Value, VectorSample};
use serde::Serialize;

/// A piece is sent once it is this large, bytes.
const PIECE_BYTES: usize = 64 << 10;

/// What goes with an answer besides its data.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Remarks {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) infos: Vec<String>,
}

impl Remarks {
    /// A warning and nothing else.
    pub(super) fn warning(text: &str) -> Self {
        Self { warnings: vec![text.to_owned()], infos: Vec::new() }
    }
}

/// What is said where a limit cut results off.
pub(super) const TRUNCATED: &str = "results truncated due to limit";

/// A small answer: any data that serialises.
pub(super) fn success(data: &impl Serialize) -> Response {
    success_with(data, &Remarks::default())
}

/// The same with remarks.
pub(super) fn success_with(data: &impl Serialize, remarks: &Remarks) -> Response {
    #[derive(Serialize)]
    struct Answer<'a, T> {
        status: &'static str,
        data: &'a T,
        #[serde(flatten)]
        remarks: &'a Remarks,
    }
    axum::Json(Answer { status: "success", data, remarks }).into_response()
}

/// How much work a query was, as `stats` asks for it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct QueryStats {
    pub(super) timings: Timings,
    pub(super) samples: Samples,
}

/// Seconds.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Timings {
    pub(super) eval_total_time: f64,
    pub(super) result_sort_time: f64,
    pub(super) query_preparation_time: f64,
    pub(super) inner_eval_time: f64,
    pub(super) exec_queue_time: f64,
    pub(super) exec_total_time: f64,
}

/// Samples of a query.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Samples {
    pub(super) total_queryable_samples: u64,
    pub(super) samples_read: u64,
    pub(super) series_touched: u64,
    pub(super) peak_samples: u64,
}

/// The answer of a query.
pub(super) fn query_answer(value: Value, stats: Option<&QueryStats>, remarks: &Remarks) -> Response {
    let mut head = Vec::with_capacity(256);
    put(
        &mut head,
        format_args!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"{}\",\"result\":", value.type_name()),
    );
    let mut tail = Vec::new();
    if let Some(stats) = stats {
        tail.extend_from_slice(b",\"stats\":");
        json(&mut tail, stats);
    }
    tail.push(b'}');
    if !remarks.warnings.is_empty() {
        tail.extend_from_slice(b",\"warnings\":");
        json(&mut tail, &remarks.warnings);
    }
    if !remarks.infos.is_empty() {
        tail.extend_from_slice(b",\"infos\":");
        json(&mut tail, &remarks.infos);
    }
    tail.push(b'}');
    let mut pieces = Pieces { buffer: head, rest: Rest::of(value), written: 0, tail: Some(tail) };
    let first = pieces.next().unwrap_or_default();
    let body = match pieces.tail {
        // That was all of it.
        None => Body::from(first),
        Some(_) => {
            let pieces = std::iter::once(first).chain(pieces).map(Ok::<_, std::convert::Infallible>);
            Body::from_stream(futures::stream::iter(pieces))
        }
    };
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What is still to be written of a value.
enum Rest {
    One(Value),
    Vector(std::vec::IntoIter<VectorSample>),
    Matrix(std::vec::IntoIter<Series>),
    Nothing,
}

impl Rest {
    fn of(value: Value) -> Self {
        match value {
            Value::Vector(samples) => Self::Vector(samples.into_iter()),
            Value::Matrix(series) => Self::Matrix(series.into_iter()),
            one => Self::One(one),
        }
    }
}

/// The bytes of an answer, piece by piece.
struct Pieces {
    buffer: Vec<u8>,
    rest: Rest,
    written: usize,
    tail: Option<Vec<u8>>,
}

impl Pieces {
    /// Writes some more; false at the end of the value.
    fn advance(&mut self) -> bool {
        let out = &mut self.buffer;
        match &mut self.rest {
            Rest::Nothing => return false,
            Rest::One(value) => write_single(out, value),
            Rest::Vector(samples) => {
                let next = samples.next();
                out.extend_from_slice(separator(self.written, next.is_some()));
                if let Some(sample) = next {
                    write_sample(out, &sample);
                    self.written += 1;
                    return true;
                }
            }
            Rest::Matrix(all) => {
                let next = all.next();
                out.extend_from_slice(separator(self.written, next.is_some()));
                if let Some(series) = next {
                    write_series(out, &series);
                    self.written += 1;
                    return true;
                }
            }
        }
        self.rest = Rest::Nothing;
        true
    }
}

/// What stands before the next element of an array, or closes it.
fn separator(written: usize, more: bool) -> &'static [u8] {
    match (written, more) {
        (0, true) => b"[",
        (0, false) => b"[]",
        (_, true) => b",",
        (_, false) => b"]",
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        while self.buffer.len() < PIECE_BYTES && self.advance() {}
        if self.buffer.len() < PIECE_BYTES {
            let tail = self.tail.take()?;
            self.buffer.extend_from_slice(&tail);
        }
        Some(Bytes::from(std::mem::take(&mut self.buffer)))
    }
}

fn write_single(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Scalar { timestamp_ms, value } => {
            out.push(b'[');
            write_time(out, *timestamp_ms);
            put(out, format_args!(",\"{}\"]", highwater_promql::format_float(*value)));
        }
        Value::String { timestamp_ms, value } => {
            out.push(b'[');
            write_time(out, *timestamp_ms);
            out.push(b',');
            json(out, value);
            out.push(b']');
        }
        Value::Vector(_) | Value::Matrix(_) => out.extend_from_slice(b"[]"),
    }
}

fn write_sample(out: &mut Vec<u8>, sample: &VectorSample) {
    out.extend_from_slice(b"{\"metric\":");
    write_labels(out, &sample.labels);
    match &sample.sample {
        Sample::Float(value) => {
            out.extend_from_slice(b",\"value\":");
            write_point(out, sample.timestamp_ms, *value);
        }
        Sample::Histogram(histogram) => {
            out.extend_from_slice(b",\"histogram\":");
            write_histogram_point(out, sample.timestamp_ms, histogram);
        }
    }
    out.push(b'}');
}

fn write_series(out: &mut Vec<u8>, series: &Series) {
    out.extend_from_slice(b"{\"metric\":");
    write_labels(out, &series.labels);
    for (i, (time_ms, value)) in series.timestamps_ms.iter().zip(&series.values).enumerate() {
        out.extend_from_slice(if i == 0 { b",\"values\":[" } else { b"," });
        write_point(out, *time_ms, *value);
    }
    if !series.timestamps_ms.is_empty() {
        out.push(b']');
    }
    for (i, (time_ms, histogram)) in series.histograms.iter().enumerate() {
        out.extend_from_slice(if i == 0 { b",\"histograms\":[" } else { b"," });
        write_histogram_point(out, *time_ms, histogram);
    }
    if !series.histograms.is_empty() {
        out.push(b']');
    }
    out.push(b'}');
}

fn write_labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json(out, name);
        out.push(b':');
        json(out, value);
    }
    out.push(b'}');
}

fn write_point(out: &mut Vec<u8>, time_ms: i64, value: f64) {
    out.push(b'[');
    write_time(out, time_ms);
    out.extend_from_slice(b",\"");
    write_float(out, value);
    out.extend_from_slice(b"\"]");
}

/// Seconds, with decimals only where there are any.
fn write_time(out: &mut Vec<u8>, time_ms: i64) {
    if time_ms < 0 {
        out.push(b'-');
    }
    let (seconds, ms) = (time_ms.unsigned_abs() / 1000, time_ms.unsigned_abs() % 1000);
    put(out, format_args!("{seconds}"));
    if ms > 0 {
        put(out, format_args!(".{ms:03}"));
    }
}

/// A value as vectors and matrices have it.
pub(super) fn write_float(out: &mut Vec<u8>, value: f64) {
    let size = value.abs();
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if size != 0.0 && !(1e-6..1e21).contains(&size) {
        // `1.5e-7` here, `1.5e-07` there.
        let text = format!("{value:e}");
        match text.split_once('e') {
            Some((digits, exponent)) => {
                let (sign, exponent) = match exponent.strip_prefix('-') {
                    Some(exponent) => ('-', exponent),
                    None => ('+', exponent),
                };
                put(out, format_args!("{digits}e{sign}{exponent:0>2}"));
            }
            None => out.extend_from_slice(text.as_bytes()),
        }
    } else {
        put(out, format_args!("{value}"));
    }
}

fn write_histogram_point(out: &mut Vec<u8>, time_ms: i64, histogram: &highwater_promql::Histogram) {
    out.push(b'[');
    write_time(out, time_ms);
    out.push(b',');
    super::histogram::write(out, histogram);
    out.push(b']');
}

/// Writing to memory cannot fail.
pub(super) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _written = out.write_fmt(text);
}

/// What can be serialised here has no maps with odd keys, so it does not fail.
fn json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    let _written = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests {
    use highwater_promql::{Labels, Series};
    use http_body_util::BodyExt;

    use super::*;

    fn float(value: f64) -> String {
        let mut out = Vec::new();
        write_float(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    fn time(time_ms: i64) -> String {
        let mut out = Vec::new();
        write_time(&mut out, time_ms);
        String::from_utf8(out).unwrap()
    }

    async fn text(value: Value) -> String {
        let response = query_answer(value, None, &Remarks::default());
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[test]
    fn numbers_are_prometheuss() {
        for (value, wanted) in [
            (1.0, "1"),
            (-0.0, "-0"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e-6, "0.000001"),
            (1.5e-7, "1.5e-07"),
            (1e-300, "1e-300"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (1e21, "1e+21"),
            (-1.5e100, "-1.5e+100"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(float(value), wanted);
        }
        for (time_ms, wanted) in [
            (0, "0"),
            (1_435_781_451_781, "1435781451.781"),
            (1_000, "1"),
            (1_050, "1.050"),
            (7, "0.007"),
            (-1_500, "-1.500"),
        ] {
            assert_eq!(time(time_ms), wanted);
        }
    }

    #[tokio::test]
    async fn each_kind_of_value_has_its_shape() {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "a\"<b>")]);
        let scalar = Value::Scalar { timestamp_ms: 1500, value: 1e30 };
        assert_eq!(
            text(scalar).await,
            r#"{"status":"success","data":{"resultType":"scalar","result":[1.500,"1000000000000000000000000000000"]}}"#
        );
        let string = Value::String { timestamp_ms: 0, value: "a\"b".to_owned() };
        assert_eq!(text(string).await, r#"{"status":"success","data":{"resultType":"string","result":[0,"a\"b"]}}"#);
        assert_eq!(
            text(Value::Vector(Vec::new())).await,
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#
        );
        let sample = VectorSample { labels: labels.clone(), timestamp_ms: 1000, sample: Sample::Float(f64::NAN) };
        assert_eq!(
            text(Value::Vector(vec![sample.clone(), sample])).await,
            concat!(
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a\"<b>"},"value":[1,"NaN"]},"#,
                r#"{"metric":{"__name__":"up","job":"a\"<b>"},"value":[1,"NaN"]}]}}"#
            )
        );
        let series = Series::floats(labels, vec![1000, 2500], vec![1.0, 2.0]);
        assert_eq!(
            text(Value::Matrix(vec![series])).await,
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"up","job":"a\"<b>"},"values":[[1,"1"],[2.500,"2"]]}]}}"#
        );
    }

    #[tokio::test]
    async fn a_large_answer_comes_in_pieces_and_is_one_document() {
        let series = |i: usize| {
            let times: Vec<i64> = (0..1000).collect();
            Series::floats(Labels::from_pairs([("i", i.to_string())]), times.clone(), vec![0.5; times.len()])
        };
        let mut body =
            query_answer(Value::Matrix((0..50).map(series).collect()), None, &Remarks::warning("w")).into_body();
        let (mut pieces, mut all) = (0, Vec::new());
        while let Some(frame) = body.frame().await {
            all.extend_from_slice(&frame.unwrap().into_data().unwrap());
            pieces += 1;
        }
        assert!(pieces > 5, "{pieces}");
        let document: serde_json::Value = serde_json::from_slice(&all).unwrap();
        assert_eq!(document["data"]["result"].as_array().unwrap().len(), 50);
        assert_eq!(document["data"]["result"][49]["values"].as_array().unwrap().len(), 1000);
        assert_eq!(document["warnings"], serde_json::json!(["w"]));
    }
}
