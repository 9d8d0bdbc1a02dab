// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection: a slot in a line of four. IPv4 slots have two words, so a line is a cache line; IPv6
//! slots have four words, so a line is two of them side by side.
//!
//! ```text
//! IPv4:  | meta 0 | key 0 | meta 1 | key 1 | meta 2 | key 2 | meta 3 | key 3 |
//! IPv6:  | meta 0 |       key 0            | meta 1 |       key 1            | … 2 | … 3 |
//! meta:  destination 16 | generation 16 | state 8 | tick of the last packet 24  (low bits first)
//! key:   client address 32 or 128 | client port 16 | other port 16              (as in the packet)
//! ```
//!
//! A connection is found by what clients send: the other port is the virtual one. A connection of a
//! masqueraded server (NAT) has a second entry, marked [`CONN_REPLY`], by which its replies are
//! found: there the other port is the server's. The other address is in neither: the destination's
//! row has both, and the packet needs that row anyway. The protocol is in the state.
//!
//! A persistence template is an entry like a client's whose state is `TEMPLATE`: the client's
//! address is masked, its port 0.

use bytemuck::{Pod, Zeroable};

use crate::wire::Ports;

/// Connections in a line.
pub const CONN_SLOTS: usize = 4;

/// Words of an IPv4 line.
pub const CONN_WORDS: usize = 2 * CONN_SLOTS;

/// Words of an IPv6 line.
pub const CONN6_WORDS: usize = 4 * CONN_SLOTS;

/// Slots for each connection of the configured capacity. With two, a table that holds its capacity
/// is half full, and next to no flow finds its two lines full of others.
pub const CONN_SLOTS_EACH: u32 = 2;

/// Bits of [`ConnMeta::seen`]; ticks are counted modulo this power of two.
pub const CONN_TICK_MASK: u32 = 0x00ff_ffff;

/// Bit of [`ConnMeta::state`]: the entry by which replies of a masqueraded server are found.
pub const CONN_REPLY: u8 = 0x20;

/// Bits of [`ConnMeta::state`] that are the state.
pub const CONN_STATE: u8 = 0x1f;

/// A line of the IPv4 table, one row of `CONNS`. Every word is read and written as a whole; meta
/// words are changed by compare-and-exchange only.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ConnLine {
    /// The words.
    pub words: [u64; CONN_WORDS],
}

/// The same of the IPv6 table, one row of `CONNS6`.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Conn6Line {
    /// The words.
    pub words: [u64; CONN6_WORDS],
}

/// What tells the flows of one virtual address and protocol apart; network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnKey {
    /// Client address.
    pub client: u32,
    /// Client port.
    pub client_port: u16,
    /// Virtual port, or the server's for a reply.
    pub other_port: u16,
}

impl ConnKey {
    /// The word in the slot; the client's port is the first.
    #[inline(always)]
    pub const fn word(client: u32, ports: Ports) -> u64 {
        client as u64 | (ports.word() as u64) << 32
    }

    /// To the word in the slot.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        Self::word(self.client, Ports::new(self.client_port, self.other_port))
    }

    /// From the word in the slot.
    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Self {
            client: word as u32,
            client_port: (word >> 32) as u16,
            other_port: (word >> 48) as u16,
        }
    }
}

/// The same for IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conn6Key {
    /// Client address.
    pub client: [u32; 4],
    /// Client port.
    pub client_port: u16,
    /// Virtual port, or the server's for a reply.
    pub other_port: u16,
}

impl Conn6Key {
    /// The words in the slot; the client's port is the first.
    #[inline(always)]
    pub const fn words(client: [u32; 4], ports: Ports) -> [u64; 3] {
        let [a, b, c, d] = client;
        [
            a as u64 | (b as u64) << 32,
            c as u64 | (d as u64) << 32,
            ports.word() as u64,
        ]
    }

    /// To the words in the slot.
    #[inline(always)]
    pub const fn pack(self) -> [u64; 3] {
        Self::words(self.client, Ports::new(self.client_port, self.other_port))
    }

    /// From the words in the slot.
    #[inline(always)]
    pub const fn unpack(words: [u64; 3]) -> Self {
        let [ab, cd, ports] = words;
        Self {
            client: [ab as u32, (ab >> 32) as u32, cd as u32, (cd >> 32) as u32],
            client_port: ports as u16,
            other_port: (ports >> 16) as u16,
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
    /// A `state::*` code, never `NONE`, and [`CONN_REPLY`].
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

    /// The `state::*` code alone.
    #[inline(always)]
    pub const fn code(self) -> u8 {
        self.state & CONN_STATE
    }

    /// True for the entry by which replies are found.
    #[inline(always)]
    pub const fn is_reply(self) -> bool {
        self.state & CONN_REPLY != 0
    }

    /// Ticks since the last packet. A connection may be idle for up to `CONN_TICK_MASK` ticks (more
    /// than three months) before it looks young again; the agent's scans remove it long before.
    #[inline(always)]
    pub const fn age(self, now: u32) -> u32 {
        now.wrapping_sub(self.seen) & CONN_TICK_MASK
    }
}

/// Lines of a table for `max_conns` connections.
pub const fn conn_lines(max_conns: u32) -> u32 {
    let lines = (max_conns as u64 * CONN_SLOTS_EACH as u64).div_ceil(CONN_SLOTS as u64);
    if lines == 0 { 1 } else { lines as u32 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_hold_every_field(meta in any::<u64>(), key in any::<u64>(), key6 in any::<[u64; 3]>()) {
            prop_assert_eq!(ConnMeta::unpack(meta).pack(), meta);
            prop_assert_eq!(ConnKey::unpack(key).pack(), key);
            let key6 = [key6[0], key6[1], key6[2] & 0xffff_ffff];
            prop_assert_eq!(Conn6Key::unpack(key6).pack(), key6);
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

    /// IPv4: 32 bytes; a masqueraded connection has two entries, so 64. IPv6: twice that.
    #[test]
    fn memory_of_a_connection() {
        let (line, line6) = (size_of::<ConnLine>(), size_of::<Conn6Line>());
        assert_eq!(conn_lines(1 << 20) as usize * line, 32 << 20);
        assert_eq!(conn_lines(16 << 20) as usize * line, 512 << 20);
        assert_eq!(conn_lines(1 << 20) as usize * line6, 64 << 20);
        assert_eq!(conn_lines(0), 1);
    }
}
