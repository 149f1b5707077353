//! Queries from a seed: every function, aggregation and operator over the series of `samples.rs`, some of them wrong.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::super::data::BEGIN_MS;

/// A request of a query.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) path: &'static str,
    query: String,
    times: Vec<(&'static str, String)>,
}

impl Asked {
    pub(super) fn parameters(&self) -> Vec<(&str, &str)> {
        let query = ("query", self.query.as_str());
        [query].into_iter().chain(self.times.iter().map(|(name, value)| (*name, value.as_str()))).collect()
    }

    /// Whether the order of series means something.
    pub(super) fn is_sorted(&self) -> bool {
        self.path == "query" && ["sort(", "sort_desc("].iter().any(|sort| self.query.starts_with(sort))
    }

    /// Whether Prometheus may forget an offset: its `timestamp` does, of a selector with `@`.
    pub(super) fn forgets_offset(&self) -> bool {
        ["timestamp(", " @ ", " offset "].iter().all(|part| self.query.contains(part))
    }

    /// Whether values become labels.
    pub(super) fn counts_values(&self) -> bool {
        self.query.contains("count_values")
    }

    /// Whether it keeps some series and not others that are as good.
    pub(super) fn chooses_among_equals(&self) -> bool {
        self.query.contains("topk") || self.query.contains("bottomk")
    }
}

/// Instants selected often: with labels that have several values.
const METRICS: [(&str, &[&str]); 17] = [
    ("requests_total", &["job", "instance", "code"]),
    ("requests_total", &["job", "instance", "code"]),
    ("up", &["job", "instance"]),
    ("up", &["job", "instance"]),
    ("temperature_celsius", &["room", "floor"]),
    ("latency_seconds_bucket", &["job", "instance", "le"]),
    ("latency_seconds_count", &["job", "instance"]),
    ("job_info", &["job", "team"]),
    ("flapping", &["job"]),
    ("odd_values", &["kind"]),
    ("sparse", &["job"]),
    ("native_seconds", &["job", "instance"]),
    ("native_seconds", &["job", "instance"]),
    ("native_custom", &["job"]),
    ("native_gauge", &["room"]),
    ("mixed", &["job"]),
    ("nosuch", &["job"]),
];
const VALUES: [(&str, &[&str]); 9] = [
    ("job", &["api", "web", "batch", "cron", "none"]),
    ("instance", &["a:1", "b:2", "c:3"]),
    ("code", &["200", "404", "500"]),
    ("room", &["kitchen", "cellar", "attic", ""]),
    ("floor", &["0", "1"]),
    ("le", &["0.1", "0.5", "1", "5", "+Inf"]),
    ("team", &["core", "edge"]),
    ("kind", &["all", "big", "tiny"]),
    ("nosuch", &["", "x"]),
];
const REGEXES: [&str; 8] = ["a.*", ".*", ".+", "", "api|web", "[a-c]:.", "(?i)API", "5.."];
const RANGES: [&str; 8] = ["30s", "1m", "2m", "5m", "10m", "17m", "1h", "1m30s"];
const OVER_TIME: [&str; 22] = [
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "deriv",
    "changes",
    "resets",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "sum_over_time",
    "count_over_time",
    "last_over_time",
    "first_over_time",
    "present_over_time",
    "absent_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "rate",
    "increase",
    "avg_over_time",
];
const MATHS: [&str; 24] = [
    "abs",
    "ceil",
    "floor",
    "exp",
    "ln",
    "log2",
    "log10",
    "sqrt",
    "sgn",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "deg",
    "rad",
    "timestamp",
];
const DATES: [&str; 8] =
    ["minute", "hour", "day_of_month", "day_of_week", "day_of_year", "days_in_month", "month", "year"];
