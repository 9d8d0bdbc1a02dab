// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask tidy`: the house rules that no compiler checks.
//!
//! In: the files that git knows. Out: every place that breaks a rule, as `file:line: what`.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::progress::fact;
use crate::run;

const LICENCE: &str = "// SPDX-License-Identifier: MIT OR Apache-2.0";
const MOST_LINES_OF_A_FILE: usize = 800;
const MOST_LINES_OF_A_FUNCTION: usize = 100;

/// Above a function that is one long table and would not be clearer in parts.
const EXCUSE: &str = "// tidy: long table";

/// Files that are functions of (state, input, now): no clock, no runtime, no sockets.
const PURE: [&str; 19] = [
    "lb-common/src/",
    "lb-ebpf/src/",
    "lb-agent/src/config/diag.rs",
    "lb-agent/src/config/lexer.rs",
    "lb-agent/src/config/model.rs",
    "lb-agent/src/config/resolve.rs",
    "lb-agent/src/config/tree.rs",
    "lb-agent/src/dataplane/plan.rs",
    "lb-agent/src/firewall/rules.rs",
    "lb-agent/src/health/dampen.rs",
    "lb-agent/src/health/desired.rs",
    "lb-agent/src/vrrp/announce/queue.rs",
    "lb-agent/src/vrrp/election.rs",
    "lb-agent/src/vrrp/fsm.rs",
    "lb-agent/src/vrrp/fsm/",
    "lb-agent/src/vrrp/packet.rs",
    "lb-agent/src/vrrp/packet/",
    "lb-agent/src/vrrp/rivals.rs",
    "lb-agent/src/vrrp/time.rs",
];
const IMPURE_WORDS: [&str; 5] = [
    "tokio",
    "Instant::now",
    "SystemTime",
    "std::net::Tcp",
    "std::net::Udp",
];

/// A test may sleep inside a loop that awaits a condition. These two may name the word anywhere:
/// the harness's own waiting, and this file.
const MAY_NAME_SLEEP: [&str; 2] = ["tests/harness/wait.rs", "xtask/src/tidy.rs"];

/// The verb itself.
pub(crate) fn main() -> Result<()> {
    let files = tracked_files()?;
    let mut faults = Vec::new();
    check_sources(&files, &mut faults);
    match std::fs::read_to_string(run::root().join("ARCHITECTURE.md")) {
        Ok(text) => check_paths(&text, &mut faults),
        Err(_) => faults.push("ARCHITECTURE.md: is missing".to_owned()),
    }
    for fault in &faults {
        println!("{fault}");
    }
    if !faults.is_empty() {
        bail!("{} house rules are broken", faults.len());
    }
    fact(&format!("tidy: {} files keep the house rules", files.len()));
    Ok(())
}

/// Files that git tracks or would: what is ignored is not ours.
fn tracked_files() -> Result<Vec<String>> {
    let mut command = Command::new("git");
    command.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let text = run::capture(command.current_dir(run::root()))?;
    let exists = |file: &&str| run::root().join(file).is_file();
    Ok(text.lines().filter(exists).map(str::to_owned).collect())
}

fn check_sources(files: &[String], faults: &mut Vec<String>) {
    let rust = |file: &&String| Path::new(file).extension().is_some_and(|end| end == "rs");
    for file in files.iter().filter(rust) {
        let text = std::fs::read_to_string(run::root().join(file)).unwrap_or_default();
        check_source(file, &text, faults);
    }
}

