"""paho: what reaches a subscriber: qualities of service, order, filters, properties, identifiers, sizes, requests and their answers."""

import packets
from mqtt_kit import JOBS, case, main, same, versions


@versions(3, 4, 5)
def every_qos_to_every_qos(kit, version):
    for wanted in (0, 1, 2):
        taker = kit.client(f"t{wanted}", version)
        taker.subscribe(kit.topic("+"), qos=wanted)
        giver = kit.client(f"g{wanted}", version)
        for sent in (0, 1, 2):
            giver.publish(kit.topic(f"q{sent}"), f"{sent}", sent)
        got = taker.wait(3)
        same([(f"{sent}", min(sent, wanted), False, False) for sent in (0, 1, 2)], sorted((m.text, m.qos, m.retain, m.dup) for m in got), "text, QoS, retained, dup")
        taker.none_more(3, 0.1)
        taker.disconnect()


@versions(4, 5)
def order_is_kept(kit, version):
    taker, giver = kit.client("taker", version), kit.client("giver", version)
    for qos in (0, 1, 2):
        taker.subscribe((kit.topic(f"{qos}"), qos))
        wanted = [f"{number}" for number in range(500)]
        mids = [giver.publish(kit.topic(f"{qos}"), text, qos, wait=False) for text in wanted]
        giver.published(*mids)
        taker.arrive(*wanted)
        taker.forget()


@versions(4, 5)
def exactly_once_by_the_thousand(kit, version):
    takers = [kit.client(f"t{number}", version) for number in range(3)]
    for taker in takers:
        taker.subscribe(kit.topic("#"), qos=2)
    givers = [kit.client(f"g{number}", version) for number in range(3)]
    mids = [(giver, giver.publish(kit.topic(giver.id), f"{giver.id} {number}", 2, wait=False)) for number in range(200) for giver in givers]
    for giver, mid in mids:
        giver.published(mid)
    for taker in takers:
        taker.wait(600, 40)
        taker.none_more(600)
        for giver in givers:
            same([f"{giver.id} {number}" for number in range(200)], [m.text for m in taker.messages if m.topic.endswith(giver.id)], "of one publisher")


@case
def what_a_payload_can_be(kit):
    taker, giver = kit.client("taker"), kit.client("giver")
    taker.subscribe(kit.topic("#"), qos=1)
    wanted = [b"", b"\x00", bytes(range(256)), "ünï ключ 🦀".encode(), b"x" * (1 << 20), bytes(range(256)) * 4096 * 5]
    for body in wanted:
        giver.publish(kit.topic("body"), body, 1)
    same([len(body) for body in wanted], [len(m.payload) for m in taker.wait(len(wanted), 40)], "lengths")
    assert wanted == [m.payload for m in taker.messages], "the payloads differ"


@versions(4, 5)
def filters(kit, version):
    """(filter, the names of those below that it takes)"""
    names = ["a", "a/b", "a/b/c", "a//c", "/", "a/", "b/b", "ü/ключ", "a b/c", "long/" + "l" * 5000]
    for number, (name, wanted) in enumerate((
            ("#", names), ("a", ["a"]), ("a/#", ["a", "a/b", "a/b/c", "a//c", "a/"]), ("a/+", ["a/b", "a/"]), ("+", ["a"]), ("+/b", ["a/b", "b/b"]), ("a/+/c", ["a/b/c", "a//c"]), ("+/+/+", ["a/b/c", "a//c"]),
            ("+/+", ["a/b", "/", "a/", "b/b", "ü/ключ", "a b/c", "long/" + "l" * 5000]), ("+/ключ", ["ü/ключ"]), ("a//c", ["a//c"]), ("/", ["/"]), ("+/b/#", ["a/b", "a/b/c", "b/b"]), ("A", []), ("long/#", ["long/" + "l" * 5000]))):
        taker = kit.client(f"t{number}", version)
        taker.subscribe(f"{kit.prefix}/{name}", qos=1)
        taker.wanted = wanted
    giver = kit.client("giver", version)
    for name in names:
        giver.publish(f"{kit.prefix}/{name}", name, 1)
    for taker in kit.clients[:-1]:
        same(sorted(taker.wanted), sorted(m.text for m in taker.wait(len(taker.wanted))), taker.id)
    for taker in kit.clients[:3]:
        taker.none_more(len(taker.wanted))


