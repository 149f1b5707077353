#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use super::*;
use crate::data::logs::{LogRow, Logs};

/// What a sink is given: (index, service) of rows, (index, reason, bytes) of refused entries.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    rows: Vec<(i32, String)>,
    refused: Vec<(i32, String, String)>,
}

impl<'a> EntrySink<'a, Logs> for Seen {
    fn row(&mut self, index: i32, row: &LogRow<'a>) {
        self.rows.push((index, row.service().unwrap().text().into_owned()));
    }

    fn refused(&mut self, index: i32, refusal: Refusal, bytes: &'a [u8]) {
        self.refused.push((index, refusal.to_string(), String::from_utf8_lossy(bytes).into_owned()));
    }
}

fn read_as(body: &[u8], lines: bool) -> Result<Seen, String> {
    let mut seen = Seen::default();
    read_entries::<Logs>(body, lines, &Limits::default(), &mut seen).map_err(|error| error.to_string())?;
    Ok(seen)
}

fn read(body: &str) -> Result<Seen, String> {
    read_as(body.as_bytes(), false)
}

/// The services of a body in which nothing is refused.
fn services(body: &str) -> Vec<String> {
    let seen = read(body).unwrap();
    assert_eq!(seen.refused, [], "{body}");
    assert!(seen.rows.iter().zip(0..).all(|((index, _), expected)| *index == expected));
    seen.rows.into_iter().map(|(_, service)| service).collect()
}

const A: &str = r#"{"message":"m","service":"a"}"#;
const B: &str = r#"{"message":"m","service":"b"}"#;

