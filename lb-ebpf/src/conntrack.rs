// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding, making and ageing connections.
//!
//! A flow has two lines of the table. A connection ages by the tick of its last packet and its
//! state's timeout; nothing runs to expire it: an entry past its time is treated as absent, and its
//! slot is the first to be taken. When both lines are full, the one that matters least makes room
//! (see `lb_common::state::class`); of equals, the one silent longest.
//!
//! A connection of a masqueraded server has two entries, one for each direction, whose meta words
//! are kept the same: whoever changes one writes the other, which is once a tick or when the state
//! changes.
//!
//! Invariants: a slot's meta word only changes by compare-and-exchange, and its key only while the
//! word says that the slot is busy. So who reads the word, then the key, then the same word again
//! has read a key and a word that belong together. (A word can come back while another CPU reads
//! only if the slot is taken twice within that instant for the same server, state and tick.)
//! And whoever wins an exchange tells `Load` of it, so that the connections of a server are counted
//! once each.

use lb_common::abi::{
    CONN_REPLY, ConnMeta, DEST_PRESENT, Dest, FAMILY_IPV4, LOAD_ACTIVE, LOAD_INACTIVE, METHOD_NAT,
    SETTING_EXPIRE_NODEST, STATE_TIMEOUT_BITS, STATES, Settings,
};
use lb_common::hash;
use lb_common::state::{self, Direction, sctp, tcp};
use lb_common::wire::{PROTO_SCTP, PROTO_TCP, Ports};

use crate::family::Addr;
use crate::parse::Flow;
use crate::tables::{Line, Tables};

/// No slot at all. Slots that a flow may be in are numbered: those of its first line, then those of
/// its second.
pub const NOWHERE: u32 = 8;

/// For [`claim`]: the slot of this key, role and destination, if there is one.
pub const SAME: u32 = 9;

/// The bits of a word by which that is known: destination, generation and role.
const SAME_CONN: u64 = (CONN_REPLY as u64) << 32 | 0xffff_ffff;

/// How often a place is looked for anew because another CPU was faster.
const ATTEMPTS: u32 = 2;

/// Which entry of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// By which packets of the client are found.
    Request,
    /// By which packets of a masqueraded server are found.
    Reply,
}

/// What is known of a flow.
pub enum Hit<'t> {
    /// It goes to this real server, whose id is this.
    Dest(u32, &'t Dest),
    /// Its real server is gone, and the packet cannot open a connection to another one.
    DestGone,
    /// Nothing holds any more. The place of what is left of an older connection of the same flow,
    /// for [`claim`].
    Miss(u32),
}

/// An entry as the table knows it: where it is looked for, and by what.
#[derive(Clone, Copy)]
pub struct Place<A: Addr> {
    /// What its slot holds.
    pub key: A::Key,
    /// Chooses its lines.
    pub hash: u64,
}

impl<A: Addr> Place<A> {
    /// Of the entry with these ends, the client's port first.
    #[inline(always)]
    pub fn new<T: Tables>(tables: &T, (client, other): (A, A), ports: Ports, proto: u8) -> Self {
        Self {
            key: A::key(client, ports),
            hash: A::hash(tables, client, other, ports, proto),
        }
    }

    /// Of a packet.
    #[inline(always)]
    pub fn of<T: Tables>(tables: &T, flow: &Flow<A>, role: Role) -> Self {
        match role {
            Role::Request => Self::new(tables, (flow.src, flow.dst), flow.ports, flow.proto),
            Role::Reply => {
                let ports = flow.ports.reversed();
                Self::new(tables, (flow.dst, flow.src), ports, flow.proto)
            }
        }
    }

    /// Of the other entry of the connection that a packet belongs to, `dest` being its server.
    #[inline(always)]
    fn opposite<T: Tables>(tables: &T, flow: &Flow<A>, role: Role, dest: &Dest) -> Self {
        match role {
            Role::Request => {
                let server = A::from_words(&dest.addr);
                let port = or(dest.port, flow.ports.dst());
                let ports = Ports::new(flow.ports.src(), port);
                Self::new(tables, (flow.src, server), ports, flow.proto)
            }
            Role::Reply => {
                let virt = A::from_words(&dest.virt);
                let port = or(dest.virt_port, flow.ports.src());
                let ports = Ports::new(flow.ports.dst(), port);
                Self::new(tables, (flow.dst, virt), ports, flow.proto)
            }
        }
    }
}

