//! What the rules tasks of this process have found last, for those who only look: `/api/v1/rules`, `/api/v1/alerts`.
//!
//! Like a metric: written by the task, read by nobody who decides anything.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use parking_lot::RwLock;

use super::alerts::Alert;

/// All rules of a task, at the last tick.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// Group and place in it, by the rule's id ([`PromRule::id`](super::PromRule::id)).
    pub(super) places: Arc<HashMap<String, (usize, usize)>>,
    /// By tenant, then group by group.
    pub(super) tenants: BTreeMap<String, Vec<ShownGroup>>,
}

/// A group, at the last tick. It is the same for as long as nothing of it changes but the time.
#[derive(Debug, Clone)]
pub(super) struct ShownGroup {
    pub(super) last_evaluation_ms: Option<i64>,
    pub(super) rules: Arc<Vec<Shown>>,
}

/// A rule, at the last tick.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Event time of the last evaluation, Unix milliseconds.
    pub last_evaluation_ms: Option<i64>,
    /// Why it failed.
    pub last_error: Option<String>,
    /// It has not been evaluated yet: what it looks back to is being read.
    pub waits: bool,
    /// How long the last evaluation took that was shown, seconds.
    pub evaluation_time_s: f64,
    /// What is pending or firing.
    pub alerts: Vec<Alert>,
}

impl Board {
    fn rule(&self, tenant: &str, id: &str) -> Option<Shown> {
        let (group, rule) = *self.places.get(id)?;
        let group = self.tenants.get(tenant)?.get(group)?;
        let shown = group.rules.get(rule)?;
        let last_evaluation_ms = group.last_evaluation_ms.or(shown.last_evaluation_ms).filter(|_| !shown.waits);
        Some(Shown { last_evaluation_ms, ..shown.clone() })
    }
}

/// What the tasks of this process show.
#[derive(Debug, Default)]
pub struct Boards(Vec<Arc<Board>>);

impl Boards {
    /// The rule of this id ([`PromRule::id`](super::PromRule::id)), for a tenant that has samples.
    pub fn rule(&self, tenant: &str, id: &str) -> Option<Shown> {
        self.0.iter().find_map(|board| board.rule(tenant, id))
    }
}

/// By the partition of the rules topic that the task owns.
static BOARDS: LazyLock<RwLock<BTreeMap<i32, Arc<Board>>>> = LazyLock::new(RwLock::default);

/// The boards of the rules tasks that run in this process and have evaluated something.
pub fn boards() -> Boards {
    Boards(BOARDS.read().values().map(Arc::clone).collect())
}

/// Puts another board in the place of that of a task, and returns it.
pub(super) fn publish(partition: i32, board: Board) -> Arc<Board> {
    let board = Arc::new(board);
    BOARDS.write().insert(partition, Arc::clone(&board));
    board
}

/// Takes a board away, where it is still there: whoever owns the task now shows another.
pub(super) fn withdraw(partition: i32, board: &Arc<Board>) {
    let mut boards = BOARDS.write();
    if boards.get(&partition).is_some_and(|now| Arc::ptr_eq(now, board)) {
        boards.remove(&partition);
    }
}
