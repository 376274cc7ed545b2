"""What suites run against: PolyMQ in each shape, the broker that is the oracle, or somebody else's.

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

ROOT = pathlib.Path(__file__).resolve().parents[2]

START_SECONDS_MAX = 90
DRAIN_SECONDS_MAX = 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def own_address():
    return f"127.0.0.1:{free_port()}"


def dies_with_parent():
    """Runs in the child: ends it when this process ends, however it ends (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def folder(name):
    """A new one for a broker's data."""
    (ROOT / ".data").mkdir(exist_ok=True)
    return pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=ROOT / ".data"))


class Broker:
    """`addresses`: HOST:PORT of each gateway; they survive restarts of parts."""

    name = ""
    protocol = ""
    parts = ("core",)

    def __init__(self):
        self.addresses = [own_address()]
        self.folder = folder(f"{self.protocol}-{self.name}")
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
                env={**os.environ, **environment, **self.environment}, preexec_fn=dies_with_parent)

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


class PolyMQ(Broker):
    """`all-in-one`: polymq serve. `split`: polymq-core and a gateway. `cluster`: two gateways on one core."""

    SHAPES = {"all-in-one": ("core",), "split": ("core", "gateway"), "cluster": ("core", "gateway", "second")}

    def __init__(self, shape, binaries, gateways=None):
        self.name = shape
        self.parts = self.SHAPES[shape]
        self.binaries = pathlib.Path(binaries).resolve()
        self.gateways = gateways or self.protocol  # all-in-one: with commas, what is served
        super().__init__()
        self.core_address = own_address()
        if shape == "cluster":
            self.addresses.append(own_address())

    def gateway_flags(self, at):
        """What a gateway is told beside its address: flag to value."""
        return {}

    def launch(self, part):
        ready = self.folder / f"ready-{part}.json"
        ready.unlink(missing_ok=True)
        data = self.folder / "data"
        at = int(part == "second")
        settings = {"listen": self.addresses[at], **self.gateway_flags(at)}
        if self.name == "all-in-one":
            flags = [word for flag, value in settings.items() for word in (f"--{self.protocol}-{flag}", value)]
            command = ["polymq", "serve", "--gateways", self.gateways, "--data", data, "--core-listen", self.core_address, *flags]
        elif part == "core":
            command = ["polymq-core", "--data", data, "--listen", self.core_address]
        else:
            flags = [word for flag, value in settings.items() for word in (f"--{flag}", value)]
            command = [f"polymq-{self.protocol}", "--core", self.core_address, *flags]
        binary = self.binaries / command[0]
        if not binary.is_file():
            raise RuntimeError(f"{binary} is not built: cargo build --workspace --bins (POLYMQ_BINARIES names the folder)")
        self.spawn(part, [binary, *command[1:], "--ready-file", ready], {"POLYMQ_ADMIN_LISTEN": "127.0.0.1:0"})

    def wait_ready(self, part):
        ready = self.folder / f"ready-{part}.json"
        self.wait_until(part, "its ready file", ready.exists)
        json.loads(ready.read_text())
        address = self.core_address if part == "core" and self.name != "all-in-one" else self.addresses[int(part == "second")]
        if not listens(address):
            raise RuntimeError(f"{part} is ready, but {address} does not answer")


def make(name, binaries, oracle, polymq, external):
    """The broker that a command line means by `name`: one of these classes."""
    if name == oracle.name:
        return oracle()
    if name in PolyMQ.SHAPES:
        return polymq(name, binaries)
    if ":" in name:
        return external(name)
    raise SystemExit(f"{name} is no broker: say {oracle.name}, {', '.join(PolyMQ.SHAPES)} or HOST:PORT")


def default_binaries():
    """POLYMQ_BINARIES, or what was built last of the usual profiles."""
    if os.environ.get("POLYMQ_BINARIES"):
        return pathlib.Path(os.environ["POLYMQ_BINARIES"])
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    folders = [target / profile for profile in ("release", "checked", "debug") if (target / profile / "polymq").is_file()]
    return max(folders, key=lambda folder: (folder / "polymq").stat().st_mtime, default=target / "release")
