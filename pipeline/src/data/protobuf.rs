//! The protobuf wire format, walked in place: fields as they lie in the bytes, nothing allocated, no length believed.
//!
//! Decoders of whole messages (`prost`) make a struct of every message, two bytes on the wire or not. What comes in numbers (samples, log
//! lines) is read field by field instead.

/// Why bytes are no protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// A field reaches beyond its message.
    #[error("a field is cut short")]
    Truncated,
    /// A number of more than 64 bits.
    #[error("a varint of more than 10 bytes")]
    Varint,
    /// A tag that no field has.
    #[error("field number or wire type of a tag is invalid")]
    Tag,
    /// A field of another type than the message has it.
    #[error("field {0} is of the wrong wire type")]
    Type(u32),
    /// A text that is none.
    #[error("field {0} is not UTF-8")]
    Utf8(u32),
}

/// A field's number, and its value as it lies on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    pub(crate) value: Value<'a>,
}

/// A value on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    /// A text, a message or a packed list.
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// The fields of a message, in order. After an error there are no more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Of a message of these bytes.
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Result<Field<'a>, WireError> {
        let tag = varint(&mut self.rest)?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number));
        let number = number.ok_or(WireError::Tag)?;
        let value = match tag & 7 {
            0 => Value::Varint(varint(&mut self.rest)?),
            1 => Value::Fixed64(u64::from_le_bytes(*take(&mut self.rest)?)),
            2 => {
                let size = usize::try_from(varint(&mut self.rest)?).map_err(|_| WireError::Truncated)?;
                let (bytes, rest) = self.rest.split_at_checked(size).ok_or(WireError::Truncated)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(u32::from_le_bytes(*take(&mut self.rest)?)),
            // Groups are of a time before the protocols that are read here.
            _ => return Err(WireError::Tag),
        };
        Ok(Field { number, value })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Field<'a> {
    /// A message or bytes.
    pub(crate) fn bytes(self) -> Result<&'a [u8], WireError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::Type(self.number)),
        }
    }

    /// A text.
    pub(crate) fn text(self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| WireError::Utf8(self.number))
    }

    /// A number of any plain integer type.
    pub(crate) fn varint(self) -> Result<u64, WireError> {
        match self.value {
            Value::Varint(number) => Ok(number),
            _ => Err(WireError::Type(self.number)),
        }
    }

    /// An `int64`.
    pub(crate) fn int64(self) -> Result<i64, WireError> {
        self.varint().map(u64::cast_signed)
    }

    /// A `double`.
    pub(crate) fn double(self) -> Result<f64, WireError> {
        match self.value {
            Value::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(WireError::Type(self.number)),
        }
    }

    /// Each number of a repeated integer field: one, or a packed list of them.
    pub(crate) fn each_varint(self, mut each: impl FnMut(u64)) -> Result<(), WireError> {
        match self.value {
            Value::Varint(number) => each(number),
            Value::Bytes(mut packed) => {
                while !packed.is_empty() {
                    each(varint(&mut packed)?);
                }
            }
            _ => return Err(WireError::Type(self.number)),
        }
        Ok(())
    }

    /// Each number of a repeated `double` field: one, or a packed list of them.
    pub(crate) fn each_double(self, mut each: impl FnMut(f64)) -> Result<(), WireError> {
        match self.value {
            Value::Fixed64(bits) => each(f64::from_bits(bits)),
            Value::Bytes(packed) => {
                let (numbers, rest) = packed.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(WireError::Truncated);
                }
                numbers.iter().for_each(|bytes| each(f64::from_le_bytes(*bytes)));
            }
            _ => return Err(WireError::Type(self.number)),
        }
        Ok(())
    }
}

/// A `sint64` or `sint32`.
pub(crate) fn zigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Appends a field that holds an integer.
pub(crate) fn put_varint(number: u32, value: u64, out: &mut Vec<u8>) {
    write_varint(u64::from(number) << 3, out);
    write_varint(value, out);
}

/// Appends a field that holds a `double`.
pub(crate) fn put_double(number: u32, value: f64, out: &mut Vec<u8>) {
    write_varint(u64::from(number) << 3 | 1, out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a field that holds bytes, a text or a message.
pub(crate) fn put_bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
    write_varint(u64::from(number) << 3 | 2, out);
    write_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Appends a varint.
pub(crate) fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A signed number as a `sint64` is written.
pub(crate) fn to_zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], WireError> {
    let (bytes, after) = rest.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
    *rest = after;
    Ok(bytes)
}

#[inline]
fn varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    if let Some((&byte, after)) = rest.split_first()
        && byte < 0x80
    {
        *rest = after;
        return Ok(u64::from(byte));
    }
    long_varint(rest)
}

fn long_varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    let mut value = 0;
    for (at, &byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            // The tenth byte has room for one bit.
            if at == 9 && byte > 1 {
                return Err(WireError::Varint);
            }
            *rest = &rest[at + 1..];
            return Ok(value);
        }
    }
    Err(if rest.len() >= 10 { WireError::Varint } else { WireError::Truncated })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_they_were_written() {
        let mut message = Vec::new();
        put_varint(1, 300, &mut message);
        put_double(2, -0.5, &mut message);
        put_bytes(3, b"abc", &mut message);
        put_varint(4, u64::MAX, &mut message);
        message.extend_from_slice(&[0x2d, 1, 0, 0, 0]);
        let fields: Vec<_> = Fields::of(&message).collect::<Result<_, _>>().unwrap();
        assert_eq!(fields[0].varint(), Ok(300));
        assert_eq!(fields[1].double(), Ok(-0.5));
        assert_eq!(fields[2].text(), Ok("abc"));
        assert_eq!(fields[3].int64(), Ok(-1));
        assert_eq!(fields[4], Field { number: 5, value: Value::Fixed32(1) });
        assert_eq!(fields[0].bytes(), Err(WireError::Type(1)));
        for end in 1..message.len() {
            // Cut anywhere, it ends early or says so.
            drop(Fields::of(&message[..end]).collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_length_is_believed() {
        let of = |bytes: &[u8]| Fields::of(bytes).collect::<Result<Vec<_>, _>>().unwrap_err();
        assert_eq!(of(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 1]), WireError::Truncated);
        assert_eq!(of(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), WireError::Truncated);
        assert_eq!(of(&[0x08, 0x80]), WireError::Truncated);
        assert_eq!(of(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]), WireError::Varint);
        assert_eq!(of(&[0x08; 1]), WireError::Truncated);
        assert_eq!(of(&[0x00, 0x01]), WireError::Tag);
        assert_eq!(of(&[0x0b]), WireError::Tag);
        assert_eq!(of(&[0x09, 1, 2]), WireError::Truncated);
    }

    #[test]
    fn signed_numbers_wind() {
        for number in [0, -1, 1, i64::MAX, i64::MIN, 12_345] {
            assert_eq!(zigzag(to_zigzag(number)), number);
        }
        assert_eq!((zigzag(1), zigzag(2), zigzag(u64::MAX)), (-1, 1, i64::MIN));
    }
}
