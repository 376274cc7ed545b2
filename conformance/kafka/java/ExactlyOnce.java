// The client of `kafka-exactly-once`: transactions while processes are killed, and the proof that each record arrived once.
//
// `ExactlyOnce BOOTSTRAP SEED PROTOCOL`, PROTOCOL being classic or consumer. Two sources write numbered transactions into topic A,
// some aborted on purpose. Two copiers, members of one group, copy A into B, offsets in the same transactions; some are aborted,
// some are left to a successor, whose predecessor must then be fenced. A line `progress ...` every five seconds. The line
// `finish` on standard input stops the sources, waits until everything is copied, and checks all that is in A and B;
// the answer is `ok ...` or `FAIL ...`.
package polymq.conformance;

import static polymq.conformance.Kit.bytes;
import static polymq.conformance.Kit.check;
import static polymq.conformance.Kit.text;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class ExactlyOnce {
    private static final int PARTITIONS = 4, SOURCES = 2, COPIERS = 2, RECORDS_MAX = 20;
    private static final long STALL_NANOS_MAX = 120_000_000_000L;

    private final String bootstrap, protocol, from, to, group;
    private final long seed;
    private volatile boolean sourcesStop, copiersStop;
    private volatile String fault;
    private volatile String lastError = "none";
    private volatile long lastProgress = System.nanoTime();
    /** When a copier's transaction was last committed. */
    private volatile long lastCopied = System.nanoTime();
    private final AtomicLong copied = new AtomicLong(), fenced = new AtomicLong(), rebalances = new AtomicLong(), recovered = new AtomicLong(),
        aborted = new AtomicLong(), committed = new AtomicLong(), unknown = new AtomicLong();

    /** What a source knows of its transactions: by their number. */
    private enum Fate { COMMITTED, ABORTED, UNKNOWN }

    private final List<List<Fate>> fates = new ArrayList<>();
    private final List<List<Integer>> sizes = new ArrayList<>();

    private ExactlyOnce(String bootstrap, long seed, String protocol) {
        this.bootstrap = bootstrap;
        this.seed = seed;
        this.protocol = protocol;
        from = "exactly-" + seed + "-from";
        to = "exactly-" + seed + "-to";
        group = "exactly-" + seed;
        for (int i = 0; i < SOURCES; i++) {
            fates.add(new ArrayList<>());
            sizes.add(new ArrayList<>());
        }
    }

    public static void main(String[] args) throws Exception {
        ExactlyOnce test = new ExactlyOnce(args[0], Long.parseLong(args[1]), args[2]);
        try {
            System.out.println("ok " + test.run());
        } catch (Throwable error) {
            System.out.println("FAIL " + String.valueOf(error.getMessage() == null ? error : error.getMessage()).replaceAll("\\s+", " "));
            if (System.getenv("CONFORMANCE_TRACE") != null) error.printStackTrace();
        }
        System.out.flush();
        // Clients that wait for a broker must not hold up the exit.
        Runtime.getRuntime().halt(0);
    }

    private Map<String, Object> config(Object... pairs) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "reconnect.backoff.ms", 20,
            "reconnect.backoff.max.ms", 200, "retry.backoff.ms", 20, "retry.backoff.max.ms", 200, "metadata.max.age.ms", 5_000,
            "request.timeout.ms", 5_000));
        for (int i = 0; i < pairs.length; i += 2) config.put((String) pairs[i], pairs[i + 1]);
        return config;
    }

    private String run() throws Exception {
        try (Admin admin = Admin.create(config())) {
            admin.createTopics(List.of(new NewTopic(from, PARTITIONS, (short) 1), new NewTopic(to, PARTITIONS, (short) 1))).all().get();
        }
        List<Thread> sources = new ArrayList<>(), copiers = new ArrayList<>();
        for (int i = 0; i < SOURCES; i++) sources.add(thread("source", i, this::source));
        for (int i = 0; i < COPIERS; i++) copiers.add(thread("copier", i, this::copier));
        Thread finish = new Thread(() -> {
            try {
                String line = new BufferedReader(new InputStreamReader(System.in)).readLine();
                if (line == null) Runtime.getRuntime().halt(1);
                sourcesStop = true;
            } catch (Exception gone) {
                Runtime.getRuntime().halt(1);
            }
        });
        finish.setDaemon(true);
        finish.start();
        long told = System.nanoTime();
        while (sources.stream().anyMatch(Thread::isAlive)) {
            Thread.sleep(100);
            watch();
            if (System.nanoTime() - told > 5_000_000_000L) {
                told = System.nanoTime();
                System.out.println("progress " + counts());
                System.out.flush();
            }
        }
        long[][] source = readAll(from, null);
        long[][] copy = readAll(to, source);
        copiersStop = true;
        for (Thread copier : copiers) copier.join(90_000);
        if (fault != null) throw new IllegalStateException(fault);
        long total = checkSource(source);
        // Once more, now that nobody writes: nothing may come after the end.
        copy = readAll(to, null);
        for (int p = 0; p < PARTITIONS; p++) checkSame(p, source[p], copy[p]);
        return total + " records in " + counts();
    }

    private String counts() {
        return committed + " transactions committed, " + aborted + " aborted, " + unknown + " unknown; " + copied + " records copied, "
            + fenced + " zombies fenced, " + rebalances + " assignments, " + recovered + " recoveries; last error: " + lastError;
    }

    private void watch() {
        if (fault != null) throw new IllegalStateException(fault);
        if (System.nanoTime() - lastProgress > STALL_NANOS_MAX)
            throw new IllegalStateException("nothing was committed for two minutes; " + counts());
        // Else most of a run could go by without a copy, and the end would look the same.
        if (System.nanoTime() - lastCopied > STALL_NANOS_MAX)
            throw new IllegalStateException("nothing was copied for two minutes; " + counts());
    }

    private interface Work { void run(int index) throws Exception; }

    private Thread thread(String name, int index, Work work) {
        Thread thread = new Thread(() -> {
            try {
                work.run(index);
            } catch (Throwable error) {
                fault = name + " " + index + ": " + error;
                if (System.getenv("CONFORMANCE_TRACE") != null) error.printStackTrace();
            }
        }, name + index);
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    private void note(String where, Throwable error) {
        recovered.incrementAndGet();
        lastError = (where + ": " + error).replaceAll("\\s+", " ");
        if (System.getenv("CONFORMANCE_TRACE") != null) System.err.println(Thread.currentThread().getName() + " " + lastError);
    }

    // ---- producers that survive -------------------------------------------------------------------------------------

    private KafkaProducer<byte[], byte[]> producer(String id) {
        while (true) {
            KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(config("transactional.id", id, "transaction.timeout.ms", 20_000,
                "max.block.ms", 20_000, "delivery.timeout.ms", 30_000, "linger.ms", 0), new ByteArraySerializer(), new ByteArraySerializer());
            try {
                producer.initTransactions();
                return producer;
            } catch (RuntimeException error) {
                note("init", error);
                producer.close(Duration.ZERO);
                watchQuietly();
            }
        }
    }

    private void watchQuietly() {
        if (fault != null) throw new IllegalStateException("another thread failed");
    }

    /** Commits; a time-out says nothing, so it is asked again, which the client allows. */
    private void commit(KafkaProducer<byte[], byte[]> producer) {
        long end = System.nanoTime() + STALL_NANOS_MAX;
        while (true) {
            try {
                producer.commitTransaction();
                lastProgress = System.nanoTime();
                return;
            } catch (TimeoutException again) {
                note("commit", again);
                if (System.nanoTime() > end) throw again;
            }
        }
    }

    /** True if the producer can go on after this abort. */
    private boolean abort(KafkaProducer<byte[], byte[]> producer) {
        try {
            producer.abortTransaction();
            return true;
        } catch (RuntimeException error) {
            note("abort", error);
            producer.close(Duration.ZERO);
            return false;
        }
    }

    private void source(int index) {
        Random random = new Random(seed * 31 + index);
        List<Fate> fate = fates.get(index);
        List<Integer> size = sizes.get(index);
        KafkaProducer<byte[], byte[]> producer = null;
        while (!sourcesStop) {
            if (producer == null) producer = producer(group + "-source-" + index);
            int number = fate.size(), count = 1 + random.nextInt(RECORDS_MAX);
            size.add(count);
            fate.add(Fate.ABORTED);
            boolean committing = false;
            try {
                producer.beginTransaction();
                for (int i = 0; i < count; i++)
                    producer.send(new ProducerRecord<>(from, random.nextInt(PARTITIONS), null, bytes(index + ":" + number + ":" + i)));
                if (random.nextInt(10) == 0) {
                    aborted.incrementAndGet();
                    if (!abort(producer)) producer = null;
                    continue;
                }
                committing = true;
                commit(producer);
                fate.set(number, Fate.COMMITTED);
                committed.incrementAndGet();
            } catch (RuntimeException error) {
                note("source", error);
                // Until commit was asked for, nothing can have been committed.
                if (committing) {
                    fate.set(number, Fate.UNKNOWN);
                    unknown.incrementAndGet();
                    producer.close(Duration.ZERO);
                    producer = null;
                } else {
                    aborted.incrementAndGet();
                    if (!abort(producer)) producer = null;
                }
            }
            java.util.concurrent.locks.LockSupport.parkNanos(2_000_000);
        }
        if (producer != null) producer.close(Duration.ofSeconds(5));
    }

    // ---- copiers ----------------------------------------------------------------------------------------------------

    private KafkaConsumer<byte[], byte[]> consumer(Object... more) {
        Map<String, Object> config = config("isolation.level", "read_committed", "enable.auto.commit", "false", "auto.offset.reset", "earliest",
            "default.api.timeout.ms", 30_000);
        config.putAll(config(more));
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private KafkaConsumer<byte[], byte[]> member() {
        KafkaConsumer<byte[], byte[]> consumer = "consumer".equals(protocol)
            ? consumer("group.id", group, "group.protocol", protocol, "max.poll.records", 200)
            : consumer("group.id", group, "session.timeout.ms", 10_000, "heartbeat.interval.ms", 500, "max.poll.records", 200);
        consumer.subscribe(List.of(from), new ConsumerRebalanceListener() {
            @Override public void onPartitionsRevoked(Collection<TopicPartition> gone) { }
            @Override public void onPartitionsAssigned(Collection<TopicPartition> come) { rebalances.incrementAndGet(); }
        });
        return consumer;
    }

    /** Reads on from what is committed; false if the consumer is of no more use. */
    private boolean rewind(KafkaConsumer<byte[], byte[]> consumer) {
        try {
            Map<TopicPartition, OffsetAndMetadata> found = consumer.committed(consumer.assignment());
            for (TopicPartition partition : consumer.assignment()) {
                OffsetAndMetadata offset = found.get(partition);
                consumer.seek(partition, offset == null ? 0 : offset.offset());
            }
            return true;
        } catch (RuntimeException error) {
            note("rewind", error);
            close(consumer);
            return false;
        }
    }

    private static void close(KafkaConsumer<byte[], byte[]> consumer) {
        try {
            consumer.close(Duration.ofSeconds(1));
        } catch (RuntimeException unreachable) {
            // Its session will end.
        }
    }

    private void send(KafkaProducer<byte[], byte[]> producer, KafkaConsumer<byte[], byte[]> consumer, ConsumerRecords<byte[], byte[]> records) {
        Map<TopicPartition, OffsetAndMetadata> done = new HashMap<>();
        for (ConsumerRecord<byte[], byte[]> record : records) {
            producer.send(new ProducerRecord<>(to, record.partition(), null, record.value()));
            done.put(new TopicPartition(from, record.partition()), new OffsetAndMetadata(record.offset() + 1));
        }
        producer.sendOffsetsToTransaction(done, consumer.groupMetadata());
    }

    private void copier(int index) {
        Random random = new Random(seed * 37 + index);
        String id = group + "-copier-" + index;
        KafkaProducer<byte[], byte[]> producer = null;
        KafkaConsumer<byte[], byte[]> consumer = null;
        while (!copiersStop) {
            if (producer == null) producer = producer(id);
            if (consumer == null) consumer = member();
            boolean committing = false;
            try {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
                if (records.isEmpty()) continue;
                int fate = random.nextInt(100);
                producer.beginTransaction();
                send(producer, consumer, records);
                if (fate < 5) {
                    if (!abort(producer)) producer = null;
                    if (!rewind(consumer)) consumer = null;
                } else if (fate < 7) {
                    // Left to a successor, which fences this one.
                    producer.flush();
                    KafkaProducer<byte[], byte[]> successor = producer(id);
                    KafkaProducer<byte[], byte[]> zombie = producer;
                    producer = successor;
                    try {
                        commit(zombie);
                        throw new Error("a zombie committed " + records.count() + " records");
                    } catch (RuntimeException refused) {
                        fenced.incrementAndGet();
                    }
                    zombie.close(Duration.ZERO);
                    if (!rewind(consumer)) consumer = null;
                } else if (fate < 8) {
                    // Gone without a word, as by a crash.
                    producer.close(Duration.ZERO);
                    producer = null;
                    close(consumer);
                    consumer = null;
                } else {
                    committing = true;
                    commit(producer);
                    copied.addAndGet(records.count());
                    lastCopied = System.nanoTime();
                }
            } catch (RuntimeException error) {
                note("copier", error);
                if (committing) {
                    producer.close(Duration.ZERO);
                    producer = null;
                } else if (!abort(producer)) {
                    producer = null;
                }
                // The successor's start settles what became of the transaction; only then the committed offsets are known.
                if (producer == null) producer = producer(id);
                if (!rewind(consumer)) consumer = null;
            }
        }
        if (producer != null) producer.close(Duration.ofSeconds(5));
        if (consumer != null) close(consumer);
    }

    // ---- what must hold ---------------------------------------------------------------------------------------------

    /** One record as a number: the source, its transaction, its place in it. */
    private static long code(String value) {
        String[] parts = value.split(":");
        return (Long.parseLong(parts[1]) * SOURCES + Long.parseLong(parts[0])) * RECORDS_MAX + Long.parseLong(parts[2]);
    }

    /**
     * Everything committed in a topic, by partition: up to its end now, or, if `wanted` is given, until it holds as much as
     * that; each record is compared as it comes.
     */
    private long[][] readAll(String topic, long[][] wanted) {
        List<TopicPartition> partitions = Kit.partitions(topic, PARTITIONS);
        long[][] found = new long[PARTITIONS][1024];
        int[] count = new int[PARTITIONS];
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("max.poll.records", 5_000)) {
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            // Committed means: before the first open transaction. The sources have ended, but one that was left open takes its time-out.
            long deadline = System.nanoTime() + STALL_NANOS_MAX;
            Map<TopicPartition, Long> ends = null;
            while (ends == null) {
                Map<TopicPartition, Long> stable = consumer.endOffsets(partitions);
                try (KafkaConsumer<byte[], byte[]> dirty = consumer("isolation.level", "read_uncommitted")) {
                    if (wanted != null || stable.equals(dirty.endOffsets(partitions))) ends = stable;
                }
                check(System.nanoTime() < deadline, topic + " has an open transaction that nobody ends: stable offsets " + stable);
            }
            while (true) {
                boolean done = true;
                for (int p = 0; p < PARTITIONS; p++)
                    done &= wanted == null ? consumer.position(partitions.get(p)) >= ends.get(partitions.get(p)) : count[p] >= wanted[p].length;
                if (done) break;
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
                if (!records.isEmpty()) deadline = System.nanoTime() + STALL_NANOS_MAX;
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    int p = record.partition();
                    if (count[p] == found[p].length) found[p] = java.util.Arrays.copyOf(found[p], count[p] * 2);
                    long code = code(text(record.value()));
                    if (wanted != null && count[p] < wanted[p].length && wanted[p][count[p]] != code)
                        throw new IllegalStateException("partition " + p + " of the copy, record " + count[p] + " (offset " + record.offset() + "): "
                            + name(code) + ", wanted " + name(wanted[p][count[p]]));
                    found[p][count[p]++] = code;
                }
                if (fault != null) throw new IllegalStateException(fault);
                if (System.nanoTime() > deadline)
                    throw new IllegalStateException("no more records of " + topic + " come: " + java.util.Arrays.toString(count)
                        + (wanted == null ? "" : " of " + List.of(wanted).stream().map(w -> "" + w.length).collect(Collectors.joining(", "))) + "; " + counts());
            }
        }
        for (int p = 0; p < PARTITIONS; p++) found[p] = java.util.Arrays.copyOf(found[p], count[p]);
        return found;
    }

    private static String name(long code) {
        long transaction = code / RECORDS_MAX;
        return "record " + code % RECORDS_MAX + " of transaction " + transaction / SOURCES + " of source " + transaction % SOURCES;
    }

    private static void checkSame(int partition, long[] wanted, long[] found) {
        int at = java.util.Arrays.mismatch(wanted, found);
        if (at >= 0)
            throw new IllegalStateException("partition " + partition + " of the copy has " + found.length + " records, the source " + wanted.length
                + "; they differ at " + at + (at < found.length ? ", where the copy has " + name(found[at]) : ""));
    }

    /** Whole transactions only, all that were committed, none that was aborted, none twice, each source's in order. */
    private long checkSource(long[][] found) {
        List<int[]> counts = sizes.stream().map(size -> new int[size.size()]).collect(Collectors.toList());
        java.util.Set<Long> seen = new java.util.HashSet<>();
        long total = 0;
        for (int p = 0; p < PARTITIONS; p++) {
            long[] last = {-1, -1};
            for (long code : found[p]) {
                int source = (int) (code / RECORDS_MAX % SOURCES), number = (int) (code / RECORDS_MAX / SOURCES);
                check(seen.add(code), name(code) + " is there twice");
                check(code > last[source], name(code) + " is out of order in partition " + p);
                last[source] = code;
                counts.get(source)[number]++;
                total++;
            }
        }
        for (int source = 0; source < SOURCES; source++) {
            for (int number = 0; number < counts.get(source).length; number++) {
                int count = counts.get(source)[number], size = sizes.get(source).get(number);
                Fate fate = fates.get(source).get(number);
                String which = "transaction " + number + " of source " + source + " (" + fate + ", " + size + " records)";
                check(count == 0 || count == size, which + " is there in part: " + count);
                check(fate != Fate.COMMITTED || count == size, which + " is lost");
                check(fate != Fate.ABORTED || count == 0, which + " is visible");
            }
        }
        return total;
    }
}
