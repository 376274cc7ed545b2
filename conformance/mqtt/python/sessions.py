"""paho and raw packets: sessions that stay, takeover, what waits for who is away, and what comes again."""

import time

import packets
from mqtt_kit import JOBS, case, main, same, until, versions


@versions(3, 4, 5)
def session_present(kit, version):
    def comes(clean, expiry=600):
        client = kit.client("phone", version, clean=clean, **({"session_expiry": expiry} if version == 5 and expiry is not None else {}))
        present = client.session_present
        client.disconnect()
        return present
    same(False, comes(False), "the first time")
    if version > 3:  # 3.1 has no such flag
        same(True, comes(False), "the second time")
    same(False, comes(True, None), "with a clean start")
    same(False, comes(False), "after a clean session")
    if version == 5:
        same(True, comes(False, None), "again, now without an expiry")
        same(False, comes(False), "after a session that ended with its connection")


@versions(3, 4, 5)
def offline_delivery_in_order(kit, version):
    taker = kit.session("phone", version)
    taker.subscribe((kit.topic("1/#"), 1), (kit.topic("2/#"), 2))
    taker.disconnect()
    giver = kit.client("giver", version)
    wanted = [f"{number}" for number in range(300)]
    giver.published(*[giver.publish(kit.topic(f"{1 + number % 2}/{number % 7}"), text, 1 + number % 2, wait=False) for number, text in enumerate(wanted)])
    taker.connect()
    if version > 3:
        same(True, taker.session_present, "session present")
    got = taker.wait(300)
    same(sorted(wanted), sorted(m.text for m in got), "all of them")
    # Of each topic and QoS; paho tells of QoS 2 only when it is released.
    for topic in {m.topic for m in got}:
        mine = [int(m.text) for m in got if m.topic == topic]
        same(sorted(mine), mine, f"the order of {topic}")
    taker.none_more(300)
    # And then as ever.
    giver.publish(kit.topic("1/0"), "live", 1)
    same("live", taker.wait(301)[300].text, "what comes afterwards")


@versions(4, 5)
def qos_0_does_not_wait(kit, version):
    taker = kit.session("phone", version)
    taker.subscribe(kit.topic("#"), qos=1)
    taker.disconnect()
    giver = kit.client("giver", version)
    giver.publish(kit.topic(), "zero")
    giver.publish(kit.topic(), "one", 1)
    taker.connect()
    taker.arrive("one")
    taker.none_more(1)


@versions(4, 5)
def subscriptions_stay_and_go(kit, version):
    taker = kit.session("phone", version)
    taker.subscribe(kit.topic("a"), kit.topic("b"), qos=1)
    taker.unsubscribe(kit.topic("b"))
    taker.drop()
    taker.connect()
    giver = kit.client("giver", version)
    giver.publish(kit.topic("b"), "b", 1)
    giver.publish(kit.topic("a"), "a", 1)
    taker.arrive("a")
    taker.disconnect()
    # A clean start throws them away, and what waits.
    giver.publish(kit.topic("a"), "waits", 1)
    clean = kit.client("phone", version)
    same(False, clean.session_present, "session present")
    giver.publish(kit.topic("a"), "later", 1)
    clean.none_more(0)


@case
def session_ends_when_it_expires(kit):
    taker = kit.session("phone", expiry=1)
    taker.subscribe(kit.topic(), qos=1)
    taker.disconnect()
    kit.client("giver").publish(kit.topic(), "x", 1)
    # Not a wait for something: time has to pass.
    time.sleep(3.2)
    taker.connect()
    same(False, taker.session_present, "session present after its expiry")
    taker.none_more(0)


@case
def expiry_is_changed_by_disconnect(kit):
    phone = kit.session("phone", expiry=600)
    phone.disconnect(session_expiry=0)
    phone.connect()
    same(False, phone.session_present, "after an expiry of 0 in DISCONNECT")
    phone.disconnect()
    # From none to some is an error ([MQTT-3.14.2.2.2]).
    none = kit.wire("none")
    none.send(packets.disconnect(5, session_expiry=10))
    none.closes()
    again = kit.wire("none", clean=False)
    same(0, again.connack.session_present, "a session that could not be made to stay")


