//! Messages on a socket: the client's, read within bounds, and ours, gathered and sent.
//!
//! A client's message is read whole before it is looked into, and every length and count in it is checked against what is there. (The decoder of
//! `pgwire` trusts them; what it encodes is used.)

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use pgwire::messages::PgWireBackendMessage;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Longest message before a client has logged in, as in Postgres.
const MAX_STARTUP_BYTES: usize = 10_000;
/// Longest message after that: a query's text, or its parameters.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// What is gathered before it is sent.
pub(super) const SEND_AT_BYTES: usize = 64 << 10;

/// What is read at once while a query runs.
const READ_AHEAD_BYTES: usize = 4 << 10;

const SSL_REQUEST: i32 = 80_877_103;
const GSS_REQUEST: i32 = 80_877_104;
const CANCEL_REQUEST: i32 = 80_877_102;

/// What a connection begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Ssl,
    Gss,
    Cancel { pid: i32, secret: Bytes },
    Startup { major: u16, minor: u16, parameters: BTreeMap<String, String> },
}

/// What a client says after that.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Password(String),
    Query(String),
    Parse {
        name: String,
        text: String,
        types: Vec<u32>,
    },
    Bind {
        portal: String,
        statement: String,
        formats: Vec<i16>,
        values: Vec<Option<Bytes>>,
        result_formats: Vec<i16>,
    },
    Describe {
        portal: bool,
        name: String,
    },
    Execute {
        portal: String,
        max_rows: i32,
    },
    Close {
        portal: bool,
        name: String,
    },
    Sync,
    Flush,
    Terminate,
    /// Data of a COPY that is not under way.
    Copy,
    /// A call of a function by number.
    Function,
}

impl Message {
    /// True for messages after whose error everything is skipped up to the next Sync.
    pub(super) fn is_extended(&self) -> bool {
        matches!(
            self,
            Self::Parse { .. }
                | Self::Bind { .. }
                | Self::Describe { .. }
                | Self::Execute { .. }
                | Self::Close { .. }
                | Self::Flush
        )
    }
}

/// A socket, with TLS or without.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

