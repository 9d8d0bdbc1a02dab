// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which real server a new connection gets. The loops over a service's members are here; what is
//! thought of each member is in `lb_common::sched`.
//!
//! VERIFIER: what is public here is in the kernel a global function, verified once, on its own, for
//! any arguments; but not [`pick`], which is part of the packet's journey. They have to do with what
//! that leaves of the 512 bytes of stack, about a hundred, so they do not call each other. The loops
//! are `bpf_loop`s, whose body is verified once and costs the packet a call; that of [`best`], which
//! looks at every member, takes several of them in one call.

use lb_common::abi::{
    LINE_MEMBERS, Load, Member, SCHED_DH, SCHED_FO, SCHED_LBLC, SCHED_LBLCR, SCHED_LC, SCHED_MH,
    SCHED_NQ, SCHED_OVF, SCHED_RR, SCHED_SED, SCHED_SH, SCHED_WLC, SCHED_WRR, SERVICE_FALLBACK,
    Service, member_lines,
};
use lb_common::sched::hashed::Key;
use lb_common::sched::locality::{Extreme, Replicas, Server, Set, is_crowded};
use lb_common::sched::search::{Found, Search, unpack};
use lb_common::sched::{Best, Cursor, NOBODY, Rule, Turn};

use crate::tables::Tables;

/// Another CPU has moved the cursor; if the choice stands, only the order suffers.
const LOST: u64 = 1 << 32;

/// The server has too many connections, should others have few.
const CROWDED: u64 = 1 << 33;

/// lblcr: the busiest server of the set is to leave it.
const STALE: u64 = 1 << 34;

/// The id of the real server for a new connection to `service` in `row`, or [`NOBODY`]. `client` and
/// `virt` are the folds of the addresses, `port` is the client's, all as in the packet.
#[inline(always)]
pub fn pick<T: Tables>(
    tables: &T,
    (row, service): (u32, &Service),
    client: u32,
    virt: u32,
    port: u16,
) -> u32 {
    match service.scheduler {
        SCHED_RR | SCHED_WRR => in_turn(tables, row, service.scheduler),
        SCHED_FO | SCHED_OVF => {
            let found = tables.search(row, service.scheduler, NOBODY);
            dest_at(tables, service, unpack(found).0)
        }
        SCHED_SH | SCHED_DH | SCHED_MH => tables.by_table(row, client, virt, port),
        SCHED_LBLC => local(tables, row),
        SCHED_LBLCR => {
            tables.replicas(row, false);
            local(tables, row)
        }
        scheduler => tables.best(row, scheduler),
    }
}

/// rr and wrr.
#[inline(always)]
fn in_turn<T: Tables>(tables: &T, row: u32, scheduler: u8) -> u32 {
    // The next one almost always takes it.
    let mut chosen = tables.next(row);
    if chosen & LOST != 0 {
        chosen = tables.next(row);
    }
    if chosen as u32 != NOBODY {
        return chosen as u32;
    }
    let mut index = unpack(tables.search(row, scheduler, NOBODY)).0;
    let mut heaviest = NOBODY;
    if index == NOBODY && scheduler == SCHED_WRR {
        heaviest = unpack(tables.search(row, SCHED_FO, NOBODY)).0;
        if heaviest != NOBODY {
            index = unpack(tables.search(row, SCHED_WRR, heaviest)).0;
        }
    }
    tables.take(row, index, heaviest)
}

/// lblc, and lblcr after [`replicas`]: the server that the service keeps to, else the one that wlc
/// would choose.
#[inline(always)]
fn local<T: Tables>(tables: &T, row: u32) -> u32 {
    let kept = tables.kept(row);
    if kept & STALE != 0 {
        tables.replicas(row, true);
        tables.leave(row);
    }
    let mut dest = kept as u32;
    let crowded = kept & CROWDED != 0;
    if dest == NOBODY || crowded && unpack(tables.search(row, SCHED_OVF, NOBODY)).1 {
        dest = tables.best(row, SCHED_WLC);
    }
    tables.keep(row, dest);
    dest
}

