//! What gateways ask each other, by their inboxes (`reply_inbox`).
//!
//! ```text
//!  ask ─► append to the inbox of each other gateway ─► it reads, and answers in parts ─► our inbox ─► ask returns
//!
//!  amq.gateway.question.<number>.<who asks>                       the routing keys; none is the address of a direct reply
//!  amq.gateway.answer.<number>.<who answers>.<part>.<parts>
//! ```
//! Who has died and still counts as living answers nothing: it is waited for as long as the asker says, and left out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::mpsc;

const QUESTION: &str = "amq.gateway.question.";
const ANSWER: &str = "amq.gateway.answer.";

/// One message's worth of an answer.
const PART_BYTES: usize = 256 << 10;

/// So many questions wait to be answered; more are not answered.
const QUESTIONS_MAX: usize = 256;

/// A question of another gateway.
#[derive(Debug)]
pub struct Question {
    number: u64,
    /// The gateway that asks.
    pub(super) from: i32,
    pub body: Bytes,
}

impl Question {
    /// The messages that answer it, by their routing keys.
    pub(super) fn answer(&self, own: i32, answer: &Bytes) -> Vec<(String, Bytes)> {
        let parts = answer.len().div_ceil(PART_BYTES).max(1);
        let part = |at: usize| {
            let end = answer.len().min((at + 1) * PART_BYTES);
            let key = format!("{ANSWER}{}.{own}.{at}.{parts}", self.number);
            (key, answer.slice(at * PART_BYTES..end))
        };
        (0..parts).map(part).collect()
    }
}

/// A part of somebody's answer.
#[derive(Debug)]
struct Part {
    from: i32,
    at: usize,
    of: usize,
    bytes: Bytes,
}

/// The answers that are waited for, and where questions go.
#[derive(Debug)]
pub(super) struct Asking {
    last: AtomicU64,
    waiting: Mutex<HashMap<u64, mpsc::UnboundedSender<Part>>>,
    questions: mpsc::Sender<Question>,
}

impl Asking {
    pub fn new() -> (Asking, mpsc::Receiver<Question>) {
        let (questions, came) = mpsc::channel(QUESTIONS_MAX);
        (Asking { last: AtomicU64::new(0), waiting: Mutex::default(), questions }, came)
    }

    /// Takes a message of the inbox. False: it is none of ours.
    pub fn take(&self, routing_key: &str, body: &Bytes) -> bool {
        if let Some(rest) = routing_key.strip_prefix(QUESTION) {
            if let Some([number, from]) = numbers(rest) {
                // Who is asked too much does not answer.
                let _ = self.questions.try_send(Question { number, from: from as i32, body: body.clone() });
            }
            return true;
        }
        let Some(rest) = routing_key.strip_prefix(ANSWER) else { return false };
        if let Some([number, from, at, of]) = numbers(rest)
            && let Some(asker) = self.waiting.lock().get(&number)
        {
            // Who waits no more is about to be forgotten.
            let _ = asker.send(Part { from: from as i32, at: at as usize, of: of as usize, bytes: body.clone() });
        }
        true
    }

    /// Begins to wait for answers.
    pub fn expect(&self, own: i32) -> Expected<'_> {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, parts) = mpsc::unbounded_channel();
        self.waiting.lock().insert(number, sender);
        Expected { asking: self, number, key: format!("{QUESTION}{number}.{own}"), parts }
    }
}

/// Answers that are waited for, until this is dropped.
pub(super) struct Expected<'a> {
    asking: &'a Asking,
    number: u64,
    /// With which the question is sent.
    pub key: String,
    parts: mpsc::UnboundedReceiver<Part>,
}

impl Expected<'_> {
    /// The answers of so many gateways, or of those that answer in time.
    pub async fn answers(mut self, of: usize, wait: Duration) -> Vec<Bytes> {
        let mut gathered: HashMap<i32, Vec<Option<Bytes>>> = HashMap::new();
        let mut answers = Vec::new();
        let gather = async {
            while answers.len() < of
                && let Some(part) = self.parts.recv().await
            {
                let parts = gathered.entry(part.from).or_default();
                if parts.len() < part.of {
                    parts.resize(part.of, None);
                }
                let Some(place) = parts.get_mut(part.at).filter(|place| place.is_none()) else { continue };
                *place = Some(part.bytes);
                if parts.iter().all(Option::is_some) {
                    answers.push(whole(parts));
                }
            }
        };
        // The others are left out.
        let _ = tokio::time::timeout(wait, gather).await;
        answers
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.asking.waiting.lock().remove(&self.number);
    }
}

fn whole(parts: &[Option<Bytes>]) -> Bytes {
    let mut whole = BytesMut::new();
    parts.iter().flatten().for_each(|part| whole.extend_from_slice(part));
    whole.freeze()
}

/// Numbers with dots between them. None: not so many, or none.
fn numbers<const N: usize>(text: &str) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split('.');
    for number in &mut numbers {
        *number = parts.next()?.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_come_in_parts_and_not_all_of_them() {
        let (asking, _) = Asking::new();
        let (other, mut questions) = Asking::new();
        let expected = asking.expect(1);
        assert!(other.take(&expected.key, &Bytes::from_static(b"how many?")));
        let question = questions.try_recv().expect("a question");
        assert_eq!((question.from, &question.body[..]), (1, &b"how many?"[..]));
        let long = Bytes::from(vec![7; 2 * PART_BYTES + 1]);
        let mut parts = question.answer(2, &long);
        parts.extend(question.answer(3, &Bytes::new()));
        assert_eq!(parts.len(), 4);
        for (key, body) in parts.iter().rev() {
            assert!(asking.take(key, body));
        }
        // Of three, one says nothing.
        assert_eq!(expected.answers(3, Duration::from_millis(100)).await, [Bytes::new(), long]);
        assert!(asking.waiting.lock().is_empty(), "forgotten");
        assert!(asking.take(&parts[0].0, &parts[0].1), "too late, and still ours");
        assert!(!asking.take("amq.rabbitmq.reply-to.1.2.3", &Bytes::new()));
        assert!(asking.take("amq.gateway.answer.1.2", &Bytes::new()), "nonsense is nobody's");
    }
}
