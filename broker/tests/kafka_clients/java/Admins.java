import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** The admin client. */
final class Admins {
    private Admins() {}

    static void topics() throws Exception {
        String topic = Support.name("t");
        try (Admin admin = Support.admin()) {
            var made = admin.createTopics(List.of(new NewTopic(topic, 3, (short) 1).configs(Map.of("retention.ms", "3600000"))));
            made.all().get();
            Uuid id = made.topicId(topic).get();
            Support.equal(made.numPartitions(topic).get(), 3, "partitions");
            Support.equal(made.replicationFactor(topic).get(), 1, "replicas");
            Support.equal(made.config(topic).get().get("retention.ms").value(), "3600000", "retention.ms");
            Support.eventually("it is listed", () -> admin.listTopics().names().get().contains(topic));
            TopicDescription seen = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            Support.equal(seen.topicId(), id, "id");
            Support.equal(seen.isInternal(), false, "internal");
            Support.equal(seen.partitions().stream().map(p -> p.leader().id()).toList(), List.of(1, 1, 1), "leaders");
            Support.equal(admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get().get(id).name(), topic, "by id");
            Support.refused(TopicExistsException.class, () -> admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get());
            Support.refused(InvalidPartitionsException.class, () -> admin.createTopics(List.of(new NewTopic("x", 0, (short) 1))).all().get());
            Support.refused(
                InvalidReplicationFactorException.class, () -> admin.createTopics(List.of(new NewTopic("x", 1, (short) 3))).all().get());
            Support.refused(InvalidTopicException.class, () -> admin.createTopics(List.of(new NewTopic("a b", 1, (short) 1))).all().get());
            admin.createTopics(List.of(new NewTopic(Support.name("checked"), 1, (short) 1)), new CreateTopicsOptions().validateOnly(true)).all().get();
            Support.holds(!admin.listTopics().names().get().contains(Support.name("checked")), "it was only to be checked");
            // Where each replica is to be, told: there is but one place.
            admin.createTopics(List.of(new NewTopic(Support.name("placed"), Map.of(0, List.of(1), 1, List.of(1))))).all().get();
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
            Support.eventually(
                "four partitions", () -> admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size() == 4);
            Support.refused(
                InvalidPartitionsException.class, () -> admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get());
            admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get();
            Support.eventually("it is gone", () -> !admin.listTopics().names().get().contains(topic));
            Support.refused(UnknownTopicOrPartitionException.class, () -> admin.deleteTopics(List.of(topic)).all().get());
            var cluster = admin.describeCluster();
            Support.equal(cluster.nodes().get().stream().map(n -> n.id() + "@" + n.host() + ":" + n.port()).toList(),
                List.of("1@" + Support.bootstrap), "nodes");
            Support.equal(cluster.controller().get().id(), 1, "controller");
            Support.holds(!cluster.clusterId().get().isEmpty(), "a cluster id");
        }
    }

