// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the model's terms to the rows of the maps.

use std::net::IpAddr;

use lb_common::abi::{
    AddrWords, DEST_IPV6, DEST_PRESENT, DEST_QUIESCENT, Dest, FAMILY_IPV4, FAMILY_IPV6,
    LINE_MEMBERS, METHOD_DIRECT, METHOD_LOCAL, METHOD_NAT, METHOD_TUNNEL, Member, MemberLine,
    SCHED_DH, SCHED_FO, SCHED_LBLC, SCHED_LBLCR, SCHED_LC, SCHED_MH, SCHED_NQ, SCHED_OVF, SCHED_RR,
    SCHED_SED, SCHED_SH, SCHED_WLC, SCHED_WRR, SERVICE_ANY_PORT, SERVICE_FALLBACK,
    SERVICE_HASH_PORT, SERVICE_ONE_PACKET, SERVICE_PERSISTENT, ServiceKey, TUNNEL_GRE, TUNNEL_GUE,
    TUNNEL_IPIP, Tunnel,
};
use lb_common::wire::{Mac, Macs, PROTO_SCTP, PROTO_TCP, PROTO_UDP};

use super::{DestKey, NextHopRow};
use crate::config::model::{
    self, ForwardMethod, GueChecksum, Protocol, Scheduler, SchedulerFlags, ServiceId,
};
use crate::health::DesiredService;

/// A service's list as it stands in the map.
pub(super) fn in_lines(members: &[Member]) -> Vec<MemberLine> {
    let lines = members.chunks(LINE_MEMBERS).map(|some| {
        let mut line = MemberLine::default();
        for (place, member) in line.members.iter_mut().zip(some) {
            *place = *member;
        }
        line
    });
    lines.collect()
}

/// An address as it stands in the packet.
pub fn words(addr: IpAddr) -> AddrWords {
    match addr {
        IpAddr::V4(addr) => [u32::from_ne_bytes(addr.octets()), 0, 0, 0],
        IpAddr::V6(addr) => {
            let mut words = [0; 4];
            for (word, bytes) in words.iter_mut().zip(addr.octets().as_chunks::<4>().0) {
                *word = u32::from_ne_bytes(*bytes);
            }
            words
        }
    }
}

/// The other way round.
pub fn address(words: AddrWords, family: u8) -> IpAddr {
    let [a, ..] = words;
    if family == FAMILY_IPV4 {
        IpAddr::from(a.to_ne_bytes())
    } else {
        let mut octets = [0; 16];
        for (bytes, word) in octets.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *bytes = word.to_ne_bytes();
        }
        IpAddr::from(octets)
    }
}

/// A service's key as it stands in the packet.
pub(super) fn key(id: ServiceId) -> ServiceKey {
    ServiceKey {
        addr: words(id.addr),
        port: id.port.to_be(),
        proto: proto(id.protocol),
        family: family(id.addr),
    }
}

/// `FAMILY_*` of an address.
pub(super) fn family(addr: IpAddr) -> u8 {
    if addr.is_ipv4() {
        FAMILY_IPV4
    } else {
        FAMILY_IPV6
    }
}

/// IP protocol number.
pub fn proto(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => PROTO_TCP,
        Protocol::Udp => PROTO_UDP,
        Protocol::Sctp => PROTO_SCTP,
    }
}

/// `SCHED_*` of a scheduler.
pub(super) fn scheduler(scheduler: Scheduler) -> u8 {
    match scheduler {
        Scheduler::Rr => SCHED_RR,
        Scheduler::Wrr => SCHED_WRR,
        Scheduler::Lc => SCHED_LC,
        Scheduler::Wlc => SCHED_WLC,
        Scheduler::Sed => SCHED_SED,
        Scheduler::Nq => SCHED_NQ,
        Scheduler::Sh => SCHED_SH,
        Scheduler::Dh => SCHED_DH,
        Scheduler::Mh => SCHED_MH,
        Scheduler::Fo => SCHED_FO,
        Scheduler::Ovf => SCHED_OVF,
        Scheduler::Lblc => SCHED_LBLC,
        Scheduler::Lblcr => SCHED_LBLCR,
    }
}

/// `SERVICE_*` flags.
pub(super) fn flags(service: &DesiredService) -> u8 {
    let SchedulerFlags { port, fallback } = service.flags;
    let set = |flag, yes| if yes { flag } else { 0 };
    set(SERVICE_HASH_PORT, port)
        | set(SERVICE_FALLBACK, fallback)
        | set(SERVICE_PERSISTENT, service.persistence.is_some())
        | set(SERVICE_ONE_PACKET, service.one_packet)
        | set(SERVICE_ANY_PORT, service.id.port == 0)
}

