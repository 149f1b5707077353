#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use proptest::prelude::*;

use super::*;

/// 2024-05-06T07:08:09Z.
const AT_US: i64 = 1_714_979_289_000_000;

#[test]
fn reads_the_spellings_of_rfc_3339() {
    for (text, expected_us) in [
        ("2024-05-06T07:08:09Z", AT_US),
        ("2024-05-06t07:08:09z", AT_US),
        ("2024-05-06 07:08:09", AT_US),
        ("2024-05-06T07:08:09", AT_US),
        (" 2024-05-06T07:08:09Z ", AT_US),
        ("2024-05-06 07:08:09 UTC", AT_US),
        ("2024-05-06T09:08:09+02:00", AT_US),
        ("2024-05-06T09:08:09+0200", AT_US),
        ("2024-05-06T09:08:09 +02", AT_US),
        ("2024-05-05T21:38:09-09:30", AT_US),
        ("2024-05-06T07:08:09.5Z", AT_US + 500_000),
        ("2024-05-06 07:08:09,123", AT_US + 123_000),
        ("2024-05-06T07:08:09.123456789Z", AT_US + 123_456),
        ("2024-05-06T07:08Z", AT_US - 9_000_000),
        ("2024-05-06", AT_US - 25_689_000_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
        ("2000-02-29T00:00:00Z", 951_782_400_000_000),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("0001-01-01T00:00:00Z", MIN_US),
        ("9999-12-31T23:59:59.999999Z", MAX_US),
    ] {
        assert_eq!(parse(text), Some(expected_us), "{text}");
    }
}

#[test]
fn reads_unix_numbers_by_magnitude() {
    for (text, expected_us) in [
        ("1714979289", AT_US),
        ("1714979289000", AT_US),
        ("1714979289000000", AT_US),
        ("1714979289000000000", AT_US),
        ("1714979289.25", AT_US + 250_000),
        ("1714979289.123456", AT_US + 123_456),
        ("1714979289123.5", AT_US + 123_500),
        ("1714979289000000999", AT_US),
        ("1.714979289e9", AT_US),
        ("0", 0),
        ("-1", -1_000_000),
        ("-0.0000005", -1),
        ("99999999999", 99_999_999_999_000_000),
        ("100000000000", 100_000_000_000_000),
    ] {
        assert_eq!(parse(text), Some(expected_us), "{text}");
    }
}

#[test]
fn refuses_what_is_no_instant() {
    for text in [
        "",
        "now",
        "2024-13-01",
        "2024-00-10",
        "2023-02-29",
        "1900-02-29",
        "2024-05-06T24:00:00Z",
        "2024-05-06T07:60:00Z",
        "2024-05-06T07:08:61Z",
        "2024-05-06T07:08:09.Z",
        "2024-05-06T07:08:09+24:00",
        "2024-05-06T07:08:09 CEST",
        "2024-05-06x",
        "2024-5-6",
        "0000-01-01",
        "10000-01-01",
        "12:30:00",
        "1e400",
        "99999999999999999999",
        "1.",
        ".5",
        "1.2.3",
        "0x10",
        "1 2",
        "-",
        "NaN",
        "２０２４-05-06",
    ] {
        assert_eq!(parse(text), None, "{text:?}");
    }
    assert_eq!(from_number(f64::NAN), None);
    assert_eq!(from_number(f64::INFINITY), None);
    assert_eq!(from_number(9.3e18), Some(9_300_000_000_000_000));
    assert_eq!(from_number(1e30), None);
}

#[test]
fn formats_as_rfc_3339_with_microseconds() {
    assert_eq!(format(AT_US + 1), "2024-05-06T07:08:09.000001Z");
    assert_eq!(format(-1), "1969-12-31T23:59:59.999999Z");
}

proptest! {
    #[test]
    fn reads_back_what_it_formats(instant_us in MIN_US..=MAX_US) {
        prop_assert_eq!(parse(&format(instant_us)), Some(instant_us));
    }

    #[test]
    fn agrees_with_chrono(text in "[0-9]{4}-[0-1][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-][01][0-9]:[0-5][0-9])") {
        let expected = chrono::DateTime::parse_from_rfc3339(&text).ok().map(|t| t.timestamp_micros()).filter(|&t| in_range(t));
        prop_assert_eq!(parse(&text), expected);
    }

    #[test]
    fn never_panics(text in ".*") {
        prop_assert!(parse(&text).is_none_or(in_range));
    }
}
