"""What `/metrics` and `/health` say, held against what was done; the format is Prometheus' text format 0.0.4."""

import re
import time

from clients import Amqp, Kafka, Mqtt
from kit import broker, check, folder

SERIES = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)$')


def parsed(text):
    """{series: value}, each line judged."""
    kinds, values, metric = {}, {}, None
    check(text.endswith("\n"), "the last line has no end")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            metric = line.split(" ", 3)[2]
            check(metric not in kinds, f"{metric} is there twice")
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            check(name == metric and kind in ("counter", "gauge", "histogram"), f"a type of its own: {line}")
            check(kind != "counter" or name.endswith("_total"), f"a counter whose name does not say it: {name}")
            kinds[name] = kind
            continue
        found = SERIES.match(line)
        check(found, f"no series: {line}")
        name, series = found[1], line.rsplit(" ", 1)[0]
        own = re.sub("_(bucket|sum|count)$", "", name) if kinds.get(metric) == "histogram" else name
        check(own == metric, f"{name} stands under {metric}")
        check(series not in values, f"{series} is there twice")
        values[series] = float(found[3])
    for name in (name for name, kind in kinds.items() if kind == "histogram"):
        buckets = [value for series, value in values.items() if series.startswith(f"{name}_bucket")]
        check(buckets == sorted(buckets) and buckets[-1] == values[f"{name}_count"], f"{name}: {buckets}")
    return values


def metrics_tell_what_was_done():
    """Every protocol does a little; the counters rise by just that."""
    with folder() as at, broker(at) as running:
        before = parsed(running.metrics())
        kafka = Kafka(running.address("kafka"))
        kafka.create("orders")
        check(kafka.produce("orders", [b"x" * 1000] * 50) == 50, f"{kafka.errors}")
        kafka.read("orders")
        kafka.commit("orders", 20)
        amqp = Amqp(running.address("amqp"))
        amqp.channel.queue_declare('odd "name"', durable=True)
        for _ in range(10):
            check(amqp.publish('odd "name"', b"y"), "not confirmed")
        method, _, _ = amqp.channel.basic_get('odd "name"')
        amqp.channel.basic_ack(method.delivery_tag)
        amqp.channel.queue_declare('odd "name"', passive=True)
        subscriber, publisher = Mqtt(running.address("mqtt"), "one"), Mqtt(running.address("mqtt"), "two")
        subscriber.subscribe("values/#")
        for _ in range(7):
            check(publisher.publish("values/x", b"z" * 10) == 0, "MQTT")
        subscriber.messages(7)
        begun = time.monotonic()
        after = parsed(running.metrics())
        took = time.monotonic() - begun
        rise = lambda series: after.get(series, 0) - before.get(series, 0)
        for series, wanted in {
                'polymq_kafka_connections{listener="plain"}': lambda value: value >= 1,
                "polymq_amqp_published_messages_total": lambda value: value == 10,
                "polymq_amqp_confirmed_messages_total": lambda value: value == 10,
                "polymq_amqp_acknowledged_messages_total": lambda value: value == 1,
                'polymq_amqp_connections{listener="plain"}': lambda value: value == 1,
                "polymq_amqp_channels": lambda value: value == 1,
                "polymq_mqtt_clients": lambda value: value == 2,
                "polymq_mqtt_received_publishes_total": lambda value: value == 7,
                "polymq_mqtt_sent_publishes_total": lambda value: value == 7,
                "polymq_core_appended_messages_total": lambda value: value >= 67,
                "polymq_core_appended_bytes_total": lambda value: value >= 50_000,
                "polymq_core_fetched_bytes_total": lambda value: value >= 50_000,
                "polymq_core_append_seconds_count": lambda value: value >= 18,
                "polymq_core_sync_seconds_count": lambda value: value >= 1,
        }.items():
            check(wanted(rise(series)), f"{series}: {rise(series)}")
        lags = {series: value for series, value in after.items() if series.startswith("polymq_core_group_lag_messages")}
        check(any('topic="orders"' in series and 'group="committer"' in series and value == 30 for series, value in lags.items()), f"lags: {lags}")
        check(any(value == 9 for series, value in lags.items() if 'odd' in series), f"lags: {lags}")
        check(0 < after["polymq_core_disk_free_bytes"] <= after["polymq_core_disk_bytes"], "the room on the disk")
        amqp.close()
        subscriber.close()
        later = parsed(running.metrics())
        falling = [series for series in after if "_total" in series and later.get(series, 0) < after[series]]
        check(not falling, f"counters fell when connections ended: {falling}")
        check(running.health() == (200, "ok\n"), f"health: {running.health()}")
    return f"{len(after)} series in {took * 1000:.0f} ms"


CASES = [metrics_tell_what_was_done]
