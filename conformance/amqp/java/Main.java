// RabbitMQ's Java client against a broker: `Main ADDRESS[,ADDRESS] [CASE...]`. Prints one line per case: `ok CASE MILLIS`,
// `FAIL CASE reason` or `skip CASE reason`; exits 1 if any failed.
package polymq.conformance.amqp;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AlreadyClosedException;
import com.rabbitmq.client.CancelCallback;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.RpcClient;
import com.rabbitmq.client.RpcClientParams;
import com.rabbitmq.client.RpcServer;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

public final class Main {
    interface Case { void run(Kit kit) throws Exception; }

    static final int DEADLINE_SECONDS = 30;

    /** Connections of one case, closed at its end. */
    static final class Kit implements AutoCloseable {
        final String[] addresses;
        private final String name;
        private final List<Connection> open = new ArrayList<>();
        private int dealt;

        Kit(String addresses, String name) {
            this.addresses = addresses.split(",");
            this.name = name;
        }

        ConnectionFactory factory() {
            String[] address = addresses[dealt++ % addresses.length].split(":");
            ConnectionFactory factory = new ConnectionFactory();
            factory.setHost(address[0]);
            factory.setPort(Integer.parseInt(address[1]));
            factory.setAutomaticRecoveryEnabled(false);
            factory.setChannelRpcTimeout(DEADLINE_SECONDS * 1000);
            return factory;
        }

        Connection connection() throws Exception {
            Connection connection = factory().newConnection("java " + name);
            open.add(connection);
            return connection;
        }

        Channel channel() throws Exception { return connection().createChannel(); }

        String unique(String kind) { return "java-" + name + "-" + kind + "-" + UUID.randomUUID().toString().substring(0, 8); }

        @Override public void close() {
            for (Connection connection : open) {
                try { connection.abort(2000); } catch (RuntimeException ended) { /* its end is not the case's subject */ }
            }
        }
    }

    static byte[] bytes(String text) { return text.getBytes(StandardCharsets.UTF_8); }

    static String text(byte[] bytes) { return new String(bytes, StandardCharsets.UTF_8); }

    static void same(Object wanted, Object got, String what) {
        if (!Objects.equals(wanted, got)) throw new AssertionError(what + ": wanted " + wanted + ", got " + got);
    }

    interface Holds { boolean now() throws Exception; }

