import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** A transactional producer as fast as it goes, committing every so often; what was sent counts once it is committed. */
final class Transact {
    /** `transact topic= size= seconds= commit=MILLIS`. */
    static String run(Map<String, String> options) throws Exception {
        byte[][] payloads = Produce.payloads(Load.number(options, "size"));
        String topic = Load.required(options, "topic");
        long nanosMax = (long) (Double.parseDouble(Load.required(options, "seconds")) * 1e9);
        long commitNanos = Load.number(options, "commit") * 1_000_000L;
        Properties properties = Load.properties(options, "producer");
        properties.put("acks", "all");
        properties.put("transactional.id", topic);
        properties.put("key.serializer", ByteArraySerializer.class.getName());
        properties.put("value.serializer", ByteArraySerializer.class.getName());
        AtomicReference<Exception> failure = new AtomicReference<>();
        long sent = 0;
        int transactions = 0;
        long nanos;
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(properties)) {
            producer.initTransactions();
            producer.partitionsFor(topic);
            long start = System.nanoTime();
            while (System.nanoTime() - start < nanosMax) {
                long due = System.nanoTime() + commitNanos;
                producer.beginTransaction();
                do {
                    for (int at = 0; at < 64; at++, sent++)
                        producer.send(new ProducerRecord<>(topic, payloads[(int) (sent % payloads.length)]),
                            (metadata, error) -> { if (error != null) failure.compareAndSet(null, error); });
                } while (System.nanoTime() < due);
                producer.commitTransaction();
                transactions++;
            }
            nanos = System.nanoTime() - start;
        }
        if (failure.get() != null) throw failure.get();
        return String.format("{\"records\": %d, \"seconds\": %.6f, \"transactions\": %d}", sent, nanos / 1e9, transactions);
    }
}
