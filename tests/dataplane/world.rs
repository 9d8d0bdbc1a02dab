// SPDX-License-Identifier: MIT OR Apache-2.0
//! Services of all kinds at once, for packets by the million: what each does with a packet of its
//! own, by which the oracle judges.
//!
//! The last number of a server's address is its own among all servers, and stands in its MAC address
//! too, so that a frame tells which service it was forwarded for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use lb_agent::config::model::{
    ForwardMethod, GueChecksum, Persistence, Protocol, Scheduler, ServiceId, Tunnel,
};
use lb_agent::dataplane::plan::NextHopRow;
use lb_agent::health::{DesiredServer, DesiredService};

use crate::frames::DIRECTOR_MAC;
use crate::lab::{INGRESS, OTHER, OTHER_MAC, last_octet, server_mac};

/// What becomes of a packet that opens a connection to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To a server, as it is or translated.
    Forward,
    /// To a server in a tunnel, if it fits.
    Tunnel,
    /// To a server behind another interface.
    Redirect,
    /// To a server on the director.
    Local,
    /// Nowhere: no server takes it.
    NoDest,
    /// Nowhere: the next hop is not known.
    NoNeighbor,
}

/// A service and what it is for.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) way: Way,
    pub(crate) service: DesiredService,
}

impl Kind {
    /// Whether a frame to this MAC address goes to one of its servers.
    pub(crate) fn owns(&self, mac: &[u8]) -> bool {
        self.service
            .servers
            .iter()
            .any(|server| server_mac(last_octet(server.addr.ip())) == *mac)
    }

    /// Whether its servers' answers pass the director.
    pub(crate) fn is_nat(&self) -> bool {
        self.service
            .servers
            .iter()
            .any(|server| server.method == ForwardMethod::Nat)
    }
}

/// Largest datagram towards the servers.
pub(crate) const MTU: u32 = 1500;

/// Servers of these numbers are not like the others.
const UNRESOLVED: u8 = 250;
const ON_DIRECTOR: u8 = 251;
const ELSEWHERE: u8 = 252;

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
const TUNNELS: [Tunnel; 6] = [
    Tunnel::Ipip,
    Tunnel::Gre { checksum: false },
    Tunnel::Gre { checksum: true },
    gue(GueChecksum::None),
    gue(GueChecksum::Full),
    gue(GueChecksum::Remote),
];

const fn gue(checksum: GueChecksum) -> Tunnel {
    Tunnel::Gue {
        port: 6080,
        checksum,
    }
}

/// Address `n` of a virtual server.
pub(crate) fn vip(v6: bool, n: u8) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()).into()
    } else {
        Ipv4Addr::new(198, 51, 100, n).into()
    }
}

fn server_addr(v6: bool, n: u8) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into()).into()
    } else {
        Ipv4Addr::new(10, 1, 0, n).into()
    }
}

/// Hands out servers' numbers.
struct Numbers(u8);

impl Numbers {
    fn servers(
        &mut self,
        count: u8,
        v6: bool,
        port: u16,
        method: ForwardMethod,
    ) -> Vec<DesiredServer> {
        let first = self.0;
        self.0 += count;
        assert!(self.0 < UNRESOLVED);
        (first..self.0)
            .map(|n| server(n, v6, port, method, 1 + u32::from(n % 3)))
            .collect()
    }
}

fn server(n: u8, v6: bool, port: u16, method: ForwardMethod, weight: u32) -> DesiredServer {
    let addr = SocketAddr::new(server_addr(v6, n), port);
    DesiredServer::new(addr, method, weight)
}

/// All services, in both families and all protocols.
pub(crate) fn services() -> Vec<Kind> {
    let mut numbers = Numbers(1);
    let mut kinds = Vec::new();
    for v6 in [false, true] {
        plain(&mut numbers, v6, &mut kinds);
        tunnels(&mut numbers, v6, &mut kinds);
        special(&mut numbers, v6, &mut kinds);
    }
    kinds
}

