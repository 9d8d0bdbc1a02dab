// SPDX-License-Identifier: MIT OR Apache-2.0
//! UDP sockets of BFD: one a family and port that hears all neighbours, one a session that sends.
//!
//! In: bytes from [`super::packet::encode`]. Out: bytes with their sender and the TTL they came
//! with. Invariant: a session keeps its source port (RFC 5881 §4), which is above 49151 and no
//! other session's.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::task::{Context, Poll};

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::config::model::BfdInstance;

/// RFC 5881 §4: source ports begin here.
const FIRST_PORT: u16 = 49152;
/// Ports tried until one is free.
const PORT_TRIES: usize = 64;
/// `SO_PRIORITY` and type of service, "internetwork control", as adverts have.
const SO_PRIORITY: i32 = 6;
const TOS: u32 = 0xc0;

/// Hears all neighbours of a family on one port.
#[derive(Debug)]
pub(super) struct Inlet {
    socket: UdpSocket,
    pub(super) v6: bool,
    pub(super) port: u16,
}

/// What arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived<'a> {
    pub(super) src: IpAddr,
    /// 0 where the kernel did not say, which no check accepts.
    pub(super) ttl: u8,
    pub(super) bytes: &'a [u8],
}

impl Inlet {
    /// Needs a tokio runtime.
    pub(super) fn open(v6: bool, port: u16) -> io::Result<Self> {
        let (domain, any): (_, IpAddr) = if v6 {
            (Domain::IPV6, Ipv6Addr::UNSPECIFIED.into())
        } else {
            (Domain::IPV4, Ipv4Addr::UNSPECIFIED.into())
        };
        let kind = Type::DGRAM.cloexec().nonblocking();
        let socket = Socket::new(domain, kind, Some(Protocol::UDP))?;
        if v6 {
            socket.set_only_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
        }
        socket.bind(&SocketAddr::new(any, port).into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Self { socket, v6, port })
    }

    /// Ready when there may be something to receive; stays so until `receive` finds nothing.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_recv_ready(cx).map(drop)
    }

    /// Receives one datagram; none when there is none left, for whatever reason.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8]) -> Option<Arrived<'a>> {
        let received = self.socket.try_io(Interest::READABLE, || {
            self.receive_now(buffer)
                .map_err(|_| io::ErrorKind::WouldBlock.into())
        });
        let (length, src, ttl) = received.ok()?;
        let bytes = buffer.get(..length)?;
        Some(Arrived { src, ttl, bytes })
    }

    fn receive_now(&self, buffer: &mut [u8]) -> io::Result<(usize, IpAddr, u8)> {
        let mut control = cmsg_space!(libc::c_int, libc::c_int);
        let mut parts = [IoSliceMut::new(buffer)];
        let fd = self.socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), flags)?;
        let from = message.address.as_ref();
        let v4 = from.and_then(|from| from.as_sockaddr_in().map(|from| IpAddr::V4(from.ip())));
        let v6 = from.and_then(|from| from.as_sockaddr_in6().map(|from| IpAddr::V6(from.ip())));
        let src = v4.or(v6).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let mut ttl = 0;
        for told in message.cmsgs()? {
            if let ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) =
                told
            {
                ttl = u8::try_from(hops).unwrap_or_default();
            }
        }
        Ok((message.bytes, src, ttl))
    }
}

/// Sends for one session. Opened when something is to be sent, so that a source address may come
/// later; closed on an error, and opened anew for the next packet.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    socket: Option<Socket>,
    port: Option<u16>,
}

impl Outlet {
    pub(super) fn send(&mut self, session: &BfdInstance, bytes: &[u8]) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.open(session)?,
        };
        let to = SocketAddr::new(session.neighbor, session.port());
        socket.send_to(bytes, &to.into())?;
        self.socket = Some(socket);
        Ok(())
    }

    fn open(&mut self, session: &BfdInstance) -> io::Result<Socket> {
        let v6 = session.neighbor.is_ipv6();
        let kind = Type::DGRAM.cloexec().nonblocking();
        let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, kind, Some(Protocol::UDP))?;
        if v6 {
            socket.set_unicast_hops_v6(session.ttl.into())?;
            socket.set_tclass_v6(TOS)?;
        } else {
            socket.set_ttl_v4(session.ttl.into())?;
            socket.set_tos_v4(TOS)?;
        }
        setsockopt(&socket, sockopt::Priority, &SO_PRIORITY)?;
        let any: IpAddr = if v6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let source = session.source.unwrap_or(any);
        let mut tried = Err(io::ErrorKind::AddrInUse.into());
        let ports = self.port.into_iter();
        for port in ports.chain((0..PORT_TRIES).map(|_| fastrand::u16(FIRST_PORT..))) {
            tried = socket.bind(&SocketAddr::new(source, port).into());
            match &tried {
                Ok(()) => {
                    self.port = Some(port);
                    break;
                }
                Err(cause) if cause.kind() == io::ErrorKind::AddrInUse => {}
                Err(_) => break,
            }
        }
        tried.map(|()| socket)
    }
}
