#!/usr/bin/env bash
# Windows by key: Highwater's whole task, Flink SQL and Kafka Streams over the same rows, one line a run.
#
#   hop        hop of a minute every ten seconds: count by key        hop-fine   the same every second
#   sum        tumble of ten seconds: count and sum by key            p95        the same, and the 95th percentile
#
# Highwater reads a log on disk (benches/examples/window_task.rs); the others read a topic of one partition of a real Kafka (tests/kafka/start), filled with the same rows
# as JSON. All snapshot, checkpoint or commit once a second, and each runs on one core. cpu_ns/row counts the whole process, JIT included, so give ROWS enough of them: the
# rate is wall time on that core, from the start of the job. Flink's p95 is exact, Kafka Streams' a histogram of 2 % bins, ours a DDSketch of 1 %.
#
# Environment: ROWS (10000000), KEYS ("100 10000"), QUERIES ("hop hop-fine sum p95"), WHO ("highwater flink streams"), RUNS (3), CORE (0), BROKER_CORE (1), CHECK (empty; with it
# Flink's answer is collected and summed, which costs it time), PROFILE (release; dev for a try), DATA (where logs go; the target directory by default).
# Needs java 17 and mvn; jars come from Maven Central into ~/.cache/highwater/rivals.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

: "${ROWS:=10000000}" "${KEYS:=100 10000}" "${QUERIES:=hop hop-fine sum p95}" "${WHO:=highwater flink streams}" "${RUNS:=3}" "${CORE:=0}" "${BROKER_CORE:=1}" "${CHECK:=}" "${PROFILE:=release}"
cargo=${CARGO:-cargo}
target=$(cargo metadata --locked --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
target=${CARGO_TARGET_DIR:-$target}
work=$(mktemp -d "${DATA:-$target}/windows.XXXXXX")
cleanup() {
    [ ! -f "$work/kafka/pid" ] || kill "$(cat "$work/kafka/pid")" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

wants() { [[ " $WHO " == *" $1 "* ]]; }
cache=${XDG_CACHE_HOME:-$HOME/.cache}/highwater/rivals
jars() {
    local complete=$cache/$1/complete-$(cksum <"benches/rivals/$1.xml" | cut -d' ' -f1)
    if [ ! -e "$complete" ]; then
        rm -rf "${cache:?}/$1"
        mvn --batch-mode --quiet --file "benches/rivals/$1.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$cache/$1" >&2
        touch "$complete"
    fi
    echo "$cache/$1/*"
}
opens=()
for package in java.lang java.util java.util.concurrent java.net java.nio java.time java.math java.text; do
    opens+=(--add-opens "java.base/$package=ALL-UNNAMED")
done

if wants highwater; then
    case $PROFILE in
        release) $cargo build --locked --release --quiet --package highwater-benches --example window_task ;;
        dev) $cargo build --locked --quiet --package highwater-benches --example window_task ;;
    esac
fi
if wants flink || wants streams; then
    streams_jars=$(jars streams)
    mkdir "$work/streams" "$work/flink"
    javac -cp "$streams_jars" -d "$work/streams" benches/rivals/{Fill,Report,Streams}.java
    if wants flink; then
        flink_jars=$(jars flink)
        javac -cp "$flink_jars" -d "$work/flink" benches/rivals/{Report,Flink}.java
    fi
    brokers=$(taskset -c "$BROKER_CORE" tests/kafka/start --data "$work/kafka" --while $$)
fi

for keys in $KEYS; do
    if wants flink || wants streams; then
        topic=rows-$keys
        taskset -c "$BROKER_CORE" java -Xmx512m -cp "$work/streams:$streams_jars" Fill "$brokers" "$topic" "$ROWS" "$keys"
    fi
    for query in $QUERIES; do
        for _ in $(seq "$RUNS"); do
            if wants highwater; then
                folder=$([ "$PROFILE" = dev ] && echo debug || echo release)
                taskset -c "$CORE" "$target/$folder/examples/window_task" --rows "$ROWS" --keys "$keys" --query "$query" --dir "$work"
            fi
            if wants flink; then
                TMPDIR=$work taskset -c "$CORE" java -Xmx2g -Djava.io.tmpdir="$work" "${opens[@]}" -cp "$work/flink:$flink_jars" Flink "$brokers" "$topic" "$ROWS" "$keys" "$query" ${CHECK:+check}
            fi
            if wants streams; then
                taskset -c "$CORE" java -Xmx2g -Djava.io.tmpdir="$work" -cp "$work/streams:$streams_jars" Streams "$brokers" "$topic" "$ROWS" "$keys" "$query"
            fi
        done
    done
done
