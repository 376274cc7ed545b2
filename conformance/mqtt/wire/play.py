"""Plays one case against a server."""

import asyncio
import re
import time

import bytes_language
import decode

ANSWER_SECONDS_MAX = 10.0
CLOSED = object()
# What is said of a case that failed ends with so many of the last things that happened.
HISTORY_SHOWN = 8


class Failure(Exception):
    pass


class Connection:
    """A TCP connection whose packets are taken off it as they come, each with its time."""

    def __init__(self, version):
        self.version = version
        self.packets = asyncio.Queue()
        self.open, self.accepted, self.websocket = False, False, False

    async def connect(self, host, port):
        self.reader, self.writer = await asyncio.wait_for(asyncio.open_connection(host, port), ANSWER_SECONDS_MAX)
        self.open = True
        self.task = asyncio.create_task(self._read())

    async def _read(self):
        try:
            if self.websocket:
                self._came(await self.reader.readuntil(b"\r\n\r\n"))
            while True:
                self._came(await (self._frame() if self.websocket else self._packet()))
        except (asyncio.IncompleteReadError, OSError):
            self._came(CLOSED)

    def _came(self, packet):
        self.packets.put_nowait((time.monotonic(), packet))

    async def _packet(self):
        packet = await self.reader.readexactly(1)
        for _ in range(4):
            packet += await self.reader.readexactly(1)
            if packet[-1] < 0x80:
                break
        length = sum((byte & 127) << 7 * place for place, byte in enumerate(packet[1:]))
        return packet + await self.reader.readexactly(length)

    async def _frame(self):
        frame = await self.reader.readexactly(2)
        length = frame[1] & 127
        if length == 126:
            frame += await self.reader.readexactly(2)
            length = int.from_bytes(frame[2:], "big")
        return frame + await self.reader.readexactly(length)

    async def next(self, seconds):
        """(time, packet or CLOSED); None if nothing comes in so many seconds."""
        try:
            return await asyncio.wait_for(self.packets.get(), seconds)
        except TimeoutError:
            return None

    def send(self, data):
        self.writer.write(data)

    def end(self, reset=False):
        self.open = False
        self.task.cancel()
        if reset:
            self.writer.transport.abort()
        else:
            self.writer.close()


