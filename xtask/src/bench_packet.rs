// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask bench packet`: nanoseconds a packet, beside a program that only swaps MAC addresses.
//!
//! In: a built packet program and the driver's. Out: a table with ratios, or JSON. The measuring
//! itself is `tests/bench`; exit status 0 says that every row measured what it stands for.

use std::process::Command;

use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use crate::bench_forward::cell;
use crate::progress::Work;
use crate::toolchain::Toolchain;
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
    waits_for: Option<String>,
    median_ns: Option<f64>,
    min_ns: Option<f64>,
    max_ns: Option<f64>,
    rounds: usize,
    packets_per_round: u32,
    /// Median by the median of the MAC swap.
    #[serde(default)]
    ratio: Option<f64>,
}

/// Row that all others are compared with.
const REFERENCE: &str = "MAC swap";

/// The verb itself.
pub(crate) fn main(args: &Args) -> Result<()> {
    let ready = setup::ensure()?;
    let mut command = program(&ready.toolchain, "bench-packet")?;
    command.args([args.rounds.to_string(), args.packets.to_string()]);
    let text = watch(&mut command, "driving packets through the program")?;
    let mut report: Report = serde_json::from_str(&text).context("cannot read the report")?;
    let reference = report.rows.iter().find(|row| row.name == REFERENCE);
    let Some(reference) = reference.and_then(|row| row.median_ns) else {
        bail!("the report has no row {REFERENCE}");
    };
    for row in &mut report.rows {
        row.ratio = row.median_ns.map(|ns| ns / reference);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

/// The command that runs a measuring program as root, with the driver's object, all of it built.
pub(crate) fn program(toolchain: &Toolchain, example: &str) -> Result<Command> {
    build_ebpf::main(toolchain)?;
    let object = build_ebpf::bench(toolchain, "xlvs-bench-xdp")?;
    run::show(run::cargo().args([
        "build",
        "--release",
        "--package",
        "xlvs-tests",
        "--example",
        example,
    ]))?;
    let built = run::target_dir().join("release/examples").join(example);
    let mut command = run::as_root(built)?;
    command.arg(object);
    Ok(command)
}

/// Runs it, shows its progress, and returns the line of JSON that it prints.
pub(crate) fn watch(command: &mut Command, what: &str) -> Result<String> {
    let work = Work::begin(what);
    let mut json = String::new();
    run::stream(command, |line| {
        if line.starts_with('{') {
            line.clone_into(&mut json);
        } else {
            work.line(line);
        }
    })?;
    work.done();
    Ok(json)
}

fn print(report: &Report) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "packet",
        "median ns",
        "min",
        "max",
        "× MAC swap",
        "waits for",
    ]);
    for row in &report.rows {
        table.add_row([
            row.name.clone(),
            cell(row.median_ns, 1),
            cell(row.min_ns, 1),
            cell(row.max_ns, 1),
            cell(row.ratio, 2),
            row.waits_for.clone().unwrap_or_default(),
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
