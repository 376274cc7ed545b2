"""pika: declaring queues, their arguments, equivalence, TTL, expiry, length limits, priorities, purge and delete."""

import time

from amqp_kit import (JOBS, ORACLE, ChannelClosedByBroker, Consumer, arrives, case, depth, drain, empty, get, get_soon, main, publish, refuses, same, wait_for)
from pika.exceptions import NackError


@case
def server_named(kit):
    channel = kit.channel()
    first, second = channel.queue_declare(""), channel.queue_declare("", exclusive=True)
    assert first.method.queue.startswith("amq.gen-") and first.method.queue != second.method.queue, first.method.queue
    # An empty name means the one that this channel declared last.
    channel.queue_bind("", "amq.direct", second.method.queue)
    publish(channel, second.method.queue, "x", exchange="amq.direct")
    arrives(channel, "", "x")
    channel.queue_delete(first.method.queue)


@case
def declare_tells_the_counts(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel)
    publish(channel, queue, "a", "b", "c")
    answer = channel.queue_declare(queue).method
    same((queue, 3, 0), (answer.queue, answer.message_count, answer.consumer_count), "queue, messages, consumers")
    consumer = Consumer(channel, queue)
    consumer.wait(3)
    answer = channel.queue_declare(queue, passive=True).method
    same((0, 1), (answer.message_count, answer.consumer_count), "ready, consumers")


@case
def passive_of_nothing(kit):
    refuses(kit.connection(), 404, "NOT_FOUND - no queue 'never-made' in vhost '/'", lambda channel: channel.queue_declare("never-made", passive=True))


@case
def exclusive_queue(kit):
    owner = kit.connection(at=0)
    channel = owner.channel()
    queue = kit.queue(channel, exclusive=True)
    owner.channel().queue_declare(queue, exclusive=True)  # another channel of its connection may
    text = f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'"
    for at in range(len(kit.addresses)):
        other = kit.connection(at=at)
        for action in (lambda channel: channel.queue_declare(queue, passive=True), lambda channel: channel.queue_declare(queue, exclusive=True),
                       lambda channel: channel.basic_consume(queue, print), lambda channel: channel.basic_get(queue), lambda channel: channel.queue_purge(queue),
                       lambda channel: channel.queue_delete(queue), lambda channel: channel.queue_bind(queue, "amq.direct", "x")):
            refuses(other, 405, text, action)
        publish(other.channel(), queue, f"publishing is allowed {at}")
    arrives(channel, queue, *(f"publishing is allowed {at}" for at in range(len(kit.addresses))))
    owner.close()
    watcher = kit.channel()
    wait_for(watcher, "it goes with its connection", lambda: not kit.exists(queue))


@case
def auto_delete_queue(kit):
    channel = kit.channel()
    queue = kit.queue(channel, auto_delete=True)
    assert kit.exists(queue), "gone before its first consumer"
    first, second = Consumer(channel, queue), Consumer(kit.channel(), queue)
    channel.basic_cancel(first.tag)
    assert kit.exists(queue), "gone before its last consumer"
    second.channel.connection.close()
    wait_for(channel, "it goes with its last consumer", lambda: not kit.exists(queue))


@case
def auto_delete_queue_takes_its_bindings_along(kit):
    channel = kit.channel(confirm=True)
    exchange = kit.exchange(channel, "direct", auto_delete=True)
    queue = kit.queue(channel, auto_delete=True)
    channel.queue_bind(queue, exchange, "a")
    consumer = Consumer(channel, queue)
    channel.basic_cancel(consumer.tag)
    wait_for(channel, "the exchange goes with its last binding", lambda: not kit.exchange_exists(exchange))


