"""pika: consume, get, settle, recover, prefetch, priorities, exclusive, cancel; and quorum queues' delivery counts."""

import pika
from amqp_kit import (JOBS, ORACLE, Consumer, arrives, case, depth, empty, get, get_soon, main, no_oracle, publish, refuses, same, wait_for)


@case
def consume_and_acknowledge(kit):
    channel = kit.channel()
    queue = kit.queue(channel)
    publish(channel, queue, *"abc")
    consumer = Consumer(channel, queue)
    consumer.wait(3)
    same((["a", "b", "c"], [1, 2, 3]), (consumer.bodies(), consumer.tags()), "bodies, delivery tags")
    for tag in consumer.tags():
        channel.basic_ack(tag)
    channel.close()
    watcher = kit.channel()
    empty(watcher, queue)


@case
def acknowledge_many(kit):
    channel, watcher = kit.channel(), kit.channel()
    queue = kit.queue(channel)
    publish(channel, queue, *"abcde")
    consumer = Consumer(channel, queue)
    tags = [method.delivery_tag for method, _, _ in consumer.wait(5)]
    channel.basic_ack(tags[2], multiple=True)
    channel.connection.close()
    wait_for(watcher, "two come back", lambda: depth(watcher, queue) == 2)
    arrives(watcher, queue, "d", "e")


@case
def acknowledge_all_by_zero(kit):
    channel, watcher = kit.channel(), kit.channel()
    queue = kit.queue(channel)
    publish(channel, queue, *"abc")
    Consumer(channel, queue).wait(3)
    channel.basic_ack(0, multiple=True)
    channel.connection.close()
    empty(watcher, queue)


@case
def no_ack_takes_at_once(kit):
    channel, watcher = kit.channel(), kit.channel()
    queue = kit.queue(channel)
    publish(channel, queue, *"abc")
    Consumer(channel, queue, auto_ack=True).wait(3)
    channel.connection.close()
    empty(watcher, queue)


@case
def get_and_get_nothing(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel)
    same(None, get(channel, queue), "of an empty queue")
    publish(channel, queue, *"abc")
    method, _, body = get(channel, queue, auto_ack=False)
    same((b"a", 2, False, "", queue), (body, method.message_count, method.redelivered, method.exchange, method.routing_key), "first")
    channel.basic_ack(method.delivery_tag)
    arrives(channel, queue, "b", "c")
    refuses(channel.connection, 404, "NOT_FOUND - no queue 'never-made' in vhost '/'", lambda channel: channel.basic_get("never-made"))


@case
def requeue_keeps_the_place(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel)
    publish(channel, queue, *"abcd")
    held = [get(channel, queue, auto_ack=False)[0].delivery_tag for _ in range(3)]
    channel.basic_reject(held[1], requeue=True)
    method, _, body = get_soon(channel, queue, auto_ack=False)
    same((b"b", True), (body, method.redelivered), "b is in front of d, and redelivered")
    channel.basic_nack(0, multiple=True, requeue=True)
    got = [get_soon(channel, queue) for _ in range(4)]
    same([("a", True), ("b", True), ("c", True), ("d", False)], [(body.decode(), method.redelivered) for method, _, body in got], "all back in order")


@case
def reject_without_requeue_drops(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel)
    publish(channel, queue, *"abc")
    tags = [get(channel, queue, auto_ack=False)[0].delivery_tag for _ in range(3)]
    channel.basic_reject(tags[0], requeue=False)
    channel.basic_nack(tags[2], multiple=True, requeue=False)
    channel.connection.sleep(0.2)
    empty(channel, queue)


@case
def requeued_goes_to_a_waiting_consumer(kit):
    channel, other = kit.channel(confirm=True), kit.channel()
    queue = kit.queue(channel)
    publish(channel, queue, "x")
    method, _, _ = get(channel, queue, auto_ack=False)
    consumer = Consumer(other, queue)
    channel.basic_nack(method.delivery_tag, requeue=True)
    same(True, consumer.wait(1)[0][0].redelivered, "redelivered")


