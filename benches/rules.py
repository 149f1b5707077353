"""From a sample to the alert it causes, and what the rules cost meanwhile. One server, one run; see rules.sh.

Pushes SERIES series by remote write every PUSH seconds, all of them low. Then, probe by probe: one sample more that is too high for one rule, at a
random moment; the time from its acknowledgement to the alert at an Alertmanager that this program plays; and it is low again. Prints one line.
"""

import argparse
import http.server
import json
import os
import random
import struct
import threading
import time
import urllib.request

SERIES_OF_A_RULE = 10


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, body):
    return varint(number << 3 | 2) + varint(len(body)) + body


def label(name, value):
    return field(1, field(1, name.encode()) + field(2, value.encode()))


def series(rule, host):
    pairs = [("__name__", "load"), ("host", host), ("job", "bench"), ("rule", str(rule))]
    return b"".join(label(name, value) for name, value in pairs)


def sample(value, at_ms):
    return field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + varint(at_ms))


def snappy(body):
    """Literals only: any decoder reads it."""
    out = bytearray(varint(len(body)))
    for at in range(0, len(body), 65536):
        chunk = body[at : at + 65536]
        out += b"\xf4" + struct.pack("<H", len(chunk) - 1) + chunk
    return bytes(out)


def push(url, all_labels, value):
    at_ms = int(time.time() * 1000)
    tail = sample(value, at_ms)
    for at in range(0, len(all_labels), 2000):
        body = b"".join(field(1, labels + tail) for labels in all_labels[at : at + 2000])
        headers = {
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "snappy",
            "X-Prometheus-Remote-Write-Version": "0.1.0",
        }
        request = urllib.request.Request(url + "/api/v1/write", snappy(body), headers)
        urllib.request.urlopen(request).read()


class Alertmanager(http.server.BaseHTTPRequestHandler):
    """Notes when an alert first comes as firing."""

    protocol_version = "HTTP/1.1"
    arrived = {}
    news = threading.Condition()

    def do_POST(self):
        now = time.time()
        alerts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.news:
            for alert in alerts:
                name = (alert["labels"]["alertname"], alert["startsAt"])
                if name not in self.arrived:
                    self.arrived[name] = now
            self.news.notify_all()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def rules_file(path, count, interval):
    with open(path, "w") as out:
        out.write("groups:\n")
        for rule in range(count):
            if rule % 100 == 0:
                out.write(f"  - name: g{rule}\n    interval: {interval}s\n    rules:\n")
            expr = f'load{{rule="{rule}"}} > 90' if rule % 2 == 0 else f'max_over_time(load{{rule="{rule}"}}[1m]) > 90'
            out.write(f"      - {{alert: A{rule}, expr: '{expr}'}}\n")


def cpu_s(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid):
    line = next(line for line in open(f"/proc/{pid}/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write-rules", metavar="FILE", help="only write the rule file")
    parser.add_argument("--rules", type=int, default=10_000)
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--interval", type=int, default=1)
    parser.add_argument("--push", type=float, default=15.0)
    parser.add_argument("--probes", type=int, default=40)
    parser.add_argument("--port", type=int, help="where this program plays Alertmanager")
    parser.add_argument("--url", help="the server")
    parser.add_argument("--pid", type=int, help="its process")
    parser.add_argument("--name", help="what the line begins with")
    args = parser.parse_args()
    if args.write_rules:
        return rules_file(args.write_rules, args.rules, args.interval)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", args.port), Alertmanager)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    all_labels = [series(at // SERIES_OF_A_RULE % args.rules, f"host-{at}") for at in range(args.series)]
    stop = threading.Event()

    def pusher():
        due = time.time()
        while not stop.is_set():
            push(args.url, all_labels, 1.0)
            due += args.push
            stop.wait(max(0.0, due - time.time()))

    threading.Thread(target=pusher, daemon=True).start()
    time.sleep(2 * args.push + 2 * args.interval)
    begun, cpu_begun = time.time(), cpu_s(args.pid)
    latencies = []
    for probe in range(args.probes):
        time.sleep(random.random() * args.interval)
        # Rules at the newest sample, so that they are over when it is low again.
        rule = probe * 2 % args.rules
        probed = [series(rule, "probe")]
        known = set(Alertmanager.arrived)
        push(args.url, probed, 100.0)
        accepted = time.time()
        new = lambda: [name for name in Alertmanager.arrived if name not in known and name[0] == f"A{rule}"]
        with Alertmanager.news:
            if not Alertmanager.news.wait_for(new, timeout=120):
                raise SystemExit(f"the alert of rule {rule} has not come within two minutes")
            latencies.append(Alertmanager.arrived[new()[0]] - accepted)
        push(args.url, probed, 1.0)
    passed, cpu = time.time() - begun, cpu_s(args.pid) - cpu_begun
    stop.set()
    latencies.sort()
    at = lambda share: latencies[min(len(latencies) - 1, int(share * len(latencies)))]
    evaluations = passed / args.interval * args.series
    print(
        f"{args.name:<12} {args.interval:>3} s  latency p50 {at(0.5):6.2f} s  p99 {at(0.99):6.2f} s  "
        f"cpu {cpu / passed:5.2f} s/s  {cpu / evaluations * 1e6:6.2f} us/evaluation  peak {peak_mib(args.pid):6.0f} MiB"
    )


main()
