//! The owner of committed offsets and task epochs. Commits that arrive while it syncs share the next sync.
//!
//! [`Committer`] is what is done with a group, and does not wait; [`start`] gives it a thread that does.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::coordinator::{Coordinator, OffsetOfTopic};
use crate::error::BrokerError;
use crate::fs::FsLock;

const MAX_GROUP: usize = 4096;

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
type Answer = Box<dyn FnOnce(Result<(), BrokerError>) + Send>;

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
            Command::ForgetTopic { topic_id, reply } => {
                coordinator.forget_topic(topic_id);
                answers.push(Box::new(move |_| drop(reply.send(Ok(())))));
            }
            Command::Shutdown => return false,
        }
        true
    }
}
