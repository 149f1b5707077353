//! What a scan looks for: series by matchers, samples by time.

use highwater_promql::{CompiledMatcher, Error, Labels, Matcher};

/// The label that holds a metric's name.
pub(super) const NAME: &str = "__name__";

/// Series that satisfy all matchers of one of the sets, and their samples in a time range.
#[derive(Debug, Clone)]
pub(in crate::prometheus) struct Wanted {
    sets: Vec<Vec<CompiledMatcher>>,
    /// The names that can match, where they are a short list.
    names: Option<Vec<String>>,
    /// First time wanted, Unix milliseconds.
    from_ms: i64,
    /// Last time wanted.
    to_ms: i64,
}

impl Wanted {
    /// Every series that satisfies all matchers of one of these sets. No set at all is every series.
    ///
    /// # Errors
    /// Where a regular expression is none.
    pub(in crate::prometheus) fn new<'a>(
        sets: impl IntoIterator<Item = &'a [Matcher]>,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Self, Error> {
        let compile = |set: &[Matcher]| set.iter().map(Matcher::compile).collect::<Result<Vec<_>, _>>();
        let sets = sets.into_iter().map(compile).collect::<Result<Vec<_>, _>>()?;
        let names = names(&sets);
        Ok(Self { sets, names, from_ms, to_ms })
    }

    /// First and last time wanted, in microseconds.
    pub(super) fn times_us(&self) -> (i64, i64) {
        (self.from_ms.saturating_mul(1000), self.to_ms.saturating_mul(1000).saturating_add(999))
    }

    /// Whether a time is wanted, in microseconds.
    pub(super) fn has_time(&self, time_us: i64) -> bool {
        let (from, to) = self.times_us();
        from <= time_us && time_us <= to
    }

    /// Whether there is anything between these times.
    pub(super) fn overlaps(&self, first_us: i64, last_us: i64) -> bool {
        let (from, to) = self.times_us();
        from <= last_us && first_us <= to
    }

    /// Whether all between these times is wanted.
    pub(super) fn covers(&self, first_us: i64, last_us: i64) -> bool {
        self.has_time(first_us) && self.has_time(last_us)
    }

    /// Whether a series can be wanted whose name lies between these two, bytes compared.
    pub(super) fn may_have_name(&self, least: &[u8], greatest: &[u8]) -> bool {
        let within = |name: &String| least <= name.as_bytes() && name.as_bytes() <= greatest;
        self.names.as_ref().is_none_or(|names| names.iter().any(within))
    }

    /// Whether names are looked at in any way.
    pub(super) fn asks_for_name(&self) -> bool {
        !self.sets.is_empty() && self.sets.iter().all(|set| set.iter().any(|m| m.label() == NAME))
    }

    /// Whether anything but names is looked at.
    pub(super) fn asks_for_labels(&self) -> bool {
        self.sets.iter().flatten().any(|m| m.label() != NAME)
    }

    /// Whether series of this name can be wanted.
    pub(super) fn has_name(&self, name: &str) -> bool {
        let matches = |set: &Vec<CompiledMatcher>| set.iter().filter(|m| m.label() == NAME).all(|m| m.matches(name));
        self.sets.is_empty() || self.sets.iter().any(matches)
    }

    /// Whether this series is wanted.
    pub(super) fn has_series(&self, labels: &Labels) -> bool {
        self.sets.is_empty() || self.sets.iter().any(|set| set.iter().all(|m| m.matches_labels(labels)))
    }
}

/// All names that can match: of each set those that all its matchers of the name allow. `None` where they are not known.
fn names(sets: &[Vec<CompiledMatcher>]) -> Option<Vec<String>> {
    let mut all = Vec::new();
    for set in sets {
        let mut of_names = set.iter().filter(|m| m.label() == NAME);
        let listed = of_names.clone().find_map(CompiledMatcher::literals)?;
        all.extend(listed.into_iter().filter(|name| of_names.all(|m| m.matches(name))).map(str::to_owned));
    }
    (!sets.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use highwater_promql::MatchOp;

    use super::*;

    fn wanted(sets: &[&[Matcher]]) -> Wanted {
        Wanted::new(sets.iter().copied(), 1_000, 2_000).unwrap()
    }

    #[test]
    fn names_are_known_where_they_are_listed() {
        let one = wanted(&[&[Matcher::equal(NAME, "up"), Matcher::equal("job", "a")]]);
        assert!(one.may_have_name(b"a", b"z") && !one.may_have_name(b"a", b"b"));
        assert!(one.has_name("up") && !one.has_name("down"));
        assert!(one.asks_for_name() && one.asks_for_labels());

        let several = [Matcher::new(NAME, MatchOp::Regex, "up|down"), Matcher::new(NAME, MatchOp::NotEqual, "up")];
        let down = wanted(&[&several]);
        assert!(down.may_have_name(b"down", b"down") && !down.may_have_name(b"up", b"up"));

        let any = wanted(&[&[Matcher::equal(NAME, "up")], &[Matcher::equal("job", "a")]]);
        assert!(any.may_have_name(b"a", b"b"));
        assert!(!any.asks_for_name());
        assert!(any.has_name("x"));
        assert!(any.has_series(&Labels::from_pairs([("__name__", "x"), ("job", "a")])));
        assert!(!any.has_series(&Labels::from_pairs([("__name__", "x"), ("job", "b")])));

        let all = wanted(&[]);
        assert!(all.may_have_name(b"a", b"b") && all.has_name("x") && all.has_series(&Labels::empty()));
        assert!(!all.asks_for_name() && !all.asks_for_labels());
    }

    #[test]
    fn a_millisecond_has_all_its_microseconds() {
        let wanted = wanted(&[]);
        assert!(wanted.has_time(1_000_000) && wanted.has_time(2_000_999));
        assert!(!wanted.has_time(999_999) && !wanted.has_time(2_001_000));
        assert!(wanted.overlaps(0, 1_000_000) && !wanted.overlaps(0, 999_999));
        assert!(wanted.covers(1_000_000, 2_000_000) && !wanted.covers(0, 1_000_000));
    }
}
