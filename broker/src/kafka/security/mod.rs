//! Who may come in: TLS ([`crate::tls`]), and logins with API keys ([`crate::access`], [`sasl`]).
//!
//! Beyond loopback the door opens with TLS and keys, or where [`DoorSettings::allow_insecure`] says that it may do without.

mod sasl;

pub(in crate::kafka) use sasl::{MECHANISM, Session, Token};

use super::server::DoorError;
use super::settings::DoorSettings;

/// Refuses to listen beyond loopback without TLS and keys, unless told so.
pub(in crate::kafka) fn check(settings: &DoorSettings) -> Result<(), DoorError> {
    if settings.listen.ip().is_loopback() || settings.allow_insecure {
        return Ok(());
    }
    let missing = match (&settings.tls, settings.api_keys.is_empty()) {
        (Some(_), false) => return Ok(()),
        (Some(_), true) => "keys",
        (None, false) => "TLS",
        (None, true) => "TLS and no keys",
    };
    Err(DoorError::Insecure { address: settings.listen, missing })
}
