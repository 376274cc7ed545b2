"""What the paho rooms share: clients of a case that end with it, and what they have received.

A room is called as `room ADDRESS[,ADDRESS] [CASE...]`; with several addresses (gateways of one core) connections are dealt
round robin. BROKER says whom it runs against (`mosquitto` or a shape of PolyMQ).
"""

import itertools
import os
import pathlib
import socket
import sys
import threading
import time
import warnings

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]
warnings.simplefilter("ignore")

import paho.mqtt.client as paho  # noqa: E402
from conformance.shared.kit import CASES, Skip, main, same, unique, until  # noqa: E402, F401
from paho.mqtt.packettypes import PacketTypes  # noqa: E402
from paho.mqtt.properties import Properties  # noqa: E402
from paho.mqtt.reasoncodes import ReasonCode  # noqa: E402
from paho.mqtt.subscribeoptions import SubscribeOptions  # noqa: E402
from raw import Wire  # noqa: E402

BROKER = os.environ.get("BROKER", "external")
ORACLE = BROKER == "mosquitto"
WEBSOCKET = os.environ.get("BROKER_WEBSOCKET")
JOBS = int(os.environ.get("CONFORMANCE_JOBS", "4"))
SECONDS = 20
VERSIONS = {3: paho.MQTTv31, 4: paho.MQTTv311, 5: paho.MQTTv5}
# The names of properties here, and paho's.
PAHO = {
    "payload_format": "PayloadFormatIndicator", "message_expiry": "MessageExpiryInterval", "content_type": "ContentType", "response_topic": "ResponseTopic", "correlation_data": "CorrelationData",
    "subscription_identifier": "SubscriptionIdentifier", "session_expiry": "SessionExpiryInterval", "will_delay": "WillDelayInterval", "receive_maximum": "ReceiveMaximum",
    "topic_alias_maximum": "TopicAliasMaximum", "topic_alias": "TopicAlias", "user": "UserProperty", "maximum_packet_size": "MaximumPacketSize", "request_problem_information": "RequestProblemInformation",
}


def case(function):
    """Registers a case that gets a Kit, and closes what the kit has opened."""
    def run(addresses):
        with Kit(addresses, function.__name__) as kit:
            function(kit)
    CASES[function.__name__] = run
    return function


def versions(*numbers):
    """A case for each of these protocol versions: `name_v31`, `name_v311`, `name_v5`; the function gets (kit, version)."""
    def register(function):
        for number in numbers:
            name = f"{function.__name__}_v{ {3: '31', 4: '311', 5: '5'}[number] }"

            def run(addresses, number=number, name=name):
                with Kit(addresses, name) as kit:
                    function(kit, number)
            CASES[name] = run
        return function
    return register


def no_oracle(reason):
    """Below `case`: it runs on PolyMQ alone, for mosquitto cannot do what it asks."""
    def mark(function):
        def run(*arguments):
            if ORACLE:
                raise Skip(f"no oracle: {reason}")
            function(*arguments)
        run.__name__ = function.__name__
        return run
    return mark


def properties(kind, values):
    found = Properties(kind)
    for name, value in values.items():
        setattr(found, PAHO[name], value)
    return found


class Message:
    def __init__(self, message, client):
        self.paho, self.client, self.at = message, client, time.monotonic()
        self.topic, self.payload, self.qos, self.retain, self.dup = message.topic, message.payload, message.qos, bool(message.retain), bool(message.dup)
        self.text = message.payload.decode(errors="replace")
        self.properties = message.properties

    def get(self, name, otherwise=None):
        """A property by its name here."""
        return getattr(self.properties, PAHO[name], otherwise) if self.properties else otherwise

    def acknowledge(self):
        self.client.paho.ack(self.paho.mid, self.qos)

    def __repr__(self):
        return f"({self.topic} {self.text[:40]!r} qos {self.qos}{' retained' if self.retain else ''}{' again' if self.dup else ''})"


