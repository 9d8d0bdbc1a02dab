// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tables of sh, dh and mh: which server each entry leads to.

use lb_common::abi::{HASH_LINE_ENTRIES, HASH_NOBODY, HashLine};
use lb_common::sched::{hashed, maglev};

use super::rows;
use crate::config::model::{ForwardMethod, Scheduler};
use crate::health::{DesiredServer, DesiredService};

/// Lines of a service's table; 0 for a scheduler that has none.
pub(super) fn lines(scheduler: Scheduler) -> u32 {
    let entries = match scheduler {
        Scheduler::Sh | Scheduler::Dh => hashed::ENTRIES,
        Scheduler::Mh => maglev::ENTRIES,
        _ => 0,
    };
    entries.div_ceil(HASH_LINE_ENTRIES) as u32
}

/// The table of a service whose servers stand in scheduling order; `last_weights` are their last
/// weights above 0.
pub(super) fn table(service: &DesiredService, last_weights: &[u32]) -> Vec<HashLine> {
    match service.scheduler {
        Scheduler::Sh => by_turns(service.servers.iter().map(|server| server.weight)),
        Scheduler::Dh => by_turns(service.servers.iter().map(|_| 1)),
        Scheduler::Mh => by_maglev(service, last_weights),
        _ => Vec::new(),
    }
}

fn by_turns(turns: impl Iterator<Item = u32> + Clone) -> Vec<HashLine> {
    let mut table = [HASH_NOBODY; hashed::ENTRIES];
    hashed::fill(&mut table, turns);
    in_lines(&table)
}

fn by_maglev(service: &DesiredService, last_weights: &[u32]) -> Vec<HashLine> {
    let scale = maglev::Scale::of(last_weights.iter().copied());
    let servers = service.servers.iter().zip(last_weights);
    let mut claimants: Vec<_> = servers
        .map(|(server, weight)| {
            let (addr, port) = place(service, server);
            maglev::Claimant::new(addr, port, *weight, scale)
        })
        .collect();
    let mut table = [HASH_NOBODY; maglev::ENTRIES];
    maglev::fill(&mut table, &mut claimants);
    in_lines(&table)
}

/// What a server's place in the table depends on: address and port as numbers.
///
/// IPVS: of an IPv4 service only the first word of an IPv6 server counts. ipvsadm and keepalived
/// give a server that is not masqueraded the service's port.
fn place(service: &DesiredService, server: &DesiredServer) -> (u32, u16) {
    let [first, rest @ ..] = rows::words(server.addr.ip());
    let fold = if service.id.addr.is_ipv4() {
        first
    } else {
        rest.iter().fold(first, |fold, word| fold ^ word)
    };
    let port = match server.method {
        ForwardMethod::Nat => server.addr.port(),
        _ => service.id.port,
    };
    (u32::from_be(fold), port)
}

fn in_lines(table: &[u16]) -> Vec<HashLine> {
    table
        .chunks(HASH_LINE_ENTRIES)
        .map(|entries| {
            let mut line = HashLine {
                entries: [HASH_NOBODY; HASH_LINE_ENTRIES],
            };
            for (slot, entry) in line.entries.iter_mut().zip(entries) {
                *slot = *entry;
            }
            line
        })
        .collect()
}

/// The last weights above 0 of a list: a drained server is remembered by the one it had.
///
/// IPVS: `ip_vs_dest.last_weight`; a new server's is its first one, even if that is 0.
pub(super) fn last_weights(
    servers: &[DesiredServer],
    old: &[DesiredServer],
    old_weights: &[u32],
) -> Vec<u32> {
    let before = |server: &DesiredServer| {
        let of_old = old.iter().zip(old_weights);
        of_old
            .filter(|(old, _)| old.addr == server.addr)
            .map(|(_, weight)| *weight)
            .next()
    };
    servers
        .iter()
        .map(|server| match server.weight {
            0 => before(server).unwrap_or(0),
            weight => weight,
        })
        .collect()
}
