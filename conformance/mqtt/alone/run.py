#!/usr/bin/env python3
"""What takes a broker of its own: restarts and crashes, two gateways, TLS, wss, passwords, access rules, SCRAM, settings.

`run.py ADDRESS [CASE...]`; the address is not used, for others could not work beside this.
"""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import ssl
import subprocess
import sys
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "python")]

import brokers  # noqa: E402
import packets  # noqa: E402
from mqtt_kit import BROKER, CASES, ORACLE, Kit, Skip, main, same, until  # noqa: E402
from raw import Closed  # noqa: E402


def case(function):
    def run(_):
        if BROKER == "external":
            raise Skip("needs a broker that it starts itself")
        function()
    CASES[function.__name__] = run
    return function


class Own:
    """A broker of this case's own, and kits of it. `settings`, `listeners`: mosquitto's lines; others: PolyMQ's environment."""

    def __init__(self, shape=None, **options):
        self.broker = brokers.own(BROKER if ORACLE else shape or BROKER, **options)
        self.then = lambda: None  # what is to be done when it runs

    def __enter__(self):
        try:
            self.broker.start()
            self.then()
        except BaseException:
            self.broker.discard()
            raise
        self.kits = []
        return self

    def __exit__(self, *_):
        for kit in self.kits:
            kit.__exit__()
        self.broker.discard()

    def kit(self, *addresses):
        self.kits.append(Kit(",".join(addresses or self.broker.addresses), "alone"))
        return self.kits[-1]

    def again(self, *parts, crash=True):
        """Ends parts (all), by kill -9 or gently, and starts them again on the same data."""
        parts = parts or self.broker.parts
        for part in reversed(parts):
            if crash:
                self.broker.kill(part)
            else:
                child = self.broker.children.pop(part)
                child.terminate()
                child.wait(30)
        for part in parts:
            self.broker.launch(part)
            self.broker.wait_ready(part)


# ---- restarts -------------------------------------------------------------------------------------------------------

def over_a_restart(own, crash, restart):
    kit = own.kit()
    phone = kit.session("phone")
    phone.subscribe((kit.topic("1"), 1), (kit.topic("2"), 2))
    old = kit.session("old", 4)
    old.subscribe(kit.topic("#"), qos=1)
    giver = kit.client("giver")
    giver.publish(kit.topic("kept"), "kept", 1, retain=True, user=[("a", "b")])
    old.wait(1)
    old.forget()
    phone.disconnect()
    old.disconnect()
    wanted = [f"{number}" for number in range(100)]
    for text in wanted:
        giver.publish(kit.topic(f"{1 + int(text) % 2}"), text, 1 + int(text) % 2)
    # One that was delivered and not acknowledged, with its id.
    half = kit.wire("half", clean=False, session_expiry=600)
    half.subscribe(kit.topic("half"), qos=2)
    giver.publish(kit.topic("half"), "half", 2)
    delivered = half.expect(packets.PUBLISH)
    # And one that was received and not released.
    half.send(packets.publish(5, kit.topic("1"), "from half", 2, 77))
    half.expect(packets.PUBREC)
    if ORACLE:  # its file is written a moment later
        time.sleep(2.5)
    restart()
    for name in (phone, old):
        name.connect()
        same(True, name.session_present, f"session present of {name.id}")
    # What is not released yet may come before it is, or after (MQTT 5, 4.3.3).
    phone.until("what waited", lambda: len(set(phone.texts()) - {"from half"}) == 100)
    for parity in (0, 1):
        mine = [text for text in phone.texts() if text != "from half" and int(text) % 2 == parity]
        same(sorted(mine, key=int), mine, "in order")
    old.until("what waited for the other", lambda: set(wanted) <= set(old.texts()))
    half = kit.wire("half", clean=False, session_expiry=600)
    same(1, half.connack.session_present, "session present of half")
    again = half.expect(packets.PUBLISH)
    same((b"half", True, delivered.identifier), (again.payload, again.duplicate, again.identifier), "what was not acknowledged")
    half.send(packets.acknowledge(packets.PUBREC, again.identifier))
    half.expect(packets.PUBREL)
    half.send(packets.acknowledge(packets.PUBCOMP, again.identifier))
    half.send(packets.publish(5, kit.topic("1"), "from half", 2, 77, duplicate=True))
    half.expect(packets.PUBREC)
    half.send(packets.acknowledge(packets.PUBREL, 77))
    half.expect(packets.PUBCOMP)
    phone.none_more(101)
    same(sorted([*wanted, "from half"]), sorted(phone.texts()), "all of them, each once")
    late = kit.client("late")
    late.subscribe(kit.topic("kept"), qos=1)
    same([("kept", True, [("a", "b")])], [(m.text, m.retain, [tuple(pair) for pair in m.get("user")]) for m in late.wait(1)], "the retained message")
    kit.client("after").publish(kit.topic("1"), "after", 1)
    phone.until("what comes afterwards", lambda: "after" in phone.texts())


