//! What a Prometheus gets that scrapes `/federate`.

use axum::http::{Method, StatusCode};

use super::api::two_jobs;
use super::data::TestSeries;
use super::server::{NOW_MS, Server, with_headers};

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_samples_are_there_to_be_federated() {
    let mut all = two_jobs();
    for series in &mut all {
        // Up to now.
        let last_ms = series.samples.last().unwrap().0;
        series.samples.iter_mut().for_each(|(time_ms, _)| *time_ms += NOW_MS - last_ms);
    }
    // Ended, and long gone.
    let mut ended = TestSeries::new("ended", &[], &[1.0]);
    ended.samples = vec![(NOW_MS - 30_000, Some(1.0)), (NOW_MS - 15_000, None)];
    all.extend([ended, TestSeries::new("gone", &[], &[1.0])]);
    let server = Server::with(&all).await;
    let uri = "/federate?match[]=up&match[]=%7B__name__=~%22system.*|ended|gone%22%7D&match[]=up%7Bjob=%22a%22%7D";
    let page = |accept| server.answer(with_headers(Method::GET, uri, &[("accept", accept)]));
    let plain = page("text/plain").await;
    assert_eq!(plain.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
    let plain_text = String::from_utf8(plain.into_body()).unwrap();
    assert_eq!(
        plain_text,
        format!(
            "# TYPE system_memory_usage untyped\nsystem_memory_usage{{host_name=\"h\",instance=\"\"}} 7 {NOW_MS}\n\
             # TYPE up untyped\nup{{instance=\"x\",job=\"a\"}} 1 {NOW_MS}\nup{{instance=\"y\",job=\"b\"}} NaN {NOW_MS}\n"
        )
    );
    let any = page("text/plain;version=1.0.0;escaping=allow-utf-8").await;
    let text = String::from_utf8(any.into_body()).unwrap();
    assert!(text.starts_with(&format!(
        "# TYPE \"system.memory.usage\" untyped\n{{\"system.memory.usage\",\"host.name\"=\"h\",instance=\"\"}} 7 {NOW_MS}\n"
    )), "{text}");
    let nothing = server.answer(with_headers(Method::GET, "/federate", &[])).await;
    assert_eq!((nothing.status(), nothing.body().len()), (StatusCode::OK, 0));
    let all = server.answer(with_headers(Method::GET, "/federate?match[]=%7B%7D", &[])).await;
    assert_eq!(String::from_utf8(all.into_body()).unwrap(), plain_text);
    let refused = server.answer(with_headers(Method::GET, "/federate?match[]=-not-a-name", &[])).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn native_histograms_are_federated_in_protobuf() {
    // Two observations up to 1, one up to 2: count 3, sum 3.5, zero threshold 0.001.
    let message = [
        [0x08, 3].as_slice(),
        &[&[0x19], 3.5_f64.to_le_bytes().as_slice()].concat(),
        &[&[0x29], 0.001_f64.to_le_bytes().as_slice()].concat(),
        &[0x5a, 2, 0x10, 2],
        &[0x62, 2, 4, 1],
    ]
    .concat();
    let mut native = TestSeries::new("native", &[("instance", "x")], &[]);
    native.histograms = vec![(NOW_MS, message)];
    let mut up = TestSeries::new("up", &[("instance", "x")], &[1.0]);
    up.samples[0].0 = NOW_MS;
    let server = Server::with(&[native, up]).await;
    let uri = "/federate?match[]=%7B__name__=~%22native|up%22%7D";
    let text = server.answer(with_headers(Method::GET, uri, &[("accept", "text/plain")])).await;
    let text = String::from_utf8(text.into_body()).unwrap();
    assert_eq!(text, format!("# TYPE up untyped\nup{{instance=\"x\"}} 1 {NOW_MS}\n"), "text has none");
    let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let page = server.answer(with_headers(Method::GET, uri, &[("accept", accept)])).await;
    assert_eq!(
        page.headers()["content-type"],
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores"
    );
    let page = page.into_body();
    let first = &page[1..=usize::from(page[0])];
    // Name, type HISTOGRAM, and behind them the metric.
    assert!(first.starts_with(b"\x0a\x06native\x18\x04\x22"), "{first:?}");
    assert!(
        page.ends_with(&[&[0x2a, 9, 9], 1.0_f64.to_le_bytes().as_slice(), &timestamp(NOW_MS)].concat()),
        "{page:?}"
    );
}

/// Field 6 of a metric.
fn timestamp(ms: i64) -> Vec<u8> {
    let (mut rest, mut out) = (ms, vec![0x30]);
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap());
    out
}
