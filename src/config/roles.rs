//! What a process does of all that Highwater does.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// One of the things a process can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Takes logs and metrics in.
    Gateway,
    /// Runs tasks and writes tables, on its share of the partitions.
    Worker,
    /// Answers queries.
    Query,
}

impl Role {
    const ALL: [Self; 3] = [Self::Gateway, Self::Worker, Self::Query];

    /// As in configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Worker => "worker",
            Self::Query => "query",
        }
    }
}

/// The roles of a process; all of them by default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Roles(BTreeSet<Role>);

impl Roles {
    /// True where the process has this role.
    pub(crate) fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// True where it has every role.
    pub(crate) fn are_all(&self) -> bool {
        self.0.len() == Role::ALL.len()
    }

    /// True where it has none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for Roles {
    fn default() -> Self {
        Self(Role::ALL.into())
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|role| role.name()).collect();
        f.write_str(&names.join(","))
    }
}

impl FromStr for Roles {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(|name| {
                Role::ALL
                    .into_iter()
                    .find(|role| role.name() == name.trim())
                    .ok_or_else(|| format!("`{}` is not a role; there are gateway, worker and query", name.trim()))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_some_and_nothing_means_all() {
        assert!(Roles::default().are_all());
        let some: Roles = "worker, query".parse().unwrap();
        assert!(some.has(Role::Worker) && some.has(Role::Query) && !some.has(Role::Gateway));
        assert_eq!(some.to_string(), "worker,query");
        assert_eq!("".parse::<Roles>().unwrap_err(), "`` is not a role; there are gateway, worker and query");
        assert!("boss".parse::<Roles>().unwrap_err().starts_with("`boss` is not a role"));
    }
}
