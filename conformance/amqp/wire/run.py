#!/usr/bin/env python3
"""What no client would send: broken and half frames, floods, connections that never read. Others go on, and memory is bounded.

Each case ends by a publish and a delivery of a healthy client, and by a look at how much memory the broker holds (BROKER_PIDS).
"""

import os
import pathlib
import random
import select
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))

import pika  # noqa: E402
from amqp_kit import CASES, ORACLE, Consumer, Kit, Skip, main, publish, same  # noqa: E402
import raw_frames  # noqa: E402
from conformance.shared import process  # noqa: E402
from raw_frames import ANSWER_SECONDS, HEADER, raw, spec  # noqa: E402

# A connection may buffer; this is what nobody's buffers may add up to.
GROWTH_BYTES_MAX = 400 << 20
# Where a case leaves more than that to be kept.
BACKLOG_BYTES = 512 << 20


def memory_bytes():
    return sum(process.memory_bytes(pid) for pid in os.environ.get("BROKER_PIDS", "").split())


class Peak:
    """How much the broker has grown at most, looked at ten times a second: what a case leaves behind says little of what it took."""

    def __enter__(self):
        self.before, self.grown, self.over = memory_bytes(), 0, threading.Event()
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()
        return self

    def watch(self):
        while not self.over.wait(0.1):
            self.grown = max(self.grown, memory_bytes() - self.before)

    def __exit__(self, *_):
        self.over.set()
        self.watcher.join()


def case(function):
    def run(addresses):
        with Kit(addresses, function.__name__) as kit:
            healthy(kit)
            with Peak() as peak:
                function(kit)
            if not ORACLE:  # RabbitMQ's own memory comes and goes with its garbage
                assert peak.grown < GROWTH_BYTES_MAX, f"the broker grew by {peak.grown >> 20} MiB"
            started = time.monotonic()
            healthy(kit)
            assert time.monotonic() - started < 10, "others had to wait"
    CASES[function.__name__] = run
    return function


def wire_to(kit, **options):
    """A wire to the first gateway that ends with its case."""
    opened = raw_frames.Wire(kit.addresses[0], **options)
    kit.undo.append(opened.socket.close)
    return opened


def healthy(kit):
    """A client of good manners is served, by every gateway."""
    for at in range(len(kit.addresses)):
        channel = kit.connection(at=at).channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.confirm_delivery()
        consumer = Consumer(channel, queue, auto_ack=True)
        publish(channel, queue, "well")
        same(["well"], [body.decode() for _, _, body in consumer.wait(1)], "a healthy client's message")
        channel.connection.close()


@case
def another_protocol(kit):
    for greeting in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"AMQP\x00\x00\x09\x02"):
        wire = wire_to(kit, handshake=False)
        wire.send(greeting)
        got = b""
        try:
            while data := wire.socket.recv(1000):
                got += data
        except ConnectionResetError:
            pass
        assert got in (HEADER, b""), f"{greeting[:8]}: answered {got[:50]}"


@case
def half_a_header(kit):
    for length in range(8):
        wire_to(kit, handshake=False).send(HEADER[:length])
    wire = wire_to(kit, handshake=False)
    for byte in HEADER:
        wire.send(bytes([byte]))
    wire.expect(spec.Connection.Start)


@case
def silence_before_the_handshake(kit):
    wires = [wire_to(kit, handshake=False) for _ in range(20)]
    wires[0].send(HEADER)
    for wire in wires[1:3]:
        wire.ends()  # within ANSWER_SECONDS, or a time-out is raised


@case
def a_byte_at_a_time(kit):
    wire = wire_to(kit)
    wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wire.channel()
    queue = wire.queue()
    message = pika.frame.Method(1, spec.Basic.Publish(routing_key=queue)).marshal() + pika.frame.Header(1, 3, pika.BasicProperties(message_id="m")).marshal() + pika.frame.Body(1, b"abc").marshal()
    for byte in message + pika.frame.Method(1, spec.Basic.Get(queue=queue, no_ack=True)).marshal():
        wire.send(bytes([byte]))
    end = time.monotonic() + ANSWER_SECONDS
    while True:
        frame = wire.frame()
        if isinstance(frame.method, spec.Basic.GetOk):
            break
        assert time.monotonic() < end, "nothing came"
        wire.method(1, spec.Basic.Get(queue=queue, no_ack=True))
    wire.frame()
    same(b"abc", wire.frame().fragment, "body")


