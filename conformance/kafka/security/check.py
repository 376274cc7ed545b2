"""TLS, SASL, tokens and access rules as librdkafka sees them. Run by `run`, in a folder with the certificates; any failed
assertion ends it."""

import os
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding, AclBindingFilter, AclOperation, AclPermissionType, AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource,
    NewTopic, ResourcePatternType, ResourceType, ScramCredentialInfo, ScramMechanism, UserScramCredentialDeletion, UserScramCredentialUpsertion,
)

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "..")))

from conformance.shared.kafka_raw import Connection  # noqa: E402

PLAIN, TLS = os.environ["BOOTSTRAP"], os.environ.get("POLYMQ_KAFKA_LISTEN_TLS")
SASL_AUTHENTICATION_FAILED = 58
QUIET = {"log_level": 0, "socket.timeout.ms": 10000}


def conf(user, password, mechanism="SCRAM-SHA-256", tls=True, **more):
    where = {"bootstrap.servers": TLS, "security.protocol": "SASL_SSL", "ssl.ca.location": "ca.pem"}
    if not tls:
        where = {"bootstrap.servers": PLAIN, "security.protocol": "SASL_PLAINTEXT"}
    who = {"sasl.mechanism": mechanism, "sasl.username": user, "sasl.password": password}
    return {**QUIET, **where, **who, **more}


def produce(config, topic, count=10):
    """The set of delivery errors; None among them: some were delivered."""
    outcomes = []
    producer = Producer(config)
    for number in range(count):
        producer.produce(topic, b"value %d" % number, on_delivery=lambda error, _: outcomes.append(error and error.code()))
    assert producer.flush(20) == 0
    return set(outcomes)


