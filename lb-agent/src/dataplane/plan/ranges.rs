// SPDX-License-Identifier: MIT OR Apache-2.0
//! Contiguous ranges of a map's rows: which are free, and which rest because a packet may still be
//! reading them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a retired range rests; a packet is through in microseconds.
pub const QUARANTINE: Duration = Duration::from_secs(1);

/// First fit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ranges {
    /// Free ranges: first row and length, never adjacent.
    pub(super) free: BTreeMap<u32, u32>,
    /// Ranges that packets may still be reading, with the time since when.
    retired: VecDeque<(Duration, u32, u32)>,
}

impl Ranges {
    /// All of a map with this many rows.
    pub(super) fn all(rows: u32) -> Self {
        Self {
            free: BTreeMap::from([(0, rows)]),
            retired: VecDeque::new(),
        }
    }

    pub(super) fn allocate(&mut self, len: u32) -> Option<u32> {
        if len == 0 {
            return Some(0);
        }
        let (first, room) = self
            .free
            .iter()
            .find(|(_, room)| **room >= len)
            .map(|(f, r)| (*f, *r))?;
        self.free.remove(&first);
        if room > len {
            self.free.insert(first + len, room - len);
        }
        Some(first)
    }

    pub(super) fn retire(&mut self, first: u32, len: u32, now: Duration) {
        if len > 0 {
            self.retired.push_back((now, first, len));
        }
    }

    pub(super) fn reclaim(&mut self, now: Duration) {
        while let Some((since, first, len)) = self.retired.front().copied() {
            if now.saturating_sub(since) < QUARANTINE {
                break;
            }
            self.retired.pop_front();
            self.give_back(first, len);
        }
    }

    fn give_back(&mut self, mut first: u32, mut len: u32) {
        if let Some((before, room)) = self.free.range(..first).next_back().map(|(f, r)| (*f, *r))
            && before + room == first
        {
            self.free.remove(&before);
            first = before;
            len += room;
        }
        if let Some(room) = self.free.remove(&(first + len)) {
            len += room;
        }
        self.free.insert(first, len);
    }
}
