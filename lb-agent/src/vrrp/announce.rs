// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gratuitous ARP: tells every host of a link which station answers for a virtual address.
//!
//! In: a device name and addresses. Out: frames on that device. Called by the driver. Invariant:
//! the frame names the device's own link address, read when the [`Announcer`] was opened, so it
//! is opened anew for each round.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};

/// Frames per address and round. KEEPALIVED: `garp_master_repeat`, 5 by default.
pub const GARP_REPEAT: u32 = 5;
/// Length of the frame; drivers pad it to the Ethernet minimum.
pub const FRAME: usize = 42;

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
pub fn gratuitous_arp(mac: [u8; 6], vip: Ipv4Addr) -> [u8; FRAME] {
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

/// A packet socket and the link address of one device.
#[derive(Debug)]
pub struct Announcer {
    device: String,
    socket: OwnedFd,
    link: LinkAddr,
    mac: [u8; 6],
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
        })
    }

    /// Sends [`GARP_REPEAT`] frames for each of `vips`, in rounds over all of them.
    pub fn announce(&self, vips: &[Ipv4Addr]) -> Result<(), AnnounceError> {
        for _ in 0..GARP_REPEAT {
            for vip in vips {
                let frame = gratuitous_arp(self.mac, *vip);
                let fd = self.socket.as_raw_fd();
                sendto(fd, &frame, &self.link, MsgFlags::empty()).map_err(|cause| {
                    AnnounceError::Send {
                        device: self.device.clone(),
                        cause: cause.into(),
                    }
                })?;
            }
        }
        Ok(())
    }
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

    #[test]
    fn a_device_without_an_ethernet_address_is_refused_by_name() {
        let error = Announcer::open("no-such-device").unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot announce addresses on no-such-device: it has no Ethernet address"
        );
    }
}
