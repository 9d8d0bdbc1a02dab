// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent's end: it finds its supervisor, takes over what its predecessor left, and says what it
//! holds.
//!
//! The page is its standard input, which an agent has no other use for; the environment tells whose
//! it is. Invariant: an agent without a supervisor does without.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use tracing::{info, warn};

use super::page::{self, Held, Holdings};
use crate::vrrp::time::Nanos;

/// Names the supervisor's process, and the moment at which the agent before crashed (0: there was
/// none): `PID:NANOSECONDS:CRASHES`.
pub(super) const VARIABLE: &str = "XLVS_SUPERVISOR";

/// What an agent that crashed a moment ago held.
#[derive(Clone, Debug, Default)]
pub struct Inheritance {
    /// By instance.
    pub masters: BTreeMap<String, Held>,
    /// Its place is held until then.
    pub until: Nanos,
}

/// The way to the supervisor.
#[derive(Debug)]
pub struct Link {
    page: File,
    number: u64,
    supervisor: u32,
    crashes: u64,
    inheritance: Inheritance,
    failed: bool,
}

impl Link {
    /// The supervisor that started this process, if one did. From here on, its end is this one's
    /// (KEEPALIVED: so too).
    pub fn find() -> Option<Self> {
        let told = std::env::var(VARIABLE).ok()?;
        let mut told = told.split(':').map(|number| number.parse::<u64>().ok());
        let (pid, crashed_at, crashes) = (told.next()??, told.next()??, told.next()??);
        let is_parent = || u64::try_from(getppid().as_raw()).ok() == Some(pid);
        if !is_parent() {
            return None;
        }
        let found = Self::open(pid, crashed_at, crashes);
        if let Err(cause) = &found {
            warn!("cannot tell the supervisor anything: {cause}");
        }
        let death = prctl::set_pdeathsig(Signal::SIGTERM);
        if death.is_err() || !is_parent() {
            warn!("the supervisor is gone");
        }
        // It was started as /proc/self/exe.
        let _ = prctl::set_name(c"xlvs");
        found.ok()
    }

    fn open(pid: u64, crashed_at: u64, crashes: u64) -> io::Result<Self> {
        let page = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let (number, left) = page::read(&page).unwrap_or_default();
        let mut inheritance = Inheritance::default();
        if crashed_at > 0 {
            let named = left.masters.into_iter();
            inheritance.masters = named.map(|held| (held.name.clone(), held)).collect();
            inheritance.until = Nanos::new(crashed_at) + left.hold;
        }
        Ok(Self {
            page,
            number,
            supervisor: u32::try_from(pid).unwrap_or_default(),
            crashes,
            inheritance,
            failed: false,
        })
    }

    /// What the agent before held.
    pub fn inheritance(&self) -> &Inheritance {
        &self.inheritance
    }

    /// The supervisor's process id.
    pub fn supervisor(&self) -> u32 {
        self.supervisor
    }

    /// How often an agent crashed under this supervisor.
    pub fn crashes(&self) -> u64 {
        self.crashes
    }

    /// Says what is held.
    pub fn tell(&mut self, holdings: Holdings) {
        let holdings = Holdings {
            pid: process::id(),
            ..holdings
        };
        self.number += 1;
        match page::write(&self.page, self.number, &holdings) {
            Ok(()) => {
                if std::mem::take(&mut self.failed) {
                    info!("the supervisor hears again what this agent holds");
                }
            }
            Err(cause) => {
                if !std::mem::replace(&mut self.failed, true) {
                    warn!("cannot tell the supervisor what this agent holds: {cause}");
                }
            }
        }
    }
}
