// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a supervisor says on the wire, heard at the other end of a veth pair.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::process::Command;

use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};

use super::*;
use crate::vrrp::announce::gratuitous_arp;

const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Not an advert, but nobody here listens to any: what counts is when it is sent.
const ADVERT: [u8; 4] = *b"here";

fn ip(args: &str) {
    let status = Command::new("ip").args(args.split_whitespace()).status();
    assert!(status.unwrap().success(), "ip {args}");
}

/// Two namespaces on a veth pair, removed by a panic, too.
struct Lan(String);

impl Drop for Lan {
    fn drop(&mut self) {
        for end in ["a", "b"] {
            let name = format!("{}{end}", self.0);
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
}

/// Does something in one of them.
fn within<T: Send + 'static>(name: &str, what: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = std::fs::File::open(format!("/var/run/netns/{name}")).unwrap();
    let thread = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        what()
    });
    thread.join().unwrap()
}

fn held(interval: Duration) -> Held {
    let ifindex = if_nametoindex("e0").unwrap();
    let address = Address {
        ifindex,
        addr: IpAddr::V4(VIP),
        prefix_len: 24,
        peer: IpAddr::V4(VIP),
    };
    let mut bytes = vec![0x45, 0, 0, 24, 0, 0, 0, 0, 255, 112, 0, 0];
    bytes.extend(OWN.octets());
    bytes.extend([224, 0, 0, 18]);
    bytes.extend(ADVERT);
    Held {
        name: "VI_1".to_owned(),
        interval,
        adverts: vec![Frame {
            ifindex,
            authenticated: false,
            src: IpAddr::V4(OWN),
            dst: IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18)),
            hop_limit: 255,
            bytes,
        }],
        releases: Vec::new(),
        addresses: vec![address],
    }
}

/// Stands in for half a second, in no time.
fn stand_in(interval: Duration) {
    let mut stand_in = StandIn::default();
    let masters = vec![held(interval)];
    stand_in.take(
        Nanos::new(0),
        Holdings {
            masters,
            ..Holdings::default()
        },
    );
    let mut turns = 0;
    while let Some(at) = stand_in
        .poll_timeout()
        .filter(|at| at.as_nanos() < 500_000_000)
    {
        stand_in.send_due(at);
        turns += 1;
    }
    assert!(turns < 60, "no more turns than there is something to do");
}

#[test]
fn hasty_peers_may_have_taken_over_so_addresses_are_announced() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root (run: sudo -E cargo test -p lb-agent --lib supervisor)");
        return;
    }
    let lan = Lan(format!("si-{}", std::process::id()));
    let (a, b) = (format!("{}a", lan.0), format!("{}b", lan.0));
    ip(&format!("netns add {a}"));
    ip(&format!("netns add {b}"));
    ip(&format!(
        "link add e0 netns {a} address 02:00:00:00:00:01 type veth peer name e0 netns {b}"
    ));
    ip(&format!("-n {a} addr add {OWN}/24 dev e0"));
    ip(&format!("-n {a} link set e0 up"));
    ip(&format!("-n {b} link set e0 up"));
    let ears = within(&b, || {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        socket(
            AddressFamily::Packet,
            SockType::Raw,
            flags,
            SockProtocol::EthAll,
        )
        .unwrap()
    });
    for (interval, announced) in [(10, 3), (100, 0)] {
        within(&a, move || stand_in(Duration::from_millis(interval)));
        // `A` for an advert, `G` for a gratuitous ARP.
        let (mut line, mut frame) = (String::new(), [0; 256]);
        // A veth hands over what was sent before the call that sent it returns.
        while let Ok(length) = recv(ears.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            if frame[..length] == gratuitous_arp(MAC, VIP) {
                line.push('G');
            } else if frame[..length].ends_with(&ADVERT) {
                line.push('A');
            }
        }
        let adverts = 500 / interval as usize;
        assert_eq!(line.matches('A').count(), adverts, "{line}");
        assert_eq!(line.matches('G').count(), announced, "{line}");
        assert!(line.starts_with("AA"), "the peers first: {line}");
    }
}
