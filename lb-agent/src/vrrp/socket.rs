// SPDX-License-Identifier: MIT OR Apache-2.0
//! Raw sockets of protocol 112 (or 51, the authentication header): one per interface and kind,
//! shared by its instances.
//!
//! In: bytes from [`super::packet::encode`]. Out: bytes as they arrive, over IPv4 with the IP
//! header, over IPv6 with what the kernel says of it. Called by the driver. Invariant: a socket
//! hears and sends on its one interface only, hears only the groups it joined, and never hears
//! itself.

use std::io::{self, IoSliceMut, Read};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::task::{Context, Poll};

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::warn;

use super::packet::{PROTOCOL, PROTOCOL_AH, TOS};

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
        group: IpAddr,
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

/// What a socket carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Adverts over IPv4.
    V4,
    /// Adverts over IPv4 behind an authentication header.
    V4Ah,
    /// Adverts over IPv6.
    V6,
}

/// What arrived.
#[derive(Clone, Copy, Debug)]
pub enum Arrived<'a> {
    /// A whole IPv4 datagram.
    V4(&'a [u8]),
    /// A message over IPv6.
    V6 {
        /// Source address.
        src: Ipv6Addr,
        /// Destination address.
        dst: Ipv6Addr,
        /// Hop limit on arrival.
        hop_limit: u8,
        /// The message.
        message: &'a [u8],
    },
}

/// Where a datagram goes.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Own address; over IPv4 it is in the datagram, too.
    pub src: IpAddr,
    /// Group or peer.
    pub dst: IpAddr,
    /// Hop limit of IPv6.
    pub hop_limit: u8,
}

/// The raw socket of one interface, non-blocking.
#[derive(Debug)]
pub struct VrrpSocket {
    /// A raw socket in tokio's type for datagram sockets, which is what makes waiting for it safe
    /// code (`AsyncFd` is not); nothing that is special to UDP is called.
    socket: UdpSocket,
    kind: Kind,
    interface: String,
    ifindex: u32,
    groups: Vec<IpAddr>,
}

impl VrrpSocket {
    /// Opens a socket bound to `interface`, which has index `ifindex`. Needs CAP_NET_RAW and
    /// a tokio runtime.
    pub fn open(kind: Kind, interface: &str, ifindex: u32) -> Result<Self, SocketError> {
        let socket = set_up(kind, interface, ifindex);
        let socket = socket.and_then(|socket| UdpSocket::from_std(OwnedFd::from(socket).into()));
        match socket {
            Ok(socket) => Ok(Self {
                socket,
                kind,
                interface: interface.to_owned(),
                ifindex,
                groups: Vec::new(),
            }),
            Err(cause) => Err(SocketError::Open {
                interface: interface.to_owned(),
                cause,
            }),
        }
    }

