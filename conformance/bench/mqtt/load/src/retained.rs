//! Retained messages: publishes many, each with a name of its own, and then subscribes to all of them.

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::time::{Duration, Instant, timeout};

use crate::client::Client;
use crate::meter::{cpu_seconds, now_ns};
use crate::options::{Options, Retained};
use crate::packets::{self, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Template};

/// Names at one level.
const WIDTH: u64 = 1_000;
const SILENCE_MAX: Duration = Duration::from_secs(30);

pub async fn run(options: &Options, retained: &Retained) -> Result<()> {
    let prefix = format!("kept{:x}", std::process::id());
    let mut client = Client::connect(options.address, options.protocol, &format!("{prefix}p"), 600, 0).await?;
    let (started, cpu) = (Instant::now(), cpu_seconds(&options.pid));
    let (mut sent, mut acknowledged, mut out) = (0, 0, Vec::new());
    while acknowledged < retained.count {
        while sent < retained.count && sent - acknowledged < retained.window {
            let topic = format!("{prefix}/{}/{}", sent % WIDTH, sent / WIDTH);
            Template::new(options.protocol, &topic, 1, true, retained.size as usize).append(
                &mut out,
                now_ns(),
                0,
                sent,
            );
            sent += 1;
        }
        if !out.is_empty() {
            client.stream.write_all(&out).await?;
            out.clear();
        }
        while let Some(frame) = client.inbox.next()? {
            ensure!(frame.kind() == PUBACK && frame.reason() < 0x80, "a retained message was not acknowledged");
            acknowledged += 1;
        }
        if acknowledged < sent && (sent == retained.count || sent - acknowledged >= retained.window) {
            timeout(SILENCE_MAX, client.inbox.fill(&mut client.stream)).await.context("no acknowledgements")??;
        }
    }
    let (load_seconds, load_cpu) = (started.elapsed().as_secs_f64(), cpu_seconds(&options.pid) - cpu);
    client.disconnect().await?;

    let mut client = Client::connect(options.address, options.protocol, &format!("{prefix}s"), 600, 0).await?;
    let (started, cpu) = (Instant::now(), cpu_seconds(&options.pid));
    client.stream.write_all(&packets::subscribe(options.protocol, &format!("{prefix}/#"), retained.qos)).await?;
    let (mut received, mut first) = (0, None);
    while received < retained.count {
        while let Some(frame) = client.inbox.next()? {
            match frame.kind() {
                PUBLISH => {
                    let got = packets::received(&frame, options.protocol)?;
                    ensure!(frame.first & 1 == 1, "a retained message came without its flag");
                    match got.qos {
                        1 => packets::acknowledge(&mut out, PUBACK, got.identifier),
                        2 => packets::acknowledge(&mut out, PUBREC, got.identifier),
                        _ => {}
                    }
                    first.get_or_insert_with(|| started.elapsed().as_secs_f64());
                    received += 1;
                }
                PUBREL => packets::acknowledge(&mut out, PUBCOMP, frame.identifier()?),
                packets::SUBACK => {}
                kind => bail!("a subscriber was sent a packet of the kind {kind}"),
            }
        }
        if !out.is_empty() {
            client.stream.write_all(&out).await?;
            out.clear();
        }
        if received < retained.count && timeout(SILENCE_MAX, client.inbox.fill(&mut client.stream)).await.is_err() {
            break;
        }
    }
    println!(
        "{}",
        json!({
            "count": retained.count,
            "load seconds": load_seconds,
            "load cpu": load_cpu,
            "first seconds": first,
            "subscribe seconds": started.elapsed().as_secs_f64(),
            "subscribe cpu": cpu_seconds(&options.pid) - cpu,
            "lost": retained.count - received,
        })
    );
    Ok(())
}
