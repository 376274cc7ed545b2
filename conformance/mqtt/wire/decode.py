"""What the bytes of a packet mean, for people who look at a case that failed."""

import bytes_language
import properties

NAMES = ["(0)", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK", "UNSUBSCRIBE",
         "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"]
SHOWN_BYTES_MAX = 40


def shown(data):
    text = data[:SHOWN_BYTES_MAX].hex(" ")
    return text + (f" … ({len(data)} bytes)" if len(data) > SHOWN_BYTES_MAX else "")


def explain(packet, version):
    """One line a field: its bytes, then what they are. `version`: 3, 4 or 5."""
    try:
        fields = list(_fields(packet, version))
    except (IndexError, bytes_language.Mismatch):
        fields = [(packet, "not a packet")]
    return "\n".join(f"    {shown(raw):<{max(24, len(shown(raw)))}}  {meaning}" for raw, meaning in fields)


def _fields(packet, version):
    kind, flags = packet[0] >> 4, packet[0] & 15
    length, at = bytes_language.read_variable_length(packet, 1)
    told = NAMES[kind]
    if kind == 3:
        told += f" QoS {flags >> 1 & 3}" + (", again" if flags & 8 else "") + (", retained" if flags & 1 else "")
    elif flags:
        told += f", flags {flags:04b}"
    yield packet[:1], told
    yield packet[1:at], f"{length} bytes follow"

    def take(count):
        nonlocal at
        at += count
        return packet[at - count:at]

    def listed():
        nonlocal at
        length, start = bytes_language.read_variable_length(packet, at)
        yield packet[at:start], f"properties, {length} bytes"
        for identifier, raw in properties.split(packet[start:start + length]) or [(0, packet[start:start + length])]:
            yield raw, properties.name(identifier)
        at = start + length

    if kind == 2:
        yield take(1), "session present" if packet[at - 1] else "no session"
        yield take(1), "reason"
        if version == 5 and at < len(packet):
            yield from listed()
    elif kind == 3:
        size = int.from_bytes(packet[at:at + 2], "big")
        yield take(2 + size), f"topic {packet[at - size:at].decode(errors='replace')}"
        if flags & 6:
            yield take(2), "packet id"
        if version == 5:
            yield from listed()
        yield packet[at:], "payload"
        at = len(packet)
    elif kind in (4, 5, 6, 7, 9, 11):
        yield take(2), "packet id"
        if version == 5 and kind in (9, 11):
            yield from listed()
        if version == 5 and kind in (4, 5, 6, 7):
            if at < len(packet):
                yield take(1), "reason"
            if at < len(packet):
                yield from listed()
        elif at < len(packet):
            yield packet[at:], "reasons"
            at = len(packet)
    elif kind in (14, 15) and at < len(packet):
        yield take(1), "reason"
        if at < len(packet):
            yield from listed()
    if at < len(packet):
        yield packet[at:], "more"
