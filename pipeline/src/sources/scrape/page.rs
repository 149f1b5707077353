//! From a page to rows: samples, what went stale, and the report about the scrape.
//!
//! A target's series are remembered by the text that names them, so that a page that says what it said before costs a look-up per sample. Pure but for
//! what it remembers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::exposition::{self, Event, Format, Kind, Options};
use super::series::Series;
use super::target::Target;
use crate::data::histogram;

/// One row to write.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) series: Arc<Series>,
    pub(super) timestamp_ms: i64,
    pub(super) sample: RowSample,
}

/// What a row says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RowSample {
    Value(f64),
    Histogram(Vec<u8>),
    Stale,
}

/// What a family is, for those who ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) help: String,
    pub(super) unit: String,
}

/// What came of a scrape.
#[derive(Debug, Default)]
pub(super) struct Scraped {
    pub(super) rows: Vec<Row>,
    pub(super) families: Vec<Family>,
    /// Why it failed, if it did.
    pub(super) error: Option<String>,
    pub(super) counts: Counts,
}

/// What the report says in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Samples of the page.
    pub(super) scraped: usize,
    /// Those that relabelling left.
    pub(super) kept: usize,
    /// Series that were not known before.
    pub(super) added: usize,
}

/// What is remembered of a target.
#[derive(Debug, Default)]
pub(super) struct Memory {
    known: HashMap<Box<str>, Known>,
    /// Series of the last scrape that go stale if this one has them not.
    tracked: HashMap<i64, Arc<Series>>,
    /// The target that `known` was worked out for.
    target: Option<Arc<Target>>,
    round: u64,
    reports: Vec<Arc<Series>>,
}

#[derive(Debug)]
struct Known {
    /// `None`: dropped.
    series: Option<Arc<Series>>,
    round: u64,
}

/// The series of the report, in its order; the last three where a job asks for them.
const REPORTS: [&str; 8] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];
/// Those that every job has.
const PLAIN_REPORTS: usize = 5;

/// What is known of a scrape beside its page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scrape {
    /// When it was.
    pub(super) at_ms: i64,
    /// How long it took.
    pub(super) seconds: f64,
    /// How large the page was, decompressed; `None` where it was larger than it may be.
    pub(super) size_bytes: Option<usize>,
}

impl Memory {
    /// Takes a page in, or the reason why there is none.
    pub(super) fn take(
        &mut self,
        target: &Arc<Target>,
        page: Result<(&[u8], Format), String>,
        scrape: Scrape,
    ) -> Scraped {
        let at_ms = scrape.at_ms;
        self.meet(target);
        self.round += 1;
        let mut scraped = Scraped::default();
        let read = page.and_then(|(page, format)| self.read(target, page, format, at_ms, &mut scraped));
        let seen = match read {
            Ok(seen) => {
                let round = self.round;
                self.known.retain(|_, known| known.round == round);
                seen
            }
            Err(error) => {
                scraped.rows.clear();
                scraped.families.clear();
                scraped.error = Some(error);
                HashMap::new()
            }
        };
        let gone = self.tracked.iter().filter(|(id, _)| !seen.contains_key(id)).map(|(_, series)| series);
        scraped.rows.extend(gone.map(|series| Row::stale(series, at_ms)));
        self.tracked = seen;
        let Counts { scraped: all, kept, added } = scraped.counts;
        let up = if scraped.error.is_none() { 1.0 } else { 0.0 };
        let size = scrape.size_bytes.map_or(-1.0, |size_bytes| size_bytes as f64);
        let (timeout, limit) = (target.timeout.as_secs_f64(), target.job.sample_limit as f64);
        let numbers = [up, scrape.seconds, all as f64, kept as f64, added as f64, timeout, limit, size];
        for (series, value) in self.reports.iter().zip(numbers) {
            let sample = RowSample::Value(value);
            scraped.rows.push(Row { series: Arc::clone(series), timestamp_ms: at_ms, sample });
        }
        scraped
    }

