//! A session's settings: what clients `SET` and `SHOW`.
//!
//! Those that mean something here do it (`statement_timeout`, `TimeZone`, `application_name`); those that could only mean what is so anyway are
//! accepted and shown; a value that would ask for something else is refused, and so is a name that nobody knows.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use arrow::array::timezone::Tz;

use super::error::{PgError, code};

/// The version of PostgreSQL whose behaviour, catalog and protocol clients may expect.
pub(crate) const SERVER_VERSION: &str = "15.10";
const SERVER_VERSION_NUM: &str = "150010";

/// Longest value of a setting.
const MAX_VALUE_BYTES: usize = 1024;

/// Name, value at the start, whether clients are told of it and of each change.
const KNOWN: &[(&str, &str, bool)] = &[
    ("application_name", "", true),
    ("backslash_quote", "safe_encoding", false),
    ("bytea_output", "hex", false),
    ("client_encoding", "UTF8", true),
    ("client_min_messages", "notice", false),
    ("DateStyle", "ISO, MDY", true),
    ("default_table_access_method", "heap", false),
    ("default_tablespace", "", false),
    ("default_transaction_deferrable", "off", false),
    ("default_transaction_isolation", "read committed", false),
    ("default_transaction_read_only", "on", true),
    ("enable_hashjoin", "on", false),
    ("enable_mergejoin", "on", false),
    ("enable_nestloop", "on", false),
    ("enable_seqscan", "on", false),
    ("escape_string_warning", "on", false),
    ("extra_float_digits", "1", false),
    ("geqo", "on", false),
    ("idle_in_transaction_session_timeout", "0", false),
    ("idle_session_timeout", "0", false),
    ("in_hot_standby", "off", true),
    ("integer_datetimes", "on", true),
    ("IntervalStyle", "postgres", true),
    ("is_superuser", "off", true),
    ("jit", "off", false),
    ("lc_collate", "C.UTF-8", false),
    ("lc_ctype", "C.UTF-8", false),
    ("lc_messages", "C.UTF-8", false),
    ("lc_monetary", "C.UTF-8", false),
    ("lc_numeric", "C.UTF-8", false),
    ("lc_time", "C.UTF-8", false),
    ("lock_timeout", "0", false),
    ("max_identifier_length", "63", false),
    ("max_index_keys", "32", false),
    ("max_parallel_workers_per_gather", "0", false),
    ("min_parallel_table_scan_size", "1024", false),
    ("plan_cache_mode", "auto", false),
    ("quote_all_identifiers", "off", false),
    ("random_page_cost", "4", false),
    ("role", "none", false),
    ("row_security", "on", false),
    ("search_path", "\"$user\", public", false),
    ("server_encoding", "UTF8", true),
    ("server_version", SERVER_VERSION, true),
    ("server_version_num", SERVER_VERSION_NUM, false),
    ("session_authorization", "", true),
    ("session_replication_role", "origin", false),
    ("ssl_renegotiation_limit", "0", false),
    ("standard_conforming_strings", "on", true),
    ("statement_timeout", "0", false),
    ("synchronize_seqscans", "on", false),
    ("synchronous_commit", "on", false),
    ("tcp_keepalives_idle", "0", false),
    ("tcp_user_timeout", "0", false),
    ("TimeZone", "UTC", true),
    ("transaction_deferrable", "off", false),
    ("transaction_isolation", "read committed", false),
    ("transaction_read_only", "on", false),
    ("transform_null_equals", "off", false),
    ("wal_level", "replica", false),
    ("work_mem", "4MB", false),
    ("xmloption", "content", false),
];

/// Those that say what the server is.
const FIXED: [&str; 11] = [
    "in_hot_standby",
    "integer_datetimes",
    "is_superuser",
    "lc_collate",
    "lc_ctype",
    "max_identifier_length",
    "max_index_keys",
    "server_encoding",
    "server_version",
    "server_version_num",
    "wal_level",
];

/// The settings of one session.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    values: BTreeMap<String, Setting>,
}

#[derive(Debug, Clone)]
struct Setting {
    name: String,
    value: String,
    /// What RESET goes back to.
    start: String,
    reported: bool,
}

impl Settings {
    /// As they are before a client says anything.
    pub(crate) fn new(user: &str, max_timeout: Duration) -> Self {
        let mut values: BTreeMap<String, Setting> = KNOWN
            .iter()
            .map(|(name, value, reported)| {
                let setting = Setting {
                    name: (*name).to_string(),
                    value: (*value).to_string(),
                    start: (*value).to_string(),
                    reported: *reported,
                };
                (name.to_lowercase(), setting)
            })
            .collect();
        let mut start = |name: &str, value: String| {
            if let Some(setting) = values.get_mut(name) {
                setting.value.clone_from(&value);
                setting.start = value;
            }
        };
        start("session_authorization", user.to_string());
        start("statement_timeout", shown_ms(u64::try_from(max_timeout.as_millis()).unwrap_or(u64::MAX)));
        Self { values }
    }

