//! What a sender says of itself, as its protocol carries it.

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// The header of a key alone.
const API_KEY: &str = "x-api-key";

/// What came with a request.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    None,
    /// A key.
    Secret(Vec<u8>),
    /// The name of a key, and the key.
    Login {
        /// Whose it says it is.
        name: String,
        /// The key.
        secret: Vec<u8>,
    },
    /// Something that cannot be read.
    Malformed(&'static str),
}

/// Never the secret.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Secret(_) => "Secret(..)",
            Self::Login { .. } => "Login(..)",
            Self::Malformed(what) => what,
        })
    }
}

impl Credentials {
    /// Those of an HTTP request: `Authorization: Bearer KEY`, `Authorization: Basic` with the key as the password (or as the name, where there is
    /// no password), or `X-API-Key: KEY`. `Authorization` counts where both are there.
    pub fn of_headers(headers: &HeaderMap) -> Self {
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            return Self::of_authorization(value.as_bytes());
        }
        match headers.get(API_KEY) {
            Some(key) if !key.is_empty() => Self::Secret(key.as_bytes().trim_ascii().to_vec()),
            Some(_) => Self::Malformed("X-API-Key is empty"),
            None => Self::None,
        }
    }

    fn of_authorization(value: &[u8]) -> Self {
        let value = value.trim_ascii();
        let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
        let (scheme, rest) = value.split_at(end);
        let rest = rest.trim_ascii();
        if rest.is_empty() {
            return Self::Malformed("Authorization has a scheme and no key");
        }
        if scheme.eq_ignore_ascii_case(b"bearer") {
            return Self::Secret(rest.to_vec());
        }
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return Self::Malformed("Authorization is neither Bearer nor Basic");
        }
        let decoded = STANDARD.decode(rest).or_else(|_| STANDARD_NO_PAD.decode(rest));
        let Ok(decoded) = decoded else { return Self::Malformed("the Basic credentials are not base64") };
        match decoded.iter().position(|byte| *byte == b':') {
            // A name says nothing that the key does not: tools that ask for one get any.
            Some(at) if at + 1 < decoded.len() => Self::Secret(decoded[at + 1..].to_vec()),
            Some(at) if at > 0 => Self::Secret(decoded[..at].to_vec()),
            _ => Self::Malformed("the Basic credentials are not name:password"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &'static str, value: &str) -> Credentials {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        Credentials::of_headers(&headers)
    }

    #[test]
    fn a_key_comes_in_one_of_three_ways() {
        let key = Credentials::Secret(b"hw_1".to_vec());
        assert_eq!(of("authorization", "Bearer hw_1"), key);
        assert_eq!(of("authorization", "bearer   hw_1 "), key);
        assert_eq!(of("authorization", "Basic dXNlcjpod18x"), key);
        assert_eq!(of("authorization", "BASIC OmhvXzE="), Credentials::Secret(b"ho_1".to_vec()));
        assert_eq!(of("authorization", "Basic aHdfMTo="), key, "the key as the name");
        assert_eq!(of("x-api-key", "hw_1"), key);
        assert_eq!(Credentials::of_headers(&HeaderMap::new()), Credentials::None);
    }

    #[test]
    fn what_cannot_be_read_is_no_key() {
        for (name, value) in [
            ("authorization", "Bearer"),
            ("authorization", ""),
            ("authorization", "Digest username=\"a\""),
            ("authorization", "Basic !!!"),
            ("authorization", "Basic Og=="),
            ("authorization", "Basic aHdfMQ=="),
            ("x-api-key", ""),
        ] {
            assert!(matches!(of(name, value), Credentials::Malformed(_)), "{name}: {value}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", of("x-api-key", "hw_1")), "Secret(..)");
    }
}
