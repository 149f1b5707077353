//! How a connection begins: TLS, who it is, what it is told.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use highwater_pipeline::access::{Credentials, Need};
use highwater_pipeline::data::Tenant;
use pgwire::messages::PgWireBackendMessage as Answer;
use pgwire::messages::response::{ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::{Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::connection::Connection;
use super::error::{PgError, code};
use super::server::Shared;
use super::settings::Settings;
use super::wire::{Message, Opening, Stream, Wire};

/// The setting that names a tenant where there are no keys.
pub(super) const TENANT_SETTING: &str = "highwater.tenant";
/// Longest name of a user.
const MAX_USER_BYTES: usize = 128;

/// A client that has come in, and its place among those that may. `None` where it wanted something else, or was refused.
pub(super) async fn login(
    socket: TcpStream,
    shared: &Arc<Shared>,
) -> io::Result<Option<(Connection, OwnedSemaphorePermit)>> {
    let mut wire = Wire::new(Stream::Plain(socket));
    let (major, minor, parameters) = loop {
        match wire.opening().await? {
            None => return Ok(None),
            Some(Opening::Cancel { pid, secret }) => {
                shared.connections.cancel(pid, &secret);
                return Ok(None);
            }
            Some(Opening::Gss) => wire.answer(b'N').await?,
            Some(Opening::Ssl) => match &shared.settings.tls {
                Some(acceptor) if !wire.is_secure() => {
                    wire.answer(b'S').await?;
                    let tls = acceptor().accept(wire.into_plain()?).await?;
                    wire = Wire::new(Stream::Tls(Box::new(tls)));
                }
                _ => wire.answer(b'N').await?,
            },
            Some(Opening::Startup { major, minor, parameters }) => break (major, minor, parameters),
        }
    };
    match admit(&mut wire, shared, major, minor, parameters).await? {
        Ok(admitted) => Ok(Some(admitted(wire))),
        Err(refused) => {
            metrics::counter!("highwater_postgres_logins_refused_total", "code" => refused.code).increment(1);
            wire.put(Answer::ErrorResponse(refused.response("FATAL")))?;
            wire.flush().await?;
            wire.close().await;
            Ok(None)
        }
    }
}

type Admitted = Box<dyn FnOnce(Wire) -> (Connection, OwnedSemaphorePermit) + Send>;

async fn admit(
    wire: &mut Wire,
    shared: &Arc<Shared>,
    major: u16,
    minor: u16,
    parameters: BTreeMap<String, String>,
) -> io::Result<Result<Admitted, PgError>> {
    if major != 3 {
        let message = format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0");
        return Ok(Err(PgError::new(code::UNSUPPORTED, message)));
    }
    let extensions: Vec<String> = parameters.keys().filter(|name| name.starts_with("_pq_.")).cloned().collect();
    if minor > 0 || !extensions.is_empty() {
        wire.put(Answer::NegotiateProtocolVersion(NegotiateProtocolVersion::new(0, extensions)))?;
    }
    if shared.settings.require_tls && !wire.is_secure() {
        return Ok(Err(PgError::new(
            code::INVALID_AUTHORIZATION,
            "this server takes TLS connections only: sslmode=require",
        )));
    }
    let Some(user) = parameters.get("user").filter(|user| !user.is_empty() && user.len() <= MAX_USER_BYTES).cloned()
    else {
        return Ok(Err(PgError::new(
            code::INVALID_AUTHORIZATION,
            "no PostgreSQL user name specified in startup packet",
        )));
    };
    let mut settings = Settings::new(&user, shared.engine.config().timeout);
    if let Err(error) = begin(&mut settings, &parameters) {
        return Ok(Err(error));
    }
    let tenant = match tenant(wire, shared, &user, &settings).await? {
        Ok(tenant) => tenant,
        Err(error) => return Ok(Err(error)),
    };
    let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
        return Ok(Err(PgError::new(code::TOO_MANY_CONNECTIONS, "sorry, too many clients already")));
    };
    let Some(registered) = shared.connections.register() else {
        return Ok(Err(PgError::new(code::INTERNAL, "no randomness for the secret of the connection")));
    };
    wire.put(Answer::Authentication(Authentication::Ok))?;
    for (name, value) in settings.reported() {
        wire.put(Answer::ParameterStatus(ParameterStatus::new(name.to_string(), value.to_string())))?;
    }
    wire.put(Answer::BackendKeyData(BackendKeyData::new(registered.pid, SecretKey::I32(registered.secret))))?;
    wire.put(Answer::ReadyForQuery(ReadyForQuery::new(TransactionStatus::Idle)))?;
    wire.flush().await?;
    let shared = Arc::clone(shared);
    Ok(Ok(Box::new(move |wire| {
        (
            Connection::new(wire, shared.engine.clone(), shared.closing.clone(), tenant, user, settings, registered),
            place,
        )
    })))
}

/// Settings that come with the startup packet: by themselves, and as `options=-c name=value`.
fn begin(settings: &mut Settings, parameters: &BTreeMap<String, String>) -> Result<(), PgError> {
    for (name, value) in parameters {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            "options" => {
                for (name, value) in options(value) {
                    settings.start(&name, &value)?;
                }
            }
            name if name.starts_with("_pq_.") => {}
            name => settings.start(name, value)?,
        }
    }
    match parameters.get("replication").map(String::as_str) {
        None | Some("false" | "off" | "no" | "0") => Ok(()),
        Some(_) => Err(PgError::new(code::UNSUPPORTED, "there is no replication over this protocol")),
    }
}

