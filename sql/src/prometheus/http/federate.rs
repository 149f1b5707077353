//! `/federate`: the newest samples of the series selected, in the text format, for a Prometheus to scrape.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use highwater_promql::{Labels, Matcher, is_classic_label_name, is_classic_metric_name, is_stale};

use super::{Request, match_sets};
use crate::prometheus::Prometheus;
use crate::prometheus::encode::write_float;
use crate::prometheus::error::ApiError;

/// What is sent before a name is escaped or not.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=";
/// How a scraper says that it takes names of any letters.
const ANY_NAMES: &str = "escaping=allow-utf-8";

/// `GET /federate`. Without `match[]` there is nothing; native histograms have no text, and are left out.
pub(super) async fn federate(State(server): State<Arc<Prometheus>>, uri: Uri, headers: HeaderMap) -> Response {
    match samples(&server, &uri, &headers).await {
        Ok(page) => {
            let escaping = if page.any_names { "allow-utf-8" } else { "underscores" };
            ([(header::CONTENT_TYPE, format!("{CONTENT_TYPE}{escaping}"))], Bytes::from(page.text)).into_response()
        }
        Err(error) => (error.status(), format!("{}\n", error.message)).into_response(),
    }
}

struct Page {
    text: String,
    /// Names are as they are, in quotes where they need them.
    any_names: bool,
}

async fn samples(server: &Prometheus, uri: &Uri, headers: &HeaderMap) -> Result<Page, ApiError> {
    let request = Request::new(uri, headers, &[])?;
    let sets = match_sets(&request.form)?;
    let accept = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let any_names = accept.into_iter().any(|value| value.contains(ANY_NAMES));
    let mut page = Page { text: String::new(), any_names };
    let mut newest = newest(server, request.tenant.as_str(), &sets).await?;
    newest.sort_by(|a, b| a.0.cmp(&b.0));
    newest.dedup_by(|a, b| a.0 == b.0);
    let mut family = String::new();
    for (labels, time_ms, value) in &newest {
        if labels.name().is_empty() {
            continue;
        }
        if family != labels.name() {
            labels.name().clone_into(&mut family);
            let name = page.metric_name(&family);
            let shown = if is_classic_metric_name(&name) { name } else { quote(&name) };
            // Writing to a string does not fail.
            let _written = writeln!(page.text, "# TYPE {shown} untyped");
        }
        page.sample(labels, *time_ms, *value);
    }
    Ok(page)
}

/// The newest sample of each series that is no older than the lookback and no staleness marker.
async fn newest(server: &Prometheus, tenant: &str, sets: &[Vec<Matcher>]) -> Result<Vec<(Labels, i64, f64)>, ApiError> {
    let mut newest = Vec::new();
    for series in server.recent(tenant, sets).await? {
        let float = series.timestamps_ms.last().copied();
        let histogram = series.histograms.last().map(|(time_ms, _)| *time_ms);
        if let (Some(time_ms), Some(value)) = (float, series.values.last().copied())
            && histogram.is_none_or(|histogram| histogram < time_ms)
            && !is_stale(value)
        {
            newest.push((series.labels, time_ms, value));
        }
    }
    Ok(newest)
}

impl Page {
    fn metric_name(&self, name: &str) -> String {
        if self.any_names { name.to_owned() } else { underscored(name, true) }
    }

    fn sample(&mut self, labels: &Labels, time_ms: i64, value: f64) {
        let name = self.metric_name(labels.name());
        let bare = is_classic_metric_name(&name);
        let mut parts: Vec<String> = Vec::new();
        if !bare {
            parts.push(quote(&name));
        }
        let mut has_instance = false;
        for (label, value) in labels.iter().filter(|(label, _)| *label != highwater_promql::METRIC_NAME) {
            has_instance |= label == "instance";
            let label = if self.any_names { label.to_owned() } else { underscored(label, false) };
            let label = if is_classic_label_name(&label) { label } else { quote(&label) };
            parts.push(format!("{label}={}", quote(value)));
        }
        if !has_instance {
            // Or the scraper would put this server's own.
            parts.push("instance=\"\"".to_owned());
        }
        let mut number = Vec::new();
        write_float(&mut number, value);
        let number = String::from_utf8_lossy(&number);
        let name = if bare { name.as_str() } else { "" };
        let _written = writeln!(self.text, "{name}{{{}}} {number} {time_ms}", parts.join(","));
    }
}

/// A name with an underscore for each character that a classic one cannot have.
fn underscored(name: &str, colons: bool) -> String {
    let fits = |i: usize, c: char| {
        c == '_' || c.is_ascii_alphabetic() || (colons && c == ':') || (i > 0 && c.is_ascii_digit())
    };
    name.chars().enumerate().map(|(i, c)| if fits(i, c) { c } else { '_' }).collect()
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(labels: &[(&str, &str)], any_names: bool) -> String {
        let mut page = Page { text: String::new(), any_names };
        page.sample(&Labels::from_pairs(labels.iter().copied()), 1500, 2.5);
        page.text
    }

    #[test]
    fn samples_are_lines_of_the_text_format() {
        let up = [("__name__", "up"), ("instance", "a"), ("text", "a\"\\\nb")];
        assert_eq!(line(&up, false), "up{instance=\"a\",text=\"a\\\"\\\\\\nb\"} 2.5 1500\n");
        let dotted = [("__name__", "system.usage"), ("host.name", "h")];
        assert_eq!(line(&dotted, false), "system_usage{host_name=\"h\",instance=\"\"} 2.5 1500\n");
        assert_eq!(line(&dotted, true), "{\"system.usage\",\"host.name\"=\"h\",instance=\"\"} 2.5 1500\n");
        assert_eq!(underscored("1a:b", true), "_a:b");
    }
}
