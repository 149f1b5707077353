"""Produce and consume: codecs, acks, idempotence, keys, headers, tombstones, times, sizes."""

import random
import time

from confluent_kafka import OFFSET_END, TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, KafkaError, TopicPartition

from support import *

START_MS = 1_772_150_400_000


@scenario
def compressions():
    """What goes in comes out, to the byte, whatever the codec; one topic holds batches of all of them."""
    topic = create(name())
    random.seed(4)
    expected = []
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        records = []
        for i in range(300):
            records.append({
                "key": None if i % 7 == 0 else f"{codec}-{i % 13}".encode(),
                "value": None if i % 11 == 0 else (f"naïve “{codec}” {i} ".encode() * (1 + i % 40)) + random.randbytes(i % 50),
                # A name may come twice, a value may be missing, or empty.
                "headers": None if i % 5 == 0 else [("trace", f"{i}".encode()), ("trace", b""), ("none", None), ("naïve", b"\x00\xff")],
                "timestamp": START_MS + i * 1000,
            })
        sent = send(producer(compression_type=codec), topic, records)
        equal([m.offset() for m in sent], list(range(len(expected), len(expected) + 300)), f"offsets of {codec}")
        expected += records
    for check in ["true", "false"]:
        read = read_all(topic, check_crcs=check)
        equal([m.offset() for m in read], list(range(1500)), "offsets")
        for message, record in zip(read, expected):
            equal(message.key(), record["key"], "key")
            equal(message.value(), record["value"], "value")
            equal(message.headers(), record["headers"], "headers")
            equal(message.timestamp(), (TIMESTAMP_CREATE_TIME, record["timestamp"]), "timestamp")


@scenario
def acks():
    """acks=0 has no answer, so no offset; 1 and all have; all three are in the log, in order."""
    topic = create(name())
    for level in ["0", "1", "all"]:
        sent = send(producer(acks=level), topic, [{"value": f"{level}-{i}".encode()} for i in range(50)])
        if level != "0":
            offsets = [m.offset() for m in sent]
            equal(offsets, list(range(offsets[0], offsets[0] + 50)), f"offsets under acks={level}")
    eventually("150 messages are there", lambda: len(read_all(topic)) == 150)
    for level in ["0", "1", "all"]:
        equal([v for v in values(read_all(topic)) if v.startswith(f"{level}-")], [f"{level}-{i}" for i in range(50)], level)


@scenario
def partitions():
    """The partitioner is the client's; each partition has offsets of its own."""
    topic = create(name(), 6)
    records = [{"key": f"k{i}".encode(), "value": str(i).encode()} for i in range(600)]
    sent = send(producer(partitioner="murmur2_random"), topic, records)
    read = read_all(topic, 6)
    equal(sorted(int(m.value()) for m in read), list(range(600)))
    equal({(m.partition(), m.offset()) for m in read}, {(m.partition(), m.offset()) for m in sent})
    for p in range(6):
        mine = [m for m in read if m.partition() == p]
        equal([m.offset() for m in mine], list(range(len(mine))), f"offsets of partition {p}")
        assert mine, f"no key for partition {p}"


@scenario
def idempotence():
    """Five batches in flight, small ones, many of them: once each, in order."""
    topic = create(name(), 2)
    client = producer(enable_idempotence=True, linger_ms=0, batch_num_messages=7, max_in_flight_requests_per_connection=5)
    records = [{"value": str(i).encode(), "partition": i % 2} for i in range(5000)]
    sent = send(client, topic, records)
    for p in range(2):
        equal([m.offset() for m in sent if m.partition() == p], list(range(2500)))
    read = read_all(topic, 2)
    for p in range(2):
        equal([int(m.value()) for m in read if m.partition() == p], list(range(p, 5000, 2)))


@scenario
def large_messages():
    """Up to max.message.bytes of the topic and not a byte more; a consumer with small fetches still gets on."""
    small = create(name("small"))
    wide = create(name("wide"), max_message_bytes=4_000_000)
    big = producer(message_max_bytes=20_000_000, message_timeout_ms=20_000)
    send(big, small, [{"value": b"x" * 1_000_000}])
    send(big, small, [{"value": b"x" * 1_100_000}], KafkaError.MSG_SIZE_TOO_LARGE)
    send(big, wide, [{"value": b"y" * 3_900_000}, {"value": b"z"}])
    send(big, wide, [{"value": b"y" * 4_100_000}], KafkaError.MSG_SIZE_TOO_LARGE)
    # What counts is the batch as it is stored: compressed.
    squeezed = producer(message_max_bytes=20_000_000, compression_type="zstd")
    send(squeezed, small, [{"value": b"x" * 5_000_000}])
    for limit in [1_000, 1_000_000]:
        read = read_all(wide, fetch_message_max_bytes=limit, fetch_max_bytes=limit, message_max_bytes=limit)
        equal([len(m.value()) for m in read], [3_900_000, 1])
        read = read_all(small, fetch_message_max_bytes=limit, fetch_max_bytes=limit, message_max_bytes=limit)
        equal([len(m.value()) for m in read], [1_000_000, 5_000_000])


