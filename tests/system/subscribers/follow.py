"""Follows topic `alerts` as any program with librdkafka would, in a consumer group; prints each record as a line of JSON.

usage: follow.py BROKERS GROUP COUNT

COUNT records, which are committed; or, with 0, all there are, from the beginning, which are not.
"""

import json
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

brokers, group, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
consumer = Consumer(
    {
        "bootstrap.servers": brokers,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.partition.eof": count == 0,
    }
)
if count:
    consumer.subscribe(["alerts"])
else:
    consumer.assign([TopicPartition("alerts", 0, OFFSET_BEGINNING)])
seen = 0
while count == 0 or seen < count:
    message = consumer.poll(1.0)
    if message is None:
        continue
    if message.error():
        if message.error().code() == KafkaError._PARTITION_EOF:
            break
        print(message.error(), file=sys.stderr, flush=True)
        continue
    value = message.value()
    record = {
        "partition": message.partition(),
        "offset": message.offset(),
        "key": message.key().decode(),
        "value": None if value is None else json.loads(value),
    }
    print(json.dumps(record), flush=True)
    seen += 1
    if count:
        consumer.commit(message=message, asynchronous=False)
consumer.close()
