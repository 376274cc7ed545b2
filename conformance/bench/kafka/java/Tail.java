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

    /**
     * `follow topic= size= rate= seconds=`: a producer at a fixed rate, and a consumer that waits at the tail for every record. The
     * rate is the same for every broker, so what differs is what following costs; the producer's part is measured without it
     * by `readers=0`.
     */
    static String follow(Map<String, String> options) throws Exception {
        int readers = Load.number(options, "readers");
        int rate = Load.number(options, "rate");
        long total = (long) (rate * Double.parseDouble(Load.required(options, "seconds")));
        byte[][] payloads = Produce.payloads(Load.number(options, "size"));
        String topic = Load.required(options, "topic");
        java.util.List<FutureTask<Long>> following = new java.util.ArrayList<>();
        for (int at = 0; at < readers; at++) {
            KafkaConsumer<byte[], byte[]> consumer = Consume.atEnd(options);
            FutureTask<Long> task = new FutureTask<>(() -> {
                long received = 0;
                long last = System.nanoTime();
                try (consumer) {
                    while (received < total) {
                        int count = consumer.poll(Duration.ofMillis(50)).count();
                        long now = System.nanoTime();
                        if (count > 0) last = now;
                        else if (now - last > SILENCE_NANOS_MAX) throw new IllegalStateException("received " + received + " of " + total);
                        received += count;
                    }
                }
                return received;
            });
            following.add(task);
            new Thread(task, "follow" + at).start();
        }
        long start = System.nanoTime();
        try (org.apache.kafka.clients.producer.KafkaProducer<byte[], byte[]> producer = Produce.producer(options)) {
            for (long sent = 0; sent < total; sent++) {
                long due = start + (long) (sent * 1e9 / rate);
                // Every record at its time, but not a pause for each.
                while (System.nanoTime() < due) java.util.concurrent.locks.LockSupport.parkNanos(200_000);
                producer.send(new org.apache.kafka.clients.producer.ProducerRecord<>(topic, payloads[(int) (sent % payloads.length)]));
            }
            producer.flush();
        }
        for (FutureTask<Long> task : following) task.get();
        double seconds = (System.nanoTime() - start) / 1e9;
        return String.format("{\"records\": %d, \"seconds\": %.6f}", total * Math.max(1, readers), seconds);
    }
}
