//! Log lines about what a stranger can cause: said once, then at most every ten seconds, with how often it happened meanwhile.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Between two lines about the same thing.
const PAUSE_MS: i64 = 10_000;
/// Things remembered at once; past it the oldest are forgotten, and said again.
const MAX_THINGS: usize = 1024;

/// When what was last said.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<HashMap<String, Said>>);

#[derive(Debug)]
struct Said {
    at_ms: i64,
    since: u64,
}

impl Seldom {
    /// How often it has happened since it was last said, this time included; `None` where it is not time to say so.
    pub fn times(&self, what: &str, now_ms: i64) -> Option<u64> {
        let mut things = self.0.lock();
        if let Some(said) = things.get_mut(what) {
            said.since += 1;
            // A clock that went back makes no silence.
            if (0..PAUSE_MS).contains(&(now_ms - said.at_ms)) {
                return None;
            }
            said.at_ms = now_ms;
            return Some(std::mem::take(&mut said.since));
        }
        if things.len() >= MAX_THINGS {
            things.clear();
        }
        things.insert(what.to_owned(), Said { at_ms: now_ms, since: 0 });
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_and_then_how_many() {
        let seldom = Seldom::default();
        assert_eq!(seldom.times("a", 0), Some(1));
        assert_eq!(seldom.times("b", 1), Some(1));
        assert_eq!(seldom.times("a", 1), None);
        assert_eq!(seldom.times("a", 9_999), None);
        assert_eq!(seldom.times("a", 10_000), Some(3));
        assert_eq!(seldom.times("a", 20_000), Some(1));
        assert_eq!(seldom.times("a", 0), Some(1), "a clock set back");
    }
}
