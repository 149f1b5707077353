#!/usr/bin/env bash
# NDJSON over HTTP until every row is queryable from Parquet: how fast, and what it costs the server.
#
# The server has one core, the load another; acks are synced. Prints one line a run and the medians:
#   acked    rows/s and MB/s (of NDJSON) until the last request was acknowledged
#   stored   the same until the last row was committed to the Delta table
#   cpu      CPU-seconds of the server per GB of NDJSON, up to that moment
#   rss      the most memory the server ever held
#
# Environment: ROWS (3000000), RUNS (3), BATCH_ROWS (2000), CONNECTIONS (4), COMPRESSION (none), SERVER_CORES (0),
# LOAD_CORES (1), CONFIG (a config file for the server; by default tables commit every second), DATA (where data
# directories are made; the target directory by default, for it must not be memory).
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

: "${ROWS:=3000000}" "${RUNS:=3}" "${BATCH_ROWS:=2000}" "${CONNECTIONS:=4}" "${COMPRESSION:=none}"
: "${SERVER_CORES:=0}" "${LOAD_CORES:=1}"

cargo build --locked --release --quiet --package highwater --package highwater-benches --bins
target=$(cargo metadata --locked --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
work=$(mktemp -d "${DATA:-$target}/end-to-end.XXXXXX")
server=
cleanup() {
    [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

if [ -z "${CONFIG:-}" ]; then
    CONFIG=$work/highwater.yaml
    printf 'self_monitoring: false\ntables: { commit_interval: 1s }\n' >"$CONFIG"
fi

json() { sed -n "s/.*\"$2\": *\"\{0,1\}\([^,\"}]*\).*/\1/p" <<<"$1"; }
now_s() { date +%s.%N; }
stored_rows() {
    # A counter may be written as 1e6.
    curl -fsS "http://$http/metrics" | awk '/^highwater_table_rows_total{.*table="logs"/ { rows = $NF } END { printf "%d", rows }'
}
# utime + stime, in seconds: fields 14 and 15 of the line, 12 and 13 behind the closing parenthesis of the name.
cpu_s() { sed 's/.*) //' "/proc/$server/stat" | awk -v hz="$(getconf CLK_TCK)" '{ print ($12 + $13) / hz }'; }

run() {
    local data=$work/data-$1 report begun cpu_begun wall cpu peak
    mkdir "$data"
    taskset -c "$SERVER_CORES" "$target/release/highwater" serve --config "$CONFIG" --data-dir "$data" \
        --http-listen 127.0.0.1:0 --kafka-listen 127.0.0.1:0 --otlp-grpc-listen off --otlp-http-listen off --pgwire-listen off --log-level warn 2>"$data.log" &
    server=$!
    until [ -s "$data/server.json" ]; do
        kill -0 $server || { cat "$data.log"; exit 1; }
        sleep 0.1
    done
    http=$(json "$(tr -d '\n' <"$data/server.json")" http)
    until curl -fsS -o /dev/null "http://$http/health/ready" 2>/dev/null; do sleep 0.1; done

    begun=$(now_s) cpu_begun=$(cpu_s)
    report=$(taskset -c "$LOAD_CORES" "$target/release/highwater-load" --json --url "http://$http/logs" --rows "$ROWS" \
        --batch-rows "$BATCH_ROWS" --connections "$CONNECTIONS" --compression "$COMPRESSION" --idempotency-keys)
    while [ "$(stored_rows)" -lt "$ROWS" ]; do sleep 0.05; done
    wall=$(awk -v a="$begun" -v b="$(now_s)" 'BEGIN { print b - a }')
    cpu=$(awk -v a="$cpu_begun" -v b="$(cpu_s)" 'BEGIN { print b - a }')
    peak=$(awk '/^VmHWM/ { print $2 / 1024 }' "/proc/$server/status")

    local counted
    counted=$("$target/release/highwater" sql --server "http://$http" -o csv 'SELECT count(*) FROM logs' | tail -n 1)
    [ "$counted" = "$ROWS" ] || { echo "SQL counts $counted rows of $ROWS"; exit 1; }
    kill -TERM $server
    wait $server
    server=
    local stored_mb
    stored_mb=$(du -sk "$data/tables/logs" | awk '{ print $1 * 1024 / 1e6 }')
    rm -rf "$data"
    awk -v run="$1" -v rows="$ROWS" -v bytes="$(json "$report" size_bytes)" -v acked="$(json "$report" seconds)" \
        -v wall="$wall" -v cpu="$cpu" -v peak="$peak" -v stored="$stored_mb" -v p99="$(json "$report" p99_ms)" 'BEGIN {
            mb = bytes / 1e6
            printf "%s %.0f %.1f %.0f %.1f %.2f %.0f %.1f %.3f\n",
                run, rows / acked, mb / acked, rows / wall, mb / wall, cpu / (mb / 1e3), peak, p99, stored / mb
        }'
}

echo "rows=$ROWS batch_rows=$BATCH_ROWS connections=$CONNECTIONS compression=$COMPRESSION server_cores=$SERVER_CORES load_cores=$LOAD_CORES"
columns='run acked_rows/s acked_MB/s stored_rows/s stored_MB/s cpu_s/GB peak_rss_MiB p99_ms stored/ndjson'
for run in $(seq "$RUNS"); do run "$run"; done | tee "$work/runs" | { echo "$columns"; cat; } | awk '{ for (i = 1; i <= NF; i++) printf "%-16s", $i; print "" }'
median() { sort -g -k"$1,$1" "$work/runs" | awk -v c="$1" '{ v[NR] = $c } END { print v[int((NR + 1) / 2)] }'; }
echo "median: $(median 3) MB/s acked, $(median 5) MB/s stored ($(median 4) rows/s), $(median 6) CPU-s per GB, $(median 7) MiB peak"
