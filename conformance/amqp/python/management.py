"""The management API, as tools and scripts use it, beside a real client's traffic."""

import base64
import hashlib
import json
import os
import time
import urllib.request

import pika
from amqp_kit import (JOBS, MANAGEMENT, ORACLE, Consumer, Refusal, api, arrives, breaks, case, depth, main, no_oracle, publish, quoted, same, until, wait_for, with_policy, with_user, with_vhost)
from pika.exceptions import ConnectionClosedByBroker


def refused(status, method, path, body=None, **who):
    try:
        api(method, path, body, **who)
    except Refusal as refusal:
        same(status, refusal.status, f"{method} {path}: {refusal}")
        return refusal
    raise AssertionError(f"{method} {path}: not refused")


def with_queue(kit, **options):
    channel = kit.channel(confirm=True)
    return channel, kit.queue(channel, durable=True, **options)


@case
def overview(kit):
    kit.connection()
    found = api("GET", "overview")
    for word in ("management_version", "rabbitmq_version", "cluster_name", "erlang_version", "object_totals", "queue_totals", "listeners", "node", "exchange_types", "message_stats", "contexts"):
        assert word in found, f"no {word} in {sorted(found)}"
    assert {"direct", "fanout", "topic", "headers", "x-consistent-hash"} <= {kind["name"] for kind in found["exchange_types"]}, found["exchange_types"]
    assert any(listener["protocol"] == "amqp" for listener in found["listeners"]), found["listeners"]
    same("guest", api("GET", "whoami")["name"], "whoami")
    assert api("GET", "cluster-name")["name"], "cluster name"


@case
def rates(kit):
    channel = kit.channel()
    queue = kit.queue(channel)

    def rate():
        publish(channel, queue, "x")
        return api("GET", "overview")["message_stats"].get("publish_details", {}).get("rate", 0)
    until("the rate of publishes is told", lambda: rate() > 0, 30)


@case
def nodes(kit):
    node = api("GET", "nodes")[0]
    for word in ("name", "running", "mem_used", "mem_limit", "mem_alarm", "disk_free", "disk_free_alarm", "fd_used", "fd_total", "proc_used", "uptime", "type"):
        assert word in node, f"no {word} in {sorted(node)}"
    same(True, node["running"], "running")
    same(node["name"], api("GET", f"nodes/{quoted(node['name'])}")["name"], "by its name")


@case
def who_may_ask(kit):
    plain, monitor, manager = with_user(kit), with_user(kit, tags="monitoring"), with_user(kit, tags="management")
    refused(401, "GET", "overview", user="guest", password="wrong")
    refused(401, "GET", "overview", user=plain, password="secret")
    api("GET", "overview", user=manager, password="secret")
    refused(401, "GET", "users", user=monitor, password="secret")
    api("GET", "nodes", user=monitor, password="secret")
    refused(401, "PUT", "vhosts/never", user=manager, password="secret")
    request = urllib.request.Request(MANAGEMENT + "/api/overview")
    try:
        urllib.request.urlopen(request, timeout=20)
    except urllib.error.HTTPError as error:
        same(401, error.code, "without a name")
        assert "Basic" in error.headers.get("WWW-Authenticate", ""), error.headers
    else:
        raise AssertionError("answered without a name")


@case
def vhosts(kit):
    name = kit.unique("vhost") + "/ü"
    api("PUT", f"vhosts/{quoted(name)}", {"description": "a test", "tags": "one,two"})
    kit.undo.append(lambda: api("DELETE", f"vhosts/{quoted(name)}"))
    found = api("GET", f"vhosts/{quoted(name)}")
    same((name, "a test", ["one", "two"]), (found["name"], found["description"], found["tags"]), "vhost")
    assert name in [vhost["name"] for vhost in api("GET", "vhosts")] and "/" in [vhost["name"] for vhost in api("GET", "vhosts")], "not listed"
    same(7, len([exchange for exchange in api("GET", f"exchanges/{quoted(name)}") if exchange["name"] == "" or exchange["name"].startswith("amq.") and exchange["name"] != "amq.rabbitmq.trace"]) + 1, "its standard exchanges" )
    api("DELETE", f"vhosts/{quoted(name)}")
    refused(404, "GET", f"vhosts/{quoted(name)}")


