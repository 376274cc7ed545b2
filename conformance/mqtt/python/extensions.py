"""paho: $SYS, and what EMQX has made usual: $delayed and $exclusive. What needs settings of a broker is in `alone`."""

import time

from mqtt_kit import JOBS, case, main, no_oracle, same, versions


class Either(list):
    """Reason codes of which any will do."""

    def __eq__(self, other):
        return other in self


EITHER = Either([[1], [0x97]])


@case
def sys_topics(kit):
    taker = kit.client("taker")
    taker.subscribe("$SYS/#", qos=0)
    wanted = ("$SYS/broker/version", "$SYS/broker/uptime", "$SYS/broker/clients/connected", "$SYS/broker/messages/received", "$SYS/broker/messages/sent", "$SYS/broker/subscriptions/count", "$SYS/broker/retained messages/count",
              "$SYS/broker/bytes/received", "$SYS/broker/bytes/sent")
    taker.until("the topics that everybody watches", lambda: set(wanted) <= {m.topic for m in taker.messages}, 30)
    # What is told first may be from before this client came; the next is not.
    taker.until("to be counted", lambda: any(m.topic == "$SYS/broker/clients/connected" and int(m.text) >= 1 for m in taker.messages), 30)
    values = {m.topic: m.text for m in taker.messages}
    assert int(values["$SYS/broker/clients/connected"]) >= 1, values
    assert values["$SYS/broker/version"], values


@case
def sys_topics_are_read_only(kit):
    watcher, giver = kit.client("watcher"), kit.client("giver")
    watcher.subscribe("$SYS/broker/mine", qos=1)
    giver.publish("$SYS/broker/mine", "x", 0)
    watcher.none_more(0)


@versions(4, 5)
@no_oracle("an extension")
def delayed(kit, version):
    taker, giver = kit.client("taker", version), kit.client("giver", version)
    taker.subscribe(kit.topic("#"), qos=1)
    started = time.monotonic()
    giver.publish(f"$delayed/2/{kit.topic('later')}", "later", 1)
    giver.publish(f"$delayed/1/{kit.topic('sooner')}", "sooner", 1)
    giver.publish(kit.topic("now"), "now", 1)
    got = taker.arrive("now", "sooner", "later")
    same([kit.topic(name) for name in ("now", "sooner", "later")], [m.topic for m in got], "topics")
    waits = [m.at - started for m in got]
    assert waits[0] < 0.9 <= waits[1] < 1.9 <= waits[2] < 6, f"they came after {waits} s"


@case
@no_oracle("an extension")
def delayed_waits_for_who_is_away_and_is_retained(kit):
    away = kit.session("away")
    away.subscribe(kit.topic("a"), qos=1)
    away.disconnect()
    giver = kit.client("giver")
    giver.publish(f"$delayed/1/{kit.topic('a')}", "x", 1, retain=True, user=[("k", "v")])
    watcher = kit.client("watcher")
    watcher.subscribe(kit.topic("a"), qos=1)
    watcher.arrive("x")
    away.connect()
    same([("x", [("k", "v")])], [(m.text, [tuple(pair) for pair in m.get("user")]) for m in away.wait(1)], "for who was away")
    late = kit.client("late")
    late.subscribe(kit.topic("a"), qos=1)
    same([("x", True)], [(m.text, m.retain) for m in late.wait(1)], "for who comes later")
    giver.publish(kit.topic("a"), b"", 1, retain=True)


@case
@no_oracle("an extension")
def exclusive(kit):
    first, second, giver = kit.client("first"), kit.client("second"), kit.client("giver")
    name = f"$exclusive/{kit.topic('a')}"
    first.subscribe(name, qos=1)
    second.subscribe(name, qos=1, expect=[0x97])
    giver.publish(kit.topic("a"), "1", 1)
    same([kit.topic("a")], [m.topic for m in first.wait(1)], "its topic")
    second.none_more(0)
    first.unsubscribe(name)
    second.subscribe(name, qos=1)
    giver.publish(kit.topic("a"), "2", 1)
    second.arrive("2")
    # It goes with its session.
    second.disconnect()
    third = kit.client("third")
    third.subscribe(name, qos=1)


@case
@no_oracle("an extension")
def exclusive_and_the_loss_of_its_holder(kit):
    name = f"$exclusive/{kit.topic('a')}"
    first = kit.client("first")
    first.subscribe(name, qos=1)
    first.drop()
    second = kit.client("second")
    end = time.monotonic() + 10
    while second.subscribe(name, qos=1, expect=EITHER) != [1]:
        assert time.monotonic() < end, "still held 10 s after the connection was lost"
        time.sleep(0.05)


if __name__ == "__main__":
    main(jobs=JOBS)
