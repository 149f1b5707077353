//! What the rules task of this process has found last, for those who only look: `/api/v1/rules`, `/api/v1/alerts`.
//!
//! Like a metric: written by the task, read by nobody who decides anything.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use parking_lot::RwLock;

use super::alerts::Alert;

/// All rules of the task, at the last tick.
#[derive(Debug, Default)]
pub struct Board {
    /// By tenant and the rule's id ([`PromRule::id`](super::PromRule::id)).
    pub rules: BTreeMap<String, BTreeMap<String, Shown>>,
}

/// A rule, at the last tick.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Event time of the last evaluation, Unix milliseconds.
    pub last_evaluation_ms: Option<i64>,
    /// Why it failed.
    pub last_error: Option<String>,
    /// What is pending or firing.
    pub alerts: Vec<Alert>,
}

static BOARD: LazyLock<RwLock<Option<Arc<Board>>>> = LazyLock::new(RwLock::default);

/// The board, while the rules task runs in this process and has evaluated something.
pub fn board() -> Option<Arc<Board>> {
    BOARD.read().as_ref().map(Arc::clone)
}

/// Puts another board in its place, and returns it.
pub(super) fn publish(board: Board) -> Arc<Board> {
    let board = Arc::new(board);
    *BOARD.write() = Some(Arc::clone(&board));
    board
}

/// Takes a board away, where it is still there: whoever owns the task now shows another.
pub(super) fn withdraw(board: &Arc<Board>) {
    let mut current = BOARD.write();
    if current.as_ref().is_some_and(|now| Arc::ptr_eq(now, board)) {
        *current = None;
    }
}
