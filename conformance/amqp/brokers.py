"""What the AMQP suite runs against: Debian's RabbitMQ (the oracle), PolyMQ in each shape, or somebody else's broker.

Every broker listens on loopback, on free ports, with a folder of its own that goes away with it. A broker has parts
(processes) that can be killed and started again on the same data and ports.
"""

import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TOOLS = ROOT / ".tools" / "amqp"

START_SECONDS_MAX = 90
DRAIN_SECONDS_MAX = 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _dies_with_parent():
    """Runs in the child: ends it when this process ends, however it ends (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Broker:
    """`addresses`: HOST:PORT of each gateway; `management`: URL of the HTTP API, or None. Both survive restarts of parts."""

    name = ""
    parts = ("core",)

    def __init__(self):
        self.addresses = [f"127.0.0.1:{free_port()}"]
        # Some suites ask the management API at the port that they take for granted.
        self.management = f"http://127.0.0.1:{os.environ.get('MANAGEMENT_PORT') or free_port()}"
        (ROOT / ".data").mkdir(exist_ok=True)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"amqp-{self.name}-", dir=ROOT / ".data"))
        self.children = {}
        self.environment = {}

    @property
    def address(self):
        return self.addresses[0]

    def start(self):
        """Seconds from the launch until it is ready."""
        started = time.monotonic()
        for part in self.parts:
            self.launch(part)
            self.wait_ready(part)
        return time.monotonic() - started

    def launch(self, part):
        raise NotImplementedError

    def wait_ready(self, part):
        raise NotImplementedError

    def kill(self, part):
        """SIGKILL, and waits until the process is gone."""
        child = self.children.pop(part)
        child.kill()
        child.wait()

    def ended(self):
        """Why a part has ended that should live, or None."""
        for part, child in self.children.items():
            if child.poll() is not None:
                return f"{self.name}'s {part} ended with {child.returncode}: {self.log_tail(part)}"
        return None

    def stop(self):
        """SIGTERM to the gateways first; an error if one does not drain in time or ends badly. The folder goes away."""
        fault = None
        for part in reversed(self.parts):
            child = self.children.pop(part, None)
            if child is None:
                continue
            child.terminate()
            try:
                status = child.wait(DRAIN_SECONDS_MAX)
                if status not in (0, -signal.SIGTERM):
                    fault = fault or f"{part} ended with {status}: {self.log_tail(part)}"
            except subprocess.TimeoutExpired:
                fault = fault or f"{part} did not end within {DRAIN_SECONDS_MAX} s of SIGTERM"
                child.kill()
                child.wait()
        self.discard()
        if fault:
            raise RuntimeError(fault)

    def discard(self):
        """Ends what still runs at once."""
        for part in list(self.children):
            self.kill(part)
        if os.environ.get("CONFORMANCE_KEEP"):
            print(f"kept {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def pids(self):
        return [child.pid for child in self.children.values()]

    def log_tail(self, part):
        try:
            lines = (self.folder / f"{part}.log").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return "no log"
        return "its last lines: " + " | ".join(lines[-5:])

    def spawn(self, part, command, environment):
        with open(self.folder / f"{part}.log", "ab") as log:
            self.children[part] = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                env={**os.environ, **environment, **self.environment}, preexec_fn=_dies_with_parent)

    def wait_until(self, part, what, holds):
        deadline = time.monotonic() + START_SECONDS_MAX
        while not holds():
            if self.children[part].poll() is not None:
                raise RuntimeError(f"{self.name}'s {part} ended: {self.log_tail(part)}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}'s {part}: not within {START_SECONDS_MAX} s: {what}; {self.log_tail(part)}")
            time.sleep(0.02)


def listens(address):
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
        return True
    except OSError:
        return False


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


class PolyMQ(Broker):
    """`all-in-one`: polymq serve. `split`: polymq-core and polymq-amqp. `cluster`: two gateways on one core."""

    SHAPES = {"all-in-one": ("core",), "split": ("core", "gateway"), "cluster": ("core", "gateway", "second")}

    def __init__(self, shape, binaries, gateways="amqp"):
        self.name = shape
        self.parts = self.SHAPES[shape]
        self.binaries = pathlib.Path(binaries).resolve()
        self.gateways = gateways  # all-in-one: with commas, what is served beside AMQP
        super().__init__()
        self.core_address = f"127.0.0.1:{free_port()}"
        self.managements = [self.management]
        if shape == "cluster":
            self.addresses.append(f"127.0.0.1:{free_port()}")
            self.managements.append(f"http://127.0.0.1:{free_port()}")

    def launch(self, part):
        ready = self.folder / f"ready-{part}.json"
        ready.unlink(missing_ok=True)
        data = self.folder / "data"
        environment = {"POLYMQ_ADMIN_LISTEN": "127.0.0.1:0"}
        if self.name == "all-in-one":
            command = ["polymq", "serve", "--gateways", self.gateways, "--data", data, "--core-listen", self.core_address,
                       "--amqp-listen", self.address, "--amqp-management-listen", self.management_address(0)]
        elif part == "core":
            command = ["polymq-core", "--data", data, "--listen", self.core_address]
        else:
            at = int(part == "second")
            command = ["polymq-amqp", "--core", self.core_address, "--listen", self.addresses[at],
                       "--management-listen", self.management_address(at)]
        binary = self.binaries / command[0]
        if not binary.is_file():
            raise RuntimeError(f"{binary} is not built: cargo build --workspace --bins (POLYMQ_BINARIES names the folder)")
        self.spawn(part, [binary, *command[1:], "--ready-file", ready], environment)

    def management_address(self, at):
        return self.managements[at].removeprefix("http://")

    def wait_ready(self, part):
        ready = self.folder / f"ready-{part}.json"
        self.wait_until(part, "its ready file", ready.exists)
        json.loads(ready.read_text())
        address = self.core_address if part == "core" and self.name != "all-in-one" else self.addresses[int(part == "second")]
        if not listens(address):
            raise RuntimeError(f"{part} is ready, but {address} does not answer")


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
    if name == "rabbitmq":
        return RabbitMQ()
    if name in PolyMQ.SHAPES:
        return PolyMQ(name, binaries)
    if ":" in name:
        return External(name)
    raise SystemExit(f"{name} is no broker: say rabbitmq, {', '.join(PolyMQ.SHAPES)} or HOST:PORT")


def default_binaries():
    """POLYMQ_BINARIES, or what was built last of the usual profiles."""
    if os.environ.get("POLYMQ_BINARIES"):
        return pathlib.Path(os.environ["POLYMQ_BINARIES"])
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    folders = [target / profile for profile in ("release", "checked", "debug") if (target / profile / "polymq").is_file()]
    return max(folders, key=lambda folder: (folder / "polymq").stat().st_mtime, default=target / "release")
