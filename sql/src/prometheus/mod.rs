//! The Prometheus HTTP API over the tables of metrics: PromQL, series and labels, metadata, rules and alerts, status.
//!
//! A query is parsed, says which samples its selectors need, and these are read from files and tail at one cut ([`source`]); then the engine
//! evaluates it from memory. Both happen on threads of its own, a few queries at a time; the others wait for their turn. Whoever hangs
//! up stops his query. Parameters, answers, errors and their codes are Prometheus's; `docs/guides/prometheus-api.md` says where not.

mod config;
mod encode;
mod error;
mod histogram;
mod http;
mod metadata;
mod names;
mod params;
mod query;
mod source;
mod views;

use std::sync::Arc;

use highwater_pipeline::log::Clock;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Semaphore;

pub use config::PromqlConfig;
pub use views::{
    Alert, AlertState, Rule, RuleGroup, RuleHealth, RuleKind, RulesView, ServerInfo, Target, TargetMetadata, Targets,
    TargetsView, ViewError,
};

use crate::engine::Engine;
use crate::error::SqlError;
use source::Kept;

/// Stack of a thread that evaluates, bytes. Expressions nest; the memory is only reserved.
const STACK_BYTES: usize = 64 << 20;

/// Answers the Prometheus HTTP API.
pub struct Prometheus {
    engine: Engine,
    config: PromqlConfig,
    clock: Arc<dyn Clock>,
    kept: Kept,
    /// One for each query that may run.
    permits: Arc<Semaphore>,
    threads: Threads,
    rules: Option<Arc<dyn RulesView>>,
    targets: Option<Arc<dyn TargetsView>>,
    server: ServerInfo,
}

impl Prometheus {
    /// Over the tables of this engine. The clock says what "now" is where a request names no time.
    ///
    /// # Errors
    /// [`SqlError::Start`] where there are no threads to be had.
    pub fn new(engine: Engine, config: PromqlConfig, clock: Arc<dyn Clock>) -> Result<Self, SqlError> {
        let threads = Threads::start(engine.config().thread_count())?;
        let permits = Arc::new(Semaphore::new(config.max_concurrency.max(1)));
        Ok(Self {
            engine,
            config,
            clock,
            kept: Kept::default(),
            permits,
            threads,
            rules: None,
            targets: None,
            server: ServerInfo::default(),
        })
    }

    /// With the rules that run. Without, there are none.
    #[must_use]
    pub fn with_rules(mut self, rules: Arc<dyn RulesView>) -> Self {
        self.rules = Some(rules);
        self
    }

    /// With the targets that are scraped. Without, there are none.
    #[must_use]
    pub fn with_targets(mut self, targets: Arc<dyn TargetsView>) -> Self {
        self.targets = Some(targets);
        self
    }

    /// With what `/api/v1/status` says of the server.
    #[must_use]
    pub fn with_server(mut self, server: ServerInfo) -> Self {
        self.server = server;
        self
    }

    /// The routes of the API.
    pub fn router(self) -> axum::Router {
        http::router(Arc::new(self))
    }
}

impl std::fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prometheus").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The threads that read and evaluate, apart from those that serve everything else. Dropping them does not wait for what runs on them.
struct Threads(Option<Runtime>);

impl Threads {
    fn start(count: usize) -> Result<Self, SqlError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(count)
            .thread_name("highwater-promql")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|e| SqlError::Start { message: format!("no threads for PromQL queries: {e}") })?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> Result<&Handle, SqlError> {
        let runtime = self.0.as_ref().map(Runtime::handle);
        runtime.ok_or_else(|| SqlError::Internal { message: "PromQL queries have no threads".to_owned() })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
