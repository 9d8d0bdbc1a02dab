// SPDX-License-Identifier: MIT OR Apache-2.0
//! An advert's journey: who is MASTER, and what this host does about it.
//!
//! ```text
//!  wire ─▸ socket ─▸ packet::decode ─┬─▸ counters (every refused datagram has a named one)
//!                                    ▼
//!  timers ─▸ driver ─▸ fsm::Instance::handle(now, Input) ─▸ [Action …] ─▸ driver
//!              ▲                 │ asks election who wins                   │
//!              └─ poll_timeout ──┘                                          │
//!          SendAdvert ─▸ packet::encode ─▸ socket ◂─────────────────────────┤
//!          Claim, Release ─▸ Host (packet program, addresses) ◂─────────────┤
//!          Announce ─▸ announce (gratuitous ARP, NA) ◂──────────────────────┤
//!  tracked interfaces, scripts ─▸ priority::judge ─▸ driver ─▸ Input::Tracks
//!          StateChanged ─▸ Host, log ◂──────────────────────────────────────┘
//! ```
//!
//! - [`time`]: a moment on the agent's clock, in nanoseconds.
//! - [`election`]: who wins, and how long a BACKUP waits. Pure.
//! - [`priority`]: what tracking makes of a priority. Pure.
//! - [`sync_group`]: instances that are MASTER together. Pure.
//! - [`event`]: what a state machine is told and what it asks for.
//! - [`fsm`]: the state machine of one instance. Pure: no socket, no clock.
//! - [`packet`]: adverts of version 2 and 3 as bytes. Pure.
//! - [`counters`]: the closed table of what can happen to an advert.
//! - [`socket`]: raw sockets of protocol 112, one per interface.
//! - [`announce`]: gratuitous ARP and neighbour advertisements.
//! - [`rivals`]: other routers that claim to be MASTER, too. Pure.
//! - [`record`]: recordings of the machines' inputs and outputs, and their replay.
//! - `slot`: the books of one running instance: counters, rivals, what was logged.
//! - [`status`]: what all that looks like from outside.
//! - [`driver`]: owns instances, sockets and timers, and performs the actions.
//!
//! Invariants: a state machine never panics and never blocks, whatever it hears; a MASTER's
//! adverts keep their pace whatever it hears; what it claims it releases in the reverse order.
//!
//! docs/vrrp.md tells where and why this differs from keepalived.

#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

pub mod announce;
pub mod counters;
pub mod driver;
pub mod election;
pub mod event;
pub mod fsm;
pub mod packet;
pub mod priority;
pub mod record;
pub mod rivals;
mod slot;
pub mod socket;
pub mod status;
pub mod sync_group;
pub mod time;

#[cfg(test)]
mod simlan;
