// SPDX-License-Identifier: MIT OR Apache-2.0
//! A director: a host that runs xlvs or Debian's keepalived with a keepalived.conf of its own.
//!
//! In: a host and the file's text. Out: a running daemon that can be killed, stopped, reloaded and
//! asked. Invariant: both kinds are driven alike, so an experiment measures either the same way.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

use crate::lab::{self, Host};
use crate::observer::Moment;
use crate::process::{Process, describe};
use crate::status::Status;
use crate::wait;

/// Names another xlvs than `target/release/xlvs`.
const BINARY: &str = "XLVS_BINARY";

/// What a director runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Software {
    /// This project's agent.
    Xlvs,
    /// Debian's keepalived, its VRRP half.
    Keepalived,
}

impl Software {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xlvs => "xlvs",
            Self::Keepalived => "keepalived",
        }
    }
}

/// A director on its host.
#[derive(Debug)]
pub struct Director {
    process: Option<Process>,
    software: Software,
    host: Host,
    /// Where the agent pins its maps and attachments: a BPF file system that no agent's end takes
    /// along.
    pins: Option<PathBuf>,
    /// Another binary than the usual one.
    binary: Option<PathBuf>,
}

impl Drop for Director {
    fn drop(&mut self) {
        self.process = None;
        if let Some(pins) = &self.pins {
            let _ = umount2(pins, MntFlags::MNT_DETACH);
        }
    }
}

impl Director {
    /// A director that does not run yet.
    pub fn new(host: Host, software: Software) -> Self {
        Self {
            process: None,
            software,
            host,
            pins: None,
            binary: None,
        }
    }

    /// From the next start on, runs this binary.
    pub fn upgrade_to(&mut self, binary: PathBuf) {
        self.binary = Some(binary);
    }

    /// The host that it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its host's name.
    pub fn name(&self) -> &str {
        self.host.name()
    }

    /// What it runs.
    pub fn software(&self) -> Software {
        self.software
    }

    /// The process id of the daemon while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The file that the daemon reads.
    pub fn config_path(&self) -> PathBuf {
        self.host.path("keepalived.conf")
    }

