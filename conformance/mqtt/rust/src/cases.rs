//! The cases, and those that both versions have.

use std::pin::Pin;

use crate::cases_v5 as only;
use crate::client::Options;
use crate::kit::{Kit, Version, numbers, same, sorted};
use crate::seen::Fault;

type Run = fn(Kit) -> Pin<Box<dyn Future<Output = Result<(), Fault>>>>;

pub struct Case {
    pub name: String,
    pub version: Version,
    pub run: Run,
}

macro_rules! run {
    ($function:path) => {
        (stringify!($function), (|kit| Box::pin($function(kit))) as Run)
    };
}

const BOTH: [(&str, Run); 12] = [
    run!(every_qos),
    run!(many_in_flight),
    run!(a_large_body),
    run!(retained),
    run!(will),
    run!(session),
    run!(reconnects_and_goes_on),
    run!(what_is_not_acknowledged_comes_again),
    run!(takeover),
    run!(shared),
    run!(unsubscribe),
    run!(many_subscriptions),
];

const VERSION_5: [(&str, Run); 6] = [
    run!(only::properties),
    run!(only::topic_aliases),
    run!(only::identifiers_and_no_local),
    run!(only::retain_options),
    run!(only::receive_maximum),
    run!(only::properties_of_a_will),
];

pub fn all() -> impl Iterator<Item = Case> {
    let case = |(name, run): (&str, Run), version| {
        let name = name.trim_start_matches("only::");
        let of = if version == Version::V4 { "v311" } else { "v5" };
        Case { name: format!("{name}_{of}"), version, run }
    };
    let both = BOTH.into_iter().flat_map(move |each| [case(each, Version::V4), case(each, Version::V5)]);
    both.chain(VERSION_5.into_iter().map(move |each| case(each, Version::V5)))
}

async fn every_qos(kit: Kit) -> Result<(), Fault> {
    let (taker, giver) = (kit.client("taker").await?, kit.client("giver").await?);
    for qos in 0..3 {
        taker.subscribe(&kit.below(qos), qos).await?;
        for text in numbers(300) {
            giver.publish(&kit.below(qos), text, qos, false).await?;
        }
        let expected = 300 * (usize::from(qos) + 1);
        let got = taker.wait(expected).await?.split_off(expected - 300);
        same(numbers(300), got.iter().map(|message| message.text()).collect(), "what came")?;
        same(vec![qos; 300], got.iter().map(|message| message.qos).collect(), "their QoS")?;
    }
    giver.acknowledged(600).await?;
    giver.disconnect().await?;
    taker.disconnect().await
}

async fn many_in_flight(kit: Kit) -> Result<(), Fault> {
    let (taker, giver) = (kit.client("taker").await?, kit.client("giver").await?);
    taker.subscribe(&kit.topic, 2).await?;
    for (round, qos) in [(1, 1), (2, 2)] {
        for text in numbers(2000) {
            giver.publish(&kit.topic, text, qos, false).await?;
        }
        giver.acknowledged(2000 * round).await?;
        same(numbers(2000), taker.texts(2000 * round).await?.split_off(2000 * (round - 1)), "what came")?;
    }
    same(0, giver.seen.get(|state| state.faults.len()), "lost connections")
}

async fn a_large_body(kit: Kit) -> Result<(), Fault> {
    let client = kit.client("client").await?;
    client.subscribe(&kit.topic, 2).await?;
    let body: Vec<u8> = (0..1_000_000_u32).map(|number| (number * 7 % 251) as u8).collect();
    client.publish(&kit.topic, body.clone(), 2, false).await?;
    if client.wait(1).await?[0].payload == body { Ok(()) } else { Err("the body differs".into()) }
}

async fn retained(kit: Kit) -> Result<(), Fault> {
    let giver = kit.client("giver").await?;
    for name in ["a", "b"] {
        giver.publish(&kit.below(name), name, 1, true).await?;
    }
    giver.publish(&kit.below("b"), "", 1, true).await?;
    giver.acknowledged(3).await?;
    let taker = kit.client("taker").await?;
    taker.subscribe(&kit.below("+"), 1).await?;
    taker.wait(1).await?;
    giver.publish(&kit.below("c"), "live", 1, true).await?;
    let got = taker.wait(2).await?;
    let got: Vec<_> = got.iter().map(|message| (message.text(), message.retain)).collect();
    same(vec![("a".to_owned(), true), ("live".to_owned(), false)], got, "what came")?;
    for name in ["a", "c"] {
        giver.publish(&kit.below(name), "", 1, true).await?;
    }
    giver.acknowledged(6).await
}

async fn will(kit: Kit) -> Result<(), Fault> {
    let watcher = kit.client("watcher").await?;
    watcher.subscribe(&kit.topic, 1).await?;
    let will = Some((kit.topic.clone(), "gone".to_owned()));
    drop(kit.open(Options { will: will.clone(), ..kit.options("doomed") }).await?);
    watcher.wait(1).await?;
    // Who says goodbye leaves none.
    kit.open(Options { will, ..kit.options("polite") }).await?.disconnect().await?;
    watcher.seen.never("a second will", |state| state.messages.len() > 1).await?;
    same(vec!["gone".to_owned()], watcher.texts(1).await?, "the will")
}

async fn session(kit: Kit) -> Result<(), Fault> {
    let phone = kit.open(kit.options("phone").stays()).await?;
    phone.subscribe(&kit.topic, 2).await?;
    phone.disconnect().await?;
    let giver = kit.client("giver").await?;
    for (number, text) in numbers(100).into_iter().enumerate() {
        giver.publish(&kit.topic, text, 1 + (number % 2) as u8, false).await?;
    }
    giver.acknowledged(100).await?;
    let phone = kit.open(kit.options("phone").stays()).await?;
    same(vec![true], phone.seen.get(|state| state.connections.clone()), "session present")?;
    same(numbers(100), sorted(phone.texts(100).await?), "what waited")?;
    phone.disconnect().await?;
    // And it goes when it is told to.
    let phone = kit.client("phone").await?;
    same(vec![false], phone.seen.get(|state| state.connections.clone()), "session present with a clean start")
}

