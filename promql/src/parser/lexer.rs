//! Text to tokens. The scanner knows whether it is inside braces or brackets, as Prometheus's does; its errors are tokens
//! too, reported when the grammar gets there.

use super::ast::{AggregateOp, BinaryOp};
use crate::error::Span;
use crate::labels::{Quoted, RAW_BYTES};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Eof,
    Error,
    Identifier,
    MetricIdentifier,
    Number,
    Duration,
    String,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=`
    Assign,
    /// `=~`
    Match,
    /// `!~`
    NotMatch,
    At,
    Operator(BinaryOp),
    Aggregate(AggregateOp),
    Keyword(Keyword),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Offset,
    Smoothed,
    Anchored,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Bool,
    Start,
    End,
    Step,
    Range,
    MaxOf,
    MinOf,
}

const KEYWORDS: [(&str, Keyword); 19] = [
    ("offset", Keyword::Offset),
    ("smoothed", Keyword::Smoothed),
    ("anchored", Keyword::Anchored),
    ("by", Keyword::By),
    ("without", Keyword::Without),
    ("on", Keyword::On),
    ("ignoring", Keyword::Ignoring),
    ("group_left", Keyword::GroupLeft),
    ("group_right", Keyword::GroupRight),
    ("fill", Keyword::Fill),
    ("fill_left", Keyword::FillLeft),
    ("fill_right", Keyword::FillRight),
    ("bool", Keyword::Bool),
    ("start", Keyword::Start),
    ("end", Keyword::End),
    ("step", Keyword::Step),
    ("range", Keyword::Range),
    ("max_of", Keyword::MaxOf),
    ("min_of", Keyword::MinOf),
];

#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Span,
    /// The message of an error token.
    pub(super) error: String,
}

impl Token {
    /// As "unexpected ..." names it.
    pub(super) fn describe(&self, text: &str) -> String {
        let value = &text[self.span.start..self.span.end];
        match self.kind {
            Kind::Eof => "end of input".to_owned(),
            Kind::Error => self.error.clone(),
            Kind::Identifier => format!("identifier {}", Quoted(value)),
            Kind::MetricIdentifier => format!("metric identifier {}", Quoted(value)),
            Kind::Number => format!("number {}", shortened(value)),
            Kind::Duration => format!("duration {}", shortened(value)),
            Kind::String => format!("string {}", shortened(value)),
            Kind::Operator(_) | Kind::Match | Kind::NotMatch | Kind::At => format!("<op:{value}>"),
            Kind::Aggregate(_) => format!("<aggr:{value}>"),
            Kind::Keyword(
                Keyword::Start | Keyword::End | Keyword::Step | Keyword::Range | Keyword::MaxOf | Keyword::MinOf,
            ) => shortened(value),
            Kind::Keyword(_) => format!("<{value}>"),
            _ => shortened(value),
        }
    }
}

fn shortened(value: &str) -> String {
    if value.len() > 10 {
        let short: String = value.chars().take(10).collect();
        return format!("{}...", Quoted(&short));
    }
    Quoted(value).to_string()
}

/// The tokens of a text. `unquoted_names` takes letters of every language, and dots, into names.
pub(super) fn tokens(text: &str, unquoted_names: bool) -> Vec<Token> {
    let mut lexer = Lexer {
        text,
        at: 0,
        start: 0,
        out: Vec::new(),
        parens: 0,
        braces: false,
        brackets: false,
        colon: false,
        unquoted_names,
    };
    lexer.run();
    lexer.out
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    start: usize,
    out: Vec<Token>,
    parens: i32,
    braces: bool,
    brackets: bool,
    colon: bool,
    unquoted_names: bool,
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_word(c: char) -> bool {
    is_alpha(c) || c.is_ascii_digit()
}

/// A character as Go's `%q` writes it.
fn rune(c: Option<char>) -> String {
    match c {
        None => "'�'".to_owned(),
        Some('\'') => "'\\''".to_owned(),
        Some(c) => {
            let quoted = Quoted(&c.to_string()).to_string();
            let inner = quoted[1..quoted.len() - 1].to_owned();
            format!("'{}'", if c == '"' { "\"".to_owned() } else { inner })
        }
    }
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn accept(&mut self, wanted: impl Fn(char) -> bool) -> bool {
        match self.peek() {
            Some(c) if wanted(c) => {
                self.at += c.len_utf8();
                true
            }
            _ => false,
        }
    }

    fn emit(&mut self, kind: Kind) {
        self.out.push(Token { kind, span: Span { start: self.start, end: self.at }, error: String::new() });
        self.start = self.at;
    }

    fn error(&mut self, message: impl Into<String>) -> bool {
        self.out.push(Token {
            kind: Kind::Error,
            span: Span { start: self.start, end: self.text.len() },
            error: message.into(),
        });
        false
    }

    fn run(&mut self) {
        loop {
            self.start = self.at;
            let goes_on = if self.braces { self.in_braces() } else { self.statement() };
            if !goes_on {
                return;
            }
        }
    }

    fn begins_name(&self, c: char) -> bool {
        is_alpha(c) || self.unquoted_names && !c.is_ascii() && c.is_alphabetic()
    }

    /// The rest of a name.
    fn name(&mut self, colons: bool) {
        while self.peek().is_some_and(|c| {
            self.begins_name(c) || c.is_ascii_digit() || self.unquoted_names && c == '.' || colons && c == ':'
        }) {
            self.next();
        }
    }

    fn comment_or_space(&mut self) -> bool {
        match self.peek() {
            Some('#') => {
                while self.accept(|c| c != '\n' && c != '\r') {}
                true
            }
            Some(c) if is_space(c) => {
                self.at += 1;
                true
            }
            _ => false,
        }
    }

    fn in_braces(&mut self) -> bool {
        if self.comment_or_space() {
            return true;
        }
        match self.next() {
            None => return self.error("unexpected end of input inside braces"),
            Some(c) if self.begins_name(c) => {
                self.name(false);
                self.emit(Kind::Identifier);
            }
            Some(',') => self.emit(Kind::Comma),
            Some(quote @ ('"' | '\'' | '`')) => return self.string(quote),
            Some('=') => {
                let kind = if self.accept(|c| c == '~') { Kind::Match } else { Kind::Assign };
                self.emit(kind);
            }
            Some('!') => match self.next() {
                Some('~') => self.emit(Kind::NotMatch),
                Some('=') => self.emit(Kind::Operator(BinaryOp::NotEqual)),
                c => return self.error(format!("unexpected character after '!' inside braces: {}", rune(c))),
            },
            Some('{') => return self.error("unexpected left brace '{'"),
            Some('}') => {
                self.emit(Kind::RightBrace);
                self.braces = false;
            }
            c => return self.error(format!("unexpected character inside braces: {}", rune(c))),
        }
        true
    }

    fn statement(&mut self) -> bool {
        if self.comment_or_space() {
            return true;
        }
        match self.next() {
            None => {
                if self.parens != 0 {
                    return self.error("unclosed left parenthesis");
                }
                if self.brackets {
                    return self.error("unclosed left bracket");
                }
                self.emit(Kind::Eof);
                return false;
            }
            Some(',') => self.emit(Kind::Comma),
            Some('*') => self.emit(Kind::Operator(BinaryOp::Mul)),
            Some('/') => self.emit(Kind::Operator(BinaryOp::Div)),
            Some('%') => self.emit(Kind::Operator(BinaryOp::Mod)),
            Some('+') => self.emit(Kind::Operator(BinaryOp::Add)),
            Some('-') => self.emit(Kind::Operator(BinaryOp::Sub)),
            Some('^') => self.emit(Kind::Operator(BinaryOp::Pow)),
            Some('=') => match self.peek() {
                Some('=') => {
                    self.at += 1;
                    self.emit(Kind::Operator(BinaryOp::Equal));
                }
                Some('~') => return self.error("unexpected character after '=': '~'"),
                _ => self.emit(Kind::Assign),
            },
            Some('!') => match self.next() {
                Some('=') => self.emit(Kind::Operator(BinaryOp::NotEqual)),
                c => return self.error(format!("unexpected character after '!': {}", rune(c))),
            },
            Some('<') => {
                let op = match self.peek() {
                    Some('=') => BinaryOp::LessEqual,
                    Some('/') => BinaryOp::TrimUpper,
                    _ => BinaryOp::Less,
                };
                self.at += op.as_str().len() - 1;
                self.emit(Kind::Operator(op));
            }
            Some('>') => {
                let op = match self.peek() {
                    Some('=') => BinaryOp::GreaterEqual,
                    Some('/') => BinaryOp::TrimLower,
                    _ => BinaryOp::Greater,
                };
                self.at += op.as_str().len() - 1;
                self.emit(Kind::Operator(op));
            }
            Some(c) if c.is_ascii_digit() || (c == '.' && self.peek().is_some_and(|c| c.is_ascii_digit())) => {
                self.at = self.start;
                return self.number_or_duration();
            }
            Some(quote @ ('"' | '\'' | '`')) => return self.string(quote),
            Some(c) if self.begins_name(c) || c == ':' => return self.word(c),
            Some('(') => {
                self.emit(Kind::LeftParen);
                self.parens += 1;
            }
            Some(')') => {
                self.emit(Kind::RightParen);
                self.parens -= 1;
                if self.parens < 0 {
                    // The parenthesis itself is no token then.
                    self.out.pop();
                    return self.error("unexpected right parenthesis ')'");
                }
            }
            Some('{') => {
                self.emit(Kind::LeftBrace);
                self.braces = true;
            }
            Some('[') => {
                if self.brackets {
                    return self.error("unexpected left bracket '['");
                }
                self.colon = false;
                self.emit(Kind::LeftBracket);
                self.brackets = true;
            }
            Some(']') => {
                if !self.brackets {
                    return self.error("unexpected right bracket ']'");
                }
                self.emit(Kind::RightBracket);
                self.brackets = false;
            }
            Some('@') => self.emit(Kind::At),
            c => return self.error(format!("unexpected character: {}", rune(c))),
        }
        true
    }

    fn word(&mut self, first: char) -> bool {
        if self.brackets {
            if first == ':' {
                if self.colon {
                    return self.error("unexpected colon ':'");
                }
                self.colon = true;
                self.emit(Kind::Colon);
                return true;
            }
            while self.accept(is_alpha) {}
            let word = match self.text[self.start..self.at].to_ascii_lowercase().as_str() {
                // What they were called until 3.9.
                "min" => "min_of".to_owned(),
                "max" => "max_of".to_owned(),
                word => word.to_owned(),
            };
            match KEYWORDS.iter().find(|(name, _)| *name == word) {
                Some((_, k @ (Keyword::Step | Keyword::Range | Keyword::MaxOf | Keyword::MinOf))) => {
                    self.emit(Kind::Keyword(*k))
                }
                _ if self.out.last().is_some_and(|t| t.kind == Kind::LeftBracket) => {
                    return self.error(format!("unexpected character in duration expression: {}", rune(Some(first))));
                }
                _ => return self.error(format!("unexpected character: {}, expected ':'", rune(Some(first)))),
            }
            return true;
        }
        self.name(true);
        let word = &self.text[self.start..self.at];
        let lower = word.to_ascii_lowercase();
        let kind = match lower.as_str() {
            "inf" | "nan" => Kind::Number,
            "and" => Kind::Operator(BinaryOp::And),
            "or" => Kind::Operator(BinaryOp::Or),
            "unless" => Kind::Operator(BinaryOp::Unless),
            "atan2" => Kind::Operator(BinaryOp::Atan2),
            _ => {
                if let Some((_, op)) = AggregateOp::ALL.iter().find(|(name, _)| *name == lower) {
                    Kind::Aggregate(*op)
                } else if let Some((_, keyword)) = KEYWORDS.iter().find(|(name, _)| *name == lower) {
                    let is_fill = matches!(keyword, Keyword::Fill | Keyword::FillLeft | Keyword::FillRight);
                    // A metric may be called `fill`: it is the keyword only in front of a parenthesis.
                    if is_fill && !self.text[self.at..].trim_start_matches(is_space).starts_with('(') {
                        Kind::Identifier
                    } else {
                        Kind::Keyword(*keyword)
                    }
                } else if word.contains(':') {
                    Kind::MetricIdentifier
                } else {
                    Kind::Identifier
                }
            }
        };
        self.emit(kind);
        true
    }

    fn string(&mut self, quote: char) -> bool {
        loop {
            match self.next() {
                Some('\\') if quote != '`' => {
                    if let Err(message) = self.escape(quote) {
                        return self.error(message);
                    }
                }
                None if quote == '`' => return self.error("unterminated raw string"),
                None => return self.error("unterminated quoted string"),
                Some('\n') if quote != '`' => return self.error("unterminated quoted string"),
                Some(c) if c == quote => break,
                Some(_) => {}
            }
        }
        self.emit(Kind::String);
        true
    }

    fn escape(&mut self, quote: char) -> Result<(), String> {
        let name = |c: char| format!("U+{:04X} '{c}'", c as u32);
        let (digits, radix, max) = match self.next() {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => return Ok(()),
            Some(c) if c == quote => return Ok(()),
            Some('0'..='7') => {
                self.at -= 1;
                (3, 8, 255)
            }
            Some('x') => (2, 16, 255),
            Some('u') => (4, 16, char::MAX as u32),
            Some('U') => (8, 16, char::MAX as u32),
            None => return Err("escape sequence not terminated".to_owned()),
            Some(c) => return Err(format!("unknown escape sequence {}", name(c))),
        };
        let mut value: u32 = 0;
        for _ in 0..digits {
            let Some(c) = self.next() else { return Err("escape sequence not terminated".to_owned()) };
            let Some(digit) = c.to_digit(radix) else {
                return Err(format!("illegal character {} in escape sequence", name(c)));
            };
            value = value.wrapping_mul(radix).wrapping_add(digit);
        }
        if value > max || (0xD800..0xE000).contains(&value) {
            return Err("escape sequence is an invalid Unicode code point".to_owned());
        }
        Ok(())
    }

    fn number_or_duration(&mut self) -> bool {
        if self.scan_number() {
            self.emit(Kind::Number);
            return true;
        }
        if self.scan_duration() {
            self.emit(Kind::Duration);
            return true;
        }
        let scanned = Quoted(&self.text[self.start..self.at]).to_string();
        self.error(format!("bad number or duration syntax: {scanned}"))
    }

    fn scan_number(&mut self) -> bool {
        let begin = self.at;
        let mut hex = false;
        if self.accept(|c| c == '0') && self.accept(|c| matches!(c, 'x' | 'X')) {
            self.accept(|c| c == '_');
            hex = true;
        }
        let is_digit = |c: char| if hex { c.is_ascii_hexdigit() } else { c.is_ascii_digit() };
        self.accept(|c| c == '.');
        self.accept(is_digit);
        let (mut dot, mut exponent) = (false, false);
        while let Some(c) = self.peek() {
            if is_digit(c) {
                while self.accept(is_digit) {}
                continue;
            }
            match c {
                '.' => {
                    self.at += 1;
                    if dot || hex || self.accept(|c| matches!(c, '_' | '.')) {
                        return false;
                    }
                    dot = true;
                }
                'e' | 'E' => {
                    self.at += 1;
                    if exponent {
                        return false;
                    }
                    exponent = true;
                    self.accept(|c| matches!(c, '+' | '-'));
                    if self.accept(|c| matches!(c, '.' | '_' | 'e' | 'E')) || self.peek().is_none() {
                        return false;
                    }
                }
                '_' => {
                    self.at += 1;
                    if self.accept(|c| matches!(c, '.' | '_' | 'e' | 'E')) || self.peek().is_none() {
                        return false;
                    }
                }
                _ => break,
            }
        }
        self.at != begin && !self.peek().is_some_and(is_word)
    }

    /// The rest of a duration whose first digits are scanned.
    fn scan_duration(&mut self) -> bool {
        if !self.accept(|c| "smhdwy".contains(c)) {
            return false;
        }
        self.accept(|c| c == 's');
        while self.accept(|c| c.is_ascii_digit()) {
            while self.accept(|c| c.is_ascii_digit()) {}
            if !self.accept(|c| "smhdw".contains(c)) {
                return false;
            }
            self.accept(|c| c == 's');
        }
        if self.peek().is_some_and(is_word) {
            self.next();
            return false;
        }
        true
    }
}

