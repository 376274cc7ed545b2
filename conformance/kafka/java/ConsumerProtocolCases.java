// The consumer protocol of KIP-848 (`group.protocol=consumer`): members come and go under load, static members, both assignors,
// and groups that move from one protocol to the other while they work.
package polymq.conformance;

import static polymq.conformance.GroupCases.awaitShared;
import static polymq.conformance.Kit.bytes;
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
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ListConsumerGroupsOptions;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ConsumerGroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.UnreleasedInstanceIdException;

final class ConsumerProtocolCases {
    static final Object[] CONSUMER = {"group.protocol", "consumer"};
    private static final Object[] CLASSIC = {"group.protocol", "classic", "partition.assignment.strategy", CooperativeStickyAssignor.class.getName()};

    static void register(Map<String, Main.Case> cases) {
        cases.put("consumer_under_load", kit -> underLoad(kit, CONSUMER));
        cases.put("classic_under_load", kit -> underLoad(kit, CLASSIC));
        cases.put("consumer_resume", ConsumerProtocolCases::resume);
        cases.put("consumer_auto_commit", ConsumerProtocolCases::autoCommit);
        cases.put("consumer_range", ConsumerProtocolCases::range);
        cases.put("consumer_uniform", ConsumerProtocolCases::uniform);
        cases.put("consumer_static", ConsumerProtocolCases::staticMember);
        cases.put("consumer_admin", ConsumerProtocolCases::admin);
        cases.put("consumer_migration", ConsumerProtocolCases::migration);
        try {
            Class.forName("polymq.conformance.PatternCases").getDeclaredMethod("register", Map.class).invoke(null, cases);
        } catch (ReflectiveOperationException olderClient) {
            // Patterns that the broker evaluates are newer than this client.
        }
    }

    static Object[] with(Object[] pairs, Object... more) {
        List<Object> all = new ArrayList<>(List.of(pairs));
        all.addAll(List.of(more));
        return all.toArray();
    }

    /** Numbers its records in each partition, until told to stop. */
    private static final class Load implements AutoCloseable {
        final long[] sent;
        private volatile boolean stopping;
        private volatile Exception failure;
        private final Thread thread;

        Load(KafkaProducer<byte[], byte[]> producer, String topic, int partitions) {
            sent = new long[partitions];
            thread = new Thread(() -> {
                while (!stopping && failure == null) {
                    for (int p = 0; p < partitions; p++) {
                        producer.send(new ProducerRecord<>(topic, p, null, bytes(p + ":" + sent[p]++)),
                            (metadata, error) -> { if (error != null) failure = error; });
                    }
                    java.util.concurrent.locks.LockSupport.parkNanos(5_000_000);
                }
                producer.flush();
            });
            thread.start();
        }

        long total() {
            return java.util.Arrays.stream(sent).sum();
        }

        @Override public void close() throws Exception {
            stopping = true;
            thread.join(60_000);
            if (failure != null) throw failure;
        }
    }

    /** Members come and go while a producer writes; nothing is skipped, and no partition has two owners for long. */
    private static void underLoad(Kit kit, Object[] settings) throws Exception {
        int partitions = 8;
        String topic = kit.topic(partitions);
        String group = kit.unique("group");
        ConcurrentMap<String, Integer> seen = new ConcurrentHashMap<>();
        Load load = new Load(kit.producer(), topic, partitions);
        GroupCases.Member first = new GroupCases.Member(kit, group, topic, seen, settings);
        awaitShared(partitions, first);
        GroupCases.Member second = new GroupCases.Member(kit, group, topic, seen, settings);
        GroupCases.Member third = new GroupCases.Member(kit, group, topic, seen, settings);
        awaitShared(partitions, first, second, third);
        second.close();
        GroupCases.Member fourth = new GroupCases.Member(kit, group, topic, seen, settings);
        awaitShared(partitions, first, third, fourth);
        first.close();
        third.close();
        awaitShared(partitions, fourth);
        load.close();
        until("all " + load.total() + " records are read", () -> { fourth.check(); return seen.size() == load.total(); });
        fourth.close();
        long committed = get(kit.admin().listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata())
            .values().stream().mapToLong(OffsetAndMetadata::offset).sum();
        same(load.total(), committed, "sum of the committed offsets");
        long twice = seen.values().stream().filter(count -> count > 1).count();
        check(twice < seen.size() / 2, twice + " of " + seen.size() + " records were delivered more than once");
    }

