//! Label sets: sorted, shared, cheap to clone.

use std::fmt;
use std::sync::Arc;

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";
/// The label that holds the upper bound of a classic histogram's bucket.
pub const BUCKET_LABEL: &str = "le";
/// The label that tells a metric's type, where ingest keeps it as a label.
pub const METRIC_TYPE: &str = "__type__";
/// The label that tells a metric's unit, where ingest keeps it as a label.
pub const METRIC_UNIT: &str = "__unit__";

/// One label: name and value.
pub type Label = (Arc<str>, Arc<str>);

/// The labels of a series, `__name__` among them: sorted by name, every name once, no value empty (an empty value is an
/// absent label). A clone is one reference count.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[Label]>);

impl Default for Labels {
    fn default() -> Self {
        Labels(Arc::from(Vec::new()))
    }
}

impl Labels {
    /// No labels.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// From labels in any order. Empty values are left out; of a name given twice the last counts.
    #[must_use]
    pub fn new(mut labels: Vec<Label>) -> Self {
        if !labels.windows(2).all(|w| w[0].0 < w[1].0) {
            labels.sort_by(|a, b| a.0.cmp(&b.0));
            let mut kept: Vec<Label> = Vec::with_capacity(labels.len());
            for label in labels {
                match kept.last_mut() {
                    Some(last) if last.0 == label.0 => *last = label,
                    _ => kept.push(label),
                }
            }
            labels = kept;
        }
        labels.retain(|(_, value)| !value.is_empty());
        Labels(labels.into())
    }

    /// From pairs of strings in any order.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        Self::new(pairs.into_iter().map(|(n, v)| (Arc::from(n.as_ref()), Arc::from(v.as_ref()))).collect())
    }

    /// The value of a label, if it is there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        if self.0.len() <= 8 {
            return self.0.iter().find(|(n, _)| &**n == name).map(|(_, v)| &**v);
        }
        self.0.binary_search_by(|(n, _)| (**n).cmp(name)).ok().map(|i| &*self.0[i].1)
    }

    /// The value of a label, `""` where it is absent, as matchers see it.
    #[must_use]
    pub fn value(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// The metric's name, `""` if it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.value(METRIC_NAME)
    }

    /// All labels, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + '_ {
        self.0.iter().map(|(n, v)| (&**n, &**v))
    }

    /// All labels as they are shared.
    #[must_use]
    pub fn as_slice(&self) -> &[Label] {
        &self.0
    }

    /// All labels in braces, the metric's name as one of them: as Prometheus's errors name a series.
    #[must_use]
    pub fn braced(&self) -> String {
        let label = |(n, v)| {
            if is_classic_label_name(n) { format!("{n}={}", Quoted(v)) } else { format!("{}={}", Quoted(n), Quoted(v)) }
        };
        format!("{{{}}}", self.iter().map(label).collect::<Vec<_>>().join(", "))
    }

    /// How many labels there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These labels with only those that `keep` says yes to.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&str) -> bool) -> Self {
        if self.0.iter().all(|(n, _)| keep(n)) {
            return self.clone();
        }
        Labels(self.0.iter().filter(|(n, _)| keep(n)).cloned().collect::<Vec<_>>().into())
    }

    /// These labels without those that name the metric, its type and its unit: what remains of a series once its values
    /// mean something else.
    #[must_use]
    pub fn without_metric_identity(&self) -> Self {
        self.filter(|n| !is_metric_identity(n))
    }

    /// These labels with one set to a value; an empty value removes it.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut labels: Vec<Label> = self.0.iter().filter(|(n, _)| &**n != name).cloned().collect();
        if !value.is_empty() {
            let at = labels.partition_point(|(n, _)| &**n < name);
            labels.insert(at, (Arc::from(name), Arc::from(value)));
        }
        Labels(labels.into())
    }
}

/// Whether a label is one of those that go once a series is no longer the metric it was.
pub(crate) fn is_metric_identity(name: &str) -> bool {
    name == METRIC_NAME || name == METRIC_TYPE || name == METRIC_UNIT
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(iter: I) -> Self {
        Self::from_pairs(iter)
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As Prometheus writes a series: `name{a="b"}`, with a name that is no classic identifier inside the braces.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        let bare = is_classic_metric_name(name);
        if bare {
            f.write_str(name)?;
            if self.len() == 1 {
                return Ok(());
            }
        }
        f.write_str("{")?;
        let mut first = true;
        if !name.is_empty() && !bare {
            write!(f, "{}", Quoted(name))?;
            first = false;
        }
        for (n, v) in self.iter() {
            if n == METRIC_NAME {
                continue;
            }
            if !first {
                f.write_str(", ")?;
            }
            first = false;
            if is_classic_label_name(n) {
                f.write_str(n)?
            } else {
                write!(f, "{}", Quoted(n))?
            }
            write!(f, "={}", Quoted(v))?;
        }
        f.write_str("}")
    }
}

impl serde::Serialize for Labels {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// Whether a name needs no quotes in front of braces.
#[must_use]
pub fn is_classic_metric_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .enumerate()
            .all(|(i, b)| b.is_ascii_alphabetic() || b == b'_' || b == b':' || (i > 0 && b.is_ascii_digit()))
}

/// Whether a label name needs no quotes.
#[must_use]
pub fn is_classic_label_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().enumerate().all(|(i, b)| b.is_ascii_alphabetic() || b == b'_' || (i > 0 && b.is_ascii_digit()))
}

/// Where the bytes of a string that are no UTF-8 are kept: a query can write any byte, `"\xff"`, and messages show it again.
/// These characters are private use and no name of a label may have them.
pub(crate) const RAW_BYTES: u32 = 0x10_FF00;

/// Whether a string can be the name of a label: any valid UTF-8 but nothing.
pub(crate) fn is_label_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c as u32 >= RAW_BYTES)
}

/// A string in double quotes, escaped as Go's `%q` does.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                '\u{7}' => f.write_str("\\a")?,
                '\u{8}' => f.write_str("\\b")?,
                '\u{c}' => f.write_str("\\f")?,
                '\u{b}' => f.write_str("\\v")?,
                c if c as u32 >= RAW_BYTES => write!(f, "\\x{:02x}", c as u32 - RAW_BYTES)?,
                c if (c as u32) < 0x20 || c as u32 == 0x7f => write!(f, "\\x{:02x}", c as u32)?,
                c if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_and_written_as_prometheus_does() {
        let labels = Labels::from_pairs([("job", "a\"b"), ("__name__", "up"), ("empty", ""), ("a.b", "c")]);
        assert_eq!(labels.to_string(), r#"up{"a.b"="c", job="a\"b"}"#);
        assert_eq!(labels.value("empty"), "");
        assert_eq!(Labels::from_pairs([("__name__", "a.b"), ("x", "1")]).to_string(), r#"{"a.b", x="1"}"#);
        assert_eq!(Labels::empty().to_string(), "{}");
        assert_eq!(Labels::from_pairs([("__name__", "up")]).to_string(), "up");
        assert_eq!(labels.with("job", "").with("zone", "z").to_string(), r#"up{"a.b"="c", zone="z"}"#);
    }
}
