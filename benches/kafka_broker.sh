#!/usr/bin/env bash
# Our broker and Apache Kafka under the same load, by Kafka's own perf tools and by librdkafka.
#
# The server has one core, the load another. Two rows:
#   synced   every batch is on the disk before it is acknowledged: we as we are, Kafka with log.flush.interval.messages=1
#   big      big batches, produced and then consumed: Kafka as it is, which leaves syncing to the kernel; we as we are, synced
#
# Prints a line per run, then medians:
#   MB/s, msg/s   as the client counts them (MB: 1e6 bytes of values)
#   p50, p99      from send to acknowledgement, ms (Kafka's tool knows whole milliseconds only)
#   cpu           CPU-seconds of the server per GB
#   rss           the most memory the server ever held, MiB
#
# Environment: ROWS (synced big), SIDES (highwater kafka), RUNS (3), SYNCED_MESSAGES (200000), PINGS (3000), BIG_MESSAGES (2000000), SIZE (1000),
# SERVER_CORES (0), LOAD_CORES (1), DATA (where data directories are made; the target directory by default, for it must not be memory),
# HIGHWATER_PYTHON (an interpreter with confluent-kafka, as .ci/prepare makes it).
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

: "${ROWS:=synced big}" "${SIDES:=highwater kafka}" "${RUNS:=3}" "${SYNCED_MESSAGES:=200000}" "${PINGS:=3000}" "${BIG_MESSAGES:=2000000}" "${SIZE:=1000}"
: "${SERVER_CORES:=0}" "${LOAD_CORES:=1}" "${HIGHWATER_PYTHON:=${XDG_CACHE_HOME:-$HOME/.cache}/highwater/python/bin/python}"
# As Kafka's own start script has it.
export HIGHWATER_KAFKA_JVM='-server -Xms1G -Xmx1G -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent'

"$HIGHWATER_PYTHON" -c 'import confluent_kafka'
jars=$(tests/kafka/start --fetch)
cargo build --locked --release --quiet --package highwater-broker --example kafka_broker
target=$(cargo metadata --locked --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
work=$(mktemp -d "${DATA:-$target}/kafka-broker.XXXXXX")
server=
stop() {
    [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
    # It may be nobody's child.
    while [ -n "$server" ] && kill -0 "$server" 2>/dev/null; do sleep 0.05; done
    server=
}
trap 'stop; rm -rf "$work"' EXIT

start() { # side, row, data
    if [ "$1" = kafka ]; then
        local settings=()
        [ "$2" = big ] || settings=(--set log.flush.interval.messages=1)
        address=$(taskset -c "$SERVER_CORES" tests/kafka/start --data "$3" "${settings[@]}")
        server=$(cat "$3/pid")
        return
    fi
    : >"$3.out"
    taskset -c "$SERVER_CORES" "$target/release/examples/kafka_broker" --data "$3" --listen 127.0.0.1:0 >"$3.out" 2>&1 &
    server=$!
    # Nobody waits for it, and nobody is to be told that it was killed.
    disown
    until address=$(sed -n 's/^listening on //p' "$3.out") && [ -n "$address" ]; do
        kill -0 "$server" || { cat "$3.out"; exit 1; }
        sleep 0.05
    done
}
cpu_s() { sed 's/.*) //' "/proc/$server/stat" | awk -v hz="$(getconf CLK_TCK)" '{ print ($12 + $13) / hz }'; }
json() { sed -n "s/.*\"$2\": *\([0-9.e+-]*\).*/\1/p" <<<"$1"; }
rd() { taskset -c "$LOAD_CORES" "$HIGHWATER_PYTHON" benches/kafka_load.py "$@"; }
java_tool() {
    taskset -c "$LOAD_CORES" java -Xmx1G -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$jars/*" "org.apache.kafka.tools.$1" "${@:2}"
}

# Runs a load and prints what it came to: name, messages, then the command.
measure() {
    local name=$1 messages=$2 before after said mb_s messages_s p50=- p99=-
    shift 2
    before=$(cpu_s)
    said=$("$@" | tail -n 1)
    after=$(cpu_s)
    case $said in
        {*) mb_s=$(json "$said" mb_s) messages_s=$(json "$said" messages_s) p50=$(json "$said" p50_ms) p99=$(json "$said" p99_ms) ;;
        *"records sent"*)
            messages_s=$(sed 's/.*sent, \([0-9.]*\) records.*/\1/' <<<"$said")
            mb_s=$(awk -v n="$messages_s" -v size="$SIZE" 'BEGIN { print n * size / 1e6 }')
            p50=$(sed 's/.* \([0-9]*\) ms 50th.*/\1/' <<<"$said") p99=$(sed 's/.* \([0-9]*\) ms 99th.*/\1/' <<<"$said")
            ;;
        # start, end, MiB, MiB/s, messages, messages/s, ms of rebalance, ms of fetching, MiB/s and messages/s of fetching
        *) messages_s=$(cut -d, -f10 <<<"$said") mb_s=$(awk -v n="$messages_s" -v size="$SIZE" 'BEGIN { print n * size / 1e6 }') ;;
    esac
    awk -v side="$side" -v name="$name" -v mb_s="$mb_s" -v messages_s="$messages_s" -v p50="${p50:--}" -v p99="${p99:--}" -v cpu="$after" \
        -v before="$before" -v bytes="$((messages * SIZE))" -v rss="$(awk '/^VmHWM/ { print $2 / 1024 }' "/proc/$server/status")" 'BEGIN {
            printf "%-34s %-9s %9.1f %10.0f %8s %8s %8.2f %7.0f\n", name, side, mb_s, messages_s,
                p50 == "-" ? p50 : sprintf("%.2f", p50), p99 == "-" ? p99 : sprintf("%.2f", p99), (cpu - before) / (bytes / 1e9), rss
        }' | tee -a "$work/results"
}

