"""MQTT packets to bytes and back, without any I/O: for what a client library does not let a test do, and for the kill test.

`version` is 3 (MQTT 3.1), 4 (3.1.1) or 5. Properties are a dictionary by the names in `PROPERTIES`; user properties are a list of
pairs, subscription identifiers a list of numbers.
"""

import struct

(CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH) = range(1, 16)
NAMES = ("reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH")

# name -> (identifier, kind): MQTT 5, table 2-4.
PROPERTIES = {
    "payload_format": (0x01, "byte"), "message_expiry": (0x02, "four"), "content_type": (0x03, "text"), "response_topic": (0x08, "text"), "correlation_data": (0x09, "bytes"),
    "subscription_identifier": (0x0B, "variable"), "session_expiry": (0x11, "four"), "assigned_client_id": (0x12, "text"), "server_keep_alive": (0x13, "two"), "authentication_method": (0x15, "text"),
    "authentication_data": (0x16, "bytes"), "request_problem_information": (0x17, "byte"), "will_delay": (0x18, "four"), "request_response_information": (0x19, "byte"), "response_information": (0x1A, "text"),
    "server_reference": (0x1C, "text"), "reason": (0x1F, "text"), "receive_maximum": (0x21, "two"), "topic_alias_maximum": (0x22, "two"), "topic_alias": (0x23, "two"), "maximum_qos": (0x24, "byte"),
    "retain_available": (0x25, "byte"), "user": (0x26, "pair"), "maximum_packet_size": (0x27, "four"), "wildcard_available": (0x28, "byte"), "identifiers_available": (0x29, "byte"), "shared_available": (0x2A, "byte"),
}
BY_IDENTIFIER = {identifier: (name, kind) for name, (identifier, kind) in PROPERTIES.items()}
FIXED = {"byte": ">B", "two": ">H", "four": ">I"}


class Malformed(Exception):
    """The peer sent what is no packet."""


def variable(number):
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(value)) + value


def properties(version, values):
    if version != 5:
        return b""
    out = b""
    for name, value in (values or {}).items():
        identifier, kind = PROPERTIES[name]
        for each in value if kind == "pair" or isinstance(value, list) else [value]:
            out += bytes([identifier])
            out += text(each[0]) + text(each[1]) if kind == "pair" else text(each) if kind in ("text", "bytes") else variable(each) if kind == "variable" else struct.pack(FIXED[kind], each)
    return variable(len(out)) + out


def packet(kind, body, flags=0):
    return bytes([kind << 4 | flags]) + variable(len(body)) + body


def connect(version, client_id, clean=True, keepalive=60, username=None, password=None, will=None, **values):
    """`will`: (topic, payload, qos, retain, properties)."""
    flags = (2 if clean else 0) | (0 if username is None else 0x80) | (0 if password is None else 0x40)
    tail = text(client_id)
    if will:
        topic, payload, qos, retain, will_values = will
        flags |= 4 | qos << 3 | (0x20 if retain else 0)
        tail += properties(version, will_values) + text(topic) + text(payload)
    tail += (b"" if username is None else text(username)) + (b"" if password is None else text(password))
    return packet(CONNECT, text("MQIsdp" if version == 3 else "MQTT") + bytes([version, flags]) + struct.pack(">H", keepalive) + properties(version, values) + tail)


def publish(version, topic, payload=b"", qos=0, identifier=0, retain=False, duplicate=False, **values):
    payload = payload.encode() if isinstance(payload, str) else payload
    return packet(PUBLISH, text(topic) + (struct.pack(">H", identifier) if qos else b"") + properties(version, values) + payload, (8 if duplicate else 0) | qos << 1 | (1 if retain else 0))


def acknowledge(kind, identifier, reason=0):
    """PUBACK, PUBREC, PUBREL, PUBCOMP."""
    return packet(kind, struct.pack(">H", identifier) + (bytes([reason]) if reason else b""), 2 if kind == PUBREL else 0)


