//! Executing a template.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::TemplateError;
use crate::format::print_value;
use crate::lexer::lex;
use crate::parser::{Arg, Branch, Node, Pipe, parse};
use crate::value::Value;
use crate::{builtins, format};

/// Most bytes that one execution may write.
const MAX_OUTPUT_BYTES: usize = 1 << 20;
/// Deepest nesting of templates that call each other.
const MAX_CALLS: usize = 100;
/// Most nodes that one execution may take.
const MAX_STEPS: usize = 1_000_000;

/// What a template can call besides Go's built-ins.
pub trait Functions {
    /// True where there is a function of this name; asked when a template is parsed.
    fn has(&self, name: &str) -> bool;

    /// Calls it. The error is what the author of the template is told.
    fn call(&self, name: &str, args: &[Value]) -> Result<Value, String>;
}

/// A template that can be executed, with those that it defines.
#[derive(Debug, Clone)]
pub struct Template {
    name: String,
    main: Arc<Vec<Node>>,
    defined: Arc<BTreeMap<String, Vec<Node>>>,
}

/// Templates are the same where they have the same tree.
impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    /// Where it is no template, or names a function or a variable that is not there.
    pub fn parse(name: &str, text: &str, functions: &dyn Functions) -> Result<Self, TemplateError> {
        let failed =
            |(line, reason): (usize, String)| TemplateError { name: name.to_owned(), line, reason, is_syntax: true };
        let tokens = lex(text).map_err(failed)?;
        let known = |function: &str| builtins::has(function) || functions.has(function);
        let parsed = parse(&tokens, &known).map_err(failed)?;
        Ok(Self { name: name.to_owned(), main: Arc::new(parsed.main), defined: Arc::new(parsed.defined) })
    }

    /// The same template, with those that others define as well.
    #[must_use]
    pub fn with_defined(mut self, others: &Template) -> Self {
        let mut defined = (*others.defined).clone();
        defined.extend((*self.defined).clone());
        self.defined = Arc::new(defined);
        self
    }

    /// What it makes of this data.
    ///
    /// # Errors
    /// Where a function fails, a field is missing, values cannot be compared, or it makes too much.
    pub fn execute(&self, data: &Value, functions: &dyn Functions) -> Result<String, TemplateError> {
        let mut run = Run::new(self, data, functions, 0);
        let mut out = String::new();
        let flow = run.list(&self.main, data, &mut out);
        match flow {
            Ok(_) => Ok(out),
            Err(reason) => Err(TemplateError { name: self.name.clone(), line: run.line, reason, is_syntax: false }),
        }
    }
}

enum Flow {
    On,
    Break,
    Continue,
}

struct Run<'a> {
    template: &'a Template,
    functions: &'a dyn Functions,
    variables: Vec<(String, Value)>,
    line: usize,
    steps: usize,
    calls: usize,
}

type Outcome<T> = Result<T, String>;

impl<'a> Run<'a> {
    fn new(template: &'a Template, data: &Value, functions: &'a dyn Functions, calls: usize) -> Self {
        Self { template, functions, variables: vec![("$".to_owned(), data.clone())], line: 1, steps: 0, calls }
    }

