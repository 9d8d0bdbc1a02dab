// SPDX-License-Identifier: MIT OR Apache-2.0
//! The connection tables as the agent sees them: memory shared with the packet program.
//!
//! Comes in: the mapped tables, and what the plan knows of the rows that connections point to
//! ([`View`]). Goes out: connections, by scans of memory (no system call per connection). A scan
//! also frees the slots of connections that are past their time, and counts them off their
//! servers; the packet program itself never does.
//! Invariant: words are only read, or exchanged by compare-and-exchange, and whoever wins an
//! exchange counts the connection off.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use lb_common::abi::{
    AddrWords, CONN_SLOTS, CONN_TICK_MASK, Conn6Key, ConnKey, ConnMeta, FAMILY_IPV4, FAMILY_IPV6,
    STATES,
};
use lb_common::hash::HashKey;
use lb_common::state;

use super::DataplaneError;
use super::clock::Clock;
use super::loads::Loads;
use super::mapped::Mapped;
use super::plan::address;
use crate::config::model::Protocol;

/// Ticks after which a busy slot belongs to nobody.
const ORPHANED: u32 = 60;

/// How much longer a template lasts while its client has connections.
///
/// IPVS: `ip_vs_conn_expire` gives one that controls others another minute.
const TEMPLATE_GRACE: Duration = Duration::from_mins(1);

/// Lines looked at in one go by [`Conns::expire`]: about a millisecond.
const SLICE: usize = 1 << 15;

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
    /// Protocol of its service.
    pub protocol: Protocol,
    /// Client; of a template, its masked address and port 0.
    pub client: SocketAddr,
    /// Virtual address and port.
    pub virt: SocketAddr,
    /// Real server.
    pub server: SocketAddr,
    /// `lb_common::state` code.
    pub state: u8,
    /// Time until it is forgotten unless a packet comes.
    pub remaining: Duration,
}

/// What a row of `DESTS` means for the connections that point to it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DestView {
    /// Low bits of its generation.
    pub(super) generation: u16,
    /// Number of its service.
    pub(super) service: u32,
    /// Persistence of its service: timeout in ticks, and which bits of a client count.
    pub(super) persistence: Option<(u32, AddrWords)>,
}

/// What a scan needs to know.
pub(super) struct View {
    /// Tick.
    pub(super) now: u32,
    /// Timeout of each state, ticks.
    pub(super) timeouts: [u32; STATES],
    /// By id.
    pub(super) dests: Vec<DestView>,
}

impl View {
    fn dest(&self, meta: ConnMeta) -> Option<&DestView> {
        let dest = self.dests.get(meta.dest as usize)?;
        (dest.generation == meta.generation).then_some(dest)
    }

    fn timeout(&self, meta: ConnMeta) -> u32 {
        if meta.code() == state::TEMPLATE {
            let persistence = self.dest(meta).and_then(|dest| dest.persistence);
            return persistence.map_or(0, |(ticks, _)| ticks);
        }
        self.timeouts
            .get(meta.code() as usize % STATES)
            .copied()
            .unwrap_or(0)
    }
}

/// A connection as it stands in the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawConn {
    pub(super) client: IpAddr,
    pub(super) client_port: u16,
    pub(super) other_port: u16,
    pub(super) meta: ConnMeta,
    /// Ticks.
    pub(super) remaining: u32,
}

/// Clients that have connections to a persistent service: number of the service, masked address.
type Held = HashSet<(u32, AddrWords)>;

/// The tables, mapped.
pub(super) struct Conns {
    tables: [Table; 2],
    loads: Loads,
    clock: Clock,
    /// Lines of both tables; the next one that [`Conns::expire`] looks at.
    cursor: usize,
    /// Of the last whole round through the tables, and of this one so far.
    held: Held,
    holding: Held,
}

/// A table of one family.
struct Table {
    memory: Mapped,
    family: u8,
    /// Words of a slot.
    stride: usize,
}

impl Conns {
    pub(super) fn new(v4: Mapped, v6: Mapped, loads: Loads, clock: Clock) -> Self {
        let table = |memory, family, stride| Table {
            memory,
            family,
            stride,
        };
        Self {
            tables: [table(v4, FAMILY_IPV4, 2), table(v6, FAMILY_IPV6, 4)],
            loads,
            clock,
            cursor: 0,
            held: Held::new(),
            holding: Held::new(),
        }
    }

    /// Lines of the IPv4 (0) or the IPv6 table (1).
    pub(super) fn lines(&self, table: usize) -> u32 {
        self.tables
            .get(table)
            .map_or(1, |table| table.lines() as u32)
    }

    /// The words of a line at this moment.
    pub(super) fn line(&self, table: usize, line: u32) -> Option<Vec<u64>> {
        let table = self.tables.get(table)?;
        let words = table.stride * CONN_SLOTS;
        let first = line as usize * words;
        let word = |index| {
            let word = table.memory.word(index)?;
            Some(word.load(Ordering::Acquire))
        };
        (first..first + words).map(word).collect()
    }