    /// The end of the target: everything goes stale, the report too.
    pub(super) fn end(&mut self, at_ms: i64) -> Vec<Row> {
        let all = self.tracked.values().chain(&self.reports);
        let rows = all.map(|series| Row::stale(series, at_ms)).collect();
        *self = Self::default();
        rows
    }

    /// True where nothing would go stale.
    pub(super) fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }

    /// What was worked out for other labels or rules holds no more; what may go stale stays.
    fn meet(&mut self, target: &Arc<Target>) {
        if self.target.as_ref().is_some_and(|known| Arc::ptr_eq(known, target) || known == target) {
            return;
        }
        self.known.clear();
        let reports = if target.job.extra_metrics { REPORTS.len() } else { PLAIN_REPORTS };
        self.reports = REPORTS[..reports].iter().map(|name| Arc::new(Series::of_report(name, target))).collect();
        self.target = Some(Arc::clone(target));
    }

    fn read(
        &mut self,
        target: &Target,
        page: &[u8],
        format: Format,
        at_ms: i64,
        scraped: &mut Scraped,
    ) -> Result<HashMap<i64, Arc<Series>>, String> {
        let job = &target.job;
        let options = Options { native_histograms: job.native_histograms, classic_histograms: job.classic_histograms };
        let mut seen = HashMap::with_capacity(self.tracked.len());
        // A series may be there once at a time; what comes again is left out.
        let mut written: HashSet<(i64, i64)> = HashSet::with_capacity(self.tracked.len());
        let (known, round) = (&mut self.known, self.round);
        let Scraped { rows, families, counts, .. } = scraped;
        exposition::read(page, format, options, |event| {
            let (series, timestamp_ms, sample) = match event {
                Event::Type(name, kind) => {
                    family(families, name).kind = kind;
                    return Ok(());
                }
                Event::Help(name, text) => {
                    let text = exposition::series::unescape(text).into_owned();
                    family(families, name).help = text;
                    return Ok(());
                }
                Event::Unit(name, unit) => {
                    unit.clone_into(&mut family(families, name).unit);
                    return Ok(());
                }
                Event::Sample { series, value, timestamp_ms } => (series, timestamp_ms, RowSample::Value(value)),
                Event::Histogram { series, message, timestamp_ms } => {
                    // What is stored can be read without looking twice.
                    match histogram::check(message) {
                        Ok(Ok(_)) => {}
                        Ok(Err(fault)) => return Err(format!("invalid histogram {series:.100}: {fault}")),
                        Err(error) => return Err(format!("invalid histogram {series:.100}: {error}")),
                    }
                    (series, timestamp_ms, RowSample::Histogram(message.to_vec()))
                }
            };
            counts.scraped += 1;
            let known = match known.get_mut(series) {
                Some(known) => known,
                None => {
                    let labels = exposition::series::parse(series)
                        .ok_or_else(|| format!("invalid metric {series:.100}: a label is there twice"))?;
                    let kind = families.last().and_then(|family| family.kind_of(labels.get("__name__")?));
                    let stored = Series::of_sample(labels, target, kind)?.map(Arc::new);
                    counts.added += usize::from(stored.is_some());
                    known.entry(series.into()).or_insert(Known { series: stored, round })
                }
            };
            known.round = round;
            let Some(series) = &known.series else { return Ok(()) };
            counts.kept += 1;
            let explicit_ms = timestamp_ms.filter(|_| job.honor_timestamps);
            let timestamp_ms = explicit_ms.unwrap_or(at_ms);
            if explicit_ms.is_none() || job.track_timestamps_staleness {
                seen.insert(series.id, Arc::clone(series));
            }
            if written.insert((series.id, timestamp_ms)) {
                rows.push(Row { series: Arc::clone(series), timestamp_ms, sample });
            }
            Ok(())
        })
        .map_err(|error| error.to_string())?;
        if job.sample_limit > 0 && counts.kept > job.sample_limit {
            return Err(format!("sample limit exceeded: {} samples, limit {}", counts.kept, job.sample_limit));
        }
        Ok(seen)
    }
}

