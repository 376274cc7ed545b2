"""pika: what publishers are told and what reaches the queue: mandatory, confirms, properties, sizes, copies, reply-to, tx."""

import datetime
import time

import pika
from amqp_kit import JOBS, ORACLE, Consumer, arrives, case, depth, empty, get, get_soon, main, publish, refuses, same, wait_for, with_user
from pika.exceptions import ChannelClosedByBroker, NackError, UnroutableError

NOW = int(time.time())


@case
def mandatory_is_returned_before_its_confirm(kit):
    channel = kit.channel(confirm=True)
    try:
        channel.basic_publish("", "no-such-queue", b"body", pika.BasicProperties(message_id="7", headers={"a": 1}), mandatory=True)
        raise AssertionError("not returned")
    except UnroutableError as error:
        returned, = error.messages
        same((312, "NO_ROUTE", "", "no-such-queue"), (returned.method.reply_code, returned.method.reply_text, returned.method.exchange, returned.method.routing_key), "the return")
        same((b"body", "7", {"a": 1}), (returned.body, returned.properties.message_id, returned.properties.headers), "the message")
    channel.basic_publish("", "no-such-queue", b"not mandatory: confirmed and gone")
    queue = kit.queue(channel)
    channel.basic_publish("", queue, b"routed", mandatory=True)
    arrives(channel, queue, "routed")


@case
def mandatory_without_confirms(kit):
    channel = kit.channel()
    returned = []
    channel.add_on_return_callback(lambda *message: returned.append(message))
    for key in ("nobody 1", "nobody 2"):
        channel.basic_publish("amq.direct", key, key.encode(), mandatory=True)
    wait_for(channel, "both come back", lambda: len(returned) == 2)
    same([b"nobody 1", b"nobody 2"], [body for _, _, _, body in returned], "bodies")


@case
def confirms_by_the_thousand(kit):
    """On a connection that does not wait for each, so that one ack may stand for many."""
    queue = kit.queue(kit.channel(), durable=True)
    host, port = kit.addresses[0].rsplit(":", 1)
    count, confirmed, multiples, highest = 3000, set(), [], [0]

    def on_confirm(frame):
        tag = frame.method.delivery_tag
        assert isinstance(frame.method, pika.spec.Basic.Ack), f"refused {tag}"
        if frame.method.multiple:
            multiples.append(tag)
            confirmed.update(range(highest[0] + 1, tag + 1))
            highest[0] = tag
        else:
            confirmed.add(tag)
        while highest[0] + 1 in confirmed:
            highest[0] += 1
        if len(confirmed) == count:
            connection.close()

    def on_channel(channel):
        channel.confirm_delivery(on_confirm, lambda _: [channel.basic_publish("", queue, f"{number}".encode(), pika.BasicProperties(delivery_mode=2)) for number in range(count)])

    connection = pika.SelectConnection(pika.ConnectionParameters(host, int(port)), on_open_callback=lambda connection: connection.channel(on_open_callback=on_channel),
                                       on_close_callback=lambda connection, _: connection.ioloop.stop())
    connection.ioloop.call_later(60, connection.ioloop.stop)
    connection.ioloop.start()
    same(count, len(confirmed), "confirmed")
    channel = kit.channel()
    same(count, depth(channel, queue), "all there when confirmed")
    same([str(number) for number in range(count)], [body.decode() for _, _, body in Consumer(channel, queue, auto_ack=True).wait(count)], "in order")


@case
def every_property_comes_back(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel)
    headers = {
        "text": "ünï ключ", "true": True, "false": False, "small": 1, "negative": -5, "int32": 2**31 - 1, "int64": 2**62, "null": None, "bytes": bytes([0, 255, 1]), "list": [1, "two", [3, {"four": None}]],
        "table": {"deep": {"deeper": {"deepest": "x"}}}, "time": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc), "empty": {}, "empty list": [], "": "empty name", "long": "x" * 70_000,
    }
    wanted = pika.BasicProperties(content_type="text/plain", content_encoding="gzip", headers=headers, delivery_mode=2, priority=200, correlation_id="c" * 255, reply_to="reply", expiration="600000",
                                  message_id="m", timestamp=NOW, type="t", user_id="guest", app_id="a", cluster_id="cluster")
    channel.basic_publish("", queue, b"body", wanted)
    method, got, body = get_soon(channel, queue)
    for name in wanted.__dict__:
        if name != "headers":
            same(getattr(wanted, name), getattr(got, name), name)
    if "time" in got.headers:
        got.headers["time"] = got.headers["time"].replace(tzinfo=datetime.timezone.utc)
    same(headers, got.headers, "headers")
    same((b"body", "", queue, False), (body, method.exchange, method.routing_key, method.redelivered), "the rest")


