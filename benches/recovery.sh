#!/usr/bin/env bash
# kill -9 of a server that holds a large log and many open windows: how long until it is ready and has caught up, and how long a sender
# ever waits while snapshots are taken.
#
# The server has one core, the load another; acks are synced. One rollup groups by host over hours, so that all groups stay open. Prints:
#   log, state   size of the log, and of the newest snapshots (what has to be restored)
#   load         rate of the load, p99 and longest wait of one request, snapshots included
#   ready        seconds from exec to readiness: the log recovered, every task's state restored and replayed to where it was
#   caught up    seconds from exec until no task and no table is behind
#
# Environment: ROWS (10000000; snapshots are taken every 30 s, so the load has to last longer), HOSTS (50000 a service, of 10 services), SERVER_CORES (0), LOAD_CORES (1), DATA.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

: "${ROWS:=10000000}" "${HOSTS:=50000}" "${SERVER_CORES:=0}" "${LOAD_CORES:=1}"

cargo build --locked --release --quiet --package highwater --package highwater-benches --bins
target=$(cargo metadata --locked --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
work=$(mktemp -d "${DATA:-$target}/recovery.XXXXXX")
server=
cleanup() {
    [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

cat >"$work/highwater.yaml" <<'YAML'
self_monitoring: false
rollups:
  - name: by_host_1d
    sql: |
      SELECT tumble(timestamp, INTERVAL '1 day') AS window_start, service, host, count(*) AS lines,
             count(*) FILTER (WHERE level = 'ERROR') AS errors, max(message) AS last
      FROM logs GROUP BY 1, 2, 3
YAML

json() { sed -n "s/.*\"$2\": *\"\{0,1\}\([^,\"}]*\).*/\1/p" <<<"$1"; }
now_s() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now_s)" 'BEGIN { printf "%.2f", b - a }'; }

start() {
    rm -f "$work/data/server.json"
    taskset -c "$SERVER_CORES" "$target/release/highwater" serve --config "$work/highwater.yaml" --data-dir "$work/data" \
        --http-listen 127.0.0.1:0 --kafka-listen 127.0.0.1:0 --otlp-grpc-listen off --otlp-http-listen off --pgwire-listen off --log-level warn 2>>"$work/log" &
    server=$!
    until [ -s "$work/data/server.json" ]; do
        kill -0 $server || { cat "$work/log"; exit 1; }
        sleep 0.01
    done
    http=$(json "$(tr -d '\n' <"$work/data/server.json")" http)
    until curl -fsS -o /dev/null "http://$http/health/ready" 2>/dev/null; do sleep 0.01; done
}
# Records that tasks and tables have not worked off.
behind() {
    curl -fsS "http://$http/api/v1/status" | tr ',' '\n' | sed -n 's/.*"lag": *\([0-9]*\).*/\1/p' | awk '{ n += $1 } END { print n + 0 }'
}

mkdir "$work/data"
start
report=$(taskset -c "$LOAD_CORES" "$target/release/highwater-load" --json --url "http://$http/logs" --rows "$ROWS" \
    --services 10 --hosts "$HOSTS" --idempotency-keys)
left=$(behind)
kill -9 $server
wait $server 2>/dev/null || true

log_mb=$(du -sk "$work/data/log" | awk '{ printf "%.0f", $1 / 1024 }')
mkdir -p "$work/data/snapshots"
state_mb=$(find "$work/data/snapshots" -name '*.snap' -printf '%h %f %s\n' | sort | awk '{ size[$1] = $3 } END { for (task in size) n += size[task]; printf "%.0f", n / 1048576 }')
begun=$(now_s)
start
ready=$(since "$begun")
until [ "$(behind)" -le 50 ]; do sleep 0.05; done
caught_up=$(since "$begun")
kill -TERM $server
wait $server
server=
awk -v log_mb="$log_mb" -v state_mb="$state_mb" -v bytes="$(json "$report" size_bytes)" -v seconds="$(json "$report" seconds)" \
    -v p99="$(json "$report" p99_ms)" -v longest="$(json "$report" max_ms)" -v ready="$ready" -v caught_up="$caught_up" -v left="$left" 'BEGIN {
        printf "log %s MiB, open state in snapshots %s MiB, records left to work off %s\n", log_mb, state_mb, left
        printf "load %.1f MB/s, p99 %s ms, longest %s ms\n", bytes / 1e6 / seconds, p99, longest
        printf "ready after %s s, caught up after %s s\n", ready, caught_up
    }'
