// SPDX-License-Identifier: MIT OR Apache-2.0
//! Network namespaces by name, as `ip netns` makes them, so that a person can look into them.
//!
//! In: a name. Out: a [`Namespace`] that processes and threads can enter. Invariant: dropping it
//! ends every process inside and deletes it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// Where `ip netns` keeps its names.
const DIRECTORY: &str = "/run/netns";

/// Every name begins so, followed by the process that raised it.
const PREFIX: &str = "xl-";

/// A network namespace of this laboratory.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes a namespace with its loopback interface up.
    pub fn create(name: &str) -> Result<Self> {
        ip(&["netns", "add", name])?;
        let path = PathBuf::from(DIRECTORY).join(name);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        ip(&["-n", name, "link", "set", "dev", "lo", "up"])?;
        Ok(Self {
            name: name.to_owned(),
            file,
        })
    }

    /// Its name for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` inside and returns what it printed.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        ip(&[&["-n", &self.name], arguments].concat())
    }

    /// The descriptor that `setns` takes.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Moves the calling **thread** into this namespace for the rest of its life.
    pub fn enter(&self) -> Result<()> {
        setns(self.fd(), CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter namespace {}", self.name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = delete(&self.name) {
            eprintln!("laboratory: {error:#}");
        }
    }
}

/// Runs `ip`; an error carries what it said.
pub fn ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("cannot start ip")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("ip {} failed: {}", arguments.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The beginning of all names of one process.
pub fn prefix_of(pid: u32) -> String {
    format!("{PREFIX}{pid}-")
}

/// Deletes the namespaces of processes that no longer exist; returns their names.
pub fn reap_leftovers() -> Result<Vec<String>> {
    let dead = |name: &String| {
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        let pid = pid.and_then(|digits| digits.parse::<u32>().ok());
        pid.is_some_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists())
    };
    let leftovers: Vec<String> = names()?.into_iter().filter(dead).collect();
    for name in &leftovers {
        if let Err(error) = delete(name) {
            // Another run may have been faster.
            if names()?.contains(name) {
                return Err(error);
            }
        }
    }
    Ok(leftovers)
}

/// Deletes every namespace that this process raised; for an interrupted run.
pub fn reap_own() -> Result<()> {
    let prefix = prefix_of(std::process::id());
    names()?
        .iter()
        .filter(|name| name.starts_with(&prefix))
        .try_for_each(|name| delete(name))
}

fn names() -> Result<Vec<String>> {
    let Ok(entries) = std::fs::read_dir(DIRECTORY) else {
        return Ok(Vec::new()); // No namespace was ever made on this machine.
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names
        .collect::<std::io::Result<_>>()
        .context("cannot list network namespaces")
}

/// Kills what runs inside, awaits its end and removes the name.
fn delete(name: &str) -> Result<()> {
    wait::until_true(
        Duration::from_secs(5),
        "processes of a namespace to end",
        || {
            // A zombie no longer lists: only what still runs counts.
            let inside = ip(&["netns", "pids", name]).unwrap_or_default();
            // Each time anew: one may have come in, or been forked, since the last look.
            for pid in inside.lines().filter_map(|line| line.trim().parse().ok()) {
                // It may have ended by itself in the meantime.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            inside.trim().is_empty()
        },
    )?;
    ip(&["netns", "del", name]).map(drop)
}
