"""pika: connecting, authentication, limits, errors of channels and connections."""

import socket
import time

import amqp
import pika
from amqp_kit import JOBS, ConnectionClosedByBroker, Consumer, api, breaks, case, depth, drain, main, no_oracle, publish, quoted, refuses, same, wait_for, with_user, with_vhost
from pika.exceptions import AMQPConnectionError, AuthenticationError, ChannelClosedByBroker, ProbableAccessDeniedError, ProbableAuthenticationError


@case
def server_properties_name_the_product(kit):
    properties = kit.connection()._impl.server_properties
    same("RabbitMQ", properties["product"], "product")
    assert int(properties["version"].split(".")[0]) >= 3, properties["version"]
    for capability in ("publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify", "connection.blocked",
                       "consumer_priorities", "authentication_failure_close", "per_consumer_qos", "direct_reply_to"):
        same(True, properties["capabilities"].get(capability), capability)
    for word in ("platform", "copyright", "information", "cluster_name"):
        assert properties.get(word), f"no {word}"


@case
def wrong_password_is_refused(kit):
    for user, password in (("guest", "wrong"), ("nobody", "guest")):
        try:
            kit.connection(user=user, password=password)
        except ProbableAuthenticationError as error:
            assert "ACCESS_REFUSED" in str(error) and "403" in str(error), error
        except AuthenticationError as error:
            assert "ACCESS_REFUSED" in str(error), error
        else:
            raise AssertionError("let in")


@case
def unknown_vhost_is_refused(kit):
    try:
        kit.connection(vhost="no-such-vhost")
    except (ProbableAccessDeniedError, ConnectionClosedByBroker) as error:
        assert "530" in str(error) and "vhost no-such-vhost not found" in str(error), error
    else:
        raise AssertionError("let in")


@case
def vhost_without_permission_is_refused(kit):
    vhost, user = with_vhost(kit), with_user(kit)
    try:
        kit.connection(vhost=vhost, user=user, password="secret")
    except (ProbableAccessDeniedError, ConnectionClosedByBroker) as error:
        assert "530" in str(error) and f"access to vhost '{vhost}' refused for user '{user}'" in str(error), error
    else:
        raise AssertionError("let in")


@case
def plain_and_amqplain(kit):
    host = kit.addresses[0]
    for method in ("PLAIN", "AMQPLAIN"):
        connection = amqp.Connection(host, login_method=method, userid="guest", password="guest", connect_timeout=20)
        connection.connect()
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        channel.basic_publish(amqp.Message("by " + method), routing_key=queue)
        end = time.monotonic() + 20
        while (message := channel.basic_get(queue, no_ack=True)) is None:
            assert time.monotonic() < end, "nothing came"
        same("by " + method, message.body, "body")
        connection.close()
    try:
        amqp.Connection(host, login_method="AMQPLAIN", userid="guest", password="wrong", connect_timeout=20).connect()
    except amqp.exceptions.AccessRefused:
        pass
    else:
        raise AssertionError("let in with a wrong password by AMQPLAIN")


@case
@no_oracle("RabbitMQ has this mechanism since 4.0")
def anonymous(kit):
    class Anonymous(amqp.sasl.SASL):
        mechanism = b"ANONYMOUS"

        def start(self, connection):
            return b""

    anybody = amqp.Connection(kit.addresses[0], authentication=(Anonymous(),), connect_timeout=20)
    anybody.connect()
    queue = anybody.channel().queue_declare(exclusive=True).queue
    same("guest", next(row["user"] for row in api("GET", "connections") if row["auth_mechanism"] == "ANONYMOUS"), "who it is")
    assert queue.startswith("amq.gen-"), queue
    anybody.close()


@case
def tune_takes_the_lower_limits(kit):
    connection = kit.connection(channel_max=7, frame_max=8192, heartbeat=33)
    parameters = connection._impl.params
    same((7, 8192, 33), (parameters.channel_max, parameters.frame_max, parameters.heartbeat), "channel_max, frame_max, heartbeat")
    channel = connection.channel()
    queue = kit.queue(channel, exclusive=True)
    body = bytes(range(256)) * 400
    channel.confirm_delivery()
    publish(channel, queue, body)
    consumer = Consumer(channel, queue, auto_ack=True)
    same(body, consumer.wait(1)[0][2], "a body of 13 frames")


