"""What the cases share: a broker on a file system of its own, clients, and waiting for something.

Everything listens on loopback, on free ports; what a case starts ends with it, and with the process that ran it.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
for tools in (".tools/python", ".tools/amqp/python"):
    sys.path += [str(path) for path in (ROOT / tools).glob("lib/python*/site-packages")]

START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 20
# The listeners of `polymq serve`: flag and the name that the ready file gives them.
LISTENERS = {"core-listen": "core", "admin-listen": "admin", "kafka-listen": "kafka", "amqp-listen": "amqp",
             "amqp-management-listen": "management", "mqtt-listen": "mqtt", "mqtt-listen-websocket": "mqtt-ws"}

binaries = ROOT / "target" / "checked"


class Fault(AssertionError):
    """What was expected of the broker and did not hold."""


def check(holds, what):
    if not holds:
        raise Fault(what)


def wait_for(what, holds, seconds=10.0):
    """What `holds` returned, once that is true."""
    deadline = time.monotonic() + seconds
    while True:
        if result := holds():
            return result
        if time.monotonic() > deadline:
            raise Fault(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def dies_with_parent():
    """Runs in the child: ends it when this process ends, however it ends (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


@contextlib.contextmanager
def folder():
    (ROOT / ".data").mkdir(exist_ok=True)
    path = pathlib.Path(tempfile.mkdtemp(prefix="robustness-", dir=ROOT / ".data"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


# ---- file systems ------------------------------------------------------------------------------------------------

kind_of_file_system = "ext4"
may_mount = True


class LeftOut(Exception):
    """A case that cannot be played here."""


@contextlib.contextmanager
def small_file_system(mebibytes):
    """A folder that holds so much and no more: ext4 in a file where there are loop devices, else in memory."""
    if not may_mount:
        raise LeftOut("no file system can be mounted here")
    with folder() as at:
        mounted = at / "mounted"
        mounted.mkdir()
        done = None
        if kind_of_file_system == "ext4":
            image = at / "image"
            with open(image, "wb") as file:
                file.truncate(mebibytes << 20)
            # No blocks for root only: they would be there for a broker that is root, and for nobody else.
            run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-J", "size=4", image)
            done = subprocess.run(["mount", "-o", "loop", image, mounted], capture_output=True, text=True, check=False)
        if done is None or done.returncode != 0:
            run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "robustness", mounted)
        try:
            yield mounted
        finally:
            # What still has a file open there ends soon; with the namespace of this process the mount goes anyway.
            subprocess.run(["umount", "--lazy", mounted], check=False)


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done.stdout


# ---- the broker --------------------------------------------------------------------------------------------------


class Process:
    """One of the binaries, with its log."""

    def __init__(self, log, command, prefix=(), environment=()):
        self.log_path, self.command, self.prefix = log, [str(word) for word in command], [str(word) for word in prefix]
        self.environment = {**os.environ, **dict(environment)}
        self.child = None

    def launch(self):
        with open(self.log_path, "ab") as log:
            self.child = subprocess.Popen([*self.prefix, str(binaries / self.command[0]), *self.command[1:]], stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=log, env=self.environment, preexec_fn=dies_with_parent)

    def log(self):
        # Without the colours of its levels.
        return re.sub(r"\x1b\[[0-9;]*m", "", self.log_path.read_text(errors="replace"))

    def tail(self):
        return "its last lines: " + " | ".join(self.log().splitlines()[-4:])

    def wait_exit(self, seconds):
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Fault(f"{self.command[0]} did not end within {seconds} s; {self.tail()}") from None

    def stop(self):
        """SIGTERM; seconds until it has ended."""
        begun = time.monotonic()
        self.child.terminate()
        status = self.wait_exit(STOP_SECONDS_MAX)
        check(status == 0, f"{self.command[0]} ended with {status}; {self.tail()}")
        return time.monotonic() - begun

    def kill(self):
        if self.child and self.child.poll() is None:
            self.child.kill()
            self.child.wait()

    def check_sound(self):
        """It lives, and nothing in it panicked."""
        check(self.child.poll() is None, f"{self.command[0]} ended with {self.child.returncode}; {self.tail()}")
        panic = next((line for line in self.log().splitlines() if "panicked" in line), None)
        check(panic is None, f"{self.command[0]}: {panic}")

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mebibytes(self):
        for line in pathlib.Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def open_files(self):
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))


class Broker(Process):
    """`polymq serve` on a data directory; `ports` by the listeners' names."""

    def __init__(self, at, *more, data=None, prefix=(), environment=(), packs=8 << 20):
        self.at, self.data = at, data or at / "data"
        self.ports = {name: free_port() for name in LISTENERS.values()}
        self.ready = at / "ready.json"
        listen = [word for flag, name in LISTENERS.items() for word in (f"--{flag}", f"127.0.0.1:{self.ports[name]}")]
        groups = ["--kafka-group-initial-rebalance-delay-ms", "0", "--core-pack-bytes", packs]
        command = ["polymq", "serve", "--data", self.data, "--ready-file", self.ready, *listen, *groups, *more]
        super().__init__(at / "log", command, prefix, environment)

    def start(self):
        """Seconds until it was ready."""
        begun = time.monotonic()
        self.ready.unlink(missing_ok=True)
        self.launch()
        wait_for("the broker is ready", lambda: self.ready.exists() or self.child.poll() is not None, START_SECONDS_MAX)
        self.check_sound()
        return time.monotonic() - begun

    def address(self, name):
        return f"127.0.0.1:{self.ports[name]}"

    def metrics(self):
        with urllib.request.urlopen(f"http://{self.address('admin')}/metrics", timeout=5) as answer:
            return answer.read().decode()

    def metric(self, series):
        """The value of a series, as it is written."""
        value = next((line.rsplit(" ", 1)[1] for line in self.metrics().splitlines() if line.rsplit(" ", 1)[0] == series), None)
        check(value is not None, f"no metric {series}")
        return float(value)

    def health(self):
        """(status, what it says)."""
        try:
            with urllib.request.urlopen(f"http://{self.address('admin')}/health", timeout=15) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@contextlib.contextmanager
def broker(at, *more, **how):
    """A running one; at the end it must be sound, and is killed."""
    started = Broker(at, *more, **how)
    try:
        started.start()
        yield started
        if started.child.poll() is None:
            started.check_sound()
    finally:
        started.kill()


def ends_at_once(command, prefix=(), environment=()):
    """(status, what it wrote) of a start that must fail."""
    done = subprocess.run([*prefix, str(binaries / command[0]), *map(str, command[1:])], capture_output=True, text=True, timeout=15, check=False,
                          stdin=subprocess.DEVNULL, env={**os.environ, **dict(environment)}, preexec_fn=dies_with_parent)
    return done.returncode, re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)


def read_json(path):
    return json.loads(path.read_text())
