//! What a client cannot do to us: fault 22 (lengths of 2^31), fault 28 (floods, half-open sockets), slow and half requests, panics.

use bytes::BufMut;

use super::*;

/// Sends these bytes as they are.
async fn raw(door: &Door, bytes: &[u8]) -> Client<TcpStream> {
    let mut client = door.dial().await;
    client.stream.write_all(bytes).await.unwrap();
    client
}

/// True where a new connection is let in and answered.
async fn is_served(door: &Door) -> bool {
    let mut client = door.dial().await;
    // ApiVersions version 0.
    let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 255, 255];
    let ask = async {
        client.stream.write_all(&request).await.ok()?;
        client.receive().await
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), ask).await.expect("an answer or an end");
    answer.is_some_and(|answer| answer[..6] == [0, 0, 0, 1, 0, 0])
}

#[tokio::test]
async fn a_size_that_cannot_be_closes_the_connection_at_once() {
    let door = Door::open().await;
    let settings = DoorSettings::default();
    let produce_most = settings.max_in_flight_bytes as i32;
    let most = settings.max_request_size_bytes as i32;
    for (size, key) in
        [(i32::MAX, 0), (i32::MIN, 0), (-1, 18), (0, 18), (9, 18), (produce_most + 1, 0), (most + 1, 3), (most + 1, 18)]
    {
        let mut start = size.to_be_bytes().to_vec();
        start.extend((key as i16).to_be_bytes());
        assert!(raw(&door, &start).await.is_closed().await, "size {size} of API key {key}");
    }
    assert!(is_served(&door).await);
}

#[tokio::test]
async fn lengths_of_2_gib_within_a_request_close_the_connection() {
    let door = Door::open().await;
    for (key, version, body) in [
        (3, 8, &[0x7f, 0xff, 0xff, 0xff][..]),           // topics, plain
        (3, 9, &[0, 0xff, 0xff, 0xff, 0xff, 0x0f][..]),  // topics, compact
        (18, 3, &[0, 0xff, 0xff, 0xff, 0xff, 0x0f][..]), // a name, compact
        (18, 3, &[0xff, 0xff, 0xff, 0xff, 0x0f][..]),    // tags of the header
        (0, 3, &[0xff, 0xff, 0, 1, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff][..]), // topics of Produce
        (17, 1, &[0x80, 0, b'x'][..]),                   // a negative length
    ] {
        let mut frame = BytesMut::new();
        frame.put_i16(key);
        frame.put_i16(version);
        frame.put_i32(1);
        frame.put_i16(-1);
        frame.put_slice(body);
        let mut client = door.dial().await;
        client.send(&frame).await;
        assert!(client.is_closed().await, "API key {key} version {version}");
    }
    assert!(is_served(&door).await);
}

#[tokio::test]
async fn half_a_request_ends_with_the_connection_or_with_patience() {
    let door = Door::with(DoorSettings { transfer_timeout_ms: 100, ..DoorSettings::default() }).await;
    // The client leaves in the middle.
    for cut in [1, 4, 5, 8] {
        let mut client = raw(&door, &[0, 0, 0, 20, 0, 18, 0, 0][..cut]).await;
        client.stream.shutdown().await.unwrap();
        assert!(client.is_closed().await);
    }
    // The client stays, and sends nothing more, or a byte at a time.
    let mut silent = raw(&door, &[0, 0, 0, 20, 0, 18]).await;
    assert!(silent.is_closed().await);
    let mut loris = raw(&door, &[0, 0, 0, 200, 0, 18]).await;
    let mut sent = 0;
    while loris.stream.write_all(&[0]).await.is_ok() && sent < 190 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        sent += 1;
    }
    assert!(sent < 100, "it was let drip {sent} bytes");
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_that_waits_for_us_is_not() {
    let door = Door::with(DoorSettings { idle_timeout_ms: 100, ..DoorSettings::default() }).await;
    door.topic("t", 1).await;
    let mut idle = door.dial().await;
    assert_eq!(idle.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0);
    assert!(idle.is_closed().await);
    let mut waiting = door.dial().await;
    let response = waiting.ask(&fetching::fetch(&[("t", 0, 0)], 1, 500), 11).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 0);
}