/// A connection to real server `id` was opened: it may be one too many.
///
/// IPVS: `ip_vs_bind_dest` sets `IP_VS_DEST_F_OVERLOAD`.
#[inline(always)]
pub fn opened<T: Tables>(tables: &T, id: u32) {
    if let Some(load) = tables.load(id)
        && load.is_full()
        && load.overloaded == 0
    {
        tables.set_overloaded(id, true);
    }
}

/// Whether a real server takes connections, as far as its thresholds go.
///
/// IPVS: `ip_vs_unbind_dest` takes the mark of overload back.
#[inline(always)]
fn is_usable<T: Tables>(tables: &T, id: u32, load: &Load) -> bool {
    if load.overloaded == 0 {
        return true;
    }
    let room = load.has_room_again();
    if room {
        tables.set_overloaded(id, false);
    }
    room
}

/// A member of the list; `None` behind the last one.
#[inline(always)]
fn member<'t, T: Tables>(tables: &'t T, service: &Service, index: u32) -> Option<&'t Member> {
    if index >= service.members {
        return None;
    }
    let row = service
        .first_member_line
        .wrapping_add(index / LINE_MEMBERS as u32);
    let line = tables.member_line(row)?;
    line.members.get(index as usize % LINE_MEMBERS)
}

/// The real server at a place in the list, or [`NOBODY`].
#[inline(always)]
fn dest_at<T: Tables>(tables: &T, service: &Service, index: u32) -> u32 {
    member(tables, service, index).map_or(NOBODY, |member| member.dest)
}

/// lc, wlc, sed and nq: the id of the best of all members.
#[inline(always)]
pub fn best<T: Tables>(tables: &T, row: u32, scheduler: u8) -> u32 {
    let Some(service) = tables.service(row) else {
        return NOBODY;
    };
    let (first, lines) = (service.first_member_line, member_lines(service.members));
    let mut dest = NOBODY;
    tables.scan(|scan| {
        scan.index = 0;
        scan.best = Best::new();
        match scheduler {
            SCHED_LC | SCHED_SED | SCHED_NQ => {
                // VERIFIER: opaque, or no mask would be left before the index.
                let rule = Rule::of(tables.opaque(scheduler.into()) as u8);
                tables.repeat(lines, || look(tables, first, rule, scan));
            }
            // The rule most used, whose factors the compiler knows here.
            _ => tables.repeat(lines, || look(tables, first, &Rule::WLC, scan)),
        }
        dest = scan.best.dest;
        true
    });
    dest
}

/// Looks at the members of the next line of the list that begins at line `first`; `false` ends the
/// loop, which never happens.
#[inline(always)]
fn look<T: Tables>(tables: &T, first: u32, rule: &Rule, scan: &mut Scan) -> bool {
    let Some(line) = tables.member_line(first.wrapping_add(scan.index)) else {
        return false;
    };
    scan.index = scan.index.wrapping_add(1);
    for &Member { dest, weight } in &line.members {
        let Some(load) = tables.load(dest) else {
            return false;
        };
        if weight != 0 && is_usable(tables, dest, &load) {
            let opaque = |n| tables.opaque(n);
            scan.best.look(rule, (dest, weight), &load, opaque);
        }
    }
    true
}

