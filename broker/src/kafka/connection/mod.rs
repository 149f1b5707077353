//! One connection: frames in, answers out, in order.
//!
//! Reading and answering run side by side, so that a client may send its next requests before the first is answered. What has been read
//! and not answered holds its size in permits of the door's budget: where there are none left, sockets are not read, and TCP tells
//! the clients to wait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kafka_protocol::protocol::StrBytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, watch};

use super::apis::{self, Reply};
use super::context::{ClientInfo, Context};
use super::frame::RequestHead;
use super::settings::DoorSettings;
use crate::broker::Broker;
use crate::groups::Groups;

mod end;
mod input;
mod output;

use end::Closed;
use input::{Frame, Input};
use output::Output;

/// Requests of one connection that may be read ahead of their answers.
const MAX_READ_AHEAD: usize = 16;

/// What all connections share.
pub(super) struct Shared {
    broker: Arc<Broker>,
    groups: Arc<Groups>,
    pub(super) settings: Arc<DoorSettings>,
    cluster_id: Arc<str>,
    /// True once the server shuts down.
    pub(super) stopped: watch::Receiver<bool>,
    /// One permit per byte of a request on its way.
    in_flight: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(
        broker: Arc<Broker>,
        settings: DoorSettings,
        cluster_id: Arc<str>,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let in_flight = Arc::new(Semaphore::new(settings.max_in_flight_bytes));
        let groups = Groups::start(&broker, settings.groups.clone());
        Self { broker, groups, settings: Arc::new(settings), cluster_id, stopped, in_flight }
    }

    fn context(&self, client: ClientInfo) -> Context {
        Context {
            broker: Arc::clone(&self.broker),
            groups: Arc::clone(&self.groups),
            door: Arc::clone(&self.settings),
            cluster_id: Arc::clone(&self.cluster_id),
            client,
        }
    }
}

/// Serves a connection until the client leaves, misbehaves, or the server shuts down.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) -> Result<(), Closed> {
    stream.set_nodelay(true).map_err(Closed::Io)?;
    let dialled = stream.local_addr().map_err(Closed::Io)?;
    let client = ClientInfo { id: String::new(), host: peer.ip().to_string(), dialled, principal: None };
    let (input, output) = stream.into_split();
    talk(input, output, client, shared).await
}

async fn talk<R, W>(input: R, output: W, client: ClientInfo, shared: Arc<Shared>) -> Result<(), Closed>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (frames, queue) = mpsc::channel(MAX_READ_AHEAD);
    let waiting = AtomicUsize::new(0);
    let read = read_all(Input::new(input, &shared.settings), frames, &shared, &waiting);
    let answer = answer_all(Output::new(output, &shared.settings), queue, client, &shared, &waiting);
    tokio::pin!(read, answer);
    tokio::select! {
        ended = &mut read => {
            // What has come is answered before the connection closes, whatever ended the reading.
            answer.await?;
            ended
        }
        ended = &mut answer => ended,
    }
}

async fn read_all<R: AsyncRead + Unpin>(
    mut input: Input<'_, R>,
    frames: mpsc::Sender<Frame>,
    shared: &Shared,
    waiting: &AtomicUsize,
) -> Result<(), Closed> {
    let mut stopped = shared.stopped.clone();
    loop {
        let is_busy = || waiting.load(Ordering::Relaxed) > 0;
        let frame = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
            frame = input.next(&shared.in_flight, is_busy) => frame?,
        };
        let Some(frame) = frame else { return Ok(()) };
        waiting.fetch_add(1, Ordering::Relaxed);
        if frames.send(frame).await.is_err() {
            return Ok(());
        }
    }
}

async fn answer_all<W: AsyncWrite + Unpin>(
    mut output: Output<'_, W>,
    mut queue: mpsc::Receiver<Frame>,
    client: ClientInfo,
    shared: &Shared,
    waiting: &AtomicUsize,
) -> Result<(), Closed> {
    let mut context = Arc::new(shared.context(client));
    while let Some(Frame { bytes, permit }) = queue.recv().await {
        let head = RequestHead::read(&bytes)?;
        if *context.client.id != *head.client_id {
            context = renamed(&context, shared, &head.client_id);
        }
        let Reply::Send(answer) = apis::dispatch(&context, &head, bytes).await?;
        output.send(answer).await?;
        drop(permit);
        waiting.fetch_sub(1, Ordering::Relaxed);
    }
    Ok(())
}

fn renamed(context: &Context, shared: &Shared, id: &StrBytes) -> Arc<Context> {
    Arc::new(shared.context(ClientInfo { id: id.to_string(), ..context.client.clone() }))
}

/// The time that a transfer may take: the setting, and a second for every 64 KiB.
fn transfer_time(settings: &DoorSettings, size_bytes: usize) -> Duration {
    Duration::from_millis(settings.transfer_timeout_ms) + Duration::from_secs((size_bytes >> 16) as u64)
}