    static void settings() throws Exception {
        String topic = Support.create(Support.name("t"), 1, "retention.ms", "3600000");
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        try (Admin admin = Support.admin()) {
            Config seen = admin.describeConfigs(List.of(resource)).all().get().get(resource);
            ConfigEntry retention = seen.get("retention.ms");
            Support.equal(
                List.of(retention.value(), retention.source(), retention.isDefault(), retention.type()),
                List.of("3600000", ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, false, ConfigEntry.ConfigType.LONG), "retention.ms");
            ConfigEntry policy = seen.get("cleanup.policy");
            Support.equal(
                List.of(policy.value(), policy.source(), policy.isDefault(), policy.type()),
                List.of("delete", ConfigEntry.ConfigSource.DEFAULT_CONFIG, true, ConfigEntry.ConfigType.LIST), "cleanup.policy");
            alter(admin, resource, "max.message.bytes", "12345", AlterConfigOp.OpType.SET);
            Support.eventually("it is altered", () -> "12345".equals(value(admin, resource, "max.message.bytes")));
            alter(admin, resource, "max.message.bytes", null, AlterConfigOp.OpType.DELETE);
            Support.eventually("it is as before", () -> "1048588".equals(value(admin, resource, "max.message.bytes")));
            alter(admin, resource, "cleanup.policy", "compact", AlterConfigOp.OpType.APPEND);
            Support.eventually(
                "both", () -> Set.of(value(admin, resource, "cleanup.policy").split(",")).equals(Set.of("compact", "delete")));
            Support.refused(InvalidConfigurationException.class, () -> alter(admin, resource, "retention.ms", "soon", AlterConfigOp.OpType.SET));
            Support.refused(InvalidConfigurationException.class, () -> alter(admin, resource, "what", "1", AlterConfigOp.OpType.SET));
            ConfigResource nowhere = new ConfigResource(ConfigResource.Type.TOPIC, Support.name("nowhere"));
            Support.refused(UnknownTopicOrPartitionException.class, () -> admin.describeConfigs(List.of(nowhere)).all().get());
        }
    }

    private static void alter(Admin admin, ConfigResource resource, String name, String value, AlterConfigOp.OpType how) throws Exception {
        Collection<AlterConfigOp> change = List.of(new AlterConfigOp(new ConfigEntry(name, value), how));
        admin.incrementalAlterConfigs(Map.of(resource, change)).all().get();
    }

    private static String value(Admin admin, ConfigResource resource, String name) throws Exception {
        return admin.describeConfigs(List.of(resource)).all().get().get(resource).get(name).value();
    }

    static void offsets() throws Exception {
        String topic = Support.create(Support.name("t"), 2);
        TopicPartition first = new TopicPartition(topic, 0);
        TopicPartition empty = new TopicPartition(topic, 1);
        try (Admin admin = Support.admin(); KafkaProducer<byte[], byte[]> producer = Support.producer("linger.ms", "100")) {
            // Out of order, and all in one batch: the offset looked for lies within it.
            Support.send(producer, List.of(1000L, 5000L, 3000L, 4000L).stream()
                .map(ms -> new ProducerRecord<byte[], byte[]>(topic, 0, ms, null, Support.bytes("v"))).toList());
            Map<OffsetSpec, List<Long>> expected = new HashMap<>();
            expected.put(OffsetSpec.earliest(), List.of(0L, -1L));
            expected.put(OffsetSpec.latest(), List.of(4L, -1L));
            expected.put(OffsetSpec.maxTimestamp(), List.of(1L, 5000L));
            expected.put(OffsetSpec.forTimestamp(1001), List.of(1L, 5000L));
            expected.put(OffsetSpec.forTimestamp(6000), List.of(-1L, -1L));
            for (Map.Entry<OffsetSpec, List<Long>> one : expected.entrySet()) {
                ListOffsetsResultInfo found = admin.listOffsets(Map.of(first, one.getKey())).partitionResult(first).get();
                Support.equal(List.of(found.offset(), found.timestamp()), one.getValue(), one.getKey().toString());
            }
            Support.equal(admin.listOffsets(Map.of(empty, OffsetSpec.latest())).partitionResult(empty).get().offset(), 0L, "empty");
            Support.equal(admin.listOffsets(Map.of(empty, OffsetSpec.maxTimestamp())).partitionResult(empty).get().offset(), -1L, "empty");
            var deleted = admin.deleteRecords(Map.of(first, RecordsToDelete.beforeOffset(2)));
            Support.equal(deleted.lowWatermarks().get(first).get().lowWatermark(), 2L, "log start");
            Support.equal(admin.listOffsets(Map.of(first, OffsetSpec.earliest())).partitionResult(first).get().offset(), 2L, "log start");
            Support.equal(Support.readAll(topic, 1).stream().map(r -> r.offset()).toList(), List.of(2L, 3L), "what is left");
            Support.refused(
                OffsetOutOfRangeException.class, () -> admin.deleteRecords(Map.of(first, RecordsToDelete.beforeOffset(9))).all().get());
        }
    }

