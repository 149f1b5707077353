//! Which files of a table are merged next. Pure: files and a time in, groups of files out.
//!
//! Files of one tenant and day are merged, neighbours in time first, so that each file is a slice of the day and a query for an hour reads little.
//! A commit every ten seconds makes thousands of files a day, and each row should be written anew only a few times, so files go through tiers, each
//! eight times the size of the one before: eight neighbours of a tier make one of the next. A file of the target size is left alone. Once a
//! day is quiet, what is left of it is merged whatever its tier, but a large file is not written anew for the sake of a few rows.

use std::collections::BTreeMap;

use super::facts::Facts;

/// Files of a tier that make one of the next.
const FAN_IN: usize = 8;
/// Files merged at once: each is an open reader.
const MAX_INPUTS: usize = 64;
/// The lowest tier ends here.
const FIRST_TIER_BYTES: u64 = 1 << 20;

/// What to merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eagerness {
    /// Where enough of one size lie side by side, or their day is quiet.
    Steady,
    /// All that is not of the target size.
    Everything,
}

/// Sizes that a plan keeps to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// A file of this size or more is done.
    pub(super) target_bytes: u64,
    /// Files that come to more are not merged at once.
    pub(super) max_bytes: u64,
    /// Milliseconds without a new file after which a day is quiet.
    pub(super) quiet_ms: i64,
}

/// Files to be merged, in the order of their rows in time.
pub(super) type Group = Vec<Facts>;

/// The groups to merge, oldest day first. No file is in two.
pub(super) fn plan(files: Vec<Facts>, sizes: Sizes, eagerness: Eagerness, now_ms: i64) -> Vec<Group> {
    let mut partitions: BTreeMap<(Option<String>, Option<String>), Vec<Facts>> = BTreeMap::new();
    for facts in files.into_iter().filter(|facts| facts.size_bytes < sizes.target_bytes) {
        partitions.entry((facts.file.date.clone(), facts.file.tenant.clone())).or_default().push(facts);
    }
    let mut groups = Vec::new();
    for mut files in partitions.into_values() {
        files.sort_by(|a, b| key(a).cmp(&key(b)));
        let last_ms = files.iter().map(|facts| facts.file.added_ms).max().unwrap_or(i64::MIN);
        match eagerness {
            Eagerness::Everything => groups.extend(bins(files, sizes)),
            Eagerness::Steady if now_ms.saturating_sub(last_ms) > sizes.quiet_ms => groups.extend(rest(files, sizes)),
            Eagerness::Steady => groups.extend(tiers(files, sizes)),
        }
    }
    groups
}

/// The order of files in time. The path breaks ties, so that a plan is the same whatever order the files came in.
fn key(facts: &Facts) -> (Option<i64>, Option<i64>, i64, &str) {
    (facts.first_us, facts.first_offset, facts.file.added_ms, &facts.file.path)
}

fn tier(facts: &Facts) -> u32 {
    let mut tier = 0;
    let mut end = FIRST_TIER_BYTES;
    while facts.size_bytes >= end {
        tier += 1;
        end = end.saturating_mul(FAN_IN as u64);
    }
    tier
}

/// Runs of neighbours of one tier, where they are enough for the next one.
fn tiers(files: Vec<Facts>, sizes: Sizes) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut run: Vec<Facts> = Vec::new();
    let close = |run: &mut Vec<Facts>, groups: &mut Vec<Group>| {
        let bytes: u64 = run.iter().map(|facts| facts.size_bytes).sum();
        if run.len() >= FAN_IN || (run.len() > 1 && bytes >= sizes.target_bytes) {
            groups.extend(bins(std::mem::take(run), sizes).into_iter().filter(|group| group.len() >= FAN_IN / 2));
        }
        run.clear();
    };
    for facts in files {
        if run.last().is_some_and(|last| tier(last) != tier(&facts)) {
            close(&mut run, &mut groups);
        }
        run.push(facts);
    }
    close(&mut run, &mut groups);
    groups
}

/// What is left of a day: the small ones, and larger ones that are not more than eight times what they are merged with.
fn rest(files: Vec<Facts>, sizes: Sizes) -> Vec<Group> {
    let mut ascending: Vec<u64> = files.iter().map(|facts| facts.size_bytes).collect();
    ascending.sort_unstable();
    let mut sum = 0_u64;
    let mut limit = None;
    for (i, size) in ascending.into_iter().enumerate() {
        if i > 0 && size > sum.saturating_mul(FAN_IN as u64) {
            break;
        }
        sum = sum.saturating_add(size);
        limit = (i > 0).then_some(size);
    }
    let Some(limit) = limit else { return Vec::new() };
    bins(files.into_iter().filter(|facts| facts.size_bytes <= limit).collect(), sizes)
}

