// Records in, records out: keys, offsets, codecs, headers, times, positions.
package polymq.conformance;

import static polymq.conformance.Kit.bytes;
import static polymq.conformance.Kit.check;
import static polymq.conformance.Kit.get;
import static polymq.conformance.Kit.partitions;
import static polymq.conformance.Kit.same;
import static polymq.conformance.Kit.text;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.TimestampType;

final class DataCases {
    static void register(Map<String, Main.Case> cases) {
        cases.put("produce_consume", DataCases::produceConsume);
        cases.put("auto_create", DataCases::autoCreate);
        cases.put("idempotent_produce", DataCases::idempotentProduce);
        cases.put("acks", DataCases::acks);
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            cases.put("compression_" + codec, kit -> compression(kit, codec));
        }
        cases.put("headers", DataCases::headers);
        cases.put("tombstones", DataCases::tombstones);
        cases.put("seek_by_timestamp", DataCases::seekByTimestamp);
        cases.put("list_offsets", DataCases::listOffsets);
        cases.put("log_append_time", DataCases::logAppendTime);
        cases.put("large_batches", DataCases::largeBatches);
        cases.put("many_partitions", DataCases::manyPartitions);
        cases.put("fetch_sessions", DataCases::fetchSessions);
        cases.put("manual_assignment", DataCases::manualAssignment);
        cases.put("pause_resume", DataCases::pauseResume);
        cases.put("read_committed", DataCases::readCommitted);
        cases.put("long_poll", DataCases::longPoll);
        cases.put("telemetry_refused", DataCases::telemetryRefused);
    }

    private static void produceConsume(Kit kit) throws Exception {
        String topic = kit.topic(3);
        KafkaProducer<byte[], byte[]> producer = kit.producer();
        Map<Integer, Long> next = new HashMap<>();
        Map<String, String> sent = new HashMap<>();
        for (int i = 0; i < 90; i++) {
            RecordMetadata answer = producer.send(
                new ProducerRecord<>(topic, i % 3, 1_700_000_000_000L + i, bytes("key-" + i), bytes("value-" + i))).get();
            same(i % 3, answer.partition(), "partition");
            same(next.merge(i % 3, 1L, Long::sum) - 1, answer.offset(), "offset of record " + i);
            same(1_700_000_000_000L + i, answer.timestamp(), "timestamp");
            sent.put("key-" + i, "value-" + i);
        }
        Map<Integer, Long> expected = new HashMap<>();
        for (ConsumerRecord<byte[], byte[]> record : kit.readAll(topic, 3, 90)) {
            same(expected.merge(record.partition(), 1L, Long::sum) - 1, record.offset(), "offset read");
            same(sent.remove(text(record.key())), text(record.value()), "value");
            same(3 * record.offset() + record.partition() + 1_700_000_000_000L, record.timestamp(), "timestamp read");
            same(TimestampType.CREATE_TIME, record.timestampType(), "timestamp type");
        }
        same(Map.of(), sent, "left unread");
    }

    private static void autoCreate(Kit kit) throws Exception {
        String topic = kit.unique("topic");
        same(0L, kit.send(kit.producer(), topic, 0, "v", 1).get(0).offset(), "first offset of a topic nobody created");
        same("v0", text(kit.readAll(topic, 1, 1).get(0).value()), "value");
    }

    private static void idempotentProduce(Kit kit) throws Exception {
        String topic = kit.topic(2);
        KafkaProducer<byte[], byte[]> producer =
            kit.producer("enable.idempotence", true, "acks", "all", "batch.size", 512, "max.in.flight.requests.per.connection", 5);
        for (int partition = 0; partition < 2; partition++) {
            List<RecordMetadata> answers = kit.send(producer, topic, partition, "v", 2_000);
            for (int i = 0; i < answers.size(); i++) same((long) i, answers.get(i).offset(), "offset");
        }
        // A second producer writes to the same partitions under an id of its own.
        kit.send(kit.producer("enable.idempotence", true), topic, 0, "w", 10);
        Map<Integer, Long> next = new HashMap<>();
        for (ConsumerRecord<byte[], byte[]> record : kit.readAll(topic, 2, 4_010)) {
            long offset = next.merge(record.partition(), 1L, Long::sum) - 1;
            same(offset, record.offset(), "offset");
            same(offset < 2_000 ? "v" + offset : "w" + (offset - 2_000), text(record.value()), "order in the partition");
        }
    }

    private static void acks(Kit kit) throws Exception {
        for (String acks : List.of("0", "1", "all")) {
            String topic = kit.topic(1);
            List<RecordMetadata> answers =
                kit.send(kit.producer("acks", acks, "enable.idempotence", false), topic, 0, "v", 50);
            if (acks.equals("0")) check(!answers.get(0).hasOffset(), "acks=0 is told no offset");
            else same(49L, answers.get(49).offset(), "last offset with acks=" + acks);
            same("v49", text(kit.readAll(topic, 1, 50).get(49).value()), "last value with acks=" + acks);
        }
    }

    private static void compression(Kit kit, String codec) throws Exception {
        String topic = kit.topic(1);
        KafkaProducer<byte[], byte[]> producer = kit.producer("compression.type", codec, "linger.ms", 20, "batch.size", 100_000);
        Random random = new Random(7);
        List<byte[]> values = new ArrayList<>();
        List<Future<RecordMetadata>> futures = new ArrayList<>();
        for (int i = 0; i < 300; i++) {
            byte[] value = bytes("abc".repeat(random.nextInt(400)) + random.nextLong());
            values.add(value);
            futures.add(producer.send(new ProducerRecord<>(topic, 0, bytes("k" + i), value)));
        }
        producer.flush();
        for (Future<RecordMetadata> future : futures) future.get(60, TimeUnit.SECONDS);
        double rate = producer.metrics().entrySet().stream()
            .filter(entry -> entry.getKey().name().equals("compression-rate-avg") && entry.getKey().group().equals("producer-metrics"))
            .mapToDouble(entry -> (double) entry.getValue().metricValue()).findFirst().orElse(1.0);
        check(codec.equals("none") == (rate > 0.95), "the client compressed to " + rate);
        List<ConsumerRecord<byte[], byte[]>> records = kit.readAll(topic, 1, 300);
        for (int i = 0; i < 300; i++) same(values.get(i), records.get(i).value(), "value " + i);
    }

    private static void headers(Kit kit) throws Exception {
        String topic = kit.topic(1);
        byte[] binary = {0, (byte) 0xff, (byte) 0x80, 10, 13};
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, bytes("k"), bytes("v"));
        record.headers().add("twice", bytes("first")).add("twice", bytes("second")).add("binary", binary)
            .add("null", null).add("empty", new byte[0]).add("naïve ключ", bytes("ü"));
        kit.producer().send(record).get(60, TimeUnit.SECONDS);
        Header[] got = kit.readAll(topic, 1, 1).get(0).headers().toArray();
        String[] keys = {"twice", "twice", "binary", "null", "empty", "naïve ключ"};
        byte[][] values = {bytes("first"), bytes("second"), binary, null, new byte[0], bytes("ü")};
        same(keys.length, got.length, "number of headers");
        for (int i = 0; i < keys.length; i++) {
            same(keys[i], got[i].key(), "header key " + i);
            same(values[i], got[i].value(), "header value " + i);
        }
    }

    private static void tombstones(Kit kit) throws Exception {
        String topic = kit.topic(1);
        KafkaProducer<byte[], byte[]> producer = kit.producer();
        producer.send(new ProducerRecord<>(topic, 0, bytes("k"), null));
        producer.send(new ProducerRecord<>(topic, 0, null, bytes("v")));
        producer.send(new ProducerRecord<>(topic, 0, null, null));
        producer.send(new ProducerRecord<>(topic, 0, new byte[0], new byte[0])).get(60, TimeUnit.SECONDS);
        List<ConsumerRecord<byte[], byte[]>> records = kit.readAll(topic, 1, 4);
        byte[][] keys = {bytes("k"), null, null, new byte[0]};
        byte[][] values = {null, bytes("v"), null, new byte[0]};
        for (int i = 0; i < 4; i++) {
            same(keys[i], records.get(i).key(), "key " + i);
            same(values[i], records.get(i).value(), "value " + i);
        }
    }

    private static void seekByTimestamp(Kit kit) throws Exception {
        String topic = kit.topic(1);
        KafkaProducer<byte[], byte[]> producer = kit.producer();
        long start = System.currentTimeMillis() - 100_000;
        for (int i = 0; i < 100; i++) {
            Future<RecordMetadata> sent =
                producer.send(new ProducerRecord<>(topic, 0, start + i * 100L, null, bytes("v" + i)));
            // Batches of ten, so that some answers lie inside a batch and some at its edge.
            if (i % 10 == 9) sent.get(60, TimeUnit.SECONDS);
        }
        KafkaConsumer<byte[], byte[]> consumer = kit.consumer();
        TopicPartition partition = new TopicPartition(topic, 0);
        consumer.assign(List.of(partition));
        for (int i : new int[] {0, 1, 37, 50, 99}) {
            OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(partition, start + i * 100L - 50)).get(partition);
            same((long) i, found.offset(), "offset for a time just before record " + i);
            same(start + i * 100L, found.timestamp(), "its timestamp");
            consumer.seek(partition, found.offset());
            same("v" + i, text(kit.read(consumer, 1).get(0).value()), "first record after the seek");
        }
        same(null, consumer.offsetsForTimes(Map.of(partition, start + 100_000)).get(partition), "after the last record");
        same(0L, consumer.offsetsForTimes(Map.of(partition, 0L)).get(partition).offset(), "before the first record");
    }

    private static void listOffsets(Kit kit) throws Exception {
        String topic = kit.topic(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        same(0L, offset(kit, partition, OffsetSpec.earliest()).offset(), "earliest of an empty partition");
        same(0L, offset(kit, partition, OffsetSpec.latest()).offset(), "latest of an empty partition");
        same(-1L, offset(kit, partition, OffsetSpec.maxTimestamp()).offset(), "max timestamp of an empty partition");
        KafkaProducer<byte[], byte[]> producer = kit.producer();
        long start = System.currentTimeMillis() - 50_000;
        long[] times = {start + 10, start + 900, start + 20, start + 30};
        for (long time : times) producer.send(new ProducerRecord<>(topic, 0, time, null, bytes("v"))).get(60, TimeUnit.SECONDS);
        same(0L, offset(kit, partition, OffsetSpec.earliest()).offset(), "earliest");
        same(4L, offset(kit, partition, OffsetSpec.latest()).offset(), "latest");
        same(1L, offset(kit, partition, OffsetSpec.maxTimestamp()).offset(), "max timestamp");
        same(start + 900, offset(kit, partition, OffsetSpec.maxTimestamp()).timestamp(), "the max timestamp itself");
        same(1L, offset(kit, partition, OffsetSpec.forTimestamp(start + 20)).offset(), "first at or after a time");
        get(kit.admin().deleteRecords(Map.of(partition, org.apache.kafka.clients.admin.RecordsToDelete.beforeOffset(2))).all());
        same(2L, offset(kit, partition, OffsetSpec.earliest()).offset(), "earliest after deleting two records");
        same(4L, offset(kit, partition, OffsetSpec.latest()).offset(), "latest after deleting two records");
        // Newer clients can ask for tiered-storage positions too; without tiers these are the earliest, and none.
        OffsetSpec earliestLocal = spec("earliestLocal");
        OffsetSpec latestTiered = spec("latestTiered");
        if (earliestLocal != null) same(2L, offset(kit, partition, earliestLocal).offset(), "earliest local");
        if (latestTiered != null) same(-1L, offset(kit, partition, latestTiered).offset(), "latest tiered");
    }

    private static ListOffsetsResultInfo offset(Kit kit, TopicPartition partition, OffsetSpec spec) throws Exception {
        return get(kit.admin().listOffsets(Map.of(partition, spec)).partitionResult(partition));
    }

    private static OffsetSpec spec(String name) {
        try {
            return (OffsetSpec) OffsetSpec.class.getMethod(name).invoke(null);
        } catch (ReflectiveOperationException absent) {
            return null;
        }
    }

    private static void logAppendTime(Kit kit) throws Exception {
        String topic = kit.topicOrSkip(1, "message.timestamp.type", "LogAppendTime");
        long before = System.currentTimeMillis();
        RecordMetadata answer = kit.producer().send(new ProducerRecord<>(topic, 0, 1_000L, null, bytes("v"))).get(60, TimeUnit.SECONDS);
        check(answer.timestamp() >= before, "the broker's time is told to the producer, got " + answer.timestamp());
        ConsumerRecord<byte[], byte[]> record = kit.readAll(topic, 1, 1).get(0);
        same(TimestampType.LOG_APPEND_TIME, record.timestampType(), "timestamp type");
        same(answer.timestamp(), record.timestamp(), "timestamp");
    }

    private static void largeBatches(Kit kit) throws Exception {
        String topic = kit.topic(2);
        KafkaProducer<byte[], byte[]> producer = kit.producer("batch.size", 900_000, "linger.ms", 50, "buffer.memory", 64_000_000L);
        Random random = new Random(11);
        List<byte[]> values = new ArrayList<>();
        for (int i = 0; i < 40; i++) {
            byte[] value = new byte[i % 4 == 0 ? 900_000 : 100_000];
            random.nextBytes(value);
            values.add(value);
            producer.send(new ProducerRecord<>(topic, i % 2, bytes("" + i), value));
        }
        producer.flush();
        // A record larger than the fetch limits must still come, alone, or the consumer would be stuck for ever.
        for (ConsumerRecord<byte[], byte[]> record : kit.readAll(topic, 2, 40, "max.partition.fetch.bytes", 10_000, "fetch.max.bytes", 20_000)) {
            same(values.get(Integer.parseInt(text(record.key()))), record.value(), "value " + text(record.key()));
        }
    }

    private static void manyPartitions(Kit kit) throws Exception {
        String topic = kit.topic(200);
        KafkaProducer<byte[], byte[]> producer = kit.producer("linger.ms", 5);
        for (int i = 0; i < 2_000; i++) producer.send(new ProducerRecord<>(topic, i % 200, bytes("" + i), bytes("v" + i)));
        producer.flush();
        Set<String> keys = new HashSet<>();
        for (ConsumerRecord<byte[], byte[]> record : kit.readAll(topic, 200, 2_000)) {
            check(keys.add(text(record.key())), "record " + text(record.key()) + " came twice");
            same(Integer.parseInt(text(record.key())) % 200, record.partition(), "partition");
        }
    }

    /** What the consumer has sent and received so far: requests, bytes out, answers, bytes in. Once it is idle, it only fetches. */
    private static double[] traffic(KafkaConsumer<byte[], byte[]> consumer) {
        List<String> names = List.of("request-total", "outgoing-byte-total", "response-total", "incoming-byte-total");
        double[] total = new double[names.size()];
        consumer.metrics().forEach((name, metric) -> {
            int index = names.indexOf(name.name());
            if (index >= 0 && name.group().equals("consumer-node-metrics")) total[index] += (double) metric.metricValue();
        });
        return total;
    }

    /** Polls for some twenty fetches; what comes is added. Returns the bytes of a request, and of an answer. */
    private static double[] idle(KafkaConsumer<byte[], byte[]> consumer, List<ConsumerRecord<byte[], byte[]>> came) {
        double[] before = traffic(consumer), now;
        long end = System.nanoTime() + Kit.DEADLINE.toNanos();
        do {
            check(System.nanoTime() < end, "the consumer does not fetch");
            consumer.poll(Duration.ofMillis(20)).forEach(came::add);
            now = traffic(consumer);
        } while (now[0] < before[0] + 20 || now[2] < before[2] + 20);
        return new double[] {(now[1] - before[1]) / (now[0] - before[0]), (now[3] - before[3]) / (now[2] - before[2])};
    }

    /** Checks that fetches of hundreds of partitions name only what is new, and so do the answers. */
    private static void frugal(KafkaConsumer<byte[], byte[]> consumer, String when) {
        // The first poll or two may still tell of what was changed just before.
        List<ConsumerRecord<byte[], byte[]>> came = new ArrayList<>();
        idle(consumer, came);
        double[] bytes = idle(consumer, came);
        same(0, came.size(), "records " + when);
        check(bytes[0] < 500, when + " a request has " + bytes[0] + " bytes");
        check(bytes[1] < 500, when + " an answer has " + bytes[1] + " bytes");
    }

    /** KIP-227: in a fetch session only what changes is said, of the partitions wanted, forgotten, and answered. */
    private static void fetchSessions(Kit kit) throws Exception {
        int count = 300;
        String topic = kit.topic(count);
        List<TopicPartition> all = partitions(topic, count);
        KafkaProducer<byte[], byte[]> producer = kit.producer();
        KafkaConsumer<byte[], byte[]> consumer = kit.consumer("fetch.max.wait.ms", 10, "metadata.max.age.ms", 3_600_000);
        consumer.assign(all);
        consumer.seekToBeginning(all);
        frugal(consumer, "while nothing happens");

        // A record is told once, and only its partition is.
        kit.send(producer, topic, 7, "v", 1);
        same(7, kit.read(consumer, 1).get(0).partition(), "partition of the record");
        frugal(consumer, "after a record");

        // Partitions that are not wanted for a while are forgotten: what comes into them is not sent again and again.
        consumer.pause(all.subList(0, 200));
        frugal(consumer, "after most are paused");
        for (int i = 0; i < 10; i++) producer.send(new ProducerRecord<>(topic, 3, bytes("key"), new byte[10_000]));
        producer.flush();
        double before = traffic(consumer)[3];
        frugal(consumer, "while there are records in a paused partition");
        // Nor are they sent and thrown away.
        double came = traffic(consumer)[3] - before;
        check(came < 50_000, came + " bytes came while 100 kB waited in a paused partition");
        consumer.resume(all.subList(0, 200));
        for (ConsumerRecord<byte[], byte[]> record : kit.read(consumer, 10)) same(3, record.partition(), "partition of the records");
        frugal(consumer, "after all are resumed");

        // So are those of another assignment.
        consumer.assign(all.subList(100, count));
        consumer.seek(all.get(150), 0);
        frugal(consumer, "after another assignment");
        kit.send(producer, topic, 150, "v", 3);
        kit.send(producer, topic, 250, "v", 3);
        kit.send(producer, topic, 50, "v", 3);
        Set<Integer> told = new HashSet<>();
        for (ConsumerRecord<byte[], byte[]> record : kit.read(consumer, 6)) told.add(record.partition());
        same(Set.of(150, 250), told, "partitions with records");
        consumer.assign(all.subList(0, 200));
        consumer.seekToEnd(all.subList(0, 100));
        consumer.seek(all.get(50), 1);
        for (ConsumerRecord<byte[], byte[]> record : kit.read(consumer, 2)) same(50, record.partition(), "partition of the records");
        frugal(consumer, "at the end");
    }

    private static void manualAssignment(Kit kit) throws Exception {
        String topic = kit.topic(3);
        KafkaProducer<byte[], byte[]> producer = kit.producer();
        for (int partition = 0; partition < 3; partition++) kit.send(producer, topic, partition, "p" + partition + "-", 20);
        KafkaConsumer<byte[], byte[]> consumer = kit.consumer();
        TopicPartition second = new TopicPartition(topic, 1);
        consumer.assign(List.of(second));
        consumer.seek(second, 15);
        List<ConsumerRecord<byte[], byte[]>> records = kit.read(consumer, 5);
        same(5, records.size(), "records from offset 15");
        same("p1-15", text(records.get(0).value()), "first");
        same(20L, consumer.position(second), "position");
        same(Map.of(second, 0L), consumer.beginningOffsets(List.of(second)), "beginning");
        same(Map.of(second, 20L), consumer.endOffsets(List.of(second)), "end");
        same(3, consumer.partitionsFor(topic).size(), "partitions of the topic");
        check(consumer.listTopics().containsKey(topic), "the topic is listed");
    }

    private static void pauseResume(Kit kit) throws Exception {
        String topic = kit.topic(2);
        KafkaProducer<byte[], byte[]> producer = kit.producer();
        KafkaConsumer<byte[], byte[]> consumer = kit.consumer();
        List<TopicPartition> both = partitions(topic, 2);
        consumer.assign(both);
        consumer.pause(List.of(both.get(0)));
        kit.send(producer, topic, 0, "paused", 10);
        kit.send(producer, topic, 1, "running", 10);
        for (ConsumerRecord<byte[], byte[]> record : kit.read(consumer, 10)) same(1, record.partition(), "partition while 0 is paused");
        check(consumer.poll(Duration.ofMillis(300)).isEmpty(), "nothing comes from a paused partition");
        consumer.resume(consumer.paused());
        for (ConsumerRecord<byte[], byte[]> record : kit.read(consumer, 10)) same(0, record.partition(), "partition after resuming");
    }

    private static void readCommitted(Kit kit) throws Exception {
        String topic = kit.topic(1);
        kit.send(kit.producer(), topic, 0, "v", 100);
        List<ConsumerRecord<byte[], byte[]>> records = kit.readAll(topic, 1, 100, "isolation.level", "read_committed");
        same("v99", text(records.get(99).value()), "last value");
        KafkaConsumer<byte[], byte[]> consumer = kit.consumer("isolation.level", "read_committed");
        TopicPartition partition = new TopicPartition(topic, 0);
        same(100L, consumer.endOffsets(List.of(partition)).get(partition), "last stable offset");
    }

    /** The client's metrics (KIP-714), which it pushes unless told not to, are not wanted: it goes on as if it were told. */
    private static void telemetryRefused(Kit kit) throws Exception {
        String topic = kit.topic(1);
        Map<Boolean, Double> closed = new HashMap<>();
        for (boolean push : List.of(false, true)) {
            KafkaProducer<byte[], byte[]> producer = kit.producer("enable.metrics.push", push);
            producer.send(new ProducerRecord<>(topic, bytes("k"), bytes("v"))).get();
            // Returns when the client has been told who it is, or that it will not be: it has asked by then.
            if (push) same(null, producer.clientInstanceId(java.time.Duration.ofSeconds(3)), "the client's instance");
            producer.send(new ProducerRecord<>(topic, bytes("k"), bytes("v"))).get();
            for (var metric : producer.metrics().values())
                if (metric.metricName().name().equals("connection-close-total") && metric.metricName().group().equals("producer-metrics"))
                    closed.put(push, (Double) metric.metricValue());
        }
        same(closed.get(false), closed.get(true), "connections that were lost");
    }

    private static void longPoll(Kit kit) throws Exception {
        String topic = kit.topic(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        KafkaProducer<byte[], byte[]> producer = kit.producer();
        KafkaConsumer<byte[], byte[]> consumer = kit.consumer("fetch.max.wait.ms", 15_000, "request.timeout.ms", 30_000);
        consumer.assign(List.of(partition));
        check(consumer.poll(Duration.ofMillis(300)).isEmpty(), "nothing there yet");
        kit.send(producer, topic, 0, "v", 1);
        long start = System.nanoTime();
        kit.read(consumer, 1);
        long millis = (System.nanoTime() - start) / 1_000_000;
        check(millis < 2_000, "a waiting fetch answered " + millis + " ms after the record was acknowledged");

        // The other way round: with fetch.min.bytes unmet the broker holds the answer for fetch.max.wait.ms.
        KafkaConsumer<byte[], byte[]> patient = kit.consumer("fetch.max.wait.ms", 1_500, "fetch.min.bytes", 1_000_000);
        patient.assign(List.of(partition));
        patient.seek(partition, 0);
        patient.position(partition);
        start = System.nanoTime();
        kit.read(patient, 1);
        millis = (System.nanoTime() - start) / 1_000_000;
        check(millis > 1_000, "fetch.min.bytes was not waited for: answered in " + millis + " ms");
    }
}
