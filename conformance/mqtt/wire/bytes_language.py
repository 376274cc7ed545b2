"""The notation of the transcripts: from text to bytes, and from text to what bytes must look like.

conformance/wire/mqtt/README.md says what may be written. A line of bytes is a list of nodes; `render` makes bytes of it,
`match` compares it with a packet and remembers what it names (`<name>`).
"""

import base64
import hashlib
import hmac
import re

import properties


class BadLine(Exception):
    """What is written is not of the notation."""


class Mismatch(Exception):
    """`at`: the place in the packet where it differs; `wanted`: what should be there."""

    def __init__(self, at, wanted):
        super().__init__(f"byte {at}: wanted {wanted}")
        self.at, self.wanted = at, wanted


TOKEN = re.compile(r"""
    (?P<space>\s+)
  | '(?P<string>[^']*)'
  | "(?P<text>[^"]*)"
  | (?P<times>\d+)\*(?P<repeated>[0-9a-fA-F]{2})
  | (?P<any>\[\*\](?P<any_optional>\?)?)
  | (?P<properties>\[\?(?P<wanted>[^\[\]]*)\])
  | (?P<open>\[)
  | (?P<close>\](?P<close_optional>\?)?)
  | \((?P<choice>[0-9a-fA-F]{2}(?:\|[0-9a-fA-F]{2})*)\)(?P<choice_optional>\?)?
  | (?P<one>\.\.)
  | (?P<rest>\*)
  | <(?P<named_string>')?(?P<name>[a-z0-9_]+)(?P<others>(?:![a-z0-9_]+)*)>
  | \{(?P<computed>scram[^}]*)\}
  | (?P<hex>(?:[0-9a-fA-F]{2})+)(?P<optional>\?)?
""", re.VERBOSE)


def variable_length(number):
    """A number in the form of a remaining length."""
    out = bytearray()
    while True:
        byte, number = number & 0x7F, number >> 7
        out.append(byte | (0x80 if number else 0))
        if not number:
            return bytes(out)


def read_variable_length(data, at):
    """(value, place behind it); a Mismatch if there is none."""
    value, shift = 0, 0
    for place in range(at, min(at + 4, len(data))):
        value |= (data[place] & 0x7F) << shift
        shift += 7
        if data[place] < 0x80:
            if len(variable_length(value)) != place + 1 - at:
                raise Mismatch(at, f"{value} in as few bytes as it takes")
            return value, place + 1
    raise Mismatch(at, "a variable length")


