// SPDX-License-Identifier: MIT OR Apache-2.0
//! The experiments that suites, demo and benchmark share, so that all measure the same thing.
//!
//! In: a site. Out: figures. Takeover time is the first advert or gratuitous ARP of the new
//! MASTER, stamped by the kernel, less the moment of the kill or of the request to stop.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::config::{DirectorConfig, Speed};
use crate::director::{Director, Software};
use crate::observer::{Moment, Observer};
use crate::pinger::{Outage, Pinger};
use crate::process::describe;
use crate::site::{Site, VIP};
use crate::status::Status;
use crate::wait;

/// Longer than any election of these experiments takes.
pub const ELECTION: Duration = Duration::from_secs(10);

/// What scheduling and the wire may add to the protocol's own times, in milliseconds.
const TOLERANCE_MS: f64 = 50.0;

/// How the MASTER goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Departure {
    /// SIGKILL: nobody says goodbye.
    Kill,
    /// As a power cut: killed, and off the LAN.
    Power,
    /// SIGSTOP of everything: it comes back as if no time had passed.
    Pause,
    /// SIGTERM: an advert of priority 0 says goodbye.
    Stop,
}

impl Departure {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL",
            Self::Power => "power cut",
            Self::Pause => "SIGSTOP",
            Self::Stop => "graceful stop",
        }
    }

    /// The longest takeover that a backup of `priority` may need, in milliseconds, on a busy machine.
    pub fn bound_ms(self, speed: Speed, priority: u8) -> f64 {
        self.wait_ms(speed, priority) + TOLERANCE_MS
    }

    /// What the protocol itself has that backup wait at the longest, in milliseconds.
    ///
    /// RFC 9568 §6.1: a backup waits three intervals and its skew time; §6.4.2: after an advert
    /// of priority 0, its skew time alone.
    pub fn wait_ms(self, speed: Speed, priority: u8) -> f64 {
        let silence = if self == Self::Stop {
            0.0
        } else {
            3.0 * speed.advert_ms()
        };
        silence + speed.skew_ms(priority)
    }
}

/// Starts both directors and waits until d1 is MASTER and d2 has heard it.
pub fn elect(site: &mut Site, configs: &[DirectorConfig; 2]) -> Result<()> {
    let [first, second] = &mut site.directors;
    first.start(&configs[0].text())?;
    first.await_address(VIP, ELECTION)?;
    second.start(&configs[1].text())?;
    await_steady(&site.observer, &mut site.directors)
}

/// Waits until d1 alone is MASTER, both daemons run, and d1 has sent adverts since. Of xlvs the agents
/// themselves must say so: a supervisor may speak for one that is still loading the packet program,
/// and a peer that does so hears nothing yet.
pub fn await_steady(observer: &Observer, directors: &mut [Director; 2]) -> Result<()> {
    let [first, second] = directors;
    first.await_address(VIP, ELECTION)?;
    let since = Moment::now();
    wait::until_true(ELECTION, "d1 to be the only MASTER", || {
        let loud = observer.adverts(since, first.name()).len() >= 2;
        loud && !second.host().has_address(VIP)
    })?;
    for (director, state) in [(first, "MASTER"), (second, "BACKUP")] {
        director.expect_running()?;
        if director.software() == Software::Xlvs {
            let is_there = |status: &Status| status.state() == state;
            director.await_status(state, ELECTION, is_there)?;
        }
    }
    Ok(())
}

/// Makes d1 go and returns the takeover time of d2 in milliseconds. d2 is MASTER afterwards.
pub fn takeover(site: &mut Site, departure: Departure) -> Result<f64> {
    let [first, second] = &mut site.directors;
    let moment = match departure {
        Departure::Kill => first.sigkill()?,
        Departure::Power => first.power_off(VIP)?,
        Departure::Pause => first.pause()?,
        Departure::Stop => {
            let (moment, status) = first.sigterm()?;
            if !status.success() {
                bail!(
                    "{} did not stop gracefully: {}",
                    first.name(),
                    describe(status)
                );
            }
            moment
        }
    };
    let what = format!("d2 to take over after {}", departure.name());
    let event = wait::until(ELECTION, &what, || {
        site.observer.takeover(moment, first.name())
    })
    .with_context(|| format!("d2's log ends: {}", second.log_tail()))?;
    second.await_address(VIP, ELECTION)?;
    Ok(event.at.ms_since(moment))
}

/// What the pinger of [`outage`] must see before and after.
const ANSWERS: usize = 200;

/// What else may happen to a MASTER that is d1, and after which d1 is MASTER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Incident {
    /// SIGKILL of the agent alone (keepalived: its VRRP child); its parent lives.
    Crash,
    /// `xlvs failover`, there.
    Handover,
    /// `xlvs failover` on the other one, back.
    Handback,
}

impl Incident {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "SIGKILL of the agent alone",
            Self::Handover => "xlvs failover",
            Self::Handback => "xlvs failover back",
        }
    }
}

/// Has `happen` happen, and tells how long, and how many times, the VIP did not answer.
pub fn outage<T>(
    site: &mut Site,
    happen: impl FnOnce(&mut Site) -> Result<T>,
) -> Result<(T, Outage)> {
    let pinger = Pinger::start(&site.client, VIP)?;
    let answers = |more: &str| {
        let enough = pinger.answered() + ANSWERS;
        wait::until_true(ELECTION, more, || pinger.answered() >= enough)
    };
    answers("the VIP to answer")?;
    let happened = happen(site)?;
    answers("the VIP to answer again")?;
    Ok((happened, pinger.finish()))
}

/// Has something happen to d1, or d2 hand back, and waits until it is over.
pub fn incident(site: &mut Site, incident: Incident) -> Result<()> {
    match incident {
        Incident::Crash => {
            site.directors[0].crash_children()?;
            await_steady(&site.observer, &mut site.directors)
        }
        Incident::Handover | Incident::Handback => {
            let from = usize::from(incident == Incident::Handback);
            let status = site.directors[from].fail_over()?;
            if status != Some(0) {
                bail!("xlvs failover failed: {status:?}");
            }
            site.directors[1 - from].await_address(VIP, ELECTION)
        }
    }
}

/// Starts d1 again and waits until it has taken the MASTER role back.
pub fn come_back(site: &mut Site) -> Result<f64> {
    let moment = Moment::now();
    site.directors[0].come_back()?;
    let Site {
        directors,
        observer,
        ..
    } = site;
    let event = wait::until(ELECTION, "d1 to take the MASTER role back", || {
        let ended = directors[0].expect_running().err();
        ended
            .map(Err)
            .or_else(|| observer.takeover(moment, "d2").map(Ok))
    })
    .with_context(|| format!("d1's log ends: {}", directors[0].log_tail()))??;
    await_steady(observer, directors)?;
    Ok(event.at.ms_since(moment))
}
