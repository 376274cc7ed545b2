import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.FutureTask;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.Callback;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/**
 * The time from when a record was due to when the consumer has it. Records are due at a fixed rate and carry the time at which
 * they were due, not the time at which they were sent: when something stalls, all that waits behind it counts as late
 * (no coordinated omission).
 */
final class EndToEnd {
    /** `end-to-end topic= partitions= size= rate= seconds= skip=`: percentiles in milliseconds, without the first `skip` seconds. */
    static String run(Map<String, String> options) throws Exception {
        String topic = Load.required(options, "topic");
        int partitions = Load.number(options, "partitions");
        int size = Load.number(options, "size");
        int rate = Load.number(options, "rate");
        int skipped = Load.number(options, "skip") * rate;
        int records = skipped + Load.number(options, "seconds") * rate;
        double period = 1e9 / rate;
        long[] nanos = new long[records];
        int[] seen = new int[1];

        AtomicReference<Exception> failure = new AtomicReference<>();
        Callback callback = (metadata, error) -> { if (error != null) failure.compareAndSet(null, error); };
        try (KafkaProducer<byte[], byte[]> producer = Produce.producer(options);
             KafkaConsumer<byte[], byte[]> consumer = Consume.atEnd(options)) {
            producer.partitionsFor(topic);
            long start = System.nanoTime() + 100_000_000L;
            long deadline = start + (long) (records * period) + 30_000_000_000L;
            FutureTask<Void> receiving = new FutureTask<>(() -> {
                while (seen[0] < records) {
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                        int at = ByteBuffer.wrap(record.value()).getInt();
                        if (nanos[at] != 0) throw new IllegalStateException("record " + at + " came twice");
                        nanos[at] = Math.max(1, System.nanoTime() - start - (long) (at * period));
                        seen[0]++;
                    }
                    if (System.nanoTime() > deadline || failure.get() != null)
                        throw new IllegalStateException("received " + seen[0] + " of " + records + "; " + failure.get());
                }
                return null;
            });
            new Thread(receiving, "end-to-end").start();
            for (int at = 0; at < records && !receiving.isDone(); at++) {
                long due = start + (long) (at * period);
                for (long now = System.nanoTime(); now < due; now = System.nanoTime()) LockSupport.parkNanos(due - now);
                byte[] value = new byte[size];
                ByteBuffer.wrap(value).putInt(at);
                producer.send(new ProducerRecord<>(topic, at % partitions, null, value), callback);
            }
            producer.flush();
            receiving.get();
        }
        long[] measured = Arrays.copyOfRange(nanos, skipped, records);
        Arrays.sort(measured);
        return String.format("{\"records\": %d, \"p50\": %.3f, \"p99\": %.3f, \"p999\": %.3f, \"max\": %.3f}", records,
            at(measured, 0.5), at(measured, 0.99), at(measured, 0.999), at(measured, 1));
    }

    private static double at(long[] sorted, double share) {
        return sorted[(int) Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] / 1e6;
    }
}
