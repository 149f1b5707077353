//! What a verification found, for people and for exit codes.

use std::fmt;

use highwater_pipeline::tables::Cover;
use serde::Serialize;

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// Records the log had lost before the table read them; the table says so.
    RecordedGap,
    /// Offsets between two commits that no commit covers.
    Hole,
    /// Offsets covered twice.
    Overlap,
    /// A row that is in the table twice.
    Duplicate,
    /// The table says or holds something else than its commits or the log.
    Mismatch,
}

impl FindingKind {
    fn text(self) -> &'static str {
        match self {
            Self::RecordedGap => "recorded gap",
            Self::Hole => "hole",
            Self::Overlap => "overlap",
            Self::Duplicate => "duplicate",
            Self::Mismatch => "mismatch",
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of thing.
    pub kind: FindingKind,
    /// The table.
    pub table: String,
    /// The topic; empty where no topic can be named.
    pub topic: String,
    /// The partition; -1 where none can be named.
    pub partition: i32,
    /// First offset concerned.
    pub from: i64,
    /// One past the last offset concerned.
    pub to: i64,
    /// The Delta version concerned.
    pub version: u64,
    /// For people.
    pub message: String,
}

/// How far one partition's cover reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionReport {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// First offset covered.
    pub from: i64,
    /// One past the last offset covered.
    pub to: i64,
    /// Rows the covers say they have.
    pub rows: u64,
    /// Rows that were compared with the log, value by value.
    pub compared_rows: u64,
}

/// What was found in one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableReport {
    /// The table.
    pub table: String,
    /// Its latest Delta version.
    pub version: u64,
    /// Commits that carry a cover.
    pub commits: u64,
    /// Files read.
    pub files: u64,
    /// Rows read.
    pub rows: u64,
    /// Its partitions, by topic and number.
    pub partitions: Vec<PartitionReport>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What could not be checked, and why.
    pub notes: Vec<String>,
}

/// What was found in all tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// One report per table, by name.
    pub tables: Vec<TableReport>,
}

impl VerifyReport {
    /// True where nothing is wrong anywhere.
    pub fn is_clean(&self) -> bool {
        self.tables.iter().all(|t| t.findings.is_empty())
    }

    /// 0 where it is clean, 1 where it is not.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.is_clean())
    }

    /// Everything that is wrong.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.tables.iter().flat_map(|t| &t.findings)
    }
}

impl TableReport {
    pub(super) fn new(table: &str) -> Self {
        Self {
            table: table.to_string(),
            version: 0,
            commits: 0,
            files: 0,
            rows: 0,
            partitions: Vec::new(),
            findings: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    pub(super) fn find(&mut self, kind: FindingKind, version: u64, cover: &Cover, message: impl Into<String>) {
        self.findings.push(Finding {
            kind,
            table: self.table.clone(),
            topic: cover.topic.clone(),
            partition: cover.partition,
            from: cover.from,
            to: cover.to,
            version,
            message: message.into(),
        });
    }

    pub(super) fn find_in_commit(&mut self, kind: FindingKind, version: u64, message: impl Into<String>) {
        self.findings.push(Finding {
            kind,
            table: self.table.clone(),
            topic: String::new(),
            partition: -1,
            from: 0,
            to: 0,
            version,
            message: message.into(),
        });
    }

    pub(super) fn partition(&mut self, cover: &Cover) -> &mut PartitionReport {
        let at = self.partitions.iter().position(|p| p.topic == cover.topic && p.partition == cover.partition);
        let at = at.unwrap_or_else(|| {
            self.partitions.push(PartitionReport {
                topic: cover.topic.clone(),
                partition: cover.partition,
                from: cover.from,
                to: cover.from,
                rows: 0,
                compared_rows: 0,
            });
            self.partitions.len() - 1
        });
        &mut self.partitions[at]
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: table {}", self.kind.text(), self.table)?;
        if self.partition >= 0 {
            write!(f, ", {}/{} offsets {}..{}", self.topic, self.partition, self.from, self.to)?;
        }
        write!(f, ", version {}: {}", self.version, self.message)
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .tables
            .iter()
            .flat_map(|t| {
                t.partitions.iter().map(|p| p.topic.len() + 1 + p.partition.to_string().len()).chain([t.table.len()])
            })
            .max()
            .unwrap_or(0)
            .max(9);
        writeln!(
            f,
            "{:width$}  {:width$}  {:>12}  {:>12}  {:>12}  {:>12}",
            "table", "partition", "from", "to", "rows", "compared"
        )?;
        for table in &self.tables {
            for p in &table.partitions {
                let name = format!("{}/{}", p.topic, p.partition);
                writeln!(
                    f,
                    "{:width$}  {name:width$}  {:>12}  {:>12}  {:>12}  {:>12}",
                    table.table, p.from, p.to, p.rows, p.compared_rows
                )?;
            }
            if table.partitions.is_empty() {
                writeln!(f, "{:width$}  {:width$}  {:>12}  {:>12}  {:>12}  {:>12}", table.table, "-", "-", "-", 0, 0)?;
            }
        }
        for note in self.tables.iter().flat_map(|t| t.notes.iter().map(move |n| (&t.table, n))) {
            writeln!(f, "note: table {}: {}", note.0, note.1)?;
        }
        for finding in self.findings() {
            writeln!(f, "{finding}")?;
        }
        match self.findings().count() {
            0 => write!(
                f,
                "clean: {} tables, {} rows",
                self.tables.len(),
                self.tables.iter().map(|t| t.rows).sum::<u64>()
            ),
            1 => write!(f, "1 finding"),
            n => write!(f, "{n} findings"),
        }
    }
}
