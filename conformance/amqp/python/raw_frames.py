"""A socket that speaks AMQP frames as far as it is told to: for what clients do not do, and for what they do too slowly."""

import socket
import struct

import pika

HEADER = b"AMQP\x00\x00\x09\x01"
ANSWER_SECONDS = 20
spec = pika.spec


class Wire:
    """A socket that speaks frames, as far as it is told to."""

    def __init__(self, address, handshake=True, frame_max=131072, receive_buffer=None, heartbeat=0, channel_max=2047):
        host, port = address.rsplit(":", 1)
        self.socket = socket.socket()
        # As every client does: else the second of two small writes waits for the peer's delayed acknowledgement.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(ANSWER_SECONDS)
        self.socket.connect((host, int(port)))
        self.read = b""
        if handshake:
            self.send(HEADER)
            self.expect(spec.Connection.Start)
            self.method(0, spec.Connection.StartOk(client_properties={"capabilities": {"connection.blocked": True, "consumer_cancel_notify": True}}, mechanism="PLAIN", response="\0guest\0guest", locale="en_US"))
            self.expect(spec.Connection.Tune)
            self.method(0, spec.Connection.TuneOk(channel_max, frame_max, heartbeat))
            self.method(0, spec.Connection.Open("/"))
            self.expect(spec.Connection.OpenOk)

    def send(self, data):
        self.socket.sendall(data)

    def method(self, channel, method):
        self.send(pika.frame.Method(channel, method).marshal())

    def frame(self):
        """The next frame, or None at the connection's end."""
        while True:
            taken, frame = pika.frame.decode_frame(self.read)
            if frame is not None:
                self.read = self.read[taken:]
                return frame
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.read += data

    def expect(self, kind):
        while True:
            frame = self.frame()
            assert frame is not None, f"closed; wanted {kind.__name__}"
            if isinstance(frame, pika.frame.Heartbeat):
                continue
            assert isinstance(frame, pika.frame.Method) and isinstance(frame.method, kind), f"wanted {kind.__name__}, got {frame}"
            return frame.method

    def channel(self, number=1):
        self.method(number, spec.Channel.Open())
        self.expect(spec.Channel.OpenOk)

    def queue(self, channel=1):
        self.method(channel, spec.Queue.Declare(queue="", exclusive=True))
        return self.expect(spec.Queue.DeclareOk).queue

    def is_closed(self, *codes):
        """connection.close with one of these codes (0: the socket's end without a word will do), then the end."""
        while True:
            frame = self.frame()
            if frame is None:
                assert 0 in codes, f"the end without a word; wanted {codes}"
                return
            if isinstance(frame, pika.frame.Method) and isinstance(frame.method, spec.Connection.Close):
                close = frame.method
                assert close.reply_code in codes, f"{close.reply_code} {close.reply_text}; wanted {codes}"
                self.method(0, spec.Connection.CloseOk())
                self.ends()
                return
            # What was on its way.

    def ends(self):
        try:
            while self.socket.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass


def raw(kind, channel, payload, end=b"\xce"):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end
