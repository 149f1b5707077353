"""Loads series into two servers by remote write and times the same queries on both. See promql.sh."""

import argparse
import http.client
import json
import statistics
import struct
import time
import urllib.parse

STEP_S = 15
SAMPLES = 241
SIZES = (1, 100, 2000)


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def snappy(data):
    """A snappy block of literals only: larger, and read by everybody."""
    out = bytearray(varint(len(data)))
    for at in range(0, len(data), 65536):
        part = data[at : at + 65536]
        out += bytes((61 << 2,)) + struct.pack("<H", len(part) - 1) + part
    return bytes(out)


def series(labels, samples):
    message = b"".join(field(1, field(1, n.encode()) + field(2, v.encode())) for n, v in sorted(labels.items()))
    for time_ms, value in samples:
        message += field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + varint(time_ms))
    return field(1, message)


def all_series(size, begin_ms):
    times = [begin_ms + i * STEP_S * 1000 for i in range(SAMPLES)]
    for i in range(size):
        labels = {"job": f"job-{i % 10}", "instance": f"10.0.{i // 250}.{i % 250}:9100", "region": "eu-west-1"}
        counter = [(t, float(k * (i % 17 + 1) * 3)) for k, t in enumerate(times)]
        yield {"__name__": f"requests_{size}_total", **labels}, counter
        yield {"__name__": f"up_{size}", **labels}, [(t, 1.0) for t in times]


class Server:
    def __init__(self, url):
        self.connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc)

    def ask(self, path, body, headers):
        self.connection.request("POST", path, body, headers)
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status // 100 != 2:
            raise SystemExit(f"{path}: {answer.status} {data[:500]!r}")
        return data

    def write(self, body):
        headers = {
            "content-type": "application/x-protobuf",
            "content-encoding": "snappy",
            "x-prometheus-remote-write-version": "0.1.0",
        }
        self.ask("/api/v1/write", body, headers)

    def query(self, path, parameters):
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return json.loads(self.ask(path, urllib.parse.urlencode(parameters), headers))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--runs", type=int, default=30)
    arguments.add_argument("servers", nargs=2)
    arguments = arguments.parse_args()
    servers = [Server(url) for url in arguments.servers]
    end_s = int(time.time()) // STEP_S * STEP_S
    begin_s = end_s - (SAMPLES - 1) * STEP_S
    for size in SIZES:
        batch = []
        for labels, samples in all_series(size, begin_s * 1000):
            batch.append(series(labels, samples))
            if len(batch) == 100:
                for server in servers:
                    server.write(snappy(b"".join(batch)))
                batch = []
        for server in servers:
            server.write(snappy(b"".join(batch)))
    # Time for our table to take them out of the log.
    time.sleep(15)
    instant = {"time": end_s}
    hour = {"start": begin_s, "end": end_s, "step": STEP_S}
    print(f"{'query':60} {'ours ms':>9} {'theirs ms':>9} {'ratio':>6}")
    for size in SIZES:
        for text, path, times in (
            (f"requests_{size}_total", "/api/v1/query", instant),
            (f"sum by (job) (rate(requests_{size}_total[5m]))", "/api/v1/query_range", hour),
            (f"rate(requests_{size}_total[5m]) * on (job, instance) up_{size}", "/api/v1/query", instant),
            (f"quantile by (job) (0.9, rate(requests_{size}_total[5m]))", "/api/v1/query_range", hour),
        ):
            medians, results = [], []
            for server in servers:
                taken = []
                for _ in range(arguments.runs):
                    begun = time.perf_counter()
                    answer = server.query(path, {"query": text, **times})
                    taken.append((time.perf_counter() - begun) * 1000)
                medians.append(statistics.median(taken))
                results.append(len(answer["data"]["result"]))
            if results[0] != results[1]:
                raise SystemExit(f"{text}: {results[0]} series from us, {results[1]} from them")
            print(f"{text:60} {medians[0]:9.2f} {medians[1]:9.2f} {medians[0] / medians[1]:6.2f}", flush=True)


if __name__ == "__main__":
    main()