@case
def smallest_frames(kit):
    connection = kit.connection(frame_max=4096)
    channel = connection.channel()
    queue = kit.queue(channel, exclusive=True)
    channel.confirm_delivery()
    bodies = [bytes([size % 251]) * size for size in (0, 1, 4087, 4088, 4089, 8175, 8176, 8177, 100_000)]
    publish(channel, queue, *bodies)
    got = Consumer(channel, queue, auto_ack=True).wait(len(bodies))
    same([len(body) for body in bodies], [len(body) for _, _, body in got], "sizes")
    assert bodies == [body for _, _, body in got], "bodies differ"


@case
def channels_beyond_channel_max(kit):
    connection = kit.connection(channel_max=3)
    channels = [connection.channel() for _ in range(3)]
    for channel in channels:
        channel.queue_declare("", exclusive=True)
    channels[1].close()
    connection.channel(2).queue_declare("", exclusive=True)


@case
def many_channels(kit):
    connection = kit.connection()
    channels = [connection.channel() for _ in range(200)]
    for number, channel in enumerate(channels):
        publish(channel, "amq.none", str(number), exchange="amq.direct")
        channel.basic_qos(prefetch_count=number + 1)
    for channel in channels:
        channel.close()
    connection.channel().basic_qos(prefetch_count=1)


@case
def channel_error_leaves_the_connection(kit):
    connection = kit.connection()
    other = connection.channel()
    queue = kit.queue(other, exclusive=True)
    consumer = Consumer(other, queue, auto_ack=True)
    refuses(connection, 404, "NOT_FOUND - no queue 'no-such-queue' in vhost '/'", lambda channel: channel.queue_declare("no-such-queue", passive=True))
    publish(other, queue, "still here")
    same("still here", consumer.wait(1)[0][2].decode(), "after another channel's error")
    again = connection.channel()
    again.basic_qos(prefetch_count=1)


@case
def channel_number_used_again_after_an_error(kit):
    connection = kit.connection()
    for _ in range(3):
        channel = connection.channel(5)
        try:
            channel.exchange_declare("no-such-exchange", passive=True)
            raise AssertionError("passive declare of nothing worked")
        except ChannelClosedByBroker as error:
            same((404, "NOT_FOUND - no exchange 'no-such-exchange' in vhost '/'"), (error.reply_code, error.reply_text), "reason")


@case
def vhosts_are_apart(kit):
    vhost = with_vhost(kit)
    here, there = kit.channel(), kit.channel(vhost=vhost)
    name = kit.queue(here)
    there.queue_declare(name)
    exchange = kit.exchange(here)
    refuses(there.connection, 404, f"NOT_FOUND - no exchange '{exchange}' in vhost '{vhost}'", lambda channel: channel.exchange_declare(exchange, passive=True))
    here.confirm_delivery()
    there.confirm_delivery()
    publish(here, name, "here")
    publish(there, name, "there 1", "there 2")
    same((1, 2), (depth(here, name), depth(there, name)), "depths")
    same((["here"], ["there 1", "there 2"]), (drain(here, name), drain(there, name)), "messages")


@case
def deleting_a_vhost_closes_its_connections(kit):
    vhost = with_vhost(kit)
    channel = kit.channel(vhost=vhost)
    channel.queue_declare("queue")
    api("DELETE", f"vhosts/{quoted(vhost)}")
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            channel.connection.process_data_events(0.1)
        raise AssertionError("still connected after 30 s")
    except ConnectionClosedByBroker as error:
        same(320, error.reply_code, f"code ({error.reply_text})")
        assert "CONNECTION_FORCED" in error.reply_text, error.reply_text


