"""kafka-python: the client that speaks the protocol in Python alone."""

import pathlib
import sys
import threading
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.errors import (CommitFailedError, IllegalGenerationError, InvalidConfigurationError, InvalidPartitionsError,
                          InvalidReplicationFactorError, InvalidTopicError, KafkaError, MessageSizeTooLargeError,
                          NoOffsetForPartitionError, OffsetOutOfRangeError, RebalanceInProgressError,
                          TopicAlreadyExistsError, UnknownMemberIdError, UnknownTopicOrPartitionError)
from kafka.structs import OffsetAndMetadata

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3]))

from conformance.shared import kit  # noqa: E402
from conformance.shared.kit import case, same, until  # noqa: E402

CLIENT = "kafka-python"


class Clients:
    """Closes at the end of the case what was opened in it."""

    def __init__(self, bootstrap):
        self.bootstrap, self.opened = bootstrap, []
        self.admin = self.keep(KafkaAdminClient(bootstrap_servers=bootstrap))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for client in reversed(self.opened):
            client.close()

    def keep(self, client):
        self.opened.append(client)
        return client

    def producer(self, **config):
        return self.keep(KafkaProducer(bootstrap_servers=self.bootstrap, **config))

    def consumer(self, *topics, **config):
        return self.keep(self.loose_consumer(*topics, **config))

    def loose_consumer(self, *topics, **config):
        settings = dict(auto_offset_reset="earliest", enable_auto_commit=False, session_timeout_ms=10000,
                        heartbeat_interval_ms=500, metadata_max_age_ms=2000)
        settings.update(config)
        return KafkaConsumer(*topics, bootstrap_servers=self.bootstrap, **settings)

    def topic(self, partitions, config=None):
        topic = kit.unique(CLIENT, "topic")
        self.admin.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1, "configs": config or {}}})

        def led():
            try:
                return self.admin.list_partition_offsets({TopicPartition(topic, partition): -1 for partition in range(partitions)})
            except (KafkaError, ValueError):
                return False

        until(f"{topic} has leaders", led)
        return topic

    def read_all(self, topic, partitions, count, **config):
        reader = self.consumer(**config)
        reader.assign([TopicPartition(topic, partition) for partition in range(partitions)])
        reader.seek_to_beginning()
        return read(reader, count)


def read(reader, count, seconds=kit.DEADLINE_SECONDS):
    records, end = [], time.monotonic() + seconds
    while len(records) < count and time.monotonic() < end:
        for part in reader.poll(timeout_ms=200).values():
            records += part
    assert len(records) >= count, f"read {len(records)} of {count} records"
    return records


def send(producer, topic, values, partition=0):
    futures = [producer.send(topic, value, key=b"k%d" % number, partition=partition) for number, value in enumerate(values)]
    producer.flush(60)
    return [future.get(60) for future in futures]


def fails(wanted, what, call):
    try:
        answer = call()
    except wanted:
        return
    raise AssertionError(f"{what}: wanted {wanted}, but it succeeded with {answer}")


def simple(function):
    """A case that takes the clients of its own."""
    def run(bootstrap):
        with Clients(bootstrap) as clients:
            function(clients)

    run.__name__ = function.__name__
    return case(run)


@simple
def produce_consume(clients):
    topic, producer = clients.topic(3), clients.producer()
    for partition in range(3):
        answers = send(producer, topic, [b"p%d-%d" % (partition, i) for i in range(30)], partition)
        same(list(range(30)), [answer.offset for answer in answers], "offsets told")
    seen = {0: 0, 1: 0, 2: 0}
    for record in clients.read_all(topic, 3, 90):
        offset = seen[record.partition]
        seen[record.partition] += 1
        same((offset, b"k%d" % offset, b"p%d-%d" % (record.partition, offset)), (record.offset, record.key, record.value), "record")


