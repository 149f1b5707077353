//! What every answer of the API is wrapped in: headers for pages of other origins, and compression, as Prometheus has them.

use std::io::{self, Write};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use futures::StreamExt;

/// What pages of any origin may do.
const CORS: [(HeaderName, HeaderValue); 4] = [
    (
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Accept, Authorization, Content-Type, Origin, X-Scope-OrgID"),
    ),
    (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS")),
    (header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Date")),
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
];

/// Answers OPTIONS on every path, and wraps the answers of everything else.
pub(super) async fn wrap(request: Request, next: Next) -> Response {
    let is_cross = request.headers().get(header::ORIGIN).is_some_and(|origin| !origin.is_empty());
    let coding = if request.method() == Method::HEAD { None } else { Coding::wanted(request.headers()) };
    let mut response = match *request.method() {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if is_cross {
        headers.extend(CORS);
    }
    match coding {
        Some(coding) if response.status() != StatusCode::NO_CONTENT => coding.compressed(response),
        _ => response,
    }
}

/// How an answer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    /// The first one that the client takes.
    fn wanted(headers: &HeaderMap) -> Option<Self> {
        let all = headers.get_all(header::ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
        all.flat_map(|value| value.split(',')).find_map(|one| {
            let (name, parameters) = one.split_once(';').unwrap_or((one, ""));
            // `q=0` is not at all.
            let weight = parameters.trim().strip_prefix("q=").map(str::parse::<f32>);
            if weight.is_some_and(|weight| weight == Ok(0.0)) {
                return None;
            }
            match name.trim() {
                "gzip" => Some(Self::Gzip),
                "deflate" => Some(Self::Deflate),
                _ => None,
            }
        })
    }

    fn name(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        })
    }

    fn compressed(self, response: Response) -> Response {
        let (mut parts, body) = response.into_parts();
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.insert(header::CONTENT_ENCODING, self.name());
        let pieces = body.into_data_stream();
        let compressed = futures::stream::unfold(Some((pieces, Encoder::new(self))), |state| async {
            let (mut pieces, mut encoder) = state?;
            loop {
                match pieces.next().await {
                    None => return Some((encoder.finish().map_err(axum::Error::new), None)),
                    Some(Err(error)) => return Some((Err(error), None)),
                    Some(Ok(piece)) => match encoder.take(&piece) {
                        Err(error) => return Some((Err(axum::Error::new(error)), None)),
                        // Small pieces wait in the encoder.
                        Ok(out) if out.is_empty() => {}
                        Ok(out) => return Some((Ok(out), Some((pieces, encoder)))),
                    },
                }
            }
        });
        Response::from_parts(parts, Body::from_stream(compressed))
    }
}

/// Compresses piece by piece.
enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(ZlibEncoder<Vec<u8>>),
}

impl Encoder {
    /// Fast rather than small: numbers as text shrink to a tenth either way.
    fn new(coding: Coding) -> Self {
        match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
            Coding::Deflate => Self::Deflate(ZlibEncoder::new(Vec::new(), Compression::fast())),
        }
    }

    /// Takes a piece; what is ready of the compressed text, which may be nothing.
    fn take(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        let ready = match self {
            Self::Gzip(encoder) => {
                encoder.write_all(piece)?;
                encoder.get_mut()
            }
            Self::Deflate(encoder) => {
                encoder.write_all(piece)?;
                encoder.get_mut()
            }
        };
        Ok(Bytes::from(std::mem::take(ready)))
    }

    /// The rest.
    fn finish(self) -> io::Result<Bytes> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Deflate(encoder) => encoder.finish(),
        }
        .map(Bytes::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_coding_that_is_known_is_taken() {
        for (text, wanted) in [
            ("gzip", Some(Coding::Gzip)),
            ("deflate, gzip", Some(Coding::Deflate)),
            ("br, zstd , gzip;q=0.5", Some(Coding::Gzip)),
            ("gzip;q=0, deflate", Some(Coding::Deflate)),
            ("gzip;q=0.0", None),
            ("identity", None),
            ("*", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(text))]);
            assert_eq!(Coding::wanted(&headers), wanted, "{text}");
        }
    }
}
