// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask demo`: the main job on real parts, step by step, with a table of what was seen.
//!
//! In: a machine that set-up has seen. Out: the steps on the terminal or as JSON; exit status 0
//! only if every step held. The steps themselves are in `demo/steps.rs`.

mod steps;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use comfy_table::{Table, presets};
use serde::Serialize;
use xlvs_tests::config::Speed;
use xlvs_tests::director::Software;
use xlvs_tests::lab;
use xlvs_tests::site::{self, Site};

use crate::progress::{BOLD, DIM, GREEN, RED, Work, paint};
use crate::{build, run, setup};

/// Options of the verb.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print the figures as JSON on standard output instead of the table.
    #[arg(long)]
    json: bool,
}

/// What one step was to show and what it showed.
#[derive(Serialize)]
pub(crate) struct Step {
    name: &'static str,
    expected: String,
    seen: String,
    ok: bool,
    figures: BTreeMap<&'static str, serde_json::Value>,
}

/// A step's outcome before it has a name.
pub(crate) struct Seen {
    expected: String,
    facts: Vec<(String, bool)>,
    figures: BTreeMap<&'static str, serde_json::Value>,
}

impl Seen {
    fn new(expected: impl Into<String>) -> Self {
        Self {
            expected: expected.into(),
            facts: Vec::new(),
            figures: BTreeMap::new(),
        }
    }

    /// Adds something observed, and whether it is as expected.
    fn fact(&mut self, text: impl Into<String>, ok: bool) {
        self.facts.push((text.into(), ok));
    }

    /// Adds a number for the JSON report.
    fn figure(&mut self, name: &'static str, value: impl Into<serde_json::Value>) {
        self.figures.insert(name, value.into());
    }
}

/// The verb itself.
pub(crate) fn main(args: &Args) -> Result<()> {
    if !run::is_prepared() {
        build::main(&setup::ensure()?)?;
        return run::again_as_root();
    }
    lab::clear_when_interrupted()?;
    let began = Instant::now();
    let work = Work::begin("raising the laboratory: two directors, three web servers, one client");
    let mut site = Site::raise("demo", [Software::Xlvs; 2])?;
    work.done();
    if !args.json {
        print_configs();
    }
    let steps = play(&mut site, args.json);
    let ok = steps.iter().all(|step| step.ok);
    let took = began.elapsed();
    if args.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&report(&steps, ok, took))?
        );
    } else {
        println!("\n{}", table(&steps));
        println!(
            "{:.1} s; every figure above was measured in this run",
            took.as_secs_f64()
        );
    }
    if !ok {
        let kept = site.lab.keep_files()?;
        bail!(
            "a step did not hold; logs and configurations are in {}",
            kept.display()
        );
    }
    Ok(())
}

/// Plays all steps in order; after one that could not be played the rest is not reached.
fn play(site: &mut Site, quiet: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut broken = false;
    for (number, (name, step)) in steps::ALL.into_iter().enumerate() {
        if broken {
            let expected = "not reached".to_owned();
            let seen = "not reached".to_owned();
            steps.push(Step {
                name,
                expected,
                seen,
                ok: false,
                figures: BTreeMap::new(),
            });
            continue;
        }
        if !quiet {
            println!("\n{}", paint(BOLD, &format!("{}. {name}", number + 1)));
        }
        let work = Work::unsaid();
        let seen = step(site).unwrap_or_else(|error| {
            broken = true;
            let mut seen = Seen::new("the step can be played");
            seen.fact(format!("{error:#}"), false);
            seen
        });
        work.clear();
        if !quiet {
            for (fact, ok) in &seen.facts {
                let mark = if *ok {
                    paint(GREEN, "✓")
                } else {
                    paint(RED, "✗")
                };
                println!("     {mark} {fact}");
            }
        }
        let ok = seen.facts.iter().all(|(_, ok)| *ok);
        let facts: Vec<&str> = seen.facts.iter().map(|(fact, _)| fact.as_str()).collect();
        let Seen {
            expected, figures, ..
        } = seen;
        steps.push(Step {
            name,
            expected,
            seen: facts.join("\n"),
            ok,
            figures,
        });
    }
    steps
}

fn print_configs() {
    for (name, config) in ["d1", "d2"].iter().zip(site::configs(Speed::V2Second)) {
        println!(
            "\n{}",
            paint(BOLD, &format!("{name}: /etc/keepalived/keepalived.conf"))
        );
        for line in config.text().lines() {
            println!("  {}", paint(DIM, line));
        }
    }
}

fn table(steps: &[Step]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    if table.width().is_none() {
        table.set_width(120);
    }
    table.set_header(["step", "expected", "seen", "ok"]);
    for step in steps {
        let ok = if step.ok { "yes" } else { "NO" };
        table.add_row([step.name, step.expected.as_str(), step.seen.as_str(), ok]);
    }
    table
}

/// The JSON report.
#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    seconds: f64,
    steps: &'a [Step],
}

fn report(steps: &[Step], ok: bool, took: Duration) -> Report<'_> {
    Report {
        ok,
        seconds: took.as_secs_f64(),
        steps,
    }
}
