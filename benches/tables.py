#!/usr/bin/env python3
"""Rows 11 and 12 of the benchmarks: 20 queries people ask, on the very same files, by Highwater, DuckDB and chDB; and what the files take up.

    cargo run --release -p highwater-benches --example fill_tables -- --dir DIR/lake --ids --logs 20000000 --samples 100000000
    echo '{data_dir: DIR/data, storage: {url: DIR/lake}, self_monitoring: false, tables: {retention: [{table: logs}]}}' > bench.yaml   # for ever: logs of March
    highwater serve --config bench.yaml
    benches/tables.py DIR/lake [--server http://127.0.0.1:8080] [--runs 3] [--threads N] [--cold] [--only WORD]

Needs duckdb, duckdb-extension-delta, pytz, deltalake and chdb of PyPI; an engine that cannot be imported is left out and said so. With 2,000,000 logs and 10,000,000 samples
all of it takes a minute or two, with ten times as much about ten. `--threads` for DuckDB and chDB; for Highwater it is `sql.threads`.

Prints the first run and the median of the hot ones in milliseconds, the geometric means of ours by theirs, and bytes by row and by sample. `--cold` drops the page
cache before each first run (root); the first run of Highwater is then one of a server that has its own caches: footers, and the Delta log. Answers are compared value by
value, floats to nine digits, and the exit code is 1 where two engines differ.
"""

import argparse
import collections
import datetime
import importlib
import json
import math
import pathlib
import statistics
import sys
import time
import urllib.error
import urllib.request

HOUR = "timestamp >= TIMESTAMP '2026-03-01 01:00:00' AND timestamp < TIMESTAMP '2026-03-01 02:00:00'"
# {logs} and {metrics} stand for the tables, {trace} and {user} for values that are there. Most are written so that all engines take them as they are;
# where they spell a function differently, there is a text for each.
QUERIES = {
    "count": "SELECT count(*) FROM {logs}",
    "range: an hour": f"SELECT count(*), min(message) FROM {{logs}} WHERE {HOUR}",
    "range: by level": f"SELECT level, count(*) AS n FROM {{logs}} WHERE {HOUR} GROUP BY level ORDER BY level",
    "range: of a service": f"SELECT count(*), max(message) FROM {{logs}} WHERE service = 'service-007' AND {HOUR}",
    "top-k: latest": "SELECT timestamp FROM {logs} ORDER BY timestamp DESC LIMIT 100",
    "top-k: latest errors": "SELECT timestamp, service, message FROM {logs} WHERE level = 'ERROR' ORDER BY timestamp DESC, message LIMIT 100",
    "top-k: services by errors": "SELECT service, count(*) AS n FROM {logs} WHERE level IN ('ERROR', 'CRITICAL') GROUP BY service ORDER BY n DESC, service LIMIT 10",
    "by service and minute": "SELECT service, date_trunc('minute', timestamp) AS m, count(*) AS n FROM {logs} GROUP BY service, m ORDER BY n DESC, service, m LIMIT 10",
    "needle: trace": "SELECT timestamp, message FROM {logs} WHERE trace_id = '{trace}' ORDER BY timestamp, message",
    "needle: nowhere": "SELECT count(*) FROM {logs} WHERE trace_id = 'ffffffffffffffffffffffffffffffff'",
    "needle: user's errors": "SELECT count(*) FROM {logs} WHERE user_id = '{user}' AND level = 'ERROR'",
    "substring": "SELECT count(*) FROM {logs} WHERE message LIKE '%payments/authorise%'",
    "substring: nowhere": "SELECT count(*) FROM {logs} WHERE message LIKE '%no such text%'",
    "regex": {
        "highwater": f"SELECT count(*) FROM {{logs}} WHERE {HOUR} AND regexp_like(message, 'answered 50[0-9] in [0-9]{{{{3}}}} ms')",
        "duckdb": f"SELECT count(*) FROM {{logs}} WHERE {HOUR} AND regexp_matches(message, 'answered 50[0-9] in [0-9]{{{{3}}}} ms')",
        "chdb": f"SELECT count(*) FROM {{logs}} WHERE {HOUR} AND match(message, 'answered 50[0-9] in [0-9]{{{{3}}}} ms')",
    },
    "distinct users": "SELECT count(DISTINCT user_id) FROM {logs}",
    "join: in incidents": "SELECT i.name, count(*) AS n FROM {logs} AS l JOIN (SELECT 'first' AS name, 'service-003' AS s UNION ALL SELECT 'second' AS name, 'service-040' AS s) AS i ON l.service = i.s "
    f"WHERE l.level = 'ERROR' AND {HOUR.replace('timestamp ', 'l.timestamp ')} GROUP BY i.name ORDER BY i.name",
    "percentile": {
        "highwater": "SELECT instance, percentile_cont(0.95) WITHIN GROUP (ORDER BY value) AS p FROM {metrics} WHERE name = 'temperature_celsius' GROUP BY instance ORDER BY instance LIMIT 5",
        "duckdb": "SELECT instance, quantile_cont(value, 0.95) AS p FROM {metrics} WHERE name = 'temperature_celsius' GROUP BY instance ORDER BY instance LIMIT 5",
        "chdb": "SELECT instance, quantileExactInclusive(0.95)(value) AS p FROM {metrics} WHERE name = 'temperature_celsius' GROUP BY instance ORDER BY instance LIMIT 5",
    },
    "series: by minute": "SELECT date_trunc('minute', timestamp) AS m, avg(value) AS a FROM {metrics} WHERE name = 'temperature_celsius' GROUP BY m ORDER BY m LIMIT 5",
    "series: one": "SELECT count(*), min(value), max(value) FROM {metrics} WHERE name = 'cpu_seconds_total' AND instance = 'host-17:9100'",
    "series: names": "SELECT name, count(*) AS n, max(value) AS m FROM {metrics} GROUP BY name ORDER BY name",
}