@case
def recover(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel)
    publish(channel, queue, *"ab")
    consumer = Consumer(channel, queue)
    consumer.wait(2)
    channel.basic_recover(requeue=True)
    got = consumer.wait(4)[2:]
    same([("a", True), ("b", True)], [(body.decode(), method.redelivered) for method, _, body in got], "again")
    same([3, 4], [method.delivery_tag for method, _, _ in got], "with new tags")


@case
def unknown_delivery_tag(kit):
    connection = kit.connection()
    queue = kit.queue(connection.channel())
    for action in (lambda channel: channel.basic_ack(1), lambda channel: channel.basic_nack(99), lambda channel: channel.basic_reject(5)):
        refuses(connection, 406, "PRECONDITION_FAILED - unknown delivery tag", action)

    def twice(channel):
        publish(channel, queue, "x")
        method, _, _ = get_soon(channel, queue, auto_ack=False)
        channel.basic_ack(method.delivery_tag)
        channel.basic_ack(method.delivery_tag)
    refuses(connection, 406, "PRECONDITION_FAILED - unknown delivery tag 1", twice)


@case
def settling_on_another_channel_is_refused(kit):
    connection = kit.connection()
    channel = connection.channel()
    queue = kit.queue(channel)
    publish(channel, queue, "x")
    method, _, _ = get_soon(channel, queue, auto_ack=False)
    refuses(connection, 406, "PRECONDITION_FAILED - unknown delivery tag", lambda other: other.basic_ack(method.delivery_tag))
    channel.basic_ack(method.delivery_tag)


@case
def prefetch_of_each_consumer(kit):
    channel = kit.channel()
    queue = kit.queue(channel)
    publish(channel, queue, *map(str, range(20)))
    taker = kit.channel()
    taker.basic_qos(prefetch_count=3)
    consumer = Consumer(taker, queue)
    consumer.none_more(3)
    taker.basic_ack(consumer.tags()[0])
    consumer.none_more(4)
    taker.basic_ack(consumer.tags()[3], multiple=True)
    consumer.none_more(7)
    second = Consumer(taker, queue)  # a limit of its own
    second.none_more(3)
    same([str(number) for number in range(7)], consumer.bodies(), "in order")


@case
def prefetch_of_the_channel(kit):
    channel = kit.channel()
    one, two = kit.queue(channel), kit.queue(channel)
    publish(channel, one, *map(str, range(10)))
    publish(channel, two, *map(str, range(10)))
    taker = kit.channel()
    taker.basic_qos(prefetch_count=4, global_qos=True)
    consumers = [Consumer(taker, one), Consumer(taker, two)]
    wait_for(taker, "four in all", lambda: sum(len(consumer.messages) for consumer in consumers) == 4)
    taker.connection.sleep(0.3)
    same(4, sum(len(consumer.messages) for consumer in consumers), "over both consumers")
    taker.basic_ack(0, multiple=True)
    wait_for(taker, "four more", lambda: sum(len(consumer.messages) for consumer in consumers) == 8)
    taker.connection.sleep(0.3)
    same(8, sum(len(consumer.messages) for consumer in consumers), "over both consumers")


@case
def prefetch_of_both_kinds(kit):
    channel = kit.channel()
    queue = kit.queue(channel)
    publish(channel, queue, *map(str, range(20)))
    taker = kit.channel()
    taker.basic_qos(prefetch_count=3)
    taker.basic_qos(prefetch_count=5, global_qos=True)
    consumers = [Consumer(taker, queue), Consumer(taker, queue)]
    wait_for(taker, "five in all", lambda: sum(len(consumer.messages) for consumer in consumers) == 5)
    taker.connection.sleep(0.3)
    counts = sorted(len(consumer.messages) for consumer in consumers)
    same([2, 3], counts, "three at most each, five in all")


@case
def prefetch_zero_is_no_limit(kit):
    channel = kit.channel()
    queue = kit.queue(channel)
    publish(channel, queue, *map(str, range(3000)))
    taker = kit.channel()
    taker.basic_qos(prefetch_count=0)
    Consumer(taker, queue).wait(3000)


@case
def prefetch_does_not_bind_who_does_not_ack(kit):
    channel = kit.channel()
    queue = kit.queue(channel)
    publish(channel, queue, *map(str, range(50)))
    taker = kit.channel()
    taker.basic_qos(prefetch_count=1)
    Consumer(taker, queue, auto_ack=True).wait(50)