@case
def a_gentle_restart_keeps_everything():
    with Own() as own:
        over_a_restart(own, False, lambda: own.again(crash=False))


@case
def a_crash_keeps_everything():
    with Own() as own:
        over_a_restart(own, True, own.again)


@case
def a_gateways_crash_keeps_everything():
    if ORACLE:
        raise Skip("no oracle: it is one process")
    with Own(shape="split") as own:
        over_a_restart(own, True, lambda: own.again("gateway"))


@case
def a_cores_crash_keeps_everything():
    if ORACLE:
        raise Skip("no oracle: it is one process")
    with Own(shape="split") as own:
        over_a_restart(own, True, lambda: own.again("core"))


@case
def a_delayed_will_survives_a_restart():
    with Own() as own:
        kit = own.kit()
        kit.session("watcher").subscribe(kit.topic("will"), qos=1)
        client = kit.session("c", will=(kit.topic("will"), "gone", 1, False, {"will_delay": 3}))
        client.drop()
        time.sleep(1.5 if ORACLE else 0.3)
        own.again()
        watcher = kit.session("watcher")
        watcher.wait(1, 15)


@case
def expiry_goes_on_over_a_restart():
    with Own() as own:
        kit = own.kit()
        short, long = kit.session("short", expiry=2), kit.session("long", expiry=600)
        for client in (short, long):
            client.subscribe(kit.topic(), qos=1)
            client.disconnect()
        kit.client("giver").publish(kit.topic(), "x", 1, message_expiry=2)
        time.sleep(1.5 if ORACLE else 0.2)
        own.again()
        time.sleep(3.2)
        for client, present in ((short, False), (long, True)):
            client.connect()
            same(present, client.session_present, f"session present of {client.id}")
            client.none_more(0)


# ---- two gateways ---------------------------------------------------------------------------------------------------

@case
def two_gateways_are_one_broker():
    if ORACLE:
        raise Skip("no oracle: it is one process")
    with Own(shape="cluster") as own:
        first, second = own.kit(own.broker.addresses[0]), own.kit(own.broker.addresses[1])
        second.prefix = first.prefix
        # Publish at one, receive at the other.
        taker = second.client("taker")
        taker.subscribe(first.topic("#"), qos=2)
        giver = first.client("giver")
        for qos in (0, 1, 2):
            giver.publish(first.topic("a"), f"{qos}", qos)
        taker.arrive("0", "1", "2")
        # Retained at one, seen at the other.
        giver.publish(first.topic("kept"), "kept", 1, retain=True)
        taker.wait(4)
        late = second.client("late")
        until("the retained message", lambda: _retained(second, first.topic("kept")) == "kept")
        # Takeover across gateways, with the session.
        old = first.session("phone")
        old.subscribe(first.topic("phone"), qos=1)
        new = second.session("phone")
        same(True, new.session_present, "session present at the other gateway")
        same(0x8E, old.closes().value, "reason of DISCONNECT")
        giver.publish(first.topic("phone"), "x", 1)
        new.arrive("x")
        # What waits follows the session.
        new.disconnect()
        giver.publish(first.topic("phone"), "waits", 1)
        old.connect()
        same(True, old.session_present, "session present, back")
        old.until("what waited", lambda: "waits" in old.texts())
        late.disconnect()


