package polymq.conformance.mqtt;

import static polymq.conformance.mqtt.Suite.same;

import com.hivemq.client.mqtt.MqttClient;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.Mqtt5BlockingClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5ClientBuilder;
import com.hivemq.client.mqtt.mqtt5.exceptions.Mqtt5ConnAckException;
import com.hivemq.client.mqtt.mqtt5.exceptions.Mqtt5PubAckException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.List;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.TrustManagerFactory;

/**
 * HiveMQ's client, and who it says it is; called by ../alone/run.py, which starts the broker. Ends with 0 if all is as it should be.
 *
 * <p>`scram ADDRESS USER PASSWORD BITS`: SCRAM in AUTH packets. `certificate ADDRESS FOLDER`: over TLS, by client.p12 (password
 * `secret`), the broker's certificate signed by ca.pem; it may use users/anna and nothing else.
 */
public final class Identity {
    public static void main(String[] arguments) {
        try {
            if (arguments[0].equals("scram")) scram(arguments[1], arguments[2], arguments[3], Integer.parseInt(arguments[4]));
            else certificate(arguments[1], Path.of(arguments[2]));
        } catch (Throwable error) {
            System.out.println(String.valueOf(error).replaceAll("\\s+", " "));
            System.out.flush();
            Runtime.getRuntime().halt(1);
        }
        Runtime.getRuntime().halt(0);
    }

    private static Mqtt5ClientBuilder builder(String address, String id) {
        String[] parts = address.split(":");
        return MqttClient.builder().useMqttVersion5().identifier(id).serverHost(parts[0]).serverPort(Integer.parseInt(parts[1]));
    }

    private static void scram(String address, String user, String password, int bits) throws Exception {
        Scram scram = new Scram(user, password, bits);
        Mqtt5BlockingClient client = builder(address, "hivemq-scram").enhancedAuth(scram).buildBlocking();
        client.connect();
        same(1, scram.proved);
        toItself(client, "scram");
        // Again, on the same connection.
        client.toAsync().reauth().get(Suite.SECONDS, TimeUnit.SECONDS);
        same(2, scram.proved);
        toItself(client, "scram");
        client.disconnect();
        refused(builder(address, "hivemq-wrong").enhancedAuth(new Scram(user, password + "x", bits)).buildBlocking());
        refused(builder(address, "hivemq-nobody").enhancedAuth(new Scram(user + "x", password, bits)).buildBlocking());
        refused(builder(address, "hivemq-none").buildBlocking());
    }

    private static void certificate(String address, Path folder) throws Exception {
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null);
        try (InputStream file = Files.newInputStream(folder.resolve("ca.pem"))) {
            trusted.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(trusted);
        KeyStore own = KeyStore.getInstance("PKCS12");
        try (InputStream file = Files.newInputStream(folder.resolve("client.p12"))) {
            own.load(file, "secret".toCharArray());
        }
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(own, "secret".toCharArray());
        Mqtt5BlockingClient client = builder(address, "hivemq-certificate").sslConfig().trustManagerFactory(trust).keyManagerFactory(keys).applySslConfig().buildBlocking();
        client.connect();
        toItself(client, "users/anna");
        try {
            client.publishWith().topic("users/ben").qos(MqttQos.AT_LEAST_ONCE).send();
            throw new AssertionError("it may publish to another's topic");
        } catch (Mqtt5PubAckException error) {
            same("NOT_AUTHORIZED", error.getMqttMessage().getReasonCode());
        }
        client.disconnect();
    }

    private static void toItself(Mqtt5BlockingClient client, String topic) throws Exception {
        try (Mqtt5BlockingClient.Mqtt5Publishes publishes = client.publishes(com.hivemq.client.mqtt.MqttGlobalPublishFilter.ALL)) {
            client.subscribeWith().topicFilter(topic).qos(MqttQos.EXACTLY_ONCE).send();
            client.publishWith().topic(topic).qos(MqttQos.EXACTLY_ONCE).payload("x".getBytes()).send();
            same("x", new String(publishes.receive(Suite.SECONDS, TimeUnit.SECONDS).orElseThrow().getPayloadAsBytes()));
        }
    }

    private static void refused(Mqtt5BlockingClient client) {
        try {
            client.connect();
        } catch (Mqtt5ConnAckException error) {
            String reason = error.getMqttMessage().getReasonCode().name();
            if (!List.of("BAD_USER_NAME_OR_PASSWORD", "NOT_AUTHORIZED").contains(reason)) throw new AssertionError("refused with " + reason);
            return;
        }
        throw new AssertionError("let in, and should not be");
    }
}