@case
def prefetch_of_the_channel_holds_up_who_does_not_ack(kit):
    channel = kit.channel()
    held, taken = kit.queue(channel), kit.queue(channel)
    taker = kit.channel()
    taker.basic_qos(prefetch_count=2, global_qos=True)
    holder, other = Consumer(taker, held), Consumer(taker, taken, auto_ack=True)
    publish(channel, taken, *map(str, range(50)))
    other.wait(50)  # takes no places
    publish(channel, held, "a", "b")
    holder.wait(2)
    publish(channel, taken, *map(str, range(50, 100)))
    other.none_more(50)
    taker.basic_ack(holder.tags()[0])
    other.wait(100)
    same(list(map(str, range(100))), other.bodies(), "in order")


@case
def prefetch_size_is_not_implemented(kit):
    connection = kit.connection()
    try:
        connection.channel().basic_qos(prefetch_size=100, prefetch_count=1)
        raise AssertionError("accepted")
    except pika.exceptions.AMQPError as error:
        assert "540" in str(error) and "NOT_IMPLEMENTED" in str(error), error


@case
def round_robin(kit):
    channel = kit.channel(confirm=True, at=0)
    queue = kit.queue(channel)
    taker = kit.connection(at=0)
    consumers = [Consumer(taker.channel(), queue, auto_ack=True) for _ in range(3)]
    publish(channel, queue, *map(str, range(30)))
    wait_for(consumers[0].channel, "all of them", lambda: sum(len(consumer.messages) for consumer in consumers) == 30)
    counts = [len(consumer.messages) for consumer in consumers]
    assert min(counts) >= 5, f"shares {counts}"


@case
def busy_consumers_are_passed_over(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel)
    busy, free = kit.channel(), kit.channel()
    busy.basic_qos(prefetch_count=1)
    free.basic_qos(prefetch_count=1)
    first, second = Consumer(busy, queue), Consumer(free, queue)
    second.acknowledge = True
    publish(channel, queue, *map(str, range(20)))
    second.wait(19)
    same(1, len(first.none_more(1)), "the busy one has its first")


@case
def consumer_priorities(kit):
    channel = kit.channel(confirm=True, at=0)
    queue = kit.queue(channel)
    low, high = kit.channel(at=0), kit.channel(at=0)
    high.basic_qos(prefetch_count=2)
    second = Consumer(low, queue, auto_ack=True, arguments={"x-priority": -5})
    first = Consumer(high, queue, arguments={"x-priority": 10})
    publish(channel, queue, *"abcd")
    first.wait(2)
    second.wait(2)
    same((["a", "b"], ["c", "d"]), (first.bodies(), second.bodies()), "the higher is served as long as it has room")
    high.basic_ack(0, multiple=True)
    high.connection.process_data_events(0.2)
    publish(channel, queue, "e")
    first.wait(3)
    refuses(kit.connection(), 406, "PRECONDITION_FAILED - invalid arg 'x-priority'" if ORACLE else "PRECONDITION_FAILED", lambda channel: channel.basic_consume(queue, print, arguments={"x-priority": "high"}))


@case
def exclusive_consumer(kit):
    channel = kit.channel()
    queue = kit.queue(channel)
    holder = Consumer(channel, queue, exclusive=True)
    text = f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"
    for at in range(len(kit.addresses)):
        refuses(kit.connection(at=at), 403, text, lambda channel: channel.basic_consume(queue, print))
        refuses(kit.connection(at=at), 403, text, lambda channel: channel.basic_consume(queue, print, exclusive=True))
    publish(channel, queue, "x")
    holder.wait(1)
    channel.basic_cancel(holder.tag)
    other = Consumer(kit.channel(), queue)
    refuses(kit.connection(), 403, text, lambda channel: channel.basic_consume(queue, print, exclusive=True))
    other.channel.connection.close()