@case
def clean_start_with_an_expiry_stays(kit):
    phone = kit.client("phone", clean=True, session_expiry=600)
    phone.subscribe(kit.topic(), qos=1)
    phone.disconnect()
    kit.client("giver").publish(kit.topic(), "x", 1)
    phone = kit.session("phone")
    same(True, phone.session_present, "session present")
    phone.arrive("x")


@versions(4, 5)
def takeover(kit, version):
    old = kit.session("phone", version)
    old.subscribe(kit.topic(), qos=1)
    watcher = kit.client("watcher", version)
    new = kit.session("phone", version)
    same(True, new.session_present, "session present")
    reason = old.closes()
    if version == 5:
        same(0x8E, reason.value, "reason of DISCONNECT")
    watcher.publish(kit.topic(), "x", 1)
    new.arrive("x")
    new.publish(kit.topic(), "y", 1)
    new.arrive("x", "y")
    same([], old.texts(), "what the old one got")


@versions(4, 5)
def takeover_while_messages_come(kit, version):
    """None is lost, whoever has the session."""
    giver = kit.client("giver", version)
    phones = [kit.session("phone", version)]
    phones[0].subscribe(kit.topic(), qos=1)
    sent = 0
    for _ in range(10):
        mids = [giver.publish(kit.topic(), f"{sent + number}", 1, wait=False) for number in range(50)]
        sent += 50
        phones.append(kit.session("phone", version))
        giver.published(*mids)
    last = phones[-1]
    last.until("the last", lambda: f"{sent - 1}" in last.texts())
    same(set(), {f"{number}" for number in range(sent)} - {text for phone in phones for text in phone.texts()}, "lost")


def persistent(version):
    return {"clean": False, **({"session_expiry": 600} if version == 5 else {})}


@versions(4, 5)
def unacknowledged_comes_again(kit, version):
    """In the order of the first time, with its id and marked ([MQTT-4.4.0-1], [MQTT-4.6.0-1])."""
    wire = kit.wire("phone", version, **persistent(version))
    wire.subscribe(kit.topic(), qos=2)
    giver = kit.client("giver", version)
    for number in range(6):
        giver.publish(kit.topic(), f"{number}", 1 + number % 2)
    first = [wire.expect(packets.PUBLISH) for _ in range(6)]
    same([f"{number}".encode() for number in range(6)], [each.payload for each in first], "the first time")
    wire.send(packets.acknowledge(packets.PUBACK, first[0].identifier) + packets.acknowledge(packets.PUBREC, first[1].identifier))
    wire.expect(packets.PUBREL)
    wire.send(packets.acknowledge(packets.PUBCOMP, first[1].identifier) + packets.PING)
    wire.expect(packets.PINGRESP)
    wire.drop()
    giver.publish(kit.topic(), "6", 1)
    wire = kit.wire("phone", version, **persistent(version))
    same(1, wire.connack.session_present, "session present")
    got = [wire.expect(packets.PUBLISH) for _ in range(5)]
    same([(each.payload, each.identifier, True) for each in first[2:]], [(each.payload, each.identifier, each.duplicate) for each in got[:4]], "what comes again")
    same((b"6", False), (got[4].payload, got[4].duplicate), "what is new")
    wire.silent(0.2)


@versions(4, 5)
def exactly_once_over_a_lost_connection_in(kit, version):
    """A publisher loses its connection before PUBREC, and between PUBREC and PUBREL ([MQTT-4.3.3])."""
    taker = kit.client("taker", version)
    taker.subscribe(kit.topic(), qos=2)
    options = persistent(version)
    wire = kit.wire("giver", version, **options)
    wire.send(packets.publish(version, kit.topic(), "once", 2, 17))
    same((packets.PUBREC, 17), (lambda got: (got.kind, got.identifier))(wire.read()), "PUBREC")
    for _ in range(3):
        wire.drop()
        wire = kit.wire("giver", version, **options)
        same(1, wire.connack.session_present, "session present")
        wire.send(packets.publish(version, kit.topic(), "once", 2, 17, duplicate=True))
        wire.expect(packets.PUBREC)
    wire.send(packets.acknowledge(packets.PUBREL, 17))
    wire.expect(packets.PUBCOMP)
    wire.drop()
    wire = kit.wire("giver", version, **options)
    wire.send(packets.acknowledge(packets.PUBREL, 17))
    wire.expect(packets.PUBCOMP)
    # The same id is free now, for another message.
    wire.send(packets.publish(version, kit.topic(), "another", 2, 17))
    wire.expect(packets.PUBREC)
    wire.send(packets.acknowledge(packets.PUBREL, 17))
    wire.expect(packets.PUBCOMP)
    taker.arrive("once", "another")
    taker.none_more(2)


