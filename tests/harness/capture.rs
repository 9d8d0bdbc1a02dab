// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the wire carried: tcpdump on a host's port of the bridge, and tshark to judge it.
//!
//! In: a port's name. Out: a pcap file among the laboratory's files, which are kept when a test
//! fails. The port sees what XDP sends and takes, which the host's own taps do not.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::lab::Lab;
use crate::process::{self, Process};
use crate::wait;

/// A capture in progress; it ends when dropped or finished.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Process,
    file: PathBuf,
}

impl Capture {
    /// Captures what passes the port of `host` and matches tcpdump's `filter`.
    pub fn start(lab: &Lab, host: &str, filter: &str) -> Result<Self> {
        let file = lab.directory().join(format!("{host}.pcap"));
        let log = lab.directory().join(format!("{host}.tcpdump.log"));
        let mut command = process::command(&lab.lan(), "tcpdump")?;
        command.args([
            "-i",
            host,
            "-n",
            "-U",
            "-s",
            "128",
            "--immediate-mode",
            "-Z",
            "root",
            "-w",
        ]);
        command.arg(&file).arg(filter);
        let mut tcpdump = Process::start("tcpdump", command, &log)?;
        let listening = wait::until_true(Duration::from_secs(5), "tcpdump to listen", || {
            tcpdump.ended().is_some() || tcpdump.log().contains("listening on")
        });
        if let (Err(_), _) | (_, Some(_)) = (&listening, tcpdump.ended()) {
            bail!("tcpdump does not start: {}", tcpdump.log());
        }
        Ok(Self { tcpdump, file })
    }

    /// Ends the capture and returns its file.
    pub fn finish(self) -> PathBuf {
        drop(self.tcpdump);
        self.file
    }
}

/// Runs tshark over a capture and prints the given `fields` of each packet that matches `filter`.
pub fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Result<Vec<Vec<String>>> {
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(file)
        .args(["-n", "-Y", filter, "-T", "fields"]);
    // RFC 9568 adverts carry a checksum over a pseudo-header; tshark checks it when asked.
    command.args(["-o", "ip.check_checksum:TRUE"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().context("cannot start tshark")?;
    if !output.status.success() {
        bail!(
            "tshark failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect())
}
