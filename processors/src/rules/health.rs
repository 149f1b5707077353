//! How the SQL rules of this process's rules task stand, for those who only look: `/api/v1/rules`.
//!
//! Like a metric: written by the task, read by nobody who decides anything.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use parking_lot::RwLock;

/// How a rule stands, for one tenant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Health {
    /// Event time of the last evaluation, Unix milliseconds: the end of the last window that was closed.
    pub last_evaluation_ms: Option<i64>,
    /// Why it failed.
    pub last_error: Option<String>,
    /// How long the last one took that had rows, seconds.
    pub evaluation_time_s: f64,
}

/// By group, rule and tenant.
type Board = RwLock<BTreeMap<(String, String, String), Health>>;

static BOARD: LazyLock<RwLock<Option<Arc<Board>>>> = LazyLock::new(RwLock::default);

/// How a rule in SQL stands; `None` where its task does not run in this process, or has not evaluated it yet.
pub fn health(group: &str, rule: &str, tenant: &str) -> Option<Health> {
    let board = BOARD.read().as_ref().map(Arc::clone)?;
    board.read().get(&(group.to_owned(), rule.to_owned(), tenant.to_owned())).cloned()
}

/// The board of one task. Taken away with it.
#[derive(Default)]
pub(super) struct Shows(Option<Arc<Board>>);

impl Shows {
    /// Shows a rule, from now on.
    pub(super) fn show(&mut self, (group, rule, tenant): (&str, &str, &str), health: Health) {
        let board = self.0.get_or_insert_with(|| {
            let board = Arc::<Board>::default();
            *BOARD.write() = Some(Arc::clone(&board));
            board
        });
        board.write().insert((group.to_owned(), rule.to_owned(), tenant.to_owned()), health);
    }
}

impl Drop for Shows {
    fn drop(&mut self) {
        let Some(board) = &self.0 else { return };
        let mut current = BOARD.write();
        // Whoever owns the task now may show another.
        if current.as_ref().is_some_and(|now| Arc::ptr_eq(now, board)) {
            *current = None;
        }
    }
}

/// Does something, and adds the seconds that it took.
pub(super) fn timed<T>(work: impl FnOnce() -> T, took_s: &mut f64) -> T {
    #[expect(clippy::disallowed_methods, reason = "how long an evaluation took is shown, and decides nothing")]
    let begin = std::time::Instant::now();
    let done = work();
    *took_s += begin.elapsed().as_secs_f64();
    done
}
