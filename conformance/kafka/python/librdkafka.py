"""librdkafka, through confluent-kafka."""

import functools
import pathlib
import sys
import threading
import time

from confluent_kafka import (Consumer, ConsumerGroupState, IsolationLevel, KafkaError, KafkaException, Producer,
                             TopicPartition, OFFSET_BEGINNING, TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME)
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic,
                                   OffsetSpec, ResourceType)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3]))

from conformance.shared import kit  # noqa: E402
from conformance.shared.kit import case, same, until  # noqa: E402

CLIENT = "librdkafka"


@functools.cache
def admin(bootstrap):
    """One for the program: its calls fail when the client goes away before their answers come."""
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 3})


def make_topic(bootstrap, partitions, config=None):
    topic = kit.unique(CLIENT, "topic")
    result(admin(bootstrap).create_topics([NewTopic(topic, partitions, 1, config=config or {})])[topic])
    # Led, not only known: asking for offsets says so. A client remembers for half a minute that it did not know a topic,
    # so each attempt is a new one.
    ends = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in range(partitions)}

    def led():
        client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 3})
        try:
            return all(future.result(10) is not None for future in client.list_offsets(ends).values())
        except KafkaException:
            return False

    until(f"{topic} has leaders", led)
    return topic


def result(future):
    return future.result(kit.DEADLINE_SECONDS)


def producer(bootstrap, **config):
    settings = {"bootstrap.servers": bootstrap, "log_level": 3, "linger.ms": 0, "message.timeout.ms": 60000}
    settings.update({name.replace("_", "."): value for name, value in config.items()})
    return Producer(settings)


def send(client, topic, values, partition=None, **more):
    """Sends all, waits for all, answers the delivered messages in order of delivery."""
    delivered, errors = [], []

    def report(error, message):
        (errors if error else delivered).append(error or message)

    for number, value in enumerate(values):
        arguments = dict(more)
        if partition is not None:
            arguments["partition"] = partition
        client.produce(topic, value=value, key=f"k{number}".encode(), on_delivery=report, **arguments)
        client.poll(0)
    same(0, client.flush(60), "messages not delivered")
    if errors:
        raise KafkaException(errors[0])
    return delivered


def consumer(bootstrap, **config):
    settings = {"bootstrap.servers": bootstrap, "group.id": kit.unique(CLIENT, "group"), "auto.offset.reset": "earliest",
                "log_level": 3, "enable.auto.commit": False, "session.timeout.ms": 10000, "heartbeat.interval.ms": 500, "fetch.wait.max.ms": 200}
    settings.update({name.replace("_", "."): value for name, value in config.items()})
    return Consumer(settings)


def read(client, count, seconds=kit.DEADLINE_SECONDS):
    messages, end = [], time.monotonic() + seconds
    while len(messages) < count and time.monotonic() < end:
        for message in client.consume(count - len(messages), 0.2):
            if message.error():
                raise KafkaException(message.error())
            messages.append(message)
    assert len(messages) >= count, f"read {len(messages)} of {count} records"
    return messages


def read_all(bootstrap, topic, partitions, count, **config):
    client = consumer(bootstrap, **config)
    client.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(partitions)])
    try:
        return read(client, count)
    finally:
        client.close()


def fails(code, what, call):
    """Runs what must fail, and checks the broker's own error code."""
    try:
        answer = call()
    except KafkaException as error:
        got = error.args[0]
        assert got.code() == code, f"{what}: wanted error {code}, got {got.code()} {got.name()}: {got.str()}"
        return got
    raise AssertionError(f"{what}: wanted error {code}, but it succeeded with {answer}")


