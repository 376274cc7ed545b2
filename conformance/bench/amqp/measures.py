"""What is measured of AMQP brokers. Each measure takes a running broker and answers figures; PerfTest makes the load."""
import os
import re
import resource
import subprocess
import time
from dataclasses import dataclass

from conformance.shared import process

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".."))
PERF_TEST = os.path.join(ROOT, ".tools", "amqp", "perf")
UNITS = {"µs": 1e-3, "ms": 1.0}


class Failed(Exception):
    """A measure that could not be taken."""


@dataclass(frozen=True)
class Sizes:
    seconds: int = 8
    latency_seconds: int = 12
    queues: int = 10_000
    connections: int = 2_000
    backlog: int = 10_000_000
    idle_seconds: float = 5


QUICK = Sizes(seconds=3, latency_seconds=4, queues=1_000, connections=300, backlog=200_000, idle_seconds=2)

TRANSIENT = ["-a"]
PERSISTENT = ["-f", "persistent", "-ad", "false", "-c", "1000", "-q", "100"]


def bodies(size):
    return f"{size} B" if size < 1024 else f"{size // 1024} KiB"


def throughput_measures():
    """(name, PerfTest's arguments)"""
    for kind, flags in (("transient, auto-ack", TRANSIENT), ("persistent, confirms, manual acks", PERSISTENT)):
        for size in (16, 1024, 10240):
            yield f"{kind}, {bodies(size)}, 1 queue", [*flags, "-s", str(size), "-x", "1", "-y", "1", "-u", "bench"]
            yield f"{kind}, {bodies(size)}, 100 queues", [*flags, "-s", str(size), "-x", "100", "-y", "100", "-qp", "bench-%d", "-qpf", "1", "-qpt", "100", "-ctp", "4", "-niot", "4"]
    for kind, flags in (("transient, auto-ack", TRANSIENT), ("persistent, confirms, manual acks", PERSISTENT)):
        yield f"{kind}, 100 B, fanout to 10 queues", [*flags, "-s", "100", "-x", "1", "-y", "10", "-t", "fanout", "-e", "bench-fanout", "-qp", "fanout-%d", "-qpf", "1", "-qpt", "10"]


def latency_measures():
    for kind, flags in (("transient, auto-ack", TRANSIENT), ("persistent, confirms, manual acks", PERSISTENT)):
        for rate in (2_000, 20_000):
            yield f"{kind}, {rate:,} messages/s of 100 B", [*flags, "-s", "100", "-x", "1", "-y", "1", "-u", "latency", "-r", str(rate)]


