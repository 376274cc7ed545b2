"""Peers that mean harm, or are slow: too many connections, halves of frames, random bytes, readers that do not read."""

import random
import socket
import struct
import threading
import time

from clients import Amqp, Kafka, Mqtt, connect, fetch, mqtt_packet, mqtt_string
from kit import broker, check, folder, wait_for

# What begins a conversation on each port, cut off.
HALVES = {
    "kafka": struct.pack(">ihhi", 1000, 18, 3, 1) + b"\0\1x",
    "amqp": b"AMQP\0\0\x09",
    "mqtt": mqtt_packet(0x10, mqtt_string(b"MQTT") + b"\5\2\0\x3c" + b"\0" + mqtt_string(b"half" * 20))[:20],
    "mqtt-ws": b"GET /mqtt HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nSec-WebSocket-",
    "management": b"GET /api/overview HTTP/1.1\r\nHost: here\r\nAuthorization: Bas",
    "admin": b"GET /metrics HTTP/1.1\r\nHos",
    "core": struct.pack("<I", 100_000) + b"\1\2\3",
}
CONNECTIONS = 300


def each_serves(running):
    """A client of each protocol is served, and who watches."""
    kafka = Kafka(running.address("kafka"))
    check(kafka.produce("served-records", [b"x"]) == 1, f"Kafka: {kafka.errors}")
    amqp = Amqp(running.address("amqp"))
    amqp.channel.queue_declare("served-queue", durable=True)
    check(amqp.publish("served-queue", b"x"), "AMQP")
    amqp.close()
    mqtt = Mqtt(running.address("mqtt"), "served")
    check(mqtt.publish("served-values/x", b"x") == 0, "MQTT")
    mqtt.close()
    check(running.health()[0] == 200, f"health: {running.health()}")


def halves_of_frames():
    """Hundreds of connections on each port that send half a frame and then nothing: all others are served, memory stays, and
    those that never said who they are are closed."""
    with folder() as at, broker(at) as running:
        each_serves(running)
        before, held = running.resident_mebibytes(), {name: [] for name in HALVES}
        for name, half in HALVES.items():
            # The health port serves few at a time, and those that do not ask for two seconds only.
            for _ in range(CONNECTIONS if name != "admin" else 100):
                peer = connect(running, name)
                peer.sendall(half)
                held[name].append(peer)
        each_serves(running)
        grown = running.resident_mebibytes() - before
        check(grown < 60, f"{grown:.0f} MiB more")
        cpu = running.cpu_seconds()
        time.sleep(1)
        cpu = running.cpu_seconds() - cpu
        check(cpu < 0.3, f"{cpu:.2f} s of CPU in a second in which nothing happens")
        for name in ("amqp", "mqtt"):
            wait_for(f"{name}: the halves are closed", lambda name=name: all(is_closed(peer) for peer in held[name]), 15)
        count = sum(len(peers) for peers in held.values())
        for peers in held.values():
            for peer in peers:
                peer.close()
        each_serves(running)
    return f"{count} connections, {grown * 1024 / count:.1f} KiB each"


def is_closed(peer):
    peer.settimeout(0.01)
    try:
        while peer.recv(4096):
            pass
        return True
    except TimeoutError:
        return False
    except OSError:
        return True


def random_bytes():
    """Noise, and noise behind a right beginning, on every port: nothing panics, nothing grows, everybody else is served."""
    generator = random.Random(7)
    with folder() as at, broker(at) as running:
        each_serves(running)
        before, sent = running.resident_mebibytes(), 0
        for round_number in range(40):
            for name, half in HALVES.items():
                noise = generator.randbytes(generator.choice((1, 7, 64, 1500, 70_000)))
                peer = connect(running, name)
                try:
                    peer.sendall(noise if round_number % 2 else half + noise)
                    peer.shutdown(socket.SHUT_WR)
                    peer.settimeout(0.02)
                    peer.recv(4096)
                except OSError:
                    pass
                peer.close()
                sent += 1
        each_serves(running)
        grown = running.resident_mebibytes() - before
        check(grown < 60, f"{grown:.0f} MiB more")
    return f"{sent} connections, {grown:.0f} MiB more"


def few_files():
    """More connections than the process may have files: those beyond wait, who is connected goes on, the log says so without
    filling, and nothing spins; when the crowd has gone, all are served."""
    with folder() as at, broker(at, prefix=["prlimit", "--nofile=160:160"]) as running:
        kafka = Kafka(running.address("kafka"))
        check(kafka.produce("topic", [b"before"]) == 1, f"before: {kafka.errors}")
        crowd = [connect(running, name) for _ in range(70) for name in ("kafka", "mqtt", "amqp")]
        wait_for("the process is out of files", lambda: "cannot accept" in running.log(), 10)
        cpu, lines = running.cpu_seconds(), running.log().count("\n")
        time.sleep(2)
        cpu, lines = running.cpu_seconds() - cpu, running.log().count("\n") - lines
        check(cpu < 0.5, f"{cpu:.2f} s of CPU in 2 s")
        check(lines < 20, f"{lines} lines of log in 2 s: {running.tail()}")
        check(kafka.produce("topic", [b"meanwhile"] * 10) == 10, f"meanwhile: {kafka.errors}")
        for peer in crowd:
            peer.close()
        wait_for("new clients are served again", lambda: running.open_files() < 150, 20)
        each_serves(running)
        kafka.check_kept("topic")
    return f"{cpu / 2:.0%} of a CPU meanwhile"


