// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many connections each real server has, and how many it may have: memory shared with the
//! packet program, which counts connections that open, change their state or make room; the agent
//! counts off those that it expires.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lb_common::abi::{LOAD_ACTIVE, LOAD_INACTIVE, Load};
use lb_common::state;
use serde::Serialize;

use super::mapped::Mapped;

/// Connections of one real server, as `ipvsadm -Ln` counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConnCounts {
    /// Established and half-open connections.
    pub active: u64,
    /// All others: closing, and UDP.
    pub inactive: u64,
}

impl std::ops::AddAssign for ConnCounts {
    fn add_assign(&mut self, other: Self) {
        self.active += other.active;
        self.inactive += other.inactive;
    }
}

/// Words of a row.
const WORDS: usize = size_of::<Load>() / 8;

/// The rows, by id of the real server.
#[derive(Clone)]
pub(super) struct Loads(Arc<Mapped>);

impl Loads {
    pub(super) fn new(memory: Mapped) -> Self {
        Self(Arc::new(memory))
    }

    /// Connections of a real server.
    pub(super) fn counts(&self, dest: u32) -> ConnCounts {
        let conns = self.conns(dest);
        let load = Load {
            conns: conns.map_or(0, |word| word.load(Ordering::Acquire)),
            ..Load::default()
        };
        ConnCounts {
            active: load.active().into(),
            inactive: load.inactive().into(),
        }
    }

    /// The row of a real server.
    pub(super) fn row(&self, dest: u32) -> Load {
        let word = |index| {
            let word = self.0.word(dest as usize * WORDS + index);
            word.map_or(0, |word| word.load(Ordering::Acquire))
        };
        bytemuck::cast([word(0), word(1)])
    }

    /// One connection in this state less.
    pub(super) fn count_off(&self, dest: u32, code: u8) {
        let one = if state::is_active(code) {
            LOAD_ACTIVE
        } else {
            LOAD_INACTIVE
        };
        if let Some(conns) = self.conns(dest) {
            conns.fetch_sub(one, Ordering::AcqRel);
        }
    }

    /// Starts to count anew, without thresholds.
    pub(super) fn zero(&self, dest: u32) {
        for word in 0..WORDS {
            if let Some(word) = self.0.word(dest as usize * WORDS + word) {
                word.store(0, Ordering::Release);
            }
        }
    }

    /// Sets the thresholds; the scheduler finds out whether the server is overloaded by them.
    pub(super) fn set_thresholds(&self, dest: u32, upper: u32, lower: u16) {
        if let Some(word) = self.0.word(dest as usize * WORDS + 1) {
            word.store(u64::from(upper) | u64::from(lower) << 32, Ordering::Release);
        }
    }

    fn conns(&self, dest: u32) -> Option<&AtomicU64> {
        self.0.word(dest as usize * WORDS)
    }
}