@case
def half_frames(kit):
    message = pika.frame.Method(1, spec.Basic.Publish(routing_key="x")).marshal()
    for length in range(1, len(message), 3):
        wire = wire_to(kit)
        wire.channel()
        wire.send(message[:length])
        wire.socket.close()


@case
def a_body_that_never_comes(kit):
    wires = []
    for _ in range(30):
        wire = wire_to(kit)
        wire.channel()
        wire.method(1, spec.Basic.Publish(routing_key="x"))
        # Announced, with 12 MiB each, and never sent.
        wire.send(pika.frame.Header(1, 12 << 20, pika.BasicProperties()).marshal())
        wires.append(wire)
    for wire in wires:
        wire.socket.close()


@case
def bodies_that_stop_short(kit):
    """Nearly whole on one channel after the other: a connection may have sixteen of the largest messages half sent."""
    if ORACLE:
        raise Skip("no oracle: RabbitMQ has no such bound")
    wire = wire_to(kit)
    part = pika.frame.Body(1, bytes((128 << 10) - 8)).marshal()
    try:
        for number in range(1, 31):
            wire.channel(number)
            wire.send(pika.frame.Method(number, spec.Basic.Publish(routing_key="x")).marshal() + pika.frame.Header(number, 12 << 20, pika.BasicProperties()).marshal())
            for _ in range(95):
                wire.send(struct.pack(">BH", 3, number) + part[3:])
    except (AssertionError, ConnectionError):
        pass  # It is closed already.
    else:
        wire.is_closed(506)
    healthy(kit)


@case
def wrong_frame_end(kit):
    wire = wire_to(kit)
    wire.channel()
    good = pika.frame.Method(1, spec.Basic.Qos(prefetch_count=1)).marshal()
    wire.send(good[:-1] + b"\xcd")
    wire.is_closed(501)


@case
def frame_beyond_frame_max(kit):
    wire = wire_to(kit, frame_max=4096)
    wire.channel()
    wire.send(raw(3, 1, bytes(5000)))
    wire.is_closed(501)
    wire = wire_to(kit)
    wire.send(struct.pack(">BHI", 1, 1, 0xFFFFFFFF))
    wire.is_closed(501)


@case
def lower_limits_of_the_client(kit):
    """No frame is larger than it said, and no more channels open. Clients that said so would not try."""
    wire = wire_to(kit, frame_max=4096, channel_max=7)
    wire.channel()
    queue, body = wire.queue(), bytes(range(256)) * 100
    wire.send(pika.frame.Method(1, spec.Basic.Publish(routing_key=queue)).marshal() + pika.frame.Header(1, len(body), pika.BasicProperties()).marshal())
    for at in range(0, len(body), 4088):
        wire.send(pika.frame.Body(1, body[at:at + 4088]).marshal())
    wire.method(1, spec.Basic.Get(queue=queue, no_ack=True))
    wire.expect(spec.Basic.GetOk)
    same(len(body), wire.frame().body_size, "bytes announced")
    got = b""
    while len(got) < len(body):
        fragment = wire.frame().fragment
        assert len(fragment) + 8 <= 4096, f"a frame of {len(fragment) + 8} bytes"
        got += fragment
    same(body, got, "the body")
    for number in range(2, 8):
        wire.channel(number)
    wire.method(8, spec.Channel.Open())
    wire.is_closed(530)


@case
def unknown_frame_type(kit):
    for kind in (0, 4, 9, 255):
        wire = wire_to(kit)
        wire.channel()
        wire.send(raw(kind, 1, b"abc"))
        wire.is_closed(*((501, 541) if ORACLE else (501,)))


@case
def unknown_methods(kit):
    for class_id, method_id in ((60, 999), (777, 10), (10, 99), (0, 0)):
        wire = wire_to(kit)
        wire.channel()
        wire.send(raw(1, 1, struct.pack(">HH", class_id, method_id)))
        wire.is_closed(*((540, 503, 541, 0) if ORACLE else (540,)))