@simple
def auto_create(clients):
    topic = kit.unique(CLIENT, "auto")
    same([0], [answer.offset for answer in send(clients.producer(), topic, [b"v"])], "offset")
    same(b"v", clients.read_all(topic, 1, 1)[0].value, "value")


@simple
def idempotent_produce(clients):
    topic = clients.topic(1)
    send(clients.producer(enable_idempotence=True, batch_size=512), topic, [b"%d" % i for i in range(1000)])
    same([b"%d" % i for i in range(1000)], [record.value for record in clients.read_all(topic, 1, 1000)], "order")


@simple
def acks(clients):
    for level in (0, 1, "all"):
        topic = clients.topic(1)
        send(clients.producer(acks=level, enable_idempotence=False), topic, [b"%d" % i for i in range(50)])
        same(b"49", clients.read_all(topic, 1, 50)[49].value, f"last value with acks={level}")


def compression(codec):
    def run(clients):
        topic, values = clients.topic(1), kit.compressible_values(300)
        send(clients.producer(compression_type=None if codec == "none" else codec, linger_ms=20), topic, values)
        same(values, [record.value for record in clients.read_all(topic, 1, 300)], "values")

    run.__name__ = f"compression_{codec}"
    simple(run)


for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
    compression(codec)


@simple
def headers(clients):
    topic = clients.topic(1)
    sent = [header for header in kit.HEADERS if header[1] is not None]  # this client sends no null values
    clients.producer().send(topic, b"v", headers=sent).get(60)
    same(sent, list(clients.read_all(topic, 1, 1)[0].headers), "headers")


@simple
def tombstones(clients):
    topic, producer = clients.topic(1), clients.producer()
    pairs = [(b"k", None), (None, b"v"), (b"", b"")]
    for key, value in pairs:
        producer.send(topic, value, key=key).get(60)
    same(pairs, [(record.key, record.value) for record in clients.read_all(topic, 1, 3)], "keys and values")


@simple
def seek_by_timestamp(clients):
    topic = clients.topic(1)
    partition = TopicPartition(topic, 0)
    producer, start = clients.producer(), int(time.time() * 1000) - 100_000
    for i in range(50):
        producer.send(topic, b"%d" % i, partition=0, timestamp_ms=start + i * 100)
    producer.flush(60)
    reader = clients.consumer()
    reader.assign([partition])
    for i in (0, 17, 49):
        found = reader.offsets_for_times({partition: start + i * 100 - 50})[partition]
        same((i, start + i * 100), (found.offset, found.timestamp), "offset and time")
        reader.seek(partition, found.offset)
        same(b"%d" % i, read(reader, 1)[0].value, "first record after the seek")
    same({partition: None}, reader.offsets_for_times({partition: start + 100_000}), "after the last record")


@simple
def list_offsets(clients):
    topic = clients.topic(1)
    partition = TopicPartition(topic, 0)
    send(clients.producer(), topic, [b"v"] * 3)
    reader = clients.consumer()
    same({partition: 0}, reader.beginning_offsets([partition]), "earliest")
    same({partition: 3}, reader.end_offsets([partition]), "latest")


@simple
def many_partitions(clients):
    topic, producer = clients.topic(50), clients.producer(linger_ms=5)
    for i in range(1000):
        producer.send(topic, b"%d" % i, partition=i % 50)
    producer.flush(60)
    same(set(range(1000)), {int(record.value) for record in clients.read_all(topic, 50, 1000)}, "values")


@simple
def pause_resume(clients):
    topic, producer, reader = clients.topic(2), clients.producer(), clients.consumer()
    both = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    reader.assign(both)
    reader.seek_to_beginning()
    reader.pause(both[0])
    send(producer, topic, [b"v"] * 10, 0)
    send(producer, topic, [b"v"] * 10, 1)
    same({1}, {record.partition for record in read(reader, 10)}, "partitions while 0 is paused")
    reader.resume(both[0])
    same({0}, {record.partition for record in read(reader, 10)}, "partitions after resuming")


