//! TLS and logins.

use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::*;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};

use crate::access::{ApiKey, ApiKeys, May, Principal};
use crate::tls::TlsFiles;

const UNSUPPORTED_MECHANISM: i16 = 33;
const ILLEGAL_STATE: i16 = 34;
const LOGIN_FAILED: i16 = 58;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kafka/tests/tls").join(name)
}

fn files(dir: &Path) -> TlsFiles {
    TlsFiles::new(dir.join("cert.pem"), dir.join("key.pem"))
}

fn keys() -> ApiKeys {
    let key = |name: &str, secret: &str| ApiKey::of(Principal::new(name, "default"), secret.as_bytes());
    vec![key("shop", "hunter2"), key("ops", "correct horse")].into()
}

async fn tls(door: &Door, trusted: &str) -> std::io::Result<Client<TlsStream<TcpStream>>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(fixture(trusted)).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(door.server.address()).await?;
    let name = ServerName::try_from("localhost").unwrap();
    Ok(Client::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>, version: i16) -> i16 {
    let request = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
    let response = client.ask(&request, version).await;
    let told = if response.error_code == 0 { vec![text("PLAIN")] } else { vec![] };
    assert_eq!(response.mechanisms, told);
    response.error_code
}

fn token(token: &'static str) -> SaslAuthenticateRequest {
    SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(token.as_bytes()))
}

#[tokio::test]
async fn what_goes_over_tls_is_what_goes_without() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["cert.pem", "key.pem"] {
        std::fs::copy(fixture(name), dir.path().join(name)).unwrap();
    }
    let door = Door::with(DoorSettings { tls: Some(files(dir.path())), ..DoorSettings::default() }).await;
    door.topic("t", 1).await;
    let mut client = tls(&door, "cert.pem").await.unwrap();
    let value = "x".repeat(100 << 10);
    for base in 0..3 {
        let response = client.ask(&produce(&[("t", 0, batch(&[&value]))]), 9).await;
        assert_eq!(response.responses[0].partition_responses[0].base_offset, base);
    }
    let response = client.ask(&fetching::fetch(&[("t", 0, 0)], 1, 1000), 12).await;
    assert_eq!(values(response.responses[0].partitions[0].records.clone().unwrap()).len(), 3);

    // Without TLS nobody is heard, and others do not notice.
    let mut plain = door.dial().await;
    plain.stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 255, 255]).await.unwrap();
    let mut said = Vec::new();
    plain.stream.read_to_end(&mut said).await.ok();
    assert!(said.len() < 16, "an alert at most: {said:?}");
    assert_eq!(client.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0);

    // A renewed certificate is used without a restart; broken files are not.
    std::fs::write(dir.path().join("cert.pem"), "broken").unwrap();
    assert!(tls(&door, "cert.pem").await.is_ok(), "the old certificate stays");
    std::fs::copy(fixture("other-key.pem"), dir.path().join("key.pem")).unwrap();
    std::fs::copy(fixture("other-cert.pem"), dir.path().join("cert.pem")).unwrap();
    assert!(tls(&door, "other-cert.pem").await.is_ok());
    assert!(tls(&door, "cert.pem").await.is_err());
    assert_eq!(client.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0, "connections stay");
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_ends() {
    let files = files(&fixture(""));
    let door = Door::with(DoorSettings { tls: Some(files), login_timeout_ms: 100, ..DoorSettings::default() }).await;
    assert!(door.dial().await.is_closed().await);
}

#[tokio::test]
async fn a_login_opens_the_door() {
    let door = Door::with(DoorSettings { api_keys: keys(), ..DoorSettings::default() }).await;
    for version in 0..=2 {
        let mut client = door.dial().await;
        assert_eq!(client.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0, "this may be asked before");
        assert_eq!(handshake(&mut client, 1).await, 0);
        let response = client.ask(&token("\0ops\0correct horse"), version).await;
        assert_eq!((response.error_code, response.session_lifetime_ms), (0, 0));
        assert_eq!(client.ask(&MetadataRequest::default().with_topics(None), 9).await.brokers.len(), 1);
        // Once is enough.
        assert_eq!(handshake(&mut client, 1).await, ILLEGAL_STATE);
        assert_eq!(client.ask(&token("\0ops\0correct horse"), version).await.error_code, ILLEGAL_STATE);
    }
}

