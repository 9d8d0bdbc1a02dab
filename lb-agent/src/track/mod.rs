// SPDX-License-Identifier: MIT OR Apache-2.0
//! A tracked script's journey: from a line of the configuration to a condition of the instances.
//!
//! ```text
//!  vrrp_script ─▸ program::resolve ─▸ script (a task each) ─▸ count ─▸ ScriptEvent ─▸ the loop
//!    (config)      who, which file     runs, waits, kills     rise,                     ▾
//!                                                             fall        Driver::track_changed
//! ```
//!
//! - [`count`]: rise and fall. Pure.
//! - [`program`]: which file a command is, whether it may be run, and as whom.
//! - [`script`]: runs the scripts; [`once`]: those of start and end.
//! - [`watch`]: looks at tracked files and processes; `process` tells which are meant.
//!
//! Invariants: no script, however it behaves, holds up the loop (starting one happens on a thread
//! of its own, waiting for one in a task of its own) or runs twice at once. Tracked interfaces
//! need no room here: the driver hears of them from netlink.

#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

pub mod count;
pub mod once;
mod process;
pub mod program;
pub mod script;
pub mod watch;
