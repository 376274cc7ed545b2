"""pika: dead-lettering, x-death, and its circles."""

from amqp_kit import JOBS, ORACLE, Consumer, arrives, case, depth, empty, get_soon, main, no_oracle, publish, same, wait_for


def death(properties, at=0):
    entry = properties.headers["x-death"][at]
    return {word: entry[word] for word in ("reason", "queue", "count", "exchange", "routing-keys")}


def dying_queue(kit, channel, dead, **arguments):
    """A queue whose dead letters go to the queue `dead`."""
    return kit.queue(channel, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, **{name.replace("_", "-"): value for name, value in arguments.items()}})


@case
def rejected(kit):
    channel = kit.channel(confirm=True)
    dead = kit.queue(channel)
    queue = dying_queue(kit, channel, dead)
    publish(channel, queue, "a", "b", headers={"mine": "kept"}, message_id="7")
    for action in (lambda tag: channel.basic_reject(tag, requeue=False), lambda tag: channel.basic_nack(tag, requeue=False)):
        method, _, body = get_soon(channel, queue, auto_ack=False)
        action(method.delivery_tag)
        method, properties, copy = get_soon(channel, dead)
        same((body, dead, ""), (copy, method.routing_key, method.exchange), "body, routing key, exchange")
        same({"reason": "rejected", "queue": queue, "count": 1, "exchange": "", "routing-keys": [queue]}, death(properties), "x-death")
        same(("rejected", queue, "", "kept", "7"), tuple(properties.headers[word] for word in ("x-first-death-reason", "x-first-death-queue", "x-first-death-exchange", "mine")) + (properties.message_id,), "the rest")
        assert properties.headers["x-death"][0]["time"], "no time"
        if not ORACLE:
            same(("rejected", queue, ""), tuple(properties.headers[word] for word in ("x-last-death-reason", "x-last-death-queue", "x-last-death-exchange")), "the last death")
    empty(channel, queue)


@case
def rejected_many_in_order(kit):
    channel = kit.channel(confirm=True)
    dead = kit.queue(channel)
    queue = dying_queue(kit, channel, dead)
    wanted = [str(number) for number in range(200)]
    publish(channel, queue, *wanted)
    consumer = Consumer(channel, queue)
    consumer.wait(200)
    channel.basic_nack(0, multiple=True, requeue=False)
    got = Consumer(channel, dead, auto_ack=True).wait(200)
    same(wanted, [body.decode() for _, _, body in got], "in order")


@case
def expired(kit):
    channel = kit.channel(confirm=True)
    dead = kit.queue(channel)
    queue = dying_queue(kit, channel, dead, x_message_ttl=300)
    publish(channel, queue, "by the queue's TTL")
    method, properties, body = get_soon(channel, dead)
    same({"reason": "expired", "queue": queue, "count": 1, "exchange": "", "routing-keys": [queue]}, death(properties), "x-death")
    same(None, properties.expiration, "expiration")
    publish(channel, queue, "by its own", expiration="100")
    method, properties, body = get_soon(channel, dead)
    same((b"by its own", None, "100"), (body, properties.expiration, properties.headers["x-death"][0].get("original-expiration")), "expiration is taken off, and noted")


