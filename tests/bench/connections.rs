// SPDX-License-Identifier: MIT OR Apache-2.0
//! What connections cost as their table grows: `cargo xtask bench connections` runs this.
//!
//! In: the driver's object, rounds, sizes. Out: progress on standard error, one line of JSON on
//! standard output. A size's table has room for a third more, so that it ends three quarters full.
//! Invariant: a SYN that did not open its connection, or packets that no longer find theirs, make an
//! error, not a figure.

mod cpu;
mod driver;
mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lb_common::abi::conn_lines;
use lb_common::verdict::Verdict;
use serde::Serialize;

use driver::{Driver, Order, Program};
use world::{Scene, World};

/// Packets of the timed pass over established connections.
const PACKETS: u32 = 1 << 21;
/// Of so many connections one may have had to make room: both its buckets were full.
const FEW: u64 = 10_000;

/// TCP flags byte.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// One size of the table.
#[derive(Serialize)]
struct Size {
    connections: u32,
    capacity: u32,
    /// Nanoseconds a SYN of a new flow while the table fills, a round each.
    opening_ns: Vec<f64>,
    /// Nanoseconds an ACK of any of the connections, a round each.
    established_ns: Vec<f64>,
    /// Connections found again after all were opened, the worst round's.
    kept: u64,
    /// What the kernel charges for the connection table, and for all maps.
    table_bytes: u64,
    maps_bytes: u64,
}

#[derive(Serialize)]
struct Report {
    cpu: usize,
    sizes: Vec<Size>,
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let object = PathBuf::from(words.next().context("missing: the driver's object")?);
    let rounds: u32 = words.next().context("missing: rounds")?.parse()?;
    let cpu = cpu::pin()?;
    let mut sizes = Vec::new();
    for word in words {
        let connections: u32 = word.parse().context("cannot read a size")?;
        let capacity = connections / 3 * 4 + 4;
        let mut size = Size {
            connections,
            capacity,
            opening_ns: Vec::new(),
            established_ns: Vec::new(),
            kept: u64::from(connections),
            table_bytes: 0,
            maps_bytes: 0,
        };
        for round in 1..=rounds {
            eprintln!("{connections} connections: round {round} of {rounds}");
            measure(&object, &mut size).with_context(|| format!("{connections} connections"))?;
        }
        sizes.push(size);
    }
    println!("{}", serde_json::to_string(&Report { cpu, sizes })?);
    Ok(())
}

/// One round of one size, with a table of its own.
fn measure(object: &Path, size: &mut Size) -> Result<()> {
    let scene = Scene::default();
    let world = World::raise(&scene, size.capacity)?;
    (size.table_bytes, size.maps_bytes) = charged(conn_lines(size.capacity))?;
    let mut driver = Driver::load(object, world.program()?)?;

    let (syn, ack) = (scene.frame(true, SYN), scene.frame(true, ACK));
    driver.order(&syn, Order::InOrder, 0, size.connections)?;
    let before = world.counts()?;
    let ns = driver.time(Program::Xlvs, &syn, size.connections)?;
    let after = world.counts()?;
    let (sent, opened) = (
        after.since(&before, Verdict::Transmit),
        after.opened - before.opened,
    );
    ensure!(
        [sent, opened] == [u64::from(size.connections); 2],
        "{sent} SYNs were forwarded, {opened} opened a connection"
    );
    size.opening_ns.push(ns);

    driver.order(&ack, Order::InOrder, 0, size.connections)?;
    driver.run(Program::Xlvs, &ack, size.connections)?;
    let found = world.counts()?;
    let hits = found.since(&after, Verdict::Transmit) - (found.opened - after.opened);
    size.kept = size.kept.min(hits);

    driver.order(&ack, Order::Random, 0, size.connections)?;
    let ns = driver.time(Program::Xlvs, &ack, PACKETS)?;
    let missed = u64::from(PACKETS) - world.counts()?.since(&found, Verdict::Transmit);
    ensure!(
        missed <= u64::from(PACKETS) / FEW,
        "{missed} of {PACKETS} packets found no connection"
    );
    size.established_ns.push(ns);
    Ok(())
}

/// Bytes that the kernel charges this process for the map with so many rows, and for all of them.
fn charged(rows: u32) -> Result<(u64, u64)> {
    let mut maps = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/fdinfo")? {
        // The directory's own descriptor is gone when its turn comes.
        let Ok(text) = std::fs::read_to_string(entry?.path()) else {
            continue;
        };
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<u64>().ok()
        };
        if let (Some(id), Some(rows), Some(bytes)) =
            (field("map_id:"), field("max_entries:"), field("memlock:"))
        {
            maps.insert(id, (rows, bytes));
        }
    }
    let table = maps.values().find(|(of, _)| *of == u64::from(rows));
    let (_, bytes) = table.context("the connection table is not open")?;
    Ok((*bytes, maps.values().map(|(_, bytes)| bytes).sum()))
}
