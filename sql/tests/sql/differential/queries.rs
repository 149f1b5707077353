//! Queries that people ask, put together at random: filters, groups, orders, joins, windows, subqueries.
//!
//! Both engines get the same text but for a few words: what is spelt otherwise is written `{like this}` here. Where an answer is cut by LIMIT its order is total up to rows
//! that are equal in every column shown.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::rows::{BEGIN_US, HOSTS, LEVELS, NAMES, PATHS, SERVICES, SPAN_US, WORDS};

/// A query in both spellings.
pub(super) struct Asked {
    pub(super) ours: String,
    pub(super) duckdb: String,
}

/// Words that differ: ours, and DuckDB's.
const SPELLINGS: [(&str, &str, &str); 4] = [
    ("{regexp}", "regexp_like", "regexp_matches"),
    ("{int}", "BIGINT", "BIGINT"),
    ("{ms}", "CAST(attributes['ms'] AS BIGINT)", "CAST(attributes['ms'] AS BIGINT)"),
    ("{agg}", "string_agg", "string_agg"),
];

pub(super) fn generate(seed: u64) -> Asked {
    let mut random = StdRng::seed_from_u64(seed);
    let text = Generator { random: &mut random }.query();
    let spell = |ours: bool| {
        SPELLINGS
            .iter()
            .fold(text.clone(), |text, (word, own, theirs)| text.replace(word, if ours { own } else { theirs }))
    };
    Asked { ours: spell(true), duckdb: spell(false) }
}

struct Generator<'a> {
    random: &'a mut StdRng,
}

