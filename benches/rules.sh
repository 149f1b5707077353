#!/usr/bin/env bash
# Alert rules beside Prometheus: how long from an accepted sample to the alert at Alertmanager, and what evaluation costs. Rows 1 and 2 of the benchmarks.
#
#   benches/rules.sh                                   RULES=100 SERIES=1000 PROBES=5 PUSH_S=3 SECONDS_MEASURED=10 benches/rules.sh
#
# RULES alerting rules, each over SERIES / RULES series that come by remote write every PUSH_S seconds; half of them look at the newest sample, half
# at a minute. The server has one core, the load another. Prints one line per server and interval:
#   latency       from the acknowledgement of the sample that decides to the alert's arrival
#   cpu           CPU-seconds of the server a second, ingestion of the samples included
#   us/evaluation the same per evaluation of a rule over a series
#   peak          the most memory the server ever held
#   longest push  of all series, one after the other in requests of 2,000; beyond PUSH_S the load is not what it says, and the line says so
#
# About five and a half minutes as it stands. Fails where a tool, a core, a rule or an alert is missing.
#
# Environment: RULES (10000), SERIES (100000), INTERVALS ("1 15", seconds), PROBES (40), PUSH_S (15), SECONDS_MEASURED (45), SERVERS ("highwater prometheus"), SERVER_CORES (0),
# LOAD_CORES (1), DATA (where data directories are made; the target directory by default), HIGHWATER (a release binary; built where it is not given).
# Needs python3, and go for the first run (see tests/prometheus/start).
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

: "${RULES:=10000}" "${SERIES:=100000}" "${INTERVALS:=1 15}" "${PROBES:=40}" "${PUSH_S:=15}" "${SERVERS:=highwater prometheus}"
: "${SECONDS_MEASURED:=45}" "${SERVER_CORES:=0}" "${LOAD_CORES:=1}"
for tool in python3 taskset curl; do
    command -v "$tool" >/dev/null || { echo "rules.sh: $tool is missing" >&2; exit 1; }
done
for cores in "$SERVER_CORES" "$LOAD_CORES"; do
    taskset -c "$cores" true || { echo "rules.sh: there are no cores $cores (SERVER_CORES, LOAD_CORES)" >&2; exit 1; }
done
if [ -n "${HIGHWATER:-}" ] && [ ! -x "$HIGHWATER" ]; then
    echo "rules.sh: HIGHWATER=$HIGHWATER is no program" >&2
    exit 1
fi
target=$(cargo metadata --locked --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
if [ -z "${HIGHWATER:-}" ]; then
    cargo build --locked --release --quiet --package highwater
    HIGHWATER=$target/release/highwater
fi
work=$(mktemp -d "${DATA:-$target}/rules.XXXXXX")
pid=
cleanup() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

start_highwater() {
    printf 'self_monitoring: false\nrule_files: [%s]\nnotify: { alertmanager: [{ url: "http://127.0.0.1:%s" }] }\n' \
        "$work/rules.yaml" "$port" >"$work/highwater.yaml"
    taskset -c "$SERVER_CORES" "$HIGHWATER" serve --config "$work/highwater.yaml" --data-dir "$data" --http-listen 127.0.0.1:0 \
        --kafka-listen 127.0.0.1:0 --otlp-grpc-listen off --otlp-http-listen off --log-level warn 2>"$data.log" &
    pid=$!
    until [ -s "$data/server.json" ]; do
        kill -0 $pid || { cat "$data.log"; exit 1; }
        sleep 0.1
    done
    url=http://$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["http"])' "$data/server.json")
    until curl -fsS -o /dev/null "$url/-/ready" 2>/dev/null; do
        kill -0 $pid || { cat "$data.log"; exit 1; }
        sleep 0.1
    done
}

start_prometheus() {
    printf 'rule_files: [%s]\nalerting: { alertmanagers: [{ static_configs: [{ targets: ["127.0.0.1:%s"] }] }] }\n' \
        "$work/rules.yaml" "$port" >"$work/prometheus.yml"
    url=http://$(taskset -c "$SERVER_CORES" tests/prometheus/start --data "$data" --config "$work/prometheus.yml")
    pid=$(cat "$data/pid")
}

for interval in $INTERVALS; do
    python3 benches/rules.py --write-rules "$work/rules.yaml" --rules "$RULES" --interval "$interval"
    for server in $SERVERS; do
        port=$(free_port) data=$work/$server-$interval
        "start_$server"
        taskset -c "$LOAD_CORES" python3 benches/rules.py --rules "$RULES" --series "$SERIES" --interval "$interval" --push "$PUSH_S" \
            --seconds "$SECONDS_MEASURED" --probes "$PROBES" --port "$port" --url "$url" --pid "$pid" --name "$server"
        kill -9 "$pid"
        wait "$pid" 2>/dev/null || true
        pid=
    done
done
