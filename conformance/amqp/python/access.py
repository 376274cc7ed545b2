"""pika: users and what they may do; answered with 403 and RabbitMQ's words."""

from amqp_kit import JOBS, Refusal, api, arrives, case, empty, main, no_oracle, publish, quoted, refuses, same, until, with_policy, with_user, with_vhost


@case
def configure_is_asked(kit):
    user = with_user(kit, configure="^mine.*$")
    connection = kit.connection(user=user, password="secret")
    text = f"ACCESS_REFUSED - configure access to %s in vhost '/' refused for user '{user}'"
    allowed = "mine-" + kit.unique("queue")
    kit.queue(connection.channel(), allowed)
    refuses(connection, 403, text % "queue 'yours'", lambda channel: channel.queue_declare("yours"))
    refuses(connection, 403, text % "queue 'yours'", lambda channel: channel.queue_delete("yours"))
    refuses(connection, 403, text % "exchange 'yours'", lambda channel: channel.exchange_declare("yours"))
    refuses(connection, 403, text % "exchange 'yours'", lambda channel: channel.exchange_delete("yours"))


@case
def write_and_read_are_asked(kit):
    owner = kit.channel()
    queue, exchange = kit.queue(owner), kit.exchange(owner)
    owner.queue_bind(queue, exchange, "a")
    nothing, reader, writer = with_user(kit, "/", "", "", ""), with_user(kit, "/", "", "", ".*"), with_user(kit, "/", "", ".*", "")
    refusal = "ACCESS_REFUSED - {} access to {} in vhost '/' refused for user '{}'"
    connections = {user: kit.connection(user=user, password="secret") for user in (nothing, reader, writer)}
    for user in (nothing, reader):
        refuses(connections[user], 403, refusal.format("write", f"exchange '{exchange}'", user), lambda channel: publish(channel, "a", "x", exchange=exchange))
        refuses(connections[user], 403, refusal.format("write", "exchange 'amq.default'", user), lambda channel: publish(channel, queue, "x"))
        refuses(connections[user], 403, refusal.format("write", f"queue '{queue}'", user), lambda channel: channel.queue_bind(queue, exchange, "b"))
    for user in (nothing, writer):
        for action in (lambda channel: channel.basic_consume(queue, print), lambda channel: channel.basic_get(queue), lambda channel: channel.queue_purge(queue)):
            refuses(connections[user], 403, refusal.format("read", f"queue '{queue}'", user), action)
        # To bind one writes to the queue and reads the exchange.
    refuses(connections[writer], 403, refusal.format("read", f"exchange '{exchange}'", writer), lambda channel: channel.queue_bind(queue, exchange, "b"))
    publish(connections[writer].channel(), "a", "by the writer", exchange=exchange)
    arrives(connections[reader].channel(), queue, "by the writer")


@case
def dead_letters_and_alternates_ask_too(kit):
    user = with_user(kit, write="^mine", read="^mine")
    connection = kit.connection(user=user, password="secret")
    refuses(connection, 403, "ACCESS_REFUSED - write access to exchange 'yours'", lambda channel: channel.queue_declare("mine-" + kit.unique("q"), arguments={"x-dead-letter-exchange": "yours"}))
    refuses(connection, 403, "ACCESS_REFUSED - write access to exchange 'yours'", lambda channel: channel.exchange_declare("mine-" + kit.unique("x"), arguments={"alternate-exchange": "yours"}))


@case
def patterns_cover_server_named_queues(kit):
    user = with_user(kit, configure="^amq\\.gen.*$", write="^(amq\\.gen.*|amq\\.default)$", read="^amq\\.gen.*$")
    channel = kit.channel(user=user, password="secret")
    queue = channel.queue_declare("", exclusive=True).method.queue
    publish(channel, queue, "x")
    arrives(channel, queue, "x")
    refuses(channel.connection, 403, "ACCESS_REFUSED - configure access to queue 'named'", lambda channel: channel.queue_declare("named", exclusive=True))


