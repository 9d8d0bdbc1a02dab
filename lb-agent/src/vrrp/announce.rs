// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gratuitous ARP and unsolicited neighbour advertisements: tell every host of a link which
//! station answers for a virtual address.
//!
//! In: a device name and addresses. Out: frames on that device. Called by the driver, which keeps
//! what has to wait in a [`queue::Queue`]. Invariant: the frame names the device's own link
//! address, read when the [`Announcer`] was opened, so it is opened anew for each round.

pub mod queue;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use lb_common::csum;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};

/// Length of a gratuitous ARP frame; drivers pad it to the Ethernet minimum.
pub const ARP_FRAME: usize = 42;
/// Length of a neighbour advertisement's frame.
pub const NA_FRAME: usize = 14 + 40 + NA_MESSAGE;

/// Neighbour advertisement with one option.
const NA_MESSAGE: usize = 32;
const ICMPV6: u8 = 58;

const ARPHRD_ETHER: u16 = 1;

/// Why an announcement did not go out.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// The device is gone, or has no Ethernet address (a tunnel, say).
    #[error("cannot announce addresses on {device}: it has no Ethernet address")]
    NoLinkAddress {
        /// Device.
        device: String,
    },
    /// The kernel refused.
    #[error("cannot announce addresses on {device}: {cause}")]
    Send {
        /// Device.
        device: String,
        /// The kernel's answer.
        cause: io::Error,
    },
}

/// A gratuitous ARP request for `vip`, with its Ethernet header.
///
/// RFC 5227 §3, RFC 9568 §8.1.2. KEEPALIVED: a *request* to broadcast with a target hardware
/// address of all ones.
pub fn gratuitous_arp(mac: [u8; 6], vip: Ipv4Addr) -> [u8; ARP_FRAME] {
    let ([m0, m1, m2, m3, m4, m5], [v0, v1, v2, v3]) = (mac, vip.octets());
    [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // Ethernet destination: everyone.
        m0, m1, m2, m3, m4, m5, // Ethernet source.
        0x08, 0x06, // ARP,
        0x00, 0x01, 0x08, 0x00, 6, 4, // for IPv4 on Ethernet,
        0x00, 0x01, // a request.
        m0, m1, m2, m3, m4, m5, v0, v1, v2, v3, // Sender.
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, v0, v1, v2, v3, // Target.
    ]
}

/// An unsolicited neighbour advertisement for `vip`, with its Ethernet header; `router` when this
/// host forwards IPv6 on the device.
///
/// RFC 4861 §7.2.6, RFC 9568 §6.4.2: to all nodes, with the override flag and the link address.
/// KEEPALIVED: the source is the virtual address itself.
pub fn neighbour_advertisement(mac: [u8; 6], vip: Ipv6Addr, router: bool) -> [u8; NA_FRAME] {
    const OVERRIDE: u8 = 0x20;
    const ROUTER: u8 = 0x80;
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let flags = OVERRIDE | if router { ROUTER } else { 0 };
    let mut message = [0; NA_MESSAGE];
    fill(
        &mut message,
        &[
            &[136, 0, 0, 0, flags, 0, 0, 0],
            &vip.octets(),
            &[2, 1],
            &mac,
        ],
    );
    let length = [0, 0, 0, NA_MESSAGE as u8, 0, 0, 0, ICMPV6];
    let parts: [&[u8]; 4] = [&vip.octets(), &all_nodes.octets(), &length, &message];
    let sum = csum::finish(parts.iter().fold(0, |sum, part| csum::sum(part, sum)));
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&sum.to_ne_bytes());
    }
    let mut frame = [0; NA_FRAME];
    fill(
        &mut frame,
        &[
            &[0x33, 0x33, 0, 0, 0, 1],
            &mac,
            &[0x86, 0xdd],
            &[0x60, 0, 0, 0, 0, NA_MESSAGE as u8, ICMPV6, 255],
            &vip.octets(),
            &all_nodes.octets(),
            &message,
        ],
    );
    frame
}

