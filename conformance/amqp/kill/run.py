#!/usr/bin/env python3
"""`kill -9` under load: what was confirmed is there, in order, and what was acknowledged for certain does not come again.

    conformance/amqp/kill/run.py --broker split --runs 200 --seed 1

Runs come in series that share a broker and its data. A run: a publisher writes numbered persistent messages into a durable
queue of its own and waits for confirms (up to 200 on their way); a consumer acknowledges what it gets, in half of the runs in
transactions. At seeded moments a process is killed (the core, a gateway, both) and started again on the same data; the clients
connect again, and the publisher sends again what was not confirmed. At the end:

- every confirmed message was delivered;
- nothing was delivered that was not sent;
- what was acknowledged in a transaction whose commit was answered was not delivered after that;
- what was delivered before comes marked as redelivered;
- on each connection of the consumer, messages that come for the first time are in the order in which they were published, and
  those that come again as well (what is marked as redelivered, and was never seen, may be either: a restart of the core marks
  all there is);
- the queue is empty, and stays so over one more restart of everything.
"""
import argparse
import pathlib
import random
import select
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "python")]

import brokers  # noqa: E402
import pika  # noqa: E402
from raw_frames import Wire, spec  # noqa: E402

IN_FLIGHT_MAX = 200
SERIES_RUNS = 20
DRAIN_SECONDS_MAX = 25
MESSAGES_MAX = 4000
# With transactions: a commit is a sync of the disk, and for every place of the prefetch window there are so many messages at most, so
# that what is in the queue is read in seconds.
TX_MESSAGES_PER_PLACE = 60
BEFORE_SECONDS, AFTER_SECONDS = (0.05, 0.8), 0.4
PERSISTENT = pika.BasicProperties(delivery_mode=2)


class Stopped(Exception):
    """The run is over."""


class Client(threading.Thread):
    """Connects, works until the connection breaks, and again; until it is told to stop."""

    def __init__(self, addresses, queue, kind=""):
        super().__init__(daemon=True)
        self.addresses, self.queue, self.kind = addresses, queue, kind
        self.connections = 0
        self.stopping = threading.Event()
        self.fault = None

    def run(self):
        try:
            while True:
                try:
                    wire = Wire(self.addresses[self.connections % len(self.addresses)])
                    wire.channel()
                except (OSError, AssertionError):
                    # Not up yet. The next address, a moment later.
                    self.connections += 1
                    if self.stopping.wait(0.03) and self.is_done():
                        return
                    continue
                self.connections += 1
                try:
                    self.work(wire)
                except (OSError, EOFError, AssertionError) as error:
                    # Broken off, which is what is tested. A refusal of the broker's own is not.
                    # 406 for a commit of what the death of the core released is one: nothing of the transaction was done.
                    if "Close" in str(error) and not any(text in str(error) for text in ("320", "541", "not held any more")):
                        raise RuntimeError(f"refused: {error}") from error
                    self.broken()
                finally:
                    wire.socket.close()
        except Stopped:
            pass
        except BaseException as error:
            self.fault = f"{type(self).__name__}: {type(error).__name__}: {error}"

    def frames(self, wire, seconds):
        """What has come, after waiting so long at most."""
        taken, frame = pika.frame.decode_frame(wire.read)
        if frame is None:
            readable, _, _ = select.select([wire.socket], [], [], seconds)
            if not readable:
                return
            data = wire.socket.recv(1 << 16)
            if not data:
                raise EOFError
            wire.read += data
        at = 0
        while True:
            taken, frame = pika.frame.decode_frame(wire.read[at:at + (1 << 18)])
            if frame is None:
                break
            at += taken
            yield frame
        wire.read = wire.read[at:]

    def broken(self):
        pass

    def is_done(self):
        return True