@case
def produce_consume(bootstrap):
    topic = make_topic(bootstrap, 3)
    client = producer(bootstrap)
    for partition in range(3):
        messages = send(client, topic, [f"p{partition}-{i}".encode() for i in range(30)], partition, timestamp=1700000000000)
        same(list(range(30)), [message.offset() for message in messages], "offsets told")
    seen = {0: 0, 1: 0, 2: 0}
    for message in read_all(bootstrap, topic, 3, 90):
        offset = seen[message.partition()]
        seen[message.partition()] += 1
        same(offset, message.offset(), "offset read")
        same(f"p{message.partition()}-{offset}".encode(), message.value(), "value")
        same(f"k{offset}".encode(), message.key(), "key")
        same((TIMESTAMP_CREATE_TIME, 1700000000000), message.timestamp(), "timestamp")


@case
def auto_create(bootstrap):
    topic = kit.unique(CLIENT, "auto")
    same(0, send(producer(bootstrap), topic, [b"v"], 0)[0].offset(), "first offset of a topic nobody created")
    same(b"v", read_all(bootstrap, topic, 1, 1)[0].value(), "value")


@case
def idempotent_produce(bootstrap):
    topic = make_topic(bootstrap, 1)
    client = producer(bootstrap, enable_idempotence=True, batch_num_messages=20)
    messages = send(client, topic, [b"%d" % i for i in range(2000)], 0)
    same(list(range(2000)), [message.offset() for message in messages], "offsets")
    same([b"%d" % i for i in range(2000)], [message.value() for message in read_all(bootstrap, topic, 1, 2000)], "order")


@case
def acks(bootstrap):
    for level in ("0", "1", "all"):
        topic = make_topic(bootstrap, 1)
        send(producer(bootstrap, acks=level), topic, [b"%d" % i for i in range(50)], 0)
        same(b"49", read_all(bootstrap, topic, 1, 50)[49].value(), f"last value with acks={level}")


def compression(codec):
    def run(bootstrap):
        topic = make_topic(bootstrap, 1)
        values = kit.compressible_values(300)
        send(producer(bootstrap, compression_type=codec, linger_ms=20), topic, values, 0)
        same(values, [message.value() for message in read_all(bootstrap, topic, 1, 300)], "values")
        # librdkafka stops compressing without a word where it thinks the broker is too old: look at what is stored.
        stored = stored_bytes(bootstrap, topic)
        plain = sum(map(len, values))
        assert (codec == "none") == (stored > plain * 0.8), f"{codec}: {plain} bytes are stored as {stored}"

    run.__name__ = f"compression_{codec}"
    case(run)


def stored_bytes(bootstrap, topic):
    """The size of a topic's partition 0, from DescribeLogDirs; this client has no call for it, kafka-python has."""
    from kafka.admin import KafkaAdminClient
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        for broker in client.describe_log_dirs():
            for directory in broker["log_dirs"]:
                for entry in directory["topics"]:
                    if entry["name"] == topic:
                        return sum(partition["partition_size"] for partition in entry["partitions"])
    finally:
        client.close()
    raise AssertionError(f"no log directory names {topic}")


for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
    compression(codec)


@case
def headers(bootstrap):
    topic = make_topic(bootstrap, 1)
    send(producer(bootstrap), topic, [b"v"], 0, headers=kit.HEADERS)
    same(kit.HEADERS, read_all(bootstrap, topic, 1, 1)[0].headers(), "headers")


@case
def tombstones(bootstrap):
    topic = make_topic(bootstrap, 1)
    client = producer(bootstrap)
    pairs = [(b"k", None), (None, b"v"), (None, None), (b"", b"")]
    for key, value in pairs:
        client.produce(topic, key=key, value=value, partition=0)
    same(0, client.flush(60), "messages not delivered")
    same(pairs, [(message.key(), message.value()) for message in read_all(bootstrap, topic, 1, 4)], "keys and values")


