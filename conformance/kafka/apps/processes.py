"""What the cases of the applications share: Java processes that can be killed, and topics read to their ends."""

import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".."))
JARS = os.path.join(ROOT, ".tools", "apps")
sys.path.insert(0, ROOT)

from conformance.shared.broker import dies_with_parent, free_port  # noqa: E402, F401

# Of every kind of waiting, as little as possible.
COMMON = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "log_level": 0}


def note(text):
    """Progress, for a person; the harness shows it only when the program ends badly."""
    print(f"# {time.strftime('%H:%M:%S')} {text}", flush=True)


def unique(kind):
    return f"apps-{kind}-{uuid.uuid4().hex[:8]}"


def until(what, holds, seconds=90, alive=()):
    """Calls `holds` until it is true, as long as the processes `alive` are."""
    end = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        for process in alive:
            process.check()
        if time.monotonic() > end:
            tails = "".join(f"; {process.name} says: {process.tail()}" for process in alive)
            raise AssertionError(f"not within {seconds} s: {what}{tails}")
        time.sleep(0.1)


class Folder:
    """A temporary folder that goes away with its case."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="polymq-apps-")
        return self.path

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)


class Java:
    """A Java program of the applications' jars; its output goes to a file."""

    def __init__(self, name, folder, *command, jars=JARS, heap="256m", flags=()):
        self.name = name
        self.path = os.path.join(folder, f"{name}-{uuid.uuid4().hex[:6]}.log")
        classpath = f"{jars}/classes:{jars}/lib/*"
        with open(self.path, "wb") as log:
            self.child = subprocess.Popen(
                ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Xmx{heap}", *flags,
                 "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", classpath, *command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, preexec_fn=dies_with_parent)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def check(self):
        status = self.child.poll()
        assert status is None, f"{self.name} ended with {status}: {self.tail()}"

    def tail(self, characters=1500):
        with open(self.path, encoding="utf-8", errors="replace") as log:
            return " ".join(log.read()[-characters:].split())

    def says(self, text):
        with open(self.path, encoding="utf-8", errors="replace") as log:
            return text in log.read()

    def kill(self):
        """As a power cut would."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def stop(self, seconds=30):
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {seconds} s of SIGTERM: {self.tail()}") from None


@functools.cache
def admin(bootstrap):
    """One for the program: its calls fail when the client goes away before their answers come."""
    from confluent_kafka.admin import AdminClient
    return AdminClient({"bootstrap.servers": bootstrap, **COMMON})


def make_topic(bootstrap, name, partitions, config=None):
    from confluent_kafka.admin import NewTopic
    admin(bootstrap).create_topics([NewTopic(name, partitions, 1, config=config or {})])[name].result(30)
    until(f"{name} is known", lambda: name in admin(bootstrap).list_topics(timeout=10).topics)


def topic_config(bootstrap, name):
    from confluent_kafka.admin import ConfigResource, ResourceType
    resource = ConfigResource(ResourceType.TOPIC, name)
    return {key: entry.value for key, entry in admin(bootstrap).describe_configs([resource])[resource].result(30).items()}


def set_topic_config(bootstrap, name, key, value):
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
    entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    admin(bootstrap).incremental_alter_configs([resource])[resource].result(30)


def producer(bootstrap):
    from confluent_kafka import Producer
    return Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5, **COMMON})


def read_to_end(bootstrap, topic, seconds=60):
    """Every committed message, to the end of each partition."""
    from confluent_kafka import Consumer, KafkaException, TopicPartition
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": unique("reader"), "enable.auto.commit": False,
                       "isolation.level": "read_committed", "enable.partition.eof": True, "auto.offset.reset": "earliest", **COMMON})
    try:
        partitions = list(reader.list_topics(topic, timeout=20).topics[topic].partitions)
        reader.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        messages, ended, end = [], set(), time.monotonic() + seconds
        while len(ended) < len(partitions):
            assert time.monotonic() < end, f"read to the end of {len(ended)} of {len(partitions)} partitions of {topic}"
            for message in reader.consume(1000, 0.05):
                if not message.error():
                    messages.append(message)
                elif message.error().name() == "_PARTITION_EOF":
                    ended.add(message.partition())
                elif message.error().fatal():
                    raise KafkaException(message.error())
        return messages
    finally:
        reader.close()


def seeded():
    """Random moments that can be had again: APPS_SEED."""
    seed = int(os.environ.get("APPS_SEED", "1"))
    return random.Random(seed)

