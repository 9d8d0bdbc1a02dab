// SPDX-License-Identifier: MIT OR Apache-2.0
//! Map keys and values shared by the packet program and the agent, one file a map family.
//!
//! Every type is `repr(C)` and `bytemuck::Pod`: the derive refuses padding, so a key has no byte
//! that is not compared and a value none that is not written. Enums and `Option` never appear here
//! (their layout is not stable); codes are `u8` with named constants.
//!
//! To add a field: 1. add it to the struct here (keep the size a multiple of 8, use up `reserved`
//! first); 2. write it in the agent's `dataplane`, read it in `lb-ebpf`; 3. update the sizes in the
//! `layout` test below.

mod conn;
mod counters;
mod dest;
mod drive;
mod limits;
mod link;
mod service;

pub use conn::{
    CONN_BUSY, CONN_SLOTS, CONN_SLOTS_EACH, CONN_TICK_MASK, ConnBucket, ConnKey, ConnMeta,
    ConnSlot, conn_buckets,
};
pub use counters::{Traffic, VERDICT_SLOTS};
pub use dest::{DEST_PRESENT, Dest, METHOD_DIRECT, NextHop};
pub use drive::{
    DRIVE_CHUNK, DRIVE_CHUNKS, DRIVE_CONNS, DRIVE_IN_ORDER, DRIVE_LINES, DRIVE_RANDOM, DRIVE_V4,
    DRIVE_V6, Drive, GENERATE_BATCH, GENERATE_CHUNKS, GENERATE_FRAME, GENERATE_SAMPLE,
    GENERATE_SERVER_WORD, GENERATE_SERVERS, Generate,
};
pub use limits::{
    DEFAULT_CONNS, MAX_CONNS, MAX_DESTS, MAX_LINKS, MAX_MEMBERS, MAX_SERVICE_DESTS, MAX_SERVICES,
};
pub use link::Link;
pub use service::{Member, SCHED_RR, SCHED_WRR, Service, ServiceKey};

/// Names of the maps, as the packet program declares them and the agent opens them.
pub mod maps {
    /// Hash: [`ServiceKey`](super::ServiceKey) to [`Service`](super::Service).
    pub const SERVICES: &str = "SERVICES";
    /// Array by member index: [`Member`](super::Member).
    pub const MEMBERS: &str = "MEMBERS";
    /// Array by service id: the scheduler's cursor, one `u64`.
    pub const CURSORS: &str = "CURSORS";
    /// Array by destination id: [`Dest`](super::Dest).
    pub const DESTS: &str = "DESTS";
    /// Array by interface index: [`Link`](super::Link).
    pub const LINKS: &str = "LINKS";
    /// Array, mapped by the agent: [`ConnBucket`](super::ConnBucket) by hash.
    pub const CONNS: &str = "CONNS";
    /// Per-CPU array by verdict code: one `u64`.
    pub const VERDICTS: &str = "VERDICTS";
    /// Per-CPU array by destination id: [`Traffic`](super::Traffic).
    pub const DEST_TRAFFIC: &str = "DEST_TRAFFIC";
    /// Per-CPU array by service id: [`Traffic`](super::Traffic).
    pub const SERVICE_TRAFFIC: &str = "SERVICE_TRAFFIC";
    /// Read-only data, set at load: rows of `CONNS`.
    pub const CONN_BUCKETS: &str = "CONN_BUCKETS";
    /// Read-only data: a tick is 2 to the power of this many jiffies.
    pub const TICK_SHIFT: &str = "TICK_SHIFT";
    /// Read-only data: length of a tick, nanoseconds.
    pub const TICK_NS: &str = "TICK_NS";
    /// Read-only data: the words of a [`HashKey`](crate::hash::HashKey).
    pub const HASH_WORDS: [&str; 5] = ["HASH_0", "HASH_1", "HASH_2", "HASH_3", "HASH_4"];
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
        assert_eq!(size_of::<ServiceKey>(), 8);
        assert_eq!(size_of::<Service>(), 32);
        assert_eq!(size_of::<Member>(), 8);
        assert_eq!(size_of::<Dest>(), 32);
        assert_eq!(size_of::<Link>(), 8);
        assert_eq!(size_of::<ConnBucket>(), 64);
        assert_eq!(size_of::<Traffic>(), 24);
        assert_eq!(size_of::<Drive>(), 72);
        assert_eq!(size_of::<Generate>(), 104);
    }
}
