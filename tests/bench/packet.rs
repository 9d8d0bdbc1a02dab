// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a packet costs: `cargo xtask bench packet` builds and runs this.
//!
//! In: the object with the driver programs. Out: progress on standard error, one line of JSON on
//! standard output. The rows are in `rows.rs`. Every row is the driver plus a
//! program under test, run by BPF_PROG_TEST_RUN on one CPU; rows take turns, so that all of them
//! see the same hour. Invariant: a row whose packets did not all end in the verdict it stands for
//! is an error, not a figure.

mod cpu;
mod driver;
mod rows;
mod world;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use lb_common::abi::{CONN6_SHARE, DRIVE_CONNS};
use lb_common::verdict::Verdict;
use serde::Serialize;

use driver::{Driver, Order, Program};
use rows::{ACK, FLOWS, Row, SYN};
use world::{Method, Scene, World};

/// Capacity of a table: the flows that are established are three quarters of it.
const CAPACITY: u32 = DRIVE_CONNS;
/// New flows have numbers from here on.
const NEW: u32 = 1 << 23;
/// Tables tried until one holds all flows.
const ATTEMPTS: u32 = 10;
/// Passes over a small set of flows before it is measured.
const WARM: u32 = 50_000;

/// What the command line says.
struct Args {
    object: PathBuf,
    rounds: usize,
    packets: u32,
    /// Parts of the names of the rows to measure; all if empty.
    only: Vec<String>,
}

impl Args {
    fn wants(&self, row: &Row) -> bool {
        let name = row.name.to_lowercase();
        let is_named = |only: &String| name.contains(&only.to_lowercase());
        self.only.is_empty() || row.name == rows::REFERENCE || self.only.iter().any(is_named)
    }
}

/// One row of the report.
#[derive(Serialize)]
struct Figure {
    name: &'static str,
    /// What the agent has to learn before this can be measured; there are no times then.
    waits_for: Option<&'static str>,
    median_ns: Option<f64>,
    min_ns: Option<f64>,
    max_ns: Option<f64>,
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
    kept_after_flood: Option<u64>,
}

/// A scene that stands ready.
struct Stand {
    scene: Scene,
    world: World,
    driver: Driver,
}

fn main() -> Result<()> {
    let args = arguments()?;
    let cpu = cpu::pin()?;
    let mut steady = rows::steady(args.packets);
    let mut fresh = rows::fresh();
    let mut flood = rows::flood(args.packets);
    for rows in [&mut steady, &mut fresh, &mut flood] {
        rows.retain(|row| args.wants(row));
    }
    let mut stands = Vec::new();
    for row in steady.iter().chain(&fresh).chain(&flood) {
        if row.scene.waits_for().is_none() && find(&mut stands, &row.scene).is_none() {
            eprintln!("establishing {FLOWS} connections: {}", row.name);
            stands.push(Stand::raise(&args.object, row.scene)?);
        }
    }
    let mut next = NEW;
    // The flood last: what comes after it finds a full table.
    for (what, rows) in [
        ("known flows", &mut steady),
        ("new flows", &mut fresh),
        ("flood", &mut flood),
    ] {
        for round in 1..=args.rounds {
            eprintln!("{what}, round {round} of {}", args.rounds);
            for row in rows.iter_mut() {
                if let Some(stand) = find(&mut stands, &row.scene) {
                    next += stand.measure(row, next)? * row.opens as u32;
                }
            }
        }
    }
    let plain = find(&mut stands, &Scene::default()).context("no plain scene")?;
    let report = Report {
        cpu,
        capacity: CAPACITY,
        flows: FLOWS,
        verified_instructions: plain.world.verified_instructions(),
        kept_after_flood: if flood.is_empty() {
            None
        } else {
            Some(plain.survivors()?)
        },
        rows: steady
            .iter()
            .chain(&fresh)
            .chain(&flood)
            .map(figure)
            .collect(),
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn find<'s>(stands: &'s mut [Stand], scene: &Scene) -> Option<&'s mut Stand> {
    stands.iter_mut().find(|stand| stand.scene == *scene)
}

fn arguments() -> Result<Args> {
    let mut words = std::env::args().skip(1);
    let mut next = |what: &str| words.next().with_context(|| format!("missing: {what}"));
    Ok(Args {
        object: next("the driver's object")?.into(),
        rounds: next("rounds")?.parse()?,
        packets: next("packets a round")?.parse()?,
        only: words.collect(),
    })
}

impl Stand {
    /// A table of this fill may have had to close one connection in a million; then another is made,
    /// whose hash has another key.
    fn raise(object: &Path, scene: Scene) -> Result<Self> {
        let mut established = 0;
        for _ in 0..ATTEMPTS {
            let mut stand = Self::load(object, scene)?;
            established = stand.establish()?;
            if established == u64::from(FLOWS) {
                return Ok(stand);
            }
        }
        bail!("only {established} of {FLOWS} flows could be established, {ATTEMPTS} times over")
    }

    fn load(object: &Path, scene: Scene) -> Result<Self> {
        // A masqueraded connection has a second entry, that of the reply; the table of IPv6 is a part
        // of the other's size.
        let times = match (scene.ipv6, scene.method) {
            (true, _) => CONN6_SHARE,
            (false, Method::Nat) => 2,
            (false, _) => 1,
        };
        let world = World::raise(&scene, times * CAPACITY)?;
        let driver = Driver::load(object, world.program()?)?;
        Ok(Self {
            scene,
            world,
            driver,
        })
    }

    /// Opens all flows and brings them to ESTABLISHED; how many are.
    fn establish(&mut self) -> Result<u64> {
        self.forwarded(SYN)?;
        self.forwarded(ACK)
    }

    /// One round of one row; the packets sent. New flows are numbered from `first` on.
    fn measure(&mut self, row: &mut Row, first: u32) -> Result<u32> {
        let first = if row.opens == 0 { 0 } else { first };
        let Self { world, driver, .. } = self;
        let frame = self.scene.frame(row.to_service, row.flags);
        if row.opens == 0 {
            driver.order(&frame, Order::InOrder, first, row.flows)?;
            driver.run(row.program, &frame, row.flows.clamp(WARM, FLOWS))?;
        }
        driver.order(&frame, row.order, first, row.flows)?;
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
    fn survivors(&mut self) -> Result<u64> {
        self.forwarded(ACK)
    }

    /// Sends one packet of each flow; how many are forwarded.
    fn forwarded(&mut self, flags: u8) -> Result<u64> {
        let frame = self.scene.frame(true, flags);
        self.driver.order(&frame, Order::InOrder, 0, FLOWS)?;
        let before = self.world.counts()?;
        self.driver.run(Program::Xlvs, &frame, FLOWS)?;
        Ok(self.world.counts()?.since(&before, Verdict::Transmit))
    }
}

fn figure(row: &Row) -> Figure {
    let mut ns = row.ns.clone();
    ns.sort_by(f64::total_cmp);
    Figure {
        name: row.name,
        waits_for: row.scene.waits_for(),
        median_ns: ns.get(ns.len() / 2).copied(),
        min_ns: ns.first().copied(),
        max_ns: ns.last().copied(),
        rounds: ns.len(),
        packets_per_round: row.packets,
    }
}