@case
def users_and_permissions(kit):
    user, vhost = with_user(kit, tags="monitoring,policymaker"), with_vhost(kit)
    found = api("GET", f"users/{user}")
    same(user, found["name"], "name")
    same({"monitoring", "policymaker"}, set(found["tags"]), "tags")
    assert found["password_hash"] and found["hashing_algorithm"] == "rabbit_password_hashing_sha256", found
    api("PUT", f"permissions/{quoted(vhost)}/{user}", {"configure": "^a", "write": "^b", "read": "^c"})
    same({"user": user, "vhost": vhost, "configure": "^a", "write": "^b", "read": "^c"}, api("GET", f"permissions/{quoted(vhost)}/{user}"), "permissions")
    same({"/", vhost}, {entry["vhost"] for entry in api("GET", f"users/{user}/permissions")}, "the user's")
    same({"guest", user}, {entry["user"] for entry in api("GET", f"vhosts/{quoted(vhost)}/permissions")}, "the vhost's")
    api("DELETE", f"permissions/{quoted(vhost)}/{user}")
    refused(404, "GET", f"permissions/{quoted(vhost)}/{user}")
    api("PUT", f"users/{user}", {"password": "changed", "tags": ""})
    try:
        kit.connection(user=user, password="secret")
        raise AssertionError("the old password works")
    except pika.exceptions.AMQPConnectionError:
        pass
    kit.connection(user=user, password="changed")
    api("DELETE", f"users/{user}")
    refused(404, "GET", f"users/{user}")


@case
def topic_permissions_that_are_not_there(kit):
    user, vhost = with_user(kit), with_vhost(kit)
    path = f"topic-permissions/{quoted(vhost)}/{user}"
    refused(404, "GET", path)
    refused(404, "DELETE", path)
    api("PUT", path, {"exchange": "amq.topic", "write": "^a", "read": "^b"})
    same([{"user": user, "vhost": vhost, "exchange": "amq.topic", "write": "^a", "read": "^b"}], api("GET", path), "permissions")
    api("DELETE", path)
    refused(404, "GET", path)
    refused(404, "DELETE", path)


@case
def what_is_asked_of_what_is_not_there(kit):
    for path in ("users/nobody/permissions", "users/nobody/topic-permissions", "vhost-limits/no-such-vhost", "user-limits/nobody"):
        refused(404, "GET", path)
    for path in ("exchanges/%2F/no-such-exchange/bindings/source", "exchanges/%2F/no-such-exchange/bindings/destination"):
        same([], api("GET", path), path)
    same([], [binding for binding in api("GET", "queues/%2F/no-such-queue/bindings") if binding["source"]], "bindings of a queue")
    message = {"routing_key": "x", "payload": "x", "payload_encoding": "string", "properties": {}}
    refusal = refused(400, "POST", "exchanges/%2F/no-such-exchange/publish", message)
    assert "404 NOT_FOUND - no exchange 'no-such-exchange' in vhost '/'" in str(refusal), refusal
    user = with_user(kit, tags="management", write="^$")
    refusal = refused(400, "POST", "exchanges/%2F/amq.direct/publish", message, user=user, password="secret")
    assert "403 ACCESS_REFUSED" in str(refusal), refusal


@case
def exchange_without_a_type_is_direct(kit):
    name = kit.unique("exchange")
    path = f"exchanges/%2F/{quoted(name)}"
    api("PUT", path, {})
    try:
        same("direct", api("GET", path)["type"], "type")
    finally:
        api("DELETE", path)


@case
def feature_flags(kit):
    flags = {flag["name"]: flag for flag in api("GET", "feature-flags")}
    for word in ("name", "desc", "doc_url", "state", "stability", "provided_by"):
        assert all(word in flag for flag in flags.values()), f"no {word} in {flags}"
    same({"enabled"}, {flags[name]["state"] for name in ("quorum_queue", "stream_queue", "user_limits", "virtual_host_metadata")}, "states")
    api("PUT", "feature-flags/quorum_queue/enable", {})
    refused(400, "PUT", "feature-flags/no_such_flag/enable", {})
    refused(401, "GET", "feature-flags", user=with_user(kit, tags="management"), password="secret")


@case
@no_oracle("3.10 does not tell of deprecated features")
def deprecated_features(kit):
    channel = kit.channel()
    kit.queue(channel, durable=False, exclusive=False)
    told = {feature["name"]: feature for feature in api("GET", "deprecated-features")}
    same("permitted_by_default", told["transient_nonexcl_queues"]["deprecation_phase"], "phase")
    assert "transient_nonexcl_queues" in [feature["name"] for feature in api("GET", "deprecated-features/used")], "not told of as used"
    refused(401, "GET", "deprecated-features", user=with_user(kit, tags="monitoring"), password="secret")


