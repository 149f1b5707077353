//! What stands before every HTTP door, gRPC's included.
//!
//! | answer | when |
//! |---|---|
//! | 401, `WWW-Authenticate` | no key, or one that is not known |
//! | 403 | the key may not do that, or is another tenant's |
//! | 400 | `X-Scope-OrgID` names no tenant |
//!
//! | 429, `Retry-After` | the tenant sends requests too fast, or is one tenant too many |
//!
//! gRPC has the same as a status in trailers: UNAUTHENTICATED (16), PERMISSION_DENIED (7), INVALID_ARGUMENT (3), RESOURCE_EXHAUSTED (8) with `RetryInfo`,
//! without which an exporter would not try again. The body at OTLP's doors is such a status too, in the encoding of the request.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tonic::{Code, Status};

use super::admission::{Access, Denied, Need};
use super::credentials::Credentials;
use super::quotas::Limited;
use crate::sources::http::discard;
use crate::sources::otlp::encode_status;

/// The header of the tenant. Behind the guard it is always there, and true.
pub const TENANT_HEADER: HeaderName = HeaderName::from_static("x-scope-orgid");

/// These routes, for those who may do what they are for. Routes that are merged in later are not guarded.
pub fn guard<S>(router: Router<S>, access: &Access, need: Need) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    router.route_layer(middleware::from_fn_with_state((access.clone(), need), check))
}

async fn check(State((access, need)): State<(Access, Need)>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let asked = headers.get(&TENANT_HEADER).map(HeaderValue::as_bytes);
    let admitted = access.admit(&Credentials::of_headers(headers), asked, need);
    let admitted = admitted.map_err(Refused::Denied).and_then(|caller| match need {
        Need::Ingest => access.quotas().request(&caller.tenant).map(|()| caller).map_err(Refused::Limited),
        Need::Query | Need::Admin => Ok(caller),
    });
    match admitted {
        Ok(caller) => {
            // A tenant's name is made of characters that a header may have.
            if let Ok(tenant) = HeaderValue::from_str(caller.tenant.as_str()) {
                request.headers_mut().insert(TENANT_HEADER, tenant);
            }
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refused) => {
            let (head, body) = request.into_parts();
            let speech = Speech::of(head.uri.path(), &head.headers);
            let answer = refused.answer(speech);
            // A sender that is still sending would see a broken connection in place of the answer.
            if !head.headers.contains_key(header::EXPECT) && speech != Speech::Grpc {
                discard(body).await;
            }
            answer
        }
    }
}

/// How a request wants its errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speech {
    /// In trailers.
    Grpc,
    /// As a status in protobuf: OTLP/HTTP.
    OtlpProtobuf,
    /// As a status in JSON.
    OtlpJson,
    /// As `{"error": "..."}`.
    Http,
}

impl Speech {
    fn of(path: &str, headers: &HeaderMap) -> Self {
        let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let is_otlp = ["/v1/logs", "/v1/metrics", "/v1/traces"].iter().any(|door| path.ends_with(door));
        match content_type {
            _ if content_type.starts_with(b"application/grpc") => Self::Grpc,
            _ if is_otlp && content_type.ends_with(b"protobuf") => Self::OtlpProtobuf,
            _ if is_otlp => Self::OtlpJson,
            _ => Self::Http,
        }
    }
}

/// Why a request goes no further.
enum Refused {
    Denied(Denied),
    Limited(Limited),
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::Denied(denied) if denied.is_unauthenticated() => StatusCode::UNAUTHORIZED,
            Self::Denied(Denied::Tenant(_)) => StatusCode::BAD_REQUEST,
            Self::Denied(_) => StatusCode::FORBIDDEN,
            Self::Limited(_) => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// As gRPC numbers it.
    fn code(&self) -> Code {
        match self.status() {
            StatusCode::UNAUTHORIZED => Code::Unauthenticated,
            StatusCode::FORBIDDEN => Code::PermissionDenied,
            StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
            _ => Code::InvalidArgument,
        }
    }

