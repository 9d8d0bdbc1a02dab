// SPDX-License-Identifier: MIT OR Apache-2.0
//! TCP (RFC 9293) and UDP (RFC 768).

use bytemuck::{Pod, Zeroable};

/// What TCP and UDP begin with; network byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Ports {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
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
}
