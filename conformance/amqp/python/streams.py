"""pika: stream queues: every offset specification, replay, retention, and what a stream refuses."""

import datetime
import time

import pika
from amqp_kit import JOBS, ORACLE, Consumer, breaks, case, depth, main, no_oracle, publish, refuses, same, wait_for


def stream(kit, channel, **arguments):
    return kit.queue(channel, durable=True, arguments={"x-queue-type": "stream", **{name.replace("_", "-"): value for name, value in arguments.items()}})


def reader(kit, queue, offset=None, prefetch=1000, **parameters):
    channel = kit.channel(**parameters)
    channel.basic_qos(prefetch_count=prefetch)
    consumer = Consumer(channel, queue, arguments=None if offset is None else {"x-stream-offset": offset})
    consumer.acknowledge = True
    return consumer


def offsets(consumer):
    return [properties.headers["x-stream-offset"] for _, properties, _ in consumer.messages]


@case
def from_the_first(kit):
    channel = kit.channel(confirm=True)
    queue = stream(kit, channel)
    publish(channel, queue, *map(str, range(50)))
    for _ in range(2):  # reading takes nothing away
        consumer = reader(kit, queue, "first")
        consumer.wait(50)
        same(([str(number) for number in range(50)], list(range(50))), (consumer.bodies(), offsets(consumer)), "messages, offsets")
    publish(channel, queue, "more")
    same(b"more", consumer.wait(51)[50][2], "and what comes later")


@case
def from_a_number(kit):
    channel = kit.channel(confirm=True)
    queue = stream(kit, channel)
    publish(channel, queue, *map(str, range(20)))
    consumer = reader(kit, queue, 12)
    consumer.wait(8)
    same(list(range(12, 20)), offsets(consumer), "offsets")
    beyond = reader(kit, queue, 20)
    publish(channel, queue, "20", "21")
    beyond.wait(2)
    same([20, 21], offsets(beyond), "from the end")


@case
def next_by_default(kit):
    channel = kit.channel(confirm=True)
    queue = stream(kit, channel)
    publish(channel, queue, "old")
    readers = [reader(kit, queue), reader(kit, queue, "next")]
    publish(channel, queue, "new")
    for consumer in readers:
        consumer.none_more(1)
        same(["new"], consumer.bodies(), "only what is new")


@case
def last_gives_the_end(kit):
    channel = kit.channel(confirm=True)
    queue = stream(kit, channel)
    publish(channel, queue, *map(str, range(10)))
    consumer = reader(kit, queue, "last")
    publish(channel, queue, "newest")
    wait_for(consumer.channel, "the newest comes", lambda: b"newest" in [body for _, _, body in consumer.messages])
    # `last` means the last chunk that was written, which may hold several.
    got = offsets(consumer)
    same(list(range(got[0], 11)), got, "up to the end without a hole")
    assert got[0] <= 9, got


@case
def from_a_time(kit):
    channel = kit.channel(confirm=True)
    queue = stream(kit, channel)
    publish(channel, queue, "old")
    channel.connection.sleep(2.1)
    moment = datetime.datetime.fromtimestamp(int(time.time()), datetime.timezone.utc)
    publish(channel, queue, "new")
    consumer = reader(kit, queue, moment)
    consumer.wait(1)
    same([1], offsets(consumer), "from that time")
    consumer = reader(kit, queue, datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc))
    consumer.wait(2)
    same([0, 1], offsets(consumer), "from long ago")
    consumer = reader(kit, queue, "1h")
    consumer.wait(2)
    same([0, 1], offsets(consumer), "from an hour ago")


@case
def several_readers(kit):
    channel = kit.channel(confirm=True)
    queue = stream(kit, channel)
    publish(channel, queue, *map(str, range(300)))
    for consumer in [reader(kit, queue, "first", prefetch=7) for _ in range(3)]:
        consumer.wait(300)
        same(list(range(300)), offsets(consumer), "each reads all, as it acknowledges")


@case
def acknowledgements_are_credit(kit):
    channel = kit.channel(confirm=True)
    queue = stream(kit, channel)
    publish(channel, queue, *map(str, range(50)))
    consumer = reader(kit, queue, "first", prefetch=5)
    consumer.acknowledge = False
    consumer.none_more(5)
    consumer.channel.basic_ack(consumer.tags()[4], multiple=True)
    consumer.none_more(10)
    same(list(range(10)), offsets(consumer), "offsets")


