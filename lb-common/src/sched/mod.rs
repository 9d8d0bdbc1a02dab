// SPDX-License-Identifier: MIT OR Apache-2.0
//! The schedulers, one rule a file, making IPVS's choices in IPVS's order.
//!
//! A scheduler is a walk over a service's members: it says which member to look at, and from that
//! member's weight, whether it takes the connection. The walk itself is driven by the caller,
//! because a loop in the kernel is not a loop on the host. What a scheduler remembers from one
//! connection to the next is a [`Cursor`]: one word, exchanged atomically, so that no lock is held
//! on the packet path.

pub mod rr;
pub mod wrr;

use crate::abi::{SCHED_RR, SCHED_WRR, Service};

/// What a scheduler remembers of a service: epoch, place in the list, current weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// `Service::epoch` at the last choice; another epoch means that the list has changed.
    pub epoch: u16,
    /// Member chosen last, or [`Cursor::HEAD`].
    pub index: u16,
    /// wrr: the current weight.
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
}

/// One scheduling decision in progress.
///
/// One flat struct for all schedulers. VERIFIER: in an enum of walks, or an `Option`, the unused
/// part is copied unwritten ("R7 !read_ok").
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    scheduler: u8,
    epoch: u16,
    members: u32,
    /// Member looked at; `u32::MAX` before the first.
    index: u32,
    /// Passes or members left, as the scheduler counts.
    left: u32,
    /// wrr: the current weight, its step and where it starts from.
    weight: u32,
    step: u32,
    max_weight: u32,
}

impl Walk {
    /// Most steps a walk takes in a list of `MAX_SERVICE_DESTS` members.
    pub const MAX_STEPS: u32 = 2 * crate::abi::MAX_SERVICE_DESTS + 2;

    /// Starts a decision.
    #[inline(always)]
    pub fn start(service: &Service, cursor: Cursor) -> Self {
        let same_list = cursor.epoch == service.epoch;
        let mut walk = Self {
            scheduler: service.scheduler,
            epoch: service.epoch,
            members: service.members,
            // VERIFIER: adding a byte that is always zero, which the verifier cannot know, keeps it
            // from following the walk number by number.
            index: match cursor.index {
                index if same_list && index != Cursor::HEAD => index as u32,
                _ => u32::MAX,
            }
            .wrapping_add(service.zero),
            left: service.zero,
            weight: cursor.weight,
            step: service.weight_gcd,
            max_weight: service.max_weight,
        };
        match walk.scheduler {
            SCHED_RR => rr::start(&mut walk),
            SCHED_WRR => wrr::start(&mut walk, same_list),
            _ => {}
        }
        walk
    }

    /// Goes to the next member to look at; `false` if there is none, so that nobody takes the
    /// connection.
    #[inline(always)]
    pub fn advance(&mut self) -> bool {
        match self.scheduler {
            SCHED_RR => rr::advance(self),
            SCHED_WRR => wrr::advance(self),
            _ => false,
        }
    }

    /// The member to look at, counted from the service's first.
    #[inline(always)]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Whether the member at [`Walk::index`], of this weight, takes the connection.
    #[inline(always)]
    pub fn takes(&self, weight: u32) -> bool {
        match self.scheduler {
            SCHED_RR => weight > 0,
            SCHED_WRR => weight >= self.weight,
            _ => false,
        }
    }

    /// The cursor after the decision.
    #[inline(always)]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            epoch: self.epoch,
            index: self.index as u16,
            weight: self.weight,
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::vec::Vec;

    use super::*;

    /// A service with these weights, its derived fields filled in as the agent does.
    pub(crate) fn service(scheduler: u8, epoch: u16, weights: &[u32]) -> Service {
        let (max_weight, weight_gcd) = wrr::descent(weights.iter().copied());
        Service {
            id: 0,
            first_member: 0,
            members: weights.len() as u32,
            max_weight,
            weight_gcd,
            epoch,
            scheduler,
            flags: 0,
            first_line: 0,
            client_mask: [0; 4],
            zero: 0,
            reserved: [0; 4],
        }
    }

    /// Drives one decision as the pipeline does.
    pub(crate) fn pick(service: &Service, weights: &[u32], word: &mut u64) -> Option<u32> {
        let mut walk = Walk::start(service, Cursor::unpack(*word));
        for _ in 0..Walk::MAX_STEPS {
            if !walk.advance() {
                return None;
            }
            if walk.takes(weights[walk.index() as usize]) {
                *word = walk.cursor().pack();
                return Some(walk.index());
            }
        }
        panic!("a walk must end within MAX_STEPS");
    }

    /// The members of `n` decisions in a row.
    pub(crate) fn picks(service: &Service, weights: &[u32], word: &mut u64, n: usize) -> Vec<u32> {
        (0..n)
            .map(|_| pick(service, weights, word).unwrap())
            .collect()
    }
}
