#!/usr/bin/env python3
"""Rows 11 and 12 of the benchmarks: 20 queries people ask, on the very same files, by Highwater, DuckDB and chDB.

    cargo run --release -p highwater-benches --example fill_tables -- --dir DIR/lake --logs 20000000 --samples 100000000
    highwater serve --config bench.yaml      # data_dir: DIR, storage: { url: DIR/lake }
    benches/tables.py DIR/lake [--server http://127.0.0.1:8080] [--runs 5] [--cold]

Needs duckdb, duckdb-extension-delta, deltalake and chdb of PyPI; an engine that cannot be imported is left out and said so. `--cold` drops the page cache before
each first run (root). Prints the median of the hot runs in milliseconds, the first run, and the geometric mean of ours by theirs.
"""

import argparse
import importlib
import json
import math
import pathlib
import statistics
import time
import urllib.request

DAY = "timestamp >= TIMESTAMP '2026-03-01 01:00:00' AND timestamp < TIMESTAMP '2026-03-01 02:00:00'"
# {logs} and {metrics} stand for the tables. Written so that all three engines take them as they are.
QUERIES = {
    "count": "SELECT count(*) FROM {logs}",
    "range: an hour": f"SELECT count(*), min(message) FROM {{logs}} WHERE {DAY}",
    "range: by level": f"SELECT level, count(*) FROM {{logs}} WHERE {DAY} GROUP BY level ORDER BY level",
    "range: of a service": f"SELECT count(*) FROM {{logs}} WHERE service = 'service-7' AND {DAY}",
    "top-k: latest": "SELECT timestamp, service, message FROM {logs} ORDER BY timestamp DESC LIMIT 100",
    "top-k: latest errors": "SELECT timestamp, service, message FROM {logs} WHERE level = 'ERROR' ORDER BY timestamp DESC LIMIT 100",
    "top-k: services by errors": "SELECT service, count(*) AS n FROM {logs} WHERE level IN ('ERROR', 'CRITICAL') GROUP BY service ORDER BY n DESC, service LIMIT 10",
    "by service and minute": "SELECT service, date_trunc('minute', timestamp) AS m, count(*) AS n FROM {logs} GROUP BY service, m ORDER BY n DESC, service, m LIMIT 10",
    "needle: trace": "SELECT count(*) FROM {logs} WHERE trace_id = '{trace}'",
    "needle: nowhere": "SELECT count(*) FROM {logs} WHERE trace_id = 'no such trace'",
    "substring": "SELECT count(*) FROM {logs} WHERE message LIKE '%checkout%'",
    "substring: rare": "SELECT count(*) FROM {logs} WHERE message LIKE '%no such text%'",
    "distinct hosts": "SELECT count(DISTINCT host) FROM {logs}",
    "hosts of a service": "SELECT host, count(*) AS n FROM {logs} WHERE service = 'service-3' GROUP BY host ORDER BY host",
    "series: last value": "SELECT instance, max(value) FROM {metrics} WHERE name = 'requests_total' GROUP BY instance ORDER BY instance LIMIT 5",
    "series: by minute": "SELECT date_trunc('minute', timestamp) AS m, avg(value) FROM {metrics} WHERE name = 'temperature_celsius' GROUP BY m ORDER BY m LIMIT 5",
    "series: one": "SELECT count(*), min(value), max(value) FROM {metrics} WHERE name = 'cpu_seconds_total' AND instance = 'host-17:9100'",
    "series: names": "SELECT name, count(*) FROM {metrics} GROUP BY name ORDER BY name",
    "series: an hour": f"SELECT count(*), sum(value) FROM {{metrics}} WHERE name = 'sent_bytes_total' AND {DAY}",
    "series: how many": "SELECT count(DISTINCT series_id) FROM {metrics}",
}


class Highwater:
    def __init__(self, server, lake):
        self.server, self.names = server, {"logs": "logs", "metrics": "metrics"}

    def ask(self, query):
        body = json.dumps({"query": query, "format": "json"}).encode()
        request = urllib.request.Request(self.server + "/api/v1/sql", body, {"content-type": "application/json"})
        return [list(row.values()) for row in json.load(urllib.request.urlopen(request))]


class DuckDb:
    def __init__(self, _server, lake):
        duckdb, extension = importlib.import_module("duckdb"), importlib.import_module("duckdb_extension_delta")
        self.connection = duckdb.connect()
        found = next(pathlib.Path(extension.__file__).parent.rglob("delta.duckdb_extension"))
        self.connection.execute(f"LOAD '{found}'; SET TimeZone = 'UTC'")
        for table in ("logs", "metrics"):
            # Attached, so that the Delta log is read once, as in a session of people's.
            self.connection.execute(f"ATTACH '{lake}/tables/{table}' AS {table}_lake (TYPE delta, PIN_SNAPSHOT)")
        self.names = {table: f"{table}_lake" for table in ("logs", "metrics")}

    def ask(self, query):
        return [list(row) for row in self.connection.execute(query).fetchall()]


class ChDb:
    def __init__(self, _server, lake):
        self.chdb = importlib.import_module("chdb")
        deltalake = importlib.import_module("deltalake")
        self.names = {}
        for table in ("logs", "metrics"):
            files = [path.removeprefix("file://") for path in deltalake.DeltaTable(f"{lake}/tables/{table}").file_uris()]
            self.names[table] = "file('{" + ",".join(files) + "}', Parquet)" if len(files) > 1 else f"file('{files[0]}', Parquet)"

    def ask(self, query):
        answer = self.chdb.query(query.replace("TIMESTAMP '", "toDateTime64('").replace(":00:00'", ":00:00', 6, 'UTC')"), "JSONCompact")
        return json.loads(str(answer))["data"]


def drop_caches():
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("lake")
    arguments.add_argument("--server", default="http://127.0.0.1:8080")
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--cold", action="store_true")
    options = arguments.parse_args()
    engines = {}
    for name, engine in {"highwater": Highwater, "duckdb": DuckDb, "chdb": ChDb}.items():
        try:
            engines[name] = engine(options.server, options.lake)
        except (ImportError, OSError, StopIteration) as error:
            print(f"SKIPPED: {name}: {error}")
    reader = engines["highwater"]
    trace = reader.ask("SELECT coalesce(max(trace_id), 'none') AS t FROM logs WHERE service = 'service-5'")[0][0]
    times = {name: {} for name in engines}
    print(f"{'query':28}" + "".join(f"{name + ' first':>18}{name + ' hot':>16}" for name in engines))
    for label, query in QUERIES.items():
        line, answers = f"{label:28}", {}
        for name, engine in engines.items():
            text = query.replace("{trace}", trace)
            for table, stands_for in engine.names.items():
                text = text.replace("{" + table + "}", stands_for)
            if options.cold:
                drop_caches()
            runs = []
            for _ in range(options.runs + 1):
                began = time.perf_counter()
                answers[name] = engine.ask(text)
                runs.append((time.perf_counter() - began) * 1000)
            times[name][label] = statistics.median(runs[1:])
            line += f"{runs[0]:18.1f}{times[name][label]:16.1f}"
        counts = {len(rows) for rows in answers.values()}
        print(line + ("" if len(counts) == 1 else f"   answers differ in length: {counts}"))
    for name in engines:
        if name != "highwater":
            ratios = [math.log(times["highwater"][label] / times[name][label]) for label in QUERIES]
            print(f"highwater / {name}: {math.exp(statistics.mean(ratios)):.2f} (geometric mean, hot)")


if __name__ == "__main__":
    main()
