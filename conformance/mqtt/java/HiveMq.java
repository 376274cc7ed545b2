package polymq.conformance.mqtt;

import static polymq.conformance.mqtt.Suite.numbers;
import static polymq.conformance.mqtt.Suite.same;

import com.hivemq.client.mqtt.MqttClient;
import com.hivemq.client.mqtt.MqttGlobalPublishFilter;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt3.Mqtt3BlockingClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5AsyncClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5BlockingClient;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** HiveMQ's client: 5, and 3.1.1. */
public final class HiveMq {
    public static void main(String[] arguments) {
        Suite suite = new Suite();
        suite.add("many_in_flight_v5", HiveMq::manyInFlight);
        suite.add("properties_v5", HiveMq::properties);
        suite.add("retained_v5", HiveMq::retained);
        suite.add("session_v5", HiveMq::session);
        suite.add("shared_v5", HiveMq::shared);
        suite.add("every_qos_v311", HiveMq::everyQos3);
        suite.run("hivemq", arguments);
    }

    private static Mqtt5BlockingClient client(String id) {
        String[] address = Suite.address();
        return MqttClient.builder().useMqttVersion5().identifier(id).serverHost(address[0]).serverPort(Integer.parseInt(address[1])).buildBlocking();
    }

    private static String text(com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish publish) {
        return new String(publish.getPayloadAsBytes(), StandardCharsets.UTF_8);
    }

    private static Suite.Inbox inbox(Mqtt5BlockingClient client) {
        Suite.Inbox inbox = new Suite.Inbox();
        client.toAsync().publishes(MqttGlobalPublishFilter.ALL, publish -> inbox.add(text(publish)));
        return inbox;
    }

    private static void manyInFlight(String topic) throws Exception {
        Mqtt5BlockingClient client = client(topic);
        Suite.Inbox inbox = inbox(client);
        client.connect();
        int expected = 0;
        for (MqttQos qos : MqttQos.values()) {
            client.subscribeWith().topicFilter(topic + "/" + qos.getCode()).qos(qos).send();
            Mqtt5AsyncClient async = client.toAsync();
            List<? extends CompletableFuture<?>> sent = numbers(500).stream()
                .map(text -> async.publishWith().topic(topic + "/" + qos.getCode()).qos(qos).payload(text.getBytes()).send()).toList();
            for (CompletableFuture<?> each : sent) each.get(Suite.SECONDS, TimeUnit.SECONDS);
            expected += 500;
            same(numbers(500), inbox.await(expected).subList(expected - 500, expected));
        }
        client.disconnect();
    }

    private static void properties(String topic) throws Exception {
        Mqtt5BlockingClient client = client(topic);
        Suite.Inbox inbox = new Suite.Inbox();
        client.toAsync().publishes(MqttGlobalPublishFilter.ALL, publish -> inbox.add(text(publish) + " " + publish.getContentType().orElseThrow() + " " + publish.getResponseTopic().orElseThrow() + " "
            + publish.getUserProperties().asList().size() + " " + (publish.getMessageExpiryInterval().orElseThrow() > 98)));
        client.connect();
        client.subscribeWith().topicFilter(topic).qos(MqttQos.AT_LEAST_ONCE).send();
        client.publishWith().topic(topic).qos(MqttQos.AT_LEAST_ONCE).payload("x".getBytes()).contentType("text/plain").responseTopic("r").messageExpiryInterval(100)
            .userProperties().add("a", "1").add("a", "2").applyUserProperties().send();
        same(List.of("x text/plain r 2 true"), inbox.await(1));
        client.disconnect();
    }

    private static void retained(String topic) throws Exception {
        Mqtt5BlockingClient client = client(topic);
        Suite.Inbox inbox = inbox(client);
        client.connect();
        client.publishWith().topic(topic + "/a").qos(MqttQos.AT_LEAST_ONCE).payload("kept".getBytes()).retain(true).send();
        client.subscribeWith().topicFilter(topic + "/+").qos(MqttQos.AT_LEAST_ONCE).send();
        same(List.of("kept"), inbox.await(1));
        client.publishWith().topic(topic + "/a").qos(MqttQos.AT_LEAST_ONCE).retain(true).send();
        client.disconnect();
    }

    private static void session(String topic) throws Exception {
        Mqtt5BlockingClient phone = client(topic);
        phone.connectWith().cleanStart(false).sessionExpiryInterval(600).send();
        phone.subscribeWith().topicFilter(topic).qos(MqttQos.EXACTLY_ONCE).send();
        phone.disconnect();
        Mqtt5BlockingClient giver = client(topic + "-giver");
        giver.connect();
        for (String text : numbers(50)) giver.publishWith().topic(topic).qos(MqttQos.EXACTLY_ONCE).payload(text.getBytes()).send();
        giver.disconnect();
        phone = client(topic);
        Suite.Inbox inbox = inbox(phone);
        same(true, phone.connectWith().cleanStart(false).sessionExpiryInterval(600).send().isSessionPresent());
        same(numbers(50), inbox.await(50));
        phone.disconnect();
    }

    private static void shared(String topic) throws Exception {
        Suite.Inbox together = new Suite.Inbox();
        List<Mqtt5BlockingClient> members = numbers(3).stream().map(number -> client(topic + number)).toList();
        for (Mqtt5BlockingClient member : members) {
            member.toAsync().publishes(MqttGlobalPublishFilter.ALL, publish -> together.add(text(publish)));
            member.connect();
            member.subscribeWith().topicFilter("$share/" + topic + "/" + topic + "/#").qos(MqttQos.AT_LEAST_ONCE).send();
        }
        for (String text : numbers(90)) members.get(0).publishWith().topic(topic + "/" + text).qos(MqttQos.AT_LEAST_ONCE).payload(text.getBytes()).send();
        same(numbers(90), together.await(90).stream().sorted((a, b) -> Integer.parseInt(a) - Integer.parseInt(b)).toList());
        for (Mqtt5BlockingClient member : members) member.disconnect();
    }

    private static void everyQos3(String topic) throws Exception {
        String[] address = Suite.address();
        Mqtt3BlockingClient client = MqttClient.builder().useMqttVersion3().identifier(topic).serverHost(address[0]).serverPort(Integer.parseInt(address[1])).buildBlocking();
        Suite.Inbox inbox = new Suite.Inbox();
        client.toAsync().publishes(MqttGlobalPublishFilter.ALL, publish -> inbox.add(new String(publish.getPayloadAsBytes(), StandardCharsets.UTF_8)));
        client.connect();
        for (MqttQos qos : MqttQos.values()) client.subscribeWith().topicFilter(topic + "/" + qos.getCode()).qos(qos).send();
        for (MqttQos qos : MqttQos.values()) client.publishWith().topic(topic + "/" + qos.getCode()).qos(qos).payload(("" + qos.getCode()).getBytes()).send();
        same(List.of("0", "1", "2"), inbox.await(3).stream().sorted().toList());
        client.disconnect();
    }
}
