package polymq.conformance.mqtt;

import static polymq.conformance.mqtt.Suite.numbers;
import static polymq.conformance.mqtt.Suite.same;

import java.util.List;
import org.eclipse.paho.client.mqttv3.IMqttMessageListener;
import org.eclipse.paho.client.mqttv3.MqttAsyncClient;
import org.eclipse.paho.client.mqttv3.MqttClient;
import org.eclipse.paho.client.mqttv3.MqttConnectOptions;
import org.eclipse.paho.client.mqttv3.persist.MemoryPersistence;
import org.eclipse.paho.mqttv5.client.IMqttToken;
import org.eclipse.paho.mqttv5.client.MqttCallback;
import org.eclipse.paho.mqttv5.client.MqttConnectionOptions;
import org.eclipse.paho.mqttv5.client.MqttDisconnectResponse;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;
import org.eclipse.paho.mqttv5.common.packet.UserProperty;

/** paho's Java clients: 3.1.1 and 5. */
public final class Paho {
    private static String uri() {
        return "tcp://" + String.join(":", Suite.address());
    }

    public static void main(String[] arguments) {
        Suite suite = new Suite();
        suite.add("every_qos_v311", Paho::everyQos);
        suite.add("retained_v311", Paho::retained);
        suite.add("session_v311", Paho::session);
        suite.add("many_in_flight_v311", Paho::manyInFlight);
        suite.add("every_qos_v5", Paho::everyQos5);
        suite.add("properties_v5", Paho::properties5);
        suite.add("session_v5", Paho::session5);
        suite.run("paho-java", arguments);
    }

    private static MqttClient open(String id, boolean clean) throws Exception {
        MqttClient client = new MqttClient(uri(), id, new MemoryPersistence());
        MqttConnectOptions options = new MqttConnectOptions();
        options.setCleanSession(clean);
        options.setMaxInflight(1000);
        client.setTimeToWait(20_000);
        client.connect(options);
        return client;
    }

    private static void everyQos(String topic) throws Exception {
        MqttClient client = open(topic, true);
        for (int qos = 0; qos < 3; qos++) {
            Suite.Inbox inbox = new Suite.Inbox();
            client.subscribe(topic + "/" + qos, qos, (name, message) -> inbox.add(new String(message.getPayload()) + " " + message.getQos()));
            for (String text : numbers(200)) client.publish(topic + "/" + qos, text.getBytes(), qos, false);
            int each = qos;
            same(numbers(200).stream().map(text -> text + " " + each).toList(), inbox.await(200));
        }
        client.disconnect();
    }

    private static void retained(String topic) throws Exception {
        MqttClient client = open(topic, true);
        client.publish(topic + "/a", "kept".getBytes(), 1, true);
        Suite.Inbox inbox = new Suite.Inbox();
        client.subscribe(topic + "/#", 1, (name, message) -> inbox.add(new String(message.getPayload()) + " " + message.isRetained()));
        same(List.of("kept true"), inbox.await(1));
        client.publish(topic + "/a", new byte[0], 1, true);
        client.disconnect();
    }

    private static void session(String topic) throws Exception {
        MqttClient phone = open(topic, false);
        phone.subscribe(topic, 1);
        phone.disconnect();
        MqttClient giver = open(topic + "-giver", true);
        for (String text : numbers(50)) giver.publish(topic, text.getBytes(), 1 + text.length() % 2, false);
        giver.disconnect();
        Suite.Inbox inbox = new Suite.Inbox();
        phone = new MqttClient(uri(), topic, new MemoryPersistence());
        phone.setCallback(new org.eclipse.paho.client.mqttv3.MqttCallback() {
            public void connectionLost(Throwable cause) {}

            public void messageArrived(String name, org.eclipse.paho.client.mqttv3.MqttMessage message) {
                inbox.add(new String(message.getPayload()));
            }

            public void deliveryComplete(org.eclipse.paho.client.mqttv3.IMqttDeliveryToken token) {}
        });
        MqttConnectOptions options = new MqttConnectOptions();
        options.setCleanSession(false);
        same(true, phone.connectWithResult(options).getSessionPresent());
        same(numbers(50), inbox.await(50));
        phone.disconnect();
    }

