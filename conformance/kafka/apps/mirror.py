"""MirrorMaker 2 from a real Apache Kafka into the broker: records, topics' settings, and a group's offsets, translated."""

import os

import processes as kit


def from_apache(bootstrap):
    from confluent_kafka import Consumer, TopicPartition

    from conformance.bench.kafka import brokers

    topic, group = kit.unique("mirrored"), kit.unique("group")
    with kit.Folder() as folder:
        source = brokers.ApacheKafka(os.path.join(folder, "apache"), os.path.join(kit.ROOT, ".tools", "kafka"))
        brokers.HEAP = "384m"
        source.start()
        try:
            kit.make_topic(source.address, topic, 2, {"retention.ms": "7200000"})
            client = kit.producer(source.address)

            def write(first, count):
                for number in range(first, first + count):
                    client.produce(topic, f"{number}".encode(), f"key{number}".encode(), partition=number % 2)
                assert client.flush(60) == 0

            def member(address, topic):
                """A consumer of the group, on either cluster."""
                reader = Consumer({"bootstrap.servers": address, "group.id": group, "enable.auto.commit": False,
                                   "session.timeout.ms": 6000, "auto.offset.reset": "earliest", **kit.COMMON})
                reader.subscribe([topic])
                return reader

            def read(reader, count):
                values = []
                kit.until(f"{count} records are read", lambda: values.extend(
                    message for message in reader.consume(1000, 0.2) if not message.error()) or len(values) >= count, seconds=60)
                return values

            write(0, 500)
            properties = os.path.join(folder, "mirror.properties")
            with open(properties, "w", encoding="utf-8") as file:
                file.write("\n".join([
                    "clusters = old, new", f"old.bootstrap.servers = {source.address}", f"new.bootstrap.servers = {bootstrap}",
                    "old->new.enabled = true", "new->old.enabled = false", f"old->new.topics = {topic}", f"old->new.groups = {group}",
                    "replication.factor = 1", "checkpoints.topic.replication.factor = 1", "heartbeats.topic.replication.factor = 1",
                    "offset-syncs.topic.replication.factor = 1", "offset.storage.replication.factor = 1", "status.storage.replication.factor = 1",
                    "config.storage.replication.factor = 1", "emit.checkpoints.interval.seconds = 1", "sync.group.offsets.enabled = true",
                    "sync.group.offsets.interval.seconds = 1", "refresh.topics.interval.seconds = 2", "sync.topic.configs.interval.seconds = 2", "refresh.groups.interval.seconds = 2",
                    "offset.lag.max = 0", "old->new.emit.heartbeats.enabled = false", "dedicated.mode.enable.internal.rest = false",
                    "old.consumer.auto.offset.reset = earliest", ""]))
            with kit.Java("mirror", folder, "org.apache.kafka.connect.mirror.MirrorMaker", properties, heap="384m") as mirror:
                mirrored = f"old.{topic}"
                kit.until("the topic is mirrored", lambda: mirrored in kit.admin(bootstrap).list_topics(timeout=10).topics, seconds=60, alive=[mirror])
                kit.until("its records come", lambda: len(kit.read_to_end(bootstrap, mirrored)) == 500, seconds=60, alive=[mirror])
                # A consumer of the old cluster has read all that there is when it moves.
                reader = member(source.address, topic)
                read(reader, 500)
                reader.commit(asynchronous=False)
                reader.close()

                def translated():
                    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": group, **kit.COMMON})
                    try:
                        found = reader.committed([TopicPartition(mirrored, 0), TopicPartition(mirrored, 1)], 10)
                        return [place.offset for place in found] == [250, 250]
                    finally:
                        reader.close()

                kit.until("the group's offsets are translated", translated, seconds=60, alive=[mirror])
                assert kit.topic_config(bootstrap, mirrored)["retention.ms"] == "7200000", "the topic's retention.ms is not mirrored"
                kit.set_topic_config(source.address, topic, "retention.ms", "10800000")
                kit.until("its change is mirrored too", lambda: kit.topic_config(bootstrap, mirrored)["retention.ms"] == "10800000",
                          seconds=60, alive=[mirror])
                write(500, 500)
                # It goes on where it was: what it has read does not come again, and nothing is left out.
                reader = member(bootstrap, mirrored)
                values = read(reader, 500)
                reader.close()
                for partition in range(2):
                    found = [int(message.value()) for message in values if message.partition() == partition]
                    assert found == list(range(500 + partition, 1000, 2)), f"partition {partition} goes on with {found[:1]}"
                mirror.kill()
        finally:
            source.stop()
