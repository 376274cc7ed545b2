#!/usr/bin/env python3
"""A mosquitto with a bridge connection to the broker under test: out, in and both ways, retained, QoS 0 to 2, 3.1.1 and 5.

`run.py ADDRESS [CASE...]`: the broker under test listens on ADDRESS; each case starts a mosquitto of its own.
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "python")]

import brokers  # noqa: E402
from mqtt_kit import CASES, Kit, main, same, until  # noqa: E402


class Bridged:
    """`far`: a kit of the broker under test; `near`: one of the mosquitto that connects to it. Both name topics alike."""

    def __init__(self, addresses, version, name, *topics, more=()):
        self.far = Kit(addresses, name)
        self.remote = addresses.split(",")[0]
        self.broker = brokers.Mosquitto(listeners=[
            f"connection {self.far.prefix}", f"address {self.remote}", f"bridge_protocol_version {version}", "restart_timeout 1 1", "notifications true", f"notification_topic {self.far.prefix}/state",
            *[f"topic {topic}".replace("{p}", f"{self.far.prefix}/") for topic in topics], *more])
        self.broker.start()
        self.near = Kit(self.broker.address, name)
        self.near.prefix = self.far.prefix
        # The bridge says at the far end whether it is there: a retained message.
        watcher = self.far.client("watcher", 4)
        watcher.subscribe(f"{self.far.prefix}/state", qos=1)
        watcher.until("the bridge is connected", lambda: "1" in watcher.texts(), 30)
        self.watcher = watcher

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.near.__exit__()
        self.broker.discard()
        self.far.__exit__()


def both_versions(function):
    """`name_v311` and `name_v5`: how the bridge speaks to the broker under test."""
    for name, version in (("v311", "mqttv311"), ("v5", "mqttv50")):
        CASES[f"{function.__name__}_{name}"] = lambda addresses, version=version, name=name: function(addresses, version, f"{function.__name__}_{name}")
    return function


@both_versions
def out(addresses, version, name):
    with Bridged(addresses, version, name, "# out 2 {p} {p}") as bridged:
        taker, giver = bridged.far.client("taker"), bridged.near.client("giver")
        taker.subscribe(bridged.far.topic("o/#"), qos=2)
        for qos in (0, 1, 2):
            giver.publish(bridged.near.topic(f"o/{qos}"), f"{qos}", qos)
        same([("0", 0), ("1", 1), ("2", 2)], sorted((m.text, m.qos) for m in taker.wait(3)), "what arrives there")
        taker.none_more(3)


@both_versions
def into(addresses, version, name):
    with Bridged(addresses, version, name, "# in 2 local/{p} {p}") as bridged:
        taker, giver = bridged.near.client("taker"), bridged.far.client("giver")
        taker.subscribe(f"local/{bridged.near.topic('i/#')}", qos=2)
        for qos in (0, 1, 2):
            giver.publish(bridged.far.topic(f"i/{qos}"), f"{qos}", qos)
        same([("0", 0), ("1", 1), ("2", 2)], sorted((m.text, m.qos) for m in taker.wait(3)), "what arrives here")
        taker.none_more(3)


@both_versions
def both_ways_without_a_loop(addresses, version, name):
    with Bridged(addresses, version, name, "# both 1 {p} {p}") as bridged:
        here, there = bridged.near.client("here"), bridged.far.client("there")
        for client, kit in ((here, bridged.near), (there, bridged.far)):
            client.subscribe(kit.topic("b/#"), qos=1)
        for number in range(10):
            here.publish(bridged.near.topic("b/here"), f"here {number}", 1)
            there.publish(bridged.far.topic("b/there"), f"there {number}", 1)
        wanted = sorted(f"{side} {number}" for side in ("here", "there") for number in range(10))
        for client in (here, there):
            client.wait(20)
            # 3.1.1 has no no-local: the bridge says with its protocol number (0x84) that it is one, and is not sent its own.
            client.none_more(20, 1.0)
            same(wanted, sorted(client.texts()), client.id)


@both_versions
def retained_messages(addresses, version, name):
    with Bridged(addresses, version, name, "o/# out 1 {p} far/{p}", "i/# in 1 near/{p} {p}") as bridged:
        bridged.near.client("giver").publish(bridged.near.topic("o/kept"), "kept", 1, retain=True)
        until("it is retained at the far end", lambda: _retained(bridged.far, "far/" + bridged.far.topic("o/kept")) == "kept")
        bridged.far.client("giver").publish(bridged.far.topic("i/kept"), "kept too", 1, retain=True)
        until("it is retained here", lambda: _retained(bridged.near, "near/" + bridged.near.topic("i/kept")) == "kept too")
        for topic in ("far/" + bridged.far.topic("o/kept"), bridged.far.topic("i/kept"), f"{bridged.far.prefix}/state"):
            bridged.far.client().publish(topic, b"", 1, retain=True)


def _retained(kit, topic):
    client = kit.client()
    client.subscribe(topic, qos=1)
    try:
        message = client.wait(1, 0.5)[0]
        return message.text if message.retain else None
    except AssertionError:
        return None
    finally:
        client.disconnect()


def what_waits_while_the_bridge_is_away(addresses):
    """By 3.1.1: with 5, this mosquitto asks for no expiry, and its session ends with the connection."""
    with Bridged(addresses, "mqttv311", "what_waits", "# both 1 {p} {p}", more=["cleansession false"]) as bridged:
        taker, giver = bridged.near.session("taker"), bridged.far.client("giver")
        taker.subscribe(bridged.near.topic("w"), qos=1)
        giver.publish(bridged.far.topic("w"), "before", 1)
        taker.wait(1)
        taker.disconnect()
        child = bridged.broker.children.pop("core")
        child.terminate()
        child.wait(30)
        for number in range(20):
            giver.publish(bridged.far.topic("w"), f"{number}", 1)
        bridged.broker.launch("core")
        bridged.broker.wait_ready("core")
        taker.connect()
        taker.until("the last", lambda: "19" in taker.texts(), 30)
        # What its file says may be a moment old, so that the first may come again.
        same(["before", *[f"{number}" for number in range(20)]], list(dict.fromkeys(taker.texts())), "what came")


CASES[what_waits_while_the_bridge_is_away.__name__] = what_waits_while_the_bridge_is_away


@both_versions
def the_bridge_says_when_it_is_gone(addresses, version, name):
    """By its will, which is retained."""
    with Bridged(addresses, version, name, "# out 1 {p} {p}") as bridged:
        bridged.broker.kill("core")
        bridged.watcher.until("the will of the bridge", lambda: "0" in bridged.watcher.texts(), 30)
        bridged.broker.launch("core")
        bridged.broker.wait_ready("core")
        bridged.watcher.until("it is back", lambda: bridged.watcher.texts()[-1] == "1", 30)


if __name__ == "__main__":
    main(jobs=2)
