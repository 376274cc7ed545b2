// Spring AMQP against a broker: `Listeners ADDRESS[,ADDRESS] [CASE...]`. Prints one line per case: `ok CASE MILLIS` or
// `FAIL CASE reason`; exits 1 if any failed.
package polymq.conformance.spring;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.springframework.amqp.AmqpRejectAndDontRequeueException;
import org.springframework.amqp.core.AcknowledgeMode;
import org.springframework.amqp.core.BindingBuilder;
import org.springframework.amqp.core.Message;
import org.springframework.amqp.core.MessageBuilder;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.core.QueueBuilder;
import org.springframework.amqp.core.TopicExchange;
import org.springframework.amqp.rabbit.annotation.EnableRabbit;
import org.springframework.amqp.rabbit.annotation.RabbitListener;
import org.springframework.amqp.rabbit.config.SimpleRabbitListenerContainerFactory;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory;
import org.springframework.amqp.rabbit.connection.ConnectionFactory;
import org.springframework.amqp.rabbit.connection.CorrelationData;
import org.springframework.amqp.rabbit.core.RabbitAdmin;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.listener.AbstractMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.DirectMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.SimpleMessageListenerContainer;
import org.springframework.amqp.rabbit.transaction.RabbitTransactionManager;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.transaction.support.TransactionTemplate;

public final class Listeners {
    static final int DEADLINE_SECONDS = 30;
    static String[] addresses;

    interface Case { void run(CachingConnectionFactory connections, RabbitAdmin admin, RabbitTemplate template) throws Exception; }

    static final Map<String, Case> CASES = new LinkedHashMap<>();

    static String unique(String kind) { return "spring-" + kind + "-" + UUID.randomUUID().toString().substring(0, 8); }

    static void same(Object wanted, Object got, String what) {
        if (!Objects.equals(wanted, got)) throw new AssertionError(what + ": wanted " + wanted + ", got " + got);
    }

    static <T> T next(BlockingQueue<T> got) throws InterruptedException {
        T message = got.poll(DEADLINE_SECONDS, TimeUnit.SECONDS);
        if (message == null) throw new AssertionError("nothing came in " + DEADLINE_SECONDS + " s");
        return message;
    }

    static Queue queue(RabbitAdmin admin, Queue queue) {
        admin.declareQueue(queue);
        return queue;
    }

    static CachingConnectionFactory connections() {
        CachingConnectionFactory connections = new CachingConnectionFactory();
        connections.setAddresses(String.join(",", addresses));
        connections.setPublisherConfirmType(CachingConnectionFactory.ConfirmType.CORRELATED);
        connections.setPublisherReturns(true);
        return connections;
    }

    static void listen(AbstractMessageListenerContainer container, Runnable work) {
        container.afterPropertiesSet();
        container.start();
        try { work.run(); } finally { container.stop(); }
    }

    interface Work { void run() throws Exception; }

    static Runnable quietly(Work work) {
        return () -> { try { work.run(); } catch (RuntimeException | Error error) { throw error; } catch (Exception error) { throw new RuntimeException(error); } };
    }

    @Configuration
    @EnableRabbit
    static class Annotated {
        static final Queue QUEUE = QueueBuilder.nonDurable(unique("annotated")).autoDelete().build();
        static final BlockingQueue<String> GOT = new LinkedBlockingQueue<>();

        @Bean ConnectionFactory connectionFactory() { return connections(); }
        @Bean RabbitAdmin admin(ConnectionFactory connections) { return new RabbitAdmin(connections); }
        @Bean Queue queue() { return QUEUE; }
        @Bean TopicExchange exchange() { return new TopicExchange(QUEUE.getName() + "-exchange", false, true); }
        @Bean org.springframework.amqp.core.Binding binding() { return BindingBuilder.bind(QUEUE).to(exchange()).with("a.#"); }
        @Bean SimpleRabbitListenerContainerFactory rabbitListenerContainerFactory(ConnectionFactory connections) {
            SimpleRabbitListenerContainerFactory factory = new SimpleRabbitListenerContainerFactory();
            factory.setConnectionFactory(connections);
            factory.setConcurrentConsumers(2);
            return factory;
        }
        @Bean Taker taker() { return new Taker(); }
    }

