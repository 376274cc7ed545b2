"""Several gateways on one core are one cluster: real processes, a real client (librdkafka), and kill -9.

    .tools/python/bin/python conformance/kafka/cluster/run.py BINARIES [--seconds N] [--gateways N] [--seed N]

Groups of both protocols are spread over the gateways; each has two members that commit as they read. While a producer goes on, a gateway
is killed and started again, then another one, and so on. In the end every group must have read every acknowledged
record, in order within each partition but for what was read again, and every group's commits must have reached the end.
Transactional producers, whose ids are spread too, commit a record each whenever a gateway has died and when it is back.
"""

import argparse
import atexit
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka.admin import KafkaAdminClient

TOPIC, PARTITIONS, GROUPS, TRANSACTIONAL_IDS = "records", 6, 8, 8
SESSION_MS = 2000
ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
sys.path.insert(0, ROOT)

from conformance.shared.broker import free_port  # noqa: E402
from conformance.shared.kafka_raw import Connection  # noqa: E402

NOT_COORDINATOR = 16

# Every other group has the consumer protocol (KIP-848), whose times are the broker's to say.
PROTOCOLS = {
    "classic": {"session.timeout.ms": 10000, "heartbeat.interval.ms": 500, "partition.assignment.strategy": "cooperative-sticky"},
    "consumer": {"group.protocol": "consumer"},
}

# That a killed gateway is away, librdkafka need not say.
QUIET = {"log_level": 2}


def until(what, holds, seconds=60):
    end = time.monotonic() + seconds
    while True:
        try:
            value = holds()
        except KafkaException as error:
            # The client may have asked a gateway that was just killed, and has to ask again.
            if error.args[0].code() != KafkaError._TIMED_OUT:
                raise
            value = None
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


class Process:
    def __init__(self, folder, name, command):
        self.ready, self.log = f"{folder}/{name}.ready", open(f"{folder}/{name}.log", "ab")
        if os.path.exists(self.ready):
            os.remove(self.ready)
        environment = {**os.environ, "POLYMQ_LOG": "info"}
        self.process = subprocess.Popen(command + ["--ready-file", self.ready], stdout=self.log, stderr=self.log, env=environment)

        # Whatever fails: nothing goes on after the test.
        atexit.register(self.process.kill)

        def is_ready():
            assert self.process.poll() is None, f"{name} ended: see {folder}/{name}.log"
            return os.path.exists(self.ready)

        until(f"{name} is ready", is_ready)
        self.addresses = json.load(open(self.ready))

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait(30)


class Member(threading.Thread):
    """One member of a group: reads and commits until told to stop. `last` is, by partition, the last number that the group has committed."""

    def __init__(self, bootstrap, group, protocol, seen, last, stop):
        super().__init__(daemon=True)
        self.protocol = protocol
        self.bootstrap, self.group, self.seen, self.last, self.stop, self.error = bootstrap, group, seen, last, stop, None

    def run(self):
        consumer = Consumer({
            "bootstrap.servers": self.bootstrap, "group.id": self.group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
            "topic.metadata.refresh.interval.ms": 2000, "reconnect.backoff.max.ms": 500, **PROTOCOLS[self.protocol], **QUIET,
        })
        try:
            consumer.subscribe([TOPIC])
            while not self.stop.is_set():
                messages = consumer.consume(500, 0.2)
                for message in messages:
                    if message.error() is None:
                        self.seen.add((message.partition(), int(message.value())))
                if messages:
                    try:
                        committed = consumer.commit(asynchronous=False)
                    except KafkaException:
                        continue  # A gateway died, or the group moves: what was read is read again.
                    taken = {place.partition for place in committed if place.error is None}
                    self.last.update({message.partition(): int(message.value()) for message in messages
                                      if message.error() is None and message.partition() in taken})
        except Exception as error:
            self.error = error
        finally:
            consumer.close()