/// The bits of a client's address that a persistent service looks at.
pub fn client_mask(service: &DesiredService) -> AddrWords {
    let Some(persistence) = service.persistence else {
        return [0; 4];
    };
    let mut left = u32::from(persistence.granularity);
    [0; 4].map(|_: u32| {
        let bits = left.min(32);
        left -= bits;
        u32::MAX.checked_shl(32 - bits).unwrap_or(0).to_be()
    })
}

/// A real server's row; where its frames go is not known yet.
pub(super) fn dest(key: &DestKey, service: u32, generation: u32, weight: u32) -> Dest {
    Dest {
        macs_first: 0,
        macs_rest: 0,
        method: method(key.method),
        flags: dest_flags(key, weight),
        zero: 0,
        ifindex: 0,
        generation,
        virt: words(key.service.addr),
        addr: words(key.addr.ip()),
        port: port(key),
        virt_port: key.service.port.to_be(),
        service,
    }
}

/// `DEST_*` flags of a server that is there.
pub(super) fn dest_flags(key: &DestKey, weight: u32) -> u8 {
    let quiescent = if weight == 0 { DEST_QUIESCENT } else { 0 };
    let family = if key.addr.is_ipv6() { DEST_IPV6 } else { 0 };
    DEST_PRESENT | quiescent | family
}

/// IPVS: with DR and tunnels the port stays the packet's; a service for any port leaves it, too.
fn port(key: &DestKey) -> u16 {
    match key.method {
        ForwardMethod::Nat if key.service.port != 0 => key.addr.port().to_be(),
        _ => 0,
    }
}

/// `METHOD_*` of a server that is not the director itself.
pub(super) fn method(method: ForwardMethod) -> u8 {
    match method {
        ForwardMethod::Dr => METHOD_DIRECT,
        ForwardMethod::Nat => METHOD_NAT,
        ForwardMethod::Tun(_) => METHOD_TUNNEL,
    }
}

/// The row with a (new) next hop; `None` while there is no way.
pub(super) fn routed(key: &DestKey, mut row: Dest, hop: Option<NextHopRow>) -> Dest {
    row.method = match hop {
        Some(NextHopRow { local: true, .. }) => METHOD_LOCAL,
        _ => method(key.method),
    };
    row.set_macs(hop.and_then(|hop| {
        let to = Mac::new(hop.mac?);
        Some(Macs::new(to, Mac::new(hop.from)))
    }));
    if let Some(hop) = hop {
        row.ifindex = hop.ifindex;
    }
    row
}

/// What the outer header needs; zeros for a server that is not reached by a tunnel.
pub(super) fn tunnel(key: &DestKey, hop: Option<NextHopRow>) -> Tunnel {
    let ForwardMethod::Tun(tunnel) = key.method else {
        return Tunnel::default();
    };
    let (kind, port, checksum) = match tunnel {
        model::Tunnel::Ipip => (TUNNEL_IPIP, 0, false),
        model::Tunnel::Gre { checksum } => (TUNNEL_GRE, 0, checksum),
        model::Tunnel::Gue { port, checksum } => (TUNNEL_GUE, port, checksum != GueChecksum::None),
    };
    Tunnel {
        local: hop.and_then(|hop| hop.source).map_or([0; 4], words),
        mtu: hop.map_or(0, |hop| hop.mtu.min(u32::from(u16::MAX)) as u16),
        port: port.to_be(),
        kind,
        checksum: u8::from(checksum),
        zero: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::model::Persistence;

    #[test]
    fn addresses_go_there_and_back() {
        for text in ["198.51.100.1", "2001:db8::1:2:3"] {
            let addr: IpAddr = text.parse().unwrap();
            assert_eq!(address(words(addr), family(addr)), addr);
        }
    }

    #[test]
    fn masks_are_as_in_the_packet() {
        let mut service = DesiredService::new(
            ServiceId {
                addr: IpAddr::from([10, 0, 0, 1]),
                port: 80,
                protocol: Protocol::Tcp,
            },
            Scheduler::Rr,
            Vec::new(),
        );
        let mut mask = |granularity| {
            service.persistence = Some(Persistence {
                timeout: Duration::from_secs(1),
                granularity,
            });
            client_mask(&service).map(u32::to_ne_bytes)
        };
        assert_eq!(mask(24)[0], [255, 255, 255, 0]);
        assert_eq!(mask(32), [[255; 4], [0; 4], [0; 4], [0; 4]]);
        assert_eq!(mask(44), [[255; 4], [255, 240, 0, 0], [0; 4], [0; 4]]);
        assert_eq!(mask(128), [[255; 4]; 4]);
    }
}