impl Row {
    fn stale(series: &Arc<Series>, timestamp_ms: i64) -> Self {
        Self { series: Arc::clone(series), timestamp_ms, sample: RowSample::Stale }
    }
}

/// The family of this name; lines about one stand together.
fn family<'f>(families: &'f mut Vec<Family>, name: &str) -> &'f mut Family {
    if families.last().is_none_or(|family| family.name != name) {
        let (help, unit) = (String::new(), String::new());
        families.push(Family { name: name.to_owned(), kind: Kind::Unknown, help, unit });
    }
    let last = families.len() - 1;
    &mut families[last]
}

impl Family {
    /// The column `kind` of a series of this name, where it belongs to the family.
    fn kind_of(&self, series: &str) -> Option<&'static str> {
        let suffix = series.strip_prefix(self.name.as_str())?;
        let belongs = suffix.is_empty()
            || ["_bucket", "_count", "_sum", "_total", "_created", "_gcount", "_gsum", "_info"].contains(&suffix);
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge | Kind::Info | Kind::StateSet => "gauge",
            Kind::Histogram | Kind::GaugeHistogram => "histogram",
            Kind::Summary => "summary",
            Kind::Unknown => return None,
        };
        belongs.then_some(kind)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::config::{GlobalConfig, ScrapeConfigs};
    use super::super::target::{FoundGroup, build};
    use super::*;

    fn target(more: &str) -> Arc<Target> {
        let yaml = format!("[{{ job_name: j, static_configs: [{{ targets: ['h:1'] }}]{more} }}]");
        let written: ScrapeConfigs = serde_saphyr::from_str(&yaml).unwrap();
        let config = written.resolve(&GlobalConfig::default(), Path::new("/")).unwrap();
        let job = Arc::new(config.jobs[0].clone());
        let groups: Vec<_> =
            job.static_configs.iter().cloned().map(|group| FoundGroup { place: None, group }).collect();
        Arc::new(build(&job, &groups).targets.remove(0))
    }

    /// Rows but for the report, as `name labels value @ms`, sorted; then the report's numbers.
    fn told(scraped: &Scraped) -> (Vec<String>, String) {
        let show = |row: &Row| {
            let value = match &row.sample {
                RowSample::Value(value) => value.to_string(),
                RowSample::Histogram(bytes) => format!("{} bytes", bytes.len()),
                RowSample::Stale => "stale".into(),
            };
            (row.series.name.clone(), format!("{}{} {value} @{}", row.series.name, row.series.labels, row.timestamp_ms))
        };
        let (reports, rows): (Vec<_>, Vec<_>) =
            scraped.rows.iter().map(show).partition(|(name, _)| REPORTS.contains(&name.as_str()));
        let mut rows: Vec<_> = rows.into_iter().map(|(_, text)| text).collect();
        rows.sort();
        let numbers: Vec<_> = reports.iter().map(|(_, text)| text.split(' ').nth(1).unwrap().to_owned()).collect();
        (rows, numbers.join(" "))
    }

    fn scrape(memory: &mut Memory, target: &Arc<Target>, page: &str, at_ms: i64) -> (Vec<String>, String) {
        told(&memory.take(target, Ok((page.as_bytes(), Format::Text)), scrape_at(at_ms, 0.5)))
    }

    fn scrape_at(at_ms: i64, seconds: f64) -> Scrape {
        Scrape { at_ms, seconds, size_bytes: Some(9) }
    }

    const AT: &str = r#"{"instance":"h:1","job":"j"}"#;

    #[test]
    fn samples_have_the_targets_labels_and_a_report_follows() {
        let (mut memory, target) = (Memory::default(), target(""));
        let scraped =
            memory.take(&target, Ok((b"# TYPE a counter\na 1\na{x=\"y\"} 2\n", Format::Text)), scrape_at(1_000, 0.5));
        assert_eq!(scraped.rows[0].series.kind, Some("counter"));
        let (rows, report) = told(&scraped);
        assert_eq!(rows, [r#"a{"instance":"h:1","job":"j","x":"y"} 2 @1000"#.to_owned(), format!("a{AT} 1 @1000")]);
        assert_eq!(report, "1 0.5 2 2 2");
        let (_, report) = scrape(&mut memory, &target, "a 1\na{x=\"y\"} 2\nb 3", 2_000);
        assert_eq!(report, "1 0.5 3 3 1", "two are known");
    }

    #[test]
    fn what_disappears_goes_stale_once() {
        let (mut memory, target) = (Memory::default(), target(""));
        scrape(&mut memory, &target, "a 1\nb 2", 1_000);
        assert_eq!(
            scrape(&mut memory, &target, "a 1", 2_000).0,
            [format!("a{AT} 1 @2000"), format!("b{AT} stale @2000")]
        );
        assert_eq!(scrape(&mut memory, &target, "a 1", 3_000).0, [format!("a{AT} 1 @3000")]);
        let failed = memory.take(&target, Err("connection refused".into()), scrape_at(4_000, 0.1));
        assert_eq!(told(&failed), (vec![format!("a{AT} stale @4000")], "0 0.1 0 0 0".into()));
        let failed = memory.take(&target, Err("connection refused".into()), scrape_at(5_000, 0.1));
        assert_eq!(told(&failed).0, [""; 0]);
        scrape(&mut memory, &target, "a 1", 6_000);
        let end: Vec<_> = memory.end(7_000).iter().map(|row| (row.series.name.clone(), row.sample.clone())).collect();
        assert_eq!(end.len(), 6);
        assert!(end.iter().all(|(_, sample)| *sample == RowSample::Stale));
        assert!(memory.is_empty());
    }

    #[test]
    fn times_of_samples_are_honored_and_make_nothing_stale() {
        let (mut memory, honoring) = (Memory::default(), target(""));
        assert_eq!(scrape(&mut memory, &honoring, "a 1 77", 1_000).0, [format!("a{AT} 1 @77")]);
        assert_eq!(scrape(&mut memory, &honoring, "", 2_000).0, [""; 0]);
        let (mut memory, ignoring) = (Memory::default(), target(", honor_timestamps: false"));
        assert_eq!(scrape(&mut memory, &ignoring, "a 1 77", 1_000).0, [format!("a{AT} 1 @1000")]);
        assert_eq!(scrape(&mut memory, &ignoring, "", 2_000).0, [format!("a{AT} stale @2000")]);
        let (mut memory, tracking) = (Memory::default(), target(", track_timestamps_staleness: true"));
        scrape(&mut memory, &tracking, "a 1 77", 1_000);
        assert_eq!(scrape(&mut memory, &tracking, "", 2_000).0, [format!("a{AT} stale @2000")]);
    }

    #[test]
    fn labels_in_conflict_are_renamed_or_honored() {
        let page = r#"a{job="x",exported_job="y",other="z"} 1"#;
        let (rows, _) = scrape(&mut Memory::default(), &target(""), page, 1);
        let renamed =
            r#"a{"exported_exported_job":"x","exported_job":"y","instance":"h:1","job":"j","other":"z"} 1 @1"#;
        assert_eq!(rows, [renamed]);
        let (rows, _) = scrape(&mut Memory::default(), &target(", honor_labels: true"), page, 1);
        assert_eq!(rows, [r#"a{"exported_job":"y","instance":"h:1","job":"x","other":"z"} 1 @1"#]);
    }

    #[test]
    fn relabelling_and_limits() {
        let dropping = target(", metric_relabel_configs: [{ source_labels: [__name__], regex: 'a', action: drop }]");
        assert_eq!(scrape(&mut Memory::default(), &dropping, "a 1\nb 2", 1).1, "1 0.5 2 1 1");
        let limited = target(", sample_limit: 1");
        let failed = Memory::default().take(&limited, Ok((b"a 1\nb 2", Format::Text)), scrape_at(1, 0.5));
        assert!(failed.error.as_ref().unwrap().contains("sample limit exceeded"));
        assert_eq!(told(&failed), (vec![], "0 0.5 2 2 2".into()));
        for (limit, page, said) in [
            (", label_limit: 3", r#"a{x="1"} 1"#, "label_limit exceeded"),
            (", label_name_length_limit: 10", r#"a{x="1",abcdefghijk="2"} 1"#, "label_name_length_limit exceeded"),
            (", label_value_length_limit: 3", r#"a{x="1234"} 1"#, "label_value_length_limit exceeded"),
        ] {
            let failed = Memory::default().take(&target(limit), Ok((page.as_bytes(), Format::Text)), scrape_at(1, 0.5));
            assert!(failed.error.as_ref().is_some_and(|error| error.contains(said)), "{limit}: {:?}", failed.error);
        }
    }

    #[test]
    fn the_report_says_more_where_a_job_asks_for_it() {
        let target = target(", sample_limit: 7, extra_scrape_metrics: true");
        let (mut memory, known) = (Memory::default(), scrape_at(1, 0.5));
        assert_eq!(scrape(&mut memory, &target, "a 1", 1).1, "1 0.5 1 1 1 10 7 9");
        let too_large = Scrape { size_bytes: None, ..known };
        let failed = memory.take(&target, Err("body size limit exceeded".into()), too_large);
        assert_eq!(told(&failed).1, "0 0.5 0 0 0 10 7 -1");
        assert_eq!(memory.end(2).len(), 8);
    }

    #[test]
    fn names_of_old_where_a_job_wants_them() {
        let legacy = target(", metric_name_validation_scheme: legacy");
        let failed = Memory::default().take(&legacy, Ok((b"{\"a.b\"} 1", Format::Text)), scrape_at(1, 0.5));
        assert!(failed.error.as_ref().is_some_and(|error| error.contains("invalid metric name")), "{failed:?}");
        assert_eq!(scrape(&mut Memory::default(), &legacy, "a:b 1", 1).1, "1 0.5 1 1 1");
        assert_eq!(scrape(&mut Memory::default(), &target(""), "{\"a.b\"} 1", 1).1, "1 0.5 1 1 1");
    }

    #[test]
    fn a_page_with_a_mistake_is_not_taken() {
        let (mut memory, target) = (Memory::default(), target(""));
        scrape(&mut memory, &target, "a 1", 1_000);
        let failed = memory.take(&target, Ok((b"a 2\nb", Format::Text)), scrape_at(2_000, 0.5));
        assert!(failed.error.as_ref().unwrap().contains("line 2"));
        assert_eq!(told(&failed).0, [format!("a{AT} stale @2000")]);
        // A series twice at one time is there once.
        assert_eq!(scrape(&mut memory, &target, "a 1\na 2", 3_000).0, [format!("a{AT} 1 @3000")]);
    }

    #[test]
    fn a_changed_rule_makes_other_series_and_the_old_go_stale() {
        let mut memory = Memory::default();
        scrape(&mut memory, &target(""), "a 1", 1_000);
        let renamed = target(", metric_relabel_configs: [{ target_label: z, replacement: new }]");
        assert_eq!(
            scrape(&mut memory, &renamed, "a 1", 2_000).0,
            [r#"a{"instance":"h:1","job":"j","z":"new"} 1 @2000"#.to_owned(), format!("a{AT} stale @2000")]
        );
    }
}