@case
def a_delay_queue(kit):
    """The usual way to wait: publish to a queue without consumers whose dead letters come to where they belong."""
    channel = kit.channel(confirm=True)
    work = kit.queue(channel, durable=True)
    delay = kit.queue(channel, durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": work, "x-message-ttl": 700})
    consumer = Consumer(kit.channel(), work, auto_ack=True)
    for number in range(20):
        publish(channel, delay, str(number), delivery_mode=2)
    consumer.wait(20)
    same([str(number) for number in range(20)], consumer.bodies(), "after the delay, in order")


@case
def maxlen(kit):
    channel = kit.channel(confirm=True)
    dead = kit.queue(channel)
    queue = dying_queue(kit, channel, dead, x_max_length=2)
    publish(channel, queue, *"abcd")
    got = [get_soon(channel, dead) for _ in range(2)]
    same([("a", "maxlen"), ("b", "maxlen")], [(body.decode(), properties.headers["x-death"][0]["reason"]) for _, properties, body in got], "the head's")
    same(2, depth(channel, queue), "left")


@case
def through_an_exchange_with_its_own_key(kit):
    channel = kit.channel(confirm=True)
    exchange, source = kit.exchange(channel, "topic"), kit.exchange(channel, "direct")
    dead, other = kit.queue(channel), kit.queue(channel)
    channel.queue_bind(dead, exchange, "orders.#")
    channel.queue_bind(other, exchange, "bills.#")
    queue = kit.queue(channel, arguments={"x-dead-letter-exchange": exchange})
    channel.queue_bind(queue, source, "orders.new")
    publish(channel, "orders.new", "x", exchange=source, headers={"CC": ["orders.copy"]})
    method, _, _ = get_soon(channel, queue, auto_ack=False)
    channel.basic_reject(method.delivery_tag, requeue=False)
    method, properties, body = get_soon(channel, dead)
    same((exchange, "orders.new"), (method.exchange, method.routing_key), "where it came from")
    same({"reason": "rejected", "queue": queue, "count": 1, "exchange": source, "routing-keys": ["orders.new", "orders.copy"]}, death(properties), "x-death")
    empty(channel, other)


@case
def an_exchange_that_is_not_there(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, arguments={"x-dead-letter-exchange": "never-made"})
    publish(channel, queue, "x", "y")
    method, _, _ = get_soon(channel, queue, auto_ack=False)
    channel.basic_reject(method.delivery_tag, requeue=False)
    method, _, body = get_soon(channel, queue)
    same(b"y", body, "the first is gone, and all goes on")


@case
def counted_over_rounds(kit):
    channel = kit.channel(confirm=True)
    first = kit.unique("first")
    retry = kit.queue(channel, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": first, "x-message-ttl": 100})
    kit.queue(channel, first, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": retry})
    publish(channel, first, "x")
    for rounds in range(4):
        method, properties, body = get_soon(channel, first, auto_ack=False)
        if rounds:
            same([("expired", retry, rounds), ("rejected", first, rounds)], [tuple(entry[word] for word in ("reason", "queue", "count")) for entry in properties.headers["x-death"]], "x-death, the newest first")
            same(("rejected", first), (properties.headers["x-first-death-reason"], properties.headers["x-first-death-queue"]), "the first death stays")
        channel.basic_reject(method.delivery_tag, requeue=False)


@case
def a_circle_of_expiry_alone_ends(kit):
    channel = kit.channel(confirm=True)
    name = kit.unique("circle")
    kit.queue(channel, name, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": name, "x-message-ttl": 50})
    publish(channel, name, "x")
    wait_for(channel, "dropped: it came back to where it died, with no rejection between", lambda: depth(channel, name) == 0)
    channel.connection.sleep(0.3)
    empty(channel, name)


@case
def to_several_queues(kit):
    channel = kit.channel(confirm=True)
    exchange = kit.exchange(channel, "fanout")
    dead = [kit.queue(channel) for _ in range(3)]
    for queue in dead:
        channel.queue_bind(queue, exchange)
    queue = kit.queue(channel, arguments={"x-dead-letter-exchange": exchange})
    publish(channel, queue, "x")
    method, _, _ = get_soon(channel, queue, auto_ack=False)
    channel.basic_reject(method.delivery_tag, requeue=False)
    for each in dead:
        same(b"x", get_soon(channel, each)[2], "dead letter")


@case
def quorum_at_least_once(kit):
    channel = kit.channel(confirm=True)
    dead = kit.queue(channel, durable=True, arguments={"x-queue-type": "quorum"})
    queue = kit.queue(channel, durable=True, arguments={"x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"})
    publish(channel, queue, *"abc", delivery_mode=2)
    for _ in range(3):
        method, _, _ = get_soon(channel, queue, auto_ack=False)
        channel.basic_reject(method.delivery_tag, requeue=False)
    got = [get_soon(channel, dead) for _ in range(3)]
    same([("a", "rejected"), ("b", "rejected"), ("c", "rejected")], [(body.decode(), properties.headers["x-death"][0]["reason"]) for _, properties, body in got], "dead letters")
    wait_for(channel, "gone from where they died", lambda: depth(channel, queue) == 0)


@case
@no_oracle("RabbitMQ tries again after three minutes")
def at_least_once_waits_for_a_way(kit):
    channel = kit.channel(confirm=True)
    dead = kit.unique("dead")
    queue = kit.queue(channel, durable=True, arguments={"x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"})
    publish(channel, queue, "a", delivery_mode=2)
    method, _, _ = get_soon(channel, queue, auto_ack=False)
    channel.basic_reject(method.delivery_tag, requeue=False)
    wait_for(channel, "it is dead", lambda: depth(channel, queue) == 0)
    channel.connection.sleep(0.5)
    channel.queue_declare(dead, durable=True, arguments={"x-queue-type": "quorum"})
    kit.undo.append(lambda: kit.channel().queue_delete(dead))
    arrives(channel, dead, "a")


@case
def a_purge_and_a_delete_are_no_death(kit):
    channel = kit.channel(confirm=True)
    dead = kit.queue(channel)
    queue = dying_queue(kit, channel, dead)
    publish(channel, queue, "a")
    channel.queue_purge(queue)
    publish(channel, queue, "b")
    channel.queue_delete(queue)
    channel.connection.sleep(0.2)
    empty(channel, dead)


@case
@no_oracle("3.10 takes x-death from the publisher as its own")
def a_publishers_x_death_is_not_believed(kit):
    channel = kit.channel(confirm=True)
    dead = kit.queue(channel)
    queue = dying_queue(kit, channel, dead)
    publish(channel, queue, "x", headers={"x-death": "nonsense"})
    method, _, _ = get_soon(channel, queue, auto_ack=False)
    channel.basic_reject(method.delivery_tag, requeue=False)
    death = get_soon(channel, dead)[1].headers["x-death"][0]
    same((1, "rejected"), (death["count"], death["reason"]), "x-death")


if __name__ == "__main__":
    main(jobs=JOBS)