@case
def keeps_what_was_published(kit):
    channel = kit.channel(confirm=True)
    queue = stream(kit, channel)
    exchange = kit.exchange(channel, "topic")
    channel.queue_bind(queue, exchange, "a.*")
    channel.basic_publish(exchange, "a.b", b"body", pika.BasicProperties(message_id="m", headers={"x": 1, "y": "z"}, content_type="text/plain", delivery_mode=2))
    consumer = reader(kit, queue, "first")
    method, properties, body = consumer.wait(1)[0]
    same((exchange, "a.b", b"body", "m", "text/plain"), (method.exchange, method.routing_key, body, properties.message_id, properties.content_type), "the message")
    same({"x": 1, "y": "z", "x-stream-offset": 0}, properties.headers, "headers")


@case
def what_a_stream_refuses(kit):
    connection = kit.connection()
    channel = connection.channel()
    queue = stream(kit, channel)

    def limited(channel):
        channel.basic_qos(prefetch_count=10)
        return channel
    refuses(connection, 406, "PRECONDITION_FAILED - consumer prefetch count is not set for", lambda channel: channel.basic_consume(queue, print))
    breaks(kit.connection(), 540, "NOT_IMPLEMENTED", lambda channel: channel.basic_get(queue))
    breaks(kit.connection(), 540, "NOT_IMPLEMENTED", lambda channel: limited(channel).basic_consume(queue, print, auto_ack=True))
    if not ORACLE:  # 3.10 breaks the connection with 541 INTERNAL_ERROR
        refuses(connection, 406, "PRECONDITION_FAILED", lambda channel: limited(channel).basic_consume(queue, print, arguments={"x-stream-offset": "nonsense"}))


@case
def arguments_of_a_stream(kit):
    connection = kit.connection()
    channel = connection.channel()
    queue = stream(kit, channel, x_max_age="7D", x_max_length_bytes=1_000_000_000, x_stream_max_segment_size_bytes=1_000_000)
    publish(channel, queue, "x")
    # 3.10 breaks the connection with 541 INTERNAL_ERROR for an age that it cannot read.
    for arguments in ({"x-max-length-bytes": -1}, *([] if ORACLE else [{"x-max-age": "soon"}, {"x-max-age": 5}])):
        refuses(connection, 406, "PRECONDITION_FAILED", lambda channel, arguments=arguments: channel.queue_declare(kit.unique("never"), durable=True, arguments={"x-queue-type": "stream", **arguments}))


@case
def holds_a_lot(kit):
    channel = kit.channel()
    queue = stream(kit, channel)
    body = b"x" * 500
    for number in range(5000):
        channel.basic_publish("", queue, body + str(number).encode())
    wait_for(channel, "all are there", lambda: depth(channel, queue) == 5000, 60)
    consumer = reader(kit, queue, "first", prefetch=500)
    consumer.wait(5000, 60)
    same(list(range(5000)), offsets(consumer), "offsets")
    middle = reader(kit, queue, 4990)
    middle.wait(10)
    same(4990, offsets(middle)[0], "from the middle")


@case
@no_oracle("RabbitMQ looks when a segment is full, and keeps the last")
def what_is_too_old_goes(kit):
    channel = kit.channel(confirm=True)
    queue = stream(kit, channel, x_max_age="1s")
    publish(channel, queue, "0", "1", "2")
    wait_for(channel, "the old ones go", lambda: depth(channel, queue) == 0, 40)
    consumer = reader(kit, queue, "first")
    publish(channel, queue, "3")
    consumer.wait(1)
    same([3], offsets(consumer), "what is left")


@case
@no_oracle("filters came with 3.13")
def filters(kit):
    channel = kit.channel(confirm=True)
    queue = stream(kit, channel, x_stream_filter_size_bytes=32)
    for number, value in enumerate(["red", None, "green", "red", "blue"]):
        publish(channel, queue, str(number), headers={"x-stream-filter-value": value} if value else None)

    def read(count, **arguments):
        taker = kit.channel()
        taker.basic_qos(prefetch_count=100)
        consumer = Consumer(taker, queue, arguments={"x-stream-offset": "first", **{name.replace("_", "-"): value for name, value in arguments.items()}})
        consumer.none_more(count)
        return consumer.bodies()

    same(["0", "3"], read(2, x_stream_filter="red"), "one value")
    same(["2", "4"], read(2, x_stream_filter=["green", "blue"]), "one of two")
    same(["0", "1", "3"], read(3, x_stream_filter="red", x_stream_match_unfiltered=True), "and those without")
    same(["0", "1", "2", "3", "4"], read(5), "all")


if __name__ == "__main__":
    main(jobs=JOBS)
