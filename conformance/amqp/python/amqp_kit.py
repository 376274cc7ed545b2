"""What the pika rooms share: connections of a case that end with it, consumers, and checks of how a broker refuses.

A room is called as `room ADDRESS[,ADDRESS] [CASE...]`; with several addresses (gateways of one core) connections are dealt
round robin. MANAGEMENT is the URL of the HTTP API, BROKER says whom it runs against (`rabbitmq` or a shape of PolyMQ).
"""

import base64
import itertools
import json
import os
import pathlib
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3]))

import pika  # noqa: E402
from conformance.shared.kit import CASES, Skip, main, same, unique, until  # noqa: E402, F401
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker  # noqa: E402, F401

BROKER = os.environ.get("BROKER", "external")
ORACLE = BROKER == "rabbitmq"
MANAGEMENT = os.environ.get("MANAGEMENT")
JOBS = int(os.environ.get("CONFORMANCE_JOBS", "4"))


def case(function):
    """Registers a case that gets a Kit, and closes what the kit has opened."""
    def run(addresses):
        with Kit(addresses, function.__name__) as kit:
            function(kit)
    CASES[function.__name__] = run
    return function


def no_oracle(reason):
    """The case runs on PolyMQ alone: this RabbitMQ cannot do what it asks."""
    def mark(function):
        def run(kit):
            if ORACLE:
                raise Skip(f"no oracle: {reason}")
            function(kit)
        run.__name__ = function.__name__
        return run
    return mark


class Kit:
    def __init__(self, addresses, name):
        self.addresses = addresses.split(",")
        self.dealt = itertools.count()
        self.name = name
        self.connections = []
        self.undo = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for connection in self.connections:
            try:
                if connection.is_open:
                    connection.close()
            except Exception:  # what a case left broken is not its subject
                pass
        for undo in reversed(self.undo):
            try:
                undo()
            except Exception:
                pass

    def unique(self, kind):
        return unique("pika", f"{self.name}-{kind}")

    def connection(self, vhost="/", user="guest", password="guest", at=None, **parameters):
        address = self.addresses[(next(self.dealt) if at is None else at) % len(self.addresses)]
        host, port = address.rsplit(":", 1)
        parameters.setdefault("socket_timeout", 30)
        parameters.setdefault("blocked_connection_timeout", 60)
        connection = pika.BlockingConnection(pika.ConnectionParameters(
            host, int(port), vhost, pika.PlainCredentials(user, password), **parameters))
        self.connections.append(connection)
        return connection

    def channel(self, confirm=False, **parameters):
        """A channel of a connection of its own."""
        channel = self.connection(**parameters).channel()
        if confirm:
            channel.confirm_delivery()
        return channel

    def queue(self, channel, name=None, **options):
        """Declares a queue of this case's own, deleted at its end if it is still there."""
        name = self.unique("queue") if name is None else name
        name = channel.queue_declare(name, **options).method.queue
        if not options.get("exclusive"):
            self.undo.append(lambda: self.quietly(lambda channel: channel.queue_delete(name)))
        return name

    def exchange(self, channel, kind="direct", name=None, **options):
        name = name or self.unique("exchange")
        channel.exchange_declare(name, kind, **options)
        self.undo.append(lambda: self.quietly(lambda channel: channel.exchange_delete(name)))
        return name

    def quietly(self, action):
        connection = self.connection()
        action(connection.channel())
        connection.close()

    def exists(self, queue):
        """Whether a queue exists, asked on a connection of its own."""
        try:
            connection = self.connection()
            connection.channel().queue_declare(queue, passive=True)
            connection.close()
            return True
        except ChannelClosedByBroker as error:
            # 405: it is there, and another connection's own, or was of one that is gone a moment ago.
            if error.reply_code == 405:
                return True
            same(404, error.reply_code, "code of a queue that is not there")
            return False

    def exchange_exists(self, exchange):
        try:
            connection = self.connection()
            connection.channel().exchange_declare(exchange, passive=True)
            connection.close()
            return True
        except ChannelClosedByBroker as error:
            same(404, error.reply_code, "code of an exchange that is not there")
            return False


def depth(channel, queue):
    """Messages that are ready."""
    return channel.queue_declare(queue, passive=True).method.message_count


def publish(channel, queue, *bodies, exchange="", **properties):
    """Publishes bodies (text or bytes) to a queue through the default exchange, or by a key to an exchange."""
    for body in bodies:
        channel.basic_publish(exchange, queue, body, pika.BasicProperties(**properties) if properties else None)


def get(channel, queue, auto_ack=True):
    """The next message's (method, properties, body), or None."""
    method, properties, body = channel.basic_get(queue, auto_ack)
    return None if method is None else (method, properties, body)


def get_soon(channel, queue, seconds=20, auto_ack=True):
    end = time.monotonic() + seconds
    while True:
        message = get(channel, queue, auto_ack)
        if message:
            return message
        assert time.monotonic() < end, f"nothing came into {queue} within {seconds} s"
        channel.connection.sleep(0.02)


def drain(channel, queue):
    """The bodies of all that is ready, as text."""
    bodies = []
    while message := get(channel, queue):
        bodies.append(message[2].decode())
    return bodies