def _retained(kit, topic):
    client = kit.client()
    client.subscribe(topic, qos=1)
    try:
        return client.wait(1, 1)[0].text
    except AssertionError:
        return None
    finally:
        client.disconnect()


@case
def a_gateway_dies_and_its_sessions_move():
    if ORACLE:
        raise Skip("no oracle: it is one process")
    with Own(shape="cluster") as own:
        first, second = own.kit(own.broker.addresses[0]), own.kit(own.broker.addresses[1])
        second.prefix = first.prefix
        phone = first.session("phone")
        phone.subscribe(first.topic("phone"), qos=1)
        phone.disconnect()
        giver = second.client("giver")
        giver.publish(first.topic("phone"), "before", 1)
        own.broker.kill("gateway")
        giver.publish(first.topic("phone"), "after", 1)
        moved = second.session("phone", expiry=600)
        same(True, moved.session_present, "session present at the other gateway")
        moved.arrive("before", "after")
        moved.disconnect()


# ---- who may come in, and what he may do ----------------------------------------------------------------------------

def password_file(folder, **users):
    path = folder / "passwords"
    path.touch()
    for user, password in users.items():
        subprocess.run([brokers.tool("mosquitto_passwd"), "-b", path, user, password], check=True, capture_output=True)
    path.chmod(0o600)
    return path


def with_passwords(acl=None, **users):
    """A broker that lets in these users alone."""
    own = Own(anonymous=False)
    folder = own.broker.folder
    path = password_file(folder, **users)
    lines = [f"password_file {path}"]
    environment = {"POLYMQ_MQTT_PASSWORD_FILE": str(path), "POLYMQ_MQTT_ALLOW_ANONYMOUS": "false"}
    if acl is not None:
        (folder / "acl").write_text(acl)
        lines.append(f"acl_file {folder}/acl")
        environment["POLYMQ_MQTT_ACL_FILE"] = str(folder / "acl")
    if ORACLE:
        own.broker.settings += lines
    else:
        own.broker.environment.update(environment)
    return own


def refused(kit, reasons, version=5, **options):
    """CONNECT is refused with one of these reasons."""
    wire = kit.wire("refused", version, **options)
    assert wire.connack.reason in reasons, f"reason {wire.connack.reason:#x}, wanted one of {reasons}"
    wire.closes()


@case
def passwords():
    with with_passwords(anna="secret", ben="ключ ü") as own:
        kit = own.kit()
        for version in (3, 4, 5):
            for user, password in (("anna", "secret"), ("ben", "ключ ü")):
                kit.client(f"{user}{version}", version, username=user, password=password)
            bad, nobody = (0x86, 0x87) if version == 5 else (4, 5), (0x86, 0x87) if version == 5 else (4, 5)
            refused(kit, bad, version, username="anna", password="wrong")
            refused(kit, bad, version, username="anna", password="")
            refused(kit, bad, version, username="carl", password="secret")
            refused(kit, nobody, version)


ACL = """\
# For the anonymous alone.
topic read public/#

user anna
topic readwrite anna/#
topic write in/anna
topic deny anna/secret/#

user ben
topic read anna/#

pattern readwrite clients/%c/#
pattern readwrite users/%u/#
pattern readwrite open/+/x
"""


