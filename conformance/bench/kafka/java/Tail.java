import java.time.Duration;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.FutureTask;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.KafkaConsumer;

/** A consumer that follows the tail while a producer writes as fast as it goes; every record must arrive. */
final class Tail {
    private static final long SILENCE_NANOS_MAX = 20_000_000_000L;

    /** `tail topic= size= seconds=`: from the first record sent until the last was received. */
    static String run(Map<String, String> options) throws Exception {
        AtomicLong expected = new AtomicLong(Long.MAX_VALUE);
        try (KafkaConsumer<byte[], byte[]> consumer = Consume.atEnd(options)) {
            Callable<Long> follow = () -> {
                long received = 0;
                long last = System.nanoTime();
                while (received < expected.get()) {
                    int count = consumer.poll(Duration.ofMillis(50)).count();
                    long now = System.nanoTime();
                    if (count > 0) last = now;
                    else if (now - last > SILENCE_NANOS_MAX) throw new IllegalStateException("received " + received + " of " + expected);
                    received += count;
                }
                return received;
            };
            FutureTask<Long> following = new FutureTask<>(follow);
            Thread thread = new Thread(following, "tail");
            long start = System.nanoTime();
            thread.start();
            String produced = Produce.run(options);
            expected.set(Long.parseLong(produced.replaceAll(".*\"records\": ([0-9]+).*", "$1")));
            long received = following.get();
            double seconds = (System.nanoTime() - start) / 1e9;
            if (received != expected.get()) throw new IllegalStateException("received " + received + " of " + expected);
            return String.format("{\"records\": %d, \"seconds\": %.6f}", received, seconds);
        }
    }
}
