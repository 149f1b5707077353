//! What the scraper wants, by its `Accept`.

use axum::http::{HeaderMap, header};

use super::names::Names;

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) encoding: Encoding,
    pub(super) names: Names,
}

/// Into which bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Text,
    /// Messages with their length in front.
    Protobuf,
}

impl Format {
    /// The clause that the scraper likes best among those that can be had. How names are escaped counts from whichever clause said it last, the chosen one included.
    pub(super) fn wanted(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
        let mut clauses: Vec<Clause<'_>> = accept.split(',').filter_map(Clause::of).collect();
        // Stable: of equal ones the first.
        clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
        let mut format = Self { encoding: Encoding::Text, names: Names::Underscores };
        for clause in clauses {
            if let Some(names) = clause.parameter("escaping").and_then(Names::called) {
                format.names = names;
            }
            if let Some(encoding) = clause.encoding() {
                format.encoding = encoding;
                break;
            }
        }
        format
    }

    /// As the page's header says it.
    pub(super) fn content_type(self) -> String {
        let kind = match self.encoding {
            Encoding::Text => "text/plain; version=0.0.4; charset=utf-8",
            Encoding::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        };
        format!("{kind}; escaping={}", self.names.name())
    }
}

/// A part of `Accept`.
struct Clause<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f64,
}

impl<'a> Clause<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().filter(|media| !media.is_empty())?;
        let pairs = parts.filter_map(|pair| pair.split_once('='));
        let parameters: Vec<(&str, &str)> = pairs.map(|(name, value)| (name.trim(), value.trim())).collect();
        let quality = parameters.iter().find(|(name, _)| *name == "q").and_then(|(_, value)| value.parse().ok());
        Some(Self { media, parameters, quality: quality.unwrap_or(1.0) })
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }

    fn encoding(&self) -> Option<Encoding> {
        match self.media {
            "text/plain" => matches!(self.parameter("version"), None | Some("" | "0.0.4")).then_some(Encoding::Text),
            "application/vnd.google.protobuf" => {
                let is_family = self.parameter("proto") == Some("io.prometheus.client.MetricFamily");
                let is_delimited = self.parameter("encoding") == Some("delimited");
                (is_family && is_delimited).then_some(Encoding::Protobuf)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(accept: &str) -> String {
        let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
        Format::wanted(&headers).content_type()
    }

    #[test]
    fn the_clause_of_the_highest_quality_that_can_be_had_counts() {
        let text = "text/plain; version=0.0.4; charset=utf-8";
        let protobuf = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
        for (accept, kind, escaping) in [
            ("", text, "underscores"),
            ("*/*", text, "underscores"),
            ("text/plain;version=1.0.0;escaping=allow-utf-8", text, "allow-utf-8"),
            ("text/plain;escaping=dots", text, "dots"),
            ("text/plain;escaping=nosuch", text, "underscores"),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
                protobuf,
                "underscores",
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,\
                 text/plain;version=0.0.4;q=0.3",
                protobuf,
                "underscores",
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.3,\
                 application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                text,
                "allow-utf-8",
            ),
            ("application/vnd.google.protobuf;proto=other;encoding=delimited", text, "underscores"),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text;escaping=values",
                text,
                "values",
            ),
        ] {
            assert_eq!(wanted(accept), format!("{kind}; escaping={escaping}"), "{accept}");
        }
    }
}
