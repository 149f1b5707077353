import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** What the scenarios share: clients, sending and reading back, and assertions. */
final class Support {
    interface Condition {
        boolean holds() throws Exception;
    }

    interface Call {
        void run() throws Exception;
    }

    static String scenario;
    static String bootstrap;
    static final Map<String, String> OPTIONS = new HashMap<>();
    private static final BufferedReader ANSWERS = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));

    private Support() {}

    static void begin(String[] arguments) {
        scenario = arguments[0];
        bootstrap = arguments[1];
        for (String pair : Arrays.asList(arguments).subList(2, arguments.length)) {
            String[] parts = pair.split("=", 2);
            OPTIONS.put(parts[0], parts[1]);
        }
    }

    /** Has the broker killed ("kill"), started ("start"), or both ("restart"). */
    static void ask(String wish) throws Exception {
        System.out.println("@" + wish);
        System.out.flush();
        equal(ANSWERS.readLine(), "done", wish);
    }

    /** One wish, a moment, and another. */
    static void askTwice(String first, String second) {
        try {
            ask(first);
            Thread.sleep(300);
            ask(second);
        } catch (Exception failed) {
            throw new AssertionError(failed);
        }
    }

    /** Of a topic, group or transactional id: nobody else's, for scenarios share a broker. */
    static String name(String suffix) {
        return "java-" + OPTIONS.getOrDefault("name", scenario) + "-" + suffix;
    }

    static Map<String, Object> settings(Object... pairs) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("reconnect.backoff.max.ms", "500");
        // Of the client, where an option says so: security.
        OPTIONS.forEach((option, value) -> {
            if (option.startsWith("set.")) {
                settings.put(option.substring(4), value);
            }
        });
        for (int i = 0; i < pairs.length; i += 2) {
            settings.put((String) pairs[i], pairs[i + 1]);
        }
        return settings;
    }

    static Admin admin() {
        return Admin.create(settings());
    }

    static KafkaProducer<byte[], byte[]> producer(Object... pairs) {
        return new KafkaProducer<>(settings(pairs), new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(String group, Object... pairs) {
        Map<String, Object> settings = settings("enable.auto.commit", "false", "auto.offset.reset", "earliest");
        if (group != null) {
            settings.put("group.id", group);
        }
        for (int i = 0; i < pairs.length; i += 2) {
            settings.put((String) pairs[i], pairs[i + 1]);
        }
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static String create(String topic, int partitions, String... configs) throws Exception {
        // Its records may be of any age.
        Map<String, String> settings = new HashMap<>(Map.of("retention.ms", "-1"));
        for (int i = 0; i < configs.length; i += 2) {
            settings.put(configs[i], configs[i + 1]);
        }
        try (Admin admin = admin()) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(settings))).all().get();
        }
        return topic;
    }

    static byte[] bytes(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
    }

    static ProducerRecord<byte[], byte[]> record(String topic, int partition, String value) {
        return new ProducerRecord<>(topic, partition, null, bytes(value));
    }

    /** Sends all of them and waits for their offsets. */
    static List<RecordMetadata> send(KafkaProducer<byte[], byte[]> producer, List<ProducerRecord<byte[], byte[]>> records) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (ProducerRecord<byte[], byte[]> record : records) {
            sent.add(producer.send(record));
        }
        producer.flush();
        List<RecordMetadata> metadata = new ArrayList<>();
        for (Future<RecordMetadata> one : sent) {
            metadata.add(one.get());
        }
        return metadata;
    }

    /** Every record up to the end, by partition and offset. */
    static List<ConsumerRecord<byte[], byte[]>> readAll(String topic, int partitions, Object... pairs) throws Exception {
        List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(null, pairs)) {
            List<TopicPartition> all = new ArrayList<>();
            for (int p = 0; p < partitions; p++) {
                all.add(new TopicPartition(topic, p));
            }
            consumer.assign(all);
            consumer.seekToBeginning(all);
            Map<TopicPartition, Long> ends = consumer.endOffsets(all);
            eventually("the end of " + topic, () -> {
                consumer.poll(Duration.ofMillis(100)).forEach(read::add);
                return ends.entrySet().stream().allMatch(end -> consumer.position(end.getKey()) >= end.getValue());
            });
        }
        read.sort(Comparator.comparingInt(ConsumerRecord<byte[], byte[]>::partition).thenComparingLong(ConsumerRecord::offset));
        return read;
    }

    static List<String> values(Collection<ConsumerRecord<byte[], byte[]>> records) {
        return records.stream().map(record -> text(record.value())).toList();
    }

    static void equal(Object actual, Object expected, String what) {
        if (!Objects.deepEquals(actual, expected)) {
            throw new AssertionError(what + ": got " + actual + ", expected " + expected);
        }
    }

    static void holds(boolean condition, String what) {
        if (!condition) {
            throw new AssertionError(what);
        }
    }

    static void eventually(String what, Condition condition) throws Exception {
        long end = System.nanoTime() + Duration.ofSeconds(60).toNanos();
        while (!condition.holds()) {
            holds(System.nanoTime() < end, what + ": not within 60 s");
            Thread.sleep(20);
        }
    }

    /** Runs a call that has to fail with this exception, thrown as it is or out of a future. */
    static void refused(Class<? extends Throwable> expected, Call call) throws Exception {
        try {
            call.run();
        } catch (Exception failed) {
            Throwable cause = failed instanceof ExecutionException ? failed.getCause() : failed;
            if (!expected.isInstance(cause)) {
                throw new AssertionError("expected " + expected.getSimpleName() + ", got " + cause, cause);
            }
            return;
        }
        throw new AssertionError("expected " + expected.getSimpleName() + ", and nothing failed");
    }
}
