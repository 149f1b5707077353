"""The broker is killed with -9 and started again while clients are connected."""

import threading
import time

from confluent_kafka import TopicPartition

from groups import Member
from support import *
from transactions import committed, transactional, write


@scenario
def producing():
    """What was acknowledged is there, once, in order; a producer with idempotence needs no more than patience."""
    topic = create(name(), 2)
    client = producer(enable_idempotence=True, batch_num_messages=20, linger_ms=1, message_timeout_ms=120_000)
    acknowledged, failed = [], []

    def report(error, message):
        (failed if error else acknowledged).append((message.partition(), message.offset(), int(message.value())) if not error else error)

    produced = 0

    def produce_for(seconds):
        nonlocal produced
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(50):
                client.produce(topic, value=str(produced).encode(), partition=produced % 2, on_delivery=report)
                produced += 1
            client.poll(0.01)

    for _ in range(3):
        produce_for(0.7)
        ask("kill")
        produce_for(0.3)
        ask("start")
    produce_for(0.5)
    equal(client.flush(90), 0, "messages nobody acknowledged")
    equal(failed, [])
    equal(len(acknowledged), produced)
    read = read_all(topic, 2)
    equal([(m.partition(), m.offset(), int(m.value())) for m in read], sorted(acknowledged, key=lambda a: a[:2]), "what was acknowledged")
    for p in range(2):
        equal([int(m.value()) for m in read if m.partition() == p], list(range(p, produced, 2)), f"partition {p}")


@scenario
def consuming():
    """Members of a group read on where they were; nothing is missed, and what was committed is not read again."""
    topic, group = create(name(), 4), name("group")
    members = [Member(group, topic) for _ in range(2)]
    eventually("two share", lambda: sorted(len(m.owned) for m in members) == [2, 2])
    sender = producer(enable_idempotence=True)
    send(sender, topic, [{"value": f"a-{i}".encode(), "partition": i % 4} for i in range(80)])
    eventually("a is read", lambda: sum(len(m.read) for m in members) == 80)
    time.sleep(0.5)
    ask("kill")
    time.sleep(1)
    ask("start")
    send(sender, topic, [{"value": f"b-{i}".encode(), "partition": i % 4} for i in range(80)])
    # A member whose commit met the dead broker has stopped; the group goes on without it.
    replacements = [Member(group, topic) for m in members if m.failed]
    for m in members:
        if m.failed:
            m.stop()
    everyone = members + replacements
    eventually("b is read", lambda: {v for m in everyone for v in values(list(m.read))} == {f"{t}-{i}" for t in "ab" for i in range(80)}, 60)
    for m in everyone:
        if not m.failed:
            m.stop()
    client = consumer(group)
    found = client.committed([TopicPartition(topic, p) for p in range(4)], timeout=20)
    equal([p.offset for p in found], [40] * 4)
    read = [v for m in everyone for v in values(m.read)]
    equal(sorted(v for v in read if v.startswith("a-")), sorted(f"a-{i}" for i in range(80)), "of a, all was committed before")


@scenario
def transaction():
    """A transaction goes on through the death of its broker: what is committed is whole, what is aborted is not seen."""
    topic = create(name(), 2)
    client = transactional(message_timeout_ms=90_000, transaction_timeout_ms=100_000)
    # Dies with the transaction open; and, by the thread, at any moment of its end.
    for i in range(4):
        client.begin_transaction()
        write(client, topic, [f"{i}-{n}" for n in range(10)], 2)
        if i % 2 == 0:
            ask("restart")
            write(client, topic, [f"{i}-{n}" for n in range(10, 20)], 2)
        else:
            killer = threading.Timer(0.002 * i, lambda: ask("restart"))
            killer.start()
        if i == 2:
            client.abort_transaction(60)
        else:
            client.commit_transaction(60)
        if i % 2 == 1:
            killer.join()
    expected = {i: 20 if i % 2 == 0 else 10 for i in [0, 1, 3]}
    equal(sorted(committed(topic, 2)), sorted(f"{i}-{n}" for i, count in expected.items() for n in range(count)))


@scenario
def standing():
    """Topics, settings, offsets and the cluster's id are what they were."""
    from confluent_kafka.admin import ConfigResource, ResourceType

    topic, group = create(name(), 3, retention_ms=1_234_567), name("group")
    send(producer(), topic, [{"value": b"v", "partition": 0}] * 10)
    client = consumer(group)
    client.commit(offsets=[TopicPartition(topic, 0, 7, metadata="seven")], asynchronous=False)
    before = admin().list_topics(timeout=10).cluster_id
    for _ in range(2):
        ask("restart")
        eventually("it answers", lambda: topic in admin().list_topics(timeout=30).topics)
        seen = admin().list_topics(timeout=10)
        equal((seen.cluster_id, len(seen.topics[topic].partitions)), (before, 3))
        resource = ConfigResource(ResourceType.TOPIC, topic)
        equal(admin().describe_configs([resource])[resource].result(10)["retention.ms"].value, "1234567")
        [found] = consumer(group).committed([TopicPartition(topic, 0)], timeout=20)
        equal((found.offset, found.metadata), (7, "seven"))


if __name__ == "__main__":
    run()