@case
def client_properties_and_connection_name(kit):
    connection = kit.connection(client_properties={"connection_name": kit.unique("name"), "product": "a test", "nested": {"a": [1, "b", True, None]}})
    connection.channel().queue_declare("", exclusive=True)


@case
def closing_a_channel_releases(kit):
    connection = kit.connection()
    first, second = connection.channel(), connection.channel()
    queue = kit.queue(first, exclusive=True)
    publish(first, queue, "a", "b")
    holder = connection.channel()
    consumer = Consumer(holder, queue)
    consumer.wait(2)
    same(0, depth(second, queue), "ready while held")
    holder.close()
    got = Consumer(second, queue, auto_ack=True).wait(2)
    same([("a", True), ("b", True)], [(body.decode(), method.redelivered) for method, _, body in got], "redelivered")


@case
def closing_a_connection_releases(kit):
    channel = kit.channel()
    queue = kit.queue(channel)
    holder = kit.channel()
    publish(channel, queue, "a", "b", "c")
    Consumer(holder, queue).wait(3)
    holder.connection.close()
    got = Consumer(channel, queue, auto_ack=True).wait(3)
    same([("a", True), ("b", True), ("c", True)], [(body.decode(), method.redelivered) for method, _, body in got], "redelivered")


@case
def a_connection_cut_releases(kit):
    channel = kit.channel()
    queue = kit.queue(channel)
    publish(channel, queue, "a", "b")
    holder = kit.channel()
    Consumer(holder, queue).wait(2)
    holder.connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)  # no close handshake
    got = Consumer(channel, queue, auto_ack=True).wait(2)
    same(["a", "b"], [body.decode() for _, _, body in got], "redelivered")


@case
def silent_client_is_cut_by_heartbeats(kit):
    connection = kit.connection(heartbeat=2)
    channel = connection.channel()
    channel.queue_declare("", exclusive=True)
    # Longer than two heartbeats without a word.
    time.sleep(8)
    try:
        channel.queue_declare("", exclusive=True)
        raise AssertionError("still connected after 8 s of silence with heartbeats of 2 s")
    except AMQPConnectionError:
        pass


@case
def heartbeats_keep_an_idle_connection(kit):
    connection = kit.connection(heartbeat=1)
    channel = connection.channel()
    # pika ends the connection itself if it hears nothing, and the broker does if pika says nothing.
    connection.sleep(5)
    channel.queue_declare("", exclusive=True)


@case
def update_secret_is_answered(kit):
    connection = kit.connection()
    connection.update_secret("new", "because")
    connection.channel().basic_qos(prefetch_count=1)


@case
def publish_to_unknown_exchange_closes_the_channel(kit):
    refuses(kit.connection(), 404, "NOT_FOUND - no exchange 'no-such' in vhost '/'", lambda channel: publish(channel, "key", "x", exchange="no-such"))


@case
def immediate_is_not_implemented(kit):
    def immediate(channel):
        channel._impl._send_method(pika.spec.Basic.Publish(exchange="", routing_key="x", immediate=True), (pika.BasicProperties(), b"x"))
    breaks(kit.connection(), 540, "NOT_IMPLEMENTED - immediate=true", immediate)


@case
def duplicate_consumer_tag_breaks_the_connection(kit):
    connection = kit.connection()
    queue = kit.queue(connection.channel())

    def twice(channel):
        channel.basic_consume(queue, print, consumer_tag="same")
        # pika itself refuses a tag that it knows.
        channel._impl._consumers.clear()
        channel._consumer_infos.clear()
        channel._impl._send_method(pika.spec.Basic.Consume(queue=queue, consumer_tag="same"))
    breaks(connection, 530, "NOT_ALLOWED - attempt to reuse consumer tag 'same'", twice)


@case
def connections_close_on_request(kit):
    connection = kit.connection()
    channel = connection.channel()
    channel.queue_declare("", exclusive=True)
    channel.close(200, "done")
    connection.close(200, "done")
    wait = kit.connection()
    wait.channel()
    wait_for(wait.channel(), "open", lambda: wait.is_open)


if __name__ == "__main__":
    main(jobs=JOBS)
