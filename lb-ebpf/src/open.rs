// SPDX-License-Identifier: MIT OR Apache-2.0
//! A packet of no known connection: which service it asks for, which real server it gets, and the
//! connection that the packets behind it will find.

use lb_common::abi::{
    CONN_REPLY, ConnMeta, DEST_PRESENT, DEST_QUIESCENT, Dest, METHOD_NAT, SERVICE_ANY_PORT,
    SERVICE_ONE_PACKET, SERVICE_PERSISTENT, SETTING_EXPIRE_QUIESCENT, SETTING_SLOPPY_TCP, Service,
    Settings,
};
use lb_common::hash;
use lb_common::state;
use lb_common::verdict::Verdict;
use lb_common::wire::{PROTO_TCP, PROTO_UDP, Ports};

use crate::conntrack::{self, NOWHERE, Place};
use crate::family::Addr;
use crate::lookup;
use crate::packet::Packet;
use crate::parse::Flow;
use crate::tables::{Line, Steps, Tables};

/// The real server for the packet and its id, a connection to it opened.
#[inline(always)]
pub fn open<'t, A: Addr, P: Packet, T: Steps<P>>(
    pkt: &P,
    tables: &'t T,
    settings: &Settings,
    flow: &Flow<A>,
    place: &Place<A>,
    old: u32,
    now: u32,
) -> Result<(u32, &'t Dest), Verdict> {
    let (row, service) = lookup::service(tables, settings, flow).ok_or(Verdict::PassNoService)?;
    let sloppy = flow.proto == PROTO_TCP && settings.flags & SETTING_SLOPPY_TCP != 0;
    if !sloppy && !conntrack::opens(flow) {
        return Err(Verdict::PassNoConnection);
    }
    let (id, dest) =
        choose(tables, settings, (row, service), flow, now).ok_or(Verdict::PassNoDest)?;
    // IPVS: one-packet scheduling is for UDP.
    if service.flags & SERVICE_ONE_PACKET == 0 || flow.proto != PROTO_UDP {
        conntrack::create(tables, flow, place, old, (id, dest), now);
        crate::schedule::opened(tables, id);
        if dest.method == METHOD_NAT {
            tables.remember(pkt, flow.ip_offset, A::FAMILY, now);
        }
    }
    Ok((id, dest))
}

/// The scheduler's choice.
#[inline(always)]
fn schedule<'t, A: Addr, T: Tables>(
    tables: &'t T,
    service: (u32, &Service),
    flow: &Flow<A>,
) -> Option<(u32, &'t Dest)> {
    let (client, virt) = (flow.src.fold(), flow.dst.fold());
    let id = crate::schedule::pick(tables, service, client, virt, flow.ports.src());
    // NOBODY is no row of the table.
    let dest = tables.dest(id)?;
    (dest.flags & DEST_PRESENT != 0).then_some((id, dest))
}

/// The scheduler's choice; with persistence where the client's earlier connections went, else the
/// scheduler's choice, which its later connections will follow.
///
/// IPVS: `ip_vs_sched_persist`. A template ends by the agent's hand, which knows the service's
/// timeout and whether it still has connections.
///
/// VERIFIER(6.1): the scheduler is called in one place only: each costs stack.
#[inline(always)]
fn choose<'t, A: Addr, T: Tables>(
    tables: &'t T,
    settings: &Settings,
    (row, service): (u32, &Service),
    flow: &Flow<A>,
    now: u32,
) -> Option<(u32, &'t Dest)> {
    let persistent = service.flags & SERVICE_PERSISTENT != 0;
    if persistent {
        let place = template_place(tables, service, flow);
        if let Some(found) = template(tables, settings, flow, &place, now) {
            return Some(found);
        }
    }
    let (id, dest) = schedule(tables, (row, service), flow)?;
    if persistent {
        let word = ConnMeta {
            dest: id as u16,
            generation: dest.generation as u16,
            state: state::TEMPLATE,
            seen: now,
        }
        .pack();
        let place = template_place(tables, service, flow);
        A::claim(tables, place.hash, NOWHERE, &place.key, word, now);
    }
    Some((id, dest))
}

/// Of the template of a packet's client.
#[inline(always)]
fn template_place<A: Addr, T: Tables>(tables: &T, service: &Service, flow: &Flow<A>) -> Place<A> {
    let client = flow.src.masked(&service.client_mask);
    let virt_port = if service.flags & SERVICE_ANY_PORT != 0 {
        0
    } else {
        flow.ports.dst()
    };
    let ports = Ports::new(0, virt_port);
    Place::new(tables, (client, flow.dst), ports, flow.proto)
}

/// The server of a client's template, if that still takes connections.
#[inline(always)]
fn template<'t, A: Addr, T: Tables>(
    tables: &'t T,
    settings: &Settings,
    flow: &Flow<A>,
    place: &Place<A>,
    now: u32,
) -> Option<(u32, &'t Dest)> {
    for half in [hash::first(place.hash), hash::second(place.hash)] {
        let line = A::line(tables, half)?;
        for slot in 0..A::SLOTS {
            let word = line.word(slot * A::STRIDE);
            let conn = ConnMeta::unpack(word);
            if conn.state != state::TEMPLATE || A::differs(line, slot, &place.key) != 0 {
                continue;
            }
            let dest = tables.dest(conn.dest as u32)?;
            if !flow.dst.is(&dest.virt) || dest.generation as u16 != conn.generation {
                continue;
            }
            // IPVS: `ip_vs_check_template`.
            let quiescent =
                dest.flags & DEST_QUIESCENT != 0 && settings.flags & SETTING_EXPIRE_QUIESCENT != 0;
            if dest.flags & DEST_PRESENT == 0 || quiescent {
                // Another template takes its place below.
                line.swap_word(slot * A::STRIDE, word, ended(conn));
                continue;
            }
            let next = ConnMeta { seen: now, ..conn }.pack();
            if next != word {
                line.swap_word(slot * A::STRIDE, word, next);
            }
            return Some((conn.dest as u32, dest));
        }
    }
    None
}

/// The word of a template that leads nowhere: a closed connection's, whose slot is taken first. It
/// is marked as a reply's, so that it counts for no server.
#[inline(always)]
fn ended(conn: ConnMeta) -> u64 {
    ConnMeta {
        state: state::tcp::CLOSE | CONN_REPLY,
        ..conn
    }
    .pack()
}