@case
def equivalence(kit):
    connection = kit.connection()
    arguments = {"x-message-ttl": 60000, "x-max-length": 10}
    name = kit.queue(connection.channel(), durable=True, arguments=arguments)
    connection.channel().queue_declare(name, durable=True, arguments=arguments)
    text = f"PRECONDITION_FAILED - inequivalent arg '%s' for queue '{name}' in vhost '/': received %s but current is %s"
    for fault, wanted in (
        (dict(durable=False), text % ("durable", "'false'", "'true'")), (dict(auto_delete=True), text % ("auto_delete", "'true'", "'false'")),
        (dict(arguments={"x-message-ttl": 60000}), text % ("x-max-length", "none", "the value '10' of type 'signedint'")),
        (dict(arguments={**arguments, "x-message-ttl": 1}), text % ("x-message-ttl", "'1'", "'60000'")),
        (dict(arguments={**arguments, "x-expires": 60000}), text % ("x-expires", "the value '60000' of type 'signedint'", "none")),
        (dict(arguments={**arguments, "x-dead-letter-exchange": "dlx"}), text % ("x-dead-letter-exchange", "the value 'dlx' of type 'longstr'", "none")),
        (dict(arguments={**arguments, "x-max-priority": 5}), text % ("x-max-priority", "the value '5' of type 'signedint'", "none")),
        (dict(arguments={**arguments, "x-queue-type": "quorum"}), text % ("x-queue-type", "", "")[:60]),
    ):
        wanted = wanted if "x-queue-type" not in wanted else f"PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue '{name}' in vhost '/': received"
        refuses(connection, 406, wanted, lambda channel, fault=fault: channel.queue_declare(name, **{"durable": True, "arguments": arguments, **fault}))
    refuses(connection, 405, "RESOURCE_LOCKED - cannot obtain exclusive access", lambda channel: channel.queue_declare(name, durable=True, exclusive=True, arguments=arguments))
    # Numbers are equal whatever their type on the wire, and arguments that mean nothing to the broker do not count.
    connection.channel().queue_declare(name, durable=True, arguments={"x-message-ttl": 60000, "x-max-length": 10, "mine": "x"})


@case
def equivalence_of_a_classic_type_that_is_not_said(kit):
    connection = kit.connection()
    name = kit.queue(connection.channel(), durable=True)
    connection.channel().queue_declare(name, durable=True, arguments={"x-queue-type": "classic"})


@case
def reserved_names_are_refused(kit):
    connection = kit.connection()
    for name in ("amq.mine", "amq."):
        refuses(connection, 403, f"ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*'", lambda channel: channel.queue_declare(name))


@case
def invalid_arguments(kit):
    connection = kit.connection()
    name = kit.unique("never")
    for arguments, text in (
        ({"x-message-ttl": "soon"}, "PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue"), ({"x-message-ttl": -1}, "PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue"),
        ({"x-expires": 0}, "PRECONDITION_FAILED - invalid arg 'x-expires' for queue"), ({"x-expires": "x"}, "PRECONDITION_FAILED - invalid arg 'x-expires' for queue"),
        ({"x-max-length": -1}, "PRECONDITION_FAILED - invalid arg 'x-max-length' for queue"), ({"x-max-length-bytes": "many"}, "PRECONDITION_FAILED - invalid arg 'x-max-length-bytes' for queue"),
        ({"x-max-priority": -1}, "PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue"), ({"x-max-priority": 256}, "PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue"),
        ({"x-overflow": "explode"}, "PRECONDITION_FAILED - invalid arg 'x-overflow' for queue"), ({"x-dead-letter-exchange": 1}, "PRECONDITION_FAILED - invalid"),
        ({"x-dead-letter-routing-key": "key"}, "PRECONDITION_FAILED - invalid arg 'x-dead-letter-routing-key' for queue"),
        ({"x-single-active-consumer": "yes"}, "PRECONDITION_FAILED - invalid arg 'x-single-active-consumer' for queue"),
        ({"x-queue-type": "round"}, "PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue"),
    ):
        try:
            refuses(connection, 406, text, lambda channel, arguments=arguments: channel.queue_declare(name, durable=True, arguments=arguments))
        except AssertionError as error:
            raise AssertionError(f"{arguments}: {error}") from None
    assert not kit.exists(name), "declared all the same"


@case
def quorum_and_stream_must_be_durable(kit):
    connection = kit.connection()
    for kind in ("quorum", "stream"):
        name = kit.unique(kind)
        for fault, text in ((dict(durable=False), "PRECONDITION_FAILED - invalid property 'non-durable' for queue"),
                            (dict(durable=True, exclusive=True), "PRECONDITION_FAILED - invalid property 'exclusive-owner' for queue"),
                            (dict(durable=True, auto_delete=True), "PRECONDITION_FAILED - invalid property 'auto-delete' for queue")):
            refuses(connection, 406, text if ORACLE else "PRECONDITION_FAILED", lambda channel, fault=fault: channel.queue_declare(name, arguments={"x-queue-type": kind}, **fault))


