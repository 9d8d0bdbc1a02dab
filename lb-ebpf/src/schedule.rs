// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which real server a new connection gets: drives a `lb_common::sched` walk over the members.

use lb_common::abi::{DEST_PRESENT, Dest, Service};
use lb_common::sched::{Cursor, Step, Walk};

use crate::tables::Tables;

/// Times a decision is made again because another CPU decided at the same moment; after that the
/// choice stands and only the order suffers.
const ATTEMPTS: u32 = 4;

/// No real server has this id.
const NOBODY: u32 = u32::MAX;

/// The chosen real server and its id; `None` if no member takes new connections.
#[inline(always)]
pub fn pick<'t, T: Tables>(tables: &'t T, service: &Service) -> Option<(u32, &'t Dest)> {
    // VERIFIER: what a loop's body leaves behind lies in memory, and the payload of a `None` there
    // would be copied unwritten ("R2 !read_ok"); so no `Option` here.
    let mut chosen = NOBODY;
    tables.repeat(ATTEMPTS, || {
        let Some(old) = tables.cursor(service.id) else {
            return false;
        };
        let mut walk = Walk::start(service, Cursor::unpack(old));
        if !decide(tables, service, &mut walk) {
            chosen = NOBODY;
            return false;
        }
        chosen = match tables.member(service.first_member.wrapping_add(walk.index())) {
            Some(member) => member.dest,
            None => NOBODY,
        };
        // Decide again if the cursor moved meanwhile.
        !tables.swap_cursor(service.id, old, walk.cursor().pack())
    });
    // The row may have been taken back since the agent wrote the list.
    // NOBODY is no row of the table.
    let dest = tables.dest(chosen)?;
    (dest.flags & DEST_PRESENT != 0).then_some((chosen, dest))
}

/// One walk to its end; `false` if nobody takes the connection.
#[inline(always)]
fn decide<T: Tables>(tables: &T, service: &Service, walk: &mut Walk) -> bool {
    let mut found = false;
    tables.repeat(Walk::MAX_STEPS, || {
        let mut step = walk.advance();
        if step == Step::Look {
            step = match tables.member(service.first_member.wrapping_add(walk.index())) {
                Some(member) => walk.look(member.weight),
                None => Step::Nobody,
            };
        }
        found = step == Step::Chosen;
        step == Step::Look
    });
    found
}
