"""pika: exchanges of all types, bindings, routing, and how each is refused."""

import collections

import pika
from amqp_kit import (JOBS, ORACLE, ChannelClosedByBroker, arrives, breaks, case, depth, drain, empty, main, no_oracle, publish, refuses, same, wait_for)
from pika.exceptions import ConnectionClosedByBroker


@case
def default_exchange(kit):
    channel = kit.channel()
    queue = kit.queue(channel)
    publish(channel, queue, "by name")
    arrives(channel, queue, "by name")


@case
def default_exchange_is_not_to_be_changed(kit):
    connection = kit.connection()
    queue = kit.queue(connection.channel())
    refuses(connection, 403, "ACCESS_REFUSED - operation not permitted on the default exchange", lambda channel: channel.queue_bind(queue, "", "key"))
    refuses(connection, 403, "ACCESS_REFUSED - operation not permitted on the default exchange", lambda channel: channel.exchange_delete(""))
    refuses(connection, 403, "ACCESS_REFUSED - operation not permitted on the default exchange", lambda channel: channel.queue_unbind(queue, "", queue))


@case
def the_standard_exchanges_are_there(kit):
    channel = kit.channel()
    for name, kind in (("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"), ("amq.headers", "headers"), ("amq.match", "headers")):
        channel.exchange_declare(name, kind, passive=True)
        channel.exchange_declare(name, kind, durable=True)  # equivalent, so allowed
    queue = kit.queue(channel, exclusive=True)
    key = kit.unique("key")
    channel.queue_bind(queue, "amq.direct", key)
    publish(channel, key, "x", exchange="amq.direct")
    arrives(channel, queue, "x")


