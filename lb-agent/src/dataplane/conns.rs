// SPDX-License-Identifier: MIT OR Apache-2.0
//! The connection table as the agent sees it: memory shared with the packet program.
//!
//! In: the map's descriptor. Out: connections and their numbers, by one scan of memory (no system
//! call per connection). The scan also frees slots of connections that are past their time.
//! Invariant: words are only read, or exchanged by compare-and-exchange, so the packet program is
//! never in the way nor disturbed.

#![allow(
    unsafe_code,
    reason = "mmap of a map, and words that the packet program writes at the same time"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::Map;
use lb_common::abi::{
    CONN_BUSY, CONN_SLOTS, CONN_TICK_MASK, ConnBucket, ConnKey, ConnMeta, maps as names,
};
use lb_common::hash::HashKey;
use lb_common::tcp_state;
use nix::time::{ClockId, clock_getres};

use super::DataplaneError;
use crate::config::model::Protocol;

/// Longest tick wanted; timeouts are exact to one tick.
const LONGEST_TICK_NS: u32 = 1_100_000_000;

/// Ticks after which a busy slot belongs to nobody.
const ORPHANED: u32 = 60;

/// How the packet program counts time: jiffies, shifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// A tick is 2 to the power of this many jiffies.
    pub(super) shift: u32,
    /// Length of a tick, nanoseconds.
    pub(super) tick_ns: u32,
}

impl Clock {
    /// The running kernel's. The resolution of a coarse clock is the length of a jiffy
    /// (`hrtimer_get_res`, `TICK_NSEC`).
    pub(super) fn of_this_kernel() -> Result<Self, DataplaneError> {
        let jiffy = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
            .map_err(|errno| DataplaneError::Conns(errno.into()))?;
        let ns = Duration::from(jiffy).as_nanos();
        Ok(Self::of_jiffy(u32::try_from(ns).unwrap_or(1).max(1)))
    }

    fn of_jiffy(ns: u32) -> Self {
        let shift = (0..16).rev().find(|shift| {
            ns.checked_mul(1 << shift)
                .is_some_and(|tick| tick <= LONGEST_TICK_NS)
        });
        let shift = shift.unwrap_or(0);
        Self {
            shift,
            tick_ns: ns << shift,
        }
    }
}

/// A key that nobody outside can guess.
pub(super) fn random_key() -> Result<HashKey, DataplaneError> {
    let mut words = HashKey::default();
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(bytemuck::cast_slice_mut(&mut words)))
        .map_err(DataplaneError::Conns)?;
    Ok(words)
}

/// One connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Client.
    pub client: SocketAddr,
    /// Virtual address and port.
    pub virt: SocketAddr,
    /// Real server.
    pub server: SocketAddr,
    /// `lb_common::tcp_state` code.
    pub state: u8,
    /// Time until it is forgotten unless a packet comes.
    pub remaining: Duration,
}

/// Connections of one real server, as `ipvsadm -Ln` counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnCounts {
    /// Established and half-open TCP connections (IPVS: `tcp_state_active`).
    pub active: u64,
    /// All others: closing, and UDP.
    pub inactive: u64,
}

/// A connection as it stands in the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawConn {
    pub(super) key: ConnKey,
    pub(super) meta: ConnMeta,
    pub(super) remaining: Duration,
}

/// The table, mapped.
pub(super) struct Conns {
    start: NonNull<ConnBucket>,
    buckets: usize,
    clock: Clock,
    /// Keeps the map alive.
    _map: Map,
}

// SAFETY: the mapping belongs to this value alone, and its words are only used as atomics.
unsafe impl Send for Conns {}
// SAFETY: as above.
unsafe impl Sync for Conns {}

