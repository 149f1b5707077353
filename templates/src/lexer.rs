//! From text to tokens. Outside `{{ }}` there is text; inside, words.

/// A token and the line it begins on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) line: usize,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Text(String),
    Open,
    Close,
    /// White space between words: it separates arguments.
    Space,
    Identifier(String),
    /// `.name`
    Field(String),
    /// `$name`, or `$` alone.
    Variable(String),
    Dot,
    Str(String),
    Int(i64),
    Float(f64),
    Pipe,
    ParenOpen,
    ParenClose,
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
}

type Failed = (usize, String);

/// All tokens of a text, or the line and what is wrong there.
pub(crate) fn lex(text: &str) -> Result<Vec<Token>, Failed> {
    let mut lexer = Lexer { text, at: 0, line: 1, tokens: Vec::new() };
    let mut trim_next = false;
    while lexer.at < text.len() {
        let rest = &text[lexer.at..];
        let Some(open) = rest.find("{{") else {
            lexer.text(rest, trim_next, false);
            break;
        };
        let inside = &rest[open + 2..];
        let trims = inside.starts_with('-') && inside[1..].starts_with([' ', '\t', '\r', '\n']);
        lexer.text(&rest[..open], trim_next, trims);
        lexer.advance(open + 2 + usize::from(trims));
        trim_next = lexer.action()?;
    }
    Ok(lexer.tokens)
}

impl<'a> Lexer<'a> {
    fn push(&mut self, kind: Kind) {
        self.tokens.push(Token { kind, line: self.line });
    }

    fn advance(&mut self, size: usize) {
        self.line += self.text[self.at..self.at + size].matches('\n').count();
        self.at += size;
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn text(&mut self, text: &str, trim_start: bool, trim_end: bool) {
        const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];
        let text = if trim_start { text.trim_start_matches(SPACE) } else { text };
        let text = if trim_end { text.trim_end_matches(SPACE) } else { text };
        if !text.is_empty() {
            self.push(Kind::Text(text.to_owned()));
        }
    }

    /// One action, behind its `{{`. True where what follows is to be trimmed.
    fn action(&mut self) -> Result<bool, Failed> {
        let unclosed = || "unclosed action".to_owned();
        let start = self.rest().trim_start_matches([' ', '\t', '\r', '\n']);
        if start.starts_with("/*") && (start.len() == self.rest().len() || self.text[..self.at].ends_with('-')) {
            let end = start.find("*/").ok_or((self.line, "unclosed comment".to_owned()))?;
            let after = &start[end + 2..];
            let trimmed = after.trim_start_matches([' ', '\t', '\r', '\n']);
            let (trims, size) = if after.starts_with("}}") {
                (false, 2)
            } else if trimmed.len() < after.len() && trimmed.starts_with("-}}") {
                (true, after.len() - trimmed.len() + 3)
            } else {
                return Err((self.line, "comment ends before closing delimiter".to_owned()));
            };
            let skipped = self.rest().len() - after.len() + size;
            self.advance(skipped);
            return Ok(trims);
        }
        self.push(Kind::Open);
        let mut parens = 0_usize;
        loop {
            let rest = self.rest();
            let Some(c) = rest.chars().next() else { return Err((self.line, unclosed())) };
            if rest.starts_with("}}") {
                if parens > 0 {
                    return Err((self.line, "unclosed left paren".to_owned()));
                }
                self.push(Kind::Close);
                self.advance(2);
                return Ok(false);
            }
            match c {
                ' ' | '\t' | '\r' | '\n' => {
                    let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n']);
                    let size = rest.len() - trimmed.len();
                    if trimmed.starts_with("-}}") {
                        if parens > 0 {
                            return Err((self.line, "unclosed left paren".to_owned()));
                        }
                        self.push(Kind::Close);
                        self.advance(size + 3);
                        return Ok(true);
                    }
                    self.push(Kind::Space);
                    self.advance(size);
                }
                '|' => self.one(Kind::Pipe),
                '(' => {
                    parens += 1;
                    self.one(Kind::ParenOpen);
                }
                ')' => {
                    parens = parens.checked_sub(1).ok_or((self.line, "unexpected right paren".to_owned()))?;
                    self.one(Kind::ParenClose);
                }
                ',' => self.one(Kind::Comma),
                ':' if rest.starts_with(":=") => {
                    self.push(Kind::Declare);
                    self.advance(2);
                }
                ':' => return Err((self.line, "expected :=".to_owned())),
                '=' => self.one(Kind::Assign),
                '"' => self.quoted()?,
                '`' => {
                    let end = rest[1..].find('`').ok_or((self.line, "unterminated raw quoted string".to_owned()))?;
                    self.push(Kind::Str(rest[1..=end].to_owned()));
                    self.advance(end + 2);
                }
                '\'' => self.character()?,
                '$' => {
                    let name = word(&rest[1..]);
                    self.push(Kind::Variable(rest[..=name].to_owned()));
                    self.advance(name + 1);
                }
                '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                    let name = word(&rest[1..]);
                    self.push(if name == 0 { Kind::Dot } else { Kind::Field(rest[1..=name].to_owned()) });
                    self.advance(name + 1);
                }
                '+' | '-' | '.' | '0'..='9' => self.number()?,
                c if is_word(c) => {
                    let size = word(rest);
                    let name = &rest[..size];
                    self.push(Kind::Identifier(name.to_owned()));
                    self.advance(size);
                }
                c => return Err((self.line, format!("unrecognized character in action: {c:?}"))),
            }
        }
    }

    fn one(&mut self, kind: Kind) {
        self.push(kind);
        self.advance(1);
    }

    fn quoted(&mut self) -> Result<(), Failed> {
        let bad = |line, what: &str| (line, what.to_owned());
        let rest = self.rest();
        let mut end = 1;
        let mut escaped = false;
        loop {
            match rest[end..].chars().next() {
                None | Some('\n') => return Err(bad(self.line, "unterminated quoted string")),
                Some('"') if !escaped => break,
                Some(c) => {
                    escaped = c == '\\' && !escaped;
                    end += c.len_utf8();
                }
            }
        }
        let text = unquote(&rest[1..end]).ok_or_else(|| (self.line, format!("invalid syntax: {}", &rest[..=end])))?;
        self.push(Kind::Str(text));
        self.advance(end + 1);
        Ok(())
    }

    fn character(&mut self) -> Result<(), Failed> {
        let rest = self.rest();
        let bad = || (self.line, "malformed character constant".to_owned());
        let mut end = 1;
        let mut escaped = false;
        loop {
            match rest[end..].chars().next() {
                None | Some('\n') => return Err((self.line, "unterminated character constant".to_owned())),
                Some('\'') if !escaped => break,
                Some(c) => {
                    escaped = c == '\\' && !escaped;
                    end += c.len_utf8();
                }
            }
        }
        let inner = &rest[1..end];
        let inner = if inner == "\\'" { "'".to_owned() } else { unquote(inner).ok_or_else(bad)? };
        let mut chars = inner.chars();
        let (Some(c), None) = (chars.next(), chars.next()) else { return Err(bad()) };
        self.push(Kind::Int(i64::from(u32::from(c))));
        self.advance(end + 1);
        Ok(())
    }

    fn number(&mut self) -> Result<(), Failed> {
        let rest = self.rest();
        let mut size = 0;
        for (at, c) in rest.char_indices() {
            let before = rest[..at].chars().next_back();
            let sign = matches!(c, '+' | '-')
                && (at == 0 || matches!(before, Some('e' | 'E' | 'p' | 'P')) && !rest.starts_with("0x"));
            if !(sign || c == '.' || is_word(c)) {
                break;
            }
            size = at + c.len_utf8();
        }
        let word = &rest[..size];
        let kind = number(word).ok_or_else(|| (self.line, format!("bad number syntax: {word:?}")))?;
        self.push(kind);
        self.advance(size);
        Ok(())
    }
}

