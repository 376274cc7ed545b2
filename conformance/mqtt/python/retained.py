"""paho: retained messages: who gets them, with which flags, when they are replaced, cleared or too old."""

import time

from mqtt_kit import JOBS, case, main, same, versions


def keep(kit, giver, **texts):
    for name, text in texts.items():
        giver.publish(kit.topic(name), text, 1, retain=True)


def clear(giver, *topics):
    for topic in topics:
        giver.publish(topic, b"", 1, retain=True)


def fresh(kit, name, *filters, count=1, version=5, qos=1, **options):
    """What somebody new gets: (topic's end, text, QoS, retained), in the order of topics."""
    client = kit.client(name, version)
    client.subscribe(*filters, qos=qos, **options)
    return sorted((m.topic.removeprefix(kit.prefix + "/"), m.text, m.qos, m.retain) for m in (client.wait(count) if count else client.none_more(0)))


@versions(3, 4, 5)
def comes_to_who_subscribes_later(kit, version):
    giver = kit.client("giver", version)
    for qos in (0, 1, 2):
        giver.publish(kit.topic(f"q{qos}"), f"{qos}", qos, retain=True)
    giver.publish(kit.topic("not"), "not retained", 1)
    for wanted in (0, 1, 2):
        same([(f"q{qos}", f"{qos}", min(qos, wanted), True) for qos in (0, 1, 2)], fresh(kit, f"t{wanted}", kit.topic("+"), count=3, qos=wanted, version=version), f"at QoS {wanted}")
    clear(giver, *[kit.topic(f"q{qos}") for qos in (0, 1, 2)])
    same([], fresh(kit, "after", kit.topic("#"), count=0, version=version), "after they were cleared")


@versions(4, 5)
def replaced_and_cleared(kit, version):
    giver, there = kit.client("giver", version), kit.client("there", version)
    there.subscribe(kit.topic("a"), qos=1)
    for text in ("one", "two", "three"):
        keep(kit, giver, a=text)
    same([("three", True)], [(m, r) for _, m, _, r in fresh(kit, "t1", kit.topic("a"), version=version)], "only the last")
    clear(giver, kit.topic("a"))
    same([], fresh(kit, "t2", kit.topic("a"), count=0, version=version), "cleared")
    # Who is there sees each as an ordinary message, the empty one too.
    same([("one", False), ("two", False), ("three", False), ("", False)], [(m.text, m.retain) for m in there.wait(4)], "for who is there")


@versions(4, 5)
def wildcards(kit, version):
    giver = kit.client("giver", version)
    names = ["a", "a/b", "a/b/c", "a//c", "b", "b/c", "ü/x"]
    for name in names:
        giver.publish(kit.topic(name), name, 1, retain=True)
    for number, (name, wanted) in enumerate((("#", names), ("+", ["a", "b"]), ("a/#", ["a", "a/b", "a/b/c", "a//c"]), ("+/+", ["a/b", "b/c", "ü/x"]), ("+/c", ["b/c"]), ("a/+/c", ["a/b/c", "a//c"]), ("ü/x", ["ü/x"]), ("c/#", []))):
        same(sorted(wanted), [topic for topic, *_ in fresh(kit, f"t{number}", kit.topic(name), count=len(wanted), version=version)], name)
    clear(giver, *map(kit.topic, names))


@versions(4, 5)
def every_subscribe_brings_it(kit, version):
    giver, taker = kit.client("giver", version), kit.client("taker", version)
    keep(kit, giver, a="x")
    for count in (1, 2, 3):
        taker.subscribe(kit.topic("a"), qos=1)
        same(["x"] * count, [m.text for m in taker.wait(count)], "so often")
    clear(giver, kit.topic("a"))


@case
def retain_as_published(kit):
    giver, plain, kept = kit.client("giver"), kit.client("plain"), kit.client("kept")
    plain.subscribe(kit.topic("a"), qos=1)
    kept.subscribe(kit.topic("a"), qos=1, retain_as_published=True)
    giver.publish(kit.topic("a"), "1", 1, retain=True)
    giver.publish(kit.topic("a"), "2", 1)
    giver.publish(kit.topic("a"), "3", 1, retain=True)
    same([False, False, False], [m.retain for m in plain.wait(3)], "without the option")
    same([True, False, True], [m.retain for m in kept.wait(3)], "with the option")
    clear(giver, kit.topic("a"))