class Session:
    """A running broker and what the load generator says of it."""

    def __init__(self, broker, sizes, log):
        self.broker, self.sizes, self.log = broker, sizes, log
        self.taken = 0

    def cpu_seconds(self):
        return sum(process.cpu_seconds(pid) for pid in self.broker.pids())

    def memory_bytes(self, key="VmRSS"):
        return sum(process.memory_bytes(pid, key) for pid in self.broker.pids())

    def perf_test(self, *arguments, seconds=None):
        """Runs PerfTest; answers what it said at its end and what it cost."""
        self.taken += 1
        command = ["java", "-Xms512m", "-Xmx1g", "-cp", f"{PERF_TEST}/*", "com.rabbitmq.perf.PerfTest", "-h", f"amqp://guest:guest@{self.broker.address}/%2f", "-mf", "compact",
                   "-d", f"take-{self.taken}", *(["-z", str(seconds)] if seconds else []), *arguments]
        os.sync()  # so that what an earlier measure left unwritten is not written during this one
        before = time.monotonic(), self.cpu_seconds(), resource.getrusage(resource.RUSAGE_CHILDREN), process.machine_user_seconds(), self.user_seconds()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 20 if seconds else 1800, check=False)
        except subprocess.TimeoutExpired as error:
            raise Failed("PerfTest does not end") from error
        wall, cpu = time.monotonic() - before[0], self.cpu_seconds() - before[1]
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        client = after.ru_utime + after.ru_stime - before[2].ru_utime - before[2].ru_stime
        others = process.machine_user_seconds() - before[3] - (self.user_seconds() - before[4]) - (after.ru_utime - before[2].ru_utime)
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(f"{' '.join(command)}\n{done.stdout}{done.stderr}\n")
        if self.broker.ended():
            raise Failed(self.broker.ended())
        text = done.stdout
        if done.returncode != 0 or ("rate avg" not in text):
            raise Failed(f"PerfTest ended with {done.returncode}: {' '.join((done.stderr or text).split())[-300:]}")
        figures = {"wall seconds": wall, "broker cpu": cpu, "broker cores": cpu / wall, "client cores": client / wall, "other cores": max(0.0, others / wall)}
        for word, key in (("sending", "sent per second"), ("receiving", "received per second")):
            found = re.findall(rf"{word} rate avg: (\d+) msg/s", text)
            if found:
                figures[key] = float(found[-1])
        found = re.findall(r"consumer latency min/median/75th/95th/99th ([\d/]+) (\S+)", text)
        if found:
            values = [float(value) * UNITS[found[-1][1]] for value in found[-1][0].split("/")]
            figures.update(zip(("min", "p50", "p75", "p95", "p99"), values))
        return figures

    def user_seconds(self):
        return sum(process.user_seconds(pid) for pid in self.broker.pids())

    def throughput(self, arguments):
        seconds = self.sizes.seconds
        figures = self.perf_test(*arguments, seconds=seconds)
        received = figures.get("received per second", 0) * seconds
        if not received:
            raise Failed("nothing was received")
        figures["cpu per million"] = figures["broker cpu"] / received * 1e6
        self.clear()
        return figures

    def latency(self, arguments):
        seconds = self.sizes.latency_seconds
        figures = self.perf_test(*arguments, seconds=seconds)
        figures["cpu per million"] = figures["broker cpu"] / (figures["received per second"] * seconds) * 1e6
        self.clear()
        return figures

    def clear(self):
        """Deletes the queues that durable measures leave."""
        wire = self.wire()
        for name in ("bench", "latency", "backlog", *(f"bench-{number}" for number in range(1, 101)), *(f"fanout-{number}" for number in range(1, 11))):
            wire.method(1, wire.spec.Queue.Delete(queue=name))
            wire.expect(wire.spec.Queue.DeleteOk)
        wire.socket.close()

    def wire(self):
        from conformance.amqp.python import raw_frames as wires
        opened = wires.Wire(self.broker.address)
        opened.spec = wires.spec
        opened.socket.settimeout(300)
        opened.channel()
        return opened

    def idle(self):
        time.sleep(self.sizes.idle_seconds)
        return {"memory": self.memory_bytes()}

    def many_queues(self):
        """Durable queues, declared one after another on one channel, 100 on their way."""
        count, wire, before = self.sizes.queues, self.wire(), self.memory_bytes()
        cpu, started = self.cpu_seconds(), time.monotonic()
        for first in range(0, count, 100):
            for number in range(first, min(first + 100, count)):
                wire.method(1, wire.spec.Queue.Declare(queue=f"many-{number}", durable=True))
            for number in range(first, min(first + 100, count)):
                wire.expect(wire.spec.Queue.DeclareOk)
        figures = {"declare seconds": time.monotonic() - started, "declare cpu": self.cpu_seconds() - cpu, "memory": self.memory_bytes(), "memory for them": self.memory_bytes() - before}
        started = time.monotonic()
        for number in range(count):
            wire.method(1, wire.spec.Queue.Delete(queue=f"many-{number}"))
            wire.expect(wire.spec.Queue.DeleteOk)
        figures["delete seconds"] = time.monotonic() - started
        wire.socket.close()
        return figures

    def many_connections(self):
        """Each with a channel, an exclusive queue and a consumer."""
        before, started, wires = self.memory_bytes(), time.monotonic(), []
        for _ in range(self.sizes.connections):
            wire = self.wire()
            wire.method(1, wire.spec.Queue.Declare(queue="", exclusive=True))
            queue = wire.expect(wire.spec.Queue.DeclareOk).queue
            wire.method(1, wire.spec.Basic.Consume(queue=queue))
            wire.expect(wire.spec.Basic.ConsumeOk)
            wires.append(wire)
        figures = {"connect seconds": time.monotonic() - started, "memory": self.memory_bytes(), "memory for them": self.memory_bytes() - before}
        cpu, started = self.cpu_seconds(), time.monotonic()
        time.sleep(self.sizes.idle_seconds)
        figures["idle cores"] = (self.cpu_seconds() - cpu) / (time.monotonic() - started)
        for wire in wires:
            wire.socket.close()
        return figures

    def backlog(self):
        """Persistent messages of 100 B with nobody to take them; then one consumer takes them all."""
        count = self.sizes.backlog
        before = self.memory_bytes()
        fill = self.perf_test("-f", "persistent", "-ad", "false", "-c", "1000", "-s", "100", "-x", "2", "-y", "0", "-u", "backlog", "-C", str(count // 2))
        figures = {"fill per second": count / fill["wall seconds"], "memory": self.memory_bytes(), "memory for it": self.memory_bytes() - before, "fill cpu per million": fill["broker cpu"] / count * 1e6}
        drain = self.perf_test("-ad", "false", "-f", "persistent", "-x", "0", "-y", "1", "-q", "1000", "-A", "100", "-u", "backlog", "-D", str(count))
        figures.update({"drain per second": count / drain["wall seconds"], "drain cpu per million": drain["broker cpu"] / count * 1e6, "memory while draining": self.memory_bytes("VmHWM")})
        self.clear()
        return figures


def raise_limits():
    """A connection is a file here and one in the broker."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
