#!/usr/bin/env python3
"""One log, several protocols: what MQTT publishes reaches Kafka's and AMQP's consumers, and what those produce MQTT's subscribers.

`run.py ADDRESS [CASE...]`; the address is not used, for the broker has to speak all of them: `polymq serve` with its three
gateways is started here. docs/mapping.md says what becomes of what. Kafka's client is librdkafka, AMQP's pika.
"""

import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
TOOLS = HERE.parents[2] / ".tools"
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "python")]
# The other suites' clients, in their own environments of the same Python.
sys.path += [str(path) for environment in ("python", "amqp/python") for path in sorted(TOOLS.glob(f"{environment}/lib/python3*/site-packages"))]

import brokers  # noqa: E402
import confluent_kafka  # noqa: E402
import pika  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402
from mqtt_kit import BROKER, CASES, Kit, Skip, main, same, unique, until  # noqa: E402

SECONDS = 30
NAMES = "user"


class Everything(brokers.PolyMQ):
    """All gateways in one process."""

    def __init__(self):
        super().__init__("all-in-one", brokers.default_binaries(), "mqtt,kafka,amqp")
        self.kafka, self.amqp, self.management = (f"127.0.0.1:{brokers.free_port()}" for _ in range(3))
        self.environment.update(POLYMQ_KAFKA_LISTEN=self.kafka, POLYMQ_AMQP_LISTEN=self.amqp, POLYMQ_AMQP_MANAGEMENT_LISTEN=self.management)


def case(function):
    """Registers a case: it gets a broker, a Kit of its MQTT gateway, and the name of a topic."""
    def run(_):
        if BROKER in ("mosquitto", "external"):
            raise Skip("no oracle: it takes a broker that speaks the other protocols, too")
        broker = Everything()
        try:
            broker.start()
            with Kit(broker.address, function.__name__) as kit:
                function(broker, kit, unique("t", function.__name__))
        finally:
            broker.discard()
    CASES[function.__name__] = run
    return function


def create(broker, topic, partitions=3):
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    # Who lets go of the client lets go of its questions.
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(SECONDS)


def producer(broker, **settings):
    return confluent_kafka.Producer({"bootstrap.servers": broker.kafka, "linger.ms": 20, **{key.replace("_", "."): value for key, value in settings.items()}})


def produce(broker, topic, *records, **settings):
    """Records: (key, value, headers). All of them are kept when this returns."""
    client, failed = producer(broker, **settings), []
    for key, value, headers in records:
        client.produce(topic, value, key, headers=headers, on_delivery=lambda error, _: error and failed.append(error))
    same(0, client.flush(SECONDS), "records that were not acknowledged")
    same([], failed, "what the broker answered to the producer")


def consume(broker, topic, count):
    """The first records of a topic, sorted by value."""
    client = confluent_kafka.Consumer({"bootstrap.servers": broker.kafka, "group.id": unique("g", topic), "auto.offset.reset": "earliest", "isolation.level": "read_committed", "topic.metadata.refresh.interval.ms": 200, "allow.auto.create.topics": False})
    client.subscribe([topic])
    found, end = [], time.monotonic() + SECONDS
    try:
        while len(found) < count:
            assert time.monotonic() < end, f"{len(found)} of {count} records within {SECONDS} s: {[record.value() for record in found]}"
            record = client.poll(0.2)
            if record is not None and not record.error():
                found.append(record)
    finally:
        client.close()
    return sorted(found, key=lambda record: record.value() or b"")


def amqp(broker):
    host, port = broker.amqp.rsplit(":", 1)
    return pika.BlockingConnection(pika.ConnectionParameters(host, int(port)))


def take(channel, queue, count):
    """The next messages of a queue, acknowledged."""
    found = []

    def one():
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method:
            found.append((method, properties, body))
        return len(found) >= count
    until(f"{count} messages in {queue}", one, SECONDS)
    return found


def user(message):
    return [tuple(pair) for pair in message.get(NAMES, [])]


