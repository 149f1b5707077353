import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;

/** Producing and consuming. */
final class Records {
    private static final long START_MS = 1_772_150_400_000L;

    private Records() {}

    /** What goes in comes out, whatever the codec. */
    static void compressions() throws Exception {
        String topic = Support.create(Support.name("t"), 1);
        List<ProducerRecord<byte[], byte[]>> expected = new ArrayList<>();
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
            for (int i = 0; i < 400; i++) {
                List<Header> headers = new ArrayList<>();
                if (i % 5 != 0) {
                    headers.add(new RecordHeader("trace", Support.bytes("" + i)));
                    headers.add(new RecordHeader("trace", new byte[0]));
                    headers.add(new RecordHeader("naïve", (byte[]) null));
                }
                byte[] key = i % 7 == 0 ? null : Support.bytes(codec + i % 13);
                byte[] value = i % 11 == 0 ? null : Support.bytes(("naïve “" + codec + "” " + i).repeat(1 + i % 60));
                records.add(new ProducerRecord<>(topic, 0, START_MS + i, key, value, headers));
            }
            try (KafkaProducer<byte[], byte[]> producer = Support.producer("compression.type", codec, "linger.ms", "20", "batch.size", "30000")) {
                long first = expected.size();
                List<RecordMetadata> sent = Support.send(producer, records);
                Support.equal(
                    sent.stream().map(RecordMetadata::offset).toList(),
                    IntStream.range(0, 400).mapToObj(i -> first + i).toList(),
                    "offsets of " + codec);
            }
            expected.addAll(records);
        }
        List<ConsumerRecord<byte[], byte[]>> read = Support.readAll(topic, 1);
        Support.equal(read.size(), expected.size(), "records");
        for (int i = 0; i < expected.size(); i++) {
            ConsumerRecord<byte[], byte[]> got = read.get(i);
            ProducerRecord<byte[], byte[]> want = expected.get(i);
            Support.equal(got.offset(), (long) i, "offset");
            Support.equal(got.key(), want.key(), "key of " + i);
            Support.equal(got.value(), want.value(), "value of " + i);
            Support.equal(got.headers(), want.headers(), "headers of " + i);
            Support.equal(got.timestamp(), want.timestamp(), "timestamp of " + i);
            Support.equal(got.timestampType(), TimestampType.CREATE_TIME, "kind of timestamp");
        }
    }

    /** Small batches, five of them on their way at once, two producers, which the default makes idempotent. */
    static void idempotence() throws Exception {
        String topic = Support.create(Support.name("t"), 2);
        try (KafkaProducer<byte[], byte[]> one = Support.producer("batch.size", "200", "max.in.flight.requests.per.connection", "5");
            KafkaProducer<byte[], byte[]> two = Support.producer("batch.size", "200", "linger.ms", "0")) {
            for (int i = 0; i < 3000; i++) {
                one.send(Support.record(topic, i % 2, "one-" + i));
                two.send(Support.record(topic, i % 2, "two-" + i));
            }
            one.flush();
            two.flush();
        }
        List<ConsumerRecord<byte[], byte[]>> read = Support.readAll(topic, 2);
        Support.equal(read.size(), 6000, "records");
        for (int p = 0; p < 2; p++) {
            int partition = p;
            for (String who : List.of("one-", "two-")) {
                Support.equal(
                    Support.values(read.stream().filter(r -> r.partition() == partition && Support.text(r.value()).startsWith(who)).toList()),
                    IntStream.range(0, 3000).filter(i -> i % 2 == partition).mapToObj(i -> who + i).toList(),
                    who + " in partition " + p);
            }
        }
    }

    /** Up to what the topic takes, and no further; a consumer with little room reads it all the same. */
    static void sizes() throws Exception {
        String topic = Support.create(Support.name("t"), 1, "max.message.bytes", "3000000");
        try (KafkaProducer<byte[], byte[]> producer = Support.producer("max.request.size", "20000000", "buffer.memory", "64000000")) {
            Support.send(producer, List.of(new ProducerRecord<>(topic, new byte[2_900_000]), new ProducerRecord<>(topic, new byte[1])));
            Support.refused(RecordTooLargeException.class, () -> producer.send(new ProducerRecord<>(topic, new byte[3_100_000])).get());
        }
        List<ConsumerRecord<byte[], byte[]>> read = Support.readAll(topic, 1, "max.partition.fetch.bytes", "1000", "fetch.max.bytes", "1000");
        Support.equal(read.stream().map(r -> r.value().length).toList(), List.of(2_900_000, 1), "sizes");
    }

    /** Beginning, end, seeking, by time, and beyond the log. */
    static void positions() throws Exception {
        String topic = Support.create(Support.name("t"), 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaProducer<byte[], byte[]> producer = Support.producer()) {
            for (int i = 0; i < 50; i++) {
                producer.send(new ProducerRecord<>(topic, 0, START_MS + i * 1000L, null, Support.bytes("" + i)));
            }
        }
        try (KafkaConsumer<byte[], byte[]> consumer = Support.consumer(null, "auto.offset.reset", "none")) {
            consumer.assign(List.of(partition));
            Support.equal(consumer.beginningOffsets(List.of(partition)), Map.of(partition, 0L), "beginning");
            Support.equal(consumer.endOffsets(List.of(partition)), Map.of(partition, 50L), "end");
            OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(partition, START_MS + 9_500)).get(partition);
            Support.equal(List.of(found.offset(), found.timestamp()), List.of(10L, START_MS + 10_000), "by time");
            Support.equal(consumer.offsetsForTimes(Map.of(partition, START_MS + 60_000)).get(partition), null, "after the last");
            consumer.seek(partition, 30);
            List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
            Support.eventually("the rest", () -> {
                consumer.poll(Duration.ofMillis(100)).forEach(read::add);
                return read.size() >= 20;
            });
            Support.equal(Support.values(read), IntStream.range(30, 50).mapToObj(i -> "" + i).toList(), "from 30");
            consumer.seek(partition, 5000);
            Support.refused(OffsetOutOfRangeException.class, () -> consumer.poll(Duration.ofSeconds(20)));
        }
    }

    /** The broker dies and comes back under a producer and a consumer: everything is there once, in order. */
    static void restarts() throws Exception {
        String topic = Support.create(Support.name("t"), 1);
        List<String> read = new ArrayList<>();
        int produced = 0;
        try (KafkaProducer<byte[], byte[]> producer = Support.producer("linger.ms", "1", "batch.size", "500");
            KafkaConsumer<byte[], byte[]> consumer = Support.consumer(Support.name("group"))) {
            // Not subscribed: a member whose client forgets its metadata, see below, rejoins its group and begins again at what it committed.
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int turn = 0; turn < 3; turn++) {
                // A client that knows of no other broker forgets its metadata, and `send` waits until there is one again.
                Thread killer = new Thread(() -> Support.askTwice("kill", "start"));
                for (int i = 0; i < 1000; i++) {
                    sent.add(producer.send(Support.record(topic, 0, "" + produced++)));
                    if (i == 300) {
                        killer.start();
                    }
                    if (i % 100 == 0) {
                        consumer.poll(Duration.ofMillis(10)).forEach(r -> read.add(Support.text(r.value())));
                    }
                }
                killer.join();
                producer.flush();
                for (int i = 0; i < sent.size(); i++) {
                    Support.equal(sent.get(i).get().offset(), (long) i, "offset");
                }
            }
            int all = produced;
            Support.eventually("all of it", () -> {
                consumer.poll(Duration.ofMillis(100)).forEach(r -> read.add(Support.text(r.value())));
                return read.size() >= all;
            });
            consumer.commitSync();
        }
        Support.equal(read, IntStream.range(0, produced).mapToObj(i -> "" + i).toList(), "what was read");
        Support.equal(Support.values(Support.readAll(topic, 1)), read, "what is there");
    }
}
