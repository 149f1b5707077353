//! All groups of the broker, and what stands between them and the world: the lock, the callers that wait, the timers, the journal.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use super::error::GroupError;
use super::machine::{
    Effect, GroupMachine, JoinRefused, JoinRequest, Joined, Leaver, Now, Stored, SyncRequest, Synced, Ticket,
};
use super::settings::GroupSettings;
use crate::broker::{Broker, GroupsJournal};
use crate::clock::Clock;
use crate::coordinator::Entry;
use crate::error::BrokerError;

/// Longest name of a group, in bytes: what the protocol's strings can hold.
const MAX_NAME_SIZE_BYTES: usize = i16::MAX as usize;

/// The answer that a change is durable, or why it is not.
pub(super) type Written = oneshot::Receiver<Result<(), GroupError>>;

/// The consumer groups of a broker.
pub struct Groups {
    pub(super) journal: GroupsJournal,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: Arc<GroupSettings>,
    new_id: Box<dyn Fn() -> Uuid + Send + Sync>,
    state: Mutex<State>,
    /// Rung where something is due earlier than the timer knows.
    alarm: Arc<Notify>,
    /// This, for what comes back from the journal's thread.
    me: Weak<Groups>,
}

/// What is under the lock. Nothing waits while it is held: the journal is a channel away.
pub(super) struct State {
    groups: HashMap<Arc<str>, Known>,
    /// When each group has something to do next.
    deadlines: BTreeSet<(i64, Arc<str>)>,
    joins: HashMap<Ticket, oneshot::Sender<Result<Joined, JoinRefused>>>,
    syncs: HashMap<Ticket, oneshot::Sender<Result<Synced, GroupError>>>,
    next_ticket: u64,
    /// Bytes of memory that all groups together hold, about.
    size_bytes: usize,
    /// When it is looked next what has expired.
    pub(super) next_expiry_ms: i64,
}

struct Known {
    machine: GroupMachine,
    /// Where it stands in `deadlines`.
    deadline_ms: Option<i64>,
    /// What of `size_bytes` is its own.
    size_bytes: usize,
}

