//! What a statement asks of the session itself, told by its first words; everything else is a query.
//!
//! Told from the tokens and not from a parsed tree: clients send forms that only Postgres's own grammar knows.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use highwater_pipeline::functions::HighwaterDialect;

use super::copy::{self, CopyOut};
use super::error::{PgError, code};

/// Most statements of one message.
const MAX_STATEMENTS: usize = 1000;

/// A statement of a script, and where in its text, in bytes, it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) begin: usize,
    pub(crate) text: String,
}

/// What a statement is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// `BEGIN`, `START TRANSACTION`.
    Begin,
    /// `COMMIT`, `END`.
    Commit,
    /// `ROLLBACK`, `ABORT`.
    Rollback,
    /// `SAVEPOINT`, `RELEASE`, `ROLLBACK TO`: the tag it is answered with, and whether it heals a failed transaction.
    Savepoint(&'static str, bool),
    /// `SET name = value`; no value is DEFAULT.
    Set(String, Option<String>),
    /// A `SET` that asks for what is so anyway.
    SetNothing,
    /// `RESET name`, `RESET ALL`.
    Reset(Option<String>),
    /// `SHOW name`; no name is ALL.
    Show(Option<String>),
    /// `DISCARD ALL | PLANS | TEMP | SEQUENCES`.
    Discard(String),
    /// `PREPARE name [(types)] AS query`.
    Prepare { name: String, types: Vec<String>, query: String },
    /// `EXECUTE name [(arguments)]`.
    Execute { name: String, arguments: Vec<String> },
    /// `DEALLOCATE [PREPARE] name`; no name is ALL.
    Deallocate(Option<String>),
    /// `DECLARE name CURSOR FOR query`.
    Declare { name: String, query: String },
    /// `FETCH`: how many rows (`None` for ALL), of which cursor.
    Fetch { count: Option<usize>, name: String },
    /// `MOVE`, likewise.
    Move { count: Option<usize>, name: String },
    /// `CLOSE name`; no name is ALL.
    Close(Option<String>),
    /// `COPY ... TO STDOUT`.
    Copy(Box<CopyOut>),
    /// `LISTEN`, `UNLISTEN`: nobody notifies.
    Listen(&'static str),
    /// Everything else.
    Query,
}

/// Splits a script at its semicolons. What holds nothing but blanks and comments is left out.
///
/// # Errors
/// `42601` for what are no tokens, or too many statements.
pub(crate) fn split(script: &str) -> Result<Vec<Piece>, PgError> {
    let tokens = tokenize(script).map_err(|message| PgError::new(code::SYNTAX, message))?;
    let mut pieces = Vec::new();
    // Lines' beginnings, to find bytes from lines and columns.
    let lines: Vec<usize> = std::iter::once(0).chain(script.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let byte = |token: &TokenWithSpan| {
        let start = token.span.start;
        let line = usize::try_from(start.line).unwrap_or(1).saturating_sub(1);
        let begin = lines.get(line).copied().unwrap_or(script.len());
        let column = usize::try_from(start.column).unwrap_or(1).saturating_sub(1);
        script[begin..].char_indices().nth(column).map_or(script.len(), |(at, _)| begin + at)
    };
    let mut begin = None;
    for token in &tokens {
        match &token.token {
            Token::SemiColon => {
                if let Some(begin) = begin.take() {
                    pieces.push(piece(script, begin, byte(token)));
                }
            }
            Token::Whitespace(_) | Token::EOF => {}
            _ if begin.is_none() => begin = Some(byte(token)),
            _ => {}
        }
    }
    if let Some(begin) = begin {
        pieces.push(piece(script, begin, script.len()));
    }
    match pieces.len() {
        0..=MAX_STATEMENTS => Ok(pieces),
        n => Err(PgError::new(
            code::TOO_COMPLEX,
            format!("{n} statements in one message, the limit is {MAX_STATEMENTS}"),
        )),
    }
}

fn piece(script: &str, begin: usize, end: usize) -> Piece {
    Piece { begin, text: script[begin..end].trim_end().to_string() }
}

fn tokenize(text: &str) -> Result<Vec<TokenWithSpan>, String> {
    Tokenizer::new(&HighwaterDialect, text).tokenize_with_location().map_err(|e| e.to_string())
}

/// The words of a statement, to be taken one after the other.
pub(super) struct Words<'a> {
    pub(super) text: &'a str,
    tokens: Vec<Token>,
    next: usize,
}

impl Words<'_> {
    /// True, and past it, where the next is this keyword.
    pub(super) fn take(&mut self, keyword: &str) -> bool {
        let is = matches!(self.tokens.get(self.next), Some(Token::Word(w)) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(keyword));
        self.next += usize::from(is);
        is
    }

    pub(super) fn take_token(&mut self, token: &Token) -> bool {
        let is = self.tokens.get(self.next) == Some(token);
        self.next += usize::from(is);
        is
    }

    /// A name: folded to lower case unless it is quoted.
    pub(super) fn name(&mut self) -> Option<String> {
        let name = match self.tokens.get(self.next)? {
            Token::Word(w) if w.quote_style.is_some() => w.value.clone(),
            Token::Word(w) => w.value.to_lowercase(),
            _ => return None,
        };
        self.next += 1;
        Some(name)
    }

    /// A name as it is written, with its quotes.
    pub(super) fn ident(&mut self) -> Option<String> {
        let Token::Word(word) = self.tokens.get(self.next)? else { return None };
        self.next += 1;
        Some(word.to_string())
    }

    /// Whatever comes next.
    pub(super) fn next_token(&mut self) -> Option<&Token> {
        self.next += 1;
        self.tokens.get(self.next - 1)
    }

    /// A text.
    pub(super) fn text_value(&mut self) -> Option<String> {
        let (Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text)) = self.tokens.get(self.next)? else {
            return None;
        };
        self.next += 1;
        Some(text.clone())
    }

    /// True or false, as options are given.
    pub(super) fn boolean(&mut self) -> Option<bool> {
        let value = match self.tokens.get(self.next)? {
            Token::Word(word) => word.value.to_lowercase(),
            Token::SingleQuotedString(text) => text.to_lowercase(),
            Token::Number(digits, _) => digits.clone(),
            _ => return None,
        };
        let value = match value.as_str() {
            "true" | "on" | "1" | "match" => true,
            "false" | "off" | "0" => false,
            _ => return None,
        };
        self.next += 1;
        Some(value)
    }

    /// A name of a setting, which may have dots.
    fn setting(&mut self) -> Option<String> {
        let mut name = self.name()?;
        while self.take_token(&Token::Period) {
            name = format!("{name}.{}", self.name()?);
        }
        Some(name)
    }

    /// A whole number.
    fn number(&mut self) -> Option<usize> {
        let Some(Token::Number(digits, _)) = self.tokens.get(self.next) else { return None };
        let number = digits.parse().ok()?;
        self.next += 1;
        Some(number)
    }

    pub(super) fn at_end(&self) -> bool {
        self.next >= self.tokens.len()
    }

    /// What is left, as a value of a setting: words, strings and numbers, with commas between several.
    fn value(&mut self) -> String {
        let mut value = String::new();
        for token in &self.tokens[self.next.min(self.tokens.len())..] {
            match token {
                Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => value.push_str(text),
                Token::Word(w) => value.push_str(&w.value),
                Token::Number(digits, _) => value.push_str(digits),
                Token::Comma => value.push_str(", "),
                other => value.push_str(&other.to_string()),
            }
        }
        self.next = self.tokens.len();
        value
    }
}

