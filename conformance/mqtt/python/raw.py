"""A connection on which a test says every packet itself: what no client library would do."""

import socket
import time

import packets


class Closed(Exception):
    """The broker has closed the connection."""


class Wire:
    """`connack` is what CONNECT was answered with; `connect=False` leaves that to the test."""

    def __init__(self, address, client_id="", version=5, connect=True, seconds=20, **options):
        host, port = address.rsplit(":", 1)
        self.version, self.buffer, self.waiting = version, bytearray(), []
        self.socket = socket.create_connection((host, int(port)), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if connect:
            self.send(packets.connect(version, client_id, **options))
            self.connack = self.expect(packets.CONNACK)

    def send(self, data):
        self.socket.sendall(data)

    def read(self, seconds=20):
        """The next packet. Closed: the connection is."""
        end = time.monotonic() + seconds
        while not self.waiting:
            self.socket.settimeout(max(0.001, end - time.monotonic()))
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                raise AssertionError(f"nothing came within {seconds} s") from None
            except OSError:
                data = b""
            if not data:
                raise Closed
            self.buffer += data
            self.waiting += packets.decode(self.buffer, self.version)
        return self.waiting.pop(0)

    def expect(self, kind, seconds=20):
        got = self.read(seconds)
        assert got.kind == kind, f"wanted {packets.NAMES[kind]}, got {got}"
        return got

    def silent(self, seconds=0.3):
        """Nothing comes for a while."""
        try:
            got = self.read(seconds)
        except AssertionError:
            return
        raise AssertionError(f"nothing was to come, got {got}")

    def closes(self, seconds=20):
        """The broker closes the connection; the reason of its DISCONNECT, or None if it sent none."""
        reason = None
        try:
            while True:
                got = self.read(seconds)
                if got.kind == packets.DISCONNECT:
                    reason = got.reason
        except Closed:
            return reason

    def subscribe(self, *filters, qos=0, identifier=1, **values):
        self.send(packets.subscribe(self.version, identifier, [(name, qos) for name in filters], **values))
        return self.expect(packets.SUBACK).reasons

    def drop(self):
        """The connection is lost: no DISCONNECT."""
        self.socket.close()

    def disconnect(self, reason=0, **values):
        self.send(packets.disconnect(self.version, reason, **values))
        self.socket.close()
