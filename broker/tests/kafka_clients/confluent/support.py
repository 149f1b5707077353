"""What the scenarios share: who is asked, how records are sent and read back, and how the broker is killed.

A scenario is a function with `@scenario`. It is run by `python NAME.py SCENARIO BOOTSTRAP [key=value ...]`, where the pairs are client
settings (security) or, with a dot in front, settings of the test. It passes where it returns. A line that begins with `@` is a wish to
whoever started the script, which is answered by a line: that is how a broker is killed and started.
"""

import functools
import os
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

SCENARIOS = {}
BOOTSTRAP = None
SECURITY = {}
OPTIONS = {}
NAME = None


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


def run():
    global BOOTSTRAP, NAME
    NAME, BOOTSTRAP = sys.argv[1], sys.argv[2]
    for pair in sys.argv[3:]:
        key, value = pair.split("=", 1)
        if key.startswith("."):
            OPTIONS[key[1:]] = value
        else:
            SECURITY[key] = value
    SCENARIOS[NAME]()
    # No waiting for clients that the scenario left open.
    sys.stdout.flush()
    os._exit(0)


def ask(wish):
    """Has the broker killed, started, or both."""
    print(f"@{wish}", flush=True)
    answer = sys.stdin.readline().strip()
    assert answer == "done", f"{wish}: {answer}"


def equal(actual, expected, what=""):
    assert actual == expected, f"{what}: got {actual!r}, expected {expected!r}"


def eventually(what, condition, seconds=30.0):
    """Waits until `condition()` is true, and returns what it was."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.05)


def name(suffix=""):
    """Of a topic, group or transactional id: nobody else's, for scenarios share a broker."""
    tag = OPTIONS.get("tag", "py")
    return f"{tag}-{NAME}-{suffix}" if suffix else f"{tag}-{NAME}"


def base(**config):
    # Between attempts to reach a broker that is being restarted.
    config = {key.replace("_", "."): value for key, value in config.items()}
    return {"bootstrap.servers": BOOTSTRAP, "reconnect.backoff.max.ms": 500, **SECURITY, **config}


@functools.cache
def admin():
    """One for all: what it promised fails where it is forgotten."""
    return AdminClient(base())


def producer(**config):
    return Producer(base(**{"linger_ms": 5, **config}))


def create(topic, partitions=1, **config):
    """Makes a topic and returns its name; the settings are the broker's, with `_` for `.`. Its records may be of any age."""
    if "cleanup_policy" not in config and "retention_bytes" not in config:
        config.setdefault("retention_ms", -1)
    new = NewTopic(topic, partitions, 1, config={k.replace("_", "."): str(v) for k, v in config.items()})
    admin().create_topics([new])[topic].result(30)
    return topic


def send(client, topic, records, expect_error=None):
    """Produces `records` (arguments of `produce`) and returns the delivered messages in the order of `records`."""
    delivered = [None] * len(records)

    def keep(index):
        def report(error, message):
            delivered[index] = (error, message)
        return report

    for index, record in enumerate(records):
        while True:
            try:
                client.produce(topic, on_delivery=keep(index), **record)
                break
            except BufferError:
                client.poll(0.1)
        client.poll(0)
    equal(client.flush(60), 0, "messages left in the producer")
    errors = [error.code() for error, _ in delivered if error is not None]
    if expect_error is None:
        equal(errors, [], "delivery errors")
    else:
        equal(set(errors), {expect_error}, "delivery errors")
        equal(len(errors), len(records), "failed deliveries")
    return [message for _, message in delivered]


def consumer(group=None, **config):
    config.setdefault("auto_offset_reset", "earliest")
    return Consumer(base(**{"group_id": group or name("nobody"), "enable_auto_commit": False, **config}))


def take(client, count, seconds=30.0):
    """The next `count` messages of a consumer; fails where they do not come."""
    messages, end = [], time.monotonic() + seconds
    while len(messages) < count:
        assert time.monotonic() < end, f"{len(messages)} of {count} messages within {seconds} s"
        message = client.poll(0.2)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        messages.append(message)
    return messages


def drain(client, partitions):
    """Every message up to the end of all partitions assigned (needs enable.partition.eof)."""
    messages, ends = [], set()
    end = time.monotonic() + 30
    while len(ends) < partitions:
        assert time.monotonic() < end, f"the end of {len(ends)} of {partitions} partitions within 30 s"
        message = client.poll(0.2)
        if message is None:
            continue
        if message.error():
            if message.error().code() == KafkaError._PARTITION_EOF:
                ends.add((message.topic(), message.partition()))
                continue
            raise KafkaException(message.error())
        messages.append(message)
    return messages


def read_all(topic, partitions=1, **config):
    """Every message of a topic that a consumer sees, partition after partition."""
    client = consumer(enable_partition_eof=True, **config)
    client.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
    messages = drain(client, partitions)
    client.close()
    return sorted(messages, key=lambda m: (m.partition(), m.offset()))


def values(messages):
    return [m.value().decode() for m in messages]


def refused(code, call):
    """Runs `call`, which has to fail with this error."""
    try:
        call()
    except KafkaException as failed:
        equal(failed.args[0].code(), code, str(failed))
        return failed.args[0]
    raise AssertionError(f"expected error {code}, and there was none")