const AGGREGATIONS: [&str; 10] = ["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "sum", "avg"];
const ARITHMETIC: [&str; 7] = ["+", "-", "*", "/", "%", "^", "atan2"];
const COMPARISONS: [&str; 6] = ["==", "!=", ">", "<", ">=", "<="];
const NUMBERS: [&str; 12] = ["0", "1", "2", "0.5", "-1", "1e3", "Inf", "NaN", "0x1F", "100", "3.14", "1e-3"];
/// What is no query, or one that cannot be answered.
const WRONG: [&str; 14] = [
    "up{",
    "sum(",
    "rate(up)",
    "up[5m",
    "up + on(job) requests_total",
    "sum by (job) (up) + on(job) group_left requests_total * 2 ==",
    "nosuchfunction(up)",
    "topk(up)",
    "up{job=~\"(\"}",
    "{}",
    "{job=~\".*\"}",
    "label_replace(up, \"x y\", \"$1\", \"job\", \"(.*)\") unless up[1m]",
    "up and 1",
    "\"a\" + \"b\"",
];

/// Makes one request.
pub(super) struct Generator {
    random: StdRng,
}

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed) }
    }

    /// The request of this seed.
    pub(super) fn next(mut self) -> Asked {
        let query = match self.random.random_range(0..40_u8) {
            0 => (*self.pick(&WRONG)).to_owned(),
            1..4 => self.scalar(2),
            4 => format!("sort{}({})", self.pick(&["", "_desc"]), self.vector(2)),
            5 => self.range_vector(1),
            _ => self.vector(3),
        };
        let second = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
        let begin = BEGIN_MS + self.random.random_range(-300..3_900_i64) * 1000;
        if self.random.random_bool(0.5) {
            let fraction = if self.random.random_bool(0.3) { self.random.random_range(0..1000) } else { 0 };
            return Asked { path: "query", query, times: vec![("time", second(begin + fraction))] };
        }
        let step_s: i64 = *self.pick(&[5, 15, 30, 60, 77, 300]);
        let steps = self.random.random_range(0..40);
        let end = begin + steps * step_s * 1000 + self.random.random_range(0..2) * 500;
        let step = if self.random.random_bool(0.5) { format!("{step_s}s") } else { step_s.to_string() };
        Asked {
            path: "query_range",
            query,
            times: vec![("start", second(begin)), ("end", second(end)), ("step", step)],
        }
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        all.choose(&mut self.random).unwrap()
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.random.random_ratio(1, n)
    }

    /// A selector, and the labels its series have.
    fn selector(&mut self) -> (String, Vec<&'static str>) {
        let (name, labels) = *self.pick(&METRICS);
        let mut labels = labels.to_vec();
        if self.one_in(20) {
            labels.push("nosuch");
        }
        let mut matchers = Vec::new();
        while self.one_in(if matchers.is_empty() { 2 } else { 4 }) {
            let label = *self.pick(&labels);
            let values = VALUES.iter().find(|(of, _)| *of == label).map_or(&[""][..], |(_, values)| values);
            let matcher = match self.random.random_range(0..4_u8) {
                0 => format!("{label}=\"{}\"", self.pick(values)),
                1 => format!("{label}!=\"{}\"", self.pick(values)),
                2 => format!("{label}=~\"{}\"", self.pick(&REGEXES)),
                _ => format!("{label}!~\"{}\"", self.pick(&REGEXES)),
            };
            matchers.push(matcher);
        }
        if self.one_in(15) {
            let odd = self.pick(&[
                "{\"system.memory.usage\"",
                "{__name__=\"system.memory.usage\"",
                "{__name__=~\"up|sparse\"",
            ]);
            return (format!("{odd}}}"), vec!["job"]);
        }
        let matchers = if matchers.is_empty() { String::new() } else { format!("{{{}}}", matchers.join(",")) };
        (format!("{name}{matchers}"), labels)
    }

    /// `offset` and `@`, now and then.
    fn moved(&mut self) -> String {
        match self.random.random_range(0..20_u8) {
            0 => format!(" offset {}", self.pick(&["1m", "5m", "-2m", "17s", "1h"])),
            1 => format!(" @ {}", BEGIN_MS / 1000 + self.random.random_range(0..3600)),
            4 if self.one_in(2) => {
                format!(" offset {}", self.pick(&["step()", "(1m + 30s)", "-(step() * 2)", "min_of(step(), 1m)"]))
            }
            2 => format!(" @ {}", self.pick(&["start()", "end()"])),
            3 => format!(" @ end() offset {}", self.pick(&["1m", "-1m"])),
            _ => String::new(),
        }
    }

    fn range_vector(&mut self, depth: u32) -> String {
        if depth > 0 && self.one_in(5) {
            let inner = self.vector(depth - 1);
            let step = *self.pick(&["", "15s", "1m", "45s"]);
            let range = *self.pick(&RANGES[..6]);
            return format!("({inner})[{range}:{step}]{}", self.moved());
        }
        let (selector, _) = self.selector();
        if self.one_in(12) {
            let range = *self.pick(&["1m + 30s", "max_of(step(), 2m)", "range() + 1m", "2 * (45s)", "step()"]);
            return format!("{selector}[{range}]{}", self.moved());
        }
        if self.one_in(15) {
            let extended = *self.pick(&["anchored", "smoothed"]);
            return format!("{selector}[{}] {extended}{}", self.pick(&RANGES), self.moved());
        }
        format!("{selector}[{}]{}", self.pick(&RANGES), self.moved())
    }

    fn scalar(&mut self, depth: u32) -> String {
        if depth == 0 || self.one_in(3) {
            return (*self.pick(&NUMBERS)).to_owned();
        }
        match self.random.random_range(0..6_u8) {
            0 => format!("scalar({})", self.vector(depth - 1)),
            1 => "time()".to_owned(),
            2 => "pi()".to_owned(),
            3 => format!("({} {} bool {})", self.scalar(depth - 1), self.pick(&COMPARISONS), self.scalar(depth - 1)),
            _ => format!("({} {} {})", self.scalar(depth - 1), self.pick(&ARITHMETIC), self.scalar(depth - 1)),
        }
    }

    fn labels(&mut self) -> String {
        let all = ["job", "instance", "code", "le", "room", "floor", "team", "nosuch"];
        let count = self.random.random_range(0..3);
        all.choose_multiple(&mut self.random, count).copied().collect::<Vec<_>>().join(", ")
    }

    fn vector(&mut self, depth: u32) -> String {
        if depth == 0 {
            let (selector, _) = self.selector();
            return format!("{selector}{}", self.moved());
        }
        let depth = depth - 1;
        match self.random.random_range(0..30_u8) {
            0..2 => self.vector(0),
            26..28 => {
                let native =
                    *self.pick(&["native_seconds", "native_custom", "native_gauge", "mixed", "latency_seconds_bucket"]);
                let of = match self.random.random_range(0..5_u8) {
                    0 => native.to_owned(),
                    1 => format!("rate({native}[{}])", self.pick(&["1m", "5m"])),
                    2 => format!("sum by ({}) (rate({native}[5m]))", self.pick(&["job", "", "job, le", "le"])),
                    3 => format!("{}({native}[2m:30s])", self.pick(&["sum_over_time", "avg_over_time", "increase"])),
                    _ => self.vector(depth),
                };
                let bound = ["-Inf", "-1", "0", "0.1", "0.7", "1", "+Inf", "NaN"];
                match self.random.random_range(0..7_u8) {
                    0 => format!("histogram_quantile({}, {of})", self.pick(&["0", "0.1", "0.5", "0.99", "1", "2"])),
                    1 => format!("histogram_fraction({}, {}, {of})", self.pick(&bound), self.pick(&bound)),
                    2 => format!("histogram_count({of})"),
                    3 => format!("histogram_sum({of})"),
                    4 => format!("histogram_avg({of})"),
                    5 => format!("histogram_stddev({of})"),
                    _ => format!("histogram_stdvar({of})"),
                }
            }
            28 => {
                let operator = *self.pick(&["and", "or", "unless", "+", "==", "> bool"]);
                let matching = *self.pick(&["ignoring (code)", "on (job)", "on ()", "ignoring (instance, code, le)"]);
                format!("({} {operator} {matching} {})", self.vector(0), self.vector(0))
            }
            29 => {
                let operator = if self.one_in(3) { self.pick(&COMPARISONS) } else { self.pick(&ARITHMETIC) };
                let bool_ = if COMPARISONS.contains(operator) && self.one_in(2) { "bool " } else { "" };
                match self.random.random_range(0..3_u8) {
                    0 => format!("(job_info {operator} {bool_}on (job) group_right (team) {})", self.vector(0)),
                    1 => format!("({} {operator} {bool_}ignoring (code) group_left () up)", self.vector(0)),
                    _ => format!("(native_seconds {operator} {bool_}on (job, instance) native_seconds offset 1m)"),
                }
            }
            2..7 => format!("{}({})", self.pick(&OVER_TIME), self.range_vector(depth)),
            7 => format!(
                "quantile_over_time({}, {})",
                self.pick(&["0.5", "0.9", "0", "1", "-1", "2"]),
                self.range_vector(depth)
            ),
            8 => format!("predict_linear({}, {})", self.range_vector(depth), self.pick(&["60", "3600", "-60"])),
            9 if self.one_in(3) => {
                let factor = *self.pick(&["1", "1.7", "0.001", "-1"]);
                format!("{}(timestamp({}) * {factor})", self.pick(&DATES), self.vector(0))
            }
            9..11 => format!("{}({})", self.pick(&MATHS), self.vector(depth)),
            11..15 => {
                let grouping = match self.random.random_range(0..3_u8) {
                    0 => String::new(),
                    1 => format!(" by ({})", self.labels()),
                    _ => format!(" without ({})", self.labels()),
                };
                match self.random.random_range(0..8_u8) {
                    0 => format!(
                        "{}{grouping} ({}, {})",
                        self.pick(&["topk", "bottomk"]),
                        self.pick(&["1", "2", "5", "0"]),
                        self.vector(depth)
                    ),
                    1 => format!(
                        "quantile{grouping} ({}, {})",
                        self.pick(&["0.5", "0.9", "0", "1.5"]),
                        self.vector(depth)
                    ),
                    2 => format!("count_values{grouping} (\"v\", {})", self.vector(0)),
                    _ => format!("{}{grouping} ({})", self.pick(&AGGREGATIONS), self.vector(depth)),
                }
            }
            15 => {
                let buckets = format!("rate(latency_seconds_bucket[{}])", self.pick(&["1m", "5m"]));
                let buckets = match self.random.random_range(0..3_u8) {
                    0 => buckets,
                    1 => format!("sum by (le) ({buckets})"),
                    _ => format!("sum by (le, job) ({buckets})"),
                };
                format!("histogram_quantile({}, {buckets})", self.pick(&["0.5", "0.9", "0.99", "0", "1", "-1", "NaN"]))
            }
            16 => {
                let target = *self.pick(&["new", "job", "__name__"]);
                let (replacement, source) =
                    (*self.pick(&["$1-x", "", "fixed"]), *self.pick(&["job", "instance", "nosuch"]));
                format!("label_replace({}, \"{target}\", \"{replacement}\", \"{source}\", \"(.*)\")", self.vector(0))
            }
            17 => format!("label_join({}, \"joined\", \"-\", \"job\", \"instance\")", self.vector(0)),
            18 => match self.random.random_range(0..6_u8) {
                0 => format!("clamp({}, {}, {})", self.vector(depth), self.pick(&NUMBERS), self.pick(&NUMBERS)),
                1 => format!("clamp_max({}, {})", self.vector(depth), self.scalar(1)),
                2 => format!("clamp_min({}, {})", self.vector(depth), self.scalar(1)),
                3 => format!("round({}, {})", self.vector(depth), self.pick(&["0.1", "5", "1"])),
                4 => format!("absent({})", self.vector(0)),
                _ => format!("vector({})", self.scalar(depth)),
            },
            19..21 => {
                let bool_ = if self.one_in(2) { "bool " } else { "" };
                let operator = if self.one_in(2) {
                    (*self.pick(&ARITHMETIC)).to_owned()
                } else {
                    format!("{} {bool_}", self.pick(&COMPARISONS))
                };
                if self.one_in(2) {
                    format!("({} {operator} {})", self.vector(depth), self.scalar(1))
                } else {
                    format!("({} {operator} {})", self.scalar(1), self.vector(depth))
                }
            }
            21..24 => {
                let operator = if self.one_in(3) { self.pick(&COMPARISONS) } else { self.pick(&ARITHMETIC) };
                match self.random.random_range(0..5_u8) {
                    0 => format!("(up {operator} on (job) group_left (team) job_info)"),
                    1 => format!("(requests_total {operator} on (job, instance) group_left () up)"),
                    2 => format!("(latency_seconds_sum {operator} ignoring () latency_seconds_count)"),
                    3 => {
                        let by = self.labels();
                        format!(
                            "(sum by ({by}) ({}) {operator} sum by ({by}) ({}))",
                            self.vector(depth),
                            self.vector(depth)
                        )
                    }
                    _ => format!("({} {operator} {})", self.vector(depth), self.vector(depth)),
                }
            }
            24 => {
                let matching = if self.one_in(2) { format!(" on ({})", self.labels()) } else { String::new() };
                format!(
                    "({} {}{matching} {})",
                    self.vector(depth),
                    self.pick(&["and", "or", "unless"]),
                    self.vector(depth)
                )
            }
            _ => format!("-({})", self.vector(depth)),
        }
    }
}

