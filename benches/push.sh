#!/usr/bin/env bash
# A push protocol beside those who take it too, in turn, each on a core of its own under the same load. Rows 9 and 10 of the benchmarks.
#
#   benches/push.sh remote-write     Highwater, VictoriaMetrics, Prometheus
#   benches/push.sh remote-write-2   Highwater, Prometheus
#   benches/push.sh otlp-logs        Highwater, and an OpenTelemetry Collector in two shapes
#   benches/push.sh loki             Highwater
#
# What each does before it says yes, and what it is good for afterwards:
#
#   highwater          synced to the log; then written to tables (Parquet), which SQL and PromQL read
#   victoria-metrics   in memory; on disk within 5 s, where PromQL reads it
#   prometheus         written to its log, not synced; PromQL reads it from memory, and from blocks two hours later
#   collector-file     written to a file as OTLP, not synced; nobody reads it (exporter `file`)
#   collector-queue    synced to a queue on disk (`sending_queue` in `file_storage` with `fsync`), and taken out of it by an exporter that prints a
#                      line a batch: the nearest to our acknowledgement, with nothing kept in the end
#
# Prints one line a run:
#   rows/s   until the last request was acknowledged
#   cpu      CPU-microseconds of the server per row, until it says itself that all rows are where they belong (tables, storage, exporter)
#   rss      the most memory the server ever held
#   disk     MiB that its files take then, and what they are
#   p99      of a request
# A server that has taken fewer rows than were sent is an error.
#
# Environment: ROWS (5000000; of logs 1000000), SERIES (1000000; of logs, hosts: 100), WHO (all of the protocol), RUNS (1), BATCH_ROWS (2000), CONNECTIONS (4),
# MESSAGE_BYTES (1000), SERVER_CORES (0), LOAD_CORES (1), PROFILE (release; dev for a try), DATA (where data directories are made; the target directory by
# default, for it must not be memory), VICTORIA_METRICS, PROMETHEUS, COLLECTOR (binaries; built from the Go module proxy where not said).
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

protocol=${1:?remote-write, remote-write-2, otlp-logs or loki}
case $protocol in
    remote-write) table=metrics rows=5000000 series=1000000 all="highwater victoria-metrics prometheus" ;;
    # VictoriaMetrics reads 1.0 only.
    remote-write-2) table=metrics rows=5000000 series=1000000 all="highwater prometheus" ;;
    otlp-logs) table=logs rows=1000000 series=100 all="highwater collector-file collector-queue" ;;
    loki) table=logs rows=1000000 series=100 all=highwater ;;
    *) sed -n 's/^# \{0,1\}//; 2,31p' "$0" >&2; exit 2 ;;
esac
: "${ROWS:=$rows}" "${SERIES:=$series}" "${WHO:=$all}" "${RUNS:=1}" "${BATCH_ROWS:=2000}" "${CONNECTIONS:=4}" "${MESSAGE_BYTES:=1000}"
: "${SERVER_CORES:=0}" "${LOAD_CORES:=1}" "${PROFILE:=release}"

