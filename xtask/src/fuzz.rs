// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask fuzz [TARGET] [--seconds N | --count N] [--input FILE]`: inputs that reach new code, sought by
//! libFuzzer, for what reads bytes of strangers.
//!
//! In: the targets of `tests/fuzz`, and what earlier runs found (`target/fuzz/corpus`). Out: a table;
//! an input that makes a target panic is kept in `target/fuzz/crashes`, and is an error. Needs the
//! stable toolchain and a C++ compiler (libFuzzer comes as a crate): coverage is counted by LLVM,
//! whose pass every rustc has. Not part of `ci`, which compiles the targets only.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, Table, presets};

use crate::progress::{Work, fact};
use crate::run;

/// Options of the verb.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which target; all, one after another, if none is named.
    #[arg(value_enum)]
    target: Option<Target>,
    /// How long each target runs.
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u64,
    /// How many inputs each target is given, however long that takes.
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    count: Option<u64>,
    /// Run the target once on this file, such as a crash, and show what it says.
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// Frames through the packet pipeline on the host, judged by an oracle.
    Pipeline,
    /// Datagrams through the decoder of adverts.
    Vrrp,
    /// Configuration files through the parser.
    Config,
}

impl Target {
    const ALL: [Self; 3] = [Self::Pipeline, Self::Vrrp, Self::Config];

    fn name(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Vrrp => "vrrp",
            Self::Config => "config",
        }
    }

    /// The longest input.
    fn max_len(self) -> u32 {
        match self {
            Self::Pipeline => 8192,
            Self::Vrrp => 4200,
            Self::Config => 2048,
        }
    }
}

/// The machine that the targets are built for: naming it keeps build scripts and macros, which run
/// at build time, without counters.
const TRIPLE: &str = if cfg!(target_arch = "aarch64") {
    "aarch64-unknown-linux-gnu"
} else {
    "x86_64-unknown-linux-gnu"
};

/// As cargo-fuzz has it: a counter an edge, and comparisons that libFuzzer learns from.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1";

/// The verb itself.
pub(crate) fn main(args: &Args) -> Result<()> {
    let targets = args.target.map_or(Target::ALL.to_vec(), |one| vec![one]);
    build(&targets)?;
    if let (Some(target), Some(input)) = (args.target, &args.input) {
        return run::show(Command::new(program(target)).arg(input));
    }
    let limit = match args.count {
        Some(count) => Limit::Count(count),
        None => Limit::Time(Duration::from_secs(args.seconds)),
    };
    let mut tallies = Vec::new();
    for target in targets {
        tallies.push(fuzz(target, limit)?);
    }
    conclude(&tallies)
}

fn directory() -> PathBuf {
    run::target_dir().join("fuzz")
}

fn program(target: Target) -> PathBuf {
    let profile = directory().join(TRIPLE).join("fuzz/examples");
    profile.join(format!("fuzz-{}", target.name()))
}

/// A fresh or existing directory of this target.
fn place(kind: &str, target: Target) -> Result<PathBuf> {
    let path = directory().join(kind).join(target.name());
    std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

fn build(targets: &[Target]) -> Result<()> {
    if !["c++", "g++", "clang++"]
        .iter()
        .any(|name| run::find(name).is_some())
    {
        bail!("libFuzzer needs a C++ compiler; on Debian: sudo apt-get install g++");
    }
    let mut command = run::cargo();
    command
        .args(["build", "--profile=fuzz", "--package=xlvs-tests"])
        .args(["--features=fuzz", "--target", TRIPLE])
        .env("CARGO_TARGET_DIR", directory())
        .env("RUSTFLAGS", RUSTFLAGS);
    for target in targets {
        command.arg(format!("--example=fuzz-{}", target.name()));
    }
    let work = Work::begin("compiling the fuzz targets (the first time some minutes)");
    run::stream(&mut command, |line| work.line(line))?;
    work.done();
    Ok(())
}

/// What libFuzzer said last of a target.
#[derive(Default)]
struct Tally {
    name: &'static str,
    executions: u64,
    seconds: f64,
    coverage: u64,
    features: u64,
    corpus: u64,
    /// Inputs that made it panic, run out of memory or hang.
    crashes: Vec<PathBuf>,
}

impl Tally {
    /// A line such as `#4096 pulse cov: 812 ft: 3021 corp: 301/20Kb lim: 4096 exec/s: 2048 rss: 50Mb`.
    fn read(&mut self, line: &str) -> bool {
        let Some(rest) = line.strip_prefix('#') else {
            return false;
        };
        let mut words = rest.split_whitespace();
        let Some(executions) = words.next().and_then(|word| word.parse().ok()) else {
            return false;
        };
        self.executions = executions;
        let words: Vec<&str> = words.collect();
        let after = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1).copied()
        };
        let number = |name: &str| after(name).and_then(|word| word.parse().ok());
        self.coverage = number("cov:").unwrap_or(self.coverage);
        self.features = number("ft:").unwrap_or(self.features);
        if let Some(corpus) = after("corp:") {
            let inputs = corpus.split('/').next().and_then(|word| word.parse().ok());
            self.corpus = inputs.unwrap_or(self.corpus);
        }
        true
    }
}

