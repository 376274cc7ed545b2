"""What the cases run against: Debian's mosquitto (the oracle), PolyMQ, or a server that somebody else started.

A case may need a server with settings of its own (`needs:`); each kind is started once a run, on free loopback ports, with a
folder of its own that goes away with it.
"""

import base64
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from conformance.shared.broker import dies_with_parent, folder, listens, own_address  # noqa: E402

START_SECONDS_MAX = 60

# What a server with settings of its own has, by the word that cases use.
NEEDS = {
    "": "anyone may connect; subscriptions, retained messages and QoS 2 are there",
    "restart": "the same, and it can be started again on its data",
    "auth": "nobody without a name: `user` (password `pencil`) may use `u/#`, and only read `r/#`",
    "limits": "packets of at most 2,000 bytes, a receive maximum of 3, keep alive of at most 60 s",
    "alone": "the first, and nobody else on it",
    "scram": "`user` (password `pencil`) by SCRAM-SHA-256",
}
# (name, password), and what `user` may do.
USERS = [("user", "pencil"), ("other", "pencil")]
ACCESS = ["user user", "topic readwrite u/#", "topic read r/#", "user other", "topic readwrite #"]


class Unable(Exception):
    """This server cannot have those settings, and why."""


class Server:
    def __init__(self, needs):
        self.needs = needs
        self.address, self.websocket_address = (own_address() for _ in range(2))
        self.folder = folder("mqtt-wire")
        self.child = None

    def start(self):
        self._write_settings()
        with open(self.folder / "log", "ab") as log:
            self.child = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                                          env={**os.environ, **self._environment()}, preexec_fn=dies_with_parent)
        deadline = time.monotonic() + START_SECONDS_MAX
        while not (self._ready() and listens(self.address)):
            if self.child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {self.log_tail()}")
            time.sleep(0.02)
        return self

    def log_tail(self):
        return " | ".join((self.folder / "log").read_text(errors="replace").splitlines()[-5:])

    def stop(self):
        if self.child and self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(20)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.child = None

    def restart(self):
        self._end_for_restart()
        self.start()

    def ended(self):
        """Why it is not there any more, or None."""
        if self.child and self.child.poll() is not None:
            return f"the server ended with {self.child.returncode}: {self.log_tail()}"
        return None

    def discard(self):
        self.stop()
        if os.environ.get("CONFORMANCE_KEEP"):
            print(f"kept {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _environment(self):
        return {}

    def _ready(self):
        return listens(self.websocket_address)


class Mosquitto(Server):
    """It writes its sessions when it ends, so a restart is a SIGTERM."""

    BINARIES = (ROOT / ".tools/mqtt/mosquitto/usr/sbin/mosquitto", pathlib.Path("/usr/sbin/mosquitto"))

    def _write_settings(self):
        lines = [
            f"listener {self.address.rsplit(':', 1)[1]} 127.0.0.1", f"listener {self.websocket_address.rsplit(':', 1)[1]} 127.0.0.1",
            "protocol websockets", "persistence true", f"persistence_location {self.folder}/", "user root", "log_type error",
            "log_type warning", "log_dest stderr", "sys_interval 1", f"allow_anonymous {'false' if self.needs == 'auth' else 'true'}",
        ]
        if self.needs == "auth":
            lines += [f"password_file {self.folder}/passwords", f"acl_file {self.folder}/access"]
            write_access(self.folder)
        if self.needs == "limits":
            lines += ["max_packet_size 2000", "max_inflight_messages 3", "max_keepalive 60"]
        (self.folder / "mosquitto.conf").write_text("\n".join([*lines, ""]))

    def _command(self):
        for binary in self.BINARIES:
            if binary.exists():
                return [str(binary), "-c", str(self.folder / "mosquitto.conf")]
        raise RuntimeError("mosquitto is not there: run conformance/setup mosquitto")

    def _end_for_restart(self):
        self.stop()


def write_access(folder):
    """mosquitto's password file ($7$: PBKDF2 of SHA-512) and its ACL file; PolyMQ reads both."""
    lines = []
    for name, password in USERS:
        salt = hashlib.sha256(name.encode()).digest()[:12]
        key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101, 64)
        lines.append(f"{name}:$7$101${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}")
    (folder / "passwords").write_text("\n".join([*lines, ""]))
    (folder / "passwords").chmod(0o600)
    (folder / "access").write_text("\n".join([*ACCESS, ""]))
    (folder / "access").chmod(0o600)


