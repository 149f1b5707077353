//! One query: waits for its turn, reads what its selectors need, evaluates, ends in time.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use highwater_pipeline::log::Clock;
use highwater_promql::parser::Expr;
use highwater_promql::{
    Answer, Cancel, Error, Labels, Matcher, Options, ParserOptions, Query, Selection, Series, Steps,
};
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use super::Prometheus;
use super::encode::{QueryStats, Samples, Timings};
use super::error::{ApiError, ApiErrorKind};
use super::source::{FEW_SAMPLES, Kept, Prefetched, ReadError, SampleBudget, Snapshot, Wanted};
use crate::engine::Engine;
use crate::error::SqlError;

/// A query as a request asks it.
pub(super) struct Asked<'a> {
    pub(super) tenant: &'a str,
    pub(super) text: &'a str,
    pub(super) steps: Steps,
    /// Shorter than the configured one, or it does not count.
    pub(super) timeout: Option<Duration>,
    pub(super) lookback: Option<Duration>,
}

/// An answer, and how long it took.
pub(super) struct Answered {
    pub(super) answer: Answer,
    pub(super) stats: QueryStats,
}

/// A query at work, on the threads of queries.
struct Work {
    reader: Reader,
    permits: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    text: String,
    parser: ParserOptions,
    steps: Steps,
    options: Options,
    cancel: Cancel,
}

/// What it takes to see the tables of a tenant.
struct Reader {
    engine: Engine,
    kept: Kept,
    tenant: String,
    max_series: usize,
}

impl Reader {
    async fn snapshot(&self) -> Result<Snapshot, ReadError> {
        Snapshot::take(&self.engine, &self.kept, &self.tenant, self.max_series).await
    }
}

/// A query, parsed.
struct Parsed {
    query: Arc<Query>,
    /// What all steps need.
    selections: Vec<Selection>,
    /// Whether each selection is of one selector only.
    asked_once: bool,
    /// Whether it evaluates more often than there are steps.
    has_subquery: bool,
}

/// Longer texts are parsed on a thread of their own.
const SHORT_TEXT_BYTES: usize = 2 << 10;

/// Why some steps could not be evaluated.
enum PartError {
    /// Fewer may do.
    TooManySamples,
    Other(ApiError),
}

impl From<ApiError> for PartError {
    fn from(error: ApiError) -> Self {
        Self::Other(error)
    }
}

impl From<ReadError> for PartError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::TooManySamples => Self::TooManySamples,
            error => Self::Other(error.into()),
        }
    }
}

impl Prometheus {
    /// Which parts of the language are understood.
    pub(super) fn parser_options(&self) -> ParserOptions {
        ParserOptions { experimental_functions: self.config.experimental_functions, ..ParserOptions::default() }
    }

    /// Answers a query.
    pub(super) async fn ask(&self, asked: Asked<'_>) -> Result<Answered, ApiError> {
        let outcome = self.answer(asked).await;
        let name = outcome.as_ref().map_or_else(|error: &ApiError| error.code(), |_| "ok");
        metrics::counter!("highwater_promql_queries_total", "outcome" => name).increment(1);
        outcome
    }

    async fn answer(&self, asked: Asked<'_>) -> Result<Answered, ApiError> {
        let limit = asked.timeout.map_or(self.config.timeout, |timeout| timeout.min(self.config.timeout));
        let cancel = CancelOnDrop(Cancel::new());
        let work = Work {
            reader: self.reader(asked.tenant),
            permits: Arc::clone(&self.permits),
            clock: Arc::clone(&self.clock),
            text: asked.text.to_owned(),
            parser: self.parser_options(),
            steps: asked.steps,
            options: self.options(asked.lookback),
            cancel: cancel.0.clone(),
        };
        let ended = tokio::time::timeout(limit, self.spawn(work.run())).await;
        let (answer, timings) = ended.unwrap_or_else(|_| {
            cancel.0.time_out();
            Ok(Err(ApiError::from(Error::Timeout)))
        })??;
        let samples = Samples {
            total_queryable_samples: answer.stats.total_samples,
            samples_read: answer.stats.total_samples,
            series_touched: answer.stats.series,
            peak_samples: answer.stats.peak_samples,
        };
        Ok(Answered { answer, stats: QueryStats { timings, samples } })
    }

    fn options(&self, lookback: Option<Duration>) -> Options {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Options {
            lookback_ms: ms(lookback.filter(|lookback| !lookback.is_zero()).unwrap_or(self.config.lookback_delta)),
            default_subquery_step_ms: ms(self.config.default_subquery_step),
            max_samples: self.config.max_samples,
            max_series: self.config.max_series,
            ..Options::default()
        }
    }

