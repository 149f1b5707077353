"""What administrators do: topics, partitions, settings, offsets, deleting records; and compaction, as a client sees it."""

import time

from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)
from confluent_kafka import TopicCollection

from support import *


@scenario
def topics():
    """Make, look at, widen and delete topics; and what is refused."""
    client, topic = admin(), name()
    create(topic, 3, retention_ms=3_600_000)
    seen = client.list_topics(topic, timeout=10).topics[topic]
    equal(sorted(seen.partitions), [0, 1, 2])
    for p in seen.partitions.values():
        equal((p.leader, p.replicas, p.isrs, p.error), (1, [1], [1], None))
    assert topic in client.list_topics(timeout=10).topics
    refused(KafkaError.TOPIC_ALREADY_EXISTS, lambda: create(topic))
    # -1 leaves both to the broker.
    client.create_topics([NewTopic(name("default"), -1, -1)])[name("default")].result(10)
    equal(len(client.list_topics(name("default"), timeout=10).topics[name("default")].partitions), 1)
    bad = [
        (NewTopic(name("bad"), 0, 1), KafkaError.INVALID_PARTITIONS),
        (NewTopic(name("bad"), 1, 2), KafkaError.INVALID_REPLICATION_FACTOR),
        (NewTopic("a/b", 1, 1), KafkaError.TOPIC_EXCEPTION),
        (NewTopic("..", 1, 1), KafkaError.TOPIC_EXCEPTION),
        (NewTopic("x" * 250, 1, 1), KafkaError.TOPIC_EXCEPTION),
        (NewTopic(name("bad"), 1, 1, config={"no.such.setting": "1"}), KafkaError.INVALID_CONFIG),
        (NewTopic(name("bad"), 1, 1, config={"retention.ms": "soon"}), KafkaError.INVALID_CONFIG),
        (NewTopic(name("bad"), 1, 1, config={"cleanup.policy": "burn"}), KafkaError.INVALID_CONFIG),
    ]
    for new, code in bad:
        refused(code, lambda: client.create_topics([new])[new.topic].result(10))
    checked = NewTopic(name("checked"), 1, 1)
    client.create_topics([checked], validate_only=True)[checked.topic].result(10)
    assert name("checked") not in client.list_topics(timeout=10).topics, "it was only to be checked"

    client.create_partitions([NewPartitions(topic, 5)])[topic].result(10)
    eventually("five partitions", lambda: len(client.list_topics(topic, timeout=10).topics[topic].partitions) == 5)
    send(producer(), topic, [{"value": b"v", "partition": p} for p in range(5)])
    equal([m.partition() for m in read_all(topic, 5)], list(range(5)))
    for count in [5, 2]:
        refused(KafkaError.INVALID_PARTITIONS, lambda: client.create_partitions([NewPartitions(topic, count)])[topic].result(10))
    gone = name("never")
    refused(KafkaError.UNKNOWN_TOPIC_OR_PART, lambda: client.create_partitions([NewPartitions(gone, 5)])[gone].result(10))

    described = client.describe_topics(TopicCollection([topic]))[topic].result(10)
    first_id = str(described.topic_id)
    equal([p.leader.id for p in described.partitions], [1] * 5)
    client.delete_topics([topic])[topic].result(10)
    eventually("it is gone", lambda: topic not in client.list_topics(timeout=10).topics)
    refused(KafkaError.UNKNOWN_TOPIC_OR_PART, lambda: client.delete_topics([topic])[topic].result(10))
    # By the same name, it is another topic, and empty.
    create(topic)
    eventually("the new one is known", lambda: topic in client.list_topics(timeout=10).topics)
    assert str(client.describe_topics(TopicCollection([topic]))[topic].result(10).topic_id) != first_id
    equal(read_all(topic), [])


@scenario
def cluster():
    """One node, which is the controller, under the address that was dialled."""
    seen = admin().describe_cluster().result(10)
    host, port = BOOTSTRAP_ADDRESS()
    equal([(n.id, n.host, n.port) for n in seen.nodes], [(1, host, port)])
    equal(seen.controller.id, 1)
    assert seen.cluster_id and seen.cluster_id == admin().list_topics(timeout=10).cluster_id