    private static void resume(Kit kit) throws Exception {
        String topic = kit.topic(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        Object[] settings = with(CONSUMER, "group.id", kit.unique("group"));
        kit.send(kit.producer(), topic, 0, "v", 100);
        try (KafkaConsumer<byte[], byte[]> consumer = kit.looseConsumer(with(settings, "max.poll.records", 30))) {
            consumer.subscribe(List.of(topic));
            kit.read(consumer, 30);
            consumer.commitSync(Map.of(partition, new OffsetAndMetadata(30, "a note")));
        }
        try (KafkaConsumer<byte[], byte[]> consumer = kit.looseConsumer(settings)) {
            same("a note", consumer.committed(Set.of(partition)).get(partition).metadata(), "committed metadata");
            consumer.subscribe(List.of(topic));
            List<ConsumerRecord<byte[], byte[]>> rest = kit.read(consumer, 70);
            same("v30", text(rest.get(0).value()), "first record after resuming");
            // Not commitAsync and close: the 3.9 client forgets the commit now and then.
            consumer.commitSync();
        }
        KafkaConsumer<byte[], byte[]> after = kit.consumer(settings);
        same(100L, after.committed(Set.of(partition)).get(partition).offset(), "committed at last");
    }

    private static void autoCommit(Kit kit) throws Exception {
        String topic = kit.topic(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        kit.send(kit.producer(), topic, 0, "v", 20);
        try (KafkaConsumer<byte[], byte[]> consumer = kit.looseConsumer(with(CONSUMER, "group.id", kit.unique("group"),
                "enable.auto.commit", "true", "auto.commit.interval.ms", 100))) {
            consumer.subscribe(List.of(topic));
            kit.read(consumer, 20);
            until("the automatic commit is there", () -> {
                consumer.poll(Duration.ofMillis(50));
                OffsetAndMetadata committed = consumer.committed(Set.of(partition)).get(partition);
                return committed != null && committed.offset() == 20;
            });
        }
    }

    /** A consumer polled by its case: both are, whatever the first has, or the second would never join. */
    private static Set<TopicPartition> polled(KafkaConsumer<byte[], byte[]> consumer) {
        consumer.poll(Duration.ofMillis(50));
        return consumer.assignment();
    }

    /** The range assignor gives the same partitions of two topics to the same member. */
    private static void range(Kit kit) throws Exception {
        String one = kit.topic(4);
        String two = kit.topic(4);
        Object[] settings = with(CONSUMER, "group.id", kit.unique("group"), "group.remote.assignor", "range");
        KafkaConsumer<byte[], byte[]> first = kit.consumer(settings);
        KafkaConsumer<byte[], byte[]> second = kit.consumer(settings);
        first.subscribe(List.of(one, two));
        second.subscribe(List.of(one, two));
        until("each has two partitions of each topic", () -> polled(first).size() == 4 & polled(second).size() == 4);
        for (KafkaConsumer<byte[], byte[]> consumer : List.of(first, second)) {
            Map<String, Set<Integer>> owned = consumer.assignment().stream().collect(
                Collectors.groupingBy(TopicPartition::topic, Collectors.mapping(TopicPartition::partition, Collectors.toSet())));
            same(owned.get(one), owned.get(two), "partitions of both topics");
        }
        // A partition that is added is shared out as well, without anybody's asking.
        get(kit.admin().createPartitions(Map.of(one, org.apache.kafka.clients.admin.NewPartitions.increaseTo(6))).all());
        until("the new partitions are shared out", () -> polled(first).size() == 5 & polled(second).size() == 5);
    }

    /** The uniform assignor balances over all topics, of which the range assignor would give all to one, and moves little. */
    private static void uniform(Kit kit) throws Exception {
        List<String> topics = List.of(kit.topic(1), kit.topic(1), kit.topic(1), kit.topic(1));
        Object[] settings = with(CONSUMER, "group.id", kit.unique("group"));
        List<KafkaConsumer<byte[], byte[]>> members = new ArrayList<>();
        for (int i = 0; i < 2; i++) members.add(kit.consumer(settings));
        members.forEach(member -> member.subscribe(topics));
        until("each has two partitions", () -> polled(members.get(0)).size() == 2 & polled(members.get(1)).size() == 2);
        List<Set<TopicPartition>> before = members.stream().map(KafkaConsumer::assignment).collect(Collectors.toList());
        KafkaConsumer<byte[], byte[]> third = kit.consumer(settings);
        third.subscribe(topics);
        until("a third has one of them", () -> {
            int total = polled(members.get(0)).size() + polled(members.get(1)).size();
            return polled(third).size() == 1 & total == 3;
        });
        for (int i = 0; i < 2; i++)
            check(before.get(i).containsAll(members.get(i).assignment()), "a partition moved between those that were there");
    }

    private static void staticMember(Kit kit) throws Exception {
        String topic = kit.topic(4);
        String group = kit.unique("group");
        ConcurrentMap<String, Integer> seen = new ConcurrentHashMap<>();
        GroupCases.Member other = new GroupCases.Member(kit, group, topic, seen, with(CONSUMER, "group.instance.id", "other"));
        GroupCases.Member before = new GroupCases.Member(kit, group, topic, seen, with(CONSUMER, "group.instance.id", "restarted"));
        awaitShared(4, other, before);
        Set<Integer> owned = new HashSet<>(before.owned);
        Set<Integer> others = new HashSet<>(other.owned);
        before.close();
        GroupCases.Member after = new GroupCases.Member(kit, group, topic, seen, with(CONSUMER, "group.instance.id", "restarted"));
        until("the restarted member owns its partitions again", () -> { after.check(); return after.owned.equals(owned); });
        same(others, new HashSet<>(other.owned), "partitions of the other member");
        kit.send(kit.producer(), topic, null, "v", 40);
        until("the records arrive", () -> seen.size() == 40);
        // While a holder of an instance id lives, nobody else gets it.
        GroupCases.Member usurper = new GroupCases.Member(kit, group, topic, seen, with(CONSUMER, "group.instance.id", "restarted"));
        until("the usurper is refused", () -> usurper.failure != null);
        check(usurper.failure instanceof UnreleasedInstanceIdException, "refused with " + usurper.failure);
        after.close();
        other.close();
    }

    private static void admin(Kit kit) throws Exception {
        String topic = kit.topic(2);
        String group = kit.unique("group");
        ConcurrentMap<String, Integer> seen = new ConcurrentHashMap<>();
        GroupCases.Member member = new GroupCases.Member(kit, group, topic, seen, with(CONSUMER, "client.id", "someone"));
        awaitShared(2, member);
        ListConsumerGroupsOptions consumers = new ListConsumerGroupsOptions().withTypes(Set.of(GroupType.CONSUMER));
        check(get(kit.admin().listConsumerGroups(consumers).all()).stream().anyMatch(found -> found.groupId().equals(group)), "listed");
        ListConsumerGroupsOptions classics = new ListConsumerGroupsOptions().withTypes(Set.of(GroupType.CLASSIC));
        check(get(kit.admin().listConsumerGroups(classics).all()).stream().noneMatch(found -> found.groupId().equals(group)), "listed as classic");
        ConsumerGroupDescription described = describe(kit, group);
        same(ConsumerGroupState.STABLE, described.state(), "state");
        same("uniform", described.partitionAssignor(), "assignor");
        MemberDescription found = described.members().iterator().next();
        same("someone", found.clientId(), "client id");
        same(new HashSet<>(partitions(topic, 2)), found.assignment().topicPartitions(), "assignment");
        same(new HashSet<>(partitions(topic, 2)), found.targetAssignment().get().topicPartitions(), "target assignment");
        member.close();
        until("the group is empty", () -> describe(kit, group).state() == ConsumerGroupState.EMPTY);
        get(kit.admin().deleteConsumerGroups(List.of(group)).all());
    }

    private static ConsumerGroupDescription describe(Kit kit, String group) throws Exception {
        return get(kit.admin().describeConsumerGroups(List.of(group)).all()).get(group);
    }

    /** A classic group takes a member of the new protocol in, becomes a group of the new protocol, and goes back. */
    private static void migration(Kit kit) throws Exception {
        int partitions = 6;
        String topic = kit.topic(partitions);
        String group = kit.unique("group");
        ConcurrentMap<String, Integer> seen = new ConcurrentHashMap<>();
        Load load = new Load(kit.producer(), topic, partitions);
        Object[] eager = {"group.protocol", "classic", "partition.assignment.strategy", RangeAssignor.class.getName()};
        GroupCases.Member classic = new GroupCases.Member(kit, group, topic, seen, eager);
        GroupCases.Member cooperative = null;
        awaitShared(partitions, classic);
        GroupCases.Member modern = new GroupCases.Member(kit, group, topic, seen, CONSUMER);
        awaitShared(partitions, classic, modern);
        same(ConsumerGroupState.STABLE, describe(kit, group).state(), "state of the mixed group");
        GroupCases.Member third = new GroupCases.Member(kit, group, topic, seen, eager);
        awaitShared(partitions, classic, modern, third);
        classic.close();
        third.close();
        awaitShared(partitions, modern);
        cooperative = new GroupCases.Member(kit, group, topic, seen, eager);
        awaitShared(partitions, modern, cooperative);
        modern.close();
        GroupCases.Member last = cooperative;
        awaitShared(partitions, last);
        ListConsumerGroupsOptions classics = new ListConsumerGroupsOptions().withTypes(Set.of(GroupType.CLASSIC));
        until("the group is classic again", () ->
            get(kit.admin().listConsumerGroups(classics).all()).stream().anyMatch(found -> found.groupId().equals(group)));
        load.close();
        until("all " + load.total() + " records are read", () -> { last.check(); return seen.size() == load.total(); });
        last.close();
        Collection<OffsetAndMetadata> committed =
            get(kit.admin().listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).values();
        same(load.total(), committed.stream().mapToLong(OffsetAndMetadata::offset).sum(), "sum of the committed offsets");
    }
}
