"""aiokafka: the asyncio client."""

import asyncio
import pathlib
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (CommitFailedError, IllegalGenerationError, KafkaError, MessageSizeTooLargeError,
                             NoOffsetForPartitionError, OffsetOutOfRangeError, RebalanceInProgressError)
from aiokafka.structs import OffsetAndMetadata

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3]))

from conformance.shared import kit  # noqa: E402
from conformance.shared.kit import case, same  # noqa: E402

CLIENT = "aiokafka"


async def until(what, holds, seconds=kit.DEADLINE_SECONDS):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.02)


class Clients:
    """Starts clients and stops them at the end of the case."""

    def __init__(self, bootstrap):
        self.bootstrap, self.started = bootstrap, []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        for client in reversed(self.started):
            await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())

    async def start(self, client):
        await client.start()
        self.started.append(client)
        return client

    async def admin(self):
        return await self.start(AIOKafkaAdminClient(bootstrap_servers=self.bootstrap))

    async def producer(self, **config):
        return await self.start(AIOKafkaProducer(bootstrap_servers=self.bootstrap, **config))

    async def consumer(self, *topics, **config):
        settings = dict(auto_offset_reset="earliest", enable_auto_commit=False, session_timeout_ms=10000,
                        heartbeat_interval_ms=500, metadata_max_age_ms=2000)
        settings.update(config)
        return await self.start(AIOKafkaConsumer(*topics, bootstrap_servers=self.bootstrap, **settings))

    async def topic(self, partitions, config=None):
        topic = kit.unique(CLIENT, "topic")
        admin = await self.admin()
        answer = await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=config or {})])
        same([0], [entry[1] for entry in answer.topic_errors], "error of creating the topic")
        reader = await self.consumer()
        everything = [TopicPartition(topic, partition) for partition in range(partitions)]
        end = time.monotonic() + kit.DEADLINE_SECONDS
        while True:
            try:
                reader.assign(everything)
                await reader.end_offsets(everything)
                return topic
            except (KafkaError, ValueError):
                assert time.monotonic() < end, f"{topic} has no leaders"
                await asyncio.sleep(0.05)

    async def read_all(self, topic, partitions, count, **config):
        reader = await self.consumer(**config)
        everything = [TopicPartition(topic, partition) for partition in range(partitions)]
        reader.assign(everything)
        await reader.seek_to_beginning(*everything)
        return await read(reader, count)


async def read(reader, count, seconds=kit.DEADLINE_SECONDS):
    records, end = [], time.monotonic() + seconds
    while len(records) < count and time.monotonic() < end:
        for part in (await reader.getmany(timeout_ms=200)).values():
            records += part
    assert len(records) >= count, f"read {len(records)} of {count} records"
    return records


async def send(producer, topic, values, partition=0):
    futures = [await producer.send(topic, value, key=b"k%d" % number, partition=partition) for number, value in enumerate(values)]
    return [await future for future in futures]


async def fails(wanted, what, awaitable):
    try:
        answer = await awaitable
    except wanted:
        return
    raise AssertionError(f"{what}: wanted {wanted}, but it succeeded with {answer}")


@case
async def produce_consume(bootstrap):
    async with Clients(bootstrap) as clients:
        topic = await clients.topic(3)
        producer = await clients.producer()
        for partition in range(3):
            answers = await send(producer, topic, [b"p%d-%d" % (partition, i) for i in range(30)], partition)
            same(list(range(30)), [answer.offset for answer in answers], "offsets told")
        seen = {0: 0, 1: 0, 2: 0}
        for record in await clients.read_all(topic, 3, 90):
            offset = seen[record.partition]
            seen[record.partition] += 1
            same((offset, b"k%d" % offset, b"p%d-%d" % (record.partition, offset)), (record.offset, record.key, record.value), "record")


@case
async def auto_create(bootstrap):
    async with Clients(bootstrap) as clients:
        topic = kit.unique(CLIENT, "auto")
        same([0], [answer.offset for answer in await send(await clients.producer(), topic, [b"v"])], "offset")
        same(b"v", (await clients.read_all(topic, 1, 1))[0].value, "value")


@case
async def idempotent_produce(bootstrap):
    async with Clients(bootstrap) as clients:
        topic = await clients.topic(1)
        producer = await clients.producer(enable_idempotence=True, max_batch_size=512)
        await send(producer, topic, [b"%d" % i for i in range(1000)])
        same([b"%d" % i for i in range(1000)], [record.value for record in await clients.read_all(topic, 1, 1000)], "order")


@case
async def acks(bootstrap):
    async with Clients(bootstrap) as clients:
        for level in (0, 1, "all"):
            topic = await clients.topic(1)
            await send(await clients.producer(acks=level), topic, [b"%d" % i for i in range(50)])
            same(b"49", (await clients.read_all(topic, 1, 50))[49].value, f"last value with acks={level}")


