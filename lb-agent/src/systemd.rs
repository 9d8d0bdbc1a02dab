// SPDX-License-Identifier: MIT OR Apache-2.0
//! What systemd is told of a `Type=notify` service, and its watchdog.
//!
//! In: moments of the agent's life. Out: messages to the socket in `NOTIFY_SOCKET`, if there is
//! one. Called by the application. Invariant: without systemd nothing happens.

use std::future::pending;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::warn;

/// A moment that systemd wants to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// It runs, or a reload is over.
    Ready,
    /// A reload begins.
    Reloading,
    /// It stops.
    Stopping,
    /// Its loop still turns.
    Alive,
}

/// Tells systemd.
pub(crate) fn tell(moment: Moment) {
    let told = match moment {
        Moment::Ready => sd_notify::notify(&[NotifyState::Ready]),
        Moment::Reloading => match NotifyState::monotonic_usec_now() {
            Ok(now) => sd_notify::notify(&[NotifyState::Reloading, now]),
            Err(cause) => Err(cause),
        },
        Moment::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        Moment::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
    };
    if let Err(cause) = told {
        warn!("cannot tell systemd that the agent is {moment:?}: {cause}");
    }
}

/// `WatchdogSec=`: systemd restarts an agent whose loop does not turn any more.
#[derive(Debug)]
pub(crate) struct Watchdog(Option<Interval>);

impl Watchdog {
    /// As the environment asks for it: a sign of life in half the time.
    pub(crate) fn new() -> Self {
        let asked: Option<Duration> = sd_notify::watchdog_enabled();
        Self(asked.filter(|time| !time.is_zero()).map(|time| {
            let mut ticks = interval(time / 2);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        }))
    }

    /// Waits for the next sign of life. Cancel-safe.
    pub(crate) async fn due(&mut self) {
        match &mut self.0 {
            Some(ticks) => drop(ticks.tick().await),
            None => pending().await,
        }
    }
}
