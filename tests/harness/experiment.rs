// SPDX-License-Identifier: MIT OR Apache-2.0
//! The experiments that suites, demo and benchmark share, so that all measure the same thing.
//!
//! In: a site. Out: figures. Takeover time is the first advert or gratuitous ARP of the new
//! MASTER, stamped by the kernel, less the moment of the kill or of the request to stop.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::config::{DirectorConfig, Speed};
use crate::director::Director;
use crate::observer::{Moment, Observer};
use crate::process::describe;
use crate::site::{Site, VIP};
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
    /// SIGTERM: an advert of priority 0 says goodbye.
    Stop,
}

impl Departure {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL",
            Self::Stop => "graceful stop",
        }
    }

    /// The longest takeover that a backup of `priority` may need, in milliseconds.
    ///
    /// RFC 9568 §6.1: a backup waits three intervals and its skew time; §6.4.2: after an advert
    /// of priority 0, its skew time alone.
    pub fn bound_ms(self, speed: Speed, priority: u8) -> f64 {
        let silence = if self == Self::Kill {
            3.0 * speed.advert_ms()
        } else {
            0.0
        };
        silence + speed.skew_ms(priority) + TOLERANCE_MS
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

/// Waits until d1 alone is MASTER, both daemons run, and d1 has sent adverts since.
pub fn await_steady(observer: &Observer, directors: &mut [Director; 2]) -> Result<()> {
    let [first, second] = directors;
    first.await_address(VIP, ELECTION)?;
    let since = Moment::now();
    wait::until_true(ELECTION, "d1 to be the only MASTER", || {
        let loud = observer.adverts(since, first.name()).len() >= 2;
        loud && !second.host().has_address(VIP)
    })?;
    first.expect_running()?;
    second.expect_running()
}

/// Makes d1 go and returns the takeover time of d2 in milliseconds. d2 is MASTER afterwards.
pub fn takeover(site: &mut Site, departure: Departure) -> Result<f64> {
    let [first, second] = &mut site.directors;
    let moment = match departure {
        Departure::Kill => first.sigkill()?,
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

/// Starts d1 again and waits until it has taken the MASTER role back.
pub fn come_back(site: &mut Site) -> Result<f64> {
    let moment = Moment::now();
    site.directors[0].restart()?;
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
