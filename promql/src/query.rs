//! A parsed query, and what it needs and answers.

use crate::engine;
use crate::error::Error;
use crate::options::{Cancel, Options, ParserOptions, Steps};
use crate::parser::{self, Expr, ValueType};
use crate::source::{Selection, SeriesSource};
use crate::value::Answer;

/// A query: its text and its tree. Parsed once, evaluated any number of times.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    text: String,
    expr: Expr,
}

impl Query {
    /// Parses and checks a query.
    ///
    /// # Errors
    /// `bad_data` with Prometheus's message and place.
    pub fn parse(text: &str, options: &ParserOptions) -> Result<Self, Error> {
        Ok(Query { text: text.to_owned(), expr: parser::parse(text, options)? })
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its tree.
    #[must_use]
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// What it evaluates to at one time.
    #[must_use]
    pub fn value_type(&self) -> ValueType {
        self.expr.value_type()
    }

    /// The samples it needs at these steps: exactly the selections that [`Query::evaluate`] asks its source for. Whoever
    /// reads asynchronously reads them first.
    ///
    /// # Errors
    /// `bad_data` or `execution` where an expression for a duration has no sensible value.
    pub fn selections(&self, steps: &Steps, options: &Options) -> Result<Vec<Selection>, Error> {
        let plan = engine::plan(&self.expr, steps)?;
        Ok(engine::selections(&plan, steps, options))
    }

    /// The same of a part of a range query's steps.
    ///
    /// # Errors
    /// As for the whole.
    pub fn selections_of_part(&self, steps: &Steps, part: &Steps, options: &Options) -> Result<Vec<Selection>, Error> {
        let plan = engine::plan(&self.expr, steps)?;
        Ok(engine::selections(&plan, part, options))
    }

    /// Evaluates a range query at some of its steps, for whoever cannot hold at once the samples that all of them need. What
    /// the query says of itself (`start()`, `range()` and the like) is that of the whole. [`Answer::append`] puts the answers
    /// of all parts, in order, together to that of the whole.
    ///
    /// # Errors
    /// As for the whole.
    pub fn evaluate_part(
        &self,
        source: &dyn SeriesSource,
        steps: &Steps,
        part: &Steps,
        options: &Options,
        cancel: &Cancel,
    ) -> Result<Answer, Error> {
        engine::evaluate(&self.expr, source, steps, part, options, cancel)
    }

    /// Evaluates it at these steps.
    ///
    /// # Errors
    /// Where it cannot be answered; see [`Error::kind`].
    pub fn evaluate(
        &self,
        source: &dyn SeriesSource,
        steps: &Steps,
        options: &Options,
        cancel: &Cancel,
    ) -> Result<Answer, Error> {
        engine::evaluate(&self.expr, source, steps, steps, options, cancel)
    }
}
