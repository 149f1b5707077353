//! Histograms as text: as Prometheus shows them, and as test scripts write them.

use std::fmt;

use super::{Bucket, CounterResetHint, Histogram, Side};
use crate::value::format_float_g;

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.lower_inclusive { '[' } else { '(' };
        let close = if self.upper_inclusive { ']' } else { ')' };
        let (lower, upper, count) =
            (format_float_g(self.lower), format_float_g(self.upper), format_float_g(self.count));
        write!(f, "{open}{lower},{upper}{close}:{count}")
    }
}

/// `{count:7, sum:5, [-0.001,0.001]:2, (0.5,1]:5}`
impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", format_float_g(self.count), format_float_g(self.sum))?;
        for bucket in self.side_buckets(Side::Negative).rev() {
            write!(f, ", {bucket}")?;
        }
        if self.zero_count != 0.0 {
            write!(f, ", {}", self.zero_bucket())?;
        }
        for bucket in self.side_buckets(Side::Positive) {
            write!(f, ", {bucket}")?;
        }
        f.write_str("}")
    }
}

impl Histogram {
    /// As test scripts write it: `{{schema:1 count:3 sum:4 buckets:[1 2]}}`.
    #[must_use]
    pub fn test_expression(&self) -> String {
        let g = format_float_g;
        let mut parts: Vec<String> = Vec::new();
        if self.schema != 0 {
            parts.push(format!("schema:{}", self.schema));
        }
        for (name, value) in [
            ("count", self.count),
            ("sum", self.sum),
            ("z_bucket", self.zero_count),
            ("z_bucket_w", self.zero_threshold),
        ] {
            if value != 0.0 {
                parts.push(format!("{name}:{}", g(value)));
            }
        }
        let list = |values: &[f64]| values.iter().map(|v| g(*v)).collect::<Vec<_>>().join(" ");
        if self.is_custom() {
            parts.push(format!("custom_values:[{}]", list(&self.custom_values)));
        }
        match self.counter_reset_hint {
            CounterResetHint::Unknown => {}
            CounterResetHint::CounterReset => parts.push("counter_reset_hint:reset".to_owned()),
            CounterResetHint::NotCounterReset => parts.push("counter_reset_hint:not_reset".to_owned()),
            CounterResetHint::Gauge => parts.push("counter_reset_hint:gauge".to_owned()),
        }
        for (side, offset, buckets) in
            [(Side::Positive, "offset", "buckets"), (Side::Negative, "n_offset", "n_buckets")]
        {
            let populated = self.side(side);
            let (Some((first, _)), Some((last, _))) = (populated.first(), populated.last()) else { continue };
            if *first != 0 {
                parts.push(format!("{offset}:{first}"));
            }
            let mut counts = vec![0.0; (last - first) as usize + 1];
            for (i, count) in &populated {
                counts[(i - first) as usize] = *count;
            }
            parts.push(format!("{buckets}:[{}]", list(&counts)));
        }
        format!("{{{{{}}}}}", parts.join(" "))
    }
}