    /// Joins `group` on the interface; joining twice is fine.
    pub fn join(&mut self, group: IpAddr) -> Result<(), SocketError> {
        if self.groups.contains(&group) {
            return Ok(());
        }
        let socket = SockRef::from(&self.socket);
        let joined = match &group {
            IpAddr::V4(group) => {
                let interface = InterfaceIndexOrAddress::Index(self.ifindex);
                socket.join_multicast_v4_n(group, &interface)
            }
            IpAddr::V6(group) => socket.join_multicast_v6(group, self.ifindex),
        };
        joined.map_err(|cause| SocketError::Join {
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

    /// What it carries.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Sends a whole datagram (over IPv6 a message).
    pub fn send(&self, datagram: &[u8], route: &Route) -> io::Result<()> {
        send(&SockRef::from(&self.socket), self.ifindex, datagram, route)
    }

    /// Ready when there may be something to receive; stays so until `receive` finds nothing.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_recv_ready(cx).map(drop)
    }

    /// Receives one datagram. Any error, such as ENETDOWN when the interface goes down, means that
    /// there is none left: the wait starts anew, so an error that stays cannot spin.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> Option<Arrived<'a>> {
        if self.kind == Kind::V6 {
            let (length, src, dst, hop_limit) = self.try_io(|| self.receive_v6(buffer))?;
            let message = buffer.get(..length)?;
            return Some(Arrived::V6 {
                src,
                dst,
                hop_limit,
                message,
            });
        }
        let length = self.try_io(|| (&*SockRef::from(&self.socket)).read(buffer))?;
        buffer.get(..length).map(Arrived::V4)
    }

    fn try_io<R>(&self, receive: impl FnOnce() -> io::Result<R>) -> Option<R> {
        let received = self.socket.try_io(Interest::READABLE, || {
            receive().map_err(|cause| {
                if cause.kind() != io::ErrorKind::WouldBlock {
                    warn!("cannot receive adverts on {}: {cause}", self.interface);
                }
                io::ErrorKind::WouldBlock.into()
            })
        });
        received.ok()
    }

    /// Length, source, destination and hop limit. What the kernel does not tell (it was asked to)
    /// is taken for a value that no check accepts.
    fn receive_v6(&self, buffer: &mut [u8]) -> io::Result<(usize, Ipv6Addr, Ipv6Addr, u8)> {
        let mut control = cmsg_space!(libc::in6_pktinfo, libc::c_int);
        let mut parts = [IoSliceMut::new(buffer)];
        let fd = self.socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrIn6>(fd, &mut parts, Some(&mut control), flags)?;
        let src = message
            .address
            .map_or(Ipv6Addr::UNSPECIFIED, |from| from.ip());
        let (mut dst, mut hop_limit) = (Ipv6Addr::UNSPECIFIED, 0);
        for told in message.cmsgs()? {
            match told {
                ControlMessageOwned::Ipv6PacketInfo(info) => dst = info.ipi6_addr.s6_addr.into(),
                ControlMessageOwned::Ipv6HopLimit(hops) => {
                    hop_limit = u8::try_from(hops).unwrap_or_default();
                }
                _ => {}
            }
        }
        Ok((message.bytes, src, dst, hop_limit))
    }
}

/// Sends one datagram by an interface from a socket of its own; needs no runtime.
pub(crate) fn send_once(
    kind: Kind,
    ifindex: u32,
    datagram: &[u8],
    route: &Route,
) -> io::Result<()> {
    let interface = nix::net::if_::if_indextoname(ifindex)?;
    let interface = interface.to_string_lossy();
    let socket = set_up(kind, &interface, ifindex)?;
    send(&SockRef::from(&socket), ifindex, datagram, route)
}

fn send(socket: &SockRef<'_>, ifindex: u32, datagram: &[u8], route: &Route) -> io::Result<()> {
    match (route.src, route.dst) {
        (_, IpAddr::V4(dst)) => socket
            .send_to(datagram, &SocketAddrV4::new(dst, 0).into())
            .map(drop),
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            send_v6(socket, ifindex, datagram, (src, dst), route.hop_limit)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn send_v6(
    socket: &SockRef<'_>,
    ifindex: u32,
    message: &[u8],
    (src, dst): (Ipv6Addr, Ipv6Addr),
    hop_limit: u8,
) -> io::Result<()> {
    let scope = if dst.is_unicast_link_local() || dst.is_multicast() {
        ifindex
    } else {
        0
    };
    let to = SockaddrIn6::from(SocketAddrV6::new(dst, 0, 0, scope));
    let source = libc::in6_pktinfo {
        ipi6_addr: libc::in6_addr {
            s6_addr: src.octets(),
        },
        ipi6_ifindex: ifindex,
    };
    let hops = libc::c_int::from(hop_limit);
    let control = [
        ControlMessage::Ipv6PacketInfo(&source),
        ControlMessage::Ipv6HopLimit(&hops),
    ];
    let parts = [io::IoSlice::new(message)];
    let fd = socket.as_raw_fd();
    sendmsg(fd, &parts, &control, MsgFlags::empty(), Some(&to))?;
    Ok(())
}

fn set_up(kind: Kind, interface: &str, ifindex: u32) -> io::Result<Socket> {
    match kind {
        Kind::V4 => set_up_v4(interface, PROTOCOL),
        Kind::V4Ah => set_up_v4(interface, PROTOCOL_AH),
        Kind::V6 => set_up_v6(interface, ifindex),
    }
}

fn set_up_v4(interface: &str, protocol: u8) -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from(protocol));
    let kind = Type::RAW.cloexec().nonblocking();
    let socket = Socket::new(Domain::IPV4, kind, Some(protocol))?;
    // Also makes the kernel route by interface, so no route to the group is needed.
    socket.bind_device(Some(interface.as_bytes()))?;
    // TTL, TOS 0xc0 and the source address are in the header that `packet` writes; the kernel adds
    // identification and header checksum.
    socket.set_header_included_v4(true)?;
    socket.set_multicast_loop_v4(false)?;
    // Otherwise groups that other sockets of this host joined would arrive here as well.
    socket.set_multicast_all_v4(false)?;
    setsockopt(&socket, sockopt::Priority, &SO_PRIORITY)?;
    Ok(socket)
}

fn set_up_v6(interface: &str, ifindex: u32) -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from(PROTOCOL));
    let kind = Type::RAW.cloexec().nonblocking();
    let socket = Socket::new(Domain::IPV6, kind, Some(protocol))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_multicast_if_v6(ifindex)?;
    socket.set_multicast_loop_v6(false)?;
    socket.set_multicast_all_v6(false)?;
    socket.set_tclass_v6(u32::from(TOS))?;
    setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
    setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    setsockopt(&socket, sockopt::Priority, &SO_PRIORITY)?;
    // A link-local address, the kernel's choice or a peer's: each datagram names its source.
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())?;
    Ok(socket)
}
