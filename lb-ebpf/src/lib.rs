// SPDX-License-Identifier: MIT OR Apache-2.0
//! One packet's journey, in reading order.
//!
//! ```text
//! frame ─ parse ─▸ Flow ─ conntrack ─hit──────────────────────────┐
//!            │        └─miss▸ lookup ▸ schedule ▸ conntrack.create ─┴▸ forward ─▸ Outcome
//!            └──────────────── whatever is not ours: a Verdict ──────────────────────▸
//! ```
//!
//! The source is generic over [`packet::Packet`] (bytes of a frame) and [`tables::Tables`] (the
//! maps), and is compiled twice: into the XDP program (`main.rs`) and into the tests, where a frame
//! is a slice and the maps are collections. It never logs and never fails: it returns a
//! [`Verdict`], which `main.rs` turns into an XDP code and a counter.

#![no_std]
#![forbid(unsafe_code)]
#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[cfg(test)]
extern crate std;

pub mod conntrack;
pub mod forward;
pub mod lookup;
pub mod packet;
pub mod parse;
pub mod schedule;
pub mod stats;
pub mod tables;

use lb_common::abi::Dest;
use lb_common::tcp_state;
use lb_common::verdict::Verdict;
use lb_common::wire::PROTO_UDP;

use conntrack::{Hit, Place};
use packet::Packet;
use parse::Flow;
use tables::Tables;

/// Where the frame goes, and for a redirect, by which interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What becomes of it, and why.
    pub verdict: Verdict,
    /// Interface index, for [`Verdict::Redirect`] only.
    pub ifindex: u32,
}

impl From<Verdict> for Outcome {
    #[inline(always)]
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            ifindex: 0,
        }
    }
}

/// Takes a frame that came in and decides its fate; the frame is rewritten if it is forwarded.
#[inline(always)]
pub fn ingress<P: Packet, T: Tables>(pkt: &mut P, tables: &T) -> Outcome {
    match parse::parse(pkt, tables) {
        Ok(flow) => balance(pkt, tables, &flow),
        Err(verdict) => verdict.into(),
    }
}

/// Finds or makes the connection of a flow and forwards the packet along it.
#[inline(always)]
fn balance<P: Packet, T: Tables>(pkt: &mut P, tables: &T, flow: &Flow) -> Outcome {
    let now = tables.now();
    let place = Place::of(tables, flow);
    let (id, dest, opened) = match conntrack::find(tables, flow, &place, now) {
        Hit::Dest(id, dest) => (id, dest, 0),
        Hit::DestGone => return Verdict::DropDestGone.into(),
        Hit::Miss(old) => match open(tables, flow) {
            Ok((id, dest)) => {
                conntrack::create(tables, flow, &place, old, (id, dest), now);
                (id, dest, 1)
            }
            Err(verdict) => return verdict.into(),
        },
    };
    stats::count(tables, flow, id, dest, opened);
    forward::forward(pkt, tables, flow, dest)
}

/// Which service and which real server a new connection gets.
#[inline(always)]
fn open<'t, T: Tables>(tables: &'t T, flow: &Flow) -> Result<(u32, &'t Dest), Verdict> {
    let service = lookup::service(tables, flow).ok_or(Verdict::PassNoService)?;
    // IPVS: `tcp_conn_schedule` opens a connection for a SYN only (sloppy_tcp is off).
    let opens = flow.proto == PROTO_UDP
        || flow.tcp_flags & (tcp_state::FLAG_SYN | tcp_state::FLAG_RST) == tcp_state::FLAG_SYN;
    if !opens {
        return Err(Verdict::PassNoConnection);
    }
    schedule::pick(tables, service).ok_or(Verdict::PassNoDest)
}