    static void until(String what, Holds holds) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(DEADLINE_SECONDS);
        while (!holds.now()) {
            if (System.nanoTime() > end) throw new AssertionError("never: " + what);
            Thread.sleep(20);
        }
    }

    /** A consumer's deliveries. */
    static BlockingQueue<Delivery> consume(Channel channel, String queue, boolean autoAck, Map<String, Object> arguments) throws IOException {
        BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
        channel.basicConsume(queue, autoAck, arguments, (tag, delivery) -> deliveries.add(delivery), tag -> { });
        return deliveries;
    }

    static Delivery next(BlockingQueue<Delivery> deliveries) throws InterruptedException {
        Delivery delivery = deliveries.poll(DEADLINE_SECONDS, TimeUnit.SECONDS);
        if (delivery == null) throw new AssertionError("nothing was delivered in " + DEADLINE_SECONDS + " s");
        return delivery;
    }

    static List<String> take(BlockingQueue<Delivery> deliveries, int count) throws InterruptedException {
        List<String> texts = new ArrayList<>();
        while (texts.size() < count) texts.add(text(next(deliveries).getBody()));
        return texts;
    }

    interface Action { void run(Channel channel) throws Exception; }

    /** The action closes its channel with this code; the connection stays. */
    static void refused(Connection connection, int code, Action action) throws Exception {
        Channel channel = connection.createChannel();
        try {
            action.run(channel);
            channel.basicQos(1);
        } catch (IOException | AlreadyClosedException error) {
            ShutdownSignalException signal = error instanceof ShutdownSignalException ? (ShutdownSignalException) error : (ShutdownSignalException) error.getCause();
            same(code, ((AMQP.Channel.Close) signal.getReason()).getReplyCode(), "reply code (" + signal.getMessage() + ")");
            if (!connection.isOpen()) throw new AssertionError("the connection is closed as well");
            return;
        }
        throw new AssertionError("not refused; wanted " + code);
    }

    static final Map<String, Case> CASES = new LinkedHashMap<>();

    static {
        CASES.put("publish_and_consume", kit -> {
            Channel channel = kit.channel();
            String queue = channel.queueDeclare().getQueue();
            BlockingQueue<Delivery> deliveries = consume(channel, queue, true, Map.of());
            for (int i = 0; i < 1000; i++) channel.basicPublish("", queue, null, bytes("" + i));
            same(IntStream.range(0, 1000).mapToObj(String::valueOf).collect(Collectors.toList()), take(deliveries, 1000), "messages");
        });
        CASES.put("confirms_one_by_one_and_in_groups", kit -> {
            Channel channel = kit.channel();
            channel.confirmSelect();
            String queue = kit.unique("queue");
            channel.queueDeclare(queue, true, false, false, null);
            ConcurrentSkipListSet<Long> open = new ConcurrentSkipListSet<>();
            channel.addConfirmListener((tag, multiple) -> { if (multiple) open.headSet(tag, true).clear(); else open.remove(tag); },
                (tag, multiple) -> { throw new AssertionError("refused " + tag); });
            for (int i = 0; i < 5000; i++) {
                open.add(channel.getNextPublishSeqNo());
                channel.basicPublish("", queue, com.rabbitmq.client.MessageProperties.PERSISTENT_TEXT_PLAIN, bytes("" + i));
            }
            channel.waitForConfirmsOrDie(DEADLINE_SECONDS * 1000);
            until("all are confirmed to the listener too", open::isEmpty);
            same(5000, channel.queueDeclarePassive(queue).getMessageCount(), "messages");
            same(5000, channel.queueDelete(queue).getMessageCount(), "deleted with");
        });
        CASES.put("properties_and_headers", kit -> {
            Channel channel = kit.channel();
            String queue = channel.queueDeclare().getQueue();
            Map<String, Object> headers = new LinkedHashMap<>();
            headers.put("text", "ünï");
            headers.put("int", 7);
            headers.put("long", 1L << 40);
            headers.put("short", (short) 3);
            headers.put("byte", (byte) -2);
            headers.put("double", 1.5);
            headers.put("float", 2.5f);
            headers.put("decimal", new java.math.BigDecimal("12.34"));
            headers.put("boolean", true);
            headers.put("null", null);
            headers.put("date", new java.util.Date(1_700_000_000_000L));
            headers.put("list", List.of(1, 2, 3));
            headers.put("table", Map.of("inner", 1));
            AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().contentType("a/b").contentEncoding("c").headers(headers).deliveryMode(2).priority(3).correlationId("d")
                .replyTo("e").expiration("600000").messageId("f").timestamp(new java.util.Date(1_700_000_000_000L)).type("g").userId("guest").appId("h").clusterId("i").build();
            channel.basicPublish("", queue, properties, bytes("x"));
            Delivery got = next(consume(channel, queue, true, Map.of()));
            for (String name : headers.keySet()) same(String.valueOf(headers.get(name)), String.valueOf(got.getProperties().getHeaders().get(name)), name);
            same(properties.toString().replaceAll("headers=\\{[^}]*}[^,]*,", ""), got.getProperties().toString().replaceAll("headers=\\{[^}]*}[^,]*,", ""), "properties");
        });
        CASES.put("acknowledge_reject_and_requeue", kit -> {
            Channel channel = kit.channel();
            String queue = channel.queueDeclare().getQueue();
            for (String body : List.of("a", "b", "c")) channel.basicPublish("", queue, null, bytes(body));
            BlockingQueue<Delivery> deliveries = consume(channel, queue, false, Map.of());
            Delivery a = next(deliveries), b = next(deliveries), c = next(deliveries);
            channel.basicNack(a.getEnvelope().getDeliveryTag(), false, true);
            Delivery again = next(deliveries);
            same("a true", text(again.getBody()) + " " + again.getEnvelope().isRedeliver(), "again");
            channel.basicReject(b.getEnvelope().getDeliveryTag(), false);
            channel.basicAck(again.getEnvelope().getDeliveryTag(), true);
            same(c.getEnvelope().getDeliveryTag() + 1, again.getEnvelope().getDeliveryTag(), "tags go on");
            same(null, deliveries.poll(200, TimeUnit.MILLISECONDS), "nothing more");
        });
        CASES.put("returns_of_mandatory", kit -> {
            Channel channel = kit.channel();
            BlockingQueue<Integer> returns = new LinkedBlockingQueue<>();
            channel.addReturnListener(message -> returns.add(message.getReplyCode()));
            channel.basicPublish("amq.direct", kit.unique("key"), true, null, bytes("x"));
            same(312, returns.poll(DEADLINE_SECONDS, TimeUnit.SECONDS), "reply code");
        });
        CASES.put("errors_close_the_channel", kit -> {
            Connection connection = kit.connection();
            String queue = kit.unique("queue");
            connection.createChannel().queueDeclare(queue, false, true, true, null);
            refused(connection, 404, channel -> channel.queueDeclarePassive("no-such-queue"));
            refused(connection, 406, channel -> channel.queueDeclare(queue, false, true, false, null)); // (that an exclusive one be durable is ignored)
            refused(connection, 403, channel -> channel.exchangeDeclare("amq.mine", "direct"));
            refused(connection, 404, channel -> channel.basicPublish("no-such-exchange", "", null, bytes("x")));
            refused(connection, 406, channel -> channel.basicAck(99, false));
            refused(kit.connection(), 405, channel -> channel.queueDeclarePassive(queue));
        });
        CASES.put("rpc_over_a_direct_reply", kit -> {
            Channel server = kit.channel(), client = kit.channel();
            String queue = server.queueDeclare(kit.unique("rpc"), false, false, true, null).getQueue();
            RpcServer loop = new RpcServer(server, queue) {
                @Override public byte[] handleCall(byte[] body, AMQP.BasicProperties properties) { return bytes(text(body).toUpperCase()); }
            };
            Thread thread = new Thread(() -> { try { loop.mainloop(); } catch (Exception ended) { /* at the case's end */ } });
            thread.setDaemon(true);
            thread.start();
            try (RpcClient rpc = new RpcClient(new RpcClientParams().channel(client).exchange("").routingKey(queue).timeout(DEADLINE_SECONDS * 1000))) {
                for (int i = 0; i < 50; i++) same("ASK " + i, text(rpc.primitiveCall(bytes("ask " + i))), "answer");
            }
        });
        CASES.put("transactions", kit -> {
            Channel channel = kit.channel(), watcher = kit.channel();
            String queue = kit.unique("queue");
            watcher.queueDeclare(queue, false, false, true, null);
            channel.txSelect();
            channel.basicPublish("", queue, null, bytes("no"));
            channel.txRollback();
            channel.basicPublish("", queue, null, bytes("yes"));
            same(null, watcher.basicGet(queue, true), "before the commit");
            channel.txCommit();
            same("yes", text(watcher.basicGet(queue, true).getBody()), "after it");
            watcher.queueDelete(queue);
        });
        CASES.put("recovery_of_connection_and_topology", kit -> {
            ConnectionFactory factory = kit.factory();
            factory.setAutomaticRecoveryEnabled(true);
            factory.setTopologyRecoveryEnabled(true);
            factory.setNetworkRecoveryInterval(200);
            factory.setRequestedHeartbeat(5);
            CountDownLatch recovered = new CountDownLatch(1);
            try (Connection connection = factory.newConnection()) {
                ((com.rabbitmq.client.Recoverable) connection).addRecoveryListener(new com.rabbitmq.client.RecoveryListener() {
                    @Override public void handleRecovery(com.rabbitmq.client.Recoverable what) { recovered.countDown(); }
                    @Override public void handleRecoveryStarted(com.rabbitmq.client.Recoverable what) { }
                });
                Channel channel = connection.createChannel();
                String exchange = kit.unique("exchange");
                channel.exchangeDeclare(exchange, "topic", false, true, null);
                String queue = channel.queueDeclare().getQueue();
                channel.queueBind(queue, exchange, "a.#");
                BlockingQueue<Delivery> deliveries = consume(channel, queue, true, Map.of());
                channel.basicPublish(exchange, "a.b", null, bytes("before"));
                same(List.of("before"), take(deliveries, 1), "before");
                // The broker sees a connection that ends without a word.
                java.lang.reflect.Field handler = com.rabbitmq.client.impl.AMQConnection.class.getDeclaredField("_frameHandler");
                handler.setAccessible(true);
                ((com.rabbitmq.client.impl.FrameHandler) handler.get(((com.rabbitmq.client.impl.recovery.AutorecoveringConnection) connection).getDelegate())).close();
                if (!recovered.await(DEADLINE_SECONDS, TimeUnit.SECONDS)) throw new AssertionError("not recovered");
                channel.basicPublish(exchange, "a.c", null, bytes("after"));
                same(List.of("after"), take(deliveries, 1), "after");
            }
        });
        CASES.put("consumer_priorities_and_cancel", kit -> {
            Channel channel = kit.channel();
            String queue = channel.queueDeclare().getQueue();
            BlockingQueue<Delivery> low = consume(channel, queue, true, Map.of("x-priority", 1)), high = consume(channel, queue, true, Map.of("x-priority", 9));
            channel.basicPublish("", queue, null, bytes("x"));
            same("x", text(next(high).getBody()), "the higher gets it");
            same(0, low.size(), "the lower does not");
            CountDownLatch cancelled = new CountDownLatch(1);
            CancelCallback callback = tag -> cancelled.countDown();
            channel.basicConsume(queue, true, (tag, delivery) -> { }, callback);
            kit.open.get(0).createChannel().queueDelete(queue);
            if (!cancelled.await(DEADLINE_SECONDS, TimeUnit.SECONDS)) throw new AssertionError("no cancel was told");
        });
        CASES.put("large_messages_by_get", kit -> {
            Channel channel = kit.channel();
            channel.confirmSelect();
            String queue = channel.queueDeclare().getQueue();
            byte[] body = new byte[5 << 20];
            new java.util.Random(1).nextBytes(body);
            channel.basicPublish("", queue, null, body);
            channel.waitForConfirmsOrDie(DEADLINE_SECONDS * 1000);
            GetResponse got = channel.basicGet(queue, true);
            if (!java.util.Arrays.equals(body, got.getBody())) throw new AssertionError("another body");
        });
        CASES.put("streams_and_quorum_queues", kit -> {
            Channel channel = kit.channel();
            channel.confirmSelect();
            String stream = kit.unique("stream"), quorum = kit.unique("quorum");
            channel.queueDeclare(stream, true, false, false, Map.of("x-queue-type", "stream"));
            channel.queueDeclare(quorum, true, false, false, Map.of("x-queue-type", "quorum", "x-delivery-limit", 3));
            for (int i = 0; i < 10; i++) for (String queue : List.of(stream, quorum)) channel.basicPublish("", queue, null, bytes("" + i));
            channel.waitForConfirmsOrDie(DEADLINE_SECONDS * 1000);
            channel.basicQos(100);
            same(List.of("5", "6", "7", "8", "9"), take(consume(channel, stream, false, Map.of("x-stream-offset", 5)), 5), "the stream from 5");
            same(10, take(consume(channel, quorum, false, Map.of()), 10).size(), "the quorum queue");
            channel.queueDelete(stream);
            channel.queueDelete(quorum);
        });
        CASES.put("many_threads_on_many_channels", kit -> {
            Connection connection = kit.connection();
            Channel declaring = connection.createChannel();
            String queue = declaring.queueDeclare().getQueue();
            BlockingQueue<Delivery> deliveries = consume(declaring, queue, true, Map.of());
            List<Thread> threads = new ArrayList<>();
            for (int thread = 0; thread < 8; thread++) {
                Channel channel = connection.createChannel();
                int first = thread * 500;
                threads.add(new Thread(() -> {
                    try { for (int i = 0; i < 500; i++) channel.basicPublish("", queue, null, bytes("" + (first + i))); } catch (IOException error) { throw new RuntimeException(error); }
                }));
            }
            for (Thread thread : threads) thread.start();
            List<Integer> got = take(deliveries, 4000).stream().map(Integer::valueOf).collect(Collectors.toList());
            for (int thread = 0; thread < 8; thread++) {
                int first = thread * 500;
                same(IntStream.range(first, first + 500).boxed().collect(Collectors.toList()), got.stream().filter(each -> each >= first && each < first + 500).collect(Collectors.toList()), "order of one channel");
            }
        });
    }

    public static void main(String[] args) {
        List<String> wanted = List.of(args).subList(1, args.length);
        boolean failed = false;
        for (Map.Entry<String, Case> entry : CASES.entrySet()) {
            if (!wanted.isEmpty() && !wanted.contains(entry.getKey())) continue;
            long start = System.nanoTime();
            try (Kit kit = new Kit(args[0], entry.getKey())) {
                entry.getValue().run(kit);
                System.out.println("ok " + entry.getKey() + " " + (System.nanoTime() - start) / 1_000_000);
            } catch (Throwable error) {
                failed = true;
                Throwable cause = error.getCause() == null || error.getMessage() != null ? error : error.getCause();
                System.out.println("FAIL " + entry.getKey() + " " + (cause.getClass().getSimpleName() + ": " + cause.getMessage()).replaceAll("\\s+", " "));
                if (System.getenv("CONFORMANCE_TRACE") != null) error.printStackTrace();
            }
            System.out.flush();
        }
        System.exit(failed ? 1 : 0);
    }
}
