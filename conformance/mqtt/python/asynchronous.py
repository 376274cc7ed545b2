#!/usr/bin/env python3
"""Two clients on asyncio: gmqtt, with a codec of its own, and aiomqtt, which is paho below. `asynchronous.py ADDRESS[,ADDRESS] [CASE...]`.

gmqtt holds the protocol's version in a global, so that cases run one after another.
"""

import asyncio
import itertools
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3]))

import aiomqtt  # noqa: E402
import gmqtt  # noqa: E402
from gmqtt.mqtt.constants import MQTTv50, MQTTv311  # noqa: E402
from conformance.shared.kit import CASES, main, same, unique  # noqa: E402

SECONDS = 20
dealt = itertools.count()


def deal(addresses):
    """(host, port) of a gateway: each in turn."""
    every = addresses.split(",")
    host, port = every[next(dealt) % len(every)].rsplit(":", 1)
    return host, int(port)


async def until(what, holds):
    end = asyncio.get_running_loop().time() + SECONDS
    while not holds():
        assert asyncio.get_running_loop().time() < end, f"not within {SECONDS} s: {what}"
        await asyncio.sleep(0.01)


def numbers(count):
    return [f"{number}" for number in range(count)]


# ---- gmqtt ----------------------------------------------------------------------------------------------------------

class Client:
    """A gmqtt client that gathers what it receives. It does not reconnect by itself."""

    def __init__(self, addresses, version, client_id, **options):
        self.addresses, self.version, self.messages, self.granted, self.present = addresses, version, [], [], None
        self.gmqtt = gmqtt.Client(client_id, **options)
        self.gmqtt.set_config({"reconnect_retries": 0})
        self.gmqtt.on_message = self.take
        self.gmqtt.on_connect = self.connected
        self.gmqtt.on_subscribe = lambda _client, _mid, granted, _properties: self.granted.append(granted)

    def connected(self, _client, flags, reason, _properties):
        same(0, reason, "reason of CONNACK")
        self.present = bool(flags & 1)

    def take(self, _client, topic, payload, qos, properties):
        self.messages.append((topic, payload.decode(), qos, properties))
        return 0

    async def connect(self):
        host, port = deal(self.addresses)
        await asyncio.wait_for(self.gmqtt.connect(host, port, version=self.version), SECONDS)
        await until("CONNACK", lambda: self.present is not None)
        return self

    async def subscribe(self, topic, qos, **options):
        before = len(self.granted)
        self.gmqtt.subscribe(topic, qos, **options)
        await until("SUBACK", lambda: len(self.granted) > before)
        same([qos], list(self.granted[before]), "what SUBACK grants")

    async def wait(self, count):
        await until(f"{count} messages", lambda: len(self.messages) >= count)
        return [text for _, text, *_ in self.messages]

    async def acknowledged(self):
        """Everything that was published has been acknowledged."""
        async def empty():
            while not await self.gmqtt._persistent_storage.is_empty:
                await asyncio.sleep(0.01)
        await asyncio.wait_for(empty(), SECONDS)

    async def disconnect(self, **options):
        await self.gmqtt.disconnect(**options)


def gmqtt_case(*versions):
    """A case for each of these versions; it gets a topic of its own and a function that makes clients, which end with it."""
    def register(function):
        for version in versions:
            name = f"{function.__name__}_{'v5' if version == MQTTv50 else 'v311'}"

            async def run(addresses, version=version, name=name):
                clients, topic = [], unique("gmqtt", name)

                async def client(kind, **options):
                    clients.append(Client(addresses, version, f"{topic}-{kind}", **options))
                    return await clients[-1].connect()
                try:
                    await function(topic, client)
                finally:
                    for each in clients:
                        await each.disconnect()
            CASES[name] = run
        return function
    return register


@gmqtt_case(MQTTv311, MQTTv50)
async def gmqtt_every_qos(topic, client):
    taker, giver = await client("taker"), await client("giver")
    for qos in (0, 1, 2):
        await taker.subscribe(f"{topic}/{qos}", qos)
        for text in numbers(300):
            giver.gmqtt.publish(f"{topic}/{qos}", text, qos=qos)
        got = await taker.wait(300 * (qos + 1))
        same(numbers(300), got[300 * qos:], f"what came with QoS {qos}")
    await giver.acknowledged()


