// Share groups (KIP-932): records are acquired one by one, acknowledged, released, rejected, and delivered again in time.
package polymq.conformance;

import static polymq.conformance.Kit.check;
import static polymq.conformance.Kit.get;
import static polymq.conformance.Kit.same;
import static polymq.conformance.Kit.text;
import static polymq.conformance.Kit.until;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.ListShareGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ShareGroupDescription;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

final class ShareCases {
    static void register(Map<String, Main.Case> cases) {
        cases.put("share_implicit", ShareCases::implicit);
        cases.put("share_explicit", ShareCases::explicit);
        cases.put("share_close_releases", ShareCases::closeReleases);
        cases.put("share_lock_timeout", ShareCases::lockTimeout);
        cases.put("share_two_consumers", ShareCases::twoConsumers);
        cases.put("share_delivery_limit", ShareCases::deliveryLimit);
        cases.put("share_admin", ShareCases::admin);
    }

    /** A share group's name, set to begin at the start of its topics and to hold records for `lock` ms. */
    private static String group(Kit kit, String... more) throws Exception {
        String group = kit.unique("share");
        List<AlterConfigOp> ops = new ArrayList<>();
        ops.add(new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET));
        for (int i = 0; i < more.length; i += 2)
            ops.add(new AlterConfigOp(new ConfigEntry(more[i], more[i + 1]), AlterConfigOp.OpType.SET));
        get(kit.admin().incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.GROUP, group), ops)).all());
        return group;
    }

    private static KafkaShareConsumer<byte[], byte[]> consumer(Kit kit, String group, String topic, Object... pairs) {
        Map<String, Object> config = kit.config(pairs);
        config.put("group.id", group);
        KafkaShareConsumer<byte[], byte[]> consumer =
            new KafkaShareConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        consumer.subscribe(List.of(topic));
        return consumer;
    }

    private static List<ConsumerRecord<byte[], byte[]>> read(KafkaShareConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        long end = System.nanoTime() + Kit.DEADLINE.toNanos();
        while (records.size() < count && System.nanoTime() < end) consumer.poll(Duration.ofMillis(200)).forEach(records::add);
        check(records.size() >= count, "read " + records.size() + " of " + count + " records");
        return records;
    }

    private static void implicit(Kit kit) throws Exception {
        String topic = kit.topic(2);
        String group = group(kit);
        kit.send(kit.producer(), topic, null, "v", 200);
        try (KafkaShareConsumer<byte[], byte[]> consumer = consumer(kit, group, topic)) {
            Set<String> seen = new HashSet<>();
            for (ConsumerRecord<byte[], byte[]> record : read(consumer, 200)) {
                check(seen.add(text(record.value())), text(record.value()) + " came twice");
                same((short) 1, record.deliveryCount().get(), "delivery count");
            }
            // The next poll acknowledges what the last one gave; so does a commit.
            same(0, consumer.poll(Duration.ofMillis(500)).count(), "records beyond the last");
            kit.send(kit.producer(), topic, null, "more", 10);
            read(consumer, 10);
            consumer.commitSync();
        }
        try (KafkaShareConsumer<byte[], byte[]> next = consumer(kit, group, topic)) {
            same(0, next.poll(Duration.ofSeconds(2)).count(), "records for a successor");
            kit.send(kit.producer(), topic, null, "last", 5);
            same(5, read(next, 5).size(), "new records");
        }
    }

    private static void explicit(Kit kit) throws Exception {
        String topic = kit.topic(1);
        String group = group(kit);
        kit.send(kit.producer(), topic, 0, "v", 30);
        try (KafkaShareConsumer<byte[], byte[]> consumer = consumer(kit, group, topic, "share.acknowledgement.mode", "explicit")) {
            Set<Long> released = new TreeSet<>();
            int handled = 0;
            long end = System.nanoTime() + Kit.DEADLINE.toNanos();
            while (handled < 30 && System.nanoTime() < end) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    if (record.deliveryCount().get() > 1) {
                        // A released record may come back before the first pass is over.
                        check(released.remove(record.offset()), "offset " + record.offset() + " came again, but was not released");
                        consumer.acknowledge(record, AcknowledgeType.ACCEPT);
                        continue;
                    }
                    handled++;
                    AcknowledgeType type = record.offset() % 3 == 0 ? AcknowledgeType.ACCEPT
                        : record.offset() % 3 == 1 ? AcknowledgeType.RELEASE : AcknowledgeType.REJECT;
                    if (type == AcknowledgeType.RELEASE) released.add(record.offset());
                    consumer.acknowledge(record, type);
                }
                consumer.commitSync().forEach((partition, error) -> check(error.isEmpty(), partition + ": " + error));
            }
            same(30, handled, "records delivered once");
            while (!released.isEmpty() && System.nanoTime() < end) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    check(released.remove(record.offset()), "offset " + record.offset() + " came again, but was not released");
                    same((short) 2, record.deliveryCount().get(), "delivery count");
                    consumer.acknowledge(record, AcknowledgeType.ACCEPT);
                }
                consumer.commitSync();
            }
            same(Set.of(), released, "released records that did not come again");
            same(0, consumer.poll(Duration.ofSeconds(1)).count(), "records that were rejected or accepted");
        }
    }

    private static void closeReleases(Kit kit) throws Exception {
        String topic = kit.topic(1);
        String group = group(kit);
        kit.send(kit.producer(), topic, 0, "v", 10);
        try (KafkaShareConsumer<byte[], byte[]> first = consumer(kit, group, topic, "share.acknowledgement.mode", "explicit")) {
            read(first, 10);
        }
        try (KafkaShareConsumer<byte[], byte[]> second = consumer(kit, group, topic)) {
            long start = System.nanoTime();
            same(10, read(second, 10).size(), "records that the first gave back by closing");
            // Else they would come when their lock of 30 seconds is over.
            double seconds = (System.nanoTime() - start) / 1e9;
            check(seconds < 15, "the records were given back after " + seconds + " s");
        }
    }

    private static void lockTimeout(Kit kit) throws Exception {
        String topic = kit.topic(1);
        // The shortest that Apache Kafka's default limits let a group ask for.
        String group = group(kit, "share.record.lock.duration.ms", "15000");
        kit.send(kit.producer(), topic, 0, "v", 10);
        try (KafkaShareConsumer<byte[], byte[]> holder = consumer(kit, group, topic, "share.acknowledgement.mode", "explicit");
                KafkaShareConsumer<byte[], byte[]> heir = consumer(kit, group, topic)) {
            read(holder, 10);
            long start = System.nanoTime();
            for (ConsumerRecord<byte[], byte[]> record : read(heir, 10)) same((short) 2, record.deliveryCount().get(), "delivery count");
            double seconds = (System.nanoTime() - start) / 1e9;
            check(seconds > 5, "the lock ended after " + seconds + " s");
        }
    }

    private static void twoConsumers(Kit kit) throws Exception {
        String topic = kit.topic(1);
        String group = group(kit);
        Set<String> seen = new HashSet<>();
        int[] shares = {0, 0};
        try (KafkaShareConsumer<byte[], byte[]> one = consumer(kit, group, topic, "max.poll.records", 10);
                KafkaShareConsumer<byte[], byte[]> two = consumer(kit, group, topic, "max.poll.records", 10)) {
            int[] sent = {0};
            until("both get records of the one partition", () -> {
                kit.send(kit.producer(), topic, 0, sent[0]++ + "-", 20);
                int at = 0;
                for (KafkaShareConsumer<byte[], byte[]> consumer : List.of(one, two)) {
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                        check(seen.add(text(record.value())), text(record.value()) + " came twice");
                        shares[at]++;
                    }
                    at++;
                }
                return shares[0] > 0 && shares[1] > 0;
            });
            until("all come", () -> {
                for (KafkaShareConsumer<byte[], byte[]> consumer : List.of(one, two))
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100)))
                        check(seen.add(text(record.value())), text(record.value()) + " came twice");
                return seen.size() == sent[0] * 20;
            });
        }
    }

    /** A record that nobody can deal with is given up after the fifth delivery. */
    private static void deliveryLimit(Kit kit) throws Exception {
        String topic = kit.topic(1);
        String group = group(kit);
        kit.send(kit.producer(), topic, 0, "poison", 1);
        try (KafkaShareConsumer<byte[], byte[]> consumer = consumer(kit, group, topic, "share.acknowledgement.mode", "explicit")) {
            for (short delivery = 1; delivery <= 5; delivery++) {
                ConsumerRecord<byte[], byte[]> record = read(consumer, 1).get(0);
                same(delivery, record.deliveryCount().get(), "delivery count");
                consumer.acknowledge(record, AcknowledgeType.RELEASE);
                consumer.commitSync();
            }
            kit.send(kit.producer(), topic, 0, "fine", 1);
            ConsumerRecord<byte[], byte[]> next = read(consumer, 1).get(0);
            same("fine0", text(next.value()), "the record after the one that was given up");
            consumer.acknowledge(next, AcknowledgeType.ACCEPT);
        }
    }

    private static void admin(Kit kit) throws Exception {
        String topic = kit.topic(1);
        String group = group(kit);
        TopicPartition partition = new TopicPartition(topic, 0);
        kit.send(kit.producer(), topic, 0, "v", 20);
        try (KafkaShareConsumer<byte[], byte[]> consumer = consumer(kit, group, topic)) {
            read(consumer, 20);
            consumer.commitSync();
            check(get(kit.admin().listGroups(ListGroupsOptions.forShareGroups()).all()).stream()
                .anyMatch(found -> found.groupId().equals(group) && found.type().get() == GroupType.SHARE), "listed");
            ShareGroupDescription described = get(kit.admin().describeShareGroups(List.of(group)).all()).get(group);
            same(GroupState.STABLE, described.groupState(), "state");
            same(Set.of(partition), described.members().iterator().next().assignment().topicPartitions(), "assignment");
        }
        until("the group is empty", () ->
            get(kit.admin().describeShareGroups(List.of(group)).all()).get(group).groupState() == GroupState.EMPTY);
        // Apache Kafka stores how far all is acknowledged with the next change only, and tells what it stored.
        long start = start(kit, group, partition);
        check(start >= 0 && start <= 20, "start at " + start);
        get(kit.admin().alterShareGroupOffsets(group, Map.of(partition, 5L)).all());
        same(5L, start(kit, group, partition), "start after it was set");
        try (KafkaShareConsumer<byte[], byte[]> consumer = consumer(kit, group, topic)) {
            same(5L, read(consumer, 1).get(0).offset(), "the first record after it was set");
        }
        until("the group is empty again", () ->
            get(kit.admin().describeShareGroups(List.of(group)).all()).get(group).groupState() == GroupState.EMPTY);
        get(kit.admin().deleteShareGroupOffsets(group, Set.of(topic)).all());
        same(-1L, start(kit, group, partition), "start after it was deleted");
        get(kit.admin().deleteShareGroups(List.of(group)).all());
        check(get(kit.admin().listGroups(ListGroupsOptions.forShareGroups()).all()).stream()
            .noneMatch(found -> found.groupId().equals(group)), "listed after it was deleted");
    }

    private static long start(Kit kit, String group, TopicPartition partition) throws Exception {
        var offsets = get(kit.admin().listShareGroupOffsets(Map.of(group, new ListShareGroupOffsetsSpec().topicPartitions(List.of(partition))))
            .partitionsToOffsetInfo(group));
        var found = offsets.get(partition);
        return found == null ? -1 : found.startOffset();
    }
}