    fn list(&mut self, nodes: &[Node], dot: &Value, out: &mut String) -> Outcome<Flow> {
        for node in nodes {
            match self.node(node, dot, out)? {
                Flow::On => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Value, out: &mut String) -> Outcome<Flow> {
        self.steps += 1;
        if self.steps > MAX_STEPS || out.len() > MAX_OUTPUT_BYTES {
            return Err("it makes too much".to_owned());
        }
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    print_value(&value, out);
                }
            }
            Node::If(branch) => return self.choose(branch, dot, false, out),
            Node::With(branch) => return self.choose(branch, dot, true, out),
            Node::Range(branch) => return self.range(branch, dot, out),
            Node::Template { name, pipe, line } => {
                self.line = *line;
                let data = match pipe {
                    Some(pipe) => self.pipe(pipe, dot)?,
                    None => Value::Nil,
                };
                let text = self.call_template(name, &data)?;
                out.push_str(&text);
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn call_template(&mut self, name: &str, data: &Value) -> Outcome<String> {
        let nodes = self.template.defined.get(name).ok_or_else(|| format!("template {name:?} not defined"))?;
        if self.calls >= MAX_CALLS {
            return Err("exceeded maximum template depth".to_owned());
        }
        let mut inner = Run::new(self.template, data, self.functions, self.calls + 1);
        inner.steps = self.steps;
        let mut text = String::new();
        let done = inner.list(nodes, data, &mut text);
        self.steps = inner.steps;
        done.map(|_| text)
    }

    fn choose(&mut self, branch: &Branch, dot: &Value, moves_dot: bool, out: &mut String) -> Outcome<Flow> {
        let scope = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let flow = if value.is_true() {
            self.list(&branch.then, if moves_dot { &value } else { dot }, out)
        } else {
            self.list(&branch.otherwise, dot, out)
        };
        self.variables.truncate(scope);
        flow
    }

    fn range(&mut self, branch: &Branch, dot: &Value, out: &mut String) -> Outcome<Flow> {
        let scope = self.variables.len();
        let over = self.pipe_value(&branch.pipe, dot)?;
        let items: Vec<(Value, Value)> = match &over {
            Value::List(list) => (0..).map(Value::Int).zip(list.iter().cloned()).collect(),
            Value::Strings(map) => map.iter().map(|(k, v)| (Value::text(k), Value::text(v))).collect(),
            Value::Map(map) => map.iter().map(|(k, v)| (Value::text(k), v.clone())).collect(),
            Value::Int(count) if *count <= i64::try_from(MAX_STEPS).unwrap_or(i64::MAX) => {
                (0..(*count).max(0)).map(|i| (Value::Int(i), Value::Int(i))).collect()
            }
            Value::Nil => Vec::new(),
            other => return Err(format!("range can't iterate over {}", format::to_text(other))),
        };
        let mut flow = Flow::On;
        if items.is_empty() {
            flow = self.list(&branch.otherwise, dot, out)?;
        }
        for (key, item) in items {
            match branch.pipe.variables.as_slice() {
                [] => {}
                names if branch.pipe.assigns => {
                    let values = if names.len() == 2 { vec![key, item.clone()] } else { vec![item.clone()] };
                    for (name, value) in names.iter().zip(values) {
                        self.assign(name, value);
                    }
                }
                [name] => self.variables.push((name.clone(), item.clone())),
                [first, second, ..] => {
                    self.variables.push((first.clone(), key));
                    self.variables.push((second.clone(), item.clone()));
                }
            }
            let inner = self.list(&branch.then, &item, out);
            self.variables.truncate(scope);
            match inner? {
                Flow::On | Flow::Continue => {}
                Flow::Break => break,
            }
        }
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn assign(&mut self, name: &str, value: Value) {
        if let Some((_, slot)) = self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            *slot = value;
        }
    }

    /// The value of a pipeline, and its variables set.
    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Outcome<Value> {
        let value = self.pipe_value(pipe, dot)?;
        for name in &pipe.variables {
            if pipe.assigns {
                self.assign(name, value.clone());
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    fn pipe_value(&mut self, pipe: &Pipe, dot: &Value) -> Outcome<Value> {
        self.line = pipe.line;
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Nil))
    }

    fn command(&mut self, command: &[Arg], dot: &Value, last: Option<Value>) -> Outcome<Value> {
        let Some((first, rest)) = command.split_first() else { return Ok(Value::Nil) };
        let mut args = Args { given: rest, last };
        match first {
            Arg::Function(name) => self.function(name, args, dot),
            Arg::Field(names) => self.chain(dot.clone(), names, &mut args, dot).and_then(|v| args.none(v)),
            Arg::Variable(name, names) => {
                let value = self.variable(name)?;
                self.chain(value, names, &mut args, dot).and_then(|v| args.none(v))
            }
            Arg::Pipe(pipe, names) => {
                let value = self.scoped(pipe, dot)?;
                self.chain(value, names, &mut args, dot).and_then(|v| args.none(v))
            }
            Arg::Nil => Err("nil is not a command".to_owned()),
            other => {
                let value = self.operand(other, dot)?;
                args.none(value)
            }
        }
    }

    fn scoped(&mut self, pipe: &Pipe, dot: &Value) -> Outcome<Value> {
        let scope = self.variables.len();
        let value = self.pipe(pipe, dot);
        self.variables.truncate(scope);
        value
    }

    fn variable(&self, name: &str) -> Outcome<Value> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).ok_or_else(|| format!("undefined variable: {name}"))
    }

    fn operand(&mut self, arg: &Arg, dot: &Value) -> Outcome<Value> {
        let none = &mut Args { given: &[], last: None };
        match arg {
            Arg::Dot => Ok(dot.clone()),
            Arg::Nil => Ok(Value::Nil),
            Arg::Bool(flag) => Ok(Value::Bool(*flag)),
            Arg::Int(number) => Ok(Value::Int(*number)),
            Arg::Float(number) => Ok(Value::Float(*number)),
            Arg::Str(text) => Ok(Value::text(text)),
            Arg::Field(names) => self.chain(dot.clone(), names, none, dot),
            Arg::Variable(name, names) => {
                let value = self.variable(name)?;
                self.chain(value, names, none, dot)
            }
            Arg::Function(name) => self.function(name, Args { given: &[], last: None }, dot),
            Arg::Pipe(pipe, names) => {
                let value = self.scoped(pipe, dot)?;
                self.chain(value, names, none, dot)
            }
        }
    }

    /// `.a.b.c`; the last may be a method, which takes the arguments.
    fn chain(&mut self, value: Value, names: &[String], args: &mut Args<'_>, dot: &Value) -> Outcome<Value> {
        let mut value = value;
        for (index, name) in names.iter().enumerate() {
            let is_last = index + 1 == names.len();
            value = match &value {
                Value::Strings(map) => match (map.get(name), name.as_str()) {
                    (Some(found), _) => Value::text(found),
                    // Methods of Alertmanager's maps of labels.
                    (None, "SortedPairs") => pairs(map),
                    (None, "Names") => Value::list(map.keys().map(Value::text).collect()),
                    (None, "Values") => Value::list(map.values().map(Value::text).collect()),
                    (None, _) => Value::text(""),
                },
                Value::Map(map) => map.get(name).cloned().unwrap_or(Value::Nil),
                Value::Struct(_) => match value.field(name) {
                    Some(found) => found.clone(),
                    None => return Err(format!("can't evaluate field {name} in type {}", value.type_name())),
                },
                Value::List(items) => method_of_list(items, name)?,
                Value::Time(_) | Value::Duration(_) => {
                    let given = if is_last { args.take(self, dot)? } else { Vec::new() };
                    builtins::method(&value, name, &given)?
                }
                Value::Nil => return Err(format!("nil data; no entry for key {name:?}")),
                other => return Err(format!("can't evaluate field {name} in type {}", other.type_name())),
            };
        }
        Ok(value)
    }

    fn function(&mut self, name: &str, args: Args<'_>, dot: &Value) -> Outcome<Value> {
        // These two look no further than they have to.
        if name == "and" || name == "or" {
            let Args { given, last } = args;
            let mut value = Value::Nil;
            let mut any = false;
            for arg in given {
                (value, any) = (self.operand(arg, dot)?, true);
                if value.is_true() == (name == "or") {
                    return Ok(value);
                }
            }
            return match last {
                Some(last) => Ok(last),
                None if any => Ok(value),
                None => Err(format!("wrong number of args for {name}: want at least 1 got 0")),
            };
        }
        let mut args = args;
        let values = args.take(self, dot)?;
        let called = match (name, values.as_slice()) {
            ("tmpl", [Value::Str(template), data]) if self.functions.has("tmpl") => {
                self.call_template(template, data).map(Value::from)
            }
            _ if self.functions.has(name) => self.functions.call(name, &values),
            _ => builtins::call(name, &values),
        };
        called.map_err(|reason| format!("error calling {name}: {reason}"))
    }
}

/// The arguments of a command; the last comes through the pipe.
struct Args<'a> {
    given: &'a [Arg],
    last: Option<Value>,
}

