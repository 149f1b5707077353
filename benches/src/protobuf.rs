//! Just enough of protobuf's wire format to write the requests that are sent.

/// Appends a field that holds an integer.
pub fn put_varint(number: u32, value: u64, out: &mut Vec<u8>) {
    write_varint(u64::from(number) << 3, out);
    write_varint(value, out);
}

/// Appends a field of 8 bytes: a `double`'s bits, or a `fixed64`.
pub fn put_fixed64(number: u32, value: u64, out: &mut Vec<u8>) {
    write_varint(u64::from(number) << 3 | 1, out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a field that holds bytes or a text.
pub fn put_bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
    write_varint(u64::from(number) << 3 | 2, out);
    write_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Appends a field that holds a message, which `write` writes.
pub fn put_message(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut message = Vec::with_capacity(128);
    write(&mut message);
    put_bytes(number, &message, out);
}

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
