//! Samples in the text format 0.0.4.

use std::fmt::Write as _;

use highwater_promql::{BUCKET_LABEL, is_classic_label_name, is_classic_metric_name};

use super::names::Names;
use super::{FamilyKind, Newest, NewestValue, classic, families};

/// A page.
pub(super) fn write(samples: &[Newest], names: Names) -> String {
    let mut page = String::new();
    for (name, kind, samples) in families(samples) {
        let name = names.write(name);
        let shown = if is_classic_metric_name(&name) { name.to_string() } else { quote(&name) };
        // The format knows no histograms that are gauges.
        let kind = match kind {
            FamilyKind::Untyped => "untyped",
            FamilyKind::Histogram | FamilyKind::GaugeHistogram => "histogram",
        };
        // Writing to a string does not fail.
        let _written = writeln!(page, "# TYPE {shown} {kind}");
        for sample in samples {
            let mut line = |suffix: &str, le: Option<f64>, value: f64| {
                let name = format!("{name}{suffix}");
                write_line(&mut page, &name, sample, names, le, value);
            };
            match &sample.value {
                NewestValue::Float(value) => line("", None, *value),
                NewestValue::Histogram(histogram) => {
                    for (bound, count) in classic(histogram) {
                        line("_bucket", Some(bound), count);
                    }
                    line("_bucket", Some(f64::INFINITY), histogram.count);
                    line("_sum", None, histogram.sum);
                    line("_count", None, histogram.count);
                }
            }
        }
    }
    page
}

fn write_line(page: &mut String, name: &str, sample: &Newest, names: Names, le: Option<f64>, value: f64) {
    let bare = is_classic_metric_name(name);
    let mut parts: Vec<String> = Vec::new();
    if !bare {
        parts.push(quote(name));
    }
    for (label, value) in sample.labels() {
        let label = names.write(label);
        let label = if is_classic_label_name(&label) { label.to_string() } else { quote(&label) };
        parts.push(format!("{label}={}", quote(value)));
    }
    parts.extend(le.map(|le| format!("{BUCKET_LABEL}=\"{}\"", number(le))));
    let name = if bare { name } else { "" };
    let _written = writeln!(page, "{name}{{{}}} {} {}", parts.join(","), number(value), sample.time_ms);
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// A number as Go's shortest `%g` has it: an exponent below 1e-4 and from 1e6 on.
fn number(value: f64) -> String {
    let scientific = format!("{value:e}");
    let exponent = scientific.split_once('e').and_then(|(digits, exponent)| Some((digits, exponent.parse().ok()?)));
    match exponent {
        Some((digits, exponent)) if value != 0.0 && !(-4..6).contains(&exponent) => {
            let exponent: i32 = exponent;
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => highwater_promql::format_float(value),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{custom, sample};
    use super::*;

    fn line(labels: &[(&str, &str)], names: Names) -> String {
        write(&[sample(labels, NewestValue::Float(2.5))], names).lines().nth(1).unwrap().to_owned()
    }

    #[test]
    fn samples_are_lines_of_the_text_format() {
        let up = [("__name__", "up"), ("instance", "a"), ("text", "a\"\\\nb")];
        assert_eq!(line(&up, Names::Underscores), "up{instance=\"a\",text=\"a\\\"\\\\\\nb\"} 2.5 1500");
        let dotted = [("__name__", "system.usage"), ("host.name", "h")];
        assert_eq!(line(&dotted, Names::Underscores), "system_usage{host_name=\"h\",instance=\"\"} 2.5 1500");
        assert_eq!(line(&dotted, Names::Any), "{\"system.usage\",\"host.name\"=\"h\",instance=\"\"} 2.5 1500");
        assert_eq!(line(&dotted, Names::Values), "U__system_2e_usage{U__host_2e_name=\"h\",instance=\"\"} 2.5 1500");
    }

    #[test]
    fn a_histogram_with_bounds_of_its_own_is_a_classic_one() {
        let page = write(&[sample(&[("__name__", "h"), ("instance", "a")], custom())], Names::Underscores);
        assert_eq!(
            page,
            "# TYPE h histogram\n\
             h_bucket{instance=\"a\",le=\"1\"} 2 1500\n\
             h_bucket{instance=\"a\",le=\"2\"} 2 1500\n\
             h_bucket{instance=\"a\",le=\"4\"} 2 1500\n\
             h_bucket{instance=\"a\",le=\"+Inf\"} 5 1500\n\
             h_sum{instance=\"a\"} 17.5 1500\n\
             h_count{instance=\"a\"} 5 1500\n"
        );
    }

    #[test]
    fn numbers_are_as_go_writes_them() {
        for (value, wanted) in [
            (0.0, "0"),
            (-1.5, "-1.5"),
            (999_999.0, "999999"),
            (1_000_000.0, "1e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (0.0001, "0.0001"),
            (0.000_012, "1.2e-05"),
            (1e-100, "1e-100"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(number(value), wanted);
        }
    }
}
