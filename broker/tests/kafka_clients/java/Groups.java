import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;

/** The group protocol as KafkaConsumer speaks it. */
final class Groups {
    private Groups() {}

    /** A member in a thread of its own, which keeps what it was told and what it read. */
    static final class Member implements ConsumerRebalanceListener {
        final KafkaConsumer<byte[], byte[]> consumer;
        final Set<Integer> owned = Collections.synchronizedSet(new HashSet<>());
        final List<String> read = Collections.synchronizedList(new ArrayList<>());
        final List<Integer> revoked = Collections.synchronizedList(new ArrayList<>());
        volatile int assignments;
        volatile Exception failed;
        private volatile boolean stopping;
        private final Thread thread;

        Member(String group, String topic, Object... pairs) {
            Object[] all = new Object[pairs.length + 4];
            System.arraycopy(pairs, 0, all, 4, pairs.length);
            all[0] = "session.timeout.ms";
            all[1] = "6000";
            all[2] = "heartbeat.interval.ms";
            all[3] = "300";
            consumer = Support.consumer(group, all);
            thread = new Thread(() -> loop(topic));
            thread.setDaemon(true);
            thread.start();
        }

        private void loop(String topic) {
            try {
                consumer.subscribe(List.of(topic), this);
                while (!stopping) {
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(50))) {
                        read.add(Support.text(record.value()));
                    }
                    try {
                        consumer.commitSync();
                    } catch (RebalanceInProgressException | CommitFailedException joinsAgain) {
                        continue;
                    }
                }
                consumer.close();
            } catch (Exception error) {
                failed = error;
            }
        }

        void stop() throws Exception {
            stopping = true;
            thread.join(30_000);
            Support.holds(!thread.isAlive(), "a consumer does not close");
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            assignments++;
            partitions.forEach(p -> owned.add(p.partition()));
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            partitions.forEach(p -> {
                owned.remove(p.partition());
                revoked.add(p.partition());
            });
        }
    }

    private static boolean shared(int partitions, int each, Member... members) {
        List<Integer> all = new ArrayList<>();
        for (Member member : members) {
            List<Integer> owned = new ArrayList<>(member.owned);
            if (owned.size() != each) {
                return false;
            }
            all.addAll(owned);
        }
        return all.stream().sorted().toList().equals(IntStream.range(0, partitions).boxed().toList());
    }

    private static void fill(String topic, String tag, int partitions) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = Support.producer()) {
            Support.send(producer, IntStream.range(0, 60).mapToObj(i -> Support.record(topic, i % partitions, tag + i)).toList());
        }
    }

    /** The range assignor: everybody lets go of everything at each rebalance. */
    static void eager() throws Exception {
        String topic = Support.create(Support.name("t"), 6);
        String group = Support.name("group");
        Object[] strategy = {"partition.assignment.strategy", RangeAssignor.class.getName()};
        Member first = new Member(group, topic, strategy);
        Support.eventually("one has all", () -> shared(6, 6, first));
        fill(topic, "a", 6);
        Support.eventually("a is read", () -> first.read.size() == 60);
        Member second = new Member(group, topic, strategy);
        Support.eventually("two share", () -> shared(6, 3, first, second));
        Support.equal(first.revoked.size(), 6, "partitions that the first let go of");
        fill(topic, "b", 6);
        Support.eventually("b is read", () -> first.read.size() + second.read.size() == 120);
        Support.equal(second.read.size(), 30, "read by the second");
        first.stop();
        Support.eventually("one is left", () -> shared(6, 6, second));
        second.stop();
        Support.equal(first.failed, null, "failure");
        Support.equal(second.failed, null, "failure");
    }

    /** The cooperative assignor: only what moves is let go of. */
    static void cooperative() throws Exception {
        String topic = Support.create(Support.name("t"), 6);
        String group = Support.name("group");
        Object[] strategy = {"partition.assignment.strategy", CooperativeStickyAssignor.class.getName()};
        Member first = new Member(group, topic, strategy);
        Support.eventually("one has all", () -> shared(6, 6, first));
        Member second = new Member(group, topic, strategy);
        Support.eventually("two share", () -> shared(6, 3, first, second));
        Support.equal(first.revoked.size(), 3, "partitions that the first let go of");
        Member third = new Member(group, topic, strategy);
        Support.eventually("three share", () -> shared(6, 2, first, second, third));
        Support.equal(first.revoked.size() + second.revoked.size(), 5, "partitions that moved");
        fill(topic, "a", 6);
        Support.eventually("a is read", () -> first.read.size() + second.read.size() + third.read.size() == 60);
        third.stop();
        Support.eventually("two share again", () -> shared(6, 3, first, second));
        first.stop();
        second.stop();
        for (Member member : List.of(first, second, third)) {
            Support.equal(member.failed, null, "failure");
        }
    }

    /** A member with a name of its own comes back to what it had, and nobody else hears of it. */
    static void staticMembers() throws Exception {
        String topic = Support.create(Support.name("t"), 4);
        String group = Support.name("group");
        Member first = new Member(group, topic, "group.instance.id", "a");
        Support.eventually("one has all", () -> shared(4, 4, first));
        Member second = new Member(group, topic, "group.instance.id", "b");
        Support.eventually("two share", () -> shared(4, 2, first, second));
        Set<Integer> had = new HashSet<>(second.owned);
        second.stop();
        int before = first.assignments;
        Member again = new Member(group, topic, "group.instance.id", "b");
        Support.eventually("it is back", () -> again.owned.equals(had));
        Thread.sleep(1000);
        Support.equal(first.assignments, before, "rebalances that the other saw");
        first.stop();
        again.stop();
    }

    /** A member that slept past its turn may not commit: the group has gone on without it. */
    static void generations() throws Exception {
        String topic = Support.create(Support.name("t"), 2);
        String group = Support.name("group");
        TopicPartition partition = new TopicPartition(topic, 0);
        fill(topic, "a", 2);
        Member successor;
        try (KafkaConsumer<byte[], byte[]> sleeper = Support.consumer(group, "max.poll.interval.ms", "2000", "session.timeout.ms", "6000")) {
            sleeper.subscribe(List.of(topic));
            List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
            Support.eventually("a is read", () -> {
                sleeper.poll(Duration.ofMillis(100)).forEach(read::add);
                return read.size() == 60;
            });
            successor = new Member(group, topic);
            // Asleep past max.poll.interval.ms it leaves, and the other takes over.
            Support.eventually("the other took over", () -> shared(2, 2, successor) && successor.read.size() == 60);
            Support.refused(CommitFailedException.class, () -> sleeper.commitSync(Map.of(partition, new OffsetAndMetadata(3))));
        }
        successor.stop();
        try (KafkaConsumer<byte[], byte[]> consumer = Support.consumer(group)) {
            Support.equal(consumer.committed(Set.of(partition)).get(partition).offset(), 30L, "committed");
        }
    }
}
