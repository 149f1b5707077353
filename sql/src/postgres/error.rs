//! Errors as Postgres clients know them: a SQLSTATE, a message, a place.

use pgwire::messages::response::ErrorResponse;

use crate::error::{Place, SqlError};

/// SQLSTATEs.
pub(crate) mod code {
    pub(crate) const PROTOCOL: &str = "08P01";
    pub(crate) const UNSUPPORTED: &str = "0A000";
    pub(crate) const DIVISION_BY_ZERO: &str = "22012";
    pub(crate) const NUMBER_OUT_OF_RANGE: &str = "22003";
    pub(crate) const INVALID_DATETIME: &str = "22007";
    pub(crate) const NOT_IN_ENCODING: &str = "22021";
    pub(crate) const INVALID_VALUE: &str = "22023";
    pub(crate) const INVALID_TEXT: &str = "22P02";
    pub(crate) const INVALID_BINARY: &str = "22P03";
    pub(crate) const INVALID_REGEX: &str = "2201B";
    pub(crate) const DATA_EXCEPTION: &str = "22000";
    pub(crate) const NO_TRANSACTION: &str = "25P01";
    pub(crate) const IN_FAILED_TRANSACTION: &str = "25P02";
    pub(crate) const IN_TRANSACTION: &str = "25001";
    pub(crate) const READ_ONLY: &str = "25006";
    pub(crate) const NO_STATEMENT: &str = "26000";
    pub(crate) const INVALID_AUTHORIZATION: &str = "28000";
    pub(crate) const INVALID_PASSWORD: &str = "28P01";
    pub(crate) const NO_CURSOR: &str = "34000";
    pub(crate) const SYNTAX: &str = "42601";
    pub(crate) const NOT_ALLOWED: &str = "42501";
    pub(crate) const NO_COLUMN: &str = "42703";
    pub(crate) const NO_OBJECT: &str = "42704";
    pub(crate) const AMBIGUOUS_COLUMN: &str = "42702";
    pub(crate) const GROUPING: &str = "42803";
    pub(crate) const TYPES: &str = "42804";
    pub(crate) const NO_FUNCTION: &str = "42883";
    pub(crate) const NO_TABLE: &str = "42P01";
    pub(crate) const NO_PARAMETER: &str = "42P02";
    pub(crate) const CURSOR_EXISTS: &str = "42P03";
    pub(crate) const STATEMENT_EXISTS: &str = "42P05";
    pub(crate) const SEMANTICS: &str = "42000";
    pub(crate) const NO_MEMORY: &str = "53200";
    pub(crate) const TOO_MANY_CONNECTIONS: &str = "53300";
    pub(crate) const LIMIT: &str = "53400";
    pub(crate) const TOO_COMPLEX: &str = "54001";
    pub(crate) const CANCELED: &str = "57014";
    pub(crate) const SHUTDOWN: &str = "57P01";
    pub(crate) const IO: &str = "58030";
    pub(crate) const INTERNAL: &str = "XX000";
}

/// An error on its way to a client.
#[derive(Debug)]
pub(crate) struct PgError {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// Character of the query's text, from 1.
    pub(crate) position: Option<usize>,
}

impl PgError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, position: None }
    }

    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same of a text that is only a part of what the client sent.
    pub(crate) fn without_place(self) -> Self {
        Self { position: None, ..self }
    }

    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::new(code::PROTOCOL, message)
    }

    /// From the engine. `text` is what the client sent, and `begin` where in it, in bytes, the statement begins.
    pub(crate) fn of(error: &SqlError, text: &str, begin: usize) -> Self {
        let mut position = error.place().and_then(|place| position(text, begin, place));
        let message = error.to_string();
        let code = match error {
            SqlError::Syntax { .. } => code::SYNTAX,
            SqlError::Invalid { .. } => {
                let (code, name) = invalid(&message);
                position = position.or_else(|| name.and_then(|name| find(text, begin, name)));
                code
            }
            SqlError::Parameter { .. } => code::NO_PARAMETER,
            SqlError::Forbidden { what, .. } => forbidden(what),
            SqlError::Timeout { .. } => code::CANCELED,
            SqlError::Memory { .. } => code::NO_MEMORY,
            SqlError::Busy { .. } => code::LIMIT,
            SqlError::Execution { .. } => execution(&message),
            SqlError::Storage { .. } | SqlError::File { .. } | SqlError::Log { .. } | SqlError::Tail { .. } => code::IO,
            SqlError::Start { .. } | SqlError::Internal { .. } => code::INTERNAL,
        };
        Self { code, message, hint: None, position }
    }

    /// The message, with its severity: `ERROR`, or `FATAL` where the connection ends with it.
    pub(crate) fn response(self, severity: &str) -> ErrorResponse {
        let mut fields = vec![
            (b'S', severity.to_string()),
            (b'V', severity.to_string()),
            (b'C', self.code.to_string()),
            (b'M', clean(self.message)),
        ];
        if let Some(hint) = self.hint {
            fields.push((b'H', clean(hint)));
        }
        if let Some(position) = self.position {
            fields.push((b'P', position.to_string()));
        }
        ErrorResponse::new(fields)
    }
}

