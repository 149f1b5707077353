//! From tokens to a tree.

use std::collections::BTreeMap;

use crate::lexer::{Kind, Token};

/// Deepest nesting of blocks and parentheses.
const MAX_DEPTH: usize = 200;

/// A piece of a template.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Text(String),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template { name: String, pipe: Option<Pipe>, line: usize },
    Break,
    Continue,
}

#[derive(Debug, Clone)]
pub(crate) struct Branch {
    pub(crate) pipe: Pipe,
    pub(crate) then: Vec<Node>,
    pub(crate) otherwise: Vec<Node>,
}

/// `$a, $b := one | two`
#[derive(Debug, Clone)]
pub(crate) struct Pipe {
    pub(crate) line: usize,
    pub(crate) variables: Vec<String>,
    pub(crate) assigns: bool,
    pub(crate) commands: Vec<Vec<Arg>>,
}

/// A word of a command.
#[derive(Debug, Clone)]
pub(crate) enum Arg {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    /// `.a.b`
    Field(Vec<String>),
    /// `$v.a.b`
    Variable(String, Vec<String>),
    Function(String),
    /// `(...).a.b`
    Pipe(Box<Pipe>, Vec<String>),
}

pub(crate) type Failed = (usize, String);

/// The main template, and those that it defines by name.
pub(crate) struct Parsed {
    pub(crate) main: Vec<Node>,
    pub(crate) defined: BTreeMap<String, Vec<Node>>,
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    variables: Vec<String>,
    known: &'a dyn Fn(&str) -> bool,
    defined: BTreeMap<String, Vec<Node>>,
    range_depth: usize,
    depth: usize,
}

/// What ended a list of nodes.
enum End {
    Text,
    Block,
    /// `else`, and what follows it: `if`, `with`.
    Else(Option<String>),
}

/// Reads tokens. `known` says which functions there are.
pub(crate) fn parse(tokens: &[Token], known: &dyn Fn(&str) -> bool) -> Result<Parsed, Failed> {
    let variables = vec!["$".to_owned()];
    let mut parser = Parser { tokens, at: 0, variables, known, defined: BTreeMap::new(), range_depth: 0, depth: 0 };
    let (main, end) = parser.list()?;
    match end {
        End::Text => Ok(Parsed { main, defined: parser.defined }),
        End::Block => Err((parser.line(), "unexpected {{end}}".to_owned())),
        End::Else(_) => Err((parser.line(), "unexpected {{else}}".to_owned())),
    }
}

