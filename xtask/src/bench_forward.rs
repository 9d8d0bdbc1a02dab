// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask bench forward`: what forwarding costs through real interfaces on this kernel.
//!
//! In: a built agent and the generator. Out: a table with ratios, or JSON. The measuring itself is
//! `tests/bench/forward`; exit status 0 says that every row that this build and kernel can do lost
//! no packet.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use xlvs_tests::bench::{Outcome, Phase, Plan, Protocol, Report, Row, Software, Subject};

use crate::progress::Work;
use crate::setup::Ready;
use crate::{apt, build, build_ebpf, run, setup};

/// Options of the verb.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// How often each row is measured.
    #[arg(long, default_value_t = 15, value_name = "N")]
    rounds: u32,
    /// Packets of one round.
    #[arg(long, default_value_t = 65_536, value_name = "N")]
    packets: u32,
    /// Different flows; several numbers make several groups of rows.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1000",
        value_name = "N,…"
    )]
    flows: Vec<u32>,
    /// Put the servers behind a second interface.
    #[arg(long)]
    two_arms: bool,
    /// Rows to measure (the base and the MAC swap always are); all if not given.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    only: Vec<String>,
}

/// Rows that this kernel, which need not have IPVS, can have.
const SUBJECTS: [Subject; 7] = [
    Subject::XdpDrop,
    Subject::SwapMacs,
    Subject::Route,
    Subject::NftDnat,
    Subject::XlvsDr,
    Subject::XlvsNat,
    Subject::XlvsTun,
];

/// One line of the table, and of the JSON.
#[derive(Serialize)]
pub(crate) struct Line {
    #[serde(flatten)]
    pub(crate) row: Row,
    /// The middle of all rounds.
    pub(crate) median: Option<f64>,
    /// What is compared: the middle or the fastest of all rounds, see [`Basis`].
    pub(crate) figure: Option<f64>,
    /// The same less XDP_DROP with the same packets: what the director and one more cable cost.
    pub(crate) net: Option<f64>,
    /// `net` by that of the MAC swap.
    pub(crate) by_mac_swap: Option<f64>,
    /// `net` by that of nft DNAT in the same phase.
    pub(crate) by_nft_dnat: Option<f64>,
}

/// Which round stands for a row.
#[derive(Clone, Copy)]
pub(crate) enum Basis {
    /// The middle one: for counts, which nothing disturbs in one direction only.
    Median,
    /// The fastest: for times, which other work on the machine makes longer and nothing shorter.
    Fastest,
}

#[derive(Serialize)]
struct Output<'a> {
    kernel: &'a str,
    cpu: usize,
    lines: &'a [Line],
}

/// The verb itself.
pub(crate) fn main(args: &Args) -> Result<()> {
    let ready = setup::ensure()?;
    if run::find("nft").is_none() {
        apt::bring(&["nftables"])?;
    }
    let [program, object, xlvs] = programs(&ready)?;
    let chosen = |subject: &Subject| {
        let name = subject.name().to_lowercase();
        args.only.is_empty()
            || subject.software() == Software::Xdp
            || args
                .only
                .iter()
                .any(|only| name.contains(&only.to_lowercase()))
    };
    let plan = Plan {
        subjects: SUBJECTS.into_iter().filter(chosen).collect(),
        protocols: vec![Protocol::Tcp, Protocol::Udp],
        flows: args.flows.clone(),
        rounds: args.rounds,
        openings: args.rounds,
        packets: args.packets,
        in_turn: true,
        two_arms: args.two_arms,
    };
    let work = Work::begin("sending packets through veth pairs");
    let mut command = run::as_root("env")?;
    command
        .arg(run::assign("PATH", run::path_variable()))
        .arg(run::assign("XLVS_BINARY", xlvs))
        .arg(program)
        .arg(object)
        .arg(serde_json::to_string(&plan)?);
    let mut reader = Reader::default();
    run::stream(&mut command, |line| reader.line(&work, line))?;
    let report = reader.report()?;
    work.done();
    let lines = lines(report.rows, Basis::Fastest);
    if args.json {
        let output = Output {
            kernel: &report.kernel,
            cpu: report.cpu,
            lines: &lines,
        };
        println!("{}", serde_json::to_string_pretty(&output)?);
    } else {
        println!("{}", table(&lines));
        println!(
            "Linux {}, CPU {}, ns a packet; {} rounds of {} packets. What follows \"fastest\" compares the \
             fastest rounds.",
            report.kernel, report.cpu, args.rounds, args.packets
        );
    }
    fail_if_any_failed(&lines)
}

