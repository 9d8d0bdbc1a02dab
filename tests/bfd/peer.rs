// SPDX-License-Identifier: MIT OR Apache-2.0
//! Neighbours of other makes: Debian's bird2 and keepalived.
//!
//! In: a host, own address and ours. Out: a running daemon, and what it thinks of the session.

use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context, Result, bail};
use xlvs_tests::director::{Director, Software};
use xlvs_tests::lab::Host;
use xlvs_tests::process::Process;

/// Which daemon the neighbour runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Make {
    /// bird 2.
    Bird,
    /// keepalived, with BFD and no checkers.
    Keepalived,
}

/// A neighbour that runs.
pub(crate) enum Peer {
    Bird(Host, Process),
    Keepalived(Director),
}

/// The neighbour's timing: a packet every 100 ms each way, five of which may be missed.
pub(crate) const TIMING: &str = "min_rx 100\nmin_tx 100\nmultiplier 5";

impl Peer {
    pub(crate) fn start(make: Make, host: &Host, own: IpAddr, other: IpAddr) -> Result<Self> {
        match make {
            Make::Bird => {
                let text = format!(
                    "log stderr all;\nrouter id {};\nprotocol device {{}}\nprotocol bfd {{\n  \
                     interface \"eth0\" {{\n    min rx interval 100 ms;\n    \
                     min tx interval 100 ms;\n    idle tx interval 1000 ms;\n    multiplier 5;\n  \
                     }};\n  neighbor {other} dev \"eth0\" local {own};\n}}\n",
                    host.address()
                );
                std::fs::write(host.path("bird.conf"), text)?;
                require("bird", "bird2")?;
                let mut command = host.command("bird")?;
                command.arg("-f").arg("-c").arg(host.path("bird.conf"));
                command.arg("-s").arg(host.path("bird.ctl"));
                command.arg("-P").arg(host.path("bird.pid"));
                let process = Process::start("bird", command, &host.path("bird.log"))?;
                Ok(Self::Bird(host.clone(), process))
            }
            Make::Keepalived => {
                require("keepalived", "keepalived")?;
                // Its daemon for BFD starts only with something that listens to it.
                let text = format!(
                    "bfd_instance other {{\nneighbor_ip {other}\nsource_ip {own}\n{TIMING}\n\
                     hoplimit 255\n}}\nvrrp_instance P {{\ninterface eth0\nvirtual_router_id 99\n\
                     virtual_ipaddress {{\n192.0.2.199\n}}\ntrack_bfd {{\nother\n}}\n}}\n"
                );
                let text = if own.is_ipv4() {
                    text.replace("hoplimit 255\n", "")
                } else {
                    text
                };
                let mut director = Director::new(host.clone(), Software::Keepalived);
                director.start(&text)?;
                Ok(Self::Keepalived(director))
            }
        }
    }

    /// Whether it holds the session up.
    pub(crate) fn is_up(&self) -> bool {
        match self {
            Self::Bird(host, _) => Self::sessions(host).contains(" Up "),
            Self::Keepalived(director) => {
                let log = director.log();
                let last = log.lines().rfind(|line| line.contains("Entering"));
                last.is_some_and(|line| {
                    line.contains("Entering Up")
                        || line.contains("BACKUP STATE")
                        || line.contains("MASTER STATE")
                })
            }
        }
    }

    fn sessions(host: &Host) -> String {
        let asked = host.command("birdc").and_then(|mut command| {
            command.arg("-s").arg(host.path("bird.ctl"));
            Ok(command.args(["show", "bfd", "sessions"]).output()?)
        });
        asked.map_or_else(
            |error| error.to_string(),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }

    /// What it says, for messages.
    pub(crate) fn says(&self) -> String {
        match self {
            Self::Bird(host, process) => format!("{}\n{}", Self::sessions(host), process.log()),
            Self::Keepalived(director) => director.log_tail(),
        }
    }

    /// Ends it without a word.
    pub(crate) fn kill(self) -> Result<()> {
        match self {
            Self::Bird(_, mut process) => process.kill_all(),
            Self::Keepalived(mut director) => director.sigkill().map(drop),
        }
    }
}

fn require(program: &str, package: &str) -> Result<()> {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .context("cannot start sh")?;
    if !found.status.success() {
        bail!(
            "there is no {program}; run `cargo xtask setup` (on Debian: apt-get install {package})"
        );
    }
    Ok(())
}
