// SPDX-License-Identifier: MIT OR Apache-2.0
//! Map keys and values shared by the packet program and the agent, one file a map family.
//!
//! Every type is `repr(C)` and `bytemuck::Pod`: the derive refuses padding, so a key has no byte
//! that is not compared and a value none that is not written. Enums and `Option` never appear here
//! (their layout is not stable); codes are `u8` with named constants.
//!
//! To add a field: 1. add it to the struct here (keep the size a multiple of 8, use up `reserved`
//! first); 2. write it in the agent's `dataplane`, read it in `lb-ebpf`; 3. update the sizes in the
//! `layout` test below; 4. if no size changed but a meaning did, raise `ABI_VERSION`.

mod conn;
mod counters;
mod dest;
mod drive;
mod follow;
mod fragment;
mod limits;
mod link;
mod params;
mod service;
mod settings;
mod shared;
mod version;

pub use conn::{
    CONN_REPLY, CONN_SLOTS, CONN_SLOTS_EACH, CONN_STATE, CONN_TICK_MASK, CONN_WORDS, CONN6_WORDS,
    Conn6Key, Conn6Line, ConnKey, ConnLine, ConnMeta, conn_lines,
};
pub use counters::{Traffic, VERDICT_SLOTS};
pub use dest::{
    AddrWords, DEST_IPV6, DEST_PRESENT, DEST_QUIESCENT, Dest, LOAD_ACTIVE, LOAD_INACTIVE, Load,
    METHOD_DIRECT, METHOD_LOCAL, METHOD_NAT, METHOD_TUNNEL, TUNNEL_GRE, TUNNEL_GUE, TUNNEL_IPIP,
    Tunnel,
};
pub use drive::{
    DRIVE_CHUNK, DRIVE_CHUNKS, DRIVE_CONNS, DRIVE_IN_ORDER, DRIVE_LINES, DRIVE_RANDOM, DRIVE_V4,
    DRIVE_V6, Drive, GENERATE_BATCH, GENERATE_CHUNKS, GENERATE_FRAME, GENERATE_SAMPLE,
    GENERATE_SERVER_WORD, GENERATE_SERVERS, Generate,
};
pub use follow::{
    FOLLOW_BYTES, FOLLOW_DST, FOLLOW_DST_PORT, FOLLOW_NO_DEST, FOLLOW_NOT_IP, FOLLOW_ON,
    FOLLOW_PROTO, FOLLOW_RATE, FOLLOW_SRC, FOLLOW_SRC_PORT, FOLLOW_VERDICT, FollowEvent,
    FollowFilter, FollowMeter, MAX_FOLLOWERS,
};
pub use fragment::{FRAGMENT_IPV6, Fragment, FragmentKey, MAX_FRAGMENTS};
pub use limits::{
    CONN6_SHARE, DEFAULT_CONNS, MAX_CONNS, MAX_DESTS, MAX_HASH_LINES, MAX_LINKS, MAX_MEMBER_LINES,
    MAX_SERVICE_DESTS, MAX_SERVICE_ROWS, MAX_SERVICES,
};
pub use link::{HOP_TICKS, Hop, LINK_KNOWN, LINK_VIRTUAL, Link, MAX_HOPS, MAX_MACS, mac_key};
pub use params::Params;
pub use service::{
    FAMILY_IPV4, FAMILY_IPV6, HASH_LINE_ENTRIES, HASH_NOBODY, HashLine, LINE_MEMBERS, Member,
    MemberLine, SCHED_DH, SCHED_FO, SCHED_LBLC, SCHED_LBLCR, SCHED_LC, SCHED_MH, SCHED_NQ,
    SCHED_OVF, SCHED_RR, SCHED_SED, SCHED_SH, SCHED_WLC, SCHED_WRR, SERVICE_ANY_PORT,
    SERVICE_FALLBACK, SERVICE_HASH_PORT, SERVICE_ONE_PACKET, SERVICE_PERSISTENT, Service,
    ServiceKey, member_lines,
};
pub use settings::{
    FILTER_BITS, FILTER_ROWS, SETTING_ANY_PORT, SETTING_EXPIRE_NODEST, SETTING_EXPIRE_QUIESCENT,
    SETTING_SLOPPY_TCP, STATE_TIMEOUT_BITS, STATES, Settings, filter_bit, fold,
};
pub use shared::Shared;
pub use version::{ABI_LAYOUT, ABI_VERSION};

/// Index into `STEPS`: IPv6 packets.
pub const STEP_IPV6: u32 = 0;
/// Index into `STEPS`: packets to a tunnelled real server.
pub const STEP_TUNNEL: u32 = 1;
/// Index into `STEPS`: packets of masqueraded servers.
pub const STEP_REPLY: u32 = 2;
/// Index into `STEPS`: ICMP and ICMPv6.
pub const STEP_ICMP: u32 = 3;
/// Index into `STEPS`: IPv4 fragments.
pub const STEP_FRAGMENT: u32 = 4;
/// Index into `STEPS`: IPv6 fragments.
pub const STEP_FRAGMENT6: u32 = 5;
/// Rows of `STEPS`.
pub const STEP_COUNT: u32 = 6;
/// Names of the programs in `STEPS`, by index.
pub const STEP_PROGRAMS: [&str; STEP_COUNT as usize] = [
    "xlvs_ipv6",
    "xlvs_tunnel",
    "xlvs_reply",
    "xlvs_icmp",
    "xlvs_fragment",
    "xlvs_fragment6",
];