/// What this statement is.
///
/// # Errors
/// `42601` where it begins as a command of the session and does not go on as one.
pub(crate) fn command(text: &str) -> Result<Command, PgError> {
    let Ok(tokens) = tokenize(text) else { return Ok(Command::Query) };
    let tokens: Vec<Token> =
        tokens.into_iter().map(|t| t.token).filter(|t| !matches!(t, Token::Whitespace(_) | Token::EOF)).collect();
    let mut words = Words { text, tokens, next: 0 };
    let wrong = |what: &str| PgError::new(code::SYNTAX, format!("syntax error in {what}"));
    let w = &mut words;
    if w.take("begin") {
        return Ok(Command::Begin);
    }
    if w.take("start") {
        return if w.take("transaction") { Ok(Command::Begin) } else { Err(wrong("START TRANSACTION")) };
    }
    if w.take("commit") || w.take("end") {
        return if w.take("prepared") { Ok(Command::Query) } else { Ok(Command::Commit) };
    }
    if w.take("rollback") || w.take("abort") {
        let _optional = w.take("work") || w.take("transaction");
        return Ok(if w.take("to") { Command::Savepoint("ROLLBACK", true) } else { Command::Rollback });
    }
    if w.take("savepoint") {
        return Ok(Command::Savepoint("SAVEPOINT", false));
    }
    if w.take("release") {
        return Ok(Command::Savepoint("RELEASE", false));
    }
    if w.take("set") {
        return set(w).ok_or_else(|| wrong("SET"));
    }
    if w.take("reset") {
        if w.take("all") {
            return Ok(Command::Reset(None));
        }
        if w.take("session") {
            return Ok(Command::SetNothing);
        }
        if w.take("time") && w.take("zone") {
            return Ok(Command::Reset(Some("timezone".into())));
        }
        return w.setting().map(|name| Command::Reset(Some(name))).ok_or_else(|| wrong("RESET"));
    }
    if w.take("show") {
        return show(w);
    }
    if w.take("discard") {
        return w.name().map(|what| Command::Discard(what.to_uppercase())).ok_or_else(|| wrong("DISCARD"));
    }
    if w.take("deallocate") {
        let _optional = w.take("prepare");
        if w.take("all") {
            return Ok(Command::Deallocate(None));
        }
        return w.name().map(|name| Command::Deallocate(Some(name))).ok_or_else(|| wrong("DEALLOCATE"));
    }
    if w.take("prepare") {
        return prepare(w).ok_or_else(|| wrong("PREPARE"));
    }
    if w.take("execute") {
        return execute(w).ok_or_else(|| wrong("EXECUTE"));
    }
    if w.take("declare") {
        return declare(w).ok_or_else(|| wrong("DECLARE"));
    }
    if w.take("fetch") {
        return fetch(w).map(|(count, name)| Command::Fetch { count, name }).ok_or_else(only_forward);
    }
    if w.take("move") {
        return fetch(w).map(|(count, name)| Command::Move { count, name }).ok_or_else(only_forward);
    }
    if w.take("close") {
        if w.take("all") {
            return Ok(Command::Close(None));
        }
        return w.name().map(|name| Command::Close(Some(name))).ok_or_else(|| wrong("CLOSE"));
    }
    if w.take("copy") {
        return copy::parse(w).map(|copy| Command::Copy(Box::new(copy)));
    }
    if w.take("listen") {
        return Ok(Command::Listen("LISTEN"));
    }
    if w.take("unlisten") {
        return Ok(Command::Listen("UNLISTEN"));
    }
    Ok(Command::Query)
}

