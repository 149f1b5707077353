//! OTLP's JSON, read as generously as the OpenTelemetry Collector reads it.
//!
//! The structs of the specification know one way to write a field. Senders know more: `resource_logs` for `resourceLogs` (which would be taken for a
//! field that nobody knows, and lost), `"SPAN_KIND_SERVER"` for 2, numbers as texts (`"NaN"` can be nothing else), `null` for what is not said. This
//! reads all of them, in passing: names and texts are looked at on their way into the structs.

use std::fmt;

use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::Value;

/// Reads a message.
pub(super) fn read<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = M::deserialize(Reader { inner: &mut json, meaning: Meaning::Plain });
    let first = match read.and_then(|message| json.end().map(|()| message)) {
        Ok(message) => return Ok(message),
        Err(error) => error,
    };
    // Few write what they do not say: where one may be at fault, all of them are taken out.
    if first.is_data() && memchr::memmem::find(bytes, b"null").is_some() {
        let mut value: Value = serde_json::from_slice(bytes)?;
        take_out_nulls(&mut value);
        return M::deserialize(Reader { inner: value, meaning: Meaning::Plain });
    }
    Err(first)
}

fn take_out_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            members.values_mut().for_each(take_out_nulls);
        }
        Value::Array(elements) => elements.iter_mut().for_each(take_out_nulls),
        _ => {}
    }
}

/// What a text is in place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Nothing: it is a text, or somebody else knows.
    Plain,
    Integer,
    Float,
    /// A value of an enumeration: its number, or its name.
    Named,
}

impl Meaning {
    /// By the name of a field: where a struct is one of several, fields are kept aside before it is known which it is.
    fn of(field: &str) -> Self {
        match field {
            "asDouble" | "doubleValue" | "sum" | "min" | "max" | "value" | "quantile" | "zeroThreshold"
            | "explicitBounds" => Self::Float,
            "kind" | "code" | "severityNumber" | "aggregationTemporality" => Self::Named,
            _ => Self::Plain,
        }
    }

    /// Integers are wanted.
    fn or_integer(self) -> Self {
        if self == Self::Named { self } else { Self::Integer }
    }

    fn visit<'de, V: Visitor<'de>, E: de::Error>(self, text: &str, visitor: V) -> Result<V::Value, E> {
        let wrong = |wanted: &'static str| E::invalid_value(Unexpected::Str(text), &wanted);
        match self {
            Self::Plain => visitor.visit_str(text),
            Self::Float => {
                let number = match text {
                    "Infinity" => Some(f64::INFINITY),
                    "-Infinity" => Some(f64::NEG_INFINITY),
                    text => text.parse().ok(),
                };
                visitor.visit_f64(number.ok_or_else(|| wrong("a number"))?)
            }
            Self::Integer | Self::Named => {
                if let Ok(number) = text.parse::<i64>() {
                    return visitor.visit_i64(number);
                }
                if let Ok(number) = text.parse::<u64>() {
                    return visitor.visit_u64(number);
                }
                let named = (self == Self::Named).then(|| number_of(text)).flatten();
                visitor.visit_i64(named.ok_or_else(|| wrong("a whole number"))?)
            }
        }
    }
}

/// The number of a value of any enumeration; their names differ.
fn number_of(name: &str) -> Option<i64> {
    let number = SpanKind::from_str_name(name)
        .map(|kind| kind as i32)
        .or_else(|| StatusCode::from_str_name(name).map(|code| code as i32))
        .or_else(|| SeverityNumber::from_str_name(name).map(|number| number as i32))
        .or_else(|| AggregationTemporality::from_str_name(name).map(|temporality| temporality as i32));
    number.map(i64::from)
}

/// Reads what is inside of it generously.
struct Reader<D> {
    inner: D,
    meaning: Meaning,
}

/// Asks for anything, and takes a text for this.
macro_rules! reads {
    ($($method:ident: $meaning:expr,)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            let meaning: fn(Meaning) -> Meaning = $meaning;
            self.inner.deserialize_any(Generous { visitor, meaning: meaning(self.meaning) })
        })*
    };
}

