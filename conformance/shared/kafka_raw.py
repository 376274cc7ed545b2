"""Kafka's protocol by hand, for what no library's client does: not to authenticate again, to ask a broker that is not a group's."""

import base64
import socket
import struct

METADATA, OFFSET_FETCH, HANDSHAKE, AUTHENTICATE = 3, 9, 17, 36


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


class Connection:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), 10)

    def ask(self, api, version, body):
        """The answer's body; None: the broker has closed the connection."""
        frame = struct.pack(">hhi", api, version, 7) + string("raw") + body
        try:
            self.socket.sendall(struct.pack(">i", len(frame)) + frame)
            length = self.read(4)
            return length and self.read(*struct.unpack(">i", length))[4:]
        except ConnectionError:
            return None

    def read(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                return None
            data += more
        return data

    def handshake(self, mechanism):
        answer = self.ask(HANDSHAKE, 1, string(mechanism))
        assert answer and answer[:2] == b"\0\0", f"{mechanism} is not taken: {answer}"

    def step(self, message):
        """One message of the exchange: the error's code, the broker's message, and for how many milliseconds it is good."""
        answer = self.ask(AUTHENTICATE, 1, struct.pack(">i", len(message)) + message)
        error, text = struct.unpack(">hh", answer[:4])
        at = 4 + max(text, 0)
        length, = struct.unpack(">i", answer[at:at + 4])
        return error, answer[at + 4:at + 4 + length], struct.unpack(">q", answer[-8:])[0]

    def authenticate(self, token, as_user=""):
        """Bears the token: the error's code, and for how many milliseconds it is good."""
        self.handshake("OAUTHBEARER")
        error, _, lifetime_ms = self.step(f"n,{as_user and 'a=' + as_user},\x01auth=Bearer {token}\x01\x01".encode())
        return error, lifetime_ms

    def authenticate_without_password(self, user):
        """SCRAM-SHA-512 with a proof that proves nothing. A library would notice that the broker cannot prove itself either, and
        go away, whatever it was told. The error's code."""
        self.handshake("SCRAM-SHA-512")
        error, challenge, _ = self.step(f"n,,n={user},r=nonce".encode())
        assert error == 0, error
        nonce = challenge.decode().split(",")[0]
        return self.step(f"c=biws,{nonce},p={base64.b64encode(bytes(64)).decode()}".encode())[0]

    def is_answered(self):
        """Whether the broker tells of its topics, of none of them."""
        return self.ask(METADATA, 1, struct.pack(">i", 0)) is not None

    def offsets_error(self, group):
        """The error's code when it is asked for all that the group has committed."""
        return struct.unpack(">h", self.ask(OFFSET_FETCH, 2, string(group) + struct.pack(">i", -1))[-2:])[0]
