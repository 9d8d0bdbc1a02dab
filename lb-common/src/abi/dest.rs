// SPDX-License-Identifier: MIT OR Apache-2.0
//! A `real_server` of one service as the packet program sees it.

use bytemuck::{Pod, Zeroable};

use crate::wire::Macs;

/// Flag: this row holds a server. A connection whose row lost it leads nowhere.
pub const DEST_PRESENT: u8 = 1;
/// Flag: the server takes no new connections (weight 0).
pub const DEST_QUIESCENT: u8 = 2;
/// Flag: the server's address is an IPv6 one.
pub const DEST_IPV6: u8 = 4;

/// Direct routing (`lb_kind DR`): only the MAC addresses change.
pub const METHOD_DIRECT: u8 = 1;
/// Masquerading (`lb_kind NAT`): address and port are translated, there and back.
pub const METHOD_NAT: u8 = 2;
/// Tunnelling (`lb_kind TUN`): the datagram gets an outer header, see [`Tunnel`].
pub const METHOD_TUNNEL: u8 = 3;
/// The real server is the director itself.
pub const METHOD_LOCAL: u8 = 4;

/// An address as it stands in the packet; an IPv4 address is the first word, the others are 0.
pub type AddrWords = [u32; 4];

/// Row of `DESTS`: one cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Dest {
    /// Where the frame goes, see [`Dest::macs`]: the first eight bytes of both MAC addresses, 0 while
    /// the destination is not known. One word, so that no packet sees half of a changed destination.
    pub macs_first: u64,
    /// The last four bytes of them.
    pub macs_rest: u32,
    /// `METHOD_*`.
    pub method: u8,
    /// `DEST_*` flags.
    pub flags: u8,
    /// Zero.
    pub zero: u16,
    /// Interface the frame leaves by.
    pub ifindex: u32,
    /// Raised each time the row is given to another server, so that an old connection is not sent
    /// to its successor.
    pub generation: u32,
    /// Virtual address of the service: a connection's slot does not hold it.
    pub virt: AddrWords,
    /// The server's address.
    pub addr: AddrWords,
    /// The server's port, network byte order; 0 leaves the packet's.
    pub port: u16,
    /// Virtual port, network byte order; 0 for any.
    pub virt_port: u16,
    /// Id of the service that this server belongs to.
    pub service: u32,
}

impl Dest {
    /// MAC addresses of the frame: the next hop's towards the real server, as the agent learnt it from
    /// the kernel's neighbour table, and that of the interface it leaves by. `None` while the next
    /// hop's is not known.
    #[inline(always)]
    pub const fn macs(&self) -> Option<Macs> {
        if self.macs_first == 0 {
            return None;
        }
        Some(Macs::join(self.macs_first, self.macs_rest))
    }

    /// Sets them.
    pub const fn set_macs(&mut self, macs: Option<Macs>) {
        (self.macs_first, self.macs_rest) = match macs {
            Some(macs) => macs.split(),
            None => (0, 0),
        };
    }
}

/// IP in IP (protocol 4 or 41).
pub const TUNNEL_IPIP: u8 = 1;
/// Generic routing encapsulation (RFC 2784).
pub const TUNNEL_GRE: u8 = 2;
/// Generic UDP encapsulation (Linux's `fou`, version 0).
pub const TUNNEL_GUE: u8 = 3;

/// Row of `TUNNELS`, by destination id: what the outer header of [`METHOD_TUNNEL`] needs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct Tunnel {
    /// Source address of the outer header: the director's towards the server.
    pub local: AddrWords,
    /// Largest datagram that the way to the server takes, outer header included, bytes.
    pub mtu: u16,
    /// GUE: the server's port, network byte order.
    pub port: u16,
    /// `TUNNEL_*`.
    pub kind: u8,
    /// 1 if the outer header carries a checksum (GRE, GUE).
    pub checksum: u8,
    /// Zero.
    pub zero: u16,
}

/// Row of `LOADS`, by destination id: what schedulers weigh. Mapped by the agent, which counts down
/// what expires.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct Load {
    /// Active connections in the low half, inactive ones in the high half: one word, so that a
    /// connection moves from one to the other in one atomic addition.
    pub conns: u64,
    /// `uthreshold`: no new connection from this many on; 0 for none.
    pub upper: u32,
    /// `lthreshold`: an overloaded server takes connections again below this many; 0 for three
    /// quarters of `upper`.
    pub lower: u16,
    /// 1 while overloaded.
    pub overloaded: u16,
}

/// Added to [`Load::conns`] for one more active connection.
pub const LOAD_ACTIVE: u64 = 1;
/// Added to [`Load::conns`] for one more inactive connection.
pub const LOAD_INACTIVE: u64 = 1 << 32;

impl Load {
    /// Active connections.
    #[inline(always)]
    pub const fn active(&self) -> u32 {
        self.conns as u32
    }

    /// Inactive connections.
    #[inline(always)]
    pub const fn inactive(&self) -> u32 {
        (self.conns >> 32) as u32
    }
}
