// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a packet costs: `cargo xtask bench packet` builds and runs this.
//!
//! In: the object with the driver programs. Out: one JSON document. Every row is the driver plus a
//! program under test, run by BPF_PROG_TEST_RUN on one CPU; rows take turns, so that all of them
//! see the same hour. Invariant: a row whose packets did not all end in the verdict it stands for
//! is an error, not a figure.

mod cpu;
mod driver;
mod world;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use lb_common::abi::{DRIVE_CHUNK, DRIVE_CONNS};
use lb_common::verdict::Verdict;
use serde::Serialize;

use driver::{Driver, Order, Program};
use world::World;

/// Flows that the table holds during the rows of established flows.
const FLOWS: u32 = 1 << 20;
/// Capacity of the table: the flows above are three quarters of it.
const CAPACITY: u32 = DRIVE_CONNS;
/// New flows have numbers from here on.
const NEW: u32 = 1 << 23;
/// New flows a round while the table is to stay about three quarters full.
const FEW: u32 = 3 * DRIVE_CHUNK + 1;
/// Passes over a small set of flows before it is measured.
const WARM: u32 = 50_000;

/// TCP flags byte.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// What the command line says.
struct Args {
    object: PathBuf,
    rounds: usize,
    packets: u32,
}

/// One kind of packet.
struct Row {
    name: &'static str,
    program: Program,
    flags: u8,
    to_service: bool,
    order: Order,
    flows: u32,
    packets: u32,
    /// Verdict of every packet; `None` for the programs of comparison.
    verdict: Option<Verdict>,
    /// Connections opened by each packet.
    opens: u64,
    ns: Vec<f64>,
}

/// One row of the report.
#[derive(Serialize)]
struct Figure {
    name: &'static str,
    median_ns: f64,
    min_ns: f64,
    max_ns: f64,
    rounds: usize,
    packets_per_round: u32,
}

/// The report.
#[derive(Serialize)]
struct Report {
    cpu: usize,
    capacity: u32,
    flows: u32,
    verified_instructions: Option<u32>,
    rows: Vec<Figure>,
    /// Established flows that still had their connection after the flood of new ones.
    kept_after_flood: u64,
}