/// A port, or the packet's where the row leaves it open.
#[inline(always)]
pub fn or(port: u16, packet: u16) -> u16 {
    if port == 0 { packet } else { port }
}

/// Finds the connection of a packet and moves its state and time on.
#[inline(always)]
pub fn find<'t, A: Addr, T: Tables>(
    tables: &'t T,
    settings: &Settings,
    flow: &Flow<A>,
    role: Role,
    place: &Place<A>,
    now: u32,
) -> Hit<'t> {
    let quiet = quiet(flow, role, now);
    if let Some(line) = A::line(tables, hash::first(place.hash))
        && let Some(own) = seek(tables, flow, (role, quiet), line, &place.key)
    {
        return found(tables, settings, flow, role, (line, 0), own, now);
    }
    if let Some(line) = A::line(tables, hash::second(place.hash))
        && let Some(own) = seek(tables, flow, (role, quiet), line, &place.key)
    {
        return found(
            tables,
            settings,
            flow,
            role,
            (line, A::SLOTS as u32),
            own,
            now,
        );
    }
    Hit::Miss(NOWHERE)
}

/// The same for packets that neither open nor close anything, on the short way: the server of a
/// connection that goes on. `None`, and nothing is written, where more is to be said of it.
#[inline(always)]
pub(crate) fn go_on<'t, A: Addr, T: Tables>(
    tables: &'t T,
    settings: &Settings,
    flow: &Flow<A>,
    role: Role,
    place: &Place<A>,
    now: u32,
) -> Option<(u32, &'t Dest)> {
    let half = hash::first(place.hash);
    let (line, slot, word) = match holder::<A, T>(tables, half, &place.key) {
        Some(there) => there,
        None => holder::<A, T>(tables, hash::second(place.hash), &place.key)?,
    };
    let conn = ConnMeta::unpack(word);
    let dest = tables.dest(conn.dest as u32)?;
    if !belongs(flow, role, dest) || !leads_to(conn, dest) {
        return None;
    }
    if (word >> 32) as u32 == quiet(flow, role, now) {
        return Some((conn.dest as u32, dest));
    }
    if word == 0
        || conn.is_reply() != (role == Role::Reply)
        || !state::is_of(conn.code(), flow.proto)
    {
        return None;
    }
    let own = Own::Any(slot, word, dest);
    match found(tables, settings, flow, role, (line, 0), own, now) {
        Hit::Dest(id, dest) => Some((id, dest)),
        Hit::DestGone | Hit::Miss(_) => None,
    }
}

/// The line for half a hash, the slot of it that holds this key, and the slot's word.
#[inline(always)]
fn holder<'t, A: Addr, T: Tables>(
    tables: &'t T,
    half: u32,
    key: &A::Key,
) -> Option<(T::Line<'t>, usize, u64)> {
    let line = A::line(tables, half)?;
    let (slot, _) = pick::<A, T>(tables, line, key);
    let word = line.word(slot * A::STRIDE);
    let is_stable = A::differs(line, slot, key) == 0 && line.word(slot * A::STRIDE) == word;
    is_stable.then_some((line, slot, word))
}

/// The server of a flow's connection, which stays as it is.
#[inline(always)]
pub fn peek<'t, A: Addr, T: Tables>(
    tables: &'t T,
    settings: &Settings,
    flow: &Flow<A>,
    role: Role,
    now: u32,
) -> Option<(u32, &'t Dest)> {
    let place = Place::of(tables, flow, role);
    let first = A::line(tables, hash::first(place.hash))?;
    let second = A::line(tables, hash::second(place.hash))?;
    let kind = (role, quiet(flow, role, now));
    let own = match seek(tables, flow, kind, first, &place.key) {
        Some(own) => own,
        None => seek(tables, flow, kind, second, &place.key)?,
    };
    match own {
        Own::Quiet(id, dest) => Some((id, dest)),
        Own::Any(_, word, dest) => {
            let conn = ConnMeta::unpack(word);
            let holds = !expired(settings, conn, now) && leads_to(conn, dest);
            holds.then_some((conn.dest as u32, dest))
        }
    }
}