fn check_source(file: &str, text: &str, faults: &mut Vec<String>) {
    if text.lines().next() != Some(LICENCE) {
        faults.push(format!("{file}:1: the first line is not {LICENCE:?}"));
    }
    let length = text.lines().count();
    if length > MOST_LINES_OF_A_FILE {
        faults.push(format!(
            "{file}: {length} lines, more than {MOST_LINES_OF_A_FILE}"
        ));
    }
    check_functions(file, text, faults);
    let tests_only = file.ends_with("_tests.rs") || file.starts_with("tests/");
    let pure = PURE.iter().any(|pure| file.starts_with(pure)) && !tests_only;
    // What follows `mod tests` may use whatever a test needs.
    let own = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    for (number, line) in own.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if pure && let Some(word) = IMPURE_WORDS.iter().find(|word| code.contains(**word)) {
            faults.push(format!("{file}:{}: a pure file names {word}", number + 1));
        }
    }
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let is_test = tests_only || number >= own.lines().count();
        if is_test && line.contains("sleep(") && !MAY_NAME_SLEEP.contains(&file) {
            let before = &lines[number.saturating_sub(8)..number];
            if !before
                .iter()
                .any(|line| line.contains("while ") || line.contains("loop {"))
            {
                faults.push(format!(
                    "{file}:{}: a test sleeps; await a condition",
                    number + 1
                ));
            }
        }
    }
}

/// Relies on rustfmt: a function ends with a brace in the column where it began.
fn check_functions(file: &str, text: &str, faults: &mut Vec<String>) {
    let mut open: Option<(usize, String, String)> = None;
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    for (number, line) in text.lines().enumerate() {
        if let Some((start, end, name)) = &open {
            if line == end {
                let length = number - start + 1;
                let excused = lines[start.saturating_sub(3)..*start].contains(&EXCUSE);
                if length > MOST_LINES_OF_A_FUNCTION && !excused {
                    faults.push(format!(
                        "{file}:{}: fn {name} has {length} lines",
                        start + 1
                    ));
                }
                open = None;
            }
            continue;
        }
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        let begins = code.starts_with("fn ") || code.contains(" fn ");
        if begins && !code.starts_with("//") && !code.ends_with(['}', ';']) {
            let name = code.split("fn ").nth(1).unwrap_or_default();
            let name = name.split(['(', '<']).next().unwrap_or_default();
            open = Some((number, format!("{indent}}}"), name.to_owned()));
        }
    }
}

/// Every path in backquotes that looks like one of ours must exist.
fn check_paths(text: &str, faults: &mut Vec<String>) {
    const ROOMS: [&str; 5] = ["lb-common/", "lb-ebpf/", "lb-agent/", "xtask/", "tests/"];
    for (number, line) in text.lines().enumerate() {
        for path in line.split('`').skip(1).step_by(2) {
            let ours = ROOMS.iter().any(|room| path.starts_with(room));
            let plain = !path.contains(['*', '{', '<', ' ']);
            if ours && plain && !exists(path) {
                faults.push(format!(
                    "ARCHITECTURE.md:{}: there is no {path}",
                    number + 1
                ));
            }
        }
    }
}

fn exists(path: &str) -> bool {
    Path::new(&run::root())
        .join(path.split("::").next().unwrap_or(path))
        .exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(file: &str, text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        check_source(file, text, &mut faults);
        faults
    }

    #[test]
    fn a_long_function_is_named_with_its_line() {
        let body = "    let _ = 1;\n".repeat(MOST_LINES_OF_A_FUNCTION);
        let faults = faults_of("a.rs", &format!("{LICENCE}\nfn long() {{\n{body}}}\n"));
        assert_eq!(faults, ["a.rs:2: fn long has 102 lines"]);
    }

    #[test]
    fn a_pure_file_may_name_the_clock_in_comments_and_tests_only() {
        let text = format!("{LICENCE}\n// No Instant::now here.\n#[cfg(test)]\nmod t {{}}\n// x\n");
        assert!(faults_of("lb-agent/src/vrrp/fsm.rs", &text).is_empty());
        let text = format!("{LICENCE}\nlet now = Instant::now();\n");
        assert_eq!(faults_of("lb-agent/src/vrrp/fsm.rs", &text).len(), 1);
    }

    #[test]
    fn the_tree_keeps_the_rules() {
        let mut faults = Vec::new();
        check_sources(&tracked_files().unwrap(), &mut faults);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
