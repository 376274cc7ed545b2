import java.util.ArrayDeque;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupListing;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;

/** Many groups commit, each again and again; in the end all are listed and the last offset of each is what it committed. */
final class Groups {
    private static final int IN_FLIGHT = 64;

    /** `groups topic= groups= commits=`: commits are counted as records. */
    static String run(Map<String, String> options) throws Exception {
        TopicPartition partition = new TopicPartition(Load.required(options, "topic"), 0);
        int groups = Load.number(options, "groups");
        int commits = Load.number(options, "commits");
        String prefix = partition.topic() + "-group-";
        ArrayDeque<KafkaFuture<Void>> inFlight = new ArrayDeque<>();
        try (Admin admin = Admin.create(Load.properties(options, "admin"))) {
            long start = System.nanoTime();
            for (int at = 0; at < commits; at++) {
                if (inFlight.size() == IN_FLIGHT) inFlight.remove().get();
                Map<TopicPartition, OffsetAndMetadata> offset = Map.of(partition, new OffsetAndMetadata(at / groups));
                inFlight.add(admin.alterConsumerGroupOffsets(prefix + at % groups, offset).all());
            }
            for (KafkaFuture<Void> commit : inFlight) commit.get();
            long nanos = System.nanoTime() - start;
            Set<String> listed = admin.listConsumerGroups().all().get().stream().map(ConsumerGroupListing::groupId)
                .filter(group -> group.startsWith(prefix)).collect(Collectors.toSet());
            if (listed.size() != groups) throw new IllegalStateException(listed.size() + " of " + groups + " groups are listed");
            long found = admin.listConsumerGroupOffsets(prefix + (groups - 1)).partitionsToOffsetAndMetadata().get().get(partition).offset();
            if (found != (commits - groups) / groups) throw new IllegalStateException("the last group's offset is " + found);
            return String.format("{\"records\": %d, \"seconds\": %.6f}", commits, nanos / 1e9);
        }
    }
}