@case
def seek_by_timestamp(bootstrap):
    topic = make_topic(bootstrap, 1)
    client = producer(bootstrap)
    start = int(time.time() * 1000) - 100_000
    for ten in range(10):
        for i in range(ten * 10, ten * 10 + 10):
            client.produce(topic, b"%d" % i, partition=0, timestamp=start + i * 100)
        same(0, client.flush(60), "messages not delivered")
    reader = consumer(bootstrap)
    for i in (0, 1, 37, 50, 99):
        found = reader.offsets_for_times([TopicPartition(topic, 0, start + i * 100 - 50)], 10)[0]
        same(i, found.offset, "offset for a time just before it")
        reader.assign([found])
        same(b"%d" % i, read(reader, 1)[0].value(), "first record after the seek")
    same(-1, reader.offsets_for_times([TopicPartition(topic, 0, start + 100_000)], 10)[0].offset, "after the last record")
    reader.close()


@case
def list_offsets(bootstrap):
    topic = make_topic(bootstrap, 1)
    partition = TopicPartition(topic, 0)
    start = int(time.time() * 1000) - 50_000
    client = producer(bootstrap)
    for time_ms in (start + 10, start + 900, start + 20):
        client.produce(topic, b"v", partition=0, timestamp=time_ms)
        same(0, client.flush(60), "messages not delivered")

    def ask(spec, **more):
        return result(admin(bootstrap).list_offsets({partition: spec}, **more)[partition])

    same(0, ask(OffsetSpec.earliest()).offset, "earliest")
    same(3, ask(OffsetSpec.latest()).offset, "latest")
    same(3, ask(OffsetSpec.latest(), isolation_level=IsolationLevel.READ_COMMITTED).offset, "latest stable")
    same((1, start + 900), (ask(OffsetSpec.max_timestamp()).offset, ask(OffsetSpec.max_timestamp()).timestamp), "max timestamp")
    same(1, ask(OffsetSpec.for_timestamp(start + 15)).offset, "first at or after a time")
    reader = consumer(bootstrap)
    same((0, 3), reader.get_watermark_offsets(partition, 10), "watermarks")
    reader.close()


@case
def log_append_time(bootstrap):
    topic = make_topic(bootstrap, 1, {"message.timestamp.type": "LogAppendTime"})
    before = int(time.time() * 1000)
    send(producer(bootstrap), topic, [b"v"], 0, timestamp=1000)
    kind, stamp = read_all(bootstrap, topic, 1, 1)[0].timestamp()
    same(TIMESTAMP_LOG_APPEND_TIME, kind, "timestamp type")
    assert stamp >= before, f"the broker's time, got {stamp}"


@case
def large_batches(bootstrap):
    topic = make_topic(bootstrap, 1)
    values = [bytes([i]) * (900_000 if i % 4 == 0 else 100_000) for i in range(40)]
    send(producer(bootstrap, batch_size=1_000_000, linger_ms=50), topic, values, 0)
    messages = read_all(bootstrap, topic, 1, 40, max_partition_fetch_bytes=10_000, fetch_max_bytes=1_000_000, message_max_bytes=1_000_000)
    same(values, [message.value() for message in messages], "values")


@case
def order_under_pressure(bootstrap):
    """A producer that does not number its batches, and sends more than the broker takes at once."""
    topic = make_topic(bootstrap, 1)
    client, errors = producer(bootstrap, max_in_flight=1000, queue_buffering_max_kbytes=400_000), []
    for number in range(200):
        client.produce(topic, value=number.to_bytes(4, "big") + bytes(900_000), partition=0,
                       on_delivery=lambda error, _: error and errors.append(error))
    same(0, client.flush(60), "messages not delivered")
    same([], errors, "errors")
    messages = read_all(bootstrap, topic, 1, 200)
    same(list(range(200)), [int.from_bytes(message.value()[:4], "big") for message in messages], "order")


