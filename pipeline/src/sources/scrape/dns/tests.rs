use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use simple_dns::rdata::{A, CNAME, NS, SRV};
use simple_dns::{QTYPE, ResourceRecord};
use tokio::net::TcpListener;

use super::*;

/// A server of names on a port of its own, over UDP and TCP; how often it was asked over TCP.
async fn server() -> (SocketAddr, Arc<AtomicUsize>) {
    // A port that is free for both.
    let (tcp, udp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            break (tcp, udp);
        }
    };
    let address = tcp.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        let mut question = vec![0; 512];
        loop {
            let (size, from) = udp.recv_from(&mut question).await.unwrap();
            udp.send_to(&answer(&question[..size], false), from).await.unwrap();
        }
    });
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            let size = stream.read_u16().await.unwrap();
            let mut question = vec![0; usize::from(size)];
            stream.read_exact(&mut question).await.unwrap();
            let answer = answer(&question, true);
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    (address, asked)
}

fn answer(question: &[u8], over_tcp: bool) -> Vec<u8> {
    let query = Packet::parse(question).unwrap();
    assert!(query.has_flags(PacketFlag::RECURSION_DESIRED));
    let asked = query.questions[0].clone();
    let name = asked.qname.to_string();
    let mut reply = Packet::new_reply(query.id());
    reply.questions.push(asked.clone());
    let record = |data| ResourceRecord::new(Name::new_unchecked("x"), CLASS::IN, 30, data);
    let address = |last| RData::A(A { address: Ipv4Addr::new(10, 0, 0, last).into() });
    match (name.as_str(), asked.qtype) {
        ("web.example", QTYPE::TYPE(TYPE::A)) => {
            reply.answers.push(record(RData::CNAME(CNAME(Name::new_unchecked("other.example")))));
            reply.answers.extend([record(address(2)), record(address(1))]);
        }
        ("_m._tcp.example", QTYPE::TYPE(TYPE::SRV)) => {
            let target = Name::new_unchecked("a.example");
            reply.answers.push(record(RData::SRV(SRV { priority: 1, weight: 1, port: 9100, target })));
        }
        ("example", QTYPE::TYPE(TYPE::NS)) => {
            reply.answers.push(record(RData::NS(NS(Name::new_unchecked("ns.example")))));
        }
        ("many.example", QTYPE::TYPE(TYPE::A)) if over_tcp => {
            reply.answers.extend((0..200).map(|last| record(address(last))));
        }
        ("many.example", QTYPE::TYPE(TYPE::A)) => reply.set_flags(PacketFlag::TRUNCATION),
        ("short.example", _) | ("web.example", _) => {}
        ("broken.example", _) => *reply.rcode_mut() = RCODE::ServerFailure,
        _ => *reply.rcode_mut() = RCODE::NameError,
    }
    reply.build_bytes_vec().unwrap()
}

#[tokio::test]
async fn records_are_looked_up() {
    let (address, over_tcp) = server().await;
    let resolver = Resolver::of_servers(&[address], "search example\noptions timeout:60\n");
    let host = |last| Record::Address(Ipv4Addr::new(10, 0, 0, last).into());
    assert_eq!(resolver.look_up("web.example.", RecordKind::A).await, Ok(vec![host(2), host(1)]));
    // A name without a dot is looked for in the domains first, and one with as many as is said as it stands.
    assert_eq!(resolver.look_up("web", RecordKind::A).await, Ok(vec![host(2), host(1)]));
    let service = Record::Service("a.example.".into(), 9100);
    assert_eq!(resolver.look_up("_m._tcp.example", RecordKind::Srv).await, Ok(vec![service]));
    assert_eq!(resolver.look_up("example", RecordKind::Ns).await, Ok(vec![Record::NameServer("ns.example.".into())]));
    // What is not there is known; what cannot be known is an error.
    assert_eq!(resolver.look_up("web.example", RecordKind::Aaaa).await, Ok(Vec::new()));
    assert_eq!(resolver.look_up("nobody.", RecordKind::A).await, Ok(Vec::new()));
    let error = resolver.look_up("broken.example.", RecordKind::A).await.unwrap_err();
    assert_eq!(error, format!("broken.example: {address}: it answers ServerFailure"));
    assert_eq!(over_tcp.load(Ordering::Relaxed), 0);
    assert_eq!(resolver.look_up("many.example", RecordKind::A).await.unwrap().len(), 200);
    assert_eq!(over_tcp.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_next_server_is_asked_where_one_does_not_know() {
    let (address, _) = server().await;
    let confused = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let first = confused.local_addr().unwrap();
    tokio::spawn(async move {
        let mut question = vec![0; 512];
        loop {
            let (size, from) = confused.recv_from(&mut question).await.unwrap();
            // Something that is no answer to the question, and then one that says nothing.
            confused.send_to(b"what?", from).await.unwrap();
            let mut reply = Packet::new_reply(Packet::parse(&question[..size]).unwrap().id());
            *reply.rcode_mut() = RCODE::Refused;
            confused.send_to(&reply.build_bytes_vec().unwrap(), from).await.unwrap();
        }
    });
    let resolver = Resolver::of_servers(&[first, address], "options timeout:60\n");
    assert_eq!(resolver.look_up("web.example", RecordKind::A).await.unwrap().len(), 2);
    let alone = Resolver::of_servers(&[first], "options timeout:60\n");
    let error = alone.look_up("web.example", RecordKind::A).await.unwrap_err();
    assert_eq!(error, format!("web.example: {first}: it answers Refused"));
}

#[test]
fn names_are_searched_as_the_file_says() {
    let resolver = Resolver::of_servers(&[], "search a.example. b\noptions ndots:2\n");
    assert_eq!(resolver.whole_names("x.y"), ["x.y.a.example", "x.y.b", "x.y"]);
    assert_eq!(resolver.whole_names("x.y.z"), ["x.y.z", "x.y.z.a.example", "x.y.z.b"]);
    assert_eq!(resolver.whole_names("x."), ["x"]);
}

#[test]
fn hostile_answers_are_errors() {
    let whole = answer(&question(7, "web.example", RecordKind::A).unwrap(), false);
    assert!(is_answer(&whole, 7) && !is_answer(&whole, 8));
    for length in 12..whole.len() {
        // Cut anywhere, it is an error or a shorter list, and never a panic.
        if let Ok(Some(records)) = read(&whole[..length], RecordKind::A) {
            assert!(records.len() <= 2);
        }
    }
    assert!(!is_answer(&whole[..11], 7));
}
