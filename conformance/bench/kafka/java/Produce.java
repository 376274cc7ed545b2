import java.util.Map;
import java.util.Properties;
import java.util.SplittableRandom;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.producer.Callback;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * As fast as it goes, with acks=all and the producer's defaults otherwise. kafka-producer-perf-test does the same but counts
 * records where this counts seconds (brokers and settings differ by a factor of a hundred), and fills each payload at random
 * with the processor time that the broker beside it needs; here the payloads are made once.
 */
final class Produce {
    private static final int PAYLOADS = 512;

    /** `produce topic= [topics=N] size= seconds= [partitions=P: round robin over them, not the producer's choice] [keys=N]`. */
    static String run(Map<String, String> options) throws Exception {
        return send(options, (long) (Double.parseDouble(Load.required(options, "seconds")) * 1e9), Long.MAX_VALUE);
    }

    /** As `produce`, with `keys=N`: record after record gets one of N keys, in a fixed random order. */
    private static byte[] key(long at, int keys) {
        // A bijection of the low bits would do; this spreads well enough and repeats after 2^64.
        long mixed = (at * 0x9E3779B97F4A7C15L) >>> 33;
        return java.nio.ByteBuffer.allocate(8).putLong(mixed % keys).array();
    }

    /** `fill topic= size= records=`: this many, however long it takes. */
    static String fill(Map<String, String> options) throws Exception {
        return send(options, Long.MAX_VALUE, Long.parseLong(Load.required(options, "records")));
    }

    private static String send(Map<String, String> options, long nanosMax, long recordsMax) throws Exception {
        byte[][] payloads = payloads(Load.number(options, "size"));
        String topic = Load.required(options, "topic");
        int topics = Integer.parseInt(options.getOrDefault("topics", "0"));
        int partitions = Integer.parseInt(options.getOrDefault("partitions", "0"));
        int keys = Integer.parseInt(options.getOrDefault("keys", "0"));
        String[] names = new String[Math.max(topics, 1)];
        for (int at = 0; at < names.length; at++) names[at] = topics == 0 ? topic : topic + "-" + at;

        AtomicReference<Exception> failure = new AtomicReference<>();
        Callback callback = (metadata, error) -> { if (error != null) failure.compareAndSet(null, error); };
        long sent = 0;
        long nanos;
        try (KafkaProducer<byte[], byte[]> producer = producer(options)) {
            for (String name : names) producer.partitionsFor(name);
            long start = System.nanoTime();
            while (sent < recordsMax && failure.get() == null) {
                if ((sent & 63) == 0 && System.nanoTime() - start > nanosMax) break;
                String name = names[(int) (sent % names.length)];
                Integer partition = partitions == 0 ? null : (Integer) (int) (sent / names.length % partitions);
                producer.send(new ProducerRecord<>(name, partition, keys == 0 ? null : key(sent, keys), payloads[(int) (sent % PAYLOADS)]), callback);
                sent++;
            }
            producer.flush();
            nanos = System.nanoTime() - start;
        }
        if (failure.get() != null) throw failure.get();
        return String.format("{\"records\": %d, \"seconds\": %.6f}", sent, nanos / 1e9);
    }

    static KafkaProducer<byte[], byte[]> producer(Map<String, String> options) {
        Properties properties = Load.properties(options, "producer");
        properties.put("acks", "all");
        // A measurement that stalls this long has failed; the default would hide it for two minutes.
        properties.put("delivery.timeout.ms", "40000");
        properties.put("key.serializer", ByteArraySerializer.class.getName());
        properties.put("value.serializer", ByteArraySerializer.class.getName());
        return new KafkaProducer<>(properties);
    }

    static byte[][] payloads(int size) {
        SplittableRandom random = new SplittableRandom(size);
        byte[][] payloads = new byte[PAYLOADS][size];
        for (byte[] payload : payloads) random.nextBytes(payload);
        return payloads;
    }
}
