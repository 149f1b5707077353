#!/usr/bin/env bash
# PromQL beside Prometheus: the same samples by remote write to both, the same queries over HTTP, one client.
#
# The server asked has one core, the client another. For 1, 100 and 2,000 series, an hour at 15 s each, prints per query the median of RUNS
# answers in ms: ours, Prometheus's, and the ratio. Queries: an instant, a sum of rates over the hour, a join, a quantile.
#
# Environment: RUNS (30), SERVER_CORES (0), CLIENT_CORES (1), HIGHWATER (a release binary; built where it is not given).
# Needs python3, and go for the first run (see tests/prometheus/start).
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

: "${RUNS:=30}" "${SERVER_CORES:=0}" "${CLIENT_CORES:=1}"
if [ -z "${HIGHWATER:-}" ]; then
    cargo build --locked --release --quiet --package highwater
    HIGHWATER=$(cargo metadata --locked --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/highwater
fi
work=$(mktemp -d)
ours=
cleanup() {
    [ -z "$ours" ] || kill -9 "$ours" 2>/dev/null || true
    [ ! -e "$work/theirs/pid" ] || kill -9 "$(cat "$work/theirs/pid")" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

printf 'self_monitoring: false\n' >"$work/highwater.yaml"
taskset -c "$SERVER_CORES" "$HIGHWATER" serve --config "$work/highwater.yaml" --data-dir "$work/ours" \
    --http-listen 127.0.0.1:0 --kafka-listen 127.0.0.1:0 --log-level warn 2>"$work/ours.log" &
ours=$!
until [ -s "$work/ours/server.json" ]; do
    kill -0 $ours || { cat "$work/ours.log"; exit 1; }
    sleep 0.1
done
http=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["http"])' "$work/ours/server.json")
until curl -fsS -o /dev/null "http://$http/-/ready" 2>/dev/null; do sleep 0.1; done
theirs=$(taskset -c "$SERVER_CORES" tests/prometheus/start --data "$work/theirs")
taskset -c "$CLIENT_CORES" python3 benches/promql.py --runs "$RUNS" "http://$http" "http://$theirs"
