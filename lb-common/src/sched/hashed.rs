// SPDX-License-Identifier: MIT OR Apache-2.0
//! sh and dh, and what they share with mh: which entry of a service's table a packet leads to.
//!
//! IPVS: `ip_vs_sh.c`, `ip_vs_dh.c` (the hash of Linux 4.18 and later). sh hashes the client's
//! address, with `SERVICE_HASH_PORT` its port, too; dh the virtual address. Addresses count as
//! numbers; of an IPv6 address the exclusive or of its four words.

use super::maglev;
use crate::abi::{HASH_NOBODY, SCHED_DH, SCHED_MH, SERVICE_HASH_PORT, Service};

/// Entries of the table of sh and dh, a power of two.
pub const ENTRIES: usize = 256;

/// What of a packet chooses the entry.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    maglev: bool,
    /// Address and port added, both as numbers.
    sum: u32,
    /// The entry asked first.
    home: u32,
}

impl Key {
    /// Of a packet: `client` and `virt` are the folds of its addresses, `port` is the client's, as
    /// they stand in the packet.
    #[inline(always)]
    pub fn new(service: &Service, client: u32, virt: u32, port: u16) -> Self {
        let addr = if service.scheduler == SCHED_DH {
            virt
        } else {
            client
        };
        let ported = service.scheduler != SCHED_DH && service.flags & SERVICE_HASH_PORT != 0;
        let port = if ported { port } else { 0 };
        let mut key = Self {
            maglev: service.scheduler == SCHED_MH,
            sum: u32::from_be(addr).wrapping_add(u32::from(u16::from_be(port))),
            home: 0,
        };
        key.home = key.entry(0);
        key
    }

    /// Number of entries of the table.
    #[inline(always)]
    pub const fn entries(&self) -> u32 {
        if self.maglev {
            maglev::ENTRIES as u32
        } else {
            ENTRIES as u32
        }
    }

    /// The entry asked first.
    #[inline(always)]
    pub const fn home(&self) -> u32 {
        self.home
    }

    /// With `SERVICE_FALLBACK`, entry number `attempt` of those asked when the first one's server
    /// takes no connections.
    #[inline(always)]
    pub const fn fallback(&self, attempt: u32) -> u32 {
        let offset = attempt.wrapping_add(self.home) % self.entries();
        self.entry(offset)
    }

    #[inline(always)]
    const fn entry(&self, offset: u32) -> u32 {
        if self.maglev {
            maglev::place_hash(self.sum.wrapping_add(offset)) % maglev::ENTRIES as u32
        } else {
            hash_8(self.sum).wrapping_add(offset) % ENTRIES as u32
        }
    }
}

/// IPVS: `hash_32(value, 8)`.
#[inline(always)]
const fn hash_8(value: u32) -> u32 {
    value.wrapping_mul(0x61c8_8647) >> 24
}

/// Fills the table of sh or dh: each member in the order of the list has as many entries in a row
/// as `turns` says, round and round. (dh: one each; sh: its weight.)
///
/// IPVS: `ip_vs_sh_reassign` gives a member of weight 0 an entry, too: its clients are refused, or
/// fall back.
pub fn fill(table: &mut [u16; ENTRIES], turns: impl Iterator<Item = u32> + Clone) {
    let mut left = 0;
    let mut member = (0..).zip(turns).cycle();
    let mut index = HASH_NOBODY;
    for entry in table {
        if left == 0 {
            (index, left) = member.next().unwrap_or((HASH_NOBODY, 0));
            left = u32::max(left, 1);
        }
        left -= 1;
        *entry = index;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::service;
    use super::*;
    use crate::abi::{SCHED_SH, SERVICE_FALLBACK};

    #[test]
    fn table_goes_round_the_list() {
        let mut table = [0; ENTRIES];
        fill(&mut table, [2, 0, 3].into_iter());
        assert_eq!(table[..8], [0, 0, 1, 2, 2, 2, 0, 0]);
        fill(&mut table, [1, 1].into_iter());
        assert_eq!(table[..4], [0, 1, 0, 1]);
        fill(&mut table, core::iter::empty());
        assert_eq!(table, [HASH_NOBODY; ENTRIES]);
    }

    /// 10.0.0.1 is 0x0a000001; times 0x61c88647 that is 0xd4cc8647 modulo 2^32.
    #[test]
    fn hashes_numbers_not_bytes() {
        let mut svc = service(SCHED_SH, 1, &[1]);
        let (client, virt) = (u32::from_ne_bytes([10, 0, 0, 1]), 7);
        let port = 0x1234_u16.to_be();
        let expected = 0x0a00_0001_u32.wrapping_mul(0x61c8_8647) >> 24;
        assert_eq!(Key::new(&svc, client, virt, port).home(), expected);
        svc.flags = SERVICE_HASH_PORT | SERVICE_FALLBACK;
        let expected = (0x0a00_0001_u32 + 0x1234).wrapping_mul(0x61c8_8647) >> 24;
        assert_eq!(Key::new(&svc, client, virt, port).home(), expected);
        svc.scheduler = SCHED_DH;
        let key = Key::new(&svc, virt, client, port);
        assert_eq!(key.home(), 0x0a00_0001_u32.wrapping_mul(0x61c8_8647) >> 24);
    }

    /// IPVS: the offset begins at the failed entry, so the first attempt is at twice its number.
    #[test]
    fn fallback_goes_over_the_whole_table() {
        let svc = service(SCHED_SH, 1, &[1]);
        let key = Key::new(&svc, 0x0102_0304, 0, 0);
        assert_eq!(key.fallback(0), 2 * key.home() % 256);
        let mut seen = [false; ENTRIES];
        for attempt in 0..key.entries() {
            seen[key.fallback(attempt) as usize] = true;
        }
        assert_eq!(seen, [true; ENTRIES]);
    }
}
