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
use xlvs_tests::experiment::{self, Departure, Incident};
use xlvs_tests::lab;
use xlvs_tests::pinger::Outage;
use xlvs_tests::site::{self, Site};

use crate::progress::Work;
use crate::{
    bench_connections, bench_forward, bench_instances, bench_ipvs, bench_packet, build, run, setup,
};

/// What a takeover may cost beyond what the protocol waits, in milliseconds.
const TAKEOVER_GOAL_MS: f64 = 5.0;

/// The same, where a supervisor speaks for the agent that is gone.
const CRASH_GOAL_MS: f64 = 20.0;

/// Requests that may be lost where the role moves by agreement.
const LOST_GOAL: usize = 1;

/// Options of the verb.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Takeover and outage when the MASTER is killed, stops, comes back, crashes or hands over.
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
    #[arg(long, alias = "repetitions", default_value_t = 20, value_name = "N")]
    repeat: u32,
    /// Measure one program only.
    #[arg(long, value_enum)]
    only: Option<Subject>,
    /// Measure at this advert_int only: 1, 0.1 or 0.01.
    #[arg(long, value_name = "SECONDS")]
    interval: Option<f64>,
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
    /// How the MASTER goes.
    event: &'static str,
    /// What is good enough.
    goal: Goal,
    /// First sign of the new MASTER; empty where the role does not move.
    takeover_ms: Vec<f64>,
    /// Longest time in which the VIP answered no echo request; one is sent every millisecond.
    outage_ms: Vec<f64>,
    /// How many of those requests had no answer.
    lost: Vec<usize>,
}

/// The figure that counts, and the most that it may be in each repetition.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Goal {
    TakeoverMs(f64),
    NoAnswerMs(f64),
    Lost(usize),
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TakeoverMs(ms) => write!(f, "takeover {ms:.1} ms"),
            Self::NoAnswerMs(ms) => write!(f, "no answer {ms:.1} ms"),
            Self::Lost(number) => write!(f, "{number} lost"),
        }
    }
}

impl Row {
    fn new(subject: Subject, speed: Speed, event: &'static str, goal: Goal) -> Self {
        Self {
            software: subject.name(),
            version: speed.version(),
            advert_ms: speed.advert_ms(),
            event,
            goal,
            takeover_ms: Vec::new(),
            outage_ms: Vec::new(),
            lost: Vec::new(),
        }
    }

    fn held(&self) -> bool {
        match self.goal {
            Goal::TakeoverMs(most) => self.takeover_ms.iter().all(|ms| *ms <= most),
            Goal::NoAnswerMs(most) => self.outage_ms.iter().all(|ms| *ms <= most),
            Goal::Lost(most) => self.lost.iter().all(|lost| *lost <= most),
        }
    }