@case
def kafka_reads_what_mqtt_published(broker, kit, topic):
    before_ms = time.time() * 1000 - 1000
    client = kit.client()
    for qos in (0, 1, 2):
        client.publish(f"{topic}/{qos}/temp", f"value {qos}", qos, user=[("unit", "C"), ("unit", "K"), ("größe", "ü")], content_type="text/plain", correlation_data=b"\0\xff",
                       response_topic="answers/1", message_expiry=60, payload_format=1)
    for qos, record in enumerate(consume(broker, topic, 3)):
        same((f"{topic}/{qos}/temp".encode(), f"value {qos}".encode()), (record.key(), record.value()), "key and value")
        headers = [("content-type", b"text/plain"), ("correlation-id", b"\0\xff"), ("reply-to", b"answers/1"), ("expiration", b"60000"), ("mqtt.qos", str(qos).encode()),
                   ("mqtt.payload-format-indicator", b"1"), ("unit", b"C"), ("unit", b"K"), ("größe", "ü".encode())]
        same(sorted(headers), sorted(record.headers()), "headers")
        same([b"C", b"K"], [value for name, value in record.headers() if name == "unit"], "a property that occurs twice, in order")
        assert before_ms < record.timestamp()[1] < time.time() * 1000 + 1000, f"time {record.timestamp()}"


@case
def kafka_reads_old_clients_and_empty_payloads(broker, kit, topic):
    kit.client(version=3).publish(f"{topic}/a", "1", 1)
    kit.client(version=4).publish(topic, "", 1)
    empty, first = consume(broker, topic, 2)
    same((topic.encode(), b""), (empty.key(), empty.value()), "an empty payload is an empty value and no tombstone")
    same((f"{topic}/a".encode(), b"1", [("mqtt.qos", b"1")]), (first.key(), first.value(), first.headers()), "what 3.1 published")


@case
def one_name_is_in_one_partition_in_order(broker, kit, topic):
    client = kit.client(version=4)
    mids = [client.publish(f"{topic}/{index % 3}", f"{index:03}", 1, wait=False) for index in range(120)]
    client.published(*mids)
    records = consume(broker, topic, 120)
    for name in range(3):
        own = [record for record in records if record.key() == f"{topic}/{name}".encode()]
        same(1, len({record.partition() for record in own}), "partitions of one name")
        offsets = [record.offset() for record in own]
        same(sorted(offsets), offsets, "offsets by value")


@case
def a_first_level_that_kafka_does_not_allow_is_escaped(broker, kit, topic):
    kit.client().publish(f"{topic} ü/1", "x", 1)
    same(f"{topic} ü/1".encode(), consume(broker, f"{topic}_x20c3bc_", 1)[0].key(), "key")


