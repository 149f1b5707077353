//! Senders: outside of the machine, so that they see it go down and come back.

use std::sync::Arc;

use bytes::Bytes;
use highwater_broker::Clock;
use highwater_pipeline::data::Tenant;
use highwater_pipeline::log::{Append, Guard, Log};
use highwater_pipeline::sources::{IdempotencyKey, Ingest, IngestReport};
use parking_lot::Mutex;

use crate::batch::{Batch, Door, Foreign};
use crate::coverage::Coverage;
use crate::ledger::Ledger;
use crate::random::Random;
use crate::time::Time;

/// Where the doors of the running process are, if one runs.
pub type Doors = Arc<Mutex<Option<(Arc<Ingest>, Arc<dyn Log>)>>>;

/// One request on its way.
pub struct Sender {
    /// Where to.
    pub doors: Doors,
    /// What for.
    pub ledger: Arc<Ledger>,
    /// The clock.
    pub time: Time,
    /// Chance.
    pub random: Random,
    /// How many partitions the topics have.
    pub partitions: i32,
    /// What is met.
    pub coverage: Coverage,
}

impl Sender {
    /// Sends until it is answered or given up.
    pub async fn send(mut self, batch: Batch) {
        let now_ms = self.time.now_ms();
        let body = batch.body(now_ms);
        let mut repeat = batch.again;
        for _ in 0..batch.tries {
            let doors = self.doors.lock().clone();
            if let Some((ingest, log)) = doors {
                self.ledger.sent(&batch.good_rows(), batch.keyed);
                let patience = self.time.pause_ms(batch.patience_ms);
                let answer = match batch.door {
                    Door::Foreign(foreign) => {
                        let call = std::pin::pin!(self.append(&batch, foreign, &*log, now_ms));
                        first(call, patience).await
                    }
                    Door::Logs | Door::Metrics => {
                        let call = std::pin::pin!(self.ingest(&batch, &ingest, body.clone()));
                        first(call, patience).await
                    }
                };
                match answer {
                    Some(true) if repeat && batch.keyed => {
                        repeat = false;
                        self.coverage.met("answered requests sent again");
                    }
                    Some(true) => return,
                    Some(false) => self.coverage.met("requests refused"),
                    None => self.coverage.met("requests given up on"),
                }
            }
            let ms = self.random.between(100, 4_000);
            self.time.pause_ms(ms).await;
        }
    }

    async fn ingest(&self, batch: &Batch, ingest: &Ingest, body: Bytes) -> bool {
        let tenant = Tenant::new(Tenant::DEFAULT).expect("the default tenant");
        let key = batch.keyed.then(|| IdempotencyKey::new(&format!("key-{}", batch.number)).expect("a key"));
        let answer = match batch.door {
            Door::Logs => ingest.ingest_logs(&tenant, body, key).await,
            _ => ingest.ingest_metrics(&tenant, body, key).await,
        };
        let Ok(IngestReport { accepted, rejected, .. }) = answer else { return false };
        let rows = batch.good_rows();
        if accepted != rows.len() as u64 || rejected != batch.refused_rows() {
            self.ledger.lie(format!("batch {}: {accepted} rows accepted and {rejected} rejected", batch.number));
        }
        self.ledger.acknowledged(&rows);
        true
    }

    async fn append(&self, batch: &Batch, foreign: Foreign, log: &dyn Log, now_ms: i64) -> bool {
        let topic = match foreign {
            Foreign::Stale => "metrics",
            Foreign::Spans => "spans",
            _ => "logs",
        };
        let append = Append {
            topic: topic.into(),
            partition: batch.number as i32 % self.partitions,
            records: vec![batch.foreign_record(foreign, now_ms)],
            guard: Guard::None,
        };
        let stored = log.append(append).await.is_ok();
        if stored {
            self.ledger.acknowledged(&batch.good_rows());
        }
        stored
    }
}

/// The answer, or `None` where patience ends first.
async fn first(answer: impl Future<Output = bool> + Unpin, patience: impl Future<Output = ()> + Unpin) -> Option<bool> {
    match futures::future::select(answer, patience).await {
        futures::future::Either::Left((answer, _)) => Some(answer),
        futures::future::Either::Right(_) => None,
    }
}