    fn answer(&self, speech: Speech) -> Response {
        let (said, retry_after_s) = match self {
            Self::Denied(denied) => (denied.to_string(), None),
            Self::Limited(limited) => (limited.to_string(), Some(limited.retry_after_s())),
        };
        let (status, code) = (self.status(), self.code());
        // gRPC has 17 codes.
        let number = u8::try_from(code as i32).unwrap_or_default();
        let encoded = || encode_status(number, &said, retry_after_s);
        let mut response = match speech {
            Speech::Grpc => grpc_status(&Status::with_details(code, said.as_str(), encoded().into())),
            Speech::OtlpProtobuf => {
                (status, [(header::CONTENT_TYPE, "application/x-protobuf")], encoded()).into_response()
            }
            Speech::OtlpJson => {
                (status, axum::Json(serde_json::json!({ "code": number, "message": said }))).into_response()
            }
            Speech::Http => (status, axum::Json(serde_json::json!({ "error": said }))).into_response(),
        };
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED && speech != Speech::Grpc {
            for scheme in ["Bearer realm=\"highwater\"", "Basic realm=\"highwater\", charset=\"UTF-8\""] {
                headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
            }
        }
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// An answer of gRPC that is nothing but a status.
fn grpc_status(status: &Status) -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if status.add_header(headers).is_err() {
        headers.insert("grpc-status", HeaderValue::from(status.code() as i32));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::routing::post;
    use highwater_broker::ManualClock;
    use highwater_broker::access::{ApiKey, ApiKeys, Principal};
    use tower::ServiceExt;

    use super::*;
    use crate::access::Quotas;

    fn router() -> Router {
        let key = ApiKey::of(Principal::new("shop", "shop"), b"hw_1");
        let limits = serde_saphyr::from_str("{ default: { requests_per_s: 0.01, burst_s: 100 } }").unwrap();
        let quotas = Quotas::new(limits, Arc::new(ManualClock::new(0)));
        let access = Access::new(ApiKeys::from(vec![key]), quotas);
        let told = async |headers: HeaderMap| headers[&TENANT_HEADER].to_str().unwrap().to_owned();
        guard(Router::new().route("/logs", post(told)).route("/v1/logs", post(told)), &access, Need::Ingest)
    }

    async fn send(headers: &[(&str, &str)]) -> (u16, HeaderMap, String) {
        let mut request = axum::http::Request::post("/logs");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = router().oneshot(request.body(Body::from("x")).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        (head.status.as_u16(), head.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn behind_it_the_tenant_is_the_keys() {
        assert_eq!(send(&[("authorization", "Bearer hw_1")]).await.2, "shop");
        assert_eq!(send(&[("x-api-key", "hw_1"), ("x-scope-orgid", "shop")]).await.2, "shop");
    }

    #[tokio::test]
    async fn strangers_are_told_how_to_come_in() {
        for headers in [&[][..], &[("authorization", "Bearer no")], &[("authorization", "Basic bm8=")]] {
            let (status, headers, body) = send(headers).await;
            assert_eq!(status, 401, "{body}");
            let schemes: Vec<_> = headers.get_all("www-authenticate").iter().collect();
            assert_eq!(schemes, ["Bearer realm=\"highwater\"", "Basic realm=\"highwater\", charset=\"UTF-8\""]);
            assert!(body.starts_with("{\"error\":"), "{body}");
        }
        let (status, headers, _) = send(&[("x-api-key", "hw_1"), ("x-scope-orgid", "bank")]).await;
        assert_eq!((status, headers.get("www-authenticate")), (403, None));
    }

    #[tokio::test]
    async fn who_sends_too_fast_is_told_when_to_come_back() {
        let router = router();
        let ask = async |kind: &str| {
            let request = axum::http::Request::post("/logs").header("x-api-key", "hw_1").header("content-type", kind);
            router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
        };
        assert_eq!(ask("text/plain").await.status(), 200);
        let refused = ask("text/plain").await;
        assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &HeaderValue::from(100)));
        let refused = ask("application/grpc").await;
        assert_eq!(refused.headers()["grpc-status"], HeaderValue::from(8));
        // Without it an exporter would throw its batch away.
        let status = Status::from_header_map(refused.headers()).unwrap();
        assert!(String::from_utf8_lossy(status.details()).contains("google.rpc.RetryInfo"), "{status:?}");
    }

    #[tokio::test]
    async fn otlp_is_told_in_the_encoding_of_its_request() {
        let ask = async |kind: &str| {
            let request = axum::http::Request::post("/v1/logs").header("content-type", kind);
            let (head, body) = router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().into_parts();
            assert_eq!(
                (head.status.as_u16(), &head.headers["content-type"]),
                (401, &HeaderValue::from_str(kind).unwrap())
            );
            axum::body::to_bytes(body, 1 << 20).await.unwrap()
        };
        let body = ask("application/x-protobuf").await;
        let fields: Vec<_> = crate::data::protobuf::Fields::of(&body).map(Result::unwrap).collect();
        assert_eq!((fields[0].varint().unwrap(), fields.len()), (16, 2));
        assert!(fields[1].text().unwrap().starts_with("an API key is needed"));
        let body: serde_json::Value = serde_json::from_slice(&ask("application/json").await).unwrap();
        assert_eq!(body["code"], 16);
    }

    #[tokio::test]
    async fn grpc_has_its_own_words() {
        let (status, headers, body) = send(&[("content-type", "application/grpc+proto")]).await;
        assert_eq!((status, &headers["grpc-status"], body.as_str()), (200, &HeaderValue::from(16), ""));
        let told = Status::from_header_map(&headers).unwrap();
        assert!(told.message().starts_with("an API key is needed"), "{told:?}");
        let other = [("content-type", "application/grpc"), ("x-api-key", "hw_1"), ("x-scope-orgid", "bank")];
        assert_eq!(send(&other).await.1["grpc-status"], HeaderValue::from(7));
    }
}
