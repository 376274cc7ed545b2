"""paho and raw packets: windows, aliases, packet sizes, expiry of messages, keep-alive, and how what is wrong is refused."""

import time

import packets
from mqtt_kit import JOBS, case, main, same, versions
from raw import Closed


@case
def receive_maximum_is_kept(kit):
    taker = kit.client("taker", manual=True, receive_maximum=3)
    taker.subscribe(kit.topic(), qos=1)
    giver = kit.client("giver")
    for number in range(10):
        giver.publish(kit.topic(), f"{number}", 1)
    taker.none_more(3)
    same(["0", "1", "2"], taker.texts(), "the first three")
    taken = 0
    while taken < 10:
        for message in taker.wait(taken + 1)[taken:]:
            assert len(taker.messages) - taken <= 3, f"{len(taker.messages) - taken} on their way"
            message.acknowledge()
            taken += 1
    same([f"{number}" for number in range(10)], taker.texts(), "all, in order")


@case
def receive_maximum_does_not_hold_back_qos_0(kit):
    taker = kit.client("taker", manual=True, receive_maximum=1)
    taker.subscribe(kit.topic(), qos=1)
    giver = kit.client("giver")
    for number in range(5):
        giver.publish(kit.topic(), f"one {number}", 1)
        giver.publish(kit.topic(), f"zero {number}", 0)
    taker.until("all of QoS 0", lambda: [text for text in taker.texts() if "zero" in text] == [f"zero {number}" for number in range(5)])
    same(["one 0"], [text for text in taker.texts() if "one" in text], "of QoS 1")


@case
def more_than_the_servers_receive_maximum(kit):
    """Who sends more unacknowledged QoS 2 than CONNACK allows is disconnected with 0x93 ([MQTT-3.3.4-9])."""
    wire = kit.wire()
    most = wire.connack.properties.get("receive_maximum", 65_535)
    if most == 65_535:  # cannot be exceeded
        return
    # PUBREL is never sent, so that none of them ends.
    wire.send(b"".join(packets.publish(5, kit.topic(), b"x", 2, number) for number in range(1, most + 200)))
    same(0x93, wire.closes(), "reason of DISCONNECT")


@case
def topic_aliases_to_the_server(kit):
    wire = kit.wire()
    most = wire.connack.properties.get("topic_alias_maximum", 0)
    assert most >= 2, f"it takes {most} aliases"
    taker = kit.client("taker")
    taker.subscribe(kit.topic("#"), qos=1)
    wire.send(packets.publish(5, kit.topic("a"), "1", topic_alias=1) + packets.publish(5, kit.topic("b"), "2", topic_alias=most) + packets.publish(5, "", "3", topic_alias=1)
              + packets.publish(5, "", "4", topic_alias=most) + packets.publish(5, kit.topic("c"), "5", topic_alias=1) + packets.publish(5, "", "6", 1, 9, topic_alias=1))
    # Only messages of one topic have an order.
    same([(kit.topic(name), text) for name, text in zip("ababcc", "123456")], sorted(((m.topic, m.text) for m in taker.wait(6)), key=lambda each: each[1]), "topics")
    wire.expect(packets.PUBACK)
    # Another connection does not know them.
    other = kit.wire("other")
    other.send(packets.publish(5, "", "x", topic_alias=1))
    assert other.closes() in (0x82, 0x94), "an alias that nobody has made"
    beyond = kit.wire("beyond")
    if most < 65_535:
        beyond.send(packets.publish(5, kit.topic(), "x", topic_alias=most + 1))
        same(0x94, beyond.closes(), "reason for an alias beyond the maximum")


@case
def topic_aliases_to_the_client(kit):
    """They may be used or not; who reads them right gets the right names."""
    wire = kit.wire(topic_alias_maximum=2)
    wire.subscribe(kit.topic("#"))
    giver = kit.client("giver")
    wanted = [("a", "b", "c", "a", "b", "c", "a", "a", "c")[number % 9] for number in range(45)]
    for name in wanted:
        giver.publish(kit.topic(name), name)
    aliases, came = {}, []
    for _ in wanted:
        got = wire.expect(packets.PUBLISH)
        alias = got.properties.get("topic_alias")
        if alias is not None:
            assert 1 <= alias <= 2, f"alias {alias}"
            topic = aliases[alias] = got.topic or aliases[alias]
        else:
            topic = got.topic
        same(kit.topic(got.payload.decode()), topic, "its name")
        came.append(got.payload.decode())
    same(sorted(wanted), sorted(came), "all of them")


@case
def no_aliases_unasked(kit):
    wire = kit.wire()
    wire.subscribe(kit.topic())
    giver = kit.client("giver")
    for _ in range(20):
        giver.publish(kit.topic(), "x")
    for _ in range(20):
        got = wire.expect(packets.PUBLISH)
        same((kit.topic(), None), (got.topic, got.properties.get("topic_alias")), "topic and alias")


@case
def maximum_packet_size_of_the_client(kit):
    """What is too large for a client is for it as if it had been sent ([MQTT-3.1.2-25])."""
    small, large = kit.session("small", maximum_packet_size=300), kit.client("large")
    for client in (small, large):
        client.subscribe(kit.topic(), qos=1)
    giver = kit.client("giver")
    for number in range(6):
        giver.publish(kit.topic(), f"{number}" + "x" * (1000 if number % 2 else 0), 1)
    large.wait(6)
    small.arrive("0", "2", "4")
    small.none_more(3)


