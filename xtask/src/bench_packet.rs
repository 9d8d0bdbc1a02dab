// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask bench packet`: nanoseconds a packet, beside a program that only swaps MAC addresses.
//!
//! In: a built packet program and the driver's. Out: a table with ratios, or JSON. The measuring
//! itself is `tests/bench`; exit status 0 says that every row measured what it stands for.

use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use crate::{build_ebpf, run, setup};

/// Options of the verb.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// How often each row is measured.
    #[arg(long, default_value_t = 7, value_name = "N")]
    rounds: u32,
    /// Packets of one round.
    #[arg(long, default_value_t = 500_000, value_name = "N")]
    packets: u32,
}

/// What the measuring program reports.
#[derive(Deserialize, Serialize)]
struct Report {
    cpu: usize,
    capacity: u32,
    flows: u32,
    verified_instructions: Option<u32>,
    rows: Vec<Row>,
    kept_after_flood: u64,
}

#[derive(Deserialize, Serialize)]
struct Row {
    name: String,
    median_ns: f64,
    min_ns: f64,
    max_ns: f64,
    rounds: usize,
    packets_per_round: u32,
    /// Median by the median of the MAC swap.
    #[serde(default)]
    ratio: f64,
}

/// Row that all others are compared with.
const REFERENCE: &str = "MAC swap";

/// The verb itself.
pub(crate) fn main(args: &Args) -> Result<()> {
    let ready = setup::ensure()?;
    build_ebpf::main(&ready.toolchain)?;
    let object = build_ebpf::bench(&ready.toolchain, "xlvs-bench-xdp")?;
    run::show(run::cargo().args(BUILD))?;
    let mut command = run::as_root(run::target_dir().join("release/examples/bench-packet"))?;
    command
        .arg(object)
        .args([args.rounds.to_string(), args.packets.to_string()]);
    let text = run::capture(&mut command)?;
    let mut report: Report = serde_json::from_str(&text).context("cannot read the report")?;
    let reference = report.rows.iter().find(|row| row.name == REFERENCE);
    let Some(reference) = reference.map(|row| row.median_ns) else {
        bail!("the report has no row {REFERENCE}");
    };
    for row in &mut report.rows {
        row.ratio = row.median_ns / reference;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

const BUILD: [&str; 6] = [
    "build",
    "--release",
    "--package",
    "xlvs-tests",
    "--example",
    "bench-packet",
];

fn print(report: &Report) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["packet", "median ns", "min", "max", "× MAC swap"]);
    for row in &report.rows {
        table.add_row([
            row.name.clone(),
            format!("{:.1}", row.median_ns),
            format!("{:.1}", row.min_ns),
            format!("{:.1}", row.max_ns),
            format!("{:.2}", row.ratio),
        ]);
    }
    for column in 1..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("{table}");
    println!(
        "CPU {}, room for {} connections, {} established; after the flood {} of them still were.",
        report.cpu, report.capacity, report.flows, report.kept_after_flood
    );
    if let Some(walked) = report.verified_instructions {
        println!("The verifier walked through {walked} instructions.");
    }
}
