// SPDX-License-Identifier: MIT OR Apache-2.0
//! A BFD session's journey: from a `bfd_instance` to a condition of the instances that track it.
//!
//! ```text
//!  UDP 3784 ─▸ socket ─▸ packet::decode ─▸ fsm::handle(now, input) ─▸ [Action…] ─▸ sessions
//!                                             ▴ poll_timeout()                    ▾        ▾
//!                                           driver (a thread of its own)      socket   WatchEvent
//! ```
//!
//! - [`packet`]: RFC 5880's control packets as bytes.
//! - [`fsm`]: one session. Pure.
//! - [`counters`]: what can happen to a packet.
//! - [`socket`]: UDP with the TTL of what arrives.
//! - [`sessions`]: all sessions, who is meant by a packet, what is told.
//! - [`driver`]: waits and calls; in a thread of its own, because a session may be declared dead
//!   after 50 ms, and attaching a packet program may hold the agent's loop up for longer.
//!
//! RFC 5880 and 5881, asynchronous mode, without authentication, echo or demand of our own.

#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

pub mod counters;
pub mod driver;
pub mod fsm;
pub mod packet;
pub mod sessions;
pub mod socket;