def compression(codec):
    async def run(bootstrap):
        async with Clients(bootstrap) as clients:
            topic, values = await clients.topic(1), kit.compressible_values(300)
            producer = await clients.producer(compression_type=None if codec == "none" else codec, linger_ms=20)
            await send(producer, topic, values)
            same(values, [record.value for record in await clients.read_all(topic, 1, 300)], "values")

    run.__name__ = f"compression_{codec}"
    case(run)


for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
    compression(codec)


@case
async def headers(bootstrap):
    async with Clients(bootstrap) as clients:
        topic = await clients.topic(1)
        producer = await clients.producer()
        await producer.send_and_wait(topic, b"v", headers=kit.HEADERS)
        same(tuple(kit.HEADERS), (await clients.read_all(topic, 1, 1))[0].headers, "headers")


@case
async def tombstones(bootstrap):
    async with Clients(bootstrap) as clients:
        topic = await clients.topic(1)
        producer = await clients.producer()
        await producer.send_and_wait(topic, None, key=b"k")
        await producer.send_and_wait(topic, b"v")
        await producer.send_and_wait(topic, b"", key=b"")
        got = [(record.key, record.value) for record in await clients.read_all(topic, 1, 3)]
        same([(b"k", None), (None, b"v"), (b"", b"")], got, "keys and values")


@case
async def seek_by_timestamp(bootstrap):
    async with Clients(bootstrap) as clients:
        topic = await clients.topic(1)
        partition = TopicPartition(topic, 0)
        producer = await clients.producer()
        start = int(time.time() * 1000) - 100_000
        for i in range(50):
            await producer.send_and_wait(topic, b"%d" % i, timestamp_ms=start + i * 100)
        reader = await clients.consumer()
        reader.assign([partition])
        for i in (0, 17, 49):
            found = (await reader.offsets_for_times({partition: start + i * 100 - 50}))[partition]
            same((i, start + i * 100), (found.offset, found.timestamp), "offset and time")
            reader.seek(partition, found.offset)
            same(b"%d" % i, (await reader.getone()).value, "first record after the seek")
        same({partition: None}, await reader.offsets_for_times({partition: start + 100_000}), "after the last record")
        same({partition: 0}, await reader.beginning_offsets([partition]), "earliest")
        same({partition: 50}, await reader.end_offsets([partition]), "latest")


@case
async def large_batches(bootstrap):
    async with Clients(bootstrap) as clients:
        topic = await clients.topic(1)
        values = [bytes([i]) * (900_000 if i % 4 == 0 else 100_000) for i in range(20)]
        await send(await clients.producer(max_batch_size=950_000, linger_ms=50), topic, values)
        same(values, [record.value for record in await clients.read_all(topic, 1, 20, max_partition_fetch_bytes=10_000)], "values")


@case
async def many_partitions(bootstrap):
    async with Clients(bootstrap) as clients:
        topic = await clients.topic(50)
        producer = await clients.producer(linger_ms=5)
        futures = [await producer.send(topic, b"%d" % i, partition=i % 50) for i in range(1000)]
        await asyncio.gather(*futures)
        same(set(range(1000)), {int(record.value) for record in await clients.read_all(topic, 50, 1000)}, "values")


@case
async def pause_resume(bootstrap):
    async with Clients(bootstrap) as clients:
        topic = await clients.topic(2)
        producer, reader = await clients.producer(), await clients.consumer()
        both = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
        reader.assign(both)
        reader.pause(both[0])
        await send(producer, topic, [b"v"] * 10, 0)
        await send(producer, topic, [b"v"] * 10, 1)
        same({1}, {record.partition for record in await read(reader, 10)}, "partitions while 0 is paused")
        reader.resume(both[0])
        same({0}, {record.partition for record in await read(reader, 10)}, "partitions after resuming")


@case
async def read_committed(bootstrap):
    async with Clients(bootstrap) as clients:
        topic = await clients.topic(1)
        await send(await clients.producer(), topic, [b"%d" % i for i in range(50)])
        records = await clients.read_all(topic, 1, 50, isolation_level="read_committed")
        same(b"49", records[49].value, "last value")


@case
async def long_poll(bootstrap):
    async with Clients(bootstrap) as clients:
        topic = await clients.topic(1)
        reader = await clients.consumer(fetch_max_wait_ms=15_000)
        reader.assign([TopicPartition(topic, 0)])
        same({}, await reader.getmany(timeout_ms=300), "nothing there yet")
        await send(await clients.producer(), topic, [b"v"])
        start = time.monotonic()
        await read(reader, 1)
        assert time.monotonic() - start < 2, "a waiting fetch did not answer promptly"