@case
def wildcards_do_not_take_dollar_names(kit):
    taker = kit.client("taker")
    taker.subscribe("#", "+/broker/uptime", "+/broker/version", qos=1)
    kit.client("giver").publish(kit.topic(), "mine", 1)
    taker.until("its own message", lambda: any(m.text == "mine" for m in taker.messages))
    strange = [m for m in taker.messages if m.topic.startswith("$")]
    same([], strange, "messages whose names begin with $")


@versions(4, 5)
def many_filters_in_one_subscribe(kit, version):
    taker, giver = kit.client("taker", version), kit.client("giver", version)
    taker.subscribe(*[(kit.topic(f"{number}"), number % 3) for number in range(1000)])
    for number in (0, 1, 2, 500, 998, 999):
        giver.publish(kit.topic(f"{number}"), f"{number}", 2)
    same([("0", 0), ("1", 1), ("2", 2), ("500", 2), ("998", 2), ("999", 0)], sorted(((m.text, m.qos) for m in taker.wait(6)), key=lambda each: int(each[0])), "text and QoS")
    taker.unsubscribe(*[kit.topic(f"{number}") for number in range(500)])
    giver.publish(kit.topic("0"), "gone", 1)
    giver.publish(kit.topic("999"), "still", 1)
    same("still", taker.wait(7)[6].text, "after unsubscribing half")


@versions(4, 5)
def unsubscribed_gets_no_more(kit, version):
    taker, giver = kit.client("taker", version), kit.client("giver", version)
    taker.subscribe(kit.topic("a"), kit.topic("b"), qos=1)
    giver.publish(kit.topic("a"), "1", 1)
    taker.wait(1)
    answer = taker.unsubscribe(kit.topic("a"), kit.topic("never"))
    if version == 5:
        same([0x00, 0x11], answer, "reasons: success, and no subscription existed")
    giver.publish(kit.topic("a"), "2", 1)
    giver.publish(kit.topic("b"), "3", 1)
    same(["1", "3"], sorted(m.text for m in taker.wait(2)), "what came")
    taker.none_more(2)


@versions(4, 5)
def subscribing_again_replaces_the_qos(kit, version):
    taker, giver = kit.client("taker", version), kit.client("giver", version)
    for qos in (0, 2, 1):
        taker.subscribe(kit.topic(), qos=qos)
        giver.publish(kit.topic(), "x", 2)
        taker.wait(1)
        same([qos], [m.qos for m in taker.none_more(1, 0.1)], "QoS")
        taker.forget()


@case
def overlapping_subscriptions(kit):
    """One copy with all identifiers, or one for each subscription: both are right ([MQTT-3.3.4-3], [MQTT-3.3.4-4])."""
    taker, giver = kit.client("taker"), kit.client("giver")
    taker.subscribe(kit.topic("#"), qos=1, identifier=7)
    taker.subscribe(kit.topic("+"), qos=2, identifier=268_435_455)
    giver.publish(kit.topic("a"), "x", 2)
    identifiers = lambda: sorted(each for m in taker.messages for each in m.get("subscription_identifier"))  # noqa: E731
    taker.until("both identifiers", lambda: identifiers() == [7, 268_435_455])
    same(2, max(m.qos for m in taker.messages), "the highest QoS")
    taker.forget()
    giver.publish(kit.topic("a/b"), "end", 2)
    taker.arrive("end")
    same([7], identifiers(), "identifiers of what only one takes")


@case
def subscription_identifiers(kit):
    taker, giver = kit.client("taker"), kit.client("giver")
    for identifier in (1, 127, 128, 16_383, 2_097_152, 268_435_455):
        taker.subscribe(kit.topic(), qos=1, identifier=identifier)  # the last of them counts
        giver.publish(kit.topic(), f"{identifier}", 1)
        taker.until("it comes", lambda: taker.messages and taker.messages[-1].text == f"{identifier}")
        same([identifier], taker.messages[-1].get("subscription_identifier"), "identifiers")
    taker.subscribe(kit.topic(), qos=1)
    giver.publish(kit.topic(), "none", 1)
    same(None, taker.wait(7)[6].get("subscription_identifier"), "identifiers after a subscribe without one")


@case
def no_local(kit):
    me, other = kit.client("me"), kit.client("other")
    me.subscribe(kit.topic("mine"), qos=1, no_local=True)
    me.subscribe(kit.topic("all"), qos=1)
    other.subscribe(kit.topic("mine"), qos=1, no_local=True)
    me.publish(kit.topic("mine"), "from me", 1)
    other.publish(kit.topic("mine"), "from other", 1)
    me.publish(kit.topic("all"), "to all", 1)
    same(["from other", "to all"], sorted(m.text for m in me.wait(2)), "what came")
    other.arrive("from me")
    other.none_more(1)
    me.none_more(2)


