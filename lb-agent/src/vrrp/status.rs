// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be said about an instance from outside.
//!
//! In: nothing; these are plain records. Out: JSON for the control socket, figures for metrics.
//! Filled by [`super::driver::Driver::snapshot`]. Invariant: a record is a copy; holding it holds
//! nothing up.

use std::net::IpAddr;
use std::time::SystemTime;

use serde::Serialize;

use super::counters::Counters;
use super::event::State;
use super::priority::Condition;
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
    /// [`RIVALS_MAX`].
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

/// Rivals remembered per instance: forged sources must not fill the memory.
pub const RIVALS_MAX: usize = 16;

/// Another router that was MASTER of the same virtual router at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rival {
    /// Its address.
    pub address: IpAddr,
    /// Its priority.
    pub priority: u8,
    /// When it was heard last, in milliseconds since 1970.
    pub heard_unix_ms: u64,
}

/// The wall clock, in milliseconds since 1970.
pub(super) fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |span| {
            u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
        })
}