@case
def a_password_hash_lets_in(kit):
    salt = os.urandom(4)
    user = kit.unique("user")
    for algorithm, digest in (("rabbit_password_hashing_sha256", hashlib.sha256), ("rabbit_password_hashing_sha512", hashlib.sha512), ("rabbit_password_hashing_md5", hashlib.md5)):
        value = base64.b64encode(salt + digest(salt + "gehëim".encode()).digest()).decode()
        api("PUT", f"users/{user}", {"password_hash": value, "hashing_algorithm": algorithm, "tags": "management"})
        api("PUT", f"permissions/%2F/{user}", {"configure": ".*", "write": ".*", "read": ".*"})
        kit.connection(user=user, password="gehëim").close()
        same(value, api("GET", f"users/{user}")["password_hash"], "hash")
    kit.undo.append(lambda: api("DELETE", f"users/{user}"))


@case
def exchanges(kit):
    name = kit.unique("exchange/ü")
    api("PUT", f"exchanges/%2F/{quoted(name)}", {"type": "topic", "durable": True, "arguments": {"alternate-exchange": "other"}})
    found = api("GET", f"exchanges/%2F/{quoted(name)}")
    same((name, "/", "topic", True, False, False, {"alternate-exchange": "other"}), tuple(found[word] for word in ("name", "vhost", "type", "durable", "auto_delete", "internal", "arguments")), "exchange")
    kit.channel().exchange_declare(name, "topic", passive=True)
    refused(400, "PUT", f"exchanges/%2F/{quoted(name)}", {"type": "direct", "durable": True})
    api("DELETE", f"exchanges/%2F/{quoted(name)}")
    refused(404, "GET", f"exchanges/%2F/{quoted(name)}")


@case
def queues_and_their_depth(kit):
    channel, queue = with_queue(kit, arguments={"x-max-length": 100})
    path = f"queues/%2F/{quoted(queue)}"
    publish(channel, queue, *"abcde", delivery_mode=2)
    taker = kit.channel()
    taker.basic_qos(prefetch_count=2)
    consumer = Consumer(taker, queue)
    consumer.wait(2)
    until("the counts are told", lambda: tuple(api("GET", path).get(word) for word in ("messages", "messages_ready", "messages_unacknowledged", "consumers")) == (5, 3, 2, 1), 30)
    found = api("GET", path)
    found["arguments"].pop("x-queue-type", None)  # 4.x notes the type in the arguments, whoever chose it
    same((queue, "/", True, False, False, {"x-max-length": 100}, "classic", "running"), tuple(found[word] for word in ("name", "vhost", "durable", "auto_delete", "exclusive", "arguments", "type", "state")), "queue")
    until("its consumers are told", lambda: len(api("GET", path).get("consumer_details", [])) == 1, 30)
    details = api("GET", path)["consumer_details"][0]
    same((consumer.tag, True, 2), (details["consumer_tag"], details["ack_required"], details["prefetch_count"]), "consumer")
    taker.basic_ack(0, multiple=True)
    taker.connection.close()
    until("settled", lambda: api("GET", path).get("messages") == 3 and api("GET", path).get("messages_unacknowledged") == 0 and api("GET", path).get("consumers") == 0, 30)
    assert queue in [found["name"] for found in api("GET", "queues")] and queue in [found["name"] for found in api("GET", "queues/%2F")], "not listed"
    api("DELETE", f"{path}/contents")
    until("purged", lambda: api("GET", path).get("messages") == 0, 30)
    api("DELETE", path)
    refused(404, "GET", path)


@case
def declare_by_http(kit):
    name = kit.unique("queue ü/%")
    path = f"queues/%2F/{quoted(name)}"
    api("PUT", path, {"durable": True, "auto_delete": False, "arguments": {"x-message-ttl": 60000, "x-queue-type": "quorum"}})
    kit.undo.append(lambda: api("DELETE", path))
    kit.channel().queue_declare(name, durable=True, arguments={"x-message-ttl": 60000, "x-queue-type": "quorum"})
    same("quorum", api("GET", path)["type"], "type")
    refused(400, "PUT", path, {"durable": False})
    refused(400, "PUT", f"queues/%2F/{quoted(name)}-bad", {"durable": True, "arguments": {"x-message-ttl": "soon"}})


