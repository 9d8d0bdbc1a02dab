// SPDX-License-Identifier: MIT OR Apache-2.0
//! lblc and lblcr: the same virtual address stays with the same server, or set of servers, while
//! that is not overloaded.
//!
//! IPVS: `ip_vs_lblc.c`, `ip_vs_lblcr.c` remember servers by destination address, which a service
//! here has but one of. So the memory of a service is one word: for lblc the server, for lblcr what
//! tells its set apart; which servers are in the set, and since when, is in each server's rank.

use super::best::overhead;
use super::{NOBODY, less};
use crate::abi::{CONN_TICK_MASK, Load};

/// A server with more active connections than its weight gives way to others if one of all is
/// light: has not half as many as its weight.
#[inline(always)]
pub fn is_crowded(weight: u32, load: &Load) -> bool {
    load.active() > weight
}

/// Whether so much time has passed; times are ticks modulo `CONN_TICK_MASK + 1`.
#[inline(always)]
fn is_over(since: u32, now: u32, expiry: u32) -> bool {
    now.wrapping_sub(since) & CONN_TICK_MASK > expiry
}

/// What lblc remembers of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// There is one.
    pub known: bool,
    /// Its id in `DESTS`.
    pub dest: u16,
    /// Its place in the list, if the list is still the same.
    pub index: u8,
    /// Tick of its last connection.
    pub used: u32,
}

impl Server {
    /// From the word in `CURSORS`.
    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Self {
            known: word >> 24 & 1 != 0,
            dest: word as u16,
            index: (word >> 16) as u8,
            used: (word >> 40) as u32,
        }
    }

    /// To the word in `CURSORS`.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        self.dest as u64
            | (self.index as u64) << 16
            | (self.known as u64) << 24
            | ((self.used & CONN_TICK_MASK) as u64) << 40
    }

    /// Remembered, and not for too long.
    #[inline(always)]
    pub fn holds(&self, now: u32, expiry: u32) -> bool {
        self.known && !is_over(self.used, now, expiry)
    }
}

/// What lblcr remembers of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    /// Number of the set; ranks of another number count for nothing.
    pub number: u16,
    /// Tick of its last change.
    pub changed: u32,
    /// Tick of its last use.
    pub used: u32,
}

impl Set {
    /// From the word in `CURSORS`.
    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Self {
            number: word as u16,
            changed: (word >> 16) as u32 & CONN_TICK_MASK,
            used: (word >> 40) as u32,
        }
    }

    /// To the word in `CURSORS`.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        self.number as u64
            | ((self.changed & CONN_TICK_MASK) as u64) << 16
            | ((self.used & CONN_TICK_MASK) as u64) << 40
    }

    /// The set at this time: another, empty one if it was not used for long.
    #[inline(always)]
    pub fn at(self, now: u32, expiry: u32) -> Self {
        let number = if is_over(self.used, now, expiry) {
            self.number.wrapping_add(1)
        } else {
            self.number
        };
        Self {
            number,
            used: now,
            ..self
        }
    }

    /// Whether it has several servers for too long; then the busiest leaves.
    #[inline(always)]
    pub fn is_stale(&self, now: u32, expiry: u32) -> bool {
        is_over(self.changed, now, expiry)
    }

    /// When a server joined the set, counted from 1 on; 0 for one that is not in it. `rank` is the
    /// word in `RANKS`.
    #[inline(always)]
    pub const fn joined(&self, rank: u32) -> u32 {
        if (rank >> 16) as u16 == self.number {
            rank & 0xffff
        } else {
            0
        }
    }

    /// The rank of a server that joins it as number `joined`.
    #[inline(always)]
    pub const fn rank(&self, joined: u32) -> u32 {
        (self.number as u32) << 16 | joined & 0xffff
    }
}

/// A look at the members of lblcr's set: the one with the least connections for its weight, or with
/// the most; of equals the one that joined last, which stands first in IPVS's list.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Replicas {
    /// All ones if the most are asked for.
    most: u64,
    /// Place of the member found, or [`NOBODY`].
    index: u32,
    cost: u64,
    weight: u64,
    joined: u64,
    /// Number of who joined last.
    newest: u64,
    /// Size of the set.
    size: u64,
}

/// The result of such a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extreme {
    /// Place of the member found, or [`NOBODY`].
    pub index: u32,
    /// Number of the member that joined last.
    pub newest: u32,
    /// There are several members.
    pub several: bool,
}

impl Extreme {
    /// From [`Replicas::pack`].
    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        let index = word as u16;
        Self {
            index: if index == u16::MAX {
                NOBODY
            } else {
                index as u32
            },
            newest: (word >> 16) as u32 & 0xffff,
            several: word >> 32 != 0,
        }
    }
}

impl Replicas {
    /// Before the first member. `unknown` is a number that the compiler does not know to be 0.
    #[inline(always)]
    pub fn new(most: bool, unknown: u32) -> Self {
        let unknown_long = super::unknown_long(unknown);
        Self {
            most: u64::from(most).wrapping_neg(),
            index: NOBODY.wrapping_add(unknown),
            // Whoever comes first has less than this, or more, or the same and joined later.
            cost: unknown_long.wrapping_add(u64::from(!most)),
            weight: unknown_long.wrapping_add(u64::from(most)),
            joined: unknown_long,
            newest: unknown_long,
            size: unknown_long,
        }
    }