@case
def cancel(kit):
    channel = kit.channel()
    queue = kit.queue(channel)
    consumer = Consumer(channel, queue)
    publish(channel, queue, "a")
    consumer.wait(1)
    channel.basic_cancel(consumer.tag)
    publish(channel, queue, "b")
    consumer.none_more(1)
    channel.basic_ack(consumer.tags()[0])  # still held after the cancel
    arrives(channel, queue, "b")
    again = Consumer(channel, queue, consumer_tag=consumer.tag)  # the tag is free
    publish(channel, queue, "c")
    again.wait(1)


@case
def consumer_tags(kit):
    channel = kit.channel()
    queue = kit.queue(channel)
    consumer = Consumer(channel, queue, consumer_tag="mine ünï")
    publish(channel, queue, "x")
    same("mine ünï", consumer.wait(1)[0][0].consumer_tag, "tag in the delivery")


@case
def cancel_is_told_when_the_queue_goes(kit):
    channel, other = kit.channel(), kit.channel()
    queue = kit.queue(other)
    cancelled = []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    consumer = Consumer(channel, queue)
    other.queue_delete(queue)
    wait_for(channel, "told", lambda: cancelled == [consumer.tag])
    channel.basic_qos(prefetch_count=1)  # the channel lives


@case
def consume_from_nothing(kit):
    refuses(kit.connection(), 404, "NOT_FOUND - no queue 'never-made' in vhost '/'", lambda channel: channel.basic_consume("never-made", print))


@case
def two_consumers_share(kit):
    channel = kit.channel()
    queue = kit.queue(channel)
    consumers = [Consumer(kit.channel(), queue, auto_ack=True) for _ in range(2)]
    publish(channel, queue, *map(str, range(200)))

    def all_here():
        for consumer in consumers:
            consumer.channel.connection.process_data_events(0.01)
        return sum(len(consumer.messages) for consumer in consumers) >= 200
    wait_for(channel, "all", all_here)
    same(sorted(map(str, range(200))), sorted(body for consumer in consumers for body in consumer.bodies()), "each once")
    assert all(consumer.messages for consumer in consumers), "one got nothing"


@case
def held_by_the_dead_go_on_in_order(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel)
    publish(channel, queue, *map(str, range(100)))
    first = kit.channel(at=0)
    first.basic_qos(prefetch_count=40)
    holder = Consumer(first, queue)
    holder.wait(40)
    first.basic_ack(holder.tags()[9], multiple=True)
    first.connection.close()
    got = Consumer(kit.channel(at=1), queue, auto_ack=True).wait(90)
    same([str(number) for number in range(10, 100)], [body.decode() for _, _, body in got], "in order")
    # The ten acknowledged may have made room for ten more.
    redelivered = [method.redelivered for method, _, _ in got]
    assert all(redelivered[:30]) and not any(redelivered[40:]), f"redelivered: {redelivered}"


@case
def quorum_queue(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, durable=True, arguments={"x-queue-type": "quorum"})
    publish(channel, queue, *"abc", delivery_mode=2)
    consumer = Consumer(channel, queue)
    consumer.wait(3)
    assert all("x-delivery-count" not in (properties.headers or {}) for _, properties, _ in consumer.messages), "a count on the first delivery"
    channel.basic_ack(consumer.tags()[1])
    channel.basic_nack(consumer.tags()[0], requeue=True)
    method, properties, body = consumer.wait(4)[3]
    same((b"a", 1, True), (body, properties.headers["x-delivery-count"], method.redelivered), "after one failure")
    channel.basic_nack(method.delivery_tag, requeue=True)
    method, properties, body = consumer.wait(5)[4]
    same((b"a", 2), (body, properties.headers["x-delivery-count"]), "after two")