/// rumqttc connects again by itself, and sends again what was in flight; few enough that its identifiers do not come round, for then
/// it loses some.
async fn reconnects_and_goes_on(kit: Kit) -> Result<(), Fault> {
    let watcher = kit.client("watcher").await?;
    watcher.subscribe(&kit.below("out"), 2).await?;
    let phone = kit.open(kit.options("phone").stays()).await?;
    phone.subscribe(&kit.below("in"), 1).await?;
    for text in numbers(60) {
        phone.publish(&kit.below("out"), text, 2, false).await?;
    }
    phone.acknowledged(5).await?;
    phone.cut();
    let giver = kit.client("giver").await?;
    for text in numbers(20) {
        giver.publish(&kit.below("in"), text, 1, false).await?;
    }
    phone.seen.until("the second connection", |state| state.connections.len() == 2).await?;
    same(vec![false, true], phone.seen.get(|state| state.connections.clone()), "session present")?;
    phone
        .seen
        .until("what was published meanwhile", |state| numbers(20).iter().all(|text| state.texts().contains(text)))
        .await?;
    watcher.wait(60).await?;
    watcher.seen.never("a message of QoS 2 again", |state| state.messages.len() > 60).await?;
    same(numbers(60), sorted(watcher.texts(60).await?), "what went out, each once")
}

async fn what_is_not_acknowledged_comes_again(kit: Kit) -> Result<(), Fault> {
    let phone = kit.open(Options { manual: true, ..kit.options("phone").stays() }).await?;
    phone.subscribe(&kit.topic, 1).await?;
    let giver = kit.client("giver").await?;
    for text in numbers(3) {
        giver.publish(&kit.topic, text, 1, false).await?;
    }
    phone.acknowledge(&phone.wait(3).await?[0]).await?;
    phone.cut();
    let again = phone.wait(5).await?.split_off(3);
    let told: Vec<_> = again.iter().map(|message| (message.text(), message.duplicate)).collect();
    same(vec![("1".to_owned(), true), ("2".to_owned(), true)], told, "what comes again")?;
    for message in &again {
        phone.acknowledge(message).await?;
    }
    phone.cut();
    phone.seen.until("the third connection", |state| state.connections.len() == 3).await?;
    phone.seen.never("one that was acknowledged", |state| state.messages.len() > 5).await
}

async fn takeover(kit: Kit) -> Result<(), Fault> {
    let old = kit.open(kit.options("phone").stays()).await?;
    old.subscribe(&kit.topic, 1).await?;
    old.stay_away();
    let new = kit.open(kit.options("phone").stays()).await?;
    same(vec![true], new.seen.get(|state| state.connections.clone()), "session present")?;
    let why = old.ends().await?;
    if kit.version == Version::V5 && !why.contains("SessionTakenOver") {
        return Err(format!("the older connection ended with {why}").into());
    }
    let giver = kit.client("giver").await?;
    giver.publish(&kit.topic, "x", 1, false).await?;
    same(vec!["x".to_owned()], new.texts(1).await?, "what the newer one got")
}

async fn shared(kit: Kit) -> Result<(), Fault> {
    let mut members = Vec::new();
    for name in ["a", "b", "c"] {
        let member = kit.client(name).await?;
        member.subscribe(&format!("$share/{}/{}", kit.topic, kit.below("#")), 1).await?;
        members.push(member);
    }
    let giver = kit.client("giver").await?;
    let all = || -> Vec<String> { members.iter().flat_map(|member| member.seen.get(|state| state.texts())).collect() };
    let (texts, mut sent) = (numbers(1500), 0);
    // With two gateways one may be done with a few messages before the other, on a busy machine, knows of their topic.
    for some in texts.chunks(150) {
        for text in some {
            giver.publish(&kit.below(text.len()), text.clone(), 1, false).await?;
        }
        sent += some.len();
        giver.acknowledged(sent).await?;
        for _ in 0..200 {
            if all().len() >= sent {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        same(texts[..sent].to_vec(), sorted(all()), "what all of them got, each once")?;
        if members.iter().all(|member| member.seen.get(|state| !state.messages.is_empty())) {
            return Ok(());
        }
    }
    Err("a member gets nothing, however much comes".to_owned().into())
}

async fn unsubscribe(kit: Kit) -> Result<(), Fault> {
    let client = kit.client("client").await?;
    client.subscribe(&kit.below("+"), 1).await?;
    client.subscribe(&kit.topic, 1).await?;
    client.unsubscribe(&kit.below("+")).await?;
    client.publish(&kit.below("a"), "not wanted", 1, false).await?;
    client.publish(&kit.topic, "wanted", 1, false).await?;
    client.acknowledged(2).await?;
    same(vec!["wanted".to_owned()], client.texts(1).await?, "what came")
}

async fn many_subscriptions(kit: Kit) -> Result<(), Fault> {
    let client = kit.client("client").await?;
    for number in 0..100 {
        client.subscribe(&kit.below(number), 1).await?;
    }
    for number in 0..100 {
        client.publish(&kit.below(number), number.to_string(), 1, false).await?;
    }
    let got = client.wait(100).await?;
    same(numbers(100), got.iter().map(|message| message.text()).collect(), "what came")?;
    same(true, got.iter().all(|message| message.topic == kit.below(message.text())), "their topics")
}
