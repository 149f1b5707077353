"""Consumer groups: eager and cooperative assignors, static members, offsets with metadata, joins and leaves."""

import threading
import time

from confluent_kafka import ConsumerGroupState, KafkaError, TopicPartition
from confluent_kafka import ConsumerGroupTopicPartitions

from support import *


class Member:
    """A consumer in a thread of its own, which keeps what it was assigned and what it read."""

    def __init__(self, group, topic, **config):
        self.client = consumer(group, heartbeat_interval_ms=500, session_timeout_ms=6000, **config)
        self.owned, self.assignments, self.revoked, self.lost = set(), 0, [], []
        self.read, self.failed = [], None
        self.stopping = threading.Event()
        self.silent = False
        self.client.subscribe([topic], on_assign=self.on_assign, on_revoke=self.on_revoke, on_lost=self.on_lost)
        self.cooperative = config.get("partition_assignment_strategy") == "cooperative-sticky"
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def on_assign(self, client, partitions):
        self.assignments += 1
        got = {p.partition for p in partitions}
        self.owned = self.owned | got if self.cooperative else got
        if self.cooperative:
            client.incremental_assign(partitions)
        else:
            client.assign(partitions)

    def on_revoke(self, client, partitions):
        gone = {p.partition for p in partitions}
        self.revoked.append(gone)
        self.owned = self.owned - gone
        if self.cooperative:
            client.incremental_unassign(partitions)
        else:
            client.unassign()

    def on_lost(self, client, partitions):
        self.lost.append({p.partition for p in partitions})
        self.on_revoke(client, partitions)

    def loop(self):
        try:
            while not self.stopping.is_set():
                message = self.client.poll(0.1)
                if message is None:
                    continue
                if message.error():
                    raise KafkaException(message.error())
                self.read.append(message)
                self.client.commit(message, asynchronous=False)
        except KafkaException as failed:
            self.failed = failed
        if not self.silent:
            self.client.close()

    def stop(self):
        self.stopping.set()
        self.thread.join(30)
        assert not self.thread.is_alive(), "a consumer does not close"


def shared(members, partitions, each):
    """Whether the members own every partition, nobody one of another's, and as many as is fair."""
    owned = [m.owned for m in members]
    return sorted(p for o in owned for p in o) == list(range(partitions)) and sorted(len(o) for o in owned) == sorted(each)


@scenario
def eager():
    """Members come and go; each partition has one owner; what was committed is not read again."""
    topic, group = create(name(), 6), name("group")
    sender = producer()

    def fill(tag):
        send(sender, topic, [{"value": f"{tag}-{i}".encode(), "partition": i % 6} for i in range(60)])

    first = Member(group, topic, partition_assignment_strategy="range")
    eventually("one owns all", lambda: shared([first], 6, [6]))
    fill("a")
    eventually("all of a", lambda: len(first.read) == 60)
    second = Member(group, topic, partition_assignment_strategy="range")
    eventually("two share", lambda: shared([first, second], 6, [3, 3]))
    third = Member(group, topic, partition_assignment_strategy="range")
    eventually("three share", lambda: shared([first, second, third], 6, [2, 2, 2]))
    fill("b")
    everyone = [first, second, third]
    eventually("all of b", lambda: sum(len(m.read) for m in everyone) == 120)
    assert all(m.read for m in [second, third]), "somebody read nothing"
    second.stop()
    eventually("two are left", lambda: shared([first, third], 6, [3, 3]))
    # Gone without a word: found out by its session.
    third.silent = True
    third.stop()
    del third.client
    fill("c")
    eventually("all of c", lambda: sum(len(m.read) for m in everyone) == 180)
    eventually("one is left", lambda: shared([first], 6, [6]))
    first.stop()
    equal(sorted(v for m in everyone for v in values(m.read)), sorted(f"{t}-{i}" for t in "abc" for i in range(60)))
    for m in everyone:
        equal(m.failed, None)
    # The group goes on from its offsets, with nobody of then in it.
    fill("d")
    later = Member(group, topic, partition_assignment_strategy="range")
    eventually("all of d", lambda: len(later.read) == 60)
    later.stop()
    equal(sorted(values(later.read)), sorted(f"d-{i}" for i in range(60)))


