// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask bench instances`: what a thousand instances cost, beside Debian's keepalived.
//!
//! In: a built agent. Out: a table with ratios, or JSON: processor time and memory of a director
//! that is MASTER of all of them and of one that is BACKUP, both programs with the same files, in
//! the same run; then how many instances changed hands beside a busy loop on every processor.
//! Memory is told twice: with pages that processes share counted once, which the ratio is of, and
//! as resident, where the program's text counts for each of them. Exit status 0 only if ours costs
//! no more and nothing changed hands.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use xlvs_tests::director::{Director, Software};
use xlvs_tests::lab::{self, Lab};
use xlvs_tests::process::Process;
use xlvs_tests::wait;

use crate::progress::Work;
use crate::{build, run, setup};

/// Options of the verb.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// How many instances.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4000))]
    instances: u32,
    /// How long the idle cost is measured.
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u64,
    /// How long it is watched beside the busy loops; 0 leaves that out.
    #[arg(long, default_value_t = 120, value_name = "N")]
    hog_seconds: u64,
}

/// Virtual router ids used of each pair of interfaces.
const PER_LINK: u32 = 250;
/// A start may take so long.
const SETTLE: Duration = Duration::from_secs(180);
/// After the start of the BACKUP: announcements are over, and it has heard everybody.
const SETTLING: Duration = Duration::from_secs(15);
/// Between two looks at who has the addresses.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What one program needs, in both roles.
#[derive(Serialize)]
struct Row {
    software: &'static str,
    /// From the start of the MASTER until it holds all addresses.
    start_seconds: f64,
    master: Cost,
    backup: Cost,
    /// Addresses that were not where they belong at any look, or takeovers that the log tells of.
    moved: Option<u32>,
}

#[derive(Clone, Copy, Serialize)]
struct Cost {
    /// Processor time of all its processes, milliseconds a second.
    cpu_ms_per_second: f64,
    /// Memory of all its processes, KiB; a page that several share is counted once (PSS).
    pss_kib: u64,
    /// Resident memory of all its processes, KiB; a page that several share counts for each.
    rss_kib: u64,
}

#[derive(Serialize)]
struct Output {
    instances: u32,
    seconds: u64,
    hog_seconds: u64,
    rows: Vec<Row>,
    /// Ours by keepalived's: processor time and memory as MASTER, then as BACKUP.
    ratios: [f64; 4],
}

/// The verb itself.
pub(crate) fn main(args: &Args) -> Result<()> {
    if !run::is_prepared() {
        let ready = setup::ensure()?;
        build::main(&ready)?;
        return run::again_as_root();
    }
    lab::clear_when_interrupted()?;
    let theirs = measure(Software::Keepalived, args)?;
    let ours = measure(Software::Xlvs, args)?;
    let by = |cost: fn(&Row) -> f64| cost(&ours) / cost(&theirs);
    let ratios = [
        by(|row| row.master.cpu_ms_per_second),
        by(|row| row.master.pss_kib as f64),
        by(|row| row.backup.cpu_ms_per_second),
        by(|row| row.backup.pss_kib as f64),
    ];
    let moved = ours.moved.unwrap_or_default();
    let output = Output {
        instances: args.instances,
        seconds: args.seconds,
        hog_seconds: args.hog_seconds,
        rows: vec![theirs, ours],
        ratios,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&output)?);
    } else {
        println!("{}", table(&output));
    }
    if moved > 0 {
        bail!("{moved} addresses moved beside the busy loops");
    }
    if ratios.iter().any(|ratio| *ratio > 1.0) {
        bail!("xlvs costs more than keepalived");
    }
    Ok(())
}

/// Two directors whose links lead to each other and nowhere else: a virtual router id is used
/// again on each. Fields are dropped in order.
struct Pair {
    first: Director,
    second: Director,
    instances: u32,
    _lab: Lab,
}

impl Pair {
    fn raise(software: Software, instances: u32) -> Result<Self> {
        let lab = Lab::raise("bench-instances")?;
        let first = lab.host("d1", Ipv4Addr::new(192, 0, 2, 1))?;
        let second = lab.host("d2", Ipv4Addr::new(192, 0, 2, 2))?;
        for link in 0..instances.div_ceil(PER_LINK) {
            let name = format!("p{link}");
            let there = second.namespace().name();
            first.namespace().ip(&[
                "link", "add", &name, "type", "veth", "peer", "name", &name, "netns", there,
            ])?;
            for (host, last) in [(&first, 1), (&second, 2)] {
                let cidr = format!("198.18.{link}.{last}/24");
                let namespace = host.namespace();
                namespace.ip(&["addr", "add", &cidr, "dev", &name])?;
                namespace.ip(&["link", "set", "dev", &name, "up"])?;
            }
        }
        Ok(Self {
            first: Director::new(first, software),
            second: Director::new(second, software),
            instances,
            _lab: lab,
        })
    }

    /// Starts the MASTER, waits until it has all addresses, then starts the BACKUP.
    fn elect(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        self.first.start(&config(self.instances, 200))?;
        wait::until_true(SETTLE, "all addresses", || {
            held(&self.first) == self.instances
        })
        .with_context(|| self.first.log_tail())?;
        let took = begun.elapsed();
        self.second.start(&config(self.instances, 100))?;
        Ok(took)
    }

    /// Times the second became MASTER of an instance since it began, as its log says: also for a
    /// moment between two looks.
    fn takeovers(&self) -> u32 {
        let log = self.second.log();
        let signs = ["-> MASTER", "Entering MASTER STATE"];
        let lines = log.lines();
        let count = lines.filter(|line| signs.iter().any(|sign| line.contains(sign)));
        u32::try_from(count.count()).unwrap_or(u32::MAX)
    }