/// Texts end at a NUL on the wire.
fn clean(text: String) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The character of `text` at this place of the statement that begins at byte `begin`.
fn position(text: &str, begin: usize, place: Place) -> Option<usize> {
    let statement = text.get(begin..)?;
    let mut before = 0;
    for _ in 1..place.line {
        before += statement.get(before..)?.find('\n')? + 1;
    }
    let column = usize::try_from(place.column).ok()?.checked_sub(1)?;
    Some(text[..begin].chars().count() + statement[..before].chars().count() + column + 1)
}

/// The character at which this name stands in the statement.
fn find(text: &str, begin: usize, name: &str) -> Option<usize> {
    let at = begin + text.get(begin..)?.find(name)?;
    Some(text[..at].chars().count() + 1)
}

/// What does not fit, by the words that say so: the engine has one kind for all of it.
fn invalid(message: &str) -> (&'static str, Option<&str>) {
    let lower = message.to_lowercase();
    let has = |words: &str| lower.contains(words);
    let quoted = || message.split('\'').nth(1);
    if has("there is no table") || (has("table") && has("not found")) {
        (code::NO_TABLE, quoted())
    } else if has("no field named") || has("column") && (has("not found") || has("does not exist")) {
        (code::NO_COLUMN, None)
    } else if has("ambiguous") {
        (code::AMBIGUOUS_COLUMN, None)
    } else if has("invalid function")
        || has("no function matches")
        || has("failed to coerce arguments")
        || has("function signature")
    {
        (code::NO_FUNCTION, quoted().filter(|_| has("invalid function")))
    } else if has("group by") || has("aggregate") {
        (code::GROUPING, None)
    } else if has("cannot coerce") || has("cannot infer common") || has("types") {
        (code::TYPES, None)
    } else if has("not supported") || has("not implemented") || has("unsupported") {
        (code::UNSUPPORTED, None)
    } else {
        (code::SEMANTICS, None)
    }
}

fn execution(message: &str) -> &'static str {
    let lower = message.to_lowercase();
    let has = |words: &str| lower.contains(words);
    if has("unrecognized configuration parameter") {
        code::NO_OBJECT
    } else if has("invalid value for parameter") {
        code::INVALID_VALUE
    } else if has("divide by zero") {
        code::DIVISION_BY_ZERO
    } else if has("overflow") || has("out of range") || has("can't cast value") {
        code::NUMBER_OUT_OF_RANGE
    } else if has("regex") || has("regular expression") {
        code::INVALID_REGEX
    } else if has("timestamp") || has("date") {
        code::INVALID_DATETIME
    } else if has("cannot cast") || has("parse") {
        code::INVALID_TEXT
    } else {
        code::DATA_EXCEPTION
    }
}

fn forbidden(what: &str) -> &'static str {
    const WRITES: [&str; 11] = [
        "INSERT",
        "UPDATE",
        "DELETE",
        "MERGE",
        "CREATE",
        "DROP",
        "ALTER",
        "TRUNCATE",
        "COPY",
        "SELECT INTO",
        "FOR UPDATE",
    ];
    match () {
        () if WRITES.iter().any(|write| what.starts_with(write)) => code::READ_ONLY,
        () if what.starts_with("reading") || what.starts_with("table function") => code::NOT_ALLOWED,
        () if what.starts_with("more than one") => code::SYNTAX,
        () => code::UNSUPPORTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_becomes_a_character_of_the_whole_text() {
        let text = "SELECT 1;\nSELECT 'ü',\n  nosuch";
        let begin = 10;
        assert_eq!(position(text, begin, Place { line: 2, column: 3 }), Some(text.chars().count() - 5));
        assert_eq!(position(text, begin, Place { line: 1, column: 1 }), Some(11));
        assert_eq!(position(text, begin, Place { line: 9, column: 1 }), None);
    }

    #[test]
    fn kinds_of_errors_have_the_codes_that_clients_look_for() {
        let invalid = |message: &str| SqlError::Invalid { message: message.into(), at: None };
        for (error, code, position) in [
            (invalid("there is no table 'lgos'. Did you mean 'logs'?"), code::NO_TABLE, Some(15)),
            (invalid("No field named nosuch."), code::NO_COLUMN, None),
            (invalid("Invalid function 'cuont'"), code::NO_FUNCTION, None),
            (SqlError::Execution { message: "Divide by zero error".into() }, code::DIVISION_BY_ZERO, None),
            (SqlError::Forbidden { what: "DROP TABLE".into(), hint: "" }, code::READ_ONLY, None),
            (SqlError::Forbidden { what: "reading \"/etc/passwd\"".into(), hint: "" }, code::NOT_ALLOWED, None),
        ] {
            let sent = PgError::of(&error, "SELECT * FROM lgos", 0);
            assert_eq!((sent.code, sent.position), (code, position), "{error}");
        }
    }
}
