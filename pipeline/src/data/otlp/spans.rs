//! Spans to span columns.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{Span, span, status};
use prost::Message;
use serde_json::{Map, Value as Json};

use super::attributes::{Attributes, HOST, SERVICE, id, within};
use super::{Encoding, OtlpError, SpanSink, decode, instant_us, parts, value};
use crate::data::json::Limits;
use crate::data::refusal::Refusal;
use crate::data::spans::SpanParts;
use crate::data::time;

const DROPPED: &str = "otel.dropped_attributes_count";

/// Reads an `ExportTraceServiceRequest`.
pub(crate) fn read_spans(
    bytes: &[u8],
    encoding: Encoding,
    limits: &Limits,
    sink: &mut impl SpanSink,
) -> Result<(), OtlpError> {
    let request: ExportTraceServiceRequest = decode(bytes, encoding, "traces", parts::TRACES)?;
    let mut index = 0;
    for resource_spans in &request.resource_spans {
        let resource = resource_spans.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
        for scope_spans in &resource_spans.scope_spans {
            for span in &scope_spans.spans {
                if let Err(refusal) = give(span, resource, scope_spans.scope.as_ref(), limits, index, sink) {
                    sink.refused(index, refusal, || span.encode_to_vec().into());
                }
                index = index.saturating_add(1);
            }
        }
    }
    Ok(())
}

fn give(
    span: &Span,
    resource: &[KeyValue],
    scope: Option<&InstrumentationScope>,
    limits: &Limits,
    index: i32,
    sink: &mut impl SpanSink,
) -> Result<(), Refusal> {
    let trace_id = whole_id("trace_id", &span.trace_id, 16, "16 bytes, not all of them zero")?;
    let span_id = whole_id("span_id", &span.span_id, 8, "8 bytes, not all of them zero")?;
    let in_column = |key: &str, _own: bool| key == SERVICE || key == HOST;
    let mut attributes = Attributes::of(resource, scope, &span.attributes, in_column, limits)?;
    let of = |key: &str| value::attribute(&span.attributes, key).or_else(|| value::attribute(resource, key));
    let (service, host) = (of(SERVICE), of(HOST));
    if span.dropped_attributes_count > 0 {
        attributes.put(DROPPED, span.dropped_attributes_count.to_string().into())?;
    }
    let (events, links) = (events(span), links(span));
    let message = span.status.as_ref().map(|status| &status.message);
    for (field, text) in [
        ("name", Some(&span.name)),
        ("trace_state", Some(&span.trace_state)),
        ("status", message),
        ("events", events.as_ref()),
        ("links", links.as_ref()),
    ] {
        within(field, text.map_or("", |text| text), limits)?;
    }
    for (field, text) in [(SERVICE, &service), (HOST, &host)] {
        within(field, text.as_deref().unwrap_or_default(), limits)?;
    }
    let parent_span_id = id(&span.parent_span_id);
    let status = span.status.as_ref();
    let ends = instant_us(span.end_time_unix_nano);
    let timed = span.start_time_unix_nano != 0 && span.end_time_unix_nano != 0;
    let duration_ns = i128::from(span.end_time_unix_nano) - i128::from(span.start_time_unix_nano);
    let parts = SpanParts {
        timestamp_us: instant_us(span.start_time_unix_nano).or(ends),
        end_timestamp_us: ends,
        duration_ns: i64::try_from(duration_ns).ok().filter(|_| timed),
        texts: [
            Some(&trace_id),
            Some(&span_id),
            parent_span_id.as_deref(),
            Some(&span.trace_state),
            Some(&span.name),
            kind(span.kind),
            Some(status.map_or("UNSET", |status| status_name(status.code))),
            status.map(|status| status.message.as_str()),
            service.as_deref(),
            host.as_deref(),
        ],
        attributes: &attributes.pairs,
        events: events.as_deref(),
        links: links.as_deref(),
    };
    sink.span(index, &parts);
    Ok(())
}

fn whole_id(field: &'static str, bytes: &[u8], size: usize, wanted: &'static str) -> Result<String, Refusal> {
    let found = id(bytes).filter(|_| bytes.len() == size);
    found.ok_or_else(|| Refusal::BadValue {
        field,
        value: Refusal::excerpt(&value::hex(bytes.get(..32).unwrap_or(bytes))),
        wanted,
    })
}

fn kind(number: i32) -> Option<&'static str> {
    Some(match span::SpanKind::try_from(number).ok()? {
        span::SpanKind::Unspecified => return None,
        span::SpanKind::Internal => "INTERNAL",
        span::SpanKind::Server => "SERVER",
        span::SpanKind::Client => "CLIENT",
        span::SpanKind::Producer => "PRODUCER",
        span::SpanKind::Consumer => "CONSUMER",
    })
}

fn status_name(number: i32) -> &'static str {
    match status::StatusCode::try_from(number) {
        Ok(status::StatusCode::Ok) => "OK",
        Ok(status::StatusCode::Error) => "ERROR",
        _ => "UNSET",
    }
}

/// `[{"timestamp", "name", "attributes"}]`
fn events(span: &Span) -> Option<String> {
    let events = span.events.iter().map(|event| {
        let mut object = Map::new();
        if let Some(instant_us) = instant_us(event.time_unix_nano) {
            object.insert("timestamp".to_owned(), time::format(instant_us).into());
        }
        object.insert("name".to_owned(), event.name.as_str().into());
        put_attributes(&mut object, &event.attributes);
        Json::Object(object)
    });
    list(events.collect(), span.dropped_events_count)
}

/// `[{"trace_id", "span_id", "trace_state", "attributes"}]`
fn links(span: &Span) -> Option<String> {
    let links = span.links.iter().map(|link| {
        let mut object = Map::new();
        object.insert("trace_id".to_owned(), value::hex(&link.trace_id).into());
        object.insert("span_id".to_owned(), value::hex(&link.span_id).into());
        if !link.trace_state.is_empty() {
            object.insert("trace_state".to_owned(), link.trace_state.as_str().into());
        }
        put_attributes(&mut object, &link.attributes);
        Json::Object(object)
    });
    list(links.collect(), span.dropped_links_count)
}

/// The list as text; what the sender had dropped before is counted in a last element.
fn list(mut elements: Vec<Json>, dropped: u32) -> Option<String> {
    if dropped > 0 {
        elements.push(serde_json::json!({ "dropped": dropped }));
    }
    (!elements.is_empty()).then(|| Json::Array(elements).to_string())
}

fn put_attributes(object: &mut Map<String, Json>, attributes: &[KeyValue]) {
    if attributes.is_empty() {
        return;
    }
    let text = |attribute: &KeyValue| value::text(attribute.value.as_ref()).map(|text| Json::from(text.into_owned()));
    let texts = attributes.iter().filter_map(|attribute| Some((attribute.key.clone(), text(attribute)?)));
    object.insert("attributes".to_owned(), Json::Object(texts.collect()));
}