@scenario
def cooperative():
    """A second member takes half; the first keeps the rest all along, and is never told to let it go."""
    topic, group = create(name(), 6), name("group")
    strategy = {"partition_assignment_strategy": "cooperative-sticky"}
    first = Member(group, topic, **strategy)
    eventually("one owns all", lambda: shared([first], 6, [6]))
    second = Member(group, topic, **strategy)
    eventually("two share", lambda: shared([first, second], 6, [3, 3]))
    equal(sum(len(gone) for gone in first.revoked), 3, "partitions revoked of the first")
    equal(second.revoked, [], "revoked of the second")
    send(producer(), topic, [{"value": str(i).encode(), "partition": i % 6} for i in range(60)])
    eventually("all are read", lambda: len(first.read) + len(second.read) == 60)
    kept = set(second.owned)
    first.stop()
    eventually("one owns all again", lambda: shared([second], 6, [6]))
    assert kept <= second.owned and not second.revoked, second.revoked
    second.stop()
    equal(first.lost + second.lost, [], "lost partitions")
    equal(first.failed or second.failed, None)


@scenario
def static():
    """A static member that comes back within its session has its partitions again, and nobody else notices."""
    topic, group = create(name(), 4), name("group")
    first = Member(group, topic, group_instance_id="a")
    eventually("one owns all", lambda: shared([first], 4, [4]))
    second = Member(group, topic, group_instance_id="b")
    eventually("two share", lambda: shared([first, second], 4, [2, 2]))
    owned, before = set(second.owned), first.assignments
    # A static member does not leave when it closes.
    second.stop()
    time.sleep(1)
    again = Member(group, topic, group_instance_id="b")
    eventually("it has its own back", lambda: again.owned == owned)
    time.sleep(1.5)
    equal(first.assignments, before, "rebalances that the other saw")
    # A second one by the same name puts the first out for good.
    usurper = Member(group, topic, group_instance_id="b")
    eventually("the older one is fenced", lambda: again.failed is not None)
    assert again.failed.args[0].code() in (KafkaError.FENCED_INSTANCE_ID, KafkaError._FATAL), again.failed
    eventually("the newer one owns its partitions", lambda: usurper.owned == owned)
    usurper.stop()
    # Past its session it is gone.
    eventually("the rest has all", lambda: shared([first], 4, [4]))
    first.stop()


@scenario
def offsets():
    """Commits with metadata, of the past and the future, and of partitions without."""
    topic, group = create(name(), 3), name("group")
    send(producer(), topic, [{"value": b"v", "partition": 0}] * 10)
    client = consumer(group)
    wanted = [TopicPartition(topic, p) for p in range(3)]
    equal([p.offset for p in client.committed(wanted, timeout=10)], [-1001] * 3)
    client.commit(offsets=[TopicPartition(topic, 0, 7, metadata="naïve “seven”"), TopicPartition(topic, 1, 0)], asynchronous=False)
    found = client.committed(wanted, timeout=10)
    equal([p.offset for p in found], [7, 0, -1001])
    equal(found[0].metadata, "naïve “seven”")
    client.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
    found = client.committed(wanted, timeout=10)
    equal((found[0].offset, found[0].metadata), (3, None) if found[0].metadata is None else (3, ""))
    too_long = TopicPartition(topic, 0, 4, metadata="x" * 5000)
    refused(KafkaError.OFFSET_METADATA_TOO_LARGE, lambda: client.commit(offsets=[too_long], asynchronous=False))
    equal(client.committed(wanted, timeout=10)[0].offset, 3)
    # A member goes on from there.
    client.subscribe([topic])
    equal([m.offset() for m in take(client, 7)], list(range(3, 10)))
    client.close()


