// SPDX-License-Identifier: MIT OR Apache-2.0
//! Following live packets: what is asked for, and what is told of each.

use bytemuck::{Pod, Zeroable};

use super::AddrWords;

/// Who may follow at the same time: rows of `FOLLOW_FILTERS`.
pub const MAX_FOLLOWERS: u32 = 4;

/// Packets a second that each CPU tells of; more are only counted.
pub const FOLLOW_RATE: u64 = 2_000;

/// Bytes of `FOLLOW_EVENTS`.
pub const FOLLOW_BYTES: u32 = 1 << 18;

/// `FollowEvent::dest` of a packet that no real server was chosen for.
pub const FOLLOW_NO_DEST: u32 = u32::MAX;

/// `FollowFilter::by`: somebody follows by this row.
pub const FOLLOW_ON: u8 = 1;
/// `FollowFilter::by`: the source address counts.
pub const FOLLOW_SRC: u8 = 2;
/// `FollowFilter::by`: the destination address counts.
pub const FOLLOW_DST: u8 = 4;
/// `FollowFilter::by`: the source port counts.
pub const FOLLOW_SRC_PORT: u8 = 8;
/// `FollowFilter::by`: the destination port counts.
pub const FOLLOW_DST_PORT: u8 = 16;
/// `FollowFilter::by`: the protocol counts.
pub const FOLLOW_PROTO: u8 = 32;
/// `FollowFilter::by`: the verdict counts.
pub const FOLLOW_VERDICT: u8 = 64;

/// Row of `FOLLOW_FILTERS`: which packets somebody wants to see. Addresses and ports in network byte
/// order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FollowFilter {
    /// Source address.
    pub src: AddrWords,
    /// Destination address.
    pub dst: AddrWords,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Which fields count: `FOLLOW_ON` and others.
    pub by: u8,
    /// Family of the addresses: `FAMILY_*`.
    pub family: u8,
    /// IP protocol.
    pub proto: u8,
    /// Code of the verdict.
    pub verdict: u8,
}

/// What `FOLLOW_EVENTS` says of a packet: as it arrived, and what became of it. Addresses and ports
/// in network byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FollowEvent {
    /// Nanoseconds since boot (CLOCK_MONOTONIC).
    pub time_ns: u64,
    /// Source address.
    pub src: AddrWords,
    /// Destination address.
    pub dst: AddrWords,
    /// Address of the real server that it was counted for.
    pub server: AddrWords,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// The server's port; 0 for the packet's.
    pub server_port: u16,
    /// By which rows of `FOLLOW_FILTERS` it is followed: bits.
    pub followers: u16,
    /// Interface that it came in by.
    pub ifindex: u32,
    /// Interface that it is redirected to; 0 for none.
    pub out_ifindex: u32,
    /// Id of the real server, or `FOLLOW_NO_DEST`.
    pub dest: u32,
    /// Length of the frame, bytes.
    pub frame_len: u32,
    /// Family of source and destination: `FAMILY_*`; `FOLLOW_NOT_IP` for neither.
    pub family: u8,
    /// Family of the server's address.
    pub server_family: u8,
    /// IP protocol.
    pub proto: u8,
    /// TCP flags byte; SCTP: type of the first chunk; 0 for others.
    pub what: u8,
    /// 1 if ports are known.
    pub has_ports: u8,
    /// Code of the verdict.
    pub verdict: u8,
    /// How the server is reached: `METHOD_*`.
    pub method: u8,
    /// Zero.
    pub reserved: u8,
}

/// `FollowEvent::family` of a frame that is neither IPv4 nor IPv6.
pub const FOLLOW_NOT_IP: u8 = 0xff;

/// Row of `FOLLOW_METER`, one a CPU: keeps followers from flooding the agent.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FollowMeter {
    /// When the second began that `told` is of.
    pub since_ns: u64,
    /// Packets told of since then.
    pub told: u64,
    /// Packets that were not told of, by row of `FOLLOW_FILTERS`.
    pub lost: [u64; MAX_FOLLOWERS as usize],
}
