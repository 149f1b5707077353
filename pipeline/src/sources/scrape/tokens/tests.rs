use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use tokio::net::TcpListener;

use super::*;
use crate::sources::scrape::config::{GlobalConfig, ScrapeConfigs};

/// A clock that is moved by hand.
#[derive(Debug, Default)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a server of tokens was asked, and what it answers.
type Answers = fn(usize, &HeaderMap, &str) -> (StatusCode, &'static str, String);

async fn server(answers: Answers) -> (String, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let answer = post(async move |headers: HeaderMap, body: String| {
        let (status, kind, text) = answers(counted.fetch_add(1, Ordering::Relaxed) + 1, &headers, &body);
        (status, [(header::CONTENT_TYPE, kind)], text)
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/token", answer)).await });
    (url, asked)
}

fn tokens(url: &str, more: &str) -> (Tokens, Arc<Hand>) {
    let yaml = format!("[{{ job_name: j, oauth2: {{ client_id: 'me/1', token_url: '{url}', {more} }} }}]");
    let written: ScrapeConfigs = serde_saphyr::from_str(&yaml).unwrap();
    let config = written.resolve(&GlobalConfig::default(), std::path::Path::new("/")).unwrap();
    let clock = Arc::new(Hand::default());
    let shared: Arc<dyn Clock> = Arc::<Hand>::clone(&clock);
    (Tokens::new(config.jobs[0].http.oauth2.as_ref().unwrap(), shared), clock)
}

async fn said(tokens: &Tokens) -> Result<String, String> {
    tokens.authorization().await.map(|value| value.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_token_is_kept_until_it_ends() {
    let (url, asked) = server(|count, headers, body| {
        // Name and secret as a form has them, in base64.
        assert_eq!(headers[header::AUTHORIZATION], "Basic bWUlMkYxOnMlM0ExJTJC");
        assert_eq!(body, "audience=x+y&grant_type=client_credentials&scope=read+write");
        (
            StatusCode::OK,
            "application/json; charset=utf-8",
            format!(r#"{{"access_token":"t{count}","token_type":"bearer","expires_in":60,"more":[]}}"#),
        )
    })
    .await;
    let more = "client_secret: 's:1+', scopes: [read, write], endpoint_params: { audience: x y }";
    let (tokens, clock) = tokens(&url, more);
    // Many who need one at once ask once.
    let all = futures::future::join_all((0..8).map(|_| said(&tokens))).await;
    assert!(all.iter().all(|said| said.as_deref() == Ok("Bearer t1")), "{all:?}");
    clock.0.store(49_999, Ordering::Relaxed);
    assert_eq!(said(&tokens).await.unwrap(), "Bearer t1");
    clock.0.store(50_000, Ordering::Relaxed);
    assert_eq!(said(&tokens).await.unwrap(), "Bearer t2");
    // One that a target does not take is not used again.
    tokens.forget().await;
    assert_eq!(said(&tokens).await.unwrap(), "Bearer t3");
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn who_wants_the_secret_in_the_body_is_told_so_once() {
    let (url, asked) = server(|count, headers, body| {
        if headers.contains_key(header::AUTHORIZATION) {
            return (StatusCode::UNAUTHORIZED, "application/json", r#"{"error":"invalid_client"}"#.into());
        }
        assert_eq!(body, "client_id=me%2F1&client_secret=geheim&grant_type=client_credentials");
        (StatusCode::CREATED, "text/plain", format!("access_token=t{count}&token_type=MAC&expires_in=20"))
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "geheim\n").unwrap();
    let (tokens, clock) = tokens(&url, &format!("client_secret_file: '{}'", file.display()));
    assert_eq!(said(&tokens).await.unwrap(), "MAC t2");
    clock.0.store(10_000, Ordering::Relaxed);
    assert_eq!(said(&tokens).await.unwrap(), "MAC t3");
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    std::fs::remove_file(&file).unwrap();
    let error = said(&tokens).await.unwrap_err();
    assert!(error.starts_with("oauth2: cannot read ") && error.contains("secret"), "{error}");
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    for (answers, expected) in [
        (
            (|_, _, _| {
                (
                    StatusCode::BAD_REQUEST,
                    "application/json",
                    r#"{"error":"invalid_scope","error_description":"no such"}"#.into(),
                )
            }) as Answers,
            "answered 400 Bad Request: invalid_scope no such",
        ),
        (|_, _, _| (StatusCode::OK, "application/json", "{}".into()), "the answer has no access_token"),
        (|_, _, _| (StatusCode::OK, "application/json", "<html>".into()), "the answer cannot be read: "),
        (
            |_, _, _| (StatusCode::OK, "application/json", r#"{"access_token":"a","expires_in":"soon"}"#.into()),
            "expires_in of the answer is \"soon\"",
        ),
    ] {
        let (url, _) = server(answers).await;
        let (tokens, _) = tokens(&url, "client_secret: s");
        let error = said(&tokens).await.unwrap_err();
        assert!(error.starts_with("oauth2: cannot fetch token: ") && error.contains(expected), "{error}");
    }
    let (tokens, _) = tokens("http://127.0.0.1:1/token", "client_secret: s");
    assert!(said(&tokens).await.unwrap_err().contains("refused"));
}