class Member(ConsumerRebalanceListener):
    """A member in a task of its own: polls, notes what it read, commits, until told to leave."""

    def __init__(self, clients, group, topic, seen, **config):
        self.assignments, self.owned, self.leaving = 0, set(), False
        self.task = asyncio.create_task(self.run(clients, group, topic, seen, config))

    async def on_partitions_revoked(self, revoked):
        self.owned = set()

    async def on_partitions_assigned(self, assigned):
        self.assignments += 1
        self.owned = {partition.partition for partition in assigned}

    async def run(self, clients, group, topic, seen, config):
        reader = await clients.consumer(group_id=group, **config)
        reader.subscribe([topic], listener=self)
        try:
            while not self.leaving:
                for records in (await reader.getmany(timeout_ms=100)).values():
                    for record in records:
                        seen[record.value] = seen.get(record.value, 0) + 1
                try:
                    await reader.commit()
                except (CommitFailedError, IllegalGenerationError, RebalanceInProgressError):
                    pass  # rebalanced meanwhile: the partition's new owner reads it again
        finally:
            clients.started.remove(reader)
            await reader.stop()
            self.owned = set()

    async def leave(self):
        self.leaving = True
        await asyncio.wait_for(self.task, 60)


async def await_shared(partitions, *members):
    def shared():
        for member in members:
            if member.task.done():
                member.task.result()
        owned = [list(member.owned) for member in members]
        return all(owned) and sorted(sum(owned, [])) == list(range(partitions))

    await until(f"{partitions} partitions are shared among {len(members)} members", shared)


@case
async def group_rebalance(bootstrap):
    async with Clients(bootstrap) as clients:
        topic, group, seen = await clients.topic(6), kit.unique(CLIENT, "group"), {}
        producer, phase = await clients.producer(), 0

        async def produce():
            nonlocal phase
            futures = [await producer.send(topic, b"%d-%d" % (phase, i), partition=i % 6) for i in range(300)]
            await asyncio.gather(*futures)
            phase += 1

        first = Member(clients, group, topic, seen)
        await produce()
        await await_shared(6, first)
        second = Member(clients, group, topic, seen)
        await produce()
        await await_shared(6, first, second)
        third = Member(clients, group, topic, seen)
        await produce()
        await await_shared(6, first, second, third)
        await second.leave()
        await produce()
        await await_shared(6, first, third)
        await first.leave()
        await produce()
        await await_shared(6, third)
        await until("every record is read", lambda: third.task.done() or len(seen) == phase * 300)
        await third.leave()


@case
async def static_membership(bootstrap):
    async with Clients(bootstrap) as clients:
        topic, group, seen = await clients.topic(4), kit.unique(CLIENT, "group"), {}
        other = Member(clients, group, topic, seen, group_instance_id="other", session_timeout_ms=20000)
        before = Member(clients, group, topic, seen, group_instance_id="restarted", session_timeout_ms=20000)
        await await_shared(4, other, before)
        await before.leave()
        after = Member(clients, group, topic, seen, group_instance_id="restarted", session_timeout_ms=20000)
        await await_shared(4, other, after)
        await send(await clients.producer(), topic, [b"%d" % i for i in range(10)])
        await until("the records arrive", lambda: len(seen) == 10)
        await after.leave()
        await other.leave()


@case
async def commit_resume(bootstrap):
    async with Clients(bootstrap) as clients:
        topic, group = await clients.topic(1), kit.unique(CLIENT, "group")
        partition = TopicPartition(topic, 0)
        await send(await clients.producer(), topic, [b"%d" % i for i in range(100)])
        reader = await clients.consumer(topic, group_id=group)
        await reader.getmany(timeout_ms=5000)
        await reader.commit({partition: OffsetAndMetadata(30, "a note")})
        clients.started.remove(reader)
        await reader.stop()
        reader = await clients.consumer(topic, group_id=group)
        same(30, await reader.committed(partition), "committed")
        same([b"%d" % i for i in range(30, 100)], [record.value for record in await read(reader, 70)], "values after resuming")


@case
async def admin_topics(bootstrap):
    async with Clients(bootstrap) as clients:
        admin, topic = await clients.admin(), await clients.topic(2, {"retention.ms": "3600000"})
        assert topic in await admin.list_topics(), "the topic is listed"
        await admin.create_partitions({topic: NewPartitions(5)})
        end = time.monotonic() + kit.DEADLINE_SECONDS
        while len((await admin.describe_topics([topic]))[0]["partitions"]) != 5:
            assert time.monotonic() < end, "it never has five partitions"
        await admin.delete_topics([topic])
        while topic in await admin.list_topics():
            assert time.monotonic() < end, "it is never gone"
        assert (await admin.describe_cluster())["brokers"], "brokers are told"