    /// All connections and templates that are not past their time; the slots of those that are
    /// become free. A masqueraded connection is one, by its client's entry.
    pub(super) fn scan<'a>(&'a self, view: &'a View) -> impl Iterator<Item = RawConn> + 'a {
        let slots = move |table: &'a Table| {
            (0..table.memory.len() / table.stride)
                .filter_map(move |slot| self.look(table, slot, view))
        };
        self.tables.iter().flat_map(slots)
    }

    /// Frees what is past its time in the next part of the tables.
    pub(super) fn expire(&mut self, view: &View) {
        let [v4, v6] = &self.tables;
        let lines_v4 = v4.lines();
        let all = lines_v4 + v6.lines();
        let end = (self.cursor + SLICE).min(all);
        let mut holding = std::mem::take(&mut self.holding);
        for line in self.cursor..end {
            let (table, line) = if line < lines_v4 {
                (v4, line)
            } else {
                (v6, line - lines_v4)
            };
            for slot in line * CONN_SLOTS..(line + 1) * CONN_SLOTS {
                if let Some(conn) = self.look(table, slot, view) {
                    holding.extend(held_by(view, &conn));
                }
            }
        }
        self.holding = holding;
        self.cursor = end;
        if end == all {
            self.cursor = 0;
            self.held = std::mem::take(&mut self.holding);
        }
    }

    fn look(&self, table: &Table, slot: usize, view: &View) -> Option<RawConn> {
        let meta = table.memory.word(slot * table.stride)?;
        let word = meta.load(Ordering::Acquire);
        let conn = ConnMeta::unpack(word);
        if word == 0 {
            return None;
        }
        if conn.code() == state::BUSY {
            // Busy for a moment only, unless an agent died while it freed the slot.
            if conn.age(view.now) > ORPHANED && conn.age(view.now) < CONN_TICK_MASK / 2 {
                self.free(table, slot, word, view);
            }
            return None;
        }
        let (client, client_port, other_port) = table.key(slot)?;
        // A packet may have been counted in the tick after `now` was asked for.
        let age = match conn.age(view.now) {
            age if age > CONN_TICK_MASK / 2 => 0,
            age => age,
        };
        let raw = RawConn {
            client: address(client, table.family),
            client_port,
            other_port,
            meta: conn,
            remaining: 0,
        };
        let Some(remaining) = view.timeout(conn).checked_sub(age) else {
            if !self.extend(table, slot, word, &raw, view) {
                self.free(table, slot, word, view);
            }
            return None;
        };
        // The same word again: the key belongs to it (see lb-ebpf's conntrack).
        (meta.load(Ordering::Acquire) == word && !conn.is_reply())
            .then_some(RawConn { remaining, ..raw })
    }

    /// A template past its time whose client still has connections gets another minute.
    fn extend(&self, table: &Table, slot: usize, word: u64, raw: &RawConn, view: &View) -> bool {
        let Some(dest) = view.dest(raw.meta) else {
            return false;
        };
        let Some((ticks, mask)) = dest.persistence else {
            return false;
        };
        let client = masked(raw.client, mask);
        if raw.meta.code() != state::TEMPLATE || !self.held.contains(&(dest.service, client)) {
            return false;
        }
        let grace = self.clock.ticks(TEMPLATE_GRACE);
        let longer = ConnMeta {
            seen: view.now.wrapping_sub(ticks).wrapping_add(grace) & CONN_TICK_MASK,
            ..raw.meta
        };
        if let Some(meta) = table.memory.word(slot * table.stride) {
            // If the program was faster, it has refreshed the template itself.
            let _ = meta.compare_exchange(word, longer.pack(), Ordering::AcqRel, Ordering::Relaxed);
        }
        true
    }

    /// Frees a slot that still holds `word`, key and all.
    fn free(&self, table: &Table, slot: usize, word: u64, view: &View) {
        let conn = ConnMeta::unpack(word);
        let busy = ConnMeta {
            state: state::BUSY,
            seen: view.now,
            ..conn
        }
        .pack();
        let first = slot * table.stride;
        let Some(meta) = table.memory.word(first) else {
            return;
        };
        if meta
            .compare_exchange(word, busy, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            return;
        }
        for index in first + 1..first + table.stride {
            if let Some(key) = table.memory.word(index) {
                key.store(0, Ordering::Release);
            }
        }
        meta.store(0, Ordering::Release);
        let counted = !conn.is_reply() && conn.code() < state::TEMPLATE;
        if counted && view.dest(conn).is_some() {
            self.loads.count_off(conn.dest.into(), conn.code());
        }
    }
}

impl Table {
    fn lines(&self) -> usize {
        self.memory.len() / self.stride / CONN_SLOTS
    }

    /// Client, its port, the other port.
    fn key(&self, slot: usize) -> Option<(AddrWords, u16, u16)> {
        let word = |index: usize| {
            let word = self.memory.word(slot * self.stride + 1 + index)?;
            Some(word.load(Ordering::Acquire))
        };
        if self.family == FAMILY_IPV4 {
            let key = ConnKey::unpack(word(0)?);
            Some(([key.client, 0, 0, 0], key.client_port, key.other_port))
        } else {
            let key = Conn6Key::unpack([word(0)?, word(1)?, word(2)?]);
            Some((key.client, key.client_port, key.other_port))
        }
    }
}

/// What a connection keeps alive: the template of its client.
fn held_by(view: &View, conn: &RawConn) -> Option<(u32, AddrWords)> {
    if conn.meta.code() == state::TEMPLATE {
        return None;
    }
    let dest = view.dest(conn.meta)?;
    let (_, mask) = dest.persistence?;
    Some((dest.service, masked(conn.client, mask)))
}

fn masked(client: IpAddr, mask: AddrWords) -> AddrWords {
    let mut words = super::plan::words(client);
    for (word, mask) in words.iter_mut().zip(mask) {
        *word &= mask;
    }
    words
}

/// A connection in the terms of its virtual server.
pub(super) fn describe(raw: &RawConn, key: &super::plan::DestKey, clock: Clock) -> Connection {
    let service = key.service;
    Connection {
        protocol: service.protocol,
        client: SocketAddr::new(raw.client, u16::from_be(raw.client_port)),
        virt: SocketAddr::new(service.addr, u16::from_be(raw.other_port)),
        server: key.addr,
        state: raw.meta.code(),
        remaining: clock.duration(raw.remaining),
    }
}