@case
def delivery_limit(kit):
    channel = kit.channel(confirm=True)
    dead = kit.queue(channel)
    queue = kit.queue(channel, durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    publish(channel, queue, "poison", delivery_mode=2)
    for attempt in range(3):
        method, properties, _ = get_soon(channel, queue, auto_ack=False)
        same(attempt, (properties.headers or {}).get("x-delivery-count", 0), "deliveries before")
        channel.basic_nack(method.delivery_tag, requeue=True)
    method, properties, body = get_soon(channel, dead)
    same(("poison", "delivery_limit", queue, 1), (body.decode(), *(properties.headers["x-death"][0][word] for word in ("reason", "queue", "count"))), "dead letter")
    empty(channel, queue)


@case
@no_oracle("the default limit came with 4.0")
def delivery_limit_by_default(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, durable=True, arguments={"x-queue-type": "quorum"})
    publish(channel, queue, "poison")
    deliveries = 0
    while message := get_soon(channel, queue, auto_ack=False) if deliveries < 21 else None:
        deliveries += 1
        channel.basic_nack(message[0].delivery_tag, requeue=True)
    channel.connection.sleep(0.3)
    empty(channel, queue)


@case
def quorum_refuses_a_global_prefetch(kit):
    channel = kit.channel()
    queue = kit.queue(channel, durable=True, arguments={"x-queue-type": "quorum"})
    connection = kit.connection()
    try:
        taker = connection.channel()
        taker.basic_qos(prefetch_count=5, global_qos=True)
        taker.basic_consume(queue, print)
        raise AssertionError("accepted")
    except pika.exceptions.AMQPError as error:
        assert "540" in str(error) and "NOT_IMPLEMENTED" in str(error), error


@case
@no_oracle("3.10 knows no time-out of one queue")
def acknowledgement_timeout(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, durable=True, arguments={"x-queue-type": "quorum", "x-consumer-timeout": 1000})
    publish(channel, queue, "x")
    holder, told = kit.channel(), []
    Consumer(holder, queue).wait(1)
    # pika's blocking channel says so only to whom asks it for something.
    holder._impl.add_on_close_callback(lambda _channel, reason: told.append(reason))
    wait_for(holder, "the channel is closed, for a time-out of 1 s", lambda: told, 90)
    same(406, told[0].reply_code, f"code ({told[0]})")
    assert "delivery acknowledgement on channel 1 timed out" in told[0].reply_text, told[0].reply_text
    same("x", get_soon(channel, queue)[2].decode(), "it is there again")


@case
def who_leaves_while_more_is_on_its_way_holds_nothing(kit):
    """A consumer that acknowledges and hangs up at once: what was being handed out to it meanwhile is there for others."""
    channel = kit.channel(confirm=True)
    queues = [kit.queue(channel, durable=True) for _ in range(40)]
    for queue in queues:
        publish(channel, queue, *"abcde")
        taker = kit.channel()
        taker.basic_qos(prefetch_count=2)
        Consumer(taker, queue).wait(2)
        taker.basic_ack(0, multiple=True)
        taker.connection.close()
    for queue in queues:
        wait_for(channel, f"three are ready in {queue}", lambda queue=queue: depth(channel, queue) == 3, 10)


@case
def consume_many_queues_on_one_channel(kit):
    channel = kit.channel()
    queues = [kit.queue(channel, exclusive=True) for _ in range(30)]
    consumers = [Consumer(channel, queue) for queue in queues]
    for queue in queues:
        publish(channel, queue, *"abc")
    wait_for(channel, "all", lambda: sum(len(consumer.messages) for consumer in consumers) == 90)
    same([["a", "b", "c"]] * 30, [consumer.bodies() for consumer in consumers], "each its own")
    tags = sorted(tag for consumer in consumers for tag in consumer.tags())
    same(list(range(1, 91)), tags, "tags of the channel")
    channel.basic_ack(90, multiple=True)


@case
def arguments_of_other_types_are_refused(kit):
    connection = kit.connection()
    channel = connection.channel()
    for kind, arguments in (("classic", {"x-stream-offset": "first"}), ("quorum", {"x-stream-offset": "first"}), ("stream", {"x-priority": 5})):
        queue = kit.queue(channel, durable=True, arguments={"x-queue-type": kind})

        def consume(taker, queue=queue, arguments=arguments):
            taker.basic_qos(prefetch_count=5)
            taker.basic_consume(queue, print, arguments=arguments)
        refuses(connection, 406, f"of queue type rabbit_{kind}_queue", consume)
    refuses(connection, 406, "expected integer, got longstr", lambda taker: taker.basic_consume(kit.queue(taker, durable=True), print, arguments={"x-priority": "5"}))


if __name__ == "__main__":
    main(jobs=JOBS)
