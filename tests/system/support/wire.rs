//! Protobuf by hand: as much as bodies of the push protocols need, and as wrong as a test wants them.

/// A field that holds bytes.
pub fn bytes(number: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![number << 3 | 2];
    message.extend(varint_of(body.len() as u64));
    message.extend_from_slice(body);
    message
}

/// A field that holds a whole number.
pub fn varint(number: u8, value: u64) -> Vec<u8> {
    let mut message = vec![number << 3];
    message.extend(varint_of(value));
    message
}

/// A field that holds a double.
pub fn double(number: u8, value: f64) -> Vec<u8> {
    let mut message = vec![number << 3 | 1];
    message.extend_from_slice(&value.to_le_bytes());
    message
}

/// A whole number, as it is written.
pub fn varint_of(mut value: u64) -> Vec<u8> {
    let mut written = Vec::new();
    while value >= 0x80 {
        written.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    written.push(value as u8);
    written
}

/// One raw block of snappy.
pub fn snappy(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(body).unwrap()
}
