"""What the MQTT suite runs against: Debian's mosquitto (the oracle), PolyMQ in each shape, or somebody else's broker."""

import os
import pathlib
import resource
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools" / "mqtt"
sys.path.insert(0, str(ROOT))

from conformance.shared import broker  # noqa: E402
from conformance.shared.broker import default_binaries, free_port, listens, own_address  # noqa: E402, F401

# A connection is a file, here and in what is started from here; more than the hard limit is root's to ask for.
FILES_WANTED = 65_536
_most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(_most, FILES_WANTED),) * 2)
except (ValueError, OSError):
    resource.setrlimit(resource.RLIMIT_NOFILE, (_most, _most))


class Broker(broker.Broker):
    """`websocket`: HOST:PORT for MQTT over WebSocket (path /mqtt)."""

    protocol = "mqtt"

    def __init__(self):
        super().__init__()
        self.websocket = own_address()


class Mosquitto(Broker):
    """Debian's package, unpacked (conformance/setup mosquitto). `settings`: more lines for mosquitto.conf, before its listeners;
    `listeners`: lines after them, for listeners of one's own; `anonymous`: whether who shows no password comes in; `autosave`: whether
    its file is written after each change, so that it survives kill -9 as far as it can."""

    name = "mosquitto"

    def __init__(self, settings=(), listeners=(), anonymous=True, autosave=True):
        super().__init__()
        self.settings, self.listeners, self.anonymous = list(settings), list(listeners), anonymous
        self.saving = ["autosave_on_changes true", "autosave_interval 1", "sys_interval 1"] if autosave else []
        self.also = []  # addresses of those listeners

    def launch(self, part):
        (self.folder / "data").mkdir(exist_ok=True)
        (self.folder / "mosquitto.conf").write_text("\n".join([
            # As root it would become another user, who may not write here.
            "user root", f"allow_anonymous {str(self.anonymous).lower()}", "persistence true", f"persistence_location {self.folder}/data/",
            # Room for bursts, as PolyMQ has it.
            "max_inflight_messages 2000", "max_queued_messages 100000", *self.saving, "log_dest stderr", "log_type error", "log_type warning", "log_type notice",
            *self.settings, listener(self.address), listener(self.websocket), "protocol websockets", *self.listeners, ""]))
        self.spawn(part, [tool("mosquitto"), "-c", self.folder / "mosquitto.conf"], {})

    def wait_ready(self, part):
        for address in (self.address, self.websocket, *self.also):
            self.wait_until(part, f"listens on {address}", lambda address=address: listens(address))


def listener(address):
    host, port = address.rsplit(":", 1)
    return f"listener {port} {host}"


def tool(name):
    """The path of a program of Debian's mosquitto packages."""
    for folder in ("usr/sbin", "usr/bin"):
        path = TOOLS / "mosquitto" / folder / name
        if path.is_file():
            return path
    raise RuntimeError(f"{name} is not there: run conformance/setup mosquitto")


class PolyMQ(broker.PolyMQ, Broker):
    """`websocket` is the first gateway's."""

    def gateway_flags(self, at):
        return {"listen-websocket": self.websocket} if at == 0 else {}


class External(Broker):
    """HOST:PORT."""

    name = "external"
    parts = ()

    def __init__(self, address):
        super().__init__()
        self.addresses = [address]


def java(main):
    """The command that runs a class of the Java clients."""
    folder = TOOLS / "java"
    return ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp", f"{folder}/classes:{folder}/lib/*", f"polymq.conformance.mqtt.{main}"]


def make(name, binaries):
    """The broker that a command line means by `name`."""
    return broker.make(name, binaries, Mosquitto, PolyMQ, External)


def own(name, settings=(), listeners=(), anonymous=True, **environment):
    """A broker for one case: mosquitto with these lines, or PolyMQ (of the shape `name`) with these environment variables."""
    if name == "mosquitto":
        return Mosquitto(settings, listeners, anonymous)
    broker = PolyMQ(name, default_binaries())
    broker.environment.update(environment)
    return broker


def environment(broker):
    """What a client program is told of the broker beside its address."""
    return {**os.environ, "BROKER": broker.name, "BROKER_WEBSOCKET": broker.websocket, "BROKER_PIDS": " ".join(map(str, broker.pids())),
            "POLYMQ_BINARIES": str(getattr(broker, "binaries", "")), "MQTT_TOOLS": str(TOOLS), "NODE_PATH": str(TOOLS / "node/node_modules")}
