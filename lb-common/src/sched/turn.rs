// SPDX-License-Identifier: MIT OR Apache-2.0
//! rr and wrr: what is remembered of a service, and where a search for the next member goes.

use super::{rr, wrr};
use crate::abi::{SCHED_WRR, Service};

/// What rr and wrr remember of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// `Service::epoch` at the last choice; another epoch means that the list has changed.
    pub epoch: u16,
    /// Member chosen last, or [`Cursor::HEAD`].
    pub index: u16,
    /// wrr: the current weight. rr: the server chosen last, to find its new place when the list
    /// has changed.
    pub weight: u32,
}

impl Cursor {
    /// Before the first member.
    pub const HEAD: u16 = u16::MAX;

    /// From the word in `CURSORS`.
    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Self {
            epoch: (word >> 48) as u16,
            index: (word >> 32) as u16,
            weight: word as u32,
        }
    }

    /// To the word in `CURSORS`.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        (self.epoch as u64) << 48 | (self.index as u64) << 32 | self.weight as u64
    }

    /// The server that rr chose last, whose place is to be looked for in the changed list.
    #[inline(always)]
    pub fn moved(self, service: &Service) -> Option<u32> {
        let same = self.epoch == service.epoch || self.index == Self::HEAD;
        (service.scheduler != SCHED_WRR && !same).then_some(self.weight)
    }
}

/// One decision of rr or wrr. The search goes from [`Turn::from`] once round the list; if that
/// brings nothing, wrr [descends](Turn::descend) and searches again.
///
/// One flat struct for both. VERIFIER: in an enum, or an `Option`, the unused part is copied
/// unwritten ("R7 !read_ok").
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    weighted: bool,
    epoch: u16,
    /// Member chosen last, or `u32::MAX`.
    last: u32,
    /// The member that the search begins at.
    pub from: u32,
    /// Least weight of a member from there to the end of the list.
    pub least: u32,
    /// The same of the members before it.
    pub least_before: u32,
    /// wrr: step of the descent, and where it starts from.
    step: u32,
    max_weight: u32,
}

impl Turn {
    /// Starts a decision.
    #[inline(always)]
    pub fn start(service: &Service, cursor: Cursor) -> Self {
        let same_list = cursor.epoch == service.epoch;
        let weighted = service.scheduler == SCHED_WRR;
        let last = if same_list && u32::from(cursor.index) < service.members {
            u32::from(cursor.index)
        } else {
            u32::MAX
        };
        let (step, max_weight) = (service.weight_gcd, service.max_weight);
        let current = if same_list {
            cursor.weight
        } else {
            wrr::after_change(cursor.weight, max_weight, step)
        };
        let (least, least_before) = if weighted {
            (current, wrr::below(current, step, max_weight))
        } else {
            (rr::LEAST, rr::LEAST)
        };
        Self {
            weighted,
            epoch: service.epoch,
            last,
            from: last.wrapping_add(1),
            // Of a current weight that no descent comes to.
            least: if least == 0 { 1 } else { least },
            least_before: if least_before == 0 { 1 } else { least_before },
            step,
            max_weight,
        }
    }

    /// After a vain search. wrr: goes down to the first current weight at which somebody takes the
    /// connection, `greatest` being the greatest weight of all that do; at the head, the list begins
    /// again. `false` if there is nothing left to search for.
    ///
    /// IPVS goes over the list once for each step down, which is the same without a bound.
    #[inline(always)]
    pub fn descend(&mut self, greatest: u32) -> bool {
        if !self.weighted || self.max_weight == 0 || greatest == 0 {
            return false;
        }
        self.last = u32::MAX;
        self.from = 0;
        self.least = wrr::within(self.least_before, greatest, self.step);
        self.least_before = self.least;
        true
    }

    /// The cursor when the member at `index`, server `dest`, takes the connection.
    #[inline(always)]
    pub fn took(&self, index: u32, dest: u32) -> Cursor {
        let current = if index >= self.from {
            self.least
        } else {
            self.least_before
        };
        Cursor {
            epoch: self.epoch,
            index: index as u16,
            weight: if self.weighted { current } else { dest },
        }
    }

    /// The cursor when nobody does.
    ///
    /// IPVS: after a vain search wrr stands at the head with the greatest weight; if it began at
    /// the lowest weight in the middle of the list, where it was.
    #[inline(always)]
    pub fn vain(&self, cursor: Cursor) -> Cursor {
        let stays = self.last != u32::MAX && self.least <= self.step;
        if !self.weighted || self.max_weight == 0 || stays {
            return cursor;
        }
        Cursor {
            epoch: self.epoch,
            index: Cursor::HEAD,
            weight: self.max_weight,
        }
    }
}
