//! Connections themselves: many that do nothing, and how many a second can be made.

use std::cell::{Cell, RefCell};
use std::io::BufRead;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::Instant;

use crate::client::Client;
use crate::histogram::Histogram;
use crate::meter::{cpu_seconds, own_cpu_seconds};
use crate::options::{Connect, Idle, Options};

/// Opens them, says so, and holds them until a line comes on stdin.
pub async fn idle(options: &Options, idle: &Idle) -> Result<()> {
    let started = Instant::now();
    let cpu = cpu_seconds(&options.pid);
    let next = Rc::new(Cell::new(0_usize));
    let mut opening = JoinSet::new();
    for _ in 0..idle.jobs {
        let (next, address, protocol) = (next.clone(), options.address, options.protocol);
        let (most, keep_alive, subscribe) = (idle.connections, idle.keep_alive, idle.subscribe);
        opening.spawn_local(async move {
            let mut open = Vec::new();
            while next.get() < most {
                let number = next.get();
                next.set(number + 1);
                let mut client =
                    Client::connect(address, protocol, &format!("idle{number}"), keep_alive, number).await?;
                if subscribe {
                    client.subscribe(&format!("idle/{number}"), 1).await?;
                }
                // Only the socket: the buffer is this program's memory.
                open.push(client.stream);
            }
            anyhow::Ok(open)
        });
    }
    let mut open = Vec::new();
    while let Some(done) = opening.join_next().await {
        open.extend(done??);
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({"connections": open.len(), "seconds": seconds, "per second": open.len() as f64 / seconds, "broker cpu": cpu_seconds(&options.pid) - cpu})
    );
    spawn_blocking(|| std::io::stdin().lock().lines().next()).await?;
    Ok(())
}

/// Connects, waits for CONNACK, disconnects; again and again.
pub async fn rate(options: &Options, connect: &Connect) -> Result<()> {
    let end = Instant::now() + Duration::from_secs_f64(connect.seconds);
    let (cpu, own, started) = (cpu_seconds(&options.pid), own_cpu_seconds(), Instant::now());
    let next = Rc::new(Cell::new(0_usize));
    let times = Rc::new(RefCell::new(Histogram::default()));
    let mut jobs = JoinSet::new();
    for _ in 0..connect.jobs {
        let (next, times, address, protocol) = (next.clone(), times.clone(), options.address, options.protocol);
        jobs.spawn_local(async move {
            while Instant::now() < end {
                let number = next.get();
                next.set(number + 1);
                let begun = Instant::now();
                let client = Client::connect(address, protocol, &format!("connect{number}"), 60, number).await?;
                times.borrow_mut().add(begun.elapsed().as_nanos() as u64);
                client.disconnect().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = jobs.join_next().await {
        done??;
    }
    let seconds = started.elapsed().as_secs_f64();
    let (count, times) = (next.get(), times.borrow());
    let broker_cpu = cpu_seconds(&options.pid) - cpu;
    println!(
        "{}",
        json!({
            "connections": count,
            "per second": count as f64 / seconds,
            "p50": times.percentile_ms(0.5),
            "p99": times.percentile_ms(0.99),
            "broker cores": broker_cpu / seconds,
            "load cores": (own_cpu_seconds() - own) / seconds,
            "cpu per million": broker_cpu / count.max(1) as f64 * 1e6,
        })
    );
    Ok(())
}