/// All of these files, in groups of what may be merged at once.
fn bins(files: Vec<Facts>, sizes: Sizes) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut bytes = 0;
    for facts in files {
        match groups.last_mut() {
            Some(group) if group.len() < MAX_INPUTS && bytes + facts.size_bytes <= sizes.max_bytes => {
                bytes += facts.size_bytes;
                group.push(facts);
            }
            _ => {
                bytes = facts.size_bytes;
                groups.push(vec![facts]);
            }
        }
    }
    groups.retain(|group| group.len() > 1);
    groups
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::file;
    use super::*;

    const SIZES: Sizes = Sizes { target_bytes: 128 << 20, max_bytes: 256 << 20, quiet_ms: 1_000 };
    const NOW: i64 = 10_000;

    /// Files of one day, in time order, of these sizes in MiB/4; all just added.
    fn files(sizes: &[i64]) -> Vec<Facts> {
        of_day("2025-11-20", sizes, NOW)
    }

    fn of_day(date: &str, sizes: &[i64], added_ms: i64) -> Vec<Facts> {
        let stats =
            |i: usize| format!(r#"{{"minValues":{{"timestamp":"2025-11-20T00:{:02}:{:02}Z"}}}}"#, i / 60, i % 60);
        let make = |(i, size): (usize, &i64)| {
            let name = format!("{date}-{i:04}");
            Facts::new(file(&name, date, size << 18, added_ms, Some(&stats(i))), "timestamp")
        };
        sizes.iter().enumerate().map(make).collect()
    }

    fn names(groups: &[Group]) -> Vec<Vec<usize>> {
        let number = |facts: &Facts| facts.file.path.rsplit('-').next().unwrap().parse().unwrap();
        groups.iter().map(|group| group.iter().map(number).collect()).collect()
    }

    fn steady(files: Vec<Facts>) -> Vec<Vec<usize>> {
        names(&plan(files, SIZES, Eagerness::Steady, NOW))
    }

    #[test]
    fn eight_neighbours_of_a_tier_make_one_of_the_next() {
        assert!(steady(files(&[1; 7])).is_empty());
        assert_eq!(steady(files(&[1; 8])), [(0..8).collect::<Vec<_>>()]);
        let mut shuffled = files(&[1; 8]);
        shuffled.reverse();
        assert_eq!(steady(shuffled), [(0..8).collect::<Vec<_>>()], "in the order of time, however they come");
        // A larger one in between: neither side has enough.
        assert!(steady(files(&[1, 1, 1, 1, 40, 1, 1, 1, 1])).is_empty());
        // Two tiers at once.
        let sizes: Vec<i64> = [[16; 8].as_slice(), &[1; 9]].concat();
        assert_eq!(steady(files(&sizes)), [(0..8).collect::<Vec<_>>(), (8..17).collect()]);
    }

    #[test]
    fn files_of_the_target_size_are_done() {
        assert!(steady(files(&[512; 20])).is_empty());
        let few = steady(files(&[400, 400]));
        assert_eq!(few, Vec::<Vec<usize>>::new(), "two of them make a target, but two are no group of a steady plan");
        let grown = steady(files(&[100; 8]));
        assert_eq!(grown, [(0..8).collect::<Vec<_>>()]);
    }

    #[test]
    fn a_merge_has_bounds() {
        let many = steady(files(&[1; 200]));
        assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [64, 64, 64, 8]);
        let large = steady(files(&[200; 12]));
        assert_eq!(large.iter().map(Vec::len).collect::<Vec<_>>(), [5, 5], "at most 256 MiB, and no pair left alone");
    }

    #[test]
    fn a_quiet_day_is_merged_whatever_its_tiers() {
        let quiet = |sizes: &[i64]| names(&plan(of_day("2025-11-19", sizes, 0), SIZES, Eagerness::Steady, NOW));
        assert_eq!(quiet(&[1, 8, 60]), [[0, 1, 2]]);
        assert_eq!(quiet(&[1, 300, 1]), [[0, 2]], "a large file is not written anew for two small ones");
        assert!(quiet(&[1, 300]).is_empty());
        assert!(quiet(&[600, 3]).is_empty());
        assert!(quiet(&[5]).is_empty());
    }

    #[test]
    fn days_and_tenants_are_never_mixed() {
        let mut all = of_day("2025-11-19", &[1; 8], NOW);
        all.extend(files(&[1; 8]));
        let mut other = files(&[1; 8]);
        other.iter_mut().for_each(|facts| facts.file.tenant = Some("u".into()));
        all.extend(other);
        let groups = plan(all, SIZES, Eagerness::Everything, NOW);
        assert_eq!(groups.len(), 3);
        for group in groups {
            assert!(
                group.iter().all(|f| (&f.file.tenant, &f.file.date) == (&group[0].file.tenant, &group[0].file.date))
            );
        }
    }

    #[test]
    fn everything_is_everything_below_the_target() {
        let all = names(&plan(files(&[1, 300, 1, 512, 2]), SIZES, Eagerness::Everything, NOW));
        assert_eq!(all, [[0, 1, 2, 4]]);
    }
}
