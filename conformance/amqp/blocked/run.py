#!/usr/bin/env python3
"""connection.blocked: a broker of its own that is out of memory from the start, as its settings put it.

`run.py ADDRESS [CASE...]`; the address is not used, for others could not work beside this.
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "python")]

import brokers  # noqa: E402
from amqp_kit import BROKER, CASES, Kit, Skip, main, publish, same, wait_for  # noqa: E402


def case(function):
    def run(_):
        if BROKER == "external":
            raise Skip("needs a broker that it starts itself")
        broker = brokers.RabbitMQ(["vm_memory_high_watermark.absolute = 1MB"]) if BROKER == "rabbitmq" else brokers.PolyMQ(BROKER, brokers.default_binaries())
        broker.environment["POLYMQ_AMQP_MEMORY_HIGH_WATERMARK_BYTES"] = "1000000"
        try:
            broker.start()
            with Kit(",".join(broker.addresses), function.__name__) as kit:
                function(kit)
        finally:
            broker.discard()
    CASES[function.__name__] = run
    return function


@case
def publishers_are_told_and_wait(kit):
    channel, told = kit.channel(blocked_connection_timeout=None), []
    channel.connection.add_on_connection_blocked_callback(lambda _connection, frame: told.append(frame.method.reason))
    other = kit.channel()
    queue = other.queue_declare("", durable=False).method.queue
    publish(channel, queue, "x")
    wait_for(channel, "the publisher is told", lambda: told)
    assert "memory" in told[0], told
    # It is not read on: of these none is taken; the first may be, as RabbitMQ does.
    publish(channel, queue, *map(str, range(5)))
    channel.connection.sleep(0.5)
    # Who does not publish goes on.
    answer = other.queue_declare(queue, passive=True).method
    assert answer.message_count <= 1, f"{answer.message_count} messages"
    same(0, answer.consumer_count, "consumers")
    other.queue_delete(queue)
    channel.connection._impl._transport.abort()


if __name__ == "__main__":
    main()
