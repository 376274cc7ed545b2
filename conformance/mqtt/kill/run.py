#!/usr/bin/env python3
"""Two MQTT gateways and a core, killed (kill -9) in turn under load: QoS 1 loses nothing, QoS 2 delivers exactly once.

    conformance/mqtt/kill/run.py --runs 20 --seed 1
    conformance/mqtt/kill/run.py --comings 1000 --seed 1        the phone that comes and goes 1,000 times
    conformance/mqtt/kill/run.py --shares --runs 20 --seed 1    members of shared subscriptions, and the core is what is killed mostly
    conformance/mqtt/kill/run.py --still --runs 20 --seed 1     gateways are not killed: they stand still until others take them for dead, and go on
    conformance/mqtt/kill/run.py --broker mosquitto --runs 1    the checker itself, checked (mosquitto syncs nothing: only connections are cut)

Clients reconnect to either gateway and keep their sessions as the specification tells them to (session_client.py).
"""
import argparse
import asyncio
import collections
import pathlib
import random
import signal
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import brokers  # noqa: E402
from session_client import Client  # noqa: E402

DRAIN_SECONDS_MAX = 60
PUBLISHERS, SUBSCRIBERS = 2, 2
UNACKNOWLEDGED_MAX = 30
BEFORE_SECONDS = (0.5, 2.0)
# Longer than a gateway waits for its core.
AWAY_SECONDS = 6
# For how long a gateway stands still: longer than its session.
SESSION_MILLIS, STILL_SECONDS = 1000, (0.8, 1.5, 2.5)
# Members of each share, all of whose subscriptions have that QoS.
MEMBERS = 3
# Messages between two comings of the phone are few: it is the coming that is tested.
COMINGS_RATE_PER_SECOND = 60


class Load:
    """A client that publishes numbered messages, QoS 1 and 2 by turns; `confirmed` are those that the broker has taken over."""

    def __init__(self, addresses, name, generator, prefix):
        self.client = Client(addresses, name, generator)
        self.name, self.prefix, self.next, self.random = name, prefix, 0, generator

    async def run(self, stopping, pause):
        connection = asyncio.create_task(self.client.run(stopping))
        while not stopping.is_set() and not self.ending.is_set():
            if len(self.client.sent) < UNACKNOWLEDGED_MAX:
                qos = 1 + self.next % 2
                self.client.publish(f"{self.prefix}/{qos}/{self.name}/{self.next % 5}", f"{self.name} {self.next}".encode(), qos)
                self.next += 1
            await asyncio.sleep(pause)
        await connection

    ending = None


async def in_thread(function, *arguments):
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


async def blow(broker, generator, clients, core_first=False):
    """Kills one part (sometimes two) and starts it again; says which. `core_first`: three times of four it is the core, and it may stay
    away for longer than gateways wait for it (5 s), so that they do not know what became of what they asked."""
    if broker.name == "mosquitto":
        for client in clients:
            client.drop()
        return "connections"
    parts = [broker.parts[0] if core_first and generator.random() < 0.75 else generator.choice(broker.parts)]
    if generator.random() < 0.15 and len(broker.parts) > 1:
        parts = sorted({parts[0], generator.choice(broker.parts)}, key=broker.parts.index)
    for part in parts:
        broker.kill(part)
    # Not a wait for something: how long it stays away is part of the seed.
    await asyncio.sleep(generator.choice((0, 0.05, 0.5, AWAY_SECONDS) if core_first else (0, 0.05, 0.5)))
    for part in parts:
        broker.launch(part)
        await in_thread(broker.wait_ready, part)
    return "+".join(parts)


async def stand_still(broker, generator):
    """Stops a gateway's process for a while, with its connections; says which."""
    part = generator.choice(broker.parts[1:])
    broker.children[part].send_signal(signal.SIGSTOP)
    # Not a wait for something either.
    await asyncio.sleep(generator.choice(STILL_SECONDS))
    broker.children[part].send_signal(signal.SIGCONT)
    return f"{part} stood still"


def judge(subscriber, publishers):
    """(faults, what to say): what each confirmed message came to."""
    counts = collections.Counter((payload, qos) for _, payload, qos, _ in subscriber.deliveries)
    faults, again = [], 0
    wanted = confirmed(publishers)
    lost = [payload for payload, qos in wanted.items() if not counts[payload, qos]]
    if lost:
        faults.append(f"{subscriber.id}: {len(lost)} of {len(wanted)} confirmed messages never came: {[(each.decode(), 'QoS %d' % wanted[each]) for each in lost[:6]]}")
    twice = [payload.decode() for (payload, qos), count in counts.items() if qos == 2 and count > 1]
    if twice:
        faults.append(f"{subscriber.id}: {len(twice)} of QoS 2 came more than once: {twice[:6]}")
    again = sum(count - 1 for (_, qos), count in counts.items() if qos == 1)
    first = {}
    for topic, payload, _, _ in subscriber.deliveries:
        first.setdefault(topic, []).append(payload)
    disorder = 0
    for topic, payloads in first.items():
        numbers = [int(payload.split()[1]) for payload in dict.fromkeys(payloads)]
        disorder += sum(late < early for early, late in zip(numbers, numbers[1:]))
    if disorder:
        faults.append(f"{subscriber.id}: {disorder} times out of order of a topic")
    return faults + subscriber.faults, f"{len(wanted)} confirmed, {again} of QoS 1 again"


