//! The Kafka door: where it listens, who may come in, how much it takes.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use super::{ConfigError, TlsSection};

/// Where the door listens when nothing is said.
pub(crate) const DEFAULT_KAFKA_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9092);
/// Smallest of the limits in bytes: a client's ordinary requests fit below it.
const MIN_SIZE_BYTES: usize = 1 << 20;

/// The Kafka door of the embedded log.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KafkaSection {
    /// Address and port, or `off`; port 0 takes a free one (written to `<data_dir>/server.json`). Where nothing is said: 127.0.0.1:9092.
    pub(crate) listen: Option<Listen>,
    /// What clients are told to dial, `host:port`; where nothing is said, the address they came in on.
    pub(crate) advertised: Option<HostPort>,
    /// Certificate and key: with them the door speaks TLS and nothing else.
    pub(crate) tls: Option<TlsSection>,
    /// Let clients beyond this machine in without TLS or without keys.
    pub(crate) allow_insecure: bool,
    /// A client that asks for a topic there is not makes it.
    pub(crate) auto_create_topics: bool,
    /// Partitions of a topic made so, and of one made with no number.
    pub(crate) default_partitions: i32,
    /// Bounds on what clients take of this process.
    pub(crate) limits: KafkaLimits,
}

impl Default for KafkaSection {
    fn default() -> Self {
        Self {
            listen: None,
            advertised: None,
            tls: None,
            allow_insecure: false,
            auto_create_topics: true,
            default_partitions: 1,
            limits: KafkaLimits::default(),
        }
    }
}

/// An address, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listen {
    /// There is no door.
    Off,
    /// The door is here.
    At(SocketAddr),
}

impl Listen {
    /// Where a door is, where there is one: at the default where nothing is said.
    pub(super) fn address(said: Option<Self>, default: SocketAddr) -> Option<SocketAddr> {
        match said {
            None => Some(default),
            Some(Self::At(address)) => Some(address),
            Some(Self::Off) => None,
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|_| format!("`{text}` is not an address; write 127.0.0.1:9092, or off"))
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Listen;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address as 127.0.0.1:9092, or off")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Listen, E> {
                text.parse().map_err(E::custom)
            }

            // `off` is a boolean to some readers of YAML.
            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Listen, E> {
                if on { Err(E::custom("name an address, such as 127.0.0.1:9092")) } else { Ok(Listen::Off) }
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// A name or an address, and a port: what others dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let split = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        match split {
            Some((host, port)) if !host.is_empty() && port != 0 => {
                // An IPv6 address stands in brackets before its port.
                let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
                Ok(Self { host: bare.to_owned(), port })
            }
            _ => Err(format!("`{text}` is not host:port, such as kafka.example.org:9092")),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl<'de> Deserialize<'de> for HostPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Bounds of the door; past one the answer is an error or a wait, never an abort.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KafkaLimits {
    /// Connections at once.
    pub(crate) max_connections: usize,
    /// Connections at once from one address.
    pub(crate) max_connections_per_address: usize,
    /// Bytes of requests on their way, over all connections; also the largest produce request.
    pub(crate) max_in_flight_bytes: usize,
    /// Largest request other than a produce request, in bytes.
    pub(crate) max_request_size_bytes: usize,
    /// Bytes of records in answers on their way, over all connections.
    pub(crate) max_answer_bytes: usize,
}

impl Default for KafkaLimits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_connections_per_address: 1024,
            max_in_flight_bytes: 64 << 20,
            max_request_size_bytes: 1 << 20,
            max_answer_bytes: 128 << 20,
        }
    }
}

