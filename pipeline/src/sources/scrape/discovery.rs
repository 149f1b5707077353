//! Targets out of files: which files there are, what they say, and when that changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::config::{FileSdConfig, JobConfig, TargetGroup};
use super::target::{FILE, FoundGroup};
use super::transport::{Stamp, stamp};

/// The files of one job as they were last read.
#[derive(Debug, Default)]
pub(super) struct Files {
    known: BTreeMap<PathBuf, File>,
    read_at_ms: i64,
}

#[derive(Debug)]
struct File {
    stamp: Stamp,
    groups: Vec<FoundGroup>,
}

impl Files {
    /// Looks at the files; true where what they say has changed. A file that cannot be read says what it said before; one that is gone says nothing.
    pub(super) fn refresh(&mut self, configs: &[FileSdConfig], now_ms: i64) -> bool {
        let interval_ms = configs.iter().map(|config| config.refresh_interval.as_ms()).min().unwrap_or(i64::MAX);
        let all = now_ms - self.read_at_ms >= interval_ms || now_ms < self.read_at_ms;
        if all {
            self.read_at_ms = now_ms;
        }
        let found: Vec<PathBuf> =
            configs.iter().flat_map(|config| &config.files).flat_map(|file| matching(file)).collect();
        let mut changed = false;
        self.known.retain(|path, _| {
            let is_there = found.contains(path);
            changed |= !is_there;
            is_there
        });
        for path in found {
            let stamp = stamp(&path);
            if !all && self.known.get(&path).is_some_and(|known| known.stamp == stamp) {
                continue;
            }
            match read(&path) {
                Ok(groups) => {
                    let is_new = self.known.get(&path).is_none_or(|known| known.groups != groups);
                    changed |= is_new;
                    self.known.insert(path, File { stamp, groups });
                }
                Err(error) => {
                    metrics::counter!("highwater_scrape_discovery_errors_total").increment(1);
                    tracing::warn!(file = %path.display(), %error, "a file of targets cannot be read; what it said before holds");
                    if let Some(known) = self.known.get_mut(&path) {
                        known.stamp = stamp;
                    }
                }
            }
        }
        changed
    }

    /// All groups of a job: those that are written down, and those of the files.
    pub(super) fn groups(&self, job: &JobConfig) -> Vec<FoundGroup> {
        let written = job.static_configs.iter().cloned().map(|group| FoundGroup { place: None, group });
        written.chain(self.known.values().flat_map(|file| file.groups.iter().cloned())).collect()
    }
}

/// The files that a path with at most one `*` stands for.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    match glob::glob(&pattern.display().to_string()) {
        Ok(paths) => paths.filter_map(Result::ok).filter(|path| path.is_file()).collect(),
        // It was checked when the configuration was read.
        Err(_) => Vec::new(),
    }
}

fn read(path: &Path) -> Result<Vec<FoundGroup>, String> {
    /// A file of targets beyond this is a mistake.
    const MAX_SIZE_BYTES: u64 = 256 << 20;
    if std::fs::metadata(path).map_err(|error| error.to_string())?.len() > MAX_SIZE_BYTES {
        return Err(format!("it has more than {MAX_SIZE_BYTES} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let groups: Option<Vec<TargetGroup>> = if path.extension().is_some_and(|extension| extension == "json") {
        serde_json::from_str(&text).map_err(|error| error.to_string())?
    } else {
        serde_saphyr::from_str(&text).map_err(|error| error.without_snippet().to_string())?
    };
    let place = Some((FILE, path.display().to_string()));
    Ok(groups.unwrap_or_default().into_iter().map(|group| FoundGroup { place: place.clone(), group }).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sources::scrape::config::PromDuration;

    fn addresses(files: &Files) -> Vec<String> {
        let groups = files.known.values().flat_map(|file| &file.groups);
        groups.flat_map(|found| found.group.targets.iter().map(|target| target.0.clone())).collect()
    }

    #[test]
    fn files_are_read_when_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let configs = [FileSdConfig {
            files: vec![dir.path().join("*.json"), dir.path().join("more.yml")],
            refresh_interval: PromDuration(Duration::from_secs(300)),
        }];
        let mut files = Files::default();
        assert!(!files.refresh(&configs, 1_000_000));
        std::fs::write(dir.path().join("a.json"), r#"[{"targets": ["a:1", "b:1"], "labels": {"env": "prod"}}]"#)
            .unwrap();
        std::fs::write(dir.path().join("more.yml"), "- targets: [c:1]\n  labels: { n: 1 }\n").unwrap();
        assert!(files.refresh(&configs, 1_001_000));
        assert_eq!(addresses(&files), ["a:1", "b:1", "c:1"]);
        assert!(!files.refresh(&configs, 1_002_000));
        // Half a file says nothing new.
        std::fs::write(dir.path().join("a.json"), r#"[{"targets": ["a:1""#).unwrap();
        assert!(!files.refresh(&configs, 1_003_000));
        assert_eq!(addresses(&files).len(), 3);
        std::fs::write(dir.path().join("a.json"), r#"[{"targets": ["z:1"]}]"#).unwrap();
        assert!(files.refresh(&configs, 1_004_000));
        assert_eq!(addresses(&files), ["z:1", "c:1"]);
        std::fs::remove_file(dir.path().join("a.json")).unwrap();
        assert!(files.refresh(&configs, 1_005_000));
        assert_eq!(addresses(&files), ["c:1"]);
    }
}