/// `-c a=b --c-d=e -c\ f=g`: pairs. A backslash takes the blank after it along.
fn options(text: &str) -> Vec<(String, String)> {
    let mut words = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                if let (Some(word), Some(next)) = (words.last_mut(), chars.next()) {
                    word.push(next);
                }
            }
            c if c.is_whitespace() => words.push(String::new()),
            c => {
                if let Some(word) = words.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    let mut pairs = Vec::new();
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let setting = match word.as_str() {
            "-c" => words.next().unwrap_or_default(),
            word => word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).unwrap_or_default().to_string(),
        };
        if let Some((name, value)) = setting.split_once('=') {
            pairs.push((name.replace('-', "_"), value.to_string()));
        }
    }
    pairs
}

/// Whose data the client reads.
async fn tenant(
    wire: &mut Wire,
    shared: &Shared,
    user: &str,
    settings: &Settings,
) -> io::Result<Result<Tenant, PgError>> {
    let named = settings.show(TENANT_SETTING).ok().map(|(_, value)| value.as_bytes());
    let access = &shared.settings.access;
    let mut credentials = Credentials::None;
    if !access.is_open() {
        wire.put(Answer::Authentication(Authentication::CleartextPassword))?;
        wire.flush().await?;
        // The user's name says nothing that the key does not: tools that ask for one get any.
        credentials = match wire.message(false).await? {
            Some(Message::Password(password)) => Credentials::Secret(password.into_bytes()),
            Some(_) => return Ok(Err(PgError::protocol("expected a password"))),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
    }
    Ok(access.admit(&credentials, named, Need::Query).map(|caller| caller.tenant).map_err(|denied| {
        if denied.is_unauthenticated() {
            let message = format!("password authentication failed for user \"{user}\"");
            PgError::new(code::INVALID_PASSWORD, message).with_hint("The password is an API key.")
        } else {
            PgError::new(code::INVALID_AUTHORIZATION, denied.to_string())
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_command_line() {
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        assert_eq!(
            options("-c statement_timeout=5s --search-path=a -cx.y=1 -c application_name=a\\ b"),
            [
                pair("statement_timeout", "5s"),
                pair("search_path", "a"),
                pair("x.y", "1"),
                pair("application_name", "a b")
            ]
        );
        assert!(options("").is_empty());
    }
}