impl Conns {
    /// Maps the table of a loaded object.
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self, DataplaneError> {
        let missing = DataplaneError::Missing(names::CONNS);
        let map = ebpf.take_map(names::CONNS).ok_or(missing)?;
        let Map::Array(data) = &map else {
            return Err(DataplaneError::Missing("array CONNS"));
        };
        let info = data.info().map_err(|source| DataplaneError::Map {
            map: names::CONNS,
            source,
        })?;
        if info.value_size() as usize != size_of::<ConnBucket>() {
            return Err(DataplaneError::Missing("array CONNS of this layout"));
        }
        let buckets = info.max_entries() as usize;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                buckets * size_of::<ConnBucket>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                data.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(DataplaneError::Conns(io::Error::last_os_error()));
        }
        let start = NonNull::new(start.cast());
        Ok(Self {
            start: start.ok_or(DataplaneError::Missing("memory of CONNS"))?,
            buckets,
            clock: Clock::of_this_kernel()?,
            _map: map,
        })
    }

    /// All connections that are not past their time at tick `now`; the slots of those that are
    /// become free.
    pub(super) fn scan(&self, now: u32) -> impl Iterator<Item = RawConn> {
        (0..self.buckets * CONN_SLOTS).filter_map(move |slot| self.look(slot, now))
    }

    fn look(&self, slot: usize, now: u32) -> Option<RawConn> {
        let (meta, key) = self.words(slot)?;
        let word = meta.load(Ordering::Acquire);
        let conn = ConnMeta::unpack(word);
        if word == 0 {
            return None;
        }
        if conn.state == CONN_BUSY {
            // Busy for a moment only, unless an agent died while it freed the slot.
            if conn.age(now) > ORPHANED && conn.age(now) < CONN_TICK_MASK / 2 {
                self.free(slot, word, now);
            }
            return None;
        }
        let key = ConnKey::unpack(key.load(Ordering::Acquire));
        // A packet may have been counted in the tick after `now` was asked for.
        let age = match conn.age(now) {
            age if age > CONN_TICK_MASK / 2 => 0,
            age => age,
        };
        let idle = u64::from(age) * u64::from(self.clock.tick_ns);
        let Some(remaining) = tcp_state::timeout_ns(conn.state).checked_sub(idle) else {
            self.free(slot, word, now);
            return None;
        };
        // The same word again: the key belongs to it (see lb-ebpf's conntrack).
        (meta.load(Ordering::Acquire) == word).then(|| RawConn {
            key,
            meta: conn,
            remaining: Duration::from_nanos(remaining),
        })
    }

    /// Frees a slot that still holds `word`, key and all.
    fn free(&self, slot: usize, word: u64, now: u32) {
        let busy = ConnMeta {
            state: CONN_BUSY,
            seen: now,
            ..ConnMeta::unpack(word)
        }
        .pack();
        if let Some((meta, key)) = self.words(slot)
            && meta
                .compare_exchange(word, busy, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            key.store(0, Ordering::Release);
            meta.store(0, Ordering::Release);
        }
    }

    /// The two words of a slot.
    fn words(&self, slot: usize) -> Option<(&AtomicU64, &AtomicU64)> {
        if slot >= self.buckets * CONN_SLOTS {
            return None;
        }
        // SAFETY: inside the mapping, which lives as long as `self`; both words are 8-aligned.
        unsafe {
            let words = self.start.as_ptr().cast::<u64>().add(slot * 2);
            Some((
                AtomicU64::from_ptr(words),
                AtomicU64::from_ptr(words.add(1)),
            ))
        }
    }

    /// Numbers of connections by destination row and generation.
    pub(super) fn counts(&self, now: u32) -> BTreeMap<(u16, u16), ConnCounts> {
        let mut rows: BTreeMap<(u16, u16), ConnCounts> = BTreeMap::new();
        for RawConn { meta, .. } in self.scan(now) {
            let counts = rows.entry((meta.dest, meta.generation)).or_default();
            match meta.state {
                tcp_state::ESTABLISHED | tcp_state::SYN_RECV => counts.active += 1,
                _ => counts.inactive += 1,
            }
        }
        rows
    }
}

impl Drop for Conns {
    fn drop(&mut self) {
        let len = self.buckets * size_of::<ConnBucket>();
        // SAFETY: what `open` mapped; nothing borrows from it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), len) };
    }
}

/// A connection in the terms of its virtual server.
pub(super) fn describe(
    raw: RawConn,
    protocol: Protocol,
    virt: IpAddr,
    server: SocketAddr,
) -> Connection {
    let RawConn {
        key,
        meta,
        remaining,
    } = raw;
    Connection {
        protocol,
        client: SocketAddr::new(
            Ipv4Addr::from(key.client.to_ne_bytes()).into(),
            u16::from_be(key.client_port),
        ),
        virt: SocketAddr::new(virt, u16::from_be(key.virt_port)),
        server,
        state: meta.state,
        remaining,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_about_a_second_at_any_hz() {
        for (jiffy_ns, shift) in [
            (10_000_000, 6),
            (4_000_000, 8),
            (3_333_333, 8),
            (1_000_000, 10),
        ] {
            let clock = Clock::of_jiffy(jiffy_ns);
            assert_eq!((clock.shift, clock.tick_ns), (shift, jiffy_ns << shift));
            assert!((LONGEST_TICK_NS / 2..=LONGEST_TICK_NS).contains(&clock.tick_ns));
        }
    }
}
