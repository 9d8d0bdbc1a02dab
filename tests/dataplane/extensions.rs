// SPDX-License-Identifier: MIT OR Apache-2.0
//! IPv6 extension headers: which are looked through, and that what stands behind is found.

use lb_agent::config::model::{ForwardMethod, Protocol, Scheduler, ServiceId, Tunnel};
use lb_agent::health::{DesiredServer, DesiredService};
use lb_common::verdict::Verdict;

use crate::lab::Lab;
use crate::packets::Packet;
use crate::world;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;

fn lab(method: ForwardMethod) -> Lab {
    let id = ServiceId {
        addr: "2001:db8::1".parse().unwrap(),
        port: 80,
        protocol: Protocol::Tcp,
    };
    let server = DesiredServer::new("[fd00::1]:80".parse().unwrap(), method, 1);
    let mut lab = Lab::with_services(vec![DesiredService::new(id, Scheduler::Rr, vec![server])]);
    lab.route(|addr| Some(world::next_hop(addr)));
    lab
}

/// A SYN behind headers of these numbers and lengths (8 bytes each, not counting the first 8).
fn syn(headers: &[(u8, u8)]) -> Vec<u8> {
    let (from, to) = ("[2001:db8::9]:40000", "[2001:db8::1]:80");
    let packet = Packet::new(
        Protocol::Tcp,
        from.parse().unwrap(),
        to.parse().unwrap(),
        "S",
    );
    let mut frame = packet.frame();
    let mut next = frame[20];
    for (number, eights) in headers.iter().rev() {
        let mut header = vec![0; 8 * (usize::from(*eights) + 1)];
        (header[0], header[1]) = (next, *eights);
        frame.splice(54..54, header);
        next = *number;
    }
    frame[20] = next;
    let len = (frame.len() - 54) as u16;
    frame[18..20].copy_from_slice(&len.to_be_bytes());
    frame
}

#[test]
fn up_to_four_are_looked_through() {
    let mut lab = lab(ForwardMethod::Dr);
    let four = [
        (HOP_BY_HOP, 0),
        (DESTINATION, 3),
        (ROUTING, 2),
        (DESTINATION, 0),
    ];
    for count in 0..=4 {
        lab.forward(&syn(&four[..count]));
    }
    let five = [&four[..], &[(DESTINATION, 0)]].concat();
    assert_eq!(lab.send(&syn(&five)).0, Verdict::PassExtensionHeaders);
}

/// What was once found behind a header of 2048 bytes was the header itself.
#[test]
fn too_long_ones_are_not() {
    let mut lab = lab(ForwardMethod::Dr);
    lab.forward(&syn(&[(DESTINATION, 254)]));
    for long in [
        &[(DESTINATION, 255)][..],
        &[(ROUTING, 253), (DESTINATION, 1)],
    ] {
        assert_eq!(lab.send(&syn(long)).0, Verdict::PassExtensionHeaders);
    }
}

/// RFC 8200 section 4.1.
#[test]
fn hop_by_hop_options_come_first_or_not_at_all() {
    let mut lab = lab(ForwardMethod::Dr);
    let late = syn(&[(DESTINATION, 0), (HOP_BY_HOP, 0)]);
    assert_eq!(lab.send(&late).0, Verdict::PassOtherProtocol);
}

/// The sender is not told of a size by a packet that would go no further anyway.
#[test]
fn time_to_live_is_looked_at_before_the_size() {
    let mut lab = lab(ForwardMethod::Tun(Tunnel::Ipip));
    let mut long = syn(&[(DESTINATION, 200)]);
    assert_eq!(lab.send(&long).0, Verdict::ReplyTooBig);
    long[21] = 1;
    assert_eq!(lab.send(&long).0, Verdict::DropTtlExpired);
}
