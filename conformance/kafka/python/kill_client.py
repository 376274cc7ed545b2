"""The client of the kill test: an idempotent librdkafka producer that numbers its records, and the check afterwards.

It lives as long as the test. Commands come as JSON lines on standard input, answers go as JSON lines to standard output:

    {"do": "produce", "bootstrap": B, "topic": T, "partitions": N, "seed": S}   answered once the first record is acknowledged
    {"do": "finish"}      stops producing, waits until every record is acknowledged; answers how many
    {"do": "verify", "bootstrap": B, "topic": T}       reads T back and compares it with what was acknowledged

A value is `NUMBER:CHECKSUM:PADDING`, numbered from 0 in each partition, so that a lost, doubled, displaced or damaged
record shows.
"""

import json
import random
import sys
import threading
import time
import zlib

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

# Of every kind of waiting for a dead broker, as little as possible.
COMMON = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 10, "retry.backoff.max.ms": 200,
          "socket.connection.setup.timeout.ms": 2000, "log_level": 0, "topic.metadata.refresh.interval.ms": 1000}
FINISH_SECONDS = 60


def value(number, generator):
    padding = "x" * generator.randrange(20, 400)
    return f"{number}:{zlib.crc32(f'{number}:{padding}'.encode())}:{padding}".encode()


def number_of(value_bytes):
    """The number in a value; raises ValueError where the value is damaged."""
    number, checksum, padding = value_bytes.decode().split(":")
    if zlib.crc32(f"{number}:{padding}".encode()) != int(checksum):
        raise ValueError("checksum")
    return int(number)


class Load:
    """Produces, and commits offsets of a group, until told to finish."""

    def __init__(self, bootstrap, topic, partitions, seed):
        self.topic, self.partitions = topic, partitions
        self.generator = random.Random(seed)
        self.sent = [0] * partitions
        # Partition, then number, to the offset that the acknowledgement told.
        self.acknowledged = [{} for _ in range(partitions)]
        self.errors = []
        self.first = threading.Event()
        self.stopping = threading.Event()
        self.committed = self.attempted = -1
        admin = AdminClient({"bootstrap.servers": bootstrap, **COMMON})
        admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(20)
        self.producer = Producer({
            "bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all", "message.timeout.ms": FINISH_SECONDS * 1000,
            "request.timeout.ms": 3000, "linger.ms": self.generator.choice([0, 1, 5]), "compression.type": self.generator.choice(["none", "lz4", "zstd"]),
            "max.in.flight": self.generator.choice([1, 5]), **COMMON})
        self.group = f"{topic}-group"
        self.consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": self.group, "enable.auto.commit": False, **COMMON})
        self.threads = [threading.Thread(target=self.produce, daemon=True), threading.Thread(target=self.commit, daemon=True)]
        for thread in self.threads:
            thread.start()

    def produce(self):
        try:
            while not self.stopping.is_set():
                for _ in range(self.generator.randrange(1, 40)):
                    partition = self.generator.randrange(self.partitions)
                    number = self.sent[partition]
                    self.sent[partition] += 1
                    self.producer.produce(self.topic, value(number, self.generator), partition=partition,
                                          on_delivery=lambda error, message, number=number: self.delivered(error, message, number))
                self.producer.poll(0.002)
        except Exception as error:
            self.errors.append(f"producing: {error}")
            self.first.set()

    def delivered(self, error, message, number):
        if error:
            self.errors.append(f"record {number} of partition {message.partition()}: {error}")
        else:
            self.acknowledged[message.partition()][number] = message.offset()
        self.first.set()

    def commit(self):
        while not self.stopping.is_set():
            self.attempted += 1
            try:
                self.consumer.commit(offsets=[TopicPartition(self.topic, 0, self.attempted)], asynchronous=False)
                self.committed = self.attempted
            except KafkaException:
                pass  # the broker is down: what was attempted may or may not be there
            self.stopping.wait(0.005)

    def finish(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(FINISH_SECONDS)
        left = self.producer.flush(FINISH_SECONDS)
        if left:
            self.errors.append(f"{left} records were never acknowledged")
        self.consumer.close()


def read_back(bootstrap, topic, partitions, group):
    """Every record, partition to a list of (offset, value); and what the group has committed."""
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False,
                       "enable.partition.eof": True, "check.crcs": True, "fetch.wait.max.ms": 50, **COMMON})
    reader.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    records, ended, end = [[] for _ in range(partitions)], set(), time.monotonic() + FINISH_SECONDS
    try:
        while len(ended) < partitions:
            if time.monotonic() > end:
                raise TimeoutError(f"read to the end of {len(ended)} of {partitions} partitions only")
            for message in reader.consume(1000, 0.02):
                if not message.error():
                    records[message.partition()].append((message.offset(), message.value()))
                elif message.error().name() == "_PARTITION_EOF":
                    ended.add(message.partition())
                elif message.error().fatal() or message.error().name() in ("_AUTO_OFFSET_RESET", "_BAD_MSG", "_BAD_COMPRESSION"):
                    raise KafkaException(message.error())
        return records, reader.committed([TopicPartition(topic, 0)], 20)[0].offset
    finally:
        reader.close()


def verify(bootstrap, load):
    """The faults found; none is well."""
    faults = list(load.errors[:3])
    everything, found = read_back(bootstrap, load.topic, load.partitions, load.group)
    for partition, records in enumerate(everything):
        where = f"{load.topic}-{partition}"
        numbers = []
        if [offset for offset, _ in records] != list(range(len(records))):
            faults.append(f"{where}: offsets are not 0 to {len(records) - 1}")
        for offset, value_bytes in records:
            try:
                numbers.append(number_of(value_bytes))
            except ValueError:
                faults.append(f"{where}: the value at offset {offset} is damaged")
                break
        told = load.acknowledged[partition]
        missing = sorted(set(told) - set(numbers))
        if missing:
            faults.append(f"{where}: {len(missing)} acknowledged records are lost, first {missing[0]}")
        if len(numbers) != len(set(numbers)):
            faults.append(f"{where}: {len(numbers) - len(set(numbers))} records are there twice")
        if numbers != sorted(numbers):
            faults.append(f"{where}: records are out of order")
        displaced = [number for (offset, _), number in zip(records, numbers) if number in told and told[number] != offset]
        if displaced and not missing:
            faults.append(f"{where}: {len(displaced)} records are not at the offset that was acknowledged, first {displaced[0]}")
    if not load.committed <= found <= load.attempted:
        faults.append(f"{load.topic}: committed offset {found}, acknowledged was {load.committed}, last tried {load.attempted}")
    return faults


def main():
    loads = {}
    current = None
    for line in sys.stdin:
        command = json.loads(line)
        answer = {}
        try:
            if command["do"] == "produce":
                current = Load(command["bootstrap"], command["topic"], command["partitions"], command["seed"])
                loads[command["topic"]] = current
                if not current.first.wait(20):
                    answer["fault"] = "no record was acknowledged within 20 s"
            elif command["do"] == "finish":
                current.finish()
                answer = {"records": sum(map(len, current.acknowledged)), "sent": sum(current.sent)}
            elif command["do"] == "verify":
                faults = verify(command["bootstrap"], loads[command["topic"]])
                if faults:
                    answer["fault"] = "; ".join(faults)
            elif command["do"] == "forget":
                loads.clear()
        except Exception as error:
            answer["fault"] = f"{command['do']}: {type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
