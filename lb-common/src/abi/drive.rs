// SPDX-License-Identifier: MIT OR Apache-2.0
//! Orders for the benchmark's driver program; the packet program itself knows nothing of them.

use bytemuck::{Pod, Zeroable};

use super::conn_lines;

/// Packets timed together: few enough to fit between two interruptions.
pub const DRIVE_CHUNK: u32 = 4096;
/// Slots for the times of chunks; further chunks begin again with the first.
pub const DRIVE_CHUNKS: u32 = 1024;

/// Connections that the measured table has room for.
pub const DRIVE_CONNS: u32 = (1 << 20) / 3 * 4 + 1;
/// Cache lines of such a table.
pub const DRIVE_LINES: u32 = conn_lines(DRIVE_CONNS);

/// Flows are taken in order, the first again after the last.
pub const DRIVE_IN_ORDER: u32 = 0;
/// Each packet belongs to any of the flows, with equal chances.
pub const DRIVE_RANDOM: u32 = 1;

/// [`Drive::family`]: the frame holds an IPv4 packet with a header of 20 bytes.
pub const DRIVE_V4: u32 = 4;
/// [`Drive::family`]: the frame holds an IPv6 packet without extension headers.
pub const DRIVE_V6: u32 = 6;

/// What the driver writes into each frame before it hands it to the program under test.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Drive {
    /// Random state (not 0), or the next flow counted from `first`.
    pub state: u64,
    /// Number of the first flow.
    pub first: u32,
    /// Flows in all, at least 1.
    pub flows: u32,
    /// `DRIVE_*`.
    pub order: u32,
    /// The first twelve bytes of the frame: both MAC addresses.
    pub macs: [u32; 3],
    /// What a hop changes. IPv4: bytes 8 to 11 of the header (time to live, protocol, checksum);
    /// IPv6: bytes 4 to 7 (length, next header, hop limit).
    pub hop: u32,
    /// EtherType, network byte order.
    pub ethertype: u16,
    /// Virtual port, network byte order.
    pub virt_port: u16,
    /// The first service's address, or its last four bytes, host byte order; the others follow.
    pub virt_base: u32,
    /// Services in all, at least 1; a flow always belongs to the same.
    pub services: u32,
    /// `DRIVE_V4` or `DRIVE_V6`.
    pub family: u32,
    /// Bytes of the frame; what a program put before it is taken away.
    pub length: u32,
    /// Packets made since the order was written.
    pub packets: u64,
    /// When the chunk in progress began, nanoseconds.
    pub chunk_began_ns: u64,
}

impl Drive {
    /// Client address of flow number `n`, or its last four bytes, host byte order: sixteen flows a client, from 10.0.0.0 on.
    #[inline(always)]
    pub const fn client(n: u32) -> u32 {
        0x0a00_0000 | (n >> 4)
    }

    /// Client port of flow number `n`, host byte order.
    #[inline(always)]
    pub const fn client_port(n: u32) -> u16 {
        40_000 + (n & 15) as u16
    }

    /// Number of the service, of `services`, that flow number `n` belongs to.
    #[inline(always)]
    pub const fn service(n: u32, services: u32) -> u32 {
        // Fibonacci hashing: neighbours are spread, and no division is needed.
        let spread = n.wrapping_mul(0x9e37_79b1) as u64;
        ((spread * services as u64) >> 32) as u32
    }
}

/// Bytes of a frame that the generator sends: the least that Ethernet carries.
pub const GENERATE_FRAME: usize = 60;
/// Packets that the generator hands to the device in one go.
pub const GENERATE_BATCH: u32 = 64;
/// Slots for the times of chunks; further chunks begin again with the first.
pub const GENERATE_CHUNKS: u32 = 1024;
/// Servers that the sink tells apart: the last byte of the MAC address that a frame goes to.
pub const GENERATE_SERVERS: u32 = 256;
/// The first four bytes of those addresses, as they lie in memory: 02:00:00:00.
pub const GENERATE_SERVER_WORD: u32 = u32::from_ne_bytes([2, 0, 0, 0]);
/// Bytes that the sink keeps of the first frame to each server: up to the end of a TCP header.
pub const GENERATE_SAMPLE: usize = 54;

/// What the generator sends: one template, and the flow's address, port and sums written into it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Generate {
    /// The frame, with the client's address and port and both checksums zero.
    pub frame: [u32; GENERATE_FRAME / 4],
    /// Sum of the IPv4 header's 16-bit words, in the frame's byte order, not folded.
    pub ip_sum: u32,
    /// The same of the TCP or UDP header, its payload and the pseudo-header.
    pub l4_sum: u32,
    /// 1 if the frame holds a TCP segment, 0 for a UDP datagram.
    pub tcp: u32,
    /// The interface that the frames are sent to.
    pub ifindex: u32,
    /// Number of the first flow.
    pub first: u32,
    /// Flows in all, at least 1, taken in order, the first again after the last.
    pub flows: u32,
    /// The next flow, counted from `first`.
    pub next: u32,
    /// Packets timed together, a multiple of [`GENERATE_BATCH`].
    pub chunk: u32,
    /// Packets made since the order was written.
    pub packets: u32,
    /// When the chunk in progress began, nanoseconds.
    pub chunk_began_ns: u64,
}