@case
def access_rules_of_mosquitto():
    with with_passwords(ACL, anna="a", ben="b") as own:
        kit = own.kit()
        anna, ben = kit.client("anna", username="anna", password="a"), kit.client("ben", username="ben", password="b")
        ben.subscribe("anna/#", qos=1)
        anna.publish("anna/1", "1", 1)
        ben.wait(1)
        ben.publish("anna/1", "forbidden", 0)
        same(0x87, ben.publish("anna/1", "forbidden", 1), "reason: not authorized")
        same(0x87, anna.publish("anna/secret/x", "forbidden", 1), "reason: denied")
        ben.none_more(1)
        # By client id and user name.
        anna.subscribe(f"clients/{anna.id}/#", "users/anna/#", "open/1/x", qos=1)
        same(0, anna.publish(f"clients/{anna.id}/x", "mine", 1), "reason for its own client id")
        # Only messages of one first level have an order.
        anna.arrive("mine")
        same(0, anna.publish("users/anna/x", "also mine", 1), "reason for its own name")
        anna.arrive("mine", "also mine")
        same(0x87, ben.publish(f"clients/{anna.id}/x", "forbidden", 1), "reason for another's client id")
        same(0x87, ben.publish("users/anna/x", "forbidden", 1), "reason for another's name")
        same(0, ben.publish("open/1/x", "open", 1), "reason for what is open")
        anna.arrive("mine", "also mine", "open")
        same(0x87, ben.publish("public/x", "forbidden", 1), "reason for what may only be read")


@case
def what_may_not_be_read_does_not_come():
    with with_passwords(ACL, anna="a", ben="b") as own:
        kit = own.kit()
        ben = kit.wire("ben", username="ben", password="b")
        # mosquitto takes every filter, and asks the rules at each message; a refusal is as good.
        reasons = [ben.subscribe(name, qos=1)[0] for name in ("in/#", "users/anna/#")]
        assert all(reason in (1, 0x87) for reason in reasons), reasons
        anna = kit.client("anna", username="anna", password="a")
        same(True, anna.publish("in/anna", "x", 1) in (0, 0x10), "published")
        anna.publish("users/anna/x", "x", 1)
        ben.silent()
        # A will may not go where its client may not.
        anna.subscribe("users/anna/#", qos=1)
        wire = kit.wire("willing", username="ben", password="b", will=("users/anna/will", "forbidden", 1, False, {}))
        wire.drop()
        anna.none_more(0)


def certificates(folder):
    """ca, server and client, as PEM files."""
    def openssl(*arguments):
        done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test-ca")
    for name, subject, extension in (("server", "/CN=localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1"), ("client", "/O=Example/CN=anna", "extendedKeyUsage=clientAuth")):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        (folder / f"{name}.ext").write_text(extension)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", f"{name}.pem", "-days", "2", "-extfile", f"{name}.ext")


def with_tls(required, acl=None):
    """An Own with two more listeners, HOST:PORT: `tls`, and `wss` (WebSocket over TLS). `required`: a client's certificate is, and says who it is."""
    ports = [brokers.free_port(), brokers.free_port()]
    own = Own(shape="all-in-one")
    own.tls, own.wss = (f"127.0.0.1:{port}" for port in ports)
    folder = own.broker.folder
    certificates(folder)
    if acl is not None:
        (folder / "acl").write_text(acl)
    if ORACLE:
        own.broker.also += [own.tls, own.wss]
        for port, more in zip(ports, ([], ["protocol websockets"])):
            own.broker.listeners += [f"listener {port} 127.0.0.1", *more, f"cafile {folder}/ca.pem", f"certfile {folder}/server.pem", f"keyfile {folder}/server.key",
                                     f"require_certificate {str(required).lower()}", f"use_identity_as_username {str(required).lower()}"]
        if acl is not None:
            own.broker.settings.append(f"acl_file {folder}/acl")
    else:
        own.broker.environment.update(
            POLYMQ_MQTT_LISTEN_TLS=own.tls, POLYMQ_MQTT_LISTEN_WEBSOCKET_TLS=own.wss, POLYMQ_MQTT_TLS_CERTIFICATE=str(folder / "server.pem"), POLYMQ_MQTT_TLS_KEY=str(folder / "server.key"))
        if required:
            own.broker.environment.update(POLYMQ_MQTT_TLS_CLIENT_CA=str(folder / "ca.pem"), POLYMQ_MQTT_TLS_CLIENT_AUTH="required", POLYMQ_MQTT_IDENTITY_FROM_CERTIFICATE="common-name")
        if acl is not None:
            own.broker.environment.update(POLYMQ_MQTT_ACL_FILE=str(folder / "acl"))
    return own