    /// The most addresses that were elsewhere than on the first, at a look every few seconds.
    fn watch(&mut self, time: Duration, work: &Work) -> Result<u32> {
        let end = Instant::now() + time;
        let mut moved = 0;
        loop {
            self.first.expect_running()?;
            self.second.expect_running()?;
            let missing = self.instances.abs_diff(held(&self.first));
            moved = moved.max(missing).max(held(&self.second));
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(moved.max(self.takeovers()));
            }
            work.line(&format!("{} s left", left.as_secs()));
            // Looking costs more than either program, so it is done rarely.
            let next = Instant::now() + left.min(LOOK_EVERY);
            let patience = LOOK_EVERY * 10;
            wait::until_true(patience, "the next look", || Instant::now() >= next)?;
        }
    }
}

fn config(instances: u32, priority: u8) -> String {
    let mut text = String::new();
    for n in 0..instances {
        let (link, vrid) = (n / PER_LINK, n % PER_LINK + 1);
        let _ = write!(
            text,
            "vrrp_instance I{n} {{\nstate BACKUP\ninterface p{link}\nvirtual_router_id {vrid}\n\
             priority {priority}\nadvert_int 1\nvirtual_ipaddress {{\n10.99.{link}.{vrid}/32\n}}\n}}\n"
        );
    }
    text
}

/// Virtual addresses that a director holds.
fn held(director: &Director) -> u32 {
    let shown = director.host().namespace().ip(&["-4", "-o", "addr"]);
    let count = shown.map_or(0, |text| text.matches(" 10.99.").count());
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn measure(software: Software, args: &Args) -> Result<Row> {
    let work = Work::begin(format!("{}, {} instances", software.name(), args.instances));
    let mut pair = Pair::raise(software, args.instances)?;
    let start_seconds = pair.elect()?.as_secs_f64();
    pair.watch(SETTLING, &work)?;
    let begun = Instant::now();
    let before = [usage(&pair.first)?, usage(&pair.second)?];
    let moved_idle = pair.watch(Duration::from_secs(args.seconds), &work)?;
    let after = [usage(&pair.first)?, usage(&pair.second)?];
    let seconds = begun.elapsed().as_secs_f64();
    if moved_idle > 0 {
        bail!(
            "{}: {moved_idle} addresses moved for no reason",
            software.name()
        );
    }
    let [master, backup] = [0, 1].map(|at| Cost {
        cpu_ms_per_second: (after[at].cpu_ms - before[at].cpu_ms) / seconds,
        pss_kib: after[at].pss_kib,
        rss_kib: after[at].rss_kib,
    });
    let moved = if args.hog_seconds > 0 {
        let _hogs = hogs(&pair)?;
        Some(pair.watch(Duration::from_secs(args.hog_seconds), &work)?)
    } else {
        None
    };
    work.done();
    Ok(Row {
        software: software.name(),
        start_seconds,
        master,
        backup,
        moved,
    })
}

/// A busy loop for every processor.
fn hogs(pair: &Pair) -> Result<Vec<Process>> {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let host = pair.first.host();
    let start = |_| {
        let mut command = host.command("sh")?;
        command.args(["-c", "while :; do :; done"]);
        Process::start("busy loop", command, &host.path("hog.log"))
    };
    (0..count).map(start).collect()
}

struct Usage {
    cpu_ms: f64,
    pss_kib: u64,
    rss_kib: u64,
}

/// Of all processes of a director: they are one process group.
fn usage(director: &Director) -> Result<Usage> {
    const TICKS_A_SECOND: f64 = 100.0;
    const PAGE_KIB: u64 = 4;
    let group = director.pid().context("the director does not run")?;
    let mut sum = Usage {
        cpu_ms: 0.0,
        pss_kib: 0,
        rss_kib: 0,
    };
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // Behind the name: state, parent, group, …
        let Some((_, rest)) = text.rsplit_once(") ") else {
            continue;
        };
        let words: Vec<&str> = rest.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        if number(2) == Some(group.into()) {
            let ticks = number(11).unwrap_or_default() + number(12).unwrap_or_default();
            sum.cpu_ms += ticks as f64 * 1000.0 / TICKS_A_SECOND;
            sum.rss_kib += number(21).unwrap_or_default() * PAGE_KIB;
            sum.pss_kib += proportional_kib(&entry.path());
        }
    }
    Ok(sum)
}

/// `Pss:` of a process, by its directory in /proc; 0 if it has just ended.
fn proportional_kib(process: &Path) -> u64 {
    let text = std::fs::read_to_string(process.join("smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

fn table(output: &Output) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "program",
        "start s",
        "MASTER ms/s",
        "MASTER KiB",
        "resident",
        "BACKUP ms/s",
        "BACKUP KiB",
        "resident",
        "moved under load",
    ]);
    for row in &output.rows {
        table.add_row([
            row.software.to_owned(),
            format!("{:.1}", row.start_seconds),
            format!("{:.2}", row.master.cpu_ms_per_second),
            row.master.pss_kib.to_string(),
            row.master.rss_kib.to_string(),
            format!("{:.2}", row.backup.cpu_ms_per_second),
            row.backup.pss_kib.to_string(),
            row.backup.rss_kib.to_string(),
            row.moved.map_or_else(|| "-".to_owned(), |n| n.to_string()),
        ]);
    }
    let [a, b, c, d] = output.ratios.map(|ratio| format!("{ratio:.2}"));
    let none = String::new;
    table.add_row([
        "ratio".to_owned(),
        none(),
        a,
        b,
        none(),
        c,
        d,
        none(),
        none(),
    ]);
    for column in 1..9 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
