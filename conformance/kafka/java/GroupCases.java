// Consumer groups: members that come and go, static members, commits that are found again.
package polymq.conformance;

import static polymq.conformance.Kit.check;
import static polymq.conformance.Kit.get;
import static polymq.conformance.Kit.partitions;
import static polymq.conformance.Kit.same;
import static polymq.conformance.Kit.text;
import static polymq.conformance.Kit.until;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;

final class GroupCases {
    static void register(Map<String, Main.Case> cases) {
        cases.put("group_rebalance", kit -> rebalance(kit, RangeAssignor.class.getName()));
        cases.put("group_cooperative", kit -> rebalance(kit, CooperativeStickyAssignor.class.getName()));
        cases.put("group_session_timeout", GroupCases::sessionTimeout);
        cases.put("static_membership", GroupCases::staticMembership);
        cases.put("commit_resume", GroupCases::commitResume);
        cases.put("auto_commit", GroupCases::autoCommit);
        cases.put("pattern_subscribe", GroupCases::patternSubscribe);
    }

    /** A member on a thread of its own: polls, notes what it read, commits, until told to leave. */
    static final class Member implements AutoCloseable {
        final Set<Integer> owned = ConcurrentHashMap.newKeySet();
        final AtomicInteger assignments = new AtomicInteger();
        volatile Throwable failure;
        /** What was given to this member while another still had it. */
        volatile TopicPartition doubled;
        /** Who has a partition of a group: nobody else may be given it before it was taken away. */
        private static final ConcurrentMap<String, Member> OWNERS = new ConcurrentHashMap<>();
        private volatile boolean leaving;
        private final Thread thread;

