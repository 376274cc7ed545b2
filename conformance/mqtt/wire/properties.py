"""The properties of MQTT 5 (2.2.2.2): how long each is, and what it is called."""

KINDS = {
    0x01: ("byte", "payload format"), 0x02: ("four", "message expiry"), 0x03: ("string", "content type"),
    0x08: ("string", "response topic"), 0x09: ("string", "correlation data"), 0x0B: ("variable", "subscription identifier"),
    0x11: ("four", "session expiry"), 0x12: ("string", "assigned client id"), 0x13: ("two", "server keep alive"),
    0x15: ("string", "authentication method"), 0x16: ("string", "authentication data"), 0x17: ("byte", "request problem information"),
    0x18: ("four", "will delay"), 0x19: ("byte", "request response information"), 0x1A: ("string", "response information"),
    0x1C: ("string", "server reference"), 0x1F: ("string", "reason string"), 0x21: ("two", "receive maximum"),
    0x22: ("two", "topic alias maximum"), 0x23: ("two", "topic alias"), 0x24: ("byte", "maximum QoS"),
    0x25: ("byte", "retain available"), 0x26: ("pair", "user property"), 0x27: ("four", "maximum packet size"),
    0x28: ("byte", "wildcards available"), 0x29: ("byte", "subscription identifiers available"), 0x2A: ("byte", "shared subscriptions available"),
}


def name(identifier):
    return KINDS.get(identifier, ("", "unknown"))[1]


def split(data):
    """[(identifier, its bytes with the identifier)], or None if they are not whole."""
    found, at = [], 0
    while at < len(data):
        kind = KINDS.get(data[at], (None,))[0]
        end = at + 1
        if kind is None:
            return None
        if kind == "variable":
            while end < len(data) and data[end] >= 0x80:
                end += 1
            end += 1
        elif kind in ("string", "pair"):
            for _ in range(2 if kind == "pair" else 1):
                end += 2 + int.from_bytes(data[end:end + 2], "big")
        else:
            end += {"byte": 1, "two": 2, "four": 4}[kind]
        if end > len(data):
            return None
        found.append((data[at], data[at:end]))
        at = end
    return found