    /// Writes the daemon's file.
    pub fn write_config(&self, text: &str) -> Result<()> {
        let path = self.config_path();
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Writes the file and starts the daemon.
    pub fn start(&mut self, config: &str) -> Result<()> {
        self.write_config(config)?;
        self.restart()
    }

    /// Starts the daemon with the file that is there.
    pub fn restart(&mut self) -> Result<()> {
        self.process = None;
        let command = match self.software {
            Software::Xlvs => self.xlvs_command()?,
            Software::Keepalived => self.keepalived_command()?,
        };
        let name = format!("{} on {}", self.software.name(), self.host.name());
        self.process = Some(Process::start(
            &name,
            command,
            &self.host.path("daemon.log"),
        )?);
        Ok(())
    }

    /// Kills the daemon and everything that belongs to it, as a crash would; returns the moment.
    pub fn sigkill(&mut self) -> Result<Moment> {
        let mut process = self.process.take().context("the director does not run")?;
        let moment = Moment::now();
        process.kill_all()?;
        Ok(moment)
    }

    /// Kills the agent alone, not its supervisor; returns the moment.
    pub fn crash_agent(&mut self) -> Result<Moment> {
        let agent = Pid::from_raw(self.status()?.pid.cast_signed());
        anyhow::ensure!(
            Some(agent.as_raw().cast_unsigned()) != self.pid(),
            "the agent has no supervisor"
        );
        let moment = Moment::now();
        kill(agent, Signal::SIGKILL).context("cannot kill the agent")?;
        Ok(moment)
    }

    /// Cuts its host off the LAN and kills the daemon, as a power cut does; returns the moment.
    /// `address` does not outlive it. [`Director::come_back`] ends it.
    pub fn power_off(&mut self, address: std::net::Ipv4Addr) -> Result<Moment> {
        let moment = self.sigkill()?;
        let interface = lab::INTERFACE;
        self.host.run("ip", &["link", "set", interface, "down"])?;
        let address = address.to_string();
        let flush = ["address", "flush", "dev", interface, "to", &address];
        self.host.run("ip", &flush)?;
        Ok(moment)
    }

    /// Stops the daemon and everything that belongs to it in its tracks; returns the moment.
    /// [`Director::come_back`] lets it go on.
    pub fn pause(&mut self) -> Result<Moment> {
        let process = self.process.as_ref().context("the director does not run")?;
        let moment = Moment::now();
        process.signal_all(Signal::SIGSTOP)?;
        Ok(moment)
    }

    /// Lets a paused daemon go on, or starts it anew, on the LAN.
    pub fn come_back(&mut self) -> Result<()> {
        self.host
            .run("ip", &["link", "set", lab::INTERFACE, "up"])?;
        match &self.process {
            Some(process) => process.signal_all(Signal::SIGCONT),
            None => self.restart(),
        }
    }

    /// Kills the processes below the daemon alone: keepalived's VRRP child, or the agent.
    pub fn crash_children(&mut self) -> Result<Moment> {
        let pid = self.pid().context("the director does not run")?;
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let moment = Moment::now();
        for child in children.split_whitespace() {
            kill(Pid::from_raw(child.parse()?), Signal::SIGKILL)?;
        }
        Ok(moment)
    }

    /// Asks the daemon to stop and waits for its end; returns the moment of asking and the status.
    pub fn sigterm(&mut self) -> Result<(Moment, ExitStatus)> {
        let mut process = self.process.take().context("the director does not run")?;
        let moment = Moment::now();
        process.signal(Signal::SIGTERM)?;
        let status = process.await_end(Duration::from_secs(10))?;
        Ok((moment, status))
    }

    /// Has the agent end and leave everything as it is for a successor.
    pub fn leave(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the director does not run")?;
        let control = self.control_path();
        let mut command = self.host.command(binary()?)?;
        let status = command.args(["leave", "--control"]).arg(control).status()?;
        anyhow::ensure!(status.success(), "xlvs leave failed");
        process.await_end(Duration::from_secs(10)).map(drop)
    }

    /// Hands every role over that this director has; the exit status of `xlvs failover`.
    pub fn fail_over(&self) -> Result<Option<i32>> {
        let mut command = self.host.command(binary()?)?;
        command.args(["failover", "--all", "--control"]);
        Ok(command.arg(self.control_path()).status()?.code())
    }

    /// Asks the daemon to read its file again.
    pub fn reload(&self) -> Result<()> {
        self.process
            .as_ref()
            .context("the director does not run")?
            .signal(Signal::SIGHUP)
    }

    /// Everything the daemon has logged, over all its runs.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.host.path("daemon.log")).unwrap_or_default()
    }

    /// Waits until all real servers are UP and their MAC addresses are known.
    pub fn await_servers_up(&mut self, deadline: Duration) -> Result<()> {
        self.await_status("all servers UP with a MAC", deadline, |status| {
            let mut servers = status
                .services
                .iter()
                .flat_map(|service| &service.real_servers);
            servers.all(|server| server.state == "UP" && server.mac.is_some())
        })
        .map(drop)
    }

    /// An error with the end of the log, unless the daemon still runs.
    pub fn expect_running(&mut self) -> Result<()> {
        let Some(process) = self.process.as_mut() else {
            bail!("{} does not run", self.host.name());
        };
        if let Some(status) = process.ended() {
            bail!(
                "{} ended ({}): {}",
                self.host.name(),
                describe(status),
                self.log_tail()
            );
        }
        Ok(())
    }

    /// Waits until this host carries `address`: the sign of the MASTER role that clients see.
    pub fn await_address(&mut self, address: std::net::Ipv4Addr, deadline: Duration) -> Result<()> {
        let what = format!("{} to carry {address}", self.host.name());
        let found = wait::until(deadline, &what, || {
            let ended = self.expect_running().err();
            ended
                .map(Err)
                .or_else(|| self.host.has_address(address).then_some(Ok(())))
        });
        found.with_context(|| format!("its log ends: {}", self.log_tail()))?
    }

