// What a topic's and a client's settings promise over time: compaction, and quotas.
package polymq.conformance;

import static polymq.conformance.Kit.bytes;
import static polymq.conformance.Kit.check;
import static polymq.conformance.Kit.fails;
import static polymq.conformance.Kit.get;
import static polymq.conformance.Kit.partitions;
import static polymq.conformance.Kit.same;
import static polymq.conformance.Kit.text;
import static polymq.conformance.Kit.until;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.InvalidRecordException;
import org.apache.kafka.common.Metric;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.quota.ClientQuotaFilterComponent;

final class TopicCases {
    private static final String[] COMPACTED = {"cleanup.policy", "compact", "segment.ms", "300", "min.cleanable.dirty.ratio", "0.01",
        "delete.retention.ms", "500", "min.compaction.lag.ms", "0"};

    static void register(Map<String, Main.Case> cases) {
        cases.put("compaction", TopicCases::compaction);
        cases.put("compaction_transactions", TopicCases::compactionOfTransactions);
        cases.put("compaction_keys", TopicCases::keysWanted);
        cases.put("compaction_lag", TopicCases::compactionLag);
        cases.put("compaction_dirty_ratio", TopicCases::compactionDirtyRatio);
        cases.put("retention_time", TopicCases::retentionTime);
        cases.put("retention_size", TopicCases::retentionSize);
        cases.put("compression_of_topic", TopicCases::compressionOfTopic);
        cases.put("quota_produce", TopicCases::produceQuota);
        cases.put("quota_fetch", TopicCases::fetchQuota);
    }

