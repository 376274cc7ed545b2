"""What is measured. A measure is one line of the table; it is taken once a round for each durability that it names."""
import os
import time
from dataclasses import dataclass
from typing import Callable

from conformance.bench.kafka.perf import Profile
from conformance.shared import process

GIB = 1 << 30
CREATE_SECONDS_MAX = 240  # for 10,000 partitions on a slow disk
BOTH = ("fsync", "page cache")


@dataclass(frozen=True)
class Sizes:
    """How long and how much; `quick` trades precision for minutes."""
    produce_seconds: float = 3
    warm_seconds: float = 4
    tail_seconds: float = 4
    end_to_end_seconds: int = 8
    end_to_end_skip_seconds: int = 2
    catch_up_bytes: int = 2 * GIB
    many_topics: int = 100
    many_partitions: int = 100  # of each topic
    idle_seconds: float = 5
    groups: int = 1000
    commits_per_group: int = 5
    share_records: int = 200_000
    follow_seconds: float = 4


QUICK = Sizes(produce_seconds=2, warm_seconds=2, tail_seconds=2, end_to_end_seconds=4, end_to_end_skip_seconds=1,
              catch_up_bytes=GIB // 4, many_topics=10, idle_seconds=2, commits_per_group=3, share_records=50_000, follow_seconds=2)


@dataclass(frozen=True)
class Measure:
    section: str
    name: str
    take: Callable  # (session, durability) -> figures
    durabilities: tuple = BOTH  # () = the broker's default alone


class Session:
    """A running broker and the load generator beside it."""

    def __init__(self, broker, client, sizes):
        self.profiled = None  # a folder for profiles of the broker, if they are wanted
        self.title = ""
        self.broker = broker
        self.client = client
        self.sizes = sizes
        self.topics = 0

    def topic(self, partitions, durability, **more):
        """A fresh topic with the configuration that gives this durability at this broker; `more` is more of it."""
        self.topics += 1
        name = f"bench-{self.topics}"
        config = {f"config.{key}": value for key, value in {**self.broker.durabilities[durability], **more}.items()}
        self.client.call("create", topic=name, partitions=partitions, **config)
        return name

    def watched(self, command, **options):
        """Runs a command of the load generator; adds what it cost: the processors that each party kept busy."""
        os.sync()  # so that what an earlier measure left unwritten is not written during this one
        before = self.clocks()
        if self.profiled:
            with Profile(self.broker.child.pid, self.profiled, f"{self.broker.name} {self.title}"):
                figures = self.client.call(command, **options)
        else:
            figures = self.client.call(command, **options)
        wall, broker, client, others = (late - early for late, early in zip(self.clocks(), before))
        figures["broker cores"] = broker / wall
        figures["client cores"] = client / wall
        figures["other cores"] = others / wall
        figures["cpu per million"] = broker / figures["records"] * 1e6
        if "seconds" in figures:
            figures["records per second"] = figures["records"] / figures["seconds"]
        return figures

    def clocks(self):
        broker, client = self.broker.child.pid, self.client.child.pid
        others = process.machine_user_seconds() - process.user_seconds(broker) - process.user_seconds(client)
        return time.monotonic(), process.cpu_seconds(broker), process.cpu_seconds(client), others

    def warm_up(self):
        """Until both JVMs have compiled what they will run."""
        seconds = self.sizes.warm_seconds
        for durability in BOTH:
            self.client.call("tail", topic=self.topic(10, durability), size=1024, seconds=seconds / 2)
        self.client.call("end-to-end", topic=self.topic(10, self.broker.default), partitions=10, size=100, rate=20000,
                         seconds=2, skip=0)


def bytes_text(size):
    return f"{size // 1024} KiB" if size % 1024 == 0 else f"{size} B"


def produce(size, partitions):
    def take(session, durability):
        topic = session.topic(partitions, durability)
        return session.watched("produce", topic=topic, size=size, seconds=session.sizes.produce_seconds)
    return Measure("produce", f"produce {bytes_text(size)}, {partitions} partition{'s' if partitions > 1 else ''}", take)


def tail(size, partitions):
    def take(session, durability):
        topic = session.topic(partitions, durability)
        return session.watched("tail", topic=topic, size=size, seconds=session.sizes.tail_seconds)
    return Measure("tail", f"produce and consume {bytes_text(size)}, {partitions} partitions", take)


def catch_up(size, partitions):
    def take(session, _durability):
        records = session.sizes.catch_up_bytes // size
        # How it is written does not matter to who reads it, so it is written the quick way.
        topic = session.topic(partitions, "page cache")
        session.client.call("fill", topic=topic, size=size, records=records, **{"producer.batch.size": 262144})
        return session.watched("catch-up", topic=topic, records=records)
    return Measure("catch-up", f"catch-up read, {bytes_text(size)}, {partitions} partitions", take, ())


def end_to_end(rate, partitions=10, size=100):
    def take(session, durability):
        topic = session.topic(partitions, durability)
        # No linger: the client's own waiting (5 ms by default) would hide the broker.
        return session.watched("end-to-end", topic=topic, partitions=partitions, size=size, rate=rate,
                               seconds=session.sizes.end_to_end_seconds, skip=session.sizes.end_to_end_skip_seconds,
                               **{"producer.linger.ms": 0})
    return Measure("end-to-end", f"{rate:,} records/s of {bytes_text(size)}, {partitions} partitions", take)


def follow(rate, readers, partitions=10, size=100):
    def take(session, durability):
        topic = session.topic(partitions, durability)
        return session.watched("follow", topic=topic, size=size, rate=rate, readers=readers, seconds=session.sizes.follow_seconds)
    return Measure("follow", f"{readers} consumers at the tail, {rate:,} records/s of {bytes_text(size)}, {partitions} partitions", take)


def transactions(size, partitions, commit_millis=100):
    def take(session, durability):
        topic = session.topic(partitions, durability)
        return session.watched("transact", topic=topic, size=size, seconds=session.sizes.produce_seconds, commit=commit_millis)
    return Measure("transactions", f"transactions of {commit_millis} ms, {bytes_text(size)}, {partitions} partitions", take)


def compacted(size, partitions, keys=100_000):
    def take(session, durability):
        settings = {"cleanup.policy": "compact", "segment.bytes": 16 << 20, "min.cleanable.dirty.ratio": 0.1}
        topic = session.topic(partitions, durability, **settings)
        # Twice as long as other measures, so that cleaning falls into it.
        return session.watched("produce", topic=topic, size=size, keys=keys, seconds=2 * session.sizes.produce_seconds)
    return Measure("compacted", f"produce {bytes_text(size)} with {keys:,} keys into {partitions} compacted partitions", take)


def groups():
    def take(session, _durability):
        sizes = session.sizes
        topic = session.topic(1, session.broker.default)
        # Once before, so that the groups are there, and what the broker makes for its first group.
        session.client.call("groups", topic=topic, groups=sizes.groups, commits=sizes.groups)
        return session.watched("groups", topic=topic, groups=sizes.groups, commits=sizes.groups * sizes.commits_per_group)
    return Measure("groups", "offsets of 1,000 groups, 64 commits at a time", take, ())


def share(size, partitions):
    def take(session, _durability):
        records = session.sizes.share_records
        topic = session.topic(partitions, "page cache")
        session.client.call("fill", topic=topic, size=size, records=records, **{"producer.batch.size": 65536})
        return session.watched("share", topic=topic, records=records)
    return Measure("share", f"share group, one consumer, {bytes_text(size)}, {partitions} partitions", take, ())


def many_partitions(session):
    """Create, write across all, and what it takes in memory. Wants a broker of its own."""
    sizes = session.sizes
    created = session.client.call("create", CREATE_SECONDS_MAX, topic="many", count=sizes.many_topics,
                                  partitions=sizes.many_partitions)
    resting = session.broker.memory_bytes()
    figures = session.watched("produce", topic="many", topics=sizes.many_topics, partitions=sizes.many_partitions, size=100,
                              seconds=2 * sizes.produce_seconds)
    figures["create seconds"] = created["seconds"]
    figures["created memory"] = resting
    figures["written memory"] = session.broker.memory_bytes()
    return figures


FULL = [produce(size, partitions) for size in (100, 1024) for partitions in (1, 10, 100)]
FULL += [tail(100, 10), tail(1024, 10), end_to_end(2000), end_to_end(20000), catch_up(1024, 10)]
NEWER = [follow(20000, 5), transactions(100, 10), transactions(1024, 10), compacted(100, 10), compacted(1024, 10), groups(), share(100, 4)]
FULL += NEWER
SHORT = [produce(100, 10), produce(1024, 10), tail(1024, 10), end_to_end(2000), end_to_end(20000), catch_up(1024, 10)] + NEWER
SECTIONS = ("start", "produce", "tail", "end-to-end", "catch-up", "follow", "transactions", "compacted", "groups", "share", "partitions")