/// The measuring program, the generator's object, the agent: built.
pub(crate) fn programs(ready: &Ready) -> Result<[PathBuf; 3]> {
    build::main(ready)?;
    let object = build_ebpf::bench(&ready.toolchain, "xlvs-generator-xdp")?;
    run::show(run::cargo().args([
        "build",
        "--release",
        "--package",
        "xlvs-tests",
        "--example",
        "bench-forward",
    ]))?;
    let program = run::target_dir().join("release/examples/bench-forward");
    Ok([program, object, build::binary()])
}

/// Picks the report out of the program's output; the rest is progress.
#[derive(Default)]
pub(crate) struct Reader {
    json: String,
}

impl Reader {
    /// Takes one line.
    pub(crate) fn line(&mut self, work: &Work, line: &str) {
        if line.starts_with('{') {
            line.clone_into(&mut self.json);
        } else {
            work.line(line);
        }
    }

    /// The report, once the program has ended.
    pub(crate) fn report(&self) -> Result<Report> {
        serde_json::from_str(&self.json).context("cannot read the report")
    }
}

/// Adds to each row what it is compared with.
pub(crate) fn lines(mut rows: Vec<Row>, basis: Basis) -> Vec<Line> {
    // What is compared stands together.
    rows.sort_by_key(|row| (row.protocol.name(), row.flows, row.phase == Phase::Opening));
    let figure = |row: &Row| {
        let measured = row.outcome == Outcome::Measured;
        measured.then(|| quantile(&row.ns, basis)).flatten()
    };
    let of = |like: &Row, subject: Subject, phase: Phase| {
        rows.iter()
            .find(|row| {
                (row.subject, row.phase) == (subject, phase)
                    && (row.protocol, row.flows) == (like.protocol, like.flows)
            })
            .and_then(figure)
    };
    let compare = |row: &Row| {
        let base = of(row, Subject::XdpDrop, Phase::Established);
        let net = |ns: Option<f64>| Some(ns? - base?);
        let own = net(figure(row));
        let is_base = row.subject == Subject::XdpDrop;
        let own = own.filter(|_| !is_base);
        let by = |subject, phase| Some(own? / net(of(row, subject, phase))?);
        Line {
            median: figure(row).and(quantile(&row.ns, Basis::Median)),
            figure: figure(row),
            net: own,
            by_mac_swap: by(Subject::SwapMacs, Phase::Established),
            by_nft_dnat: by(Subject::NftDnat, row.phase),
            row: row.clone(),
        }
    };
    rows.iter().map(compare).collect()
}

fn quantile(figures: &[f64], basis: Basis) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = match basis {
        Basis::Median => sorted.len() / 2,
        Basis::Fastest => 0,
    };
    sorted.get(at).copied()
}

/// A number with so many decimals, or a dash.
pub(crate) fn cell(number: Option<f64>, decimals: usize) -> String {
    number.map_or_else(|| "–".to_owned(), |number| format!("{number:.decimals$}"))
}

/// What a person wants to know of a row besides its figures.
pub(crate) fn remark(row: &Row) -> String {
    match &row.outcome {
        Outcome::Measured if row.subject == Subject::XdpDrop => "dropped".to_owned(),
        Outcome::Measured => format!("{:.3}", row.received),
        Outcome::NotSupported => "not supported by this build".to_owned(),
        Outcome::Failed(_) => "failed, see below".to_owned(),
    }
}

fn table(lines: &[Line]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "packets",
        "flows",
        "forwarded by",
        "median ns",
        "fastest",
        "less XDP_DROP",
        "× MAC swap",
        "× nft DNAT",
        "kpps",
        "received",
    ]);
    for line in lines {
        let row = &line.row;
        table.add_row([
            packets(row),
            row.flows.to_string(),
            row.subject.name().to_owned(),
            cell(line.median, 1),
            cell(line.figure, 1),
            cell(line.net, 1),
            cell(line.by_mac_swap, 2),
            cell(line.by_nft_dnat, 2),
            cell(line.figure.map(|ns| 1e6 / ns), 0),
            remark(row),
        ]);
    }
    for column in [1, 3, 4, 5, 6, 7, 8] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Which packets a row is about.
pub(crate) fn packets(row: &Row) -> String {
    let phase = match row.phase {
        Phase::Opening => "opening",
        Phase::Established => "established",
    };
    format!("{} {phase}", row.protocol.name())
}

/// The exit status: an error that names the rows that failed, in full.
pub(crate) fn fail_if_any_failed(lines: &[Line]) -> Result<()> {
    let mut failed = 0;
    for line in lines {
        if let Outcome::Failed(why) = &line.row.outcome {
            failed += 1;
            eprintln!(
                "  ✗ {}, {}: {why}",
                line.row.subject.name(),
                packets(&line.row)
            );
        }
    }
    if failed > 0 {
        bail!("{failed} rows have no figure");
    }
    Ok(())
}