@case
def many_partitions(bootstrap):
    topic = make_topic(bootstrap, 100)
    client = producer(bootstrap, linger_ms=5)
    for i in range(1000):
        client.produce(topic, b"%d" % i, partition=i % 100)
    same(0, client.flush(60), "messages not delivered")
    messages = read_all(bootstrap, topic, 100, 1000)
    same(set(range(1000)), {int(message.value()) for message in messages}, "values")


@case
def manual_assignment(bootstrap):
    topic = make_topic(bootstrap, 2)
    send(producer(bootstrap), topic, [b"%d" % i for i in range(20)], 1)
    reader = consumer(bootstrap)
    reader.assign([TopicPartition(topic, 1, 15)])
    same([b"%d" % i for i in range(15, 20)], [message.value() for message in read(reader, 5)], "values from offset 15")
    reader.seek(TopicPartition(topic, 1, 3))
    same(b"3", read(reader, 1)[0].value(), "value after a seek")
    reader.close()


@case
def pause_resume(bootstrap):
    topic = make_topic(bootstrap, 2)
    client = producer(bootstrap)
    reader = consumer(bootstrap)
    reader.assign([TopicPartition(topic, 0, 0), TopicPartition(topic, 1, 0)])
    reader.pause([TopicPartition(topic, 0)])
    send(client, topic, [b"v"] * 10, 0)
    send(client, topic, [b"v"] * 10, 1)
    same({1}, {message.partition() for message in read(reader, 10)}, "partitions while 0 is paused")
    same([], reader.consume(1, 0.3), "from a paused partition")
    reader.resume([TopicPartition(topic, 0)])
    same({0}, {message.partition() for message in read(reader, 10)}, "partitions after resuming")
    reader.close()


@case
def read_committed(bootstrap):
    topic = make_topic(bootstrap, 1)
    send(producer(bootstrap), topic, [b"%d" % i for i in range(100)], 0)
    same(b"99", read_all(bootstrap, topic, 1, 100, isolation_level="read_committed")[99].value(), "last value")


@case
def long_poll(bootstrap):
    topic = make_topic(bootstrap, 1)
    reader = consumer(bootstrap, fetch_wait_max_ms=15_000, socket_timeout_ms=30_000)
    reader.assign([TopicPartition(topic, 0, 0)])
    same([], reader.consume(1, 0.5), "nothing there yet")
    send(producer(bootstrap), topic, [b"v"], 0)
    start = time.monotonic()
    read(reader, 1)
    took = time.monotonic() - start
    assert took < 2, f"a waiting fetch answered {took:.1f} s after the record was acknowledged"
    reader.close()


class Member(threading.Thread):
    """A member on a thread of its own: polls, notes what it read, commits, until told to leave."""

    def __init__(self, bootstrap, group, topic, seen, **config):
        super().__init__(daemon=True)
        self.client = consumer(bootstrap, group_id=group, **config)
        self.cooperative = config.get("partition_assignment_strategy") == "cooperative-sticky"
        self.topic, self.seen = topic, seen
        self.owned, self.assignments, self.leaving, self.failure = set(), 0, False, None
        self.start()

    def run(self):
        def assigned(client, partitions):
            self.assignments += 1
            self.owned |= {partition.partition for partition in partitions}

        def revoked(client, partitions):
            self.owned -= {partition.partition for partition in partitions}

        try:
            self.client.subscribe([self.topic], on_assign=assigned, on_revoke=revoked, on_lost=revoked)
            while not self.leaving:
                messages = [message for message in self.client.consume(200, 0.1)]
                for message in messages:
                    if message.error():
                        raise KafkaException(message.error())
                    self.seen[message.value()] = self.seen.get(message.value(), 0) + 1
                if messages:
                    try:
                        self.client.commit(asynchronous=False)
                    except KafkaException as error:
                        # Rebalanced meanwhile: the partition's new owner reads it again.
                        if error.args[0].code() not in (KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID,
                                                        KafkaError.REBALANCE_IN_PROGRESS, KafkaError._NO_OFFSET):
                            raise
        except Exception as error:
            self.failure = error
        finally:
            self.client.close()
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


