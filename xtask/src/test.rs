// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask test [unit|lab|vm|all]`: everything that can fail, after set-up and build.
//!
//! In: the workspace. Out: each suite's own output, a table, and `N passed, N failed` alone on a
//! line. Invariant: nothing is skipped in silence. Tests that need root are `#[ignore]`d with that
//! reason, so the unit run lists them as ignored and the laboratory run takes exactly those.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::{build, run, setup, vm};

/// Suites that spend minutes waiting for other routers' timers and load no packet program.
const WAITING: [&str; 2] = ["tests/frr", "tests/interop"];

/// Options of the verb.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which tests: those that need nothing, those that need root, or both.
    #[arg(value_enum, default_value = "all")]
    which: Which,
    /// Run only the tests of the laboratory, or of the virtual machine, whose names contain this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// Tests that run anywhere.
    Unit,
    /// Tests that need root: the packet program in the kernel, the laboratory.
    Lab,
    /// The packet cases, and real clients and servers by every way on virtio-net, on Debian's stock
    /// kernel in a virtual machine; minutes, not in `all`.
    Vm,
    /// Those that run here, with and without root.
    All,
}

/// What one test program did.
#[derive(Default)]
struct Tally {
    name: String,
    passed: u32,
    failed: u32,
    ignored: u32,
    results: u32,
    took: Duration,
}

impl Tally {
    /// Adds up a `test result:` line; any other line is none of its business.
    fn read(&mut self, line: &str) {
        if let Some(result) = line.trim().strip_prefix("test result: ") {
            self.results += 1;
            self.passed += count(result, " passed");
            self.failed += count(result, " failed");
            self.ignored += count(result, " ignored");
        }
    }
}

/// The verb itself.
pub(crate) fn main(args: &Args) -> Result<()> {
    let ready = setup::ensure()?;
    build::main(&ready)?;
    let programs = test_programs()?;
    let mut tallies = Vec::new();
    if args.which == Which::Vm {
        return conclude(&[vm_cases(
            &programs,
            args.only.as_deref().unwrap_or_default(),
        )?]);
    }
    if args.which != Which::Lab {
        // Some tests do more as root (the kernel's half of the packet cases, namespaces); `unit`
        // stays with what anyone may do.
        let as_root = args.which == Which::All;
        for program in &programs {
            tallies.push(program.run(program.command(as_root)?, &[]));
        }
        tallies.push(doc_tests());
    }
    let needing_root: u32 = tallies.iter().map(|tally| tally.ignored).sum();
    if args.which == Which::Unit {
        if needing_root > 0 {
            println!("\nskipped: {needing_root} tests need root (run: cargo xtask test lab)");
        }
        if !run::is_root() {
            println!(
                "skipped: the kernel's half of the packet cases needs root (run: cargo xtask test)"
            );
        }
    } else {
        println!("\nTests that need root:");
        let mut more = vec!["--ignored", "--test-threads=1"];
        more.extend(args.only.as_deref());
        let waits = |program: &&Program| WAITING.contains(&program.name.as_str());
        let (waiting, others): (Vec<_>, Vec<_>) = programs.iter().partition(waits);
        for program in others {
            tallies.push(program.run(program.command(true)?, &more));
        }
        tallies.extend(side_by_side(&waiting, &more)?);
    }
    conclude(&tallies)
}

/// Runs programs beside each other; what each prints is shown when it has ended.
fn side_by_side(programs: &[&Program], arguments: &[&str]) -> Result<Vec<Tally>> {
    let commands = programs.iter().map(|program| {
        let mut command = program.command(true)?;
        command.args(arguments).current_dir(&program.directory);
        Ok((program.name.as_str(), command))
    });
    let commands = commands.collect::<Result<Vec<_>>>()?;
    let names: Vec<_> = commands.iter().map(|(name, _)| *name).collect();
    println!("\n{} are waiting, beside each other …", names.join(" and "));
    thread::scope(|scope| {
        let runs = commands.into_iter().map(|(name, mut command)| {
            scope.spawn(move || {
                let mut said = String::new();
                let tally = tally(name, &mut command, |line| {
                    said.push_str(line);
                    said.push('\n');
                });
                print!("{said}");
                tally
            })
        });
        let runs: Vec<_> = runs.collect();
        runs.into_iter()
            .map(|run| run.join().map_err(|_| anyhow!("a run panicked")))
            .collect()
    })
}

/// A compiled test program.
struct Program {
    name: String,
    directory: PathBuf,
    path: PathBuf,
}

