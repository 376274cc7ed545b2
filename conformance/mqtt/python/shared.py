"""paho: shared subscriptions: each message to one member, to all members some, and none lost when a member dies."""

import time

from mqtt_kit import JOBS, case, main, no_oracle, same, until, versions
from raw import Closed


def members(kit, count, version=5, qos=1, group="g", name="#", **options):
    found = [kit.client(f"{group}{number}", version, **options) for number in range(count)]
    for member in found:
        member.subscribe(f"$share/{kit.prefix}-{group}/{kit.topic(name)}", qos=qos)
    return found


def publish(kit, count, qos=1, first=0, version=5, spread=50):
    giver = kit.client(f"giver{first}", version)
    giver.published(*[giver.publish(kit.topic(f"{number % spread}"), f"{number}", qos, wait=False) for number in range(first, first + count)])
    return giver


def gathered(clients):
    return [text for client in clients for text in client.texts()]


def all_of(count, clients, seconds=20):
    until(f"{count} messages in the group", lambda: len(set(gathered(clients))) >= count, seconds)
    same(sorted(f"{number}" for number in range(count)), sorted(set(gathered(clients))), "messages")


@versions(4, 5)
def each_to_one_member_and_some_to_all(kit, version):
    for qos in (0, 1, 2):
        group = members(kit, 3, version, qos, group=f"q{qos}", name=f"q{qos}/#")
        giver = kit.client(f"giver{qos}", version)
        # Not the first, which makes the topic: a gateway may hear of it when another has dealt a few.
        for rounds in (1, 2):
            counted = [len(member.messages) for member in group]
            sent = range(300 * (rounds - 1), 300 * rounds)
            giver.published(*[giver.publish(kit.topic(f"q{qos}/{number % 50}"), f"{number}", qos, wait=False) for number in sent])
            all_of(300 * rounds, group)
            same(300 * rounds, len(gathered(group)), f"deliveries at QoS {qos}")
        counts = [len(member.messages) - before for member, before in zip(group, counted)]
        assert min(counts) >= 30, f"so much to each: {counts}"


@case
def groups_and_others_do_not_share(kit):
    first, second = members(kit, 2, group="one"), members(kit, 2, group="two")
    plain = kit.client("plain")
    plain.subscribe(kit.topic("#"), qos=1)
    publish(kit, 100)
    all_of(100, first)
    all_of(100, second)
    all_of(100, [plain])
    same([100, 100, 100], [len(gathered(each)) for each in (first, second, [plain])], "deliveries")


@case
def a_member_that_is_also_an_ordinary_subscriber(kit):
    both = kit.client("both")
    both.subscribe(f"$share/{kit.prefix}/{kit.topic('#')}", kit.topic("#"), qos=1)
    publish(kit, 20)
    both.wait(40)
    both.none_more(40)


@case
def unacknowledged_goes_to_another(kit):
    deaf, = members(kit, 1, group="g", manual=True)
    publish(kit, 40)
    until("some come to it", lambda: len(deaf.messages) >= 10)
    alive = kit.client("alive")
    alive.subscribe(f"$share/{kit.prefix}-g/{kit.topic('#')}", qos=1)
    deaf.drop()
    all_of(40, [alive], 30)


@case
def a_member_that_leaves_gets_no_more(kit):
    first, second = members(kit, 2)
    publish(kit, 60)
    all_of(60, [first, second])
    first.unsubscribe(f"$share/{kit.prefix}-g/{kit.topic('#')}")
    before = len(first.messages)
    giver = kit.client("later")
    giver.published(*[giver.publish(kit.topic("x"), f"{60 + number}", 1, wait=False) for number in range(60)])
    all_of(120, [first, second])
    same(before, len(first.messages), "messages of the one that has left")


@case
def a_busy_member_gets_less(kit):
    """The one that acknowledges nothing has its window full; the other gets the rest."""
    busy, = members(kit, 1, manual=True, receive_maximum=5)
    free = kit.client("free")
    free.subscribe(f"$share/{kit.prefix}-g/{kit.topic('#')}", qos=1)
    publish(kit, 200)
    until("the rest", lambda: len(free.messages) >= 195, 20)
    assert len(busy.messages) <= 5, len(busy.messages)


@case
@no_oracle("its groups end with their last member")
def a_group_outlives_its_members(kit):
    first, second = members(kit, 2)
    publish(kit, 20)
    all_of(20, [first, second])
    first.disconnect()
    second.disconnect()
    publish(kit, 50, first=20)
    third = kit.client("third")
    third.subscribe(f"$share/{kit.prefix}-g/{kit.topic('#')}", qos=1)
    until("what came meanwhile", lambda: {f"{number}" for number in range(20, 70)} <= set(third.texts()), 20)


@case
def members_that_are_away(kit):
    """A session that stays counts as a member: what waits for it comes when it is back, or has gone to the other."""
    away, there = kit.session("away"), kit.session("there")
    for member in (away, there):
        member.subscribe(f"$share/{kit.prefix}-g/{kit.topic('#')}", qos=1)
    away.disconnect()
    publish(kit, 100)
    time.sleep(0.2)
    away.connect()
    all_of(100, [away, there])


@case
def exactly_once_to_the_group(kit):
    group = members(kit, 4, qos=2)
    publish(kit, 400, qos=2)
    all_of(400, group, 40)
    group[0].none_more(len(group[0].messages))
    same(400, len(gathered(group)), "deliveries")


@case
def identifiers_and_names_of_groups(kit):
    for name in ("group", "gruppe-ü", "a b", "g.1"):
        taker = kit.client("taker")
        taker.subscribe(f"$share/{name}/{kit.topic('#')}", qos=1, identifier=9)
        kit.client("giver").publish(kit.topic(), name, 1)
        same((name, [9]), (lambda m: (m.text, m.get("subscription_identifier")))(taker.wait(1)[0]), "text and identifier")
        taker.unsubscribe(f"$share/{name}/{kit.topic('#')}")


@case
def groups_that_are_none(kit):
    for name in ("$share//a", "$share/g", "$share/g/", "$share/+/a", "$share/#/a"):
        wire = kit.wire("wrong")
        try:
            reasons = wire.subscribe(name, qos=1)
        except (AssertionError, Closed):  # a DISCONNECT is as good
            continue
        assert reasons[0] >= 0x80, f"{name}: {reasons}"


if __name__ == "__main__":
    main(jobs=JOBS)
