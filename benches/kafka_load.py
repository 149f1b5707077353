"""librdkafka as load on a Kafka broker, through confluent-kafka: prints one line of JSON. `kafka_broker.sh` calls it.

    kafka_load.py create  BOOTSTRAP TOPIC PARTITIONS
    kafka_load.py produce BOOTSTRAP TOPIC MESSAGES SIZE_BYTES [name=value ...]     as fast as it goes; settings of librdkafka
    kafka_load.py ping    BOOTSTRAP TOPIC MESSAGES SIZE_BYTES [name=value ...]     the next when the last was acknowledged
    kafka_load.py consume BOOTSTRAP TOPIC MESSAGES SIZE_BYTES [name=value ...]

Latency is from `produce` to the acknowledgement, as librdkafka counts it.
"""

import json
import os
import sys
import time

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

command, bootstrap, topic, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
settings = {"bootstrap.servers": bootstrap, **dict(pair.split("=", 1) for pair in sys.argv[6:])}


def report(begun, size, latencies_s=()):
    seconds = time.perf_counter() - begun
    answer = {"seconds": seconds, "messages_s": count / seconds, "mb_s": count * size / 1e6 / seconds}
    if latencies_s:
        latencies_s.sort()
        for name, share in [("p50_ms", 0.5), ("p99_ms", 0.99)]:
            answer[name] = latencies_s[min(int(len(latencies_s) * share), len(latencies_s) - 1)] * 1000
    print(json.dumps(answer))


def create():
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.create_topics([NewTopic(topic, count, 1)])[topic].result(30)
    # Made is not yet led.
    producer = Producer({"bootstrap.servers": bootstrap})
    for partition in range(count):
        producer.produce(topic, b"first", partition=partition)
    assert producer.flush(30) == 0


def produce(size, one_at_a_time):
    client = Producer({"acks": "all", "queue.buffering.max.messages": 100_000, "queue.buffering.max.kbytes": 262_144, **settings})
    # Bytes that do not compress to nothing, made once.
    value, latencies_s, failed = os.urandom(size), [], []

    def delivered(error, message):
        if error is not None:
            failed.append(error)
        else:
            latencies_s.append(message.latency())

    client.list_topics(topic, timeout=10)
    begun = time.perf_counter()
    for _ in range(count):
        while True:
            try:
                client.produce(topic, value, on_delivery=delivered)
                break
            except BufferError:
                client.poll(0.01)
        if one_at_a_time:
            client.flush()
        else:
            client.poll(0)
    client.flush()
    assert not failed and len(latencies_s) == count, failed[:1]
    report(begun, size, latencies_s)


def consume(size):
    client = Consumer({"group.id": f"load-{os.getpid()}", "auto.offset.reset": "earliest", "enable.auto.commit": False, **settings})
    client.subscribe([topic])
    begun, read = None, 0
    while read < count:
        messages = client.consume(10_000, 10)
        assert messages, f"{read} of {count} messages"
        # From the first record on: joining a group is another matter.
        begun = begun or time.perf_counter()
        read += len(messages)
    report(begun, size)


if command == "create":
    create()
elif command == "consume":
    consume(int(sys.argv[5]))
else:
    produce(int(sys.argv[5]), command == "ping")