def runs(*command):
    """Another client's program ends with 0; what it says otherwise is the reason."""
    environment = {**os.environ, "NODE_PATH": str(brokers.TOOLS / "node/node_modules")}
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, f"{(done.stdout + done.stderr).strip()[-300:] or done.returncode}"


def context(own, certificate=False):
    folder = own.broker.folder
    found = ssl.create_default_context(cafile=folder / "ca.pem")
    if certificate:
        found.load_cert_chain(folder / "client.pem", folder / "client.key")
    return found


@case
def tls():
    with with_tls(False) as own:
        kit = own.kit()
        for version in (4, 5):
            taker = kit.client(f"t{version}", version, address=own.tls, tls=context(own))
            taker.subscribe(kit.topic(f"{version}"), qos=2)
            body = bytes(range(256)) * 4000
            kit.client(f"g{version}", version).publish(kit.topic(f"{version}"), body, 2)
            assert taker.wait(1)[0].payload == body, "a body of a megabyte by TLS differs"
            taker.publish(kit.topic(f"{version}"), "back", 1)
            same("back", taker.wait(2)[1].text, "the other way")


@case
def websockets_over_tls():
    with with_tls(False) as own:
        kit = own.kit()
        for version in (3, 4, 5):
            client = kit.client(f"w{version}", version, websocket=own.wss, tls=context(own))
            client.subscribe(kit.topic(f"{version}"), qos=2)
            # Larger ones take mosquitto's library longer than anybody waits.
            body = bytes(range(256)) * 400
            client.publish(kit.topic(f"{version}"), body, 2)
            assert client.wait(1)[0].payload == body, "a body of 100 kB by wss differs"
            kit.client(f"g{version}", version).publish(kit.topic(f"{version}"), "from TCP", 1)
            same("from TCP", client.wait(2)[1].text, "what another published by TCP")
        try:
            kit.client("plain", websocket=own.wss)
        except (AssertionError, OSError, ValueError):
            return
        raise AssertionError("let in without TLS")


@case
def websockets_over_tls_by_mqtt_js():
    with with_tls(False) as own:
        folder = own.broker.folder
        runs("node", HERE.parent / "node/secured.js", f"wss://{own.wss}/mqtt", folder / "ca.pem", "js/wss")
        runs("node", HERE.parent / "node/secured.js", f"mqtts://{own.tls}", folder / "ca.pem", "js/tls")


# Whose certificate says `anna` may use what is below users/anna.
IDENTITY = "pattern readwrite users/%u/#\npattern readwrite users/%u\n"


@case
def client_certificates_are_who_one_is():
    with with_tls(True, IDENTITY) as own:
        kit = own.kit()
        for options in ({"address": own.tls}, {"websocket": own.wss}):
            anna = kit.client("anna", tls=context(own, True), **options)
            anna.subscribe("users/anna/#", qos=1)
            same(0, anna.publish("users/anna/x", "mine", 1), "reason for its own name, from its certificate")
            same(0x87, anna.publish("users/ben/x", "forbidden", 1), "reason for another's name")
            anna.arrive("mine")
            # What it says itself does not count.
            liar = kit.client("liar", tls=context(own, True), username="ben", password="x", **options)
            same(0x87, liar.publish("users/ben/x", "forbidden", 1), "reason for the name that it says, and its certificate does not")
            try:
                kit.client("nobody", tls=context(own), **options)
            except (AssertionError, OSError, ValueError):
                continue
            raise AssertionError(f"let in without a certificate: {options}")


@case
def client_certificates_of_other_clients():
    with with_tls(True, IDENTITY) as own:
        folder = own.broker.folder
        subprocess.run(["openssl", "pkcs12", "-export", "-in", "client.pem", "-inkey", "client.key", "-out", "client.p12", "-passout", "pass:secret"], cwd=folder, check=True, capture_output=True)
        runs(*brokers.java("Identity"), "certificate", own.tls, folder)
        for url in (f"mqtts://{own.tls}", f"wss://{own.wss}/mqtt"):
            runs("node", HERE.parent / "node/secured.js", url, folder / "ca.pem", "users/anna/js", folder / "client.pem", folder / "client.key")