/// The upper half of the word of a connection of which the packet changes nothing: right protocol and
/// role, a state that stays as it is, and another packet seen in the same tick. One comparison in
/// place of many, for almost all packets of a busy connection.
#[inline(always)]
fn quiet<A: Addr>(flow: &Flow<A>, role: Role, now: u32) -> u32 {
    let reply = match role {
        Role::Request => 0,
        Role::Reply => CONN_REPLY,
    };
    now << 8 | (flow.steady | reply) as u32
}

/// A connection of this very flow.
#[derive(Clone, Copy)]
enum Own<'t> {
    /// One of which the packet changes nothing: the id of its server, which is there.
    Quiet(u32, &'t Dest),
    /// Any: its slot and word, and its server.
    Any(usize, u64, &'t Dest),
}

/// The slot of a line that holds this key, the first if none does; and what is different in the
/// others. If several do, as all slots of an empty line hold the key of zeros, it is any slot, by a
/// number that may be one of the line's beyond it (which wraps around): who looks there must compare.
///
/// It is computed without a branch: a branch on a word that comes from memory is mispredicted half the
/// time, and the loads of the packets that follow would have to wait for it.
#[inline(always)]
fn pick<'t, A: Addr, T: Tables>(
    tables: &'t T,
    line: T::Line<'t>,
    key: &A::Key,
) -> (usize, [u64; 3]) {
    // The highest bit is set where the slot holds another key.
    let other = |slot| {
        let difference = A::differs(line, slot, key);
        (
            difference,
            tables.opaque(difference | difference.wrapping_neg()),
        )
    };
    let ((diff_1, other_1), (diff_2, other_2), (diff_3, other_3)) = (other(1), other(2), other(3));
    // If one of them is ours, two terms of three are taken away; if none is, the first slot is left.
    let at = 6 - (other_1 >> 63) - (other_2 >> 62 & 2) - (((other_3 as i64) >> 63) as u64 & 3);
    (tables.opaque(at) as usize, [diff_1, diff_2, diff_3])
}

/// The connection of this very flow.
#[inline(always)]
fn seek<'t, A: Addr, T: Tables>(
    tables: &'t T,
    flow: &Flow<A>,
    kind: (Role, u32),
    line: T::Line<'t>,
    key: &A::Key,
) -> Option<Own<'t>> {
    let (at, [diff_1, diff_2, diff_3]) = pick::<A, T>(tables, line, key);
    let found = own(tables, flow, kind, line, at, key);
    if found.is_some() {
        return found;
    }
    if diff_1 != 0 && diff_2 != 0 && diff_3 != 0 && A::differs(line, 0, key) != 0 {
        return None;
    }
    // One client port that talks to several virtual addresses or by several protocols.
    for slot in 0..A::SLOTS {
        let found = own(tables, flow, kind, line, slot, key);
        if found.is_some() {
            return found;
        }
    }
    None
}

/// What a slot holds, if it is a connection of this very flow.
#[inline(always)]
fn own<'t, A: Addr, T: Tables>(
    tables: &'t T,
    flow: &Flow<A>,
    (role, quiet): (Role, u32),
    line: T::Line<'t>,
    slot: usize,
    key: &A::Key,
) -> Option<Own<'t>> {
    let word = line.word(slot * A::STRIDE);
    if A::differs(line, slot, key) != 0 || line.word(slot * A::STRIDE) != word {
        return None;
    }
    let conn = ConnMeta::unpack(word);
    // VERIFIER(6.1): with both ways in it the program for IPv6 is too large there.
    if A::FAMILY == FAMILY_IPV4 && (word >> 32) as u32 == quiet {
        let dest = tables.dest(conn.dest as u32)?;
        if belongs(flow, role, dest) && leads_to(conn, dest) {
            return Some(Own::Quiet(conn.dest as u32, dest));
        }
    }
    if word == 0
        || conn.is_reply() != (role == Role::Reply)
        || !state::is_of(conn.code(), flow.proto)
    {
        return None;
    }
    let dest = tables.dest(conn.dest as u32)?;
    belongs(flow, role, dest).then_some(Own::Any(slot % A::SLOTS, word, dest))
}

