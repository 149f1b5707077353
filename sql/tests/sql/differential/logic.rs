//! Conditions put together at random over columns with NULLs: as values, under IS NULL, and as filters. What an optimiser makes of a condition must be
//! the same where it is NULL, too.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{compared, number};
use crate::fixture::Fixture;

/// How many conditions one query asks for as values.
const CONDITIONS: usize = 6;

struct Conditions(StdRng);

impl Conditions {
    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.0.random_range(0..of.len())]
    }

    fn below(&mut self, n: u32) -> u32 {
        self.0.random_range(0..n)
    }

    /// An element of a list over numbers.
    fn element(&mut self) -> String {
        match self.below(24) {
            0 => "NULL".into(),
            1 => "y".into(),
            2 => "1 + 1".into(),
            _ => (1 + self.below(4)).to_string(),
        }
    }

    fn elements(&mut self) -> String {
        let n = 1 + self.below(5);
        (0..n).map(|_| self.element()).collect::<Vec<_>>().join(", ")
    }

    fn leaf(&mut self) -> String {
        let number = self.one(&["x", "x", "x", "x", "y", "CAST(x AS BIGINT)", "x + 0", "coalesce(x, y)"]);
        let (a, b) = (self.element(), self.element());
        match self.below(22) {
            0..=3 => format!("{number} = {a}"),
            4 => format!("{a} = {number}"),
            5 | 6 => format!("{number} <> {a}"),
            7..=9 => format!("{number} IN ({})", self.elements()),
            10..=12 => format!("{number} NOT IN ({})", self.elements()),
            13 => format!("{number} {} {a}", self.one(&["<", "<=", ">", ">="])),
            14 => format!("{number} {}BETWEEN {a} AND {b}", self.one(&["", "NOT "])),
            15 => format!("{number} IS {}DISTINCT FROM {a}", self.one(&["", "NOT "])),
            16 => format!("{number} IS {}NULL", self.one(&["", "NOT "])),
            17 => format!("s {} ('a', '{}')", self.one(&["IN", "NOT IN"]), self.one(&["b", "c"])),
            18 => format!("s {} '{}'", self.one(&["=", "<>", "LIKE", "NOT LIKE"]), self.one(&["a", "b", "%", "a%"])),
            19 => format!("s BETWEEN '{}' AND 'b'", self.one(&["a", "c"])),
            20 => self.one(&["CAST(NULL AS BOOLEAN)", "1 = 1", "1 = 0"]).into(),
            _ => format!("{number} = {number}"),
        }
    }

    fn condition(&mut self, depth: u32) -> String {
        if depth == 0 || self.below(6) == 0 {
            return self.leaf();
        }
        let (a, b) = (self.condition(depth - 1), self.condition(depth - 1));
        match self.below(14) {
            0..=4 => format!("({a} AND {b})"),
            5..=9 => format!("({a} OR {b})"),
            10 | 11 => format!("NOT ({a})"),
            12 => format!("(({a}) IS {})", self.one(&["NULL", "NOT NULL", "TRUE", "NOT FALSE", "NOT TRUE", "FALSE"])),
            _ => format!("CASE WHEN {a} THEN {b} ELSE {} END", self.one(&["true", "false", "NULL"])),
        }
    }

    fn query(&mut self) -> String {
        let mut rows = Vec::new();
        for x in ["NULL", "1", "2", "3", "4"] {
            for y in ["NULL", "1", "3"] {
                rows.extend(["NULL", "'a'", "'b'"].map(|s| format!("({x}, {y}, {s})")));
            }
        }
        let rows = format!("(VALUES {}) AS t(x, y, s)", rows.join(", "));
        if self.below(2) == 0 {
            return format!("SELECT x, y, s FROM {rows} WHERE {}", self.condition(4));
        }
        let shown: Vec<String> = (0..CONDITIONS).map(|i| format!("{} AS c{i}", self.condition(3))).collect();
        format!("SELECT x, y, s, {} FROM {rows}", shown.join(", "))
    }
}

/// `HIGHWATER_SQL_CONDITIONS=n` asks so many queries (150); `HIGHWATER_SQL_SEED` as above.
#[tokio::test(flavor = "multi_thread")]
async fn conditions_over_nulls_are_those_of_duckdb() {
    let (count, seed) = (number("HIGHWATER_SQL_CONDITIONS", 150), number("HIGHWATER_SQL_SEED", 1));
    let fixture = Fixture::new().await;
    let queries: Vec<String> =
        (seed..seed + count).map(|seed| Conditions(StdRng::seed_from_u64(seed)).query()).collect();
    let Some(theirs) = super::duckdb(&fixture, &queries).await else { return };
    let mut wrong = Vec::new();
    for ((sql, theirs), seed) in queries.iter().zip(theirs).zip(seed..) {
        let ours = super::ours(&fixture, sql).await;
        wrong.extend(compared(sql, ours, theirs).map(|said| format!("seed {seed}: {sql}\n  {said}")));
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} answers differ:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(10)].join("\n")
    );
}