@case
def bindings(kit):
    channel, queue = with_queue(kit)
    exchange, other = kit.exchange(channel, "topic"), kit.exchange(channel, "fanout")
    channel.queue_bind(queue, exchange, "a.#", {"x": 1})
    channel.exchange_bind(other, exchange, "b")
    found = api("GET", f"bindings/%2F/e/{quoted(exchange)}/q/{quoted(queue)}")
    same([(exchange, queue, "queue", "a.#", {"x": 1})], [tuple(entry[word] for word in ("source", "destination", "destination_type", "routing_key", "arguments")) for entry in found], "binding")
    same({"", exchange}, {entry["source"] for entry in api("GET", f"queues/%2F/{quoted(queue)}/bindings")}, "the queue's")
    same({(queue, "queue"), (other, "exchange")}, {(entry["destination"], entry["destination_type"]) for entry in api("GET", f"exchanges/%2F/{quoted(exchange)}/bindings/source")}, "the exchange's")
    api("DELETE", f"bindings/%2F/e/{quoted(exchange)}/q/{quoted(queue)}/{quoted(found[0]['properties_key'])}")
    same([], api("GET", f"bindings/%2F/e/{quoted(exchange)}/q/{quoted(queue)}"), "after the delete")
    api("POST", f"bindings/%2F/e/{quoted(exchange)}/q/{quoted(queue)}", {"routing_key": "new", "arguments": {}})
    publish(channel, "new", "x", exchange=exchange)
    arrives(channel, queue, "x")
    assert any(entry["source"] == exchange for entry in api("GET", "bindings")), "not listed"


@case
def publish_and_get(kit):
    channel, queue = with_queue(kit)
    same({"routed": True}, api("POST", "exchanges/%2F/amq.default/publish", {"properties": {"delivery_mode": 2, "headers": {"a": 1}, "message_id": "m"}, "routing_key": queue, "payload": "text", "payload_encoding": "string"}), "routed")
    api("POST", "exchanges/%2F/amq.default/publish", {"properties": {}, "routing_key": queue, "payload": base64.b64encode(b"\xff\x00").decode(), "payload_encoding": "base64"})
    same({"routed": False}, api("POST", "exchanges/%2F/amq.default/publish", {"properties": {}, "routing_key": "no-such-queue", "payload": "x", "payload_encoding": "string"}), "routed nowhere")
    found = api("POST", f"queues/%2F/{quoted(queue)}/get", {"count": 5, "ackmode": "ack_requeue_true", "encoding": "auto"})
    same([("text", "string", 4), (base64.b64encode(b"\xff\x00").decode(), "base64", 2)], [(message["payload"], message["payload_encoding"], message["payload_bytes"]) for message in found], "peeked at")
    same((queue, "", False, 1, {"a": 1}, "m", 2), (found[0]["routing_key"], found[0]["exchange"], found[0]["redelivered"], found[0]["message_count"], found[0]["properties"]["headers"], found[0]["properties"]["message_id"], found[0]["properties"]["delivery_mode"]), "with its properties")
    found = api("POST", f"queues/%2F/{quoted(queue)}/get", {"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"})
    same(("text", True), (found[0]["payload"], found[0]["redelivered"]), "taken")
    same(1, len(drain_bytes(channel, queue)), "left")


@case
def what_expires_is_not_got(kit):
    channel = kit.channel()
    dead = kit.queue(channel)
    queue = kit.queue(channel, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})

    def put(payload, **properties):
        api("POST", "exchanges/%2F/amq.default/publish", {"properties": properties, "routing_key": queue, "payload": payload, "payload_encoding": "string"})

    put("over", expiration="300")
    wait_for(channel, "it goes by itself", lambda: depth(channel, dead) == 1)
    put("head")
    put("over behind it", expiration="1")
    put("last")
    channel.connection.sleep(0.3)
    for ackmode in ("ack_requeue_true", "ack_requeue_false"):
        found = api("POST", f"queues/%2F/{quoted(queue)}/get", {"count": 2, "ackmode": ackmode, "encoding": "auto"})
        same(["head", "last"], [message["payload"] for message in found], f"got with {ackmode}")
    wait_for(channel, "both are dead letters", lambda: depth(channel, dead) == 2)