/// The same servers behind each protocol.
fn everywhere(
    way: Way,
    (addr, port): (IpAddr, u16),
    servers: &[DesiredServer],
    kinds: &mut Vec<Kind>,
) {
    for (number, protocol) in PROTOCOLS.into_iter().enumerate() {
        let id = ServiceId {
            addr,
            port,
            protocol,
        };
        let scheduler = [Scheduler::Wrr, Scheduler::Rr][number % 2];
        let service = DesiredService::new(id, scheduler, servers.to_vec());
        kinds.push(Kind { way, service });
    }
}

/// Direct routing and masquerading.
fn plain(numbers: &mut Numbers, v6: bool, kinds: &mut Vec<Kind>) {
    let (dr, nat) = (ForwardMethod::Dr, ForwardMethod::Nat);
    let mut servers = numbers.servers(3, v6, 80, dr);
    servers[0].upper_threshold = 40;
    everywhere(Way::Forward, (vip(v6, 1), 80), &servers, kinds);
    let servers = numbers.servers(2, v6, 8080, nat);
    everywhere(Way::Forward, (vip(v6, 1), 81), &servers, kinds);
}

/// Each tunnel, to servers of either family.
fn tunnels(numbers: &mut Numbers, v6: bool, kinds: &mut Vec<Kind>) {
    for (port, tunnel) in (82..).zip(TUNNELS) {
        let method = ForwardMethod::Tun(tunnel);
        for (vip_number, outer_v6) in [(1, v6), (2, !v6)] {
            let servers = numbers.servers(1, outer_v6, port, method);
            everywhere(Way::Tunnel, (vip(v6, vip_number), port), &servers, kinds);
        }
    }
}

/// Persistence, any port, one-packet scheduling; and what leads nowhere.
fn special(numbers: &mut Numbers, v6: bool, kinds: &mut Vec<Kind>) {
    let dr = ForwardMethod::Dr;
    let persistence = Some(Persistence {
        timeout: Duration::from_mins(1),
        granularity: if v6 { 48 } else { 24 },
    });
    let first = kinds.len();
    let servers = numbers.servers(2, v6, 443, dr);
    everywhere(Way::Forward, (vip(v6, 1), 443), &servers, kinds);
    let servers = numbers.servers(2, v6, 0, dr);
    everywhere(Way::Forward, (vip(v6, 3), 0), &servers, kinds);
    let servers = numbers.servers(2, v6, 0, ForwardMethod::Nat);
    everywhere(Way::Forward, (vip(v6, 4), 0), &servers, kinds);
    for kind in &mut kinds[first..] {
        kind.service.persistence = persistence;
    }
    let first = kinds.len();
    let servers = numbers.servers(2, v6, 53, dr);
    everywhere(Way::Forward, (vip(v6, 1), 53), &servers, kinds);
    for kind in &mut kinds[first..] {
        kind.service.one_packet = true;
    }
    everywhere(Way::NoDest, (vip(v6, 1), 90), &[], kinds);
    let drained = numbers.servers(1, v6, 91, dr).remove(0);
    let drained = DesiredServer {
        weight: 0,
        ..drained
    };
    everywhere(Way::NoDest, (vip(v6, 1), 91), &[drained], kinds);
    for (port, way, number) in [
        (92, Way::NoNeighbor, UNRESOLVED),
        (93, Way::Local, ON_DIRECTOR),
        (94, Way::Redirect, ELSEWHERE),
    ] {
        let servers = [server(number, v6, port, dr, 1)];
        everywhere(way, (vip(v6, 1), port), &servers, kinds);
    }
}

/// The way to a server.
pub(crate) fn next_hop(addr: IpAddr) -> NextHopRow {
    let n = last_octet(addr);
    let elsewhere = n == ELSEWHERE;
    NextHopRow {
        ifindex: if elsewhere { OTHER } else { INGRESS },
        mac: (n != UNRESOLVED).then(|| server_mac(n)),
        from: if elsewhere { OTHER_MAC } else { DIRECTOR_MAC },
        local: n == ON_DIRECTOR,
        source: Some(server_addr(addr.is_ipv6(), 254)),
        mtu: MTU,
    }
}