    /// Sets one as the connection begins: it is what RESET goes back to.
    pub(crate) fn start(&mut self, name: &str, value: &str) -> Result<(), PgError> {
        self.set(name, value)?;
        if let Some(setting) = self.values.get_mut(&name.to_lowercase()) {
            setting.start.clone_from(&setting.value);
        }
        Ok(())
    }

    /// Sets one. Gives its name and value where clients want to be told.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<Option<(String, String)>, PgError> {
        let key = name.to_lowercase();
        let Some(setting) = self.values.get_mut(&key) else {
            // Settings with a dot belong to extensions, and anybody may make one up.
            if key.contains('.') && value.len() <= MAX_VALUE_BYTES && self.values.len() < KNOWN.len() + 100 {
                let setting =
                    Setting { name: key.clone(), value: value.to_string(), start: String::new(), reported: false };
                self.values.insert(key, setting);
                return Ok(None);
            }
            return Err(unknown(name));
        };
        if FIXED.contains(&key.as_str()) {
            return Err(PgError::new("55P02", format!("parameter \"{}\" cannot be changed", setting.name)));
        }
        if value.len() > MAX_VALUE_BYTES {
            let message = format!("a value for \"{}\" has at most {MAX_VALUE_BYTES} bytes", setting.name);
            return Err(PgError::new(code::INVALID_VALUE, message));
        }
        setting.value = checked(&setting.name, &key, value)?;
        Ok(setting.reported.then(|| (setting.name.clone(), setting.value.clone())))
    }

    /// Back to the start.
    pub(crate) fn reset(&mut self, name: &str) -> Result<Option<(String, String)>, PgError> {
        let setting = self.values.get_mut(&name.to_lowercase()).ok_or_else(|| unknown(name))?;
        setting.value.clone_from(&setting.start);
        Ok(setting.reported.then(|| (setting.name.clone(), setting.value.clone())))
    }

    /// All of them back to the start. Gives those that clients want to be told.
    pub(crate) fn reset_all(&mut self) -> Vec<(String, String)> {
        let mut changed = Vec::new();
        self.values.retain(|_, setting| {
            if setting.value != setting.start {
                setting.value.clone_from(&setting.start);
                if setting.reported {
                    changed.push((setting.name.clone(), setting.value.clone()));
                }
            }
            KNOWN.iter().any(|(name, ..)| *name == setting.name)
        });
        changed
    }

    /// The name as it is written, and the value.
    pub(crate) fn show(&self, name: &str) -> Result<(&str, &str), PgError> {
        let setting = self.values.get(&name.to_lowercase()).ok_or_else(|| unknown(name))?;
        Ok((setting.name.as_str(), setting.value.as_str()))
    }

    /// All of them, by name in lower case.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.values().map(|setting| (setting.name.as_str(), setting.value.as_str()))
    }

    /// Those that a client is told of when it comes in.
    pub(crate) fn reported(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.values().filter(|s| s.reported).map(|s| (s.name.as_str(), s.value.as_str()))
    }

    /// How long a statement may take; `None` for as long as the server lets it.
    pub(crate) fn statement_timeout(&self) -> Option<Duration> {
        let (_, value) = self.show("statement_timeout").ok()?;
        duration_ms(value).filter(|ms| *ms > 0).map(Duration::from_millis)
    }

    /// The name of that zone as the engine knows it; none for UTC.
    pub(crate) fn zone_name(&self) -> Option<String> {
        let (_, value) = self.show("timezone").ok()?;
        let value = value.trim();
        self.zone()?;
        Some(hours(value).unwrap_or_else(|| value.to_string()))
    }

    /// The zone in which times are shown.
    pub(crate) fn zone(&self) -> Zone {
        let (_, value) = self.show("timezone").ok()?;
        zone(value).and_then(|(zone, _)| zone)
    }
}

fn unknown(name: &str) -> PgError {
    PgError::new(code::NO_OBJECT, format!("unrecognized configuration parameter \"{name}\""))
}

fn checked(name: &str, key: &str, value: &str) -> Result<String, PgError> {
    let refuse = |hint: &str| {
        let error = PgError::new(code::INVALID_VALUE, format!("invalid value for parameter \"{name}\": \"{value}\""));
        Err(if hint.is_empty() { error } else { error.with_hint(hint) })
    };
    match key {
        "client_encoding" => match value.to_ascii_lowercase().replace(['-', '_', '\'', '"'], "").as_str() {
            "utf8" | "unicode" => Ok("UTF8".to_string()),
            _ => refuse("All text is UTF8."),
        },
        "datestyle" => match value.split(',').any(|part| part.trim().eq_ignore_ascii_case("iso")) {
            true => Ok("ISO, MDY".to_string()),
            // An order of day and month says how dates are read, and ISO dates have one.
            false if ["mdy", "dmy", "ymd"].contains(&value.trim().to_ascii_lowercase().as_str()) => {
                Ok("ISO, MDY".to_string())
            }
            false => refuse("Times are written in ISO style."),
        },
        "intervalstyle" if !value.eq_ignore_ascii_case("postgres") => {
            refuse("Intervals are written in postgres style.")
        }
        "bytea_output" if !value.eq_ignore_ascii_case("hex") => refuse("Bytes are written in hex."),
        "standard_conforming_strings" if !is_on(value) => refuse("A backslash in a string is a backslash."),
        "timezone" => match zone(value) {
            Some((_, name)) => Ok(name),
            None => refuse(""),
        },
        "statement_timeout" | "lock_timeout" | "idle_session_timeout" | "idle_in_transaction_session_timeout" => {
            match duration_ms(value) {
                Some(ms) => Ok(shown_ms(ms)),
                None => refuse("Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\"."),
            }
        }
        "default_transaction_read_only" | "transaction_read_only" => {
            Ok(if is_on(value) { "on" } else { "off" }.to_string())
        }
        _ => Ok(value.to_string()),
    }
}

