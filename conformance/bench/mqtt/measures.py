"""What is measured of MQTT brokers. Each measure takes a running broker and answers figures; `mqtt-load` makes the load."""
import json
import os
import subprocess
import time
from dataclasses import dataclass

from conformance.shared import process


class Failed(Exception):
    """A measure that could not be taken."""


@dataclass(frozen=True)
class Sizes:
    seconds: float = 5
    latency_seconds: float = 8
    connections: int = 20_000
    retained: int = 100_000
    connect_seconds: float = 5
    idle_seconds: float = 8


QUICK = Sizes(seconds=2, latency_seconds=3, connections=2_000, retained=10_000, connect_seconds=2, idle_seconds=2)

SHAPES = {
    "1 → 1": ["--publishers", "1", "--subscribers", "1"],
    "50 → 1": ["--publishers", "50", "--subscribers", "1", "--pattern", "all"],
    "1 → 50": ["--publishers", "1", "--subscribers", "50", "--pattern", "all", "--outstanding", "500"],
    "1,000 → 1,000": ["--publishers", "1000", "--subscribers", "1000"],
    "shared, 50 → 10": ["--publishers", "50", "--subscribers", "10", "--pattern", "shared"],
}


def body(size):
    return f"{size} B" if size < 1024 else f"{size // 1024} KiB"


def throughput_measures():
    """(name, mqtt-load's arguments)"""
    for qos in (0, 1, 2):
        for size in (64, 1024):
            for shape, flags in SHAPES.items():
                yield f"QoS {qos}, {body(size)}, {shape}", [*flags, "--qos", str(qos), "--size", str(size)]


def latency_measures():
    for qos in (0, 1, 2):
        for size in (64, 1024):
            yield f"QoS {qos}, {body(size)}, 5,000 messages/s", ["--rate", "5000", "--qos", str(qos), "--size", str(size)]


class Session:
    """A running broker and what the load generator says of it."""

    def __init__(self, broker, sizes, load, log):
        self.broker, self.sizes, self.program, self.log = broker, sizes, load, log

    def memory_bytes(self, key="VmRSS"):
        return sum(process.memory_bytes(pid, key) for pid in self.broker.pids())

    def cpu_seconds(self):
        return sum(process.cpu_seconds(pid) for pid in self.broker.pids())

    def user_seconds(self):
        return sum(process.user_seconds(pid) for pid in self.broker.pids())

    def command(self, *arguments):
        return [str(self.program), "--address", self.broker.address, "--quiet", *[word for pid in self.broker.pids() for word in ("--pid", str(pid))], *map(str, arguments)]

    def load(self, *arguments, seconds=120):
        """Runs mqtt-load; answers what it said."""
        os.sync()  # so that what an earlier measure left unwritten is not written during this one
        command = self.command(*arguments)
        started, machine, broker, own = time.monotonic(), process.machine_user_seconds(), self.user_seconds(), os.times()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise Failed(f"not done within {seconds} s") from None
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(f"{' '.join(command)}\n{done.stdout}{done.stderr}\n")
        if reason := self.broker.ended():
            raise Failed(reason)
        if done.returncode != 0:
            raise Failed(" ".join(done.stderr.split())[-300:])
        figures = json.loads(done.stdout)
        children = os.times().children_user - own.children_user
        figures["other cores"] = max(0.0, (process.machine_user_seconds() - machine - (self.user_seconds() - broker) - children) / (time.monotonic() - started))
        return figures

    def throughput(self, flags):
        return self.load("flow", "--seconds", self.sizes.seconds, *flags)

    def latency(self, flags):
        return self.load("flow", "--seconds", self.sizes.latency_seconds, *flags)

    def connect_rate(self):
        await_ports()
        return self.load("connect", "--seconds", self.sizes.connect_seconds)

    def retained(self):
        count, before = self.sizes.retained, self.memory_bytes()
        figures = self.load("retained", "--count", count, seconds=300)
        if figures["lost"]:
            raise Failed(f"{figures['lost']} of {count} retained messages did not come")
        figures["memory for them"] = self.memory_bytes() - before
        return figures

    def idle(self):
        """Connections that do nothing: what they take."""
        await_ports()
        before = self.memory_bytes()
        child = subprocess.Popen(self.command("idle", "--connections", self.sizes.connections), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            line = child.stdout.readline()
            if not line:
                raise Failed(" ".join(child.stderr.read().split())[-300:])
            figures = json.loads(line)
            time.sleep(1)
            cpu, started = self.cpu_seconds(), time.monotonic()
            time.sleep(self.sizes.idle_seconds)
            figures["idle cores"] = (self.cpu_seconds() - cpu) / (time.monotonic() - started)
            figures["memory for them"] = self.memory_bytes() - before
            figures["memory each"] = figures["memory for them"] / figures["connections"]
            return figures
        finally:
            child.stdin.close()
            child.wait(60)

    def nothing(self):
        time.sleep(1)
        return {"memory": self.memory_bytes()}


def await_ports():
    """Waits until the kernel has forgotten the connections of earlier measures (a minute).

    Each keeps a port of this machine; while most are taken, every connect looks long for a free one, whoever listens.
    """
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and time_waits() > 2_000:
        time.sleep(1)


def time_waits():
    with open("/proc/net/sockstat", encoding="ascii") as file:
        words = next(line for line in file if line.startswith("TCP:")).split()
    return int(words[words.index("tw") + 1])
