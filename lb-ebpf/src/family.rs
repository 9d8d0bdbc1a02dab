// SPDX-License-Identifier: MIT OR Apache-2.0
//! IPv4 and IPv6 as the pipeline tells them apart: one trait, so that a step is written once.

use lb_common::abi::{AddrWords, CONN_SLOTS, Conn6Key, ConnKey, FAMILY_IPV4, FAMILY_IPV6};
use lb_common::hash;
use lb_common::wire::Ports;

use crate::tables::{Line, Tables};

/// An address of one family, as in the packet.
pub trait Addr: Copy + Eq {
    /// What a slot of the connection table holds beside its meta word.
    type Key: Copy;

    /// `FAMILY_*`.
    const FAMILY: u8;
    /// Slots of a line.
    const SLOTS: usize = CONN_SLOTS;
    /// Words of a slot.
    const STRIDE: usize;

    /// As it stands in rows of the maps.
    fn words(self) -> AddrWords;

    /// True if a row holds this address.
    fn is(self, row: &AddrWords) -> bool;

    /// The exclusive or of its words, for the filter and for schedulers that hash.
    fn fold(self) -> u32;

    /// The part of it that `mask` covers.
    fn masked(self, mask: &AddrWords) -> Self;

    /// From a row of the maps.
    fn from_words(words: &AddrWords) -> Self;

    /// See `lb_common::hash`.
    fn hash<T: Tables>(tables: &T, client: Self, other: Self, ports: Ports, proto: u8) -> u64;

    /// The key of a connection of this client; its port is the first.
    fn key(client: Self, ports: Ports) -> Self::Key;

    /// 0 if the slot holds this key.
    fn differs<L: Line>(line: L, slot: usize, key: &Self::Key) -> u64;

    /// Writes the key of a slot that is busy by this CPU's doing.
    fn set_key<L: Line>(line: L, slot: usize, key: &Self::Key);

    /// The line for half a hash.
    fn line<T: Tables>(tables: &T, half: u32) -> Option<T::Line<'_>>;

    /// [`crate::conntrack::claim`]
    fn claim<T: Tables>(tables: &T, hash: u64, old: u32, key: &Self::Key, word: u64, now: u32);
}

/// An IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct V4(pub u32);

/// An IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct V6(pub [u32; 4]);

impl Addr for V4 {
    type Key = u64;
    const FAMILY: u8 = FAMILY_IPV4;
    const STRIDE: usize = 2;

    #[inline(always)]
    fn words(self) -> AddrWords {
        [self.0, 0, 0, 0]
    }

    #[inline(always)]
    fn is(self, [word, ..]: &AddrWords) -> bool {
        *word == self.0
    }

    #[inline(always)]
    fn fold(self) -> u32 {
        self.0
    }

    #[inline(always)]
    fn masked(self, [mask, ..]: &AddrWords) -> Self {
        Self(self.0 & mask)
    }

    #[inline(always)]
    fn from_words([word, ..]: &AddrWords) -> Self {
        Self(*word)
    }

    #[inline(always)]
    fn hash<T: Tables>(tables: &T, client: Self, other: Self, ports: Ports, proto: u8) -> u64 {
        hash::flow(&tables.hash_key4(), client.0, other.0, ports.word(), proto)
    }

    #[inline(always)]
    fn key(client: Self, ports: Ports) -> u64 {
        ConnKey::word(client.0, ports)
    }

    #[inline(always)]
    fn differs<L: Line>(line: L, slot: usize, key: &u64) -> u64 {
        line.word(2 * slot + 1) ^ key
    }

    #[inline(always)]
    fn set_key<L: Line>(line: L, slot: usize, key: &u64) {
        line.set_word(2 * slot + 1, *key);
    }

    #[inline(always)]
    fn line<T: Tables>(tables: &T, half: u32) -> Option<T::Line<'_>> {
        tables.line4(half)
    }

    #[inline(always)]
    fn claim<T: Tables>(tables: &T, hash: u64, old: u32, key: &u64, word: u64, now: u32) {
        tables.claim4(hash, old, *key, word, now);
    }
}

impl Addr for V6 {
    type Key = [u64; 3];
    const FAMILY: u8 = FAMILY_IPV6;
    const STRIDE: usize = 4;

    #[inline(always)]
    fn words(self) -> AddrWords {
        self.0
    }

    #[inline(always)]
    fn is(self, row: &AddrWords) -> bool {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, *row);
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) == 0
    }

    #[inline(always)]
    fn fold(self) -> u32 {
        lb_common::abi::fold(&self.0)
    }

    #[inline(always)]
    fn masked(self, mask: &AddrWords) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, *mask);
        Self([a & e, b & f, c & g, d & h])
    }

    #[inline(always)]
    fn from_words(words: &AddrWords) -> Self {
        Self(*words)
    }

    #[inline(always)]
    fn hash<T: Tables>(tables: &T, client: Self, other: Self, ports: Ports, proto: u8) -> u64 {
        hash::flow6(&tables.hash_key(), &client.0, &other.0, ports.word(), proto)
    }

    #[inline(always)]
    fn key(client: Self, ports: Ports) -> [u64; 3] {
        Conn6Key::words(client.0, ports)
    }

    #[inline(always)]
    fn differs<L: Line>(line: L, slot: usize, [a, b, c]: &[u64; 3]) -> u64 {
        let first = 4 * slot + 1;
        (line.word(first) ^ a) | (line.word(first + 1) ^ b) | (line.word(first + 2) ^ c)
    }

    #[inline(always)]
    fn set_key<L: Line>(line: L, slot: usize, [a, b, c]: &[u64; 3]) {
        let first = 4 * slot + 1;
        line.set_word(first, *a);
        line.set_word(first + 1, *b);
        line.set_word(first + 2, *c);
    }

    #[inline(always)]
    fn line<T: Tables>(tables: &T, half: u32) -> Option<T::Line<'_>> {
        tables.line6(half)
    }

    #[inline(always)]
    fn claim<T: Tables>(tables: &T, hash: u64, old: u32, key: &[u64; 3], word: u64, now: u32) {
        tables.claim6(hash, old, key, word, now);
    }
}