def arrives(channel, queue, *wanted):
    """These bodies come, in this order, and no other is there."""
    got = [get_soon(channel, queue)[2].decode() for _ in wanted]
    same(list(wanted), got + drain(channel, queue), f"what is in {queue}")


def empty(channel, queue):
    same([], drain(channel, queue), f"what is in {queue}")


def refused(channel, code, text, action):
    """The action closes the channel with this code, and a reason that has this text; the connection stays."""
    if ORACLE:  # 3.10 does not say which access it refuses
        text = re.sub("(configure|write|read) access to", "access to", text)
    try:
        action(channel)
        # What has no answer of its own is refused before the next thing that has one.
        channel.basic_qos(prefetch_count=1)
    except ChannelClosedByBroker as error:
        same(code, error.reply_code, f"code ({error.reply_text})")
        assert text in error.reply_text, f"wanted {text!r} in {error.reply_text!r}"
        assert channel.connection.is_open, "the connection was closed as well"
        return
    raise AssertionError(f"not refused; wanted {code} {text}")


def refuses(connection, code, text, action):
    """As `refused`, with a fresh channel of the connection."""
    refused(connection.channel(), code, text, action)


def breaks(connection, code, text, action):
    """The action closes the whole connection with this code, and a reason that has this text."""
    try:
        channel = connection.channel()
        action(channel)
        channel.basic_qos(prefetch_count=1)
    except ConnectionClosedByBroker as error:
        same(code, error.reply_code, f"code ({error.reply_text})")
        assert text in error.reply_text, f"wanted {text!r} in {error.reply_text!r}"
        return
    raise AssertionError(f"not refused; wanted {code} {text}")


class Consumer:
    """A consumer that gathers (method, properties, body); its connection's events are handled while it waits."""

    def __init__(self, channel, queue, auto_ack=False, **options):
        self.channel = channel
        self.messages = []
        self.acknowledge = False
        self.tag = channel.basic_consume(queue, self._take, auto_ack=auto_ack, **options)

    def _take(self, channel, method, properties, body):
        self.messages.append((method, properties, body))
        if self.acknowledge:
            channel.basic_ack(method.delivery_tag)

    def wait(self, count, seconds=20):
        """Waits until there are so many messages in all; answers them."""
        end = time.monotonic() + seconds
        while len(self.messages) < count:
            assert time.monotonic() < end, f"{len(self.messages)} of {count} messages within {seconds} s: {self.bodies()[:9]}"
            self.channel.connection.process_data_events(0.02)
        return self.messages

    def none_more(self, count, seconds=0.3):
        """There are so many, and for a while no more come."""
        self.wait(count)
        self.channel.connection.sleep(seconds)
        same(count, len(self.messages), f"messages delivered, of which the last is {self.messages[-1:]}")
        return self.messages

    def bodies(self):
        return [body.decode() for _, _, body in self.messages]

    def tags(self):
        return [method.delivery_tag for method, _, _ in self.messages]


def wait_for(channel, what, holds, seconds=20):
    """Handles the connection's events until it holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        channel.connection.process_data_events(0.02)


class Refusal(Exception):
    """The HTTP API's answer that is no success."""

    def __init__(self, status, text):
        super().__init__(f"HTTP {status}: {text}")
        self.status, self.text = status, text


def api(method, path, body=None, user="guest", password="guest"):
    """One request to the management API: what its answer says, decoded, or None."""
    if not MANAGEMENT:
        raise Skip("no management API")
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    request = urllib.request.Request(MANAGEMENT + "/api/" + path, method=method, headers={"Authorization": f"Basic {token}", "Content-Type": "application/json"},
                                     data=None if body is None else json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
            return json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        raise Refusal(error.code, error.read().decode(errors="replace")) from None


def quoted(name):
    return urllib.parse.quote(name, safe="")


def with_vhost(kit):
    """A fresh vhost in which guest may do everything; deleted at the end."""
    name = kit.unique("vhost")
    api("PUT", f"vhosts/{quoted(name)}")
    kit.undo.append(lambda: api("DELETE", f"vhosts/{quoted(name)}"))
    api("PUT", f"permissions/{quoted(name)}/guest", {"configure": ".*", "write": ".*", "read": ".*"})
    return name


def with_user(kit, vhost="/", configure=".*", write=".*", read=".*", tags=""):
    """A fresh user `name` with the password `secret` and these permissions; deleted at the end."""
    name = kit.unique("user")
    api("PUT", f"users/{quoted(name)}", {"password": "secret", "tags": tags})
    kit.undo.append(lambda: api("DELETE", f"users/{quoted(name)}"))
    api("PUT", f"permissions/{quoted(vhost)}/{quoted(name)}", {"configure": configure, "write": write, "read": read})
    return name


def with_policy(kit, pattern, definition, vhost="/", apply_to="queues", priority=0):
    name = kit.unique("policy")
    api("PUT", f"policies/{quoted(vhost)}/{quoted(name)}", {"pattern": pattern, "definition": definition, "apply-to": apply_to, "priority": priority})
    kit.undo.append(lambda: api("DELETE", f"policies/{quoted(vhost)}/{quoted(name)}"))
    return name
