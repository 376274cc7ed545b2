#!/usr/bin/env python3
"""What takes a broker of its own: restarts, crashes, a gateway that dies beside another, guest from elsewhere, TLS.

`run.py ADDRESS [CASE...]`; the address is not used, for others could not work beside this.
"""

import os
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "python")]

import brokers  # noqa: E402
import pika  # noqa: E402
import raw_frames  # noqa: E402
from amqp_kit import BROKER, CASES, ORACLE, Consumer, Kit, Skip, arrives, get_soon, main, publish, refuses, same, until, wait_for  # noqa: E402
from pika.exceptions import AMQPConnectionError, ProbableAuthenticationError  # noqa: E402

SESSION_TIMEOUT_MS = 2000


def case(function):
    def run(_):
        if BROKER == "external":
            raise Skip("needs a broker that it starts itself")
        function()
    CASES[function.__name__] = run
    return function


class Own:
    """A broker of this case's own, and a kit of it; with `shape` PolyMQ is started so whatever the run asks for."""

    def __init__(self, name, shape=None, settings=(), plugins=(), **environment):
        self.name = name
        self.broker = brokers.RabbitMQ(settings) if ORACLE else brokers.PolyMQ(shape or BROKER, brokers.default_binaries())
        self.broker.environment.update(POLYMQ_AMQP_SESSION_TIMEOUT_MS=str(SESSION_TIMEOUT_MS), POLYMQ_AMQP_DRAIN_SECONDS="1", **environment)
        if ORACLE:
            self.broker.plugins += tuple(plugins)

    def __enter__(self):
        try:
            self.broker.start()
        except BaseException:
            self.broker.discard()
            raise
        return self

    def __exit__(self, *_):
        self.broker.discard()

    def kit(self, *addresses):
        return Kit(",".join(addresses or self.broker.addresses), self.name)

    def parts(self):
        return [part for part in self.broker.parts if part != "epmd"]

    def again(self, end):
        """Ends all its processes, gateways first, and starts them on the same data and ports."""
        for part in reversed(self.parts()):
            end(part)
        for part in self.parts():
            self.broker.launch(part)
            self.broker.wait_ready(part)

    def ask(self, part):
        child = self.broker.children.pop(part)
        child.terminate()
        child.wait(brokers.DRAIN_SECONDS_MAX)

    def api(self, method, path, body=None):
        import amqp_kit
        amqp_kit.MANAGEMENT = self.broker.management
        return amqp_kit.api(method, path, body)


def fill(own):
    """What is durable and what is not, with three messages; answers the names that a restart must keep."""
    with own.kit() as kit:
        own.api("PUT", "vhosts/kept", {})
        own.api("PUT", "users/keeper", {"password": "secret", "tags": ""})
        own.api("PUT", "permissions/kept/keeper", {"configure": ".*", "write": ".*", "read": ".*"})
        own.api("PUT", "policies/kept/p", {"pattern": "^limited", "definition": {"max-length": 1}, "apply-to": "queues"})
        channel = kit.channel(vhost="kept", user="keeper", password="secret", confirm=True)
        channel.exchange_declare("durable", "topic", durable=True)
        channel.exchange_declare("transient", "topic")
        channel.exchange_declare("behind", "fanout", durable=True)
        channel.queue_declare("durable", durable=True, arguments={"x-max-priority": 3})
        channel.queue_declare("transient")
        channel.queue_declare("limited", durable=True)
        channel.queue_bind("durable", "durable", "a.#")
        channel.exchange_bind("behind", "durable", "a.#")
        channel.queue_bind("limited", "behind")
        for body, priority in (("low", 0), ("high", 3), ("middle", 1)):
            publish(channel, "a.b", body, exchange="durable", priority=priority, delivery_mode=2)
        held = get_soon(channel, "durable", auto_ack=False)
        same(b"high", held[2], "the first, held over the restart")
        channel.connection._impl._transport.abort()


