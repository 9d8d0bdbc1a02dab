// SPDX-License-Identifier: MIT OR Apache-2.0
//! What clients do, the same for IPVS when it is recorded and for us when the record is replayed.

use std::net::{Ipv4Addr, SocketAddrV4};

/// A service that is recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Scheduler.
    pub(crate) scheduler: &'static str,
    /// Its flags, as `ipvsadm -b` takes them.
    pub(crate) flags: &'static str,
    /// `uthreshold` of each server; 0 for none.
    pub(crate) upper: u32,
}

/// Services that are recorded.
pub(crate) const KINDS: [Kind; 22] = [
    kind("rr", "", 0),
    kind("wrr", "", 0),
    kind("lc", "", 0),
    kind("wlc", "", 0),
    kind("sed", "", 0),
    kind("nq", "", 0),
    kind("fo", "", 0),
    kind("ovf", "", 0),
    kind("sh", "", 0),
    kind("sh", "sh-port", 0),
    kind("sh", "sh-fallback", 0),
    kind("sh", "sh-fallback,sh-port", 0),
    kind("dh", "", 0),
    kind("mh", "", 0),
    kind("mh", "mh-port", 0),
    kind("mh", "mh-fallback", 0),
    kind("lblc", "", 0),
    kind("lblcr", "", 0),
    // Servers fill up one after the other, in the end all of them.
    kind("wrr", "", 1500),
    kind("wlc", "", 1500),
    kind("sh", "sh-fallback", 1500),
    kind("mh", "mh-fallback", 1500),
];

const fn kind(scheduler: &'static str, flags: &'static str, upper: u32) -> Kind {
    Kind {
        scheduler,
        flags,
        upper,
    }
}

/// All records in their order: a service and the weights of its servers.
pub(crate) fn records() -> impl Iterator<Item = (Kind, &'static [u32])> {
    KINDS
        .into_iter()
        .flat_map(|kind| WEIGHTS.map(|weights| (kind, weights)))
}

/// The title of a record.
pub(crate) fn title((kind, weights): (Kind, &[u32])) -> String {
    let Kind {
        scheduler,
        flags,
        upper,
    } = kind;
    format!("{scheduler} {weights:?} flags={flags} upper={upper}")
}

/// Weights of the real servers, in the order in which they are added.
pub(crate) const WEIGHTS: [&[u32]; 3] = [&[3, 2, 1], &[1, 1, 1, 1], &[5, 0, 3, 1, 8]];

/// Arrivals in one record.
pub(crate) const ARRIVALS: usize = 10_000;

/// The virtual service.
pub(crate) const VIP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 80);

/// Connections that are open at the same time, about.
const OPEN: u64 = 40;

/// One thing that a client does. No client resets a connection: IPVS forgets such a one after ten
/// seconds, which is less than a recording takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Opens connection `n`: SYN, then ACK.
    Open(usize),
    /// Closes it: FIN and ACK.
    Close(usize),
}

/// The client's end of connection `n` of record `record`. Every record has clients of its own, or
/// IPVS would find connections of the one before.
pub(crate) fn client(record: usize, n: usize) -> SocketAddrV4 {
    let (third, fourth) = ((n * 7 % 64) as u8, 1 + (n % 200) as u8);
    let address = Ipv4Addr::new(172, 16 + record as u8, third, fourth);
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
            events.push(Event::Close(n));
        } else {
            events.push(Event::Open(opened));
            open.push(opened);
            opened += 1;
        }
    }
    events
}

/// The chosen servers as text: a digit for each arrival, 0 for a refused one; of more than three
/// equal ones in a row the digit, and their number in brackets.
pub(crate) fn pack(sequence: &[u8]) -> String {
    sequence
        .chunk_by(|a, b| a == b)
        .map(|run| {
            let digit = char::from(b'0' + run[0]);
            match run.len() {
                n @ 4.. => format!("{digit}({n})"),
                n => digit.to_string().repeat(n),
            }
        })
        .collect()
}
