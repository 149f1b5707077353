//! DuckDB with its Delta extension: somebody else's reader of our tables.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;

use super::skipped;
use super::wait::{DEADLINE, within};

/// Runs one query and prints its rows as JSON. The extension comes as a wheel, so loading it downloads nothing.
const SCRIPT: &str = r#"
import json, pathlib, sys
import duckdb, duckdb_extension_delta
extension = next(pathlib.Path(duckdb_extension_delta.__file__).parent.rglob("delta.duckdb_extension"))
connection = duckdb.connect()
connection.execute(f"LOAD '{extension}'")
connection.execute("SET TimeZone = 'UTC'")
print(json.dumps(connection.execute(sys.argv[1]).fetchall(), default=str))
"#;

/// A Python interpreter that has `duckdb` and `duckdb-extension-delta` (both on PyPI).
pub struct DuckDb {
    python: PathBuf,
}

impl DuckDb {
    /// `$HIGHWATER_PYTHON`, or the interpreter that `.ci/run` sets up, or `python3`: the first one that has DuckDB and its
    /// extension. None: says so loudly.
    pub async fn find() -> Option<Self> {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
        let candidates = [
            std::env::var_os("HIGHWATER_PYTHON").map(PathBuf::from),
            cache.map(|cache| cache.join("highwater/python/bin/python")),
            Some(PathBuf::from("python3")),
        ];
        for python in candidates.into_iter().flatten() {
            let imports = Command::new(&python).args(["-c", "import duckdb, duckdb_extension_delta"]).output().await;
            if imports.is_ok_and(|output| output.status.success()) {
                return Some(Self { python });
            }
        }
        skipped("reading our tables with DuckDB", "no Python with duckdb and duckdb-extension-delta (see .ci/prepare)");
        None
    }

    /// Rows of a query. `delta_scan('DIR')` reads a table.
    pub async fn query(&self, query: &str) -> Result<Vec<Vec<Value>>, String> {
        let running = Command::new(&self.python).args(["-c", SCRIPT, query]).kill_on_drop(true).output();
        let output = within(DEADLINE, "DuckDB answers", running).await.unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Rows in a table; `Err` where there is no table yet.
    pub async fn count(&self, table: &Path) -> Result<i64, String> {
        let rows = self.query(&format!("SELECT count(*) FROM delta_scan('{}')", table.display())).await?;
        Ok(rows[0][0].as_i64().unwrap())
    }
}
