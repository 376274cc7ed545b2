"""An MQTT 5 client that keeps its session as the specification tells clients to (4.1, 4.3, 4.4), over its own reconnects.

It has no memory of messages: a QoS 2 message counts as delivered each time its packet id was free. So nothing that a broker
delivers twice is hidden.
"""

import asyncio
import itertools
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))

import packets  # noqa: E402

EXPIRY_SECONDS = 3600
CONNECT_SECONDS_MAX = 5
PING_SECONDS = 0.5
# Without anything from the broker for so long, the connection counts as lost.
SILENCE_SECONDS_MAX = 8


class Client:
    """`subscriptions`: (filter, QoS) each; `deliveries` are (topic, payload, QoS, dup) as they came."""

    def __init__(self, addresses, client_id, random, subscriptions=(), window=40):
        self.addresses, self.id, self.random = addresses, client_id, random
        self.subscriptions, self.subscribed, self.window = list(subscriptions), False, window
        self.deliveries, self.connections, self.faults = [], 0, []
        # The session: what is unacknowledged, in order: id -> [PUBLISH or PUBREL, topic, payload, QoS]; QoS 2 ids that are not released.
        self.sent, self.pending = {}, set()
        self.identifiers = itertools.cycle(range(1, 65_536))
        self.confirmed, self.refusals = [], {}
        self.writer = None
        self.changed = asyncio.Condition()
        self.session = False
        self.ready = asyncio.Event()

    # ---- the connection ---------------------------------------------------------------------------------------------

    async def connect(self):
        """One try. True: CONNACK has come, and what was unacknowledged is sent again."""
        address = self.random.choice(self.addresses)
        host, port = address.rsplit(":", 1)
        writer = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                self.reader, writer = await asyncio.open_connection(host, int(port))
                self.buffer, self.waiting = bytearray(), []
                writer.write(packets.connect(5, self.id, clean=False, keepalive=30, session_expiry=EXPIRY_SECONDS, receive_maximum=self.window))
                answer = await self.read()
                if answer.kind != packets.CONNACK or answer.reason:
                    reason = answer.reason if answer.kind == packets.CONNACK else f"packet {answer.kind}"
                    self.refusals[reason] = self.refusals.get(reason, 0) + 1
                    raise ConnectionError
        except (OSError, ConnectionError, TimeoutError, packets.Malformed):
            if writer:
                writer.transport.abort()
            return False
        if self.session and not answer.session_present:
            self.faults.append(f"{self.id}: the session was lost (connection {self.connections})")
            self.subscribed = False
            self.pending.clear()
        self.session = True
        self.connections += 1
        # What is new goes out only after what was unacknowledged: in the order in which it was published.
        for identifier, (state, topic, payload, qos) in self.sent.items():
            writer.write(packets.publish(5, topic, payload, qos, identifier, duplicate=True) if state == "publish" else packets.acknowledge(packets.PUBREL, identifier))
        if self.subscriptions and not self.subscribed:
            writer.write(packets.subscribe(5, 65_535, self.subscriptions))
        self.writer = writer
        return True

    async def read(self):
        while not self.waiting:
            data = await self.reader.read(65_536)
            if not data:
                raise ConnectionError
            self.buffer += data
            self.waiting += packets.decode(self.buffer, 5)
        return self.waiting.pop(0)

    def drop(self):
        """No DISCONNECT."""
        if self.writer:
            self.writer.transport.abort()
            self.writer = None

    def leave(self):
        """DISCONNECT; the session stays."""
        if self.writer:
            try:
                self.writer.write(packets.disconnect(5))
                self.writer.close()
            except OSError:
                pass
            self.writer = None

    async def serve(self, seconds=None):
        """Handles what comes until the connection is lost, or for so long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds if seconds is not None else None
        heard = loop.time()
        try:
            while self.writer:
                wait = PING_SECONDS if end is None else min(PING_SECONDS, end - loop.time())
                if wait <= 0:
                    return True
                try:
                    async with asyncio.timeout(wait):
                        got = await self.read()
                except TimeoutError:
                    if loop.time() - heard > SILENCE_SECONDS_MAX:
                        self.refusals["silent"] = self.refusals.get("silent", 0) + 1
                        raise ConnectionError from None
                    self.writer.write(packets.PING)
                    continue
                heard = loop.time()
                self.take(got)
                async with self.changed:
                    self.changed.notify_all()
        except (OSError, ConnectionError, packets.Malformed) as error:
            if isinstance(error, packets.Malformed):
                self.faults.append(f"{self.id}: {error}")
        self.drop()
        return False

    async def run(self, stopping):
        """Connects again and again until told to stop."""
        while not stopping.is_set():
            if await self.connect():
                await self.serve()
            else:
                await asyncio.sleep(0.05)
        self.leave()

    # ---- packets ----------------------------------------------------------------------------------------------------

    def take(self, got):
        if got.kind == packets.PUBLISH:
            if got.qos == 2:
                if got.identifier not in self.pending:
                    self.pending.add(got.identifier)
                    self.deliveries.append((got.topic, got.payload, 2, got.duplicate))
                self.writer.write(packets.acknowledge(packets.PUBREC, got.identifier))
                return
            self.deliveries.append((got.topic, got.payload, got.qos, got.duplicate))
            if got.qos:
                self.writer.write(packets.acknowledge(packets.PUBACK, got.identifier))
        elif got.kind == packets.PUBREL:
            self.pending.discard(got.identifier)
            self.writer.write(packets.acknowledge(packets.PUBCOMP, got.identifier))
        elif got.kind == packets.PUBACK or got.kind == packets.PUBCOMP:
            message = self.sent.pop(got.identifier, None)
            # PUBCOMP may say 0x92 to a PUBREL that was sent again: it was released before (MQTT 5, 3.7.2.1).
            if message and (got.reason < 0x80 or got.kind == packets.PUBCOMP):
                self.confirmed.append((message[1], message[2]))
            elif message:
                self.refuse(message, got.reason)
        elif got.kind == packets.PUBREC:
            message = self.sent.get(got.identifier)
            if got.reason >= 0x80:
                if self.sent.pop(got.identifier, None):
                    self.refuse(message, got.reason)
                return
            if message:
                message[0] = "release"
            self.writer.write(packets.acknowledge(packets.PUBREL, got.identifier))
        elif got.kind == packets.SUBACK:
            bad = [reason for reason in got.reasons if reason >= 0x80]
            if bad:
                self.refusals[f"SUBACK {bad[0]:#x}"] = self.refusals.get(f"SUBACK {bad[0]:#x}", 0) + 1
                self.writer.write(packets.subscribe(5, 65_535, self.subscriptions))
            else:
                self.subscribed = True
                self.ready.set()
        elif got.kind == packets.DISCONNECT:
            reason = f"DISCONNECT {got.reason:#x}"
            self.refusals[reason] = self.refusals.get(reason, 0) + 1
            raise ConnectionError

    def refuse(self, message, reason):
        """A refusal is an answer; the application publishes again, as another message."""
        name = f"publish {reason:#x}"
        self.refusals[name] = self.refusals.get(name, 0) + 1
        self.publish(message[1], message[2], message[3])

    def publish(self, topic, payload, qos):
        """Into the session; it goes out now, or with the next connection."""
        identifier = next(each for each in self.identifiers if each not in self.sent and each != 65_535)
        self.sent[identifier] = ["publish", topic, payload, qos]
        if self.writer:
            self.writer.write(packets.publish(5, topic, payload, qos, identifier))