impl<'de, D: de::Deserializer<'de>> de::Deserializer<'de> for Reader<D> {
    type Error = D::Error;

    reads! {
        deserialize_any: |meaning| meaning,
        deserialize_bool: |_| Meaning::Plain,
        deserialize_i8: Meaning::or_integer,
        deserialize_i16: Meaning::or_integer,
        deserialize_i32: Meaning::or_integer,
        deserialize_i64: Meaning::or_integer,
        deserialize_u8: Meaning::or_integer,
        deserialize_u16: Meaning::or_integer,
        deserialize_u32: Meaning::or_integer,
        deserialize_u64: Meaning::or_integer,
        deserialize_f32: |_| Meaning::Float,
        deserialize_f64: |_| Meaning::Float,
        deserialize_char: |_| Meaning::Plain,
        deserialize_str: |_| Meaning::Plain,
        deserialize_string: |_| Meaning::Plain,
        deserialize_bytes: |_| Meaning::Plain,
        deserialize_byte_buf: |_| Meaning::Plain,
        deserialize_unit: |_| Meaning::Plain,
        deserialize_seq: |meaning| meaning,
        deserialize_map: |meaning| meaning,
        deserialize_identifier: |_| Meaning::Plain,
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_option(Generous { visitor, meaning: self.meaning })
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_newtype_struct(name, Generous { visitor, meaning: self.meaning })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_tuple(length, Generous { visitor, meaning: self.meaning })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_tuple_struct(name, length, Generous { visitor, meaning: self.meaning })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_struct(name, fields, Generous { visitor, meaning: self.meaning })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_ignored_any(visitor)
    }
}

