//! Bridges from users' Kafka topics, started with the claims that this process owns.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_broker::Clock;
use highwater_pipeline::log::kafka::{KafkaConfig, KafkaLog};
use highwater_pipeline::log::{Log, TopicPartition};
use highwater_pipeline::runtime::Tasks;
use highwater_pipeline::sources::bridge::{self, BridgeSpec, BridgeTimes, KafkaSourceConfig};

use crate::error::Error;

/// All bridges that the configuration asks for, by the partition that stands for theirs.
#[derive(Clone, Default)]
pub(crate) struct Bridges(BTreeMap<TopicPartition, (BridgeSpec, Arc<dyn Log>)>);

impl Bridges {
    /// Opens the foreign clusters and makes the claims. A cluster that does not answer is no error: its bridges wait for it.
    pub(crate) async fn open(
        sources: &[KafkaSourceConfig],
        log: &dyn Log,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let mut bridges = Self::default();
        for source in sources {
            let failed = |error: &dyn std::error::Error| {
                Error::Failed(format!("opening source {} ({}): {error}", source.name, source.brokers))
            };
            let (security, options) = (source.security.clone(), source.options.clone());
            let config = KafkaConfig { security, options, ..KafkaConfig::new(source.brokers.as_str()) };
            let foreign = KafkaLog::open(config, Arc::clone(clock)).map_err(|error| failed(&error))?;
            let foreign: Arc<dyn Log> = Arc::new(foreign);
            let specs = bridge::claims(&Arc::new(source.clone()), foreign.as_ref(), log).await;
            for spec in specs.map_err(|error| failed(&error))? {
                bridges.0.insert(spec.claim.clone(), (spec, Arc::clone(&foreign)));
            }
        }
        Ok(bridges)
    }

    /// The topics whose owners run bridges.
    pub(crate) fn topics(&self) -> Vec<String> {
        let mut topics: Vec<_> = self.0.keys().map(|claim| claim.topic.to_string()).collect();
        topics.dedup();
        topics
    }

    /// Starts the bridges that go with these partitions.
    pub(crate) fn start(&self, tasks: &Tasks, log: &Arc<dyn Log>, clock: &Arc<dyn Clock>, owned: &[TopicPartition]) {
        for (spec, foreign) in owned.iter().filter_map(|claim| self.0.get(claim)) {
            let (name, claim) = (Arc::clone(&spec.name), spec.claim.clone());
            let (foreign, log, clock) = (Arc::clone(foreign), Arc::clone(log), Arc::clone(clock));
            tasks.start_runs(name, claim, spec.clone().runs(foreign, log, clock, BridgeTimes::default()));
        }
    }
}
