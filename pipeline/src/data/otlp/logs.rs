//! Log records to log columns.

use std::borrow::Cow;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message;

use super::attributes::{Attributes, HOST, SERVICE, id, within};
use super::{Encoding, LogSink, OtlpError, decode, instant_us, parts, value};
use crate::data::json::Limits;
use crate::data::level;
use crate::data::logs::LogParts;
use crate::data::refusal::Refusal;

const EVENT: &str = "otel.event.name";

/// Reads an `ExportLogsServiceRequest`.
pub(crate) fn read_logs(
    bytes: &[u8],
    encoding: Encoding,
    limits: &Limits,
    sink: &mut impl LogSink,
) -> Result<(), OtlpError> {
    let request: ExportLogsServiceRequest = decode(bytes, encoding, "logs", parts::LOGS)?;
    let mut index = 0;
    for resource_logs in &request.resource_logs {
        let resource = resource_logs.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
        for scope_logs in &resource_logs.scope_logs {
            for record in &scope_logs.log_records {
                let entry = Entry { resource, scope: scope_logs.scope.as_ref(), record };
                if let Err(refusal) = entry.give(limits, index, sink) {
                    sink.refused(index, refusal, || record.encode_to_vec().into());
                }
                index = index.saturating_add(1);
            }
        }
    }
    Ok(())
}

/// One log record and what it has in common with its neighbours.
struct Entry<'a> {
    resource: &'a [KeyValue],
    scope: Option<&'a InstrumentationScope>,
    record: &'a LogRecord,
}

impl Entry<'_> {
    fn give(&self, limits: &Limits, index: i32, sink: &mut impl LogSink) -> Result<(), Refusal> {
        let record = self.record;
        let in_column = |key: &str, own: bool| match key {
            SERVICE | HOST => true,
            "request_id" | "correlation_id" | "user_id" => own,
            _ => false,
        };
        let mut attributes = Attributes::of(self.resource, self.scope, &record.attributes, in_column, limits)?;
        let of = |key: &str| value::attribute(&record.attributes, key).or_else(|| value::attribute(self.resource, key));
        let (service, host) = (of(SERVICE), of(HOST));
        let own = |key: &str| value::attribute(&record.attributes, key);
        let (request_id, correlation_id, user_id) = (own("request_id"), own("correlation_id"), own("user_id"));
        if let Some(event) = non_empty(&record.event_name) {
            attributes.put(EVENT, Cow::Borrowed(event))?;
        }
        // A record without a body is an event, and its name says what happened.
        let message = value::text(record.body.as_ref()).filter(|body| !body.is_empty());
        let message = message.or_else(|| non_empty(&record.event_name).map(Cow::Borrowed));
        within("body", message.as_deref().unwrap_or_default(), limits)?;
        within("severity_text", &record.severity_text, limits)?;
        let columns = [
            (SERVICE, &service),
            (HOST, &host),
            ("request_id", &request_id),
            ("correlation_id", &correlation_id),
            ("user_id", &user_id),
        ];
        for (field, text) in columns {
            within(field, text.as_deref().unwrap_or_default(), limits)?;
        }
        let trace_id = id(&record.trace_id);
        let span_id = id(&record.span_id);
        let severity_text = non_empty(&record.severity_text);
        let explicit = Some(record.severity_number).filter(|&number| level::name(number).is_some());
        let parts = LogParts {
            timestamp_us: instant_us(record.time_unix_nano).or(instant_us(record.observed_time_unix_nano)),
            observed_timestamp_us: instant_us(record.observed_time_unix_nano),
            severity_number: explicit.or_else(|| severity_text.and_then(level::parse)),
            severity_text,
            texts: [
                service.as_deref(),
                host.as_deref(),
                message.as_deref(),
                trace_id.as_deref(),
                span_id.as_deref(),
                request_id.as_deref(),
                correlation_id.as_deref(),
                user_id.as_deref(),
            ],
            attributes: &attributes.pairs,
        };
        sink.log(index, &parts);
        Ok(())
    }
}

fn non_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