    public static class Taker {
        @RabbitListener(queues = "#{queue.name}")
        public String take(String text) {
            Annotated.GOT.add(text);
            return "got " + text;
        }
    }

    static {
        CASES.put("listener_with_concurrency", (connections, admin, template) -> {
            for (boolean direct : new boolean[] {false, true}) {
                Queue queue = queue(admin, QueueBuilder.durable(unique("concurrency")).build());
                BlockingQueue<String> got = new LinkedBlockingQueue<>();
                AbstractMessageListenerContainer container;
                if (direct) {
                    DirectMessageListenerContainer each = new DirectMessageListenerContainer(connections);
                    each.setConsumersPerQueue(3);
                    container = each;
                } else {
                    SimpleMessageListenerContainer each = new SimpleMessageListenerContainer(connections);
                    each.setConcurrentConsumers(3);
                    container = each;
                }
                container.setQueueNames(queue.getName());
                container.setPrefetchCount(10);
                container.setMessageListener(message -> got.add(new String(message.getBody())));
                listen(container, quietly(() -> {
                    List<CorrelationData> confirms = new ArrayList<>();
                    for (int i = 0; i < 500; i++) {
                        CorrelationData confirm = new CorrelationData("" + i);
                        template.convertAndSend("", queue.getName(), (Object) ("" + i), confirm);
                        confirms.add(confirm);
                    }
                    for (CorrelationData confirm : confirms) same(true, confirm.getFuture().get(DEADLINE_SECONDS, TimeUnit.SECONDS).isAck(), "confirmed");
                    Map<String, Boolean> seen = new ConcurrentHashMap<>();
                    while (seen.size() < 500) same(null, seen.put(next(got), true), "taken twice");
                }));
                same(0, admin.getQueueInfo(queue.getName()).getMessageCount(), "left");
                admin.deleteQueue(queue.getName());
            }
        });
        CASES.put("failures_are_tried_again_or_die", (connections, admin, template) -> {
            Queue dead = queue(admin, QueueBuilder.durable(unique("dead")).build());
            Queue queue = queue(admin, QueueBuilder.durable(unique("failing")).deadLetterExchange("").deadLetterRoutingKey(dead.getName()).build());
            AtomicInteger attempts = new AtomicInteger();
            SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(connections);
            container.setQueueNames(queue.getName());
            container.setErrorHandler(error -> { throw error instanceof RuntimeException known ? known : new RuntimeException(error); });
            container.setMessageListener(message -> {
                if (attempts.incrementAndGet() <= 3) throw new IllegalStateException("not yet");
                same(true, message.getMessageProperties().isRedelivered(), "redelivered");
                throw new AmqpRejectAndDontRequeueException("never");
            });
            listen(container, quietly(() -> {
                template.convertAndSend("", queue.getName(), "poison");
                Message letter = template.receive(dead.getName(), TimeUnit.SECONDS.toMillis(DEADLINE_SECONDS));
                same("poison", new String(Objects.requireNonNull(letter, "no dead letter").getBody()), "the dead letter");
                same(queue.getName(), letter.getMessageProperties().getXDeathHeader().get(0).get("queue"), "x-death");
                same(4, attempts.get(), "attempts");
            }));
            admin.deleteQueue(queue.getName());
            admin.deleteQueue(dead.getName());
        });
        CASES.put("annotated_listener_answers", (connections, admin, template) -> {
            try (AnnotationConfigApplicationContext context = new AnnotationConfigApplicationContext(Annotated.class)) {
                template.setReplyTimeout(TimeUnit.SECONDS.toMillis(DEADLINE_SECONDS));
                for (int i = 0; i < 20; i++) same("got " + i, template.convertSendAndReceive(Annotated.QUEUE.getName() + "-exchange", "a.b", (Object) ("" + i)), "answer, by direct reply-to");
                same(20, Annotated.GOT.size(), "messages");
            }
        });
        CASES.put("returns_and_properties", (connections, admin, template) -> {
            template.setMandatory(true);
            CorrelationData lost = new CorrelationData("lost");
            template.send("", unique("nowhere"), MessageBuilder.withBody("lost".getBytes()).build(), lost);
            same(true, lost.getFuture().get(DEADLINE_SECONDS, TimeUnit.SECONDS).isAck(), "confirmed");
            same("lost", new String(lost.getReturned().getMessage().getBody()), "returned");
            Queue queue = queue(admin, QueueBuilder.nonDurable(unique("properties")).maxPriority(5).build());
            template.send("", queue.getName(), MessageBuilder.withBody("low".getBytes()).setPriority(0).setHeader("list", List.of(1, "two")).build());
            template.send("", queue.getName(), MessageBuilder.withBody("high".getBytes()).setPriority(5).setMessageId("m").setExpiration("60000").build());
            Message high = template.receive(queue.getName(), 20_000), low = template.receive(queue.getName(), 20_000);
            same(List.of("high", "m", 5), List.of(new String(high.getBody()), high.getMessageProperties().getMessageId(), high.getMessageProperties().getPriority()), "the first");
            same(List.of(1, "two"), low.getMessageProperties().getHeader("list"), "a header");
            admin.deleteQueue(queue.getName());
        });
        CASES.put("transactions", (confirming, admin, unused) -> {
            CachingConnectionFactory connections = connections();
            connections.setPublisherConfirmType(CachingConnectionFactory.ConfirmType.NONE);
            Queue in = queue(admin, QueueBuilder.durable(unique("in")).build()), out = queue(admin, QueueBuilder.durable(unique("out")).build());
            RabbitTemplate template = new RabbitTemplate(connections);
            template.setChannelTransacted(true);
            TransactionTemplate transaction = new TransactionTemplate(new RabbitTransactionManager(connections));
            try {
                transaction.executeWithoutResult(status -> { template.convertAndSend("", in.getName(), "undone"); throw new IllegalStateException("undo"); });
            } catch (IllegalStateException undone) {
                same("undo", undone.getMessage(), "why");
            }
            AtomicInteger attempts = new AtomicInteger();
            SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(connections);
            container.setQueueNames(in.getName());
            container.setChannelTransacted(true);
            container.setAcknowledgeMode(AcknowledgeMode.AUTO);
            container.setTransactionManager(new RabbitTransactionManager(connections));
            container.setMessageListener(message -> {
                template.convertAndSend("", out.getName(), "from " + new String(message.getBody()));
                if (attempts.incrementAndGet() == 1) throw new IllegalStateException("rolls back what was sent");
            });
            listen(container, quietly(() -> {
                transaction.executeWithoutResult(status -> template.convertAndSend("", in.getName(), "done"));
                Message got = template.receive(out.getName(), TimeUnit.SECONDS.toMillis(DEADLINE_SECONDS));
                same("from done", new String(Objects.requireNonNull(got, "nothing came").getBody()), "what came");
            }));
            same(2, attempts.get(), "attempts");
            same(0, admin.getQueueInfo(out.getName()).getMessageCount(), "sent twice");
            admin.deleteQueue(in.getName());
            admin.deleteQueue(out.getName());
            connections.destroy();
        });
    }

    public static void main(String[] arguments) {
        addresses = arguments[0].split(",");
        List<String> wanted = List.of(arguments).subList(1, arguments.length);
        boolean failed = false;
        for (Map.Entry<String, Case> entry : CASES.entrySet()) {
            if (!wanted.isEmpty() && !wanted.contains(entry.getKey())) continue;
            long start = System.nanoTime();
            CachingConnectionFactory connections = connections();
            try {
                entry.getValue().run(connections, new RabbitAdmin(connections), new RabbitTemplate(connections));
                System.out.println("ok " + entry.getKey() + " " + (System.nanoTime() - start) / 1_000_000);
            } catch (Throwable error) {
                failed = true;
                System.out.println("FAIL " + entry.getKey() + " " + (error.getClass().getSimpleName() + ": " + error.getMessage()).replaceAll("\\s+", " "));
                if (System.getenv("CONFORMANCE_TRACE") != null) error.printStackTrace();
            } finally {
                connections.destroy();
            }
            System.out.flush();
        }
        System.exit(failed ? 1 : 0);
    }
}
