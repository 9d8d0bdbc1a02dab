// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding, making and ageing connections.
//!
//! A connection ages by the time of its last packet and its state's timeout; nothing runs to expire
//! it: an entry past its time is treated as absent, and the least recently used one makes room.

use lb_common::abi::{Conn, ConnKey, DEST_PRESENT, Dest};
use lb_common::tcp_state;
use lb_common::wire::PROTO_TCP;

use crate::parse::Flow;
use crate::tables::Tables;

/// What is known of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// It goes to this real server.
    Dest(u32),
    /// Its real server is gone, and the packet cannot open a connection to another one.
    DestGone,
    /// Nothing, or nothing that holds any more.
    Miss,
}

/// Finds the connection of a flow and moves its state and time on.
#[inline(always)]
pub fn find<T: Tables>(tables: &T, flow: &Flow, now_ns: u64) -> Hit {
    let found = tables.with_conn(&key(flow), |conn| {
        if now_ns.wrapping_sub(conn.last_seen_ns) > tcp_state::timeout_ns(conn.state) {
            return Hit::Miss;
        }
        let tcp = flow.proto == PROTO_TCP;
        let syn =
            flow.tcp_flags & (tcp_state::FLAG_SYN | tcp_state::FLAG_ACK) == tcp_state::FLAG_SYN;
        // A client that reuses the port of a closing connection is scheduled at once.
        if tcp && syn && tcp_state::is_closing(conn.state) {
            return Hit::Miss;
        }
        if !tables
            .dest(conn.dest)
            .is_some_and(|dest| holds(dest, conn.generation))
        {
            // IPVS: packets of a connection whose server was removed are dropped silently. A SYN
            // or a datagram loses nothing by going to another server.
            return if !tcp || syn {
                Hit::Miss
            } else {
                Hit::DestGone
            };
        }
        conn.last_seen_ns = now_ns;
        if tcp {
            conn.state = tcp_state::next(conn.state, flow.tcp_flags);
        }
        Hit::Dest(conn.dest)
    });
    found.unwrap_or(Hit::Miss)
}

/// Keeps a new connection of `flow` to real server `id`.
#[inline(always)]
pub fn create<T: Tables>(tables: &T, flow: &Flow, id: u32, dest: &Dest, now_ns: u64) {
    let state = if flow.proto == PROTO_TCP {
        tcp_state::next(tcp_state::NONE, flow.tcp_flags)
    } else {
        tcp_state::UDP
    };
    let conn = Conn {
        last_seen_ns: now_ns,
        dest: id,
        generation: dest.generation,
        state,
        zero: [0; 7],
    };
    tables.put_conn(&key(flow), &conn);
}

/// True if a connection made in `generation` may still go to `dest`.
#[inline(always)]
fn holds(dest: &Dest, generation: u32) -> bool {
    dest.flags & DEST_PRESENT != 0 && dest.generation == generation
}

#[inline(always)]
fn key(flow: &Flow) -> ConnKey {
    ConnKey {
        client: flow.src.to_ne_bytes(),
        virt: flow.dst.to_ne_bytes(),
        client_port: flow.ports.src.to_ne_bytes(),
        virt_port: flow.ports.dst.to_ne_bytes(),
        proto: flow.proto,
        zero: [0; 3],
    }
}