@case
def no_properties_at_all(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel)
    channel.basic_publish("", queue, b"")
    method, properties, body = get_soon(channel, queue)
    same(b"", body, "body")
    assert all(value is None for value in properties.__dict__.values()), properties


@case
def large_bodies(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel)
    for size in (131_064, 131_072, 1 << 20, 10 << 20):
        body = bytes(range(256)) * (size // 256) + b"e" * (size % 256)
        publish(channel, queue, body)
        got = get_soon(channel, queue)[2]
        assert got == body, f"{len(got)} of {size} bytes, or others"


@case
def beyond_the_largest_message(kit):
    connection = kit.connection()
    queue = kit.queue(connection.channel())
    size = (128 << 20) + 1 if ORACLE else (16 << 20) + 1
    refuses(connection, 406, f"PRECONDITION_FAILED - message size {size} is larger than configured max size {size - 1}", lambda channel: publish(channel, queue, bytes(size)))


@case
def binary_and_text_bodies(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel)
    bodies = [bytes(range(256)), "ünï".encode(), b"\xce", b"\x00" * 10]
    publish(channel, queue, *bodies)
    same(bodies, [get_soon(channel, queue)[2] for _ in bodies], "bodies")


@case
def order_of_one_channel(kit):
    channel = kit.channel()
    queues = [kit.queue(channel) for _ in range(5)]
    exchange = kit.exchange(channel, "fanout")
    for queue in queues:
        channel.queue_bind(queue, exchange)
    wanted = [str(number) for number in range(500)]
    publish(channel, "", *wanted, exchange=exchange)
    for queue in queues:
        same(wanted, [body.decode() for _, _, body in Consumer(channel, queue, auto_ack=True).wait(500)], "order")


@case
def user_id_must_be_true(kit):
    connection = kit.connection()
    queue = kit.queue(connection.channel())
    refuses(connection, 406, "PRECONDITION_FAILED - user_id property set to 'somebody' but authenticated user was 'guest'", lambda channel: publish(channel, queue, "x", user_id="somebody"))
    user = with_user(kit)
    own = kit.channel(user=user, password="secret")
    publish(own, queue, "x", user_id=user)
    arrives(connection.channel(), queue, "x")


@case
def user_id_of_an_impersonator(kit):
    user = with_user(kit, tags="impersonator")
    channel = kit.channel(user=user, password="secret")
    queue = kit.queue(channel)
    publish(channel, queue, "x", user_id="somebody else")
    same("somebody else", get_soon(channel, queue)[1].user_id, "user id")


@case
def cc_and_bcc(kit):
    channel = kit.channel(confirm=True)
    exchange = kit.exchange(channel)
    queues = {key: kit.queue(channel) for key in ("to", "cc", "bcc", "none")}
    for key, queue in queues.items():
        channel.queue_bind(queue, exchange, key)
    publish(channel, "to", "x", exchange=exchange, headers={"CC": ["cc", "to"], "BCC": ["bcc"], "mine": 1})
    for key in ("to", "cc", "bcc"):
        method, properties, body = get_soon(channel, queues[key])
        same(("to", {"CC": ["cc", "to"], "mine": 1}), (method.routing_key, properties.headers), f"what {key} sees")
        empty(channel, queues[key])
    empty(channel, queues["none"])
    refuses(channel.connection, 406, "PRECONDITION_FAILED", lambda channel: publish(channel, "to", "x", exchange=exchange, headers={"CC": "no list"}))


@case
def direct_reply_to(kit):
    server, client = kit.channel(), kit.channel()
    queue = kit.queue(server)

    def answer(channel, method, properties, body):
        assert properties.reply_to.startswith("amq.rabbitmq.reply-to."), properties.reply_to
        channel.basic_publish("", properties.reply_to, body.upper(), pika.BasicProperties(correlation_id=properties.correlation_id))
        channel.basic_ack(method.delivery_tag)

    server.basic_consume(queue, answer)
    replies = Consumer(client, "amq.rabbitmq.reply-to", auto_ack=True)
    for number in range(20):
        client.basic_publish("", queue, f"ask {number}".encode(), pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id=str(number)))
        end = time.monotonic() + 20
        while len(replies.messages) <= number:
            assert time.monotonic() < end, "no reply"
            server.connection.process_data_events(0.02)
            client.connection.process_data_events(0.02)
    same([(f"ASK {number}", str(number)) for number in range(20)], [(body.decode(), properties.correlation_id) for _, properties, body in replies.messages], "replies")