        Member(Kit kit, String group, String topic, ConcurrentMap<String, Integer> seen, Object... pairs) {
            List<Object> all = new ArrayList<>(List.of(pairs));
            all.addAll(List.of("group.id", group));
            thread = new Thread(() -> {
                try (KafkaConsumer<byte[], byte[]> consumer = kit.looseConsumer(all.toArray())) {
                    consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                        @Override public void onPartitionsRevoked(Collection<TopicPartition> gone) {
                            gone.forEach(partition -> {
                                owned.remove(partition.partition());
                                OWNERS.remove(group + " " + partition, Member.this);
                            });
                        }
                        @Override public void onPartitionsAssigned(Collection<TopicPartition> come) {
                            assignments.incrementAndGet();
                            come.forEach(partition -> {
                                owned.add(partition.partition());
                                Member before = OWNERS.put(group + " " + partition, Member.this);
                                if (before != null && before != Member.this) doubled = partition;
                            });
                        }
                    });
                    while (!leaving) {
                        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                            seen.merge(text(record.value()), 1, Integer::sum);
                        }
                        try {
                            consumer.commitSync();
                        } catch (org.apache.kafka.clients.consumer.CommitFailedException
                                | org.apache.kafka.common.errors.RebalanceInProgressException rebalanced) {
                            // What was not committed is read again by whoever owns the partition now.
                        }
                    }
                } catch (Throwable error) {
                    failure = error;
                } finally {
                    owned.clear();
                    // A static member of the classic protocol is not told at its end.
                    OWNERS.values().removeIf(owner -> owner == Member.this);
                }
            });
            thread.start();
        }

        void check() {
            if (failure != null) throw new AssertionError("a member failed: " + failure, failure);
        }

        @Override public void close() throws Exception {
            leaving = true;
            thread.join(60_000);
            check();
        }
    }

    static void awaitShared(int partitions, Member... members) throws Exception {
        until("the " + partitions + " partitions are shared among " + members.length + " members", () -> {
            int total = 0;
            Set<Integer> all = new HashSet<>();
            for (Member member : members) {
                member.check();
                check(member.doubled == null, member.doubled + " was given away while its owner still had it");
                if (member.owned.isEmpty()) return false;
                total += member.owned.size();
                all.addAll(member.owned);
            }
            return total == partitions && all.size() == partitions;
        });
    }

    private static void rebalance(Kit kit, String assignor) throws Exception {
        String topic = kit.topic(6);
        String group = kit.unique("group");
        ConcurrentMap<String, Integer> seen = new ConcurrentHashMap<>();
        KafkaProducer<byte[], byte[]> producer = kit.producer();
        int[] phase = {0};
        int perPhase = 600;
        Runnable produce = () -> {
            try {
                kit.send(producer, topic, null, "phase" + phase[0]++ + "-", perPhase);
            } catch (Exception error) {
                throw new RuntimeException(error);
            }
        };
        Object[] settings = {"partition.assignment.strategy", assignor};
        try (Member first = new Member(kit, group, topic, seen, settings)) {
            produce.run();
            awaitShared(6, first);
            Member second = new Member(kit, group, topic, seen, settings);
            produce.run();
            awaitShared(6, first, second);
            Member third = new Member(kit, group, topic, seen, settings);
            produce.run();
            awaitShared(6, first, second, third);
            produce.run();
            second.close();
            awaitShared(6, first, third);
            produce.run();
            third.close();
            awaitShared(6, first);
            produce.run();
            int total = phase[0] * perPhase;
            until("all " + total + " records are read", () -> {
                first.check();
                return seen.size() == total;
            });
        }
        long committed = get(kit.admin().listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata())
            .values().stream().mapToLong(OffsetAndMetadata::offset).sum();
        same((long) phase[0] * perPhase, committed, "sum of the committed offsets");
        long twice = seen.values().stream().filter(count -> count > 1).count();
        check(twice < seen.size() / 2, twice + " of " + seen.size() + " records were delivered more than once");
    }

    private static void sessionTimeout(Kit kit) throws Exception {
        String topic = kit.topic(2);
        String group = kit.unique("group");
        ConcurrentMap<String, Integer> seen = new ConcurrentHashMap<>();
        // A member that stops polling and heartbeating (its thread is gone with its client) without leaving: a static
        // member does that on close.
        Member silent = new Member(kit, group, topic, seen, "session.timeout.ms", 6_000, "group.instance.id", "silent");
        awaitShared(2, silent);
        Member heir = new Member(kit, group, topic, seen, "session.timeout.ms", 6_000);
        awaitShared(2, silent, heir);
        silent.close();
        awaitShared(2, heir);
        heir.close();
    }

    private static void staticMembership(Kit kit) throws Exception {
        String topic = kit.topic(4);
        String group = kit.unique("group");
        ConcurrentMap<String, Integer> seen = new ConcurrentHashMap<>();
        Object[] strategy = {"partition.assignment.strategy", RangeAssignor.class.getName(), "session.timeout.ms", 20_000};
        Member other = new Member(kit, group, topic, seen, with(strategy, "group.instance.id", "other"));
        Member before = new Member(kit, group, topic, seen, with(strategy, "group.instance.id", "restarted"));
        awaitShared(4, other, before);
        Set<Integer> owned = new HashSet<>(before.owned);
        int assignments = other.assignments.get();
        before.close();
        Member after = new Member(kit, group, topic, seen, with(strategy, "group.instance.id", "restarted"));
        until("the restarted member owns its partitions again", () -> { after.check(); return after.owned.equals(owned); });
        same(assignments, other.assignments.get(), "rebalances seen by the other member");
        kit.send(kit.producer(), topic, null, "v", 40);
        until("the records arrive", () -> seen.size() == 40);

        // A second live client under the same instance id fences the first.
        Member usurper = new Member(kit, group, topic, seen, with(strategy, "group.instance.id", "restarted"));
        until("the older holder of the instance id is fenced", () -> after.failure != null);
        check(after.failure instanceof FencedInstanceIdException, "fenced with " + after.failure);
        until("the usurper owns partitions", () -> { usurper.check(); return !usurper.owned.isEmpty(); });
        usurper.close();

        // An administrator removes the static member, so that the other need not wait for its session to end.
        get(kit.admin().removeMembersFromConsumerGroup(group,
            new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("restarted")))).all());
        awaitShared(4, other);
        other.close();
    }

    private static Object[] with(Object[] pairs, Object... more) {
        List<Object> all = new ArrayList<>(List.of(pairs));
        all.addAll(List.of(more));
        return all.toArray();
    }

    private static void commitResume(Kit kit) throws Exception {
        String topic = kit.topic(1);
        String group = kit.unique("group");
        TopicPartition partition = new TopicPartition(topic, 0);
        kit.send(kit.producer(), topic, 0, "v", 100);
        try (KafkaConsumer<byte[], byte[]> consumer = kit.looseConsumer("group.id", group, "max.poll.records", 30)) {
            consumer.subscribe(List.of(topic));
            kit.read(consumer, 30);
            consumer.commitSync(Map.of(partition, new OffsetAndMetadata(30, "a note, grüezi")));
        }
        try (KafkaConsumer<byte[], byte[]> consumer = kit.looseConsumer("group.id", group)) {
            OffsetAndMetadata committed = consumer.committed(Set.of(partition)).get(partition);
            same(30L, committed.offset(), "committed offset");
            same("a note, grüezi", committed.metadata(), "committed metadata");
            consumer.subscribe(List.of(topic));
            List<ConsumerRecord<byte[], byte[]>> rest = kit.read(consumer, 70);
            same("v30", text(rest.get(0).value()), "first record after resuming");
            same(70, rest.size(), "records after resuming");
            consumer.commitAsync();
        }
        // Commits without membership (the simple consumer) work too.
        KafkaConsumer<byte[], byte[]> simple = kit.consumer("group.id", group);
        same(100L, simple.committed(Set.of(partition)).get(partition).offset(), "committed on close");
        simple.assign(List.of(partition));
        simple.commitSync(Map.of(partition, new OffsetAndMetadata(55)));
        same(55L, simple.committed(Set.of(partition)).get(partition).offset(), "committed by a simple consumer");
        same(null, simple.committed(Set.of(new TopicPartition(topic, 7))).get(new TopicPartition(topic, 7)), "never committed");
    }

    private static void autoCommit(Kit kit) throws Exception {
        String topic = kit.topic(1);
        String group = kit.unique("group");
        kit.send(kit.producer(), topic, 0, "v", 20);
        try (KafkaConsumer<byte[], byte[]> consumer =
                kit.looseConsumer("group.id", group, "enable.auto.commit", "true", "auto.commit.interval.ms", 100)) {
            consumer.subscribe(List.of(topic));
            kit.read(consumer, 20);
            until("the automatic commit is there", () -> {
                consumer.poll(Duration.ofMillis(50));
                OffsetAndMetadata committed = consumer.committed(Set.of(new TopicPartition(topic, 0))).get(new TopicPartition(topic, 0));
                return committed != null && committed.offset() == 20;
            });
        }
    }

    private static void patternSubscribe(Kit kit) throws Exception {
        String topic = kit.topic(2);
        try (KafkaConsumer<byte[], byte[]> consumer =
                kit.looseConsumer("group.id", kit.unique("group"), "metadata.max.age.ms", 500)) {
            consumer.subscribe(java.util.regex.Pattern.compile(topic + ".*"));
            kit.send(kit.producer(), topic, 0, "v", 5);
            kit.read(consumer, 5);
            same(new HashSet<>(partitions(topic, 2)), consumer.assignment(), "assignment by pattern");
        }
    }
}
