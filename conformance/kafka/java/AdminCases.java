// The Admin client: topics, configurations, groups, the cluster.
package polymq.conformance;

import static polymq.conformance.Kit.bytes;
import static polymq.conformance.Kit.check;
import static polymq.conformance.Kit.fails;
import static polymq.conformance.Kit.get;
import static polymq.conformance.Kit.same;
import static polymq.conformance.Kit.text;
import static polymq.conformance.Kit.until;

import java.lang.reflect.InvocationTargetException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ConsumerGroupListing;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.LogDirDescription;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.ReplicaInfo;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

final class AdminCases {
    /** What Kafka's tools, Connect and Streams look at in a topic's configuration. */
    private static final Set<String> TOPIC_CONFIGS = Set.of("cleanup.policy", "compression.type", "delete.retention.ms",
        "file.delete.delay.ms", "flush.messages", "flush.ms", "index.interval.bytes", "max.compaction.lag.ms",
        "max.message.bytes", "message.timestamp.after.max.ms", "message.timestamp.before.max.ms", "message.timestamp.type",
        "min.cleanable.dirty.ratio", "min.compaction.lag.ms", "min.insync.replicas", "preallocate", "retention.bytes",
        "retention.ms", "segment.bytes", "segment.index.bytes", "segment.jitter.ms", "segment.ms",
        "unclean.leader.election.enable");
    private static final Set<String> BROKER_CONFIGS = Set.of("auto.create.topics.enable", "default.replication.factor",
        "log.cleanup.policy", "log.retention.ms", "log.retention.bytes", "message.max.bytes", "num.partitions", "offsets.retention.minutes");

    static void register(Map<String, Main.Case> cases) {
        cases.put("admin_topics", AdminCases::topics);
        cases.put("admin_describe_configs", AdminCases::describeConfigs);
        cases.put("admin_incremental_alter", AdminCases::incrementalAlter);
        cases.put("admin_alter_configs_old", AdminCases::alterConfigsOld);
        cases.put("admin_delete_records", AdminCases::deleteRecords);
        cases.put("admin_groups", AdminCases::groups);
        cases.put("admin_cluster", AdminCases::cluster);
    }

    private static void topics(Kit kit) throws Exception {
        String topic = kit.unique("topic");
        get(kit.admin().createTopics(List.of(new NewTopic(topic, 2, (short) 1)), new CreateTopicsOptions().validateOnly(true)).all());
        check(!get(kit.admin().listTopics().names()).contains(topic), "validateOnly creates nothing");

        var created = kit.admin().createTopics(List.of(new NewTopic(topic, 2, (short) 1).configs(Map.of("retention.ms", "3600000"))));
        get(created.all());
        same(2, get(created.numPartitions(topic)), "partitions told on creation");
        same("3600000", get(created.config(topic)).get("retention.ms").value(), "configuration told on creation");
        Uuid id = get(created.topicId(topic));
        check(!id.equals(Uuid.ZERO_UUID), "a topic id is given");
        kit.awaitTopic(topic, 2);
        check(get(kit.admin().listTopics().names()).contains(topic), "the topic is listed");

        TopicDescription description = get(kit.admin().describeTopics(List.of(topic)).allTopicNames()).get(topic);
        same(id, description.topicId(), "topic id");
        check(!description.isInternal(), "not internal");
        description.partitions().forEach(partition -> {
            check(partition.leader() != null && partition.leader().port() > 0, "every partition has a leader");
            check(partition.isr().contains(partition.leader()), "the leader is in sync");
        });
        var byId = get(kit.admin().describeTopics(org.apache.kafka.common.TopicCollection.ofTopicIds(List.of(id))).allTopicIds());
        same(topic, byId.get(id).name(), "name by topic id");

        get(kit.admin().createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all());
        kit.awaitTopic(topic, 5);
        kit.send(kit.producer(), topic, 4, "v", 3);

        // Broker defaults: -1 partitions and replicas.
        String defaults = kit.unique("defaults");
        get(kit.admin().createTopics(List.of(new NewTopic(defaults, java.util.Optional.empty(), java.util.Optional.empty()))).all());

        get(kit.admin().deleteTopics(List.of(topic)).all());
        until("the deleted topic is gone", () -> !get(kit.admin().listTopics().names()).contains(topic));
        // The same name again is a new topic: another id, and none of the old records.
        get(kit.admin().createTopics(List.of(new NewTopic(topic, 5, (short) 1))).all());
        kit.awaitTopic(topic, 5);
        check(!get(kit.admin().describeTopics(List.of(topic)).allTopicNames()).get(topic).topicId().equals(id), "a new id");
        same(0L, kit.send(kit.producer(), topic, 4, "w", 1).get(0).offset(), "the recreated topic starts empty");
        same("w0", text(kit.readAll(topic, 5, 1).get(0).value()), "first record of the recreated topic");
        Uuid newId = get(kit.admin().describeTopics(List.of(topic)).allTopicNames()).get(topic).topicId();
        get(kit.admin().deleteTopics(org.apache.kafka.common.TopicCollection.ofTopicIds(List.of(newId))).all());
    }