@case
def every_property_comes_through(kit):
    taker, giver = kit.client("taker"), kit.client("giver")
    taker.subscribe(kit.topic(), qos=2)
    users = [("twice", "first"), ("twice", "second"), ("", ""), ("naïve ключ", "ü" * 1000), *[(f"k{number}", f"v{number}") for number in range(100)]]
    for qos in (0, 1, 2):
        giver.publish(kit.topic(), '{"a": 1}', qos, payload_format=1, content_type="application/json", response_topic="answers/here", correlation_data=bytes(range(256)), user=users)
        message = taker.wait(1)[0]
        for name, wanted in (("payload_format", 1), ("content_type", "application/json"), ("response_topic", "answers/here"), ("correlation_data", bytes(range(256))), ("message_expiry", None), ("topic_alias", None)):
            same(wanted, message.get(name), name)
        same(users, [tuple(pair) for pair in message.get("user")], "user properties, in order")
        taker.forget()
    # Of an older client, none; to an older client, just the message.
    old = kit.client("old", 4)
    old.subscribe(kit.topic(), qos=1)
    giver.publish(kit.topic(), "from 5", 1, user=users)
    old.arrive("from 5")
    old.publish(kit.topic(), "from 4", 1)
    same(None, taker.wait(2)[1].get("user"), "user properties of a message from 3.1.1")


@case
def request_and_response(kit):
    server, asker = kit.client("server"), kit.client("asker")
    server.subscribe(kit.topic("requests"), qos=1)
    asker.subscribe(kit.topic(f"answers/{asker.id}"), qos=1)
    for number in range(10):
        asker.publish(kit.topic("requests"), f"{number}", 1, response_topic=kit.topic(f"answers/{asker.id}"), correlation_data=bytes([number]))
    for message in server.wait(10):
        server.publish(message.get("response_topic"), f"{int(message.text) ** 2}", 1, correlation_data=message.get("correlation_data"))
    same([(bytes([number]), f"{number ** 2}") for number in range(10)], [(m.get("correlation_data"), m.text) for m in asker.wait(10)], "answers")


@case
def versions_talk_to_each_other(kit):
    clients = {version: kit.client(f"v{version}", version) for version in (3, 4, 5)}
    for client in clients.values():
        client.subscribe(kit.topic(), qos=2)
    for version, client in clients.items():
        client.publish(kit.topic(), f"from {version}", 2)
    for client in clients.values():
        client.arrive("from 3", "from 4", "from 5")


@case
def by_websocket(kit):
    for version in (4, 5):
        taker = kit.client(f"taker{version}", version, websocket=True)
        taker.subscribe(kit.topic(f"{version}"), qos=2)
        giver = kit.client(f"giver{version}", version)
        body = bytes(range(256)) * 1024
        giver.publish(kit.topic(f"{version}"), body, 2)
        assert taker.wait(1)[0].payload == body, "256 KiB by WebSocket differ"
        taker.publish(kit.topic(f"{version}"), "back", 1)
        same("back", taker.wait(2)[1].text, "the second")


@case
def assigned_client_ids(kit):
    names = []
    for _ in range(3):
        wire = kit.wire(client_id="")
        names.append(wire.connack.properties.get("assigned_client_id"))
    assert all(names) and len(set(names)) == 3, f"assigned: {names}"
    # It is a client id like any other: who comes with it takes over.
    again = kit.wire(client_id=names[0])
    same(None, again.connack.properties.get("assigned_client_id"), "assigned to one that has an id")
    kit.wires[0].closes()
    # 3.1.1: none is told, and only a clean session may do without.
    kit.wire(client_id="", version=4)
    refused = kit.wire(client_id="", version=4, clean=False)
    same(2, refused.connack.reason, "return code: identifier rejected")
    refused.closes()


@case
def hundreds_of_clients(kit):
    wires = [kit.wire(f"many-{number}", version=4 + number % 2) for number in range(300)]
    for number, wire in enumerate(wires):
        wire.send(packets.subscribe(wire.version, 1, [(kit.topic(f"{number % 10}"), 1)]))
    for wire in wires:
        wire.expect(packets.SUBACK)
    giver = kit.client("giver")
    for number in range(10):
        giver.publish(kit.topic(f"{number}"), f"{number}", 1)
    for number, wire in enumerate(wires):
        same(f"{number % 10}".encode(), wire.expect(packets.PUBLISH).payload, "what it got")


if __name__ == "__main__":
    main(jobs=JOBS)
