"""Clients as the cases need them: librdkafka and pika, and MQTT by its bytes, since what is looked at is the reason in an answer."""

import socket
import struct
import time

import kit  # noqa: F401  (puts the tool chains on the path)

import confluent_kafka  # noqa: E402
import confluent_kafka.admin  # noqa: E402
import pika  # noqa: E402

QUIET = {"log_level": 0, "log.connection.close": False}


def connect(running, name):
    peer = socket.socket()
    peer.settimeout(10)
    peer.connect(("127.0.0.1", running.ports[name]))
    return peer


# ---- Kafka -------------------------------------------------------------------------------------------------------


class Kafka:
    """Produces and reads; `acknowledged` are the values of each topic that were."""

    def __init__(self, address, timeout_ms=4000):
        self.address, self.acknowledged, self.errors = address, {}, []
        self.producer = confluent_kafka.Producer({
            **QUIET, "bootstrap.servers": address, "acks": "all", "message.timeout.ms": timeout_ms, "linger.ms": 5,
            "message.send.max.retries": 2, "retry.backoff.ms": 50, "queue.buffering.max.kbytes": 65536})

    def produce(self, topic, values):
        """Sends them and waits. How many were acknowledged."""
        before = len(self.acknowledged.setdefault(topic, []))
        for value in values:
            self.producer.produce(topic, value, on_delivery=self.delivered)
        self.producer.flush(30)
        return len(self.acknowledged[topic]) - before

    def delivered(self, error, message):
        if error:
            self.errors.append(error.name())
        else:
            self.acknowledged[message.topic()].append(message.value())

    def read(self, topic, partition=0):
        """All that there is."""
        consumer = confluent_kafka.Consumer({**QUIET, "bootstrap.servers": self.address, "group.id": "reader", "enable.auto.commit": False,
                                             "enable.partition.eof": True, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 50})
        consumer.assign([confluent_kafka.TopicPartition(topic, partition, confluent_kafka.OFFSET_BEGINNING)])
        values, deadline = [], time.monotonic() + 20
        try:
            while time.monotonic() < deadline:
                message = consumer.poll(1)
                if message is None:
                    continue
                if message.error():
                    if message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                        return values
                    raise kit.Fault(f"reading {topic}: {message.error()}")
                values.append(message.value())
            raise kit.Fault(f"reading {topic}: no end after {len(values)} records")
        finally:
            consumer.close()

    def commit(self, topic, offset):
        consumer = confluent_kafka.Consumer({**QUIET, "bootstrap.servers": self.address, "group.id": "committer", "enable.auto.commit": False})
        try:
            consumer.commit(offsets=[confluent_kafka.TopicPartition(topic, 0, offset)], asynchronous=False)
        finally:
            consumer.close()

    def admin(self):
        return confluent_kafka.admin.AdminClient({**QUIET, "bootstrap.servers": self.address})

    def create(self, topic):
        admin = self.admin()
        for future in admin.create_topics([confluent_kafka.admin.NewTopic(topic, 1)]).values():
            future.result(20)

    def delete(self, topic):
        admin = self.admin()
        for future in admin.delete_topics([topic], operation_timeout=10).values():
            future.result(20)

    def check_kept(self, topic):
        """All that was acknowledged is there, in its order."""
        there, wanted = self.read(topic), self.acknowledged[topic]
        left = iter(there)
        missing = next((value for value in wanted if not any(value == found for found in left)), None)
        kit.check(missing is None, f"{topic}: {missing and missing[:40]!r} was acknowledged and is not there ({len(wanted)} acknowledged, {len(there)} read)")
        return len(wanted)


def fetch(correlation, topic, bytes_max, offset=0):
    """A request, by its bytes: Fetch version 4 of one partition."""
    body = struct.pack(">iiiib", -1, 100, 1, bytes_max, 0) + struct.pack(">i", 1) + struct.pack(">h", len(topic)) + topic
    body += struct.pack(">i", 1) + struct.pack(">iqi", 0, offset, bytes_max)
    head = struct.pack(">hhih", 1, 4, correlation, 4) + b"test"
    return struct.pack(">i", len(head) + len(body)) + head + body


# ---- AMQP --------------------------------------------------------------------------------------------------------