perf_produce() { # topic, messages, settings
    java_tool ProducerPerformance --topic "$1" --num-records "$2" --record-size "$SIZE" --throughput -1 \
        --producer-props "bootstrap.servers=$address" acks=all "${@:3}"
}

row_synced() {
    rd create "$address" warm 6 && rd create "$address" java 6 && rd create "$address" rd 6 && rd create "$address" ping 1
    perf_produce warm $((SYNCED_MESSAGES / 4)) >/dev/null
    measure "synced, perf-test" "$SYNCED_MESSAGES" perf_produce java "$SYNCED_MESSAGES"
    measure "synced, librdkafka" "$SYNCED_MESSAGES" rd produce "$address" rd "$SYNCED_MESSAGES" "$SIZE" linger.ms=0 batch.size=16384
    measure "synced, one at a time" "$PINGS" rd ping "$address" ping "$PINGS" "$SIZE" linger.ms=0
}

row_big() {
    local big=(batch.size=500000 linger.ms=10 max.request.size=2000000 buffer.memory=134217728)
    rd create "$address" warm 6 && rd create "$address" java 6 && rd create "$address" rd 6
    perf_produce warm $((BIG_MESSAGES / 4)) "${big[@]}" >/dev/null
    measure "big produce, perf-test" "$BIG_MESSAGES" perf_produce java "$BIG_MESSAGES" "${big[@]}"
    measure "big produce, librdkafka" "$BIG_MESSAGES" rd produce "$address" rd "$BIG_MESSAGES" "$SIZE" linger.ms=10 batch.size=500000 batch.num.messages=10000
    measure "big consume, perf-test" "$BIG_MESSAGES" java_tool ConsumerPerformance --bootstrap-server "$address" --topic java \
        --messages "$BIG_MESSAGES" --fetch-size 1048576
    # Left alone, librdkafka rests for a whole second whenever its queue is full: how often it does is most of what such a short run would measure.
    measure "big consume, librdkafka" "$BIG_MESSAGES" rd consume "$address" rd "$BIG_MESSAGES" "$SIZE" fetch.message.max.bytes=1048576 fetch.queue.backoff.ms=10
}

echo "messages of $SIZE bytes, server_cores=$SERVER_CORES load_cores=$LOAD_CORES runs=$RUNS"
heading() { printf '%-34s %-9s %9s %10s %8s %8s %8s %7s\n' "$1" side MB/s msg/s p50 p99 cpu-s/GB rss; }
heading run
for run in $(seq "$RUNS"); do
    for row in $ROWS; do
        for side in $SIDES; do
            start "$side" "$row" "$work/$side-$row-$run"
            "row_$row"
            stop
            rm -rf "${work:?}/$side-$row-$run"
        done
    done
done

echo
heading median
awk '{
        key = substr($0, 1, 44); rest = substr($0, 45); n[key]++
        if (n[key] == 1) order[++keys] = key
        split(rest, f, " "); for (i = 1; i <= 6; i++) value[key, i, n[key]] = f[i]
    }
    function median(key, i,   a, m, j, k, t) {
        m = n[key]
        for (j = 1; j <= m; j++) a[j] = value[key, i, j]
        if (a[1] == "-") return "-"
        for (j = 2; j <= m; j++) for (k = j; k > 1 && a[k] + 0 < a[k - 1] + 0; k--) { t = a[k]; a[k] = a[k - 1]; a[k - 1] = t }
        return m % 2 ? a[(m + 1) / 2] : (a[m / 2] + a[m / 2 + 1]) / 2
    }
    END {
        for (o = 1; o <= keys; o++) {
            key = order[o]
            printf "%s %9s %10s %8s %8s %8s %7s\n", key, median(key, 1), median(key, 2), median(key, 3), median(key, 4), median(key, 5), median(key, 6)
        }
    }' "$work/results"
