//! The newest offset of each key, for as many keys as memory is set aside for.
//!
//! A key is kept as 128 bits of its SHA-256: two keys taken for one would cost a record, so nobody must be able to make such a pair.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Keys {
    newest: HashMap<[u8; 16], i64>,
}

impl Keys {
    /// Notes a key at an offset above all noted so far.
    pub(super) fn note(&mut self, key: &[u8], offset: i64) {
        self.newest.insert(hash(key), offset);
    }

    /// The newest offset of a key, where it was noted.
    pub(super) fn newest(&self, key: &[u8]) -> Option<i64> {
        if self.newest.is_empty() {
            return None;
        }
        self.newest.get(&hash(key)).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.newest.len()
    }
}

fn hash(key: &[u8]) -> [u8; 16] {
    let mut hash = [0; 16];
    hash.copy_from_slice(&Sha256::digest(key)[..16]);
    hash
}