def rebalance(bootstrap, strategy):
    topic = make_topic(bootstrap, 6)
    group, seen, client = kit.unique(CLIENT, "group"), {}, producer(bootstrap)
    phase = [0]

    def produce():
        for i in range(300):
            client.produce(topic, b"%d-%d" % (phase[0], i), partition=i % 6)
        same(0, client.flush(60), "messages not delivered")
        phase[0] += 1

    first = Member(bootstrap, group, topic, seen, partition_assignment_strategy=strategy)
    produce()
    await_shared(6, first)
    second = Member(bootstrap, group, topic, seen, partition_assignment_strategy=strategy)
    produce()
    await_shared(6, first, second)
    third = Member(bootstrap, group, topic, seen, partition_assignment_strategy=strategy)
    produce()
    await_shared(6, first, second, third)
    second.leave()
    produce()
    await_shared(6, first, third)
    first.leave()
    produce()
    await_shared(6, third)
    until("every record is read", lambda: third.failure or len(seen) == phase[0] * 300)
    third.leave()


@case
def group_rebalance(bootstrap):
    rebalance(bootstrap, "range")


@case
def group_cooperative(bootstrap):
    rebalance(bootstrap, "cooperative-sticky")


@case
def static_membership(bootstrap):
    topic = make_topic(bootstrap, 4)
    group, seen = kit.unique(CLIENT, "group"), {}
    other = Member(bootstrap, group, topic, seen, group_instance_id="other", session_timeout_ms=20000)
    before = Member(bootstrap, group, topic, seen, group_instance_id="restarted", session_timeout_ms=20000)
    await_shared(4, other, before)
    owned, assignments = set(before.owned), other.assignments
    before.leave()
    after = Member(bootstrap, group, topic, seen, group_instance_id="restarted", session_timeout_ms=20000)
    until("the restarted member owns its partitions again", lambda: after.failure or after.owned == owned)
    same(assignments, other.assignments, "rebalances seen by the other member")
    after.leave()
    other.leave()


@case
def commit_resume(bootstrap):
    topic = make_topic(bootstrap, 1)
    group = kit.unique(CLIENT, "group")
    send(producer(bootstrap), topic, [b"%d" % i for i in range(100)], 0)
    reader = consumer(bootstrap, group_id=group)
    reader.subscribe([topic])
    read(reader, 30)
    committed = TopicPartition(topic, 0, 30, "a note")
    reader.commit(offsets=[committed], asynchronous=False)
    reader.close()
    reader = consumer(bootstrap, group_id=group)
    found = reader.committed([TopicPartition(topic, 0)], 10)[0]
    same((30, "a note"), (found.offset, found.metadata), "committed")
    reader.subscribe([topic])
    same([b"%d" % i for i in range(30, 100)], [message.value() for message in read(reader, 70)], "values after resuming")
    reader.close()


@case
def admin_topics(bootstrap):
    client, topic = admin(bootstrap), kit.unique(CLIENT, "topic")
    result(client.create_topics([NewTopic(topic, 2, 1, config={"retention.ms": "3600000"})])[topic])
    until("the topic is listed", lambda: topic in client.list_topics(timeout=10).topics)
    result(client.create_partitions([NewPartitions(topic, 5)])[topic])
    until("it has five partitions", lambda: len(client.list_topics(topic, timeout=10).topics[topic].partitions) == 5)
    result(client.delete_topics([topic])[topic])
    until("the topic is gone", lambda: topic not in client.list_topics(timeout=10).topics)


@case
def admin_describe_configs(bootstrap):
    topic = make_topic(bootstrap, 1, {"retention.ms": "1234567"})
    resource = ConfigResource(ResourceType.TOPIC, topic)
    entries = result(admin(bootstrap).describe_configs([resource])[resource])
    same("1234567", entries["retention.ms"].value, "retention.ms")
    same(False, entries["retention.ms"].is_default, "retention.ms is a default")
    same(True, entries["segment.ms"].is_default, "segment.ms is a default")
    assert len(entries) >= 23, f"only {len(entries)} settings are described"