@case
def names_of_all_sorts(kit):
    channel = kit.channel()
    for name in ("a/b", "a%2Fb", "ünïcode ключ", "with space", ".", "..", "x" * 200, "%", "a:b|c*?", "quote'\""):
        name = kit.unique("") + name
        name = name[-255:]
        queue = kit.queue(channel, name)
        same(name, queue, "name")
        channel.queue_bind(queue, "amq.topic", name[:200])
        publish(channel, queue, name.encode())
        arrives(channel, queue, name)


@case
def names_differ_by_case_and_bytes(kit):
    channel = kit.channel()
    base = kit.unique("name")
    queues = [kit.queue(channel, base + end) for end in ("", "A", "a", " ", "%41")]
    for queue in queues:
        publish(channel, queue, queue)
    for queue in queues:
        arrives(channel, queue, queue)


@case
def queue_ttl(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, arguments={"x-message-ttl": 500})
    publish(channel, queue, "a", "b")
    same(2, depth(channel, queue), "at first")
    started = time.monotonic()
    wait_for(channel, "they expire, though nobody consumes", lambda: depth(channel, queue) == 0)
    assert time.monotonic() - started > 0.2, "too soon"
    publish(channel, queue, "c")
    arrives(channel, queue, "c")


@case
def message_ttl(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel)
    publish(channel, queue, "short", expiration="300")
    publish(channel, queue, "long", expiration="60000")
    publish(channel, queue, "never")
    wait_for(channel, "one expires", lambda: depth(channel, queue) == 2)
    method, properties, body = get(channel, queue)
    same((b"long", "60000"), (body, properties.expiration), "body, expiration")
    arrives(channel, queue, "never")


@case
def message_ttl_never_delivers_what_has_expired(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel)
    publish(channel, queue, "head")
    publish(channel, queue, "expired behind it", expiration="1")
    channel.connection.sleep(0.3)
    same("head", get(channel, queue)[2].decode(), "first")
    empty(channel, queue)


@case
def message_ttl_zero(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel)
    publish(channel, queue, "nobody waits", expiration="0")
    wait_for(channel, "it expires at once", lambda: depth(channel, queue) == 0)
    empty(channel, queue)
    # Who asks right after it came is too late as well.
    for number in range(20):
        publish(channel, queue, f"late {number}", expiration="0")
        same(None, get(channel, queue), "what is got")


@case
def message_ttl_zero_is_delivered_once(kit):
    channel = kit.channel(confirm=True)
    dead = kit.queue(channel)
    to_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    ways = [({"x-message-ttl": 0}, {}), ({}, {"expiration": "0"}), ({**to_dead, "x-message-ttl": 0}, {}), (to_dead, {"expiration": "0"})]
    for arguments, properties in ways:
        queue = kit.queue(channel, arguments=arguments)
        taker = kit.channel()
        consumer = Consumer(taker, queue)
        for attempt in range(20):  # it is for who waits, if that is quick enough
            publish(channel, queue, f"attempt {attempt}", **properties)
            taker.connection.sleep(0.3)
            if consumer.messages:
                break
        consumer.wait(1)
        drain(channel, dead)
        taker.basic_reject(consumer.tags()[0], requeue=True)
        consumer.none_more(1)
        if to_dead.items() <= arguments.items():
            method, properties, body = get_soon(channel, dead)
            same((consumer.bodies()[0], "expired"), (body.decode(), properties.headers["x-death"][0]["reason"]), "body, reason of death")
        taker.connection.close()
        empty(channel, queue)


@case
def lower_ttl_wins(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, arguments={"x-message-ttl": 400})
    publish(channel, queue, "queue's", expiration="60000")
    wait_for(channel, "the queue's TTL holds", lambda: depth(channel, queue) == 0, 10)
    other = kit.queue(channel, arguments={"x-message-ttl": 60000})
    publish(channel, other, "message's", expiration="300")
    wait_for(channel, "the message's holds", lambda: depth(channel, other) == 0, 10)


@case
def invalid_expiration(kit):
    connection = kit.connection()
    queue = kit.queue(connection.channel())
    for expiration in ("soon", "-1", "1.5"):
        refuses(connection, 406, "PRECONDITION_FAILED - invalid expiration", lambda channel, expiration=expiration: publish(channel, queue, "x", expiration=expiration))


