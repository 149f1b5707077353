//! A consumer and its connection.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot::Receiver;
use tokio::sync::oneshot::error::TryRecvError;

use super::super::{join_request, sync_request};
use super::PARTITIONS;
use crate::groups::machine::{JoinRefused, Joined, Synced};
use crate::groups::{GroupError, Leaver};

pub(super) const GROUP: &str = "storm";
const HEARTBEAT_MS: i64 = 3_000;

/// What a member sends. The connection carries requests in order.
#[derive(Debug, Clone)]
pub(super) enum Request {
    Join { id: Arc<str> },
    Sync { id: Arc<str>, generation: i32, assignments: Vec<(String, String)> },
    Heartbeat { id: Arc<str>, generation: i32 },
    Commit { id: Arc<str>, generation: i32, offsets: BTreeMap<i32, i64> },
    Leave { id: Arc<str> },
}

/// What it hears, once the broker has it.
pub(super) enum Answer {
    Join(Receiver<Result<Joined, JoinRefused>>),
    Sync(i32, Receiver<Result<Synced, GroupError>>),
    Heartbeat(Result<(), GroupError>),
    Commit(BTreeMap<i32, i64>, Result<Receiver<Result<(), GroupError>>, GroupError>),
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is to ask to join.
    Outside,
    Joining,
    Syncing,
    Working,
    /// Fenced, stopped or killed.
    Gone,
}

/// What a member has to tell the world.
pub(super) enum News {
    /// It owns these partitions in this generation.
    Owns { generation: i32, partitions: Vec<i32> },
    /// These offsets are acknowledged.
    Committed { offsets: BTreeMap<i32, i64> },
}

pub(super) struct Member {
    pub(super) name: String,
    pub(super) instance: Option<String>,
    pub(super) id: Arc<str>,
    pub(super) generation: i32,
    pub(super) phase: Phase,
    /// Partitions and where it stands in them.
    pub(super) owned: BTreeMap<i32, i64>,
    /// A paused process does nothing until then.
    pub(super) paused_until: i64,
    next_heartbeat: i64,
    /// On their way to the broker, with the time they arrive.
    outbox: VecDeque<(i64, Request)>,
    /// With the broker, or on their way back. The connection answers in order.
    inbox: VecDeque<Answer>,
}

impl Member {
    pub(super) fn new(name: String, instance: Option<String>) -> Self {
        Self {
            name,
            instance,
            id: "".into(),
            generation: -1,
            phase: Phase::Outside,
            owned: BTreeMap::new(),
            paused_until: 0,
            next_heartbeat: 0,
            outbox: VecDeque::new(),
            inbox: VecDeque::new(),
        }
    }

    /// Who owns what it owns: a static member that comes back under another id is the same owner.
    pub(super) fn owner(&self) -> String {
        self.instance.clone().unwrap_or_else(|| self.id.to_string())
    }

    pub(super) fn request_of(&self, request: &Request) -> Option<crate::groups::JoinRequest> {
        let Request::Join { id } = request else { return None };
        Some(join_request(id, self.instance.as_deref()))
    }

    pub(super) fn send(&mut self, now: i64, delay: i64, request: Request) {
        let at = self.outbox.back().map_or(now + delay, |(last, _)| (now + delay).max(*last));
        self.outbox.push_back((at, request));
    }

    /// The next request that has arrived. One that waits for its answer holds up those behind it, as on a real connection.
    pub(super) fn arrived(&mut self, now: i64) -> Option<Request> {
        if !self.inbox.is_empty() || self.outbox.front().is_none_or(|(at, _)| *at > now) {
            return None;
        }
        self.outbox.pop_front().map(|(_, request)| request)
    }

    pub(super) fn answered(&mut self, answer: Answer) {
        self.inbox.push_back(answer);
    }

    /// The connection broke: what was on its way is lost, and what was asked is asked anew.
    pub(super) fn disconnect(&mut self) {
        self.outbox.clear();
        self.inbox.clear();
        match self.phase {
            Phase::Joining | Phase::Syncing => self.phase = Phase::Outside,
            Phase::Outside | Phase::Working | Phase::Gone => {}
        }
    }

    /// Does what a consumer does: hears answers, asks, beats, works, commits.
    pub(super) fn act(&mut self, now: i64, delay: i64, work: bool, commit: bool) -> Option<News> {
        if self.phase == Phase::Gone || now < self.paused_until {
            return None;
        }
        let news = self.hear();
        match self.phase {
            Phase::Outside => {
                self.owned.clear();
                self.phase = Phase::Joining;
                self.send(now, delay, Request::Join { id: Arc::clone(&self.id) });
            }
            Phase::Working => {
                if work {
                    for offset in self.owned.values_mut() {
                        *offset += 1;
                    }
                }
                if commit && !self.owned.is_empty() {
                    self.commit(now, delay);
                }
                if now >= self.next_heartbeat {
                    self.next_heartbeat = now + HEARTBEAT_MS;
                    self.send(now, delay, Request::Heartbeat { id: Arc::clone(&self.id), generation: self.generation });
                }
            }
            Phase::Joining | Phase::Syncing | Phase::Gone => {}
        }
        news
    }

