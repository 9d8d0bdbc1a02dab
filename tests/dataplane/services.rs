// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a service may be beside an address and a port: persistence, any port, one-packet
//! scheduling, real servers on the director, IPv6; and the watchdog.

use std::net::SocketAddr;
use std::time::Duration;

use lb_agent::config::model::{ForwardMethod, Persistence, Protocol, Scheduler, ServiceId};
use lb_agent::dataplane::plan::NextHopRow;
use lb_agent::health::{DesiredServer, DesiredService};
use lb_common::verdict::Verdict;

use crate::frames::DIRECTOR_MAC;
use crate::host::TICK_NS;
use crate::lab::{INGRESS, Lab, server_mac};
use crate::packets::{Packet, read};

fn service(protocol: Protocol, virt: &str, servers: u8) -> DesiredService {
    let virt: SocketAddr = virt.parse().unwrap();
    let id = ServiceId {
        addr: virt.ip(),
        port: virt.port(),
        protocol,
    };
    let server = |n: u8| {
        let addr = if virt.is_ipv4() {
            SocketAddr::from(([10, 1, 0, n], 80))
        } else {
            format!("[fd00::{n:x}]:80").parse().unwrap()
        };
        DesiredServer::new(addr, ForwardMethod::Dr, 1)
    };
    DesiredService::new(id, Scheduler::Rr, (1..=servers).map(server).collect())
}

fn persistent(service: DesiredService, granularity: u8) -> DesiredService {
    DesiredService {
        persistence: Some(Persistence {
            timeout: Duration::from_secs(60),
            granularity,
        }),
        ..service
    }
}

fn packet(protocol: Protocol, from: &str, to: &str, what: &'static str) -> Vec<u8> {
    Packet::new(protocol, from.parse().unwrap(), to.parse().unwrap(), what).frame()
}

#[test]
fn ipv6_goes_by_direct_routing() {
    let virt = "[2001:db8::1]:80";
    let mut lab = Lab::with_services(vec![service(Protocol::Tcp, virt, 1)]);
    let before = Packet::new(
        Protocol::Tcp,
        "[2001:db8::9]:40000".parse().unwrap(),
        virt.parse().unwrap(),
        "S",
    );
    let (verdict, after) = lab.send(&before.frame());
    assert_eq!(verdict, Verdict::Transmit);
    assert_eq!(after[..6], server_mac(1));
    let expected = Packet {
        ttl: 63,
        src_mac: DIRECTOR_MAC,
        ..before.clone()
    };
    assert_eq!(read(&after, &before), expected);
}

/// Many clients, two lines of two slots each: each finds its own connection again.
#[test]
fn ipv6_connections_are_told_apart() {
    let virt = "[2001:db8::1]:80";
    let mut lab = Lab::with_services(vec![service(Protocol::Tcp, virt, 4)]);
    let from = |n: u32| format!("[2001:db8::{:x}]:{}", n / 16, 40_000 + n % 16);
    let first: Vec<u8> = (0..500)
        .map(|n| lab.forward(&packet(Protocol::Tcp, &from(n), virt, "S")))
        .collect();
    for (n, server) in (0..500).zip(first) {
        assert_eq!(
            lab.forward(&packet(Protocol::Tcp, &from(n), virt, "A")),
            server
        );
    }
}

#[test]
fn persistent_clients_stay_with_their_server() {
    for (virt, clients, stranger, granularity) in [
        (
            "198.51.100.1:80",
            ["192.0.2.9", "192.0.2.77"],
            "192.0.3.9",
            24,
        ),
        (
            "[2001:db8::1]:80",
            ["[2001:db8:9::1]", "[2001:db8:9::2]"],
            "[2001:db8:8::1]",
            48,
        ),
    ] {
        let wanted = persistent(service(Protocol::Tcp, virt, 3), granularity);
        let mut lab = Lab::with_services(vec![wanted]);
        let mut open = |client: &str, port: u16| {
            lab.forward(&packet(
                Protocol::Tcp,
                &format!("{client}:{port}"),
                virt,
                "S",
            ))
        };
        let first = open(clients[0], 40_000);
        assert_eq!(open(clients[0], 40_001), first);
        assert_eq!(open(clients[1], 40_000), first, "the same network");
        assert_ne!(open(stranger, 40_000), first, "another network");
    }
}

#[test]
fn any_port_follows_the_client_but_keeps_its_own() {
    let wanted = persistent(service(Protocol::Tcp, "198.51.100.1:0", 2), 32);
    let exact = service(Protocol::Tcp, "198.51.100.1:443", 1);
    let mut lab = Lab::with_services(vec![wanted, exact]);
    let mut send = |client: &str, port: u16| {
        let to = format!("198.51.100.1:{port}");
        let frame = packet(Protocol::Tcp, client, &to, "S");
        let (verdict, after) = lab.send(&frame);
        assert_eq!(verdict, Verdict::Transmit);
        assert_eq!(after[36..38], port.to_be_bytes());
        after[5]
    };
    let first = send("192.0.2.9:40000", 21);
    assert_eq!(send("192.0.2.9:40001", 3000), first);
    assert_ne!(send("192.0.2.10:40000", 21), first);
    assert_eq!(
        send("192.0.2.9:40002", 443),
        1,
        "the service of exactly this port"
    );
}

#[test]
fn one_packet_scheduling_keeps_no_connection() {
    let wanted = DesiredService {
        one_packet: true,
        ..service(Protocol::Udp, "198.51.100.1:53", 2)
    };
    let mut lab = Lab::with_services(vec![wanted]);
    let frame = packet(Protocol::Udp, "192.0.2.9:40000", "198.51.100.1:53", "");
    let servers: Vec<u8> = (0..4).map(|_| lab.forward(&frame)).collect();
    assert_eq!(servers, [2, 1, 2, 1]);
    assert_eq!(lab.counted(), (0, 0));
}

#[test]
fn server_on_the_director_gets_the_packet_as_it_is() {
    let mut lab = Lab::with_services(vec![service(Protocol::Tcp, "198.51.100.1:80", 1)]);
    lab.route(|_| {
        Some(NextHopRow {
            ifindex: INGRESS,
            local: true,
            ..NextHopRow::default()
        })
    });
    let frame = packet(Protocol::Tcp, "192.0.2.9:40000", "198.51.100.1:80", "S");
    let (verdict, after) = lab.send(&frame);
    assert_eq!((verdict, after), (Verdict::PassLocal, frame));
    assert_eq!(lab.counted(), (1, 0));
}

#[test]
fn without_the_agent_nothing_is_forwarded_any_more() {
    let mut lab = Lab::with_services(vec![service(Protocol::Tcp, "198.51.100.1:80", 1)]);
    lab.host.settings.watchdog = 50;
    let frame = packet(Protocol::Tcp, "192.0.2.9:40000", "198.51.100.1:80", "S");
    lab.host.now_ns.set(50 * TICK_NS);
    assert_eq!(lab.host.run(&frame, INGRESS).0, Verdict::Transmit);
    lab.host.now_ns.set(51 * TICK_NS);
    assert_eq!(lab.host.run(&frame, INGRESS).0, Verdict::PassUnattended);
}