/// rr, wrr, fo and ovf: the place of the member found, see [`Search`] and [`Found::pack`]. wrr: if
/// not [`NOBODY`], `heaviest` is the place of the member with the greatest weight of all that take
/// connections, and the search goes on at a lower current weight.
#[inline(always)]
pub fn search<T: Tables>(tables: &T, row: u32, scheduler: u8, heaviest: u32) -> u64 {
    let Some(service) = tables.service(row) else {
        return u64::from(NOBODY);
    };
    let mut search = Search::new(scheduler, |n| tables.opaque(n));
    if matches!(scheduler, SCHED_RR | SCHED_WRR) {
        let Some(word) = tables.cursor(service.id) else {
            return u64::from(NOBODY);
        };
        let turn = turn(tables, service, word, heaviest);
        search.go_round(turn.from, turn.least, turn.least_before);
    }
    tables.scan(|scan| {
        scan.index = 0;
        scan.search = search;
        scan.found = Found::new(0);
        true
    });
    tables.repeat(service.members, move || {
        tables.scan(|scan| {
            let Some((index, dest, weight, load, members)) = advance(tables, row, scan) else {
                return false;
            };
            scan.found.weigh(weight, &load);
            if is_usable(tables, dest, &load) {
                let at = (index, members);
                scan.found
                    .look(&scan.search, at, weight, &load, |n| tables.opaque(n));
            }
            true
        })
    });
    let mut found = u64::from(NOBODY);
    tables.scan(|scan| {
        found = scan.found.pack();
        true
    });
    found
}

/// What a loop over the members keeps from one to the next.
///
/// VERIFIER: on the stack there is no room for it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Scan {
    index: u32,
    set: u32,
    most: u64,
    best: Best,
    search: Search,
    found: Found,
    replicas: Replicas,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            index: 0,
            set: 0,
            most: 0,
            best: Best::new(),
            search: Search::new(0, |n| n),
            found: Found::new(0),
            replicas: Replicas::new(false, 0),
        }
    }
}

/// The next member of a loop: its place, server, weight and load, and how many members there are.
#[inline(always)]
fn advance<T: Tables>(tables: &T, row: u32, scan: &mut Scan) -> Option<(u32, u32, u32, Load, u32)> {
    let service = tables.service(row)?;
    let index = scan.index;
    scan.index = index.wrapping_add(1);
    let &Member { dest, weight } = member(tables, service, index)?;
    Some((index, dest, weight, tables.load(dest)?, service.members))
}

/// The decision that the cursor leads to; wrr: `heaviest` as for [`search`].
#[inline(always)]
fn turn<T: Tables>(tables: &T, service: &Service, word: u64, heaviest: u32) -> Turn {
    let mut turn = Turn::start(service, Cursor::unpack(word));
    if let Some(member) = member(tables, service, heaviest) {
        turn.descend(member.weight);
    }
    turn
}

/// lblcr: finds the member of the service's set that has the least connections, or the most, and
/// leaves what it found in [`Scan`].
#[inline(always)]
pub fn replicas<T: Tables>(tables: &T, row: u32, most: bool) {
    let (Some(service), Some(settings)) = (tables.service(row), tables.settings()) else {
        return;
    };
    let Some(word) = tables.cursor(service.id) else {
        return;
    };
    let set = Set::unpack(word).at(tables.now(), settings.locality);
    tables.scan(|scan| {
        scan.index = 0;
        scan.set = set.number.into();
        scan.most = most.into();
        scan.replicas = Replicas::new(most, 0);
        true
    });
    tables.repeat(service.members, move || {
        tables.scan(|scan| {
            let Some((index, dest, weight, load, _)) = advance(tables, row, scan) else {
                return false;
            };
            let set = Set {
                number: scan.set as u16,
                changed: 0,
                used: 0,
            };
            let joined = set.joined(tables.rank(dest));
            if joined == 0 {
                return true;
            }
            scan.replicas.count(joined, |n| tables.opaque(n));
            // IPVS: the busiest may be an overloaded one.
            if weight != 0 && (scan.most != 0 || is_usable(tables, dest, &load)) {
                scan.replicas
                    .look(index, weight, &load, joined, |n| tables.opaque(n));
            }
            true
        })
    });
}

/// What [`replicas`] found.
#[inline(always)]
fn extreme<T: Tables>(tables: &T) -> Extreme {
    let mut found = 0;
    tables.scan(|scan| {
        found = scan.replicas.pack();
        true
    });
    Extreme::unpack(found)
}