def drain_bytes(channel, queue):
    found = []
    while (message := channel.basic_get(queue, auto_ack=True))[0]:
        found.append(message[2])
    return found


@case
def connections_and_channels(kit):
    user = with_user(kit)
    connection = kit.connection(user=user, password="secret", client_properties={"connection_name": "a name"})
    channel = connection.channel()
    channel.basic_qos(prefetch_count=17)
    mine = []

    def told():
        mine[:] = [found for found in api("GET", "connections") if found.get("user") == user]
        return bool(mine) and mine[0].get("client_properties", {}).get("connection_name") == "a name"
    until("the connection is told", told, 30)
    found = mine[0]
    same(("/", "running", "AMQP 0-9-1"), (found["vhost"], found["state"], found["protocol"]), "connection")
    name = found["name"]
    same(name, api("GET", f"connections/{quoted(name)}")["name"], "by its name")
    until("its channel is told", lambda: [entry["number"] for entry in api("GET", f"connections/{quoted(name)}/channels")] == [1], 30)
    until("its prefetch is told", lambda: [entry.get("prefetch_count") for entry in api("GET", "channels") if entry.get("user") == user] == [17], 30)
    api("DELETE", f"connections/{quoted(name)}")
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            connection.process_data_events(0.1)
        raise AssertionError("not closed")
    except ConnectionClosedByBroker as error:
        same(320, error.reply_code, "code")


@case
def consumers(kit):
    channel, queue = with_queue(kit)
    consumer = Consumer(channel, queue, exclusive=True, arguments={"x-priority": 3})
    until("told", lambda: [entry["consumer_tag"] for entry in api("GET", "consumers/%2F") if entry["queue"]["name"] == queue] == [consumer.tag], 30)
    found = next(entry for entry in api("GET", "consumers") if entry["queue"]["name"] == queue)
    same((True, True), (found["exclusive"], found["ack_required"]), "consumer")


@case
def policies(kit):
    channel, queue = with_queue(kit)
    name = with_policy(kit, f"^{queue}$", {"max-length": 5, "overflow": "reject-publish"}, priority=7)
    found = api("GET", f"policies/%2F/{quoted(name)}")
    same(("/", name, f"^{queue}$", "queues", {"max-length": 5, "overflow": "reject-publish"}, 7), tuple(found[word] for word in ("vhost", "name", "pattern", "apply-to", "definition", "priority")), "policy")
    until("applied", lambda: api("GET", f"queues/%2F/{quoted(queue)}").get("policy") == name, 30)
    refused(400, "PUT", "policies/%2F/bad", {"pattern": "x", "definition": {"no-such-key": 1}})
    refused(400, "PUT", "policies/%2F/bad", {"pattern": "x", "definition": {"max-length": "many"}})
    refused(400, "PUT", "policies/%2F/bad", {"pattern": "(", "definition": {"max-length": 1}})


