"""Reads a Delta table with DuckDB and prints the answer to a query as JSON: read_with_duckdb.py TABLE_DIRECTORY QUERY.

The query names the table `t`. The extension comes from PyPI (`pip install duckdb-extension-delta`, which brings the DuckDB it was
built for) and is loaded from its wheel: nothing is downloaded. Exit code 77 where either is not installed.
"""

import json
import sys
from pathlib import Path

try:
    import duckdb
    import duckdb_extension_delta
except ImportError as missing:
    print(missing, file=sys.stderr)
    sys.exit(77)

table, query = sys.argv[1:]
package = Path(duckdb_extension_delta.__file__).parent
extension = package / "extensions" / f"v{duckdb.__version__}" / "delta.duckdb_extension"
connection = duckdb.connect()
connection.execute("SET autoinstall_known_extensions = false")
connection.execute(f"LOAD '{extension}'")
literal = table.replace("'", "''")
connection.execute(f"CREATE VIEW t AS SELECT * FROM delta_scan('{literal}')")
print(json.dumps(connection.execute(query).fetchall(), default=str))
