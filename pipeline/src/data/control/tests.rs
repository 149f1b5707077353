#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use super::*;

#[test]
fn is_the_json_that_the_format_promises() {
    let clock = Control::Clock { base_offset: 41, event_time_us: Some(1_700_000_000_000_000), idle: false };
    let text = r#"{"type":"clock","base_offset":41,"event_time_us":1700000000000000,"idle":false}"#;
    assert_eq!(clock.to_bytes(), text);
    assert_eq!(Control::parse(text.as_bytes()), Ok(clock));
    let progress =
        Control::Progress { source: "logs/2".into(), position: 42, watermark_us: None, idle: true, rules: None };
    let text = r#"{"type":"progress","source":"logs/2","position":42,"watermark_us":null,"idle":true}"#;
    assert_eq!(progress.to_bytes(), text);
    assert_eq!(Control::parse(text.as_bytes()), Ok(progress));
    let superseded = Control::Superseded { source: "r/2".into(), window_start_us: 60_000_000, revision: 1 };
    let text = r#"{"type":"superseded","source":"r/2","window_start_us":60000000,"revision":1}"#;
    assert_eq!(superseded.to_bytes(), text);
    assert_eq!(Control::parse(text.as_bytes()), Ok(superseded));
}

#[test]
fn says_what_is_wrong() {
    let error = Control::parse(br#"{"type":"clock","base_offset":"x","idle":false}"#).unwrap_err();
    assert!(error.starts_with("not a control record: invalid type: string"), "{error}");
    assert!(Control::parse(b"{}").is_err());
    assert!(Control::parse(br#"{"type":"clock","base_offset":1,"idle":true,"more":1}"#).is_err());
}