def BOOTSTRAP_ADDRESS():
    import support
    host, port = support.BOOTSTRAP.rsplit(":", 1)
    return host, int(port)


@scenario
def settings():
    """Settings of a topic: described with where they come from, altered one by one, taken back."""
    client, topic = admin(), name()
    create(topic, 1, retention_ms=3_600_000)
    resource = ConfigResource(ResourceType.TOPIC, topic)

    def described():
        return client.describe_configs([resource])[resource].result(10)

    def alter(*changes):
        entries = [ConfigEntry(n, v, incremental_operation=op) for n, v, op in changes]
        return client.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)])

    seen = described()
    equal((seen["retention.ms"].value, seen["retention.ms"].source), ("3600000", ConfigSource.DYNAMIC_TOPIC_CONFIG.value))
    equal((seen["cleanup.policy"].value, seen["cleanup.policy"].source), ("delete", ConfigSource.DEFAULT_CONFIG.value))
    defaults = {
        "retention.bytes": "-1", "segment.bytes": "1073741824", "message.timestamp.type": "CreateTime", "compression.type": "producer",
        "delete.retention.ms": "86400000", "min.insync.replicas": "1", "min.cleanable.dirty.ratio": "0.5", "min.compaction.lag.ms": "0",
        "max.message.bytes": "1048588", "segment.ms": "604800000", "max.compaction.lag.ms": "9223372036854775807",
    }
    for key, value in defaults.items():
        # The size of a segment is ours to choose.
        if key != "segment.bytes":
            equal(seen[key].value, value, key)
        assert not seen[key].is_sensitive, key
    [future] = alter(("retention.ms", "7200000", AlterConfigOpType.SET), ("max.message.bytes", "2000000", AlterConfigOpType.SET)).values()
    future.result(10)
    eventually("they are altered", lambda: described()["retention.ms"].value == "7200000" and described()["max.message.bytes"].value == "2000000")
    send(producer(message_max_bytes=3_000_000), topic, [{"value": b"x" * 1_900_000}])
    [future] = alter(("retention.ms", None, AlterConfigOpType.DELETE)).values()
    future.result(10)
    eventually("the default is back", lambda: described()["retention.ms"].value == "604800000")
    [future] = alter(("cleanup.policy", "compact", AlterConfigOpType.APPEND)).values()
    future.result(10)
    eventually("both policies", lambda: sorted(described()["cleanup.policy"].value.split(",")) == ["compact", "delete"])
    [future] = alter(("cleanup.policy", "compact", AlterConfigOpType.SUBTRACT)).values()
    future.result(10)
    eventually("one policy", lambda: described()["cleanup.policy"].value == "delete")
    for change in [("no.such.setting", "1"), ("retention.ms", "soon"), ("cleanup.policy", "burn"), ("max.message.bytes", "-5")]:
        [future] = alter((*change, AlterConfigOpType.SET)).values()
        refused(KafkaError.INVALID_CONFIG, lambda: future.result(10))
    # All or nothing of one resource.
    [future] = alter(("retention.ms", "1000", AlterConfigOpType.SET), ("cleanup.policy", "burn", AlterConfigOpType.SET)).values()
    refused(KafkaError.INVALID_CONFIG, lambda: future.result(10))
    equal(described()["retention.ms"].value, "604800000")
    nowhere = ConfigResource(ResourceType.TOPIC, name("nowhere"))
    refused(KafkaError.UNKNOWN_TOPIC_OR_PART, lambda: client.describe_configs([nowhere])[nowhere].result(10))