def subscribe(version, identifier, filters, **values):
    """`filters`: (filter, options byte) each."""
    return packet(SUBSCRIBE, struct.pack(">H", identifier) + properties(version, values) + b"".join(text(name) + bytes([options]) for name, options in filters), 2)


def unsubscribe(version, identifier, filters):
    return packet(UNSUBSCRIBE, struct.pack(">H", identifier) + properties(version, None) + b"".join(map(text, filters)), 2)


def disconnect(version, reason=0, **values):
    return packet(DISCONNECT, b"" if version != 5 or not (reason or values) else bytes([reason]) + (properties(5, values) if values else b""))


def auth(reason, **values):
    return packet(AUTH, bytes([reason]) + properties(5, values))


PING = packet(PINGREQ, b"")


class Packet:
    """What was received. Which of the fields are there depends on `kind`."""

    def __init__(self, kind, flags):
        self.kind, self.flags = kind, flags
        self.identifier, self.reason, self.properties = None, 0, {}

    def __repr__(self):
        return f"{NAMES[self.kind]}{ {name: value for name, value in vars(self).items() if name not in ('kind', 'flags')} }"


class _Body:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise Malformed("a packet ends too early")
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def bytes(self):
        return bytes(self.take(self.number(">H")))

    def text(self):
        return self.bytes().decode()

    def variable(self):
        value = shift = 0
        while True:
            byte = self.number(">B")
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def rest(self):
        return bytes(self.take(len(self.data) - self.at))

    def left(self):
        return len(self.data) - self.at

    def properties(self, version):
        found = {}
        if version != 5 or not self.left():
            return found
        inner = _Body(self.take(self.variable()))
        while inner.left():
            identifier = inner.variable()
            if identifier not in BY_IDENTIFIER:
                raise Malformed(f"property {identifier:#x}")
            name, kind = BY_IDENTIFIER[identifier]
            if kind == "pair":
                found.setdefault(name, []).append((inner.text(), inner.text()))
            elif kind == "variable":
                found.setdefault(name, []).append(inner.variable())
            else:
                found[name] = inner.text() if kind == "text" else inner.bytes() if kind == "bytes" else inner.number(FIXED[kind])
        return found


def decode(buffer, version):
    """The packets that are whole in `buffer` (a bytearray, from which they are taken)."""
    found = []
    while len(buffer) >= 2:
        length = shift = 0
        at = 1
        while True:
            if at >= len(buffer):
                return found
            byte = buffer[at]
            length |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                break
            if shift > 21:
                raise Malformed("a remaining length of more than four bytes")
        if len(buffer) < at + length:
            return found
        found.append(_one(buffer[0] >> 4, buffer[0] & 15, _Body(bytes(buffer[at:at + length])), version))
        del buffer[:at + length]
    return found


def _one(kind, flags, body, version):
    got = Packet(kind, flags)
    if kind == CONNACK:
        got.session_present, got.reason = body.number(">B") & 1, body.number(">B")
        got.properties = body.properties(version)
    elif kind == PUBLISH:
        got.topic = body.text()
        got.qos, got.retain, got.duplicate = flags >> 1 & 3, bool(flags & 1), bool(flags & 8)
        got.identifier = body.number(">H") if got.qos else 0
        got.properties = body.properties(version)
        got.payload = body.rest()
    elif kind in (PUBACK, PUBREC, PUBREL, PUBCOMP):
        got.identifier = body.number(">H")
        got.reason = body.number(">B") if body.left() else 0
        got.properties = body.properties(version)
    elif kind in (SUBACK, UNSUBACK):
        got.identifier = body.number(">H")
        got.properties = body.properties(version)
        got.reasons = list(body.rest())
    elif kind in (DISCONNECT, AUTH):
        got.reason = body.number(">B") if body.left() else 0
        got.properties = body.properties(version)
    elif kind != PINGRESP:
        raise Malformed(f"a broker does not send {NAMES[kind]}")
    if body.left():
        raise Malformed(f"{body.left()} bytes too many in {NAMES[kind]}")
    return got
