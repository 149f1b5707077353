"""What DuckDB, Polars and delta-rs see in a table: the same columns of every row, as JSON, by engine."""

import json
import os
import pathlib
import sys

import deltalake
import duckdb
import duckdb_extension_delta
import polars

table, columns = sys.argv[1], sys.argv[2].split(",")
extension = next(pathlib.Path(duckdb_extension_delta.__file__).parent.rglob("delta.duckdb_extension"))
connection = duckdb.connect()
connection.execute(f"LOAD '{extension}'")
seen = {
    "duckdb": connection.execute(f"SELECT {', '.join(columns)} FROM delta_scan('{table}')").fetchall(),
    "polars": polars.read_delta(table).select(columns).rows(),
    "delta-rs": [
        tuple(row[column] for column in columns)
        for row in deltalake.DeltaTable(table).to_pyarrow_table(columns=columns).to_pylist()
    ],
}
key = lambda row: [(value is not None, value) for value in row]
print(json.dumps({engine: sorted(map(list, rows), key=key) for engine, rows in seen.items()}), flush=True)
# Threads of three runtimes: nobody waits for the order in which they end.
os._exit(0)
