import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** A consumer with the client's defaults, on all partitions of a topic, without a group. */
final class Consume {
    static KafkaConsumer<byte[], byte[]> assigned(Map<String, String> options) {
        Properties properties = Load.properties(options, "consumer");
        properties.put("key.deserializer", ByteArrayDeserializer.class.getName());
        properties.put("value.deserializer", ByteArrayDeserializer.class.getName());
        properties.put("enable.auto.commit", "false");
        KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties);
        List<TopicPartition> partitions = consumer.partitionsFor(Load.required(options, "topic")).stream()
            .map(info -> new TopicPartition(info.topic(), info.partition())).collect(Collectors.toList());
        consumer.assign(partitions);
        return consumer;
    }

    /** A consumer that stands at the end of every partition. */
    static KafkaConsumer<byte[], byte[]> atEnd(Map<String, String> options) {
        KafkaConsumer<byte[], byte[]> consumer = assigned(options);
        consumer.seekToEnd(consumer.assignment());
        for (TopicPartition partition : consumer.assignment()) consumer.position(partition);
        return consumer;
    }
}