@scenario
def storm():
    """Ten members come and go at random; in the end each record was read, and the group is at rest."""
    import random
    random.seed(13)
    topic, group = create(name(), 12), name("group")
    members, gone = [Member(group, topic) for _ in range(3)], []
    sender = producer()
    for turn in range(10):
        send(sender, topic, [{"value": f"{turn}-{i}".encode(), "partition": i % 12} for i in range(24)])
        if random.random() < 0.5 and len(members) > 1:
            victim = members.pop(random.randrange(len(members)))
            threading.Thread(target=victim.stop, daemon=True).start()
            gone.append(victim)
        else:
            members.append(Member(group, topic))
        time.sleep(random.random() * 0.5)
    expected = {f"{t}-{i}" for t in range(10) for i in range(24)}
    eventually("everything was read", lambda: {v for m in members + gone for v in values(list(m.read))} == expected, 60)
    eventually("everything has one owner", lambda: sorted(p for m in members for p in m.owned) == list(range(12)), 60)
    client = consumer(group)
    committed = client.committed([TopicPartition(topic, p) for p in range(12)], timeout=10)
    equal([p.offset for p in committed], [20] * 12, "committed offsets")

    def at_rest():
        seen = admin().describe_consumer_groups([group])[group].result(10)
        return seen.state == ConsumerGroupState.STABLE and len(seen.members) == len(members)

    eventually("the group is at rest", at_rest)
    for m in members:
        m.stop()


@scenario
def administered():
    """What an administrator sees of a group, and may do to it."""
    topic, group, client = create(name(), 2), name("group"), admin()
    send(producer(), topic, [{"value": b"v", "partition": i % 2} for i in range(20)])
    member = Member(group, topic, client_id="the-member")
    eventually("it has read all", lambda: len(member.read) == 20)

    def listed(**states):
        result = client.list_consumer_groups(**states).result(10)
        equal(result.errors, [])
        return {g.group_id: g.state for g in result.valid}

    equal(listed()[group], ConsumerGroupState.STABLE)
    assert group in listed(states={ConsumerGroupState.STABLE})
    assert group not in listed(states={ConsumerGroupState.EMPTY})
    seen = client.describe_consumer_groups([group])[group].result(10)
    equal((seen.group_id, seen.state, seen.partition_assignor, seen.is_simple_consumer_group), (group, ConsumerGroupState.STABLE, "range", False))
    [only] = seen.members
    equal(only.client_id, "the-member")
    assert only.member_id.startswith("the-member-"), only.member_id
    assert "127.0.0.1" in only.host, only.host
    equal({(p.topic, p.partition) for p in only.assignment.topic_partitions}, {(topic, 0), (topic, 1)})

    def offsets():
        found = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(10)
        return {p.partition: p.offset for p in found.topic_partitions}

    equal(offsets(), {0: 10, 1: 10})
    moved = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 4)])
    # Not while somebody is in it.
    refused(KafkaError.NON_EMPTY_GROUP, lambda: client.delete_consumer_groups([group])[group].result(10))
    answer = client.alter_consumer_group_offsets([moved])[group].result(10)
    equal(answer.topic_partitions[0].error.code(), KafkaError.UNKNOWN_MEMBER_ID)
    member.stop()
    eventually("it is empty", lambda: listed()[group] == ConsumerGroupState.EMPTY)
    client.alter_consumer_group_offsets([moved])[group].result(10)
    equal(offsets(), {0: 4, 1: 10})
    again = Member(group, topic)
    eventually("it reads again from there", lambda: len(again.read) == 6)
    again.stop()
    client.delete_consumer_groups([group])[group].result(10)
    assert group not in listed()
    gone = client.describe_consumer_groups([group])[group].result(10)
    equal((gone.state, gone.members), (ConsumerGroupState.DEAD, []))
    refused(KafkaError.GROUP_ID_NOT_FOUND, lambda: client.delete_consumer_groups([group])[group].result(10))


if __name__ == "__main__":
    run()