/// A number as Go writes constants.
fn number(word: &str) -> Option<Kind> {
    let (negative, digits) = match word.as_bytes().first()? {
        b'-' => (true, &word[1..]),
        b'+' => (false, &word[1..]),
        _ => (false, word),
    };
    let clean = digits.replace('_', "");
    let lower = clean.to_ascii_lowercase();
    let radix = |prefix: &str, radix| {
        lower
            .strip_prefix(prefix)
            .map(|digits| i64::from_str_radix(digits, radix).ok().map(|n| if negative { -n } else { n }))
    };
    for (prefix, base) in [("0x", 16), ("0b", 2), ("0o", 8)] {
        if let Some(parsed) = radix(prefix, base) {
            return parsed.map(Kind::Int);
        }
    }
    if !lower.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    if lower.contains(['.', 'e']) {
        return lower.parse::<f64>().ok().map(|n| Kind::Float(if negative { -n } else { n }));
    }
    if lower.len() > 1 && lower.starts_with('0') {
        return i64::from_str_radix(&lower, 8).ok().map(|n| Kind::Int(if negative { -n } else { n }));
    }
    lower.parse::<i64>().ok().map(|n| Kind::Int(if negative { -n } else { n }))
}

/// What stands between the quotes of a Go string.
fn unquote(text: &str) -> Option<String> {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.chars().next()?;
        rest = &rest[escape.len_utf8()..];
        let mut digits = |count: usize, radix: u32| -> Option<u32> {
            let value = u32::from_str_radix(rest.get(..count)?, radix).ok()?;
            rest = &rest[count..];
            Some(value)
        };
        match escape {
            'n' => out.push(b'\n'),
            't' => out.push(b'\t'),
            'r' => out.push(b'\r'),
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'v' => out.push(11),
            '\\' => out.push(b'\\'),
            '"' => out.push(b'"'),
            'x' => out.push(u8::try_from(digits(2, 16)?).ok()?),
            'u' => out.extend_from_slice(char::from_u32(digits(4, 16)?)?.encode_utf8(&mut [0; 4]).as_bytes()),
            'U' => out.extend_from_slice(char::from_u32(digits(8, 16)?)?.encode_utf8(&mut [0; 4]).as_bytes()),
            '0'..='7' => {
                let more = digits(2, 8)?;
                out.push(u8::try_from(escape.to_digit(8)? * 64 + more).ok()?);
            }
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn word(text: &str) -> usize {
    text.find(|c| !is_word(c)).unwrap_or(text.len())
}
