//! Stage 1 of PromQL rules: of the rows of one partition of `metrics`, those that a rule looks at go to the task that evaluates it, and behind them how
//! far the partition has come.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher as _;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use highwater_pipeline::data::{Control, time};
use highwater_pipeline::runtime::snapshot::{StateReader, StateWriter};
use highwater_pipeline::runtime::watermark::CLOCK_PERIOD_US;
use highwater_pipeline::runtime::{At, Effects, Input, Processor, ProcessorError, Rows};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use super::plan::{GroupPlan, Selectors};
use super::shards::Shards;
use super::taken::{Addressed, Taken};
use super::ticks::{ROWS, ROWS_VERSION, series_of};
use crate::error::ProcessorsError;
use crate::rollups::filling::hex;

/// Most series whose answer is remembered; beyond, all are forgotten and asked again.
const MAX_KNOWN: usize = 1_000_000;
const SECTION: &str = "promql/router";
const SECTION_VERSION: u64 = 1;

/// Milliseconds of event time after which tasks are told again that a tenant is there.
const INTRODUCED_FOR_MS: i64 = 60_000;

/// Where samples go.
#[derive(Debug)]
pub(crate) struct Routes {
    /// The partitions of the rules topic that have groups, and what these look at.
    routes: Vec<(i32, Selectors)>,
    /// Of which rules, and where these are.
    rules: u64,
}

impl Routes {
    /// Those of these groups; `None` where no rule looks at anything.
    ///
    /// # Errors
    /// Where a selector cannot be run.
    pub(crate) fn of(groups: &[Arc<GroupPlan>], shards: &Shards) -> Result<Option<Self>, ProcessorsError> {
        let mut routes = Vec::new();
        for partition in 0..shards.partitions() {
            let groups = shards.groups(groups, partition);
            if !groups.is_empty() {
                routes.push((partition, Selectors::of(&groups)?));
            }
        }
        if routes.iter().all(|(_, selectors)| selectors.is_empty()) {
            return Ok(None);
        }
        let rules = match routes.as_slice() {
            [(0, selectors)] if shards.partitions() == 1 => selectors.rules,
            several => {
                let mut hasher = XxHash64::with_seed(0);
                for (partition, selectors) in several {
                    hasher.write(&partition.to_le_bytes());
                    hasher.write(&selectors.rules.to_le_bytes());
                }
                hasher.finish()
            }
        };
        Ok(Some(Self { routes, rules }))
    }

    /// Places in `routes` of those that look at a series.
    fn wanting(&self, name: &str, labels: &str) -> Box<[u16]> {
        if !self.routes.iter().any(|(_, selectors)| selectors.may_want(name)) {
            return Box::default();
        }
        let labels = series_of(name, labels);
        let routes = (0_u16..).zip(&self.routes);
        routes.filter(|(_, (_, selectors))| selectors.wants(&labels)).map(|(route, _)| route).collect()
    }
}

/// What an input partition has besides `inner`: the routing of what rules look at.
pub(crate) struct Router {
    inner: Box<dyn Processor>,
    source: Arc<str>,
    topic: Arc<str>,
    partitions: i32,
    routes: Option<Arc<Routes>>,
    state: State,
    /// Per series id, who looks at it. Only a memory: what it says follows from the routes.
    known: HashMap<i64, Box<[u16]>>,
}

/// What has been passed on, as a snapshot has it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    #[serde(flatten)]
    progress: Progress,
    /// Tenants, and at which time, Unix milliseconds, every task that has groups was last given a sample of theirs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    introduced: BTreeMap<String, i64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    watermark_us: Option<i64>,
    idle: bool,
    reported: bool,
    /// Whose samples are passed on: [`Selectors::rules`].
    #[serde(default)]
    rules: Option<u64>,
}

impl Router {
    /// For the task `source` (e.g. `metrics/2`), writing to `topic` of so many partitions. Without routes nothing is written.
    pub(crate) fn new(
        inner: Box<dyn Processor>,
        source: &str,
        topic: &str,
        partitions: i32,
        routes: Option<Arc<Routes>>,
    ) -> Self {
        let (source, topic) = (source.into(), topic.into());
        Self { inner, source, topic, partitions, routes, state: State::default(), known: HashMap::new() }
    }

