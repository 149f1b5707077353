//! What a kind of receiver does.

use async_trait::async_trait;
use highwater_templates::Template;
use highwater_templates::alertmanager::Context;

use super::data::{Notice, Origin, template_data};
use super::error::NotifyError;

/// A way to tell somebody.
#[async_trait]
pub(super) trait Channel: Send + Sync {
    /// Tells of these transitions, in this order; all have one alertname. Called again with the same ones where it fails and a try may help.
    async fn tell(&self, notices: &[Notice], now_ms: i64) -> Result<(), NotifyError>;

    /// Milliseconds after which it wants to be told again of all that fires; `None` where once is enough.
    fn resend_ms(&self) -> Option<i64> {
        None
    }
}

/// A text of a message.
#[derive(Debug, Clone)]
pub(super) struct Text(Template);

impl Text {
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, String> {
        Template::parse(name, text, &Context { now_ms: 0 }).map(Self).map_err(|e| e.to_string())
    }

    /// The text; what is wrong with it where it cannot be made, because an alert must be told of all the same.
    pub(super) fn render(&self, receiver: &str, notices: &[Notice], origin: &Origin, now_ms: i64) -> String {
        let data = template_data(receiver, notices, origin);
        match self.0.execute(&data, &Context { now_ms }) {
            Ok(text) => text,
            Err(error) => format!("<error expanding template: {error}>"),
        }
    }
}

/// `[FIRING:2] HighErrors web`
pub(super) const TITLE: &str = "[{{ .Status | toUpper }}{{ if eq .Status \"firing\" }}:{{ .Alerts.Firing | len }}{{ end }}] {{ .GroupLabels.SortedPairs.Values | join \" \" }}{{ with .CommonLabels.service }} {{ . }}{{ end }}";
/// One paragraph per alert.
pub(super) const BODY: &str = "{{ range .Alerts }}{{ with .Annotations.summary }}{{ . }}\n{{ end }}{{ with .Annotations.description }}{{ . }}\n{{ end }}{{ range .Labels.SortedPairs }} {{ .Name }}={{ .Value }}{{ end }}\n{{ with .Annotations.runbook_url }}{{ . }}\n{{ end }}{{ with .GeneratorURL }}{{ . }}\n{{ end }}\n{{ end }}";