@case
def permissions_of_one_vhost_are_not_of_another(kit):
    vhost, user = with_vhost(kit), with_user(kit)
    api("PUT", f"permissions/{quoted(vhost)}/{quoted(user)}", {"configure": "", "write": ".*", "read": ".*"})
    there, here = kit.connection(vhost=vhost, user=user, password="secret"), kit.connection(user=user, password="secret")
    refuses(there, 403, f"ACCESS_REFUSED - configure access to queue 'q' in vhost '{vhost}' refused for user '{user}'", lambda channel: channel.queue_declare("q"))
    kit.queue(here.channel())


@case
def permissions_that_change_are_asked_anew(kit):
    user = with_user(kit)
    connection = kit.connection(user=user, password="secret")
    queue = kit.queue(connection.channel())
    api("PUT", f"permissions/{quoted('/')}/{quoted(user)}", {"configure": "", "write": ".*", "read": ".*"})
    refuses(connection, 403, f"ACCESS_REFUSED - configure access to queue '{queue}' in vhost '/' refused for user '{user}'", lambda channel: channel.queue_declare(queue))


@case
def topic_permissions(kit):
    owner = kit.channel()
    exchange, queue = kit.exchange(owner, "topic"), kit.queue(owner)
    owner.queue_bind(queue, exchange, "#")
    user = with_user(kit)
    api("PUT", f"topic-permissions/{quoted('/')}/{quoted(user)}", {"exchange": exchange, "write": "^mine\\.", "read": "^mine\\."})
    connection = kit.connection(user=user, password="secret")
    publish(connection.channel(), "mine.a", "allowed", exchange=exchange)
    arrives(owner, queue, "allowed")
    refuses(connection, 403, f"ACCESS_REFUSED - write access to topic 'yours.a' in exchange '{exchange}' in vhost '/' refused for user '{user}'", lambda channel: publish(channel, "yours.a", "x", exchange=exchange))
    refuses(connection, 403, f"ACCESS_REFUSED - read access to topic 'yours.#' in exchange '{exchange}' in vhost '/' refused for user '{user}'", lambda channel: channel.queue_bind(queue, exchange, "yours.#"))
    connection.channel().queue_bind(queue, exchange, "mine.a")
    other = kit.exchange(owner, "topic")
    refuses(connection, 403, f"ACCESS_REFUSED - read access to topic 'yours.#' in exchange '{exchange}'", lambda channel: channel.exchange_bind(other, exchange, "yours.#"))
    publish(connection.channel(), "yours.a", "of another exchange nothing is said", exchange=other)


@case
@no_oracle("3.10 asks for the routing key alone; 4.x for those of CC and BCC, too")
def topic_permissions_hold_for_copies(kit):
    owner = kit.channel()
    exchange, queue = kit.exchange(owner, "topic"), kit.queue(owner)
    owner.queue_bind(queue, exchange, "#")
    user = with_user(kit)
    api("PUT", f"topic-permissions/{quoted('/')}/{quoted(user)}", {"exchange": exchange, "write": "^{username}\\.", "read": ""})
    connection = kit.connection(user=user, password="secret")
    publish(connection.channel(), f"{user}.a", "allowed", exchange=exchange, headers={"CC": [f"{user}.b"]})
    arrives(owner, queue, "allowed")
    for header in ("CC", "BCC"):
        refuses(connection, 403, f"ACCESS_REFUSED - write access to topic 'yours.a' in exchange '{exchange}'",
                lambda channel, header=header: publish(channel, f"{user}.a", "x", exchange=exchange, headers={header: [f"{user}.b", "yours.a"]}))
    empty(owner, queue)