class Transactions:
    """Producers that commit a record each when they are told to."""

    def __init__(self, bootstrap, topic):
        self.bootstrap, self.topic, self.committed = bootstrap, topic, []
        self.producers = [
            Producer({"bootstrap.servers": bootstrap, "transactional.id": f"id-{index}", "reconnect.backoff.max.ms": 500, **QUIET})
            for index in range(TRANSACTIONAL_IDS)]
        for producer in self.producers:
            producer.init_transactions(30)

    def go_on(self):
        for producer in self.producers:
            number = len(self.committed)
            producer.begin_transaction()
            producer.produce(self.topic, str(number), partition=number % PARTITIONS)
            producer.commit_transaction(30)
            self.committed.append(number)

    def check(self):
        reader = Consumer({
            "bootstrap.servers": self.bootstrap, "group.id": "transactions", "auto.offset.reset": "earliest",
            "isolation.level": "read_committed", "enable.partition.eof": True, **QUIET})
        reader.assign([TopicPartition(self.topic, index, 0) for index in range(PARTITIONS)])
        found, ended = [], set()

        def read():
            for message in reader.consume(500, 0.2):
                if message.error() is None:
                    found.append(int(message.value()))
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
            return len(ended) == PARTITIONS

        until("what was committed is read", read)
        reader.close()
        assert sorted(found) == self.committed, f"{len(self.committed)} committed, {len(found)} read"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binaries")
    parser.add_argument("--seconds", type=int, default=40)
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    data = os.path.join(ROOT, ".data")
    os.makedirs(data, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="cluster-", dir=data)
    core = Process(folder, "core", [f"{options.binaries}/polymq-core", "--data", f"{folder}/data", "--listen", "127.0.0.1:0"])
    ports = [free_port() for _ in range(options.gateways)]

    def gateway(index):
        return Process(folder, f"kafka-{index}", [
            f"{options.binaries}/polymq-kafka", "--core", core.addresses["core"], "--listen", f"127.0.0.1:{ports[index]}",
            "--session-timeout-ms", str(SESSION_MS), "--group-initial-rebalance-delay-ms", "200",
        ])

    gateways = [gateway(index) for index in range(options.gateways)]
    bootstrap = ",".join(f"127.0.0.1:{port}" for port in ports)
    admin = AdminClient({"bootstrap.servers": bootstrap, **QUIET})

    # All are named, and share partitions and groups.
    metadata = until("all gateways are named", lambda: (lambda told: len(told.brokers) == options.gateways and told)(admin.list_topics(timeout=5)))
    assert sorted(broker.port for broker in metadata.brokers.values()) == sorted(ports), metadata.brokers
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result()
    groups = [f"group-{index}" for index in range(GROUPS)]

    many = "spread"
    admin.create_topics([NewTopic(many, 40, 1)])[many].result()
    partitions = until("the topic is known", lambda: admin.list_topics(many, timeout=5).topics[many].partitions)
    leaders = {partition.leader for partition in partitions.values()}
    assert leaders == set(metadata.brokers), f"the partitions are not spread: {leaders} lead"
    for port in ports:
        # librdkafka answers this with what Metadata says.
        asking = KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}")
        named = [broker["port"] for broker in asking.describe_cluster()["brokers"]]
        asking.close()
        assert sorted(named) == sorted(ports), f"{port} names {named}"

    acknowledged, failures, stop = set(), [], threading.Event()
    # The number that is written next.
    written = [0]

    def produce():
        producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5, "message.timeout.ms": 120000, **QUIET})
        number = 0
        while not stop.is_set():
            for partition in range(PARTITIONS):
                def told(error, message, number=number):
                    if error:
                        failures.append(error)
                    else:
                        acknowledged.add((message.partition(), number))
                producer.produce(TOPIC, str(number), partition=partition, on_delivery=told)
            number += 1
            written[0] = number
            producer.poll(0.002)
        assert producer.flush(60) == 0

    seen, last = {group: set() for group in groups}, {group: {} for group in groups}
    end_reading = threading.Event()
    members = [
        Member(bootstrap, group, "consumer" if index % 2 else "classic", seen[group], last[group], end_reading)
        for index, group in enumerate(groups) for _ in range(2)]

    def all_go_on():
        """Whether each group commits, in every partition, what is written from now on."""
        now = written[0]
        return lambda: all(last[group].get(partition, -1) >= now for group in groups for partition in range(PARTITIONS))

    producing = threading.Thread(target=produce, daemon=True)
    producing.start()
    for member in members:
        member.start()
    until("every group reads", lambda: all(seen[group] for group in groups))
    described = admin.describe_consumer_groups(groups)
    coordinators = {group: future.result().coordinator.port for group, future in described.items()}
    assert len(set(coordinators.values())) > 1, f"the groups are not spread: {coordinators}"
    print("coordinators:", coordinators, flush=True)
    for group, coordinator in coordinators.items():
        for port in ports:
            error = Connection(f"127.0.0.1:{port}").offsets_error(group)
            assert error == (0 if port == coordinator else NOT_COORDINATOR), f"{group} is {coordinator}'s, and {port} answers {error}"

    transactions = Transactions(bootstrap, many)
    transactions.go_on()
    end = time.monotonic() + options.seconds
    kills = 0
    while time.monotonic() < end:
        index = chance.randrange(options.gateways)
        died = time.monotonic()
        gateways[index].end(signal.SIGKILL)
        kills += 1
        if chance.random() < 0.5:
            # Dead for longer than its session: the others take its groups over.
            until("the dead gateway is no longer named", lambda: len(admin.list_topics(timeout=5).brokers) < options.gateways)
            until("all groups go on without it", all_go_on())
            transactions.go_on()
            print(f"kafka-{index} killed: all groups went on after {time.monotonic() - died:.1f} s", flush=True)
        gateways[index] = gateway(index)
        until("it is back", lambda: len(admin.list_topics(timeout=5).brokers) == options.gateways)
        until("all groups go on", all_go_on())
        transactions.go_on()
        time.sleep(chance.uniform(0.5, 2))
    stop.set()
    producing.join()
    assert not failures, failures[:5]
    until("every group has read everything", lambda: all(acknowledged <= seen[group] for group in groups), 90)
    time.sleep(1)
    end_reading.set()
    for member in members:
        member.join()
        assert member.error is None, member.error
    for group in groups:
        assert seen[group] == acknowledged, f"{group} read what nobody wrote"
        reader = Consumer({"bootstrap.servers": bootstrap, "group.id": group, **QUIET})
        for partition in reader.committed([TopicPartition(TOPIC, index) for index in range(PARTITIONS)], timeout=20):
            _, high = reader.get_watermark_offsets(partition, timeout=20)
            assert partition.offset == high, f"{group}: committed {partition.offset} of {high} in {partition.partition}"
        reader.close()
    transactions.check()
    for process in gateways + [core]:
        process.end(signal.SIGTERM)
        assert process.process.returncode == 0, f"ended with {process.process.returncode}: logs in {folder}"
    shutil.rmtree(folder)
    print(f"ok: {kills} kills, {len(acknowledged)} records, each read by {GROUPS} groups; nothing lost", flush=True)


if __name__ == "__main__":
    sys.exit(main())
