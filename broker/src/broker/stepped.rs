//! The broker without threads, for simulations: everything else about it is the same.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use uuid::Uuid;

use super::committer::{self, Committer};
use super::inner::Crew;
use super::writer::{self, Writer};
use super::{Broker, Opened, Threads};
use crate::clock::Clock;
use crate::config::BrokerConfig;
use crate::error::BrokerError;
use crate::fs::Fs;

/// Does, step by step, what the threads of a [`Broker`] do. Between two steps nothing moves, so a simulation decides what
/// happens before what. Nothing is retained or checkpointed unless a step comes to it; retention is not applied at all.
pub struct Stepper {
    /// `None` once it has ended.
    writers: Vec<Option<(Writer, Receiver<writer::Command>)>>,
    committer: Option<(Committer, Receiver<committer::Command>)>,
}

impl Broker {
    /// [`Self::open`], without threads: what is asked of the broker is done when the [`Stepper`] is told to, reads are made by
    /// the caller, and new topics get their ids from `new_id`. Deleting topics and applying retention are refused.
    pub fn open_stepped(
        config: BrokerConfig,
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        new_id: impl Fn() -> Uuid + Send + Sync + 'static,
    ) -> Result<(Self, Stepper), BrokerError> {
        let crew = Crew::Stepper(Box::new(new_id));
        let Opened { mut inner, topics, writers, coordinator, lock } = Opened::open(config, fs, clock, crew)?;
        let mut stepper = Stepper { writers: Vec::with_capacity(writers.len()), committer: None };
        for context in writers {
            let (sender, receiver) = channel();
            inner.writers.push(sender);
            stepper.writers.push(Some((Writer::new(context), receiver)));
        }
        let (sender, receiver) = channel();
        inner.committer = Some(sender);
        stepper.committer = Some((Committer::new(coordinator, lock), receiver));
        for (info, logs) in topics {
            inner.adopt(info, logs)?;
        }
        Ok((Self::new(Arc::new(inner), Threads::default()), stepper))
    }
}

impl Stepper {
    /// How many writers there are.
    pub fn writers(&self) -> usize {
        self.writers.len()
    }

    /// One group of a writer: writes all that waits for it, syncs, answers. With nothing waiting it does what it does when idle.
    pub fn step_writer(&mut self, index: usize) {
        let Some(slot) = self.writers.get_mut(index) else { return };
        if let Some((writer, receiver)) = slot {
            let first = receiver.try_recv().ok();
            if !writer.step(first, receiver) {
                *slot = None;
            }
        }
    }

    /// One group of offsets and epochs: writes all that waits, syncs, answers.
    pub fn step_committer(&mut self) {
        if let Some((committer, receiver)) = &mut self.committer
            && let Ok(first) = receiver.try_recv()
            && !committer.step(first, receiver)
        {
            self.committer = None;
        }
    }

    /// Does all that waits, closes every log and frees the data directory; what is asked later is refused.
    pub fn finish(self) {
        for (mut writer, receiver) in self.writers.into_iter().flatten() {
            while writer.step(Some(receiver.try_recv().unwrap_or(writer::Command::Shutdown)), &receiver) {}
        }
        if let Some((mut committer, receiver)) = self.committer {
            while committer.step(receiver.try_recv().unwrap_or(committer::Command::Shutdown), &receiver) {}
        }
    }
}
