// SPDX-License-Identifier: MIT OR Apache-2.0
//! `xlvs check FILE`: reads a keepalived.conf and says what is the matter with it.
//!
//! Comes in: a path. Goes out: diagnostics on standard output, a closing line, an exit status like
//! `keepalived -t`'s. Invariant: reads only; nothing on the host changes. Called by the multi-call
//! command line.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config::diag::{Code, Severity};
use crate::config::{self, Loaded, render};

/// Nothing worse than information.
const CLEAN: u8 = 0;
/// A keyword lacks its value, where keepalived stops at once.
const MISSING_PARAMETER: u8 = 2;
/// The file cannot be read.
const UNREADABLE: u8 = 3;
/// At least one error: the file would not be applied.
const ERRORS: u8 = 4;
/// Warnings, but no error.
const WARNINGS: u8 = 5;

/// Reads a configuration file and reports mistakes; changes nothing.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Exit status, as with `keepalived -t`:
  0  clean (there may be information)
  2  a keyword lacks its value
  3  the file cannot be read
  4  errors: the file would not be applied
  5  warnings: the file would be applied, but does not do all it seems to say

NO_COLOR in the environment switches colours off; they are on only where the output is a terminal.")]
pub struct CheckArgs {
    /// The keepalived.conf to read.
    #[arg(default_value = "/etc/keepalived/keepalived.conf")]
    pub file: PathBuf,
    /// Print one JSON object per finding: file, line, column, length, severity, code, message, hint.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command. Output that cannot be written (a closed pipe) does not change the status.
pub fn run(args: &CheckArgs) -> ExitCode {
    let loaded = match config::read(&args.file) {
        Ok(loaded) => loaded,
        Err(error) => {
            // The message is the last thing to try; a closed standard error leaves the status.
            let _ = writeln!(
                io::stderr(),
                "xlvs: cannot read {}: {error}",
                args.file.display()
            );
            return ExitCode::from(UNREADABLE);
        }
    };
    let mut out = io::stdout().lock();
    let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let _ = if args.json {
        report_json(&loaded, &mut out)
    } else {
        report(&loaded, colour, &mut out)
    };
    ExitCode::from(status(&loaded))
}

/// The exit status that the findings call for.
fn status(loaded: &Loaded) -> u8 {
    if loaded.diagnostics.iter().any(|diagnostic| {
        diagnostic.code == Code::MissingParameter && diagnostic.severity == Severity::Error
    }) {
        return MISSING_PARAMETER;
    }
    match loaded.worst() {
        None | Some(Severity::Info) => CLEAN,
        Some(Severity::Warning) => WARNINGS,
        Some(Severity::Error) => ERRORS,
    }
}

fn report(loaded: &Loaded, colour: bool, out: &mut impl Write) -> io::Result<()> {
    for diagnostic in &loaded.diagnostics {
        writeln!(
            out,
            "{}\n",
            render::snippet(&loaded.source, diagnostic, colour)
        )?;
    }
    writeln!(out, "{}", summary(loaded))
}

fn report_json(loaded: &Loaded, out: &mut impl Write) -> io::Result<()> {
    for diagnostic in &loaded.diagnostics {
        writeln!(out, "{}", render::json(&loaded.source, diagnostic))?;
    }
    Ok(())
}

/// `FILE: 3 warnings, 1 error; would not be applied`.
fn summary(loaded: &Loaded) -> String {
    let count = |severity: Severity| {
        loaded
            .diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == severity)
            .count()
    };
    let counted =
        |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let applied = if loaded.is_applicable() {
        "would be applied"
    } else {
        "would not be applied"
    };
    let config = &loaded.config;
    format!(
        "{}: {}, {}; {applied} ({}, {})",
        loaded.source.name(),
        counted(count(Severity::Warning), "warning"),
        counted(count(Severity::Error), "error"),
        counted(config.vrrp_instances.len(), "vrrp_instance"),
        counted(config.virtual_servers.len(), "virtual_server"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANCE: &str =
        "interface eth0\nvirtual_router_id 5\nvirtual_ipaddress {\n192.0.2.9\n}\n";

    fn loaded(settings: &str) -> Loaded {
        config::parse(
            "t.conf",
            &format!("vrrp_instance A {{\n{INSTANCE}{settings}\n}}\n"),
        )
    }

    #[test]
    fn the_status_is_that_of_keepalived_t() {
        for (settings, expected) in [
            ("", CLEAN),
            ("nopremmpt", WARNINGS),
            ("vrf red", ERRORS),
            ("mcast_src_ip", MISSING_PARAMETER),
        ] {
            assert_eq!(status(&loaded(settings)), expected, "{settings}");
        }
    }

    #[test]
    fn the_closing_line_counts_and_concludes() {
        assert_eq!(
            summary(&loaded("nopremmpt\nmcast_src_ip")),
            "t.conf: 1 warning, 1 error; would not be applied (1 vrrp_instance, 0 virtual_servers)"
        );
        assert!(summary(&loaded("")).contains("0 warnings, 0 errors; would be applied"));
    }

    #[test]
    fn json_is_one_object_per_line() {
        let loaded = loaded("nopremmpt\nmcast_src_ip");
        let mut out = Vec::new();
        report_json(&loaded, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), loaded.diagnostics.len());
        for line in text.lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(row["file"], "t.conf");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_has_a_status_of_its_own() {
        let args = CheckArgs {
            file: "/nonexistent/keepalived.conf".into(),
            json: false,
        };
        assert_eq!(
            format!("{:?}", run(&args)),
            format!("{:?}", ExitCode::from(UNREADABLE))
        );
    }
}
