// Transactions: what is committed appears at once, what is aborted never does, and a zombie is fenced.
package polymq.conformance;

import static polymq.conformance.Kit.bytes;
import static polymq.conformance.Kit.check;
import static polymq.conformance.Kit.fails;
import static polymq.conformance.Kit.get;
import static polymq.conformance.Kit.partitions;
import static polymq.conformance.Kit.same;
import static polymq.conformance.Kit.text;
import static polymq.conformance.Kit.until;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.admin.TransactionListing;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TransactionalIdNotFoundException;

final class TransactionCases {
    private static final Object[] COMMITTED = {"isolation.level", "read_committed"};

    static void register(Map<String, Main.Case> cases) {
        cases.put("tx_commit", TransactionCases::commit);
        cases.put("tx_abort", TransactionCases::abort);
        cases.put("tx_many_partitions", TransactionCases::manyPartitions);
        cases.put("tx_sequence", TransactionCases::sequence);
        cases.put("tx_offsets", TransactionCases::offsets);
        cases.put("tx_consume_transform_produce", TransactionCases::consumeTransformProduce);
        cases.put("tx_zombie_fenced", TransactionCases::zombieFenced);
        cases.put("tx_timeout", TransactionCases::timeout);
        cases.put("tx_errors", TransactionCases::errors);
        cases.put("tx_admin_describe", TransactionCases::adminDescribe);
        cases.put("tx_admin_abort", TransactionCases::adminAbort);
        cases.put("tx_admin_fence", TransactionCases::adminFence);
    }

    private static KafkaProducer<byte[], byte[]> transactional(Kit kit, String id, Object... more) {
        List<Object> pairs = new ArrayList<>(List.of("transactional.id", id));
        pairs.addAll(List.of(more));
        KafkaProducer<byte[], byte[]> producer = kit.producer(pairs.toArray());
        producer.initTransactions();
        return producer;
    }

    private static List<String> texts(List<ConsumerRecord<byte[], byte[]>> records) {
        return records.stream().map(record -> text(record.value())).collect(Collectors.toList());
    }

    private static List<String> numbered(String prefix, int count) {
        return IntStream.range(0, count).mapToObj(i -> prefix + i).collect(Collectors.toList());
    }

    /** Where `read_committed` ends now. */
    private static long stableOffset(Kit kit, TopicPartition partition) {
        try (KafkaConsumer<byte[], byte[]> consumer = kit.looseConsumer(COMMITTED)) {
            return consumer.endOffsets(List.of(partition)).get(partition);
        }
    }

