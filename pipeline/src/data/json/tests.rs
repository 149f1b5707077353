#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

/// Reads one whole text.
fn read(text: &str) -> Result<Value<'_>, SyntaxError> {
    let mut reader = Reader::new(text);
    let value = reader.value()?;
    reader.end().map(|()| value)
}

#[test]
fn reads_values_as_spans() {
    assert_eq!(read(" null ").unwrap(), Value::Null);
    assert_eq!(read("true").unwrap(), Value::Bool(true));
    assert_eq!(read("-1.50e+3").unwrap(), Value::Number("-1.50e+3"));
    assert_eq!(read(r#""a""#).unwrap(), Value::String(Str::plain("a")));
    assert_eq!(read(r#" {"a": [1, {}]} "#).unwrap(), Value::Object(r#"{"a": [1, {}]}"#));
    assert_eq!(read("[ ]").unwrap(), Value::Array("[ ]"));
}

#[test]
fn says_where_and_what() {
    for (text, offset, what) in [
        ("", 0, "expected a value, found the end"),
        ("{\"a\" 1}", 5, "expected `:` after the key"),
        ("{\"a\":1 \"b\":2}", 7, "expected `,` or `}`"),
        ("{\"a\":1,}", 7, "expected a key in quotes"),
        ("{a:1}", 1, "expected a key in quotes"),
        ("[1,]", 3, "expected a value after `,`"),
        ("[1 2]", 3, "expected `,` or `]`"),
        ("[NaN]", 1, "expected a value"),
        ("nul", 0, "expected a value"),
        ("01", 1, "unexpected text after the value"),
        ("1.", 2, "expected a digit"),
        ("1e", 2, "expected a digit"),
        ("-", 1, "expected a digit"),
        ("\"a", 2, "string without closing quote"),
        ("\"a\nb\"", 2, "control character in a string (escape it)"),
        (r#""\x""#, 1, "invalid escape in a string"),
        (r#""\u12g4""#, 1, "invalid escape in a string"),
        ("{} {}", 3, "unexpected text after the value"),
    ] {
        assert_eq!(read(text).unwrap_err(), SyntaxError { offset, what }, "{text:?}");
    }
}

#[test]
fn refuses_what_is_nested_too_deep_without_overflowing_the_stack() {
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert!(read(&deep(64)).is_ok());
    assert_eq!(read(&deep(65)).unwrap_err().what, "nested too deep (more than 64 levels)");
    assert_eq!(read(&"{\"a\":".repeat(1_000_000)).unwrap_err().offset, 64 * 5);
}

#[test]
fn positions_count_lines_and_columns_from_one() {
    let body = b"{\n  \"a\": x\n}";
    assert_eq!(Position::of(body, 9).to_string(), "line 2, column 8 (byte 9)");
    assert_eq!(Position::of(body, 0).to_string(), "line 1, column 1 (byte 0)");
    assert_eq!(Position::of(body, 1_000).line, 3);
}

#[test]
fn half_a_surrogate_pair_reads_as_the_replacement_character() {
    for (text, expected) in [
        (r#""\ud83d\ude00""#, "😀"),
        (r#""\ud83d""#, "\u{fffd}"),
        (r#""\ude00x""#, "\u{fffd}x"),
        (r#""\ud83d\u0041""#, "\u{fffd}A"),
        (r#""\ud83d\n""#, "\u{fffd}\n"),
        (r#""\u0000""#, "\0"),
    ] {
        assert_eq!(read(text).unwrap().as_text().text(), expected, "{text}");
    }
}

#[test]
fn compares_strings_however_they_are_written() {
    let (Value::String(plain), Value::String(escaped)) = (read(r#""a/b""#).unwrap(), read(r#""a\/\u0062""#).unwrap())
    else {
        panic!("both are strings")
    };
    assert!(plain.same_as(escaped) && escaped.same_as(plain));
    assert!(!plain.same_as(Str::plain("a/c")));
}

/// JSON-like text: mostly well-formed, often broken.
fn json_like() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("-0".to_owned()),
        "-?[0-9]{1,4}(\\.[0-9]{0,2})?([eE][+-]?[0-9]{0,2})?",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "\"[a-z\\\\u0-9\"\n]{0,8}\"",
        "[a-z{}\\[\\],:\" ]{0,4}",
    ];
    scalar.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(" , "))),
            prop::collection::vec(("\"[a-c]{0,2}\"", inner), 0..5).prop_map(|members| {
                let members: Vec<_> = members.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn accepts_what_serde_json_accepts(text in json_like()) {
        prop_assert_eq!(read(&text).is_ok(), serde_json::from_str::<IgnoredAny>(&text).is_ok(), "{}", text);
    }

    #[test]
    fn accepts_what_serde_json_accepts_of_anything(text in ".*") {
        prop_assert_eq!(read(&text).is_ok(), serde_json::from_str::<IgnoredAny>(&text).is_ok(), "{}", text);
    }

    #[test]
    fn unescapes_as_serde_json_does(text in any::<String>(), ascii in any::<bool>()) {
        let mut json = serde_json::to_string(&text).unwrap();
        if ascii {
            json = json.chars().map(|c| match c {
                '\0'..='\x7f' => c.to_string(),
                _ => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04X}")).collect(),
            }).collect();
        }
        let value = read(&json).unwrap().as_text();
        prop_assert_eq!(value.text(), text.as_str());
        let mut written = String::new();
        value.write_to(&mut written).unwrap();
        prop_assert_eq!(written, text);
    }
}