    private static Config describe(Kit kit, ConfigResource resource) throws Exception {
        DescribeConfigsOptions options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        return get(kit.admin().describeConfigs(List.of(resource), options).all()).get(resource);
    }

    private static ConfigResource resource(String topic) {
        return new ConfigResource(ConfigResource.Type.TOPIC, topic);
    }

    private static void describeConfigs(Kit kit) throws Exception {
        String topic = kit.topic(1, "retention.ms", "1234567");
        Config config = describe(kit, resource(topic));
        Set<String> names = config.entries().stream().map(ConfigEntry::name).collect(Collectors.toSet());
        List<String> absent = TOPIC_CONFIGS.stream().filter(name -> !names.contains(name)).sorted().collect(Collectors.toList());
        same(List.of(), absent, "topic configurations that are not described");
        same("1234567", config.get("retention.ms").value(), "retention.ms");
        same(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, config.get("retention.ms").source(), "source of what was set");
        same(ConfigEntry.ConfigSource.DEFAULT_CONFIG, config.get("segment.ms").source(), "source of what was not");
        for (ConfigEntry entry : config.entries()) {
            check(entry.type() != ConfigEntry.ConfigType.UNKNOWN, entry.name() + " has a type");
            check(entry.value() != null, entry.name() + " has a value");
        }
        same(ConfigEntry.ConfigType.LONG, config.get("retention.ms").type(), "type of retention.ms");
        same(ConfigEntry.ConfigType.LIST, config.get("cleanup.policy").type(), "type of cleanup.policy");
        check(!config.get("retention.ms").synonyms().isEmpty(), "synonyms are told when asked for");
        check(config.get("retention.ms").documentation() != null, "documentation is told when asked for");

        var nodes = get(kit.admin().describeCluster().nodes());
        Config broker = describe(kit, new ConfigResource(ConfigResource.Type.BROKER, nodes.iterator().next().idString()));
        Set<String> brokerNames = broker.entries().stream().map(ConfigEntry::name).collect(Collectors.toSet());
        same(List.of(), BROKER_CONFIGS.stream().filter(name -> !brokerNames.contains(name)).sorted().collect(Collectors.toList()),
            "broker configurations that are not described");
    }

    private static void alter(Kit kit, ConfigResource resource, String name, String value, AlterConfigOp.OpType type) throws Exception {
        Collection<AlterConfigOp> ops = List.of(new AlterConfigOp(new ConfigEntry(name, value), type));
        get(kit.admin().incrementalAlterConfigs(Map.of(resource, ops)).all());
    }

    private static void awaitConfig(Kit kit, ConfigResource resource, String name, String value) throws Exception {
        until(name + " is " + value, () -> value.equals(describe(kit, resource).get(name).value()));
    }