/// True if the address that a slot does not hold is the packet's.
#[inline(always)]
fn belongs<A: Addr>(flow: &Flow<A>, role: Role, dest: &Dest) -> bool {
    match role {
        Role::Request => flow.dst.is(&dest.virt),
        Role::Reply => flow.src.is(&dest.addr),
    }
}

/// True while a connection's server is the one it was opened to, and there.
#[inline(always)]
fn leads_to(conn: ConnMeta, dest: &Dest) -> bool {
    dest.flags & DEST_PRESENT != 0 && dest.generation as u16 == conn.generation
}

/// What a connection of this very flow means for the packet.
#[inline(always)]
fn found<'t, A: Addr, T: Tables>(
    tables: &'t T,
    settings: &Settings,
    flow: &Flow<A>,
    role: Role,
    (line, first): (T::Line<'t>, u32),
    own: Own<'t>,
    now: u32,
) -> Hit<'t> {
    let (slot, word, dest) = match own {
        Own::Quiet(id, dest) => return Hit::Dest(id, dest),
        Own::Any(slot, word, dest) => (slot, word, dest),
    };
    let conn = ConnMeta::unpack(word);
    let code = conn.code();
    let index = first + slot as u32;
    if expired(settings, conn, now) {
        return Hit::Miss(index);
    }
    let opens = role == Role::Request && asks(flow);
    // A client that reuses the port of a closing connection is scheduled at once.
    if opens && is_closing(flow.proto, code) {
        return Hit::Miss(index);
    }
    if !leads_to(conn, dest) {
        // IPVS: packets of a connection whose server was removed are dropped silently, unless
        // `expire_nodest_conn`. A packet that opens a connection loses nothing by going to another
        // server.
        return if opens || settings.flags & SETTING_EXPIRE_NODEST != 0 {
            Hit::Miss(index)
        } else {
            Hit::DestGone
        };
    }
    let direction = match (role, dest.method) {
        (Role::Reply, _) => Direction::Output,
        (Role::Request, METHOD_NAT) => Direction::Input,
        (Role::Request, _) => Direction::InputOnly,
    };
    let moved = state::next(flow.proto, code, flow.what, direction);
    let next = ConnMeta {
        seen: now,
        state: conn.state & CONN_REPLY | moved,
        ..conn
    }
    .pack();
    // Written only when it changes, once a tick: the exchange lets no later load of this CPU begin
    // before it. If another CPU has moved the connection on meanwhile, its word stands.
    if next != word && line.swap_word(slot * A::STRIDE, word, next) {
        if role == Role::Request {
            recount(tables, conn.dest as u32, code, moved);
        }
        if dest.method == METHOD_NAT {
            mirror(tables, flow, role, dest, (code, next), now);
        }
    }
    Hit::Dest(conn.dest as u32, dest)
}

/// Brings the other entry of a masqueraded connection to the same state and time.
#[inline(always)]
fn mirror<A: Addr, T: Tables>(
    tables: &T,
    flow: &Flow<A>,
    role: Role,
    dest: &Dest,
    (_, word): (u8, u64),
    now: u32,
) {
    let place = Place::opposite(tables, flow, role, dest);
    let conn = ConnMeta::unpack(word);
    let word = ConnMeta {
        state: conn.state ^ CONN_REPLY,
        ..conn
    }
    .pack();
    A::claim(tables, place.hash, SAME, &place.key, word, now);
}

/// Counts a connection that goes from one state to another.
#[inline(always)]
fn recount<T: Tables>(tables: &T, dest: u32, from: u8, to: u8) {
    match (state::is_active(from), state::is_active(to)) {
        (true, false) => tables.add_conns(dest, LOAD_INACTIVE.wrapping_sub(LOAD_ACTIVE)),
        (false, true) => tables.add_conns(dest, LOAD_ACTIVE.wrapping_sub(LOAD_INACTIVE)),
        _ => {}
    }
}

/// What one connection in this state adds to `Load::conns`.
#[inline(always)]
const fn weight_of(code: u8) -> u64 {
    if state::is_active(code) {
        LOAD_ACTIVE
    } else {
        LOAD_INACTIVE
    }
}