    /** All that is in the topic's only partition now, up to its end. */
    private static List<ConsumerRecord<byte[], byte[]>> everything(Kit kit, String topic, Object... settings) {
        TopicPartition partition = new TopicPartition(topic, 0);
        List<ConsumerRecord<byte[], byte[]>> all = new ArrayList<>();
        try (KafkaConsumer<byte[], byte[]> consumer = kit.looseConsumer(settings)) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            long deadline = System.nanoTime() + Kit.DEADLINE.toNanos();
            while (consumer.position(partition) < end) {
                check(System.nanoTime() < deadline, "read to " + consumer.position(partition) + " of " + end);
                consumer.poll(java.time.Duration.ofMillis(100)).forEach(all::add);
            }
        }
        return all;
    }

    private static void compaction(Kit kit) throws Exception {
        String topic = kit.topicOrSkip(1, COMPACTED);
        KafkaProducer<byte[], byte[]> producer = kit.producer("compression.type", "lz4");
        Random random = new Random(5);
        int keys = 100, rounds = 100;
        Map<String, String> wanted = new HashMap<>();
        Map<String, Long> offsets = new HashMap<>();
        for (int round = 0; round < rounds; round++) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int k = 0; k < keys; k++) {
                // The last round deletes every fifth key.
                String value = round == rounds - 1 && k % 5 == 0 ? null : round + ":" + random.nextLong();
                sent.add(producer.send(new ProducerRecord<>(topic, 0, bytes("key" + k), value == null ? null : bytes(value))));
                wanted.put("key" + k, value);
            }
            for (int k = 0; k < keys; k++) offsets.put("key" + k, sent.get(k).get().offset());
        }
        int tick = 0;
        List<ConsumerRecord<byte[], byte[]>> left;
        long end = System.nanoTime() + Kit.DEADLINE.toNanos();
        do {
            check(System.nanoTime() < end, "compaction left more than a value per key");
            Thread.sleep(400);
            // Only what is behind the newest segment is compacted; a record now and then begins a new one.
            producer.send(new ProducerRecord<>(topic, 0, bytes("tick"), bytes("" + tick++))).get();
            left = everything(kit, topic);
            // At every moment the last value of each key is there, where it was.
            Map<String, ConsumerRecord<byte[], byte[]>> last = new HashMap<>();
            long before = -1;
            for (ConsumerRecord<byte[], byte[]> record : left) {
                check(record.offset() > before, "offset " + record.offset() + " after " + before);
                before = record.offset();
                last.put(text(record.key()), record);
            }
            for (Map.Entry<String, String> key : wanted.entrySet()) {
                ConsumerRecord<byte[], byte[]> found = last.get(key.getKey());
                if (key.getValue() == null && found == null) continue;
                check(found != null, key.getKey() + " is lost");
                same(key.getValue(), text(found.value()), key.getKey());
                same(offsets.get(key.getKey()), found.offset(), "offset of " + key.getKey());
            }
        } while (left.stream().filter(record -> !text(record.key()).equals("tick")).count() != keys * 4 / 5);
        // A consumer that wants an offset which is no more gets the next that is there.
        KafkaConsumer<byte[], byte[]> consumer = kit.consumer();
        consumer.assign(partitions(topic, 1));
        consumer.seek(new TopicPartition(topic, 0), 17);
        same(left.get(0).offset(), kit.read(consumer, 1).get(0).offset(), "offset that a read from 17 begins with");
    }

    /** Compaction keeps what is committed and drops what is aborted. */
    private static void compactionOfTransactions(Kit kit) throws Exception {
        String topic = kit.topicOrSkip(1, COMPACTED);
        KafkaProducer<byte[], byte[]> producer = kit.producer("transactional.id", kit.unique("tx"));
        producer.initTransactions();
        for (int round = 0; round < 60; round++) {
            producer.beginTransaction();
            for (int k = 0; k < 10; k++) producer.send(new ProducerRecord<>(topic, 0, bytes("key" + k), bytes("" + round)));
            if (round % 3 == 2) producer.abortTransaction();
            else producer.commitTransaction();
        }
        KafkaProducer<byte[], byte[]> plain = kit.producer();
        int[] tick = {0};
        until("one value of each key is left", () -> {
            Thread.sleep(400);
            plain.send(new ProducerRecord<>(topic, 0, bytes("tick"), bytes("" + tick[0]++))).get();
            Map<String, String> last = new HashMap<>();
            List<ConsumerRecord<byte[], byte[]>> left = everything(kit, topic, "isolation.level", "read_committed");
            left.forEach(record -> last.put(text(record.key()), text(record.value())));
            for (int k = 0; k < 10; k++) same("58", last.get("key" + k), "the last committed value of key" + k);
            return left.stream().filter(record -> !text(record.key()).equals("tick")).count() == 10;
        });
    }

    private static void keysWanted(Kit kit) throws Exception {
        String topic = kit.topicOrSkip(1, COMPACTED);
        KafkaProducer<byte[], byte[]> producer = kit.producer();
        fails(InvalidRecordException.class, "a record without a key",
            () -> producer.send(new ProducerRecord<>(topic, 0, null, bytes("v"))).get());
        same(0L, producer.send(new ProducerRecord<>(topic, 0, bytes("k"), bytes("v"))).get().offset(), "offset of one with a key");
    }

    /** What is younger than min.compaction.lag.ms stays, while a topic beside it is compacted. */
    private static void compactionLag(Kit kit) throws Exception {
        String[] lagged = COMPACTED.clone();
        lagged[lagged.length - 1] = "3600000";
        String young = kit.topicOrSkip(1, lagged), other = kit.topicOrSkip(1, COMPACTED);
        KafkaProducer<byte[], byte[]> producer = kit.producer();
        long old = System.currentTimeMillis() - 7_200_000;
        for (String topic : List.of(young, other)) {
            // Two are old enough, of which the first goes; of the young ones none.
            for (int i = 0; i < 2; i++) producer.send(new ProducerRecord<>(topic, 0, old, bytes("old"), bytes("" + i))).get();
            for (int i = 0; i < 5; i++) producer.send(new ProducerRecord<>(topic, 0, null, bytes("young"), bytes("" + i))).get();
        }
        until("one topic is compacted whole, of the other what is old", () -> {
            Thread.sleep(400);
            for (String topic : List.of(young, other)) producer.send(new ProducerRecord<>(topic, 0, null, bytes("tick"), bytes(""))).get();
            long left = everything(kit, young).stream().filter(record -> text(record.key()).equals("young")).count();
            same(5L, left, "young records left");
            return everything(kit, other).stream().filter(record -> !text(record.key()).equals("tick")).count() == 2
                && everything(kit, young).stream().filter(record -> text(record.key()).equals("old")).count() == 1;
        });
        // Looked at again: it is compacted by now.
        long left = everything(kit, young).stream().filter(record -> text(record.key()).equals("young")).count();
        same(5L, left, "young records left after the compaction");
    }

    private static long count(Kit kit, String topic, String key) {
        return everything(kit, topic).stream().filter(record -> text(record.key()).equals(key)).count();
    }

    /** A topic is compacted when the share min.cleanable.dirty.ratio of it was written since the last time, and not before. */
    private static void compactionDirtyRatio(Kit kit) throws Exception {
        String[] large = COMPACTED.clone();
        large[5] = "0.9";
        String patient = kit.topicOrSkip(1, large), eager = kit.topicOrSkip(1, COMPACTED);
        List<String> both = List.of(patient, eager);
        KafkaProducer<byte[], byte[]> producer = kit.producer();
        // All of it is new at first. What stays of it, a megabyte, is what later records are little beside: a twentieth.
        byte[] little = new byte[10_000];
        int[] moments = {0};
        for (String topic : both) {
            kit.send(producer, topic, 0, "first", 1);
            for (int i = 0; i < 3; i++) producer.send(new ProducerRecord<>(topic, 0, bytes("twice"), bytes("" + i))).get();
            for (int i = 0; i < 10; i++) producer.send(new ProducerRecord<>(topic, 0, bytes("bulk" + i), new byte[100_000])).get();
        }
        ticking(kit, producer, both, "both are compacted once", () -> count(kit, patient, "twice") == 1 && count(kit, eager, "twice") == 1);
        for (String topic : both)
            for (int i = 0; i < 5; i++) producer.send(new ProducerRecord<>(topic, 0, bytes("again"), little)).get();
        ticking(kit, producer, both, "one is compacted again", () -> count(kit, eager, "again") == 1);
        // It is looked at as often as the other: what is not compacted a moment later is left on purpose.
        ticking(kit, producer, both, "a moment later", () -> ++moments[0] == 3);
        same(5L, count(kit, patient, "again"), "records that are too small a part of the topic");
        AlterConfigOp lower = new AlterConfigOp(new ConfigEntry("min.cleanable.dirty.ratio", "0.01"), AlterConfigOp.OpType.SET);
        get(kit.admin().incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.TOPIC, patient), List.of(lower))).all());
        ticking(kit, producer, both, "it is compacted for less", () -> count(kit, patient, "again") == 1);
    }

    /** Waits while a small record now and then ends each topic's newest segment, which is never compacted. */
    private static void ticking(Kit kit, KafkaProducer<byte[], byte[]> producer, List<String> topics, String what,
            java.util.concurrent.Callable<Boolean> holds) throws Exception {
        until(what, () -> {
            Thread.sleep(400);
            for (String topic : topics) producer.send(new ProducerRecord<>(topic, 0, bytes("tick"), bytes(""))).get();
            return holds.call();
        });
    }

    private static long beginning(Kit kit, String topic) throws Exception {
        TopicPartition partition = new TopicPartition(topic, 0);
        return get(kit.admin().listOffsets(Map.of(partition, org.apache.kafka.clients.admin.OffsetSpec.earliest())).all()).get(partition).offset();
    }

    /** Records of two hours ago go, those of now stay. */
    private static void retentionTime(Kit kit) throws Exception {
        String topic = kit.topic(1, "retention.ms", "3600000", "segment.ms", "300");
        KafkaProducer<byte[], byte[]> producer = kit.producer();
        long old = System.currentTimeMillis() - 7_200_000;
        for (int i = 0; i < 20; i++) producer.send(new ProducerRecord<>(topic, 0, old, null, bytes("old" + i))).get();
        // Only what is in a segment of its own can go.
        Thread.sleep(400);
        kit.send(producer, topic, 0, "young", 5);
        until("the old records are gone", () -> beginning(kit, topic) == 20);
        same("young0", text(everything(kit, topic).get(0).value()), "first record left");
    }

    /** The oldest go until no more than retention.bytes (and a segment) are left. */
    private static void retentionSize(Kit kit) throws Exception {
        String topic = kit.topic(1, "retention.bytes", "2000000", "segment.bytes", "1048576");
        KafkaProducer<byte[], byte[]> producer = kit.producer("batch.size", 110_000);
        for (int i = 0; i < 60; i++) producer.send(new ProducerRecord<>(topic, 0, null, new byte[100_000])).get();
        until("less than 3.2 MB are left", () -> 60 - beginning(kit, topic) <= 32);
        long left = 60 - beginning(kit, topic);
        check(left >= 18, "only " + left + " records of 100 kB are left where 2 MB may stay");
    }

    /** A topic's compression.type is the broker's to apply. */
    private static void compressionOfTopic(Kit kit) throws Exception {
        for (String codec : List.of("gzip", "snappy", "lz4", "zstd", "uncompressed")) {
            String topic = kit.topic(1, "compression.type", codec);
            // The client does the opposite.
            String own = codec.equals("uncompressed") ? "lz4" : "none";
            KafkaProducer<byte[], byte[]> producer = kit.producer("compression.type", own, "batch.size", 100_000, "linger.ms", 50);
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < 200; i++) sent.add(producer.send(new ProducerRecord<>(topic, 0, bytes("k" + i), new byte[2_000])));
            for (Future<RecordMetadata> one : sent) one.get();
            List<ConsumerRecord<byte[], byte[]>> all = everything(kit, topic);
            same(200, all.size(), "records");
            same("k199", text(all.get(199).key()), "last key");
            long stored = storedBytes(kit, new TopicPartition(topic, 0));
            boolean isSmall = stored < 100_000;
            check(isSmall != codec.equals("uncompressed"), codec + ": 400 kB of zeros take " + stored + " bytes");
        }
    }

    private static long storedBytes(Kit kit, TopicPartition partition) throws Exception {
        List<Integer> ids = new ArrayList<>();
        get(kit.admin().describeCluster().nodes()).forEach(node -> ids.add(node.id()));
        long bytes = 0;
        for (var directories : get(kit.admin().describeLogDirs(ids).allDescriptions()).values())
            for (var directory : directories.values())
                if (directory.replicaInfos().containsKey(partition)) bytes = directory.replicaInfos().get(partition).size();
        return bytes;
    }

    private static double metric(Map<?, ? extends Metric> metrics, String name) {
        double most = 0;
        for (Metric metric : metrics.values())
            if (metric.metricName().name().equals(name) && metric.metricValue() instanceof Double)
                most = Math.max(most, Double.isNaN((Double) metric.metricValue()) ? 0 : (Double) metric.metricValue());
        return most;
    }

    private static ClientQuotaEntity client(String id) {
        return new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, id));
    }

    private static void alter(Kit kit, String id, String quota, Double value) throws Exception {
        get(kit.admin().alterClientQuotas(List.of(new ClientQuotaAlteration(client(id), List.of(new ClientQuotaAlteration.Op(quota, value))))).all());
        ClientQuotaFilter filter = ClientQuotaFilter.containsOnly(List.of(ClientQuotaFilterComponent.ofEntity(ClientQuotaEntity.CLIENT_ID, id)));
        until("the quota is told", () -> {
            Map<String, Double> found = get(kit.admin().describeClientQuotas(filter).entities()).getOrDefault(client(id), Map.of());
            return java.util.Objects.equals(value, found.get(quota));
        });
    }

    private static void produceQuota(Kit kit) throws Exception {
        String topic = kit.topic(1);
        String id = kit.unique("client");
        alter(kit, id, "producer_byte_rate", 100_000.0);
        KafkaProducer<byte[], byte[]> producer = kit.producer("client.id", id, "batch.size", 60_000);
        long start = System.nanoTime();
        // Ten seconds' worth may come at once; the rest may not.
        for (int i = 0; i < 30; i++) producer.send(new ProducerRecord<>(topic, 0, null, new byte[50_000])).get();
        double seconds = (System.nanoTime() - start) / 1e9;
        check(metric(producer.metrics(), "produce-throttle-time-max") > 0, "never throttled");
        check(seconds > 1, "1.5 MB took " + seconds + " s at 100 kB/s");
        KafkaProducer<byte[], byte[]> other = kit.producer("client.id", kit.unique("client"), "batch.size", 60_000);
        for (int i = 0; i < 30; i++) other.send(new ProducerRecord<>(topic, 0, null, new byte[50_000])).get();
        same(0.0, metric(other.metrics(), "produce-throttle-time-max"), "throttling of another client");
        alter(kit, id, "producer_byte_rate", null);
    }

    private static void fetchQuota(Kit kit) throws Exception {
        String topic = kit.topic(1);
        String id = kit.unique("client");
        KafkaProducer<byte[], byte[]> producer = kit.producer("batch.size", 60_000);
        for (int i = 0; i < 40; i++) producer.send(new ProducerRecord<>(topic, 0, null, new byte[50_000])).get();
        alter(kit, id, "consumer_byte_rate", 100_000.0);
        KafkaConsumer<byte[], byte[]> consumer = kit.consumer("client.id", id, "fetch.max.bytes", 100_000, "max.partition.fetch.bytes", 100_000);
        consumer.assign(partitions(topic, 1));
        consumer.seekToBeginning(consumer.assignment());
        kit.read(consumer, 40);
        check(metric(consumer.metrics(), "fetch-throttle-time-max") > 0, "never throttled");
        alter(kit, id, "consumer_byte_rate", null);
    }
}
