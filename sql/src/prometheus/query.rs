//! One query: waits for its turn, reads what its selectors need, evaluates, ends in time.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use highwater_promql::parser::Expr;
use highwater_promql::{Answer, Cancel, Error, Labels, Options, ParserOptions, Query, Steps};
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
        let selections = selections?;
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
            let budget = Arc::new(SampleBudget::new(self.config.max_samples));
            let read_ms = self.clock.elapsed_ms();
            let source = match selections.is_empty() {
                true => Prefetched::default(),
                false => {
                    let snapshot = self.snapshot(asked.tenant);
                    self.spawn(async move {
                        let snapshot = snapshot.await?;
                        Prefetched::read(&snapshot, &selections, sole, &budget).await
                    })
                    .await??
                }
            };
            let read_s = seconds_since(read_ms);
            let evaluated_ms = self.clock.elapsed_ms();
            let stop = cancel.0.clone();
            let answer = self
                .on_thread(move || query.evaluate(&source, &steps, &options, &stop))
                .await?
                .map_err(ApiError::from)?;
            let timings = Timings {
                query_preparation_time: prepared_s + read_s,
                inner_eval_time: seconds_since(evaluated_ms),
                eval_total_time: prepared_s + read_s + seconds_since(evaluated_ms),
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
    async fn on_thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
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
