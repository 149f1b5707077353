//! Questions to servers of names, as `/etc/resolv.conf` has them.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use rand::TryRngCore;
use rand::rngs::OsRng;
use resolv_conf::Config;
use simple_dns::rdata::{OPT, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::config::RecordKind;

/// What an answer may take over UDP; a longer one is asked for over TCP.
const MAX_UDP_SIZE_BYTES: u16 = 4096;

/// Servers that are asked, one after the other, and what else their file says.
#[derive(Debug)]
pub(super) struct Resolver {
    servers: Vec<SocketAddr>,
    config: Config,
}

/// What a record leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Address(IpAddr),
    /// A server's name, with a dot at its end, and its port.
    Service(String, u16),
    /// The name of a server for mail, likewise.
    Mail(String),
    /// The name of a server of names.
    NameServer(String),
}

impl Resolver {
    /// As this file says.
    pub(super) fn of_file(path: &Path) -> Result<Self, String> {
        let text = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let (config, _) = Config::parse_with_errors(&text);
        let servers = config.get_nameservers_or_local();
        let servers = servers.into_iter().map(|server| SocketAddr::new(server.into(), 53)).collect();
        Ok(Self { servers, config })
    }

    /// Records of a name, in any order. None where every server that is asked for it says that there is none; an error where that cannot be known.
    pub(super) async fn look_up(&self, name: &str, kind: RecordKind) -> Result<Vec<Record>, String> {
        let mut failure = None;
        for whole in self.whole_names(name) {
            match self.ask_any(&whole, kind).await {
                Ok(Some(records)) => return Ok(records),
                Ok(None) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(Vec::new()), Err)
    }

    /// A name as it stands and below the domains that are searched; first those that are more likely.
    fn whole_names(&self, name: &str) -> Vec<String> {
        if let Some(whole) = name.strip_suffix('.') {
            return vec![whole.to_owned()];
        }
        let domains = self.config.get_last_search_or_domain().map(|domain| domain.trim_matches('.'));
        let mut names: Vec<String> =
            domains.filter(|domain| !domain.is_empty()).map(|domain| format!("{name}.{domain}")).collect();
        let has_dots = name.matches('.').count() >= self.config.ndots as usize;
        names.insert(if has_dots { 0 } else { names.len() }, name.to_owned());
        names
    }

    /// What the first server says that says anything; `None` where there is no such name.
    async fn ask_any(&self, name: &str, kind: RecordKind) -> Result<Option<Vec<Record>>, String> {
        let timeout = Duration::from_secs(u64::from(self.config.timeout.max(1)));
        let mut failures = Vec::new();
        for server in &self.servers {
            let asked = tokio::time::timeout(timeout, ask(*server, name, kind)).await;
            match asked.unwrap_or_else(|_| Err(format!("no answer came within {timeout:?}"))) {
                Ok(records) => return Ok(records),
                Err(error) => failures.push(format!("{server}: {error}")),
            }
        }
        Err(format!("{name}: {}", failures.join("; ")))
    }
}

fn type_of(kind: RecordKind) -> TYPE {
    match kind {
        RecordKind::A => TYPE::A,
        RecordKind::Aaaa => TYPE::AAAA,
        RecordKind::Srv => TYPE::SRV,
        RecordKind::Mx => TYPE::MX,
        RecordKind::Ns => TYPE::NS,
    }
}

/// Asks one server; `None` where it knows that there is no such name.
async fn ask(server: SocketAddr, name: &str, kind: RecordKind) -> Result<Option<Vec<Record>>, String> {
    let io = |error: std::io::Error| error.to_string();
    let id = random_id()?;
    let question = question(id, name, kind)?;
    let socket = UdpSocket::bind(if server.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" }).await.map_err(io)?;
    // Others than this server are not heard.
    socket.connect(server).await.map_err(io)?;
    socket.send(&question).await.map_err(io)?;
    let mut answer = vec![0; usize::from(MAX_UDP_SIZE_BYTES)];
    let size = loop {
        let size = socket.recv(&mut answer).await.map_err(io)?;
        if is_answer(&answer[..size], id) {
            break size;
        }
    };
    answer.truncate(size);
    if is_cut(&answer) {
        answer = ask_over_tcp(server, &question).await.map_err(io)?;
        if !is_answer(&answer, id) || is_cut(&answer) {
            return Err("its answer over TCP is none, or is cut".to_owned());
        }
    }
    read(&answer, kind)
}

async fn ask_over_tcp(server: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let size = u16::try_from(question.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&size.to_be_bytes()[..], question].concat()).await?;
    let size = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(size)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn random_id() -> Result<u16, String> {
    let mut bytes = [0; 2];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| error.to_string())?;
    Ok(u16::from_be_bytes(bytes))
}

fn question(id: u16, name: &str, kind: RecordKind) -> Result<Vec<u8>, String> {
    let name = Name::new(name).map_err(|error| format!("{name:?} is not a name: {error}"))?;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(name, type_of(kind).into(), CLASS::IN.into(), false));
    *packet.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size: MAX_UDP_SIZE_BYTES, version: 0 });
    packet.build_bytes_vec().map_err(|error| error.to_string())
}

/// Of the question with this number.
fn is_answer(message: &[u8], id: u16) -> bool {
    message.len() >= 12 && message[..2] == id.to_be_bytes() && message[2] & 0x80 != 0
}

/// There is more than fits.
fn is_cut(message: &[u8]) -> bool {
    message[2] & 0x02 != 0
}

fn read(message: &[u8], kind: RecordKind) -> Result<Option<Vec<Record>>, String> {
    let packet = Packet::parse(message).map_err(|error| format!("its answer cannot be read: {error}"))?;
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Ok(None),
        other => return Err(format!("it answers {other:?}")),
    }
    let dotted = |name: &Name<'_>| format!("{name}.");
    let records = packet.answers.iter().filter_map(|record| match (&record.rdata, kind) {
        (RData::A(a), RecordKind::A) => Some(Record::Address(IpAddr::V4(a.address.into()))),
        (RData::AAAA(a), RecordKind::Aaaa) => Some(Record::Address(IpAddr::V6(a.address.into()))),
        (RData::SRV(server), RecordKind::Srv) => Some(Record::Service(dotted(&server.target), server.port)),
        (RData::MX(server), RecordKind::Mx) => Some(Record::Mail(dotted(&server.exchange))),
        (RData::NS(server), RecordKind::Ns) => Some(Record::NameServer(dotted(&server.0))),
        // Names that stand for others lie on the way to an address.
        _ => None,
    });
    Ok(Some(records.collect()))
}

#[cfg(test)]
impl Resolver {
    /// These servers, and a file that says this.
    pub(super) fn of_servers(servers: &[SocketAddr], text: &str) -> Self {
        Self { servers: servers.to_vec(), config: Config::parse(text).unwrap() }
    }
}

#[cfg(test)]
mod tests;
