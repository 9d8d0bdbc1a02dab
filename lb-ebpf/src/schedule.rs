// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which real server a new connection gets: drives a `lb_common::sched` walk over the members.

use lb_common::abi::{DEST_PRESENT, Dest, Service};
use lb_common::sched::{Cursor, Walk};

use crate::tables::Tables;

/// Steps taken in all: room for a second walk, should another CPU move the cursor during the first.
/// After that the choice stands and only the order suffers.
const STEPS: u32 = 2 * Walk::MAX_STEPS;

/// No real server has this id.
const NOBODY: u32 = u32::MAX;

/// The chosen real server and its id; `None` if no member takes new connections.
#[inline(always)]
pub fn pick<'t, T: Tables>(tables: &'t T, service: &Service) -> Option<(u32, &'t Dest)> {
    let mut word = tables.cursor(service.id)?;
    let mut walk = Walk::start(service, Cursor::unpack(word));
    // VERIFIER: what a loop's body leaves behind lies in memory, and the payload of a `None` there
    // would be copied unwritten ("R2 !read_ok"); so no `Option` here.
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
    // NOBODY is no row of the table.
    let dest = tables.dest(chosen)?;
    (dest.flags & DEST_PRESENT != 0).then_some((chosen, dest))
}