    /// Counts a member of the set. `opaque` returns the same number, of which the compiler knows
    /// nothing.
    #[inline(always)]
    pub fn count(&mut self, joined: u32, opaque: impl Fn(u64) -> u64) {
        let joined = u64::from(joined);
        let newer = less(self.newest, joined, &opaque);
        self.newest = self.newest & !newer | joined & newer;
        self.size = self.size.wrapping_add(1);
    }

    /// Looks at a member of the set, at `index` of the list, with a weight above 0.
    #[inline(always)]
    pub fn look(
        &mut self,
        index: u32,
        weight: u32,
        load: &Load,
        joined: u32,
        opaque: impl Fn(u64) -> u64,
    ) {
        let cost = overhead(load);
        let a = cost.wrapping_mul(self.weight) ^ self.most;
        let b = self.cost.wrapping_mul(weight.into()) ^ self.most;
        let joined = u64::from(joined);
        let later = less(self.joined, joined, &opaque);
        if a < b || (a ^ b) | !later == 0 {
            (self.index, self.joined) = (index, joined);
            (self.cost, self.weight) = (cost, weight.into());
        }
    }

    /// After the last member, as one word.
    #[inline(always)]
    pub const fn pack(&self) -> u64 {
        (self.index & 0xffff) as u64 | (self.newest & 0xffff) << 16 | ((self.size > 1) as u64) << 32
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::abi::LOAD_ACTIVE;

    const EXPIRY: u32 = 86_400;

    const SET: Set = Set {
        number: 5,
        changed: 10,
        used: 10,
    };

    /// Members as (weight, active, joined).
    fn look(most: bool, members: &[(u32, u32, u32)]) -> Extreme {
        let mut replicas = Replicas::new(most, 0);
        for (index, (weight, active, joined)) in (0..).zip(members) {
            let load = Load {
                conns: u64::from(*active) * LOAD_ACTIVE,
                ..Load::default()
            };
            if *joined > 0 {
                replicas.count(*joined, |n| n);
                if *weight > 0 {
                    replicas.look(index, *weight, &load, *joined, |n| n);
                }
            }
        }
        Extreme::unpack(replicas.pack())
    }

    #[test]
    fn only_members_of_the_set_count() {
        let members = [(1, 0, 0), (1, 3, 4), (1, 2, 1), (0, 0, 2), (1, 9, 0)];
        let expected = |index| Extreme {
            index,
            newest: 4,
            several: true,
        };
        assert_eq!(look(false, &members), expected(2));
        assert_eq!(look(true, &members), expected(1));
        let expected = Extreme {
            index: NOBODY,
            newest: 0,
            several: false,
        };
        assert_eq!(look(false, &members[..1]), expected);
        assert_eq!(look(true, &[]), expected);
        assert!(!look(true, &[(1, 0, 7)]).several);
    }

    #[test]
    fn of_equals_the_last_that_joined() {
        for most in [false, true] {
            assert_eq!(look(most, &[(1, 1, 1), (1, 1, 2), (1, 1, 0)]).index, 1);
            assert_eq!(look(most, &[(1, 0, 2), (2, 0, 1)]).index, 0);
        }
    }

    #[test]
    fn crowded_with_more_than_its_weight() {
        let load = Load {
            conns: 3,
            ..Load::default()
        };
        assert!(is_crowded(2, &load));
        assert!(!is_crowded(3, &load));
    }

    #[test]
    fn a_set_that_was_not_changed_for_long_is_stale() {
        assert!(!SET.is_stale(10 + EXPIRY, EXPIRY));
        assert!(SET.is_stale(11 + EXPIRY, EXPIRY));
    }

    #[test]
    fn what_was_not_used_for_long_is_forgotten() {
        assert_eq!(SET.at(10 + EXPIRY, EXPIRY).number, 5);
        let next = SET.at(11 + EXPIRY, EXPIRY);
        assert_eq!(next.number, 6);
        assert_eq!(next.joined(SET.rank(3)), 0);
        assert_eq!(SET.joined(SET.rank(3)), 3);
        let server = Server {
            known: true,
            dest: 1,
            index: 0,
            used: 10,
        };
        assert!(server.holds(10 + EXPIRY, EXPIRY));
        assert!(!server.holds(11 + EXPIRY, EXPIRY));
        assert!(!Server::unpack(0).holds(0, EXPIRY));
    }

    proptest! {
        #[test]
        fn words_hold_every_field(word in any::<u64>()) {
            prop_assert_eq!(Set::unpack(word).pack(), word);
            let server = Server::unpack(word);
            prop_assert_eq!(Server::unpack(server.pack()), server);
        }

        /// Whatever the loads and ranks, somebody of the set with a weight is found.
        #[test]
        fn any_state_is_survived(members in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u16>()), 0..20), most in any::<bool>()) {
            let members: Vec<_> = members.iter().map(|(w, a, joined)| (*w, *a, u32::from(*joined))).collect();
            match members.get(look(most, &members).index as usize) {
                Some((weight, _, joined)) => prop_assert!(*weight > 0 && *joined > 0),
                None => prop_assert!(members.iter().all(|member| member.0 == 0 || member.2 == 0)),
            }
        }
    }
}
