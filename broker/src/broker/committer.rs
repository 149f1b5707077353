//! The owner of committed offsets and task epochs. Commits that arrive while it syncs share the next sync.
//!
//! [`Committer`] is what is done with a group, and does not wait; [`start`] gives it a thread that does.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::coordinator::{Committed, Coordinator, Entry, Expired, OffsetOfTopic};
use crate::error::BrokerError;
use crate::fs::FsLock;

const MAX_GROUP: usize = 4096;

/// Called once it is durable, or has failed, in the order in which things were asked for. Must not wait.
pub(crate) type Done<T> = Box<dyn FnOnce(Result<T, BrokerError>) + Send>;

/// Says of an offset, by topic and partition, whether it has expired.
pub(crate) type IsExpired = Box<dyn Fn(&str, i32, &Committed) -> bool + Send>;

/// Decides and writes, and answers after the sync.
pub(super) type Stage = Box<dyn FnOnce(&mut Coordinator) -> Answer + Send>;

pub(super) enum Command {
    Commit {
        group: Arc<str>,
        offsets: Vec<OffsetOfTopic>,
        task: Option<(String, i32)>,
        reply: oneshot::Sender<Result<(), BrokerError>>,
    },
    Begin {
        task: Arc<str>,
        reply: oneshot::Sender<Result<i32, BrokerError>>,
    },
    /// An entry that its sender has checked.
    Record {
        entry: Entry,
        done: Done<()>,
    },
    Expire {
        group: Arc<str>,
        and_group: bool,
        expired: IsExpired,
        done: Done<Expired>,
    },
    /// A decision about a transaction.
    Transact {
        stage: Stage,
    },
    ForgetTopic {
        topic_id: Uuid,
        reply: oneshot::Sender<Result<(), BrokerError>>,
    },
    Shutdown,
}

/// Starts a committer on a thread of its own.
pub(super) fn start(
    coordinator: Coordinator,
    lock: Arc<dyn FsLock>,
) -> Result<(Sender<Command>, JoinHandle<()>), BrokerError> {
    let (sender, receiver) = channel();
    let name = "highwater-commits";
    let mut committer = Committer::new(coordinator, lock);
    let run = move || {
        while let Ok(first) = receiver.recv() {
            if !committer.step(first, &receiver) {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|e| BrokerError::io("start the thread", name, &e))?;
    Ok((sender, thread))
}

/// An answer that is due after the sync.
pub(super) type Answer = Box<dyn FnOnce(Result<(), BrokerError>) + Send>;

pub(super) struct Committer {
    coordinator: Coordinator,
    answers: Vec<Answer>,
    /// Held for as long as this lives.
    _lock: Arc<dyn FsLock>,
}

impl Committer {
    pub(super) fn new(coordinator: Coordinator, lock: Arc<dyn FsLock>) -> Self {
        Self { coordinator, answers: Vec::new(), _lock: lock }
    }

    /// Handles one group: `first` and all that waits behind it. False once it is to end.
    pub(super) fn step(&mut self, first: Command, receiver: &Receiver<Command>) -> bool {
        let mut next = Some(first);
        let mut running = true;
        while let Some(command) = next {
            running = self.stage(command);
            next = if running && self.answers.len() < MAX_GROUP { receiver.try_recv().ok() } else { None };
        }
        let synced = self.coordinator.sync();
        for answer in self.answers.drain(..) {
            answer(synced.clone());
        }
        running
    }

    /// Stages one command; false where it is the last.
    fn stage(&mut self, command: Command) -> bool {
        let Self { coordinator, answers, .. } = self;
        match command {
            Command::Commit { group, offsets, task, reply } => {
                let task = task.as_ref().map(|(task, epoch)| (task.as_str(), *epoch));
                let staged = coordinator.commit(&group, offsets, task);
                // A caller that no longer waits is no concern of ours.
                answers.push(Box::new(move |synced| drop(reply.send(staged.and(synced)))));
            }
            Command::Begin { task, reply } => {
                let staged = coordinator.begin(&task);
                answers.push(Box::new(move |synced| {
                    drop(reply.send(staged.and_then(|epoch| synced.map(|()| epoch))));
                }));
            }
            Command::Record { entry, done } => {
                let staged = coordinator.record(entry);
                answers.push(Box::new(move |synced| done(staged.and(synced))));
            }
            Command::Expire { group, and_group, expired, done } => {
                let staged = coordinator.expire(&group, and_group, expired);
                answers.push(Box::new(move |synced| done(staged.and_then(|what| synced.map(|()| what)))));
            }
            Command::Transact { stage } => answers.push(stage(coordinator)),
            Command::ForgetTopic { topic_id, reply } => {
                coordinator.forget_topic(topic_id);
                answers.push(Box::new(move |_| drop(reply.send(Ok(())))));
            }
            Command::Shutdown => return false,
        }
        true
    }
}
