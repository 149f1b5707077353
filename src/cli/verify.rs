//! `highwater verify`: proof, from the data alone, that every table holds exactly what the log held, that every topic is whole, and
//! that the ledger adds up.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use highwater_broker::{Broker, SystemClock};
use highwater_pipeline::ledger::Ledger;
use highwater_pipeline::log::{EmbeddedLog, Log, TopicInfo, TopicPartition};
use highwater_pipeline::storage::{Access, Storage};
use highwater_sinks::verify::{Guards, TopicChecks, VerifyReport, verify, verify_topics};

use crate::config::{Config, DEFAULT_DATA_DIR, LogKind};
use crate::error::Error;
use crate::serve::claim::is_claimed;
use crate::serve::{OpenLog, is_of_tasks, is_own_topic, ledger, offline};

/// Flags of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The data directory; a server may be running on it.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR, env = "HIGHWATER_DATA_DIR")]
    data_dir: PathBuf,
    /// A config file: what it says of log and storage is verified, on a Kafka log too.
    #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
    config: Option<PathBuf>,
}

pub(super) async fn run(args: VerifyArgs) -> Result<ExitCode, Error> {
    let config = args.config.as_deref().map(|file| Config::load(Some(file))).transpose()?;
    let failed = |error| Error::failed("verifying the tables", error);
    match config {
        Some(config) if config.log.kind == LogKind::Kafka => {
            config.check()?;
            let storage = crate::serve::open_storage(&config, Access::Read).await?;
            // Opened before the tables are read and live all the while: it ends no earlier than they do.
            let log = OpenLog::open(&config).await?;
            let tables = verify(&storage, &[], || Ok(Some(Arc::clone(log.log())))).await.map_err(failed)?;
            // The cluster is shared: others' topics are none of our business.
            let checks = TopicChecks { guards: None, dense: &|_| false, chosen: &is_own_topic };
            finish(&tables, log.log(), &storage, &checks).await
        }
        other => {
            let data_dir = other.map_or(args.data_dir, |config| config.data_dir);
            let storage = offline::open_storage(&data_dir)?;
            let tables = verify(&storage, &[], || Ok(Some(offline::open_log(&data_dir)?))).await.map_err(failed)?;
            let broker = offline::open_broker(&data_dir).map_err(|error| Error::failed("opening the log", error))?;
            let guards = guards(&broker).await?;
            let log: Arc<dyn Log> = Arc::new(EmbeddedLog::new(broker));
            let works_here = is_claimed(log.as_ref()).await?;
            // What only tasks of this log's own process write has a record at every offset, until it is compacted.
            let is_dense =
                |topic: &TopicInfo| works_here && is_of_tasks(&topic.name) && !topic.config.cleanup.compacts();
            let checks = TopicChecks { guards: Some(&guards), dense: &is_dense, chosen: &|_| true };
            finish(&tables, &log, &storage, &checks).await
        }
    }
}

/// What recovery would hold of each task, read from the disk.
async fn guards(broker: &Broker) -> Result<Guards, Error> {
    let mut guards = Guards::new();
    for topic in broker.topics() {
        for partition in 0..topic.config.partitions {
            let tasks = broker.recovered_tasks(&topic.name, partition).await;
            let tasks = tasks.map_err(|error| Error::failed("reading what recovery holds", error))?;
            let tasks = tasks.into_iter().map(|(task, state)| (task, state.mark)).collect();
            guards.insert(TopicPartition { topic: Arc::clone(&topic.name), partition }, tasks);
        }
    }
    Ok(guards)
}

/// Prints the tables, verifies topics and ledger, and says whether all is well.
async fn finish(
    tables: &VerifyReport,
    log: &Arc<dyn Log>,
    storage: &Storage,
    checks: &TopicChecks<'_>,
) -> Result<ExitCode, Error> {
    println!("{tables}\n");
    let topics = verify_topics(log.as_ref(), storage, checks).await;
    let topics = topics.map_err(|error| Error::failed("verifying the topics", error))?;
    println!("{topics}\n");
    let rows = Ledger::new(Arc::clone(log), Arc::new(SystemClock), None).rows().await;
    let rows = rows.map_err(|error| Error::failed("counting the log", error))?;
    println!("{}", ledger::text(&rows));
    // Entries on their way are none of verify's business; entries that were acknowledged and are not there are.
    let adds_up = rows.iter().all(|row| row.balance() == 0);
    if !adds_up {
        println!(
            "the ledger does not add up: a balance above 0 is entries that were acknowledged and are not in the log"
        );
    }
    Ok(ExitCode::from(u8::from(!(tables.is_clean() && topics.is_clean() && adds_up))))
}
