//! What a stranger may do: ask what is served, and log in. Within a time, in small frames, one after the other.

use std::ops::ControlFlow;
use std::time::Duration;

use kafka_protocol::messages::ApiKey;
use tokio::io::{AsyncRead, AsyncWrite};

use super::end::Closed;
use super::input::Input;
use super::output::Output;
use crate::kafka::apis::{self, Reply};
use crate::kafka::context::Context;
use crate::kafka::frame::RequestHead;

const ALLOWED: [ApiKey; 3] = [ApiKey::ApiVersions, ApiKey::SaslHandshake, ApiKey::SaslAuthenticate];

/// Runs the login of a connection until it is open; breaks where the client left before.
pub(super) async fn run<R, W>(
    input: &mut Input<'_, R>,
    output: &mut Output<'_, W>,
    context: &Context,
) -> Result<ControlFlow<()>, Closed>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let timeout_ms = context.door.login_timeout_ms;
    let mut stopped = context.stopped.clone();
    tokio::select! {
        _ = stopped.wait_for(|stopped| *stopped) => Ok(ControlFlow::Break(())),
        done = tokio::time::timeout(Duration::from_millis(timeout_ms), steps(input, output, context)) => {
            done.unwrap_or(Err(Closed::Slow { what: "the login", timeout_ms }))
        }
    }
}

async fn steps<R, W>(
    input: &mut Input<'_, R>,
    output: &mut Output<'_, W>,
    context: &Context,
) -> Result<ControlFlow<()>, Closed>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let session = &context.session;
    while !session.is_open() {
        let Some(frame) = input.next_of_stranger().await? else { return Ok(ControlFlow::Break(())) };
        if session.expects_bare_token() {
            if session.login(&context.door.api_keys, &frame) == Some(true) {
                output.send(Vec::new()).await?;
            }
        } else {
            let head = RequestHead::read(&frame)?;
            if !ALLOWED.iter().any(|allowed| *allowed as i16 == head.key) {
                return Err(Closed::Stranger { key: head.key });
            }
            if let Reply::Send { pieces, .. } = apis::dispatch(context, &head, frame).await? {
                output.send(pieces).await?;
            }
        }
        if session.has_failed() {
            return Err(Closed::Login);
        }
    }
    Ok(ControlFlow::Continue(()))
}
