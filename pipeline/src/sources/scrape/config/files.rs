//! `scrape_config_files`: files of jobs, which may be whole prometheus.yml files.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::global::Said;
use super::{ConfigError, GlobalConfig, ScrapeConfigs};

/// A file of jobs. What it says to others than scrapes is not taken, and that is told.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct JobsFile {
    global: GlobalConfig,
    scrape_configs: ScrapeConfigs,
    scrape_config_files: Vec<String>,
    alerting: Said,
    otlp: Said,
    remote_read: Said,
    remote_write: Said,
    rule_files: Said,
    runtime: Said,
    storage: Said,
    tracing: Said,
}

impl ScrapeConfigs {
    /// Adds the jobs of files behind these: paths from this folder, with `*`, `?` and `[...]`.
    ///
    /// # Errors
    /// What is wrong, with file and line; a path without `*` that leads nowhere, too.
    pub fn add_files(&mut self, patterns: &[String], folder: &Path) -> Result<(), ConfigError> {
        for file in matching(patterns, folder)? {
            self.add_file(&file, true)?;
        }
        Ok(())
    }

    /// Files that a file names may name no more.
    fn add_file(&mut self, file: &Path, may_name_more: bool) -> Result<(), ConfigError> {
        let place = file.display();
        let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {place}: {error}"))?;
        let read: Option<JobsFile> = serde_saphyr::from_str(&text).map_err(|error| {
            let plain = error.without_snippet();
            let line = plain.location().map(|at| format!(":{}:{}", at.line(), at.column())).unwrap_or_default();
            format!("{place}{line}: {plain}")
        })?;
        let mut read = read.unwrap_or_default();
        read.global.check_times().map_err(|error| format!("{place}: {error}"))?;
        read.tell_what_is_not_taken(file);
        let folder = file.parent().unwrap_or(Path::new(""));
        if !read.scrape_config_files.is_empty() {
            if !may_name_more {
                return Err(format!("{place}: a file named by scrape_config_files names more of them").into());
            }
            let mut more = Self::default();
            for named in matching(&read.scrape_config_files, folder).map_err(|error| format!("{place}: {error}"))? {
                more.add_file(&named, false)?;
            }
            read.scrape_configs.0.append(&mut more.0);
        }
        for mut job in read.scrape_configs.0 {
            job.inherit(&read.global);
            job.folder.get_or_insert_with(|| folder.to_path_buf());
            self.0.push(job);
        }
        Ok(())
    }
}

impl JobsFile {
    fn tell_what_is_not_taken(&self, file: &Path) {
        let sections = [
            (self.alerting, "alerting"),
            (self.otlp, "otlp"),
            (self.remote_read, "remote_read"),
            (self.remote_write, "remote_write"),
            (self.rule_files, "rule_files"),
            (self.runtime, "runtime"),
            (self.storage, "storage"),
            (self.tracing, "tracing"),
        ];
        let sections = sections.into_iter().filter(|(said, _)| said.0).map(|(_, name)| name.to_owned());
        let all: Vec<String> = self.global.not_taken().chain(sections).collect();
        if !all.is_empty() {
            tracing::warn!(
                file = %file.display(),
                "only scrape jobs are taken from this file, and what is global to them; not taken: {}",
                all.join(", ")
            );
        }
    }
}

fn matching(patterns: &[String], folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut files = Vec::new();
    for pattern in patterns {
        let whole = folder.join(pattern).display().to_string();
        let found = glob::glob(&whole).map_err(|error| format!("scrape_config_files: {pattern:?}: {error}"))?;
        let found: Vec<PathBuf> = found.filter_map(Result::ok).collect();
        if found.is_empty() && !whole.contains(['*', '?', '[']) {
            return Err(format!("scrape_config_files: {whole}: no such file").into());
        }
        files.extend(found);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sources::scrape::config::ScrapeConfig;

    fn of(folder: &Path, pattern: &str) -> Result<ScrapeConfig, String> {
        let mut jobs = ScrapeConfigs::default();
        jobs.add_files(&[pattern.to_owned()], folder).map_err(|error| error.to_string())?;
        jobs.resolve(&GlobalConfig::default(), folder).map_err(|error| error.to_string())
    }

    #[test]
    fn a_whole_prometheus_yml_brings_its_jobs() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("etc")).unwrap();
        fs::write(
            path("etc/prometheus.yml"),
            "global: { scrape_interval: 5s, scrape_timeout: 5s, evaluation_interval: 15s, external_labels: { a: b } }\n\
             rule_files: [rules.yml]\nalerting: { alertmanagers: [] }\nremote_write: [{ url: http://x }]\n\
             scrape_config_files: ['more/*.yml']\n\
             scrape_configs:\n- { job_name: a, file_sd_configs: [{ files: [t.json] }] }\n- { job_name: b, scrape_interval: 2s }\n",
        )
        .unwrap();
        fs::create_dir(path("etc/more")).unwrap();
        let more = "scrape_configs:\n- { job_name: c, scrape_timeout: 1s, tls_config: { ca_file: ca.pem } }\n";
        fs::write(path("etc/more/c.yml"), more).unwrap();
        fs::write(path("etc/more/empty.yml"), "# nothing yet\n").unwrap();
        let config = of(dir.path(), "etc/prometheus.yml").unwrap();
        let jobs: Vec<_> = config.jobs.iter().map(|job| job.job_name.as_str()).collect();
        assert_eq!(jobs, ["a", "b", "c"]);
        // The file's timeout yields to a short interval of a job.
        let times = |at: usize| {
            let job = &config.jobs[at];
            (job.scrape_interval.to_string(), job.scrape_timeout.to_string())
        };
        assert_eq!(times(0), ("5s".into(), "5s".into()));
        assert_eq!(times(1), ("2s".into(), "2s".into()));
        assert_eq!(times(2), ("5s".into(), "1s".into()));
        // Paths lead from the file that has them.
        assert_eq!(config.jobs[0].file_sd_configs[0].files, [path("etc/t.json")]);
        assert_eq!(config.jobs[2].http.tls_config.ca_file, Some(path("etc/more/ca.pem")));
    }

    #[test]
    fn mistakes_say_where() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for (text, said) in [
            ("scrape_config: []\n", "a.yml:1:1: unknown field `scrape_config`"),
            ("scrape_configs:\n- job_name: a\n  sample_limit: many\n", "a.yml:3:"),
            ("global: { scrape_interval: 1s, scrape_timeout: 2s }\n", "a.yml: global: scrape_timeout is longer"),
            ("scrape_config_files: [gone.yml]\n", "gone.yml: no such file"),
            ("scrape_config_files: [more.yml]\n", "names more of them"),
        ] {
            fs::write(path("a.yml"), text).unwrap();
            fs::write(path("more.yml"), "scrape_config_files: [a.yml]\n").unwrap();
            let error = of(dir.path(), "a.yml").unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!(of(dir.path(), "none-*.yml").unwrap().jobs.is_empty());
    }
}