impl Generator<'_> {
    fn one<'b>(&mut self, of: &[&'b str]) -> &'b str {
        of[self.random.random_range(0..of.len())]
    }

    fn chance(&mut self, p: f64) -> bool {
        self.random.random_bool(p)
    }

    fn quoted(&mut self, of: &[&str]) -> String {
        format!("'{}'", self.one(of).replace('\'', "''"))
    }

    fn time(&mut self) -> String {
        let at = BEGIN_US + self.random.random_range(0..SPAN_US / 1_000_000) * 1_000_000;
        let at = chrono::DateTime::from_timestamp_micros(at).unwrap();
        format!("TIMESTAMP '{}'", at.format("%Y-%m-%d %H:%M:%S"))
    }

    fn query(&mut self) -> String {
        match self.random.random_range(0..13_u32) {
            0..=2 => self.totals(),
            3..=5 => self.groups(),
            6 => self.first_rows(),
            7 => self.distinct(),
            8 => self.join(),
            9 => self.window(),
            10 => self.in_subquery(),
            11 => self.union(),
            _ => self.of_metrics(),
        }
    }

    /// A condition on a row of `logs`. Lists are asked of what is never NULL: of `x NOT IN (a) OR x NOT IN (b)` the optimiser of DataFusion 55 makes `true`, where NULL is no answer.
    fn condition(&mut self, depth: u32) -> String {
        if depth > 0 && self.chance(0.45) {
            let (a, b) = (self.condition(depth - 1), self.condition(depth - 1));
            return match self.random.random_range(0..4_u32) {
                0 | 1 => format!("({a} AND {b})"),
                2 => format!("({a} OR {b})"),
                _ => format!("NOT ({a})"),
            };
        }
        match self.random.random_range(0..16_u32) {
            0 => format!("service = {}", self.quoted(&SERVICES)),
            1 => format!("coalesce(level, 'none') IN ({}, {})", self.quoted(&LEVELS), self.quoted(&LEVELS)),
            2 => format!("coalesce(level, 'none') NOT IN ({}, {})", self.quoted(&LEVELS), self.quoted(&LEVELS)),
            3 => format!("timestamp >= {}", self.time()),
            4 => format!("timestamp BETWEEN {} AND {}", self.time(), self.time()),
            5 => format!("timestamp < {}", self.time()),
            6 => "trace_id IS NULL".into(),
            7 => format!("trace_id = 't{}'", self.random.random_range(0..210_u32)),
            8 => format!("message LIKE '%{}%'", self.one(&["GET", "time", "1", "slow", "ïve", "✓"])),
            9 => format!("message NOT LIKE '{}%'", self.one(&["GET", "slow_query", "100", "it"])),
            10 => format!("attributes['path'] = {}", self.quoted(&PATHS)),
            11 => format!("{{ms}} > {}", self.random.random_range(0..2_100_u32)),
            12 => {
                format!("{{regexp}}(message, '{}')", self.one(&["^GET [0-9]+", "timeout$", "[0-9]{3} ", "slow|naïve"]))
            }
            13 => format!("host IS DISTINCT FROM {}", self.quoted(&HOSTS)),
            14 => format!("coalesce(service, 'none') <> {}", self.quoted(&SERVICES)),
            _ => format!("length(message) {} {}", self.one(&[">", "<=", "="]), self.random.random_range(5..35_u32)),
        }
    }

    fn filter(&mut self) -> String {
        if self.chance(0.15) { String::new() } else { format!(" WHERE {}", self.condition(2)) }
    }

    fn aggregate(&mut self) -> String {
        match self.random.random_range(0..14_u32) {
            0 => "count(*)".into(),
            1 => "count(trace_id)".into(),
            2 => "count(DISTINCT host)".into(),
            3 => "count(DISTINCT attributes['user'])".into(),
            4 => "sum({ms})".into(),
            5 => "avg({ms})".into(),
            6 => "max({ms})".into(),
            7 => "min(timestamp)".into(),
            8 => "max(message)".into(),
            9 => format!("count(*) FILTER (WHERE {})", self.condition(1)),
            10 => format!("sum(CASE WHEN {} THEN 1 ELSE 0 END)", self.condition(1)),
            11 => "sum(length(message))".into(),
            12 => "stddev_samp({ms})".into(),
            _ => format!("percentile_cont(0.{}) WITHIN GROUP (ORDER BY {{ms}})", self.one(&["5", "9", "95", "25"])),
        }
    }

    fn aggregates(&mut self) -> String {
        let n = self.random.random_range(1..4_u32);
        let all: Vec<String> = (0..n).map(|i| format!("{} AS a{i}", self.aggregate())).collect();
        all.join(", ")
    }

    fn key(&mut self) -> String {
        self.one(&[
            "service",
            "level",
            "host",
            "attributes['path']",
            "date_trunc('hour', timestamp)",
            "date_trunc('minute', timestamp)",
            "length(message) % 4",
            "service || '/' || host",
            "CASE WHEN level IN ('ERROR', 'CRITICAL') THEN 'bad' ELSE 'good' END",
            "extract(minute FROM timestamp)",
        ])
        .to_owned()
    }

    fn totals(&mut self) -> String {
        format!("SELECT {} FROM logs{}", self.aggregates(), self.filter())
    }

    fn groups(&mut self) -> String {
        let n = self.random.random_range(1..3_usize);
        let keys: Vec<String> = (0..n).map(|_| self.key()).collect();
        let shown: Vec<String> = keys.iter().enumerate().map(|(i, key)| format!("{key} AS k{i}")).collect();
        let places: Vec<String> = (1..=n).map(|i| i.to_string()).collect();
        let (aggregates, filter) = (self.aggregates(), self.filter());
        let having = if self.chance(0.3) {
            format!(" HAVING count(*) > {}", self.random.random_range(0..30_u32))
        } else {
            String::new()
        };
        let order = if self.chance(0.3) {
            let keys: Vec<String> = (0..n).map(|i| format!("k{i} NULLS LAST")).collect();
            format!(" ORDER BY count(*) DESC, {} LIMIT {}", keys.join(", "), self.random.random_range(1..20_u32))
        } else {
            String::new()
        };
        format!(
            "SELECT {}, {aggregates} FROM logs{filter} GROUP BY {}{having}{order}",
            shown.join(", "),
            places.join(", ")
        )
    }

    fn first_rows(&mut self) -> String {
        let order = self.one(&["ASC", "DESC"]);
        let (filter, limit, offset) =
            (self.filter(), self.random.random_range(1..60_u32), self.random.random_range(0..20_u32));
        format!(
            "SELECT timestamp, service, message FROM logs{filter} ORDER BY timestamp {order}, service NULLS LAST, message NULLS LAST LIMIT {limit} OFFSET {offset}"
        )
    }

    fn distinct(&mut self) -> String {
        format!("SELECT DISTINCT {} AS a, {} AS b FROM logs{}", self.key(), self.key(), self.filter())
    }

    fn join(&mut self) -> String {
        let kind = self.one(&["JOIN", "LEFT JOIN", "FULL JOIN"]);
        let (condition, name) = (self.condition(1), self.quoted(&NAMES));
        format!(
            "SELECT l.service, l.n, m.v FROM (SELECT service, count(*) AS n FROM logs WHERE {condition} GROUP BY service) l \
             {kind} (SELECT (labels ->> 'job') AS job, max(value) AS v FROM metrics WHERE name = {name} GROUP BY 1) m ON l.service = m.job"
        )
    }

    fn window(&mut self) -> String {
        let by = self.one(&["service", "host", "level"]);
        let function = self.one(&[
            "row_number() OVER (PARTITION BY {by} ORDER BY timestamp, message NULLS LAST)",
            "rank() OVER (PARTITION BY {by} ORDER BY timestamp)",
            "count(*) OVER (PARTITION BY {by} ORDER BY timestamp)",
            "lag(timestamp) OVER (PARTITION BY {by} ORDER BY timestamp)",
            "sum({ms}) OVER (PARTITION BY {by})",
            "max(timestamp) OVER (PARTITION BY {by} ORDER BY timestamp ROWS BETWEEN 3 PRECEDING AND CURRENT ROW)",
        ]);
        let function = function.replace("{by}", by);
        format!("SELECT {by} AS b, timestamp, {function} AS w FROM logs{}", self.filter())
    }

    fn in_subquery(&mut self) -> String {
        let (outer, inner) = (self.condition(1), self.condition(1));
        match self.random.random_range(0..3_u32) {
            0 => format!(
                "SELECT count(*), min(message) FROM logs WHERE {outer} AND trace_id IN (SELECT trace_id FROM logs WHERE {inner})"
            ),
            1 => format!(
                "SELECT count(*) FROM logs l WHERE EXISTS (SELECT 1 FROM metrics m WHERE (m.labels ->> 'job') = l.service AND m.value > {}) AND ({outer})",
                self.random.random_range(0..130_000_u32)
            ),
            _ => format!(
                "WITH t AS (SELECT service, avg({{ms}}) AS mean FROM logs WHERE {inner} GROUP BY service) \
                 SELECT l.service AS s, count(*) AS n FROM logs l JOIN t ON t.service = l.service WHERE {} > t.mean GROUP BY l.service",
                "CAST(l.attributes['ms'] AS {int})"
            ),
        }
    }

    fn union(&mut self) -> String {
        let operator = self.one(&["UNION ALL", "UNION", "INTERSECT", "EXCEPT"]);
        format!(
            "SELECT service, host FROM logs{} {operator} SELECT service, host FROM logs{}",
            self.filter(),
            self.filter()
        )
    }

    fn of_metrics(&mut self) -> String {
        let name = self.quoted(&NAMES);
        let (from, to) = (self.time(), self.time());
        match self.random.random_range(0..4_u32) {
            0 => format!(
                "SELECT name, (labels ->> 'job') AS job, count(*) AS n, sum(value) AS s, min(value) AS l, max(value) AS h FROM metrics WHERE timestamp >= {from} GROUP BY 1, 2"
            ),
            1 => format!(
                "SELECT date_trunc('minute', timestamp) AS m, avg(value) AS v FROM metrics WHERE name = {name} AND timestamp BETWEEN {from} AND {to} GROUP BY 1"
            ),
            2 => format!(
                "SELECT (labels ->> 'host') AS h, count(*) AS n, stddev_pop(value) AS d FROM metrics WHERE name <> {name} AND value > 0 GROUP BY 1"
            ),
            _ => format!(
                "SELECT timestamp, value FROM metrics WHERE name = {name} AND (labels ->> 'job') = {} ORDER BY timestamp DESC, value LIMIT {}",
                self.quoted(&SERVICES),
                self.random.random_range(1..30_u32)
            ),
        }
    }
}

/// The words that messages are made of have what LIKE and quotes trip over.
#[test]
fn queries_follow_from_their_seed() {
    assert_eq!(generate(5).ours, generate(5).ours);
    assert!((0..50).any(|seed| generate(seed).ours != generate(seed).duckdb));
    assert!(WORDS.iter().any(|word| word.contains('%')) && WORDS.iter().any(|word| word.contains('\'')));
}