/// The text of a string token: quotes gone, escapes resolved.
pub(super) fn unquote(quoted: &str) -> String {
    let inner = &quoted[1..quoted.len() - 1];
    if quoted.starts_with('`') {
        return inner.replace('\r', "");
    }
    if !inner.contains('\\') {
        return inner.to_owned();
    }
    let mut bytes: Vec<u8> = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    let push = |bytes: &mut Vec<u8>, c: char| bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    while let Some(c) = chars.next() {
        if c != '\\' {
            push(&mut bytes, c);
            continue;
        }
        let escaped = chars.next().unwrap_or('\\');
        let mut number = |first: Option<char>, count: usize, radix: u32| {
            first
                .into_iter()
                .chain(chars.by_ref())
                .take(count)
                .fold(0u32, |n, c| n * radix + c.to_digit(radix).unwrap_or(0))
        };
        match escaped {
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(11),
            'x' => bytes.push(number(None, 2, 16) as u8),
            'u' => push(&mut bytes, char::from_u32(number(None, 4, 16)).unwrap_or(char::REPLACEMENT_CHARACTER)),
            'U' => push(&mut bytes, char::from_u32(number(None, 8, 16)).unwrap_or(char::REPLACEMENT_CHARACTER)),
            digit @ '0'..='7' => bytes.push(number(Some(digit), 3, 8) as u8),
            other => push(&mut bytes, other),
        }
    }
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        let raw = chunk
            .invalid()
            .iter()
            .map(|b| char::from_u32(RAW_BYTES + u32::from(*b)).unwrap_or(char::REPLACEMENT_CHARACTER));
        out.extend(raw);
    }
    out
}