class Highwater:
    def __init__(self, options):
        self.server, self.names = options.server, {"logs": "logs", "metrics": "metrics"}

    def ask(self, query):
        body = json.dumps({"query": query, "format": "json"}).encode()
        request = urllib.request.Request(self.server + "/api/v1/sql", body, {"content-type": "application/json"})
        try:
            return [list(row.values()) for row in json.load(urllib.request.urlopen(request))]
        except urllib.error.HTTPError as error:
            raise SystemExit(f"highwater: {query}: {error.read().decode()}") from error


class DuckDb:
    def __init__(self, options):
        duckdb, extension = importlib.import_module("duckdb"), importlib.import_module("duckdb_extension_delta")
        self.connection = duckdb.connect()
        found = next(pathlib.Path(extension.__file__).parent.rglob("delta.duckdb_extension"))
        self.connection.execute(f"LOAD '{found}'; SET TimeZone = 'UTC'")
        if options.threads:
            self.connection.execute(f"SET threads = {options.threads}")
        for table in ("logs", "metrics"):
            # Attached, so that the Delta log is read once, as in a session of people's.
            self.connection.execute(f"ATTACH '{options.lake}/tables/{table}' AS {table}_lake (TYPE delta, PIN_SNAPSHOT)")
        self.names = {table: f"{table}_lake" for table in ("logs", "metrics")}

    def ask(self, query):
        return [list(row) for row in self.connection.execute(query).fetchall()]


class ChDb:
    def __init__(self, options):
        self.chdb = importlib.import_module("chdb")
        self.settings = " SETTINGS max_query_size = 100000000" + (f", max_threads = {options.threads}" if options.threads else "")
        self.names = {}
        for table, paths in files(options.lake).items():
            # Not one pattern for all: braces with slashes in them match nothing.
            self.names[table] = "(" + " UNION ALL ".join(f"SELECT * FROM file('{path}', Parquet)" for path in paths) + ")"

    def ask(self, query):
        query = query.replace("TIMESTAMP '", "toDateTime64('").replace(":00:00'", ":00:00', 6, 'UTC')")
        return json.loads(str(self.chdb.query(query + self.settings, "JSONCompact")))["data"]