/// Names of the same programs in `FOLLOW_STEPS`, which tell followers of their packets.
pub const FOLLOW_STEP_PROGRAMS: [&str; STEP_COUNT as usize] = [
    "follow_ipv6",
    "follow_tunnel",
    "follow_reply",
    "follow_icmp",
    "follow_fragment",
    "follow_fragment6",
];

/// Names of the maps, as the packet program declares them and the agent opens them.
pub mod maps {
    /// Global data: [`Shared`](super::Shared).
    pub const SHARED: &str = ".bss";
    /// Name of the one thing in it.
    pub const SHARED_SYMBOL: &str = "SHARED";
    /// Hash: [`ServiceKey`](super::ServiceKey) to an index into `SERVICE_ROWS`.
    pub const SERVICES: &str = "SERVICES";
    /// Array: [`Service`](super::Service).
    pub const SERVICE_ROWS: &str = "SERVICE_ROWS";
    /// Array: [`HashLine`](super::HashLine).
    pub const HASH_LINES: &str = "HASH_LINES";
    /// Array by member index: [`Member`](super::Member).
    pub const MEMBER_LINES: &str = "MEMBER_LINES";
    /// Array by service id: the scheduler's cursor, one `u64`.
    pub const CURSORS: &str = "CURSORS";
    /// Array by destination id: the rank in lblcr's set, one `u32`. The agent does not look at it.
    pub const RANKS: &str = "RANKS";
    /// Array by destination id: [`Dest`](super::Dest).
    pub const DESTS: &str = "DESTS";
    /// Array by destination id: [`Tunnel`](super::Tunnel).
    pub const TUNNELS: &str = "TUNNELS";
    /// Array by destination id, mapped by the agent: [`Load`](super::Load).
    pub const LOADS: &str = "LOADS";
    /// Hash: [`mac_key`](super::mac_key) of a virtual MAC address that is held here, to nothing (one `u8`).
    pub const MACS: &str = "MACS";
    /// Array: [`Hop`](super::Hop) by hash of the client.
    pub const HOPS: &str = "HOPS";
    /// Array, mapped by the agent: [`ConnLine`](super::ConnLine) by hash, IPv4.
    pub const CONNS: &str = "CONNS";
    /// The same for IPv6: [`Conn6Line`](super::Conn6Line).
    pub const CONNS6: &str = "CONNS6";
    /// Per-CPU array by verdict code: one `u64`.
    pub const VERDICTS: &str = "VERDICTS";
    /// Per-CPU array by destination id: [`Traffic`](super::Traffic).
    pub const DEST_TRAFFIC: &str = "DEST_TRAFFIC";
    /// Read-only data, set at load: [`Params`](super::Params).
    pub const PARAMS: &str = "PARAMS";
    /// LRU hash: [`FragmentKey`](super::FragmentKey) to [`Fragment`](super::Fragment).
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// Program array: the programs of [`STEP_PROGRAMS`](super::STEP_PROGRAMS).
    pub const STEPS: &str = "STEPS";
    /// Program array: the programs of [`FOLLOW_STEP_PROGRAMS`](super::FOLLOW_STEP_PROGRAMS).
    pub const FOLLOW_STEPS: &str = "FOLLOW_STEPS";
    /// Array: [`FollowFilter`](super::FollowFilter) by follower.
    pub const FOLLOW_FILTERS: &str = "FOLLOW_FILTERS";
    /// Per-CPU array of one row: [`FollowMeter`](super::FollowMeter).
    pub const FOLLOW_METER: &str = "FOLLOW_METER";
    /// Ring buffer: [`FollowEvent`](super::FollowEvent).
    pub const FOLLOW_EVENTS: &str = "FOLLOW_EVENTS";
    /// Name of the XDP program that tells followers of its packets.
    pub const FOLLOW: &str = "follow_xlvs";
    /// Name of the program that returns the connection table's time.
    pub const CLOCK: &str = "xlvs_clock";
    /// Name of the XDP program in the object.
    pub const PROGRAM: &str = "xlvs";
}

#[cfg(test)]
mod tests {
    use core::mem::size_of;

    use super::*;

    #[test]
    fn layout_is_as_documented() {
        assert_eq!(size_of::<ServiceKey>(), 20);
        assert_eq!(size_of::<Service>(), 64);
        assert_eq!(size_of::<MemberLine>(), 32);
        assert_eq!(size_of::<HashLine>(), 64);
        assert_eq!(size_of::<Dest>(), 64);
        assert_eq!(size_of::<Tunnel>(), 24);
        assert_eq!(size_of::<Load>(), 16);
        assert_eq!(size_of::<Settings>(), 192);
        assert_eq!(size_of::<Link>(), 8);
        assert_eq!(size_of::<Hop>(), 48);
        assert_eq!(size_of::<ConnLine>(), 64);
        assert_eq!(size_of::<Conn6Line>(), 128);
        assert_eq!(size_of::<Traffic>(), 40);
        assert_eq!(size_of::<FragmentKey>(), 40);
        assert_eq!(size_of::<Fragment>(), 12);
        assert_eq!(size_of::<FollowFilter>(), 40);
        assert_eq!(size_of::<FollowEvent>(), 88);
        assert_eq!(size_of::<FollowMeter>(), 48);
        assert_eq!(size_of::<Drive>(), 72);
        assert_eq!(size_of::<Generate>(), 104);
    }
}