fn is_on(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "on" | "true" | "yes" | "1" | "t" | "y")
}

/// Where times are shown: UTC where there is none.
pub(crate) type Zone = Option<Tz>;

/// A zone and its name: of the time zone database, or an offset as `+02:00` or `2`.
fn zone(value: &str) -> Option<(Zone, String)> {
    let value = value.trim();
    if matches!(value.to_ascii_lowercase().as_str(), "utc" | "gmt" | "z" | "zulu" | "default" | "local" | "etc/utc") {
        return Some((None, "UTC".to_string()));
    }
    if let Some(offset) = hours(value) {
        return Tz::from_str(&offset).ok().map(|tz| (Some(tz), value.to_string()));
    }
    Tz::from_str(value).ok().map(|tz| (Some(tz), value.to_string()))
}

/// A number of hours as an offset: `-5` is `-05:00`.
fn hours(value: &str) -> Option<String> {
    let minutes = value.parse::<f64>().ok().map(|hours| (hours * 60.0) as i32)?;
    let sign = if minutes < 0 { '-' } else { '+' };
    Some(format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60))
}

/// Milliseconds in the largest unit of which they are a whole number, as Postgres shows them.
fn shown_ms(ms: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)];
    match UNITS.iter().find(|(_, factor)| ms > 0 && ms.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", ms / factor),
        None if ms > 0 => format!("{ms}ms"),
        None => "0".to_string(),
    }
}

/// Milliseconds, of `1500`, `1500ms`, `2s`, `1min`, `1h` or `1d`.
fn duration_ms(value: &str) -> Option<u64> {
    let value = value.trim();
    let split = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
    let (number, unit) = value.split_at(split);
    let factor = match unit.trim() {
        "us" => 0.001,
        "" | "ms" => 1.0,
        "s" => 1000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    let ms = number.parse::<f64>().ok()? * factor;
    (0.0..=2_147_483_647.0).contains(&ms).then_some(ms as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn settings() -> Settings {
        Settings::new("u", Duration::from_secs(60))
    }

    #[test]
    fn what_is_set_is_shown_and_goes_back() {
        let mut settings = settings();
        assert_eq!(settings.set("application_name", "psql").unwrap(), Some(("application_name".into(), "psql".into())));
        assert_eq!(settings.show("APPLICATION_NAME").unwrap(), ("application_name", "psql"));
        assert_eq!(settings.set("statement_timeout", "1.5s").unwrap(), None);
        assert_eq!(settings.statement_timeout(), Some(Duration::from_millis(1500)));
        assert_eq!(settings.show("statement_timeout").unwrap().1, "1500ms");
        settings.set("statement_timeout", "120000").unwrap();
        assert_eq!(settings.show("statement_timeout").unwrap().1, "2min");
        assert_eq!(settings.reset_all(), [("application_name".into(), String::new())]);
        assert_eq!(settings.statement_timeout(), Some(Duration::from_secs(60)));
        assert_eq!(settings.zone_name(), None);
        settings.set("timezone", "-5").unwrap();
        assert_eq!(settings.zone_name().as_deref(), Some("-05:00"));
        settings.start("TimeZone", "Europe/Berlin").unwrap();
        assert_eq!(settings.zone_name().as_deref(), Some("Europe/Berlin"));
        settings.set("timezone", "UTC").unwrap();
        settings.reset("timezone").unwrap();
        assert_eq!(settings.show("timezone").unwrap(), ("TimeZone", "Europe/Berlin"));
    }

    #[test]
    fn what_cannot_be_so_is_refused() {
        let mut settings = settings();
        for (name, value, code) in [
            ("nosuch", "1", code::NO_OBJECT),
            ("client_encoding", "LATIN1", code::INVALID_VALUE),
            ("DateStyle", "German", code::INVALID_VALUE),
            ("TimeZone", "Mars/Olympus", code::INVALID_VALUE),
            ("statement_timeout", "soon", code::INVALID_VALUE),
            ("server_version", "9", "55P02"),
        ] {
            assert_eq!(settings.set(name, value).unwrap_err().code, code, "{name}");
        }
        for (name, value) in
            [("client_encoding", "utf-8"), ("DateStyle", "ISO"), ("TimeZone", "+02:00"), ("my.own", "x")]
        {
            settings.set(name, value).unwrap();
        }
    }
}