def consume(config, topic, count):
    """How many came, or the error's name."""
    consumer = Consumer({**config, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    came, deadline = 0, time.monotonic() + 30
    try:
        while came < count and time.monotonic() < deadline:
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error():
                return message.error().name()
            came += 1
        return came
    finally:
        consumer.close()


def done(futures):
    for future in futures.values():
        future.result(20)


def allow(user, resource_type, name, operation, pattern=ResourcePatternType.LITERAL):
    return AclBinding(resource_type, name, pattern, f"User:{user}", "*", operation, AclPermissionType.ALLOW)


def connects(config):
    try:
        AdminClient(config).list_topics(timeout=3)
        return True
    except KafkaException:
        return False


def sasl():
    admin = AdminClient(conf("admin", "secret"))
    brokers = admin.list_topics(timeout=10).brokers.values()
    assert {f"{broker.host}:{broker.port}" for broker in brokers} == {TLS}, brokers
    done(admin.alter_user_scram_credentials([
        UserScramCredentialUpsertion("alice", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), b"wonder"),
    ]))
    told = done_one(admin.describe_user_scram_credentials(["alice"]))
    assert [(info.mechanism, info.iterations) for info in told.scram_credential_infos] == [(ScramMechanism.SCRAM_SHA_512, 4096)]
    done(admin.create_topics([NewTopic("rules", 1, 1), NewTopic("logs-1", 1, 1)]))

    alice = conf("alice", "wonder", "SCRAM-SHA-512")
    assert produce(alice, "rules") == {KafkaError.TOPIC_AUTHORIZATION_FAILED}
    done(admin.create_acls([
        allow("alice", ResourceType.TOPIC, "rules", AclOperation.WRITE),
        allow("alice", ResourceType.TOPIC, "rules", AclOperation.READ),
        allow("alice", ResourceType.TOPIC, "logs-", AclOperation.WRITE, ResourcePatternType.PREFIXED),
        allow("alice", ResourceType.GROUP, "readers", AclOperation.READ),
    ]))
    assert produce(alice, "rules") == {None}
    assert produce(alice, "logs-1") == {None}
    assert produce(conf("alice", "wonder", "PLAIN", tls=False), "rules") == {None}
    assert consume({**alice, "group.id": "readers"}, "rules", 20) == 20
    assert consume({**alice, "group.id": "others"}, "rules", 1) == "GROUP_AUTHORIZATION_FAILED"
    assert consume({**alice, "group.id": "readers"}, "logs-1", 1) == "TOPIC_AUTHORIZATION_FAILED"
    assert set(AdminClient(alice).list_topics(timeout=10).topics) == {"rules", "logs-1"}

    # A denial goes before what allows, and a rule for other hosts allows nothing here.
    done(admin.create_topics([NewTopic("elsewhere", 1, 1)]))
    literal = ResourcePatternType.LITERAL
    denial = AclBinding(ResourceType.TOPIC, "rules", literal, "User:alice", "*", AclOperation.WRITE, AclPermissionType.DENY)
    distant = AclBinding(ResourceType.TOPIC, "elsewhere", literal, "User:alice", "192.0.2.1", AclOperation.WRITE, AclPermissionType.ALLOW)
    done(admin.create_acls([denial, distant]))
    assert produce(alice, "rules") == {KafkaError.TOPIC_AUTHORIZATION_FAILED}
    assert produce(alice, "elsewhere") == {KafkaError.TOPIC_AUTHORIZATION_FAILED}
    done(admin.delete_acls([
        AclBindingFilter(ResourceType.TOPIC, rule.name, literal, rule.principal, rule.host, rule.operation, rule.permission_type)
        for rule in (denial, distant)]))
    assert produce(alice, "rules") == {None}

    other_resources(admin, alice)
    everybody(admin)
    everything = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY)
    assert len(admin.describe_acls(everything).result(20)) == 4
    only_rules = AclBindingFilter(
        ResourceType.TOPIC, "rules", ResourcePatternType.LITERAL, None, None, AclOperation.ANY, AclPermissionType.ANY)
    assert len(admin.delete_acls([only_rules])[only_rules].result(20)) == 2
    assert produce(alice, "rules") == {KafkaError.TOPIC_AUTHORIZATION_FAILED}

    assert not connects(conf("alice", "wrong", "SCRAM-SHA-512"))
    assert Connection(PLAIN).authenticate_without_password("alice") == SASL_AUTHENTICATION_FAILED
    assert not connects(conf("alice", "wrong", "PLAIN", tls=False))
    assert not connects(conf("alice", "wonder", "SCRAM-SHA-256")), "there are no credentials for it"
    assert not connects({**QUIET, "bootstrap.servers": PLAIN}), "nobody is let in without authentication"
    assert not connects({**QUIET, "bootstrap.servers": TLS}), "nobody is let in without TLS"
    done(admin.alter_user_scram_credentials([UserScramCredentialDeletion("alice", ScramMechanism.SCRAM_SHA_512)]))
    assert not connects(alice), "the user is gone"
    print("39 statements about SASL and access rules hold")