    fn reader(&self, tenant: &str) -> Reader {
        let (engine, kept) = (self.engine.clone(), self.kept.clone());
        Reader { engine, kept, tenant: tenant.to_owned(), max_series: self.config.max_series }
    }

    /// The series of a tenant that are wanted, sorted.
    pub(super) async fn find(&self, tenant: &str, wanted: Wanted) -> Result<Vec<Labels>, ApiError> {
        let found = async {
            let Ok(_permit) = Arc::clone(&self.permits).acquire_owned().await else {
                return Err(ApiError::from(Error::Canceled));
            };
            let reader = self.reader(tenant);
            let found = self.spawn(async move { reader.snapshot().await?.series(&Arc::new(wanted)).await });
            Ok(found.await??)
        };
        let ended = tokio::time::timeout(self.config.timeout, found).await;
        ended.unwrap_or_else(|_| Err(ApiError::from(Error::Timeout)))
    }

    /// The samples of the last lookback of a tenant's series that one of these sets of matchers selects.
    pub(super) async fn recent(&self, tenant: &str, sets: &[Vec<Matcher>]) -> Result<Vec<Series>, ApiError> {
        if sets.is_empty() {
            return Ok(Vec::new());
        }
        let (now_ms, options) = (self.clock.now_ms(), self.options(None));
        let wanted = Wanted::new(sets.iter().map(Vec::as_slice), now_ms - options.lookback_ms + 1, now_ms)?;
        let read = async {
            let Ok(_permit) = Arc::clone(&self.permits).acquire_owned().await else {
                return Err(ApiError::from(Error::Canceled));
            };
            let budget = Arc::new(SampleBudget::new(self.config.max_samples));
            let reader = self.reader(tenant);
            let read = self.spawn(async move { reader.snapshot().await?.samples(&Arc::new(wanted), &budget).await });
            Ok(read.await??)
        };
        let ended = tokio::time::timeout(self.config.timeout, read).await;
        ended.unwrap_or_else(|_| Err(ApiError::from(Error::Timeout)))
    }

    /// Name and kind of the tenant's metrics, by the newest data.
    pub(super) async fn kinds(&self, tenant: &str) -> Result<BTreeSet<(String, Option<String>)>, ApiError> {
        let found = async {
            let Ok(_permit) = Arc::clone(&self.permits).acquire_owned().await else {
                return Err(ApiError::from(Error::Canceled));
            };
            let (reader, now_ms) = (self.reader(tenant), self.clock.now_ms());
            Ok(self.spawn(async move { reader.snapshot().await?.kinds(now_ms).await }).await??)
        };
        let ended = tokio::time::timeout(self.config.timeout, found).await;
        ended.unwrap_or_else(|_| Err(ApiError::from(Error::Timeout)))
    }

    /// Runs a future on the threads of queries; dropping it stops it.
    async fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Result<T, ApiError> {
        AbortOnDropHandle::new(self.threads.handle()?.spawn(future)).await.map_err(died)
    }

    /// Runs what does not wait on a thread of its own.
    pub(super) async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        self.spawn(on_thread(work)).await?
    }
}

impl Work {
    /// Parses, waits for its turn, reads and evaluates.
    async fn run(self) -> Result<(Answer, Timings), ApiError> {
        let seconds_since = |then_ms: i64| (self.clock.elapsed_ms() - then_ms) as f64 / 1000.0;
        let began_ms = self.clock.elapsed_ms();
        let parsed = self.parse().await?;
        let mut timings = Timings { query_preparation_time: seconds_since(began_ms), ..Timings::default() };
        let queued_ms = self.clock.elapsed_ms();
        // Closed by nobody.
        let Ok(_permit) = Arc::clone(&self.permits).acquire_owned().await else {
            return Err(ApiError::from(Error::Canceled));
        };
        timings.exec_queue_time = seconds_since(queued_ms);
        let answer = self.in_parts(&parsed, &mut timings).await?;
        timings.eval_total_time = timings.query_preparation_time + timings.inner_eval_time;
        timings.exec_total_time = seconds_since(began_ms);
        Ok((answer, timings))
    }