@versions(4, 5)
def exactly_once_over_a_lost_connection_out(kit, version):
    """A subscriber loses its connection before PUBREC, before PUBREL and before PUBCOMP."""
    options = persistent(version)
    wire = kit.wire("taker", version, **options)
    wire.subscribe(kit.topic(), qos=2)
    giver = kit.client("giver", version)
    giver.publish(kit.topic(), "once", 2)
    first = wire.expect(packets.PUBLISH)
    same((b"once", 2, False), (first.payload, first.qos, first.duplicate), "the message")
    wire.drop()
    wire = kit.wire("taker", version, **options)
    again = wire.expect(packets.PUBLISH)
    same((b"once", first.identifier, True), (again.payload, again.identifier, again.duplicate), "the message again")
    wire.send(packets.acknowledge(packets.PUBREC, again.identifier))
    same(again.identifier, wire.expect(packets.PUBREL).identifier, "PUBREL")
    for _ in range(2):
        wire.drop()
        wire = kit.wire("taker", version, **options)
        same(again.identifier, wire.expect(packets.PUBREL).identifier, "PUBREL again, and no PUBLISH")
    wire.send(packets.acknowledge(packets.PUBCOMP, again.identifier))
    wire.send(packets.PING)
    wire.expect(packets.PINGRESP)
    wire.drop()
    wire = kit.wire("taker", version, **options)
    wire.silent()


@case
def paho_reconnects_and_goes_on(kit):
    """As an application does: the same client object, loss after loss; nothing published is lost, QoS 2 comes once."""
    taker, giver = kit.session("taker"), kit.session("giver")
    taker.subscribe(kit.topic(), qos=2)
    sent = 0
    for lost in range(6):
        for _ in range(30):
            giver.publish(kit.topic(), f"{sent}", 1 + sent % 2, wait=False)
            sent += 1
        (taker if lost % 2 else giver).drop()
        (taker if lost % 2 else giver).connect()
    until("everything published is acknowledged", lambda: len(giver.acknowledged) >= sent, 30)
    wanted = {f"{number}" for number in range(sent)}
    until("everything has come", lambda: wanted <= set(taker.texts()), 30)
    same(set(), wanted - set(taker.texts()), "lost")
    exactly = [text for text in taker.texts() if int(text) % 2]
    same(sorted(set(exactly)), sorted(exactly), "QoS 2, each once")


@case
def a_window_full_waits(kit):
    """More waits than a window takes, and more come while it is delivered."""
    taker = kit.session("taker", receive_maximum=10)
    taker.subscribe(kit.topic(), qos=1)
    taker.disconnect()
    giver = kit.client("giver")
    giver.published(*[giver.publish(kit.topic(), f"{number}", 1, wait=False) for number in range(400)])
    taker.connect()
    giver.published(*[giver.publish(kit.topic(), f"{number}", 1, wait=False) for number in range(400, 800)])
    taker.arrive(*[f"{number}" for number in range(800)])


@versions(4, 5)
def a_thousand_waiting_at_once(kit, version):
    taker = kit.session("phone", version)
    taker.subscribe(kit.topic("#"), qos=1)
    taker.disconnect()
    giver = kit.client("giver", version)
    giver.published(*[giver.publish(kit.topic(f"{number % 50}"), f"{number}", 1, wait=False) for number in range(1000)])
    started = time.monotonic()
    taker.connect()
    taker.wait(1000)
    took = time.monotonic() - started
    assert took < 3, f"1,000 waiting messages took {took:.1f} s"
    same([f"{number}" for number in range(1000)], sorted(taker.texts(), key=int), "all of them")


if __name__ == "__main__":
    main(jobs=JOBS)
