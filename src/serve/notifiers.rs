//! Notifiers, run by whoever owns the partition of topic `alerts`.

use std::sync::Arc;

use highwater_broker::Clock;
use highwater_pipeline::data::alerts;
use highwater_pipeline::log::{Log, TopicPartition};
use highwater_pipeline::runtime::Tasks;
use highwater_sinks::alerts::notify::{self, Receiver};

use crate::config::Config;
use crate::error::Error;

/// The receivers of the configuration.
pub(crate) struct Notifiers(Vec<Arc<Receiver>>);

impl Notifiers {
    /// Reads their secrets; nobody is told anything yet.
    pub(crate) fn open(config: &Config) -> Result<Self, Error> {
        notify::receivers(&config.notify, &config.external_url(), &config.external_labels)
            .map(Self)
            .map_err(|error| Error::failed("preparing notifications", error))
    }

    /// Starts all of them where the partition of `alerts` is among these. Those that run go on.
    pub(crate) fn start<'a>(
        &self,
        tasks: &Tasks,
        log: &Arc<dyn Log>,
        clock: &Arc<dyn Clock>,
        owned: impl IntoIterator<Item = &'a TopicPartition>,
    ) {
        for partition in owned.into_iter().filter(|owned| &*owned.topic == alerts::TOPIC) {
            for receiver in &self.0 {
                let runs = notify::runs(Arc::clone(receiver), Arc::clone(log), Arc::clone(clock), partition.clone());
                tasks.start_runs(receiver.task_name(), partition.clone(), runs);
            }
        }
    }

    /// The names under which those of these run that the others do not have, or have otherwise.
    pub(crate) fn gone_in(&self, others: &Self) -> Vec<Arc<str>> {
        let stays = |receiver: &Receiver| others.0.iter().any(|other| receiver.is_same(other));
        self.0.iter().filter(|receiver| !stays(receiver)).map(|receiver| receiver.task_name()).collect()
    }
}