def confirmed(publishers):
    """payload -> QoS"""
    return {payload: int(topic.split("/")[1]) for publisher in publishers for topic, payload in publisher.client.confirmed}


def everything_came(subscriber, publishers):
    seen = {payload for _, payload, _, _ in subscriber.deliveries}
    return all(payload in seen for payload in confirmed(publishers))


class Share:
    """Members of one shared subscription, judged as if they were one subscriber. `deliveries` as those of `Client`."""

    def __init__(self, name, members):
        self.id, self.members = name, members

    @property
    def deliveries(self):
        return [delivery for member in self.members for delivery in member.deliveries]


def judge_share(share, publishers):
    """(faults, what to say): each confirmed message has come to a member, and one of QoS 2 to one, once. Who subscribed with QoS 1
    gets each at least once."""
    counts = collections.Counter((payload, qos) for _, payload, qos, _ in share.deliveries)
    seen = collections.Counter(payload for _, payload, _, _ in share.deliveries)
    wanted = confirmed(publishers)
    faults = [fault for member in share.members for fault in member.faults]
    lost = [payload.decode() for payload in wanted if not seen[payload]]
    if lost:
        faults.append(f"{share.id}: {len(lost)} of {len(wanted)} confirmed messages never came: {lost[:6]}")
    twice = [(payload.decode(), [member.id for member in share.members if any(payload == each[1] for each in member.deliveries)])
             for (payload, qos), count in counts.items() if qos == 2 and count > 1]
    if twice:
        faults.append(f"{share.id}: {len(twice)} of QoS 2 came more than once: {twice[:6]}")
    again = sum(count - 1 for (_, qos), count in counts.items() if qos == 1)
    return faults, f"{len(wanted)} confirmed, {again} of QoS 1 again"


async def drain(broker, publishers, subscribers, alive):
    """Until all is acknowledged and has come, or nothing has changed for long."""
    last, since = None, time.monotonic()
    while True:
        waiting = sum(len(publisher.client.sent) for publisher in publishers)
        state = (waiting, [len(subscriber.deliveries) for subscriber in subscribers])
        if state != last:
            last, since = state, time.monotonic()
        if not waiting and all(everything_came(subscriber, publishers) for subscriber in subscribers) and time.monotonic() - since > 0.7:
            return
        if time.monotonic() - since > DRAIN_SECONDS_MAX:
            return
        if reason := broker.ended():
            raise AssertionError(reason)
        await asyncio.sleep(0.05)
        await alive()


async def nothing():
    pass


async def one(broker, run, seed, is_shared, is_still):
    """One run: load, blows, drain, judgement. `is_shared`: the subscribers are members of two shares, one of each QoS.
    `is_still`: gateways stand still instead."""
    generator = random.Random(seed)
    prefix = f"kill{seed}"
    stopping, ending = asyncio.Event(), asyncio.Event()
    if is_shared:
        def member(qos, number):
            return Client(broker.addresses, f"m{run}-{qos}-{number}", random.Random(seed * 10 + qos * 3 + number), [(f"$share/of{qos}/{prefix}/#", qos)])
        judged = [Share(f"share of QoS {qos}", [member(qos, number) for number in range(MEMBERS)]) for qos in (1, 2)]
        subscribers = [each for share in judged for each in share.members]
    else:
        judged = subscribers = [Client(broker.addresses, f"s{run}-{number}", random.Random(seed * 10 + number), [(f"{prefix}/#", 2)]) for number in range(SUBSCRIBERS)]
    tasks = [asyncio.create_task(subscriber.run(stopping)) for subscriber in subscribers]
    publishers = [Load(broker.addresses, f"p{run}-{number}", random.Random(seed * 10 + 5 + number), prefix) for number in range(PUBLISHERS)]
    try:
        for subscriber in subscribers:
            await asyncio.wait_for(subscriber.ready.wait(), 30)
        for publisher in publishers:
            publisher.ending = ending
            tasks.append(asyncio.create_task(publisher.run(stopping, 0.001)))
        what = []
        for _ in range(generator.choice((2, 3, 4))):
            await asyncio.sleep(generator.uniform(*BEFORE_SECONDS))
            clients = [*subscribers, *(publisher.client for publisher in publishers)]
            what.append(await (stand_still(broker, generator) if is_still else blow(broker, generator, clients, is_shared)))
        await asyncio.sleep(0.5)
        ending.set()
        await drain(broker, publishers, judged, nothing)
    finally:
        stopping.set()
        await asyncio.wait(tasks, timeout=10)
    return conclude(broker, publishers, subscribers, f"{'' if is_still else 'killed '}{', '.join(what)}", judged if is_shared else [])


