"""Kafka Streams, exactly once, killed with SIGKILL at seeded moments: the counts are exact in the end."""

import collections
import os
import struct
import threading
import time

import processes as kit

WORDS = [f"word{number}" for number in range(40)]


class Lines(threading.Thread):
    """Writes lines of words until told to stop, and counts them."""

    def __init__(self, bootstrap, topic, random):
        super().__init__(daemon=True)
        self.client, self.topic, self.random = kit.producer(bootstrap), topic, random
        self.counts = collections.Counter()
        self.stopping = threading.Event()
        self.failure = None

    def run(self):
        number = 0
        while not self.stopping.wait(0.01):
            words = self.random.choices(WORDS, k=self.random.randrange(1, 8))
            self.counts.update(words)
            self.client.produce(self.topic, " ".join(words).encode(), f"line{number}".encode(), on_delivery=self.delivered)
            self.client.poll(0)
            number += 1
        if self.client.flush(60):
            self.failure = "lines were not delivered"

    def delivered(self, error, _message):
        self.failure = self.failure or error


def exactly_once(bootstrap, kills):
    random = kit.seeded()
    application, lines, counts = kit.unique("wordcount"), kit.unique("lines"), kit.unique("counts")
    kit.make_topic(bootstrap, lines, 2)
    kit.make_topic(bootstrap, counts, 2)
    with kit.Folder() as folder:
        def life(number):
            # Now and then the state on the disk is lost too, and comes back from the changelog.
            state = os.path.join(folder, f"state{number // 2}")
            return kit.Java(f"streams{number}", folder, "polymq.conformance.WordCount", bootstrap, application, lines, counts, state)

        source = Lines(bootstrap, lines, random)
        source.start()
        for number in range(kills):
            with life(number) as streams:
                kit.until("Streams runs", lambda: streams.says("state RUNNING"), alive=[streams])
                # Not a wait for something: the moment of the blow.
                time.sleep(random.uniform(0.2, 4))
                streams.check()
                streams.kill()
                kit.note(f"killed {number + 1} of {kills}")
        source.stopping.set()
        source.join()
        assert source.failure is None, source.failure
        total = sum(source.counts.values())
        with life(kills) as streams:
            seen = {}

            def counted():
                seen["messages"] = kit.read_to_end(bootstrap, counts)
                return len(seen["messages"]) >= total

            kit.until(f"{total} words are counted", counted, seconds=120, alive=[streams])
            streams.stop()
        messages = kit.read_to_end(bootstrap, counts)
    # Each word's counts are 1, 2, 3 and so on: one too few is a loss, one twice a doubling.
    by_word = collections.defaultdict(list)
    for message in messages:
        by_word[message.key().decode()].append(struct.unpack(">q", message.value())[0])
    for word, wanted in source.counts.items():
        found = by_word.pop(word, [])
        assert found and found[-1] == wanted, f"{word}: counted {found[-1:]}, written {wanted}"
        assert sorted(set(found)) == sorted(found), f"{word}: a count was sent twice"
    assert not by_word, f"words that nobody wrote: {list(by_word)}"
    changelog = f"{application}-counts-changelog"
    policy = kit.topic_config(bootstrap, changelog)["cleanup.policy"]
    assert policy == "compact", f"{changelog} has cleanup.policy={policy}"
    stored = {message.key().decode(): struct.unpack(">q", message.value())[0] for message in kit.read_to_end(bootstrap, changelog)}
    assert stored == dict(source.counts), "the changelog differs from the counts"
