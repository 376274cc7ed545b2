"""What the MQTT suite runs against: Debian's mosquitto (the oracle), PolyMQ in each shape, or somebody else's broker.

As for AMQP: loopback, free ports, a folder that goes away; parts (processes) that can be killed and started again on the same data.
"""

import importlib.util
import json
import os
import pathlib
import resource
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TOOLS = ROOT / ".tools" / "mqtt"

spec = importlib.util.spec_from_file_location("amqp_brokers", ROOT / "conformance/amqp/brokers.py")
base = importlib.util.module_from_spec(spec)
spec.loader.exec_module(base)

# A connection is a file, here and in what is started from here; more than the hard limit is root's to ask for.
FILES_WANTED = 65_536
_most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(_most, FILES_WANTED),) * 2)
except (ValueError, OSError):
    resource.setrlimit(resource.RLIMIT_NOFILE, (_most, _most))

free_port, listens, default_binaries = base.free_port, base.listens, base.default_binaries


class Broker(base.Broker):
    """`addresses`: HOST:PORT of each gateway; `websocket`: HOST:PORT for MQTT over WebSocket (path /mqtt)."""

    def __init__(self):
        # Not the base's: MQTT has no management API.
        self.addresses = [f"127.0.0.1:{free_port()}"]
        self.websocket = f"127.0.0.1:{free_port()}"
        (ROOT / ".data").mkdir(exist_ok=True)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"mqtt-{self.name}-", dir=ROOT / ".data"))
        self.children = {}
        self.environment = {}


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


class PolyMQ(Broker):
    """`all-in-one`: polymq serve. `split`: polymq-core and polymq-mqtt. `cluster`: two gateways on one core."""

    SHAPES = {"all-in-one": ("core",), "split": ("core", "gateway"), "cluster": ("core", "gateway", "second")}

    def __init__(self, shape, binaries, gateways="mqtt"):
        self.name = shape
        self.parts = self.SHAPES[shape]
        self.binaries = pathlib.Path(binaries).resolve()
        self.gateways = gateways  # all-in-one: with commas, what is served beside MQTT
        super().__init__()
        self.core_address = f"127.0.0.1:{free_port()}"
        if shape == "cluster":
            self.addresses.append(f"127.0.0.1:{free_port()}")

    def launch(self, part):
        ready = self.folder / f"ready-{part}.json"
        ready.unlink(missing_ok=True)
        data = self.folder / "data"
        environment = {"POLYMQ_ADMIN_LISTEN": "127.0.0.1:0"}
        if part != "second" and part != ("core" if self.name != "all-in-one" else ""):
            environment["POLYMQ_MQTT_LISTEN_WEBSOCKET"] = self.websocket
        if self.name == "all-in-one":
            command = ["polymq", "serve", "--gateways", self.gateways, "--data", data, "--core-listen", self.core_address, "--mqtt-listen", self.address]
        elif part == "core":
            command = ["polymq-core", "--data", data, "--listen", self.core_address]
        else:
            command = ["polymq-mqtt", "--core", self.core_address, "--listen", self.addresses[int(part == "second")]]
        binary = self.binaries / command[0]
        if not binary.is_file():
            raise RuntimeError(f"{binary} is not built: cargo build --workspace --bins (POLYMQ_BINARIES names the folder)")
        self.spawn(part, [binary, *command[1:], "--ready-file", ready], environment)

    def wait_ready(self, part):
        ready = self.folder / f"ready-{part}.json"
        self.wait_until(part, "its ready file", ready.exists)
        json.loads(ready.read_text())
        address = self.core_address if part == "core" and self.name != "all-in-one" else self.addresses[int(part == "second")]
        if not listens(address):
            raise RuntimeError(f"{part} is ready, but {address} does not answer")


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
    if name == "mosquitto":
        return Mosquitto()
    if name in PolyMQ.SHAPES:
        return PolyMQ(name, binaries)
    if ":" in name:
        return External(name)
    raise SystemExit(f"{name} is no broker: say mosquitto, {', '.join(PolyMQ.SHAPES)} or HOST:PORT")


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
