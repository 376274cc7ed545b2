"""paho: last wills: when they go out and when not, delayed ones, retained ones, their properties."""

import time

import packets
from mqtt_kit import JOBS, case, main, same, versions


def watch(kit, version=5, **options):
    watcher = kit.client("watcher", version)
    watcher.subscribe(kit.topic("will"), qos=2, **options)
    return watcher


@versions(3, 4, 5)
def goes_out_when_the_connection_is_lost(kit, version):
    watcher = watch(kit, version)
    for qos in (0, 1, 2):
        kit.client(f"c{qos}", version, will=(kit.topic("will"), f"gone {qos}", qos, False)).drop()
        same((f"gone {qos}", qos, False), (lambda m: (m.text, m.qos, m.retain))(watcher.wait(qos + 1)[qos]), "the will")


@versions(3, 4, 5)
def not_after_a_disconnect(kit, version):
    watcher = watch(kit, version)
    kit.client("leaver", version, will=(kit.topic("will"), "gone", 1, False)).disconnect()
    watcher.none_more(0)


@case
def after_a_disconnect_that_asks_for_it(kit):
    watcher = watch(kit)
    kit.client("leaver", will=(kit.topic("will"), "gone", 1, False)).disconnect(reason=0x04)
    watcher.arrive("gone")


@case
def after_a_fault_of_the_client(kit):
    watcher = watch(kit)
    wire = kit.wire("fault", will=(kit.topic("will"), "gone", 1, False, {}))
    wire.send(b"\x00\x00")
    wire.closes()
    watcher.arrive("gone")


@versions(4, 5)
def retained_will(kit, version):
    watcher = watch(kit, version)
    kit.client("status", version, will=(kit.topic("will"), "offline", 1, True)).drop()
    same(False, watcher.wait(1)[0].retain, "retained, for who was there")
    late = kit.client("late", version)
    late.subscribe(kit.topic("will"), qos=1)
    same([("offline", True)], [(m.text, m.retain) for m in late.wait(1)], "for who comes later")
    watcher.publish(kit.topic("will"), b"", 1, retain=True)


@case
def properties_of_a_will(kit):
    watcher = watch(kit)
    kit.client("c", will=(kit.topic("will"), "gone", 1, False, {"payload_format": 1, "content_type": "text/plain", "response_topic": "r", "correlation_data": b"\x00\xff", "message_expiry": 100, "user": [("a", "b"), ("a", "c")]})).drop()
    will = watcher.wait(1)[0]
    for name, wanted in (("payload_format", 1), ("content_type", "text/plain"), ("response_topic", "r"), ("correlation_data", b"\x00\xff"), ("user", [("a", "b"), ("a", "c")])):
        same(wanted, [tuple(pair) for pair in will.get(name)] if name == "user" else will.get(name), name)
    assert will.get("message_expiry") in (99, 100), will.get("message_expiry")
    same(None, will.get("will_delay"), "the delay is nobody else's business")


@case
def delayed(kit):
    watcher = watch(kit)
    client = kit.session("c", will=(kit.topic("will"), "gone", 1, False, {"will_delay": 2}))
    lost = time.monotonic()
    client.drop()
    waited = watcher.wait(1)[0].at - lost
    assert 1.7 <= waited <= 6, f"it came after {waited:.1f} s"


@case
def delayed_and_back_in_time(kit):
    watcher = watch(kit)
    client = kit.session("c", will=(kit.topic("will"), "gone", 1, False, {"will_delay": 2}))
    client.drop()
    client.connect()
    # Not a wait for something: nothing is to come.
    watcher.none_more(0, 4)
    client.disconnect()


@case
def delayed_longer_than_the_session(kit):
    """It goes out when the session ends ([MQTT-3.1.3-9])."""
    watcher = watch(kit)
    client = kit.session("c", expiry=1, will=(kit.topic("will"), "gone", 1, False, {"will_delay": 60}))
    client.drop()
    watcher.arrive("gone")


@case
def delayed_without_a_session(kit):
    """The session ends with the connection, and so does the delay."""
    watcher = watch(kit)
    kit.client("c", will=(kit.topic("will"), "gone", 1, False, {"will_delay": 60})).drop()
    watcher.arrive("gone")


@case
def delayed_and_a_clean_start(kit):
    """It ends the session that was, so that its will goes out."""
    watcher = watch(kit)
    kit.session("c", will=(kit.topic("will"), "gone", 1, False, {"will_delay": 60})).drop()
    kit.client("c", clean=True)
    watcher.arrive("gone")


@versions(4, 5)
def takeover_sends_the_will(kit, version):
    """The old connection is closed by the server, not by a DISCONNECT of its client ([MQTT-3.1.2-8]; 3.1.1: the same)."""
    watcher = watch(kit, version)
    old = kit.client("c", version, will=(kit.topic("will"), "gone", 1, False))
    kit.client("c", version)
    old.closes()
    watcher.arrive("gone")


@case
def takeover_and_a_delayed_will(kit):
    """The session goes on, so the will does not go out."""
    watcher = watch(kit)
    old = kit.session("c", will=(kit.topic("will"), "gone", 1, False, {"will_delay": 2}))
    kit.session("c")
    old.closes()
    watcher.none_more(0, 3.5)


@versions(4, 5)
def not_without_a_flag(kit, version):
    """A reconnect without a will has none."""
    watcher = watch(kit, version)
    kit.session("c", version, will=(kit.topic("will"), "gone", 1, False)).disconnect()
    kit.session("c", version).drop()
    watcher.none_more(0)


@case
def reaches_who_is_away(kit):
    away = kit.session("away")
    away.subscribe(kit.topic("will"), qos=1)
    away.disconnect()
    kit.client("c", will=(kit.topic("will"), "gone", 1, False)).drop()
    watcher = kit.client("watcher")
    watcher.publish(kit.topic("will"), "marker", 1)
    away.connect()
    away.until("the will", lambda: "gone" in away.texts())


@case
def large_will(kit):
    watcher = watch(kit)
    body = bytes(range(256)) * 250
    wire = kit.wire("c", will=(kit.topic("will"), body, 1, False, {}))
    wire.send(packets.PING)
    wire.expect(packets.PINGRESP)
    wire.drop()
    assert watcher.wait(1)[0].payload == body, "64,000 bytes differ"


if __name__ == "__main__":
    main(jobs=JOBS)