    private static void commit(Kit kit) throws Exception {
        String topic = kit.topic(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        KafkaProducer<byte[], byte[]> producer = transactional(kit, kit.unique("tx"), "compression.type", "lz4");
        KafkaConsumer<byte[], byte[]> committed = kit.consumer(COMMITTED);
        committed.assign(List.of(partition));
        committed.seekToBeginning(List.of(partition));

        producer.beginTransaction();
        kit.send(producer, topic, 0, "a", 50);
        same(numbered("a", 50), texts(kit.readAll(topic, 1, 50)), "read_uncommitted, before the commit");
        same(0, committed.poll(Duration.ofMillis(500)).count(), "records read_committed sees before the commit");
        same(0L, stableOffset(kit, partition), "stable offset of an open transaction");
        // Fetches tell it too: by that the client computes how far it is behind.
        until("a fetch was answered", () -> {
            same(0, committed.poll(Duration.ofMillis(100)).count(), "records read_committed sees before the commit");
            return committed.currentLag(partition).isPresent();
        });
        same(0L, committed.currentLag(partition).getAsLong(), "records up to the stable offset");
        producer.commitTransaction();
        same(numbered("a", 50), texts(kit.read(committed, 50)), "read_committed, after the commit");

        // The marker has an offset of its own, which no consumer is given.
        until("the end is behind the marker", () -> stableOffset(kit, partition) == 51);
        producer.beginTransaction();
        producer.commitTransaction();
        producer.beginTransaction();
        same(51L, kit.send(producer, topic, 0, "b", 1).get(0).offset(), "offset after the marker");
        producer.commitTransaction();
        same("b0", text(kit.read(committed, 1).get(0).value()), "the second transaction");
        until("the position is behind the last marker", () -> {
            committed.poll(Duration.ofMillis(100));
            return committed.position(partition) == 53;
        });
    }

    private static void abort(Kit kit) throws Exception {
        String topic = kit.topic(1);
        KafkaProducer<byte[], byte[]> plain = kit.producer();
        KafkaProducer<byte[], byte[]> first = transactional(kit, kit.unique("tx"));
        KafkaProducer<byte[], byte[]> second = transactional(kit, kit.unique("tx"));

        // Two transactions and records outside of any, interleaved; one transaction is aborted.
        first.beginTransaction();
        second.beginTransaction();
        kit.send(first, topic, 0, "first-", 3);
        kit.send(plain, topic, 0, "plain-", 3);
        kit.send(second, topic, 0, "second-", 3);
        kit.send(first, topic, 0, "more-", 2);
        second.commitTransaction();
        // Nothing behind the open transaction is stable, committed or not.
        same(0L, stableOffset(kit, new TopicPartition(topic, 0)), "stable offset while the first is open");
        first.abortTransaction();
        kit.send(plain, topic, 0, "end-", 1);
        List<String> wanted = new ArrayList<>(numbered("plain-", 3));
        wanted.addAll(numbered("second-", 3));
        wanted.add("end-0");
        same(wanted, texts(kit.readAll(topic, 1, 7, COMMITTED)), "read_committed");
        same(12, kit.readAll(topic, 1, 12).size(), "read_uncommitted");

        // The same producer goes on, and the aborted range stays aborted.
        first.beginTransaction();
        kit.send(first, topic, 0, "again-", 2);
        first.commitTransaction();
        wanted.addAll(numbered("again-", 2));
        same(wanted, texts(kit.readAll(topic, 1, 9, COMMITTED)), "read_committed, after one more transaction");
        // Starting inside of the aborted transaction makes no difference.
        KafkaConsumer<byte[], byte[]> inside = kit.consumer(COMMITTED);
        inside.assign(partitions(topic, 1));
        inside.seek(new TopicPartition(topic, 0), 1);
        same(wanted, texts(kit.read(inside, 9)), "read_committed from offset 1");
    }

    private static void manyPartitions(Kit kit) throws Exception {
        String one = kit.topic(6);
        String two = kit.topic(3);
        KafkaProducer<byte[], byte[]> producer = transactional(kit, kit.unique("tx"));
        for (int round = 0; round < 10; round++) {
            producer.beginTransaction();
            for (int i = 0; i < 30; i++) {
                producer.send(new ProducerRecord<>(one, i % 6, null, bytes(round + ":" + i)));
                producer.send(new ProducerRecord<>(two, i % 3, null, bytes(round + ":" + i)));
            }
            if (round % 3 == 2) producer.abortTransaction();
            else producer.commitTransaction();
        }
        Set<String> wanted = new HashSet<>();
        for (int round = 0; round < 10; round++)
            for (int i = 0; i < 30 && round % 3 != 2; i++) wanted.add(round + ":" + i);
        for (Map.Entry<String, Integer> topic : Map.of(one, 6, two, 3).entrySet()) {
            List<String> got = texts(kit.readAll(topic.getKey(), topic.getValue(), wanted.size(), COMMITTED));
            same(wanted.size(), got.size(), "records");
            same(wanted, new HashSet<>(got), "what is in " + topic.getKey());
        }
    }

    /** Many short transactions of one producer, restarted in between under the same id: each record once, in order. */
    private static void sequence(Kit kit) throws Exception {
        String topic = kit.topic(1);
        String id = kit.unique("tx");
        List<String> wanted = new ArrayList<>();
        for (int life = 0; life < 4; life++) {
            KafkaProducer<byte[], byte[]> producer = transactional(kit, id);
            for (int i = 0; i < 50; i++) {
                String prefix = life + "-" + i + "-";
                producer.beginTransaction();
                for (int k = 0; k < 3; k++) producer.send(new ProducerRecord<>(topic, 0, null, bytes(prefix + k)));
                if (i % 5 == 4) {
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                    wanted.addAll(numbered(prefix, 3));
                }
            }
            producer.close();
        }
        same(wanted, texts(kit.readAll(topic, 1, wanted.size(), COMMITTED)), "records");
    }

    private static void offsets(Kit kit) throws Exception {
        String topic = kit.topic(2);
        String group = kit.unique("group");
        TopicPartition partition = new TopicPartition(topic, 0);
        KafkaProducer<byte[], byte[]> producer = transactional(kit, kit.unique("tx"));
        KafkaConsumer<byte[], byte[]> consumer = kit.consumer("group.id", group);
        Map<TopicPartition, OffsetAndMetadata> ten = Map.of(partition, new OffsetAndMetadata(10, "ten"));

        producer.beginTransaction();
        producer.sendOffsetsToTransaction(ten, consumer.groupMetadata());
        same(null, administered(kit, group, partition), "committed while the transaction is open");
        producer.abortTransaction();
        same(null, consumer.committed(Set.of(partition)).get(partition), "committed after the abort");

        producer.beginTransaction();
        producer.sendOffsetsToTransaction(ten, consumer.groupMetadata());
        producer.commitTransaction();
        same(new OffsetAndMetadata(10, "ten"), withoutEpoch(consumer.committed(Set.of(partition)).get(partition)), "committed after the commit");

        producer.beginTransaction();
        producer.sendOffsetsToTransaction(Map.of(partition, new OffsetAndMetadata(20)), consumer.groupMetadata());
        same(10L, administered(kit, group, partition).offset(), "committed while the next is open");
        // A consumer that wants to know where to begin waits for the open transaction instead of taking the old offset.
        try (KafkaConsumer<byte[], byte[]> other = kit.looseConsumer("group.id", group, "default.api.timeout.ms", 1_500)) {
            fails(org.apache.kafka.common.errors.TimeoutException.class, "a consumer's look at a pending offset",
                () -> other.committed(Set.of(partition)));
            same(null, other.committed(Set.of(new TopicPartition(topic, 1))).get(new TopicPartition(topic, 1)), "of another partition");
        }
        producer.commitTransaction();
        same(20L, consumer.committed(Set.of(partition)).get(partition).offset(), "committed at last");
    }

    private static OffsetAndMetadata withoutEpoch(OffsetAndMetadata found) {
        return found == null ? null : new OffsetAndMetadata(found.offset(), found.metadata());
    }

    private static OffsetAndMetadata administered(Kit kit, String group, TopicPartition partition) throws Exception {
        return get(kit.admin().listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).get(partition);
    }

    /** Copies a topic with two members that take turns, aborting now and then: the copy is exact and in order. */
    private static void consumeTransformProduce(Kit kit) throws Exception {
        int partitions = 2, records = 600;
        String from = kit.topic(partitions);
        String to = kit.topic(partitions);
        String group = kit.unique("group");
        KafkaProducer<byte[], byte[]> source = kit.producer();
        for (int p = 0; p < partitions; p++) kit.send(source, from, p, "v", records);
        int copied = 0;
        for (int life = 0; copied < partitions * records; life++) {
            KafkaProducer<byte[], byte[]> producer = transactional(kit, group);
            try (KafkaConsumer<byte[], byte[]> consumer =
                    kit.looseConsumer("group.id", group, "max.poll.records", 40, "isolation.level", "read_committed")) {
                consumer.subscribe(List.of(from));
                for (int turn = 0; turn < 8 && copied < partitions * records; turn++) {
                    ConsumerRecords<byte[], byte[]> read = consumer.poll(Duration.ofSeconds(10));
                    producer.beginTransaction();
                    Map<TopicPartition, OffsetAndMetadata> done = new HashMap<>();
                    for (ConsumerRecord<byte[], byte[]> record : read) {
                        producer.send(new ProducerRecord<>(to, record.partition(), record.key(), record.value()));
                        done.put(new TopicPartition(from, record.partition()), new OffsetAndMetadata(record.offset() + 1));
                    }
                    producer.sendOffsetsToTransaction(done, consumer.groupMetadata());
                    if (turn == 4) {
                        // This member dies with its transaction open; its successor fences it and begins where it began.
                        producer.flush();
                        break;
                    }
                    if (turn == 2) {
                        producer.abortTransaction();
                        for (TopicPartition partition : consumer.assignment()) {
                            OffsetAndMetadata committed = consumer.committed(Set.of(partition)).get(partition);
                            consumer.seek(partition, committed == null ? 0 : committed.offset());
                        }
                        continue;
                    }
                    producer.commitTransaction();
                    copied += read.count();
                }
            }
        }
        for (int p = 0; p < partitions; p++) {
            KafkaConsumer<byte[], byte[]> reader = kit.consumer(COMMITTED);
            reader.assign(List.of(new TopicPartition(to, p)));
            reader.seekToBeginning(reader.assignment());
            List<ConsumerRecord<byte[], byte[]>> got = kit.read(reader, records);
            got.addAll(kit.read(reader, 0));
            reader.poll(Duration.ofMillis(300)).forEach(got::add);
            same(numbered("v", records), texts(got), "the copy of partition " + p);
        }
    }

    private static boolean fenced(Throwable error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause())
            if (cause instanceof ProducerFencedException || cause instanceof InvalidProducerEpochException) return true;
        return false;
    }

