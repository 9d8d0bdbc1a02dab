// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes on a laboratory host: started inside its namespaces, logged to a file, ended for sure.
//!
//! In: a command and a namespace. Out: a [`Process`] whose log can be read at any time.
//! Invariant: no process outlives the thread that started it; where that is killed, the kernel
//! sends SIGTERM (`PR_SET_PDEATHSIG`).

#![expect(
    unsafe_code,
    reason = "entering a namespace between fork and exec needs CommandExt::pre_exec"
)]

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::unistd::Pid;

use crate::netns::Namespace;
use crate::wait;

/// A command that will run inside `namespace`, with a `/sys` that shows this namespace.
pub fn command(namespace: &Namespace, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    let fd = namespace
        .fd()
        .try_clone_to_owned()
        .context("cannot keep a namespace open")?;
    let enter = move || -> std::io::Result<()> {
        set_pdeathsig(Signal::SIGTERM)?;
        // The harness may block signals in its own threads; its children must not inherit that.
        SigSet::empty().thread_set_mask()?;
        setns(&fd, CloneFlags::CLONE_NEWNET)?;
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none)?;
        umount2("/sys", nix::mount::MntFlags::MNT_DETACH)?;
        mount(Some("lab"), "/sys", Some("sysfs"), MsFlags::empty(), none)?;
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made; nix copies these short paths to
    // the stack, so nothing is allocated and no lock is taken.
    unsafe { command.pre_exec(enter) };
    Ok(command)
}

/// A running program with its own process group.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; both its outputs go to `log`, after what the file already holds.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open log {}", log.display()))?;
        let child = command
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends `signal` to the program alone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Sends `signal` to the program and everything that belongs to it.
    pub fn signal_all(&self, signal: Signal) -> Result<()> {
        killpg(self.pid(), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Ends it and all its children at one stroke, as a power cut would, and waits for the end.
    pub fn kill_all(&mut self) -> Result<()> {
        killpg(self.pid(), Signal::SIGKILL)
            .with_context(|| format!("cannot kill {}", self.name))?;
        self.await_end(Duration::from_secs(5)).map(drop)
    }

    /// Waits for the end; an error after `deadline`.
    pub fn await_end(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        wait::until(deadline, &what, || self.ended())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() && self.signal(Signal::SIGTERM).is_ok() {
            let _ = self.await_end(Duration::from_secs(2));
        }
        // Children in its group may be left even where it ended by itself.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// An exit status in a person's words.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "unknown end".to_owned(),
    }
}
