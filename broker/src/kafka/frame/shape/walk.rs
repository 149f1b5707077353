//! Walks bytes along a shape.

use super::{Field, Kind, MAX_ELEMENTS, Shape};

/// How bytes differ from their shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::kafka) enum ShapeError {
    /// A length or a field runs past the end.
    #[error("it ends in the middle of a field")]
    Short,
    /// A length below -1.
    #[error("a length is negative")]
    Negative,
    /// A list that claims more elements than there are bytes, or than one request may have.
    #[error("a list claims {count} elements, but there is room for {room}")]
    Count {
        /// What it claims.
        count: usize,
        /// What there is room for.
        room: usize,
    },
    /// Null where it is not allowed.
    #[error("a field is null that must not be")]
    Null,
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
    /// A variable-length number above 32 bits.
    #[error("a variable-length number does not end")]
    Varint,
    /// A tagged field whose content is not as long as it says, or that the version does not have.
    #[error("tagged field {tag} is not what its version has there")]
    Tag {
        /// Its number.
        tag: u32,
    },
}

/// A walk through bytes, from the front.
#[derive(Debug, Clone)]
pub(in crate::kafka) struct Walk<'a> {
    rest: &'a [u8],
    /// Elements that may still come.
    elements: usize,
}

impl<'a> Walk<'a> {
    pub(in crate::kafka) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, elements: MAX_ELEMENTS }
    }

    /// Bytes not walked yet.
    pub(in crate::kafka) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Walks a body of this version.
    pub(in crate::kafka) fn body(&mut self, shape: &Shape, version: i16) -> Result<(), ShapeError> {
        self.fields(shape.fields, version, shape.is_flexible(version))
    }

    /// Walks the tagged fields of a header, none of which we know.
    pub(in crate::kafka) fn header_tags(&mut self) -> Result<(), ShapeError> {
        self.tags(&[], 0)
    }

    /// Takes so many bytes.
    pub(in crate::kafka) fn take(&mut self, size: usize) -> Result<&'a [u8], ShapeError> {
        let (taken, rest) = self.rest.split_at_checked(size).ok_or(ShapeError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(in crate::kafka) fn i16(&mut self) -> Result<i16, ShapeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(ShapeError::Short)?;
        self.rest = rest;
        Ok(i16::from_be_bytes(*taken))
    }

    pub(in crate::kafka) fn i32(&mut self) -> Result<i32, ShapeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(ShapeError::Short)?;
        self.rest = rest;
        Ok(i32::from_be_bytes(*taken))
    }

    /// Takes text, or null.
    pub(in crate::kafka) fn text(&mut self, flexible: bool) -> Result<Option<&'a str>, ShapeError> {
        let length = if flexible { self.compact()? } else { length(i32::from(self.i16()?))? };
        let Some(length) = length else { return Ok(None) };
        std::str::from_utf8(self.take(length)?).map(Some).map_err(|_| ShapeError::Utf8)
    }

    fn fields(&mut self, fields: &[Field], version: i16, flexible: bool) -> Result<(), ShapeError> {
        for field in fields.iter().filter(|field| field.is_in(version)) {
            self.kind(&field.kind, version, flexible)?;
        }
        if flexible { self.tags(fields, version) } else { Ok(()) }
    }

    fn kind(&mut self, kind: &Kind, version: i16, flexible: bool) -> Result<(), ShapeError> {
        let present = match kind {
            Kind::Fixed(size) => self.take(*size).map(|_| true)?,
            Kind::Text | Kind::NullableText => self.text(flexible)?.is_some(),
            Kind::Blob | Kind::NullableBlob => match self.length(flexible)? {
                Some(length) => self.take(length).map(|_| true)?,
                None => false,
            },
            Kind::Structs(fields) | Kind::NullableStructs(fields) => {
                self.elements(flexible, |walk| walk.fields(fields, version, flexible))?
            }
            Kind::Values(value) | Kind::NullableValues(value) => {
                self.elements(flexible, |walk| walk.kind(value, version, flexible))?
            }
            Kind::Tagged(..) => true,
        };
        if present || kind.is_nullable() { Ok(()) } else { Err(ShapeError::Null) }
    }

    /// Walks the elements of a list; false where it is null.
    fn elements(
        &mut self,
        flexible: bool,
        mut element: impl FnMut(&mut Self) -> Result<(), ShapeError>,
    ) -> Result<bool, ShapeError> {
        let Some(count) = self.length(flexible)? else { return Ok(false) };
        self.claim(count)?;
        for _ in 0..count {
            element(self)?;
        }
        Ok(true)
    }

    /// Every element has at least a byte.
    fn claim(&mut self, count: usize) -> Result<(), ShapeError> {
        let room = self.elements.min(self.rest.len());
        self.elements =
            self.elements.checked_sub(count).filter(|_| count <= room).ok_or(ShapeError::Count { count, room })?;
        Ok(())
    }

    fn tags(&mut self, fields: &[Field], version: i16) -> Result<(), ShapeError> {
        let count = self.varint()? as usize;
        self.claim(count)?;
        for _ in 0..count {
            let tag = self.varint()?;
            let size = self.varint()? as usize;
            let mut inside = Self { rest: self.take(size)?, elements: self.elements };
            let known = fields.iter().find_map(|field| match &field.kind {
                Kind::Tagged(known, kind) if *known == tag => Some((field, *kind)),
                _ => None,
            });
            if let Some((field, kind)) = known {
                if !field.is_in(version) {
                    return Err(ShapeError::Tag { tag });
                }
                inside.kind(kind, version, true)?;
                if inside.left() > 0 {
                    return Err(ShapeError::Tag { tag });
                }
                self.elements = inside.elements;
            }
        }
        Ok(())
    }

    /// Length of a blob or count of a list.
    fn length(&mut self, flexible: bool) -> Result<Option<usize>, ShapeError> {
        if flexible { self.compact() } else { length(self.i32()?) }
    }

    /// A compact length: one more than it is, and 0 for null.
    fn compact(&mut self) -> Result<Option<usize>, ShapeError> {
        Ok((self.varint()? as usize).checked_sub(1))
    }

    fn varint(&mut self) -> Result<u32, ShapeError> {
        let mut value = 0;
        for i in 0..5 {
            let byte = u64::from(self.take(1)?[0]);
            value |= (byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| ShapeError::Varint);
            }
        }
        Err(ShapeError::Varint)
    }
}

/// A plain length, with -1 for null.
fn length(length: i32) -> Result<Option<usize>, ShapeError> {
    match length {
        -1 => Ok(None),
        length => usize::try_from(length).map(Some).map_err(|_| ShapeError::Negative),
    }
}

impl Field {
    fn is_in(&self, version: i16) -> bool {
        (self.since..=self.until).contains(&version)
    }
}

impl Kind {
    fn is_nullable(&self) -> bool {
        matches!(self, Self::NullableText | Self::NullableBlob | Self::NullableStructs(_) | Self::NullableValues(_))
    }
}