    private static void mustBeFenced(String what, org.apache.kafka.common.utils.Utils.SwallowAction call) {
        try {
            call.run();
        } catch (Throwable error) {
            check(fenced(error), what + " ended with " + error + ", which is no fencing");
            return;
        }
        throw new AssertionError(what + " succeeded");
    }

    private static void zombieFenced(Kit kit) throws Exception {
        String topic = kit.topic(1);
        String id = kit.unique("tx");
        KafkaProducer<byte[], byte[]> zombie = transactional(kit, id);
        zombie.beginTransaction();
        kit.send(zombie, topic, 0, "zombie", 5);
        // The heir's start aborts what the zombie left open.
        KafkaProducer<byte[], byte[]> heir = transactional(kit, id);
        same(0, kit.readAll(topic, 1, 0, COMMITTED).size(), "records of the zombie");
        heir.beginTransaction();
        kit.send(heir, topic, 0, "heir", 5);
        mustBeFenced("the zombie's commit", () -> {
            zombie.send(new ProducerRecord<>(topic, 0, null, bytes("zombie-late"))).get();
            zombie.commitTransaction();
        });
        heir.commitTransaction();
        same(numbered("heir", 5), texts(kit.readAll(topic, 1, 5, COMMITTED)), "what is committed");

        // Fenced without having had anything open, too.
        KafkaProducer<byte[], byte[]> third = transactional(kit, id);
        heir.beginTransaction();
        mustBeFenced("the heir's send", () -> {
            heir.send(new ProducerRecord<>(topic, 0, null, bytes("late"))).get();
            heir.commitTransaction();
        });
        third.beginTransaction();
        kit.send(third, topic, 0, "third", 1);
        third.commitTransaction();
        same("third0", texts(kit.readAll(topic, 1, 6, COMMITTED)).get(5), "the last");
    }

