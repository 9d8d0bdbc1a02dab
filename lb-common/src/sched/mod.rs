// SPDX-License-Identifier: MIT OR Apache-2.0
//! The schedulers, one rule a file, making IPVS's choices in IPVS's order.
//!
//! What is here is what a scheduler thinks of one real server and what it remembers; the loops over
//! a service's members are driven by the caller, which has the maps. There are three kinds:
//!
//! - rr, wrr, fo and ovf search for the next member or the one with the greatest weight ([`Turn`],
//!   [`search`]);
//! - lc, wlc, sed and nq weigh the members' connections ([`Best`]), lblc and lblcr as well, if they
//!   do not keep to the server that they chose before ([`locality`]);
//! - sh, dh and mh look into a table that the agent has filled ([`hashed`], [`maglev`]).
//!
//! What a scheduler remembers from one connection to the next is one word, exchanged atomically, so
//! that no lock is held on the packet path.

mod best;
pub mod hashed;
pub mod locality;
pub mod maglev;
mod overload;
pub mod rr;
pub mod search;
mod turn;
pub mod wrr;

pub use best::{Best, Rule};
pub use turn::{Cursor, Turn};

/// No real server.
pub const NOBODY: u32 = u32::MAX;

/// All ones if a is less than b, else 0; they differ by less than half a word. `opaque` returns the
/// same number, of which the compiler knows nothing: it makes no branch of it.
#[inline(always)]
fn less(a: u64, b: u64, opaque: impl Fn(u64) -> u64) -> u64 {
    opaque((a.wrapping_sub(b).cast_signed() >> 63).cast_unsigned())
}

/// 0, of which the verifier knows no bit.
#[inline(always)]
fn unknown_long(unknown: u32) -> u64 {
    let unknown = u64::from(unknown);
    unknown.wrapping_mul(unknown).wrapping_mul(unknown)
}

#[cfg(test)]
pub(crate) mod testing {
    use std::vec::Vec;

    use super::search::{Found, Search, unpack};
    use super::*;
    use crate::abi::{Load, SCHED_FO, SCHED_RR, Service};

    /// A service with these weights, its derived fields filled in as the agent does.
    pub(crate) fn service(scheduler: u8, epoch: u16, weights: &[u32]) -> Service {
        let (max_weight, weight_gcd) = wrr::descent(weights.iter().copied());
        Service {
            id: 0,
            first_member_line: 0,
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

    /// Drives one decision as the pipeline does; those in `full` take nothing. Member n is server
    /// n + 100.
    pub(crate) fn pick_but(
        service: &Service,
        weights: &[u32],
        full: &[u32],
        word: &mut u64,
    ) -> Option<u32> {
        let cursor = Cursor::unpack(*word);
        let mut turn = Turn::start(service, cursor);
        let find = |scheduler, turn: &Turn| {
            let mut search = Search::new(scheduler, |n| n);
            search.go_round(turn.from, turn.least, turn.least_before);
            let mut found = Found::new(0);
            for (index, weight) in (0..).zip(weights) {
                if !full.contains(&index) {
                    let at = (index, service.members);
                    found.look(&search, at, *weight, &Load::default(), |n| n);
                }
            }
            unpack(found.pack()).0
        };
        let mut index = find(service.scheduler, &turn);
        if index == NOBODY {
            let all = Turn::start(
                &self::service(SCHED_RR, 0, weights),
                Cursor::unpack(u64::MAX),
            );
            let greatest = find(SCHED_FO, &all);
            let greatest = weights.get(greatest as usize).copied().unwrap_or(0);
            if turn.descend(greatest) {
                index = find(service.scheduler, &turn);
            }
        }
        let next = if index == NOBODY {
            turn.vain(cursor)
        } else {
            turn.took(index, index + 100)
        };
        *word = next.pack();
        (index != NOBODY).then_some(index)
    }

    /// The same, none being full.
    pub(crate) fn pick(service: &Service, weights: &[u32], word: &mut u64) -> Option<u32> {
        pick_but(service, weights, &[], word)
    }

    /// The members of `n` decisions in a row.
    pub(crate) fn picks(service: &Service, weights: &[u32], word: &mut u64, n: usize) -> Vec<u32> {
        (0..n)
            .map(|_| pick(service, weights, word).unwrap())
            .collect()
    }
}
