// SPDX-License-Identifier: MIT OR Apache-2.0
//! TCP (RFC 9293), UDP (RFC 768) and SCTP (RFC 9260).

use bytemuck::{Pod, Zeroable};

/// What TCP, UDP and SCTP begin with: source and destination port, as one word.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Ports(u32);

impl Ports {
    /// From both ports, network byte order.
    #[inline(always)]
    pub const fn new(src: u16, dst: u16) -> Self {
        Self::from_word(src as u32 | (dst as u32) << 16)
    }

    /// From what [`Ports::word`] gives.
    #[inline(always)]
    pub const fn from_word(word: u32) -> Self {
        if cfg!(target_endian = "little") {
            Self(word)
        } else {
            Self(word.rotate_left(16))
        }
    }

    /// The source port below the destination port.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        if cfg!(target_endian = "little") {
            self.0
        } else {
            self.0.rotate_left(16)
        }
    }

    /// Source port, network byte order.
    #[inline(always)]
    pub const fn src(self) -> u16 {
        self.word() as u16
    }

    /// Destination port, network byte order.
    #[inline(always)]
    pub const fn dst(self) -> u16 {
        (self.word() >> 16) as u16
    }

    /// Those of a packet the other way.
    #[inline(always)]
    pub const fn reversed(self) -> Self {
        Self(self.0.rotate_left(16))
    }
}

/// The fixed part of a TCP header.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Tcp {
    /// Ports.
    pub ports: Ports,
    /// Sequence number, network byte order.
    pub seq: u32,
    /// Acknowledgement number, network byte order.
    pub ack: u32,
    /// Data offset (4 bits) and reserved bits.
    pub offset: u8,
    /// CWR ECE URG ACK PSH RST SYN FIN, see `tcp_state::FLAG_*`.
    pub flags: u8,
    /// Window, network byte order.
    pub window: u16,
    /// Checksum.
    pub check: u16,
    /// Urgent pointer, network byte order.
    pub urgent: u16,
}

impl Tcp {
    /// Length without options, bytes.
    pub const LEN: usize = 20;

    /// Length with options, bytes: a multiple of 4 up to 60; below 20 the header is malformed.
    #[inline(always)]
    pub const fn header_len(&self) -> usize {
        ((self.offset >> 4) as usize) << 2
    }
}

/// A UDP header.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Udp {
    /// Ports.
    pub ports: Ports,
    /// Length of header and data, network byte order.
    pub len: u16,
    /// Checksum; 0 means none.
    pub check: u16,
}

impl Udp {
    /// Length, bytes.
    pub const LEN: usize = 8;

    /// Length of header and data, host byte order.
    #[allow(
        clippy::len_without_is_empty,
        reason = "a field of the header, never 0 in a valid one"
    )]
    #[inline(always)]
    pub const fn len(&self) -> usize {
        u16::from_be(self.len) as usize
    }
}

/// The common header of SCTP and the type of the first chunk.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Sctp {
    /// Ports.
    pub ports: Ports,
    /// Verification tag.
    pub tag: u32,
    /// CRC32c of the packet, least significant byte first.
    pub check: u32,
    /// Type of the first chunk.
    pub chunk: u8,
    /// Its flags.
    pub chunk_flags: u8,
    /// Its length, network byte order.
    pub chunk_len: u16,
}

impl Sctp {
    /// Length with the first chunk's header, bytes.
    pub const LEN: usize = 16;
}