    pub(super) fn commit(&mut self, now: i64, delay: i64) {
        let (id, generation) = (Arc::clone(&self.id), self.generation);
        self.send(now, delay, Request::Commit { id, generation, offsets: self.owned.clone() });
    }

    pub(super) fn leave(&mut self, now: i64, delay: i64) {
        self.send(now, delay, Request::Leave { id: Arc::clone(&self.id) });
        self.phase = Phase::Gone;
    }

    pub(super) fn leaver(&self, id: &Arc<str>) -> Leaver {
        Leaver { member_id: Arc::clone(id), instance_id: self.instance.as_deref().map(Arc::from), reason: None }
    }

    pub(super) fn sync_of(&self, request: &Request) -> Option<crate::groups::SyncRequest> {
        let Request::Sync { id, generation, assignments } = request else { return None };
        let assignments: Vec<(&str, &str)> =
            assignments.iter().map(|(id, what)| (id.as_str(), what.as_str())).collect();
        let mut sync = sync_request(id, *generation, &assignments);
        sync.instance_id = self.instance.as_deref().map(Arc::from);
        Some(sync)
    }

    fn hear(&mut self) -> Option<News> {
        let answer = self.inbox.front_mut()?;
        match answer {
            Answer::Nothing => {
                self.inbox.pop_front();
                None
            }
            Answer::Heartbeat(heard) => {
                let heard = *heard;
                self.inbox.pop_front();
                if let Err(error) = heard {
                    self.trouble(error);
                }
                None
            }
            Answer::Commit(offsets, answer) => {
                let outcome = match answer {
                    Err(error) => Err(*error),
                    Ok(receiver) => received(receiver)?,
                };
                let offsets = std::mem::take(offsets);
                self.inbox.pop_front();
                match outcome {
                    Ok(()) => Some(News::Committed { offsets }),
                    // A rebalance is on: it hears of it again with its heartbeat.
                    Err(GroupError::RebalanceInProgress | GroupError::CoordinatorNotAvailable) => None,
                    Err(error) => {
                        self.trouble(error);
                        None
                    }
                }
            }
            Answer::Join(receiver) => {
                let outcome = match receiver.try_recv() {
                    Ok(outcome) => outcome,
                    Err(TryRecvError::Empty) => return None,
                    Err(TryRecvError::Closed) => {
                        Err(JoinRefused { error: GroupError::CoordinatorNotAvailable, member_id: Arc::clone(&self.id) })
                    }
                };
                self.inbox.pop_front();
                self.has_joined(outcome);
                None
            }
            Answer::Sync(generation, receiver) => {
                let outcome = received(receiver)?;
                let generation = *generation;
                self.inbox.pop_front();
                self.has_synced(generation, outcome)
            }
        }
    }

    fn has_joined(&mut self, outcome: Result<Joined, JoinRefused>) {
        if self.phase != Phase::Joining {
            return;
        }
        match outcome {
            Ok(joined) => {
                self.id = Arc::clone(&joined.member_id);
                self.generation = joined.generation;
                self.phase = Phase::Syncing;
                let divide = joined.leader == joined.member_id && !joined.skip_assignment;
                let assignments = if divide { divided(&joined) } else { Vec::new() };
                let request = Request::Sync { id: Arc::clone(&self.id), generation: joined.generation, assignments };
                self.outbox.push_back((0, request));
            }
            Err(JoinRefused { error: GroupError::MemberIdRequired, member_id }) => {
                self.id = member_id;
                self.phase = Phase::Outside;
            }
            Err(JoinRefused { error, .. }) => self.trouble(error),
        }
    }

    fn has_synced(&mut self, generation: i32, outcome: Result<Synced, GroupError>) -> Option<News> {
        if self.phase != Phase::Syncing || generation != self.generation {
            return None;
        }
        match outcome {
            Ok(synced) => {
                self.phase = Phase::Working;
                self.next_heartbeat = 0;
                let text = String::from_utf8(synced.assignment.to_vec()).unwrap();
                let partitions = text.split(',').filter_map(|p| p.parse().ok()).collect();
                Some(News::Owns { generation, partitions })
            }
            Err(error) => {
                self.trouble(error);
                None
            }
        }
    }

    fn trouble(&mut self, error: GroupError) {
        match error {
            GroupError::FencedInstanceId => self.phase = Phase::Gone,
            GroupError::UnknownMemberId => {
                self.id = "".into();
                self.phase = Phase::Outside;
            }
            _ => self.phase = Phase::Outside,
        }
    }
}

/// The answer, `None` while there is none.
fn received<T>(receiver: &mut Receiver<Result<T, GroupError>>) -> Option<Result<T, GroupError>> {
    match receiver.try_recv() {
        Ok(outcome) => Some(outcome),
        Err(TryRecvError::Empty) => None,
        Err(TryRecvError::Closed) => Some(Err(GroupError::CoordinatorNotAvailable)),
    }
}

/// The leader's work: partitions in turn to the members.
fn divided(joined: &Joined) -> Vec<(String, String)> {
    let count = joined.members.len() as i32;
    let share = |index: i32| {
        let mine: Vec<String> = (0..PARTITIONS).filter(|p| p % count == index).map(|p| p.to_string()).collect();
        mine.join(",")
    };
    let members = joined.members.iter().zip(0..);
    members.map(|(member, index)| (member.id.to_string(), share(index))).collect()
}