fn main() -> Result<()> {
    let args = arguments()?;
    let cpu = cpu::pin()?;
    let world = World::raise(CAPACITY)?;
    let mut driver = Driver::load(&args.object, world.program()?)?;
    establish(&mut driver, &world)?;
    let mut rows = steady_rows(args.packets);
    for _ in 0..args.rounds {
        for row in &mut rows {
            measure(&mut driver, &world, row, 0)?;
        }
    }
    let mut fresh = fresh_rows(args.packets);
    let mut next = NEW;
    for row in &mut fresh {
        for _ in 0..args.rounds {
            next += measure(&mut driver, &world, row, next)?;
        }
    }
    rows.extend(fresh);
    let report = Report {
        cpu,
        capacity: CAPACITY,
        flows: FLOWS,
        verified_instructions: world.verified_instructions(),
        rows: rows.iter().map(figure).collect::<Result<_>>()?,
        kept_after_flood: survivors(&mut driver, &world)?,
    };
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

fn arguments() -> Result<Args> {
    let mut words = std::env::args().skip(1);
    let mut next = |what: &str| words.next().with_context(|| format!("missing: {what}"));
    Ok(Args {
        object: next("the driver's object")?.into(),
        rounds: next("rounds")?.parse()?,
        packets: next("packets a round")?.parse()?,
    })
}

/// Opens all flows and brings them to ESTABLISHED.
fn establish(driver: &mut Driver, world: &World) -> Result<()> {
    for flags in [SYN, ACK] {
        driver.order(Order::InOrder, 0, FLOWS)?;
        let before = world.counts()?;
        driver.run(Program::Xlvs, &world::frame(true, flags), FLOWS)?;
        let forwarded = world.counts()?.since(&before, Verdict::Transmit);
        if forwarded != u64::from(FLOWS) {
            bail!("only {forwarded} of {FLOWS} flows could be established");
        }
    }
    Ok(())
}

/// The programs of comparison, established flows, and packets for somebody else.
fn steady_rows(packets: u32) -> Vec<Row> {
    let row = |name, program, verdict, flows| Row {
        name,
        program,
        flags: ACK,
        to_service: true,
        order: Order::Random,
        flows,
        packets,
        verdict,
        opens: 0,
        ns: Vec::new(),
    };
    let hit = |name, flows| row(name, Program::Xlvs, Some(Verdict::Transmit), flows);
    vec![
        row("XDP_TX at once", Program::Transmit, None, 1),
        row("MAC swap", Program::SwapMacs, None, 1),
        row(
            "MAC swap and a random cache line",
            Program::TouchLine,
            None,
            FLOWS,
        ),
        hit("established, 1 flow", 1),
        hit("established, 10 k flows", 10_000),
        hit("established, 1 M flows", FLOWS),
        Row {
            to_service: false,
            flags: SYN,
            ..row(
                "not our service",
                Program::Xlvs,
                Some(Verdict::PassNoService),
                1,
            )
        },
        Row {
            to_service: false,
            flags: SYN,
            ..row(
                "not our service, 1 M flows",
                Program::Xlvs,
                Some(Verdict::PassNoService),
                FLOWS,
            )
        },
    ]
}

/// New connections: into a table three quarters full, then more than it can hold.
fn fresh_rows(packets: u32) -> Vec<Row> {
    let row = |name, packets| Row {
        name,
        program: Program::Xlvs,
        flags: SYN,
        to_service: true,
        order: Order::InOrder,
        flows: u32::MAX,
        packets,
        verdict: Some(Verdict::Transmit),
        opens: 1,
        ns: Vec::new(),
    };
    vec![
        row("new flow each packet, table 3/4 full", FEW),
        row("new flow each packet, flood", packets),
    ]
}

/// One round of one row; the packets sent.
fn measure(driver: &mut Driver, world: &World, row: &mut Row, first: u32) -> Result<u32> {
    let frame = world::frame(row.to_service, row.flags);
    if row.opens == 0 {
        driver.order(Order::InOrder, first, row.flows)?;
        driver.run(row.program, &frame, row.flows.clamp(WARM, FLOWS))?;
    }
    driver.order(row.order, first, row.flows)?;
    let before = world.counts()?;
    let sent = row.packets;
    let ns = driver.time(row.program, &frame, sent)?;
    if let Some(verdict) = row.verdict {
        let after = world.counts()?;
        let (seen, opened) = (after.since(&before, verdict), after.opened - before.opened);
        if seen != u64::from(sent) || opened != u64::from(sent) * row.opens {
            bail!(
                "{}: of {sent} packets {seen} ended in {}, {opened} opened a connection",
                row.name,
                verdict.name()
            );
        }
    }
    row.ns.push(ns);
    Ok(sent)
}

/// Sends one ACK of each established flow; how many still have their connection.
fn survivors(driver: &mut Driver, world: &World) -> Result<u64> {
    driver.order(Order::InOrder, 0, FLOWS)?;
    let before = world.counts()?;
    driver.run(Program::Xlvs, &world::frame(true, ACK), FLOWS)?;
    Ok(world.counts()?.since(&before, Verdict::Transmit))
}

fn figure(row: &Row) -> Result<Figure> {
    let mut ns = row.ns.clone();
    ns.sort_by(f64::total_cmp);
    let at = |index: usize| ns.get(index).copied().context("no rounds");
    Ok(Figure {
        name: row.name,
        median_ns: at(ns.len() / 2)?,
        min_ns: at(0)?,
        max_ns: at(ns.len().saturating_sub(1))?,
        rounds: ns.len(),
        packets_per_round: row.packets,
    })
}
