//! One connection: TLS, login, then frames in and answers out, in order.
//!
//! Reading and answering run side by side, so that a client may send its next requests before the first is answered. What has been read
//! and not answered holds its size in permits of the door's budget: where there are none left, sockets are not read, and TCP tells
//! the clients to wait. Requests are handled one after the other, but for Produce: those that follow each other are handed to the log in
//! their order and wait for their sync together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, watch};

use super::context::{ClientInfo, Context};
use super::meter::Meters;
use super::security::Session;
use super::settings::DoorSettings;
use super::turns::Turns;
use crate::broker::Broker;
use crate::groups::Groups;
use crate::tls::Tls;
use crate::transactions::Transactions;

mod answers;
mod end;
mod input;
mod login;
mod output;

use answers::answer_all;
use end::Closed;
use input::{Frame, Input};
use output::Output;

/// Requests of one connection that may be read ahead of their answers.
const MAX_READ_AHEAD: usize = 16;

/// What all connections share.
pub(super) struct Shared {
    broker: Arc<Broker>,
    groups: Arc<Groups>,
    transactions: Arc<Transactions>,
    pub(super) settings: Arc<DoorSettings>,
    tls: Option<Tls>,
    meters: Meters,
    cluster_id: Arc<str>,
    /// True once the server shuts down.
    pub(super) stopped: watch::Receiver<bool>,
    /// One permit per byte of a request on its way.
    in_flight: Arc<Semaphore>,
    /// One permit per byte of records in an answer on its way.
    answer_room: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(
        broker: Arc<Broker>,
        settings: DoorSettings,
        tls: Option<Tls>,
        cluster_id: Arc<str>,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let in_flight = Arc::new(Semaphore::new(settings.max_in_flight_bytes));
        let answer_room = Arc::new(Semaphore::new(settings.max_answer_bytes));
        let groups = Groups::start(&broker, settings.groups.clone());
        let transactions = Transactions::start(Arc::clone(&broker));
        Self {
            broker,
            groups,
            transactions,
            settings: Arc::new(settings),
            tls,
            meters: Meters::new(),
            cluster_id,
            stopped,
            in_flight,
            answer_room,
        }
    }

    fn context(&self, client: ClientInfo, session: &Arc<Session>, turns: &Arc<Turns>) -> Arc<Context> {
        Arc::new(Context {
            broker: Arc::clone(&self.broker),
            groups: Arc::clone(&self.groups),
            transactions: Arc::clone(&self.transactions),
            door: Arc::clone(&self.settings),
            cluster_id: Arc::clone(&self.cluster_id),
            session: Arc::clone(session),
            answer_room: Arc::clone(&self.answer_room),
            turns: Arc::clone(turns),
            stopped: self.stopped.clone(),
            client,
        })
    }
}

/// Serves a connection until the client leaves, misbehaves, or the server shuts down.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) -> Result<(), Closed> {
    prepare(&stream).map_err(Closed::Io)?;
    let dialled = stream.local_addr().map_err(Closed::Io)?;
    let client = ClientInfo { id: String::new(), host: peer.ip().to_string(), dialled, principal: None };
    match &shared.tls {
        None => {
            let (input, output) = stream.into_split();
            talk(input, output, client, &shared).await
        }
        Some(tls) => {
            let timeout_ms = shared.settings.login_timeout_ms;
            let accepting = tokio::time::timeout(Duration::from_millis(timeout_ms), tls.acceptor().accept(stream));
            let stream = accepting
                .await
                .map_err(|_| Closed::Slow { what: "the TLS handshake", timeout_ms })?
                .map_err(Closed::Handshake)?;
            let (input, output) = tokio::io::split(stream);
            talk(input, output, client, &shared).await
        }
    }
}

/// Answers go out at once, and a peer that is gone without a word is found out within two minutes.
fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15))?;
    sockopt::set_tcp_keepcnt(stream, 4)?;
    Ok(())
}

async fn talk<R, W>(input: R, output: W, client: ClientInfo, shared: &Shared) -> Result<(), Closed>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let session = Arc::new(Session::new(!shared.settings.api_keys.is_empty()));
    let turns = Arc::new(Turns::new());
    let context = shared.context(client, &session, &turns);
    let mut input = Input::new(input, &shared.settings);
    let mut output = Output::new(output, &shared.settings);
    if !session.is_open() && login::run(&mut input, &mut output, &context).await?.is_break() {
        return Ok(());
    }
    let client = ClientInfo { principal: session.principal(), ..context.client.clone() };
    let context = shared.context(client, &session, &turns);

    let (frames, queue) = mpsc::channel(MAX_READ_AHEAD);
    let waiting = AtomicUsize::new(0);
    let read = read_all(input, frames, shared, &waiting);
    let answer = answer_all(&mut output, queue, context, shared, &waiting);
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

/// The time that a transfer may take: the setting, and a second for every 256 KiB.
fn transfer_time(settings: &DoorSettings, size_bytes: usize) -> Duration {
    Duration::from_millis(settings.transfer_timeout_ms) + Duration::from_secs((size_bytes >> 18) as u64)
}
