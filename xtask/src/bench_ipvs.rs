// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask bench ipvs`: instructions a packet, IPVS and xlvs in one boot of Debian's kernel.
//!
//! In: a built agent and the generator. Out: a table with the ratios that are goals, or JSON. The
//! virtual machine's clock counts guest instructions, so a row is repeatable but knows nothing of
//! cache misses. The measuring itself is `tests/bench/forward`.

use anyhow::{Result, bail};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use xlvs_tests::bench::{Method, Phase, Plan, Protocol, Row, Software, Subject};

use crate::bench_forward::{self, Basis, Line, Reader, cell, packets, remark};
use crate::progress::Work;
use crate::setup;
use crate::vm::{self, Guest};

/// Options of the verb.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// How often each row is measured.
    #[arg(long, default_value_t = 9, value_name = "N")]
    rounds: u32,
    /// Packets of one round.
    #[arg(long, default_value_t = 16_384, value_name = "N")]
    packets: u32,
    /// Different flows; several numbers make several groups of rows.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1,1000,100000",
        value_name = "N,…"
    )]
    flows: Vec<u32>,
    /// Put the servers behind a second interface.
    #[arg(long)]
    two_arms: bool,
}

const SUBJECTS: [Subject; 8] = [
    Subject::XdpDrop,
    Subject::SwapMacs,
    Subject::IpvsDr,
    Subject::XlvsDr,
    Subject::IpvsNat,
    Subject::XlvsNat,
    Subject::IpvsTun,
    Subject::XlvsTun,
];

/// What the guest's kernel needs; those that IPVS loads by itself on a full system, too.
const MODULES: [&str; 4] = ["veth", "ip_vs", "ip_vs_wrr", "ipip"];

/// A row with what it is to be compared with.
#[derive(Serialize)]
struct Compared {
    #[serde(flatten)]
    line: Line,
    /// `net` by that of IPVS with the same method.
    by_ipvs: Option<f64>,
    /// The ratio wanted, as its reciprocal: IPVS shall cost this many times as much.
    goal: Option<u32>,
    /// Whether it is.
    reached: Option<bool>,
}

/// The verb itself.
pub(crate) fn main(args: &Args) -> Result<()> {
    let ready = setup::ensure()?;
    let [program, object, xlvs] = bench_forward::programs(&ready)?;
    let plan = Plan {
        subjects: SUBJECTS.to_vec(),
        protocols: vec![Protocol::Tcp, Protocol::Udp],
        flows: args.flows.clone(),
        rounds: args.rounds,
        openings: 1,
        packets: args.packets,
        in_turn: false,
        two_arms: args.two_arms,
    };
    let name = object.file_name().unwrap_or_default().to_string_lossy();
    let script = format!(
        "export XLVS_BINARY=/guest/xlvs\nexec ./bench-forward {name} '{}'\n",
        serde_json::to_string(&plan)?
    );
    let files = [
        program,
        object.clone(),
        xlvs,
        vm::program("ip", "iproute2")?,
        vm::program("ethtool", "ethtool")?,
        vm::program("ipvsadm", "ipvsadm")?,
    ];
    let work = Work::begin("sending packets in the virtual machine");
    let mut reader = Reader::default();
    let mut said = String::new();
    let guest = Guest {
        memory: 2048,
        modules: &MODULES.map(str::to_owned),
        icount: true,
        script: &script,
        files: &files,
        cards: &[],
    };
    let status = guest.run(|line| {
        reader.line(&work, line);
        said = format!("{said}{line}\n");
    })?;
    if status != 0 {
        bail!("the guest's program failed ({status}): {said}");
    }
    let report = reader.report()?;
    work.done();
    let compared = compare(bench_forward::lines(report.rows, Basis::Median));
    if args.json {
        println!("{}", serde_json::to_string_pretty(&compared)?);
    } else {
        println!("{}", table(&compared));
        println!(
            "Linux {} in QEMU, guest instructions a packet; {} rounds of {} packets. \"less XDP_DROP\" is what \
             the director, one more cable and the sink take.",
            report.kernel, args.rounds, args.packets
        );
    }
    let lines: Vec<Line> = compared.into_iter().map(|compared| compared.line).collect();
    bench_forward::fail_if_any_failed(&lines)
}

/// IPVS shall cost this many times as much as the row.
fn goal(row: &Row) -> Option<u32> {
    if row.subject.software() != Software::Xlvs {
        return None;
    }
    match (row.phase, row.subject.method()) {
        (Phase::Opening, _) => Some(5),
        (Phase::Established, Method::Nat) => Some(8),
        (Phase::Established, _) => Some(9),
    }
}

fn compare(lines: Vec<Line>) -> Vec<Compared> {
    let ratios: Vec<Option<f64>> = lines
        .iter()
        .map(|line| {
            let row = &line.row;
            goal(row)?;
            let of_ipvs = lines.iter().find(|other| {
                let other = &other.row;
                other.subject.software() == Software::Ipvs
                    && other.subject.method() == row.subject.method()
                    && (other.protocol, other.flows, other.phase)
                        == (row.protocol, row.flows, row.phase)
            });
            Some(line.net? / of_ipvs?.net?)
        })
        .collect();
    let compared = |(line, by_ipvs): (Line, Option<f64>)| {
        let goal = goal(&line.row);
        Compared {
            by_ipvs,
            goal,
            reached: by_ipvs
                .zip(goal)
                .map(|(ratio, goal)| ratio * f64::from(goal) <= 1.0),
            line,
        }
    };
    lines.into_iter().zip(ratios).map(compared).collect()
}

fn table(rows: &[Compared]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "packets",
        "flows",
        "forwarded by",
        "insns",
        "less XDP_DROP",
        "xlvs : IPVS",
        "goal",
        "reached",
        "received",
    ]);
    for Compared {
        line,
        by_ipvs,
        goal,
        reached,
    } in rows
    {
        let ratio = by_ipvs.map(|ratio| format!("1/{:.1}", 1.0 / ratio));
        let goal = goal.map(|goal| format!("1/{goal}"));
        let reached = reached.map(|reached| if reached { "yes" } else { "no" }.to_owned());
        table.add_row([
            packets(&line.row),
            line.row.flows.to_string(),
            line.row.subject.name().to_owned(),
            cell(line.figure, 0),
            cell(line.net, 0),
            ratio.unwrap_or_default(),
            goal.unwrap_or_default(),
            reached.unwrap_or_default(),
            remark(&line.row),
        ]);
    }
    for column in [1, 3, 4, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