# ---- readers that do not read ------------------------------------------------------------------------------------


def slow_readers():
    """One subscriber of each protocol that takes nothing while 67 MiB are published: memory stays bounded, publishers go
    on, and what was promised to the slow one comes when it reads."""
    figures = []
    with folder() as at, broker(at, "--core-cache-bytes", 8 << 20, packs=32 << 20) as running:
        each_serves(running)
        body = random.Random(1).randbytes(100_000)
        # What a fetch asks for is read for it: eight of 50 MB.
        for (slow, load, finish), bound in ((slow_mqtt(0), 56), (slow_mqtt(1), 56), (slow_amqp(), 56), (slow_kafka(), 440)):
            what = slow.__doc__
            subscriber = slow(running)
            before, most, begun = running.resident_mebibytes(), 0.0, time.monotonic()
            ended = threading.Event()

            def watch():
                nonlocal most
                while not ended.wait(0.05):
                    most = max(most, running.resident_mebibytes() - before)

            watcher = threading.Thread(target=watch)
            watcher.start()
            try:
                bytes_sent = load(running, body)
            finally:
                ended.set()
                watcher.join()
            seconds = time.monotonic() - begun
            check(most < bound, f"{what}: {most:.0f} MiB more, at most {bound} were expected")
            finish(running, subscriber)
            figures.append(f"{what} {bytes_sent >> 20} MiB in {seconds:.1f} s: {most:+.0f} MiB")
        each_serves(running)
    return "; ".join(figures)


LOAD_MESSAGES = 700


def slow_mqtt(qos):
    name = f"slow{qos}"

    def slow(running):
        subscriber = Mqtt(running.address("mqtt"), name, receive_buffer=4096)
        subscriber.subscribe(f"{name}/#", qos)
        return subscriber

    def load(running, body):
        publisher = Mqtt(running.address("mqtt"), f"load-{name}")
        window, sent = 0, 0
        for number in range(LOAD_MESSAGES):
            publisher.identifier = number % 60_000 + 1
            identifier = struct.pack(">H", publisher.identifier)
            publisher.send(0x30 | 1 << 1, mqtt_string(f"{name}/x".encode()) + identifier + b"\0" + struct.pack(">I", number) + body)
            sent, window = sent + len(body), window + 1
            if window == 20:
                for _ in range(window):
                    kind, answer = publisher.receive()
                    check(kind == 0x40 and len(answer) < 3, f"{kind:#x} {answer.hex()}")
                window = 0
        publisher.close()
        return sent

    def finish(running, subscriber):
        if qos:
            came = [struct.unpack(">I", payload[:4])[0] for payload in subscriber.messages(LOAD_MESSAGES)]
            check(came == list(range(LOAD_MESSAGES)), "QoS 1: what came is not what was published")
        subscriber.socket.close()

    slow.__doc__ = f"MQTT QoS {qos}"
    return slow, load, finish


def slow_amqp():
    def slow(running):
        """AMQP no-ack"""
        amqp = Amqp(running.address("amqp"))
        amqp.channel.queue_declare("slow-queue", durable=True)
        amqp.channel._impl.basic_consume("slow-queue", lambda *_: None, auto_ack=True)
        amqp.connection.process_data_events(0)
        return amqp

    def load(running, body):
        amqp = Amqp(running.address("amqp"))
        for number in range(LOAD_MESSAGES):
            check(amqp.publish("slow-queue", struct.pack(">I", number) + body), "not confirmed")
        amqp.close()
        return LOAD_MESSAGES * len(body)

    def finish(running, amqp):
        amqp.abort()

    return slow, load, finish


def slow_kafka():
    def slow(running):
        """Kafka fetches"""
        return None

    def load(running, body):
        kafka = Kafka(running.address("kafka"))
        kafka.create("slow-records")
        for _ in range(LOAD_MESSAGES // 100):
            check(kafka.produce("slow-records", [body] * 100) == 100, f"{kafka.errors[-1:]}")
        # Fetches of 50 MB each, asked one behind the other and not read.
        peers = [connect(running, "kafka") for _ in range(8)]
        for peer in peers:
            for correlation in range(4):
                peer.sendall(fetch(correlation, b"slow-records", 50 << 20))
        time.sleep(1)
        for peer in peers:
            peer.close()
        return LOAD_MESSAGES * len(body)

    def finish(running, _):
        pass

    return slow, load, finish


CASES = [halves_of_frames, random_bytes, few_files, slow_readers]