/// Puts `parts` one behind the other.
fn fill(to: &mut [u8], parts: &[&[u8]]) {
    for (to, from) in to.iter_mut().zip(parts.iter().copied().flatten()) {
        *to = *from;
    }
}

/// A packet socket and the link address of one device.
#[derive(Debug)]
pub struct Announcer {
    device: String,
    socket: OwnedFd,
    link: LinkAddr,
    mac: [u8; 6],
    router: bool,
}

impl Announcer {
    /// Opens a packet socket for `device`. Needs CAP_NET_RAW.
    pub fn open(device: &str) -> Result<Self, AnnounceError> {
        let send = |cause: nix::Error| AnnounceError::Send {
            device: device.to_owned(),
            cause: cause.into(),
        };
        // The kernel's own description of the link is also the destination to send to.
        let link = getifaddrs()
            .map_err(send)?
            .filter(|entry| entry.interface_name == device)
            .find_map(|entry| entry.address?.as_link_addr().copied())
            .filter(|link| link.hatype() == ARPHRD_ETHER);
        let (link, mac) = link
            .and_then(|link| Some((link, link.addr()?)))
            .ok_or_else(|| AnnounceError::NoLinkAddress {
                device: device.to_owned(),
            })?;
        // Without a protocol the socket receives nothing.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None).map_err(send)?;
        Ok(Self {
            device: device.to_owned(),
            socket,
            link,
            mac,
            router: forwards_v6(device),
        })
    }

    /// The device it was opened for.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Sends one frame for `vip`.
    pub fn announce(&self, vip: IpAddr) -> Result<(), AnnounceError> {
        match vip {
            IpAddr::V4(vip) => self.send(&gratuitous_arp(self.mac, vip)),
            IpAddr::V6(vip) => self.send(&neighbour_advertisement(self.mac, vip, self.router)),
        }
    }

    fn send(&self, frame: &[u8]) -> Result<(), AnnounceError> {
        let fd = self.socket.as_raw_fd();
        match sendto(fd, frame, &self.link, MsgFlags::empty()) {
            Ok(_) => Ok(()),
            Err(cause) => Err(AnnounceError::Send {
                device: self.device.clone(),
                cause: cause.into(),
            }),
        }
    }
}

/// Whether this host is a router to the IPv6 hosts of the device's link.
fn forwards_v6(device: &str) -> bool {
    std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{device}/forwarding"))
        .is_ok_and(|text| text.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes recorded from keepalived 2.2.7 for the same address.
    #[test]
    fn golden_gratuitous_arp() {
        let mac = [0x02, 0x00, 0x00, 0x00, 0x00, 0x01];
        #[rustfmt::skip]
        let golden: [u8; 42] = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,
            0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0xc0, 0x00, 0x02, 0x64,
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc0, 0x00, 0x02, 0x64,
        ];
        assert_eq!(gratuitous_arp(mac, Ipv4Addr::new(192, 0, 2, 100)), golden);
    }

    /// Bytes recorded from keepalived 2.2.7 for the same address.
    #[test]
    fn golden_neighbour_advertisement() {
        let mac = [0x96, 0x3b, 0x9f, 0x93, 0xfb, 0x18];
        #[rustfmt::skip]
        let golden: [u8; NA_FRAME] = [
            0x33, 0x33, 0, 0, 0, 1, 0x96, 0x3b, 0x9f, 0x93, 0xfb, 0x18, 0x86, 0xdd,
            0x60, 0, 0, 0, 0, 32, 58, 255,
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x09,
            0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01,
            0x88, 0, 0xca, 0x33, 0x20, 0, 0, 0,
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x09,
            0x02, 0x01, 0x96, 0x3b, 0x9f, 0x93, 0xfb, 0x18,
        ];
        let vip = "2001:db8::9".parse().unwrap();
        assert_eq!(neighbour_advertisement(mac, vip, false), golden);
        let router = neighbour_advertisement(mac, vip, true);
        assert_eq!(router[58], 0xa0, "router and override");
    }

    #[test]
    fn a_device_without_an_ethernet_address_is_refused_by_name() {
        let error = Announcer::open("no-such-device").unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot announce addresses on no-such-device: it has no Ethernet address"
        );
    }
}