fn only_forward() -> PgError {
    PgError::new(code::UNSUPPORTED, "cursors go forward only: FETCH n FROM name, FETCH ALL FROM name")
}

fn set(w: &mut Words<'_>) -> Option<Command> {
    if w.take("session") && w.take("characteristics") || w.take("transaction") {
        return Some(Command::SetNothing);
    }
    let _scope = w.take("local");
    if w.take("time") {
        let zone = w.take("zone").then(|| w.value())?;
        let default = zone.eq_ignore_ascii_case("default") || zone.eq_ignore_ascii_case("local");
        return Some(Command::Set("timezone".into(), (!default).then_some(zone)));
    }
    if w.take("names") {
        let encoding = w.value();
        return Some(Command::Set("client_encoding".into(), (!encoding.is_empty()).then_some(encoding)));
    }
    if w.take("constraints") {
        return Some(Command::SetNothing);
    }
    let name = w.setting()?;
    // SET SESSION AUTHORIZATION DEFAULT, SET ROLE NONE.
    if name == "authorization" || name == "role" {
        return Some(Command::SetNothing);
    }
    if !(w.take_token(&Token::Eq) || w.take("to")) || w.at_end() {
        return None;
    }
    if w.take("default") {
        return Some(Command::Set(name, None));
    }
    Some(Command::Set(name, Some(w.value())))
}