    fn add(&mut self, outage: Outage) {
        self.outage_ms.push(outage.longest_ms);
        self.lost.push(outage.lost);
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
    let asked = |speed: &Speed| {
        let seconds = speed.advert_ms() / 1e3;
        options
            .interval
            .is_none_or(|only| (only - seconds).abs() < 1e-6)
    };
    let speeds = [
        Speed::V2Second,
        Speed::V3Second,
        Speed::V3Tenth,
        Speed::V3Hundredth,
    ];
    let speeds: Vec<Speed> = speeds.into_iter().filter(asked).collect();
    if speeds.is_empty() {
        bail!("--interval is 1, 0.1 or 0.01");
    }
    let mut rows = Vec::new();
    let mut broken = None;
    'all: for subject in Subject::ALL {
        if options.only.is_none_or(|only| only == subject) {
            for speed in &speeds {
                match measure(subject, *speed, options.repeat) {
                    Ok(measured) => rows.extend(measured),
                    Err(error) => {
                        // An hour's figures are not thrown away for what came last.
                        broken = Some(error);
                        break 'all;
                    }
                }
            }
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{}", table(&rows));
    }
    if let Some(error) = broken {
        return Err(error);
    }
    if rows
        .iter()
        .any(|row| row.software != Subject::Keepalived.name() && !row.held())
    {
        bail!("a goal was missed");
    }
    Ok(())
}

/// Everything that happens to one program at one speed.
fn measure(subject: Subject, speed: Speed, repeat: u32) -> Result<Vec<Row>> {
    let what = format!(
        "{} VRRPv{} advert_int {} s",
        subject.name(),
        speed.version(),
        speed.advert_ms() / 1e3
    );
    let work = Work::begin(what.clone());
    let mut site = subject.raise()?;
    let configs = subject.configs(speed);
    let priority = configs[1].priority;
    let departures = [
        Departure::Power,
        Departure::Pause,
        Departure::Kill,
        Departure::Stop,
    ];
    let mut gone = departures.map(|departure| {
        let wait = departure.wait_ms(speed, priority);
        let goal = match departure {
            Departure::Stop => Goal::Lost(LOST_GOAL),
            // The VIP is off the LAN: what the client sees.
            Departure::Power => Goal::NoAnswerMs(wait + TAKEOVER_GOAL_MS),
            // It is still there, in a kernel that goes on answering.
            Departure::Pause | Departure::Kill => Goal::TakeoverMs(wait + TAKEOVER_GOAL_MS),
        };
        Row::new(subject, speed, departure.name(), goal)
    });
    let mut back = Row::new(subject, speed, "preemption", Goal::Lost(LOST_GOAL));
    let incidents: &[Incident] = match subject {
        Subject::Keepalived => &[Incident::Crash],
        Subject::Xlvs | Subject::XlvsForwarding => {
            &[Incident::Crash, Incident::Handover, Incident::Handback]
        }
    };
    let crash = Goal::NoAnswerMs(speed.skew_ms(priority) + CRASH_GOAL_MS);
    let goal = |incident: Incident| match incident {
        Incident::Crash => crash,
        Incident::Handover | Incident::Handback => Goal::Lost(LOST_GOAL),
    };
    let row = |incident: &Incident| {
        let row = Row::new(subject, speed, incident.name(), goal(*incident));
        (*incident, row)
    };
    let mut stays: Vec<(Incident, Row)> = incidents.iter().map(row).collect();
    experiment::elect(&mut site, &configs).with_context(|| what.clone())?;
    for round in 1..=repeat {
        for (departure, row) in departures.into_iter().zip(&mut gone) {
            work.line(&format!("{} {round} of {repeat}", departure.name()));
            let gone = |site: &mut Site| experiment::takeover(site, departure);
            let (takeover, outage) =
                experiment::outage(&mut site, gone).with_context(|| what.clone())?;
            row.takeover_ms.push(takeover);
            row.add(outage);
            let (_, outage) = experiment::outage(&mut site, experiment::come_back)
                .with_context(|| what.clone())?;
            back.add(outage);
        }
        for (incident, row) in &mut stays {
            work.line(&format!("{} {round} of {repeat}", incident.name()));
            let happen = |site: &mut Site| experiment::incident(site, *incident);
            let ((), outage) =
                experiment::outage(&mut site, happen).with_context(|| what.clone())?;
            row.add(outage);
        }
    }
    work.done();
    let stays = stays.into_iter().map(|(_, row)| row);
    Ok(gone.into_iter().chain([back]).chain(stays).collect())
}

/// "median (worst)", empty without figures.
fn median_and_worst(figures: &[f64]) -> String {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len() / 2), sorted.last()) {
        (Some(median), Some(worst)) => format!("{median:.1} ({worst:.1})"),
        _ => String::new(),
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "program",
        "VRRP",
        "advert_int",
        "MASTER goes by",
        "takeover ms",
        "no answer ms",
        "lost",
        "goal",
        "held",
    ]);
    for row in rows {
        let lost: Vec<f64> = row.lost.iter().map(|lost| *lost as f64).collect();
        table.add_row([
            row.software.to_owned(),
            format!("v{}", row.version),
            format!("{} s", row.advert_ms / 1e3),
            row.event.to_owned(),
            median_and_worst(&row.takeover_ms),
            median_and_worst(&row.outage_ms),
            median_and_worst(&lost),
            row.goal.to_string(),
            if row.held() { "yes" } else { "no" }.to_owned(),
        ]);
    }
    for column in [4, 5, 6, 7] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