@case
def reserved_names_are_refused(kit):
    connection = kit.connection()
    refuses(connection, 403, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'", lambda channel: channel.exchange_declare("amq.mine", "direct"))
    refuses(connection, 403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'", lambda channel: channel.queue_declare("amq.mine"))


@case
def direct_exchange(kit):
    channel = kit.channel()
    exchange = kit.exchange(channel)
    one, two = kit.queue(channel), kit.queue(channel)
    channel.queue_bind(one, exchange, "a")
    channel.queue_bind(one, exchange, "b")
    channel.queue_bind(two, exchange, "b")
    channel.queue_bind(two, exchange, "b")  # a binding again is the same binding
    for key in ("a", "b", "c", ""):
        publish(channel, key, key or "empty", exchange=exchange)
    arrives(channel, one, "a", "b")
    arrives(channel, two, "b")
    channel.queue_bind(two, exchange, "")
    publish(channel, "", "by the empty key", exchange=exchange)
    arrives(channel, two, "by the empty key")


@case
def fanout_exchange(kit):
    channel = kit.channel()
    exchange = kit.exchange(channel, "fanout")
    queues = [kit.queue(channel) for _ in range(5)]
    for queue in queues:
        channel.queue_bind(queue, exchange, "ignored")
    publish(channel, "any", "x", exchange=exchange)
    for queue in queues:
        arrives(channel, queue, "x")


@case
def topic_exchange(kit):
    channel = kit.channel()
    exchange = kit.exchange(channel, "topic")
    patterns = ["a.b.c", "*.b.*", "a.#", "#", "*", "#.c", "a.#.c", "*.#", "#.b.#", "", "*.*", "a..c", "a.*.c", "#.#", "a*", "a.b#"]
    keys = ["a", "x", "c", "a.b", "a.c", "a.b.c", "x.b.y", "", "a..c"]
    queues = {}
    for pattern in patterns:
        queues[pattern] = kit.queue(channel, exclusive=True)
        channel.queue_bind(queues[pattern], exchange, pattern)
    for key in keys:
        publish(channel, key, key, exchange=exchange)
    got = {pattern: sorted(drain(channel, queue)) for pattern, queue in queues.items()}
    wanted = {pattern: sorted(key for key in keys if topic_matches(pattern, key)) for pattern in patterns}
    same(wanted, got, "what each pattern gets")


def topic_matches(pattern, key):
    """The rule of the specification: words between dots; * is one word, # any number of them. The empty key has no words."""
    def matches(pattern, words):
        if not pattern:
            return not words
        if pattern[0] == "#":
            return any(matches(pattern[1:], words[at:]) for at in range(len(words) + 1))
        return bool(words) and pattern[0] in ("*", words[0]) and matches(pattern[1:], words[1:])
    split = lambda text: text.split(".") if text else []  # noqa: E731
    return matches(split(pattern), split(key))


@case
def topic_bindings_can_be_taken_away(kit):
    channel = kit.channel()
    exchange = kit.exchange(channel, "topic")
    queue = kit.queue(channel)
    channel.queue_bind(queue, exchange, "a.*")
    channel.queue_bind(queue, exchange, "a.#")
    channel.queue_unbind(queue, exchange, "a.#")
    publish(channel, "a.b", "one word", exchange=exchange)
    publish(channel, "a.b.c", "two words", exchange=exchange)
    arrives(channel, queue, "one word")
    channel.queue_unbind(queue, exchange, "a.*")
    channel.queue_unbind(queue, exchange, "never there")
    publish(channel, "a.b", "none", exchange=exchange)
    empty(channel, queue)


@case
def headers_exchange(kit):
    channel = kit.channel()
    exchange = kit.exchange(channel, "headers")
    bindings = {
        "all": {"x-match": "all", "a": "1", "b": 2}, "any": {"x-match": "any", "a": "1", "b": 2}, "default is all": {"a": "1", "b": 2},
        "all-with-x": {"x-match": "all-with-x", "a": "1", "x-y": "z"}, "any-with-x": {"x-match": "any-with-x", "x-y": "z"}, "all ignores x-": {"x-match": "all", "a": "1", "x-y": "other"},
        "nothing asked, all": {"x-match": "all"}, "nothing asked, any": {"x-match": "any"}, "exists": {"a": None},
    }
    queues = {}
    for name, arguments in bindings.items():
        queues[name] = kit.queue(channel, exclusive=True)
        channel.queue_bind(queues[name], exchange, arguments=arguments)
    messages = {"a": {"a": "1"}, "b": {"b": 2}, "a and b": {"a": "1", "b": 2, "c": 3}, "wrong": {"a": "2", "b": 3}, "x": {"a": "1", "x-y": "z"}, "only x": {"x-y": "z"}, "types": {"a": 1, "b": "2"}, "none": None}
    for name, headers in messages.items():
        publish(channel, "", name, exchange=exchange, headers=headers)
    got = {name: drain(channel, queue) for name, queue in queues.items()}
    everything = list(messages)
    same({
        "all": ["a and b"], "any": ["a", "b", "a and b", "x"], "default is all": ["a and b"], "all-with-x": ["x"], "any-with-x": ["x", "only x"], "all ignores x-": ["a", "a and b", "x"],
        "nothing asked, all": everything, "nothing asked, any": [], "exists": ["a", "a and b", "wrong", "x", "types"],
    }, got, "what each binding gets")


@case
def headers_exchange_refuses_a_wrong_match(kit):
    connection = kit.connection()
    channel = connection.channel()
    exchange, queue = kit.exchange(channel, "headers"), kit.queue(channel)
    refuses(connection, 406, "PRECONDITION_FAILED - Invalid x-match field value", lambda channel: channel.queue_bind(queue, exchange, arguments={"x-match": "some"}))


@case
def alternate_exchange(kit):
    channel = kit.channel()
    last = kit.exchange(channel, "fanout")
    middle = kit.exchange(channel, "direct", arguments={"alternate-exchange": last})
    first = kit.exchange(channel, "direct", arguments={"alternate-exchange": middle})
    queues = {name: kit.queue(channel) for name in ("first", "middle", "last")}
    channel.queue_bind(queues["first"], first, "1")
    channel.queue_bind(queues["middle"], middle, "2")
    channel.queue_bind(queues["last"], last)
    for key in "123":
        publish(channel, key, key, exchange=first)
    for name, key in zip(queues, "123"):
        arrives(channel, queues[name], key)


@case
def alternate_exchange_keeps_mandatory_from_returning(kit):
    channel = kit.channel(confirm=True)
    other = kit.exchange(channel, "fanout")
    exchange = kit.exchange(channel, "direct", arguments={"alternate-exchange": other})
    queue = kit.queue(channel)
    channel.queue_bind(queue, other)
    channel.basic_publish(exchange, "nobody", b"x", mandatory=True)
    arrives(channel, queue, "x")
    channel.queue_unbind(queue, other)
    try:
        channel.basic_publish(exchange, "nobody", b"x", mandatory=True)
        raise AssertionError("not returned")
    except pika.exceptions.UnroutableError as error:
        same(312, error.messages[0].method.reply_code, "code")
    # An alternate exchange that is not there is no error.
    lonely = kit.exchange(channel, "direct", arguments={"alternate-exchange": "never-made"})
    channel.basic_publish(lonely, "nobody", b"x")


@case
def exchange_to_exchange(kit):
    channel = kit.channel()
    source, destination = kit.exchange(channel, "topic"), kit.exchange(channel, "direct")
    queue = kit.queue(channel)
    channel.queue_bind(queue, destination, "a.b")
    channel.queue_bind(queue, source, "a.b")  # by two ways, delivered once
    channel.exchange_bind(destination, source, "a.*")
    publish(channel, "a.b", "once", exchange=source)
    publish(channel, "a.c", "passed on, not bound", exchange=source)
    arrives(channel, queue, "once")
    # A circle ends.
    channel.exchange_bind(source, destination, "a.b")
    publish(channel, "a.b", "in a circle", exchange=source)
    arrives(channel, queue, "in a circle")
    channel.queue_unbind(queue, source, "a.b")
    channel.exchange_unbind(destination, source, "a.*")
    publish(channel, "a.b", "nowhere", exchange=source)
    empty(channel, queue)


@case
def internal_exchange(kit):
    connection = kit.connection()
    channel = connection.channel()
    internal, front = kit.exchange(channel, "fanout", internal=True), kit.exchange(channel, "fanout")
    queue = kit.queue(channel)
    channel.queue_bind(queue, internal)
    channel.exchange_bind(internal, front)
    publish(channel, "", "through the front", exchange=front)
    arrives(channel, queue, "through the front")
    refuses(connection, 403, f"ACCESS_REFUSED - cannot publish to internal exchange '{internal}' in vhost '/'", lambda channel: publish(channel, "", "x", exchange=internal))


@case
def auto_delete_exchange(kit):
    channel = kit.channel()
    exchange = kit.exchange(channel, "direct", auto_delete=True)
    assert kit.exchange_exists(exchange), "gone before it was used"
    one, two = kit.queue(channel), kit.queue(channel)
    channel.queue_bind(one, exchange, "a")
    channel.queue_bind(two, exchange, "a")
    channel.queue_unbind(one, exchange, "a")
    assert kit.exchange_exists(exchange), "gone while it was used"
    channel.queue_delete(two)
    wait_for(channel, "the exchange goes with its last binding", lambda: not kit.exchange_exists(exchange))


@case
def exchange_equivalence(kit):
    connection = kit.connection()
    name = kit.exchange(connection.channel(), "direct", durable=True, arguments={"alternate-exchange": "other"})
    connection.channel().exchange_declare(name, "direct", durable=True, arguments={"alternate-exchange": "other"})
    prefix = f"PRECONDITION_FAILED - inequivalent arg '%s' for exchange '{name}' in vhost '/': received %s but current is %s"
    same_arguments = {"alternate-exchange": "other"}
    for fault, text in (
        (dict(exchange_type="topic", durable=True), prefix % ("type", "'topic'", "'direct'")),
        (dict(exchange_type="direct", durable=False), prefix % ("durable", "'false'", "'true'")),
        (dict(exchange_type="direct", durable=True, auto_delete=True), prefix % ("auto_delete", "'true'", "'false'")),
        (dict(exchange_type="direct", durable=True, internal=True), prefix % ("internal", "'true'", "'false'")),
        (dict(exchange_type="direct", durable=True, arguments=None), prefix % ("alternate-exchange", "none", "the value 'other' of type 'longstr'")),
    ):
        refuses(connection, 406, text, lambda channel, fault=fault: channel.exchange_declare(name, **{"arguments": same_arguments, **fault}))


@case
def unknown_exchange_type(kit):
    connection = kit.connection()
    if ORACLE:
        breaks(connection, 503, "COMMAND_INVALID - unknown exchange type 'x-no-such'", lambda channel: channel.exchange_declare("never", "x-no-such"))
    else:
        refuses(connection, 406, "PRECONDITION_FAILED - unknown exchange type 'x-no-such'", lambda channel: channel.exchange_declare("never", "x-no-such"))


@case
def exchange_delete(kit):
    connection = kit.connection()
    channel = connection.channel()
    exchange, queue = kit.exchange(channel), kit.queue(channel)
    channel.queue_bind(queue, exchange, "a")
    refuses(connection, 406, f"PRECONDITION_FAILED - exchange '{exchange}' in vhost '/' in use", lambda channel: channel.exchange_delete(exchange, if_unused=True))
    channel.exchange_delete(exchange)
    assert not kit.exchange_exists(exchange), "still there"
    channel.exchange_delete(exchange)  # of what is not there: no error
    # Its bindings went with it.
    channel.exchange_declare(exchange)
    publish(channel, "a", "x", exchange=exchange)
    empty(channel, queue)


@case
def standard_exchanges_cannot_be_deleted(kit):
    refuses(kit.connection(), 403, "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed", lambda channel: channel.exchange_delete("amq.direct"))


@case
def bindings_to_what_is_not_there(kit):
    connection = kit.connection()
    channel = connection.channel()
    exchange, queue = kit.exchange(channel), kit.queue(channel)
    refuses(connection, 404, "NOT_FOUND - no queue 'no-such' in vhost '/'", lambda channel: channel.queue_bind("no-such", exchange, "a"))
    refuses(connection, 404, "NOT_FOUND - no exchange 'no-such' in vhost '/'", lambda channel: channel.queue_bind(queue, "no-such", "a"))
    refuses(connection, 404, "NOT_FOUND - no exchange 'no-such' in vhost '/'", lambda channel: channel.exchange_bind("no-such", exchange, "a"))


@case
def durable_and_transient_bindings_survive_their_time(kit):
    channel = kit.channel()
    exchange = kit.exchange(channel, "direct", durable=True)
    queue = kit.queue(channel, durable=True)
    for key in range(50):
        channel.queue_bind(queue, exchange, str(key))
    for key in range(50):
        publish(channel, str(key), str(key), exchange=exchange)
    arrives(channel, queue, *map(str, range(50)))


@case
def consistent_hash_exchange(kit):
    channel = kit.channel(confirm=True)
    exchange = kit.exchange(channel, "x-consistent-hash", durable=True)
    queues = [kit.queue(channel) for _ in range(4)]
    for queue, weight in zip(queues, ("1", "1", "1", "3")):
        channel.queue_bind(queue, exchange, weight)
    for number in range(1200):
        publish(channel, f"key-{number}", f"key-{number}", exchange=exchange)
    counts = [depth(channel, queue) for queue in queues]
    same(1200, sum(counts), "each message in one queue")
    # By their weights 200 each and 600; were these not looked at, 300 each.
    assert min(counts) > 20 and max(counts[:3]) < 450 < counts[3], f"no fair shares: {counts}"
    where = {body: at for at, queue in enumerate(queues) for body in drain(channel, queue)}
    for number in range(0, 1200, 10):
        publish(channel, f"key-{number}", f"key-{number}", exchange=exchange)
    again = {body: at for at, queue in enumerate(queues) for body in drain(channel, queue)}
    same({body: where[body] for body in again}, again, "the same key goes to the same queue")


@case
def consistent_hash_by_header(kit):
    channel = kit.channel(confirm=True)
    exchange = kit.exchange(channel, "x-consistent-hash", durable=True, arguments={"hash-header": "who"})
    queues = [kit.queue(channel) for _ in range(3)]
    for queue in queues:
        channel.queue_bind(queue, exchange, "10")
    for number in range(300):
        publish(channel, f"any-{number}", f"{number % 30}", exchange=exchange, headers={"who": f"user-{number % 30}"})
    places = collections.defaultdict(set)
    for at, queue in enumerate(queues):
        for body in drain(channel, queue):
            places[body].add(at)
    same(30, len(places), "all users")
    same(30, sum(map(len, places.values())), "each user in one queue")
    by_id = kit.exchange(channel, "x-consistent-hash", arguments={"hash-property": "message_id"})
    queue = kit.queue(channel)
    channel.queue_bind(queue, by_id, "1")
    publish(channel, "", "x", exchange=by_id, message_id="1")
    arrives(channel, queue, "x")


@case
def consistent_hash_refuses_a_weight_that_is_no_number(kit):
    connection = kit.connection()
    channel = connection.channel()
    exchange, queue = kit.exchange(channel, "x-consistent-hash"), kit.queue(channel)
    refuses(connection, 406, "PRECONDITION_FAILED", lambda channel: channel.queue_bind(queue, exchange, "heavy"))


@case
@no_oracle("3.10 does not have x-local-random")
def local_random_exchange(kit):
    channel = kit.channel(confirm=True)
    exchange = kit.exchange(channel, "x-local-random", durable=True)
    queues = [kit.queue(channel) for _ in range(3)]
    for queue in queues:
        channel.queue_bind(queue, exchange, "")
    for number in range(300):
        publish(channel, "whatever it is", str(number), exchange=exchange)
    counts = [depth(channel, queue) for queue in queues]
    same(300, sum(counts), "each message in one queue")
    assert min(counts) > 30, f"no fair shares: {counts}"
    channel.queue_delete(queues[0])
    for number in range(20):
        publish(channel, "", str(number), exchange=exchange)
    same(320 - counts[0], sum(depth(channel, queue) for queue in queues[1:]), "all go to those that are left")


@case
@no_oracle("3.10 does not have x-local-random")
def local_random_refuses_what_it_cannot_lead_to(kit):
    connection = kit.connection()
    channel = connection.channel()
    exchange, queue = kit.exchange(channel, "x-local-random"), kit.queue(channel)
    quorum, other = kit.queue(channel, durable=True, arguments={"x-queue-type": "quorum"}), kit.exchange(channel)
    refuses(connection, 406, "PRECONDITION_FAILED - Non empty binding 'key' key not permitted", lambda channel: channel.queue_bind(queue, exchange, "key"))
    refuses(connection, 406, "PRECONDITION_FAILED - Queue type rabbit_quorum_queue not valid for this exchange type", lambda channel: channel.queue_bind(quorum, exchange, ""))
    refuses(connection, 406, "PRECONDITION_FAILED - Destination not found", lambda channel: channel.exchange_bind(other, exchange, ""))


@case
@no_oracle("rabbitmq_delayed_message_exchange is not in Debian")
def delayed_exchange(kit):
    channel = kit.channel(confirm=True)
    exchange = kit.exchange(channel, "x-delayed-message", arguments={"x-delayed-type": "direct"})
    queue = kit.queue(channel)
    channel.queue_bind(queue, exchange, "a")
    publish(channel, "a", "late", exchange=exchange, headers={"x-delay": 1500})
    publish(channel, "a", "soon", exchange=exchange, headers={"x-delay": 500})
    publish(channel, "a", "at once", exchange=exchange)
    publish(channel, "b", "unroutable when due", exchange=exchange, headers={"x-delay": 100})
    same(1, depth(channel, queue), "at first")
    arrives(channel, queue, "at once")
    wait_for(channel, "the second comes", lambda: depth(channel, queue) == 1)
    arrives(channel, queue, "soon")
    wait_for(channel, "the last comes", lambda: depth(channel, queue) == 1)
    method, properties, body = channel.basic_get(queue, auto_ack=True)
    same(b"late", body, "body")
    same(-1500, properties.headers["x-delay"], "x-delay says that it was delayed, by its sign")
    same(exchange, method.exchange, "exchange")


@case
@no_oracle("rabbitmq_delayed_message_exchange is not in Debian")
def delayed_exchange_in_a_transaction(kit):
    channel, watcher = kit.channel(), kit.channel()
    exchange = kit.exchange(watcher, "x-delayed-message", arguments={"x-delayed-type": "fanout"})
    queue = kit.queue(watcher)
    watcher.queue_bind(queue, exchange)
    channel.tx_select()
    publish(channel, "", "never", exchange=exchange, headers={"x-delay": 1})
    channel.tx_rollback()
    publish(channel, "", "later", exchange=exchange, headers={"x-delay": 300})
    publish(channel, queue, "now")
    channel.tx_commit()
    arrives(watcher, queue, "now", "later")


@case
@no_oracle("rabbitmq_delayed_message_exchange is not in Debian")
def delayed_exchange_needs_a_type(kit):
    connection = kit.connection()
    refuses(connection, 406, "PRECONDITION_FAILED", lambda channel: channel.exchange_declare("never", "x-delayed-message"))
    refuses(connection, 406, "PRECONDITION_FAILED", lambda channel: channel.exchange_declare("never", "x-delayed-message", arguments={"x-delayed-type": "no-such"}))


@case
@no_oracle("rabbitmq_delayed_message_exchange is not in Debian")
def delayed_exchange_of_topics_many(kit):
    channel = kit.channel()  # without waiting for confirms, for the delays are to be what differs
    exchange = kit.exchange(channel, "x-delayed-message", durable=True, arguments={"x-delayed-type": "topic"})
    queue = kit.queue(channel, durable=True)
    channel.queue_bind(queue, exchange, "a.#")
    for number in range(200):
        publish(channel, f"a.{number}", str(number), exchange=exchange, headers={"x-delay": 2000 - 10 * number}, delivery_mode=2)
    wait_for(channel, "all are due", lambda: depth(channel, queue) == 200)
    got = [int(body) for body in drain(channel, queue)]
    same(sorted(range(200)), sorted(got), "all of them")
    # Published over some time itself, so only roughly.
    assert sum(early > late for early, late in zip(got, got[1:])) > 100, f"not by their times: {got}"


@case
def exchange_kinds_of_a_missing_passive(kit):
    try:
        kit.channel().exchange_declare("never-made", passive=True)
    except (ChannelClosedByBroker, ConnectionClosedByBroker) as error:
        same(404, error.reply_code, "code")
    else:
        raise AssertionError("found")
    channel = kit.channel()
    exchange = kit.exchange(channel, "fanout")
    channel.exchange_declare(exchange, "direct", passive=True)  # of a passive declare only the name counts


if __name__ == "__main__":
    main(jobs=JOBS)