@case
def retain_handling(kit):
    giver = kit.client("giver")
    keep(kit, giver, a="x")
    taker = kit.session("taker")
    taker.subscribe(kit.topic("a"), qos=1, retain_handling=2)
    taker.none_more(0)
    taker.subscribe(kit.topic("a"), qos=1, retain_handling=1)  # it is subscribed
    taker.none_more(0)
    taker.subscribe(kit.topic("a"), qos=1, retain_handling=0)
    taker.none_more(1)
    taker.unsubscribe(kit.topic("a"))
    taker.subscribe(kit.topic("a"), qos=1, retain_handling=1)  # it is new
    taker.none_more(2)
    # Known from the session that stayed.
    taker.drop()
    taker.connect()
    taker.subscribe(kit.topic("a"), qos=1, retain_handling=1)
    taker.none_more(2)
    clear(giver, kit.topic("a"))


@case
def not_for_shared_subscriptions(kit):
    giver = kit.client("giver")
    keep(kit, giver, a="x")
    taker = kit.client("taker")
    taker.subscribe(f"$share/{kit.prefix}/{kit.topic('a')}", qos=1)
    taker.none_more(0)
    clear(giver, kit.topic("a"))


@case
def properties_are_kept(kit):
    giver = kit.client("giver")
    giver.publish(kit.topic("a"), "x", 2, retain=True, payload_format=1, content_type="c", response_topic="r", correlation_data=b"\x00", user=[("k", "1"), ("k", "2")])
    taker = kit.client("taker")
    taker.subscribe(kit.topic("a"), qos=2, identifier=12)
    got = taker.wait(1)[0]
    same((1, "c", "r", b"\x00", [("k", "1"), ("k", "2")], [12]),
         (got.get("payload_format"), got.get("content_type"), got.get("response_topic"), got.get("correlation_data"), [tuple(pair) for pair in got.get("user")], got.get("subscription_identifier")), "properties")
    clear(giver, kit.topic("a"))


@case
def expiry(kit):
    giver = kit.client("giver")
    giver.publish(kit.topic("short"), "x", 1, retain=True, message_expiry=1)
    giver.publish(kit.topic("long"), "y", 1, retain=True, message_expiry=100)
    # Not a wait for something: time has to pass.
    time.sleep(2.2)
    taker = kit.client("taker")
    taker.subscribe(kit.topic("#"), qos=1)
    taker.none_more(1)
    left = taker.messages[0].get("message_expiry")
    same("y", taker.messages[0].text, "what has not expired")
    assert 90 <= left <= 98, f"{left} s left of 100"
    clear(giver, kit.topic("long"))


@case
def empty_is_not_kept(kit):
    giver = kit.client("giver")
    clear(giver, kit.topic("never"))
    same([], fresh(kit, "t", kit.topic("never"), count=0), "an empty retained message")


@case
def a_thousand(kit):
    giver = kit.client("giver")
    giver.published(*[giver.publish(kit.topic(f"{number % 10}/{number}"), f"{number}", 1, retain=True, wait=False) for number in range(1000)])
    same(sorted(f"{number}" for number in range(1000)), sorted(text for _, text, _, _ in fresh(kit, "all", kit.topic("#"), count=1000)), "all")
    same(sorted(f"{number}" for number in range(3, 1000, 10)), sorted(text for _, text, _, _ in fresh(kit, "tenth", kit.topic("3/+"), count=100)), "a tenth")
    giver.published(*[giver.publish(kit.topic(f"{number % 10}/{number}"), b"", 1, retain=True, wait=False) for number in range(1000)])
    same([], fresh(kit, "none", kit.topic("#"), count=0), "none after they were cleared")


@versions(4, 5)
def overlapping_filters_each_bring_it(kit, version):
    giver, taker = kit.client("giver", version), kit.client("taker", version)
    keep(kit, giver, a="x")
    taker.subscribe(kit.topic("a"), kit.topic("+"), qos=1)
    same(["x", "x"], [m.text for m in taker.wait(2)], "one for each filter")
    clear(giver, kit.topic("a"))


@case
def comes_before_what_is_published_later(kit):
    giver, taker = kit.client("giver"), kit.client("taker")
    keep(kit, giver, a="kept")
    taker.subscribe(kit.topic("a"), qos=1)
    giver.publish(kit.topic("a"), "live", 1)
    same([("kept", True), ("live", False)], [(m.text, m.retain) for m in taker.wait(2)], "in this order")
    clear(giver, kit.topic("a"))


if __name__ == "__main__":
    main(jobs=JOBS)
