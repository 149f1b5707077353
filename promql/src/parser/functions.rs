//! The functions of the language: names and types.

use super::ast::ValueType::{self, Matrix, Scalar, String, Vector};

/// A function.
#[derive(Debug, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// Types of its arguments. Of a variadic function the last repeats, or is optional.
    pub args: &'static [ValueType],
    /// 0: exactly those arguments. n > 0: the last may be missing and up to n of it may be there. -1: any number of the last.
    pub variadic: i32,
    /// What it returns.
    pub returns: ValueType,
    /// Whether it is behind [`ParserOptions::experimental_functions`](crate::ParserOptions::experimental_functions).
    pub experimental: bool,
}

const fn function(name: &'static str, args: &'static [ValueType], variadic: i32, returns: ValueType) -> Function {
    Function { name, args, variadic, returns, experimental: false }
}

const fn vector(name: &'static str, args: &'static [ValueType]) -> Function {
    function(name, args, 0, Vector)
}

const fn experimental(name: &'static str, args: &'static [ValueType], variadic: i32, returns: ValueType) -> Function {
    Function { name, args, variadic, returns, experimental: true }
}

/// Every function, sorted by name.
pub static FUNCTIONS: &[Function] = &[
    vector("abs", &[Vector]),
    vector("absent", &[Vector]),
    vector("absent_over_time", &[Matrix]),
    vector("acos", &[Vector]),
    vector("acosh", &[Vector]),
    vector("asin", &[Vector]),
    vector("asinh", &[Vector]),
    vector("atan", &[Vector]),
    vector("atanh", &[Vector]),
    vector("avg_over_time", &[Matrix]),
    vector("ceil", &[Vector]),
    vector("changes", &[Matrix]),
    vector("clamp", &[Vector, Scalar, Scalar]),
    vector("clamp_max", &[Vector, Scalar]),
    vector("clamp_min", &[Vector, Scalar]),
    vector("cos", &[Vector]),
    vector("cosh", &[Vector]),
    vector("count_over_time", &[Matrix]),
    function("day_of_month", &[Vector], 1, Vector),
    function("day_of_week", &[Vector], 1, Vector),
    function("day_of_year", &[Vector], 1, Vector),
    function("days_in_month", &[Vector], 1, Vector),
    vector("deg", &[Vector]),
    vector("delta", &[Matrix]),
    vector("deriv", &[Matrix]),
    experimental("double_exponential_smoothing", &[Matrix, Scalar, Scalar], 0, Vector),
    experimental("end", &[], 0, Scalar),
    vector("exp", &[Vector]),
    vector("first_over_time", &[Matrix]),
    vector("floor", &[Vector]),
    vector("histogram_avg", &[Vector]),
    vector("histogram_count", &[Vector]),
    vector("histogram_fraction", &[Scalar, Scalar, Vector]),
    vector("histogram_quantile", &[Scalar, Vector]),
    experimental("histogram_quantiles", &[Vector, String, Scalar, Scalar], 9, Vector),
    vector("histogram_stddev", &[Vector]),
    vector("histogram_stdvar", &[Vector]),
    vector("histogram_sum", &[Vector]),
    function("hour", &[Vector], 1, Vector),
    vector("idelta", &[Matrix]),
    vector("increase", &[Matrix]),
    experimental("info", &[Vector, Vector], 1, Vector),
    experimental("integral", &[Matrix, Scalar], 1, Vector),
    vector("irate", &[Matrix]),
    function("label_join", &[Vector, String, String, String], -1, Vector),
    vector("label_replace", &[Vector, String, String, String, String]),
    vector("last_over_time", &[Matrix]),
    vector("ln", &[Vector]),
    vector("log10", &[Vector]),
    vector("log2", &[Vector]),
    experimental("mad_over_time", &[Matrix], 0, Vector),
    experimental("max_of", &[Scalar, Scalar], 0, Scalar),
    vector("max_over_time", &[Matrix]),
    experimental("min_of", &[Scalar, Scalar], 0, Scalar),
    vector("min_over_time", &[Matrix]),
    function("minute", &[Vector], 1, Vector),
    function("month", &[Vector], 1, Vector),
    function("pi", &[], 0, Scalar),
    vector("predict_linear", &[Matrix, Scalar]),
    vector("present_over_time", &[Matrix]),
    vector("quantile_over_time", &[Scalar, Matrix]),
    vector("rad", &[Vector]),
    experimental("range", &[], 0, Scalar),
    vector("rate", &[Matrix]),
    vector("resets", &[Matrix]),
    function("round", &[Vector, Scalar], 1, Vector),
    function("scalar", &[Vector], 0, Scalar),
    vector("sgn", &[Vector]),
    vector("sin", &[Vector]),
    vector("sinh", &[Vector]),
    vector("sort", &[Vector]),
    experimental("sort_by_label", &[Vector, String], -1, Vector),
    experimental("sort_by_label_desc", &[Vector, String], -1, Vector),
    vector("sort_desc", &[Vector]),
    vector("sqrt", &[Vector]),
    experimental("start", &[], 0, Scalar),
    experimental("start_timestamp", &[Vector], 0, Vector),
    vector("stddev_over_time", &[Matrix]),
    vector("stdvar_over_time", &[Matrix]),
    experimental("step", &[], 0, Scalar),
    vector("sum_over_time", &[Matrix]),
    vector("tan", &[Vector]),
    vector("tanh", &[Vector]),
    function("time", &[], 0, Scalar),
    vector("timestamp", &[Vector]),
    experimental("ts_of_first_over_time", &[Matrix], 0, Vector),
    experimental("ts_of_last_over_time", &[Matrix], 0, Vector),
    experimental("ts_of_max_over_time", &[Matrix], 0, Vector),
    experimental("ts_of_min_over_time", &[Matrix], 0, Vector),
    vector("vector", &[Scalar]),
    function("year", &[Vector], 1, Vector),
];

/// The function of a name.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|f| f.name.cmp(name)).ok().map(|i| &FUNCTIONS[i])
}
