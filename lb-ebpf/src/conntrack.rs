// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding, making and ageing connections.
//!
//! A flow has two buckets of four slots. A connection ages by the tick of its last packet and its
//! state's timeout; nothing runs to expire it: an entry past its time is treated as absent, and its
//! slot is the first to be taken. When both buckets are full, the one that matters least makes
//! room: closing before half-open, half-open before a UDP flow, and that before an established
//! connection; of equals, the one silent longest.
//!
//! Invariant: a slot's `meta` word only changes by compare-and-exchange, and its key only while the
//! word says that the slot is busy. So who reads the word, then the key, then the same word again
//! has read a key and a word that belong together. (A word can come back while another CPU reads
//! only if the slot is taken twice within that instant for the same server, state and tick.)

use lb_common::abi::{CONN_BUSY, CONN_SLOTS, ConnKey, ConnMeta, DEST_PRESENT, Dest};
use lb_common::wire::{PROTO_TCP, PROTO_UDP};
use lb_common::{hash, tcp_state};

use crate::parse::Flow;
use crate::tables::{Bucket, Tables};

/// Slots that a flow may be in are numbered: those of its first bucket, from here on those of its
/// second.
const SECOND: u32 = CONN_SLOTS as u32;

/// No slot at all.
const NOWHERE: u32 = 2 * SECOND;

/// How often a place is looked for anew because another CPU was faster.
const ATTEMPTS: u32 = 2;

/// What is known of a flow.
pub enum Hit<'t> {
    /// It goes to this real server, whose id is this.
    Dest(u32, &'t Dest),
    /// Its real server is gone, and the packet cannot open a connection to another one.
    DestGone,
    /// Nothing holds any more. The place of what is left of an older connection of the same flow,
    /// for [`create`].
    Miss(u32),
}

/// A flow as the table knows it.
#[derive(Clone, Copy)]
pub struct Place {
    key: u64,
    hash: u64,
}

impl Place {
    /// Of a flow.
    #[inline(always)]
    pub fn of<T: Tables>(tables: &T, flow: &Flow) -> Self {
        let ports = flow.ports.src as u32 | (flow.ports.dst as u32) << 16;
        let key = ConnKey {
            client: flow.src,
            client_port: flow.ports.src,
            virt_port: flow.ports.dst,
        };
        Self {
            key: key.pack(),
            hash: hash::flow(&tables.hash_key(), flow.src, flow.dst, ports, flow.proto),
        }
    }

    /// The bucket that is looked into first.
    #[inline(always)]
    fn first<'t, T: Tables>(&self, tables: &'t T) -> Option<T::Bucket<'t>> {
        tables.bucket(self.hash as u32)
    }

    /// The bucket that is looked into next.
    #[inline(always)]
    fn second<'t, T: Tables>(&self, tables: &'t T) -> Option<T::Bucket<'t>> {
        tables.bucket((self.hash >> 32) as u32)
    }
}

/// Finds the connection of a flow and moves its state and time on.
#[inline(always)]
pub fn find<'t, T: Tables>(tables: &'t T, flow: &Flow, place: &Place, now: u32) -> Hit<'t> {
    if let Some(bucket) = place.first(tables)
        && let Some(own) = seek(tables, flow, bucket, place.key)
    {
        return found(tables, flow, bucket, 0, own, now);
    }
    if let Some(bucket) = place.second(tables)
        && let Some(own) = seek(tables, flow, bucket, place.key)
    {
        return found(tables, flow, bucket, SECOND, own, now);
    }
    Hit::Miss(NOWHERE)
}