class Client:
    """A paho client in its own thread that gathers what it receives. It does not reconnect by itself."""

    def __init__(self, kit, client_id, version=5, clean=True, will=None, username=None, password=None, keepalive=60, manual=False, websocket=False, tls=None, address=None, connect=True, **values):
        """`will`: (topic, payload, qos, retain, properties by name). Other arguments: properties of CONNECT."""
        self.id, self.version, self.clean, self.values, self.keepalive = client_id, version, clean, values, keepalive
        self.messages, self.acknowledged, self.answers = [], {}, {}
        self.connack = self.ended = None
        self.changed = threading.Condition()
        self.address = address or kit.deal()
        options = {} if version == 5 else {"clean_session": clean}
        self.paho = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, protocol=VERSIONS[version], transport="websockets" if websocket else "tcp", reconnect_on_failure=False, manual_ack=manual, **options)
        if websocket:
            self.paho.ws_set_options("/mqtt")
            self.address = WEBSOCKET if websocket is True else websocket
        if tls:
            self.paho.tls_set_context(tls)
        if username is not None:
            self.paho.username_pw_set(username, password)
        if will:
            topic, payload, qos, retain, *more = will
            self.paho.will_set(topic, payload, qos, retain, properties=properties(PacketTypes.WILLMESSAGE, more[0]) if more and more[0] else None)
        self.paho.on_connect = lambda _c, _u, flags, reason, props: self.tell("connack", (flags.session_present, reason, props))
        self.paho.on_disconnect = lambda _c, _u, flags, reason, props: self.tell("ended", reason)
        self.paho.on_message = lambda _c, _u, message: self.take(message)
        self.paho.on_publish = lambda _c, _u, mid, reason, props: self.note(self.acknowledged, mid, reason)
        self.paho.on_subscribe = lambda _c, _u, mid, reasons, props: self.note(self.answers, mid, reasons)
        self.paho.on_unsubscribe = lambda _c, _u, mid, reasons, props: self.note(self.answers, mid, reasons)
        if connect:
            self.connect()
            same(0, self.connack[1].value, f"reason of CONNACK for {client_id} ({self.connack[1]})")

    def connect(self):
        """Connects, and waits for CONNACK; `connack`: (session present, reason, properties)."""
        host, port = self.address.rsplit(":", 1)
        self.connack = self.ended = None
        options = {"clean_start": self.clean, "properties": properties(PacketTypes.CONNECT, self.values)} if self.version == 5 else {}
        self.paho.connect(host, int(port), self.keepalive, **options)
        if (opened := self.paho.socket()) and hasattr(opened, "setsockopt"):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.paho.loop_start()
        self.until("CONNACK", lambda: self.connack or self.ended is not None)
        assert self.connack, f"the connection was closed instead of a CONNACK: {self.ended}"
        return self

    @property
    def session_present(self):
        return bool(self.connack[0])

    def tell(self, name, value):
        with self.changed:
            setattr(self, name, value)
            self.changed.notify_all()

    def note(self, where, key, value):
        with self.changed:
            where[key] = value
            self.changed.notify_all()

    def take(self, message):
        with self.changed:
            self.messages.append(Message(message, self))
            self.changed.notify_all()

    def until(self, what, holds, seconds=SECONDS):
        with self.changed:
            assert self.changed.wait_for(holds, seconds), f"{self.id}: not within {seconds} s: {what}"

    def subscribe(self, *filters, qos=0, expect=None, **options):
        """Filters are texts, or (filter, qos). Options: no_local, retain_as_published, retain_handling, identifier. Answers the reason
        codes; `expect`: those wanted, by default the QoS asked for."""
        pairs = [each if isinstance(each, tuple) else (each, qos) for each in filters]
        identifier = options.pop("identifier", None)
        if self.version == 5:
            names = {"no_local": "noLocal", "retain_as_published": "retainAsPublished", "retain_handling": "retainHandling"}
            chosen = [(name, SubscribeOptions(each, **{names[key]: value for key, value in options.items()})) for name, each in pairs]
            result, mid = self.paho.subscribe(chosen, properties=properties(PacketTypes.SUBSCRIBE, {"subscription_identifier": identifier}) if identifier else None)
        else:
            result, mid = self.paho.subscribe(pairs)
        same(paho.MQTT_ERR_SUCCESS, result, "paho's answer to subscribe")
        self.until("SUBACK", lambda: mid in self.answers or self.ended is not None)
        assert mid in self.answers, f"the connection ended instead of a SUBACK: {self.ended}"
        got = [reason.value for reason in self.answers[mid]]
        same([each for _, each in pairs] if expect is None else expect, got, f"reasons of SUBACK for {filters}")
        return got

    def unsubscribe(self, *filters):
        """The reason codes (MQTT 5; else nothing)."""
        _, mid = self.paho.unsubscribe(list(filters))
        self.until("UNSUBACK", lambda: mid in self.answers)
        answer = self.answers[mid]
        return [reason.value for reason in answer] if isinstance(answer, list) else []

    def publish(self, topic, payload="", qos=0, retain=False, wait=True, **values):
        """The reason code of its acknowledgement (0 with QoS 0); without `wait` the message id."""
        info = self.paho.publish(topic, payload, qos, retain, properties=properties(PacketTypes.PUBLISH, values) if values and self.version == 5 else None)
        assert info.rc in (paho.MQTT_ERR_SUCCESS, paho.MQTT_ERR_NO_CONN), f"paho's answer to publish: {info.rc}"
        return self.published(info.mid) if wait else info.mid

    def published(self, *mids):
        for mid in mids:
            self.until("the acknowledgement", lambda mid=mid: mid in self.acknowledged or self.ended is not None)
            assert mid in self.acknowledged, f"the connection ended before the acknowledgement: {self.ended}"
        reason = self.acknowledged[mids[-1]]
        return getattr(reason, "value", reason)

    def wait(self, count, seconds=SECONDS):
        """Waits until there are so many messages in all; answers them."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.messages) >= count, seconds), f"{self.id}: {len(self.messages)} of {count} messages within {seconds} s: {self.messages[:9]}"
            return list(self.messages)

    def arrive(self, *wanted, seconds=SECONDS):
        """These texts come, in this order, and nothing else."""
        got = self.wait(len(wanted), seconds)
        same(list(wanted), [message.text for message in got], f"what {self.id} has received")
        return got

    def none_more(self, count=0, seconds=0.4):
        """There are so many, and for a while no more come."""
        self.wait(count)
        with self.changed:
            self.changed.wait_for(lambda: len(self.messages) > count, seconds)
        assert len(self.messages) == count, f"{self.id}: {len(self.messages)} messages and not {count}: {self.messages[:9]}"
        return self.messages

    def forget(self):
        with self.changed:
            self.messages = []

    def texts(self):
        return [message.text for message in self.messages]

    def closes(self, seconds=SECONDS):
        """The broker ends the connection; paho's reason of it."""
        self.until("the end of the connection", lambda: self.ended is not None, seconds)
        self.paho.loop_stop()
        return self.ended

    def drop(self):
        """The connection is lost: no DISCONNECT."""
        opened = self.paho.socket()
        if opened:
            try:
                opened.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.paho.loop_stop()

    def disconnect(self, reason=0, **values):
        if self.version == 5:
            self.paho.disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=reason), properties(PacketTypes.DISCONNECT, values) if values else None)
        else:
            self.paho.disconnect()
        self.paho.loop_stop()


