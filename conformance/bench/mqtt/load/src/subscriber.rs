//! A subscriber: takes what comes, acknowledges it, counts it, and gives its publishers their credit back.

use std::rc::Rc;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;

use crate::client::Client;
use crate::flow::Shared;
use crate::meter::now_ns;
use crate::options::Pattern;
use crate::packets::{self, DISCONNECT, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL};

/// Runs until the connection ends, which is an error, or it is dropped.
pub async fn run(client: Client, shared: Rc<Shared>, at: usize) -> Result<()> {
    let Client { mut stream, mut inbox, protocol } = client;
    let mut replies = Vec::new();
    let mut touched = Vec::new();
    // The next number of each publisher; who shares sees no order.
    let mut next = match shared.pattern {
        Pattern::Pairs => vec![0_u32; 1],
        Pattern::All => vec![0_u32; shared.credits.len()],
        Pattern::Shared => Vec::new(),
    };
    loop {
        let now = now_ns();
        while let Some(frame) = inbox.next()? {
            match frame.kind() {
                PUBLISH => {
                    let got = packets::received(&frame, protocol)?;
                    match got.qos {
                        1 => packets::acknowledge(&mut replies, PUBACK, got.identifier),
                        2 => packets::acknowledge(&mut replies, PUBREC, got.identifier),
                        _ => {}
                    }
                    let (due, publisher, number) =
                        packets::stamp(got.payload).context("a message that nobody here has sent")?;
                    let credit = shared.credits.get(publisher as usize).context("a message of no publisher here")?;
                    let place = if shared.pattern == Pattern::Pairs { 0 } else { publisher as usize };
                    if let Some(next) = next.get_mut(place) {
                        if number < *next {
                            shared.again.set(shared.again.get() + 1);
                            continue;
                        }
                        shared.missed.set(shared.missed.get() + u64::from(number - *next));
                        *next = number + 1;
                    }
                    shared.received.set(shared.received.get() + 1);
                    credit.delivered.set(credit.delivered.get() + 1);
                    if shared.measuring.get() {
                        shared.latency.borrow_mut().add(now.saturating_sub(due));
                    }
                    if !credit.touched.replace(true) {
                        touched.push(publisher as usize);
                    }
                }
                PUBREL => packets::acknowledge(&mut replies, PUBCOMP, frame.identifier()?),
                DISCONNECT => {
                    bail!("the broker sent DISCONNECT with the reason {:#x}", frame.body.first().unwrap_or(&0))
                }
                kind => bail!("a subscriber was sent a packet of the kind {kind}"),
            }
        }
        for publisher in touched.drain(..) {
            shared.credits[publisher].touched.set(false);
            shared.credits[publisher].came();
        }
        if !replies.is_empty() {
            stream.write_all(&replies).await.context("writing to the broker")?;
            replies.clear();
        }
        inbox.fill(&mut stream).await.with_context(|| format!("subscriber {at}"))?;
    }
}
