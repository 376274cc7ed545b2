//! A case's surroundings: topics and client ids of its own, and clients that are dealt to the gateways in turn.

use std::cell::Cell;
use std::fmt::Debug;

use crate::client::{Client, Options};
use crate::seen::Fault;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Version {
    /// 3.1.1
    V4,
    V5,
}

pub struct Kit {
    addresses: Vec<String>,
    dealt: Cell<usize>,
    /// A topic that nobody else has; what is below it, too.
    pub topic: String,
    pub version: Version,
}

impl Kit {
    /// `addresses`: HOST:PORT, with commas between several gateways of one core.
    pub fn new(addresses: &str, case: &str, version: Version) -> Kit {
        let topic = format!("rumqttc-{}-{case}", std::process::id());
        Kit { addresses: addresses.split(',').map(str::to_owned).collect(), dealt: Cell::new(0), topic, version }
    }

    pub fn below(&self, rest: impl std::fmt::Display) -> String {
        format!("{}/{rest}", self.topic)
    }

    /// What a client is made with; its id ends in `name`.
    pub fn options(&self, name: &str) -> Options {
        Options::new(format!("{}-{name}", self.topic), self.version)
    }

    /// A client whose session is gone when it is, and which is connected.
    pub async fn client(&self, name: &str) -> Result<Client, Fault> {
        self.open(self.options(name)).await
    }

    pub async fn open(&self, options: Options) -> Result<Client, Fault> {
        let turn = self.dealt.replace(self.dealt.get() + 1);
        Client::open(&self.addresses[turn % self.addresses.len()], options).await
    }
}

pub fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// Sorted as numbers.
pub fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort_by_key(|text| text.parse::<u64>().unwrap_or(u64::MAX));
    texts
}

pub fn same<T: PartialEq + Debug>(wanted: T, got: T, what: &str) -> Result<(), Fault> {
    if wanted == got {
        return Ok(());
    }
    let short = |value: &T| format!("{value:?}").chars().take(200).collect::<String>();
    Err(format!("{what}: wanted {}, got {}", short(&wanted), short(&got)).into())
}