# ---- SCRAM-SHA-256 (RFC 5802, 7677) in AUTH packets -----------------------------------------------------------------

class Scram:
    """The client's side."""

    def __init__(self, user, password):
        self.nonce = base64.b64encode(os.urandom(18)).decode()
        self.bare = f"n={user},r={self.nonce}"
        self.password = password.encode()
        self.first = f"n,,{self.bare}".encode()

    def final(self, server_first):
        fields = dict(field.split("=", 1) for field in server_first.decode().split(","))
        assert fields["r"].startswith(self.nonce) and len(fields["r"]) > len(self.nonce), f"nonce {fields['r']}"
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(fields["s"]), int(fields["i"]))
        without_proof = f"c=biws,r={fields['r']}"
        signed = f"{self.bare},{server_first.decode()},{without_proof}".encode()
        key = hmac.digest(salted, b"Client Key", "sha256")
        proof = bytes(a ^ b for a, b in zip(key, hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")))
        self.verifier = b"v=" + base64.b64encode(hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256"))
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()


def scram_connect(kit, user, password, method="SCRAM-SHA-256"):
    """(wire, the packet that ended the exchange, the client's side)"""
    scram = Scram(user, password)
    wire = kit.wire(f"scram-{user}", connect=False)
    wire.send(packets.connect(5, kit.id(f"scram-{user}"), authentication_method=method, authentication_data=scram.first))
    got = wire.read()
    if got.kind == packets.AUTH:
        same((0x18, method), (got.reason, got.properties.get("authentication_method")), "AUTH: continue")
        wire.send(packets.auth(0x18, authentication_method=method, authentication_data=scram.final(got.properties["authentication_data"])))
        got = wire.read()
    return wire, got, scram


def with_user(user, password):
    """A broker that lets in this user alone. Users are the core's, whichever gateway makes them: AMQP's management has a way in for the first."""
    if ORACLE:
        raise Skip("no oracle: it needs a plugin for AUTH")
    management = f"127.0.0.1:{brokers.free_port()}"
    own = Own(shape="all-in-one", POLYMQ_MQTT_ALLOW_ANONYMOUS="false", POLYMQ_AMQP_LISTEN="127.0.0.1:0", POLYMQ_AMQP_MANAGEMENT_LISTEN=management)
    own.broker.gateways = "mqtt,amqp"
    own.then = lambda: urllib.request.urlopen(urllib.request.Request(
        f"http://{management}/api/users/{user}", method="PUT", data=json.dumps({"password": password, "tags": ""}).encode(), headers={"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="}), timeout=20).close()
    return own


@case
def scram_by_hivemq():
    with with_user("anna", "pencil") as own:
        for bits in (256, 512):
            runs(*brokers.java("Identity"), "scram", own.broker.address, "anna", "pencil", bits)


@case
def scram_sha_256():
    with with_user("anna", "pencil") as own:
        kit = own.kit()
        wire, got, scram = scram_connect(kit, "anna", "pencil")
        same((packets.CONNACK, 0), (got.kind, got.reason), f"CONNACK ({got})")
        same(scram.verifier, got.properties.get("authentication_data"), "the server's proof")
        wire.send(packets.PING)
        wire.expect(packets.PINGRESP)
        # Again, on the same connection (MQTT 5, 4.12.1).
        scram = Scram("anna", "pencil")
        wire.send(packets.auth(0x19, authentication_method="SCRAM-SHA-256", authentication_data=scram.first))
        got = wire.expect(packets.AUTH)
        same(0x18, got.reason, "AUTH: continue")
        wire.send(packets.auth(0x18, authentication_method="SCRAM-SHA-256", authentication_data=scram.final(got.properties["authentication_data"])))
        got = wire.expect(packets.AUTH)
        same((0, scram.verifier), (got.reason, got.properties.get("authentication_data")), "AUTH: success")
        for user, password, method, reasons in (("anna", "wrong", "SCRAM-SHA-256", (0x86, 0x87)), ("ben", "pencil", "SCRAM-SHA-256", (0x86, 0x87)), ("anna", "pencil", "OTHER", (0x8C,))):
            wire, got, _ = scram_connect(kit, user, password, method)
            assert got.kind == packets.CONNACK and got.reason in reasons, f"{user} {password} {method}: {got}"
            wire.closes()


# ---- settings -------------------------------------------------------------------------------------------------------

@case
def server_keep_alive():
    with Own(settings=["max_keepalive 30"], POLYMQ_MQTT_MAX_KEEPALIVE_SECONDS="30") as own:
        kit = own.kit()
        same(30, kit.wire("long", keepalive=1000).connack.properties.get("server_keep_alive"), "server keep alive")
        same(None, kit.wire("short", keepalive=20).connack.properties.get("server_keep_alive"), "for one that asks for less")


@case
def maximum_packet_size_of_the_server():
    with Own(settings=["max_packet_size 2000"], POLYMQ_MQTT_MAXIMUM_PACKET_SIZE="2000") as own:
        kit = own.kit()
        wire = kit.wire()
        same(2000, wire.connack.properties.get("maximum_packet_size"), "CONNACK says it")
        wire.send(packets.publish(5, kit.topic(), "x" * 1500, 1, 1))
        wire.expect(packets.PUBACK)
        wire.send(packets.publish(5, kit.topic(), "x" * 3000, 1, 2))
        same(0x95, wire.closes(), "reason of DISCONNECT")


@case
def nobody_is_told_to_the_publisher():
    with Own() as own:
        kit = own.kit()
        giver = kit.client("giver")
        for qos in (1, 2):
            # A server may say that nobody subscribes (0x10); mosquitto does, of QoS 1.
            assert giver.publish(kit.topic("nobody"), "x", qos) in (0x00, 0x10), "reason with no subscriber"
        kit.client("taker").subscribe(kit.topic("somebody"))
        for qos in (1, 2):
            same(0x00, giver.publish(kit.topic("somebody"), "x", qos), "reason with a subscriber")


@case
def connections_max():
    with Own(settings=["max_connections 3"], POLYMQ_MQTT_CONNECTIONS_MAX="3") as own:
        if ORACLE:
            raise Skip("no oracle: its listener lines take this setting")
        # Each gateway has so many.
        kit = own.kit(own.broker.address)
        for number in range(3):
            kit.wire(f"c{number}")
        try:
            wire = kit.wire("more", seconds=2, connect=False)
            wire.send(packets.connect(5, kit.id("more")))
            answer = wire.read(2)
            assert answer.kind == packets.CONNACK and answer.reason in (0x97, 0x89, 0x88, 0x9F), answer
        except (Closed, OSError):
            pass
        except AssertionError as error:
            # Or it waits until there is room.
            if "nothing came" not in str(error):
                raise
            kit.wires[0].disconnect()
            same(0, wire.expect(packets.CONNACK).reason, "reason once there is room")


@case
def topic_rewrite():
    if ORACLE:
        raise Skip("no oracle: an extension")
    with Own(POLYMQ_MQTT_REWRITE='{"action":"all","source_topic":"y/+/z/#","re":"^y/(.+)/z/(.+)$","dest_topic":"y/z/$2"}') as own:
        kit = own.kit()
        taker = kit.client("taker")
        taker.subscribe("y/z/#", qos=1)
        kit.client("giver").publish("y/a/z/b", "x", 1)
        same("y/z/b", taker.wait(1)[0].topic, "its topic")


@case
def auto_subscribe():
    if ORACLE:
        raise Skip("no oracle: an extension")
    with Own(POLYMQ_MQTT_AUTO_SUBSCRIBE='{"topic":"inbox/%c","qos":1}') as own:
        kit = own.kit()
        taker = kit.client("taker")
        kit.client("giver").publish(f"inbox/{taker.id}", "x", 1)
        same([("x", 1)], [(m.text, m.qos) for m in taker.wait(1)], "without a SUBSCRIBE")


if __name__ == "__main__":
    main(jobs=2)
