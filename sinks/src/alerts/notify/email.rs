//! Mail by SMTP.

use async_trait::async_trait;
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::channel::{Channel, Text};
use super::data::{Notice, Origin};
use super::error::NotifyError;

pub(super) struct Email {
    pub(super) name: String,
    pub(super) from: Mailbox,
    pub(super) to: Vec<Mailbox>,
    pub(super) subject: Text,
    pub(super) text: Text,
    pub(super) html: Option<Text>,
    pub(super) transport: AsyncSmtpTransport<Tokio1Executor>,
    pub(super) origin: Origin,
}

#[async_trait]
impl Channel for Email {
    async fn tell(&self, notices: &[Notice], now_ms: i64) -> Result<(), NotifyError> {
        let render = |text: &Text| text.render(&self.name, notices, &self.origin, now_ms);
        let key = notices.last().map_or("", |notice| notice.dedupe_key.as_str());
        let mut message = Message::builder()
            .from(self.from.clone())
            // The same message however often it is sent.
            .message_id(Some(format!("<{}@highwater>", key.replace(':', "."))))
            .subject(render(&self.subject).replace(['\r', '\n'], " "));
        for to in &self.to {
            message = message.to(to.clone());
        }
        let message = match &self.html {
            None => message.singlepart(SinglePart::plain(render(&self.text))),
            Some(html) => message.multipart(MultiPart::alternative_plain_html(render(&self.text), render(html))),
        };
        let message = message.map_err(|e| NotifyError::Refused { reason: e.to_string() })?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => Err(NotifyError::Refused { reason: error.to_string() }),
            Err(error) => Err(NotifyError::unavailable(error.to_string())),
        }
    }
}