/// The slot of this very flow, its word and its server.
///
/// Which slot it is, is computed without a branch: a branch on a word that comes from memory is
/// mispredicted half the time, and the loads of the packets that follow would have to wait for it.
#[inline(always)]
fn seek<'t, T: Tables>(
    tables: &'t T,
    flow: &Flow,
    bucket: T::Bucket<'t>,
    key: u64,
) -> Option<(usize, u64, &'t Dest)> {
    let same = |slot| {
        let difference = bucket.key(slot) ^ key;
        (tables.opaque(difference | difference.wrapping_neg()) >> 63) ^ 1
    };
    let (at_0, at_1, at_2, at_3) = (same(0), same(1), same(2), same(3));
    let at = tables.opaque(at_1 | at_2 << 1 | (at_3 | at_3 << 1)) as usize;
    if at_0 | at_1 | at_2 | at_3 == 0 {
        return None;
    }
    if let Some((word, dest)) = own(tables, flow, bucket, at, key) {
        return Some((at, word, dest));
    }
    // One client port that talks to several virtual addresses or by several protocols.
    for slot in 0..CONN_SLOTS {
        if let Some((word, dest)) = own(tables, flow, bucket, slot, key) {
            return Some((slot, word, dest));
        }
    }
    None
}

/// The word of a slot and its server, if the slot holds a connection of this very flow.
#[inline(always)]
fn own<'t, T: Tables>(
    tables: &'t T,
    flow: &Flow,
    bucket: T::Bucket<'t>,
    slot: usize,
    key: u64,
) -> Option<(u64, &'t Dest)> {
    let word = bucket.meta(slot);
    if bucket.key(slot) != key || word == 0 || bucket.meta(slot) != word {
        return None;
    }
    let conn = ConnMeta::unpack(word);
    if conn.state == CONN_BUSY || (conn.state == tcp_state::UDP) != (flow.proto == PROTO_UDP) {
        return None;
    }
    let dest = tables.dest(conn.dest as u32)?;
    (dest.virt == flow.dst).then_some((word, dest))
}

/// What a connection of this very flow means for the packet.
#[inline(always)]
fn found<'t, T: Tables>(
    tables: &'t T,
    flow: &Flow,
    bucket: T::Bucket<'t>,
    offset: u32,
    (slot, word, dest): (usize, u64, &'t Dest),
    now: u32,
) -> Hit<'t> {
    let conn = ConnMeta::unpack(word);
    let index = offset + slot as u32;
    if expired(tables, conn, now) {
        return Hit::Miss(index);
    }
    let tcp = flow.proto == PROTO_TCP;
    let syn = flow.tcp_flags & (tcp_state::FLAG_SYN | tcp_state::FLAG_ACK) == tcp_state::FLAG_SYN;
    // A client that reuses the port of a closing connection is scheduled at once.
    if tcp && syn && tcp_state::is_closing(conn.state) {
        return Hit::Miss(index);
    }
    if dest.flags & DEST_PRESENT == 0 || dest.generation as u16 != conn.generation {
        // IPVS: packets of a connection whose server was removed are dropped silently. A SYN
        // or a datagram loses nothing by going to another server.
        return if !tcp || syn {
            Hit::Miss(index)
        } else {
            Hit::DestGone
        };
    }
    let next = ConnMeta {
        seen: now,
        state: if tcp {
            tcp_state::next(conn.state, flow.tcp_flags)
        } else {
            conn.state
        },
        ..conn
    }
    .pack();
    // Written only when it changes, once a tick: the exchange lets no later load of this CPU begin
    // before it. If another CPU has moved the connection on meanwhile, its word stands.
    if next != word {
        bucket.swap_meta(slot, word, next);
    }
    Hit::Dest(conn.dest as u32, dest)
}

