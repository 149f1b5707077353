//! Which files there are: paths and glob patterns to files and their identities.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use crate::agents::AgentError;
use crate::agents::shipping::FileId;

const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Patterns {
    wanted: Vec<Wanted>,
    unwanted: Vec<Pattern>,
    /// Nothing in here is read: the agent's own files would grow by being read.
    excluded: PathBuf,
}

#[derive(Debug)]
struct Wanted {
    text: String,
    pattern: Pattern,
}

/// A regular file that is there now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FoundFile {
    pub(crate) path: PathBuf,
    pub(crate) id: FileId,
}

impl Patterns {
    /// Checks the patterns; files that `unwanted` ones lead to are left out. `excluded` is a directory whose files are left alone.
    pub(crate) fn new(texts: &[String], unwanted: &[String], excluded: &Path) -> Result<Self, AgentError> {
        let wrong = |reason: String| AgentError::Option { option: "--file", reason };
        if texts.is_empty() {
            return Err(wrong("at least one path or pattern is needed, or --stdin".to_owned()));
        }
        let wanted = texts.iter().map(|text| {
            let pattern = Pattern::new(text).map_err(|error| wrong(format!("{text:?}: {error}")))?;
            Ok(Wanted { text: text.clone(), pattern })
        });
        let excluded = fs::canonicalize(excluded).unwrap_or_else(|_| excluded.to_path_buf());
        let unwanted = unwanted.iter().map(|text| {
            Pattern::new(text)
                .map_err(|error| AgentError::Option { option: "--exclude", reason: format!("{text:?}: {error}") })
        });
        let unwanted = unwanted.collect::<Result<_, AgentError>>()?;
        Ok(Self { wanted: wanted.collect::<Result<_, AgentError>>()?, unwanted, excluded })
    }

    /// All regular files, each once (under the first name that led to it), in the order of the patterns and then of
    /// names.
    pub(crate) fn find(&self) -> Vec<FoundFile> {
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for wanted in &self.wanted {
            for path in wanted.paths() {
                let Ok(metadata) = fs::metadata(&path) else { continue };
                let id = FileId::of(&metadata);
                let is_wanted = !self.is_unwanted(&path) && !self.is_excluded(&path);
                if metadata.is_file() && is_wanted && seen.insert(id) {
                    found.push(FoundFile { path, id });
                }
            }
        }
        found
    }

    /// The patterns that lead to no file now, and paths that are something other than a file.
    pub(crate) fn missing(&self) -> Vec<PathBuf> {
        let is_missing = |wanted: &&Wanted| !wanted.paths().iter().any(|path| path.is_file());
        self.wanted.iter().filter(is_missing).map(|wanted| PathBuf::from(&wanted.text)).collect()
    }

    /// Whether a file of this name would be read.
    pub(crate) fn covers(&self, path: &Path) -> bool {
        self.wanted
            .iter()
            .any(|wanted| Path::new(&wanted.text) == path || wanted.pattern.matches_path_with(path, MATCHING))
    }

    /// By its path, or by its name alone where the pattern has no folder.
    fn is_unwanted(&self, path: &Path) -> bool {
        self.unwanted.iter().any(|pattern| {
            pattern.matches_path_with(path, MATCHING)
                || (!pattern.as_str().contains('/')
                    && path.file_name().is_some_and(|name| pattern.matches_path_with(Path::new(name), MATCHING)))
        })
    }

    fn is_excluded(&self, path: &Path) -> bool {
        fs::canonicalize(path).is_ok_and(|path| path.starts_with(&self.excluded))
    }
}

impl Wanted {
    /// A file that bears the text itself as its name comes before the text's meaning as a pattern.
    fn paths(&self) -> Vec<PathBuf> {
        let literal = Path::new(&self.text);
        if literal.exists() {
            return vec![literal.to_path_buf()];
        }
        // Directories that cannot be read are left out; the pattern itself has been checked.
        glob::glob_with(&self.text, MATCHING).map(|paths| paths.flatten().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(patterns: &Patterns, root: &Path) -> Vec<String> {
        let relative = |found: FoundFile| found.path.strip_prefix(root).unwrap().display().to_string();
        patterns.find().into_iter().map(relative).collect()
    }

    #[test]
    fn paths_and_patterns_lead_to_each_file_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in ["a.log", "b[1].log", "sub/c.log", "sub/deep/d.log", "sub/e.txt", "state/own.log"] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink(root.join("a.log"), root.join("link.log")).unwrap();
        std::os::unix::fs::symlink(root, root.join("sub/loop")).unwrap();
        let text = |pattern: &str| root.join(pattern).display().to_string();
        let patterns = |list: &[&str]| {
            Patterns::new(&list.iter().map(|p| text(p)).collect::<Vec<_>>(), &[], &root.join("state")).unwrap()
        };
        assert_eq!(names(&patterns(&["*.log"]), root), ["a.log", "b[1].log"]);
        assert_eq!(
            names(&patterns(&["sub/c.log", "**/*.log"]), root),
            ["sub/c.log", "a.log", "b[1].log", "sub/deep/d.log"]
        );
        assert_eq!(names(&patterns(&["b[1].log"]), root), ["b[1].log"]);
        assert_eq!(names(&patterns(&["sub"]), root), Vec::<String>::new());
        assert_eq!(patterns(&["a.log", "none*", "sub"]).missing(), [root.join("none*"), root.join("sub")]);
        assert!(patterns(&["**/*.log"]).covers(&root.join("x/y.log")));
        assert!(!patterns(&["*.log"]).covers(&root.join("x/y.log")));
        let without = Patterns::new(&[text("**/*.log")], &["b*".into(), text("sub/**")], &root.join("state")).unwrap();
        assert_eq!(names(&without, root), ["a.log"]);
    }

    #[test]
    fn a_pattern_that_is_none_is_named() {
        let error = Patterns::new(&["a/***/b".to_owned()], &[], Path::new("x")).unwrap_err();
        assert!(error.to_string().starts_with("--file: \"a/***/b\": "), "{error}");
        assert!(Patterns::new(&[], &[], Path::new("x")).is_err());
        let error = Patterns::new(&["a".to_owned()], &["[".to_owned()], Path::new("x")).unwrap_err();
        assert!(error.to_string().starts_with("--exclude: "), "{error}");
    }
}