def other_resources(admin, alice):
    """Of the cluster, of transactional ids, and of topics and groups what is neither read nor written."""
    hers = AdminClient(alice)
    rule = allow("alice", ResourceType.TOPIC, "rules", AclOperation.ALL)
    setting = ConfigResource(ResourceType.TOPIC, "rules", incremental_configs=[
        ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)])
    for wanted, futures in (
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, hers.create_topics([NewTopic("hers", 1, 1)])),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, hers.delete_topics(["rules"])),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, hers.incremental_alter_configs([setting])),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, hers.describe_configs([ConfigResource(ResourceType.TOPIC, "rules")])),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, hers.delete_consumer_groups(["readers"])),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, hers.create_acls([rule])),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, hers.alter_user_scram_credentials([
            UserScramCredentialUpsertion("admin2", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), b"mine")])),
    ):
        assert refusal(lambda futures=futures: done(futures)) == wanted, wanted
    assert admin.list_topics("rules", timeout=10).topics["rules"].error is None, "the topic is there all the same"

    # Who may see a thing, and so finds its coordinator, may not use it yet.
    done(admin.create_acls([
        allow("alice", ResourceType.TRANSACTIONAL_ID, "alice-", AclOperation.DESCRIBE, ResourcePatternType.PREFIXED),
        allow("alice", ResourceType.GROUP, "watched", AclOperation.DESCRIBE)]))
    assert consume({**alice, "group.id": "watched"}, "rules", 1) == "GROUP_AUTHORIZATION_FAILED"
    writer = Producer({**alice, "transactional.id": "alice-1"})
    assert refusal(lambda: writer.init_transactions(20)) == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    done(admin.create_acls([allow("alice", ResourceType.TRANSACTIONAL_ID, "alice-", AclOperation.WRITE, ResourcePatternType.PREFIXED)]))
    writer = Producer({**alice, "transactional.id": "alice-1"})
    writer.init_transactions(20)
    for group, wanted in (("others", KafkaError.GROUP_AUTHORIZATION_FAILED), ("readers", None)):
        writer.begin_transaction()
        reader = Consumer({**alice, "group.id": group})
        place = TopicPartition("rules", 0, 1)
        sent = refusal(lambda: writer.send_offsets_to_transaction([place], reader.consumer_group_metadata(), 20))
        assert sent == wanted, (group, sent)
        writer.commit_transaction(20) if sent is None else writer.abort_transaction(20)
        reader.close()
    done(admin.delete_acls([
        AclBindingFilter(kind, name, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY)
        for kind, name in ((ResourceType.TRANSACTIONAL_ID, None), (ResourceType.GROUP, "watched"))]))


def everybody(admin):
    """Rules for all users and for all names; somebody who may read need not be able to write."""
    done(admin.alter_user_scram_credentials([
        UserScramCredentialUpsertion("bob", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), b"builder")]))
    bob = conf("bob", "builder")
    assert not AdminClient(bob).list_topics(timeout=10).topics, "somebody else's rules are taken for his"
    rules = [
        AclBinding(kind, "*", ResourcePatternType.LITERAL, "User:*", "*", operation, AclPermissionType.ALLOW)
        for kind, operation in ((ResourceType.TOPIC, AclOperation.READ), (ResourceType.GROUP, AclOperation.ALL))]
    done(admin.create_acls(rules))
    assert consume({**bob, "group.id": "all"}, "rules", 30) == 30
    assert produce(bob, "rules") == {KafkaError.TOPIC_AUTHORIZATION_FAILED}
    # Where the client learns of the topic, it is the producer id that is refused.
    outcomes = set()
    idempotent = {**bob, "enable.idempotence": True, "message.timeout.ms": 5000}
    outcomes.add(refusal(lambda: outcomes.update(produce(idempotent, "rules", 1))))
    fatal = {KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError._FATAL}
    assert outcomes & fatal, f"who may write nothing needs no producer id: {outcomes}"
    done(admin.delete_acls([
        AclBindingFilter(rule.restype, "*", ResourcePatternType.LITERAL, "User:*", None, AclOperation.ANY, AclPermissionType.ANY)
        for rule in rules]))
    done(admin.alter_user_scram_credentials([UserScramCredentialDeletion("bob", ScramMechanism.SCRAM_SHA_256)]))


def refusal(act):
    """The code of the error that it ends with; None: of none."""
    try:
        act()
        return None
    except KafkaException as error:
        return error.args[0].code()


def done_one(futures):
    return next(iter(futures.values())).result(20)


def certificates():
    tls = {**QUIET, "bootstrap.servers": TLS, "security.protocol": "SSL", "ssl.ca.location": "ca.pem"}
    mine = {"ssl.certificate.location": "client.pem", "ssl.key.location": "client.key"}
    admin = AdminClient({**tls, **mine})
    done(admin.create_topics([NewTopic("mine", 1, 1)]))
    assert produce({**tls, **mine}, "mine") == {None}
    assert not connects(tls), "a client without a certificate is let in"
    forged = {"ssl.certificate.location": "forged.pem", "ssl.key.location": "forged.key"}
    assert not connects({**tls, **forged}), "a certificate that nobody has vouched for is believed"
    # Another's certificate is as good, but it is somebody else's, with rules of its own.
    other = {**tls, "ssl.certificate.location": "other.pem", "ssl.key.location": "other.key"}
    assert produce(other, "mine") == {KafkaError.TOPIC_AUTHORIZATION_FAILED}
    done(admin.create_acls([allow("CN=other,O=Example\\, Inc,C=DE", ResourceType.TOPIC, "mine", AclOperation.WRITE)]))
    assert produce(other, "mine") == {None}
    anybody = {**QUIET, "bootstrap.servers": PLAIN}
    assert produce({**anybody, "message.timeout.ms": 5000}, "mine") != {None}, "the plain listener knows no names"
    print("6 statements about client certificates hold")