def look(own):
    with own.kit() as kit:
        connection = kit.connection(vhost="kept", user="keeper", password="secret")
        channel = connection.channel()
        channel.confirm_delivery()
        refuses(connection, 406, "inequivalent arg 'x-max-priority'", lambda channel: channel.queue_declare("durable", durable=True))
        arrives(channel, "durable", "high", "middle", "low")
        arrives(channel, "limited", "middle")
        publish(channel, "a.b", "by the bindings", exchange="durable", delivery_mode=2)
        arrives(channel, "durable", "by the bindings")
        arrives(channel, "limited", "by the bindings")
        publish(channel, "limited", "1", "2", delivery_mode=2)
        arrives(channel, "limited", "2")
        return connection


@case
def a_restart_keeps_what_is_durable():
    with Own("a_restart_keeps_what_is_durable") as own:
        fill(own)
        own.again(own.ask)
        look(own)
        with own.kit() as kit:
            connection = kit.connection(vhost="kept", user="keeper", password="secret")
            refuses(connection, 404, "NOT_FOUND - no queue 'transient' in vhost 'kept'", lambda channel: channel.queue_declare("transient", passive=True))
            refuses(connection, 404, "NOT_FOUND - no exchange 'transient' in vhost 'kept'", lambda channel: channel.exchange_declare("transient", passive=True))


@case
def a_crash_keeps_what_was_confirmed():
    with Own("a_crash_keeps_what_was_confirmed") as own:
        fill(own)
        own.again(own.broker.kill)
        look(own)


@case
def an_orderly_stop_marks_only_what_was_out():
    with Own("an_orderly_stop_marks_only_what_was_out") as own:
        with own.kit() as kit:
            channel = kit.channel(confirm=True)
            channel.queue_declare("kept", durable=True)
            publish(channel, "kept", *map(str, range(6)), delivery_mode=2)
            holder = kit.channel()
            holder.basic_qos(prefetch_count=2)
            consumer = Consumer(holder, "kept")
            consumer.wait(2)
            holder.basic_ack(consumer.tags()[0])
            consumer.none_more(3)
            own.again(own.ask)
        marks = [(str(at), at < 3) for at in range(1, 6)]
        with own.kit() as kit:
            channel = kit.channel()
            again = Consumer(channel, "kept")
            same(marks, [(body.decode(), method.redelivered) for method, _, body in again.none_more(5)], "what comes, and whether it is marked")
            # All are out now, and the next end is no orderly one.
            own.again(own.broker.kill)
        with own.kit() as kit:
            channel = kit.channel()
            again = Consumer(channel, "kept")
            marks = [(body, True) for body, _ in marks]
            same(marks, [(body.decode(), method.redelivered) for method, _, body in again.none_more(5)], "after a kill")


@case
def an_orderly_stop_says_no_errors():
    if ORACLE:
        raise Skip("no oracle: the log of PolyMQ")
    for _ in range(3):  # which of its tasks sees the end first is chance
        with Own("an_orderly_stop_says_no_errors") as own:
            with own.kit() as kit:
                channel = kit.channel(confirm=True)
                Consumer(channel, channel.queue_declare("q", auto_delete=True).method.queue)
                publish(channel, "q", "x")
            for part in reversed(own.parts()):
                own.ask(part)
                said = (own.broker.folder / f"{part}.log").read_text(errors="replace")
                same([], [line for line in said.splitlines() if "ERROR" in line], f"what {part} calls errors")


