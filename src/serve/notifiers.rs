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

    /// Starts all of them where the partition of `alerts` is among these.
    pub(crate) fn start(&self, tasks: &Tasks, log: &Arc<dyn Log>, clock: &Arc<dyn Clock>, owned: &[TopicPartition]) {
        for partition in owned.iter().filter(|owned| &*owned.topic == alerts::TOPIC) {
            for receiver in &self.0 {
                let runs = notify::runs(Arc::clone(receiver), Arc::clone(log), Arc::clone(clock), partition.clone());
                tasks.start_runs(receiver.task_name(), partition.clone(), runs);
            }
        }
    }
}
