#!/usr/bin/env bash
# A push protocol until the last request is acknowledged (synced): how fast, and what it costs the server. Rows 9 and 10 of the benchmarks.
#
#   benches/push.sh remote-write            SERIES=1000000 ROWS=10000000 benches/push.sh remote-write-2
#   benches/push.sh otlp-logs               benches/push.sh loki
#
# The server has one core, the load another. Prints one line a run:
#   rows/s   until the last request was acknowledged
#   cpu      CPU-microseconds of the server per row, until the tables have all rows
#   rss      the most memory the server ever held
#
# Environment: ROWS (5000000), SERIES (1000000; of logs, hosts: 100), RUNS (3), BATCH_ROWS (2000), CONNECTIONS (4), SERVER_CORES (0), LOAD_CORES (1),
# DATA (where data directories are made; the target directory by default, for it must not be memory). A rival in our place, already running:
# URL=http://127.0.0.1:8428 PID=<its process> benches/push.sh remote-write
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

protocol=${1:?remote-write, remote-write-2, otlp-logs or loki}
case $protocol in remote-write*) table=metrics series=1000000 ;; *) table=logs series=100 ;; esac
: "${SERIES:=$series}" "${ROWS:=5000000}" "${RUNS:=3}" "${BATCH_ROWS:=2000}" "${CONNECTIONS:=4}" "${SERVER_CORES:=0}" "${LOAD_CORES:=1}"

cargo build --locked --release --quiet --package highwater --package highwater-benches --bins
target=$(cargo metadata --locked --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
work=$(mktemp -d "${DATA:-$target}/push.XXXXXX")
server=
cleanup() {
    [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
printf 'self_monitoring: false\ntables: { commit_interval: 1s }\n' >"$work/highwater.yaml"

json() { sed -n "s/.*\"$2\": *\"\{0,1\}\([^,\"}]*\).*/\1/p" <<<"$1"; }
cpu_s() { sed 's/.*) //' "/proc/$1/stat" | awk -v hz="$(getconf CLK_TCK)" '{ print ($12 + $13) / hz }'; }
stored_rows() {
    curl -fsS "http://$http/metrics" |
        awk -v table="$table" '$0 ~ "^highwater_table_rows_total{.*table=\"" table "\"" { rows = $NF } END { printf "%d", rows }'
}

run() {
    local data=$work/data-$1 url=${URL:-} pid=${PID:-} report cpu_begun cpu peak
    if [ -z "$url" ]; then
        mkdir "$data"
        taskset -c "$SERVER_CORES" "$target/release/highwater" serve --config "$work/highwater.yaml" --data-dir "$data" \
            --http-listen 127.0.0.1:0 --kafka-listen 127.0.0.1:0 --otlp-grpc-listen off --otlp-http-listen off --log-level warn \
            2>"$data.log" &
        server=$! pid=$!
        until [ -s "$data/server.json" ]; do
            kill -0 $server || { cat "$data.log"; exit 1; }
            sleep 0.1
        done
        http=$(json "$(tr -d '\n' <"$data/server.json")" http)
        url=http://$http
        until curl -fsS -o /dev/null "$url/health/ready" 2>/dev/null; do sleep 0.1; done
    fi
    cpu_begun=$(cpu_s "$pid")
    report=$(taskset -c "$LOAD_CORES" "$target/release/highwater-push" "$protocol" --json --url "$url" --rows "$ROWS" \
        --series "$SERIES" --batch-rows "$BATCH_ROWS" --connections "$CONNECTIONS")
    [ -n "${URL:-}" ] || while [ "$(stored_rows)" -lt "$ROWS" ]; do sleep 0.05; done
    cpu=$(awk -v a="$cpu_begun" -v b="$(cpu_s "$pid")" -v rows="$ROWS" 'BEGIN { print (b - a) * 1e6 / rows }')
    peak=$(awk '/VmHWM/ { print $2 / 1024 }' "/proc/$pid/status")
    printf '%s rows/s %.0f  cpu %.2f us/row  rss %.0f MiB  p99 %.1f ms\n' "$protocol" "$(json "$report" rows_per_s)" "$cpu" "$peak" \
        "$(json "$report" p99_ms)"
    [ -z "$server" ] || { kill "$server"; wait "$server" || true; server=; rm -rf "$data"; }
}

for number in $(seq "$RUNS"); do run "$number"; done