#[tokio::test]
async fn a_bare_token_is_answered_by_an_empty_frame() {
    let door = Door::with(DoorSettings { api_keys: keys(), ..DoorSettings::default() }).await;
    let mut client = door.dial().await;
    assert_eq!(handshake(&mut client, 0).await, 0);
    client.send(b"\0shop\0hunter2").await;
    assert_eq!(client.receive().await.unwrap(), Bytes::new());
    assert_eq!(client.ask(&MetadataRequest::default().with_topics(None), 9).await.brokers.len(), 1);

    let mut client = door.dial().await;
    assert_eq!(handshake(&mut client, 0).await, 0);
    client.send(b"\0shop\0wrong").await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_wrong_login_is_told_and_closes_the_connection() {
    let door = Door::with(DoorSettings { api_keys: keys(), ..DoorSettings::default() }).await;
    for wrong in ["\0shop\0correct horse", "\0nobody\0hunter2", "\0shop\0", "hunter2", "ops\0shop\0hunter2"] {
        let mut client = door.dial().await;
        assert_eq!(handshake(&mut client, 1).await, 0);
        let response = client.ask(&token(wrong), 2).await;
        assert_eq!(response.error_code, LOGIN_FAILED, "{wrong:?}");
        let said = response.error_message.unwrap();
        assert!(said.contains("the name of an API key") && !said.contains("hunter2"), "{said}");
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn a_stranger_may_do_nothing_else() {
    let door = Door::with(DoorSettings { api_keys: keys(), login_timeout_ms: 300, ..DoorSettings::default() }).await;
    door.topic("t", 1).await;
    let mut client = door.dial().await;
    client.post(&MetadataRequest::default().with_topics(None), 9).await;
    assert!(client.is_closed().await);
    let mut client = door.dial().await;
    client.post(&produce(&[("t", 0, batch(&["a"]))]), 9).await;
    assert!(client.is_closed().await);
    assert_eq!(door.broker.offsets("t", 0).unwrap().high_watermark, 0);

    let mut client = door.dial().await;
    let other = SaslHandshakeRequest::default().with_mechanism(text("SCRAM-SHA-256"));
    let response = client.ask(&other, 1).await;
    assert_eq!((response.error_code, response.mechanisms), (UNSUPPORTED_MECHANISM, vec![text("PLAIN")]));
    assert_eq!(client.ask(&token("\0shop\0hunter2"), 2).await.error_code, ILLEGAL_STATE, "a mechanism comes first");
    assert!(client.is_closed().await, "the time for a login is over");

    let mut large = door.dial().await;
    large.stream.write_all(&(65_537_i32).to_be_bytes()).await.unwrap();
    assert!(large.is_closed().await, "64 KiB are enough for a login");
}

/// A client that has logged in with the key of this name.
async fn logged_in(door: &Door, token: &'static str) -> Client<TcpStream> {
    let mut client = door.dial().await;
    assert_eq!(handshake(&mut client, 1).await, 0);
    assert_eq!(client.ask(&self::token(token), 2).await.error_code, 0);
    client
}

#[tokio::test]
async fn a_key_does_what_it_may_and_its_tenant_is_put_into_records() {
    let with = |name: &str, may: May, any_tenant: bool| {
        let principal = Principal { may, any_tenant, ..Principal::new(name, "shop") };
        ApiKey::of(principal, b"secret")
    };
    let keys = vec![
        with("writer", May { ingest: true, ..May::NONE }, false),
        with("reader", May { query: true, ..May::NONE }, false),
        with("gateway", May::ALL, true),
    ];
    let door = Door::with(DoorSettings {
        api_keys: keys.into(),
        is_shared: Arc::new(|topic| topic == "logs"),
        has_tenants: Arc::new(|topic| topic == "logs"),
        tenant_header: "whose",
        ..DoorSettings::default()
    })
    .await;
    door.topic("logs", 1).await;
    door.topic("own", 1).await;
    let (mut writer, mut reader, mut gateway) = (
        logged_in(&door, "\0writer\0secret").await,
        logged_in(&door, "\0reader\0secret").await,
        logged_in(&door, "\0gateway\0secret").await,
    );
    let send = async |client: &mut Client<TcpStream>, topic: &str| {
        let answer = client.ask(&produce(&[(topic, 0, batch(&["a", "b"]))]), 9).await;
        answer.responses[0].partition_responses[0].error_code
    };
    const DENIED: i16 = 29;
    assert_eq!((send(&mut writer, "logs").await, send(&mut writer, "own").await), (0, 0));
    assert_eq!((send(&mut reader, "logs").await, send(&mut gateway, "logs").await), (DENIED, 0));
    let stored = door.broker.read("logs", 0, 0, 1 << 20, std::time::Duration::ZERO).await.unwrap().records;
    let told: Vec<_> = stored
        .iter()
        .map(|record| (record.value.clone().unwrap(), record.header("whose").map(|value| value.to_vec())))
        .collect();
    let shop = Some(b"shop".to_vec());
    let expected = [("a", shop.clone()), ("b", shop), ("a", None), ("b", None)];
    assert_eq!(told, expected.map(|(value, header)| (Bytes::from(value), header)));
    let fetch = async |client: &mut Client<TcpStream>, topic: &str| {
        let partition =
            FetchPartition::default().with_partition(0).with_fetch_offset(0).with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
        let request = FetchRequest::default().with_max_bytes(1 << 20).with_session_epoch(-1).with_topics(vec![topic]);
        client.ask(&request, 11).await.responses[0].partitions[0].error_code
    };
    assert_eq!((fetch(&mut reader, "logs").await, fetch(&mut reader, "own").await), (DENIED, 0));
    assert_eq!((fetch(&mut gateway, "logs").await, fetch(&mut writer, "own").await), (0, DENIED));
}

#[tokio::test]
async fn where_no_login_is_asked_for_there_is_none() {
    let door = Door::open().await;
    let mut client = door.dial().await;
    assert_eq!(handshake(&mut client, 1).await, ILLEGAL_STATE);
    assert_eq!(client.ask(&token("\0shop\0hunter2"), 1).await.error_code, ILLEGAL_STATE);
    assert_eq!(client.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0);
}

#[tokio::test]
async fn beyond_loopback_the_door_opens_with_tls_and_keys_or_a_word() {
    let start = async |settings: DoorSettings| {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW));
        let broker = Arc::new(Broker::open(BrokerConfig::new("/data"), Arc::new(SimFs::new()), clock).unwrap());
        let settings = DoorSettings { listen: "0.0.0.0:0".parse().unwrap(), ..settings };
        KafkaServer::start(broker, settings).await.map(drop).map_err(|error| error.to_string())
    };
    let tls = Some(files(&fixture("")));
    let none = start(DoorSettings::default()).await.unwrap_err();
    assert!(none.contains("no TLS and no keys"), "{none}");
    let keys_only = start(DoorSettings { api_keys: keys(), ..DoorSettings::default() }).await.unwrap_err();
    assert!(keys_only.contains("has no TLS:"), "{keys_only}");
    let tls_only = start(DoorSettings { tls: tls.clone(), ..DoorSettings::default() }).await.unwrap_err();
    assert!(tls_only.contains("has no keys:"), "{tls_only}");
    start(DoorSettings { tls, api_keys: keys(), ..DoorSettings::default() }).await.unwrap();
    start(DoorSettings { allow_insecure: true, ..DoorSettings::default() }).await.unwrap();
    let missing = TlsFiles::new("/nowhere/cert.pem", "/nowhere/key.pem");
    let error = start(DoorSettings { tls: Some(missing), allow_insecure: true, ..DoorSettings::default() }).await;
    assert!(error.unwrap_err().contains("cannot use the certificate /nowhere/cert.pem"));
}