/// A connection's two directions.
pub(super) struct Wire {
    stream: Stream,
    read: BytesMut,
    /// What is to be sent.
    pub(super) out: BytesMut,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, read: BytesMut::new(), out: BytesMut::new() }
    }

    /// The socket, to speak TLS on it. Nothing may have been read beyond the request.
    pub(super) fn into_plain(self) -> io::Result<TcpStream> {
        match (self.stream, self.read.is_empty()) {
            (Stream::Plain(tcp), true) => Ok(tcp),
            // What came before the handshake would be taken for part of what is encrypted.
            _ => Err(broken("bytes before the TLS handshake")),
        }
    }

    pub(super) fn is_secure(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// The first message; `None` where the client is gone.
    pub(super) async fn opening(&mut self) -> io::Result<Option<Opening>> {
        let Some(size) = self.size(0).await? else { return Ok(None) };
        if !(8..=MAX_STARTUP_BYTES).contains(&size) {
            return Err(broken("a startup packet of an invalid length"));
        }
        if !self.fill(size).await? {
            return Ok(None);
        }
        let mut body = self.read.split_to(size).freeze();
        body.advance(4);
        let code = body.get_i32();
        Ok(Some(match code {
            SSL_REQUEST => Opening::Ssl,
            GSS_REQUEST => Opening::Gss,
            CANCEL_REQUEST if body.len() >= 8 => Opening::Cancel { pid: body.get_i32(), secret: body },
            code => {
                let (major, minor) = ((code >> 16) as u16, (code & 0xffff) as u16);
                let mut parameters = BTreeMap::new();
                let mut reader = Reader(body);
                // What follows in another version is not known, and not read.
                let mut is_more = major == 3;
                while is_more {
                    let name = reader.text()?;
                    is_more = !name.is_empty();
                    if is_more {
                        parameters.insert(name, reader.text()?);
                    }
                }
                Opening::Startup { major, minor, parameters }
            }
        }))
    }

    /// The next message; `None` where the client is gone. May be dropped and called again: what was read is kept.
    pub(super) async fn message(&mut self, logged_in: bool) -> io::Result<Option<Message>> {
        let Some(size) = self.size(1).await? else { return Ok(None) };
        let max = if logged_in { MAX_MESSAGE_BYTES } else { MAX_STARTUP_BYTES };
        if !(4..=max).contains(&size) {
            return Err(broken(&format!("a message of {size} bytes, the limit is {max}")));
        }
        if !self.fill(1 + size).await? {
            return Ok(None);
        }
        let mut message = self.read.split_to(1 + size).freeze();
        let kind = message.get_u8();
        message.advance(4);
        decode(kind, Reader(message)).map(Some)
    }

    /// The length that stands at this place, once it is there.
    async fn size(&mut self, at: usize) -> io::Result<Option<usize>> {
        if !self.fill(at + 4).await? {
            return Ok(None);
        }
        let size = i32::from_be_bytes([self.read[at], self.read[at + 1], self.read[at + 2], self.read[at + 3]]);
        usize::try_from(size).map(Some).map_err(|_| broken("a negative length"))
    }

    /// Reads until so many bytes are there; false where they will not come.
    async fn fill(&mut self, size: usize) -> io::Result<bool> {
        while self.read.len() < size {
            self.read.reserve((size - self.read.len()).min(SEND_AT_BYTES));
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return match self.read.is_empty() {
                    true => Ok(false),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
        Ok(true)
    }

    /// Puts a message among those to be sent.
    pub(super) fn put(&mut self, message: PgWireBackendMessage) -> io::Result<()> {
        let begin = self.out.len();
        message.encode(&mut self.out).map_err(|error| {
            self.out.truncate(begin);
            io::Error::other(error.to_string())
        })
    }

    /// One byte that is no message: the answer to a request for encryption.
    pub(super) async fn answer(&mut self, byte: u8) -> io::Result<()> {
        self.stream.write_all(&[byte]).await?;
        self.stream.flush().await
    }

    /// Sends what was put.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            self.stream.write_all_buf(&mut self.out).await?;
        }
        self.stream.flush().await
    }

    /// Closes it in good order.
    pub(super) async fn close(&mut self) {
        drop(self.stream.shutdown().await);
    }

    /// Comes back once the client has gone, or has said that it goes. What it sends meanwhile is kept for [`Wire::message`]. May be dropped at any time.
    pub(super) async fn gone(&mut self) {
        loop {
            if self.says_goodbye() {
                return;
            }
            if self.read.len() >= SEND_AT_BYTES {
                // It sends on while it waits; how much of that is held is bounded.
                std::future::pending::<()>().await;
            }
            self.read.reserve(READ_AHEAD_BYTES);
            if let Ok(0) | Err(_) = self.stream.read_buf(&mut self.read).await {
                return;
            }
        }
    }

    /// True where one of the messages that wait is Terminate.
    fn says_goodbye(&self) -> bool {
        let mut rest = &self.read[..];
        while let [kind, a, b, c, d, ..] = rest {
            if *kind == b'X' {
                return true;
            }
            let size = usize::try_from(i32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
            match size.checked_add(1).and_then(|size| rest.get(size..)) {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
        false
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn decode(kind: u8, mut body: Reader) -> io::Result<Message> {
    let message = match kind {
        b'p' => Message::Password(body.text()?),
        b'Q' => Message::Query(body.text()?),
        b'P' => {
            let (name, text) = (body.text()?, body.text()?);
            let types = body.list(4, |body| body.0.get_u32())?;
            Message::Parse { name, text, types }
        }
        b'B' => {
            let (portal, statement) = (body.text()?, body.text()?);
            let formats = body.list(2, |body| body.0.get_i16())?;
            let count = body.count(4)?;
            let mut values = Vec::with_capacity(count);
            for _ in 0..count {
                let size = body.i32()?;
                values.push(match usize::try_from(size) {
                    Ok(size) => Some(body.bytes(size)?),
                    Err(_) => None,
                });
            }
            let result_formats = body.list(2, |body| body.0.get_i16())?;
            Message::Bind { portal, statement, formats, values, result_formats }
        }
        b'D' => Message::Describe { portal: body.is_portal()?, name: body.text()? },
        b'E' => Message::Execute { portal: body.text()?, max_rows: body.i32()? },
        b'C' => Message::Close { portal: body.is_portal()?, name: body.text()? },
        b'S' => Message::Sync,
        b'H' => Message::Flush,
        b'X' => Message::Terminate,
        b'd' | b'c' | b'f' => return Ok(Message::Copy),
        b'F' => return Ok(Message::Function),
        other => return Err(broken(&format!("a message of an unknown type, {other}"))),
    };
    match body.0.is_empty() {
        true => Ok(message),
        false => Err(broken("a message that is longer than what it says")),
    }
}

/// The body of a message. Nothing is read beyond its end.
struct Reader(Bytes);

impl Reader {
    fn bytes(&mut self, size: usize) -> io::Result<Bytes> {
        if size > self.0.len() {
            return Err(broken("a message that ends too early"));
        }
        Ok(self.0.split_to(size))
    }

    fn i32(&mut self) -> io::Result<i32> {
        self.bytes(4).map(|mut bytes| bytes.get_i32())
    }

    /// Text that ends at a NUL.
    fn text(&mut self) -> io::Result<String> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(|| broken("a text without an end"))?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        String::from_utf8(text.to_vec()).map_err(|_| broken("a text that is not UTF-8"))
    }

    /// How many elements follow, of at least `size` bytes each.
    fn count(&mut self, size: usize) -> io::Result<usize> {
        let count = usize::from(self.bytes(2)?.get_u16());
        if count * size > self.0.len() {
            return Err(broken("a message that ends too early"));
        }
        Ok(count)
    }

    /// Elements of a fixed size.
    fn list<T>(&mut self, size: usize, mut element: impl FnMut(&mut Self) -> T) -> io::Result<Vec<T>> {
        let count = self.count(size)?;
        Ok((0..count).map(|_| element(self)).collect())
    }

    /// Whether a portal is meant, or a statement.
    fn is_portal(&mut self) -> io::Result<bool> {
        match self.bytes(1)?.get_u8() {
            b'P' => Ok(true),
            b'S' => Ok(false),
            _ => Err(broken("neither a portal nor a statement")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn message(kind: u8, body: &[u8]) -> io::Result<Message> {
        decode(kind, Reader(Bytes::copy_from_slice(body)))
    }

    #[test]
    fn messages_are_read_as_they_are_written() {
        assert_eq!(message(b'Q', b"SELECT 1\0").unwrap(), Message::Query("SELECT 1".into()));
        assert_eq!(
            message(b'P', b"s\0SELECT $1\0\0\x01\0\0\0\x17").unwrap(),
            Message::Parse { name: "s".into(), text: "SELECT $1".into(), types: vec![23] }
        );
        assert_eq!(
            message(b'B', b"\0s\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\0").unwrap(),
            Message::Bind {
                portal: String::new(),
                statement: "s".into(),
                formats: vec![1],
                values: vec![Some(Bytes::from_static(b"x")), None],
                result_formats: vec![]
            }
        );
        assert_eq!(message(b'D', b"Pc\0").unwrap(), Message::Describe { portal: true, name: "c".into() });
    }

    #[test]
    fn no_length_in_a_message_is_believed() {
        for (kind, body) in [
            (b'Q', &b"SELECT 1"[..]),
            (b'Q', b"SELECT 1\0x"),
            (b'Q', b"\xff\0"),
            (b'P', b"s\0SELECT\0\xff\xff"),
            (b'B', b"\0s\0\0\0\0\x01\x7f\xff\xff\xff"),
            (b'B', b"\0s\0\xff\xff"),
            (b'E', b"\0\0"),
            (b'D', b"X\0"),
            (b'z', b""),
        ] {
            assert!(message(kind, body).is_err(), "{kind} {body:?}");
        }
    }
}
