// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask bench failover`: takeover times of xlvs and of Debian's keepalived, side by side.
//!
//! In: a built agent. Out: a table, or JSON, and exit status 0 only if every xlvs figure is within
//! its bound. Both programs run on the same laboratory, with the same files, in the same run.

use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use xlvs_tests::config::{DirectorConfig, Speed};
use xlvs_tests::director::Software;
use xlvs_tests::experiment::{self, Departure};
use xlvs_tests::lab;
use xlvs_tests::site::{self, Site};

use crate::progress::Work;
use crate::{
    bench_connections, bench_forward, bench_instances, bench_ipvs, bench_packet, build, run, setup,
};

/// Options of the verb.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Takeover after SIGKILL and after a graceful stop.
    Failover(Failover),
    /// Nanoseconds a packet, beside a program that only swaps MAC addresses.
    Packet(bench_packet::Args),
    /// The same through real interfaces, beside the kernel's routing and nftables.
    Forward(bench_forward::Args),
    /// New connections a second, cost of a packet and memory as the table grows.
    Connections(bench_connections::Args),
    /// Processor time and memory of a thousand VRRP instances, beside keepalived.
    Instances(bench_instances::Args),
    /// Instructions a packet beside IPVS, on Debian's kernel in a virtual machine.
    Ipvs(bench_ipvs::Args),
}

#[derive(clap::Args)]
struct Failover {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// How often each takeover is measured.
    #[arg(long, default_value_t = 3, value_name = "N")]
    repeat: u32,
    /// Measure one program only.
    #[arg(long, value_enum)]
    only: Option<Subject>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Subject {
    /// keepalived's VRRP half: this kernel need not have ip_vs.
    Keepalived,
    /// xlvs with the same file as keepalived.
    Xlvs,
    /// xlvs with three real servers more, so that every takeover attaches the packet program.
    XlvsForwarding,
}

impl Subject {
    const ALL: [Self; 3] = [Self::Keepalived, Self::Xlvs, Self::XlvsForwarding];

    fn name(self) -> &'static str {
        match self {
            Self::Keepalived => "keepalived",
            Self::Xlvs => "xlvs",
            Self::XlvsForwarding => "xlvs, forwarding",
        }
    }

    fn raise(self) -> Result<Site> {
        match self {
            Self::Keepalived => Site::raise_directors("bench", [Software::Keepalived; 2]),
            Self::Xlvs => Site::raise_directors("bench", [Software::Xlvs; 2]),
            Self::XlvsForwarding => Site::raise("bench", [Software::Xlvs; 2]),
        }
    }

    fn configs(self, speed: Speed) -> [DirectorConfig; 2] {
        let configs = site::configs(speed);
        if self == Self::XlvsForwarding {
            return configs;
        }
        configs.map(|config| config.with_real_servers(&[]))
    }
}

/// One row: all measurements of one kind.
#[derive(Serialize)]
struct Row {
    software: &'static str,
    version: u8,
    advert_ms: f64,
    departure: Departure,
    bound_ms: f64,
    takeover_ms: Vec<f64>,
}

impl Row {
    fn held(&self) -> bool {
        self.takeover_ms.iter().all(|ms| *ms <= self.bound_ms)
    }
}

/// The verb itself.
pub(crate) fn main(args: &Args) -> Result<()> {
    let options = match &args.what {
        What::Failover(options) => options,
        What::Packet(options) => return bench_packet::main(options),
        What::Forward(options) => return bench_forward::main(options),
        What::Connections(options) => return bench_connections::main(options),
        What::Instances(options) => return bench_instances::main(options),
        What::Ipvs(options) => return bench_ipvs::main(options),
    };
    if !run::is_prepared() {
        let ready = setup::ensure()?;
        if options.only != Some(Subject::Keepalived) {
            build::main(&ready)?;
        }
        return run::again_as_root();
    }
    lab::clear_when_interrupted()?;
    let mut rows = Vec::new();
    for subject in Subject::ALL {
        if options.only.is_none_or(|only| only == subject) {
            for speed in [Speed::V2Second, Speed::V3Tenth] {
                rows.extend(measure(subject, speed, options.repeat)?);
            }
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{}", table(&rows));
    }
    if rows
        .iter()
        .any(|row| row.software != Subject::Keepalived.name() && !row.held())
    {
        bail!("a takeover took longer than its bound");
    }
    Ok(())
}

/// Both departures of one program at one speed.
fn measure(subject: Subject, speed: Speed, repeat: u32) -> Result<[Row; 2]> {
    let what = format!(
        "{} VRRPv{} advert_int {} s",
        subject.name(),
        speed.version(),
        speed.advert_ms() / 1e3
    );
    let work = Work::begin(what.clone());
    let mut site = subject.raise()?;
    let configs = subject.configs(speed);
    let mut rows = [Departure::Kill, Departure::Stop].map(|departure| Row {
        software: subject.name(),
        version: speed.version(),
        advert_ms: speed.advert_ms(),
        departure,
        bound_ms: departure.bound_ms(speed, configs[1].priority),
        takeover_ms: Vec::new(),
    });
    experiment::elect(&mut site, &configs).with_context(|| what.clone())?;
    for round in 1..=repeat {
        for row in &mut rows {
            work.line(&format!("{} {round} of {repeat}", row.departure.name()));
            let ms =
                experiment::takeover(&mut site, row.departure).with_context(|| what.clone())?;
            row.takeover_ms.push(ms);
            experiment::come_back(&mut site).with_context(|| what.clone())?;
        }
    }
    work.done();
    Ok(rows)
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "program",
        "VRRP",
        "advert_int",
        "MASTER goes by",
        "takeover ms (all)",
        "median ms",
        "bound ms",
        "held",
    ]);
    for row in rows {
        let mut sorted = row.takeover_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let all: Vec<String> = row
            .takeover_ms
            .iter()
            .map(|ms| format!("{ms:.1}"))
            .collect();
        table.add_row([
            row.software.to_owned(),
            format!("v{}", row.version),
            format!("{} s", row.advert_ms / 1e3),
            row.departure.name().to_owned(),
            all.join(" "),
            sorted
                .get(sorted.len() / 2)
                .map_or_else(String::new, |ms| format!("{ms:.1}")),
            format!("{:.1}", row.bound_ms),
            if row.held() { "yes" } else { "no" }.to_owned(),
        ]);
    }
    for column in [4, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
