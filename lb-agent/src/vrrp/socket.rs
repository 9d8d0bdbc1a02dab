// SPDX-License-Identifier: MIT OR Apache-2.0
//! Raw sockets of protocol 112: one per interface, shared by its instances.
//!
//! In: whole datagrams from [`super::packet::encode`]. Out: whole datagrams, IP header included,
//! as they arrive. Called by the driver. Invariant: a socket hears and sends on its one interface
//! only, hears only the groups it joined, and never hears itself.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::warn;

use super::packet::PROTOCOL;

/// KEEPALIVED: `SO_PRIORITY` of adverts, "internetwork control", so that a full queue of the
/// device delays them least.
const SO_PRIORITY: i32 = 6;

/// Why the VRRP socket of an interface does not work.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// No raw socket.
    #[error("cannot open a VRRP socket on {interface}: {cause}{}", hint(cause))]
    Open {
        /// Interface.
        interface: String,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// No membership.
    #[error("cannot join group {group} on {interface}: {cause}")]
    Join {
        /// Interface.
        interface: String,
        /// Group.
        group: Ipv4Addr,
        /// The kernel's answer.
        cause: io::Error,
    },
}

fn hint(cause: &io::Error) -> &'static str {
    if cause.kind() == io::ErrorKind::PermissionDenied {
        " (needs root or CAP_NET_RAW)"
    } else {
        ""
    }
}

/// The raw socket of one interface, non-blocking.
#[derive(Debug)]
pub struct VrrpSocket {
    /// A raw socket in tokio's type for datagram sockets, which is what makes waiting for it safe
    /// code (`AsyncFd` is not); nothing that is special to UDP is called.
    socket: UdpSocket,
    interface: String,
    ifindex: u32,
    groups: Vec<Ipv4Addr>,
}

impl VrrpSocket {
    /// Opens a socket bound to `interface`, which has index `ifindex`. Needs CAP_NET_RAW and
    /// a tokio runtime.
    pub fn open(interface: &str, ifindex: u32) -> Result<Self, SocketError> {
        Self::set_up(interface).map_or_else(
            |cause| {
                Err(SocketError::Open {
                    interface: interface.to_owned(),
                    cause,
                })
            },
            |socket| {
                Ok(Self {
                    socket,
                    interface: interface.to_owned(),
                    ifindex,
                    groups: Vec::new(),
                })
            },
        )
    }

    fn set_up(interface: &str) -> io::Result<UdpSocket> {
        let protocol = Protocol::from(i32::from(PROTOCOL));
        let socket = Socket::new(
            Domain::IPV4,
            Type::RAW.cloexec().nonblocking(),
            Some(protocol),
        )?;
        // Also makes the kernel route by interface, so no route to the group is needed.
        socket.bind_device(Some(interface.as_bytes()))?;
        // TTL 255, TOS 0xc0 and the source address are in the header that `packet` writes; the
        // kernel adds identification and header checksum.
        socket.set_header_included_v4(true)?;
        socket.set_multicast_loop_v4(false)?;
        // Otherwise groups that other sockets of this host joined would arrive here as well.
        socket.set_multicast_all_v4(false)?;
        setsockopt(&socket, sockopt::Priority, &SO_PRIORITY)?;
        UdpSocket::from_std(OwnedFd::from(socket).into())
    }

    /// Joins `group` on the interface; joining twice is fine.
    pub fn join(&mut self, group: Ipv4Addr) -> Result<(), SocketError> {
        if self.groups.contains(&group) {
            return Ok(());
        }
        SockRef::from(&self.socket)
            .join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(self.ifindex))
            .map_err(|cause| SocketError::Join {
                interface: self.interface.clone(),
                group,
                cause,
            })?;
        self.groups.push(group);
        Ok(())
    }

    /// Index of the interface when the socket was opened.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Sends a whole datagram to `dst`.
    pub fn send(&self, datagram: &[u8], dst: Ipv4Addr) -> io::Result<()> {
        SockRef::from(&self.socket)
            .send_to(datagram, &SocketAddrV4::new(dst, 0).into())
            .map(drop)
    }

    /// Ready when there may be something to receive; stays so until `receive` finds nothing.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_recv_ready(cx).map(drop)
    }

    /// Receives one whole datagram. Any error, such as ENETDOWN when the interface goes down,
    /// means that there is none left: the wait starts anew, so an error that stays cannot spin.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let received = self.socket.try_io(Interest::READABLE, || {
            (&*SockRef::from(&self.socket))
                .read(buffer)
                .map_err(|cause| {
                    if cause.kind() != io::ErrorKind::WouldBlock {
                        warn!("cannot receive adverts on {}: {cause}", self.interface);
                    }
                    io::ErrorKind::WouldBlock.into()
                })
        });
        let length = received.ok()?;
        buffer.get(..length)
    }
}
