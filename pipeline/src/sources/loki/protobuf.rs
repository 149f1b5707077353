//! `logproto.PushRequest`.

use std::borrow::Cow;

use super::lines::{Lines, Pairs};
use super::selector;
use crate::data::Refusal;
use crate::data::logs::Logs;
use crate::data::protobuf::{Fields, WireError};
use crate::sources::IngestError;
use crate::sources::batcher::Dealer;

/// Reads a request into rows.
pub(super) fn read(body: &[u8], dealer: &mut Dealer<'_, Logs>) -> Result<(), IngestError> {
    let mut lines = Lines::new(dealer);
    for field in Fields::of(body) {
        let field = field.map_err(malformed)?;
        if field.number == 1 {
            field.bytes().and_then(|message| stream(message, &mut lines)).map_err(malformed)?;
        }
        if lines.dealer.is_failed() {
            break;
        }
    }
    Ok(())
}

fn stream(message: &[u8], lines: &mut Lines<'_, '_>) -> Result<(), WireError> {
    let mut text: &[u8] = &[];
    for field in Fields::of(message) {
        let field = field?;
        if field.number == 1 {
            text = field.bytes()?;
        }
    }
    let labels = match std::str::from_utf8(text) {
        Ok(text) => selector::parse(text),
        Err(_) => Err(Refusal::NotText { field: "labels" }),
    };
    let stream = match &labels {
        Ok(labels) => lines.stream(labels),
        Err(refusal) => Err(refusal.clone()),
    };
    for field in Fields::of(message) {
        let field = field?;
        if field.number != 2 {
            continue;
        }
        let entry = Entry::read(field.bytes()?)?;
        match (&stream, std::str::from_utf8(entry.line)) {
            (Err(refusal), _) => lines.refuse(refusal),
            (_, Err(_)) => lines.refuse(&Refusal::NotText { field: "line" }),
            (Ok(labels), Ok(line)) => match entry.metadata() {
                Ok(metadata) => lines.line(labels, Some(entry.unix_ns), line, &metadata),
                Err(_) => lines.refuse(&Refusal::NotText { field: "structured metadata" }),
            },
        }
    }
    Ok(())
}

struct Entry<'a> {
    unix_ns: i128,
    line: &'a [u8],
    message: &'a [u8],
    has_metadata: bool,
}

impl<'a> Entry<'a> {
    fn read(message: &'a [u8]) -> Result<Self, WireError> {
        let mut entry = Self { unix_ns: 0, line: &[], message, has_metadata: false };
        for field in Fields::of(message) {
            let field = field?;
            match field.number {
                1 => {
                    let (mut seconds, mut nanos) = (0, 0);
                    for field in Fields::of(field.bytes()?) {
                        let field = field?;
                        match field.number {
                            1 => seconds = field.int64()?,
                            2 => nanos = field.int64()?,
                            _ => {}
                        }
                    }
                    entry.unix_ns = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
                }
                2 => entry.line = field.bytes()?,
                3 => {
                    // Seen to be whole here, so that reading it again cannot fail but for its texts.
                    Fields::of(field.bytes()?).try_for_each(|field| field.and_then(|field| field.bytes()).map(drop))?;
                    entry.has_metadata = true;
                }
                _ => {}
            }
        }
        Ok(entry)
    }

    fn metadata(&self) -> Result<Pairs<'a>, WireError> {
        let mut pairs = Pairs::new();
        for field in Fields::of(self.message).filter(|_| self.has_metadata) {
            let field = field?;
            if field.number != 3 {
                continue;
            }
            let (mut name, mut value) = ("", "");
            for field in Fields::of(field.bytes()?) {
                let field = field?;
                match field.number {
                    1 => name = field.text()?,
                    2 => value = field.text()?,
                    _ => {}
                }
            }
            pairs.push((Cow::Borrowed(name), Cow::Borrowed(value)));
        }
        Ok(pairs)
    }
}

fn malformed(error: WireError) -> IngestError {
    IngestError::Message { message: "logproto.PushRequest", reason: error.to_string() }
}