@case
def topic_permissions_hold_over_http(kit):
    owner = kit.channel()
    exchange, queue = kit.exchange(owner, "topic"), kit.queue(owner)
    owner.queue_bind(queue, exchange, "#")
    user = with_user(kit, tags="management")
    api("PUT", f"topic-permissions/{quoted('/')}/{quoted(user)}", {"exchange": exchange, "write": "^mine", "read": "^mine"})

    def asks(method, path, body):
        try:
            api(method, path, body, user=user, password="secret")
            return "allowed"
        except Refusal as refusal:
            same(400 if path.endswith("publish") else 401, refusal.status, refusal)
            return "refused"
    for key, answer in (("mine", "allowed"), ("yours", "refused")):
        same(answer, asks("POST", f"exchanges/%2F/{quoted(exchange)}/publish", {"routing_key": key, "payload": key, "payload_encoding": "string", "properties": {}}), f"publish {key}")
        same(answer, asks("POST", f"bindings/%2F/e/{quoted(exchange)}/q/{quoted(queue)}", {"routing_key": key, "arguments": {}}), f"bind {key}")
    arrives(owner, queue, "mine")
    empty(owner, queue)


@case
def a_policy_applies_and_goes(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel)
    policy = with_policy(kit, f"^{queue}$", {"max-length": 2})
    wait(lambda: api("GET", f"queues/%2F/{quoted(queue)}").get("policy") == policy)
    publish(channel, queue, *"abcd")
    arrives_in_the_end(channel, queue, "c", "d")
    api("DELETE", f"policies/%2F/{quoted(policy)}")
    wait(lambda: not api("GET", f"queues/%2F/{quoted(queue)}").get("policy"))
    publish(channel, queue, *"abcd")
    arrives_in_the_end(channel, queue, *"abcd")


@case
def a_policy_gives_ttl_and_dead_letters(kit):
    channel = kit.channel(confirm=True)
    queue, dead = kit.queue(channel), kit.queue(channel)
    with_policy(kit, f"^{queue}$", {"message-ttl": 200, "dead-letter-exchange": "", "dead-letter-routing-key": dead}, priority=5)
    with_policy(kit, f"^{queue}$", {"message-ttl": 600000}, priority=1)
    wait(lambda: api("GET", f"queues/%2F/{quoted(queue)}").get("effective_policy_definition", {}).get("message-ttl") == 200)
    publish(channel, queue, "x")
    arrives_in_the_end(channel, dead, "x")


@case
def a_policy_gives_an_alternate_exchange(kit):
    channel = kit.channel(confirm=True)
    exchange, other, queue = kit.exchange(channel), kit.exchange(channel, "fanout"), kit.queue(channel)
    channel.queue_bind(queue, other)
    with_policy(kit, f"^{exchange}$", {"alternate-exchange": other}, apply_to="exchanges")
    for _ in range(100):
        publish(channel, "nobody", "x", exchange=exchange)
        if channel.queue_declare(queue, passive=True).method.message_count:
            return
        channel.connection.sleep(0.05)
    raise AssertionError("never routed to the alternate exchange")


@case
def an_operator_policy_takes_the_lower(kit):
    channel = kit.channel(confirm=True)
    queue = kit.queue(channel, arguments={"x-max-length": 10})
    name = kit.unique("operator")
    api("PUT", f"operator-policies/%2F/{name}", {"pattern": f"^{queue}$", "definition": {"max-length": 2}, "apply-to": "queues"})
    kit.undo.append(lambda: api("DELETE", f"operator-policies/%2F/{name}"))
    wait(lambda: api("GET", f"queues/%2F/{quoted(queue)}").get("operator_policy") == name)
    publish(channel, queue, *"abcd")
    arrives_in_the_end(channel, queue, "c", "d")


def wait(holds):
    until("the policy is told of", holds, 20)


def arrives_in_the_end(channel, queue, *wanted):
    """As `arrives`, for limits that take hold a moment after the confirm."""
    for _ in range(200):
        if channel.queue_declare(queue, passive=True).method.message_count == len(wanted):
            break
        channel.connection.sleep(0.02)
    arrives(channel, queue, *wanted)


if __name__ == "__main__":
    main(jobs=JOBS)
