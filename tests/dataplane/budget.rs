// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the verifier walks through, kept in `tests/verifier-budget.txt`: a program that grows
//! beyond what is allowed there fails this test, not the start of somebody's agent.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lb_agent::dataplane::follow;

use crate::lab::load_kernel;

/// No program may come nearer to the kernel's million, which other kernels reach sooner than the one
/// that a figure was measured on.
const CEILING: u32 = 700_000;

/// Allowed above what was measured, in hundredths.
const MARGIN: u32 = 25;

/// Takes over what is measured.
const UPDATE: &str = "UPDATE_EXPECT";

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// `6.18`
    kernel: String,
    program: String,
    walked: u32,
    most: u32,
}

impl Line {
    fn measured(kernel: &str, program: &str, walked: u32) -> Self {
        Self {
            kernel: kernel.to_owned(),
            program: program.to_owned(),
            walked,
            most: (walked / 100 * (100 + MARGIN)).min(CEILING),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let line = Self {
            kernel: words.next()?.to_owned(),
            program: words.next()?.to_owned(),
            walked: words.next()?.parse().ok()?,
            most: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(line)
    }
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("verifier-budget.txt")
}

/// The remarks at the beginning of the file, and its lines.
fn read(text: &str) -> (String, Vec<Line>) {
    let (mut remarks, mut lines) = (String::new(), Vec::new());
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            remarks += &format!("{line}\n");
        } else {
            let parsed = Line::parse(line);
            lines.push(parsed.unwrap_or_else(|| panic!("cannot read the budget's line {line:?}")));
        }
    }
    (remarks, lines)
}

fn write(remarks: &str, lines: &[Line]) -> String {
    let mut text = remarks.to_owned();
    for line in lines {
        let Line {
            kernel,
            program,
            walked,
            most,
        } = line;
        let _ = writeln!(text, "{kernel:<8}{program:<16}{walked:>8}{most:>9}");
    }
    text
}

/// What is wrong with these figures; nothing if all are within the budget.
fn complaints(budget: &[Line], kernel: &str, measured: &[(&str, u32)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (program, walked) in measured {
        if *walked > CEILING {
            complaints.push(format!(
                "{program}: the verifier walks {walked} instructions; no more than {CEILING} are \
                 allowed on any kernel"
            ));
        }
        let known = |line: &&Line| line.kernel == kernel && line.program == *program;
        let Some(line) = budget.iter().find(known) else {
            continue;
        };
        if *walked > line.most {
            complaints.push(format!(
                "{program}: the verifier walks {walked} instructions on Linux {kernel}, {:+.0} % \
                 of the {} that it was measured with; {} are allowed",
                (f64::from(*walked) / f64::from(line.walked) - 1.0) * 100.0,
                line.walked,
                line.most
            ));
        }
    }
    complaints
}

/// `6.18` of `6.18.44-something`.
fn series(release: &str) -> String {
    let mut numbers = release.trim().splitn(3, '.');
    let mut next = || numbers.next().unwrap_or_default().to_owned();
    format!("{}.{}", next(), next())
}

#[test]
fn no_program_outgrows_its_verifier_budget() {
    let Some(kernel) = load_kernel() else {
        return;
    };
    let programs = kernel.programs().expect("programs that are loaded");
    let followed = follow::Plan::apart().load().expect("programs that load");
    let followed = followed.programs().expect("programs that are loaded");
    let measured: Option<Vec<(&str, u32)>> = programs
        .into_iter()
        .chain(followed)
        .map(|(name, info)| Some((name, info.verified_instructions?)))
        .collect();
    let Some(measured) = measured else {
        eprintln!("skipped: this kernel does not tell what its verifier walked (Linux 5.16 does)");
        return;
    };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("Linux");
    let series = series(&release);
    for (program, walked) in &measured {
        eprintln!("{series:<8}{program:<16}{walked:>8}");
    }
    let text = include_str!("../verifier-budget.txt");
    let (remarks, mut budget) = read(text);
    if std::env::var_os(UPDATE).is_some() {
        budget.retain(|line| line.kernel != series);
        let line = |(program, walked): &(&str, u32)| Line::measured(&series, program, *walked);
        budget.extend(measured.iter().map(line));
        std::fs::write(path(), write(&remarks, &budget)).expect("a file that can be written");
        return;
    }
    let complaints = complaints(&budget, &series, &measured);
    assert!(
        complaints.is_empty(),
        "the packet program has outgrown tests/verifier-budget.txt:\n  {}\nMake it smaller (the \
         comments tagged VERIFIER show how), or, where that cannot be, take the new figures over: \
         UPDATE_EXPECT=1 cargo test -p xlvs-tests --test dataplane budget",
        complaints.join("\n  ")
    );
}

#[test]
fn what_has_grown_is_named_with_its_figures() {
    let budget = [Line::measured("6.18", "xlvs", 100_000)];
    assert_eq!(budget[0].most, 125_000);
    let said = |kernel, walked| complaints(&budget, kernel, &[("xlvs", walked)]);
    assert!(said("6.18", 125_000).is_empty());
    let grown = said("6.18", 150_000);
    assert_eq!(grown.len(), 1);
    for part in ["xlvs", "150000", "+50 %", "100000", "125000"] {
        assert!(grown[0].contains(part), "{grown:?}");
    }
    // A kernel that was not measured has the ceiling alone.
    assert!(said("6.1", 244_530).is_empty());
    assert_eq!(said("6.1", 700_001).len(), 1);
    assert_eq!(Line::measured("6.18", "xlvs", 650_000).most, CEILING);
}

#[test]
fn the_budget_is_written_as_it_is_read() {
    let text = include_str!("../verifier-budget.txt");
    let (remarks, lines) = read(text);
    assert_eq!(write(&remarks, &lines), text);
    assert!(lines.iter().all(|line| line.most <= CEILING));
    assert_eq!(series("6.18.44-fc\n"), "6.18");
}