@case
def direct_reply_to_refusals(kit):
    connection = kit.connection()
    refuses(connection, 406, "PRECONDITION_FAILED - fast reply consumer does not exist", lambda channel: channel.basic_publish("", "x", b"", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to")))
    refuses(connection, 406, "PRECONDITION_FAILED - reply consumer cannot acknowledge", lambda channel: channel.basic_consume("amq.rabbitmq.reply-to", print, auto_ack=False))

    def twice(channel):
        channel.basic_consume("amq.rabbitmq.reply-to", print, auto_ack=True)
        channel.basic_consume("amq.rabbitmq.reply-to", print, auto_ack=True)
    refuses(connection, 406, "PRECONDITION_FAILED - reply consumer already set", twice)


@case
def direct_reply_to_somebody_who_has_gone(kit):
    # At one gateway: the others know of each other's requesters only that their gateway lives.
    client, server = kit.channel(at=0), kit.channel(at=0)
    queue = kit.queue(server)
    Consumer(client, "amq.rabbitmq.reply-to", auto_ack=True)
    client.basic_publish("", queue, b"x", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
    address = get_soon(server, queue)[1].reply_to
    server.queue_declare(address, passive=True)  # it tells whether somebody still waits
    client.connection.close()
    returned = []
    server.add_on_return_callback(lambda *message: returned.append(message))
    server.basic_publish("", address, b"too late", mandatory=True)
    wait_for(server, "it is returned", lambda: returned)
    refuses(server.connection, 404, "NOT_FOUND", lambda channel: channel.queue_declare(address, passive=True))


@case
def tx_commit_and_rollback(kit):
    channel, watcher = kit.channel(), kit.channel()
    queues = [kit.queue(watcher) for _ in range(3)]
    channel.tx_select()
    for queue in queues:
        publish(channel, queue, "a", "b")
    channel.connection.process_data_events(0.2)
    same([0, 0, 0], [depth(watcher, queue) for queue in queues], "before the commit")
    channel.tx_commit()
    same([2, 2, 2], [depth(watcher, queue) for queue in queues], "after it")
    publish(channel, queues[0], "never")
    channel.tx_rollback()
    channel.tx_commit()
    same(2, depth(watcher, queues[0]), "after the rollback")
    arrives(watcher, queues[0], "a", "b")


@case
def tx_of_acknowledgements(kit):
    watcher, channel = kit.channel(confirm=True), kit.channel()
    queue = kit.queue(watcher)
    publish(watcher, queue, *"abcd")
    channel.tx_select()
    consumer = Consumer(channel, queue)
    tags = [method.delivery_tag for method, _, _ in consumer.wait(4)]
    channel.basic_ack(tags[0])
    channel.basic_ack(tags[1])
    channel.tx_rollback()
    # Rolled back, they are held as before, and can be settled again.
    channel.basic_ack(tags[1], multiple=True)
    publish(channel, queue, "e")
    channel.tx_commit()
    consumer.wait(5)
    channel.connection.close()
    wait_for(watcher, "the rest comes back", lambda: depth(watcher, queue) == 3)
    arrives(watcher, queue, "c", "d", "e")


@case
def tx_not_committed_is_nothing(kit):
    channel, watcher = kit.channel(), kit.channel()
    queue = kit.queue(watcher)
    channel.tx_select()
    publish(channel, queue, "x")
    channel.connection.close()
    watcher.connection.sleep(0.3)
    empty(watcher, queue)


@case
def tx_acknowledgements_not_committed_come_back(kit):
    """With their channel, while the connection goes on."""
    channel, watcher = kit.channel(), kit.channel()
    queue = kit.queue(watcher)
    publish(watcher, queue, "a", "b")
    channel.tx_select()
    method, _, _ = get_soon(channel, queue, auto_ack=False)
    channel.basic_ack(method.delivery_tag)
    get_soon(channel, queue, auto_ack=False)
    channel.close()
    arrives(watcher, queue, "a", "b")
    same(True, channel.connection.is_open, "the connection is open")


@case
def tx_rejects_to_dead_letters(kit):
    channel, watcher = kit.channel(), kit.channel(confirm=True)
    dead = kit.queue(watcher)
    queue = kit.queue(watcher, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    publish(watcher, queue, "a", "b", "c")
    channel.tx_select()
    consumer = Consumer(channel, queue)
    tags = [method.delivery_tag for method, _, _ in consumer.wait(3)]
    channel.basic_reject(tags[0], requeue=False)
    channel.tx_rollback()
    channel.basic_nack(tags[1], multiple=True, requeue=False)
    channel.basic_ack(tags[2])
    channel.connection.process_data_events(0.2)
    same(0, depth(watcher, dead), "before the commit")
    channel.tx_commit()
    wait_for(watcher, "both are dead letters", lambda: depth(watcher, dead) == 2)
    for body in (b"a", b"b"):
        _, properties, got = get_soon(watcher, dead)
        same((body, "rejected"), (got, properties.headers["x-death"][0]["reason"]), "dead letter")
    channel.connection.close()
    watcher.connection.sleep(0.2)
    empty(watcher, queue)


@case
def tx_time_to_live_begins_with_the_commit(kit):
    channel, watcher = kit.channel(), kit.channel()
    channel.tx_select()
    for arguments, properties in (({"x-message-ttl": 1500}, {}), ({}, {"expiration": "1500"})):
        queue = kit.queue(watcher, arguments=arguments)
        publish(channel, queue, "early", **properties)
        channel.connection.sleep(2)
        publish(channel, queue, "late", **properties)
        channel.tx_commit()
        same(2, depth(watcher, queue), "after the commit")
        same("early", get(watcher, queue)[2].decode(), "first")
        wait_for(watcher, "the other expires", lambda queue=queue: depth(watcher, queue) == 0)


@case
def tx_returns_mandatory_at_commit(kit):
    channel = kit.channel()
    returned = []
    channel.add_on_return_callback(lambda *message: returned.append(message))
    channel.tx_select()
    channel.basic_publish("", "no-such-queue", b"x", mandatory=True)
    channel.tx_commit()
    wait_for(channel, "returned", lambda: returned)


@case
def tx_refusals(kit):
    connection = kit.connection()
    refuses(connection, 406, "PRECONDITION_FAILED - channel is not transactional", lambda channel: channel.tx_commit())
    refuses(connection, 406, "PRECONDITION_FAILED - channel is not transactional", lambda channel: channel.tx_rollback())

    def confirm_in_tx(channel):
        channel.tx_select()
        channel.confirm_delivery()
    refuses(connection, 406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode", confirm_in_tx)

    def tx_in_confirm(channel):
        channel.confirm_delivery()
        channel.tx_select()
    refuses(connection, 406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode", tx_in_confirm)


@case
def confirm_of_what_nobody_takes(kit):
    channel = kit.channel(confirm=True)
    exchange = kit.exchange(channel, "fanout")
    for _ in range(10):
        publish(channel, "", "x", exchange=exchange)  # unroutable and not mandatory: confirmed


@case
def confirm_after_an_error_begins_again(kit):
    connection = kit.connection()
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        publish(channel, "", "x", exchange="no-such-exchange")
        raise AssertionError("confirmed")
    except ChannelClosedByBroker as error:
        same(404, error.reply_code, "code")
    again = connection.channel()
    again.confirm_delivery()
    queue = kit.queue(again)
    publish(again, queue, "x")
    arrives(again, queue, "x")


@case
def one_queue_full_of_two_refuses(kit):
    """A confirm says that all queues have it: one that refuses makes it a nack, and the other may have it."""
    channel = kit.channel(confirm=True)
    exchange = kit.exchange(channel, "fanout")
    full, open_ = kit.queue(channel, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}), kit.queue(channel)
    channel.queue_bind(full, exchange)
    channel.queue_bind(open_, exchange)
    refusals = 0
    for _ in range(5):
        try:
            publish(channel, "", "x", exchange=exchange)
        except NackError:
            refusals += 1
    assert refusals >= 3, f"{refusals} refused"
    assert get(channel, full), "the first is there"


@case
def durable_survives_in_mixed_company(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, durable=True)
    for number in range(20):
        publish(channel, queue, str(number), delivery_mode=1 + number % 2)
    arrives(channel, queue, *map(str, range(20)))


@case
def publish_while_consuming_on_one_channel(kit):
    channel = kit.channel()
    first, second = kit.queue(channel), kit.queue(channel)
    channel.basic_qos(prefetch_count=10)

    def forward(channel, method, properties, body):
        channel.basic_publish("", second, body, properties)
        channel.basic_ack(method.delivery_tag)
    channel.basic_consume(first, forward)
    consumer = Consumer(channel, second, auto_ack=True)
    wanted = [str(number) for number in range(300)]
    publish(channel, first, *wanted)
    consumer.wait(300)
    same(wanted, consumer.bodies(), "forwarded in order")


if __name__ == "__main__":
    main(jobs=JOBS)