impl Args<'_> {
    fn take(&mut self, run: &mut Run<'_>, dot: &Value) -> Outcome<Vec<Value>> {
        let mut values = Vec::with_capacity(self.given.len() + 1);
        for arg in std::mem::take(&mut self.given) {
            values.push(run.operand(arg, dot)?);
        }
        values.extend(self.last.take());
        Ok(values)
    }

    /// The value, where nobody has given it arguments.
    fn none(&self, value: Value) -> Outcome<Value> {
        if self.given.is_empty() && self.last.is_none() {
            return Ok(value);
        }
        Err("can't give argument to non-function".to_owned())
    }
}

/// Labels in the order of their names.
fn pairs(map: &BTreeMap<String, String>) -> Value {
    let pair = |(name, value): (&String, &String)| {
        Value::fields(vec![("Name", Value::text(name)), ("Value", Value::text(value))])
    };
    Value::list(map.iter().map(pair).collect())
}

/// Methods of Alertmanager's lists: of alerts, and of pairs.
fn method_of_list(items: &[Value], name: &str) -> Outcome<Value> {
    let field = |field: &'static str| items.iter().filter_map(|item| item.field(field).cloned()).collect();
    let status = |status: &str| {
        let of = |item: &&Value| item.field("Status").is_some_and(|is| *is == Value::text(status));
        items.iter().filter(of).cloned().collect()
    };
    Ok(Value::list(match name {
        "Firing" => status("firing"),
        "Resolved" => status("resolved"),
        "Names" => field("Name"),
        "Values" => field("Value"),
        _ => return Err(format!("can't evaluate field {name} in type []interface {{}}")),
    }))
}
