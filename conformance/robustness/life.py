"""How it ends, and how gateways and clients fare when the core does not move."""

import signal
import threading
import time

from clients import Amqp, Kafka, Mqtt
from kit import Broker, Process, check, folder, free_port, wait_for

END_SECONDS_MAX = 10
STILL_SECONDS = 5


def ended_under_load():
    """SIGTERM while all protocols publish: it ends by itself, in bounded time, and what was acknowledged is there."""
    with folder() as at:
        running = Broker(at)
        try:
            running.start()
            kafka = Kafka(running.address("kafka"), timeout_ms=2000)
            kafka.create("load-records")
            first = Amqp(running.address("amqp"))
            first.channel.queue_declare("load-queue", durable=True)
            phone = Mqtt(running.address("mqtt"), "phone", clean=False)
            phone.subscribe("load-values/#")
            phone.close()
            stopping, of_mqtt = threading.Event(), []
            threads = [threading.Thread(target=load, args=(stopping,)) for load in (
                lambda stopping: produce(kafka, stopping), lambda stopping: publish(first, stopping), lambda stopping: tell(running, of_mqtt, stopping))]
            for thread in threads:
                thread.start()
            time.sleep(1.5)
            seconds = running.stop()
            stopping.set()
            for thread in threads:
                thread.join(20)
            check(seconds < END_SECONDS_MAX, f"it took {seconds:.1f} s to end")
            check(min(len(kafka.acknowledged["load-records"]), len(first.acknowledged), len(of_mqtt)) > 10, f"too little load: {len(kafka.acknowledged['load-records'])} {len(first.acknowledged)} {len(of_mqtt)}")
            again = running.start()
            other = Kafka(running.address("kafka"))
            other.acknowledged = kafka.acknowledged
            count = other.check_kept("load-records")
            amqp = Amqp(running.address("amqp"))
            there = amqp.drain("load-queue")
            check(there[:len(first.acknowledged)] == first.acknowledged, f"AMQP: {len(first.acknowledged)} confirmed, {len(there)} there")
            amqp.close()
            phone = Mqtt(running.address("mqtt"), "phone", clean=False)
            came = phone.messages(len(of_mqtt))
            check(came == of_mqtt, f"MQTT: {len(of_mqtt)} acknowledged, others came")
            phone.close()
            count += len(first.acknowledged) + len(of_mqtt)
            running.stop()
        finally:
            running.kill()
    return f"ended in {seconds:.1f} s, began again in {again:.1f} s, {count} acknowledged"


def produce(kafka, stopping):
    number = 0
    while not stopping.is_set():
        kafka.produce("load-records", [b"%d" % (number + more) for more in range(20)])
        number += 20


def publish(amqp, stopping):
    number = 0
    try:
        while not stopping.is_set():
            amqp.publish("load-queue", b"%d" % number)
            number += 1
    except Exception:  # The broker is gone: pika says it in a dozen ways.
        pass


def tell(running, acknowledged, stopping):
    number = 0
    try:
        client = Mqtt(running.address("mqtt"), "load")
        while not stopping.is_set():
            if client.publish("load-values/x", b"%d" % number) != 0:
                return
            acknowledged.append(b"%d" % number)
            number += 1
    except OSError:
        pass


class Split:
    """A core and three gateways, each a process."""

    def __init__(self, at):
        self.core_address = f"127.0.0.1:{free_port()}"
        self.addresses = {name: f"127.0.0.1:{free_port()}" for name in ("kafka", "amqp", "mqtt")}
        self.ready = {name: at / f"{name}.ready" for name in ("core", *self.addresses)}
        more = {"kafka": ["--group-initial-rebalance-delay-ms", "0"], "amqp": ["--management-listen", "none"], "mqtt": ["--listen-websocket", "none"]}
        self.processes = {"core": Process(at / "core.log", ["polymq-core", "--data", at / "data", "--listen", self.core_address, "--ready-file", self.ready["core"]])}
        for name, address in self.addresses.items():
            self.processes[name] = Process(at / f"{name}.log", [f"polymq-{name}", "--core", self.core_address, "--listen", address,
                                                                "--ready-file", self.ready[name], *more[name]])

    def address(self, name):
        return self.addresses[name]

    def __enter__(self):
        for name, process in self.processes.items():
            process.launch()
            wait_for(f"{name} is ready", self.ready[name].exists, 20)
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()


def a_core_that_stands_still(seconds=STILL_SECONDS):
    """SIGSTOP, with clients at its gateways: nothing is acknowledged meanwhile that is not kept, and when it moves again all goes on
    by itself, also for clients that were connected all the time."""
    with folder() as at, Split(at) as split:
        kafka = Kafka(split.address("kafka"), timeout_ms=60_000)
        kafka.create("still-records")
        amqp = Amqp(split.address("amqp"))
        amqp.channel.queue_declare("still-queue", durable=True)
        check(kafka.produce("still-records", [b"before"]) == 1 and amqp.publish("still-queue", b"before"), f"before: {kafka.errors}")
        core = split.processes["core"]
        core.child.send_signal(signal.SIGSTOP)
        stopping, of_mqtt = threading.Event(), []
        threads = [threading.Thread(target=produce_one, args=(kafka,)), threading.Thread(target=publish_one, args=(amqp,)),
                   threading.Thread(target=tell_one, args=(split, of_mqtt))]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        acknowledged = len(kafka.acknowledged["still-records"]) - 1, len(amqp.acknowledged) - 1, len(of_mqtt)
        check(acknowledged == (0, 0, 0), f"acknowledged by a core that stands still: {acknowledged}")
        busy = {name: process.cpu_seconds() for name, process in split.processes.items()}
        time.sleep(1)
        busy = {name: process.cpu_seconds() - busy[name] for name, process in split.processes.items()}
        check(max(busy.values()) < 0.3, f"CPU in a second in which nothing can happen: {busy}")
        begun = time.monotonic()
        core.child.send_signal(signal.SIGCONT)
        for thread in threads:
            thread.join(30)
        stopping.set()
        for name, process in split.processes.items():
            process.check_sound()
        check(kafka.produce("still-records", [b"after"]) >= 1, f"Kafka does not go on: {kafka.errors[-3:]}")
        goes_on(split)
        took = time.monotonic() - begun
        check(took < 20, f"{took:.0f} s until all went on")
        kafka.check_kept("still-records")
    return f"{seconds} s still; on again after {took:.1f} s"


def produce_one(kafka):
    kafka.produce("still-records", [b"meanwhile"])


def publish_one(amqp):
    try:
        amqp.publish("still-queue", b"meanwhile")
    except Exception:  # Closed, by whichever of pika's words.
        pass


def tell_one(split, acknowledged):
    try:
        client = Mqtt(split.address("mqtt"), "meanwhile")
        client.socket.settimeout(60)
        if client.publish("still-values/x", b"meanwhile") == 0:
            acknowledged.append(b"meanwhile")
    except (OSError, AssertionError):
        pass


def goes_on(split):
    def amqp_works():
        try:
            amqp = Amqp(split.address("amqp"))
            done = amqp.publish("still-queue", b"after")
            amqp.close()
            return done
        except Exception:  # Not yet.
            return False

    def mqtt_works():
        try:
            client = Mqtt(split.address("mqtt"), "after")
            done = client.publish("still-values/x", b"after") == 0
            client.close()
            return done
        except (OSError, AssertionError):
            return False

    wait_for("AMQP goes on", amqp_works, 20)
    wait_for("MQTT goes on", mqtt_works, 20)


CASES = [ended_under_load, a_core_that_stands_still]
