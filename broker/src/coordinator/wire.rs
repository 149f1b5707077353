//! How entries of the journal are put into bytes and taken out again. All big-endian; a text is its length in bytes (4) and its
//! UTF-8, an optional text has a byte before it that says whether there is one.

use std::sync::Arc;

use bytes::Bytes;

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

pub(super) fn put_optional_text(out: &mut Vec<u8>, text: Option<&str>) {
    out.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put_text(out, text);
    }
}

pub(super) fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u32).to_be_bytes());
}

pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

pub(super) fn take_i32(rest: &mut &[u8]) -> Option<i32> {
    take(rest).map(i32::from_be_bytes)
}

pub(super) fn take_i64(rest: &mut &[u8]) -> Option<i64> {
    take(rest).map(i64::from_be_bytes)
}

fn take_slice<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let size = u32::from_be_bytes(take(rest)?) as usize;
    let (head, tail) = rest.split_at_checked(size)?;
    *rest = tail;
    Some(head)
}

pub(super) fn take_bytes(rest: &mut &[u8]) -> Option<Bytes> {
    take_slice(rest).map(Bytes::copy_from_slice)
}

pub(super) fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take_slice(rest)?).ok()
}

pub(super) fn take_optional_text(rest: &mut &[u8]) -> Option<Option<Arc<str>>> {
    match take(rest)? {
        [0] => Some(None),
        [1] => take_text(rest).map(|text| Some(Arc::from(text))),
        _ => None,
    }
}

/// A counted list. Nothing is reserved for what the count claims: a damaged one ends where the bytes do.
pub(super) fn take_list<T>(rest: &mut &[u8], one: impl Fn(&mut &[u8]) -> Option<T>) -> Option<Vec<T>> {
    let count = u32::from_be_bytes(take(rest)?);
    let mut list = Vec::new();
    for _ in 0..count {
        list.push(one(rest)?);
    }
    Some(list)
}
