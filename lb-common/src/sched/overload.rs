// SPDX-License-Identifier: MIT OR Apache-2.0
//! `uthreshold` and `lthreshold`: an overloaded server takes no new connection.
//!
//! IPVS: `ip_vs_bind_dest` marks a server whose connections have come to the upper threshold,
//! `ip_vs_unbind_dest` takes the mark away. Here whoever looks at a marked server finds out whether
//! enough of its connections have ended; since it gets no new ones meanwhile, that is the same.

use crate::abi::Load;

impl Load {
    /// All connections.
    #[inline(always)]
    pub const fn total(&self) -> u64 {
        self.active() as u64 + self.inactive() as u64
    }

    /// The connection opened last has filled the server.
    #[inline(always)]
    pub const fn is_full(&self) -> bool {
        self.upper != 0 && self.total() >= self.upper as u64
    }

    /// An overloaded server may take connections again.
    #[inline(always)]
    pub const fn has_room_again(&self) -> bool {
        if self.lower != 0 {
            self.total() < self.lower as u64
        } else {
            self.upper == 0 || self.total() * 4 < self.upper as u64 * 3
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{LOAD_ACTIVE, LOAD_INACTIVE};

    fn load(total: u64, upper: u32, lower: u16) -> Load {
        Load {
            conns: (total / 2) * LOAD_ACTIVE + (total - total / 2) * LOAD_INACTIVE,
            upper,
            lower,
            overloaded: 1,
        }
    }

    #[test]
    fn full_at_the_upper_threshold() {
        assert!(!load(9, 10, 0).is_full());
        assert!(load(10, 10, 0).is_full());
        assert!(!load(1_000_000, 0, 0).is_full());
    }

    #[test]
    fn room_again_below_the_lower_or_three_quarters() {
        assert!(!load(5, 10, 5).has_room_again());
        assert!(load(4, 10, 5).has_room_again());
        assert!(!load(8, 10, 0).has_room_again());
        assert!(load(7, 10, 0).has_room_again());
        assert!(load(7, 0, 0).has_room_again());
    }
}
