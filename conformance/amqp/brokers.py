"""What the AMQP suite runs against: Debian's RabbitMQ (the oracle), PolyMQ in each shape, or somebody else's broker."""

import os
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools" / "amqp"
sys.path.insert(0, str(ROOT))

from conformance.shared import broker  # noqa: E402
from conformance.shared.broker import DRAIN_SECONDS_MAX, default_binaries, free_port, listens, own_address  # noqa: E402, F401


class Broker(broker.Broker):
    """`management`: URL of the HTTP API, or None."""

    protocol = "amqp"

    def __init__(self):
        super().__init__()
        # Some suites ask the management API at the port that they take for granted.
        self.management = f"http://127.0.0.1:{os.environ.get('MANAGEMENT_PORT') or free_port()}"


class RabbitMQ(Broker):
    """Debian's package, unpacked (conformance/setup amqp): own node, own port mapper, management and its plugins on."""

    name = "rabbitmq"
    parts = ("epmd", "core")
    plugins = ("rabbitmq_management", "rabbitmq_consistent_hash_exchange")

    def __init__(self, settings=()):
        super().__init__()
        self.settings = settings  # more lines for rabbitmq.conf
        self.epmd_port, self.distribution_port = free_port(), free_port()
        self.node = f"conformance{self.epmd_port}@localhost"

    def launch(self, part):
        if part == "epmd":
            self.spawn(part, ["epmd", "-port", self.epmd_port, "-address", "127.0.0.1", "-relaxed_command_check"], {})
            return
        port, management_port = self.address.rsplit(":", 1)[1], self.management.rsplit(":", 1)[1]
        (self.folder / "rabbitmq.conf").write_text("\n".join([
            f"listeners.tcp.1 = 127.0.0.1:{port}", "management.tcp.ip = 127.0.0.1", f"management.tcp.port = {management_port}",
            "log.console = true", "log.console.level = warning", "log.file = false", "management.rates_mode = basic",
            *self.settings, ""]))
        (self.folder / "enabled_plugins").write_text(f"[{','.join(self.plugins)}].\n")
        self.spawn(part, [self.script("rabbitmq-server")], self.erlang_environment())

    def script(self, name):
        found = sorted(TOOLS.glob(f"rabbitmq/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/{name}"))
        if not found:
            raise RuntimeError("RabbitMQ is not there: run conformance/setup amqp")
        return found[0]

    def erlang_environment(self):
        folder = self.folder
        return {
            "HOME": str(folder), "RABBITMQ_NODENAME": self.node, "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"), "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"), "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "no-environment-file"), "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"), "RABBITMQ_PID_FILE": str(folder / "pid"),
            # One process whose id is the one that was started, rather than a script that waits for it.
            "RABBITMQ_ALLOW_INPUT": "true", "RABBITMQ_SERVER_START_ARGS": "-noinput",
            "ERL_EPMD_PORT": str(self.epmd_port), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false",
        }

    def control(self, *arguments):
        """rabbitmqctl."""
        done = subprocess.run([self.script("rabbitmqctl"), "-n", self.node, *arguments], env={**os.environ, **self.erlang_environment()},
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def wait_ready(self, part):
        if part == "epmd":
            self.wait_until(part, "listens", lambda: listens(f"127.0.0.1:{self.epmd_port}"))
            return
        self.wait_until(part, "listens", lambda: listens(self.address))
        self.wait_until(part, "its management API answers", self.alive)

    def alive(self):
        request = urllib.request.Request(self.management + "/api/overview", headers={"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def pids(self):
        return [self.children["core"].pid]


class PolyMQ(broker.PolyMQ, Broker):
    """`managements`: that of each gateway."""

    def __init__(self, shape, binaries, gateways=None):
        super().__init__(shape, binaries, gateways)
        self.managements = [self.management, *(f"http://{own_address()}" for _ in self.addresses[1:])]

    def gateway_flags(self, at):
        return {"management-listen": self.managements[at].removeprefix("http://")}


class External(Broker):
    """HOST:PORT, or HOST:PORT,http://HOST:PORT with its management API."""

    name = "external"
    parts = ()

    def __init__(self, text):
        super().__init__()
        address, _, management = text.partition(",")
        self.addresses, self.management = [address], management or None


def make(name, binaries):
    """The broker that a command line means by `name`."""
    return broker.make(name, binaries, RabbitMQ, PolyMQ, External)


def environment(broker):
    """What a client program is told of the broker beside its address."""
    return {**os.environ, "MANAGEMENT": broker.management or "", "BROKER": broker.name, "BROKER_PIDS": " ".join(map(str, broker.pids())),
            "POLYMQ_BINARIES": str(getattr(broker, "binaries", "")), "AMQP_TOOLS": str(TOOLS), "NODE_PATH": str(TOOLS / "node/node_modules")}
