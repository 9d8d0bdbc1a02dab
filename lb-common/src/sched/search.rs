// SPDX-License-Identifier: MIT OR Apache-2.0
//! rr, wrr, fo and ovf: the next member, or the one with the greatest weight.
//!
//! rr and wrr take the first member from where they stopped whose weight is not below the current
//! one; fo the first of those with the greatest weight, ovf as well, but not one that has more
//! active connections than its weight.
//!
//! IPVS: `ip_vs_fo.c`, `ip_vs_ovf.c`. VERIFIER: as in `best.rs`, no branches on what was read.

use super::{NOBODY, less};
use crate::abi::{Load, SCHED_OVF, SCHED_RR, SCHED_WRR};

/// What is searched for.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The member it begins at; behind the last one it goes on at the head.
    from: u64,
    /// Least weight of a member from there to the end of the list, above 0.
    least: u64,
    /// The same of the members before it.
    least_before: u64,
    /// All ones: the next member counts; 0: the greatest weight.
    next: u64,
    /// All ones: the number of active connections does not matter.
    any_load: u64,
}

impl Search {
    /// Of a scheduler, among all members with a weight. `opaque` returns the same number, of which
    /// the compiler knows nothing.
    #[inline(always)]
    pub fn new(scheduler: u8, opaque: impl Fn(u64) -> u64) -> Self {
        let ones = |yes: bool| opaque(u64::from(yes).wrapping_neg());
        Self {
            from: 0,
            least: 1,
            least_before: 1,
            next: ones(matches!(scheduler, SCHED_RR | SCHED_WRR)),
            any_load: ones(scheduler != SCHED_OVF),
        }
    }

    /// From a place on, and not below these weights, see [`super::Turn`].
    #[inline(always)]
    pub fn go_round(&mut self, from: u32, least: u32, least_before: u32) {
        self.from = from.into();
        self.least = least.into();
        self.least_before = least_before.into();
    }
}

/// The best member so far.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Its place in the list, or [`NOBODY`].
    index: u32,
    key: u64,
    /// Top bit: there is a member with less than half as many active connections as its weight.
    light: u64,
}

impl Found {
    /// Nobody yet. `unknown` is a number that the compiler does not know to be 0.
    #[inline(always)]
    pub fn new(unknown: u32) -> Self {
        let unknown_long = super::unknown_long(unknown);
        Self {
            index: NOBODY.wrapping_add(unknown),
            key: u64::from(u32::MAX).wrapping_add(unknown_long),
            light: unknown_long,
        }
    }

    /// Looks at any member.
    #[inline(always)]
    pub fn weigh(&mut self, weight: u32, load: &Load) {
        self.light |= (u64::from(load.active()) * 2).wrapping_sub(weight.into());
    }

    /// Looks at the member at `index` of `members`, which is not overloaded.
    #[inline(always)]
    pub fn look(
        &mut self,
        search: &Search,
        (index, members): (u32, u32),
        weight: u32,
        load: &Load,
        opaque: impl Fn(u64) -> u64,
    ) {
        let (index, weight) = (u64::from(index), u64::from(weight));
        let active = u64::from(load.active());
        let before = less(index, search.from, &opaque);
        let least = search.least & !before | search.least_before & before;
        let distance = index
            .wrapping_sub(search.from)
            .wrapping_add(u64::from(members) & before);
        let out =
            less(weight, least, &opaque) | less(weight | search.any_load >> 1, active, &opaque);
        // Far beyond any distance, and beyond what is left of any weight.
        let lack = u64::from(u32::MAX).wrapping_sub(weight);
        let key = distance & search.next | lack & !search.next | out >> 1;
        // VERIFIER(6.1): a comparison of the keys themselves would narrow them from round to round.
        if less(key, self.key, &opaque) != 0 {
            (self.index, self.key) = (index as u32, key);
        }
    }

    /// After the last member: its place, and above it 1 if any member is light, as one word.
    #[inline(always)]
    pub const fn pack(&self) -> u64 {
        self.index as u64 | (self.light >> 63) << 32
    }
}

/// Place and lightness, from the word.
#[inline(always)]
pub const fn unpack(word: u64) -> (u32, bool) {
    (word as u32, word >> 32 != 0)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::abi::{LOAD_ACTIVE, SCHED_FO};

    /// Members as weight and active connections; the place of the one found.
    fn find(search: &Search, members: &[(u32, u32)], full: &[u32]) -> (Option<u32>, bool) {
        let mut found = Found::new(0);
        for (index, (weight, active)) in (0..).zip(members) {
            let load = Load {
                conns: u64::from(*active) * LOAD_ACTIVE,
                ..Load::default()
            };
            let at = (index, members.len() as u32);
            found.weigh(*weight, &load);
            if !full.contains(&index) {
                found.look(search, at, *weight, &load, |n| n);
            }
        }
        let (index, light) = unpack(found.pack());
        ((index != NOBODY).then_some(index), light)
    }

    fn greatest(scheduler: u8, members: &[(u32, u32)]) -> Option<u32> {
        find(&Search::new(scheduler, |n| n), members, &[]).0
    }

    #[test]
    fn fo_and_ovf_take_the_greatest_weight() {
        assert_eq!(greatest(SCHED_FO, &[(1, 0), (3, 99), (3, 0)]), Some(1));
        assert_eq!(greatest(SCHED_FO, &[(0, 0)]), None);
        assert_eq!(greatest(SCHED_OVF, &[(1, 0), (3, 3), (3, 0)]), Some(1));
        assert_eq!(greatest(SCHED_OVF, &[(1, 0), (3, 4)]), Some(0));
        assert_eq!(greatest(SCHED_OVF, &[(1, 2), (3, 4)]), None);
        assert_eq!(greatest(SCHED_OVF, &[(0, 0), (0, 4)]), None);
    }

    #[test]
    fn light_with_less_than_half_its_weight() {
        let search = Search::new(SCHED_FO, |n| n);
        assert!(!find(&search, &[(2, 1), (0, 0), (1, 5)], &[]).1);
        assert!(find(&search, &[(2, 1), (3, 1), (1, 5)], &[1]).1);
    }

    proptest! {
        /// From a place on, round the list.
        #[test]
        fn next_is_the_first_that_is_heavy_enough(
            weights in prop::collection::vec(0u32..5, 1..12),
            from in 0u32..13,
            (least, least_before) in (1u32..5, 1u32..5),
            mask in any::<u16>(),
        ) {
            let full: Vec<u32> = (0..12).filter(|bit| mask & 1 << bit != 0).collect();
            let members: Vec<_> = weights.iter().map(|weight| (*weight, 7)).collect();
            let n = weights.len() as u32;
            let from = from.min(n);
            let mut search = Search::new(SCHED_WRR, |n| n);
            search.go_round(from, least, least_before);
            let takes = |index: &u32| {
                let least = if *index >= from { least } else { least_before };
                !full.contains(index) && weights[*index as usize] >= least
            };
            let expected = (from..n).chain(0..n.min(from)).find(takes);
            prop_assert_eq!(find(&search, &members, &full).0, expected);
        }
    }
}