impl std::fmt::Debug for Groups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Groups").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Groups {
    /// The groups of a broker, as its journal has them, and a task that minds their timeouts. It ends when this is dropped.
    pub fn start(broker: &Broker, settings: GroupSettings) -> Arc<Self> {
        let groups = Self::open(broker, settings, Uuid::new_v4);
        tokio::spawn(Self::mind(Arc::downgrade(&groups)));
        groups
    }

    /// The same, without the task: nothing is due unless [`Self::tick`] is called. `new_id` makes the ids of members.
    pub(crate) fn open(
        broker: &Broker,
        settings: GroupSettings,
        new_id: impl Fn() -> Uuid + Send + Sync + 'static,
    ) -> Arc<Self> {
        let journal = broker.groups_journal();
        let clock = Arc::clone(journal.clock());
        let settings = Arc::new(settings);
        let now = now(clock.as_ref());
        let mut state = State {
            groups: HashMap::new(),
            deadlines: BTreeSet::new(),
            joins: HashMap::new(),
            syncs: HashMap::new(),
            next_ticket: 0,
            size_bytes: 0,
            next_expiry_ms: now.elapsed_ms + settings.offsets_retention_check_interval_ms,
        };
        for (name, stored) in journal.view().stored_groups() {
            let machine = GroupMachine::restore(Arc::clone(&name), Arc::clone(&settings), stored, now);
            state.groups.insert(Arc::clone(&name), Known { machine, deadline_ms: None, size_bytes: 0 });
            state.reschedule(&name);
        }
        Arc::new_cyclic(|me| Self {
            journal,
            clock,
            settings,
            new_id: Box::new(new_id),
            state: Mutex::new(state),
            alarm: Arc::default(),
            me: Weak::clone(me),
        })
    }

    /// Sleeps until something is due, does it, and so on. Holds the groups only while it does, so that they can be dropped.
    async fn mind(groups: Weak<Self>) {
        let Some((clock, alarm)) = groups.upgrade().map(|g| (Arc::clone(&g.clock), Arc::clone(&g.alarm))) else {
            return;
        };
        loop {
            let Some(wait_ms) = groups.upgrade().map(|groups| groups.tick()) else { return };
            let sleep = clock.sleep(Duration::from_millis(wait_ms.clamp(0, MAX_SLEEP_MS) as u64));
            tokio::select! {
                () = sleep => {}
                () = alarm.notified() => {}
            }
        }
    }

    /// A member joins. The answer comes when the members are complete.
    pub(crate) fn join(&self, group: &str, request: JoinRequest) -> oneshot::Receiver<Result<Joined, JoinRefused>> {
        let (sender, receiver) = oneshot::channel();
        let refuse = |sender: oneshot::Sender<_>, error, member_id: &Arc<str>| {
            // Nobody waits any more, then.
            sender.send(Err(JoinRefused { error, member_id: Arc::clone(member_id) })).ok();
        };
        let bounds = self.settings.min_session_timeout_ms..=self.settings.max_session_timeout_ms;
        let checked = self.check_own(group).and_then(|()| check_name(group));
        let checked = checked.and_then(|()| {
            if bounds.contains(&request.session_timeout_ms) { Ok(()) } else { Err(GroupError::InvalidSessionTimeout) }
        });
        if let Err(error) = checked {
            refuse(sender, error, &request.member_id);
            return receiver;
        }
        let now = self.now();
        let mut state = self.state.lock();
        let brought: usize = request.protocols.iter().map(|protocol| protocol.metadata.len()).sum();
        if state.size_bytes.saturating_add(brought) > self.settings.max_metadata_size_bytes {
            tracing::warn!(
                group,
                limit_bytes = self.settings.max_metadata_size_bytes,
                "a member was refused: groups hold too much"
            );
            refuse(sender, GroupError::GroupMaxSizeReached, &request.member_id);
            return receiver;
        }
        if !state.groups.contains_key(group) {
            if !request.member_id.is_empty() {
                refuse(sender, GroupError::UnknownMemberId, &request.member_id);
                return receiver;
            }
            if state.groups.len() >= self.settings.max_groups {
                tracing::warn!(group, limit = self.settings.max_groups, "a new group was refused: there are too many");
                refuse(sender, GroupError::GroupMaxSizeReached, &request.member_id);
                return receiver;
            }
            let name: Arc<str> = group.into();
            let machine = GroupMachine::new(Arc::clone(&name), Arc::clone(&self.settings), now);
            state.groups.insert(name, Known { machine, deadline_ms: None, size_bytes: 0 });
        }
        let ticket = state.ticket();
        state.joins.insert(ticket, sender);
        self.change(&mut state, group, now, |machine| machine.join(now, request, (self.new_id)(), ticket));
        receiver
    }

    /// A member asks for its assignment. The answer comes when the leader's is durable.
    pub(crate) fn sync(&self, group: &str, request: SyncRequest) -> oneshot::Receiver<Result<Synced, GroupError>> {
        let (sender, receiver) = oneshot::channel();
        if let Err(error) = self.check_own(group).and_then(|()| check_name(group)) {
            sender.send(Err(error)).ok();
            return receiver;
        }
        let now = self.now();
        let mut state = self.state.lock();
        if !state.groups.contains_key(group) {
            sender.send(Err(GroupError::UnknownMemberId)).ok();
            return receiver;
        }
        let ticket = state.ticket();
        state.syncs.insert(ticket, sender);
        self.change(&mut state, group, now, |machine| machine.sync(now, request, ticket));
        receiver
    }

    /// A member says that it lives.
    pub(crate) fn heartbeat(
        &self,
        group: &str,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        self.check_own(group)?;
        check_name(group)?;
        let now = self.now();
        let mut state = self.state.lock();
        let beat = |machine: &mut GroupMachine| machine.heartbeat(now, member_id, instance_id, generation);
        self.change(&mut state, group, now, beat).unwrap_or(Err(GroupError::UnknownMemberId))
    }

    /// Members leave; answers per member.
    pub(crate) fn leave(&self, group: &str, leavers: &[Leaver]) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        self.check_own(group)?;
        check_name(group)?;
        let now = self.now();
        let mut state = self.state.lock();
        let left = self.change(&mut state, group, now, |machine| machine.leave(now, leavers));
        left.unwrap_or_else(|| Ok(leavers.iter().map(|_| Err(GroupError::UnknownMemberId)).collect()))
    }

    /// Hands over offsets that a member commits inside a transaction, if it may: it is in the group, in this generation, and not taken over
    /// by another process of its instance id. Without member and generation anyone may, as old clients do not name them. `hand_over`
    /// runs under the lock under which generations change, so what it hands to the journal lies before the next generation.
    pub(crate) fn in_generation<T>(
        &self,
        group: &str,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        hand_over: impl FnOnce() -> T,
    ) -> Result<T, GroupError> {
        self.check_own(group)?;
        let state = self.state.lock();
        match state.groups.get(group) {
            Some(known) => known.machine.check_commit(member_id, instance_id, generation, true)?,
            None if generation < 0 => {}
            None if self.journal.view().has_offsets(group) => return Err(GroupError::UnknownMemberId),
            None => return Err(GroupError::IllegalGeneration),
        }
        Ok(hand_over())
    }

    /// Does what is due now. Answers with the milliseconds until something is due again.
    pub(crate) fn tick(&self) -> i64 {
        let now = self.now();
        let mut state = self.state.lock();
        while let Some(name) =
            state.deadlines.first().filter(|(at_ms, _)| *at_ms <= now.elapsed_ms).map(|d| Arc::clone(&d.1))
        {
            self.change(&mut state, &name, now, |machine| machine.tick(now));
        }
        if state.next_expiry_ms <= now.elapsed_ms {
            state.next_expiry_ms = now.elapsed_ms + self.settings.offsets_retention_check_interval_ms;
            self.expire(&mut state, now);
        }
        let next_ms = state.deadlines.first().map_or(i64::MAX, |(at_ms, _)| *at_ms).min(state.next_expiry_ms);
        next_ms - now.elapsed_ms
    }

    /// A record has come back from the journal.
    fn stored(&self, group: &Arc<str>, why: Stored, outcome: Result<(), GroupError>) {
        let now = self.now();
        let mut state = self.state.lock();
        self.change(&mut state, group, now, |machine| machine.stored(now, why, outcome));
    }

    pub(super) fn now(&self) -> Now {
        now(self.clock.as_ref())
    }

    /// This, for what comes back from the journal's thread.
    pub(super) fn weak(&self) -> Weak<Self> {
        Weak::clone(&self.me)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Its settings.
    pub fn settings(&self) -> &GroupSettings {
        &self.settings
    }

    /// Refuses groups that are Highwater's own.
    pub(crate) fn check_own(&self, group: &str) -> Result<(), GroupError> {
        let own = !self.settings.own_group_prefix.is_empty() && group.starts_with(&self.settings.own_group_prefix);
        if own { Err(GroupError::GroupAuthorizationFailed) } else { Ok(()) }
    }

    /// Changes a group and carries out what it wants done; `None` where there is no such group.
    pub(super) fn change<T>(
        &self,
        state: &mut State,
        group: &str,
        now: Now,
        event: impl FnOnce(&mut GroupMachine) -> T,
    ) -> Option<T> {
        let known = state.groups.get_mut(group)?;
        let name = Arc::clone(known.machine.name());
        let answer = event(&mut known.machine);
        self.carry_out(state, &name, now);
        state.reschedule(&name);
        if state.deadlines.first().is_some_and(|(_, first)| *first == name) {
            self.alarm.notify_one();
        }
        Some(answer)
    }

    fn carry_out(&self, state: &mut State, name: &Arc<str>, now: Now) {
        loop {
            let Some(known) = state.groups.get_mut(name) else { return };
            let effects = known.machine.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    // Where nobody waits any more, the client is gone; its session will end.
                    Effect::Joined { ticket, answer } => {
                        state.joins.remove(&ticket).and_then(|sender| sender.send(answer).err());
                    }
                    Effect::Synced { ticket, answer } => {
                        state.syncs.remove(&ticket).and_then(|sender| sender.send(answer).err());
                    }
                    Effect::Store { state: record, why } => {
                        let entry = Entry::Group { group: Arc::clone(name), state: record };
                        let (me, group, reason) = (self.weak(), Arc::clone(name), why.clone());
                        let done = Box::new(move |written: Result<(), BrokerError>| {
                            if let Some(groups) = me.upgrade() {
                                groups.stored(&group, reason, written.map_err(|error| refusal(&group, &error)));
                            }
                        });
                        if let Err(error) = self.journal.record(entry, done)
                            && let Some(known) = state.groups.get_mut(name)
                        {
                            known.machine.stored(now, why, Err(refusal(name, &error)));
                        }
                    }
                }
            }
        }
    }
}

