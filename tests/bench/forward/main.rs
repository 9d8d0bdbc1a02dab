// SPDX-License-Identifier: MIT OR Apache-2.0
//! What forwarding a packet costs, through real interfaces: `cargo xtask bench forward` runs this on
//! the host, `cargo xtask bench ipvs` in the virtual machine.
//!
//! In: the generator's object and a [`Plan`] as JSON. Out: progress on standard error, one line of
//! JSON, the [`Report`], on standard output. Invariant: a row of which a packet got lost has no
//! figure but says so.

#[path = "../cpu.rs"]
mod cpu;
mod frame;
mod wire;
mod world;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lb_common::abi::GENERATE_BATCH;
use xlvs_tests::bench::{Method, Outcome, Phase, Plan, Protocol, Report, Row, Subject};
use xlvs_tests::{lab, privilege};

use frame::Segment;
use wire::{Flows, Pass};
use world::{Raised, World};

/// Flows opened for one number of flows: fewer than any of the subjects' tables hold by default.
const MOST_OPENED: u32 = 100_000;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let object = PathBuf::from(words.next().context("missing: the generator's object")?);
    let plan = words.next().context("missing: the plan")?;
    let plan: Plan = serde_json::from_str(&plan).context("cannot read the plan")?;
    privilege::require_root()?;
    lab::clear_when_interrupted()?;
    lab::clear_leftovers()?;
    let cpu = cpu::pin()?;
    let mut rows = Vec::new();
    for protocol in &plan.protocols {
        if plan.in_turn {
            rows.extend(measure(&object, &plan, *protocol, &plan.subjects)?);
        } else {
            for subject in &plan.subjects {
                rows.extend(measure(&object, &plan, *protocol, &[*subject])?);
            }
        }
    }
    let kernel = nix::sys::utsname::uname()?;
    let report = Report {
        kernel: kernel.release().to_string_lossy().into_owned(),
        cpu,
        rows,
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

/// A subject's world with the rows that are measured in it.
struct Stand {
    world: World,
    rows: Vec<Row>,
}

/// All rows of some subjects, which stand side by side.
fn measure(
    object: &Path,
    plan: &Plan,
    protocol: Protocol,
    subjects: &[Subject],
) -> Result<Vec<Row>> {
    let mut stands = Vec::new();
    let mut absent = Vec::new();
    for (number, subject) in subjects.iter().enumerate() {
        eprintln!("{} {}: raising", protocol.name(), subject.name());
        let raised = World::raise(object, number, *subject, protocol, plan.two_arms)
            .with_context(|| subject.name());
        let outcome = match raised {
            Ok(Raised::Ready(world)) => {
                let rows = Vec::new();
                stands.push(Stand {
                    world: *world,
                    rows,
                });
                continue;
            }
            Ok(Raised::Not(outcome)) => outcome,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        for flows in &plan.flows {
            absent.push(Row {
                outcome: outcome.clone(),
                ..empty(*subject, protocol, *flows, Phase::Established)
            });
        }
    }
    for (index, flows) in (0u32..).zip(&plan.flows) {
        // Flows of one measurement are not those of another.
        measure_flows(plan, protocol, index << 24, *flows, &mut stands)?;
    }
    let mut rows: Vec<Row> = stands.into_iter().flat_map(|stand| stand.rows).collect();
    rows.extend(absent);
    let place = |row: &Row| plan.subjects.iter().position(|of| *of == row.subject);
    rows.sort_by_key(place);
    Ok(rows)
}

/// The rows of one number of flows.
fn measure_flows(
    plan: &Plan,
    protocol: Protocol,
    first: u32,
    count: u32,
    stands: &mut [Stand],
) -> Result<()> {
    let say = |what: &str, stand: &Stand| {
        let (protocol, subject) = (protocol.name(), stand.world.subject.name());
        eprintln!("{protocol} {subject}, {count} flows: {what}");
    };
    let once = |first| Flows {
        first,
        count,
        packets: count,
    };
    let openings = plan.openings.clamp(1, (MOST_OPENED / count).max(1));
    for opening in 0..openings {
        for stand in &mut *stands {
            say(&format!("opening {} of {openings}", opening + 1), stand);
            let flows = once(first + opening * count);
            let pass = stand.world.send(stand.world.opener(), flows)?;
            if count > GENERATE_BATCH && stand.world.subject.has_connections() {
                note(stand, protocol, flows, Phase::Opening, &pass);
            }
            if opening == 0 {
                stand.world.send(Segment::Ack, flows)?;
            }
        }
    }
    for round in 1..=plan.rounds {
        for stand in &mut *stands {
            say(&format!("round {round} of {}", plan.rounds), stand);
            let flows = Flows {
                first,
                count,
                packets: plan.packets + 1,
            };
            let pass = stand.world.send(Segment::Ack, flows)?;
            note(stand, protocol, flows, Phase::Established, &pass);
        }
    }
    Ok(())
}

/// Adds one pass to its row.
fn note(stand: &mut Stand, protocol: Protocol, flows: Flows, phase: Phase, pass: &Pass) {
    let subject = stand.world.subject;
    let same = |row: &&mut Row| row.flows == flows.count && row.phase == phase;
    if !stand.rows.iter_mut().any(|row| same(&row)) {
        stand
            .rows
            .push(empty(subject, protocol, flows.count, phase));
    }
    let Some(row) = stand.rows.iter_mut().find(same) else {
        return;
    };
    let received = pass.received() as f64 / f64::from(flows.packets);
    row.ns.push(pass.ns);
    row.servers.clone_from(&pass.servers);
    let wanted = if subject.method() == Method::None {
        0.0
    } else {
        1.0
    };
    if row.ns.len() == 1 || (received - wanted).abs() > (row.received - wanted).abs() {
        row.received = received;
    }
    if (row.received - wanted).abs() >= 0.000_5 {
        row.outcome = Outcome::Failed(format!("{:.3} of the packets arrived", row.received));
    }
}

fn empty(subject: Subject, protocol: Protocol, flows: u32, phase: Phase) -> Row {
    Row {
        subject,
        protocol,
        flows,
        phase,
        outcome: Outcome::Measured,
        ns: Vec::new(),
        received: 0.0,
        servers: Vec::new(),
    }
}
