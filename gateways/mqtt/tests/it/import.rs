//! mosquitto's files become the cluster's: users and rules of all gateways, at once.

use std::path::{Path, PathBuf};

use codec_mqtt::{Binary, Connect, Packet, Publish, QoS, Reason, Version};
use core_rpc::AnyCore;
use mqtt_gateway::import::{Import, run};

use crate::common::{Broker, Client, PATIENCE, config, connect, delivery, message, text, will, within};

const QOS1: QoS = QoS::AtLeastOnce;

/// Made by Debian's mosquitto_passwd 2.0.11: alice's password is `secret`, bob's `pa:ss w`.
const PASSWORDS: &str = "\
alice:$7$101$68gsrh5sEvZK9W4Y$4HeKlGiYctjAhtjfJhKdeczpiCMt2TFUa6JeZMz7dIRqK/ih44mpDetJ7ot6GVN81SGyMqhVuXE9Lm/Q6etnnA==
bob:$6$wVBZfeeJ7OJzzG4W$blftQHSflwAg5qZwktNjG4/PFFS7dY9f/4Sg0jlbeNutencFKuxUox5NK7qM9yMPYhBhcgPK3rMGdllJQyAvhQ==
";

const RULES: &str = "\
topic read open/#
topic read $SYS/broker/version

user alice
topic readwrite house/#
topic deny house/safe
topic write in

user bob
topic read house/+