@case
async def admin_describe_configs(bootstrap):
    async with Clients(bootstrap) as clients:
        admin, topic = await clients.admin(), await clients.topic(1, {"retention.ms": "1234567"})
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        answer = (await admin.describe_configs([resource]))[0].resources[0]
        same(0, answer[0], "error")
        entries = {entry[0]: entry[1] for entry in answer[4]}
        same("1234567", entries["retention.ms"], "retention.ms")
        assert len(entries) >= 23, f"only {len(entries)} settings are described"


@case
async def admin_alter_configs_old(bootstrap):
    async with Clients(bootstrap) as clients:
        admin, topic = await clients.admin(), await clients.topic(1)
        answer = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "3000"})])
        same(0, answer[0].resources[0][0], "error")
        end = time.monotonic() + kit.DEADLINE_SECONDS
        value = None
        while value != "3000":
            assert time.monotonic() < end, f"max.message.bytes stays {value}"
            described = (await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))[0].resources[0]
            value = {entry[0]: entry[1] for entry in described[4]}["max.message.bytes"]


@case
async def admin_delete_records(bootstrap):
    async with Clients(bootstrap) as clients:
        admin, topic = await clients.admin(), await clients.topic(1)
        partition = TopicPartition(topic, 0)
        await send(await clients.producer(), topic, [b"%d" % i for i in range(50)])
        same({partition: 20}, await admin.delete_records({partition: RecordsToDelete(20)}), "low watermarks")
        same(b"20", (await clients.read_all(topic, 1, 30))[0].value, "first record left")


@case
async def admin_groups(bootstrap):
    async with Clients(bootstrap) as clients:
        admin, topic, group = await clients.admin(), await clients.topic(1), kit.unique(CLIENT, "group")
        await send(await clients.producer(), topic, [b"v"] * 10)
        reader = await clients.consumer(topic, group_id=group)
        await read(reader, 10)
        await reader.commit()
        described = (await admin.describe_consumer_groups([group]))[0].groups[0]
        same((0, group, "Stable", "consumer"), tuple(described[:4]), "description")
        assert group in [listed[0] for listed in await admin.list_consumer_groups()], "the group is listed"
        offsets = await admin.list_consumer_group_offsets(group)
        same(10, offsets[TopicPartition(topic, 0)].offset, "committed offset")


@case
async def errors_unknown_topic(bootstrap):
    async with Clients(bootstrap) as clients:
        admin, topic = await clients.admin(), kit.unique(CLIENT, "absent")
        same([3], [entry[1] for entry in (await admin.delete_topics([topic])).topic_error_codes], "error of deleting it")
        # describe_topics says nothing here: this client lets it create the topic.


@case
async def errors_create_topic(bootstrap):
    async with Clients(bootstrap) as clients:
        admin, topic = await clients.admin(), await clients.topic(1)

        async def error(name, partitions, replicas, config=None):
            answer = await admin.create_topics([NewTopic(name, partitions, replicas, topic_configs=config or {})])
            return answer.topic_errors[0][1]

        same(36, await error(topic, 1, 1), "the same name: TOPIC_ALREADY_EXISTS")
        same(37, await error(kit.unique(CLIENT, "new"), 0, 1), "no partitions: INVALID_PARTITIONS")
        same(38, await error(kit.unique(CLIENT, "new"), 1, 9), "nine replicas: INVALID_REPLICATION_FACTOR")
        same(17, await error("not allowed", 1, 1), "a bad name: INVALID_TOPIC_EXCEPTION")
        same(40, await error(kit.unique(CLIENT, "new"), 1, 1, {"retention.ms": "soon"}), "a bad setting: INVALID_CONFIG")


@case
async def errors_record_too_large(bootstrap):
    async with Clients(bootstrap) as clients:
        topic = await clients.topic(1, {"max.message.bytes": "10000"})
        producer = await clients.producer(max_request_size=10_000_000)
        await fails(MessageSizeTooLargeError, "50 kB into a topic of 10 kB", producer.send_and_wait(topic, bytes(50_000), partition=0))
        same(0, (await producer.send_and_wait(topic, b"v", partition=0)).offset, "offset of the next record")


@case
async def errors_offset_out_of_range(bootstrap):
    async with Clients(bootstrap) as clients:
        topic = await clients.topic(1)
        await send(await clients.producer(), topic, [b"v"] * 10)
        reader = await clients.consumer(auto_offset_reset="none", group_id=None)
        reader.assign([TopicPartition(topic, 0)])
        reader.seek(TopicPartition(topic, 0), 500)
        await fails((OffsetOutOfRangeError, NoOffsetForPartitionError), "offset 500 of 10", asyncio.wait_for(reader.getone(), 20))


if __name__ == "__main__":
    import logging
    logging.disable(logging.CRITICAL)
    kit.main(asyncio.run)