/// True if a packet asks for a connection of its own, whatever went before.
#[inline(always)]
fn asks<A: Addr>(flow: &Flow<A>) -> bool {
    match flow.proto {
        PROTO_TCP => tcp::asks(flow.what),
        _ => opens(flow),
    }
}

/// True if a packet may open a connection (UDP always does).
#[inline(always)]
pub fn opens<A: Addr>(flow: &Flow<A>) -> bool {
    match flow.proto {
        PROTO_TCP => tcp::opens(flow.what),
        PROTO_SCTP => flow.what == sctp::CHUNK_INIT,
        _ => true,
    }
}

#[inline(always)]
fn is_closing(proto: u8, code: u8) -> bool {
    match proto {
        PROTO_TCP => tcp::is_closing(code),
        PROTO_SCTP => sctp::is_closing(code),
        _ => false,
    }
}

/// The state of a connection that this packet opens.
#[inline(always)]
fn first_state<A: Addr>(flow: &Flow<A>, method: u8) -> u8 {
    let none = if flow.proto == PROTO_SCTP {
        sctp::NONE
    } else {
        tcp::NONE
    };
    let direction = if method == METHOD_NAT {
        Direction::Input
    } else {
        Direction::InputOnly
    };
    state::next(flow.proto, none, flow.what, direction)
}

/// Keeps a new connection of `flow` to real server `id`. `old` is from [`Hit::Miss`].
#[inline(always)]
pub fn create<A: Addr, T: Tables>(
    tables: &T,
    flow: &Flow<A>,
    place: &Place<A>,
    old: u32,
    (id, dest): (u32, &Dest),
    now: u32,
) {
    let conn = ConnMeta {
        dest: id as u16,
        generation: dest.generation as u16,
        state: first_state(flow, dest.method),
        seen: now,
    };
    A::claim(tables, place.hash, old, &place.key, conn.pack(), now);
    if dest.method == METHOD_NAT {
        mirror(
            tables,
            flow,
            Role::Request,
            dest,
            (conn.state, conn.pack()),
            now,
        );
    }
}

/// Writes an entry into the table: in place of `old` (a slot's number), of itself ([`SAME`]), or
/// of what matters least ([`NOWHERE`]).
///
/// If other CPUs take the places that were chosen, the entry is not kept: its packets are treated
/// as any of no known connection.
#[inline(always)]
pub fn claim<A: Addr, T: Tables>(
    tables: &T,
    hash: u64,
    mut old: u32,
    key: &A::Key,
    word: u64,
    now: u32,
) {
    let Some(settings) = tables.settings() else {
        return;
    };
    let (Some(first), Some(second)) = (
        A::line(tables, hash::first(hash)),
        A::line(tables, hash::second(hash)),
    ) else {
        return;
    };
    let at = |index: u32| {
        let line = if index < A::SLOTS as u32 {
            first
        } else {
            second
        };
        (line, index as usize % A::SLOTS)
    };
    let conn = ConnMeta::unpack(word);
    if old == SAME {
        old = NOWHERE;
        for index in 0..2 * A::SLOTS as u32 {
            let (line, slot) = at(index);
            let there = line.word(slot * A::STRIDE);
            if A::differs(line, slot, key) | (there ^ word) & SAME_CONN == 0 {
                if line.swap_word(slot * A::STRIDE, there, word) && !conn.is_reply() {
                    let from = ConnMeta::unpack(there).code();
                    recount(tables, conn.dest as u32, from, conn.code());
                }
                return;
            }
        }
    }
    let busy = ConnMeta {
        state: state::BUSY,
        ..conn
    }
    .pack();
    for _ in 0..ATTEMPTS {
        let index = if old < NOWHERE {
            old
        } else {
            choose::<A, T>(tables, settings, first, second, now)
        };
        let (line, slot) = at(index);
        let there = line.word(slot * A::STRIDE);
        if ConnMeta::unpack(there).code() == state::BUSY
            || !line.swap_word(slot * A::STRIDE, there, busy)
        {
            old = NOWHERE;
            continue;
        }
        count_off(tables, there);
        A::set_key(line, slot, key);
        line.swap_word(slot * A::STRIDE, busy, word);
        if !conn.is_reply() && conn.code() != state::TEMPLATE {
            tables.add_conns(conn.dest as u32, weight_of(conn.code()));
        }
        return;
    }
}