@simple
def read_committed(clients):
    topic = clients.topic(1)
    send(clients.producer(), topic, [b"%d" % i for i in range(50)])
    same(b"49", clients.read_all(topic, 1, 50, isolation_level="read_committed")[49].value, "last value")


class Member(threading.Thread, ConsumerRebalanceListener):
    """A member on a thread of its own: polls, notes what it read, commits, until told to leave."""

    def __init__(self, clients, group, topic, seen, **config):
        super().__init__(daemon=True)
        self.clients, self.group, self.topic, self.seen, self.config = clients, group, topic, seen, config
        self.owned, self.leaving, self.failure = set(), False, None
        self.start()

    def on_partitions_revoked(self, revoked):
        self.owned = set()

    def on_partitions_assigned(self, assigned):
        self.owned = {partition.partition for partition in assigned}

    def run(self):
        reader = self.clients.loose_consumer(group_id=self.group, **self.config)
        try:
            reader.subscribe([self.topic], listener=self)
            while not self.leaving:
                for records in reader.poll(timeout_ms=100).values():
                    for record in records:
                        self.seen[record.value] = self.seen.get(record.value, 0) + 1
                try:
                    reader.commit()
                except (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError):
                    pass  # rebalanced meanwhile: the partition's new owner reads it again
        except BaseException as error:
            self.failure = error
        finally:
            reader.close()
            self.owned = set()

    def leave(self):
        self.leaving = True
        self.join(60)
        if self.failure:
            raise self.failure


def await_shared(partitions, *members):
    def shared():
        for member in members:
            if member.failure:
                raise member.failure
        owned = [list(member.owned) for member in members]
        return all(owned) and sorted(sum(owned, [])) == list(range(partitions))

    until(f"{partitions} partitions are shared among {len(members)} members", shared)


@simple
def group_rebalance(clients):
    topic, group, seen = clients.topic(6), kit.unique(CLIENT, "group"), {}
    producer, phase = clients.producer(), [0]

    def produce():
        for i in range(300):
            producer.send(topic, b"%d-%d" % (phase[0], i), partition=i % 6)
        producer.flush(60)
        phase[0] += 1

    first = Member(clients, group, topic, seen)
    produce()
    await_shared(6, first)
    second = Member(clients, group, topic, seen)
    produce()
    await_shared(6, first, second)
    second.leave()
    produce()
    await_shared(6, first)
    until("every record is read", lambda: first.failure or len(seen) == phase[0] * 300)
    first.leave()


@simple
def commit_resume(clients):
    topic, group = clients.topic(1), kit.unique(CLIENT, "group")
    partition = TopicPartition(topic, 0)
    send(clients.producer(), topic, [b"%d" % i for i in range(100)])
    reader = clients.loose_consumer(topic, group_id=group, max_poll_records=30)
    read(reader, 30)
    reader.commit({partition: OffsetAndMetadata(30, "a note", -1)})
    reader.close()
    reader = clients.consumer(topic, group_id=group)
    same(30, reader.committed(partition), "committed")
    same([b"%d" % i for i in range(30, 100)], [record.value for record in read(reader, 70)], "values after resuming")


@simple
def admin_topics(clients):
    topic = clients.topic(2)
    assert topic in clients.admin.list_topics(), "the topic is listed"
    clients.admin.create_partitions({topic: 5})
    until("it has five partitions", lambda: len(clients.admin.describe_topics([topic])[0]["partitions"]) == 5)
    clients.admin.delete_topics([topic])
    until("it is gone", lambda: topic not in clients.admin.list_topics())


def config(clients, topic):
    described = clients.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
    return {name: entry["value"] for name, entry in list(described.values())[0][topic].items()}


@simple
def admin_incremental_alter(clients):
    topic = clients.topic(1, {"retention.ms": "1234567"})
    assert len(config(clients, topic)) >= 23, "settings are described"
    clients.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": "3000"})])
    until("max.message.bytes is set", lambda: config(clients, topic)["max.message.bytes"] == "3000")
    same("1234567", config(clients, topic)["retention.ms"], "another setting")
    clients.admin.reset_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=["max.message.bytes"])])
    until("max.message.bytes is back", lambda: config(clients, topic)["max.message.bytes"] != "3000")


