"""Transactions: all or nothing, across partitions and offsets; fencing; and a copy that is killed on its way."""

import os
import random
import signal
import subprocess
import sys
import time

from confluent_kafka import IsolationLevel, KafkaError, TopicPartition
from confluent_kafka.admin import OffsetSpec

from support import *


def transactional(suffix="tx", **config):
    client = producer(**{"transactional_id": name(suffix), "transaction_timeout_ms": 60_000, **config})
    client.init_transactions(30)
    return client


def write(client, topic, texts, partitions=1):
    for i, text in enumerate(texts):
        client.produce(topic, value=text.encode(), partition=i % partitions)
    equal(client.flush(30), 0)


def committed(topic, partitions=1):
    return values(read_all(topic, partitions, isolation_level="read_committed"))


def everything(topic, partitions=1):
    return values(read_all(topic, partitions, isolation_level="read_uncommitted"))


@scenario
def commit_and_abort():
    """Readers of what is committed see whole transactions; the others see all; markers take an offset and are seen by nobody."""
    topic = create(name(), 2)
    client = transactional()
    for i in range(6):
        client.begin_transaction()
        write(client, topic, [f"{i}-{n}" for n in range(10)], 2)
        if i % 3 == 1:
            client.abort_transaction(30)
        else:
            client.commit_transaction(30)
    kept = sorted(f"{i}-{n}" for i in [0, 2, 3, 5] for n in range(10))
    equal(sorted(committed(topic, 2)), kept)
    equal(len(everything(topic, 2)), 60)
    # 30 records and 6 markers in each.
    for p in range(2):
        equal(consumer().get_watermark_offsets(TopicPartition(topic, p), timeout=10), (0, 36))
    # A transaction of nothing, then a plain record.
    client.begin_transaction()
    client.commit_transaction(30)
    send(producer(), topic, [{"value": b"plain", "partition": 0}])
    equal(sorted(committed(topic, 2)), sorted(kept + ["plain"]))


@scenario
def last_stable_offset():
    """An open transaction holds back those who read what is committed, and nobody else; its end lets them go on."""
    topic = create(name())
    client = transactional()
    client.begin_transaction()
    write(client, topic, ["open"])
    send(producer(), topic, [{"value": b"plain"}])
    equal(everything(topic), ["open", "plain"])
    reader = consumer(isolation_level="read_committed", fetch_wait_max_ms=10_000)
    reader.assign([TopicPartition(topic, 0, 0)])
    equal(reader.poll(2), None)
    where = TopicPartition(topic, 0)
    for level, expected in [(IsolationLevel.READ_COMMITTED, 0), (IsolationLevel.READ_UNCOMMITTED, 2)]:
        found = admin().list_offsets({where: OffsetSpec.latest()}, isolation_level=level)[where].result(10)
        equal(found.offset, expected, str(level))
    client.commit_transaction(30)
    equal(values(take(reader, 2)), ["open", "plain"])
    client.begin_transaction()
    write(client, topic, ["aborted"])
    send(producer(), topic, [{"value": b"later"}])
    equal(reader.poll(1), None)
    client.abort_transaction(30)
    equal(values(take(reader, 1)), ["later"])


@scenario
def interleaved():
    """Transactions of many producers mixed in one partition, some aborted: each is seen whole or not at all, in log order."""
    random.seed(7)
    topic = create(name())
    clients = [transactional(f"tx{i}") for i in range(4)]
    expected, open_, serial = [], {}, 0
    for turn in range(60):
        i = random.randrange(4)
        if i not in open_:
            clients[i].begin_transaction()
            open_[i] = []
        for _ in range(random.randrange(1, 4)):
            write(clients[i], topic, [f"m{serial}"])
            open_[i].append(f"m{serial}")
            serial += 1
        if random.random() < 0.5:
            if random.random() < 0.5:
                clients[i].abort_transaction(30)
            else:
                clients[i].commit_transaction(30)
                expected += open_[i]
            del open_[i]
    for i in open_:
        clients[i].abort_transaction(30)
    equal(committed(topic), sorted(expected, key=lambda m: int(m[1:])))
    equal(everything(topic), [f"m{n}" for n in range(serial)])