@case
def held_messages_do_not_expire(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, arguments={"x-message-ttl": 300})
    publish(channel, queue, "held")
    method, _, body = get_soon(channel, queue, auto_ack=False)
    channel.connection.sleep(0.8)
    channel.basic_ack(method.delivery_tag)  # still ours to settle
    publish(channel, queue, "requeued")
    method, _, _ = get_soon(channel, queue, auto_ack=False)
    channel.connection.sleep(0.5)
    channel.basic_nack(method.delivery_tag, requeue=True)
    wait_for(channel, "given back too late, it expires", lambda: depth(channel, queue) == 0)
    empty(channel, queue)


@case
def queue_expires(kit):
    channel = kit.channel()
    queue = kit.queue(channel, arguments={"x-expires": 700})
    publish(channel, queue, "x")
    assert kit.exists(queue), "too soon"
    watcher = kit.channel()
    watcher.connection.sleep(1.0)
    wait_for(watcher, "it expires unused", lambda: (watcher.connection.sleep(1.2), not kit.exists(queue))[1])


@case
def queue_that_is_asked_for_does_not_expire(kit):
    channel = kit.channel()
    actions = {"passive": lambda name: depth(channel, name), "get": lambda name: get(channel, name), "declare": lambda name: channel.queue_declare(name, arguments={"x-expires": 2000})}
    queues = {kit.queue(channel, arguments={"x-expires": 2000}): action for action in actions.values()}
    unused = kit.queue(channel, arguments={"x-expires": 2000})
    for _ in range(8):
        channel.connection.sleep(0.5)
        for queue, action in queues.items():
            action(queue)
    assert not kit.exists(unused), "the one that nobody asked for is there"
    watcher = kit.channel()
    watcher.connection.sleep(2.5)
    for queue in queues:
        wait_for(watcher, "not asked for any more, it expires", lambda queue=queue: (watcher.connection.sleep(2.5) if kit.exists(queue) else None, not kit.exists(queue))[1])


@case
def queue_with_a_consumer_does_not_expire(kit):
    channel = kit.channel()
    queue = kit.queue(channel, arguments={"x-expires": 500})
    consumer = Consumer(channel, queue)
    channel.connection.sleep(1.5)
    assert kit.exists(queue), "expired under its consumer"
    channel.basic_cancel(consumer.tag)
    wait_for(channel, "then it does", lambda: (channel.connection.sleep(0.9), not kit.exists(queue))[1])


@case
def max_length_drops_the_head(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, arguments={"x-max-length": 3})
    publish(channel, queue, *"abcdef")
    wait_for(channel, "three are left", lambda: depth(channel, queue) == 3)
    arrives(channel, queue, "d", "e", "f")


@case
def max_length_drops_before_it_delivers_again(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, arguments={"x-max-length": 2})
    consumer = Consumer(channel, queue)
    for count, body in enumerate("abcde", 1):
        publish(channel, queue, body)
        consumer.wait(count)
    channel.basic_nack(consumer.tags()[-1], multiple=True, requeue=True)
    consumer.wait(7)
    channel.connection.sleep(0.3)
    same(["d", "e"], consumer.bodies()[5:], "what comes again")


@case
def max_length_holds_for_what_is_requeued(kit):
    channel = kit.channel(confirm=True)
    dead = kit.queue(channel)
    for limit in ({"x-max-length": 2}, {"x-max-length-bytes": 2}, {"x-max-length-bytes": 2, "x-max-priority": 3}):
        for to_dead in ({}, {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}):
            queue = kit.queue(channel, arguments={**limit, **to_dead})
            publish(channel, queue, "a", "b")
            tags = [get(channel, queue, auto_ack=False)[0].delivery_tag for _ in range(2)]
            publish(channel, queue, "c", "d")
            channel.basic_nack(tags[0], requeue=True)
            same(2, depth(channel, queue), "after one is given back")
            channel.basic_nack(tags[1], requeue=True)
            arrives(channel, queue, "c", "d")
            if to_dead:
                for body in "ab":
                    method, properties, got = get_soon(channel, dead)
                    same((body, "maxlen"), (got.decode(), properties.headers["x-death"][0]["reason"]), "body, reason of death")
            # The same with what a channel leaves behind.
            publish(channel, queue, "a", "b")
            leaving = channel.connection.channel()
            for _ in range(2):
                get(leaving, queue, auto_ack=False)
            publish(channel, queue, "c", "d")
            leaving.close()
            wait_for(channel, "two are left", lambda queue=queue: depth(channel, queue) == 2)
            arrives(channel, queue, "c", "d")
            if to_dead:
                arrives(channel, dead, "a", "b")