fn show(w: &mut Words<'_>) -> Result<Command, PgError> {
    if w.take("all") {
        return Ok(Command::Show(None));
    }
    if w.take("time") && w.take("zone") {
        return Ok(Command::Show(Some("timezone".into())));
    }
    if w.take("transaction") && w.take("isolation") && w.take("level") {
        return Ok(Command::Show(Some("transaction_isolation".into())));
    }
    if w.take("session") && w.take("authorization") {
        return Ok(Command::Show(Some("session_authorization".into())));
    }
    // What the engine shows: tables, columns, functions.
    for ours in ["tables", "columns", "functions", "full", "extended"] {
        if w.take(ours) {
            return Ok(Command::Query);
        }
    }
    w.setting().map(|name| Command::Show(Some(name))).ok_or_else(|| PgError::new(code::SYNTAX, "syntax error in SHOW"))
}

fn prepare(w: &mut Words<'_>) -> Option<Command> {
    let name = w.name()?;
    let mut types = Vec::new();
    if w.take_token(&Token::LParen) {
        let mut of = String::new();
        let mut depth = 1;
        while depth > 0 {
            let token = w.tokens.get(w.next)?.clone();
            w.next += 1;
            match token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                Token::Comma if depth == 1 => types.push(std::mem::take(&mut of)),
                other => of = if of.is_empty() { other.to_string() } else { format!("{of} {other}") },
            }
        }
        types.push(of);
    }
    w.take("as").then_some(())?;
    let query = after_word(w.text, "as")?;
    Some(Command::Prepare { name, types, query })
}

fn execute(w: &mut Words<'_>) -> Option<Command> {
    let name = w.name()?;
    let mut arguments = Vec::new();
    if w.take_token(&Token::LParen) {
        let mut argument = String::new();
        let mut depth = 1;
        while depth > 0 {
            let token = w.tokens.get(w.next)?.clone();
            w.next += 1;
            match token {
                Token::RParen if depth == 1 => depth = 0,
                Token::Comma if depth == 1 => arguments.push(std::mem::take(&mut argument)),
                other => {
                    depth += i32::from(other == Token::LParen) - i32::from(other == Token::RParen);
                    argument = format!("{argument} {other}");
                }
            }
        }
        arguments.push(argument);
    }
    Some(Command::Execute { name, arguments })
}

fn declare(w: &mut Words<'_>) -> Option<Command> {
    let name = w.name()?;
    while !w.take("cursor") {
        // A cursor that may scroll goes forward all the same; going back is refused where it is asked.
        match w.name()?.as_str() {
            "insensitive" | "asensitive" | "scroll" => {}
            "no" => w.take("scroll").then_some(())?,
            _ => return None,
        }
    }
    if w.take("with") || w.take("without") {
        w.take("hold").then_some(())?;
    }
    w.take("for").then_some(())?;
    Some(Command::Declare { name, query: after_word(w.text, "for")? })
}

/// `[NEXT | FORWARD | ALL | n | FORWARD n | FORWARD ALL] [FROM | IN] name`.
fn fetch(w: &mut Words<'_>) -> Option<(Option<usize>, String)> {
    let forward = w.take("forward");
    let count = if w.take("all") {
        None
    } else if !forward && w.take("next") {
        Some(1)
    } else {
        Some(w.number().unwrap_or(1))
    };
    let _from = w.take("from") || w.take("in");
    let name = w.name()?;
    w.at_end().then_some((count, name))
}

/// What stands after the first such word outside of quotes.
fn after_word(text: &str, word: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut quote = None;
    for (at, byte) in bytes.iter().enumerate() {
        match (quote, byte) {
            (Some(open), byte) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, _) => {
                let end = at + word.len();
                let edge = |at: Option<&u8>| at.is_none_or(|b| !(b.is_ascii_alphanumeric() || *b == b'_'));
                if bytes.get(at..end).is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()))
                    && edge(at.checked_sub(1).and_then(|before| bytes.get(before)))
                    && edge(bytes.get(end))
                {
                    return Some(text[end..].trim().to_string());
                }
            }
        }
    }
    None
}