@scenario
def offsets_in_transaction():
    """Offsets sent with a transaction count when it commits, and not at all when it aborts."""
    source, target, group = create(name("in")), create(name("out")), name("group")
    send(producer(), source, [{"value": str(i).encode()} for i in range(10)])
    reader = consumer(group, isolation_level="read_committed")
    reader.subscribe([source])
    take(reader, 10)
    client = transactional()

    def offset():
        [found] = consumer(group).committed([TopicPartition(source, 0)], timeout=20)
        return found.offset

    for upto, ends in [(4, "abort"), (6, "commit"), (9, "abort")]:
        before = offset()
        client.begin_transaction()
        write(client, target, [f"up to {upto}"])
        client.send_offsets_to_transaction([TopicPartition(source, 0, upto)], reader.consumer_group_metadata(), 30)
        if ends == "abort":
            client.abort_transaction(30)
            equal(offset(), before)
        else:
            client.commit_transaction(30)
            equal(offset(), upto)
    equal(committed(target), ["up to 6"])
    # A member that is no longer one must not commit: the group has gone on without it.
    stale = reader.consumer_group_metadata()
    reader.close()
    successor = consumer(group)
    successor.subscribe([source])
    take(successor, 4)
    client.begin_transaction()
    write(client, target, ["of a zombie"])
    failed = refused_by_group(lambda: client.send_offsets_to_transaction([TopicPartition(source, 0, 8)], stale, 30))
    assert failed.txn_requires_abort(), failed
    client.abort_transaction(30)
    equal(offset(), 6)
    equal(committed(target), ["up to 6"])


def refused_by_group(call):
    try:
        call()
    except KafkaException as failed:
        assert failed.args[0].code() in (KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID), failed
        return failed.args[0]
    raise AssertionError("a zombie's offsets were taken")


@scenario
def fencing():
    """A second producer of the same id puts the first out, and what that one had open is aborted."""
    topic = create(name())
    first = transactional()
    first.begin_transaction()
    write(first, topic, ["of the first"])
    second = transactional()
    second.begin_transaction()
    write(second, topic, ["of the second"])
    second.commit_transaction(30)
    equal(committed(topic), ["of the second"])
    try:
        first.produce(topic, value=b"too late")
        first.commit_transaction(30)
        raise AssertionError("a fenced producer committed")
    except KafkaException as failed:
        assert failed.args[0].fatal(), failed
        assert failed.args[0].code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH), failed
    equal(committed(topic), ["of the second"])


@scenario
def timeout():
    """A transaction that nobody ends is ended by its timeout, so that readers go on."""
    topic = create(name())
    client = transactional(transaction_timeout_ms=2_000, message_timeout_ms=1_500)
    client.begin_transaction()
    write(client, topic, ["forgotten"])
    send(producer(), topic, [{"value": b"plain"}])
    reader = consumer(isolation_level="read_committed")
    reader.assign([TopicPartition(topic, 0, 0)])
    equal(values(take(reader, 1, 40)), ["plain"])
    # Whoever wakes from such a sleep may not commit it.
    try:
        client.commit_transaction(30)
        raise AssertionError("a timed out transaction was committed")
    except KafkaException as failed:
        pass
    equal(committed(topic), ["plain"])


COUNT = 3000


def copy(source, target, group, transactional_id):
    """Reads, transforms, writes, and commits input offsets with output, in small transactions. Ends when all is copied."""
    reader = consumer(group, isolation_level="read_committed", session_timeout_ms=6000, heartbeat_interval_ms=500)
    reader.subscribe([source])
    writer = producer(transactional_id=transactional_id, transaction_timeout_ms=10_000)
    writer.init_transactions(60)
    while True:
        batch = reader.consume(50, 0.5)
        if not batch:
            found = reader.committed([TopicPartition(source, p) for p in range(2)], timeout=20)
            if sum(max(p.offset, 0) for p in found) == COUNT:
                return
            continue
        writer.begin_transaction()
        for message in batch:
            if message.error():
                raise KafkaException(message.error())
            writer.produce(target, key=message.key(), value=b"copy of " + message.value(), partition=message.partition())
        writer.send_offsets_to_transaction(reader.position(reader.assignment()), reader.consumer_group_metadata(), 60)
        writer.commit_transaction(60)


@scenario
def copying():
    """The process that `exactly_once` starts and kills."""
    copy(OPTIONS["source"], OPTIONS["target"], OPTIONS["group"], OPTIONS["id"])


@scenario
def exactly_once():
    """A copying process is killed again and again at any moment: its output is the input, once each, in order."""
    random.seed(int(OPTIONS.get("seed", "1")))
    source, target, group = create(name("in"), 2), create(name("out"), 2), name("group")
    send(producer(), source, [{"value": str(i).encode(), "partition": i % 2} for i in range(COUNT)])
    command = [sys.executable, __file__, "copying", *sys.argv[2:], f".source={source}", f".target={target}", f".group={group}", f".id={name('copy')}"]
    kills = 0
    end = time.monotonic() + 120
    while True:
        assert time.monotonic() < end, "it does not get done"
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            # The first waits for nobody's session; the others may wait up to six seconds for that of the one before.
            status = child.wait(random.uniform(0.5, 2.0) if kills == 0 else random.uniform(3.0, 9.0) if kills < 4 else 60)
            equal(status, 0, "the copying process")
            break
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            kills += 1
    assert kills > 0, "it was never killed"
    for p in range(2):
        read = [m for m in read_all(target, 2, isolation_level="read_committed") if m.partition() == p]
        equal(values(read), [f"copy of {i}" for i in range(p, COUNT, 2)], f"partition {p} after {kills} kills")


if __name__ == "__main__":
    run()