def bearer(make, **more):
    """A client whose tokens come from `make`."""
    callback = lambda _: (make(), time.time() + 3600)
    where = {"bootstrap.servers": PLAIN, "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER"}
    return {**QUIET, **where, "oauth_cb": callback, "message.timeout.ms": 6000, **more}


def oauth():
    import tokens
    from tokens import token
    admin = AdminClient(bearer(lambda: token("admin")))
    done(admin.create_topics([NewTopic("borne", 1, 1)]))
    alice = bearer(lambda: token("alice", key="ec", algorithm="ES256"))
    assert produce(alice, "borne", 1) == {KafkaError.TOPIC_AUTHORIZATION_FAILED}
    done(admin.create_acls([
        allow("alice", ResourceType.TOPIC, "borne", AclOperation.WRITE),
        allow("alice", ResourceType.TOPIC, "borne", AclOperation.READ),
        allow("alice", ResourceType.GROUP, "bearers", AclOperation.READ),
    ]))
    assert produce(alice, "borne") == {None}
    assert consume({**alice, "group.id": "bearers"}, "borne", 10) == 10

    tokens.make_rsa("other")
    for what, make in {
        "it has expired": lambda: token("admin", seconds=-60),
        "it is of another issuer": lambda: token("admin", iss="https://other.example"),
        "it is for somebody else": lambda: token("admin", aud=["somebody"]),
        "it is not valid yet": lambda: token("admin", nbf=int(time.time()) + 600),
        "nobody knows its key": lambda: token("admin", key="other"),
        "it has no signature": lambda: token("admin", algorithm="none"),
    }.items():
        assert not connects(bearer(make)), f"a token is taken although {what}"
    # The keys are changed while the broker runs.
    tokens.write_jwks("other")
    assert connects(bearer(lambda: token("admin", key="other"))), "a new key is not found"
    assert not connects(bearer(lambda: token("admin"))), "an old key is still good"
    print("12 statements about tokens hold")


def expiry():
    """A client that does not authenticate again when its time is up (KIP-368): no library behaves so."""
    from tokens import token

    def authenticated(**claims):
        connection = Connection(PLAIN)
        error, lifetime_ms = connection.authenticate(token("admin", **claims))
        assert error == 0, error
        return connection, lifetime_ms

    connection, lifetime_ms = authenticated()
    assert 1000 < lifetime_ms <= 2000, f"the client may go on for {lifetime_ms} ms"
    assert connection.is_answered(), "within the time"
    time.sleep(lifetime_ms / 1000 + 0.1)
    assert not connection.is_answered(), "a client that should have said again who it is goes on"

    connection, lifetime_ms = authenticated(seconds=1)
    assert 0 < lifetime_ms <= 1000, f"a token that holds for 1 s does for {lifetime_ms} ms"

    connection, _ = authenticated()
    assert connection.authenticate(token("admin"))[0] == 0, "again, as the same"
    assert connection.is_answered()
    assert connection.authenticate(token("alice"))[0] == SASL_AUTHENTICATION_FAILED, "it becomes somebody else"
    assert Connection(PLAIN).authenticate(token("alice"), as_user="admin")[0] == SASL_AUTHENTICATION_FAILED, "a token is for another"
    assert Connection(PLAIN).authenticate(token("admin"), as_user="admin")[0] == 0
    print("9 statements about authenticating again hold")


{"sasl": sasl, "certificates": certificates, "oauth": oauth, "expiry": expiry}[sys.argv[1]]()
