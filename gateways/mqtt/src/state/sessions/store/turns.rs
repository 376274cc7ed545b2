//! One at a time for each client: who opens, gives up, adopts or ends a session has the client's turn, in the order in which they asked.

use std::collections::HashMap;
use std::sync::Arc;

use codec_mqtt::Text;
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// The turns of all clients; only of those that somebody has or waits for is anything kept.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    clients: Arc<Mutex<HashMap<Text, Arc<tokio::sync::Mutex<()>>>>>,
}

/// A client's turn, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Turns,
    client_id: Text,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    pub async fn take(&self, client_id: &Text) -> Turn {
        let turn = self.clients.lock().entry(client_id.clone()).or_default().clone();
        let held = Some(turn.lock_owned().await);
        Turn { turns: self.clone(), client_id: client_id.clone(), held }
    }

    /// None: somebody has it.
    pub fn try_take(&self, client_id: &Text) -> Option<Turn> {
        let turn = self.clients.lock().entry(client_id.clone()).or_default().clone();
        let held = Some(turn.try_lock_owned().ok()?);
        Some(Turn { turns: self.clone(), client_id: client_id.clone(), held })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held = None;
        let mut clients = self.turns.clients.lock();
        if clients.get(&self.client_id).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            clients.remove(&self.client_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_has_it_and_nothing_is_left_behind() {
        let turns = Turns::default();
        let client_id = Text::new("a").unwrap();
        let first = turns.take(&client_id).await;
        assert!(turns.try_take(&client_id).is_none());
        let (other, id) = (turns.clone(), client_id.clone());
        let second = tokio::spawn(async move { drop(other.take(&id).await) });
        drop(first);
        second.await.unwrap();
        assert!(turns.try_take(&client_id).is_some());
        assert!(turns.clients.lock().is_empty());
    }
}
