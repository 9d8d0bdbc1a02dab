// SPDX-License-Identifier: MIT OR Apache-2.0
//! What clients do, the same for IPVS when it is recorded and for us when the record is replayed.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Schedulers that are recorded.
pub(crate) const SCHEDULERS: [&str; 8] = ["rr", "wrr", "lc", "wlc", "sed", "nq", "fo", "ovf"];

/// Weights of the real servers, in the order in which they are added.
pub(crate) const WEIGHTS: [&[u32]; 3] = [&[3, 2, 1], &[1, 1, 1, 1], &[5, 0, 3, 1, 8]];

/// Arrivals in one record.
pub(crate) const ARRIVALS: usize = 2000;

/// The virtual service.
pub(crate) const VIP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 80);

/// Connections that are open at the same time, about.
const OPEN: u64 = 40;

/// One thing that a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Opens connection `n`: SYN, then ACK.
    Open(usize),
    /// Closes it: FIN and ACK.
    Close(usize),
    /// Resets it.
    Reset(usize),
}

/// The client's end of connection `n` of record `record`. Every record has clients of its own, or
/// IPVS would find connections of the one before.
pub(crate) fn client(record: usize, n: usize) -> SocketAddrV4 {
    let address = Ipv4Addr::new(172, 16 + record as u8, 0, 1 + (n % 200) as u8);
    SocketAddrV4::new(address, 2000 + n as u16)
}

/// Real server `n` of record `record`; its own, too, since IPVS remembers removed servers.
pub(crate) fn server(record: usize, n: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 1, record as u8, n as u8), VIP.port())
}

/// `ARRIVALS` connections that open and close in a shuffled but fixed order.
pub(crate) fn events() -> Vec<Event> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: u64| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut events = Vec::new();
    let mut open = Vec::new();
    let mut opened = 0;
    while opened < ARRIVALS {
        let crowded = open.len() as u64 > random(2 * OPEN);
        if crowded && !open.is_empty() {
            let n = open.swap_remove(random(open.len() as u64) as usize);
            events.push(if random(8) == 0 {
                Event::Reset(n)
            } else {
                Event::Close(n)
            });
        } else {
            events.push(Event::Open(opened));
            open.push(opened);
            opened += 1;
        }
    }
    events
}