@case
def kcat_reads_keys(broker, kit, topic):
    if not shutil.which("kcat"):
        raise Skip("kcat is not installed")
    kit.client().publish(f"{topic}/1/temp", "21.5", 1, user=[("unit", "C")])
    command = ["kcat", "-b", broker.kafka, "-C", "-q", "-t", topic, "-o", "beginning", "-e", "-f", "%k|%s|%h\n"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    same(f"{topic}/1/temp|21.5|mqtt.qos=1,unit=C\n", done.stdout, "what kcat prints")


@case
def mqtt_gets_what_kafka_produced(broker, kit, topic):
    create(broker, topic)
    client = kit.client()
    client.subscribe(f"{topic}/#", qos=2)
    records = [(f"{topic}/1/temp", "a", [("unit", b"C"), ("n", None), ("content-type", b"text/plain"), ("correlation-id", b"\0\xff"), ("reply-to", b"answers/1"), ("expiration", b"60000")]),
               (None, "b", []), ("no name of this topic", "c", []), (f"{topic}/+", "d", []), (f"{topic}/2", None, [("mqtt.qos", b"2")])]
    produce(broker, topic, *records)
    found = {message.text: message for message in client.wait(5)}
    same({"a": f"{topic}/1/temp", "b": topic, "c": topic, "d": topic, "": f"{topic}/2"}, {text: message.topic for text, message in found.items()}, "names by payload")
    same({"a": 1, "b": 1, "c": 1, "d": 1, "": 2}, {text: message.qos for text, message in found.items()}, "QoS by payload")
    first = found["a"]
    same([("unit", "C"), ("n", "")], user(first), "user properties")
    same(("text/plain", b"\0\xff", "answers/1"), (first.get("content_type"), first.get("correlation_data"), first.get("response_topic")), "properties")
    assert 50 <= first.get("message_expiry") <= 60, f"expiry {first.get('message_expiry')}"
    assert not any(message.retain for message in found.values()), "a record is not retained"


@case
def mqtt_gets_every_compression(broker, kit, topic):
    create(broker, topic)
    client = kit.client(version=4)
    client.subscribe(f"{topic}/#", qos=1)
    wanted = []
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        values = [f"{codec} {index}" + "." * 500 for index in range(20)]
        wanted += values
        produce(broker, topic, *((f"{topic}/{codec}", value, []) for value in values), compression_type=codec)
    same(sorted(wanted), sorted(message.text for message in client.wait(len(wanted))), "payloads")


@case
def mqtt_gets_what_is_committed_only(broker, kit, topic):
    create(broker, topic, 1)
    client = kit.client()
    client.subscribe(f"{topic}/#", qos=1)
    transactional = producer(broker, transactional_id=unique("x", topic))
    transactional.init_transactions(SECONDS)
    transactional.begin_transaction()
    transactional.produce(topic, "aborted", f"{topic}/a")
    transactional.flush(SECONDS)
    transactional.abort_transaction(SECONDS)
    transactional.begin_transaction()
    transactional.produce(topic, "committed", f"{topic}/a")
    transactional.flush(SECONDS)
    client.none_more(0)
    transactional.commit_transaction(SECONDS)
    client.arrive("committed")
    client.none_more(1)


@case
def a_session_that_was_away_gets_what_kafka_produced(broker, kit, topic):
    create(broker, topic)
    away = kit.client("away", session_expiry=300)
    away.subscribe(f"{topic}/1/#", qos=1)
    away.disconnect()
    records = [(f"{topic}/{index % 2}/x", f"{index:03}", []) for index in range(100)]
    produce(broker, topic, *records)
    again = kit.client("away", session_expiry=300, clean=False)
    assert again.session_present, "the session is gone"
    again.arrive(*(f"{index:03}" for index in range(1, 100, 2)))
    again.none_more(50)


@case
def there_and_back_it_stays_the_same(broker, kit, topic):
    """A Kafka application that copies records: the other topic's subscribers see the message as it was published."""
    other = unique("t", "copy")
    create(broker, other)
    client = kit.client()
    client.subscribe(f"{other}/#", qos=2)
    properties = {"user": [("unit", "C"), ("unit", "K")], "content_type": "text/plain", "correlation_data": b"\0\xff", "response_topic": "answers/1", "payload_format": 1}
    for qos in (0, 1, 2):
        client.publish(f"{topic}/x", f"{qos}", qos, **properties)
    for record in consume(broker, topic, 3):
        produce(broker, other, (record.key().replace(topic.encode(), other.encode()), record.value(), record.headers()))
    for qos, message in enumerate(client.arrive("0", "1", "2")):
        same((f"{other}/x", qos), (message.topic, message.qos), "name and QoS")
        same(sorted(properties.items()), sorted((name, [tuple(pair) for pair in value] if name == NAMES else value) for name, value in ((name, message.get(name)) for name in properties)), "properties")


@case
def amqp_gets_what_mqtt_published(broker, kit, topic):
    with amqp(broker) as connection:
        channel = connection.channel()
        channel.queue_declare(topic, durable=True)
        client = kit.client()
        client.publish(f"{topic}/1/temp", "21.5", 1, user=[("unit", "C")], content_type="text/plain", correlation_data=b"c", response_topic="answers/1", message_expiry=60)
        client.publish(topic, "", 0)
        (method, first, body), (_, second, empty) = take(channel, topic, 2)
        same(("", topic, b"21.5", b""), (method.exchange, method.routing_key, body, empty), "exchange, routing key and bodies")
        same(("text/plain", "c", "answers/1", "60000", 2), (first.content_type, first.correlation_id, first.reply_to, first.expiration, first.delivery_mode), "properties")
        same((f"{topic}/1/temp", "C", 1), tuple(first.headers[name] for name in ("polymq.key", "unit", "mqtt.qos")), "headers")
        same((topic, 1), (second.headers["polymq.key"], second.delivery_mode), "key, and the delivery mode of QoS 0")
        same(0, channel.queue_declare(topic, passive=True).method.message_count, "messages left in the queue")


@case
def mqtt_gets_what_amqp_published(broker, kit, topic):
    with amqp(broker) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(topic, durable=True)
        channel.exchange_declare(f"{topic}-x", "topic")
        channel.queue_bind(topic, f"{topic}-x", "#")
        client = kit.client()
        client.subscribe(f"{topic}/#", qos=1)
        properties = pika.BasicProperties(content_type="text/plain", correlation_id="c", reply_to="answers/1", expiration="60000", delivery_mode=2, headers={"unit": "C", "number": 7, "list": [1, "a"]})
        channel.basic_publish("", topic, b"first", properties)
        channel.basic_publish(f"{topic}-x", f"{topic}/1/temp", b"second")
        channel.basic_publish(f"{topic}-x", "a.b", b"third")
        first, second, third = client.arrive("first", "second", "third")
        same([topic, f"{topic}/1/temp", topic], [message.topic for message in (first, second, third)], "names")
        same(("text/plain", b"c", "answers/1"), (first.get("content_type"), first.get("correlation_data"), first.get("response_topic")), "properties")
        assert 50 <= first.get("message_expiry") <= 60, f"expiry {first.get('message_expiry')}"
        same([("amqp.delivery-mode", "2"), ("unit", "C"), ("number", "7"), ("list", '[1,"a"]')], user(first), "user properties")
        same(("amqp.exchange", f"{topic}-x"), user(second)[0], "where it was published")
        same([b"first", b"second", b"third"], [body for _, _, body in take(channel, topic, 3)], "what the queue's consumers still get")


@case
def all_three_read_one_topic(broker, kit, topic):
    """A queue that Kafka, AMQP and MQTT put into: everybody reads all of it."""
    with amqp(broker) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(topic, durable=True)
        client = kit.client()
        client.subscribe(f"{topic}/#", qos=1)
        client.publish(f"{topic}/1", "1 mqtt", 1)
        produce(broker, topic, (f"{topic}/2", "2 kafka", []))
        channel.basic_publish("", topic, b"3 amqp")
        wanted = ["1 mqtt", "2 kafka", "3 amqp"]
        client.arrive(*wanted)
        same(wanted, [record.value().decode() for record in consume(broker, topic, 3)], "what Kafka reads")
        same(wanted, [body.decode() for _, _, body in take(channel, topic, 3)], "what AMQP takes")


@case
def retained_messages_are_mqtts_own(broker, kit, topic):
    """Kafka reads a retained message in its topic; a record does not become one."""
    kit.client().publish(f"{topic}/kept", "yes", 1, retain=True)
    record = consume(broker, topic, 1)[0]
    assert ("mqtt.retain", b"true") in record.headers(), f"headers {record.headers()}"
    produce(broker, topic, (f"{topic}/other", "no", [("mqtt.retain", b"true")]))
    late = kit.client()
    late.subscribe(f"{topic}/#", qos=1)
    late.arrive("yes")
    late.none_more(1)
    kit.client().publish(f"{topic}/kept", "", 1, retain=True)


if __name__ == "__main__":
    main(jobs=2)
