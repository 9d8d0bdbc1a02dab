// SPDX-License-Identifier: MIT OR Apache-2.0
//! The schedulers, one rule a file, making IPVS's choices in IPVS's order.
//!
//! A scheduler is a walk over a service's members: it says which member to look at, is shown that
//! member's weight, and either stops there or moves on. The walk itself is driven by the caller,
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

/// What a walk wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look at the member that [`Walk::index`] names.
    Look,
    /// This member takes the connection.
    Chosen,
    /// No member takes it.
    Nobody,
}

/// One scheduling decision in progress.
#[derive(Clone, Copy, Debug)]
pub enum Walk {
    /// Round robin.
    Rr(rr::Walk),
    /// Weighted round robin.
    Wrr(wrr::Walk),
}

impl Walk {
    /// Most steps a walk takes in a list of `MAX_SERVICE_DESTS` members.
    pub const MAX_STEPS: u32 = 2 * crate::abi::MAX_SERVICE_DESTS + 2;

    /// Starts a decision. `None` if the service's scheduler code is not known.
    #[inline(always)]
    pub fn start(service: &Service, cursor: Cursor) -> Option<Self> {
        match service.scheduler {
            SCHED_RR => Some(Self::Rr(rr::Walk::start(service, cursor))),
            SCHED_WRR => Some(Self::Wrr(wrr::Walk::start(service, cursor))),
            _ => None,
        }
    }

    /// Goes to the next member to look at.
    #[inline(always)]
    pub fn advance(&mut self) -> Step {
        match self {
            Self::Rr(w) => w.advance(),
            Self::Wrr(w) => w.advance(),
        }
    }

    /// The member to look at, counted from the service's first.
    #[inline(always)]
    pub fn index(&self) -> u32 {
        match self {
            Self::Rr(w) => w.index(),
            Self::Wrr(w) => w.index(),
        }
    }

    /// Shows the walk the weight of the member it asked for.
    #[inline(always)]
    pub fn look(&mut self, weight: u32) -> Step {
        match self {
            Self::Rr(w) => w.look(weight),
            Self::Wrr(w) => w.look(weight),
        }
    }

    /// The cursor after the decision.
    #[inline(always)]
    pub fn cursor(&self) -> Cursor {
        match self {
            Self::Rr(w) => w.cursor(),
            Self::Wrr(w) => w.cursor(),
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
            zero: 0,
            reserved: 0,
        }
    }

    /// Drives one decision as the pipeline does.
    pub(crate) fn pick(service: &Service, weights: &[u32], word: &mut u64) -> Option<u32> {
        let mut walk = Walk::start(service, Cursor::unpack(*word)).unwrap();
        for _ in 0..Walk::MAX_STEPS {
            let mut step = walk.advance();
            if step == Step::Look {
                step = walk.look(weights[walk.index() as usize]);
            }
            match step {
                Step::Look => {}
                Step::Chosen => {
                    *word = walk.cursor().pack();
                    return Some(walk.index());
                }
                Step::Nobody => return None,
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