@simple
def admin_delete_records(clients):
    topic = clients.topic(1)
    send(clients.producer(), topic, [b"%d" % i for i in range(50)])
    clients.admin.delete_records({TopicPartition(topic, 0): 20})
    same(b"20", clients.read_all(topic, 1, 30)[0].value, "first record left")


@simple
def admin_groups(clients):
    topic, group = clients.topic(1), kit.unique(CLIENT, "group")
    partition = TopicPartition(topic, 0)
    send(clients.producer(), topic, [b"v"] * 10)
    reader = clients.loose_consumer(topic, group_id=group)
    read(reader, 10)
    reader.commit()
    same("Stable", clients.admin.describe_groups([group])[group]["group_state"], "state")
    assert group in [listed["group_id"] for listed in clients.admin.list_groups()], "the group is listed"
    same(10, clients.admin.list_group_offsets([group])[group][partition].offset, "committed offset")
    reader.close()
    until("the group is empty", lambda: clients.admin.describe_groups([group])[group]["group_state"] == "Empty")
    clients.admin.delete_groups([group])
    assert group not in [listed["group_id"] for listed in clients.admin.list_groups()], "the group is gone"


@simple
def admin_cluster(clients):
    assert clients.admin.describe_cluster()["brokers"], "brokers are told"
    topic = clients.topic(1)
    send(clients.producer(), topic, [bytes(5_000)])
    sizes = [partition["partition_size"] for broker in clients.admin.describe_log_dirs() for directory in broker["log_dirs"]
             for entry in directory["topics"] if entry["name"] == topic for partition in entry["partitions"]]
    assert sizes and sizes[0] > 4_000, f"log directories tell sizes, got {sizes}"


@simple
def errors_create_topic(clients):
    def create(name, partitions=1, replicas=1, configs=None):
        return lambda: clients.admin.create_topics({name: {"num_partitions": partitions, "replication_factor": replicas, "configs": configs or {}}})

    fails(TopicAlreadyExistsError, "the same name", create(clients.topic(1)))
    fails(InvalidPartitionsError, "no partitions", create(kit.unique(CLIENT, "new"), 0))
    fails(InvalidReplicationFactorError, "nine replicas", create(kit.unique(CLIENT, "new"), 1, 9))
    fails(InvalidTopicError, "a name with a space", create("not allowed"))
    fails(InvalidConfigurationError, "a bad setting", create(kit.unique(CLIENT, "new"), configs={"retention.ms": "soon"}))
    fails(UnknownTopicOrPartitionError, "deleting what is not there", lambda: clients.admin.delete_topics([kit.unique(CLIENT, "absent")]))


@simple
def errors_record_too_large(clients):
    topic, producer = clients.topic(1, {"max.message.bytes": "10000"}), clients.producer(max_request_size=10_000_000)
    fails(MessageSizeTooLargeError, "50 kB into a topic of 10 kB", lambda: producer.send(topic, bytes(50_000), partition=0).get(60))
    # Another producer: this client's idempotent one repeats the failure for what follows, on Apache Kafka too.
    same(0, clients.producer().send(topic, b"v", partition=0).get(60).offset, "offset of the next record")


@simple
def errors_offset_out_of_range(clients):
    topic = clients.topic(1)
    send(clients.producer(), topic, [b"v"] * 10)
    reader = clients.consumer(auto_offset_reset="none")
    reader.assign([TopicPartition(topic, 0)])
    reader.seek(TopicPartition(topic, 0), 500)
    fails((OffsetOutOfRangeError, NoOffsetForPartitionError), "offset 500 of 10", lambda: [reader.poll(1000) for _ in range(10)])


if __name__ == "__main__":
    import logging
    logging.disable(logging.CRITICAL)
    kit.main()