    private static void manyInFlight(String topic) throws Exception {
        MqttAsyncClient client = new MqttAsyncClient(uri(), topic, new MemoryPersistence());
        MqttConnectOptions options = new MqttConnectOptions();
        options.setMaxInflight(2000);
        client.connect(options).waitForCompletion(20_000);
        Suite.Inbox inbox = new Suite.Inbox();
        IMqttMessageListener listener = (name, message) -> inbox.add(new String(message.getPayload()));
        client.subscribe(new String[] {topic}, new int[] {2}, new IMqttMessageListener[] {listener}).waitForCompletion(20_000);
        for (String text : numbers(500)) client.publish(topic, text.getBytes(), 2, false);
        same(numbers(500), inbox.await(500));
        client.disconnect().waitForCompletion(20_000);
    }

    // ---- 5 ----------------------------------------------------------------------------------------------------------

    private static org.eclipse.paho.mqttv5.client.MqttClient open5(String id, boolean clean, Suite.Inbox inbox) throws Exception {
        var client = new org.eclipse.paho.mqttv5.client.MqttClient(uri(), id, new org.eclipse.paho.mqttv5.client.persist.MemoryPersistence());
        client.setTimeToWait(20_000);
        client.setCallback(new MqttCallback() {
            public void disconnected(MqttDisconnectResponse response) {}

            public void mqttErrorOccurred(MqttException error) {}

            public void messageArrived(String name, MqttMessage message) {
                MqttProperties properties = message.getProperties();
                inbox.add(new String(message.getPayload()) + (properties.getContentType() == null ? "" : " " + properties.getContentType() + " " + properties.getResponseTopic() + " " + properties.getUserProperties().size()));
            }

            public void deliveryComplete(IMqttToken token) {}

            public void connectComplete(boolean reconnect, String server) {}

            public void authPacketArrived(int reason, MqttProperties properties) {}
        });
        MqttConnectionOptions options = new MqttConnectionOptions();
        options.setCleanStart(clean);
        options.setSessionExpiryInterval(clean ? 0L : 600L);
        client.connect(options);
        return client;
    }

    private static void everyQos5(String topic) throws Exception {
        Suite.Inbox inbox = new Suite.Inbox();
        var client = open5(topic, true, inbox);
        client.subscribe(topic, 2);
        for (String text : numbers(150)) client.publish(topic, text.getBytes(), text.length() - 1, false);
        same(numbers(150), inbox.await(150).stream().sorted((a, b) -> Integer.parseInt(a) - Integer.parseInt(b)).toList());
        client.disconnect();
    }

    private static void properties5(String topic) throws Exception {
        Suite.Inbox inbox = new Suite.Inbox();
        var client = open5(topic, true, inbox);
        client.subscribe(topic, 1);
        MqttProperties properties = new MqttProperties();
        properties.setContentType("text/plain");
        properties.setResponseTopic("r");
        properties.setUserProperties(List.of(new UserProperty("a", "1"), new UserProperty("a", "2")));
        client.publish(topic, new MqttMessage("x".getBytes(), 1, false, properties));
        same(List.of("x text/plain r 2"), inbox.await(1));
        client.disconnect();
    }

    private static void session5(String topic) throws Exception {
        Suite.Inbox inbox = new Suite.Inbox();
        var phone = open5(topic, false, inbox);
        phone.subscribe(topic, 1);
        phone.disconnect();
        var giver = open5(topic + "-giver", true, new Suite.Inbox());
        for (String text : numbers(50)) giver.publish(topic, text.getBytes(), 1, false);
        giver.disconnect();
        phone = open5(topic, false, inbox);
        same(numbers(50), inbox.await(50));
        phone.disconnect();
    }
}