class Kit:
    def __init__(self, addresses, name):
        self.addresses = addresses.split(",")
        self.dealt = itertools.count()
        self.name = name
        self.prefix = unique("t", name)
        self.clients, self.wires = [], []
        self.retained = set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            try:
                client.disconnect()
            except Exception:  # what a case left broken is not its subject
                pass
        for wire in self.wires:
            wire.socket.close()
        for client in self.clients:
            if not client.clean:
                try:
                    Wire(self.deal(), client.id, version=4).disconnect()
                except Exception:
                    pass

    def deal(self, at=None):
        return self.addresses[(next(self.dealt) if at is None else at) % len(self.addresses)]

    def topic(self, rest="a"):
        """A topic that nobody else has."""
        return f"{self.prefix}/{rest}"

    def id(self, kind="client"):
        return f"{self.prefix[-8:]}-{kind}"

    def client(self, kind=None, version=5, client_id=None, **options):
        """A connected client. `kind`: its id ends so; without, it is the n-th one's."""
        client = Client(self, self.id(kind or f"c{len(self.clients)}") if client_id is None else client_id, version, **options)
        self.clients.append(client)
        return client

    def session(self, kind="session", version=5, expiry=600, clean=False, **options):
        """A client whose session stays."""
        if version == 5 and expiry is not None:
            options["session_expiry"] = expiry
        return self.client(kind, version, clean=clean, **options)

    def wire(self, kind="wire", version=5, client_id=None, address=None, **options):
        wire = Wire(address or self.deal(), self.id(kind) if client_id is None else client_id, version, **options)
        self.wires.append(wire)
        return wire