pattern readwrite own/%c/%u/#
";

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        Files { directory: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

async fn import(broker: &Broker, passwords: Option<&Path>, rules: Option<&Path>) -> anyhow::Result<Vec<String>> {
    run(AnyCore::from(broker.core.clone()), Import { password_file: passwords, acl_file: rules }).await
}

fn login(version: Version, client_id: &str, user: &str, password: &str) -> Connect {
    let password = Binary::new(password.as_bytes().to_vec());
    Connect { user_name: Some(text(user)), password, ..connect(version, client_id) }
}

async fn answer(broker: &Broker, connect: Connect) -> Reason {
    broker.raw(connect.version).await.connect(connect).await.reason
}

/// What PUBACK says.
async fn published(client: &mut Client, topic: &str) -> Reason {
    published_as(client, topic, false).await
}

async fn published_as(client: &mut Client, topic: &str, retain: bool) -> Reason {
    let packet_id = client.id();
    client.send(Packet::Publish(Publish { retain, ..message(topic, "x", delivery(QOS1, packet_id)) })).await;
    match client.packet().await {
        Packet::Puback(puback) => puback.reason,
        other => panic!("{other:?} instead of PUBACK"),
    }
}

/// Publishes until the rules have come: they do by a watch, not with the answer.
async fn until_published(client: &mut Client, topic: &str, wanted: Reason) {
    within(async { while published(client, topic).await != wanted {} }).await;
}

#[tokio::test]
async fn users_log_in_at_every_gateway() {
    let broker = Broker::start().await;
    let files = Files::new();
    let other = mqtt_gateway::start(broker.core.clone(), config()).await.unwrap();
    assert_eq!(answer(&broker, login(Version::Mqtt5, "a", "alice", "wrong")).await, Reason::Success, "a stranger");
    let passwords = files.file("passwords", PASSWORDS);
    let done = import(&broker, Some(&passwords), None).await.unwrap();
    assert_eq!(done, ["users: 2 added, 0 with another password"]);
    for address in [broker.address(), other.address()] {
        for (user, password, expected) in [
            ("alice", "secret", Reason::Success),
            ("alice", "Secret", Reason::BadUserNameOrPassword),
            ("alice", "", Reason::BadUserNameOrPassword),
            ("bob", "pa:ss w", Reason::Success),
            ("bob", "secret", Reason::BadUserNameOrPassword),
        ] {
            for version in [Version::Mqtt311, Version::Mqtt5] {
                let mut client = Client::raw(address, version).await;
                let connack = client.connect(login(version, "c", user, password)).await;
                assert_eq!(connack.reason, expected, "{user} {password}");
            }
        }
    }
    // Again is no mistake; what the user is elsewhere stays.
    let users = gateway_users(&broker);
    users.change("alice", |user| user.tags = vec!["monitoring".into()]).await.unwrap();
    let done = import(&broker, Some(&passwords), None).await.unwrap();
    assert_eq!(done, ["users: 0 added, 2 with another password"]);
    assert_eq!(users.get("alice").await.unwrap().unwrap().tags, ["monitoring"]);
    other.stop().await;
    broker.stop().await;
}

fn gateway_users(broker: &Broker) -> gateway_runtime::users::Users<AnyCore> {
    gateway_runtime::users::Users::new(AnyCore::from(broker.core.clone()), &[]).unwrap()
}

#[tokio::test]
async fn a_file_with_a_wrong_line_changes_nothing() {
    let broker = Broker::start().await;
    let files = Files::new();
    let wrong = files.file("passwords", &format!("{PASSWORDS}carol:plain\n\ndave:$argon2id$x\n"));
    let rules = files.file("acl", RULES);
    let error = format!("{:#}", import(&broker, Some(&wrong), Some(&rules)).await.unwrap_err());
    for told in ["line 3: user \"carol\": the password is not hashed", "line 5: user \"dave\": argon2id"] {
        assert!(error.contains(told), "{error}");
    }
    let passwords = files.file("passwords", PASSWORDS);
    let wrong = files.file("acl", "topic read a\ntopc b\ntopic maybe c\ntopic read a#\n");
    let error = format!("{:#}", import(&broker, Some(&passwords), Some(&wrong)).await.unwrap_err());
    for told in ["line 2: neither user", "line 3: neither read", "line 4: no valid topic filter"] {
        assert!(error.contains(told), "{error}");
    }
    assert!(import(&broker, Some(Path::new("/nowhere")), None).await.is_err());
    assert!(gateway_users(&broker).all().await.unwrap().is_empty());
    let mut client = broker.client(Version::Mqtt5, "c").await;
    assert_eq!(published(&mut client, "anything").await, Reason::Success);
    broker.stop().await;
}

/// As mosquitto 2.0 has it: any filter may be subscribed to, and what may not be read is left out; a publish that is not allowed is
/// answered with 0x87 in version 5, and looks kept in older ones.
#[tokio::test]
async fn rules_hold_at_once_for_clients_that_are_there() {
    let broker = Broker::start().await;
    let files = Files::new();
    let passwords = files.file("passwords", PASSWORDS);
    import(&broker, Some(&passwords), None).await.unwrap();
    let mut alice = broker.client_with(login(Version::Mqtt5, "alice-1", "alice", "secret")).await;
    let mut bob = broker.client_with(login(Version::Mqtt311, "bob-1", "bob", "pa:ss w")).await;
    let mut stranger = broker.client(Version::Mqtt5, "stranger").await;
    for client in [&mut bob, &mut stranger] {
        client.subscribe("#", QOS1).await;
    }
    // What is kept from before the rules.
    assert_eq!(published_as(&mut alice, "secret/kept", true).await, Reason::Success);
    for client in [&mut bob, &mut stranger] {
        assert_eq!(client.message().await.0, "secret/kept");
    }
    let rules = files.file("acl", RULES);
    let done = import(&broker, None, Some(&rules)).await.unwrap();
    assert!(done[0].starts_with("rules: "), "{done:?}");
    until_published(&mut alice, "elsewhere", Reason::NotAuthorized).await;
    // Some of that may have come before the rules did.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for client in [&mut bob, &mut stranger] {
        client.send(Packet::Pingreq).await;
        while client.packet().await != Packet::Pingresp {
            assert!(tokio::time::Instant::now() < deadline);
        }
    }

    assert_eq!(published(&mut alice, "house/a").await, Reason::Success);
    assert_eq!(published(&mut alice, "house/safe").await, Reason::NotAuthorized);
    assert_eq!(published(&mut alice, "house/a/b").await, Reason::Success);
    assert_eq!(published(&mut alice, "in").await, Reason::Success);
    assert_eq!(published(&mut alice, "open/a").await, Reason::NotAuthorized);
    assert_eq!(published(&mut alice, "own/alice-1/alice/x").await, Reason::Success);
    assert_eq!(published(&mut alice, "own/bob-1/alice/x").await, Reason::NotAuthorized);
    // bob reads one level of the house, and what is his; he publishes nothing, which nobody tells him.
    assert_eq!(bob.message().await.0, "house/a");
    bob.publish_to("house/a", "from bob", QOS1).await;
    bob.publish_to("own/bob-1/bob/y", "his", QoS::AtMostOnce).await;
    assert_eq!(bob.message().await.0, "own/bob-1/bob/y");
    bob.silence().await;
    // The stranger: nobody has written what it may read.
    stranger.silence().await;

    // Filters are not looked at, retained messages are; shared subscriptions likewise.
    let mut late = broker.client_with(login(Version::Mqtt5, "late", "bob", "pa:ss w")).await;
    for filter in ["#", "house/#", "secret/kept", "$share/g/house/#"] {
        let reasons: Vec<Reason> = late.subscribe(filter, QOS1).await.reasons.iter().collect();
        assert_eq!(reasons, [Reason::GrantedQoS1], "{filter}");
    }
    late.silence().await;
    assert_eq!(published(&mut alice, "house/b").await, Reason::Success);
    assert_eq!([late.message().await.0, late.message().await.0], ["house/b", "house/b"], "its own, and the share's");
    assert_eq!(published(&mut alice, "house/b/c").await, Reason::Success);
    late.silence().await;

    // Of the broker only what a line says, and that only to whom it is about.
    stranger.subscribe("$SYS/broker/version", QOS1).await;
    assert_eq!(stranger.message().await.0, "$SYS/broker/version");
    stranger.subscribe("$SYS/broker/uptime", QOS1).await;
    stranger.silence().await;

    // A will has to go where its client may publish.
    let with_will = |topic: &str| Connect {
        will: Some(will(topic, b"gone", QOS1)),
        ..login(Version::Mqtt5, "w", "alice", "secret")
    };
    assert_eq!(answer(&broker, with_will("elsewhere")).await, Reason::NotAuthorized);
    assert_eq!(answer(&broker, with_will("house/will")).await, Reason::Success);

    // Another file replaces the rules; none is none.
    let open = files.file("acl", "user alice\ntopic elsewhere\n");
    import(&broker, None, Some(&open)).await.unwrap();
    until_published(&mut alice, "elsewhere", Reason::Success).await;
    assert_eq!(published(&mut alice, "house/a").await, Reason::NotAuthorized);
    let done = import(&broker, None, Some(Path::new("none"))).await.unwrap();
    assert_eq!(done, ["rules: none any more"]);
    until_published(&mut alice, "house/a", Reason::Success).await;
    broker.stop().await;
}

/// Who could be taken for others by a name gets nothing of patterns.
#[tokio::test]
async fn dangerous_names_reach_nobody_elses_topics() {
    let broker = Broker::start().await;
    let files = Files::new();
    let rules = files.file("acl", "topic read open\npattern readwrite own/%c/#\n");
    import(&broker, None, Some(&rules)).await.unwrap();
    let mut fine = broker.client(Version::Mqtt5, "fine").await;
    until_published(&mut fine, "own/fine/x", Reason::Success).await;
    until_published(&mut fine, "own/other/x", Reason::NotAuthorized).await;
    for name in ["+", "#", "fi+ne", "fine/x"] {
        let mut client = broker.client(Version::Mqtt5, name).await;
        assert_eq!(published(&mut client, "own/fine/x").await, Reason::NotAuthorized, "{name}");
        client.subscribe("own/#", QOS1).await;
        assert_eq!(published(&mut fine, "own/fine/x").await, Reason::Success);
        client.silence().await;
    }
    broker.stop().await;
}
