#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use proptest::prelude::*;

use super::*;

fn canonical(mut labels: Vec<(&str, &str)>) -> String {
    normalise(&mut labels);
    let mut text = String::new();
    write_canonical(labels, &mut text);
    text
}

fn series(name: &str, mut labels: Vec<(&str, &str)>) -> String {
    normalise(&mut labels);
    let mut text = String::new();
    write_series(name, &labels, &mut text);
    text
}

#[test]
fn sorts_by_bytes_keeps_the_last_and_drops_the_empty() {
    assert_eq!(canonical(vec![("b", "1"), ("a", "2"), ("B", "3")]), r#"{"B":"3","a":"2","b":"1"}"#);
    assert_eq!(canonical(vec![("a", "1"), ("b", "x"), ("a", "2")]), r#"{"a":"2","b":"x"}"#);
    assert_eq!(canonical(vec![("a", ""), ("b", "x"), ("c", "1"), ("c", "")]), r#"{"b":"x"}"#);
    assert_eq!(canonical(vec![]), "{}");
}

#[test]
fn the_name_stands_at_its_sorted_place() {
    assert_eq!(series("up", vec![("job", "a"), ("Zone", "b")]), r#"{"Zone":"b","__name__":"up","job":"a"}"#);
    assert_eq!(series("up", vec![]), r#"{"__name__":"up"}"#);
}

#[test]
fn ids_are_the_hashes_that_the_format_promises() {
    // Reference values from the xxHash library: XXH64(text, seed 0).
    assert_eq!(series_id(""), 0xef46_db37_51d8_e999_u64.cast_signed());
    assert_eq!(series_id("a"), 0xd24e_c4f1_a98c_6e5b_u64.cast_signed());
    assert_eq!(series_id(&series("up", vec![("job", "a")])), series_id(r#"{"__name__":"up","job":"a"}"#));
    assert_ne!(fingerprint("t", "g", "r", "{}"), fingerprint("t", "gr", "", "{}"));
    assert_eq!(fingerprint("", "", "", "").len(), 16);
    assert_eq!(fingerprint("t", "g", "r", "{}"), format!("{:016x}", XxHash64::oneshot(0, b"t\0g\0r\0{}")));
}

proptest! {
    #[test]
    fn canonical_text_is_what_serde_json_writes(labels in prop::collection::btree_map(any::<String>(), ".+", 0..6)) {
        let pairs: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).rev().collect();
        prop_assert_eq!(canonical(pairs), serde_json::to_string(&labels).unwrap());
    }
}