    private static void timeout(Kit kit) throws Exception {
        String topic = kit.topic(1);
        String id = kit.unique("tx");
        KafkaProducer<byte[], byte[]> producer = transactional(kit, id, "transaction.timeout.ms", 1_500);
        producer.beginTransaction();
        kit.send(producer, topic, 0, "abandoned", 3);
        kit.send(kit.producer(), topic, 0, "plain", 1);
        // Apache Kafka looks for abandoned transactions every ten seconds.
        same(List.of("plain0"), texts(kit.readAll(topic, 1, 1, COMMITTED)), "read_committed, once the transaction timed out");
        until("its state says so", () -> {
            TransactionState state = get(kit.admin().describeTransactions(List.of(id)).description(id)).state();
            return state == TransactionState.COMPLETE_ABORT;
        });
        try {
            producer.commitTransaction();
            throw new AssertionError("the commit of a transaction that timed out succeeded");
        } catch (KafkaException refused) {
            // Which error it is depends on the client's version and on the broker's; that it is one does not.
        }
        KafkaProducer<byte[], byte[]> next = transactional(kit, id);
        next.beginTransaction();
        kit.send(next, topic, 0, "next", 1);
        next.commitTransaction();
        same(List.of("plain0", "next0"), texts(kit.readAll(topic, 1, 2, COMMITTED)), "after a new start");
    }

