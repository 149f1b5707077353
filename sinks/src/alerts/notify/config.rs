//! `notify:` of the config file.
//!
//! ```yaml
//! notify:
//!   alertmanager: [{ urls: ["http://a:9093", "http://b:9093"] }]
//!   webhook:      [{ name: ops, url: "http://ops/hook", match: ['severity="page"'] }]
//!   slack:        [{ url: { file: slack-url }, channel: "#alerts" }]
//!   pagerduty:    [{ routing_key: { env: PAGERDUTY_KEY }, match: ['severity=~"page|critical"'] }]
//!   email:        [{ to: [ops@example.org], from: highwater@example.org, smarthost: "mail:587" }]
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, Tokio1Executor};
use serde::Deserialize;

use super::alertmanager::Alertmanager;
use super::channel::{BODY, Channel, TITLE, Text};
use super::data::Origin;
use super::email::Email;
use super::error::NotifyError;
use super::follow::Receiver;
use super::http::{Http, Login};
use super::matchers::Matchers;
use super::pagerduty::PagerDuty;
use super::secret::Secret;
use super::slack::Slack;
use super::webhook::Webhook;

/// Who is told of alerts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyConfig {
    alertmanager: Vec<AlertmanagerConfig>,
    webhook: Vec<WebhookConfig>,
    slack: Vec<SlackConfig>,
    pagerduty: Vec<PagerDutyConfig>,
    email: Vec<EmailConfig>,
    /// Relative paths of secrets are taken from here.
    #[serde(skip)]
    folder: PathBuf,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AlertmanagerConfig {
    name: Option<String>,
    url: Option<String>,
    urls: Vec<String>,
    bearer_token: Option<Secret>,
    basic_auth: Option<BasicAuth>,
    /// As Prometheus's durations: `1m`.
    resend_delay: Option<String>,
    #[serde(rename = "match")]
    matchers: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct BasicAuth {
    username: String,
    password: Secret,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookConfig {
    name: Option<String>,
    url: Secret,
    #[serde(default)]
    bearer_token: Option<Secret>,
    #[serde(default)]
    basic_auth: Option<BasicAuth>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default = "yes")]
    send_resolved: bool,
    #[serde(default, rename = "match")]
    matchers: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct SlackConfig {
    name: Option<String>,
    url: Secret,
    channel: Option<String>,
    username: Option<String>,
    title: Option<String>,
    text: Option<String>,
    #[serde(default = "yes")]
    send_resolved: bool,
    #[serde(default, rename = "match")]
    matchers: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct PagerDutyConfig {
    name: Option<String>,
    routing_key: Secret,
    url: Option<String>,
    severity: Option<String>,
    summary: Option<String>,
    #[serde(default = "yes")]
    send_resolved: bool,
    #[serde(default, rename = "match")]
    matchers: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct EmailConfig {
    name: Option<String>,
    to: Vec<String>,
    from: String,
    smarthost: String,
    username: Option<String>,
    password: Option<Secret>,
    #[serde(default)]
    tls: MailTls,
    subject: Option<String>,
    text: Option<String>,
    html: Option<String>,
    #[serde(default = "yes")]
    send_resolved: bool,
    #[serde(default, rename = "match")]
    matchers: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MailTls {
    /// The connection becomes one with TLS before anything is said.
    #[default]
    StartTls,
    /// TLS from the first byte, as on port 465.
    Implicit,
    /// None.
    None,
}

fn yes() -> bool {
    true
}

/// PagerDuty's door.
const PAGERDUTY_URL: &str = "https://events.pagerduty.com/v2/enqueue";
const DEFAULT_RESEND_MS: i64 = 60_000;

impl NotifyConfig {
    /// The same, with paths of secrets taken from this folder.
    pub fn resolve(&mut self, folder: &Path) {
        folder.clone_into(&mut self.folder);
    }

    /// True where nobody is told.
    pub fn is_empty(&self) -> bool {
        self.alertmanager.is_empty()
            && self.webhook.is_empty()
            && self.slack.is_empty()
            && self.pagerduty.is_empty()
            && self.email.is_empty()
    }

    /// All receivers, ready to be told. Reads secrets.
    ///
    /// # Errors
    /// [`NotifyError::Config`].
    pub(super) fn receivers(&self, origin: &Origin) -> Result<Vec<Receiver>, NotifyError> {
        let mut all = Vec::new();
        let mut names = BTreeSet::new();
        let name_of = |kind: &str, index: usize, name: &Option<String>| {
            let default = if index == 0 { kind.to_owned() } else { format!("{kind}-{}", index + 1) };
            name.clone().unwrap_or(default)
        };
        let mut add = |kind: &'static str,
                       index: usize,
                       name: String,
                       made: Made,
                       matchers: &[String],
                       send_resolved,
                       written| {
            let failed = |reason: String| NotifyError::Config { receiver: format!("{kind}[{index}]"), reason };
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
                return Err(failed(format!("name {name:?} may have letters, digits, `.`, `_` and `-`")));
            }
            if !names.insert(name.clone()) {
                return Err(failed(format!("there are two receivers {name:?}; names tell their progress apart")));
            }
            let matchers = Matchers::parse(matchers).map_err(|e| failed(format!("match: {e}")))?;
            let channel = made.map_err(failed)?;
            all.push(Receiver::new(kind, name, channel, matchers, send_resolved, origin.clone(), written));
            Ok(())
        };
        for (index, one) in self.alertmanager.iter().enumerate() {
            let name = name_of("alertmanager", index, &one.name);
            let secrets = [one.bearer_token.as_ref(), password_of(one.basic_auth.as_ref())];
            let written = self.written(one, &secrets);
            add("alertmanager", index, name, self.alertmanager(one, origin), &one.matchers, true, written)?;
        }
        for (index, one) in self.webhook.iter().enumerate() {
            let name = name_of("webhook", index, &one.name);
            let made = self.webhook(&name, one, origin);
            let secrets = [Some(&one.url), one.bearer_token.as_ref(), password_of(one.basic_auth.as_ref())];
            let written = self.written(one, &secrets);
            add("webhook", index, name, made, &one.matchers, one.send_resolved, written)?;
        }
        for (index, one) in self.slack.iter().enumerate() {
            let name = name_of("slack", index, &one.name);
            let made = self.slack(&name, one, origin);
            let written = self.written(one, &[Some(&one.url)]);
            add("slack", index, name, made, &one.matchers, one.send_resolved, written)?;
        }
        for (index, one) in self.pagerduty.iter().enumerate() {
            let name = name_of("pagerduty", index, &one.name);
            let made = self.pagerduty(&name, one, origin);
            let written = self.written(one, &[Some(&one.routing_key)]);
            add("pagerduty", index, name, made, &one.matchers, one.send_resolved, written)?;
        }
        for (index, one) in self.email.iter().enumerate() {
            let name = name_of("email", index, &one.name);
            let made = self.email(&name, one, origin);
            let written = self.written(one, &[one.password.as_ref()]);
            add("email", index, name, made, &one.matchers, one.send_resolved, written)?;
        }
        Ok(all)
    }

    /// All that is said of a receiver: what is written, and its secrets as they are now.
    fn written(&self, one: &dyn std::fmt::Debug, secrets: &[Option<&Secret>]) -> Written {
        let secrets = secrets.iter().map(|secret| secret.and_then(|secret| secret.read(&self.folder).ok()));
        Written { text: format!("{one:?}"), secrets: secrets.collect() }
    }

    fn alertmanager(&self, one: &AlertmanagerConfig, origin: &Origin) -> Result<Box<dyn Channel>, String> {
        let urls: Vec<String> = one.url.iter().chain(&one.urls).cloned().collect();
        if urls.is_empty() {
            return Err("it has no url; write e.g. url: \"http://127.0.0.1:9093\"".to_owned());
        }
        for url in &urls {
            check_url(url)?;
        }
        let resend_ms = match &one.resend_delay {
            None => DEFAULT_RESEND_MS,
            Some(text) => highwater_templates::prometheus::parse_duration_ms(text)
                .filter(|ms| *ms > 0)
                .ok_or_else(|| format!("resend_delay: `{text}` is not a duration; write e.g. 1m"))?,
        };
        let http = Http::new(self.login(one.bearer_token.as_ref(), one.basic_auth.as_ref())?, BTreeMap::new())?;
        Ok(Box::new(Alertmanager::new(urls, http, origin.clone(), resend_ms)))
    }

    fn webhook(&self, name: &str, one: &WebhookConfig, origin: &Origin) -> Result<Box<dyn Channel>, String> {
        let login = self.login(one.bearer_token.as_ref(), one.basic_auth.as_ref())?;
        let http = Http::new(login, one.headers.clone())?;
        Ok(Box::new(Webhook { name: name.to_owned(), url: self.url(&one.url)?, http, origin: origin.clone() }))
    }

    fn slack(&self, name: &str, one: &SlackConfig, origin: &Origin) -> Result<Box<dyn Channel>, String> {
        Ok(Box::new(Slack {
            name: name.to_owned(),
            url: self.url(&one.url)?,
            channel: one.channel.clone(),
            username: one.username.clone(),
            title: text("title", one.title.as_deref(), TITLE)?,
            text: text("text", one.text.as_deref(), BODY)?,
            http: Http::new(Login::None, BTreeMap::new())?,
            origin: origin.clone(),
        }))
    }

    fn pagerduty(&self, name: &str, one: &PagerDutyConfig, origin: &Origin) -> Result<Box<dyn Channel>, String> {
        let url = one.url.clone().unwrap_or_else(|| PAGERDUTY_URL.to_owned());
        check_url(&url)?;
        Ok(Box::new(PagerDuty {
            name: name.to_owned(),
            url,
            routing_key: one.routing_key.read(&self.folder).map_err(|e| format!("routing_key: {e}"))?,
            severity: text("severity", one.severity.as_deref(), "{{ .CommonLabels.severity }}")?,
            summary: text("summary", one.summary.as_deref(), SUMMARY)?,
            http: Http::new(Login::None, BTreeMap::new())?,
            origin: origin.clone(),
        }))
    }

    fn email(&self, name: &str, one: &EmailConfig, origin: &Origin) -> Result<Box<dyn Channel>, String> {
        let (host, port) = one
            .smarthost
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
            .ok_or_else(|| format!("smarthost: `{}` is not HOST:PORT", one.smarthost))?;
        let parameters = || TlsParameters::new(host.to_owned()).map_err(|e| format!("TLS: {e}"));
        let tls = match one.tls {
            MailTls::StartTls => Tls::Required(parameters()?),
            MailTls::Implicit => Tls::Wrapper(parameters()?),
            MailTls::None => Tls::None,
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host).port(port).tls(tls);
        if let Some(username) = &one.username {
            let password = match &one.password {
                Some(secret) => secret.read(&self.folder).map_err(|e| format!("password: {e}"))?,
                None => return Err("username without password".to_owned()),
            };
            transport = transport.credentials(Credentials::new(username.clone(), password));
        }
        let mailbox = |text: &String| text.parse().map_err(|e| format!("`{text}` is no mail address: {e}"));
        if one.to.is_empty() {
            return Err("to: name at least one address".to_owned());
        }
        Ok(Box::new(Email {
            name: name.to_owned(),
            from: mailbox(&one.from)?,
            to: one.to.iter().map(mailbox).collect::<Result<_, String>>()?,
            subject: text("subject", one.subject.as_deref(), TITLE)?,
            text: text("text", one.text.as_deref(), BODY)?,
            html: one.html.as_deref().map(|html| Text::parse("html", html)).transpose()?,
            transport: transport.build(),
            origin: origin.clone(),
        }))
    }

    fn login(&self, token: Option<&Secret>, basic: Option<&BasicAuth>) -> Result<Login, String> {
        match (token, basic) {
            (None, None) => Ok(Login::None),
            (Some(token), None) => {
                token.read(&self.folder).map(Login::Bearer).map_err(|e| format!("bearer_token: {e}"))
            }
            (None, Some(BasicAuth { username, password })) => {
                let password = password.read(&self.folder).map_err(|e| format!("basic_auth.password: {e}"))?;
                Ok(Login::Basic(username.clone(), password))
            }
            (Some(_), Some(_)) => Err("bearer_token and basic_auth: one of the two".to_owned()),
        }
    }

    fn url(&self, secret: &Secret) -> Result<String, String> {
        let url = secret.read(&self.folder).map_err(|e| format!("url: {e}"))?;
        check_url(&url)?;
        Ok(url)
    }
}

type Made = Result<Box<dyn Channel>, String>;

/// What is said of a receiver: the same makes the same one.
#[derive(PartialEq, Eq)]
pub(super) struct Written {
    /// But for secrets.
    text: String,
    secrets: Vec<Option<String>>,
}

fn password_of(login: Option<&BasicAuth>) -> Option<&Secret> {
    login.map(|login| &login.password)
}

/// One line.
const SUMMARY: &str = "{{ with .CommonAnnotations.summary }}{{ . }}{{ else }}{{ .CommonLabels.alertname }}{{ range .CommonLabels.SortedPairs }} {{ .Name }}={{ .Value }}{{ end }}{{ end }}";

fn text(name: &str, written: Option<&str>, default: &str) -> Result<Text, String> {
    Text::parse(name, written.unwrap_or(default))
}

fn check_url(url: &str) -> Result<(), String> {
    match url::Url::parse(url) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => Ok(()),
        _ => Err("url: it is no http:// or https:// URL".to_owned()),
    }
}
