//! Who comes in, and whose rows they see.

use std::time::Duration;

use highwater_broker::access::{ApiKey, May, Principal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::error::SqlState;

use super::{Door, access};
use crate::fixture::{sample, small};

/// A key for each of two tenants, one that speaks for any, and one that may only send.
async fn keyed(max_connections: usize) -> Door {
    let any = Principal { any_tenant: true, ..Principal::new("any", "default") };
    let sender = Principal { may: May { ingest: true, ..May::NONE }, ..Principal::new("sender", "default") };
    let keys = vec![
        ApiKey::of(Principal::new("reader", "default"), b"key-of-default"),
        ApiKey::of(Principal::new("other", "other"), b"key-of-other"),
        ApiKey::of(any, b"key-of-any"),
        ApiKey::of(sender, b"key-of-sender"),
    ];
    Door::over(sample(false, false, small()).await, access(keys), max_connections).await
}

async fn secrets(client: &tokio_postgres::Client) -> (i64, i64) {
    let row = client
        .query_one("SELECT count(*), count(*) FILTER (WHERE message LIKE 'secret%') FROM logs", &[])
        .await
        .unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_the_rows_of_its_tenant_on_each_connection() {
    let door = keyed(10).await;
    let (mine, theirs) = (
        door.client_with("password=key-of-default").await.unwrap(),
        door.client_with("password=key-of-other").await.unwrap(),
    );
    for _ in 0..2 {
        assert_eq!(secrets(&mine).await, (6, 0));
        assert_eq!(secrets(&theirs).await, (4, 4));
    }
    let any = door.client_with("password=key-of-any options='-c highwater.tenant=other'").await.unwrap();
    assert_eq!(secrets(&any).await, (4, 4));
    for wrong in
        ["password=nonsense", "password=key-of-default options='-c highwater.tenant=other'", "password=key-of-sender"]
    {
        let error = door.client_with(wrong).await.expect_err("is refused");
        let code = error.code().cloned().unwrap();
        assert!([SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION].contains(&code), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_a_client_names_its_tenant() {
    let door = Door::over(sample(false, false, small()).await, access(Vec::new()), 10).await;
    assert_eq!(secrets(&door.client().await).await, (6, 0));
    let other = door.client_with("options='-c highwater.tenant=other'").await.unwrap();
    assert_eq!(secrets(&other).await, (4, 4));
    let error = door.client_with("options='-c highwater.tenant=../x'").await.expect_err("is refused");
    assert_eq!(error.code(), Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_too_many_is_told_so() {
    let door = keyed(2).await;
    let key = "password=key-of-default";
    let first = door.client_with(key).await.unwrap();
    let _second = door.client_with(key).await.unwrap();
    let error = door.client_with(key).await.expect_err("is refused");
    assert_eq!(error.code(), Some(&SqlState::TOO_MANY_CONNECTIONS));
    drop(first);
    // Its place is free once the server has seen it go.
    for _ in 0..200 {
        if door.client_with(key).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("a place stays taken");
}

/// What comes back for these bytes, up to the end of the connection.
async fn raw(door: &Door, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(door.server.address()).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = socket.read_to_end(&mut answer);
    // A reset is an end, too.
    drop(tokio::time::timeout(Duration::from_secs(60), read).await.expect("the server hangs up"));
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_protocol_is_hung_up_on() {
    let door = Door::new().await;
    let login = b"\0\0\0\x15\0\x03\0\0user\0reader\0\0";
    let after_login = |message: &[u8]| [&login[..], message].concat();
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"\x7f\xff\xff\xff\0\x03\0\0".to_vec(),
        b"\0\0\0\x04".to_vec(),
        b"\0\0\0\x09\0\x03\0\0x".to_vec(),
        b"\0\0\0\x08\0\x02\0\0".to_vec(),
        after_login(b"Q\x7f\xff\xff\xff"),
        after_login(b"Q\0\0\0\x03"),
        after_login(b"B\0\0\0\x0c\0\0\0\0\xff\xff\0\0"),
        after_login(b"z\0\0\0\x04"),
        after_login(b"p\0\0\0\x06x\0"),
    ] {
        raw(&door, &bytes).await;
    }
    // A request to cancel with the wrong secret does nothing, and is not answered.
    assert!(raw(&door, b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x01").await.is_empty());
    assert_eq!(secrets(&door.client().await).await, (6, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_is_let_go_in_time() {
    let door = Door::new().await;
    let idle = door.client().await;
    door.server.shutdown(Duration::from_secs(30)).await;
    let error = idle.simple_query("SELECT 1").await.unwrap_err();
    assert!(error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN), "{error}");
}