class Player:
    """`server`: has `address`, `websocket_address` and `restart()`."""

    def __init__(self, case, server):
        self.case, self.server = case, server
        self.connections, self.names, self.history = {}, {}, []
        self.since = time.monotonic()

    async def play(self):
        """A Failure says what went otherwise."""
        step = None
        try:
            for step in self.case.steps:
                await self._step(step)
            step = None
            for who, connection in self.connections.items():
                if connection.open and connection.accepted and not connection.websocket:
                    await self._silence(who, connection)
        except Failure as failure:
            where = f"line {step.line}: {step.text}" if step else "at the end, where a ping must bring its answer and nothing else"
            told = "\n".join(f"      {line}" for line in self.history[-HISTORY_SHOWN:])
            raise Failure(f"{self.case.file.name} {where}\n{failure}\n    what happened before:\n{told}") from None
        except (OSError, asyncio.TimeoutError) as fault:
            raise Failure(f"{self.case.file.name} line {step.line if step else '?'}: {type(fault).__name__} {fault}") from None
        finally:
            for connection in self.connections.values():
                if connection.open:
                    connection.end()

    def _nodes(self, text):
        return bytes_language.parse(text.replace("{u}", self.case.unique))

    def _said(self, who, arrow, packet):
        told = "closed" if packet is CLOSED else decode.shown(packet)
        name = "" if packet is CLOSED or not packet else decode.NAMES[packet[0] >> 4]
        self.history.append(f"{who}{arrow} {told}  {name}")

    async def _connection(self, who, websocket=False):
        connection = self.connections.get(who)
        if connection is None or not connection.open:
            connection = self.connections[who] = Connection(self.case.version)
            connection.websocket = websocket
            address = self.server.websocket_address if websocket else self.server.address
            host, port = address.rsplit(":", 1)
            await connection.connect(host, int(port))
        return connection

    async def _step(self, step):
        if step.kind == "wait":
            await asyncio.sleep(step.value)
            self.history.append(f"waited {step.value} s")
            self.since = time.monotonic()
            return
        if step.kind == "restart":
            for connection in self.connections.values():
                if connection.open:
                    connection.end()
            await asyncio.get_running_loop().run_in_executor(None, self.server.restart)
            self.history.append("the server was started again")
            return
        if step.kind == "opens":
            await self._connection(step.who, step.value == "websocket")
            self.since = time.monotonic()
            return
        if step.kind in ("closes", "resets"):
            connection = self.connections[step.who]
            connection.end(step.kind == "resets")
            self.history.append(f"{step.who} {step.kind}")
            self.since = time.monotonic()
            return
        connection = await self._connection(step.who)
        if step.kind == "send":
            data = bytes_language.render(self._nodes(step.value), self.names)
            self._said(step.who, ">", data)
            self.since = time.monotonic()
            connection.send(data)
        elif step.kind == "silence":
            await self._silence(step.who, connection)
        elif step.kind == "close":
            await self._take(step, connection, "the connection's end", lambda packet: packet is CLOSED)
            connection.end()
        elif step.kind == "http":
            await self._http(step, connection)
        else:
            await self._expect(step, connection)

    async def _take(self, step, connection, wanted, right):
        """The next thing that comes; a Failure unless it is right and in time."""
        got = await connection.next(step.within_seconds or ANSWER_SECONDS_MAX)
        if got is None:
            raise Failure(f"    wanted: {wanted}\n    got:    nothing in {step.within_seconds or ANSWER_SECONDS_MAX} s")
        at, packet = got
        self._said(step.who, "<", packet)
        seconds = at - self.since
        if not right(packet):
            told = "the connection's end" if packet is CLOSED else f"{decode.shown(packet)}\n{decode.explain(packet, self.case.version)}"
            raise Failure(f"    wanted: {wanted}\n    got:    {told}")
        if (step.after_seconds and seconds < step.after_seconds) or (step.within_seconds and seconds > step.within_seconds):
            raise Failure(f"    it came {seconds:.2f} s after the last step")
        if step.bytes_max and packet is not CLOSED and len(packet) > step.bytes_max:
            raise Failure(f"    {len(packet)} bytes, at most {step.bytes_max}: {decode.shown(packet)}\n{decode.explain(packet, self.case.version)}")
        return packet

    async def _expect(self, step, connection):
        left = list(step.value)
        while left:
            faults = []

            def fits(packet):
                if packet is CLOSED:
                    return step.maybe and len(left) == len(step.value)
                for one in left:
                    for pattern in one:
                        names = dict(self.names)
                        try:
                            bytes_language.match(self._nodes(pattern), packet, names)
                        except bytes_language.Mismatch as fault:
                            faults.append(f"{pattern}: {fault}")
                            continue
                        self.names.update(names)
                        left.remove(one)
                        return True
                return False

            wanted = " and ".join(" or ".join(one) for one in left)
            try:
                packet = await self._take(step, connection, wanted, fits)
            except Failure as failure:
                raise Failure("\n".join([str(failure), *(f"    differs: {fault}" for fault in faults)])) from None
            if packet is CLOSED:
                connection.packets.put_nowait((time.monotonic(), CLOSED))
                return
            if packet[0] == 0x20 and packet[3:4] == b"\0":
                connection.accepted = True

    async def _silence(self, who, connection):
        """Nothing is on the way: a ping brings its answer first."""
        connection.send(b"\xc0\x00")
        got = await connection.next(ANSWER_SECONDS_MAX)
        if got is None or got[1] != b"\xd0\x00":
            packet = got and got[1]
            if packet is CLOSED or packet is None:
                told = "the connection's end" if packet is CLOSED else f"nothing in {ANSWER_SECONDS_MAX} s"
            else:
                told = f"{decode.shown(packet)}\n{decode.explain(packet, self.case.version)}"
            raise Failure(f"    wanted: on {who} the answer to a ping, and nothing before it\n    got:    {told}")

    async def _http(self, step, connection):
        """`http STATUS [header: value]`."""
        status, _, header = step.value.partition(" ")

        def fits(packet):
            if packet is CLOSED:
                return False
            lines = packet.decode(errors="replace").lower().split("\r\n")
            wanted = re.sub(r"\s", "", header.lower())
            return lines[0].split(" ")[1:2] == [status] and (not header or any(re.sub(r"\s", "", line) == wanted for line in lines))

        await self._take(step, connection, step.value, fits)