    private static void incrementalAlter(Kit kit) throws Exception {
        String topic = kit.topic(1, "retention.ms", "1234567");
        ConfigResource resource = resource(topic);
        String before = describe(kit, resource).get("max.message.bytes").value();
        alter(kit, resource, "max.message.bytes", "2000", AlterConfigOp.OpType.SET);
        awaitConfig(kit, resource, "max.message.bytes", "2000");
        same("1234567", describe(kit, resource).get("retention.ms").value(), "another setting is left alone");
        // What is stored is obeyed.
        fails(org.apache.kafka.common.errors.RecordTooLargeException.class, "a record over max.message.bytes", () ->
            kit.producer().send(new org.apache.kafka.clients.producer.ProducerRecord<>(topic, 0, bytes("k"), new byte[5_000])).get());
        alter(kit, resource, "max.message.bytes", "", AlterConfigOp.OpType.DELETE);
        awaitConfig(kit, resource, "max.message.bytes", before);
        same(ConfigEntry.ConfigSource.DEFAULT_CONFIG, describe(kit, resource).get("max.message.bytes").source(), "source after deleting");
        kit.send(kit.producer(), topic, 0, "v", 1);
        alter(kit, resource, "cleanup.policy", "delete", AlterConfigOp.OpType.APPEND);
        same("delete", describe(kit, resource).get("cleanup.policy").value(), "appending what is already in the list");
    }

    private static void alterConfigsOld(Kit kit) throws Exception {
        java.lang.reflect.Method alterConfigs;
        try {
            alterConfigs = org.apache.kafka.clients.admin.Admin.class.getMethod("alterConfigs", Map.class);
        } catch (NoSuchMethodException removed) {
            throw new Main.Skip("this client has no alterConfigs any more");
        }
        String topic = kit.topic(1, "retention.ms", "1234567");
        ConfigResource resource = resource(topic);
        Map<ConfigResource, Config> wanted = Map.of(resource, new Config(List.of(new ConfigEntry("max.message.bytes", "3000"))));
        try {
            Object result = alterConfigs.invoke(kit.admin(), wanted);
            get((KafkaFuture<?>) result.getClass().getMethod("all").invoke(result));
        } catch (InvocationTargetException error) {
            throw new AssertionError(error.getCause());
        }
        awaitConfig(kit, resource, "max.message.bytes", "3000");
        // The old request replaces everything: what it does not name goes back to its default.
        same(ConfigEntry.ConfigSource.DEFAULT_CONFIG, describe(kit, resource).get("retention.ms").source(), "source of retention.ms");
    }

    private static void deleteRecords(Kit kit) throws Exception {
        String topic = kit.topic(2);
        TopicPartition first = new TopicPartition(topic, 0);
        TopicPartition second = new TopicPartition(topic, 1);
        kit.send(kit.producer(), topic, 0, "v", 50);
        kit.send(kit.producer(), topic, 1, "v", 50);
        var result = kit.admin().deleteRecords(Map.of(first, RecordsToDelete.beforeOffset(20), second, RecordsToDelete.beforeOffset(-1)));
        get(result.all());
        same(20L, get(result.lowWatermarks().get(first)).lowWatermark(), "low watermark");
        same(50L, get(result.lowWatermarks().get(second)).lowWatermark(), "low watermark of a whole partition");
        same("v20", text(kit.readAll(topic, 1, 30).get(0).value()), "first record left");
        fails(org.apache.kafka.common.errors.OffsetOutOfRangeException.class, "deleting past the end",
            () -> get(kit.admin().deleteRecords(Map.of(first, RecordsToDelete.beforeOffset(51))).all()));
        KafkaConsumer<byte[], byte[]> consumer = kit.consumer();
        same(Map.of(first, 20L, second, 50L), consumer.beginningOffsets(List.of(first, second)), "beginning offsets");
    }

