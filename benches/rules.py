"""From a sample to the alert it causes, and what the rules cost meanwhile. One server, one run; see rules.sh.

Pushes SERIES series by remote write every PUSH seconds, all of them low. Meanwhile, at random moments: one sample more that is too high for one rule,
and the time from its acknowledgement to the alert at an Alertmanager that this program plays. Prints one line, or fails and says why.
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
        urllib.request.urlopen(request, timeout=120).read()


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


def loaded_rules(url):
    """How many rules the server says it has."""
    answer = json.load(urllib.request.urlopen(url + "/api/v1/rules", timeout=60))
    return sum(len(group["rules"]) for group in answer["data"]["groups"])


class Pusher(threading.Thread):
    """Pushes all series every so many seconds. What goes wrong ends the run."""

    def __init__(self, url, all_labels, every):
        super().__init__(daemon=True)
        self.url, self.all_labels, self.every = url, all_labels, every
        self.stop, self.pushed = threading.Event(), threading.Event()
        self.failure, self.longest = None, 0.0

    def run(self):
        due = time.time()
        try:
            while not self.stop.is_set():
                begun = time.time()
                push(self.url, self.all_labels, 1.0)
                self.longest = max(self.longest, time.time() - begun)
                self.pushed.set()
                due += self.every
                self.stop.wait(max(0.0, due - time.time()))
        except Exception as failure:  # pylint: disable=broad-except
            self.failure = failure
            self.pushed.set()

    def check(self):
        if self.failure is not None:
            raise SystemExit(f"a push failed: {self.failure!r}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write-rules", metavar="FILE", help="only write the rule file")
    parser.add_argument("--rules", type=int, default=10_000)
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--interval", type=int, default=1)
    parser.add_argument("--push", type=float, default=15.0)
    parser.add_argument("--seconds", type=float, default=45.0, help="how long is measured")
    parser.add_argument("--probes", type=int, default=40)
    parser.add_argument("--port", type=int, help="where this program plays Alertmanager")
    parser.add_argument("--url", help="the server")
    parser.add_argument("--pid", type=int, help="its process")
    parser.add_argument("--name", help="what the line begins with")
    args = parser.parse_args()
    if args.write_rules:
        return rules_file(args.write_rules, args.rules, args.interval)
    if args.probes > (args.rules + 1) // 2:
        raise SystemExit(f"{args.probes} probes need {2 * args.probes} rules")
    loaded = loaded_rules(args.url)
    if loaded != args.rules:
        raise SystemExit(f"the server has {loaded} rules, not {args.rules}")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", args.port), Alertmanager)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    all_labels = [series(at // SERIES_OF_A_RULE % args.rules, f"host-{at}") for at in range(args.series)]
    pusher = Pusher(args.url, all_labels, args.push)
    pusher.start()
    pusher.pushed.wait()
    pusher.check()
    time.sleep(args.push + args.interval + 3)

    # Each probe is one sample for a rule of its own, of those at the newest sample, at a random moment. It stays high.
    begun, cpu_begun = time.time(), cpu_s(args.pid)
    moments = sorted(random.random() * args.seconds for _ in range(args.probes))
    accepted = {}
    for rule, moment in zip(random.sample(range(0, args.rules, 2), args.probes), moments):
        time.sleep(max(0.0, begun + moment - time.time()))
        push(args.url, [series(rule, "probe")], 100.0)
        accepted[f"A{rule}"] = time.time()
        pusher.check()
    time.sleep(max(0.0, begun + args.seconds - time.time()))
    passed, cpu = time.time() - begun, cpu_s(args.pid) - cpu_begun

    def arrived():
        first = {}
        for (name, _), at in Alertmanager.arrived.items():
            first[name] = min(at, first.get(name, at))
        return first

    with Alertmanager.news:
        if not Alertmanager.news.wait_for(lambda: accepted.keys() <= arrived().keys(), timeout=60 + 3 * args.interval):
            missing = sorted(accepted.keys() - arrived().keys())
            raise SystemExit(f"{len(missing)} of {args.probes} alerts have not come: {missing[:5]}")
        unasked = sorted(arrived().keys() - accepted.keys())
        if unasked:
            raise SystemExit(f"alerts that nobody asked for: {unasked[:5]}")
        latencies = sorted(arrived()[name] - at for name, at in accepted.items())
    pusher.check()
    pusher.stop.set()
    at = lambda share: latencies[min(len(latencies) - 1, int(share * len(latencies)))]
    evaluations = passed / args.interval * args.series
    print(
        f"{args.name:<12} {args.interval:>3} s  latency p50 {at(0.5):6.2f} s  p99 {at(0.99):6.2f} s  "
        f"cpu {cpu / passed:6.3f} s/s  {cpu / evaluations * 1e6:6.2f} us/evaluation  peak {peak_mib(args.pid):6.0f} MiB  "
        f"longest push {pusher.longest:5.2f} s" + ("  PUSHES FALL BEHIND" if pusher.longest > args.push else ""),
        flush=True,
    )


main()
