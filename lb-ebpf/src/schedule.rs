// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which real server a new connection gets: drives a `lb_common::sched` walk over the members.

use lb_common::sched::{Cursor, Walk};

use crate::tables::Tables;

/// Steps taken in all: room for a second walk, should another CPU move the cursor during the first.
/// After that the choice stands and only the order suffers.
const STEPS: u32 = 2 * Walk::MAX_STEPS;

/// No real server has this id.
pub const NOBODY: u32 = u32::MAX;

/// The id of the real server for a new connection to the service in `row`, or [`NOBODY`]. `client`
/// and `virt` are the folds of the addresses, `port` is the client's, all as in the packet.
#[inline(always)]
pub fn pick<T: Tables>(tables: &T, row: u32, client: u32, virt: u32, port: u16) -> u32 {
    // VERIFIER: an argument that is not used is passed uninitialised.
    for word in [client, virt, u32::from(port)] {
        tables.opaque(word.into());
    }
    let Some(service) = tables.service(row) else {
        return NOBODY;
    };
    let Some(mut word) = tables.cursor(service.id) else {
        return NOBODY;
    };
    let mut walk = Walk::start(service, Cursor::unpack(word));
    let mut chosen = NOBODY;
    tables.repeat(STEPS, || {
        if !walk.advance() {
            chosen = NOBODY;
            return false;
        }
        let Some(member) = tables.member(service.first_member.wrapping_add(walk.index())) else {
            return false;
        };
        if !walk.takes(member.weight) {
            return true;
        }
        chosen = member.dest;
        if tables.swap_cursor(service.id, word, walk.cursor().pack()) {
            return false;
        }
        // Another CPU has moved the cursor: choose again from where it is.
        word = tables.cursor(service.id).unwrap_or(word);
        walk = Walk::start(service, Cursor::unpack(word));
        true
    });
    chosen
}

/// A connection to real server `id` was opened: it may be one too many.
///
/// IPVS: `ip_vs_bind_dest` sets `IP_VS_DEST_F_OVERLOAD`; the scheduler takes it back.
#[inline(always)]
pub fn opened<T: Tables>(tables: &T, id: u32) {
    if let Some(load) = tables.load(id)
        && load.upper != 0
        && load.active().wrapping_add(load.inactive()) >= load.upper
    {
        tables.set_overloaded(id, true);
    }
}
