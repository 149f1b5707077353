//! The thread that owns committed offsets and task epochs. Commits that arrive while it syncs share the next sync.

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

/// Starts the thread.
pub(super) fn start(
    coordinator: Coordinator,
    lock: Arc<dyn FsLock>,
) -> Result<(Sender<Command>, JoinHandle<()>), BrokerError> {
    let (sender, receiver) = channel();
    let name = "highwater-commits";
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || run(coordinator, &receiver, &lock))
        .map_err(|e| BrokerError::io("start the thread", name, &e))?;
    Ok((sender, thread))
}

/// An answer that is due after the sync.
type Answer = Box<dyn FnOnce(Result<(), BrokerError>) + Send>;

/// The lock is held for as long as this runs.
fn run(mut coordinator: Coordinator, receiver: &Receiver<Command>, _lock: &Arc<dyn FsLock>) {
    let mut answers: Vec<Answer> = Vec::new();
    while let Ok(first) = receiver.recv() {
        let mut next = Some(first);
        let mut running = true;
        while let Some(command) = next {
            running = stage(&mut coordinator, command, &mut answers);
            next = if running && answers.len() < MAX_GROUP { receiver.try_recv().ok() } else { None };
        }
        let synced = coordinator.sync();
        for answer in answers.drain(..) {
            answer(synced.clone());
        }
        if !running {
            return;
        }
    }
}

/// Stages one command; false ends the thread.
fn stage(coordinator: &mut Coordinator, command: Command, answers: &mut Vec<Answer>) -> bool {
    match command {
        Command::Commit { group, offsets, task, reply } => {
            let task = task.as_ref().map(|(task, epoch)| (task.as_str(), *epoch));
            let staged = coordinator.commit(&group, offsets, task);
            // A caller that no longer waits is no concern of ours.
            answers.push(Box::new(move |synced| drop(reply.send(staged.and(synced)))));
        }
        Command::Begin { task, reply } => {
            let staged = coordinator.begin(&task);
            answers.push(Box::new(move |synced| drop(reply.send(staged.and_then(|epoch| synced.map(|()| epoch))))));
        }
        Command::ForgetTopic { topic_id, reply } => {
            coordinator.forget_topic(topic_id);
            answers.push(Box::new(move |_| drop(reply.send(Ok(())))));
        }
        Command::Shutdown => return false,
    }
    true
}