/// Hands on what there is, as what it is in place of.
struct Generous<V> {
    visitor: V,
    meaning: Meaning,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Generous<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<V::Value, E> {
        self.visitor.visit_bool(value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<V::Value, E> {
        self.visitor.visit_i64(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<V::Value, E> {
        self.visitor.visit_u64(value)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<V::Value, E> {
        self.visitor.visit_f64(value)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<V::Value, E> {
        self.meaning.visit(text, self.visitor)
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<V::Value, E> {
        match self.meaning {
            Meaning::Plain => self.visitor.visit_borrowed_str(text),
            meaning => meaning.visit(text, self.visitor),
        }
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<V::Value, E> {
        match self.meaning {
            Meaning::Plain => self.visitor.visit_string(text),
            meaning => meaning.visit(&text, self.visitor),
        }
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_none<E: de::Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_some<D: de::Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Reader { inner, meaning: self.meaning })
    }

    fn visit_newtype_struct<D: de::Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_newtype_struct(Reader { inner, meaning: self.meaning })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_seq(Elements { inner, meaning: self.meaning })
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Members { inner, meaning: Meaning::Plain, is_open: false })
    }
}

struct Elements<A> {
    inner: A,
    meaning: Meaning,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Elements<A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        self.inner.next_element_seed(Seed { seed, meaning: self.meaning })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

struct Members<A> {
    inner: A,
    /// Of the value that comes next.
    meaning: Meaning,
    /// That value is still to be read; who goes on to the next name does not want it.
    is_open: bool,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        if std::mem::take(&mut self.is_open) {
            self.inner.next_value::<IgnoredAny>()?;
        }
        let key = self.inner.next_key_seed(Key { seed, meaning: &mut self.meaning })?;
        self.is_open = key.is_some();
        Ok(key)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.is_open = false;
        self.inner.next_value_seed(Seed { seed, meaning: self.meaning })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

struct Seed<S> {
    seed: S,
    meaning: Meaning,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Seed<S> {
    type Value = S::Value;

    fn deserialize<D: de::Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.seed.deserialize(Reader { inner, meaning: self.meaning })
    }
}

/// The name of a field, as JSON has it: `traceId` for `trace_id`.
struct Key<'m, S> {
    seed: S,
    meaning: &'m mut Meaning,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<'_, S> {
    type Value = S::Value;

    fn deserialize<D: de::Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        inner.deserialize_str(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Key<'_, S> {
    type Value = S::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<S::Value, E> {
        if !name.contains('_') {
            *self.meaning = Meaning::of(name);
            return self.seed.deserialize(StrDeserializer::new(name));
        }
        let mut pieces = name.split('_');
        let mut camel = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let mut letters = piece.chars();
            camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
            camel.push_str(letters.as_str());
        }
        *self.meaning = Meaning::of(&camel);
        self.seed.deserialize(StrDeserializer::new(&camel))
    }

    fn visit_borrowed_str<E: de::Error>(self, name: &'de str) -> Result<S::Value, E> {
        if name.contains('_') {
            return self.visit_str(name);
        }
        *self.meaning = Meaning::of(name);
        self.seed.deserialize(BorrowedStrDeserializer::new(name))
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};

    use super::*;

    fn same<M: DeserializeOwned + PartialEq + fmt::Debug>(exact: &str, free: &str) {
        let exact: M = serde_json::from_str(exact).unwrap();
        assert_eq!(read::<M>(free.as_bytes()).unwrap(), exact, "{free}");
        assert_ne!(format!("{exact:?}").len(), 0);
    }

    #[test]
    fn spans_are_read_however_they_are_written() {
        same::<ExportTraceServiceRequest>(
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","parentSpanId":"",
                "name":"a","kind":2,"startTimeUnixNano":"1772323200000000789","endTimeUnixNano":"5","flags":1,"status":{"code":2},
                "attributes":[{"key":"n_x","value":{"intValue":"-7"}}]}]}]}]}"#,
            r#"{"resource_spans":[{"resource":null,"scope_spans":[{"scope":null,"spans":[{"trace_id":"0AF7651916CD43DD8448EB211C80319C","spanId":"b7ad6b7169203331",
                "parentSpanId":null,"name":"a","kind":"SPAN_KIND_SERVER","startTimeUnixNano":1772323200000000789,"endTimeUnixNano":5,"flags":"1",
                "status":{"code":"STATUS_CODE_ERROR","message":null},"links":null,"whatever":{"a":[1,{"b":null}]},
                "attributes":[{"key":"n_x","value":{"intValue":-7,"unknown":[1]}}]}]}]}]}"#,
        );
    }

    #[test]
    fn logs_are_read_however_they_are_written() {
        same::<ExportLogsServiceRequest>(
            r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1","severityNumber":17,"severityText":"x_y","body":{"stringValue":"1_2"},
                "attributes":[{"key":"a","value":{"doubleValue":0.5}},{"key":"b","value":{"boolValue":true}},
                {"key":"c","value":{"arrayValue":{"values":[{"intValue":"1"}]}}}]}]}]}]}"#,
            r#"{"resourceLogs":[{"scopeLogs":[{"log_records":[{"timeUnixNano":1,"severityNumber":"SEVERITY_NUMBER_ERROR","severityText":"x_y","body":{"string_value":"1_2"},
                "attributes":[{"key":"a","value":{"doubleValue":"0.5"}},{"key":"b","value":{"boolValue":true}},
                {"key":"c","value":{"arrayValue":{"values":[{"intValue":1}]}}}]}]}]}],"extra":1}"#,
        );
        same::<ExportLogsServiceRequest>("{}", "{}");
        same::<ExportLogsServiceRequest>(r#"{"resourceLogs":[]}"#, r#"{"resourceLogs":null}"#);
    }

    #[test]
    fn metrics_are_read_however_they_are_written() {
        same::<ExportMetricsServiceRequest>(
            r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[
                {"name":"a","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"asInt":"5","timeUnixNano":"1"}]}},
                {"name":"b","histogram":{"aggregationTemporality":1,"dataPoints":[{"timeUnixNano":"1","count":"3","sum":1.5,"bucketCounts":["1","2"],"explicitBounds":[0.5]}]}},
                {"name":"c","summary":{"dataPoints":[{"timeUnixNano":"1","count":"3","sum":2.0,"quantileValues":[{"quantile":0.5,"value":1.0}]}]}}]}]}]}"#,
            r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[
                {"name":"a","unit":null,"sum":{"aggregation_temporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","is_monotonic":true,"data_points":[{"as_int":5,"time_unix_nano":1,"x":1}]}},
                {"name":"b","histogram":{"aggregationTemporality":"1","dataPoints":[{"timeUnixNano":1,"count":3,"sum":"1.5","bucketCounts":[1,"2"],"explicitBounds":["0.5"],"exemplars":null}]}},
                {"name":"c","summary":{"dataPoints":[{"timeUnixNano":"1","count":"3","sum":2,"quantileValues":[{"quantile":"0.5","value":1}]}]}}]}]}]}"#,
        );
        let text = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"g","gauge":{"dataPoints":[
            {"asDouble":"NaN","timeUnixNano":"1"},{"asDouble":"-Infinity"},{"asDouble":"1e3"},{"asDouble":7}]}}]}]}]}"#;
        let request: ExportMetricsServiceRequest = read(text.as_bytes()).unwrap();
        let Some(metric::Data::Gauge(gauge)) = &request.resource_metrics[0].scope_metrics[0].metrics[0].data else {
            panic!("no gauge: {request:?}")
        };
        let values = gauge.data_points.iter().map(|point| match point.value {
            Some(number_data_point::Value::AsDouble(value)) => value.to_string(),
            ref other => panic!("{other:?}"),
        });
        assert_eq!(values.collect::<Vec<_>>(), ["NaN", "-inf", "1000", "7"]);
    }

    #[test]
    fn what_is_wrong_stays_wrong() {
        for (text, said) in [
            (r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":"LOUD"}]}]}]}"#, "LOUD"),
            (r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"soon"}]}]}]}"#, "invalid digit"),
            (r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"traceId":"xyz"}]}]}]}"#, "line 1"),
            (r#"{"resourceLogs":{}}"#, "sequence"),
            (r#"{"resourceLogs":[]} {}"#, "trailing"),
            (r#"{"resourceLogs":["#, "EOF"),
        ] {
            let error = read::<ExportLogsServiceRequest>(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