/// rr and wrr: the id of the next real server, and [`LOST`] if another CPU has moved the cursor
/// meanwhile; [`NOBODY`] if that one does not take the connection.
#[inline(always)]
pub fn next<T: Tables>(tables: &T, row: u32) -> u64 {
    let Some(service) = tables.service(row) else {
        return NOBODY.into();
    };
    let Some(mut word) = tables.cursor(service.id) else {
        return NOBODY.into();
    };
    let resumed = resume(tables, service, word);
    if resumed != word {
        tables.swap_cursor(service.id, word, resumed);
        word = resumed;
    }
    let turn = Turn::start(service, Cursor::unpack(word));
    if let Some(&Member { dest, weight }) = member(tables, service, turn.from)
        && weight >= turn.least
        && let Some(load) = tables.load(dest)
        && is_usable(tables, dest, &load)
    {
        return moved(tables, service, word, turn.took(turn.from, dest), dest);
    }
    NOBODY.into()
}

/// rr and wrr: the member at `index`, which a search has found, takes the connection, or with
/// [`NOBODY`] nobody does. Its server's id.
#[inline(always)]
pub fn take<T: Tables>(tables: &T, row: u32, index: u32, heaviest: u32) -> u32 {
    let Some(service) = tables.service(row) else {
        return NOBODY;
    };
    let Some(word) = tables.cursor(service.id) else {
        return NOBODY;
    };
    let turn = turn(tables, service, word, heaviest);
    let dest = dest_at(tables, service, index);
    let next = if dest == NOBODY {
        turn.vain(Cursor::unpack(word))
    } else {
        turn.took(index, dest)
    };
    moved(tables, service, word, next, dest) as u32
}

/// Moves the cursor on; the id, and [`LOST`] if another CPU was faster.
#[inline(always)]
fn moved<T: Tables>(tables: &T, service: &Service, word: u64, next: Cursor, dest: u32) -> u64 {
    let next = next.pack();
    if next == word || tables.swap_cursor(service.id, word, next) {
        dest.into()
    } else {
        LOST | u64::from(dest)
    }
}

/// The cursor's word, at the new place of the server that rr chose last.
#[inline(always)]
fn resume<T: Tables>(tables: &T, service: &Service, word: u64) -> u64 {
    let cursor = Cursor::unpack(word);
    let Some(last) = cursor.moved(service) else {
        return word;
    };
    match place(tables, service, last) {
        NOBODY => word,
        index => Cursor {
            epoch: service.epoch,
            index: index as u16,
            ..cursor
        }
        .pack(),
    }
}

/// The place of a real server in the list, or [`NOBODY`].
#[inline(always)]
fn place<T: Tables>(tables: &T, service: &Service, dest: u32) -> u32 {
    let (mut index, mut found) = (service.zero, NOBODY);
    tables.repeat(service.members, || {
        if dest_at(tables, service, index) == dest {
            found = index;
        }
        index = index.wrapping_add(1);
        found == NOBODY
    });
    found
}

/// lblc and lblcr: the id of the real server that the service keeps to, or [`NOBODY`]; [`CROWDED`]
/// and [`STALE`] above it. lblcr: after [`replicas`].
#[inline(always)]
pub fn kept<T: Tables>(tables: &T, row: u32) -> u64 {
    let (Some(service), Some(settings)) = (tables.service(row), tables.settings()) else {
        return NOBODY.into();
    };
    let Some(word) = tables.cursor(service.id) else {
        return NOBODY.into();
    };
    let now = tables.now();
    let (mut kept, mut index) = (0, NOBODY);
    if service.scheduler == SCHED_LBLCR {
        let least = extreme(tables);
        index = least.index;
        if least.several && Set::unpack(word).is_stale(now, settings.locality) {
            kept = STALE;
        }
    } else {
        let server = Server::unpack(word);
        if server.holds(now, settings.locality) {
            index = server.index.into();
            let dest = server.dest.into();
            if dest_at(tables, service, index) != dest {
                index = place(tables, service, dest);
            }
        }
    }
    // IPVS: an overloaded server is kept, but not a drained one.
    if let Some(&Member { dest, weight }) = member(tables, service, index)
        && weight != 0
        && let Some(load) = tables.load(dest)
    {
        if is_crowded(weight, &load) {
            kept |= CROWDED;
        }
        return kept | u64::from(dest);
    }
    kept | u64::from(NOBODY)
}

