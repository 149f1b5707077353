//! One query: waits for its turn, reads what its selectors need, evaluates, ends in time.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use highwater_promql::parser::Expr;
use highwater_promql::{
    Answer, Cancel, Error, Labels, Matcher, Options, ParserOptions, Query, Selection, Series, Steps,
};
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use super::Prometheus;
use super::encode::{QueryStats, Samples, Timings};
use super::error::{ApiError, ApiErrorKind};
use super::source::{Prefetched, ReadError, SampleBudget, Snapshot, Wanted};
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

/// A parsed query at work.
struct Work {
    query: Arc<Query>,
    steps: Steps,
    options: Options,
    /// What all steps need.
    selections: Vec<Selection>,
    /// Whether it has one selector in all.
    sole: bool,
    cancel: Cancel,
    read_s: f64,
    evaluate_s: f64,
}

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
        let began_ms = self.clock.elapsed_ms();
        let seconds_since = |then_ms: i64| (self.clock.elapsed_ms() - then_ms) as f64 / 1000.0;
        let options = self.options(asked.lookback);
        let (text, parser, steps) = (asked.text.to_owned(), self.parser_options(), asked.steps);
        let parsed = self.on_thread(move || {
            let query = Query::parse(&text, &parser)?;
            let selections = query.selections(&steps, &options);
            let mut selectors = 0;
            query.expr().walk(&mut |expr| selectors += usize::from(matches!(expr, Expr::Vector(_) | Expr::Matrix(_))));
            Ok::<_, Error>((query, selections, selectors == 1, options))
        });
        let (query, selections, sole, options) = parsed.await?.map_err(|e| ApiError::from(e).in_parameter("query"))?;
        // A duration that comes to nothing is a mistake in the query, too.
        let selections = selections.map_err(|e| ApiError::invalid_parameter("query", &e.to_string()))?;
        let query = Arc::new(query);
        let prepared_s = seconds_since(began_ms);

        let limit = asked.timeout.map_or(self.config.timeout, |timeout| timeout.min(self.config.timeout));
        let cancel = CancelOnDrop(Cancel::new());
        let work = async {
            let queued_ms = self.clock.elapsed_ms();
            // Closed by nobody.
            let Ok(_permit) = Arc::clone(&self.permits).acquire_owned().await else {
                return Err(ApiError::from(Error::Canceled));
            };
            let queue_s = seconds_since(queued_ms);
            let mut work = Work {
                query,
                steps,
                options,
                selections,
                sole,
                cancel: cancel.0.clone(),
                read_s: 0.0,
                evaluate_s: 0.0,
            };
            let answer = self.in_parts(asked.tenant, &mut work).await?;
            let timings = Timings {
                query_preparation_time: prepared_s + work.read_s,
                inner_eval_time: work.evaluate_s,
                eval_total_time: prepared_s + work.read_s + work.evaluate_s,
                exec_queue_time: queue_s,
                exec_total_time: seconds_since(began_ms),
                ..Timings::default()
            };
            Ok((answer, timings))
        };
        let ended = tokio::time::timeout(limit, work).await;
        let (answer, timings) = ended.unwrap_or_else(|_| {
            cancel.0.time_out();
            Err(ApiError::from(Error::Timeout))
        })?;
        let samples = Samples {
            total_queryable_samples: answer.stats.total_samples,
            samples_read: answer.stats.total_samples,
            series_touched: answer.stats.series,
            peak_samples: answer.stats.peak_samples,
        };
        Ok(Answered { answer, stats: QueryStats { timings, samples } })
    }

    /// Reads what a query needs and evaluates it: all steps at once, or, where their samples are more than may be held, some at a time. The tables
    /// are read at one cut all the same.
    async fn in_parts(&self, tenant: &str, work: &mut Work) -> Result<Answer, ApiError> {
        let snapshot = match work.selections.is_empty() {
            true => None,
            false => {
                let snapshot = self.snapshot(tenant);
                Some(Arc::new(self.spawn(snapshot).await??))
            }
        };
        let all = work.steps.count();
        let (mut done, mut at_once) = (0, all);
        let mut answer: Option<Answer> = None;
        loop {
            let part = work.steps.part(done, at_once);
            let held = answer.as_ref().map_or(0, Answer::samples);
            match self.part(snapshot.as_ref(), work, part, held).await {
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
        snapshot: Option<&Arc<Snapshot>>,
        work: &mut Work,
        part: Steps,
        held: usize,
    ) -> Result<Answer, PartError> {
        let began_ms = self.clock.elapsed_ms();
        let steps = work.steps;
        let max_samples = work.options.max_samples.saturating_sub(held);
        let options = Options { max_samples, ..work.options.clone() };
        let source = match snapshot {
            None => Prefetched::default(),
            Some(snapshot) => {
                let selections = match part == steps {
                    true => work.selections.clone(),
                    false => work.query.selections_of_part(&steps, &part, &options).map_err(ApiError::from)?,
                };
                let (snapshot, sole) = (Arc::clone(snapshot), work.sole);
                let budget = Arc::new(SampleBudget::new(max_samples));
                self.spawn(async move { Prefetched::read(&snapshot, &selections, sole, &budget).await }).await??
            }
        };
        let read_ms = self.clock.elapsed_ms();
        let (query, stop) = (Arc::clone(&work.query), work.cancel.clone());
        let answer = self.on_thread(move || query.evaluate_part(&source, &steps, &part, &options, &stop)).await?;
        work.read_s += (read_ms - began_ms) as f64 / 1000.0;
        work.evaluate_s += (self.clock.elapsed_ms() - read_ms) as f64 / 1000.0;
        answer.map_err(|error| match error {
            Error::TooManySamples => PartError::TooManySamples,
            error => PartError::Other(error.into()),
        })
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

    fn snapshot(&self, tenant: &str) -> impl Future<Output = Result<Snapshot, ReadError>> + Send + use<> {
        let (engine, footers) = (self.engine.clone(), Arc::clone(&self.footers));
        let (tenant, max_series) = (tenant.to_owned(), self.config.max_series);
        async move { Snapshot::take(&engine, &footers, &tenant, max_series).await }
    }

    /// The series of a tenant that are wanted, sorted.
    pub(super) async fn find(&self, tenant: &str, wanted: Wanted) -> Result<Vec<Labels>, ApiError> {
        let found = async {
            let Ok(_permit) = Arc::clone(&self.permits).acquire_owned().await else {
                return Err(ApiError::from(Error::Canceled));
            };
            let snapshot = self.snapshot(tenant);
            let found = self.spawn(async move { snapshot.await?.series(&Arc::new(wanted)).await });
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
            let snapshot = self.snapshot(tenant);
            let read = self.spawn(async move { snapshot.await?.samples(&Arc::new(wanted), &budget).await });
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
            let (snapshot, now_ms) = (self.snapshot(tenant), self.clock.now_ms());
            Ok(self.spawn(async move { snapshot.await?.kinds(now_ms).await }).await??)
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
        self.threads.handle()?.spawn_blocking(work).await.map_err(died)
    }
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