target=$(cargo metadata --locked --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
bin=${CARGO_TARGET_DIR:-$target}/release
if [ "$PROFILE" = release ]; then
    cargo build --locked --release --quiet --package highwater --package highwater-benches --bins
else
    bin=${CARGO_TARGET_DIR:-$target}/debug
fi
work=$(mktemp -d "${DATA:-$target}/push.XXXXXX")
server=
cleanup() {
    [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

die() { echo "$*" >&2; exit 1; }
json() { sed -n "s/.*\"$2\": *\"\{0,1\}\([^,\"}]*\).*/\1/p" <<<"$1"; }
cpu_s() { sed 's/.*) //' "/proc/$1/stat" | awk -v hz="$(getconf CLK_TCK)" '{ print ($12 + $13) / hz }'; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
# The sum of a metric's samples whose lines match.
metric() { curl -fsS "$1" | awk -v name="$2" '$0 ~ "^" name { sum += $NF } END { printf "%.0f", sum }'; }
size_mib() { du -sk --apparent-size "$@" | awk '{ sum += $1 } END { printf "%.1f", sum / 1024 }'; }
until_up() {
    local _
    for _ in $(seq 600); do
        kill -0 "$server" || { tail -n 20 "$data.log" >&2; die "$who stopped by itself"; }
        ! curl -fsS -o /dev/null "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    tail -n 20 "$data.log" >&2
    die "$who is not there after a minute"
}
# Waits until this command prints the number of rows.
until_all() {
    local had=-1 has seconds=0
    until has=$("$@") && [ "$has" -ge "$ROWS" ]; do
        # A minute without one row more is the end of it.
        [ "$has" = "$had" ] || { had=$has seconds=$SECONDS; }
        [ $((SECONDS - seconds)) -lt 60 ] || die "$who has taken $has of $ROWS rows"
        sleep 0.05
    done
    [ "$has" -eq "$ROWS" ] || die "$who has taken $has rows, and $ROWS were sent"
}
launch() { taskset -c "$SERVER_CORES" "$@" >"$data.log" 2>&1 & server=$!; }

# For each server: start it, sets $url; wait for its rows; say what is on disk.

start_highwater() {
    printf 'self_monitoring: false\ntables: { commit_interval: 1s }\n' >"$work/highwater.yaml"
    launch "$bin/highwater" serve --config "$work/highwater.yaml" --data-dir "$data" --http-listen 127.0.0.1:0 --kafka-listen 127.0.0.1:0 \
        --otlp-grpc-listen off --otlp-http-listen off --log-level warn
    until [ -s "$data/server.json" ]; do
        kill -0 "$server" || { tail -n 20 "$data.log" >&2; die "$who stopped by itself"; }
        sleep 0.1
    done
    url=http://$(json "$(tr -d '\n' <"$data/server.json")" http)
    until_up "$url/health/ready"
}
rows_highwater() { metric "$url/metrics" "highwater_table_rows_total{.*table=\"$table\""; }
disk_highwater() { echo "$(size_mib "$data/tables/$table") in the table, beside the log"; }

start_victoria-metrics() {
    local port
    port=$(free_port)
    launch "$victoria_metrics" -storageDataPath="$data" -retentionPeriod=100y -httpListenAddr="127.0.0.1:$port" -loggerLevel=WARN
    url=http://127.0.0.1:$port
    until_up "$url/health"
}
rows_victoria-metrics() { curl -fsS "$url/internal/force_flush" && metric "$url/metrics" 'vm_rows_added_to_storage_total'; }
disk_victoria-metrics() { echo "$(size_mib "$data") of data and index"; }

start_prometheus() {
    local port
    port=$(free_port)
    mkdir "$data"
    # Where there are few series, requests that overtake each other have samples of the same one.
    printf 'global: { scrape_interval: 1h }\nstorage: { tsdb: { out_of_order_time_window: 1h } }\n' >"$data/prometheus.yml"
    launch "$prometheus" --config.file="$data/prometheus.yml" --storage.tsdb.path="$data/tsdb" --storage.tsdb.retention.time=40y --log.level=warn \
        --web.listen-address="127.0.0.1:$port" --web.enable-remote-write-receiver
    url=http://127.0.0.1:$port
    until_up "$url/-/ready"
}
rows_prometheus() { metric "$url/metrics" 'prometheus_tsdb_head_samples_appended_total'; }
disk_prometheus() { echo "$(size_mib "$data/tsdb/wal") of log, $(size_mib "$data/tsdb/chunks_head") of chunks, before blocks"; }

start_collector-file() {
    start_collector 'file: { path: '"$data"'/out/logs.otlp, format: proto, flush_interval: 1s }' '' file
}
start_collector-queue() {
    start_collector 'debug: { verbosity: basic, sending_queue: { storage: file_storage, block_on_overflow: true, wait_for_result: false } }' \
        'extensions: { file_storage: { directory: '"$data"'/out, fsync: true } }' debug
}
start_collector() {
    local port metrics
    port=$(free_port) metrics=$(free_port)
    mkdir -p "$data/out"
    cat >"$data/collector.yaml" <<SETTINGS
receivers: { otlp: { protocols: { http: { endpoint: "127.0.0.1:$port" } } } }
exporters: { $1 }
$2
service:
  ${2:+extensions: [file_storage]}
  telemetry:
    logs: { level: warn }
    metrics: { readers: [{ pull: { exporter: { prometheus: { host: 127.0.0.1, port: $metrics } } } }] }
  pipelines: { logs: { receivers: [otlp], exporters: [$3] } }
SETTINGS
    launch "$collector" --config "file:$data/collector.yaml"
    url=http://127.0.0.1:$port collector_metrics=http://127.0.0.1:$metrics/metrics
    until_up "$collector_metrics"
}
rows_collector-file() { metric "$collector_metrics" 'otelcol_exporter_sent_log_records'; }
rows_collector-queue() { metric "$collector_metrics" 'otelcol_exporter_sent_log_records'; }
disk_collector-file() { echo "$(size_mib "$data/out") of a file"; }
disk_collector-queue() { echo "$(size_mib "$data/out") of a queue that is empty"; }

wants() { [[ " $WHO " == *" $1"* ]]; }
! wants victoria-metrics || victoria_metrics=${VICTORIA_METRICS:-$(benches/rivals/build victoria-metrics)}
! wants prometheus || prometheus=${PROMETHEUS:-$(tests/prometheus/start --fetch)/prometheus}
! wants collector || collector=${COLLECTOR:-$(benches/rivals/build collector)}

run() {
    local report cpu_begun cpu peak
    who=$1 data=$work/$1-$2
    "start_$who"
    cpu_begun=$(cpu_s "$server")
    report=$(taskset -c "$LOAD_CORES" "$bin/highwater-push" "$protocol" --json --url "$url" --rows "$ROWS" --series "$SERIES" \
        --batch-rows "$BATCH_ROWS" --connections "$CONNECTIONS" --message-size-bytes "$MESSAGE_BYTES") || { tail -n 5 "$data.log" >&2; exit 1; }
    until_all "rows_$who"
    cpu=$(awk -v a="$cpu_begun" -v b="$(cpu_s "$server")" -v rows="$ROWS" 'BEGIN { print (b - a) * 1e6 / rows }')
    peak=$(awk '/VmHWM/ { print $2 / 1024 }' "/proc/$server/status")
    printf '%-12s %-16s rows/s %8.0f  cpu %6.2f us/row  rss %5.0f MiB  p99 %6.1f ms  retries %s  disk %s\n' "$protocol" "$who" "$(json "$report" rows_per_s)" \
        "$cpu" "$peak" "$(json "$report" p99_ms)" "$(json "$report" retries)" "$("disk_$who")"
    kill "$server"
    wait "$server" 2>/dev/null || true
    server=
    rm -rf "$data"
}

for number in $(seq "$RUNS"); do
    for name in $WHO; do run "$name" "$number"; done
done
