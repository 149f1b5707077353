//! Which exposition is asked for, and which came.

use crate::sources::scrape::config::{Escaping, Protocol};

/// How a page is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sources::scrape) enum Format {
    /// Prometheus's text, 0.0.4 and 1.0.0.
    Text,
    /// OpenMetrics's text.
    OpenMetrics,
    /// Sizes and messages.
    Protobuf,
}

/// The header `Accept` for these, best first.
pub(in crate::sources::scrape) fn accept(protocols: &[Protocol], escaping: Escaping) -> String {
    let mut weight = 6;
    let mut header = String::new();
    for protocol in protocols {
        let name = match protocol {
            Protocol::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            Protocol::PrometheusText0_0_4 => "text/plain;version=0.0.4",
            Protocol::PrometheusText1_0_0 => "text/plain;version=1.0.0",
            Protocol::OpenMetricsText0_0_1 => "application/openmetrics-text;version=0.0.1",
            Protocol::OpenMetricsText1_0_0 => "application/openmetrics-text;version=1.0.0",
        };
        header.push_str(name);
        // The older ones have plain names only.
        if matches!(protocol, Protocol::PrometheusText1_0_0 | Protocol::OpenMetricsText1_0_0) {
            header.push_str(&format!(";escaping={}", escaping.name()));
        }
        header.push_str(&format!(";q=0.{weight},"));
        weight -= 1;
    }
    header + &format!("*/*;q=0.{weight}")
}

impl From<Protocol> for Format {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::PrometheusProto => Self::Protobuf,
            Protocol::PrometheusText0_0_4 | Protocol::PrometheusText1_0_0 => Self::Text,
            Protocol::OpenMetricsText0_0_1 | Protocol::OpenMetricsText1_0_0 => Self::OpenMetrics,
        }
    }
}

impl Format {
    /// What a page of this content type is, or of this fallback where that says nothing that is known.
    pub(in crate::sources::scrape) fn of(
        content_type: Option<&str>,
        fallback: Option<Protocol>,
    ) -> Result<Self, String> {
        let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        match media_type.to_ascii_lowercase().as_str() {
            "application/openmetrics-text" => return Ok(Self::OpenMetrics),
            "application/vnd.google.protobuf" => {
                let is_families = content_type.is_some_and(|all| all.contains("io.prometheus.client.MetricFamily"));
                if is_families {
                    return Ok(Self::Protobuf);
                }
            }
            "text/plain" => return Ok(Self::Text),
            _ => {}
        }
        fallback.map(Self::from).ok_or_else(|| match content_type {
            None => "the target sends no Content-Type, and the job has no fallback_scrape_protocol".to_owned(),
            Some(other) => {
                format!("the target sends Content-Type {other:?}, which is no exposition, and the job has no fallback_scrape_protocol")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_in_order() {
        let asked = accept(&[Protocol::OpenMetricsText1_0_0, Protocol::PrometheusText0_0_4], Escaping::AllowUtf8);
        assert_eq!(
            asked,
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.4"
        );
        let asked = accept(&[Protocol::PrometheusText1_0_0], Escaping::Underscores);
        assert_eq!(asked, "text/plain;version=1.0.0;escaping=underscores;q=0.6,*/*;q=0.5");
    }

    #[test]
    fn what_came_is_told_by_its_type() {
        let of = |content_type| Format::of(content_type, None);
        assert_eq!(of(Some("text/plain; version=0.0.4; charset=utf-8")), Ok(Format::Text));
        assert_eq!(of(Some("application/openmetrics-text; version=1.0.0")), Ok(Format::OpenMetrics));
        let families = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
        assert_eq!(of(Some(families)), Ok(Format::Protobuf));
        assert!(of(Some("text/html")).unwrap_err().contains("fallback_scrape_protocol"));
        assert!(of(None).is_err());
        assert_eq!(Format::of(None, Some(Protocol::PrometheusText0_0_4)), Ok(Format::Text));
        assert_eq!(Format::of(Some("text/html"), Some(Protocol::PrometheusProto)), Ok(Format::Protobuf));
    }
}
