// What the cases share: clients with short timeouts, topics and groups of their own, and checks that explain themselves.
package polymq.conformance;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

final class Kit implements AutoCloseable {
    static final Duration DEADLINE = Duration.ofSeconds(60);

    final String bootstrap;
    private final String name;
    private final List<AutoCloseable> open = new ArrayList<>();
    private Admin admin;

    Kit(String bootstrap, String name) {
        this.bootstrap = bootstrap;
        this.name = name;
    }

    String unique(String kind) {
        return "java-" + name.replace('_', '-') + "-" + kind + "-" + UUID.randomUUID().toString().substring(0, 8);
    }

    Map<String, Object> config(Object... pairs) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        for (int i = 0; i < pairs.length; i += 2) config.put((String) pairs[i], pairs[i + 1]);
        return config;
    }

    Admin admin() {
        if (admin == null) {
            admin = Admin.create(config("default.api.timeout.ms", 60_000, "request.timeout.ms", 30_000));
            open.add(admin);
        }
        return admin;
    }

    KafkaProducer<byte[], byte[]> producer(Object... pairs) {
        Map<String, Object> config = config("delivery.timeout.ms", 60_000, "request.timeout.ms", 30_000,
            "max.block.ms", 60_000, "linger.ms", 0);
        config.putAll(config(pairs));
        KafkaProducer<byte[], byte[]> producer =
            new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
        open.add(() -> producer.close(Duration.ofSeconds(2)));
        return producer;
    }

    KafkaConsumer<byte[], byte[]> consumer(Object... pairs) {
        KafkaConsumer<byte[], byte[]> consumer = looseConsumer(pairs);
        open.add(consumer::close);
        return consumer;
    }

    /** A consumer that its case closes itself (KafkaConsumer belongs to one thread). */
    KafkaConsumer<byte[], byte[]> looseConsumer(Object... pairs) {
        Map<String, Object> config = config("auto.offset.reset", "earliest", "enable.auto.commit", "false",
            "session.timeout.ms", 10_000, "heartbeat.interval.ms", 500, "default.api.timeout.ms", 60_000);
        config.putAll(config(pairs));
        if ("consumer".equals(config.get("group.protocol"))) {
            // In this protocol they are the broker's to say, and the client refuses to be told.
            config.remove("session.timeout.ms");
            config.remove("heartbeat.interval.ms");
        }
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** Creates a topic of this case's own and waits until the broker tells of all its partitions. */
    String topic(int partitions, String... configs) throws Exception {
        String topic = unique("topic");
        Map<String, String> settings = new HashMap<>();
        for (int i = 0; i < configs.length; i += 2) settings.put(configs[i], configs[i + 1]);
        get(admin().createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(settings))).all());
        awaitTopic(topic, partitions);
        return topic;
    }

    /** As `topic`, but a broker that says it does not do what this configuration asks skips the case. */
    String topicOrSkip(int partitions, String... configs) throws Exception {
        try {
            return topic(partitions, configs);
        } catch (ExecutionException error) {
            if (error.getCause() instanceof InvalidConfigurationException) {
                throw new Main.Skip("the broker refuses " + String.join("=", configs) + ": " + error.getCause().getMessage());
            }
            throw error;
        }
    }

    /**
     * Waits until the broker tells of all partitions and leads them. Apache Kafka describes a new topic before it leads
     * its partitions; a pipelining idempotent producer that starts in between can end in endless OUT_OF_ORDER_SEQUENCE.
     */
    void awaitTopic(String topic, int partitions) throws Exception {
        until("topic " + topic + " has " + partitions + " partitions", () -> {
            try {
                return get(admin().describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions().size() == partitions;
            } catch (ExecutionException error) {
                return false;
            }
        });
        Map<TopicPartition, OffsetSpec> ends = new HashMap<>();
        for (TopicPartition partition : partitions(topic, partitions)) ends.put(partition, OffsetSpec.latest());
        get(admin().listOffsets(ends).all());
    }

    static <T> T get(KafkaFuture<T> future) throws Exception {
        return future.get(DEADLINE.toSeconds(), TimeUnit.SECONDS);
    }

    /** Sends values "PREFIX0".. with keys "k0".. to a partition, and waits for every acknowledgement. */
    List<RecordMetadata> send(KafkaProducer<byte[], byte[]> producer, String topic, Integer partition, String prefix, int count)
            throws Exception {
        List<java.util.concurrent.Future<RecordMetadata>> futures = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            futures.add(producer.send(new ProducerRecord<>(topic, partition, bytes("k" + i), bytes(prefix + i))));
        }
        producer.flush();
        List<RecordMetadata> answers = new ArrayList<>();
        for (java.util.concurrent.Future<RecordMetadata> future : futures) answers.add(future.get(60, TimeUnit.SECONDS));
        return answers;
    }

    /** Assigns the partitions, from their start, and reads until `count` records are there. */
    List<ConsumerRecord<byte[], byte[]>> readAll(String topic, int partitions, int count, Object... pairs) {
        KafkaConsumer<byte[], byte[]> consumer = consumer(pairs);
        List<TopicPartition> assigned = partitions(topic, partitions);
        consumer.assign(assigned);
        consumer.seekToBeginning(assigned);
        return read(consumer, count);
    }

    List<ConsumerRecord<byte[], byte[]>> read(KafkaConsumer<byte[], byte[]> consumer, int count) {
        return read(consumer, count, DEADLINE);
    }

    List<ConsumerRecord<byte[], byte[]>> read(KafkaConsumer<byte[], byte[]> consumer, int count, Duration deadline) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        long end = System.nanoTime() + deadline.toNanos();
        while (records.size() < count && System.nanoTime() < end) {
            consumer.poll(Duration.ofMillis(200)).forEach(records::add);
        }
        check(records.size() >= count, "read " + records.size() + " of " + count + " records");
        return records;
    }

    static List<TopicPartition> partitions(String topic, int count) {
        List<TopicPartition> partitions = new ArrayList<>();
        for (int i = 0; i < count; i++) partitions.add(new TopicPartition(topic, i));
        return partitions;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
    }

    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static void same(Object wanted, Object got, String what) {
        boolean equal = wanted instanceof byte[] && got instanceof byte[]
            ? Arrays.equals((byte[]) wanted, (byte[]) got) : Objects.equals(wanted, got);
        check(equal, what + ": wanted " + wanted + ", got " + got);
    }

    static void until(String what, Callable<Boolean> holds) throws Exception {
        long end = System.nanoTime() + DEADLINE.toNanos();
        while (!holds.call()) {
            check(System.nanoTime() < end, "not within " + DEADLINE.toSeconds() + " s: " + what);
            Thread.sleep(20);
        }
    }

    /** Runs what must fail, and checks that it fails in the wanted way. */
    static <E extends Throwable> E fails(Class<E> wanted, String what, Callable<?> call) throws Exception {
        try {
            Object answer = call.call();
            throw new AssertionError(what + ": wanted " + wanted.getSimpleName() + ", but it succeeded with " + answer);
        } catch (Exception error) {
            Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
            if (wanted.isInstance(cause)) return wanted.cast(cause);
            throw new AssertionError(what + ": wanted " + wanted.getSimpleName() + ", got " + cause);
        }
    }

    @Override
    public void close() {
        for (int i = open.size() - 1; i >= 0; i--) {
            try {
                open.get(i).close();
            } catch (Exception ignored) {
                // The case has its verdict already; a client that cannot say goodbye does not change it.
            }
        }
    }
}
