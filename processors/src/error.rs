//! What can be wrong with a configuration of rollups and rules.

use std::error::Error;

/// Why rollups or rules cannot be run as they are written. All of these are found when the configuration is read.
#[derive(Debug, thiserror::Error)]
pub enum ProcessorsError {
    /// A rollup is not one this version can run.
    #[error("rollup {rollup}: {reason}")]
    Rollup {
        /// Its name.
        rollup: String,
        /// What is wrong, where in the SQL, and what would work.
        reason: String,
        /// What the planner said, where it said something.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// A rule is not one this version can run.
    #[error("rule {rule} in group {group}: {reason}")]
    Rule {
        /// The group's name.
        group: String,
        /// The rule's name.
        rule: String,
        /// What is wrong and what would work.
        reason: String,
    },
    /// A rule file is not a rule file.
    #[error("{file}: {reason}")]
    RuleFile {
        /// Path or name of the file.
        file: String,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// The number of partitions is not possible.
    #[error("partitions must be between 1 and 1024, not {partitions}")]
    Partitions {
        /// What was asked for.
        partitions: i32,
    },
    /// A task of the configuration cannot be made.
    #[error("a task of the configuration cannot be made: {0}")]
    Processor(#[source] highwater_pipeline::runtime::ProcessorError),
    /// Definitions from the log are not what this version can read.
    #[error("the definitions in the log are unreadable: {reason}")]
    Definitions {
        /// What is wrong.
        reason: String,
    },
}

impl ProcessorsError {
    /// A rollup that is refused.
    pub(crate) fn rollup(rollup: &str, reason: impl Into<String>) -> Self {
        Self::Rollup { rollup: rollup.to_owned(), reason: reason.into(), source: None }
    }

    /// The same, of a rule in this file.
    pub(crate) fn in_file(self, file: &str) -> Self {
        match self {
            rule @ Self::Rule { .. } => Self::RuleFile { file: file.to_owned(), reason: rule.to_string() },
            other => other,
        }
    }

    /// A configuration does not get better by being tried again.
    pub fn is_retryable(&self) -> bool {
        false
    }
}