@case
def bad_syntax(kit):
    for payload in (b"", b"\x00", b"\x00\x3c\x00", struct.pack(">HH", 50, 10), struct.pack(">HHHB", 50, 10, 0, 200) + b"short", struct.pack(">HH", 60, 40) + b"\x00\x00\xff"):
        wire = wire_to(kit)
        wire.channel()
        wire.send(raw(1, 1, payload))
        wire.is_closed(*((502, 501, 541, 0) if ORACLE else (502, 501)))


@case
def bad_tables(kit):
    declare = struct.pack(">HHHB", 50, 10, 0, 1) + b"q" + b"\x00"
    for table in (struct.pack(">I", 0xFFFFFFFF), struct.pack(">I", 100) + b"\x01a", struct.pack(">I", 3) + b"\x01aZ", struct.pack(">I", 8) + b"\x01aS\xff\xff\xff\xff\x00", struct.pack(">I", 8) + b"\x01aF\x7f\xff\xff\xff\x00"):
        wire = wire_to(kit)
        wire.channel()
        wire.send(raw(1, 1, declare + table))
        wire.is_closed(*((502, 501, 541, 0) if ORACLE else (502,)))


@case
def tables_nested_deep(kit):
    """Ten thousand tables within each other, in 80 KB: refused or taken, but the broker lives."""
    inner = struct.pack(">I", 0)
    for _ in range(10_000):
        value = b"\x01aF" + inner
        inner = struct.pack(">I", len(value)) + value
    assert len(inner) < 131_000
    wire = wire_to(kit)
    wire.channel()
    queue = wire.queue()
    wire.send(raw(1, 1, struct.pack(">HHHB", 50, 10, 0, 1) + b"q" + b"\x00" + inner))
    wire.socket.settimeout(5)
    try:
        wire.frame()
    except TimeoutError:
        pass
    wire.socket.close()
    wire = wire_to(kit)
    wire.channel()
    wire.method(1, spec.Basic.Publish(routing_key=queue))
    wire.send(raw(2, 1, struct.pack(">HHQH", 60, 0, 1, 1 << 13) + inner))
    wire.send(raw(3, 1, b"x"))
    wire.socket.close()


@case
def method_on_a_closed_channel(kit):
    wire = wire_to(kit)
    wire.method(7, spec.Basic.Qos(prefetch_count=1))
    wire.is_closed(504)
    wire = wire_to(kit)
    wire.channel(1)
    wire.method(1, spec.Channel.Open())
    wire.is_closed(504)


@case
def connection_methods_out_of_turn(kit):
    wire = wire_to(kit)
    wire.method(0, spec.Connection.Open("/"))
    wire.is_closed(503, 505, 504)
    wire = wire_to(kit)
    wire.channel()
    wire.method(1, spec.Connection.Open("/"))
    wire.is_closed(503, 505, 504)
    wire = wire_to(kit, handshake=False)
    wire.send(HEADER)
    wire.expect(spec.Connection.Start)
    wire.method(0, spec.Connection.Open("/"))
    wire.is_closed(503, 505, 504, 0)


@case
def content_out_of_turn(kit):
    header, body = pika.frame.Header(1, 3, pika.BasicProperties()).marshal(), pika.frame.Body(1, b"abc").marshal()
    begin = pika.frame.Method(1, spec.Basic.Publish(routing_key="x")).marshal()
    for frames in ((header,), (body,), (begin, body), (begin, begin), (begin, header, begin), (begin, header, header)):
        wire = wire_to(kit)
        wire.channel()
        wire.send(b"".join(frames))
        wire.is_closed(505)


@case
def body_longer_than_announced(kit):
    if ORACLE:
        raise Skip("no oracle: it waits for ever")
    wire = wire_to(kit)
    wire.channel()
    wire.send(pika.frame.Method(1, spec.Basic.Publish(routing_key="x")).marshal() + pika.frame.Header(1, 3, pika.BasicProperties()).marshal() + pika.frame.Body(1, b"abcdef").marshal())
    wire.is_closed(501, 505, 502)


@case
def garbage_after_the_handshake(kit):
    generator = random.Random(1)
    for _ in range(60):
        wire = wire_to(kit)
        wire.channel()
        try:
            wire.send(generator.randbytes(generator.randrange(1, 3000)))
            # Frames that look right, full of nonsense.
            for _ in range(5):
                wire.send(raw(generator.choice((1, 1, 2, 3, 8)), generator.randrange(3), generator.randbytes(generator.randrange(60))))
        except OSError:
            pass  # it may have hung up already
        wire.socket.close()