class PolyMQ(Server):
    """`polymq` (all in one process), or `polymq-mqtt` with the `polymq-core` beside it (two). A restart is a kill -9 of both."""

    def __init__(self, needs, binary):
        super().__init__(needs)
        self.binary = pathlib.Path(binary).resolve()
        self.split = self.binary.name == "polymq-mqtt"
        self.core, self.core_address = None, own_address()
        self.management_address = own_address()

    def start(self):
        if self.split and self.needs == "scram":
            raise Unable("it takes the AMQP gateway too to make the user: polymq, all in one")
        if self.split:
            command = [self.binary.parent / "polymq-core", "--data", self.folder / "data", "--listen", self.core_address]
            with open(self.folder / "log", "ab") as log:
                self.core = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                                             env={**os.environ, **self._environment()}, preexec_fn=dies_with_parent)
        super().start()
        if self.needs == "scram":
            self._make_user()
        return self

    def _make_user(self):
        """Users are the core's, whichever gateway makes them; AMQP's management has a way in for the first."""
        request = urllib.request.Request(f"http://{self.management_address}/api/users/user", method="PUT", data=b'{"password": "pencil", "tags": ""}',
                                         headers={"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q=", "Content-Type": "application/json"})
        try:
            urllib.request.urlopen(request, timeout=10).close()
        except OSError as fault:
            raise RuntimeError(f"the user could not be made: {fault}") from fault

    def stop(self):
        super().stop()
        if self.core and self.core.poll() is None:
            self.core.terminate()
            self.core.wait(20)

    def _write_settings(self):
        (self.folder / "ready.json").unlink(missing_ok=True)
        if self.needs == "auth":
            write_access(self.folder)

    def _command(self):
        ready = ["--ready-file", str(self.folder / "ready.json")]
        if self.split:
            return [str(self.binary), "--core", self.core_address, "--listen", self.address, *ready]
        amqp = ["--amqp-listen", "127.0.0.1:0", "--amqp-management-listen", self.management_address] if self.needs == "scram" else []
        return [str(self.binary), "serve", "--gateways", "mqtt,amqp" if amqp else "mqtt", "--data", str(self.folder / "data"),
                "--core-listen", self.core_address, "--mqtt-listen", self.address, *amqp, *ready]

    def _environment(self):
        environment = {"POLYMQ_ADMIN_LISTEN": "127.0.0.1:0", "POLYMQ_MQTT_LISTEN_WEBSOCKET": self.websocket_address}
        if self.needs in ("auth", "scram"):
            environment |= {"POLYMQ_MQTT_ALLOW_ANONYMOUS": "false"}
        if self.needs == "auth":
            environment |= {"POLYMQ_MQTT_PASSWORD_FILE": str(self.folder / "passwords"), "POLYMQ_MQTT_ACL_FILE": str(self.folder / "access")}
        if self.needs == "limits":
            environment |= {"POLYMQ_MQTT_MAXIMUM_PACKET_SIZE": "2000", "POLYMQ_MQTT_RECEIVE_MAXIMUM": "3", "POLYMQ_MQTT_MAX_KEEPALIVE_SECONDS": "60"}
        return environment

    def _ready(self):
        try:
            return bool(json.loads((self.folder / "ready.json").read_text()))
        except (FileNotFoundError, json.JSONDecodeError):
            return False

    def _end_for_restart(self):
        for process in filter(None, (self.child, self.core)):
            process.kill()
            process.wait()


class External:
    """HOST:PORT[,HOST:PORT of its WebSocket listener]: as it is. Cases that need settings are not tried."""

    def __init__(self, text):
        self.address, _, self.websocket_address = text.partition(",")

    def ended(self):
        return None

    def discard(self):
        pass
