import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.errors.SaslAuthenticationException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Apache's client with OAUTHBEARER: with a signed token out of a file, again and again (KIP-368), and with a bad one. */
public class TokenClient {
    static Map<String, Object> config(String bootstrap, String tokenFile) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        config.put("security.protocol", "SASL_PLAINTEXT");
        config.put("sasl.mechanism", "OAUTHBEARER");
        config.put("sasl.login.callback.handler.class",
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler");
        config.put("sasl.jaas.config",
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;");
        config.put("sasl.oauthbearer.token.endpoint.url", "file://" + tokenFile);
        config.put("key.serializer", StringSerializer.class.getName());
        config.put("value.serializer", StringSerializer.class.getName());
        config.put("key.deserializer", StringDeserializer.class.getName());
        config.put("value.deserializer", StringDeserializer.class.getName());
        return config;
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            System.err.println("FAIL " + what);
            System.exit(1);
        }
    }

    static double metric(KafkaProducer<?, ?> producer, String name) {
        return producer.metrics().entrySet().stream()
            .filter(entry -> entry.getKey().name().equals(name) && entry.getKey().group().equals("producer-metrics"))
            .mapToDouble(entry -> (Double) entry.getValue().metricValue()).sum();
    }

    public static void main(String[] arguments) throws Exception {
        String bootstrap = arguments[0];
        Map<String, Object> config = config(bootstrap, arguments[1]);
        try (Admin admin = Admin.create(config)) {
            admin.createTopics(Set.of(new NewTopic("tokens-java", 1, (short) 1))).all().get();
        }
        int sent = 0;
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(config)) {
            long end = System.nanoTime() + Duration.ofSeconds(30).toNanos();
            // The broker wants to hear again every two seconds who this is.
            while (metric(producer, "successful-reauthentication-total") < 3) {
                producer.send(new ProducerRecord<>("tokens-java", "value " + sent++)).get();
                check(System.nanoTime() < end, "the client never authenticates again");
                Thread.sleep(50);
            }
            check(metric(producer, "failed-reauthentication-total") == 0, "it fails to authenticate again");
            check(metric(producer, "expired-connections-killed-count") == 0, "a connection ran out");
        }
        Map<String, Object> reading = new HashMap<>(config);
        reading.put("group.id", "tokens-java");
        reading.put("auto.offset.reset", "earliest");
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(reading)) {
            consumer.subscribe(List.of("tokens-java"));
            long end = System.nanoTime() + Duration.ofSeconds(30).toNanos();
            for (int count = 0; count < sent; ) {
                count += consumer.poll(Duration.ofSeconds(1)).count();
                check(System.nanoTime() < end, "not everything comes back");
            }
        }
        try (Admin admin = Admin.create(config(bootstrap, arguments[2]))) {
            admin.describeCluster().clusterId().get();
            check(false, "a token of another issuer is taken");
        } catch (java.util.concurrent.ExecutionException error) {
            boolean refused = error.getCause() instanceof SaslAuthenticationException;
            check(refused && error.getCause().getMessage().contains("invalid_token"), "the wrong refusal: " + error);
        }
        System.out.println("5 statements about tokens hold for Apache's client");
    }
}
