//! Answers, in the order of their requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use kafka_protocol::messages::ApiKey;
use tokio::io::AsyncWrite;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::end::Closed;
use super::input::Frame;
use super::output::Output;
use super::{MAX_READ_AHEAD, Shared};
use crate::kafka::apis::{self, Reply};
use crate::kafka::context::{ClientInfo, Context};
use crate::kafka::frame::{FrameError, RequestHead};

/// Answers every request of the queue, until it ends or an answer is the connection's last.
pub(super) async fn answer_all<W: AsyncWrite + Unpin>(
    output: &mut Output<'_, W>,
    mut queue: mpsc::Receiver<Frame>,
    mut context: Arc<Context>,
    shared: &Shared,
    waiting: &AtomicUsize,
) -> Result<(), Closed> {
    // What is in there is polled for the first time in the order in which it came: so Produce requests reach the log in theirs.
    let mut running = FuturesOrdered::new();
    let mut are_produce = false;
    let mut next: Option<(RequestHead, Frame)> = None;
    // How it ends once what is running is answered; `None` while more may come.
    let mut end: Option<Result<(), Closed>> = None;
    loop {
        let (is_free, has_place) = (running.is_empty(), are_produce && running.len() < MAX_READ_AHEAD);
        if let Some((head, frame)) = next.take_if(|(head, _)| is_free || (has_place && is_produce(head))) {
            are_produce = is_produce(&head);
            rename(&mut context, shared, &head);
            shared.meters.received(head.key, frame.bytes.len());
            running.push_back(handle(Arc::clone(&context), head, frame));
        }
        tokio::select! {
            Some(Handled { key, took, reply, permit: _permit }) = running.next(), if !running.is_empty() => {
                shared.meters.handled(key, took, reply.as_ref().ok().and_then(Reply::size_bytes));
                match reply? {
                    Reply::Send { pieces, room: _room } => output.send(pieces).await?,
                    Reply::Silence => {}
                    Reply::HangUp => return Ok(()),
                }
                waiting.fetch_sub(1, Ordering::Relaxed);
            }
            frame = queue.recv(), if end.is_none() && next.is_none() => match frame {
                None => end = Some(Ok(())),
                Some(frame) => match RequestHead::read(&frame.bytes) {
                    Ok(head) => next = Some((head, frame)),
                    Err(error) => end = Some(Err(error.into())),
                },
            },
            else => return end.unwrap_or(Ok(())),
        }
    }
}

fn is_produce(head: &RequestHead) -> bool {
    head.key == ApiKey::Produce as i16
}

/// A client may call itself otherwise from one request to the next.
fn rename(context: &mut Arc<Context>, shared: &Shared, head: &RequestHead) {
    if *context.client.id != *head.client_id {
        let client = ClientInfo { id: head.client_id.to_string(), ..context.client.clone() };
        *context = shared.context(client, &context.session, &context.turns);
    }
}

/// A request that was handled.
struct Handled {
    key: i16,
    took: Duration,
    reply: Result<Reply, FrameError>,
    permit: OwnedSemaphorePermit,
}

async fn handle(context: Arc<Context>, head: RequestHead, frame: Frame) -> Handled {
    #[expect(clippy::disallowed_methods, reason = "measures for a metric; nothing depends on it")]
    let started = std::time::Instant::now();
    let reply = apis::dispatch(&context, &head, frame.bytes).await;
    Handled { key: head.key, took: started.elapsed(), reply, permit: frame.permit }
}