/// A connection whose slot was taken no longer counts for its server.
#[inline(always)]
fn count_off<T: Tables>(tables: &T, word: u64) {
    let conn = ConnMeta::unpack(word);
    if word == 0 || conn.is_reply() || conn.code() == state::TEMPLATE {
        return;
    }
    // A row that was given to another server began to count anew.
    if let Some(dest) = tables.dest(conn.dest as u32)
        && dest.generation as u16 == conn.generation
    {
        tables.add_conns(conn.dest as u32, weight_of(conn.code()).wrapping_neg());
    }
}

/// A free slot in the emptier line, else the one whose connection matters least.
#[inline(always)]
fn choose<'t, A: Addr, T: Tables>(
    tables: &'t T,
    settings: &Settings,
    first: T::Line<'t>,
    second: T::Line<'t>,
    now: u32,
) -> u32 {
    let (in_first, first_worth) = cheapest::<A, T>(tables, settings, first, now);
    // Almost every packet that follows looks into the first line first, so that one may be a little
    // fuller.
    if first_worth <= ALMOST_EMPTY {
        return in_first;
    }
    let (in_second, second_worth) = cheapest::<A, T>(tables, settings, second, now);
    if first_worth <= second_worth {
        in_first
    } else {
        A::SLOTS as u32 + in_second
    }
}

/// A free slot in a line with at most one connection.
const ALMOST_EMPTY: u64 = 1;

/// The slot of a line to take, and what is lost by it: for a free slot the number of connections in
/// the line, for others more.
#[inline(always)]
fn cheapest<A: Addr, T: Tables>(
    tables: &T,
    settings: &Settings,
    line: T::Line<'_>,
    now: u32,
) -> (u32, u64) {
    let words = (0..A::SLOTS).fold(0, |words, slot| words | line.word(slot * A::STRIDE));
    if words == 0 {
        // In a table that is not full, most are.
        return (0, 0);
    }
    let (mut least, mut live) = (1 << 62, 0);
    for slot in 0..A::SLOTS {
        let worth = worth(tables, settings, line.word(slot * A::STRIDE), now);
        live += tables.opaque(worth.wrapping_neg()) >> 63;
        // What it is below the least so far, if it is.
        let below = tables.opaque((worth << 2 | slot as u64).wrapping_sub(least));
        least = least.wrapping_add(below & tables.opaque(negative(below)));
    }
    let slot = tables.opaque(least) as u32 & (A::SLOTS as u32 - 1);
    (slot, if least >> 2 == 0 { live } else { least })
}

/// What is lost if this slot is taken: 0 for a free or expired one; else above all ages its class,
/// below it how recently it was used.
///
/// VERIFIER: without a branch, since eight slots are looked at, twice.
#[inline(always)]
fn worth<T: Tables>(tables: &T, settings: &Settings, word: u64, now: u32) -> u64 {
    let conn = ConnMeta::unpack(word);
    let (row, age) = (row(settings, conn), conn.age(now) as u64);
    let timeout = (row & ((1 << STATE_TIMEOUT_BITS) - 1)) as u64;
    let in_use = negative(tables.opaque(word | word.wrapping_neg()));
    let lasts = negative(tables.opaque(age.wrapping_sub(timeout + 1)));
    let class = (row >> STATE_TIMEOUT_BITS) as u64;
    (class << AGE_BITS | ((AGE_MASK - age) & AGE_MASK)) & in_use & lasts
}

/// All ones for a number below 0.
#[inline(always)]
const fn negative(number: u64) -> u64 {
    ((number as i64) >> 63) as u64
}

/// Bits of an age; a class stands above them.
const AGE_BITS: u32 = 24;
const AGE_MASK: u64 = (1 << AGE_BITS) - 1;

/// Timeout and class of a connection's state.
#[inline(always)]
fn row(settings: &Settings, conn: ConnMeta) -> u32 {
    settings
        .states
        .get(conn.code() as usize % STATES)
        .copied()
        .unwrap_or(0)
}

/// True once the state's timeout has passed without a packet.
#[inline(always)]
pub fn expired(settings: &Settings, conn: ConnMeta, now: u32) -> bool {
    conn.age(now) > row(settings, conn) & ((1 << STATE_TIMEOUT_BITS) - 1)
}