@case
def max_length_zero(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, arguments={"x-max-length": 0})
    publish(channel, queue, "a")
    wait_for(channel, "none stays", lambda: depth(channel, queue) == 0)


@case
def max_length_counts_only_ready(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, arguments={"x-max-length": 2})
    publish(channel, queue, "a", "b")
    consumer = Consumer(kit.channel(), queue)
    consumer.wait(2)
    publish(channel, queue, "c", "d")
    consumer.wait(4)
    same(["a", "b", "c", "d"], consumer.bodies(), "all reached the consumer")


@case
def max_length_bytes(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, arguments={"x-max-length-bytes": 1000})
    publish(channel, queue, *(letter * 300 for letter in "abcde"))
    wait_for(channel, "three of 300 bytes fit", lambda: depth(channel, queue) == 3)
    arrives(channel, queue, *(letter * 300 for letter in "cde"))


@case
def overflow_reject_publish(kit):
    channel = kit.channel(confirm=True)
    for limit in ({"x-max-length": 2}, {"x-max-length-bytes": 4}):
        queue = kit.queue(channel, arguments={**limit, "x-overflow": "reject-publish"})
        accepted = 0
        for number in range(6):
            try:
                publish(channel, queue, f"{number:02}")
                accepted += 1
            except NackError:
                pass
        assert 2 <= accepted <= 3, f"{accepted} accepted"
        got = drain(channel, queue)
        same([f"{number:02}" for number in range(accepted)], got, "the first ones stay")
        for attempt in range(50):
            try:
                publish(channel, queue, "ag")
                break
            except NackError:  # the queue may hear of the room a moment later
                assert attempt < 49, "full for ever"
                channel.connection.sleep(0.05)
        arrives(channel, queue, "ag")


