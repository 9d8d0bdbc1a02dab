// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection: sixteen bytes, four to a cache line.
//!
//! ```text
//! bucket, 64 bytes:  | meta 0 | key 0 | meta 1 | key 1 | meta 2 | key 2 | meta 3 | key 3 |
//! meta:  destination 16 | generation 16 | state 8 | tick of the last packet 24   (low bits first)
//! key:   client address 32 | client port 16 | virtual port 16                    (as in the packet)
//! ```
//!
//! The virtual address is not in the slot: the destination's row has it, and the packet needs that
//! row anyway. The protocol is in the state: `UDP` or one of TCP's.

use bytemuck::{Pod, Zeroable};

/// Connections in a bucket.
pub const CONN_SLOTS: usize = 4;

/// Slots for each connection of the configured capacity. With two, a table that holds its capacity
/// is half full, and next to no flow finds its two buckets full of others.
pub const CONN_SLOTS_EACH: u32 = 2;

/// Bits of [`ConnMeta::seen`]; ticks are counted modulo this power of two.
pub const CONN_TICK_MASK: u32 = 0x00ff_ffff;

/// State of a slot that is being written: nobody reads it, nobody takes it.
pub const CONN_BUSY: u8 = 0xff;

/// One cache line of the connection table, one row of `CONNS`. Every word is read and written as a
/// whole; `meta` is changed by compare-and-exchange only.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ConnBucket {
    /// The slots.
    pub slots: [ConnSlot; CONN_SLOTS],
}

/// One connection, or nothing if `meta` is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ConnSlot {
    /// A packed [`ConnMeta`].
    pub meta: u64,
    /// A packed [`ConnKey`].
    pub key: u64,
}

/// What tells the flows of one virtual address and protocol apart; network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnKey {
    /// Client address.
    pub client: u32,
    /// Client port.
    pub client_port: u16,
    /// Virtual port.
    pub virt_port: u16,
}

impl ConnKey {
    /// To the word in the slot.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        self.client as u64 | (self.client_port as u64) << 32 | (self.virt_port as u64) << 48
    }

    /// From the word in the slot.
    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Self {
            client: word as u32,
            client_port: (word >> 32) as u16,
            virt_port: (word >> 48) as u16,
        }
    }
}

/// Where a connection goes and how it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnMeta {
    /// Index into `DESTS`.
    pub dest: u16,
    /// Low bits of `Dest::generation` at the time of scheduling.
    pub generation: u16,
    /// `tcp_state::*` code, never `NONE`, or [`CONN_BUSY`].
    pub state: u8,
    /// Tick of the last packet, modulo `CONN_TICK_MASK + 1`.
    pub seen: u32,
}

impl ConnMeta {
    /// To the word in the slot.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        self.dest as u64
            | (self.generation as u64) << 16
            | (self.state as u64) << 32
            | (self.seen as u64) << 40
    }

    /// From the word in the slot.
    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Self {
            dest: word as u16,
            generation: (word >> 16) as u16,
            state: (word >> 32) as u8,
            seen: (word >> 40) as u32,
        }
    }

    /// Ticks since the last packet. A connection may be idle for up to `CONN_TICK_MASK` ticks (more
    /// than three months) before it looks young again; the agent's scans remove it long before.
    #[inline(always)]
    pub const fn age(self, now: u32) -> u32 {
        now.wrapping_sub(self.seen) & CONN_TICK_MASK
    }
}

/// Buckets of a table for `max_conns` connections.
pub const fn conn_buckets(max_conns: u32) -> u32 {
    let slots = max_conns as u64 * CONN_SLOTS_EACH as u64;
    let buckets = slots.div_ceil(CONN_SLOTS as u64);
    if buckets == 0 { 1 } else { buckets as u32 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_hold_every_field(meta in any::<u64>(), key in any::<u64>()) {
            prop_assert_eq!(ConnMeta::unpack(meta).pack(), meta);
            prop_assert_eq!(ConnKey::unpack(key).pack(), key);
        }
    }

    #[test]
    fn age_survives_the_wrap() {
        let meta = ConnMeta {
            dest: 0,
            generation: 0,
            state: 1,
            seen: CONN_TICK_MASK - 1,
        };
        assert_eq!(meta.age(3), 5);
    }

    #[test]
    fn a_connection_costs_32_bytes() {
        assert_eq!(
            conn_buckets(1 << 20) as usize * size_of::<ConnBucket>(),
            32 << 20
        );
        assert_eq!(
            conn_buckets(16 << 20) as usize * size_of::<ConnBucket>(),
            512 << 20
        );
        assert_eq!(conn_buckets(0), 1);
    }
}
