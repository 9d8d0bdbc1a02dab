// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask bench connections`: new connections a second, cost of a packet and memory, as the
//! connection table grows.
//!
//! In: a built packet program and the driver's. Out: a table, or JSON. The measuring itself is
//! `tests/bench/connections.rs`; exit status 0 says that every size opened what was sent.

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use crate::bench_packet;
use crate::setup;

/// Options of the verb.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// How often each size is measured.
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: u32,
    /// Connections that the table is to hold at the end.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "10000,100000,1000000,10000000",
        value_name = "N,…"
    )]
    sizes: Vec<u32>,
}

/// What the measuring program reports.
#[derive(Deserialize, Serialize)]
struct Report {
    cpu: usize,
    sizes: Vec<Size>,
}

#[derive(Deserialize, Serialize)]
struct Size {
    connections: u32,
    capacity: u32,
    opening_ns: Vec<f64>,
    established_ns: Vec<f64>,
    kept: u64,
    table_bytes: u64,
    maps_bytes: u64,
    /// Medians of the above, and what follows from them.
    #[serde(default)]
    opening_median_ns: f64,
    #[serde(default)]
    established_median_ns: f64,
    #[serde(default)]
    new_per_second: f64,
    #[serde(default)]
    bytes_per_connection: f64,
}

/// The verb itself.
pub(crate) fn main(args: &Args) -> Result<()> {
    let ready = setup::ensure()?;
    let mut command = bench_packet::program(&ready.toolchain, "bench-connections")?;
    command.arg(args.rounds.to_string());
    command.args(args.sizes.iter().map(u32::to_string));
    let text = bench_packet::watch(&mut command, "filling connection tables")?;
    let mut report: Report = serde_json::from_str(&text).context("cannot read the report")?;
    for size in &mut report.sizes {
        size.opening_median_ns = median(&size.opening_ns);
        size.established_median_ns = median(&size.established_ns);
        size.new_per_second = 1e9 / size.opening_median_ns;
        size.bytes_per_connection = size.table_bytes as f64 / f64::from(size.connections);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report, args.rounds);
    }
    Ok(())
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print(report: &Report, rounds: u32) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "connections",
        "room for",
        "ns, new",
        "new a second",
        "ns, established",
        "found again",
        "table, MiB",
        "all maps, MiB",
        "table bytes each",
    ]);
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    for size in &report.sizes {
        table.add_row([
            size.connections.to_string(),
            size.capacity.to_string(),
            format!("{:.1}", size.opening_median_ns),
            format!("{:.2} M", size.new_per_second / 1e6),
            format!("{:.1}", size.established_median_ns),
            size.kept.to_string(),
            mib(size.table_bytes),
            mib(size.maps_bytes),
            format!("{:.1}", size.bytes_per_connection),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    println!(
        "CPU {}, median of {rounds} rounds, each with a table of its own; the driver's own cost is part of both times.",
        report.cpu
    );
}