/// When a run is over.
#[derive(Clone, Copy)]
enum Limit {
    Time(Duration),
    Count(u64),
}

impl Limit {
    /// As libFuzzer is told.
    fn argument(self) -> String {
        match self {
            Self::Time(time) => format!("-max_total_time={}", time.as_secs()),
            Self::Count(count) => format!("-runs={count}"),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Time(time) => format!("{} s", time.as_secs()),
            Self::Count(count) => format!("{count} executions"),
        }
    }
}

/// Runs a target up to this limit.
fn fuzz(target: Target, limit: Limit) -> Result<Tally> {
    let corpus = place("corpus", target)?;
    let crashes = place("crashes", target)?;
    let before = files(&crashes)?;
    let mut command = Command::new(program(target));
    command
        .current_dir(run::root())
        .arg(&corpus)
        .args(seeds(target)?)
        .arg(format!("-artifact_prefix={}/", crashes.display()))
        .arg(limit.argument())
        .arg(format!("-max_len={}", target.max_len()))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-reload=0"]);
    let (started, mut said) = (Instant::now(), Instant::now());
    let mut tally = Tally {
        name: target.name(),
        ..Tally::default()
    };
    let work = Work::begin(format!("fuzzing {} for {}", tally.name, limit.name()));
    let ended = run::stream(&mut command, |line| {
        if !tally.read(line) {
            return;
        }
        let passed = started.elapsed().as_secs();
        let state = format!(
            "{passed} s of {}, {} executions, {} edges, {} inputs kept",
            limit.name(),
            tally.executions,
            tally.coverage,
            tally.corpus
        );
        work.line(&state);
        if said.elapsed() > SAY_EVERY && !work.is_shown() {
            eprintln!("    {state}");
            said = Instant::now();
        }
    });
    tally.seconds = started.elapsed().as_secs_f64();
    tally.crashes = files(&crashes)?;
    tally.crashes.retain(|file| !before.contains(file));
    match ended {
        Ok(()) => work.done(),
        Err(err) if tally.crashes.is_empty() => return Err(err),
        Err(err) => {
            work.clear();
            eprintln!("{err}");
        }
    }
    Ok(tally)
}

/// How often a run says where it is when no terminal shows it.
const SAY_EVERY: Duration = Duration::from_secs(30);

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

/// What a target starts from: inputs that it writes itself, or the golden files and the keywords.
fn seeds(target: Target) -> Result<Vec<String>> {
    if target != Target::Config {
        let seeds = place("seeds", target)?;
        let mut command = Command::new(program(target));
        run::capture(command.env("XLVS_FUZZ_SEEDS", &seeds))?;
        return Ok(vec![seeds.display().to_string()]);
    }
    let cases = run::root().join("tests/config");
    let keywords = std::fs::read_to_string(cases.join("keywords-2.4.3.txt"))
        .context("cannot read the list of keywords")?;
    let plain = |word: &&str| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let words = keywords.split_whitespace().filter(plain);
    let more = [
        "{",
        "}",
        "\\n",
        "MASTER",
        "192.0.2.1",
        "2001:db8::1",
        "80",
        "-",
    ];
    let text: String = words
        .chain(more)
        .map(|word| format!("\"{word}\"\n"))
        .collect();
    let path = place("seeds", target)?.join("dictionary");
    std::fs::write(&path, text.replace("\\n", "\\x0a"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(vec![
        cases.join("cases").display().to_string(),
        format!("-dict={}", path.display()),
    ])
}

fn conclude(tallies: &[Tally]) -> Result<()> {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "target",
        "seconds",
        "executions",
        "a second",
        "edges",
        "features",
        "inputs kept",
        "crashes",
    ]);
    for tally in tallies {
        table.add_row([
            tally.name.to_owned(),
            format!("{:.0}", tally.seconds),
            tally.executions.to_string(),
            format!("{:.0}", tally.executions as f64 / tally.seconds),
            tally.coverage.to_string(),
            tally.features.to_string(),
            tally.corpus.to_string(),
            tally.crashes.len().to_string(),
        ]);
    }
    for column in 1..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("{table}");
    let crashes: Vec<_> = tallies
        .iter()
        .flat_map(|tally| tally.crashes.iter().map(move |file| (tally.name, file)))
        .collect();
    for (name, file) in &crashes {
        println!("again: cargo xtask fuzz {name} --input {}", file.display());
    }
    if !crashes.is_empty() {
        bail!("{} inputs made a target fail", crashes.len());
    }
    fact("no input made a target fail");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libfuzzer_s_lines_are_read() {
        let mut tally = Tally::default();
        let line = "#4096\tpulse  cov: 812 ft: 3021 corp: 301/20Kb lim: 99 exec/s: 2048 rss: 50Mb";
        assert!(tally.read(line));
        assert_eq!(
            (tally.executions, tally.coverage, tally.features),
            (4096, 812, 3021)
        );
        assert_eq!(tally.corpus, 301);
        assert!(!tally.read("INFO: Seed: 1"));
        assert!(tally.read("#5000\tDONE   cov: 813 ft: 3022 corp: 302/21Kb"));
        assert_eq!((tally.executions, tally.coverage), (5000, 813));
    }
}