/// True where the statement is about the system catalog, or speaks of the session as only Postgres's grammar does.
pub(crate) fn is_about_catalog(tokens: &[TokenWithSpan]) -> bool {
    const WORDS: [&str; 13] = [
        "current_user",
        "session_user",
        "current_role",
        "current_catalog",
        "current_schema",
        "regclass",
        "regtype",
        "regproc",
        "regnamespace",
        "regrole",
        "collate",
        "oid",
        "quote_ident",
    ];
    tokens.iter().any(|token| match &token.token {
        Token::Word(word) => {
            let word = word.value.to_ascii_lowercase();
            word.starts_with("pg_") || WORDS.contains(&word.as_str())
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn of(text: &str) -> Command {
        command(text).unwrap()
    }

    #[test]
    fn a_script_is_split_where_statements_end() {
        let script = "SELECT ';' ; -- no; not here\n /* nor; here */ SELECT \"a;b\", 'ü';;\n\n;SELECT 3";
        let pieces = split(script).unwrap();
        let texts: Vec<&str> = pieces.iter().map(|p| p.text.as_str()).collect();
        assert_eq!(texts, ["SELECT ';'", "SELECT \"a;b\", 'ü'", "SELECT 3"]);
        assert!(pieces.iter().all(|p| script[p.begin..].starts_with(&p.text)));
        assert!(split(" ; -- nothing\n").unwrap().is_empty());
        assert_eq!(split("SELECT 'open").unwrap_err().code, code::SYNTAX);
    }

    #[test]
    fn commands_of_the_session() {
        assert_eq!(of("begin read only"), Command::Begin);
        assert_eq!(of("START TRANSACTION ISOLATION LEVEL SERIALIZABLE"), Command::Begin);
        assert_eq!(of("ROLLBACK TO SAVEPOINT a"), Command::Savepoint("ROLLBACK", true));
        assert_eq!(of("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"), Command::SetNothing);
        assert_eq!(of("SET application_name = 'a b'"), Command::Set("application_name".into(), Some("a b".into())));
        assert_eq!(of("set session DateStyle to ISO, DMY"), Command::Set("datestyle".into(), Some("ISO, DMY".into())));
        assert_eq!(of("SET extra_float_digits=3"), Command::Set("extra_float_digits".into(), Some("3".into())));
        assert_eq!(of("SET TIME ZONE 'Europe/Berlin'"), Command::Set("timezone".into(), Some("Europe/Berlin".into())));
        assert_eq!(of("SET a.b TO DEFAULT"), Command::Set("a.b".into(), None));
        assert_eq!(of("SHOW transaction isolation level"), Command::Show(Some("transaction_isolation".into())));
        assert_eq!(of("SHOW TABLES"), Command::Query);
        assert_eq!(of("DEALLOCATE PREPARE \"A\""), Command::Deallocate(Some("A".into())));
        assert_eq!(of("SELECT 1"), Command::Query);
        assert_eq!(of("/* x */ SELECT begin"), Command::Query);
        assert!(command("SET x").is_err());
    }

    #[test]
    fn cursors_and_statements_by_name() {
        assert_eq!(
            of("DECLARE \"c\" NO SCROLL CURSOR WITHOUT HOLD FOR\nSELECT 'for'"),
            Command::Declare { name: "c".into(), query: "SELECT 'for'".into() }
        );
        assert_eq!(of("FETCH FORWARD 5 FROM \"c\""), Command::Fetch { count: Some(5), name: "c".into() });
        assert_eq!(of("fetch all in c"), Command::Fetch { count: None, name: "c".into() });
        assert_eq!(of("FETCH c"), Command::Fetch { count: Some(1), name: "c".into() });
        assert_eq!(command("FETCH BACKWARD 1 FROM c").unwrap_err().code, code::UNSUPPORTED);
        assert_eq!(
            of("PREPARE p (int, double precision) AS SELECT $1, $2"),
            Command::Prepare {
                name: "p".into(),
                types: vec!["int".into(), "double precision".into()],
                query: "SELECT $1, $2".into()
            }
        );
        assert_eq!(
            of("EXECUTE p (f(1, 2), 'x')"),
            Command::Execute { name: "p".into(), arguments: vec![" f ( 1 , 2 )".into(), " 'x'".into()] }
        );
    }

    #[test]
    fn the_catalog_is_known_by_its_names() {
        let about = |sql: &str| is_about_catalog(&tokenize(sql).unwrap());
        assert!(about("SELECT relname FROM pg_catalog.pg_class"));
        assert!(about("SELECT current_user"));
        assert!(about("SELECT 'logs'::regclass"));
        assert!(!about("SELECT message, 'pg_class' FROM logs"));
        assert!(!about("SELECT count(*) FROM logs"));
    }
}
