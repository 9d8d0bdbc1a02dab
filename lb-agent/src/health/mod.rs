// SPDX-License-Identifier: MIT OR Apache-2.0
//! A probe's journey: which real servers are fit to receive connections.
//!
//! ```text
//!   config ──▶ runner ──▶ checker (tcp, …) ──▶ Outcome ──▶ dampen ──▶ board ──▶ RealServerEvent
//!                 ▲           one task per check             pure       │            (mpsc)
//!                 └──────────── pause until the next probe ◀────────────┤
//!                                                                       └──▶ Snapshot ──▶ quorum ──▶ desired
//! ```
//!
//! Comes in: the `virtual_server` blocks of the configuration. Goes out: an event for each real
//! server that goes up or down, a [`Snapshot`] of all of them, and [`desired::desired`], which says
//! what the data plane should hold.
//!
//! Invariant: a real server is up exactly when all its checks are up; one without checks is always
//! up. Called by the agent's select loop.
//!
//! Where later parts go: another kind of check is an arm of [`checker::Checker`].

pub mod board;
pub mod checker;
pub mod dampen;
pub mod desired;
#[cfg(test)]
mod fixture;
pub mod quorum;
pub mod runner;
pub mod tcp;

pub use board::{CheckHealth, RealServerEvent, ServerHealth, ServerKey, Snapshot};
pub use desired::{Desired, DesiredServer, DesiredService, desired};
pub use quorum::{Quorums, ServiceNotice, Subject};
pub use runner::Runner;