/// Keeps a new connection of `flow` to real server `id`. `old` is from [`Hit::Miss`].
///
/// If other CPUs take both places that were chosen, the flow stays unknown: its packets are treated
/// as any of no known connection.
#[inline(always)]
pub fn create<T: Tables>(
    tables: &T,
    flow: &Flow,
    place: &Place,
    old: u32,
    (id, dest): (u32, &Dest),
    now: u32,
) {
    let state = if flow.proto == PROTO_TCP {
        tcp_state::next(tcp_state::NONE, flow.tcp_flags)
    } else {
        tcp_state::UDP
    };
    let conn = ConnMeta {
        dest: id as u16,
        generation: dest.generation as u16,
        state,
        seen: now,
    };
    let busy = ConnMeta {
        state: CONN_BUSY,
        ..conn
    };
    // VERIFIER: loops by `repeat`, whose bodies are verified once; written out, the choice among
    // eight slots has more paths than the verifier can walk.
    tables.repeat(ATTEMPTS, || {
        let (Some(first), Some(second)) = (place.first(tables), place.second(tables)) else {
            return false;
        };
        let index = choose(tables, first, second, old, now);
        let bucket = if index < SECOND { first } else { second };
        let slot = index as usize % CONN_SLOTS;
        let word = bucket.meta(slot);
        if ConnMeta::unpack(word).state == CONN_BUSY || !bucket.swap_meta(slot, word, busy.pack()) {
            return true;
        }
        bucket.set_key(slot, place.key);
        bucket.swap_meta(slot, busy.pack(), conn.pack());
        false
    });
}

/// The place to take: that of an older connection of the flow, else a free one in the emptier
/// bucket, else the one whose connection matters least.
#[inline(always)]
fn choose<'t, T: Tables>(
    tables: &'t T,
    first: T::Bucket<'t>,
    second: T::Bucket<'t>,
    old: u32,
    now: u32,
) -> u32 {
    if old < NOWHERE {
        return old;
    }
    let (in_first, first_worth) = cheapest(tables, first, now);
    let (in_second, second_worth) = cheapest(tables, second, now);
    // Almost every packet that follows looks into the first bucket first, so that one may be a
    // little fuller.
    if first_worth <= ALMOST_EMPTY || first_worth <= second_worth {
        in_first
    } else {
        SECOND + in_second
    }
}

/// A free slot in a bucket with at most one connection.
const ALMOST_EMPTY: u32 = 1;

/// Worth of a slot that nobody may take.
const UNTOUCHABLE: u32 = u32::MAX;

/// The slot of a bucket to take, and what is lost by it: for a free slot the number of connections
/// in the bucket, for others more.
#[inline(always)]
fn cheapest<T: Tables>(tables: &T, bucket: T::Bucket<'_>, now: u32) -> (u32, u32) {
    let (mut chosen, mut least, mut live) = (0, UNTOUCHABLE, 0);
    let mut slot = 0;
    tables.repeat(CONN_SLOTS as u32, || {
        let worth = worth(tables, bucket.meta(slot as usize), now);
        live += u32::from(worth > 0);
        if worth < least {
            (chosen, least) = (slot, worth);
        }
        slot += 1;
        true
    });
    (chosen, if least == 0 { live } else { least })
}

/// What is lost if this slot is taken: 0 for a free or expired one; else above all ages its class,
/// below it how recently it was used.
#[inline(always)]
fn worth<T: Tables>(tables: &T, word: u64, now: u32) -> u32 {
    let conn = ConnMeta::unpack(word);
    let class = match conn.state {
        CONN_BUSY => return UNTOUCHABLE,
        tcp_state::ESTABLISHED => 4,
        tcp_state::UDP => 3,
        tcp_state::SYN_RECV => 2,
        _ => 1,
    };
    if word == 0 || expired(tables, conn, now) {
        return 0;
    }
    class << CLASS_SHIFT | (AGE_MASK - (conn.age(now) & AGE_MASK))
}

/// Bits of an age, and where a class stands above them.
const CLASS_SHIFT: u32 = 24;
const AGE_MASK: u32 = (1 << CLASS_SHIFT) - 1;

/// True once the state's timeout has passed without a packet.
#[inline(always)]
fn expired<T: Tables>(tables: &T, conn: ConnMeta, now: u32) -> bool {
    conn.age(now) as u64 * tables.tick_ns() > tcp_state::timeout_ns(conn.state)
}