#[test]
fn reads_every_form() {
    assert_eq!(services(A), ["a"]);
    assert_eq!(services(&format!("\u{feff} {A} \r\n")), ["a"]);
    assert_eq!(services(&format!("[{A},{B}]")), ["a", "b"]);
    assert_eq!(services(&format!("\u{feff}[ {A} , {B} ]\n")), ["a", "b"]);
    assert_eq!(services(&format!(r#"{{"logs":[{A},{B}]}}"#)), ["a", "b"]);
    assert_eq!(services(&format!("{{ \"lo\\u0067s\" : [ {A} ] , \"logs\":[{B}] }}")), ["a", "b"]);
    assert_eq!(services(&format!("{A}\n{B}")), ["a", "b"]);
    assert_eq!(services(&format!("\n\u{20}\t\n {A} \r\n\r\n{B}\r\n\n")), ["a", "b"]);
    assert_eq!(services(&format!("\u{feff}{A}\n{B}\n")), ["a", "b"]);
    assert_eq!(services("[]"), [""; 0]);
    assert_eq!(services(r#"{"logs":[]}"#), [""; 0]);
    assert_eq!(
        services("{\n  \"message\": \"m\",\n  \"service\": \"a\",\n  \"labels\": {\n    \"x\": 1\n  }\n}\n"),
        ["a"]
    );
}

#[test]
fn a_member_called_logs_is_an_attribute_where_it_is_no_array() {
    assert_eq!(services(r#"{"message":"m","service":"a","logs":"x"}"#), ["a"]);
}

#[test]
fn refuses_entries_one_by_one() {
    let seen = read(&format!("[{A}, 5, {{\"service\":\"x\"}}, [1], {B}]")).unwrap();
    assert_eq!(seen.rows, [(0, "a".to_owned()), (4, "b".to_owned())]);
    let reasons: Vec<_> = seen.refused.iter().map(|(i, reason, bytes)| (*i, reason.as_str(), bytes.as_str())).collect();
    assert_eq!(
        reasons,
        [
            (1, "an entry must be a JSON object, not a number", "5"),
            (2, "`message` is missing", r#"{"service":"x"}"#),
            (3, "an entry must be a JSON object, not an array", "[1]"),
        ]
    );
}

#[test]
fn a_bad_line_refuses_itself_alone() {
    let seen = read(&format!("{A}\n  {{\"message\":\"m\" x}}\n\n{B} trailing\nplain\n{B}")).unwrap();
    assert_eq!(seen.rows, [(0, "a".to_owned()), (4, "b".to_owned())]);
    let reasons: Vec<_> = seen.refused.iter().map(|(i, reason, _)| (*i, reason.as_str())).collect();
    assert_eq!(
        reasons,
        [
            (1, "malformed JSON at line 2, column 18 (byte 47): expected `,` or `}`"),
            (2, "malformed JSON at line 4, column 31 (byte 81): unexpected text after the value"),
            (3, "malformed JSON at line 5, column 1 (byte 90): expected a value"),
        ]
    );
}

#[test]
fn the_first_line_may_be_the_bad_one() {
    for first in ["garbage", "{\"message\":", "{\"a\":1} x", "17", "\"text\""] {
        let seen = read(&format!("{first}\n{A}")).unwrap();
        assert_eq!((seen.rows, seen.refused.len()), (vec![(1, "a".to_owned())], 1), "{first}");
    }
}

#[test]
fn declared_lines_are_lines_even_if_none_is_whole() {
    let seen = read_as(b"garbage\nmore", true).unwrap();
    assert_eq!(seen.refused.len(), 2);
    assert_eq!(read_as(b"[1]", true).unwrap().refused.len(), 1);
}

#[test]
fn malformed_json_refuses_the_whole_body() {
    for (body, expected) in [
        (
            "[{\"message\":\"m\",\"service\":\"a\"},\n{\"message\":]",
            "malformed JSON at line 2, column 12 (byte 43): expected a value",
        ),
        ("{\"message\":\"m\"", "malformed JSON at line 1, column 15 (byte 14): expected `,` or `}`"),
        ("[1] x", "malformed JSON at line 1, column 5 (byte 4): unexpected text after the value"),
        ("{\"logs\":[1}", "malformed JSON at line 1, column 11 (byte 10): expected `,` or `]`"),
        ("{\"logs\":[]} {}", "malformed JSON at line 1, column 13 (byte 12): unexpected text after the value"),
        ("hello", "malformed JSON at line 1, column 1 (byte 0): expected a value"),
        ("\u{feff}hello", "malformed JSON at line 1, column 4 (byte 3): expected a value"),
        ("{\n\"message\": \"m\"\n\"b\": 1}", "malformed JSON at line 3, column 1 (byte 17): expected `,` or `}`"),
    ] {
        assert_eq!(read(body).unwrap_err(), expected, "{body}");
    }
}

#[test]
fn an_empty_body_is_an_error() {
    for body in ["", " ", "\n\n", "\u{feff}"] {
        assert_eq!(read(body).unwrap_err(), BodyError::Empty.to_string(), "{body:?}");
        assert_eq!(read_as(body.as_bytes(), true).unwrap_err(), BodyError::Empty.to_string(), "{body:?}");
    }
}

#[test]
fn a_wrapper_holds_nothing_else() {
    let expected = "unknown field `tenant` beside `logs`: put it into each entry, or leave it out";
    assert_eq!(read(&format!(r#"{{"tenant":"x","logs":[{A}]}}"#)).unwrap_err(), expected);
    assert_eq!(read(&format!(r#"{{"logs":[{A}],"tenant":"x"}}"#)).unwrap_err(), expected);
}

#[test]
fn invalid_utf_8_is_named() {
    let mut body = A.as_bytes().to_vec();
    body[12] = 0xff;
    let expected = "the body is not UTF-8 at line 1, column 13 (byte 12): send JSON in UTF-8";
    assert_eq!(read_as(&body, false).unwrap_err(), expected);
    let array = [b"[", &body[..], b"]"].concat();
    assert_eq!(
        read_as(&array, false).unwrap_err(),
        "the body is not UTF-8 at line 1, column 14 (byte 13): send JSON in UTF-8"
    );
    let lines = [A.as_bytes(), b"\n", &body, b"\n", B.as_bytes()].concat();
    let seen = read_as(&lines, false).unwrap();
    assert_eq!(seen.rows, [(0, "a".to_owned()), (2, "b".to_owned())]);
    let (index, reason, _) = &seen.refused[0];
    let expected = format!("not UTF-8 at line 2, column 13 (byte {})", A.len() + 1 + 12);
    assert_eq!((*index, reason.as_str()), (1, expected.as_str()));
    let first_bad = [&body, &b"\n"[..], B.as_bytes()].concat();
    assert_eq!(read_as(&first_bad, false).unwrap().rows, [(1, "b".to_owned())]);
}