@case
def definitions_go_out_and_come_in(kit):
    vhost, user = with_vhost(kit), with_user(kit, tags="monitoring")
    api("PUT", f"permissions/{quoted(vhost)}/{user}", {"configure": "^c", "write": "^w", "read": "^r"})
    api("PUT", f"queues/{quoted(vhost)}/q", {"durable": True, "arguments": {"x-max-length": 5, "x-dead-letter-exchange": "x"}})
    api("PUT", f"exchanges/{quoted(vhost)}/x", {"type": "topic", "durable": True})
    api("POST", f"bindings/{quoted(vhost)}/e/x/q/q", {"routing_key": "a.#", "arguments": {}})
    api("PUT", f"policies/{quoted(vhost)}/p", {"pattern": "^q", "definition": {"message-ttl": 60000}, "apply-to": "queues"})
    api("PUT", f"topic-permissions/{quoted(vhost)}/{user}", {"exchange": "x", "write": "^w", "read": "^r"})
    api("PUT", f"vhost-limits/{quoted(vhost)}/max-queues", {"value": 50})
    parameter = kit.unique("parameter")
    api("PUT", f"global-parameters/{parameter}", {"value": {"a": [1, "b"]}})
    kit.undo.append(lambda: api("DELETE", f"global-parameters/{parameter}"))
    everything = api("GET", "definitions")
    assert "rabbit_version" in everything, "no rabbit_version"
    same(["q"], [entry["name"] for entry in everything["queues"] if entry["vhost"] == vhost], "queues")
    assert any(entry["name"] == user and entry["password_hash"] for entry in everything["users"]), "users"
    of_vhost = api("GET", f"definitions/{quoted(vhost)}")
    same(["q"], [entry["name"] for entry in of_vhost["queues"]], "queues of one vhost")
    named = {"vhosts": vhost, "users": user, "global_parameters": parameter}
    mine = {word: [entry for entry in everything[word] if (entry["name"] == named[word] if word in named else entry["vhost"] == vhost)]
            for word in (*named, "permissions", "topic_permissions", "parameters", "policies", "queues", "exchanges", "bindings")}
    for word, entries in mine.items():
        assert entries, f"no {word}"
    api("DELETE", f"global-parameters/{parameter}")
    api("DELETE", f"vhosts/{quoted(vhost)}")
    api("DELETE", f"users/{user}")
    api("POST", "definitions", mine)
    again = api("GET", "definitions")
    for word, entries in mine.items():
        for entry in entries:
            assert entry in again[word], f"{word}: {entry} did not come back: {[found for found in again[word] if found.get('vhost') == vhost or found.get('name') == user]}"
    api("PUT", f"permissions/{quoted(vhost)}/guest", {"configure": ".*", "write": ".*", "read": ".*"})
    kit.connection(vhost=vhost, user=user, password="secret")
    channel = kit.channel(vhost=vhost, confirm=True)
    publish(channel, "a.b", "x", exchange="x")
    arrives(channel, "q", "x")


