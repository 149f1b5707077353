//! How a key is made.

use std::fmt::Write;

use highwater_broker::access::hash_of;
use rand::TryRngCore;
use rand::rngs::OsRng;

/// Begins every key that Highwater makes, so that scanners of leaked secrets and people know it.
const PREFIX: &str = "hw_";
/// Random bytes of a key.
const SECRET_SIZE_BYTES: usize = 32;

/// A new secret.
pub struct Secret {
    /// What the program that has it sends.
    pub text: String,
    /// SHA-256 of it in hexadecimal: what the server keeps.
    pub sha256: String,
}

/// A new secret and the hash to keep of it.
///
/// # Errors
/// Where the operating system has no randomness to give.
pub fn generate() -> Result<Secret, std::io::Error> {
    let mut random = [0; SECRET_SIZE_BYTES];
    OsRng.try_fill_bytes(&mut random).map_err(std::io::Error::other)?;
    let text = format!("{PREFIX}{}", hex(&random));
    let sha256 = hex(&hash_of(text.as_bytes()));
    Ok(Secret { text, sha256 })
}

/// Lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String does not fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_long_and_never_the_same() {
        let made = generate().unwrap();
        assert_eq!((made.text.len(), made.sha256.len()), (PREFIX.len() + 2 * SECRET_SIZE_BYTES, 64));
        assert_eq!(hex(&hash_of(made.text.as_bytes())), made.sha256);
        assert_ne!(generate().unwrap().text, made.text);
        assert_eq!(hex(&hash_of(b"test")), "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
    }
}