@case
def admin_incremental_alter(bootstrap):
    topic, client = make_topic(bootstrap, 1, {"retention.ms": "1234567"}), admin(bootstrap)

    def alter(name, value, operation):
        entry = ConfigEntry(name, value, incremental_operation=operation)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        result(client.incremental_alter_configs([resource])[resource])

    def value(name):
        resource = ConfigResource(ResourceType.TOPIC, topic)
        return result(client.describe_configs([resource])[resource])[name].value

    alter("max.message.bytes", "2000", AlterConfigOpType.SET)
    until("max.message.bytes is set", lambda: value("max.message.bytes") == "2000")
    same("1234567", value("retention.ms"), "another setting")
    alter("max.message.bytes", None, AlterConfigOpType.DELETE)
    until("max.message.bytes is back", lambda: value("max.message.bytes") != "2000")


@case
def admin_alter_configs_old(bootstrap):
    topic, client = make_topic(bootstrap, 1, {"retention.ms": "1234567"}), admin(bootstrap)
    resource = ConfigResource(ResourceType.TOPIC, topic, set_config={"max.message.bytes": "3000"})
    result(client.alter_configs([resource])[resource])

    def entries():
        described = ConfigResource(ResourceType.TOPIC, topic)
        return result(client.describe_configs([described])[described])

    until("max.message.bytes is set", lambda: entries()["max.message.bytes"].value == "3000")
    same(True, entries()["retention.ms"].is_default, "what the old request does not name is a default again")


@case
def admin_delete_records(bootstrap):
    topic = make_topic(bootstrap, 1)
    send(producer(bootstrap), topic, [b"%d" % i for i in range(50)], 0)
    answer = admin(bootstrap).delete_records([TopicPartition(topic, 0, 20)])
    same(20, result(list(answer.values())[0]).low_watermark, "low watermark")
    same(b"20", read_all(bootstrap, topic, 1, 30)[0].value(), "first record left")


@case
def admin_groups(bootstrap):
    topic, group, client = make_topic(bootstrap, 1), kit.unique(CLIENT, "group"), admin(bootstrap)
    send(producer(bootstrap), topic, [b"v"] * 10, 0)
    reader = consumer(bootstrap, group_id=group)
    reader.subscribe([topic])
    read(reader, 10)
    reader.commit(asynchronous=False)
    description = result(client.describe_consumer_groups([group])[group])
    same(ConsumerGroupState.STABLE, description.state, "state")
    same([[TopicPartition(topic, 0)]], [member.assignment.topic_partitions for member in description.members], "assignments")
    assert group in {listing.group_id for listing in result(client.list_consumer_groups()).valid}, "the group is listed"
    fails(KafkaError.NON_EMPTY_GROUP, "deleting a group with members", lambda: result(client.delete_consumer_groups([group])[group]))
    reader.close()
    until("the group is empty", lambda: result(client.describe_consumer_groups([group])[group]).state == ConsumerGroupState.EMPTY)
    result(client.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 3)])])[group])
    asked = ConsumerGroupTopicPartitions(group)
    same([3], [found.offset for found in result(client.list_consumer_group_offsets([asked])[group]).topic_partitions], "altered offset")
    result(client.delete_consumer_groups([group])[group])
    fails(KafkaError.GROUP_ID_NOT_FOUND, "deleting it again", lambda: result(client.delete_consumer_groups([group])[group]))


@case
def admin_cluster(bootstrap):
    cluster = result(admin(bootstrap).describe_cluster())
    assert cluster.cluster_id and cluster.nodes and cluster.controller, "cluster id, nodes and controller are told"


