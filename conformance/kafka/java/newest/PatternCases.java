// Subscriptions by a pattern that the broker evaluates (KIP-848); only the newest clients can ask for one.
package polymq.conformance;

import static polymq.conformance.ConsumerProtocolCases.CONSUMER;
import static polymq.conformance.ConsumerProtocolCases.with;
import static polymq.conformance.Kit.get;
import static polymq.conformance.Kit.partitions;
import static polymq.conformance.Kit.same;
import static polymq.conformance.Kit.until;

import java.time.Duration;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidRegularExpression;

final class PatternCases {
    static void register(Map<String, Main.Case> cases) {
        cases.put("consumer_pattern", PatternCases::pattern);
        cases.put("consumer_pattern_errors", PatternCases::errors);
    }

    private static void pattern(Kit kit) throws Exception {
        String prefix = kit.topic(2);
        Set<TopicPartition> wanted = new HashSet<>(partitions(prefix, 2));
        KafkaConsumer<byte[], byte[]> consumer = kit.consumer(with(CONSUMER, "group.id", kit.unique("group"), "metadata.max.age.ms", 500));
        consumer.subscribe(new SubscriptionPattern(prefix + "(-[ab])?"));
        until("the topic that is there is found", () -> {
            consumer.poll(Duration.ofMillis(50));
            return consumer.assignment().equals(wanted);
        });
        // One that comes later is found without a heartbeat's asking; one that does not match as a whole is not.
        for (String suffix : List.of("-a", "-c", "-a-more"))
            get(kit.admin().createTopics(List.of(new NewTopic(prefix + suffix, 1, (short) 1))).all());
        wanted.add(new TopicPartition(prefix + "-a", 0));
        until("the topic that came later is found", () -> {
            consumer.poll(Duration.ofMillis(50));
            return consumer.assignment().equals(wanted);
        });
        kit.send(kit.producer(), prefix + "-a", 0, "v", 5);
        same(5, kit.read(consumer, 5).size(), "records of the topic that came later");
    }

    private static void errors(Kit kit) throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = kit.looseConsumer(with(CONSUMER, "group.id", kit.unique("group")))) {
            consumer.subscribe(new SubscriptionPattern("(not closed"));
            long end = System.nanoTime() + Kit.DEADLINE.toNanos();
            Kit.fails(InvalidRegularExpression.class, "a pattern that is none", () -> {
                while (System.nanoTime() < end) consumer.poll(Duration.ofMillis(50));
                return "polls without end";
            });
        }
    }
}