    /// What `xlvs status --json` answers; an error while the agent does not answer.
    pub fn status(&self) -> Result<Status> {
        let output = self
            .host
            .command(binary()?)?
            .args(["status", "--json", "--control"])
            .arg(self.control_path())
            .output()
            .context("cannot start xlvs status")?;
        if !output.status.success() {
            bail!(
                "xlvs status failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "cannot read xlvs status: {}",
                String::from_utf8_lossy(&output.stdout)
            )
        })
    }

    /// What `xlvs trace --json` answers to these arguments.
    pub fn trace(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let mut command = self.host.command(binary()?)?;
        command.args(["trace", "--json", "--control"]);
        let output = command.arg(self.control_path()).args(arguments).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("xlvs trace failed: {}", said.trim());
        }
        serde_json::from_slice(&output.stdout).context("cannot read xlvs trace")
    }

    /// Starts `xlvs trace --follow --json` with these arguments, and returns it once it follows. What
    /// it says is in its log.
    pub fn follow(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        let mut command = self.host.command(binary()?)?;
        command.args(["trace", "--follow", "--json", "--control"]);
        command.arg(self.control_path()).args(arguments);
        let log = self.host.path(&format!("{name}.log"));
        let mut follower = Process::start(name, command, &log)?;
        let what = format!("{name} to follow");
        wait::until_true(Duration::from_secs(180), &what, || {
            follower.log().contains("following packets") || follower.ended().is_some()
        })?;
        if follower.ended().is_some() {
            bail!("{name} ended: {}", follower.log());
        }
        Ok(follower)
    }

    /// Waits until the agent's status satisfies `condition`.
    pub fn await_status(
        &mut self,
        what: &str,
        deadline: Duration,
        condition: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        let mut last = String::from("no answer");
        let found = wait::until(deadline, &format!("{}: {what}", self.host.name()), || {
            if let Err(ended) = self.expect_running() {
                return Some(Err(ended));
            }
            match self.status() {
                Ok(status) if condition(&status) => return Some(Ok(status)),
                Ok(status) => last = format!("{status:?}"),
                Err(error) => last = format!("{error:#}"),
            }
            None
        });
        found.with_context(|| format!("last status: {last}; its log ends: {}", self.log_tail()))?
    }

    /// The last lines of the log, for messages.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!(
            "\n    {}",
            lines[lines.len().saturating_sub(15)..].join("\n    ")
        )
    }

    fn control_path(&self) -> PathBuf {
        self.host.path("control.sock")
    }

    /// The agent runs under a `/sys` of its own, in which nothing would stay.
    fn pins(&mut self) -> Result<PathBuf> {
        if let Some(pins) = &self.pins {
            return Ok(pins.clone());
        }
        let pins = self.host.path("bpf");
        std::fs::create_dir_all(&pins)?;
        let none: Option<&str> = None;
        mount(Some("bpf"), &pins, Some("bpf"), MsFlags::empty(), none)
            .context("cannot mount a BPF file system")?;
        self.pins = Some(pins.clone());
        Ok(pins)
    }

    fn xlvs_command(&mut self) -> Result<Command> {
        let pins = self.pins()?;
        let binary = match &self.binary {
            Some(binary) => binary.clone(),
            None => binary()?,
        };
        let mut command = self.host.command(binary)?;
        command.arg("run").arg("--config").arg(self.config_path());
        command.arg("--pins").arg(pins);
        command.arg("--control").arg(self.control_path());
        Ok(command)
    }

    fn keepalived_command(&self) -> Result<Command> {
        // KEEPALIVED: it refuses to start while a pid file names a process, even a dead one that
        // nobody has reaped yet. A host that comes back after a crash has an empty /run.
        let names = [
            "keepalived.pid",
            "keepalived-vrrp.pid",
            "keepalived-bfd.pid",
        ];
        let pid_files = names.map(|file| self.host.path(file));
        for file in &pid_files {
            let _ = std::fs::remove_file(file);
        }
        let mut command = self.host.command("keepalived")?;
        // This kernel need not have ip_vs: the VRRP half alone is what we compare with.
        command.args([
            "--dont-fork",
            "--log-console",
            "--log-detail",
            "--vrrp",
            "--no-syslog",
        ]);
        command.arg("--use-file").arg(self.config_path());
        command.arg("--pid").arg(self.host.path("keepalived.pid"));
        command
            .arg("--vrrp_pid")
            .arg(self.host.path("keepalived-vrrp.pid"));
        command
            .arg("--bfd_pid")
            .arg(self.host.path("keepalived-bfd.pid"));
        Ok(command)
    }
}

/// The agent's binary.
pub fn binary() -> Result<PathBuf> {
    let path = std::env::var_os(BINARY).map_or_else(
        || lab::workspace().join("target/release/xlvs"),
        PathBuf::from,
    );
    if !path.exists() {
        bail!("there is no {}; run `cargo xtask build`", path.display());
    }
    Ok(path)
}