@case
def errors_unknown_topic(bootstrap):
    topic = kit.unique(CLIENT, "absent")
    client = admin(bootstrap)
    fails(KafkaError.UNKNOWN_TOPIC_OR_PART, "delete", lambda: result(client.delete_topics([topic])[topic]))
    resource = ConfigResource(ResourceType.TOPIC, topic)
    fails(KafkaError.UNKNOWN_TOPIC_OR_PART, "describe configs", lambda: result(client.describe_configs([resource])[resource]))
    reader = consumer(bootstrap, allow_auto_create_topics=False)
    reader.subscribe([topic])
    message = reader.poll(10)
    same(KafkaError.UNKNOWN_TOPIC_OR_PART, message and message.error() and message.error().code(), "subscribed to a topic that is not there")
    reader.close()
    known = make_topic(bootstrap, 1)
    fails(KafkaError._UNKNOWN_PARTITION, "a partition that is not there", lambda: send(producer(bootstrap, message_timeout_ms=3000), known, [b"v"], 9))


@case
def errors_create_topic(bootstrap):
    client, topic = admin(bootstrap), make_topic(bootstrap, 2)

    def create(name, partitions, replicas):
        return lambda: result(client.create_topics([NewTopic(name, partitions, replicas)])[name])

    fails(KafkaError.TOPIC_ALREADY_EXISTS, "the same name", create(topic, 1, 1))
    fails(KafkaError.INVALID_PARTITIONS, "no partitions", create(kit.unique(CLIENT, "new"), 0, 1))
    fails(KafkaError.INVALID_REPLICATION_FACTOR, "too many replicas", create(kit.unique(CLIENT, "new"), 1, 9))
    fails(KafkaError.TOPIC_EXCEPTION, "a name with a space", create("not allowed", 1, 1))
    fails(KafkaError.INVALID_PARTITIONS, "fewer partitions", lambda: result(client.create_partitions([NewPartitions(topic, 1)])[topic]))


@case
def errors_record_too_large(bootstrap):
    topic = make_topic(bootstrap, 1, {"max.message.bytes": "10000"})
    client = producer(bootstrap)
    fails(KafkaError.MSG_SIZE_TOO_LARGE, "50 kB into a topic of 10 kB", lambda: send(client, topic, [bytes(50_000)], 0))
    same(0, send(client, topic, [b"v"], 0)[0].offset(), "offset of the next record")


@case
def errors_config(bootstrap):
    client = admin(bootstrap)
    for name, value in (("retention.ms", "soon"), ("no.such.config", "1")):
        topic = kit.unique(CLIENT, "new")
        fails(KafkaError.INVALID_CONFIG, f"create with {name}", lambda: result(client.create_topics([NewTopic(topic, 1, 1, config={name: value})])[topic]))


@case
def errors_offset_out_of_range(bootstrap):
    topic = make_topic(bootstrap, 1)
    send(producer(bootstrap), topic, [b"v"] * 10, 0)
    reader = consumer(bootstrap, auto_offset_reset="error")
    reader.assign([TopicPartition(topic, 0, 500)])
    message = reader.poll(20)
    same(KafkaError._AUTO_OFFSET_RESET, message and message.error() and message.error().code(), "offset 500 of 10")
    reader.close()


@case
def errors_group_member(bootstrap):
    topic = make_topic(bootstrap, 1)
    client = admin(bootstrap)
    group = kit.unique(CLIENT, "group")
    reader = consumer(bootstrap, group_id=group)
    reader.subscribe([topic])
    until("the member has its partition", lambda: reader.poll(0.1) is None and reader.assignment())
    altered = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 3)])
    answer = result(client.alter_consumer_group_offsets([altered])[group]).topic_partitions[0].error
    same(KafkaError.UNKNOWN_MEMBER_ID, answer and answer.code(), "altering the offsets of a live group")
    reader.close()


if __name__ == "__main__":
    kit.main()
