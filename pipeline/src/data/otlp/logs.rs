//! Log records to log columns.

use std::borrow::Cow;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message;

use super::{OtlpError, OtlpRefused, OtlpRows, decode, instant_us, parts, value};
use crate::data::json::Limits;
use crate::data::level;
use crate::data::logs::{LogColumns, LogParts};
use crate::data::refusal::Refusal;

const SERVICE: &str = "service.name";
const HOST: &str = "host.name";
const SCOPE: &str = "otel.scope.name";
const EVENT: &str = "otel.event.name";

/// Reads an `ExportLogsServiceRequest`.
pub(crate) fn read_logs(bytes: &[u8], limits: &Limits) -> Result<OtlpRows<LogColumns>, OtlpError> {
    let request: ExportLogsServiceRequest = decode(bytes, "logs", parts::LOGS)?;
    let mut rows = OtlpRows { columns: LogColumns::default(), indexes: Vec::new(), refused: Vec::new() };
    let mut index = 0;
    for resource_logs in &request.resource_logs {
        let resource = resource_logs.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
        for scope_logs in &resource_logs.scope_logs {
            let scope = scope_logs.scope.as_ref().map_or("", |scope| scope.name.as_str());
            for record in &scope_logs.log_records {
                let entry = Entry { resource, scope, record };
                match entry.append(limits, &mut rows.columns) {
                    Ok(()) => rows.indexes.push(index),
                    Err(refusal) => {
                        rows.refused.push(OtlpRefused { index, refusal, bytes: record.encode_to_vec().into() });
                    }
                }
                index = index.saturating_add(1);
            }
        }
    }
    Ok(rows)
}

/// One log record and what it has in common with its neighbours.
struct Entry<'a> {
    resource: &'a [KeyValue],
    scope: &'a str,
    record: &'a LogRecord,
}

impl<'a> Entry<'a> {
    fn append(&self, limits: &Limits, columns: &mut LogColumns) -> Result<(), Refusal> {
        let record = self.record;
        let of = |key: &str| value::attribute(&record.attributes, key).or_else(|| value::attribute(self.resource, key));
        let (service, host) = (of(SERVICE), of(HOST));
        let own = |key: &str| value::attribute(&record.attributes, key);
        let (request_id, correlation_id, user_id) = (own("request_id"), own("correlation_id"), own("user_id"));
        let attributes = self.attributes(limits)?;
        // A record without a body is an event, and its name says what happened.
        let message = value::text(record.body.as_ref()).filter(|body| !body.is_empty());
        let message = message.or_else(|| non_empty(&record.event_name).map(Cow::Borrowed));
        let message = message.ok_or(Refusal::Missing { field: "message" })?;
        within("body", &message, limits)?;
        let trace_id = id(&record.trace_id);
        let span_id = id(&record.span_id);
        let severity_text = non_empty(&record.severity_text);
        let explicit = Some(record.severity_number).filter(|&number| level::name(number).is_some());
        columns.append_parts(&LogParts {
            timestamp_us: instant_us(record.time_unix_nano).or(instant_us(record.observed_time_unix_nano)),
            observed_timestamp_us: instant_us(record.observed_time_unix_nano),
            severity_number: explicit.or_else(|| severity_text.and_then(level::parse)),
            severity_text,
            texts: [
                service.as_deref(),
                host.as_deref(),
                Some(&message),
                trace_id.as_deref(),
                span_id.as_deref(),
                request_id.as_deref(),
                correlation_id.as_deref(),
                user_id.as_deref(),
            ],
            attributes: &attributes,
        });
        Ok(())
    }

    /// Attributes of resource and record; the record's go before the resource's of the same key.
    fn attributes(&self, limits: &Limits) -> Result<Vec<(&'a str, Cow<'a, str>)>, Refusal> {
        let mut attributes: Vec<(&str, Cow<'_, str>)> = Vec::new();
        let mut put = |key: &'a str, text: Cow<'a, str>| -> Result<(), Refusal> {
            within(key, &text, limits)?;
            within(key, key, limits)?;
            match attributes.iter().position(|(known, _)| *known == key) {
                Some(known) => attributes[known].1 = text,
                None if attributes.len() == limits.max_attributes => {
                    return Err(Refusal::TooMany { what: "attributes", limit: limits.max_attributes });
                }
                None => attributes.push((key, text)),
            }
            Ok(())
        };
        for (own, given) in [(false, self.resource), (true, &self.record.attributes)] {
            for KeyValue { key, value, .. } in given {
                let in_column = match key.as_str() {
                    SERVICE | HOST => true,
                    "request_id" | "correlation_id" | "user_id" => own,
                    _ => false,
                };
                if let Some(text) = value::text(value.as_ref()).filter(|_| !in_column) {
                    put(key, text)?;
                }
            }
        }
        if !self.scope.is_empty() {
            put(SCOPE, Cow::Borrowed(self.scope))?;
        }
        if let Some(event) = non_empty(&self.record.event_name) {
            put(EVENT, Cow::Borrowed(event))?;
        }
        Ok(attributes)
    }
}

fn non_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// A trace's or span's id in hex; all zeros is none.
fn id(bytes: &[u8]) -> Option<String> {
    bytes.iter().any(|byte| *byte != 0).then(|| value::hex(bytes))
}

fn within(field: &str, text: &str, limits: &Limits) -> Result<(), Refusal> {
    let (size_bytes, limit_bytes) = (text.len(), limits.max_value_size_bytes);
    if size_bytes <= limit_bytes {
        return Ok(());
    }
    Err(Refusal::TooLong { field: Refusal::excerpt(field), size_bytes, limit_bytes })
}