@case
def overflow_reject_publish_tells_only_who_confirms(kit):
    channel = kit.channel()
    queue = kit.queue(channel, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    publish(channel, queue, *"abc")
    wait_for(channel, "the first stays", lambda: depth(channel, queue) == 1)
    arrives(channel, queue, "a")


@case
def overflow_reject_publish_dlx(kit):
    channel = kit.channel(confirm=True)
    dead = kit.queue(channel)
    queue = kit.queue(channel, arguments={"x-max-length": 1, "x-overflow": "reject-publish-dlx", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    refusals = 0
    for body in "abc":
        try:
            publish(channel, queue, body)
        except NackError:
            refusals += 1
    assert refusals, "nothing was refused"
    wait_for(channel, "the refused are dead letters", lambda: depth(channel, dead) == refusals)
    method, properties, body = get(channel, dead)
    same(("maxlen", queue, 1), tuple(properties.headers["x-death"][0][word] for word in ("reason", "queue", "count")), "x-death")


@case
def priorities(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, arguments={"x-max-priority": 5})
    for priority in (0, 3, 5, 1, 9, None, 3, 5):
        publish(channel, queue, f"{priority}", priority=priority)
    same(8, depth(channel, queue), "ready over all priorities")
    # Above the maximum counts as the maximum, none as 0; equal ones in order.
    same(["5", "9", "5", "3", "3", "1", "0", "None"], drain(channel, queue), "order")


@case
def priorities_for_a_consumer(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, durable=True, arguments={"x-max-priority": 10})
    for number in range(100):
        publish(channel, queue, f"{number % 10}-{number:02}", priority=number % 10, delivery_mode=2)
    taker = kit.channel()
    taker.basic_qos(prefetch_count=5)
    consumer = Consumer(taker, queue)
    consumer.acknowledge = True
    bodies = [body.decode() for _, _, body in consumer.wait(100)]
    same(sorted(bodies, key=lambda body: (-int(body[0]), body)), bodies, "highest first, in order")


@case
def priority_requeue_keeps_its_place(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, arguments={"x-max-priority": 5})
    publish(channel, queue, "low 1", "low 2")
    publish(channel, queue, "high 1", "high 2", priority=4)
    method, _, body = get(channel, queue, auto_ack=False)
    same(b"high 1", body, "first")
    channel.basic_reject(method.delivery_tag, requeue=True)
    arrives(channel, queue, "high 1", "high 2", "low 1", "low 2")


@case
def purge(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel)
    publish(channel, queue, *"abcdef")
    held, _, _ = get(channel, queue, auto_ack=False)
    same(5, channel.queue_purge(queue).method.message_count, "purged: what is ready")
    same(0, depth(channel, queue), "ready")
    channel.basic_nack(held.delivery_tag, requeue=True)
    wait_for(channel, "what was held is there again", lambda: depth(channel, queue) == 1)
    same(1, channel.queue_purge(queue).method.message_count, "purged")
    refuses(channel.connection, 404, "NOT_FOUND - no queue 'never-made' in vhost '/'", lambda channel: channel.queue_purge("never-made"))


@case
def delete(kit):
    connection = kit.connection()
    channel = connection.channel()
    channel.confirm_delivery()
    queue = kit.queue(channel)
    publish(channel, queue, "a", "b")
    refuses(connection, 406, "PRECONDITION_FAILED - queue", lambda channel: channel.queue_delete(queue, if_empty=True))
    consumer = Consumer(channel, queue)
    consumer.wait(2)
    refuses(connection, 406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use", lambda channel: channel.queue_delete(queue, if_unused=True))
    channel.basic_cancel(consumer.tag)
    channel.basic_nack(0, multiple=True, requeue=True)
    wait_for(channel, "both are back", lambda: depth(channel, queue) == 2)
    same(2, channel.queue_delete(queue, if_unused=True).method.message_count, "deleted with")
    assert not kit.exists(queue), "still there"
    same(0, channel.queue_delete(queue).method.message_count, "of what is not there")


@case
def deleted_and_declared_again_is_empty(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, durable=True)
    for _ in range(5):
        publish(channel, queue, "old", delivery_mode=2)
        channel.queue_delete(queue)
        channel.queue_declare(queue, durable=True)
        same(0, depth(channel, queue), "fresh")
        publish(channel, queue, "new", delivery_mode=2)
        arrives(channel, queue, "new")


@case
def declare_with_nothing_to_wait_for(kit):
    channel = kit.channel()
    queue = kit.unique("queue")
    channel.queue_declare(queue, durable=True, arguments={"x-message-ttl": 60_000, "x-max-length": 100, "x-overflow": "drop-head", "x-queue-mode": "lazy", "x-queue-version": 2, "x-queue-master-locator": "min-masters"})
    kit.queue(channel, queue, durable=True, arguments={"x-message-ttl": 60_000, "x-max-length": 100, "x-overflow": "drop-head", "x-queue-mode": "lazy", "x-queue-version": 2, "x-queue-master-locator": "min-masters"})
    publish(channel, queue, "x")
    arrives(channel, queue, "x")


@case
def single_active_consumer(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, durable=True, arguments={"x-single-active-consumer": True})
    first, second = Consumer(kit.channel(), queue), Consumer(kit.channel(), queue)
    publish(channel, queue, "a", "b")
    first.wait(2)
    second.none_more(0)
    first.channel.basic_ack(first.messages[0][0].delivery_tag)
    first.channel.connection.close()
    got = second.wait(1)
    same([("b", True)], [(body.decode(), method.redelivered) for method, _, body in got], "what was not acknowledged goes to the next")
    publish(channel, queue, "c")
    same(["b", "c"], [body.decode() for _, _, body in second.wait(2)], "messages")


@case
def single_active_consumer_by_cancel(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, arguments={"x-single-active-consumer": True})
    # At one gateway: several keep the order of consumers each for itself.
    consumers = [Consumer(kit.channel(at=0), queue, auto_ack=True) for _ in range(3)]
    for at, consumer in enumerate(consumers):
        publish(channel, queue, str(at))
        same([str(at)], [body.decode() for _, _, body in consumer.wait(1)], "the active one gets it")
        consumer.channel.basic_cancel(consumer.tag)


@case
def unknown_arguments_are_kept(kit):
    channel = kit.channel()
    queue = kit.queue(channel, arguments={"x-of-mine": 5, "another": [1, "two", {"three": 3}]})
    publish(channel, queue, "x")
    arrives(channel, queue, "x")


@case
def exclusive_beats_passive_texts(kit):
    try:
        kit.channel().queue_declare("", passive=True)
    except ChannelClosedByBroker as error:
        same(404, error.reply_code, "code of a passive declare without a name")
    else:
        raise AssertionError("declared")


if __name__ == "__main__":
    main(jobs=JOBS)
