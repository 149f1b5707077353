//! Counters and how fast they go.

use std::collections::HashMap;

use super::sample::Samples;

/// Remembers counters from one collection to the next.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    now_us: i64,
    last: HashMap<String, (i64, u64)>,
    current: HashMap<String, (i64, u64)>,
}

impl Rates {
    /// Starts a collection. Counters that were not in the one before are forgotten.
    pub(crate) fn begin(&mut self, now_us: i64) {
        self.now_us = now_us;
        self.last = std::mem::take(&mut self.current);
    }

    /// Adds `<name>_total` and, where the counter was there before and has not been reset, the gauge
    /// `<name>_per_second`.
    pub(crate) fn counter(&mut self, name: &str, value: u64, labels: &[(&str, &str)], samples: &mut Samples) {
        samples.counter(&format!("{name}_total"), value, labels);
        let key = format!("{name}{labels:?}");
        if let Some((last_us, last_value)) = self.last.get(&key)
            && *last_us < self.now_us
            && *last_value <= value
        {
            let seconds = (self.now_us - last_us) as f64 / 1e6;
            samples.gauge(&format!("{name}_per_second"), (value - last_value) as f64 / seconds, labels);
        }
        self.current.insert(key, (self.now_us, value));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn lines(rates: &mut Rates, now_us: i64, value: u64) -> Vec<String> {
        let labels = BTreeMap::from([("h".to_owned(), "x".to_owned())]);
        let mut samples = Samples::new(now_us, &labels);
        rates.begin(now_us);
        rates.counter("n", value, &[("i", "eth0")], &mut samples);
        let (body, _) = samples.into_parts();
        let text = String::from_utf8(body).unwrap();
        text.lines().map(|line| line.split(",\"timestamp\"").next().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_rate_needs_two_readings_in_order() {
        let mut rates = Rates::default();
        let total = |value: u64| format!(r#"{{"name":"n_total","type":"counter","value":{value}"#);
        let rate = |value: f64| format!(r#"{{"name":"n_per_second","type":"gauge","value":{value}"#);
        assert_eq!(lines(&mut rates, 0, 100), [total(100)]);
        assert_eq!(lines(&mut rates, 2_000_000, 103), [total(103), rate(1.5)]);
        assert_eq!(lines(&mut rates, 3_000_000, 5), [total(5)], "the counter was reset");
        assert_eq!(lines(&mut rates, 3_000_000, 9), [total(9)], "no time has passed");
        assert_eq!(lines(&mut rates, 4_000_000, 9), [total(9), rate(0.0)]);
    }
}