@case
def message_expiry_counts_down(kit):
    taker = kit.session("taker")
    taker.subscribe(kit.topic(), qos=1)
    taker.disconnect()
    giver = kit.client("giver")
    started = time.monotonic()
    giver.publish(kit.topic(), "long", 1, message_expiry=100)
    giver.publish(kit.topic(), "short", 1, message_expiry=1)
    giver.publish(kit.topic(), "for ever", 1)
    giver.publish(kit.topic(), "at once", 1, message_expiry=4_000_000_000)
    # Not a wait for something: time has to pass.
    time.sleep(2.3)
    taker.connect()
    got = taker.wait(3)
    waited = time.monotonic() - started
    same(["long", "for ever", "at once"], [m.text for m in got], "what has not expired")
    left = got[0].get("message_expiry")
    assert 100 - waited - 1.5 <= left <= 98, f"{left} s are left of 100 after {waited:.1f} s"
    same(None, got[1].get("message_expiry"), "expiry of what has none")
    assert got[2].get("message_expiry") <= 3_999_999_998, got[2].get("message_expiry")


@case
def message_expiry_online(kit):
    taker = kit.client("taker")
    taker.subscribe(kit.topic(), qos=1)
    kit.client("giver").publish(kit.topic(), "x", 1, message_expiry=50)
    assert taker.wait(1)[0].get("message_expiry") in (49, 50), "expiry of what is delivered at once"


@versions(4, 5)
def keep_alive_ends(kit, version):
    """Within one and a half times of it, and a will goes out."""
    watcher = kit.client("watcher", version)
    watcher.subscribe(kit.topic("will"), qos=1)
    started = time.monotonic()
    wire = kit.wire(version=version, keepalive=1, will=(kit.topic("will"), "gone", 1, False, {}))
    if wire.connack.properties.get("server_keep_alive"):
        return
    reason = wire.closes()
    took = time.monotonic() - started
    # mosquitto looks every few seconds.
    assert 1.0 <= took <= 10, f"closed after {took:.1f} s"
    if version == 5:
        assert reason in (0x8D, None), f"reason {reason}"
    watcher.arrive("gone")


@case
def pings_keep_alive(kit):
    wire = kit.wire(keepalive=1)
    end = time.monotonic() + 4
    while time.monotonic() < end:
        wire.send(packets.PING)
        wire.expect(packets.PINGRESP)
        time.sleep(0.3)
    wire.silent(0.1)


@case
def filters_that_are_none(kit):
    for name in ("a#", "#/a", "a+", "a/+b", "a/#/b", ""):
        wire = kit.wire("wrong")
        wire.send(packets.subscribe(5, 1, [(name, 0)]))
        try:
            got = wire.read()
        except Closed:
            continue
        if got.kind == packets.SUBACK:
            same([0x8F], got.reasons, f"reason for {name!r}")
        else:
            assert got.kind == packets.DISCONNECT and got.reason in (0x81, 0x82, 0x8F), got


@case
def names_that_are_none(kit):
    for name in ("a/#", "a/+", "+", "#"):
        for version in (4, 5):
            wire = kit.wire(f"wrong{version}", version)
            wire.send(packets.publish(version, name, "x"))
            reason = wire.closes()
            if version == 5:
                assert reason in (0x81, 0x82, 0x90, None), f"{name!r}: {reason}"


@case
def what_is_no_packet(kit):
    for version in (4, 5):
        for data in (b"\x00\x00", b"\xf0\x01\x00" if version == 4 else b"\xf0\x01\x7f", b"\x30\xff\xff\xff\xff\x7f", b"\x36\x05\x00\x01a\x00\x01", b"\x82\x02\x00\x00", packets.connect(version, "again")):
            wire = kit.wire(f"broken{version}", version)
            wire.send(data)
            wire.closes()
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x10\x02\x00\x00", packets.publish(4, "a", "b"), packets.PING):
        wire = kit.wire("first", connect=False)
        wire.send(data)
        wire.closes()


@case
def protocol_versions_that_are_none(kit):
    wire = kit.wire(connect=False, version=4)
    wire.send(packets.packet(packets.CONNECT, packets.text("MQTT") + b"\x09\x02\x00\x3c" + packets.text("x")))
    try:
        got = wire.read()
        assert got.kind == packets.CONNACK and got.reason in (1, 0x84), got
        wire.closes()
    except Closed:
        pass


@case
def a_publisher_that_never_reads(kit):
    """It cannot stop others."""
    taker, giver = kit.client("taker"), kit.client("giver")
    taker.subscribe(kit.topic("a"), qos=1)
    wire = kit.wire("deaf")
    wire.socket.settimeout(3)
    try:
        for number in range(200_000):
            wire.send(packets.publish(5, kit.topic("deaf"), "x" * 100, 1, number % 60_000 + 1))
    except TimeoutError:
        pass  # its own fault
    except OSError:
        pass
    for number in range(20):
        giver.publish(kit.topic("a"), f"{number}", 1)
    taker.arrive(*[f"{number}" for number in range(20)])


@case
def a_subscriber_that_never_reads(kit):
    """It delays nobody."""
    deaf = kit.wire("deaf")
    deaf.subscribe(kit.topic("a"), qos=0)
    deaf.socket.setsockopt(1, 8, 4096)
    taker, giver = kit.client("taker"), kit.client("giver")
    taker.subscribe(kit.topic("a"), qos=1)
    body = "x" * 50_000
    for _ in range(300):
        giver.publish(kit.topic("a"), body, 1)
    taker.wait(300)


if __name__ == "__main__":
    main(jobs=JOBS)