@case
def definitions_of_a_real_broker_are_taken(kit):
    """As RabbitMQ exports them, with hashes of the password `secret` in its default algorithm."""
    vhost, user = kit.unique("vhost"), kit.unique("user")
    salt = b"\x01\x02\x03\x04"
    definitions = {
        "rabbit_version": "3.12.1", "rabbitmq_version": "3.12.1", "product_name": "RabbitMQ", "product_version": "3.12.1",
        "users": [{"name": user, "password_hash": base64.b64encode(salt + hashlib.sha256(salt + b"secret").digest()).decode(), "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ["administrator"], "limits": {}}],
        "vhosts": [{"name": vhost, "metadata": {"description": "", "tags": []}, "limits": [], "description": "", "tags": []}] if not ORACLE else [{"name": vhost}],
        "permissions": [{"user": user, "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"}], "topic_permissions": [], "parameters": [], "global_parameters": [],
        "policies": [{"vhost": vhost, "name": "limits", "pattern": "^work", "apply-to": "queues", "definition": {"max-length": 1000}, "priority": 0}],
        "queues": [{"name": "work", "vhost": vhost, "durable": True, "auto_delete": False, "arguments": {"x-queue-type": "classic", "x-dead-letter-exchange": "dead"}},
                   {"name": "work.dead", "vhost": vhost, "durable": True, "auto_delete": False, "arguments": {"x-queue-type": "quorum"}}],
        "exchanges": [{"name": "dead", "vhost": vhost, "type": "fanout", "durable": True, "auto_delete": False, "internal": False, "arguments": {}},
                      {"name": "jobs", "vhost": vhost, "type": "headers", "durable": True, "auto_delete": False, "internal": False, "arguments": {"alternate-exchange": "dead"}}],
        "bindings": [{"source": "dead", "vhost": vhost, "destination": "work.dead", "destination_type": "queue", "routing_key": "", "arguments": {}},
                     {"source": "jobs", "vhost": vhost, "destination": "work", "destination_type": "queue", "routing_key": "", "arguments": {"x-match": "all", "kind": "job"}}],
    }
    kit.undo.append(lambda: api("DELETE", f"vhosts/{quoted(vhost)}"))
    kit.undo.append(lambda: api("DELETE", f"users/{user}"))
    for _ in range(2):  # importing again changes nothing
        api("POST", "definitions", definitions)
    channel = kit.channel(vhost=vhost, user=user, password="secret", confirm=True)
    publish(channel, "", "a job", exchange="jobs", headers={"kind": "job"})
    publish(channel, "", "no job", exchange="jobs")
    arrives(channel, "work", "a job")
    arrives(channel, "work.dead", "no job")


def vhosts_are_up():
    try:
        return api("GET", "health/checks/virtual-hosts")["status"] == "ok"
    except Refusal:
        return False


@case
def health_checks(kit):
    until("all vhosts are up, those as well that other cases delete just now", vhosts_are_up, 30)
    for path in ("health/checks/alarms", "health/checks/local-alarms", "health/checks/protocol-listener/amqp", "health/checks/node-is-quorum-critical", "health/checks/certificate-expiration/1/months"):
        same("ok", api("GET", path)["status"], path)
    same("ok", api("GET", "aliveness-test/%2F")["status"], "aliveness") if ORACLE else None
    port = kit.addresses[0].rsplit(":", 1)[1]
    same("ok", api("GET", f"health/checks/port-listener/{port}")["status"], "port listener")
    refused(503, "GET", "health/checks/port-listener/1")
    refused(503, "GET", "health/checks/protocol-listener/mqtt")
    # RabbitMQ's one listener speaks AMQP 1.0, too.
    refused(503, "GET", "health/checks/protocol-listener/amqp10") if not ORACLE else None


@case
def vhost_limits(kit):
    vhost = with_vhost(kit)
    api("PUT", f"vhost-limits/{quoted(vhost)}/max-connections", {"value": 1})
    api("PUT", f"vhost-limits/{quoted(vhost)}/max-queues", {"value": 2})
    same([{"vhost": vhost, "value": {"max-connections": 1, "max-queues": 2}}], api("GET", f"vhost-limits/{quoted(vhost)}"), "limits")
    channel = kit.channel(vhost=vhost)
    for name in ("a", "b"):
        channel.queue_declare(name)
    try:
        channel.queue_declare("c")
        raise AssertionError("a third queue")
    except pika.exceptions.AMQPError as error:
        assert "406" in str(error) and "queue limit in vhost" in str(error), error
    try:
        kit.connection(vhost=vhost)
        raise AssertionError("a second connection")
    except pika.exceptions.AMQPError as error:
        assert "530" in str(error) or "limit" in str(error), error


@case
def user_limits(kit):
    vhost = with_vhost(kit)
    user = with_user(kit)
    api("PUT", f"permissions/{quoted(vhost)}/{user}", {"configure": ".*", "write": ".*", "read": ".*"})
    api("PUT", f"user-limits/{user}/max-channels", {"value": 2})
    same([{"user": user, "value": {"max-channels": 2}}], api("GET", f"user-limits/{user}"), "limits")
    connection = kit.connection(vhost=vhost, user=user, password="secret")
    for _ in range(2):
        connection.channel()
    connection.sleep(0.5)  # RabbitMQ counts them a moment later
    breaks(connection, 530, f"number of channels opened for user '{user}' has reached the maximum allowed user limit of (2)", lambda _: None)
    api("PUT", f"user-limits/{user}/max-connections", {"value": 0})
    try:
        kit.connection(vhost=vhost, user=user, password="secret")
        raise AssertionError("a connection beyond the limit")
    except pika.exceptions.AMQPError as error:
        assert "530" in str(error) or "limit" in str(error), error


@case
def columns_pages_and_sorting(kit):
    vhost = with_vhost(kit)
    for name in "cab":
        api("PUT", f"queues/{quoted(vhost)}/{name}", {"durable": True, "auto_delete": name == "b"})
    page = api("GET", f"queues/{quoted(vhost)}?page=1&page_size=2&sort=name&columns=name")
    same(([{"name": "a"}, {"name": "b"}], 3, 2, 1, 2), (page["items"], page["total_count"], page["page_count"], page["page"], page["page_size"]), "first page")
    page = api("GET", f"queues/{quoted(vhost)}?page=1&page_size=10&sort=auto_delete&sort_reverse=true")
    same("b", page["items"][0]["name"], "the first by another column, from the last")
    page = api("GET", f"queues/{quoted(vhost)}?page=1&page_size=10&name=^c&use_regex=true")
    same(["c"], [entry["name"] for entry in page["items"]], "filtered")


@case
def wrong_requests(kit):
    refused(404, "GET", "no-such-thing")
    refused(404, "GET", "queues/%2F/no-such-queue")
    refused(404, "GET", "queues/no-such-vhost")
    request = urllib.request.Request(MANAGEMENT + "/api/vhosts/never", method="PUT", data=b"{not json", headers={"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q=", "Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=20)
        raise AssertionError("taken")
    except urllib.error.HTTPError as error:
        same(400, error.code, "code of what is no JSON")
        json.loads(error.read())


if __name__ == "__main__":
    main(jobs=JOBS)