    private static void groups(Kit kit) throws Exception {
        String topic = kit.topic(2);
        String group = kit.unique("group");
        TopicPartition partition = new TopicPartition(topic, 0);
        kit.send(kit.producer(), topic, 0, "v", 10);
        KafkaConsumer<byte[], byte[]> consumer = kit.looseConsumer("group.id", group, "client.id", "the-client");
        try {
            consumer.subscribe(List.of(topic));
            kit.read(consumer, 10);
            consumer.commitSync();
            ConsumerGroupDescription description = get(kit.admin().describeConsumerGroups(List.of(group)).all()).get(group);
            same("Stable", stateName(description), "state");
            same(1, description.members().size(), "members");
            var member = description.members().iterator().next();
            same("the-client", member.clientId(), "client id");
            same(Set.of(partition, new TopicPartition(topic, 1)), member.assignment().topicPartitions(), "assignment");
            check(description.coordinator() != null && description.coordinator().port() > 0, "a coordinator is told");
            same("range", description.partitionAssignor(), "assignor");
            Collection<ConsumerGroupListing> listed = get(kit.admin().listConsumerGroups().all());
            check(listed.stream().anyMatch(listing -> listing.groupId().equals(group)), "the group is listed");
            fails(GroupNotEmptyException.class, "deleting a group with members", () -> get(kit.admin().deleteConsumerGroups(List.of(group)).all()));
            fails(org.apache.kafka.common.errors.GroupSubscribedToTopicException.class, "deleting offsets in use",
                () -> get(kit.admin().deleteConsumerGroupOffsets(group, Set.of(partition)).all()));
            fails(org.apache.kafka.common.errors.UnknownMemberIdException.class, "altering the offsets of a live group",
                () -> get(kit.admin().alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(1))).all()));
        } finally {
            consumer.close();
        }
        until("the group is empty", () -> stateName(get(kit.admin().describeConsumerGroups(List.of(group)).all()).get(group)).equals("Empty"));
        get(kit.admin().alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(3))).all());
        same(3L, get(kit.admin().listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).get(partition).offset(), "altered offset");
        get(kit.admin().deleteConsumerGroupOffsets(group, Set.of(partition)).all());
        same(null, get(kit.admin().listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).get(partition), "deleted offset");
        get(kit.admin().deleteConsumerGroups(List.of(group)).all());
        check(get(kit.admin().listConsumerGroups().all()).stream().noneMatch(listing -> listing.groupId().equals(group)), "the group is gone");
        fails(GroupIdNotFoundException.class, "deleting a group that is not there", () -> get(kit.admin().deleteConsumerGroups(List.of(group)).all()));
    }

    /** ConsumerGroupState in 3.x, GroupState in 4.x. */
    private static String stateName(ConsumerGroupDescription description) throws Exception {
        for (String name : List.of("groupState", "state")) {
            try {
                return ConsumerGroupDescription.class.getMethod(name).invoke(description).toString();
            } catch (NoSuchMethodException older) {
                continue;
            }
        }
        throw new IllegalStateException("a group description without a state");
    }

    private static void cluster(Kit kit) throws Exception {
        DescribeClusterResult cluster = kit.admin().describeCluster();
        check(!get(cluster.clusterId()).isEmpty(), "a cluster id");
        check(get(cluster.controller()).port() > 0, "a controller");
        check(!get(cluster.nodes()).isEmpty(), "nodes");
        String topic = kit.topic(2);
        kit.send(kit.producer(), topic, 0, "v", 1_000);
        List<Integer> ids = new ArrayList<>();
        get(cluster.nodes()).forEach(node -> ids.add(node.id()));
        Map<TopicPartition, ReplicaInfo> replicas = new java.util.HashMap<>();
        for (Map<String, LogDirDescription> directories : get(kit.admin().describeLogDirs(ids).allDescriptions()).values()) {
            directories.values().forEach(directory -> {
                check(directory.error() == null, "log directory error " + directory.error());
                replicas.putAll(directory.replicaInfos());
            });
        }
        check(replicas.containsKey(new TopicPartition(topic, 1)), "log directories name the empty partition");
        check(replicas.get(new TopicPartition(topic, 0)).size() > 2_000, "log directories tell sizes, got "
            + replicas.get(new TopicPartition(topic, 0)));
        var features = get(kit.admin().describeFeatures().featureMetadata());
        check(features != null, "features are described");
    }
}
