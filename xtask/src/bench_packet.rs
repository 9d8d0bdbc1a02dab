// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask bench packet`: nanoseconds a packet, beside a program that only swaps MAC addresses.
//!
//! In: a built packet program and the driver's. Out: a table with ratios and goals, or JSON. The measuring
//! itself is `tests/bench`; exit status 0 says that every row measured what it stands for.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result};
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
    /// Rows to measure, by parts of their names (the MAC swap always is); all if not given.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    only: Vec<String>,
}

/// What the measuring program reports.
#[derive(Deserialize, Serialize)]
struct Report {
    cpu: usize,
    capacity: u32,
    flows: u32,
    verified_instructions: Option<u32>,
    rows: Vec<Row>,
    kept_after_flood: Option<u64>,
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
    /// What the row is to be compared with; absent for one without a goal.
    #[serde(default)]
    goal: Option<Goal>,
}

/// What the project wants of a row.
#[derive(Deserialize, Serialize)]
struct Goal {
    /// Name of the row that it is compared with.
    of: String,
    /// It shall cost at most this many times as much.
    most: f64,
    /// How many times as much it costs.
    times: Option<f64>,
    /// Whether the goal is reached.
    reached: Option<bool>,
}

/// Row that all others are compared with.
const REFERENCE: &str = "MAC swap";

/// Row that other rows of established flows are compared with.
const PLAIN: &str = "established, 10 k flows";

/// Row, what it is compared with, and how many times as much it may cost.
const GOALS: [(&str, &str, f64); 10] = [
    ("established, 1 flow", REFERENCE, 2.0),
    (PLAIN, REFERENCE, 3.5),
    ("established, 1 M flows", REFERENCE, 9.0),
    ("established, 10 k flows, 10 k services", PLAIN, 1.1),
    ("established, 10 k flows, NAT", PLAIN, 1.5),
    ("established, 10 k flows, TUN", PLAIN, 1.5),
    ("established, 10 k flows, IPv6", PLAIN, 1.4),
    ("not our service", REFERENCE, 2.2),
    ("new flow each packet, table 3/4 full", REFERENCE, 14.0),
    (
        "new flow each packet, wlc of 256",
        "new flow each packet, wlc of 4",
        4.0,
    ),
];

/// The verb itself.
pub(crate) fn main(args: &Args) -> Result<()> {
    let ready = setup::ensure()?;
    let mut command = program(&ready.toolchain, "bench-packet")?;
    command.args([args.rounds.to_string(), args.packets.to_string()]);
    command.args(&args.only);
    let text = watch(&mut command, "driving packets through the program")?;
    let mut report: Report = serde_json::from_str(&text).context("cannot read the report")?;
    compare(&mut report.rows, args.only.is_empty())?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

/// Fills in what follows from other rows. A goal that names a row that is not there is an error: it
/// would be forgotten in silence, unless not all rows were asked for.
fn compare(rows: &mut [Row], all: bool) -> Result<()> {
    let medians: BTreeMap<String, Option<f64>> = rows
        .iter()
        .map(|row| (row.name.clone(), row.median_ns))
        .collect();
    let median = |name: &str| {
        let row = medians.get(name);
        row.with_context(|| format!("the report has no row {name}"))
    };
    let reference = median(REFERENCE)?.with_context(|| format!("{REFERENCE} has no figure"))?;
    for row in rows.iter_mut() {
        row.ratio = row.median_ns.map(|ns| ns / reference);
    }
    for (name, of, most) in GOALS {
        let are_there = medians.contains_key(name) && medians.contains_key(of);
        if !all && !are_there {
            continue;
        }
        let times = median(name)?.zip(*median(of)?).map(|(ns, of)| ns / of);
        let goal = Goal {
            of: of.to_owned(),
            most,
            times,
            reached: times.map(|times| times <= most),
        };
        if let Some(row) = rows.iter_mut().find(|row| row.name == name) {
            row.goal = Some(goal);
        }
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
        "goal",
        "is",
        "reached",
        "waits for",
    ]);
    for row in &report.rows {
        let goal = row.goal.as_ref();
        let reached = goal.and_then(|goal| goal.reached);
        let reached = reached.map(|reached| if reached { "yes" } else { "no" }.to_owned());
        table.add_row([
            row.name.clone(),
            cell(row.median_ns, 1),
            cell(row.min_ns, 1),
            cell(row.max_ns, 1),
            cell(row.ratio, 2),
            goal.map(|goal| format!("{} × {}", goal.most, goal.of))
                .unwrap_or_default(),
            cell(goal.and_then(|goal| goal.times), 2),
            reached.unwrap_or_default(),
            row.waits_for.clone().unwrap_or_default(),
        ]);
    }
    for column in [1, 2, 3, 4, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("{table}");
    let reached = |row: &&Row| row.goal.as_ref().is_some_and(|g| g.reached == Some(true));
    println!(
        "{} of {} goals are reached.",
        report.rows.iter().filter(reached).count(),
        report.rows.iter().filter(|row| row.goal.is_some()).count()
    );
    println!(
        "CPU {}, room for {} connections, {} established.",
        report.cpu, report.capacity, report.flows
    );
    if let Some(kept) = report.kept_after_flood {
        println!("After the flood {kept} of them still were.");
    }
    if let Some(walked) = report.verified_instructions {
        println!("The verifier walked through {walked} instructions.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, median_ns: Option<f64>) -> Row {
        Row {
            name: name.to_owned(),
            waits_for: None,
            median_ns,
            min_ns: None,
            max_ns: None,
            rounds: 0,
            packets_per_round: 0,
            ratio: None,
            goal: None,
        }
    }

    #[test]
    fn each_goal_is_compared_with_the_row_that_it_names() {
        let mut rows: Vec<Row> = GOALS.iter().map(|(name, ..)| row(name, None)).collect();
        rows.push(row("new flow each packet, wlc of 4", Some(50.0)));
        assert!(compare(&mut rows, true).is_err(), "there is no MAC swap");
        rows.push(row(REFERENCE, Some(10.0)));
        let set = |rows: &mut Vec<Row>, name: &str, ns| {
            let row = rows.iter_mut().find(|row| row.name == name);
            row.unwrap().median_ns = Some(ns);
        };
        set(&mut rows, PLAIN, 30.0);
        set(&mut rows, "established, 10 k flows, NAT", 60.0);
        compare(&mut rows, true).unwrap();
        let goal = |name: &str| {
            let row = rows.iter().find(|row| row.name == name).unwrap();
            let goal = row.goal.as_ref().unwrap();
            (goal.times, goal.reached)
        };
        assert_eq!(goal(PLAIN), (Some(3.0), Some(true)));
        let nat = goal("established, 10 k flows, NAT");
        assert_eq!(nat, (Some(2.0), Some(false)));
        assert_eq!(goal("not our service"), (None, None));
    }
}
