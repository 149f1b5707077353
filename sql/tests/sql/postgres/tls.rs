//! TLS: what libpq asks with `sslmode`, up to the proof that the server is who it says.

use std::path::Path;
use std::sync::Arc;

use highwater_broker::tls::{Tls, TlsFiles};
use highwater_sql::postgres::{PostgresServer, PostgresSettings};
use tokio::process::Command;

use super::{Door, access, run, skipped};
use crate::fixture::{sample, small};

fn file(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../broker/src/kafka/tests/tls");
    directory.join(name).display().to_string()
}

/// A door that takes clients under TLS only.
async fn door() -> Door {
    let fixture = sample(false, false, small()).await;
    let tls = Arc::new(Tls::open("postgres", TlsFiles::new(file("cert.pem"), file("key.pem")), &[]).unwrap());
    let settings = PostgresSettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        max_connections: 10,
        tls: Some(Arc::new(move || tls.acceptor())),
        require_tls: true,
        access: access(Vec::new()),
    };
    let server = PostgresServer::start(fixture.engine.clone(), settings).await.unwrap();
    Door { fixture, server }
}

async fn count(door: &Door, host: &str, more: &str) -> Result<String, String> {
    let to = format!("host={host} hostaddr=127.0.0.1 port={} user=reader dbname=highwater {more}", door.port());
    run(Command::new("psql").args(["-X", "-A", "-t", "-c", "SELECT count(*) FROM logs", &to])).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mode_of_libpq() {
    if let Err(why) = run(Command::new("psql").arg("--version")).await {
        return skipped("psql", "HIGHWATER_REQUIRE_PSQL", &why);
    }
    let door = door().await;
    let trusted = format!("sslrootcert={}", file("cert.pem"));
    for mode in [
        "sslmode=require".to_string(),
        "sslmode=prefer".to_string(),
        "sslmode=allow".to_string(),
        format!("sslmode=verify-ca {trusted}"),
        format!("sslmode=verify-full {trusted}"),
    ] {
        assert_eq!(count(&door, "localhost", &mode).await.as_deref(), Ok("6\n"), "{mode}");
    }
    for (mode, said) in [
        ("sslmode=disable".to_string(), "TLS"),
        (format!("sslmode=verify-full sslrootcert={}", file("other-cert.pem")), "certificate verify failed"),
    ] {
        let refused = count(&door, "localhost", &mode).await.unwrap_err();
        assert!(refused.contains(said), "{mode}: {refused}");
    }
    let stranger = count(&door, "example.org", &format!("sslmode=verify-full {trusted}")).await.unwrap_err();
    assert!(stranger.contains("does not match host name"), "{stranger}");
    // What TLS brings, the extended protocol and cancel requests too, is as without it.
    let to = format!("host=localhost port={} user=reader dbname=highwater sslmode=verify-full {trusted}", door.port());
    let script = ["\\set FETCH_COUNT 100", "SELECT * FROM generate_series(1, 1000)"].map(|c| format!("-c{c}"));
    let rows = run(Command::new("psql").args(["-X", "-A", "-t"]).args(script).arg(&to)).await.unwrap();
    assert_eq!(rows.lines().count(), 1000);
}