impl Parser<'_> {
    fn line(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |token| token.line)
    }

    fn fail<T>(&self, reason: impl Into<String>) -> Result<T, Failed> {
        Err((self.line(), reason.into()))
    }

    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn next(&mut self) -> Option<Kind> {
        let kind = self.peek().cloned();
        self.at += 1;
        kind
    }

    fn skip_space(&mut self) {
        while self.peek() == Some(&Kind::Space) {
            self.at += 1;
        }
    }

    fn close(&mut self, context: &str) -> Result<(), Failed> {
        self.skip_space();
        if self.peek() == Some(&Kind::Close) {
            self.at += 1;
            return Ok(());
        }
        self.fail(format!("unexpected {} in {context}", shown(self.peek())))
    }

    fn list(&mut self) -> Result<(Vec<Node>, End), Failed> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail("it is nested too deeply");
        }
        let mut nodes = Vec::new();
        let end = loop {
            match self.next() {
                None => break End::Text,
                Some(Kind::Text(text)) => nodes.push(Node::Text(text)),
                Some(Kind::Open) => {
                    self.skip_space();
                    let keyword = match self.peek() {
                        Some(Kind::Identifier(word)) => word.clone(),
                        _ => String::new(),
                    };
                    match keyword.as_str() {
                        "end" => {
                            self.at += 1;
                            self.close("end")?;
                            break End::Block;
                        }
                        "else" => {
                            self.at += 1;
                            self.skip_space();
                            match self.peek() {
                                Some(Kind::Identifier(word)) if word == "if" || word == "with" => {
                                    let word = word.clone();
                                    self.at += 1;
                                    break End::Else(Some(word));
                                }
                                _ => {
                                    self.close("else")?;
                                    break End::Else(None);
                                }
                            }
                        }
                        "if" | "with" | "range" => {
                            self.at += 1;
                            nodes.push(self.branch(&keyword)?);
                        }
                        "break" | "continue" => {
                            self.at += 1;
                            if self.range_depth == 0 {
                                return self.fail(format!("{{{{{keyword}}}}} outside {{{{range}}}}"));
                            }
                            self.close(&keyword)?;
                            nodes.push(if keyword == "break" { Node::Break } else { Node::Continue });
                        }
                        "define" => {
                            self.at += 1;
                            let name = self.name("define")?;
                            self.close("define")?;
                            let body = self.body("define")?;
                            self.defined.insert(name, body);
                        }
                        "template" => {
                            self.at += 1;
                            let line = self.line();
                            let name = self.name("template clause")?;
                            self.skip_space();
                            let pipe = match self.peek() {
                                Some(Kind::Close) => {
                                    self.at += 1;
                                    None
                                }
                                _ => Some(self.pipeline("template clause", &Kind::Close)?),
                            };
                            nodes.push(Node::Template { name, pipe, line });
                        }
                        "block" => {
                            self.at += 1;
                            let line = self.line();
                            let name = self.name("block clause")?;
                            let pipe = self.pipeline("block clause", &Kind::Close)?;
                            let body = self.body("block clause")?;
                            self.defined.insert(name.clone(), body);
                            nodes.push(Node::Template { name, pipe: Some(pipe), line });
                        }
                        _ => nodes.push(Node::Action(self.pipeline("command", &Kind::Close)?)),
                    }
                }
                Some(other) => return self.fail(format!("unexpected {}", shown(Some(&other)))),
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    /// The body of a template of its own: it sees none of the variables here.
    fn body(&mut self, context: &str) -> Result<Vec<Node>, Failed> {
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let ranges = std::mem::take(&mut self.range_depth);
        let (body, end) = self.list()?;
        (self.variables, self.range_depth) = (outer, ranges);
        match end {
            End::Block => Ok(body),
            End::Text => self.fail("unexpected EOF"),
            End::Else(_) => self.fail(format!("unexpected {{{{else}}}} in {context}")),
        }
    }

    fn name(&mut self, context: &str) -> Result<String, Failed> {
        self.skip_space();
        match self.next() {
            Some(Kind::Str(name)) => Ok(name),
            other => self.fail(format!("unexpected {} in {context}", shown(other.as_ref()))),
        }
    }

    fn branch(&mut self, keyword: &str) -> Result<Node, Failed> {
        let scope = self.variables.len();
        let pipe = self.pipeline(keyword, &Kind::Close)?;
        let is_range = keyword == "range";
        self.range_depth += usize::from(is_range);
        let (then, end) = self.list()?;
        self.range_depth -= usize::from(is_range);
        let otherwise = match end {
            End::Block => Vec::new(),
            End::Text => return self.fail("unexpected EOF"),
            End::Else(None) => match self.list()? {
                (otherwise, End::Block) => otherwise,
                (_, End::Text) => return self.fail("unexpected EOF"),
                (_, End::Else(_)) => return self.fail("expected end; found {{else}}"),
            },
            // `else if` is an `if` in the `else` that shares its `end`.
            End::Else(Some(next)) if next == keyword => vec![self.branch(&next)?],
            End::Else(Some(next)) => return self.fail(format!("unexpected {{{{else {next}}}}} in {keyword}")),
        };
        self.variables.truncate(scope);
        let branch = Branch { pipe, then, otherwise };
        Ok(match keyword {
            "if" => Node::If(branch),
            "with" => Node::With(branch),
            _ => Node::Range(branch),
        })
    }

    fn pipeline(&mut self, context: &str, end: &Kind) -> Result<Pipe, Failed> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail("it is nested too deeply");
        }
        self.skip_space();
        let line = self.line();
        let (variables, assigns) = self.declarations(context)?;
        let mut commands: Vec<Vec<Arg>> = Vec::new();
        loop {
            self.skip_space();
            let command = self.command(context, end)?;
            if command.is_empty() {
                return self.fail(match commands.is_empty() {
                    true => format!("missing value for {context}"),
                    false => format!("missing value for {context} behind `|`"),
                });
            }
            if !commands.is_empty()
                && !matches!(command[0], Arg::Function(_) | Arg::Field(_) | Arg::Variable(..) | Arg::Pipe(..))
            {
                return self.fail(format!("non executable command in pipeline stage {}", commands.len() + 1));
            }
            commands.push(command);
            self.skip_space();
            match self.next() {
                Some(Kind::Pipe) => {}
                Some(kind) if kind == *end => break,
                other => {
                    self.at -= 1;
                    return self.fail(format!("unexpected {} in {context}", shown(other.as_ref())));
                }
            }
        }
        // Known from here on: `{{ $a := $a }}` means an earlier one.
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        self.depth -= 1;
        Ok(Pipe { line, variables, assigns, commands })
    }

    fn declarations(&mut self, context: &str) -> Result<(Vec<String>, bool), Failed> {
        let start = self.at;
        let mut names = Vec::new();
        while let Some(Kind::Variable(name)) = self.peek().cloned() {
            self.at += 1;
            self.skip_space();
            match self.peek() {
                Some(Kind::Declare) => {
                    self.at += 1;
                    names.push(name);
                    return Ok((names, false));
                }
                Some(Kind::Assign) => {
                    self.at += 1;
                    names.push(name);
                    if let Some(unknown) = names.iter().find(|name| !self.variables.contains(name)) {
                        return self.fail(format!("undefined variable {unknown:?}"));
                    }
                    return Ok((names, true));
                }
                Some(Kind::Comma) if context == "range" && names.is_empty() => {
                    self.at += 1;
                    self.skip_space();
                    names.push(name);
                }
                _ => break,
            }
        }
        self.at = start;
        Ok((Vec::new(), false))
    }

    fn command(&mut self, context: &str, end: &Kind) -> Result<Vec<Arg>, Failed> {
        let mut args = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                None => return self.fail("unclosed action"),
                Some(kind) if kind == end || *kind == Kind::Pipe => return Ok(args),
                _ => {}
            }
            args.push(self.operand(context)?);
            match self.peek() {
                Some(Kind::Space | Kind::Pipe) => {}
                Some(kind) if kind == end => {}
                other => {
                    let found = shown(other);
                    return self.fail(format!("unexpected {found} in operand"));
                }
            }
        }
    }

    fn operand(&mut self, context: &str) -> Result<Arg, Failed> {
        let kind = self.next();
        let arg = match kind {
            Some(Kind::Dot) => Arg::Dot,
            Some(Kind::Str(text)) => Arg::Str(text),
            Some(Kind::Int(number)) => Arg::Int(number),
            Some(Kind::Float(number)) => Arg::Float(number),
            Some(Kind::Identifier(word)) => match word.as_str() {
                "nil" => Arg::Nil,
                "true" => Arg::Bool(true),
                "false" => Arg::Bool(false),
                _ if (self.known)(&word) => Arg::Function(word),
                _ => {
                    self.at -= 1;
                    return self.fail(format!("function {word:?} not defined"));
                }
            },
            Some(Kind::Field(name)) => {
                let mut names = vec![name];
                names.extend(self.fields());
                return Ok(Arg::Field(names));
            }
            Some(Kind::Variable(name)) => {
                if !self.variables.contains(&name) {
                    self.at -= 1;
                    return self.fail(format!("undefined variable {name:?}"));
                }
                return Ok(Arg::Variable(name, self.fields()));
            }
            Some(Kind::ParenOpen) => {
                let pipe = self.pipeline("parenthesized pipeline", &Kind::ParenClose)?;
                return Ok(Arg::Pipe(Box::new(pipe), self.fields()));
            }
            other => {
                self.at -= 1;
                return self.fail(format!("unexpected {} in {context}", shown(other.as_ref())));
            }
        };
        if let Some(Kind::Field(name)) = self.peek() {
            return self.fail(format!("unexpected . after term {name:?}"));
        }
        Ok(arg)
    }

    fn fields(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(Kind::Field(name)) = self.peek() {
            names.push(name.clone());
            self.at += 1;
        }
        names
    }
}

fn shown(kind: Option<&Kind>) -> String {
    match kind {
        None => "EOF".to_owned(),
        Some(Kind::Identifier(word)) => format!("<{word}>"),
        Some(Kind::Field(word)) => format!("<.{word}>"),
        Some(Kind::Variable(word)) => format!("<{word}>"),
        Some(Kind::Close) => "\"}}\"".to_owned(),
        Some(Kind::Open) => "\"{{\"".to_owned(),
        Some(Kind::Str(text)) => format!("{text:?}"),
        Some(Kind::Int(number)) => format!("\"{number}\""),
        Some(Kind::Float(number)) => format!("\"{number}\""),
        Some(Kind::Pipe) => "\"|\"".to_owned(),
        Some(Kind::ParenOpen) => "\"(\"".to_owned(),
        Some(Kind::ParenClose) => "\")\"".to_owned(),
        Some(Kind::Comma) => "\",\"".to_owned(),
        Some(Kind::Declare) => "\":=\"".to_owned(),
        Some(Kind::Assign) => "\"=\"".to_owned(),
        Some(Kind::Dot) => "<.>".to_owned(),
        Some(Kind::Space) => "space".to_owned(),
        Some(Kind::Text(_)) => "text".to_owned(),
    }
}