@gmqtt_case(MQTTv311, MQTTv50)
async def gmqtt_retained(topic, client):
    giver = await client("giver")
    giver.gmqtt.publish(f"{topic}/a", "kept", qos=1, retain=True)
    await giver.acknowledged()
    taker = await client("taker")
    await taker.subscribe(f"{topic}/+", 1)
    same(["kept"], await taker.wait(1), "what came")
    same(1, taker.messages[0][3]["retain"], "retain")
    giver.gmqtt.publish(f"{topic}/a", "", qos=1, retain=True)
    await giver.acknowledged()


@gmqtt_case(MQTTv311, MQTTv50)
async def gmqtt_session(topic, client):
    stays = {"clean_session": False} | ({"session_expiry_interval": 600} if topic.split("-")[1].endswith("v5") else {})
    phone = await client("phone", **stays)
    await phone.subscribe(topic, 1)
    await phone.disconnect()
    giver = await client("giver")
    for text in numbers(50):
        giver.gmqtt.publish(topic, text, qos=1)
    await giver.acknowledged()
    phone = await client("phone", **stays)
    same((True, numbers(50)), (phone.present, await phone.wait(50)), "the session, and what waited")


@gmqtt_case(MQTTv50)
async def gmqtt_will_by_reason(topic, client):
    watcher = await client("watcher")
    await watcher.subscribe(topic, 1)
    doomed = await client("doomed", will_message=gmqtt.Message(topic, "gone", qos=1, content_type="text/plain"))
    await doomed.disconnect(reason_code=4)
    same(["gone"], await watcher.wait(1), "the will")
    same(["text/plain"], watcher.messages[0][3]["content_type"], "its content type")


@gmqtt_case(MQTTv50)
async def gmqtt_properties(topic, client):
    taker, giver = await client("taker", topic_alias_maximum=5), await client("giver")
    await taker.subscribe(f"{topic}/+", 1, subscription_identifier=300)
    for number in range(20):
        giver.gmqtt.publish(f"{topic}/{number % 7}", f"{number}", qos=1, response_topic="r", correlation_data=b"\0\xff", user_property=[("a", "1"), ("a", "2")], message_expiry_interval=100)
    same(numbers(20), await taker.wait(20), "what came")
    for name, text, _, properties in taker.messages:
        same(f"{topic}/{int(text) % 7}", name, "its topic, by an alias or not")
        same(["r"], properties["response_topic"], "response topic")
        same([b"\0\xff"], properties["correlation_data"], "correlation data")
        same([("a", "1"), ("a", "2")], properties["user_property"], "user properties")
        same([300], properties["subscription_identifier"], "subscription identifier")


# ---- aiomqtt --------------------------------------------------------------------------------------------------------

def opened(addresses, version, client_id, **options):
    host, port = deal(addresses)
    return aiomqtt.Client(host, port, identifier=client_id, protocol=version, timeout=SECONDS, **options)


async def texts(client, count):
    got = []

    async def take():
        async for message in client.messages:
            got.append(message.payload.decode())
            if len(got) >= count:
                return
    await asyncio.wait_for(take(), SECONDS)
    return got


def aiomqtt_case(function):
    for name, version in (("v311", aiomqtt.ProtocolVersion.V311), ("v5", aiomqtt.ProtocolVersion.V5)):
        async def run(addresses, version=version, name=name):
            topic = unique("aiomqtt", f"{function.__name__}_{name}")
            await function(topic, lambda kind, **options: opened(addresses, version, f"{topic}-{kind}", **options))
        CASES[f"{function.__name__}_{name}"] = run
    return function


@aiomqtt_case
async def aiomqtt_every_qos(topic, client):
    async with client("taker") as taker, client("giver") as giver:
        for qos in (0, 1, 2):
            await taker.subscribe(f"{topic}/{qos}", qos)
            for text in numbers(100):
                await giver.publish(f"{topic}/{qos}", text, qos)
            same(numbers(100), await texts(taker, 100), f"what came with QoS {qos}")


@aiomqtt_case
async def aiomqtt_retained(topic, client):
    async with client("giver") as giver:
        await giver.publish(f"{topic}/a", "kept", 1, True)
        async with client("taker") as taker:
            await taker.subscribe(f"{topic}/#", 1)
            same(["kept"], await texts(taker, 1), "what came")
        await giver.publish(f"{topic}/a", "", 1, True)


if __name__ == "__main__":
    main(run_async=asyncio.run)