    private static void errors(Kit kit) throws Exception {
        KafkaProducer<byte[], byte[]> patient = kit.producer("transactional.id", kit.unique("tx"), "transaction.timeout.ms", 3_600_000);
        // Clients give this error no class of its own, only its text.
        KafkaException tooLong = fails(KafkaException.class, "a time-out of an hour", () -> { patient.initTransactions(); return null; });
        check(tooLong.getMessage().contains("transaction timeout is larger than the maximum"), "refused with " + tooLong);

        // A batch that the broker refuses dooms its transaction, not its producer.
        String topic = kit.topic(1, "max.message.bytes", "10000");
        KafkaProducer<byte[], byte[]> producer = transactional(kit, kit.unique("tx"));
        producer.beginTransaction();
        kit.send(producer, topic, 0, "doomed", 2);
        Future<RecordMetadata> large = producer.send(new ProducerRecord<>(topic, 0, null, new byte[50_000]));
        fails(RecordTooLargeException.class, "50 kB into a topic of 10 kB", large::get);
        try {
            producer.commitTransaction();
            throw new AssertionError("a doomed transaction was committed");
        } catch (KafkaException refused) {
            producer.abortTransaction();
        }
        producer.beginTransaction();
        kit.send(producer, topic, 0, "fine", 2);
        producer.commitTransaction();
        same(numbered("fine", 2), texts(kit.readAll(topic, 1, 2, COMMITTED)), "read_committed");
    }

    private static void adminDescribe(Kit kit) throws Exception {
        String topic = kit.topic(2);
        TopicPartition partition = new TopicPartition(topic, 1);
        String id = kit.unique("tx");
        fails(TransactionalIdNotFoundException.class, "an id that nobody used",
            () -> get(kit.admin().describeTransactions(List.of(id)).description(id)));
        KafkaProducer<byte[], byte[]> producer = transactional(kit, id, "transaction.timeout.ms", 45_000);
        TransactionDescription described = get(kit.admin().describeTransactions(List.of(id)).description(id));
        same(TransactionState.EMPTY, described.state(), "state before anything");

        long before = System.currentTimeMillis();
        kit.send(kit.producer(), topic, 1, "plain", 4);
        producer.beginTransaction();
        kit.send(producer, topic, 1, "v", 3);
        described = get(kit.admin().describeTransactions(List.of(id)).description(id));
        same(TransactionState.ONGOING, described.state(), "state");
        same(Set.of(partition), described.topicPartitions(), "partitions");
        same(45_000L, described.transactionTimeoutMs(), "time-out");
        long started = described.transactionStartTimeMs().getAsLong();
        check(Math.abs(started - before) < 60_000, "the transaction started at " + started + ", not about " + before);
        long producerId = described.producerId();

        TransactionListing listed = listing(kit, id, new ListTransactionsOptions());
        same(TransactionState.ONGOING, listed.state(), "state in the list");
        same(producerId, listed.producerId(), "producer id in the list");
        check(listing(kit, id, new ListTransactionsOptions().filterStates(Set.of(TransactionState.ONGOING))) != null, "found by state");
        check(listing(kit, id, new ListTransactionsOptions().filterStates(Set.of(TransactionState.COMPLETE_COMMIT))) == null, "not found by another state");
        check(listing(kit, id, new ListTransactionsOptions().filterProducerIds(Set.of(producerId))) != null, "found by producer");
        check(listing(kit, id, new ListTransactionsOptions().filterProducerIds(Set.of(producerId + 1_000_000))) == null, "not found by another producer");
        check(listing(kit, id, new ListTransactionsOptions().filterOnDuration(3_600_000)) == null, "not open for an hour");

        ProducerState state = active(kit, partition, producerId);
        same(4L, state.currentTransactionStartOffset().getAsLong(), "where the transaction starts");
        same(2, state.lastSequence(), "last sequence");
        same(described.producerEpoch(), state.producerEpoch(), "epoch");
        producer.commitTransaction();
        until("the transaction is complete", () ->
            get(kit.admin().describeTransactions(List.of(id)).description(id)).state() == TransactionState.COMPLETE_COMMIT);
        until("no transaction is open in the partition", () -> {
            ProducerState now = active(kit, partition, producerId);
            return now == null || now.currentTransactionStartOffset().isEmpty();
        });
    }