@scenario
def list_offsets():
    """First, next, by time, and that of the largest timestamp."""
    client, topic = admin(), create(name(), 2)
    send(producer(), topic, [{"value": b"v", "partition": 0, "timestamp": ms} for ms in [1000, 5000, 3000]])

    def offset(spec, partition=0, **options):
        where = TopicPartition(topic, partition)
        found = client.list_offsets({where: spec}, **options)[where].result(10)
        return found.offset, found.timestamp

    equal(offset(OffsetSpec.earliest()), (0, -1))
    equal(offset(OffsetSpec.latest()), (3, -1))
    equal(offset(OffsetSpec.max_timestamp()), (1, 5000))
    equal(offset(OffsetSpec.for_timestamp(2000)), (1, 5000))
    equal(offset(OffsetSpec.for_timestamp(5001)), (-1, -1))
    for spec, expected in [(OffsetSpec.latest(), (0, -1)), (OffsetSpec.earliest(), (0, -1)), (OffsetSpec.max_timestamp(), (-1, -1))]:
        equal(offset(spec, 1), expected, "empty")
    # librdkafka finds out by the metadata that there is no such partition, and has a code of its own for it.
    refused(KafkaError._NOENT, lambda: offset(OffsetSpec.latest(), 7, request_timeout=3))


@scenario
def delete_records():
    """Everything below an offset goes; offsets stay; beyond the end is refused."""
    client, topic = admin(), create(name())
    send(producer(), topic, [{"value": str(i).encode()} for i in range(20)])

    def delete(offset):
        where = TopicPartition(topic, 0, offset)
        return client.delete_records([where])[where].result(10).low_watermark

    equal(delete(7), 7)
    equal([m.offset() for m in read_all(topic, auto_offset_reset="earliest")], list(range(7, 20)))
    equal(consumer().get_watermark_offsets(TopicPartition(topic, 0), timeout=10), (7, 20))
    equal(delete(3), 7, "what is gone is gone")
    refused(KafkaError.OFFSET_OUT_OF_RANGE, lambda: delete(21))
    # All of it.
    equal(delete(-1), 20)
    equal(read_all(topic), [])
    [sent] = send(producer(), topic, [{"value": b"new"}])
    equal(sent.offset(), 20)


@scenario
def compaction():
    """Of each key the newest is left, in order and under its offset; a tombstone takes its key with it and is itself gone later."""
    topic = create(name(), 1, cleanup_policy="compact", min_cleanable_dirty_ratio="0.01", delete_retention_ms=100, segment_ms=500)
    client = producer(linger_ms=0)
    # A record without a key has no place here.
    send(client, topic, [{"value": b"v"}], KafkaError.INVALID_RECORD)
    newest = {}
    for i in range(400):
        key = f"k{i % 20}"
        newest[key] = str(i)
        [m] = send(client, topic, [{"key": key.encode(), "value": str(i).encode(), "headers": [("i", str(i))]}])
    for gone in range(5):
        send(client, topic, [{"key": f"k{gone}".encode(), "value": None}])
        del newest[f"k{gone}"]

    def compacted():
        # What is in the open segment is not compacted: something new has to close it.
        time.sleep(0.6)
        send(client, topic, [{"key": b"clock", "value": b"tick"}])
        read = read_all(topic)
        equal([m.offset() for m in read], sorted({m.offset() for m in read}))
        rest = [m for m in read if m.key() != b"clock"]
        latest = {m.key().decode(): m.value() and m.value().decode() for m in rest}
        equal({k: v for k, v in latest.items() if v is not None}, newest, "the newest of each key is always there")
        for m in rest:
            if m.value() is not None:
                equal((m.offset() % 400, dict(m.headers())["i"]), (int(m.value()), m.value()), "a record keeps its offset")
        return len(rest) == len(newest)

    eventually("only the newest are left", compacted, 90)


@scenario
def retention():
    """Beyond retention.bytes whole segments go, oldest first, and the log start with them."""
    topic = create(name(), 1, segment_bytes=1_048_576, retention_bytes=2_097_152)
    client = producer()
    for _ in range(8):
        send(client, topic, [{"value": b"x" * 900_000}])
    low, high = eventually("the oldest are gone", lambda: (w := consumer().get_watermark_offsets(TopicPartition(topic, 0), timeout=10))[0] > 0 and w, 60)
    equal(high, 8)
    equal([m.offset() for m in read_all(topic, auto_offset_reset="earliest")], list(range(low, 8)))


if __name__ == "__main__":
    run()