def characters(text):
    """UTF-8 of the text, in which \\xNN is one byte."""
    return re.sub(rb"\\x([0-9a-fA-F]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())


def prefixed(data):
    return len(data).to_bytes(2, "big") + data


def parse(text):
    """The nodes of a line. A node is (kind, value, optional)."""
    nodes, at = _parse(text, 0, False)
    if at != len(text):
        raise BadLine(f"unmatched ] in {text!r}")
    return nodes


def _parse(text, at, nested):
    nodes = []
    while at < len(text):
        found = TOKEN.match(text, at)
        if not found:
            raise BadLine(f"{text[at:]!r} is not of the notation")
        at = found.end()
        group = found.groupdict()
        if group["space"]:
            continue
        if group["string"] is not None:
            nodes.append(("bytes", prefixed(characters(group["string"])), False))
        elif group["text"] is not None:
            nodes.append(("bytes", characters(group["text"]), False))
        elif group["times"]:
            nodes.append(("bytes", bytes.fromhex(group["repeated"]) * int(group["times"]), False))
        elif group["any"]:
            nodes.append(("any length", None, bool(group["any_optional"])))
        elif group["properties"]:
            nodes.append(("properties", _wanted_properties(group["wanted"]), False))
        elif group["open"]:
            inner, at = _parse(text, at, True)
            optional = text[at - 1] == "?"
            nodes.append(("length", inner, optional))
        elif group["close"]:
            if not nested:
                raise BadLine(f"unmatched ] in {text!r}")
            return nodes, at
        elif group["choice"]:
            nodes.append(("choice", bytes(int(one, 16) for one in group["choice"].split("|")), bool(group["choice_optional"])))
        elif group["one"]:
            nodes.append(("one", None, False))
        elif group["rest"]:
            nodes.append(("rest", None, False))
        elif group["name"]:
            nodes.append(("string name" if group["named_string"] else "name", group["name"].split("!") + group["others"].split("!")[1:], False))
        elif group["computed"]:
            nodes.append(("computed", group["computed"].split(), False))
        else:
            nodes.append(("bytes", bytes.fromhex(group["hex"]), bool(group["optional"])))
    if nested:
        raise BadLine(f"a [ that does not end in {text!r}")
    return nodes, at


def _wanted_properties(text):
    """(patterns that must be there, identifiers that must not)."""
    wanted, banned = [], []
    for item in filter(None, (item.strip() for item in text.split(";"))):
        if item.startswith("!"):
            banned.append(int(item[1:], 16))
        else:
            wanted.append((item, parse(item)))
    return wanted, banned


def render(nodes, names):
    out = bytearray()
    for kind, value, _ in nodes:
        if kind == "bytes":
            out += value
        elif kind == "length":
            inner = render(value, names)
            out += variable_length(len(inner)) + inner
        elif kind in ("name", "string name"):
            if value[0] not in names:
                raise BadLine(f"<{value[0]}> was not seen yet")
            out += prefixed(names[value[0]]) if kind == "string name" else names[value[0]]
        elif kind == "computed":
            out += prefixed(scram(value, names))
        else:
            raise BadLine(f"{kind} cannot be sent")
    return bytes(out)


def match(nodes, data, names):
    """Compares a whole packet; `names` gets what the pattern names. A Mismatch says where it differs."""
    seen = dict(names)
    at = _match(nodes, data, 0, seen)
    if at != len(data):
        raise Mismatch(at, "the end of the packet")
    names.update(seen)


def _match(nodes, data, at, names):
    for kind, value, optional in nodes:
        if optional and at == len(data):
            continue
        if kind == "bytes":
            for place, byte in enumerate(value, at):
                if place >= len(data) or data[place] != byte:
                    raise Mismatch(place, f"{byte:02x}")
            at += len(value)
        elif kind == "choice":
            if at >= len(data) or data[at] not in value:
                raise Mismatch(at, " or ".join(f"{byte:02x}" for byte in value))
            at += 1
        elif kind == "one":
            if at >= len(data):
                raise Mismatch(at, "any byte")
            at += 1
        elif kind == "rest":
            at = len(data)
        elif kind in ("length", "any length", "properties"):
            length, start = read_variable_length(data, at)
            end = start + length
            if end > len(data):
                raise Mismatch(at, "a length of what is there")
            if kind == "length":
                reached = _match(value, data[:end], start, names)
                if reached != end:
                    raise Mismatch(reached, "the end of what the length counts")
            elif kind == "properties":
                _match_properties(value, data, start, end, names)
            at = end
        elif kind in ("name", "string name"):
            name, *others = value
            start, end = (at, at + 2) if kind == "name" else (at + 2, at + 2 + int.from_bytes(data[at:at + 2], "big"))
            part = data[start:end]
            if end > len(data) or end < start or names.get(name, part) != part:
                raise Mismatch(at, f"<{name}>" + (f", {names[name].hex()}" if name in names else ""))
            if any(names.get(other) == part for other in others):
                raise Mismatch(at, f"another than <{'> and <'.join(others)}>")
            if kind == "name" and part == b"\0\0":
                raise Mismatch(at, "a packet id, which is not zero")
            names[name] = part
            at = end
        else:
            raise BadLine(f"{kind} cannot be expected")
    return at


def _match_properties(wanted, data, start, end, names):
    patterns, banned = wanted
    there = properties.split(data[start:end])
    if there is None:
        raise Mismatch(start, "properties")
    for identifier, _ in there:
        if identifier in banned:
            raise Mismatch(start, f"no property {identifier:02x} ({properties.name(identifier)})")
    left = [raw for _, raw in there]
    for text, nodes in patterns:
        for raw in left:
            try:
                match(nodes, raw, names)
            except Mismatch:
                continue
            left.remove(raw)
            break
        else:
            raise Mismatch(start, f"a property {text}")


def scram(words, names):
    """`scram USER PASSWORD SERVER-FIRST`: the client's last message of SCRAM-SHA-256 (RFC 5802), its nonce being the user's name
    twice; `scram-server USER PASSWORD SERVER-FIRST`: what the server must answer to it."""
    kind, user, password, name = words
    first = names[name].decode()
    part = dict(item.split("=", 1) for item in first.split(","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(part["s"]), int(part["i"]))
    sign = lambda key, text: hmac.new(key, text, "sha256").digest()  # noqa: E731
    bare = f"c=biws,r={part['r']}"
    said = f"n={user},r={user}{user},{first},{bare}".encode()
    if kind == "scram-server":
        return b"v=" + base64.b64encode(sign(sign(salted, b"Server Key"), said))
    key = sign(salted, b"Client Key")
    proof = bytes(a ^ b for a, b in zip(key, sign(hashlib.sha256(key).digest(), said)))
    return f"{bare},p={base64.b64encode(proof).decode()}".encode()
