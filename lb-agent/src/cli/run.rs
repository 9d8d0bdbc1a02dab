// SPDX-License-Identifier: MIT OR Apache-2.0
//! `xlvs run`: the agent in the foreground, and the supervisor that stands by it.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::log;
use crate::app;
use crate::control::ControlArgs;
use crate::dataplane::Pins;
use crate::supervisor::{self, link::Link};

/// Where keepalived looks for its configuration.
const DEFAULT_CONFIG: &str = "/etc/keepalived/keepalived.conf";

#[derive(Args)]
pub(super) struct RunArgs {
    /// Configuration file, in keepalived's language
    #[arg(short = 'f', long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Where in the BPF file system maps and attachments are pinned, so that a restart interrupts
    /// nothing [default: /sys/fs/bpf/xlvs/NETNS-CONTROL]
    #[arg(long, value_name = "DIR", env = "XLVS_PINS")]
    pins: Option<PathBuf>,
    /// Add all inputs and outputs of the VRRP state machines to FILE, for `xlvs replay`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Run the agent alone: nobody starts it again when it crashes, or gives its addresses up
    #[arg(long, alias = "dont-respawn")]
    no_supervisor: bool,
    #[command(flatten)]
    control: ControlArgs,
}

pub(super) fn run(args: RunArgs) -> Result<ExitCode> {
    log::init()?;
    let missing =
        missing_capabilities(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    if !missing.is_empty() {
        bail!("cannot run without {}: run as root", missing.join(", "));
    }
    let link = Link::find();
    if link.is_none() && !args.no_supervisor {
        let pins = Pins::of(&args.control.control, args.pins);
        return supervisor::run(&args.control.control, pins);
    }
    let options = app::Options {
        link,
        config: args.config,
        control: args.control.control,
        pins: args.pins,
        record: args.record,
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(app::run(options))?;
    Ok(ExitCode::SUCCESS)
}

/// What the agent cannot do without: load programs, change addresses and routes, send adverts.
/// Bits as in linux/capability.h.
const NEEDED: [(u32, &str); 3] = [(39, "CAP_BPF"), (12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW")];

/// Names of the needed capabilities that `status`, the text of /proc/self/status, does not show as
/// effective. A text without that line is believed to have all.
fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(effective) = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()) else {
        return Vec::new();
    };
    let lacks = |(bit, _): &&(u32, &str)| effective & (1 << bit) == 0;
    NEEDED.iter().filter(lacks).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        let status = |hex: &str| format!("Name:\txlvs\nCapEff:\t{hex}\nSeccomp:\t0\n");
        assert!(missing_capabilities(&status("000001ffffffffff")).is_empty());
        assert_eq!(
            missing_capabilities(&status("0000000000000000")),
            ["CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW"]
        );
        assert_eq!(
            missing_capabilities(&status("0000008000001000")),
            ["CAP_NET_RAW"]
        );
    }
}