@case
def methods_with_nonsense_inside(kit):
    """Every method there is, with random arguments: whatever it answers, it goes on."""
    generator = random.Random(2)
    methods = [(10, method) for method in (10, 11, 20, 21, 30, 31, 40, 41, 50, 51, 60, 61, 70, 71)] + [(20, method) for method in (10, 11, 20, 21, 40, 41)] + \
        [(40, method) for method in (10, 20, 30, 40)] + [(50, method) for method in (10, 20, 30, 40, 50)] + [(60, method) for method in (10, 20, 30, 40, 70, 80, 90, 100, 110, 120)] + [(90, 10), (90, 20), (90, 30), (85, 10)]
    for class_id, method_id in methods:
        for size in (0, 3, 20):
            wire = wire_to(kit)
            wire.channel()
            wire.send(raw(1, generator.choice((0, 1)), struct.pack(">HH", class_id, method_id) + generator.randbytes(size)))
            wire.socket.close()


@case
def flood_of_channels(kit):
    wire = wire_to(kit)
    for number in range(1, 2048):
        wire.method(number, spec.Channel.Open())
    for _ in range(2047):
        wire.expect(spec.Channel.OpenOk)
    healthy(kit)
    wire.method(2048, spec.Channel.Open())
    wire.is_closed(530, 504)


@case
def channels_opened_and_closed_for_ever(kit):
    wire = wire_to(kit)
    for _ in range(5):
        for number in range(1, 400):
            wire.method(number, spec.Channel.Open())
            wire.method(number, spec.Channel.Close(200, "", 0, 0))
        answers = [type(wire.frame().method) for _ in range(2 * 399)]
        same((399, 399), (answers.count(spec.Channel.OpenOk), answers.count(spec.Channel.CloseOk)), "answers")


@case
def flood_of_connections(kit):
    wires = []
    for number in range(400):
        wire = wire_to(kit, handshake=number % 4 == 0)
        if number % 4 == 1:
            wire.send(HEADER)
        wires.append(wire)
    healthy(kit)
    for wire in wires:
        wire.socket.close()


@case
def a_consumer_that_never_reads(kit):
    """64 MiB wait for one who does not take them; another consumer of the same queue and others go on."""
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel)
    wire = wire_to(kit, receive_buffer=4096)
    wire.channel()
    wire.method(1, spec.Basic.Consume(queue=queue, no_ack=False))
    wire.expect(spec.Basic.ConsumeOk)
    body = bytes(64 << 10)
    for _ in range(1024):
        publish(channel, queue, body)
    healthy(kit)
    # Whatever the silent one holds comes back when it is gone.
    wire.socket.close()
    consumer = Consumer(kit.channel(), queue, auto_ack=True)
    consumer.wait(1024, 60)