    private static TransactionListing listing(Kit kit, String id, ListTransactionsOptions options) throws Exception {
        return get(kit.admin().listTransactions(options).all()).stream()
            .filter(found -> found.transactionalId().equals(id)).findFirst().orElse(null);
    }

    private static ProducerState active(Kit kit, TopicPartition partition, long producerId) throws Exception {
        return get(kit.admin().describeProducers(List.of(partition)).partitionResult(partition)).activeProducers().stream()
            .filter(found -> found.producerId() == producerId).findFirst().orElse(null);
    }

    /** An operator ends a hanging transaction in one partition, as `kafka-transactions abort` does. */
    private static void adminAbort(Kit kit) throws Exception {
        String topic = kit.topic(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        String id = kit.unique("tx");
        KafkaProducer<byte[], byte[]> producer = transactional(kit, id);
        producer.beginTransaction();
        kit.send(producer, topic, 0, "hanging", 3);
        kit.send(kit.producer(), topic, 0, "plain", 1);
        same(0L, stableOffset(kit, partition), "stable offset");
        long producerId = get(kit.admin().describeTransactions(List.of(id)).description(id)).producerId();
        ProducerState state = active(kit, partition, producerId);
        AbortTransactionSpec spec = new AbortTransactionSpec(partition, producerId, (short) state.producerEpoch(), state.coordinatorEpoch().orElse(0));
        get(kit.admin().abortTransaction(spec).all());
        same(List.of("plain0"), texts(kit.readAll(topic, 1, 1, COMMITTED)), "read_committed, after the abort");
    }

    private static void adminFence(Kit kit) throws Exception {
        String topic = kit.topic(1);
        String id = kit.unique("tx");
        KafkaProducer<byte[], byte[]> producer = transactional(kit, id);
        producer.beginTransaction();
        kit.send(producer, topic, 0, "fenced", 3);
        long producerId = get(kit.admin().describeTransactions(List.of(id)).description(id)).producerId();
        same(producerId, get(kit.admin().fenceProducers(List.of(id)).producerId(id)), "the fenced producer's id");
        mustBeFenced("the commit", producer::commitTransaction);
        kit.send(kit.producer(), topic, 0, "plain", 1);
        same(List.of("plain0"), texts(kit.readAll(topic, 1, 1, COMMITTED)), "read_committed");

        // One without an open transaction, too.
        String idle = kit.unique("tx");
        KafkaProducer<byte[], byte[]> quiet = transactional(kit, idle);
        get(kit.admin().fenceProducers(List.of(idle)).all());
        quiet.beginTransaction();
        mustBeFenced("the send", () -> {
            quiet.send(new ProducerRecord<>(topic, 0, null, bytes("late"))).get();
            quiet.commitTransaction();
        });
    }
}