def conclude(broker, publishers, subscribers, what, shares=()):
    faults, said = [], ""
    for publisher in publishers:
        if publisher.client.sent:
            faults.append(f"{publisher.name}: {len(publisher.client.sent)} messages were never acknowledged: {list(publisher.client.sent.items())[:3]}")
        faults += publisher.client.faults
    for found, said in [judge_share(share, publishers) for share in shares] or [judge(subscriber, publishers) for subscriber in subscribers]:
        faults += found
    refusals = collections.Counter()
    for client in [*subscribers, *(publisher.client for publisher in publishers)]:
        refusals.update(client.refusals)
    text = f"{what}: {said}, connections {[client.connections for client in [*subscribers, *(publisher.client for publisher in publishers)]]}" + (f", answers {dict(refusals)}" if refusals else "")
    if faults:
        raise AssertionError(f"{text}: {'; '.join(faults)}")
    if reason := broker.ended():
        raise AssertionError(reason)
    return text


async def phone(broker, comings, seed):
    """The phone: comes, takes some, is gone again, by a DISCONNECT or without; and the broker is killed now and then."""
    generator = random.Random(seed)
    prefix = f"phone{seed}"
    stopping, ending = asyncio.Event(), asyncio.Event()
    client = Client(broker.addresses, "phone", random.Random(seed + 1), [(f"{prefix}/#", 2)])
    while not client.subscribed:
        if await client.connect():
            await client.serve(0.2)
    publishers = [Load(broker.addresses, f"p{number}", random.Random(seed + 2 + number), prefix) for number in range(PUBLISHERS)]
    tasks = []
    for publisher in publishers:
        publisher.ending = ending
        tasks.append(asyncio.create_task(publisher.run(stopping, PUBLISHERS / COMINGS_RATE_PER_SECOND)))
    blows, killer = collections.Counter(), None
    come = 0
    started = time.monotonic()
    next_blow = generator.randrange(10, 40)
    try:
        while come < comings:
            if await client.connect():
                come += 1
                await client.serve(generator.choice((0.001, 0.005, 0.02, 0.05, 0.2)))
                (client.leave if generator.random() < 0.5 else client.drop)()
            await asyncio.sleep(generator.choice((0, 0.002, 0.01, 0.05)))
            if come >= next_blow and (killer is None or killer.done()):
                if killer:
                    blows[killer.result()] += 1
                killer = asyncio.create_task(blow(broker, generator, [publisher.client for publisher in publishers]))
                next_blow = come + generator.randrange(10, 40)
            if come % 100 == 0:
                print(f"  {come} times, {time.monotonic() - started:.0f} s, {len(client.deliveries)} messages, {sum(blows.values())} kills", flush=True)
        if killer:
            blows[await killer] += 1
        ending.set()

        async def alive():
            if client.writer is None and not await client.connect():
                return
            await client.serve(0.05)
        await drain(broker, publishers, [client], alive)
    finally:
        stopping.set()
        client.leave()
        await asyncio.wait(tasks, timeout=10)
    return conclude(broker, publishers, [client], f"came {come} times in {time.monotonic() - started:.0f} s, {len(client.deliveries)} messages, killed {dict(blows)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default="cluster", help="cluster (two gateways and a core; the default), split, all-in-one or mosquitto")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1, help="run I of seed S is run 0 of seed S + I")
    parser.add_argument("--comings", type=int, default=0, help="instead of runs: how often the phone comes and goes")
    parser.add_argument("--shares", action="store_true", help="the subscribers are members of shared subscriptions")
    parser.add_argument("--still", action="store_true", help="gateways stand still instead of being killed (cluster)")
    parser.add_argument("--session-millis", type=int, default=SESSION_MILLIS, help=f"after so long without a sign of life a gateway is taken for dead (default {SESSION_MILLIS}); shorter ones are so by mistake, on a busy machine")
    parser.add_argument("--binaries", type=pathlib.Path)
    options = parser.parse_args()
    binaries = options.binaries or brokers.default_binaries()
    passed = failed = 0
    for run in range(1 if options.comings else options.runs):
        seed = options.seed + run
        broker = brokers.make(options.broker, binaries)
        broker.environment["POLYMQ_MQTT_SESSION_TIMEOUT_MS"] = str(options.session_millis)  # so that a dead gateway's sessions are free soon
        if options.broker == "mosquitto":
            broker.settings.append("max_queued_messages 0")
        started = time.monotonic()
        try:
            broker.start()
            text = asyncio.run(phone(broker, options.comings, seed) if options.comings else one(broker, run, seed, options.shares, options.still))
            passed += 1
            print(f"ok run {run} (seed {seed}, {broker.name}) {text} [{time.monotonic() - started:.1f} s]", flush=True)
        except (AssertionError, RuntimeError, OSError, TimeoutError) as error:
            failed += 1
            print(f"FAIL run {run} (seed {seed}, {broker.name}): {type(error).__name__} {error}", flush=True)
        finally:
            broker.discard()
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