@case
def a_great_backlog_for_many_that_never_read(kit):
    """Half a GiB waits; 20 connections with no limit of their own take none of it. Most of it must be on the disk."""
    if ORACLE:
        raise Skip("no oracle: its memory is not looked at")
    channel = kit.channel(confirm=False)
    queue = kit.queue(channel, durable=True)
    wires = []
    for number in range(20):
        wire = wire_to(kit, receive_buffer=4096)
        wire.channel()
        wire.method(1, spec.Basic.Consume(queue=queue, no_ack=number % 2 == 0))
        wire.expect(spec.Basic.ConsumeOk)
        wires.append(wire)
    body = bytes(256 << 10)
    count = BACKLOG_BYTES // len(body)
    for _ in range(count):
        publish(channel, queue, body)
    healthy(kit)
    for wire in wires:
        wire.socket.close()
    # One who reads gets all but what those took that need not acknowledge.
    consumer = Consumer(kit.channel(), queue)
    consumer.acknowledge = True
    consumer.wait(count // 2, 60)
    channel.queue_delete(queue)


@case
def a_publisher_that_never_reads_its_confirms(kit):
    """Small messages without end, each confirmed: what is not read of the answers holds up the questions."""
    wire = wire_to(kit, receive_buffer=4096)
    wire.channel()
    queue = wire.queue()
    wire.method(1, spec.Confirm.Select())
    wire.expect(spec.Confirm.SelectOk)
    # Every other one is returned as well, so that confirms cannot be joined for ever.
    begin = [pika.frame.Method(1, spec.Basic.Publish(routing_key=key, mandatory=True)).marshal() for key in (queue, "no-such-queue")]
    content = pika.frame.Header(1, 1, pika.BasicProperties()).marshal() + pika.frame.Body(1, b"x").marshal()
    data = b"".join(part + content for part in begin) * 500
    floods(wire, data, seconds=6)
    healthy(kit)
    wire.socket.close()


@case
def requests_without_end_and_never_read(kit):
    """Questions whose answers are many times their size, on 20 channels."""
    wire = wire_to(kit, receive_buffer=4096)
    for number in range(1, 21):
        wire.channel(number)
    data = b"".join(pika.frame.Method(number, spec.Queue.Declare(queue="no-such-queue-" + "x" * 100, passive=True)).marshal() + pika.frame.Method(number, spec.Basic.Qos(prefetch_count=1)).marshal() for number in range(1, 21))
    data += b"".join(pika.frame.Method(number, spec.Channel.CloseOk()).marshal() + pika.frame.Method(number, spec.Channel.Open()).marshal() for number in range(1, 21))
    floods(wire, data * 50, seconds=4)
    healthy(kit)
    wire.socket.close()


def floods(wire, data, seconds):
    """Sends it again and again, for so long as the broker takes it."""
    wire.socket.setblocking(False)
    end, at = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        _, writable, _ = select.select([], [wire.socket], [], 0.2)
        if writable:
            try:
                at = (at + wire.socket.send(data[at:])) % len(data)
            except BlockingIOError:
                continue
            except ConnectionError:
                return


@case
def a_consumer_that_never_reads_of_many(kit):
    channel = kit.channel(confirm=True)
    queues = [kit.queue(channel) for _ in range(10)]
    wires = []
    for queue in queues:
        wire = wire_to(kit, receive_buffer=4096)
        wire.channel()
        wire.method(1, spec.Basic.Consume(queue=queue, no_ack=True))
        wires.append(wire)
    for queue in queues:
        for _ in range(100):
            publish(channel, queue, bytes(64 << 10))
    healthy(kit)
    for wire in wires:
        wire.socket.close()


@case
def a_publisher_that_never_reads(kit):
    """Every message comes back to it (mandatory, no queue) and is confirmed: it must be made to wait, not be buffered for."""
    wire = wire_to(kit, receive_buffer=4096)
    wire.channel()
    wire.method(1, spec.Confirm.Select())
    wire.expect(spec.Confirm.SelectOk)
    body = bytes(32 << 10)
    message = pika.frame.Method(1, spec.Basic.Publish(routing_key="no-such-queue", mandatory=True)).marshal() + pika.frame.Header(1, len(body), pika.BasicProperties()).marshal() + pika.frame.Body(1, body).marshal()
    wire.socket.setblocking(False)
    sent, data, end = 0, b"", time.monotonic() + 6
    while time.monotonic() < end and sent < 800 << 20:
        data = data or message
        _, writable, _ = select.select([], [wire.socket], [], 0.5)
        if writable:
            try:
                done = wire.socket.send(data)
            except BlockingIOError:
                continue
            sent, data = sent + done, data[done:]
    healthy(kit)
    wire.socket.close()


@case
def get_by_the_thousand_and_never_read(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel)
    publish(channel, queue, bytes(1 << 20))
    wire = wire_to(kit, receive_buffer=4096)
    wire.channel()
    frames = pika.frame.Method(1, spec.Basic.Get(queue=queue)).marshal() + pika.frame.Method(1, spec.Basic.Recover(True)).marshal()
    wire.socket.settimeout(3)
    try:
        for _ in range(2000):
            wire.send(frames)
    except TimeoutError:
        pass
    # All that it will do with what was sent it has done by then.
    time.sleep(5)
    healthy(kit)
    wire.socket.close()


@case
def heartbeats_come_and_are_wanted(kit):
    wire = wire_to(kit, heartbeat=1)
    frame = wire.frame()
    assert isinstance(frame, pika.frame.Heartbeat), f"wanted a heartbeat, got {frame}"
    started = time.monotonic()
    # It says nothing itself, and is cut.
    while wire.frame() is not None:
        assert time.monotonic() - started < ANSWER_SECONDS, "never cut"


if __name__ == "__main__":
    main()
