//! An answer as lines of `path: value`, read from what its structs print: every field, whatever the message.
//!
//! `MetadataResponse { topics: [MetadataResponseTopic { error_code: 3, name: Some(TopicName("t")) }] }` is
//! `topics[0].error_code: 3` and `topics[0].name: "t"`.

use std::collections::BTreeMap;
use std::fmt::Debug;

/// Values by path.
pub type Lines = BTreeMap<String, String>;

pub fn of(message: &impl Debug) -> Lines {
    let text = format!("{message:#?}");
    let mut lines = Lines::new();
    // What is open: the path up to it, and where it is a list, how many elements came.
    let mut open: Vec<(String, Option<usize>)> = Vec::new();
    for line in text.lines() {
        let line = line.trim().trim_end_matches(',');
        if matches!(line, "}" | ")" | "]") {
            let (path, count) = open.pop().unwrap();
            if let Some(count) = count {
                lines.insert(format!("{path}.len"), count.to_string());
            }
            continue;
        }
        let (name, value) = field(line);
        let path = match (open.last_mut(), name) {
            (None, _) => String::new(),
            (Some((path, Some(count))), _) => {
                *count += 1;
                format!("{path}[{}]", *count - 1)
            }
            (Some((path, None)), Some(name)) if path.is_empty() => name.to_owned(),
            (Some((path, None)), Some(name)) => format!("{path}.{name}"),
            // Some(..), or a type around another.
            (Some((path, None)), None) => path.clone(),
        };
        match value.chars().last() {
            Some('[') => open.push((path, Some(0))),
            Some('{' | '(') => open.push((path, None)),
            _ => {
                let empty_list = value == "[]";
                let path = if empty_list { format!("{path}.len") } else { path };
                lines.insert(path, if empty_list { "0".into() } else { value.to_owned() });
            }
        }
    }
    lines
}

/// The name of a field, if the line has one, and the rest.
fn field(line: &str) -> (Option<&str>, &str) {
    match line.split_once(": ") {
        Some((name, value)) if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => (Some(name), value),
        _ => (None, line),
    }
}

#[test]
fn every_field_has_a_line() {
    #[derive(Debug)]
    struct Id(#[expect(dead_code, reason = "it is printed")] i64);
    #[derive(Debug)]
    #[expect(dead_code, reason = "it is printed")]
    struct Inner {
        code: i16,
        name: Option<&'static str>,
        ids: Vec<Id>,
    }
    #[derive(Debug)]
    #[expect(dead_code, reason = "it is printed")]
    struct Outer {
        all: Vec<Inner>,
        one: Option<Inner>,
        none: Vec<i32>,
    }
    let inner = |code, name| Inner { code, name, ids: vec![Id(7), Id(8)] };
    let lines =
        of(&Outer { all: vec![inner(1, None), inner(2, Some("a: [b"))], one: Some(inner(3, None)), none: vec![] });
    let expected = [
        ("all.len", "2"),
        ("all[0].code", "1"),
        ("all[0].ids.len", "2"),
        ("all[0].ids[0]", "7"),
        ("all[0].ids[1]", "8"),
        ("all[0].name", "None"),
        ("all[1].code", "2"),
        ("all[1].ids.len", "2"),
        ("all[1].ids[0]", "7"),
        ("all[1].ids[1]", "8"),
        ("all[1].name", "\"a: [b\""),
        ("none.len", "0"),
        ("one.code", "3"),
        ("one.ids.len", "2"),
        ("one.ids[0]", "7"),
        ("one.ids[1]", "8"),
        ("one.name", "None"),
    ];
    assert_eq!(lines, expected.map(|(path, value)| (path.to_owned(), value.to_owned())).into());
}