/// The timer looks at least this often, should a clock be set while it sleeps.
const MAX_SLEEP_MS: i64 = 60_000;

impl Drop for Groups {
    fn drop(&mut self) {
        // So that the timer sees that there is nothing to mind any more.
        self.alarm.notify_one();
    }
}

impl State {
    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    pub(super) fn machine(&self, group: &str) -> Option<&GroupMachine> {
        self.groups.get(group).map(|known| &known.machine)
    }

    pub(super) fn machines(&self) -> impl Iterator<Item = &GroupMachine> {
        self.groups.values().map(|known| &known.machine)
    }

    /// Makes a group known that has only offsets so far.
    pub(super) fn insert(&mut self, machine: GroupMachine) {
        self.groups.insert(Arc::clone(machine.name()), Known { machine, deadline_ms: None, size_bytes: 0 });
    }

    pub(super) fn forget(&mut self, group: &str) {
        let Some(known) = self.groups.remove(group) else { return };
        self.size_bytes -= known.size_bytes;
        if let Some(at_ms) = known.deadline_ms {
            self.deadlines.remove(&(at_ms, Arc::clone(known.machine.name())));
        }
    }

    /// Notes when a group has something to do next, and what it holds.
    fn reschedule(&mut self, name: &Arc<str>) {
        let Some(known) = self.groups.get_mut(name) else { return };
        let size_bytes = known.machine.size_bytes();
        self.size_bytes = self.size_bytes - std::mem::replace(&mut known.size_bytes, size_bytes) + size_bytes;
        let next = known.machine.next_deadline_ms();
        if next == known.deadline_ms {
            return;
        }
        if let Some(at_ms) = std::mem::replace(&mut known.deadline_ms, next) {
            self.deadlines.remove(&(at_ms, Arc::clone(name)));
        }
        if let Some(at_ms) = next {
            self.deadlines.insert((at_ms, Arc::clone(name)));
        }
    }
}

fn now(clock: &dyn Clock) -> Now {
    Now { elapsed_ms: clock.elapsed_ms(), wall_ms: clock.now_ms() }
}

pub(super) fn check_name(group: &str) -> Result<(), GroupError> {
    if group.is_empty() || group.len() > MAX_NAME_SIZE_BYTES { Err(GroupError::InvalidGroupId) } else { Ok(()) }
}

/// What a client is told where the journal could not be written.
pub(super) fn refusal(group: &str, error: &BrokerError) -> GroupError {
    tracing::warn!(group, %error, "a change of a consumer group could not be made durable");
    match error {
        // The journal's only complaint about what it is given is the size.
        BrokerError::InvalidConfig { .. } => GroupError::TooLarge,
        _ => GroupError::CoordinatorNotAvailable,
    }
}
