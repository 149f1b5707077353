//! Words that say how grave a line is.

use super::scan::after_colour;
use crate::data::level;

/// How far behind a stamp a level is looked for: words and bytes.
const NEAR_WORDS: usize = 8;
const NEAR_BYTES: usize = 200;

/// Names of levels somewhere, but common words too: only in capitals do they state a level.
const AMBIGUOUS: [&str; 6] = ["config", "fine", "finer", "finest", "success", "verbose"];

/// The level that a word states, if it is nothing but a level in letters (`INFO`, `warn`, not `INFO-1`).
pub(super) fn stated(word: &str) -> Option<&str> {
    let plausible = (3..=13).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_alphabetic());
    let capitals = !word.bytes().any(|byte| byte.is_ascii_lowercase());
    let ambiguous = !capitals && AMBIGUOUS.iter().any(|known| word.eq_ignore_ascii_case(known));
    (plausible && !ambiguous && level::parse(word).is_some()).then_some(word)
}

/// The level stated near the start of `text`, which follows a stamp. A word in capitals counts; a word in small letters
/// only where it stands first, in brackets or before a colon, or is the value of `level=`: "the error was" states
/// nothing.
pub(super) fn stated_near(text: &str) -> Option<&str> {
    let end = text.char_indices().map(|(at, _)| at).find(|at| *at >= NEAR_BYTES).unwrap_or(text.len());
    let mut first = true;
    for word in text[..end].split_ascii_whitespace().take(NEAR_WORDS) {
        let word = after_colour(word);
        let word = word.split('\x1b').next().unwrap_or_default();
        if let Some(level) = ["level=", "lvl=", "severity="].iter().find_map(|key| word.strip_prefix(key)) {
            return stated(level.trim_matches('"'));
        }
        for part in word.split("][") {
            let bare = part.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            let marked = first || part.len() > bare.len() && part.ends_with([']', ':', '|', ')', '>']);
            let capitals = !bare.bytes().any(|byte| byte.is_ascii_lowercase());
            if let Some(level) = stated(bare).filter(|_| capitals || marked) {
                return Some(level);
            }
            // PostgreSQL's name for an ordinary line.
            if bare == "LOG" && part.ends_with(':') {
                return Some("INFO");
            }
            first &= bare.is_empty();
        }
    }
    None
}

/// The level that a message begins with, before a colon or in brackets: `error: text`, `[INFO] text`.
pub(super) fn leading(message: &str) -> Option<&str> {
    let bare = message.trim_start_matches(['[', '(', '<']);
    let end = bare.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(bare.len());
    let (level, behind) = bare.split_at(end);
    stated(level).filter(|_| behind.starts_with([':', ']', ')', '>']))
}

/// The level of a syslog message that states none: `ERROR` or `WARNING` where a word says so, else `INFO`. A word after
/// "no", "0" or "without" does not count. Meant to be cautious: nothing here makes a line `CRITICAL`.
pub(super) fn guessed(message: &str) -> &'static str {
    let mut guess = "INFO";
    let mut denied = false;
    for word in message.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| !word.is_empty()) {
        match meaning(word) {
            Meaning::Error if !denied => return "ERROR",
            Meaning::Warning if !denied => guess = "WARNING",
            _ => {}
        }
        denied = matches!(meaning(word), Meaning::Denial);
    }
    guess
}

enum Meaning {
    Error,
    Warning,
    Denial,
    Nothing,
}

fn meaning(word: &str) -> Meaning {
    let is_any = |words: &[&str]| words.iter().any(|known| word.eq_ignore_ascii_case(known));
    match word.as_bytes().first().map(u8::to_ascii_lowercase) {
        Some(b'e') if is_any(&["error", "errors", "emergency"]) => Meaning::Error,
        Some(b'f') if is_any(&["fatal"]) => Meaning::Error,
        Some(b'f') if is_any(&["failed", "failure", "failures"]) => Meaning::Warning,
        Some(b'p') if is_any(&["panic"]) => Meaning::Error,
        Some(b'c') if is_any(&["critical"]) => Meaning::Error,
        Some(b's') if is_any(&["segfault"]) => Meaning::Error,
        Some(b'w') if is_any(&["warning", "warn"]) => Meaning::Warning,
        Some(b'w') if is_any(&["without"]) => Meaning::Denial,
        Some(b'd') if is_any(&["denied"]) => Meaning::Warning,
        Some(b'i') if is_any(&["invalid", "illegal"]) => Meaning::Warning,
        Some(b'r') if is_any(&["refused", "rejected"]) => Meaning::Warning,
        Some(b'u') if is_any(&["unauthorized", "unauthorised"]) => Meaning::Warning,
        Some(b'n') if is_any(&["no"]) => Meaning::Denial,
        Some(b'0') if word == "0" => Meaning::Denial,
        _ => Meaning::Nothing,
    }
}
