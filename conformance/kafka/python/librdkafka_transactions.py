"""librdkafka's transactional producer, through confluent-kafka, and its group.protocol=consumer."""

import pathlib
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition, OFFSET_BEGINNING

import librdkafka as base

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3]))

from conformance.shared import kit  # noqa: E402
from conformance.shared.kit import case, same, until  # noqa: E402

# The cases of the plain client have a program of their own.
kit.CASES.clear()


def transactional(bootstrap, identity, **config):
    client = base.producer(bootstrap, transactional_id=identity, **config)
    client.init_transactions(30)
    return client


def committed(bootstrap, topic, partitions=1):
    """The values that a read_committed reader finds, up to the end as it is now."""
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": kit.unique(base.CLIENT, "group"), "isolation.level": "read_committed",
                       "enable.partition.eof": True, "enable.auto.commit": False, "log_level": 3, "fetch.wait.max.ms": 50})
    reader.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(partitions)])
    values, ended, end = [], 0, time.monotonic() + kit.DEADLINE_SECONDS
    try:
        while ended < partitions:
            assert time.monotonic() < end, f"not at the end of {topic}"
            message = reader.poll(0.2)
            if message is None:
                continue
            if message.error() and message.error().code() == KafkaError._PARTITION_EOF:
                ended += 1
            elif message.error():
                raise KafkaException(message.error())
            else:
                values.append(message.value())
        return values
    finally:
        reader.close()


@case
def tx_commit(bootstrap):
    topic = base.make_topic(bootstrap, 1)
    client = transactional(bootstrap, kit.unique(base.CLIENT, "tx"), compression_type="zstd")
    client.begin_transaction()
    base.send(client, topic, [b"a%d" % i for i in range(50)], 0)
    same([], committed(bootstrap, topic), "read_committed, before the commit")
    client.commit_transaction(30)
    same([b"a%d" % i for i in range(50)], committed(bootstrap, topic), "read_committed, after the commit")


@case
def tx_abort(bootstrap):
    topic = base.make_topic(bootstrap, 2)
    client = transactional(bootstrap, kit.unique(base.CLIENT, "tx"))
    wanted = []
    for number in range(20):
        client.begin_transaction()
        for partition in range(2):
            client.produce(topic, b"%d" % number, partition=partition)
        if number % 4 == 3:
            # What is still in the client's queue it would drop, and never send.
            assert client.flush(30) == 0
            client.abort_transaction(30)
        else:
            client.commit_transaction(30)
            wanted += [b"%d" % number] * 2
    same(sorted(wanted), sorted(committed(bootstrap, topic, 2)), "read_committed")


@case
def tx_zombie_fenced(bootstrap):
    topic, identity = base.make_topic(bootstrap, 1), kit.unique(base.CLIENT, "tx")
    zombie = transactional(bootstrap, identity)
    zombie.begin_transaction()
    base.send(zombie, topic, [b"zombie"] * 3, 0)
    heir = transactional(bootstrap, identity)
    heir.begin_transaction()
    base.send(heir, topic, [b"heir"] * 3, 0)
    try:
        zombie.commit_transaction(30)
        raise AssertionError("a zombie committed")
    except KafkaException as error:
        assert error.args[0].fatal() or error.args[0].code() == KafkaError._FENCED, f"the zombie's commit ended with {error}"
    heir.commit_transaction(30)
    same([b"heir"] * 3, committed(bootstrap, topic), "read_committed")


@case
def tx_consume_transform_produce(bootstrap):
    source, copy, group = base.make_topic(bootstrap, 2), base.make_topic(bootstrap, 2), kit.unique(base.CLIENT, "group")
    plain = base.producer(bootstrap)
    for partition in range(2):
        base.send(plain, source, [b"%d" % i for i in range(300)], partition)
    copied = 0
    for life in range(100):
        if copied == 600:
            break
        client = transactional(bootstrap, group)
        reader = base.consumer(bootstrap, group_id=group, isolation_level="read_committed")
        reader.subscribe([source])
        for turn in range(5):
            messages = reader.consume(40, 5 if turn == 0 else 1)
            if not messages:
                continue
            client.begin_transaction()
            for message in messages:
                assert message.error() is None, message.error()
                client.produce(copy, message.value(), message.key(), message.partition())
            client.send_offsets_to_transaction(reader.position(reader.assignment()), reader.consumer_group_metadata(), 30)
            if turn == 3:
                # The next life begins where the last commit was.
                client.abort_transaction(30)
                break
            client.commit_transaction(30)
            copied += len(messages)
        reader.close()
    for partition in range(2):
        found = [message.value() for message in base.read_all(bootstrap, copy, 2, 600, isolation_level="read_committed")
                 if message.partition() == partition]
        same([b"%d" % i for i in range(300)], found, f"the copy of partition {partition}")


@case
def tx_timeout(bootstrap):
    topic, identity = base.make_topic(bootstrap, 1), kit.unique(base.CLIENT, "tx")
    client = transactional(bootstrap, identity, transaction_timeout_ms=1500, message_timeout_ms=1500)
    client.begin_transaction()
    base.send(client, topic, [b"abandoned"] * 3, 0)
    base.send(base.producer(bootstrap), topic, [b"plain"], 0)
    until("the abandoned transaction is aborted", lambda: committed(bootstrap, topic) == [b"plain"])
    try:
        client.commit_transaction(30)
        raise AssertionError("the commit of a transaction that timed out succeeded")
    except KafkaException:
        pass  # which error it is depends on the versions of both sides
    heir = transactional(bootstrap, identity)
    heir.begin_transaction()
    base.send(heir, topic, [b"heir"], 0)
    heir.commit_transaction(30)
    same([b"plain", b"heir"], committed(bootstrap, topic), "read_committed")


@case
def consumer_protocol(bootstrap):
    """Members of the new protocol share a topic while it is written, and one leaves."""
    topic, group = base.make_topic(bootstrap, 4), kit.unique(base.CLIENT, "group")
    seen, lock, members = {}, threading.Lock(), []

    class Member(threading.Thread):
        def __init__(self):
            super().__init__(daemon=True)
            self.owned, self.failure, self.leaving = set(), None, threading.Event()
            self.start()

        def run(self):
            try:
                reader = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "group.protocol": "consumer", "enable.auto.commit": True,
                                   "auto.offset.reset": "earliest", "log_level": 3, "fetch.wait.max.ms": 100})
                reader.subscribe([topic])
                while not self.leaving.is_set():
                    message = reader.poll(0.1)
                    self.owned = {place.partition for place in reader.assignment()}
                    if message is not None and not message.error():
                        with lock:
                            seen[message.value()] = seen.get(message.value(), 0) + 1
                reader.close()
                self.owned = set()
            except KafkaException as error:
                self.failure = error

    def shared(*wanted):
        until(f"4 partitions are shared among {len(wanted)} members", lambda: not any(m.failure for m in wanted) and all(m.owned for m in wanted)
              and sorted(sum((list(m.owned) for m in wanted), [])) == [0, 1, 2, 3])

    client = base.producer(bootstrap)
    members.append(Member())
    base.send(client, topic, [b"a%d" % i for i in range(200)])
    shared(members[0])
    members.append(Member())
    base.send(client, topic, [b"b%d" % i for i in range(200)])
    shared(*members)
    members[0].leaving.set()
    base.send(client, topic, [b"c%d" % i for i in range(200)])
    shared(members[1])
    until("every record is read", lambda: len(seen) == 600)
    members[1].leaving.set()
    for member in members:
        member.join(30)


if __name__ == "__main__":
    kit.main()