def files(lake):
    """The data files of each table's newest version."""
    deltalake = importlib.import_module("deltalake")
    return {table: [path.removeprefix("file://") for path in deltalake.DeltaTable(f"{lake}/tables/{table}").file_uris()] for table in ("logs", "metrics")}


def drop_caches():
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


def plain(value):
    """A value as all engines would say it: times as seconds since 1970, numbers in nine digits."""
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value.replace("Z", "+00:00").replace(" ", "T")) if value[4:5] == "-" else float(value)
        except ValueError:
            return value
    if isinstance(value, datetime.datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=datetime.timezone.utc)).timestamp()
    return value if value is None or isinstance(value, str) else f"{float(value):.9g}" if abs(float(value)) < 1e9 else f"{float(value):.6f}"


def comparable(rows):
    return [[plain(value) for value in row] for row in rows]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("lake")
    arguments.add_argument("--server", default="http://127.0.0.1:8080")
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--threads", type=int)
    arguments.add_argument("--cold", action="store_true")
    arguments.add_argument("--only", default="", help="queries whose label has this word")
    options = arguments.parse_args()
    options.lake = str(pathlib.Path(options.lake).absolute())
    engines = {}
    for name, engine in {"highwater": Highwater, "duckdb": DuckDb, "chdb": ChDb}.items():
        try:
            engines[name] = engine(options)
        except (ImportError, OSError, StopIteration) as error:
            print(f"SKIPPED: {name}: {error}")
    # Highwater's files, so its words for what is in them; a value from the middle, so that it is not the first or last of a file.
    found = engines["highwater"].ask(f"SELECT max(trace_id) AS t, max(user_id) AS u FROM logs WHERE service = 'service-005' AND {HOUR}")[0]
    if None in found:
        print("no trace and user ids in the logs: fill the tables with --ids for the needles to mean anything")
    values = {"trace": found[0] or "none", "user": found[1] or "none"}
    times, differ = collections.defaultdict(lambda: collections.defaultdict(dict)), []
    print(f"{'query':28}" + "".join(f"{name + ' first':>18}{name + ' hot':>16}" for name in engines), flush=True)
    for label, query in QUERIES.items():
        if options.only not in label:
            continue
        line, answers = f"{label:28}", {}
        for name, engine in engines.items():
            text = (query if isinstance(query, str) else query[name]).format(**engine.names, **values)
            if options.cold:
                drop_caches()
            runs = []
            for _ in range(options.runs + 1):
                began = time.perf_counter()
                answer = engine.ask(text)
                runs.append((time.perf_counter() - began) * 1000)
            answers[name] = comparable(answer)
            times["first"][name][label], times["hot"][name][label] = runs[0], statistics.median(runs[1:])
            line += f"{runs[0]:18.1f}{times['hot'][name][label]:16.1f}"
        print(line, flush=True)
        for name, answer in answers.items():
            if answer != answers["highwater"]:
                differ.append(label)
                one = next(pair for pair in zip(answers["highwater"] + [None], answer + [None]) if pair[0] != pair[1])
                print(f"    highwater and {name} differ: {one[0]} and {one[1]}")
    for name in engines:
        if name != "highwater":
            for run in ("first", "hot"):
                ratios = [math.log(ours / times[run][name][label]) for label, ours in times[run]["highwater"].items()]
                print(f"highwater / {name}: {math.exp(statistics.mean(ratios)):.2f} (geometric mean, {run})")
    for table, what in {"logs": "row", "metrics": "sample"}.items():
        try:
            size, count = sum(pathlib.Path(path).stat().st_size for path in files(options.lake)[table]), engines["highwater"].ask(f"SELECT count(*) AS n FROM {table}")[0][0]
            print(f"{table}: {size} bytes, {count} {what}s, {size / max(count, 1):.2f} bytes a {what}")
        except ImportError as error:
            print(f"SKIPPED: bytes of {table}: {error}")
    print("all answers are alike" if not differ else f"answers differ: {', '.join(differ)}")
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