class Publisher(Client):
    """Numbers its messages; a number that was not confirmed is sent again on the next connection."""

    def __init__(self, addresses, queue, messages_max, seen):
        super().__init__(addresses, queue)
        self.messages_max = messages_max
        self.seen = seen  # how many were delivered
        self.next_number = 0
        self.again = []
        self.flying = {}  # delivery tag -> number
        self.confirmed = set()
        self.sent = set()  # (connection, number)

    def is_done(self):
        return not self.flying and not self.again

    def broken(self):
        self.again = sorted(set(self.again) | set(self.flying.values()))
        self.flying = {}

    def work(self, wire):
        wire.method(1, spec.Confirm.Select())
        wire.expect(spec.Confirm.SelectOk)
        tag = 0
        begin = pika.frame.Method(1, spec.Basic.Publish(routing_key=self.queue)).marshal()
        while True:
            stopping = self.stopping.is_set()
            if stopping and self.is_done():
                raise Stopped
            data = b""
            # Not all at once, so that there is load when the blow falls.
            until = 0 if stopping else min(self.messages_max, self.seen() + self.messages_max // 4)
            while len(self.flying) < IN_FLIGHT_MAX and (self.again or self.next_number < until):
                if self.again:
                    number = self.again.pop(0)
                else:
                    number, self.next_number = self.next_number, self.next_number + 1
                body = f"{self.connections} {number}".encode()
                self.sent.add((self.connections, number))
                tag += 1
                self.flying[tag] = number
                data += begin + pika.frame.Header(1, len(body), PERSISTENT).marshal() + pika.frame.Body(1, body).marshal()
            wire.send(data)
            for frame in self.frames(wire, 0.05):
                if isinstance(frame, pika.frame.Heartbeat):
                    continue
                method = frame.method
                if isinstance(method, spec.Basic.Ack):
                    tags = [known for known in self.flying if known <= method.delivery_tag] if method.multiple else [method.delivery_tag]
                    self.confirmed.update(self.flying.pop(known) for known in tags)
                elif isinstance(method, spec.Basic.Nack):
                    tags = [known for known in self.flying if known <= method.delivery_tag] if method.multiple else [method.delivery_tag]
                    self.again += [self.flying.pop(known) for known in tags]
                else:
                    raise AssertionError(f"{frame}")


class Taker(Client):
    """Acknowledges in groups of a random size; `kind` tx does it in transactions."""

    def __init__(self, addresses, queue, kind, seed):
        super().__init__(addresses, queue, kind)
        self.random = random.Random(seed)
        self.prefetch = self.random.choice((5, 20, 200))
        self.deliveries = []  # (connection, published on connection, number, redelivered)
        self.surely = set()  # (published on connection, number): acknowledged for certain
        self.came_again = []
        self.last = time.monotonic()

    def work(self, wire):
        if self.kind == "tx":
            wire.method(1, spec.Tx.Select())
            wire.expect(spec.Tx.SelectOk)
        prefetch = self.prefetch
        wire.method(1, spec.Basic.Qos(prefetch_count=prefetch))
        wire.expect(spec.Basic.QosOk)
        wire.method(1, spec.Basic.Consume(queue=self.queue, consumer_tag="taker"))
        wire.expect(spec.Basic.ConsumeOk)
        deliver, held, committing = None, [], None
        while True:
            if self.stopping.is_set():
                raise Stopped
            came = False
            for frame in self.frames(wire, 0.05):
                came = True
                if isinstance(frame, pika.frame.Method):
                    if isinstance(frame.method, spec.Basic.Deliver):
                        deliver = frame.method
                    elif isinstance(frame.method, spec.Tx.CommitOk):
                        self.surely.update(committing)
                        committing = None
                    else:
                        raise AssertionError(f"{frame}")
                elif isinstance(frame, pika.frame.Body):
                    connection, number = map(int, frame.fragment.split())
                    if (connection, number) in self.surely:
                        self.came_again.append((connection, number))
                    self.deliveries.append((self.connections, connection, number, deliver.redelivered))
                    held.append((deliver.delivery_tag, (connection, number)))
                    self.last = time.monotonic()
            # What is held is acknowledged when nothing more comes, or when it is a random few.
            if held and committing is None and (not came or len(held) >= self.random.randrange(1, 1 + prefetch // 2)):
                wire.method(1, spec.Basic.Ack(held[-1][0], multiple=True))
                if self.kind == "tx":
                    committing = [message for _, message in held]
                    wire.method(1, spec.Tx.Commit())
                held = []


def ascending(numbers):
    return all(early < late for early, late in zip(numbers, numbers[1:]))


def check(publisher, taker):
    for client in (publisher, taker):
        if client.fault:
            raise AssertionError(client.fault)
    seen = {number for _, _, number, _ in taker.deliveries}
    lost = publisher.confirmed - seen
    assert not lost, f"{len(lost)} of {len(publisher.confirmed)} confirmed messages never came: {sorted(lost)[:10]}"
    strange = {(connection, number) for _, connection, number, _ in taker.deliveries} - publisher.sent
    assert not strange, f"delivered, and never sent: {sorted(strange)[:5]}"
    before, unmarked = set(), []
    for _, connection, number, redelivered in taker.deliveries:
        if (connection, number) in before and not redelivered:
            unmarked.append((connection, number))
        before.add((connection, number))
    assert not unmarked, f"{len(unmarked)} came again, and were not marked as redelivered: {unmarked[:5]}"
    assert not taker.came_again, f"{len(taker.came_again)} came again after their acknowledgement was committed: {taker.came_again[:5]}"
    before = {}
    for at, published, number, _ in taker.deliveries:
        before.setdefault((published, number), at)
    for connection in {delivery[0] for delivery in taker.deliveries}:
        for again in (False, True):
            got = [(published, number) for at, published, number, redelivered in taker.deliveries
                   if at == connection and redelivered == again and (not again or before[published, number] < at)]
            # What is sent again was not confirmed, and may stand before what its connection sends anew; each connection's order holds.
            for published in {each for each, _ in got}:
                numbers = [number for each, number in got if each == published]
                assert ascending(numbers), f"out of order on the consumer's connection {connection} ({'again' if again else 'first time'}): {first_disorder(numbers)}"
    copies = len(taker.deliveries) - len({(connection, number) for _, connection, number, _ in taker.deliveries})
    return f"{len(publisher.confirmed)} confirmed, {len(publisher.sent) - publisher.next_number} sent again, {copies} delivered again, {len(taker.surely)} acknowledged for certain"


def first_disorder(numbers):
    at = next(at for at in range(1, len(numbers)) if numbers[at] <= numbers[at - 1])
    return f"… {numbers[max(0, at - 3):at + 3]} …"


def blow(generator, broker):
    """Which parts die together."""
    if len(broker.parts) == 1 or broker.name == "rabbitmq":
        return ["core"]
    return generator.choice([["core"], ["gateway"], ["gateway"], ["core", "gateway"], [broker.parts[-1]]])


def one(broker, run, seed):
    generator = random.Random(seed)
    queue = f"kill-{run}"
    connection = Wire(broker.address)
    connection.channel()
    kind = generator.choice(("classic", "classic", "quorum"))
    connection.method(1, spec.Queue.Declare(queue=queue, durable=True, arguments={"x-queue-type": kind}))
    connection.expect(spec.Queue.DeclareOk)
    connection.socket.close()
    taker_kind = generator.choice(("tx", "plain"))
    if broker.name == "rabbitmq" and kind == "quorum":
        taker_kind = "plain"  # RabbitMQ's quorum queues take no transactions
    taker = Taker(broker.addresses[::-1], queue, taker_kind, seed)
    messages_max = min(MESSAGES_MAX, taker.prefetch * TX_MESSAGES_PER_PLACE if taker_kind == "tx" else MESSAGES_MAX)
    publisher = Publisher(broker.addresses, queue, messages_max, lambda: len(taker.deliveries))
    publisher.start()
    taker.start()
    what = []
    for _ in range(generator.choice((1, 1, 2))):
        # Not a wait for something: the moment of the blow, which is the subject of this test.
        time.sleep(generator.uniform(*BEFORE_SECONDS))
        parts = blow(generator, broker)
        what.append("+".join(parts))
        for part in parts:
            broker.kill(part)
        for part in parts:
            broker.launch(part)
            if generator.random() < 0.2:
                time.sleep(generator.uniform(0, 0.15))
                broker.kill(part)
                broker.launch(part)
                what[-1] += " twice"
        for part in parts:
            broker.wait_ready(part)
    time.sleep(AFTER_SECONDS)
    publisher.stopping.set()
    publisher.join(DRAIN_SECONDS_MAX)
    assert not publisher.is_alive(), f"after {DRAIN_SECONDS_MAX} s {len(publisher.flying)} messages are not confirmed"
    taker.last = time.monotonic()
    # However long it takes, as long as something comes.
    while time.monotonic() - taker.last < DRAIN_SECONDS_MAX and not publisher.fault and not taker.fault:
        seen = {number for _, _, number, _ in list(taker.deliveries)}
        if publisher.confirmed <= seen and time.monotonic() - taker.last > 0.5 and depth(broker, queue) == 0:
            break
        time.sleep(0.05)
    taker.stopping.set()
    taker.join(10)
    left = depth(broker, queue)
    try:
        text = check(publisher, taker)
    except AssertionError as error:
        raise AssertionError(f"{kind}, {taker_kind}, killed {', '.join(what)}: {error}; {left} are in the queue, the last delivery was {time.monotonic() - taker.last:.0f} s ago, {taker.connections} connections of the consumer") from None
    if reason := broker.ended():
        raise AssertionError(reason)
    return f"{kind}, {taker_kind}, killed {', '.join(what)}: {text}", queue


def depth(broker, queue):
    try:
        wire = Wire(broker.address)
        wire.channel()
        wire.method(1, spec.Queue.Declare(queue=queue, passive=True))
        return wire.expect(spec.Queue.DeclareOk).message_count
    except (OSError, AssertionError):
        return None
    finally:
        if "wire" in locals():
            wire.socket.close()


def stays_empty(broker, queues):
    """After all is drained: everything is killed once more, and nothing that was acknowledged for certain is there."""
    for part in broker.parts:
        if part != "epmd":
            broker.kill(part)
    for part in broker.parts:
        if part != "epmd":
            broker.launch(part)
            broker.wait_ready(part)
    for queue in queues:
        left = depth(broker, queue)
        assert left is not None, f"{queue} is gone"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", action="append", help="all-in-one, split, cluster or rabbitmq; several are taken in turn (default: all-in-one, split, cluster)")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="run I of seed S is run 0 of seed S + I")
    parser.add_argument("--binaries", type=pathlib.Path)
    options = parser.parse_args()
    names = options.broker or ["all-in-one", "split", "cluster"]
    passed = failed = run = series = 0
    each = min(SERIES_RUNS, -(-options.runs // len(names)))
    while run < options.runs:
        broker = brokers.make(names[series % len(names)], options.binaries or brokers.default_binaries())
        broker.environment["POLYMQ_AMQP_SESSION_TIMEOUT_MS"] = "1000"  # so that a dead gateway's messages are free soon
        series += 1
        queues = []
        try:
            broker.start()
            for _ in range(min(each, options.runs - run)):
                started = time.monotonic()
                try:
                    text, queue = one(broker, run, options.seed + run)
                    queues.append(queue)
                    passed += 1
                    print(f"ok run {run} (seed {options.seed + run}, {broker.name}) {text} [{time.monotonic() - started:.1f} s]", flush=True)
                except (AssertionError, RuntimeError) as error:
                    failed += 1
                    print(f"FAIL run {run} (seed {options.seed + run}, {broker.name}): {error}", flush=True)
                    run += 1
                    break  # the rest of a series would only repeat the fault
                run += 1
            else:
                stays_empty(broker, queues)
        except (AssertionError, RuntimeError, OSError) as error:
            failed += 1
            run += 1
            print(f"FAIL series {series} ({broker.name}): {error}", flush=True)
        finally:
            broker.discard()
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