    async fn parse(&self) -> Result<Parsed, ApiError> {
        let (text, parser, steps, options) = (self.text.clone(), self.parser, self.steps, self.options.clone());
        let is_short = text.len() <= SHORT_TEXT_BYTES;
        let parse = move || {
            let query = Query::parse(&text, &parser).map_err(|e| ApiError::from(e).in_parameter("query"))?;
            // A duration that comes to nothing is a mistake in the query, too.
            let selections = query.selections(&steps, &options);
            let selections = selections.map_err(|e| ApiError::invalid_parameter("query", &e.to_string()))?;
            let (mut selectors, mut has_subquery, mut has_info) = (0, false, false);
            query.expr().walk(&mut |expr| {
                selectors += usize::from(matches!(expr, Expr::Vector(_) | Expr::Matrix(_)));
                has_subquery |= matches!(expr, Expr::Subquery(_));
                has_info |= matches!(expr, Expr::Call(call) if call.function.name == "info");
            });
            // `info` reads what no selector stands for.
            let asked_once = selectors == selections.len() && !has_info;
            Ok(Parsed { query: Arc::new(query), selections, asked_once, has_subquery })
        };
        if is_short { parse() } else { on_thread(parse).await? }
    }

    /// Reads what a query needs and evaluates it: all steps at once, or, where their samples are more than may be held, some at a time. The tables
    /// are read at one cut all the same.
    async fn in_parts(&self, parsed: &Parsed, timings: &mut Timings) -> Result<Answer, ApiError> {
        let snapshot = match parsed.selections.is_empty() {
            true => None,
            false => Some(self.reader.snapshot().await?),
        };
        let all = self.steps.count();
        let (mut done, mut at_once) = (0, all);
        let mut answer: Option<Answer> = None;
        loop {
            let part = self.steps.part(done, at_once);
            let held = answer.as_ref().map_or(0, Answer::samples);
            match self.part(snapshot.as_ref(), parsed, part, held, timings).await {
                Err(PartError::TooManySamples) if part.count() > 1 => {
                    at_once = part.count().div_ceil(2);
                    continue;
                }
                Err(PartError::TooManySamples) => return Err(Error::TooManySamples.into()),
                Err(PartError::Other(error)) => return Err(error),
                Ok(next) => match &mut answer {
                    Some(answer) => answer.append(next),
                    None => answer = Some(next),
                },
            }
            done += part.count();
            if done >= all
                && let Some(answer) = answer
            {
                return Ok(answer);
            }
        }
    }

    /// Some of a query's steps, with `held` samples in hand already.
    async fn part(
        &self,
        snapshot: Option<&Snapshot>,
        parsed: &Parsed,
        part: Steps,
        held: usize,
        timings: &mut Timings,
    ) -> Result<Answer, PartError> {
        let began_ms = self.clock.elapsed_ms();
        let steps = self.steps;
        let max_samples = self.options.max_samples.saturating_sub(held);
        let options = Options { max_samples, ..self.options.clone() };
        let budget = Arc::new(SampleBudget::new(max_samples));
        let source = match snapshot {
            None => Prefetched::default(),
            Some(snapshot) if part == steps => {
                Prefetched::read(snapshot, &parsed.selections, parsed.asked_once, &budget).await?
            }
            Some(snapshot) => {
                let selections = parsed.query.selections_of_part(&steps, &part, &options).map_err(ApiError::from)?;
                Prefetched::read(snapshot, &selections, parsed.asked_once, &budget).await?
            }
        };
        let read_ms = self.clock.elapsed_ms();
        let (query, stop) = (Arc::clone(&parsed.query), self.cancel.clone());
        let is_quick = part.count() == 1 && !parsed.has_subquery && budget.held() <= FEW_SAMPLES;
        let evaluate = move || query.evaluate_part(&source, &steps, &part, &options, &stop);
        let answer = if is_quick { evaluate() } else { on_thread(evaluate).await? };
        timings.query_preparation_time += (read_ms - began_ms) as f64 / 1000.0;
        timings.inner_eval_time += (self.clock.elapsed_ms() - read_ms) as f64 / 1000.0;
        answer.map_err(|error| match error {
            Error::TooManySamples => PartError::TooManySamples,
            error => PartError::Other(error.into()),
        })
    }
}

/// Runs what does not wait on a thread of its own.
async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(died)
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Sql(error) => error.into(),
            error @ (ReadError::TooManySamples | ReadError::TooManySeries { .. }) => {
                Self::new(ApiErrorKind::Execution, error.to_string())
            }
        }
    }
}

fn died(error: JoinError) -> ApiError {
    let what = if error.is_panic() { "the query panicked" } else { "the query was stopped" };
    if error.is_panic() {
        tracing::error!(%error, "a PromQL query panicked");
    }
    SqlError::Internal { message: what.to_owned() }.into()
}

/// Stops the evaluation when nobody waits for it any more.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