impl Program {
    /// How to start it.
    fn command(&self, as_root: bool) -> Result<Command> {
        if !as_root {
            return Ok(Command::new(&self.path));
        }
        // The path holds the private tools too; sudo would set its own.
        let mut command = run::as_root("env")?;
        command
            .arg(run::assign("PATH", run::path_variable()))
            .arg(run::assign("XLVS_BINARY", build::binary()))
            .arg(&self.path);
        Ok(command)
    }

    /// Runs it with `arguments`, shows its output, and reads its closing line.
    fn run(&self, mut command: Command, arguments: &[&str]) -> Tally {
        command.args(arguments).current_dir(&self.directory);
        tally(&self.name, &mut command, |line| println!("{line}"))
    }
}

/// Compiles all tests of the workspace and lists the programs, by cargo's own messages.
fn test_programs() -> Result<Vec<Program>> {
    let mut command = run::cargo();
    command.args([
        "test",
        "--workspace",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("the tests do not compile");
    }
    let mut programs = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: serde_json::Value =
            serde_json::from_str(line).context("cannot read cargo's messages")?;
        let (Some(path), Some(manifest)) = (
            message["executable"].as_str(),
            message["manifest_path"].as_str(),
        ) else {
            continue;
        };
        if message["profile"]["test"] == true {
            let directory = PathBuf::from(manifest)
                .parent()
                .map(PathBuf::from)
                .unwrap_or_default();
            let package = directory
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let target = message["target"]["name"].as_str().unwrap_or_default();
            let name = format!("{package}/{target}");
            programs.push(Program {
                name,
                directory,
                path: PathBuf::from(path),
            });
        }
    }
    programs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(programs)
}

/// The packet cases and the matrix, run by another kernel.
fn vm_cases(programs: &[Program], only: &str) -> Result<Tally> {
    let find = |name: &str| {
        let found = programs.iter().find(|program| program.name == name);
        found
            .map(|program| program.path.as_path())
            .with_context(|| format!("{name} was not compiled"))
    };
    let mut tally = Tally {
        name: "packet cases and the matrix on Debian's kernel".to_owned(),
        ..Tally::default()
    };
    let tests = [find("tests/dataplane")?, find("tests/matrix")?];
    let began = Instant::now();
    let status = vm::run_tests(tests, &build::binary(), only, |line| {
        println!("{line}");
        tally.read(line);
    })?;
    tally.took = began.elapsed();
    if !status.success() && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok(tally)
}

fn doc_tests() -> Tally {
    tally(
        "documentation examples",
        run::cargo().args(["test", "--workspace", "--doc", "--quiet"]),
        |line| println!("{line}"),
    )
}

/// Runs a test program, tells what it prints, and adds up its `test result:` lines.
fn tally(name: &str, command: &mut Command, mut tell: impl FnMut(&str)) -> Tally {
    tell(&format!("\n== {name}"));
    let mut tally = Tally {
        name: name.to_owned(),
        ..Tally::default()
    };
    let began = Instant::now();
    let ended = run::stream(command, |line| {
        tell(line);
        tally.read(line);
    });
    tally.took = began.elapsed();
    // A program that dies on the way has failed even where no test of it has said so.
    if tally.results == 0 || (ended.is_err() && tally.failed == 0) {
        tally.failed += 1;
        tell(&format!("{name} did not end well: {:?}", ended.err()));
    }
    tally
}

/// The number before `word` in "ok. 4 passed; 0 failed; 1 ignored; …".
fn count(result: &str, word: &str) -> u32 {
    let before = result.split(word).next().unwrap_or_default();
    before
        .rsplit(' ')
        .next()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

fn conclude(tallies: &[Tally]) -> Result<()> {
    println!();
    for tally in tallies
        .iter()
        .filter(|tally| tally.passed + tally.failed > 0)
    {
        println!(
            "{:>5} passed {:>3} failed {:>5} s   {}",
            tally.passed,
            tally.failed,
            tally.took.as_secs(),
            tally.name
        );
    }
    let passed: u32 = tallies.iter().map(|tally| tally.passed).sum();
    let failed: u32 = tallies.iter().map(|tally| tally.failed).sum();
    println!("\n{passed} passed, {failed} failed");
    if failed > 0 {
        bail!("{failed} tests failed");
    }
    if passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest_s_closing_line_is_read() {
        let line = "FAILED. 12 passed; 3 failed; 4 ignored; 0 measured; 0 filtered out";
        let counts = [" passed", " failed", " ignored"].map(|word| count(line, word));
        assert_eq!(counts, [12, 3, 4]);
    }
}
