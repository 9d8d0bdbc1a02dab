// SPDX-License-Identifier: MIT OR Apache-2.0
//! Round robin: the next member that takes connections, whatever its weight.
//!
//! IPVS: `ip_vs_rr.c` keeps the last server and goes on from there, skipping weight 0.

use super::{Cursor, Step};
use crate::abi::Service;

/// One decision.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    members: u32,
    left: u32,
    index: u32,
    epoch: u16,
}

impl Walk {
    /// Starts after the member chosen last, or at the first one.
    #[inline(always)]
    pub fn start(service: &Service, cursor: Cursor) -> Self {
        let last = if cursor.epoch == service.epoch {
            cursor.index
        } else {
            Cursor::HEAD
        };
        // HEAD is one before the first: adding one wraps to it.
        let index = if last == Cursor::HEAD {
            u32::MAX
        } else {
            u32::from(last)
        };
        Self {
            members: service.members,
            left: service.members,
            index,
            epoch: service.epoch,
        }
    }

    /// The next member, each once.
    #[inline(always)]
    pub fn advance(&mut self) -> Step {
        if self.left == 0 {
            return Step::Nobody;
        }
        self.left -= 1;
        self.index = self.index.wrapping_add(1);
        if self.index >= self.members {
            self.index = 0;
        }
        Step::Look
    }

    /// See `sched::Walk::index`.
    #[inline(always)]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Any weight above 0 will do.
    #[inline(always)]
    pub fn look(&mut self, weight: u32) -> Step {
        if weight > 0 { Step::Chosen } else { Step::Look }
    }

    /// See `sched::Walk::cursor`.
    #[inline(always)]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            epoch: self.epoch,
            index: self.index as u16,
            weight: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{pick, picks, service};
    use crate::abi::SCHED_RR;

    #[test]
    fn takes_each_in_turn_and_skips_weight_0() {
        let weights = [5, 0, 1, 9];
        let svc = service(SCHED_RR, 1, &weights);
        assert_eq!(picks(&svc, &weights, &mut 0, 7), [0, 2, 3, 0, 2, 3, 0]);
    }

    #[test]
    fn nobody_when_all_are_drained() {
        let weights = [0, 0];
        assert_eq!(
            pick(&service(SCHED_RR, 1, &weights), &weights, &mut 0),
            None
        );
        assert_eq!(pick(&service(SCHED_RR, 1, &[]), &[], &mut 0), None);
    }
}
