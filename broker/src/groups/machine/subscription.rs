//! What a consumer's metadata says about the topics it reads: the first fields of Kafka's consumer protocol, which every version of it
//! begins with.
//!
//! ```text
//! version (2) | topic count (4) | per topic: length (2), name | what later versions add
//! ```
//!
//! The bytes are the client's: they are read with care, and what does not parse says nothing.

use std::collections::BTreeSet;

/// The topics subscribed to; `None` where the bytes are not a subscription.
pub(super) fn topics(mut metadata: &[u8]) -> Option<BTreeSet<String>> {
    let rest = &mut metadata;
    let version = i16::from_be_bytes(take(rest)?);
    if version < 0 {
        return None;
    }
    let count = i32::from_be_bytes(take(rest)?);
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        let size = usize::try_from(i16::from_be_bytes(take(rest)?)).ok()?;
        let (name, tail) = rest.split_at_checked(size)?;
        *rest = tail;
        topics.insert(std::str::from_utf8(name).ok()?.to_owned());
    }
    Some(topics)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topics_are_read_whatever_follows_and_nonsense_says_nothing() {
        let mut bytes = vec![0, 3, 0, 0, 0, 2, 0, 4];
        bytes.extend_from_slice(b"logs\0\x07metrics");
        let expected = BTreeSet::from(["logs".to_owned(), "metrics".to_owned()]);
        assert_eq!(topics(&bytes), Some(expected.clone()));
        for cut in 0..bytes.len() {
            assert_eq!(topics(&bytes[..cut]), None, "{cut}");
        }
        bytes.extend_from_slice(b"user data and owned partitions");
        assert_eq!(topics(&bytes), Some(expected));
        assert_eq!(topics(&[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1, b'a']), None, "a count of two billion");
        assert_eq!(topics(&[0, 0, 0, 0, 0, 1, 0xff, 0xff]), None, "a null name");
        assert_eq!(topics(&[0, 0, 0, 0, 0, 0]), Some(BTreeSet::new()));
    }
}