/// lblc and lblcr: remembers the real server that was chosen. lblcr: after [`replicas`].
#[inline(always)]
pub fn keep<T: Tables>(tables: &T, row: u32, dest: u32) {
    let (Some(service), Some(settings)) = (tables.service(row), tables.settings()) else {
        return;
    };
    let Some(word) = tables.cursor(service.id) else {
        return;
    };
    if dest == NOBODY {
        return;
    }
    let now = tables.now();
    let next = if service.scheduler == SCHED_LBLCR {
        let mut set = Set::unpack(word).at(now, settings.locality);
        if set.joined(tables.rank(dest)) == 0 {
            let joined = extreme(tables).newest + 1;
            tables.set_rank(dest, set.rank(joined));
            set.changed = now;
        }
        set.pack()
    } else {
        let server = Server::unpack(word);
        let mut index = u32::from(server.index);
        if dest_at(tables, service, index) != dest {
            index = place(tables, service, dest);
        }
        Server {
            known: true,
            dest: dest as u16,
            index: index as u8,
            used: now,
        }
        .pack()
    };
    if next != word {
        tables.swap_cursor(service.id, word, next);
    }
}

/// lblcr: the server that [`replicas`] found leaves the set.
#[inline(always)]
pub fn leave<T: Tables>(tables: &T, row: u32) {
    let Some(service) = tables.service(row) else {
        return;
    };
    let dest = dest_at(tables, service, extreme(tables).index);
    if dest == NOBODY {
        return;
    }
    tables.set_rank(dest, 0);
    if let Some(word) = tables.cursor(service.id) {
        let next = Set {
            changed: tables.now(),
            ..Set::unpack(word)
        };
        tables.swap_cursor(service.id, word, next.pack());
    }
}

/// sh, dh and mh: the id of the real server that an entry of the service's table leads to.
#[inline(always)]
pub fn by_table<T: Tables>(tables: &T, row: u32, client: u32, virt: u32, port: u16) -> u32 {
    let Some(service) = tables.service(row) else {
        return NOBODY;
    };
    let key = Key::new(service, client, virt, port);
    let mut chosen = match entry(tables, service, key.home()) {
        Entry::Nobody => return NOBODY,
        Entry::Unusable => NOBODY,
        Entry::Dest(dest) => return dest,
    };
    if service.flags & SERVICE_FALLBACK == 0 || service.scheduler == SCHED_DH {
        return NOBODY;
    }
    let mut attempt = service.zero;
    tables.repeat(key.entries(), || {
        let found = entry(tables, service, key.fallback(attempt));
        attempt = attempt.wrapping_add(1);
        if let Entry::Dest(dest) = found {
            chosen = dest;
        }
        matches!(found, Entry::Unusable)
    });
    chosen
}

/// What an entry of a service's table leads to.
enum Entry {
    /// The service has no servers.
    Nobody,
    /// A server that takes no connections.
    Unusable,
    /// This one.
    Dest(u32),
}

#[inline(always)]
fn entry<T: Tables>(tables: &T, service: &Service, entry: u32) -> Entry {
    let Some(index) = tables.hash_entry(service.first_line, entry) else {
        return Entry::Nobody;
    };
    let Some(&Member { dest, weight }) = member(tables, service, index.into()) else {
        return Entry::Nobody;
    };
    match tables.load(dest) {
        Some(load) if weight > 0 && is_usable(tables, dest, &load) => Entry::Dest(dest),
        _ => Entry::Unusable,
    }
}