    static void groupTools() throws Exception {
        String topic = Support.create(Support.name("t"), 2);
        String group = Support.name("group");
        TopicPartition first = new TopicPartition(topic, 0);
        TopicPartition second = new TopicPartition(topic, 1);
        try (KafkaProducer<byte[], byte[]> producer = Support.producer()) {
            Support.send(producer, IntStream.range(0, 20).mapToObj(i -> Support.record(topic, i % 2, "" + i)).toList());
        }
        try (Admin admin = Support.admin()) {
            Groups.Member member = new Groups.Member(group, topic, "client.id", "the-member");
            Support.eventually("all is read", () -> member.read.size() == 20);
            Map<TopicPartition, OffsetAndMetadata> all = new HashMap<>();
            Support.eventually("all is committed", () -> {
                all.clear();
                all.putAll(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get());
                return all.size() == 2 && all.values().stream().allMatch(o -> o.offset() == 10);
            });
            ConsumerGroupDescription seen = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            Support.equal(List.of(seen.groupState(), seen.partitionAssignor(), seen.isSimpleConsumerGroup(), seen.coordinator().id()),
                List.of(GroupState.STABLE, "range", false, 1), "group");
            var only = seen.members().iterator().next();
            Support.equal(List.of(seen.members().size(), only.clientId(), only.host()), List.of(1, "the-member", "/127.0.0.1"), "member");
            Support.equal(only.assignment().topicPartitions(), Set.of(first, second), "assignment");
            GroupListing listed = admin.listGroups(ListGroupsOptions.forConsumerGroups()).all().get().stream()
                .filter(g -> g.groupId().equals(group)).findFirst().orElseThrow();
            Support.equal(List.of(listed.groupState().orElseThrow(), listed.protocol()), List.of(GroupState.STABLE, "consumer"), "listing");
            Support.refused(GroupNotEmptyException.class, () -> admin.deleteConsumerGroups(List.of(group)).all().get());
            Support.refused(
                GroupSubscribedToTopicException.class,
                () -> admin.deleteConsumerGroupOffsets(group, Set.of(first)).partitionResult(first).get());
            // Thrown out by an administrator it comes back by itself.
            int before = member.assignments;
            admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions()).all().get();
            Support.eventually("it has come back", () -> member.assignments > before && member.owned.size() == 2);
            member.stop();
            Support.eventually("it is empty",
                () -> admin.describeConsumerGroups(List.of(group)).all().get().get(group).groupState() == GroupState.EMPTY);
            Set<String> empty = admin.listGroups(new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY))).all().get().stream()
                .map(GroupListing::groupId).collect(Collectors.toSet());
            Support.holds(empty.contains(group), "it is among the empty ones");
            admin.alterConsumerGroupOffsets(group, Map.of(first, new OffsetAndMetadata(4, "by hand"))).all().get();
            Support.equal(
                admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(first), new OffsetAndMetadata(4, "by hand"), "moved");
            admin.deleteConsumerGroupOffsets(group, Set.of(second)).all().get();
            Support.equal(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().keySet(), Set.of(first), "what is left");
            try (KafkaConsumer<byte[], byte[]> consumer = Support.consumer(group)) {
                Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(Set.of(first, second));
                Support.equal(committed.get(first), new OffsetAndMetadata(4, "by hand"), "first");
                Support.equal(committed.get(second), null, "second");
            }
            admin.deleteConsumerGroups(List.of(group)).all().get();
            Support.refused(GroupIdNotFoundException.class, () -> admin.deleteConsumerGroups(List.of(group)).all().get());
            Support.refused(GroupIdNotFoundException.class, () -> admin.describeConsumerGroups(List.of(group)).all().get());
        }
    }
}