@scenario
def times():
    """CreateTime is the client's and LogAppendTime the broker's; offsets are found by both."""
    created = create(name("created"))
    # Out of order: the offset looked for is that of the first record at or after the time.
    offsets_s = [10, 30, 20, 50, 40, 60]
    for at in offsets_s:
        send(producer(), created, [{"value": b"v", "timestamp": START_MS + at * 1000}])
    client = consumer()

    def at(topic, ms):
        [found] = client.offsets_for_times([TopicPartition(topic, 0, ms)], timeout=10)
        assert found.error is None, found.error
        return found.offset

    for ms, offset in [(0, 0), (10_000, 0), (10_001, 1), (30_000, 1), (30_001, 3), (50_000, 3), (50_001, 5), (60_000, 5)]:
        equal(at(created, START_MS + ms), offset, f"offset at {ms}")
    equal(at(created, START_MS + 60_001), OFFSET_END, "offset after the last")

    appended = create(name("appended"), message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    [sent] = send(producer(), appended, [{"value": b"v", "timestamp": START_MS}])
    after = int(time.time() * 1000)
    [read] = read_all(appended)
    for message in [sent, read]:
        kind, ms = message.timestamp()
        equal(kind, TIMESTAMP_LOG_APPEND_TIME, "kind of timestamp")
        assert before - 5 <= ms <= after + 5, f"{ms} is not between {before} and {after}"
    equal(at(appended, before - 1000), 0)
    equal(at(appended, after + 1000), OFFSET_END)


@scenario
def long_poll():
    """A consumer at the end gets a record when it is there, not when its wait is over; and waits for min bytes."""
    topic = create(name())
    client = consumer(fetch_wait_max_ms=10_000, fetch_min_bytes=1)
    client.assign([TopicPartition(topic, 0, 0)])
    assert client.poll(2) is None
    sender = producer(linger_ms=0)
    for i in range(5):
        begun = time.monotonic()
        send(sender, topic, [{"value": str(i).encode()}])
        equal(values(take(client, 1, 5)), [str(i)])
        assert time.monotonic() - begun < 5, "it waited out fetch.wait.max.ms"


@scenario
def positions():
    """Where a consumer starts, seeks to, and what is beyond the log."""
    topic = create(name())
    send(producer(), topic, [{"value": str(i).encode()} for i in range(100)])
    client = consumer()
    equal(client.get_watermark_offsets(TopicPartition(topic, 0), timeout=10), (0, 100))
    client.assign([TopicPartition(topic, 0, 40)])
    equal(values(take(client, 2)), ["40", "41"])
    client.seek(TopicPartition(topic, 0, 7))
    equal(values(take(client, 2)), ["7", "8"])
    equal(client.position([TopicPartition(topic, 0)])[0].offset, 9)
    client.close()
    for reset, first in [("earliest", "0"), ("latest", "new")]:
        client = consumer(auto_offset_reset=reset)
        client.assign([TopicPartition(topic, 0, 5000)])
        if reset == "latest":
            eventually("it is at the end", lambda: client.poll(0.1) is None and client.position([TopicPartition(topic, 0)])[0].offset != 5000)
            time.sleep(1)
            send(producer(), topic, [{"value": b"new"}])
        equal(values(take(client, 1)), [first], reset)
        client.close()
    client = consumer(auto_offset_reset="error")
    client.assign([TopicPartition(topic, 0, 5000)])
    refused(KafkaError._AUTO_OFFSET_RESET, lambda: take(client, 1))


@scenario
def missing():
    """A topic or partition that is not there."""
    client = producer(message_timeout_ms=10_000, topic_metadata_propagation_max_ms=500)
    send(client, name("nowhere"), [{"value": b"v"}], KafkaError.UNKNOWN_TOPIC_OR_PART)
    topic = create(name())
    try:
        send(client, topic, [{"value": b"v", "partition": 3}], KafkaError._UNKNOWN_PARTITION)
    except KafkaException as failed:
        # It knows at once where it has the metadata already.
        equal(failed.args[0].code(), KafkaError._UNKNOWN_PARTITION)
    reader = consumer(allow_auto_create_topics=False)
    reader.subscribe([name("nowhere")])
    refused(KafkaError.UNKNOWN_TOPIC_OR_PART, lambda: take(reader, 1))


if __name__ == "__main__":
    run()
