import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RetriableException;

/**
 * Makes and removes topics. A topic counts as made when the leader of each of its partitions answers for it: metadata alone names
 * a leader before that broker can write, and then Kafka may refuse a producer's first batch, take its second, and refuse the
 * first for ever as out of sequence.
 */
final class Topics {
    /** Kafka refuses 10,000 partitions in one request as an excessively large batch. */
    private static final int TOPICS_PER_REQUEST = 10;

    /** `create topic= partitions= [count=N: topics NAME-0..N-1] [config.KEY=VALUE]`: the seconds until all can be written. */
    static String create(Map<String, String> options) throws Exception {
        int partitions = Load.number(options, "partitions");
        List<String> names = names(options);
        Map<String, String> config = new HashMap<>();
        options.forEach((key, value) -> {
            if (key.startsWith("config.")) config.put(key.substring("config.".length()), value);
        });
        try (Admin admin = Admin.create(Load.properties(options, "admin"))) {
            long start = System.nanoTime();
            List<NewTopic> topics = new ArrayList<>();
            for (String name : names) topics.add(new NewTopic(name, Optional.of(partitions), Optional.of((short) 1)).configs(config));
            for (int at = 0; at < topics.size(); at += TOPICS_PER_REQUEST)
                admin.createTopics(topics.subList(at, Math.min(topics.size(), at + TOPICS_PER_REQUEST))).all().get();
            while (!named(admin, names, partitions) || !answering(admin, names, partitions)) Thread.sleep(5);
            return String.format("{\"seconds\": %.6f}", (System.nanoTime() - start) / 1e9);
        }
    }

    static String delete(Map<String, String> options) throws Exception {
        try (Admin admin = Admin.create(Load.properties(options, "admin"))) {
            admin.deleteTopics(names(options)).all().get();
            return "{}";
        }
    }

    private static List<String> names(Map<String, String> options) {
        String topic = Load.required(options, "topic");
        int count = Integer.parseInt(options.getOrDefault("count", "0"));
        if (count == 0) return List.of(topic);
        return IntStream.range(0, count).mapToObj(at -> topic + "-" + at).collect(Collectors.toList());
    }

    private static boolean named(Admin admin, List<String> names, int partitions) throws Exception {
        Map<String, TopicDescription> found;
        try {
            found = admin.describeTopics(names).allTopicNames().get();
        } catch (ExecutionException notYet) {
            if (notYet.getCause() instanceof RetriableException) return false;
            throw notYet;
        }
        return found.keySet().containsAll(Set.copyOf(names)) && found.values().stream().allMatch(description ->
            description.partitions().size() == partitions
                && description.partitions().stream().allMatch(partition -> partition.leader() != null && !partition.leader().isEmpty()));
    }

    private static boolean answering(Admin admin, List<String> names, int partitions) throws Exception {
        Map<TopicPartition, OffsetSpec> wanted = new HashMap<>();
        for (String name : names)
            for (int at = 0; at < partitions; at++) wanted.put(new TopicPartition(name, at), OffsetSpec.latest());
        try {
            admin.listOffsets(wanted).all().get();
            return true;
        } catch (ExecutionException notYet) {
            if (notYet.getCause() instanceof RetriableException) return false;
            throw notYet;
        }
    }
}