class Amqp:
    """A connection whose channel confirms."""

    def __init__(self, address):
        host, port = address.split(":")
        self.connection = pika.BlockingConnection(pika.ConnectionParameters(host, int(port), heartbeat=0, socket_timeout=10, blocked_connection_timeout=None))
        self.blocked, self.acknowledged = [], []
        self.connection.add_on_connection_blocked_callback(lambda _, frame: self.blocked.append(frame.method.reason))
        self.connection.add_on_connection_unblocked_callback(lambda *_: self.blocked.append(None))
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()

    def publish(self, queue, body):
        """True: confirmed. False: negatively."""
        try:
            self.channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2), mandatory=True)
        except pika.exceptions.NackError:
            return False
        self.acknowledged.append(body)
        return True

    def drain(self, queue):
        bodies = []
        while True:
            method, _, body = self.channel.basic_get(queue, auto_ack=False)
            if method is None:
                return bodies
            bodies.append(body)

    def abort(self):
        """Without a goodbye: a blocked connection is not read."""
        self.connection._impl._transport.abort()

    def close(self):
        self.connection.close()


# ---- MQTT --------------------------------------------------------------------------------------------------------


def mqtt_string(text):
    return struct.pack(">H", len(text)) + text


def mqtt_packet(kind, body):
    length, digits = len(body), b""
    while True:
        digits += bytes([length % 128 | (0x80 if length >= 128 else 0)])
        length //= 128
        if not length:
            return bytes([kind]) + digits + body


class Mqtt:
    """A connection of version 5 (or 4: 3.1.1), packet by packet."""

    def __init__(self, address, name, clean=True, expiry=3600, version=5, receive_buffer=None):
        host, port = address.split(":")
        self.version, self.identifier, self.buffer = version, 0, b""
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(10)
        self.socket.connect((host, int(port)))
        properties = b"\x05\x11" + struct.pack(">I", expiry) if version == 5 else b""
        self.send(0x10, mqtt_string(b"MQTT") + bytes([version, 2 if clean else 0]) + b"\0\0" + properties + mqtt_string(name.encode()))
        kind, body = self.receive()
        kit.check(kind == 0x20 and body[1] == 0, f"MQTT CONNACK: {kind:#x} {body.hex()}")

    def send(self, kind, body):
        self.socket.sendall(mqtt_packet(kind, body))

    def receive(self):
        """(first byte, body); (0, b"") when the connection ended."""
        while True:
            for digits in range(1, min(4, len(self.buffer) - 1) + 1):
                if self.buffer[digits] < 128:
                    length = sum((byte & 127) << 7 * place for place, byte in enumerate(self.buffer[1:digits + 1]))
                    if len(self.buffer) >= 1 + digits + length:
                        kind, body = self.buffer[0], self.buffer[1 + digits:1 + digits + length]
                        self.buffer = self.buffer[1 + digits + length:]
                        return kind, body
                    break
            try:
                more = self.socket.recv(1 << 16)
            except ConnectionResetError:
                more = b""
            if not more:
                return 0, b""
            self.buffer += more

    def publish(self, topic, payload, qos=1):
        """The reason code of the PUBACK or PUBREC (then the exchange is finished); None if the connection ended instead."""
        self.identifier += 1
        identifier = struct.pack(">H", self.identifier)
        self.send(0x30 | qos << 1, mqtt_string(topic.encode()) + (identifier if qos else b"") + (b"\0" if self.version == 5 else b"") + payload)
        if not qos:
            return 0
        kind, body = self.receive()
        if kind == 0xE0:
            return body[0] if body else None
        if not kind:
            return None
        kit.check(kind == (0x40 if qos == 1 else 0x50) and body[:2] == identifier, f"MQTT answer: {kind:#x} {body.hex()}")
        reason = body[2] if len(body) > 2 else 0
        if qos == 2 and reason < 0x80:
            self.send(0x62, identifier)
            kind, body = self.receive()
            kit.check(kind == 0x70, f"MQTT PUBCOMP: {kind:#x} {body.hex()}")
        return reason

    def subscribe(self, topic, qos=1):
        self.send(0x82, b"\0\1" + (b"\0" if self.version == 5 else b"") + mqtt_string(topic.encode()) + bytes([qos]))
        kind, body = self.receive()
        kit.check(kind == 0x90 and body[-1] <= 2, f"MQTT SUBACK: {kind:#x} {body.hex()}")

    def messages(self, count):
        """So many payloads; acknowledges them."""
        payloads = []
        while len(payloads) < count:
            kind, body = self.receive()
            if not kind:
                raise kit.Fault(f"MQTT: the connection ended after {len(payloads)} of {count} messages")
            if kind >> 4 == 6:
                self.send(0x70, body[:2])
                continue
            if kind >> 4 != 3:
                continue
            qos, at = kind >> 1 & 3, 2 + struct.unpack(">H", body[:2])[0]
            if qos:
                self.send(0x40 if qos == 1 else 0x50, body[at:at + 2])
                at += 2
            if self.version == 5:
                at += 1 + body[at]
            payloads.append(body[at:])
        return payloads

    def close(self):
        self.send(0xE0, b"")
        self.socket.close()
