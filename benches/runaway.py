#!/usr/bin/env python3
"""Does a query that runs away slow ingest? Sends logs for a while, then the same while queries that never end run, and compares.

    highwater serve --data-dir /tmp/runaway &
    benches/runaway.py [--server http://127.0.0.1:8080] [--seconds 20] [--senders 4] [--queries 4] [--rounds 3]

Prints rows acknowledged per second, and the median and 99th percentile of an acknowledgement in milliseconds, without and with the queries, round by round, and
the ratio of the medians over the rounds. Each query is cut by the server at `sql.timeout`, and begun again.
"""

import argparse
import http.client
import json
import statistics
import threading
import time
import urllib.parse

QUERIES = [
    "SELECT count(*) FROM generate_series(1, 1000000000000)",
    "SELECT count(*) FROM generate_series(1, 1000000) a JOIN generate_series(1, 1000000) b ON a.value < b.value",
    "SELECT count(DISTINCT value::text || repeat('y', 100)) FROM generate_series(1, 1000000000)",
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
]
BATCH = 500


def body(number):
    now = int(time.time() * 1000)
    line = '{"timestamp":%d,"level":"INFO","service":"service-%d","host":"host-%d","message":"GET /item/%d in %d ms","request_id":"%d"}\n'
    rows = range(number * BATCH, (number + 1) * BATCH)
    return "".join(line % (now, row % 5, row % 40, row, row % 700, row) for row in rows).encode()


def connect(server):
    return http.client.HTTPConnection(server.hostname, server.port, timeout=120)


def send(server, until, latencies, errors):
    connection, number = connect(server), threading.get_ident() % 100_000
    while time.monotonic() < until:
        payload = body(number)
        began = time.monotonic()
        connection.request("POST", "/logs", payload, {"content-type": "application/x-ndjson"})
        answer = connection.getresponse()
        answer.read()
        (latencies if answer.status == 200 else errors).append((time.monotonic() - began) * 1000)
        number += 1


def ask(server, query, until):
    while time.monotonic() < until:
        connection = connect(server)
        try:
            request = json.dumps({"query": query, "format": "json", "timeout": f"{max(until - time.monotonic(), 1):.0f}s"})
            connection.request("POST", "/api/v1/sql", request, {"content-type": "application/json"})
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            # Cut in the middle of an answer, as it has to be.
            pass
        connection.close()
        time.sleep(0.05)


def measure(server, options, queries):
    until = time.monotonic() + options.seconds
    latencies, errors = [], []
    work = [threading.Thread(target=send, args=(server, until, latencies, errors)) for _ in range(options.senders)]
    work += [threading.Thread(target=ask, args=(server, QUERIES[i % len(QUERIES)], until)) for i in range(queries)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    latencies.sort()
    if not latencies:
        raise SystemExit(f"nothing was acknowledged, {len(errors)} requests were refused")
    at = lambda share: latencies[min(int(len(latencies) * share), len(latencies) - 1)]
    return {"rows_per_s": len(latencies) * BATCH / options.seconds, "p50_ms": at(0.5), "p99_ms": at(0.99), "refused": len(errors)}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--server", default="http://127.0.0.1:8080", type=urllib.parse.urlsplit)
    arguments.add_argument("--seconds", type=float, default=20)
    arguments.add_argument("--senders", type=int, default=4)
    arguments.add_argument("--queries", type=int, default=4)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    measure(options.server, argparse.Namespace(seconds=2, senders=options.senders), 0)
    medians = {}
    print(f"{'':14}{'rows/s':>12}{'p50 ms':>10}{'p99 ms':>10}{'refused':>10}")
    for _ in range(options.rounds):
        for label, queries in [("alone", 0), (f"{options.queries} runaways", options.queries)]:
            found = measure(options.server, options, queries)
            medians.setdefault(label, []).append(found)
            print(f"{label:14}{found['rows_per_s']:12.0f}{found['p50_ms']:10.1f}{found['p99_ms']:10.1f}{found['refused']:10}")
    alone, beside = ([statistics.median(f[key] for f in found) for key in ("rows_per_s", "p99_ms")] for found in medians.values())
    print(f"rows/s with the queries by rows/s without: {beside[0] / alone[0]:.2f}; p99: {beside[1] / alone[1]:.2f}")


if __name__ == "__main__":
    main()
