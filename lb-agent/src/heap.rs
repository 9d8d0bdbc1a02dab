// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that a start or a reload needed and the agent does not need afterwards.
//!
//! The file's text, its tree and the first announcements of many instances leave holes in the heap
//! that the allocator keeps: 2 MiB of 7 with a thousand instances. Called by the application.

#![expect(
    unsafe_code,
    reason = "malloc_trim is in no safe crate of this project"
)]

use std::time::Duration;

use tokio::time::Instant;

/// When the second round of gratuitous ARP that follows a claim is over, by default settings.
const AFTER: Duration = Duration::from_secs(15);

/// Gives holes back to the kernel, once after each start or reload.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    due: Option<Instant>,
}

impl Heap {
    /// Something big was just read.
    pub(crate) fn disturbed(&mut self) {
        self.due = Some(Instant::now() + AFTER);
    }

    /// Gives back what there is to give, if it is time.
    pub(crate) fn look_after(&mut self) {
        if self.due.take_if(|at| *at <= Instant::now()).is_some() {
            trim();
        }
    }
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: no arguments that could be wrong; it takes the allocator's own locks.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}