impl KafkaSection {
    /// Where the door is, where there is one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        Listen::address(self.listen, DEFAULT_KAFKA_LISTEN)
    }

    /// Takes relative paths from this folder.
    pub(super) fn resolve(&mut self, folder: &Path) {
        if let Some(tls) = &mut self.tls {
            tls.resolve(folder);
        }
    }

    /// What the types cannot say.
    pub(super) fn check(&self, has_keys: bool) -> Result<(), ConfigError> {
        let refuse = |key: &str, what: String| Err(ConfigError::in_key(format!("kafka.{key}"), what));
        let Some(address) = self.address() else { return Ok(()) };
        if !(1..=10_000).contains(&self.default_partitions) {
            return refuse("default_partitions", format!("{} is not within 1..=10000", self.default_partitions));
        }
        let limits = &self.limits;
        for (name, count) in [
            ("limits.max_connections", limits.max_connections),
            ("limits.max_connections_per_address", limits.max_connections_per_address),
        ] {
            if count == 0 {
                return refuse(name, "is 0: nobody could come in; kafka.listen: off closes the door".into());
            }
        }
        for (name, size_bytes) in [
            ("limits.max_in_flight_bytes", limits.max_in_flight_bytes),
            ("limits.max_request_size_bytes", limits.max_request_size_bytes),
            ("limits.max_answer_bytes", limits.max_answer_bytes),
        ] {
            if size_bytes < MIN_SIZE_BYTES {
                return refuse(name, format!("is {size_bytes}, but must be at least 1 MiB (1048576)"));
            }
        }
        if let Some(tls) = &self.tls {
            tls.check("kafka.tls")?;
        }
        if address.ip().is_loopback() || self.allow_insecure {
            return Ok(());
        }
        match (self.tls.is_some(), has_keys) {
            (true, true) => Ok(()),
            (has_tls, _) => {
                let missing = if has_tls { "keys (api_keys)" } else { "TLS (kafka.tls)" };
                refuse(
                    "listen",
                    format!(
                        "{address} is reached from other machines, and the door has no {missing}: whoever reaches it could read \
                         and write everything. Set both kafka.tls and api_keys, listen on 127.0.0.1, or say kafka.allow_insecure: true (--allow-insecure)"
                    ),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Result<KafkaSection, String> {
        with_keys(yaml, false)
    }

    fn with_keys(yaml: &str, has_keys: bool) -> Result<KafkaSection, String> {
        let section: KafkaSection = serde_saphyr::from_str(yaml).map_err(|e| e.to_string())?;
        section.check(has_keys).map_err(|e| e.to_string())?;
        Ok(section)
    }

    #[test]
    fn the_door_is_open_on_loopback_unless_told_otherwise() {
        assert_eq!(parse("{}").unwrap().address(), Some(DEFAULT_KAFKA_LISTEN));
        assert_eq!(parse("listen: off").unwrap().address(), None);
        assert_eq!(parse("listen: \"OFF\"").unwrap().address(), None);
        assert_eq!(parse("listen: 127.0.0.1:0").unwrap().address(), Some(SocketAddr::from(([127, 0, 0, 1], 0))));
        assert!(parse("listen: on").unwrap_err().contains("127.0.0.1:9092"));
        assert!(parse("listen: nowhere").unwrap_err().contains("`nowhere` is not an address"));
    }

    #[test]
    fn beyond_loopback_it_takes_tls_and_keys_or_a_word() {
        let dir = tempfile::tempdir().unwrap();
        let pem = dir.path().join("pem");
        std::fs::write(&pem, "").unwrap();
        let tls = format!("tls: {{ cert: {0}, key: {0} }}", pem.display());
        let open = "listen: 0.0.0.0:9092\n";
        assert!(parse(open).unwrap_err().contains("no TLS (kafka.tls)"));
        assert!(with_keys(open, true).unwrap_err().contains("no TLS (kafka.tls)"));
        assert!(parse(&format!("{open}{tls}")).unwrap_err().contains("no keys (api_keys)"));
        assert!(with_keys(&format!("{open}{tls}"), true).is_ok());
        assert!(parse(&format!("{open}allow_insecure: true")).is_ok());
        assert!(parse("tls: { cert: /nowhere/a.pem, key: /nowhere/b.pem }").unwrap_err().contains("kafka.tls.cert"));
    }

    #[test]
    fn what_clients_dial_is_a_host_and_a_port() {
        let section = parse("advertised: kafka.example.org:9092").unwrap();
        assert_eq!(section.advertised, Some(HostPort { host: "kafka.example.org".into(), port: 9092 }));
        assert_eq!("[::1]:9092".parse::<HostPort>().unwrap().host, "::1");
        assert_eq!("[::1]:9092".parse::<HostPort>().unwrap().to_string(), "[::1]:9092");
        for bad in ["kafka", "kafka:", ":9092", "kafka:0", "kafka:99999"] {
            assert!(parse(&format!("advertised: '{bad}'")).unwrap_err().contains("is not host:port"), "{bad}");
        }
    }

    #[test]
    fn limits_and_partitions_stay_within_bounds() {
        assert!(parse("default_partitions: 0").unwrap_err().contains("kafka.default_partitions: 0"));
        assert!(parse("limits: { max_connections: 0 }").unwrap_err().contains("kafka.limits.max_connections"));
        assert!(parse("limits: { max_answer_bytes: 5 }").unwrap_err().contains("kafka.limits.max_answer_bytes"));
        assert!(parse("limits: { max_conections: 5 }").unwrap_err().contains("max_conections"));
    }
}
