//! Names as Prometheus translates OTLP's: letters, digits and underscores, with the unit and `_total` at the end.

/// What a metric is, as far as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suffix {
    /// A monotonic sum: `_total`.
    Total,
    /// A gauge: `_ratio` where its unit is `1`.
    Gauge,
    /// Anything else.
    None,
}

/// A metric's name: words of the name joined by `_`, then the unit's words that are not among them, then the suffix.
pub(super) fn metric(name: &str, unit: &str, suffix: Suffix) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == ':';
    let mut words: Vec<&str> = name.split(|c| !is_word(c)).filter(|word| !word.is_empty()).collect();
    let (main, per) = unit.split_once('/').map_or((unit, ""), |(main, per)| (main, per));
    let clean = |unit: &str| -> String {
        let kept = unit.split(|c| !is_word(c)).filter(|word| !word.is_empty());
        kept.collect::<Vec<_>>().join("_")
    };
    let of_unit = |unit: &str, known: fn(&str) -> Option<&'static str>| -> String {
        let unit = unit.trim();
        // `{request}` annotates a count; it is no unit.
        if unit.is_empty() || unit.contains(['{', '}']) {
            return String::new();
        }
        known(unit).map_or_else(|| clean(unit), str::to_owned)
    };
    let (main, per) = (of_unit(main, unit_word), of_unit(per, per_unit_word));
    if !main.is_empty() && !words.contains(&main.as_str()) {
        words.push(&main);
    }
    if !per.is_empty() && !words.contains(&per.as_str()) {
        words.extend(["per", per.as_str()]);
    }
    match suffix {
        Suffix::Total => {
            words.retain(|word| *word != "total");
            words.push("total");
        }
        Suffix::Gauge if unit.trim() == "1" => {
            words.retain(|word| *word != "ratio");
            words.push("ratio");
        }
        Suffix::Gauge | Suffix::None => {}
    }
    let mut joined = words.join("_");
    if joined.starts_with(|c: char| c.is_ascii_digit()) {
        joined.insert(0, '_');
    }
    joined
}

/// A label's name: every other character becomes `_`; a digit in front gets `key_` before it.
pub(super) fn label(key: &str) -> String {
    let mut name: String = key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert_str(0, "key_");
    }
    name
}

fn unit_word(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "",
        "%" => "percent",
        _ => return None,
    })
}

fn per_unit_word(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_prometheus() {
        for (name, unit, suffix, expected) in [
            ("http.server.request.duration", "s", Suffix::None, "http_server_request_duration_seconds"),
            ("system.network.io", "By", Suffix::Total, "system_network_io_bytes_total"),
            ("system.cpu.utilization", "1", Suffix::Gauge, "system_cpu_utilization_ratio"),
            ("requests", "{request}", Suffix::Total, "requests_total"),
            ("requests_total", "1", Suffix::Total, "requests_total"),
            ("disk.bytes.read", "By", Suffix::Total, "disk_bytes_read_total"),
            ("speed", "m/s", Suffix::Gauge, "speed_meters_per_second"),
            ("rate", "{request}/s", Suffix::Gauge, "rate_per_second"),
            ("odd", "foo.bar", Suffix::Gauge, "odd_foo_bar"),
            ("2xx", "", Suffix::None, "_2xx"),
            ("a--b..c", "", Suffix::None, "a_b_c"),
            ("", "", Suffix::None, ""),
        ] {
            assert_eq!(metric(name, unit, suffix), expected, "{name} {unit}");
        }
    }

    #[test]
    fn labels_too() {
        assert_eq!(label("http.request.method"), "http_request_method");
        assert_eq!(label("2nd"), "key_2nd");
        assert_eq!(label("größe"), "gr__e");
    }
}
