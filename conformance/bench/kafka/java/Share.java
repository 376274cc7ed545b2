import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** One share consumer reads a topic from its beginning; each poll acknowledges what the last one gave. */
final class Share {
    private static final long SILENCE_NANOS_MAX = 30_000_000_000L;

    /** `share topic= records=`: from the first record until the last is acknowledged. */
    static String run(Map<String, String> options) throws Exception {
        String topic = Load.required(options, "topic");
        long records = Long.parseLong(Load.required(options, "records"));
        try (Admin admin = Admin.create(Load.properties(options, "admin"))) {
            ConfigResource group = new ConfigResource(ConfigResource.Type.GROUP, topic);
            AlterConfigOp earliest = new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET);
            admin.incrementalAlterConfigs(Map.of(group, List.of(earliest))).all().get();
        }
        Properties properties = Load.properties(options, "consumer");
        properties.put("group.id", topic);
        properties.put("key.deserializer", ByteArrayDeserializer.class.getName());
        properties.put("value.deserializer", ByteArrayDeserializer.class.getName());
        try (KafkaShareConsumer<byte[], byte[]> consumer = new KafkaShareConsumer<>(properties)) {
            consumer.subscribe(List.of(topic));
            long received = 0, start = 0, last = System.nanoTime();
            while (received < records) {
                int count = consumer.poll(Duration.ofMillis(100)).count();
                long now = System.nanoTime();
                if (count > 0 && start == 0) start = now;
                if (count > 0) last = now;
                else if (now - last > SILENCE_NANOS_MAX) throw new IllegalStateException("received " + received + " of " + records);
                received += count;
            }
            consumer.commitSync();
            return String.format("{\"records\": %d, \"seconds\": %.6f}", received, (System.nanoTime() - start) / 1e9);
        }
    }
}
