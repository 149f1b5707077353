//! Where a connection stands in its login.
//!
//! ```text
//! Waiting ──SaslHandshake PLAIN──▶ Chosen ──token──▶ Open
//!    │            (version 0: the token comes without a Kafka header)
//!    └── no keys are set: Open from the start
//! ```
//!
//! The token of SASL PLAIN (RFC 4616) is `[whom to act as] NUL name NUL secret`.

use parking_lot::Mutex;

use crate::access::{ApiKeys, Principal};

/// The one mechanism there is.
pub(in crate::kafka) const MECHANISM: &str = "PLAIN";

/// A connection's login.
#[derive(Debug)]
pub(in crate::kafka) struct Session {
    state: Mutex<State>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Requests are served, for this principal if logins are asked for.
    Open(Option<Principal>),
    /// Nothing was said yet.
    Waiting,
    /// The token is to come, in this form.
    Chosen(Token),
    /// The login failed. Nothing is served any more.
    Failed,
}

/// How a token comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kafka) enum Token {
    /// In a SaslAuthenticate request.
    Framed,
    /// As a frame of its own, answered by an empty one: what SaslHandshake version 0 asks for.
    Bare,
}

impl Session {
    /// A connection that has just come in, where logins are asked for or not.
    pub(in crate::kafka) fn new(asks_for_login: bool) -> Self {
        let state = if asks_for_login { State::Waiting } else { State::Open(None) };
        Self { state: Mutex::new(state) }
    }

    /// True once requests are served.
    pub(in crate::kafka) fn is_open(&self) -> bool {
        matches!(*self.state.lock(), State::Open(_))
    }

    /// True once the login failed.
    pub(in crate::kafka) fn has_failed(&self) -> bool {
        *self.state.lock() == State::Failed
    }

    /// True where the next frame is a token and no Kafka request.
    pub(in crate::kafka) fn expects_bare_token(&self) -> bool {
        *self.state.lock() == State::Chosen(Token::Bare)
    }

    /// Who logged in.
    pub(in crate::kafka) fn principal(&self) -> Option<Principal> {
        match &*self.state.lock() {
            State::Open(principal) => principal.clone(),
            _ => None,
        }
    }

    /// The client chose the mechanism. False where it is not its turn to.
    pub(in crate::kafka) fn choose(&self, token: Token) -> bool {
        let mut state = self.state.lock();
        let waits = *state == State::Waiting;
        if waits {
            *state = State::Chosen(token);
        }
        waits
    }

    /// The client's token. `None` where it is not time for one; false where it opens nothing, and then nothing will.
    pub(in crate::kafka) fn login(&self, api_keys: &ApiKeys, token: &[u8]) -> Option<bool> {
        let mut state = self.state.lock();
        if !matches!(*state, State::Chosen(_)) {
            return None;
        }
        let principal = plain(token).and_then(|(name, secret)| api_keys.login(name, secret));
        let is_right = principal.is_some();
        metrics::counter!("highwater_kafka_logins_total", "ok" => if is_right { "true" } else { "false" }).increment(1);
        *state = principal.map_or(State::Failed, |principal| State::Open(Some(principal)));
        Some(is_right)
    }
}

/// Name and secret of a token. Acting as somebody else is not offered.
fn plain(token: &[u8]) -> Option<(&str, &[u8])> {
    let mut parts = token.splitn(3, |byte| *byte == 0);
    let (act_as, name, secret) = (parts.next()?, parts.next()?, parts.next()?);
    let name = std::str::from_utf8(name).ok()?;
    let allowed = (act_as.is_empty() || act_as == name.as_bytes()) && !name.is_empty() && !secret.is_empty();
    allowed.then_some((name, secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::ApiKey;

    fn keys() -> ApiKeys {
        vec![ApiKey::of(Principal::new("shop", "t"), b"secret")].into()
    }

    #[test]
    fn a_token_is_a_name_and_a_secret() {
        assert_eq!(plain(b"\0shop\0secret"), Some(("shop", b"secret".as_slice())));
        assert_eq!(plain(b"shop\0shop\0se\0cret"), Some(("shop", b"se\0cret".as_slice())));
        for bad in
            [b"".as_slice(), b"\0", b"\0shop", b"\0shop\0", b"\0\0secret", b"root\0shop\0secret", b"\0\xff\0secret"]
        {
            assert_eq!(plain(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_login_goes_step_by_step() {
        let session = Session::new(true);
        assert!(!session.is_open());
        assert_eq!(session.login(&keys(), b"\0shop\0secret"), None, "a mechanism comes first");
        assert!(session.choose(Token::Framed));
        assert!(!session.choose(Token::Bare), "it was chosen");
        assert!(!session.expects_bare_token());
        assert_eq!(session.login(&keys(), b"\0shop\0secret"), Some(true));
        assert_eq!(session.principal().unwrap().name, "shop");
        assert!(session.is_open() && !session.choose(Token::Framed));
        assert_eq!(session.login(&keys(), b"\0shop\0secret"), None, "it is open already");
    }

    #[test]
    fn a_failed_login_is_the_last() {
        let session = Session::new(true);
        assert!(session.choose(Token::Bare) && session.expects_bare_token());
        assert_eq!(session.login(&keys(), b"\0shop\0wrong"), Some(false));
        assert!(session.has_failed() && !session.is_open());
        assert_eq!(session.login(&keys(), b"\0shop\0secret"), None);
    }

    #[test]
    fn without_keys_it_is_open_for_anybody() {
        let session = Session::new(false);
        assert!(session.is_open() && !session.choose(Token::Framed));
        assert_eq!(session.principal(), None);
    }
}