    fn rows(&mut self, at: At, rows: Rows<'_>, effects: &mut Effects) -> Result<(), ProcessorError> {
        let Some(routes) = self.routes.as_ref().map(Arc::clone) else {
            self.report(at, effects);
            return Ok(());
        };
        let batch = rows.batch;
        let missing = || ProcessorError::new("rows of metrics have no series");
        let text = |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>()).ok_or_else(missing);
        let (names, labels, tenants) = (text("name")?, text("labels")?, text("tenant")?);
        let times = batch.column_by_name(time::COLUMN).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
        let times = times.ok_or_else(missing)?;
        let ids =
            batch.column_by_name("series_id").and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(missing)?;
        if self.known.len() > MAX_KNOWN {
            self.known.clear();
        }
        let mut wanted: Vec<Vec<u32>> = vec![Vec::new(); routes.routes.len()];
        for (row, id) in (0_u32..).zip(ids.values()) {
            let at = row as usize;
            let known = self.known.entry(*id);
            let wanting = known.or_insert_with(|| routes.wanting(names.value(at), labels.value(at)));
            if wanting.is_empty() {
                continue;
            }
            // Whoever asks for absence has to know of tenants whose samples it does not look at.
            if wanted.len() > 1 && introduces(&mut self.state.introduced, tenants.value(at), times.value(at)) {
                wanted.iter_mut().for_each(|rows| rows.push(row));
                continue;
            }
            for route in wanting.iter() {
                wanted[usize::from(*route)].push(row);
            }
        }
        let taken = Taken::of(batch)?;
        for ((partition, _), wanted) in routes.routes.iter().zip(&wanted) {
            let (topic, source) = (&self.topic, &self.source);
            let to = Addressed { topic, partition: *partition, name: ROWS, definition: ROWS_VERSION, source };
            taken.send(wanted, &to, effects)?;
        }
        self.report(at, effects);
        Ok(())
    }

    /// Says how far the partition has come, where that is another second, or it has fallen idle or woken, or with this record other rules get samples: to
    /// those who have groups, and once to those who may have had some.
    fn report(&mut self, at: At, effects: &mut Effects) {
        let second = |us: Option<i64>| us.map(|us| us.div_euclid(CLOCK_PERIOD_US));
        let known = self.state.progress;
        let rules = self.routes.as_ref().map(|routes| routes.rules);
        let next = Progress { watermark_us: at.watermark_us, idle: at.idle, reported: rules.is_some(), rules };
        let is_new = !known.reported || next.rules != known.rules;
        let news = second(next.watermark_us) > second(known.watermark_us) || next.idle != known.idle || is_new;
        let to: Vec<(i32, Option<u64>)> = match &self.routes {
            Some(_) if !news => return,
            Some(routes) => {
                let rules = |partition| {
                    let found = routes.routes.iter().find(|(place, _)| *place == partition);
                    found.map(|(_, selectors)| selectors.rules)
                };
                let all = (0..self.partitions).map(|partition| (partition, rules(partition)));
                all.filter(|(_, rules)| is_new || rules.is_some()).collect()
            }
            // The last rule is gone: what it has left is taken away when time goes on.
            None if known.reported => (0..self.partitions).map(|partition| (partition, None)).collect(),
            None => return,
        };
        self.state.progress = next;
        for (partition, rules) in to {
            let control = Control::Progress {
                source: self.source.to_string(),
                position: at.position,
                watermark_us: at.watermark_us,
                idle: at.idle,
                rules: rules.map(hex),
            };
            effects.push(&self.topic, partition, control.to_record());
        }
    }
}

/// True where it is time to tell all tasks of a tenant, who has a sample at this time, Unix microseconds.
fn introduces(introduced: &mut BTreeMap<String, i64>, tenant: &str, at_us: i64) -> bool {
    let at_ms = at_us.div_euclid(1_000);
    match introduced.get_mut(tenant) {
        Some(known) if at_ms < known.saturating_add(INTRODUCED_FOR_MS) => false,
        Some(known) => {
            *known = at_ms;
            true
        }
        None => {
            introduced.insert(tenant.to_owned(), at_ms);
            true
        }
    }
}

impl Processor for Router {
    fn process(&mut self, at: At, input: Input<'_>, effects: &mut Effects) -> Result<(), ProcessorError> {
        match input {
            Input::Rows(rows) => {
                self.inner.process(at, Input::Rows(rows), effects)?;
                self.rows(at, rows, effects)
            }
            Input::Control(control) => {
                self.inner.process(at, Input::Control(control), effects)?;
                if matches!(control, Control::Clock { .. }) {
                    self.report(at, effects);
                }
                Ok(())
            }
            input @ (Input::Stage(_) | Input::Slice(..)) => self.inner.process(at, input, effects),
            Input::Barrier(writer) => {
                self.write(writer)?;
                self.inner.process(at, Input::Barrier(writer), effects)
            }
        }
    }

    fn restore(&mut self, state: &StateReader) -> Result<(), ProcessorError> {
        if let Some(body) = state.get(SECTION, SECTION_VERSION) {
            self.state = serde_json::from_slice(body)
                .map_err(|e| ProcessorError::caused("section promql/router of the snapshot is unreadable", e))?;
            if self.routes.as_ref().is_some_and(|routes| self.state.progress.rules != Some(routes.rules)) {
                // Whoever has groups now may know of nobody.
                self.state.introduced.clear();
            }
        }
        self.inner.restore(state)
    }

    fn merged_watermark_us(&self) -> Option<i64> {
        self.inner.merged_watermark_us()
    }
}

impl Router {
    fn write(&self, writer: &mut StateWriter) -> Result<(), ProcessorError> {
        let body = serde_json::to_vec(&self.state)
            .map_err(|e| ProcessorError::caused("the state of the router cannot be written", e))?;
        writer.put(SECTION, SECTION_VERSION, body);
        Ok(())
    }
}