/// Requests beside queries.
pub(super) fn around() -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
    let range = [("start", "1767322800"), ("end", "1767326400")];
    let with = |more: &[(&'static str, &'static str)]| [&range[..], more].concat();
    vec![
        ("labels", with(&[])),
        ("labels", with(&[("match[]", "requests_total")])),
        ("labels", with(&[("match[]", "up"), ("match[]", "{__name__=~\"temp.*\"}")])),
        ("labels", with(&[("limit", "2")])),
        ("label/job/values", with(&[])),
        ("label/job/values", with(&[("match[]", "job_info")])),
        ("label/__name__/values", with(&[])),
        ("label/U__host_2e_name/values", with(&[])),
        ("label/nosuch/values", with(&[])),
        ("series", with(&[("match[]", "temperature_celsius")])),
        ("series", with(&[("match[]", "requests_total{code=\"500\",job!=\"web\"}")])),
        ("series", with(&[("match[]", "{\"system.memory.usage\"}")])),
        ("series", with(&[("match[]", "nosuch")])),
        ("series", with(&[])),
        ("series", with(&[("match[]", "{}")])),
        ("series", with(&[("match[]", "{job=~\".*\"}")])),
        ("series", with(&[("match[]", "up[5m]")])),
        ("series", with(&[("match[]", "up"), ("limit", "-1")])),
        ("series", vec![("match[]", "up"), ("start", "yesterday")]),
        ("labels", vec![("end", "x")]),
        ("labels", with(&[("match[]", "{}")])),
        ("query", vec![("query", "up"), ("time", "noon")]),
        ("query", vec![("query", "up"), ("timeout", "-1")]),
        ("query", vec![("query", "up"), ("timeout", "soon")]),
        ("query", vec![("query", "up"), ("limit", "many")]),
        ("query", vec![("query", "up"), ("lookback_delta", "far")]),
        ("query_range", vec![("query", "up"), ("start", "2"), ("end", "1"), ("step", "1")]),
        ("query_range", vec![("query", "up"), ("start", "1"), ("end", "2"), ("step", "0")]),
        ("query_range", vec![("query", "up"), ("start", "1"), ("end", "2"), ("step", "-5m")]),
        ("query_range", vec![("query", "up"), ("start", "1"), ("end", "2"), ("step", "1e300")]),
        ("query_range", vec![("query", "up"), ("start", "1"), ("end", "2")]),
        ("query_range", vec![("query", "up"), ("end", "2"), ("step", "1")]),
        ("query_range", vec![("query", "up"), ("start", "0"), ("end", "11001"), ("step", "1")]),
        ("query_exemplars", vec![("query", "up")]),
        ("query_exemplars", vec![("query", "up"), ("start", "2"), ("end", "1")]),
        ("format_query", vec![("query", "sum(rate(requests_total{job=\"api\"}[5m]))by(job)/ignoring(x)up>1")]),
        ("parse_query", vec![("query", "up{job=\"a\",instance!~\"b.*\"} offset -5m @ start()")]),
        ("parse_query", vec![("query", "{\"a.b\"}[5m:1m] @ 10.5 offset 1h")]),
        ("parse_query", vec![("query", "sum by (job) (rate(x_total[5m])) / on (job) group_left (team) (-job_info)")]),
        ("parse_query", vec![("query", "topk without (a) (3, x) or quantile(0.5, x) unless bool_x == bool 1e100")]),
        ("parse_query", vec![("query", "label_replace(x[5m:], \"a\", \"b\", \"c\", \"<(.*)>\") + Inf")]),
        ("parse_query", vec![("query", "label_replace(x, \"a\", \"b\", \"c\", \"<(.*)>\") ^ NaN > bool 0x1f")]),
        ("parse_query", vec![("query", "rate(x[5m * 2 + step()] offset (1m)) + round(y, 5) - x[1h:(5m)]")]),
        (
            "parse_query",
            vec![("query", "rate(x[min_of(5m, -(3m) + range())] smoothed) and count_values(\"v\", time() * x)")],
        ),
        ("parse_query", vec![("query", "changes(x[5m] anchored) - x @ end() + day_of_week() % 7 </ 1")]),
        ("parse_query", vec![("query", "sum(")]),
        ("parse_query", vec![]),
        ("rules", vec![]),
        ("rules", vec![("type", "alert")]),
        ("rules", vec![("type", "nosuch")]),
        ("rules", vec![("group_limit", "0")]),
        ("rules", vec![("group_next_token", "x")]),
        ("rules", vec![("exclude_alerts", "maybe")]),
        ("alerts", vec![]),
        ("targets", vec![]),
        ("targets", vec![("state", "active")]),
        ("targets/metadata", vec![]),
        ("scrape_pools", vec![]),
        ("alertmanagers", vec![]),
        ("metadata", vec![("limit", "x")]),
        ("metadata", vec![("metric", "nosuch")]),
        ("status/tsdb", vec![("limit", "x")]),
        ("status/tsdb", vec![("limit", "20000")]),
        ("status/walreplay", vec![]),
    ]
}