@case
def a_core_that_does_not_answer_holds_up_publishers():
    """What is published and not kept yet is in the gateway's memory: so much and no more."""
    if ORACLE:
        raise Skip("no oracle: one node")
    with Own("a_core_that_does_not_answer_holds_up_publishers", shape="split") as own:
        wire = raw_frames.Wire(own.broker.address)
        wire.channel()
        wire.method(1, pika.spec.Queue.Declare(queue="q", durable=True))
        wire.expect(pika.spec.Queue.DeclareOk)
        wire.method(1, pika.spec.Confirm.Select())
        wire.expect(pika.spec.Confirm.SelectOk)
        message = pika.frame.Method(1, pika.spec.Basic.Publish(routing_key="q")).marshal() + pika.frame.Header(1, 65536, pika.BasicProperties()).marshal() + pika.frame.Body(1, bytes(65536)).marshal()
        core = own.broker.children["core"].pid
        os.kill(core, signal.SIGSTOP)
        try:
            taken = flood(wire.socket, message, 256 << 20)
        finally:
            os.kill(core, signal.SIGCONT)
        # Its own bound is 8 MiB; the rest is in the buffers of two sockets.
        assert taken < 64 << 20, f"{taken} bytes taken that nobody keeps"
        count = -(-taken // len(message))
        wire.socket.settimeout(60)
        wire.send(message[taken % len(message):] if taken % len(message) else b"")
        confirmed = 0
        while confirmed < count:
            method = wire.expect(pika.spec.Basic.Ack)
            same(True, method.multiple or method.delivery_tag == confirmed + 1, "in order")
            confirmed = method.delivery_tag
        wire.socket.close()


def flood(to, data, bytes_max):
    """Sends it again and again until a second passes in which nothing is taken; answers how many bytes were."""
    to.setblocking(False)
    taken, last = 0, time.monotonic()
    while time.monotonic() < last + 1 and taken < bytes_max:
        try:
            taken += to.send(memoryview(data)[taken % len(data):])
            last = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
    return taken


@case
def a_gateway_dies_and_another_goes_on():
    if ORACLE:
        raise Skip("no oracle: one node")
    with Own("a_gateway_dies_and_another_goes_on", shape="cluster") as own, own.kit() as kit:
        channel = kit.channel(at=0, confirm=True)
        queue = kit.queue(channel, durable=True)
        publish(channel, queue, *map(str, range(100)))
        doomed = kit.channel(at=1)
        doomed.basic_qos(prefetch_count=40)
        exclusive = doomed.queue_declare("", exclusive=True).method.queue
        automatic = doomed.queue_declare(kit.unique("auto"), auto_delete=True).method.queue
        Consumer(doomed, automatic)
        holder = Consumer(doomed, queue)
        holder.wait(40)
        doomed.basic_ack(holder.tags()[9], multiple=True)
        holder.wait(50)
        taker = Consumer(channel, queue, auto_ack=True)
        taker.wait(50)
        same([str(number) for number in range(50, 100)], taker.bodies(), "what the other does not hold")
        own.broker.kill("second")
        taker.wait(90, 30)
        same([str(number) for number in range(10, 50)], taker.bodies()[50:], "what the dead one held, in order")
        same({True}, {method.redelivered for method, _, _ in taker.messages[50:]}, "redelivered")
        kit.addresses = kit.addresses[:1]
        until("its exclusive queue goes", lambda: not kit.exists(exclusive), 30)
        until("its auto-delete queue goes", lambda: not kit.exists(automatic), 30)
        # It comes back, and serves the same queue.
        own.broker.launch("second")
        own.broker.wait_ready("second")
        with own.kit(own.broker.addresses[1]) as again:
            publish(again.channel(confirm=True), queue, "from the second")
        taker.wait(91)


def own_address():
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            raise Skip("this machine has no address but loopback") from None
        host = probe.getsockname()[0]
    if host.startswith("127."):
        raise Skip("this machine has no address but loopback")
    return host


@case
def guest_may_come_from_loopback_only():
    host, port = own_address(), brokers.free_port()
    own = Own("guest_may_come_from_loopback_only", settings=[f"listeners.tcp.2 = {host}:{port}"])
    if not ORACLE:
        own.broker.addresses[0] = f"0.0.0.0:{port}"
    with own:
        own.api("PUT", "users/keeper", {"password": "secret", "tags": ""})
        own.api("PUT", "permissions/%2F/keeper", {"configure": ".*", "write": ".*", "read": ".*"})
        with own.kit(f"{host}:{port}") as kit:
            kit.connection(user="keeper", password="secret")
            try:
                kit.connection()
            except ProbableAuthenticationError as error:
                assert "403" in str(error) and "ACCESS_REFUSED" in str(error), error
            else:
                raise AssertionError("guest was let in from elsewhere")
        with own.kit(own.broker.address if ORACLE else f"127.0.0.1:{port}") as kit:
            kit.connection()


def certificates(folder):
    """An authority, a server's certificate for 127.0.0.1 and a client's for the user `app`."""
    def openssl(*arguments):
        done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test-ca")
    for name, subject, extension in (("server", "/CN=localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1"), ("client", "/O=Example/CN=app", "extendedKeyUsage=clientAuth")):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        (folder / f"{name}.ext").write_text(extension)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", f"{name}.pem", "-days", "2", "-extfile", f"{name}.ext")


@case
def tls_and_client_certificates():
    port = brokers.free_port()
    own = Own("tls_and_client_certificates", shape="all-in-one" if BROKER == "cluster" else None, plugins=["rabbitmq_auth_mechanism_ssl"], POLYMQ_AMQP_LISTEN_TLS=f"127.0.0.1:{port}", POLYMQ_AMQP_TLS_CLIENT_AUTH="requested")
    folder = own.broker.folder
    certificates(folder)
    own.broker.environment.update(POLYMQ_AMQP_TLS_CERTIFICATE=str(folder / "server.pem"), POLYMQ_AMQP_TLS_KEY=str(folder / "server.key"), POLYMQ_AMQP_TLS_CLIENT_CA=str(folder / "ca.pem"))
    own.broker.settings = [
        f"listeners.ssl.1 = 127.0.0.1:{port}", f"ssl_options.cacertfile = {folder}/ca.pem", f"ssl_options.certfile = {folder}/server.pem", f"ssl_options.keyfile = {folder}/server.key",
        "ssl_options.verify = verify_peer", "ssl_options.fail_if_no_peer_cert = false", "auth_mechanisms.1 = PLAIN", "auth_mechanisms.2 = AMQPLAIN", "auth_mechanisms.3 = EXTERNAL", "ssl_cert_login_from = common_name"]

    def options(certificate):
        context = ssl.create_default_context(cafile=folder / "ca.pem")
        if certificate:
            context.load_cert_chain(folder / "client.pem", folder / "client.key")
        return pika.SSLOptions(context, "localhost")

    def connect(kit, certificate, credentials):
        connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, credentials=credentials, ssl_options=options(certificate), socket_timeout=30))
        kit.connections.append(connection)
        return connection

    with own, own.kit() as kit:
        own.api("PUT", "users/app", {"password": "", "tags": ""} if ORACLE else {"password_hash": "", "tags": ""})
        own.api("PUT", "permissions/%2F/app", {"configure": ".*", "write": ".*", "read": ".*"})
        plain = pika.PlainCredentials("guest", "guest")
        channel = connect(kit, False, plain).channel()
        channel.confirm_delivery()
        queue = channel.queue_declare("", exclusive=True).method.queue
        body = bytes(range(256)) * 4000
        publish(channel, queue, body)
        same(body, Consumer(channel, queue, auto_ack=True).wait(1)[0][2], "a body by TLS")
        # Who its certificate says it is.
        mine = connect(kit, True, pika.credentials.ExternalCredentials()).channel()
        queue = mine.queue_declare("", exclusive=True).method.queue
        mine.basic_publish("", queue, b"x", pika.BasicProperties(user_id="app"))
        same("app", get_soon(mine, queue)[1].user_id, "the user")
        for certificate in (False,):
            try:
                connect(kit, certificate, pika.credentials.ExternalCredentials())
            except AMQPConnectionError:
                continue
            raise AssertionError("let in by EXTERNAL without a certificate")
        wait_for(channel, "the first goes on", lambda: channel.is_open)


if __name__ == "__main__":
    main()