#[tokio::test]
async fn connections_are_counted_over_all_and_per_address() {
    let door = Door::with(DoorSettings { max_connections_per_address: 3, ..DoorSettings::default() }).await;
    let mut inside = Vec::new();
    for _ in 0..3 {
        let mut client = door.dial().await;
        assert_eq!(client.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0);
        inside.push(client);
    }
    assert!(door.dial().await.is_closed().await);
    inside.pop();
    // Its place is free once the door has seen it go.
    for _ in 0..1000 {
        if is_served(&door).await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(is_served(&door).await);

    let door = Door::with(DoorSettings { max_connections: 1, ..DoorSettings::default() }).await;
    let mut first = door.dial().await;
    assert_eq!(first.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0);
    assert!(door.dial().await.is_closed().await);
    assert_eq!(first.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0, "who is in stays in");
}

#[tokio::test]
async fn a_flood_of_connections_that_say_nothing_does_not_keep_others_out_for_long() {
    let settings = DoorSettings {
        max_connections: 50,
        max_connections_per_address: 50,
        idle_timeout_ms: 300,
        transfer_timeout_ms: 300,
        ..DoorSettings::default()
    };
    let door = Door::with(settings).await;
    let mut flood = Vec::new();
    for i in 0..200 {
        // Some say nothing, some half a size, some half a request.
        let said: &[u8] = [&[][..], &[0, 0], &[0, 0, 0, 30, 0, 18, 0]][i % 3];
        let mut client = door.dial().await;
        // Where the door was full this may fail; that is the point.
        client.stream.write_all(said).await.ok();
        flood.push(client);
    }
    let mut tries = 0;
    while !is_served(&door).await {
        tries += 1;
        assert!(tries < 1000);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn past_the_budget_sockets_are_not_read_and_nobody_is_lost() {
    // Three requests of 100 KiB fit at a time.
    let door = Door::with(DoorSettings { max_in_flight_bytes: 320 << 10, ..DoorSettings::default() }).await;
    door.topic("t", 1).await;
    let value = "x".repeat(100 << 10);
    let clients = (0..30).map(async |_| {
        let mut client = door.dial().await;
        for _ in 0..3 {
            let response = client.ask(&produce(&[("t", 0, batch(&[&value]))]), 9).await;
            assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        }
    });
    let all = futures::future::join_all(clients);
    tokio::time::timeout(Duration::from_secs(120), all).await.expect("nobody is left waiting");
    assert_eq!(door.broker.offsets("t", 0).unwrap().high_watermark, 90);
    let too_large = produce(&[("t", 0, batch(&[&"x".repeat(330 << 10)]))]);
    let mut client = door.dial().await;
    client.post(&too_large, 9).await;
    assert!(client.is_closed().await, "it could never fit");
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_dropped() {
    let settings = DoorSettings { transfer_timeout_ms: 100, max_in_flight_bytes: 1 << 20, ..DoorSettings::default() };
    let door = Door::with(settings).await;
    for i in 0..200 {
        door.topic(&format!("a-topic-with-a-long-name-{i}"), 10).await;
    }
    let mut client = door.dial().await;
    let all = MetadataRequest::default().with_topics(None);
    // Answers of a hundred KiB each, none of which is read: the socket's buffers fill up.
    for _ in 0..400 {
        let mut frame = BytesMut::new();
        let header = RequestHeader::default().with_request_api_key(3).with_request_api_version(5);
        header.encode(&mut frame, 1).unwrap();
        all.encode(&mut frame, 5).unwrap();
        let mut framed = (frame.len() as i32).to_be_bytes().to_vec();
        framed.extend_from_slice(&frame);
        if client.stream.write_all(&framed).await.is_err() {
            break;
        }
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut received = 0;
    while let Some(answer) = client.receive().await {
        received += answer.len();
    }
    assert!(received < 390 * (50 << 10), "it was sent {received} bytes");
    assert!(is_served(&door).await);
}

#[tokio::test]
async fn a_panic_of_a_handler_closes_its_connection_only() {
    let may_write: MayWrite = Arc::new(|topic| if topic == "panic" { panic!("on purpose") } else { true });
    let door = Door::with(DoorSettings { may_write, ..DoorSettings::default() }).await;
    door.topic("t", 1).await;
    let (mut good, mut bad) = (door.dial().await, door.dial().await);
    let fine = produce(&[("t", 0, batch(&["a"]))]);
    assert_eq!(good.ask(&fine, 9).await.responses[0].partition_responses[0].base_offset, 0);
    bad.post(&produce(&[("panic", 0, batch(&["a"]))]), 9).await;
    assert!(bad.is_closed().await);
    assert_eq!(good.ask(&fine, 9).await.responses[0].partition_responses[0].base_offset, 1);
    assert!(is_served(&door).await);
}

#[tokio::test]
async fn limits_under_which_nobody_could_be_served_are_refused() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW));
    let broker = Arc::new(Broker::open(BrokerConfig::new("/data"), Arc::new(SimFs::new()), clock).unwrap());
    for (settings, name) in [
        (DoorSettings { max_in_flight_bytes: 1000, ..DoorSettings::default() }, "max_in_flight_bytes is 1000"),
        (DoorSettings { max_answer_bytes: usize::MAX, ..DoorSettings::default() }, "max_answer_bytes"),
        (DoorSettings { max_connections: 0, ..DoorSettings::default() }, "max_connections is 0"),
        (DoorSettings { idle_timeout_ms: 0, ..DoorSettings::default() }, "idle_timeout_ms is 0"),
    ] {
        let error = KafkaServer::start(Arc::clone(&broker), settings).await.unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}
