//! Who runs the tasks of an embedded log: the process that has it, or workers that reach it over its Kafka port. One or the other, for
//! as long as the log lives, and which one is written in the log.
//!
//! The two keep their progress in different ways: in this process an effect carries its mark and the log leaves out what it has; over Kafka,
//! outputs and progress are one transaction. Each is exact alone. One that went on where the other had been would begin from its own progress, which knows
//! nothing of the other's, and write everything again.
//!
//! The process that has the log claims it by an offset of the group `__highwater-workers`, which workers elsewhere see and no client can
//! commit. Theirs shows in the offsets of their group, by the epochs in the metadata.

use std::sync::Arc;

use highwater_broker::Broker;
use highwater_pipeline::data::logs;
use highwater_pipeline::log::kafka::is_progress_of_task;
use highwater_pipeline::log::{CommittedOffset, Log, TASKS_GROUP};

use super::log::OpenLog;
use crate::config::{Config, Role};
use crate::error::Error;

/// The group whose one offset is the claim. Its name has no dot: groups that begin with `__highwater.` hold retention back.
const GROUP: &str = "__highwater-workers";
/// What the claim says.
const IN_PROCESS: &str = "tasks run in the process that has the log";

/// Refuses to run tasks where somebody else does.
pub(crate) async fn check(config: &Config, log: &OpenLog) -> Result<(), Error> {
    if !config.roles.has(Role::Worker) {
        return Ok(());
    }
    match log.broker() {
        Some(broker) => match remote_workers(broker) {
            Some(group) => Err(Error::Failed(format!(
                "the tasks of this log are run by workers that reach it over Kafka (group `{group}` has their progress); \
                 start this process without the worker role (--roles gateway,query), and workers with log.kind: kafka"
            ))),
            None => Ok(()),
        },
        None if is_claimed(log.log().as_ref()).await? => Err(Error::Failed(format!(
            "the log at {} is another Highwater's, which runs its tasks itself (its group `{GROUP}` says so): a second worker would write \
             everything twice. Start this process without the worker role (--roles gateway,query). To have workers apart from the log, start the \
             process that has it with --roles gateway,query from the first time on",
            config.log.kafka.brokers
        ))),
        None => Ok(()),
    }
}

/// Makes the claim, where this process has the log and runs tasks, or has run them. The log's own topics must be there.
pub(crate) async fn make(config: &Config, log: &OpenLog) -> Result<(), Error> {
    let Some(broker) = log.broker() else { return Ok(()) };
    let works = config.roles.has(Role::Worker) || !broker.committed(TASKS_GROUP).is_empty();
    if !works || !broker.committed(GROUP).is_empty() {
        return Ok(());
    }
    let topic = Arc::from(logs::TOPIC);
    let claim = CommittedOffset { topic, partition: 0, offset: 0, metadata: IN_PROCESS.to_owned() };
    let made = log.log().commit_offsets(GROUP, &[claim], None).await;
    made.map_err(|error| Error::failed("claiming the tasks of this log", error))
}

/// True where the tasks of an embedded log run, or have run, in the process that has it.
pub(crate) async fn is_claimed(log: &dyn Log) -> Result<bool, Error> {
    let committed = log.committed(GROUP).await;
    Ok(!committed.map_err(|error| Error::failed("asking who runs the tasks of the log", error))?.is_empty())
}

/// The group of workers elsewhere, if there ever were any.
fn remote_workers(broker: &Broker) -> Option<String> {
    let groups = broker.groups().into_iter().filter(|group| !group.starts_with("__highwater"));
    groups.into_iter().find(|group| broker.committed(group).iter().any(|offset| is_progress_of_task(&offset.metadata)))
}
