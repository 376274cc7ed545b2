// The errors users meet: each must be Kafka's own.
package polymq.conformance;

import static polymq.conformance.Kit.bytes;
import static polymq.conformance.Kit.check;
import static polymq.conformance.Kit.fails;
import static polymq.conformance.Kit.get;
import static polymq.conformance.Kit.same;
import static polymq.conformance.Kit.text;

import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTimestampException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

final class ErrorCases {
    static void register(Map<String, Main.Case> cases) {
        cases.put("errors_unknown_topic", ErrorCases::unknownTopic);
        cases.put("errors_create_topic", ErrorCases::createTopic);
        cases.put("errors_record_too_large", ErrorCases::recordTooLarge);
        cases.put("errors_config", ErrorCases::config);
        cases.put("errors_timestamp", ErrorCases::timestamp);
        cases.put("errors_offset_out_of_range", ErrorCases::offsetOutOfRange);
        cases.put("errors_group_member", ErrorCases::groupMember);
    }

    private static void unknownTopic(Kit kit) throws Exception {
        String topic = kit.unique("absent");
        Class<UnknownTopicOrPartitionException> wanted = UnknownTopicOrPartitionException.class;
        fails(wanted, "describe", () -> get(kit.admin().describeTopics(List.of(topic)).allTopicNames()));
        fails(wanted, "delete", () -> get(kit.admin().deleteTopics(List.of(topic)).all()));
        fails(wanted, "create partitions", () -> get(kit.admin().createPartitions(Map.of(topic, NewPartitions.increaseTo(2))).all()));
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        fails(wanted, "describe configs", () -> get(kit.admin().describeConfigs(List.of(resource)).all()));
        Collection<AlterConfigOp> ops = List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "1"), AlterConfigOp.OpType.SET));
        fails(wanted, "alter configs", () -> get(kit.admin().incrementalAlterConfigs(Map.of(resource, ops)).all()));
        // Asking must not create it where the client says so.
        KafkaConsumer<byte[], byte[]> consumer = kit.consumer("allow.auto.create.topics", "false", "group.id", kit.unique("group"));
        consumer.subscribe(List.of(topic));
        consumer.poll(Duration.ofMillis(500));
        check(!get(kit.admin().listTopics().names()).contains(topic), "a consumer that forbids it created the topic");
        // A partition that the topic does not have.
        String known = kit.topic(1);
        fails(Exception.class, "send to partition 9 of 1", () ->
            kit.producer("max.block.ms", 1_500).send(new ProducerRecord<>(known, 9, null, bytes("v"))).get());
    }

    private static void create(Kit kit, NewTopic topic) throws Exception {
        get(kit.admin().createTopics(List.of(topic)).all());
    }

    private static void createTopic(Kit kit) throws Exception {
        String topic = kit.topic(2);
        String fresh = kit.unique("fresh");
        fails(TopicExistsException.class, "the same name", () -> { create(kit, new NewTopic(topic, 1, (short) 1)); return null; });
        fails(InvalidPartitionsException.class, "no partitions", () -> { create(kit, new NewTopic(fresh, 0, (short) 1)); return null; });
        fails(InvalidReplicationFactorException.class, "too many replicas", () -> { create(kit, new NewTopic(fresh, 1, (short) 9)); return null; });
        fails(InvalidReplicationFactorException.class, "no replicas", () -> { create(kit, new NewTopic(fresh, 1, (short) 0)); return null; });
        for (String name : List.of("not allowed", "a/b", "..", "x".repeat(250))) {
            fails(InvalidTopicException.class, "name " + name, () -> { create(kit, new NewTopic(name, 1, (short) 1)); return null; });
        }
        fails(InvalidPartitionsException.class, "fewer partitions", () -> get(kit.admin().createPartitions(Map.of(topic, NewPartitions.increaseTo(1))).all()));
        fails(InvalidPartitionsException.class, "as many partitions", () -> get(kit.admin().createPartitions(Map.of(topic, NewPartitions.increaseTo(2))).all()));
    }

    private static void recordTooLarge(Kit kit) throws Exception {
        String topic = kit.topic(1, "max.message.bytes", "10000");
        KafkaProducer<byte[], byte[]> producer = kit.producer("max.request.size", 20_000_000);
        fails(RecordTooLargeException.class, "50 kB into a topic of 10 kB",
            () -> producer.send(new ProducerRecord<>(topic, 0, null, new byte[50_000])).get());
        same(0L, kit.send(producer, topic, 0, "v", 1).get(0).offset(), "the next record is taken");
        // The broker's own limit (1 MiB and a little) where the topic says nothing.
        String plain = kit.topic(1);
        fails(RecordTooLargeException.class, "2 MB by default",
            () -> producer.send(new ProducerRecord<>(plain, 0, null, new byte[2_000_000])).get());
        same(0L, kit.send(producer, plain, 0, "v", 1).get(0).offset(), "the next record is taken");
    }

    private static void config(Kit kit) throws Exception {
        String fresh = kit.unique("fresh");
        Class<InvalidConfigurationException> wanted = InvalidConfigurationException.class;
        for (Map<String, String> bad : List.of(Map.of("retention.ms", "soon"), Map.of("no.such.config", "1"),
                Map.of("cleanup.policy", "burn"), Map.of("max.message.bytes", "-5"), Map.of("compression.type", "zip"))) {
            fails(wanted, "create with " + bad, () -> { create(kit, new NewTopic(fresh, 1, (short) 1).configs(bad)); return null; });
        }
        check(!get(kit.admin().listTopics().names()).contains(fresh), "a refused topic is not there");
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, kit.topic(1));
        for (ConfigEntry bad : List.of(new ConfigEntry("retention.ms", "soon"), new ConfigEntry("no.such.config", "1"))) {
            Collection<AlterConfigOp> ops = List.of(new AlterConfigOp(bad, AlterConfigOp.OpType.SET));
            fails(wanted, "alter to " + bad.name(), () -> get(kit.admin().incrementalAlterConfigs(Map.of(resource, ops)).all()));
        }
        Collection<AlterConfigOp> good = List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "77777777"), AlterConfigOp.OpType.SET));
        get(kit.admin().incrementalAlterConfigs(Map.of(resource, good), new AlterConfigsOptions().validateOnly(true)).all());
        same("604800000", get(kit.admin().describeConfigs(List.of(resource)).all()).get(resource).get("retention.ms").value(),
            "validateOnly changes nothing");
    }

    private static void timestamp(Kit kit) throws Exception {
        String topic = kit.topicOrSkip(1, "message.timestamp.after.max.ms", "3600000");
        KafkaProducer<byte[], byte[]> producer = kit.producer();
        fails(InvalidTimestampException.class, "a record from the day after tomorrow", () ->
            producer.send(new ProducerRecord<>(topic, 0, System.currentTimeMillis() + 172_800_000L, null, bytes("v"))).get());
        same(0L, kit.send(producer, topic, 0, "v", 1).get(0).offset(), "the next record is taken");
    }

    private static void offsetOutOfRange(Kit kit) throws Exception {
        String topic = kit.topic(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        kit.send(kit.producer(), topic, 0, "v", 10);
        KafkaConsumer<byte[], byte[]> strict = kit.consumer("auto.offset.reset", "none", "group.id", kit.unique("group"));
        strict.assign(List.of(partition));
        fails(NoOffsetForPartitionException.class, "no committed offset", () -> strict.poll(Duration.ofSeconds(10)));
        strict.seek(partition, 500);
        fails(OffsetOutOfRangeException.class, "offset 500 of 10", () -> {
            for (int i = 0; i < 20; i++) strict.poll(Duration.ofMillis(500));
            return null;
        });
        get(kit.admin().deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(6))).all());
        KafkaConsumer<byte[], byte[]> lenient = kit.consumer("auto.offset.reset", "earliest");
        lenient.assign(List.of(partition));
        lenient.seek(partition, 2);
        same("v6", text(kit.read(lenient, 4).get(0).value()), "reset to the earliest that is left");
    }

    private static void groupMember(Kit kit) throws Exception {
        String topic = kit.topic(1);
        String group = kit.unique("group");
        kit.send(kit.producer(), topic, 0, "v", 5);
        // Slow heartbeats: the member must learn from its commit, not from a heartbeat, that it was removed.
        KafkaConsumer<byte[], byte[]> consumer = kit.consumer("group.id", group, "session.timeout.ms", 30_000, "heartbeat.interval.ms", 9_000);
        consumer.subscribe(List.of(topic));
        kit.read(consumer, 5);
        get(kit.admin().removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions()).all());
        fails(CommitFailedException.class, "commit by a member that was removed", () -> { consumer.commitSync(); return null; });
        // It joins again, and reads again what it could not commit.
        same("v0", text(kit.read(consumer, 5).get(0).value()), "first record after rejoining");
    }
}
