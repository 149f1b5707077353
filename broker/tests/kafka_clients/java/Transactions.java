import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;

/** Transactions, and a copy that dies on its way. */
final class Transactions {
    private static final int COPIED = 2000;

    private Transactions() {}

    private static KafkaProducer<byte[], byte[]> transactional(String id, Object... pairs) {
        Object[] all = new Object[pairs.length + 2];
        System.arraycopy(pairs, 0, all, 2, pairs.length);
        all[0] = "transactional.id";
        all[1] = Support.name(id);
        KafkaProducer<byte[], byte[]> producer = Support.producer(all);
        producer.initTransactions();
        return producer;
    }

    private static List<String> committed(String topic) throws Exception {
        return Support.values(Support.readAll(topic, 1, "isolation.level", "read_committed"));
    }

    /** Whole or not at all; an open one holds back who reads what is committed. */
    static void commitAndAbort() throws Exception {
        String topic = Support.create(Support.name("t"), 1);
        List<String> kept = new ArrayList<>();
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaProducer<byte[], byte[]> producer = transactional("tx"); KafkaProducer<byte[], byte[]> plain = Support.producer();
            Admin admin = Support.admin()) {
            for (int i = 0; i < 9; i++) {
                producer.beginTransaction();
                for (int n = 0; n < 20; n++) {
                    producer.send(Support.record(topic, 0, i + "-" + n));
                    if (i % 3 != 1) {
                        kept.add(i + "-" + n);
                    }
                }
                // What was not sent yet when it aborts never is.
                producer.flush();
                if (i == 4) {
                    plain.send(Support.record(topic, 0, "plain")).get();
                    kept.add("plain");
                    Support.equal(committed(topic).size(), 60, "while it is open");
                    long stable = admin.listOffsets(Map.of(partition, OffsetSpec.latest()), new ListOffsetsOptions(IsolationLevel.READ_COMMITTED))
                        .partitionResult(partition).get().offset();
                    // Four transactions of 20 records and a marker.
                    Support.equal(stable, 84L, "last stable offset");
                }
                if (i % 3 == 1) {
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                }
            }
        }
        Support.equal(committed(topic), kept, "committed");
        Support.equal(Support.readAll(topic, 1).size(), 181, "uncommitted");
    }

    /** A newer producer of the same id puts the older out; so does an administrator. */
    static void fencing() throws Exception {
        String topic = Support.create(Support.name("t"), 1);
        KafkaProducer<byte[], byte[]> first = transactional("tx");
        first.beginTransaction();
        first.send(Support.record(topic, 0, "of the first")).get();
        KafkaProducer<byte[], byte[]> second = transactional("tx");
        second.beginTransaction();
        second.send(Support.record(topic, 0, "of the second")).get();
        fenced(first);
        second.commitTransaction();
        Support.equal(committed(topic), List.of("of the second"), "committed");
        second.beginTransaction();
        second.send(Support.record(topic, 0, "open")).get();
        try (Admin admin = Support.admin()) {
            admin.fenceProducers(List.of(Support.name("tx"))).all().get();
        }
        fenced(second);
        Support.equal(committed(topic), List.of("of the second"), "committed");
    }

    private static void fenced(KafkaProducer<byte[], byte[]> producer) {
        try {
            producer.commitTransaction();
        } catch (KafkaException failed) {
            for (Throwable cause = failed; cause != null; cause = cause.getCause()) {
                if (cause.getClass().getSimpleName().matches("ProducerFencedException|InvalidProducerEpochException")) {
                    return;
                }
            }
            throw new AssertionError("it failed, but was not fenced", failed);
        }
        throw new AssertionError("a fenced producer committed");
    }

    /** Offsets of a transaction: those of a member that is one count when it commits, those of one that was are refused. */
    static void zombieOffsets() throws Exception {
        String source = Support.create(Support.name("in"), 1);
        String group = Support.name("group");
        TopicPartition partition = new TopicPartition(source, 0);
        try (KafkaProducer<byte[], byte[]> producer = Support.producer()) {
            Support.send(producer, IntStream.range(0, 10).mapToObj(i -> Support.record(source, 0, "" + i)).toList());
        }
        Map<TopicPartition, OffsetAndMetadata> four = Map.of(partition, new OffsetAndMetadata(4, "four"));
        Map<TopicPartition, OffsetAndMetadata> eight = Map.of(partition, new OffsetAndMetadata(8));
        ConsumerGroupMetadata stale;
        try (KafkaProducer<byte[], byte[]> producer = transactional("tx"); Admin admin = Support.admin()) {
            try (KafkaConsumer<byte[], byte[]> member = Support.consumer(group)) {
                member.subscribe(List.of(source));
                Support.eventually("it reads", () -> !member.poll(Duration.ofMillis(100)).isEmpty());
                stale = member.groupMetadata();
                producer.beginTransaction();
                producer.sendOffsetsToTransaction(eight, stale);
                producer.abortTransaction();
                Support.equal(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get(), Map.of(), "after an abort");
                producer.beginTransaction();
                producer.sendOffsetsToTransaction(four, stale);
                producer.commitTransaction();
                Support.equal(member.committed(Set.of(partition)), four, "after a commit");
            }
            Groups.Member successor = new Groups.Member(group, source);
            Support.eventually("another took over", () -> successor.read.size() == 6);
            successor.stop();
            producer.beginTransaction();
            Support.refused(org.apache.kafka.clients.consumer.CommitFailedException.class, () -> {
                producer.sendOffsetsToTransaction(eight, stale);
                producer.commitTransaction();
            });
            producer.abortTransaction();
            Support.equal(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(partition).offset(), 10L, "in the end");
        }
    }

    /** What `copy` copies. */
    static void copyPrepare() throws Exception {
        String source = Support.create(Support.name("in"), 2);
        Support.create(Support.name("out"), 2);
        try (KafkaProducer<byte[], byte[]> producer = Support.producer()) {
            Support.send(producer, IntStream.range(0, COPIED).mapToObj(i -> Support.record(source, i % 2, "" + i)).toList());
        }
    }

    /** Copies from `in` to `out`, offsets and output in one transaction; with `seed` it dies on its way, at any step of a transaction. */
    static void copy() throws Exception {
        Random random = Support.OPTIONS.containsKey("seed") ? new Random(Long.parseLong(Support.OPTIONS.get("seed"))) : null;
        int dies = random == null ? -1 : 5 + random.nextInt(40);
        int step = 0;
        Set<TopicPartition> partitions = Set.of(new TopicPartition(Support.name("in"), 0), new TopicPartition(Support.name("in"), 1));
        try (KafkaConsumer<byte[], byte[]> consumer = Support.consumer(Support.name("group"), "isolation.level", "read_committed",
                "max.poll.records", "40", "session.timeout.ms", "6000", "heartbeat.interval.ms", "300");
            KafkaProducer<byte[], byte[]> producer = transactional("copy", "transaction.timeout.ms", "10000")) {
            consumer.subscribe(List.of(Support.name("in")));
            while (true) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
                if (records.isEmpty()) {
                    long done = consumer.committed(partitions).values().stream().mapToLong(o -> o == null ? 0 : o.offset()).sum();
                    if (done == COPIED) {
                        return;
                    }
                    continue;
                }
                producer.beginTransaction();
                step = dieAt(dies, step);
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    String value = "copy of " + Support.text(record.value());
                    producer.send(new ProducerRecord<>(Support.name("out"), record.partition(), null, Support.bytes(value)));
                    offsets.put(new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1));
                }
                step = dieAt(dies, step);
                producer.flush();
                step = dieAt(dies, step);
                producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                step = dieAt(dies, step);
                if (step == dies && random.nextBoolean()) {
                    // In the middle of the commit.
                    new Thread(producer::commitTransaction).start();
                    Thread.sleep(random.nextInt(4));
                    Runtime.getRuntime().halt(9);
                }
                producer.commitTransaction();
                step = dieAt(dies, step);
            }
        }
    }

    private static int dieAt(int dies, int step) {
        if (dies >= 0 && step > dies) {
            Runtime.getRuntime().halt(9);
        }
        return step + 1;
    }

    /** The copy is the input, once each, in order. */
    static void copyCheck() throws Exception {
        for (int p = 0; p < 2; p++) {
            int partition = p;
            List<ConsumerRecord<byte[], byte[]>> read = Support.readAll(Support.name("out"), 2, "isolation.level", "read_committed");
            Support.equal(
                Support.values(read.stream().filter(r -> r.partition() == partition).toList()),
                IntStream.range(0, COPIED).filter(i -> i % 2 == partition).mapToObj(i -> "copy of " + i).toList(),
                "partition " + p);
        }
    }
}
