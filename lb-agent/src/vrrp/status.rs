// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be said about an instance from outside.
//!
//! In: nothing; these are plain records. Out: JSON for the control socket, figures for metrics.
//! Filled by [`super::driver::Driver::snapshot`]. Invariant: a record is a copy; holding it holds
//! nothing up.

use std::net::IpAddr;
use std::time::SystemTime;

use serde::Serialize;

use super::counters::{Counter, Counters};
use super::event::State;
use super::priority::Condition;
use super::rivals::Known;
use super::time::Nanos;
use crate::config::model::{Track, VrrpVersion};

/// One instance at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceStatus {
    /// Name of the `vrrp_instance`.
    pub name: String,
    /// State.
    pub state: State,
    /// Interface of its adverts.
    pub interface: String,
    /// Virtual router id.
    pub vrid: u8,
    /// Version.
    pub version: VrrpVersion,
    /// Configured priority.
    pub priority: u8,
    /// Priority it elects with.
    pub effective_priority: u8,
    /// Source of its adverts, absent while the interface has no address.
    pub source: Option<IpAddr>,
    /// The router last believed to be MASTER; absent before any was heard and while we are it.
    pub master: Option<IpAddr>,
    /// When it entered its state, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// Figures by name.
    pub counters: Counters,
    /// Routers heard advertising while this one was MASTER, the latest last; at most
    /// [`super::rivals::RIVALS_MAX`].
    pub rivals: Vec<Rival>,
    /// What it tracks, in the order of the file.
    pub tracks: Vec<TrackStatus>,
}

/// Something tracked and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrackStatus {
    /// The line of the configuration.
    #[serde(flatten)]
    pub track: Track,
    /// What is known.
    pub condition: Condition,
}

/// Another router that was MASTER of the same virtual router at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rival {
    /// Its address.
    pub address: IpAddr,
    /// Its priority.
    pub priority: u8,
    /// Seconds since its claim was heard first.
    pub claims_seconds: f64,
    /// Seconds since it was heard last.
    pub heard_seconds_ago: f64,
    /// Its adverts.
    pub adverts: u64,
    /// It did not step down when it heard us, and has not been silent since: a split brain.
    pub split_brain: bool,
    /// Name of the counter of its refused adverts; none when they are believed.
    pub refused: Option<&'static str>,
}

impl Rival {
    pub(super) fn new(known: &Known, now: Nanos) -> Self {
        Self {
            address: known.claim.src,
            priority: known.claim.priority,
            claims_seconds: now.since(known.first).as_secs_f64(),
            heard_seconds_ago: now.since(known.last).as_secs_f64(),
            adverts: known.adverts,
            split_brain: known.split,
            refused: known.claim.refused.map(Counter::name),
        }
    }
}

/// The wall clock, in milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |span| {
            u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
        })
}
