// SPDX-License-Identifier: MIT OR Apache-2.0
//! The seam to the maps: BPF maps in the kernel, collections on the host (in the tests).
//!
//! Rows are reached by reference or changed in place by a closure, because a copy costs stack and
//! instructions in the kernel. Every method takes `&self`: a map is shared by all CPUs anyway.

use lb_common::abi::{Dest, Link, Member, Service, ServiceKey, Traffic};
use lb_common::hash::HashKey;

/// What the pipeline asks of the maps. Names follow `lb_common::abi::maps`.
pub trait Tables {
    /// A bucket of the connection table.
    type Bucket<'t>: Bucket
    where
        Self: 't;

    /// Monotonic time in ticks, modulo `CONN_TICK_MASK + 1`.
    fn now(&self) -> u32;

    /// Length of a tick, nanoseconds.
    fn tick_ns(&self) -> u64;

    /// Key of the hash that chooses buckets.
    fn hash_key(&self) -> HashKey;

    /// The bucket for half a hash. `None` never happens (the verifier cannot know).
    fn bucket(&self, half: u32) -> Option<Self::Bucket<'_>>;

    /// The director's interface of this index.
    fn link(&self, ifindex: u32) -> Option<&Link>;

    /// The virtual service of this key.
    fn service(&self, key: &ServiceKey) -> Option<&Service>;

    /// One row of a service's server list.
    fn member(&self, row: u32) -> Option<&Member>;

    /// The real server of this id.
    fn dest(&self, id: u32) -> Option<&Dest>;

    /// The scheduler's cursor of a service.
    fn cursor(&self, service: u32) -> Option<u64>;

    /// Replaces the cursor if it is still `old`; `false` if another CPU was faster.
    fn swap_cursor(&self, service: u32, old: u64, new: u64) -> bool;

    /// Adds to a service's counters.
    fn count_service(&self, service: u32, add: impl Fn(&mut Traffic));

    /// Adds to a real server's counters.
    fn count_dest(&self, dest: u32, add: impl Fn(&mut Traffic));

    /// The same number, of which the compiler knows nothing: it makes no branch of what was computed
    /// without one.
    fn opaque(&self, value: u64) -> u64;

    /// Calls `step` until it returns `false`, at most `limit` times.
    ///
    /// VERIFIER: in the kernel this is `bpf_loop`, whose body is verified once; a plain loop is
    /// walked through by the verifier as many times as it can run.
    fn repeat(&self, limit: u32, step: impl FnMut() -> bool);
}

/// Four slots of the connection table, see `lb_common::abi::ConnBucket`. All CPUs read and write
/// them at the same time.
pub trait Bucket: Copy {
    /// The meta word of a slot.
    fn meta(self, slot: usize) -> u64;

    /// The key of a slot.
    fn key(self, slot: usize) -> u64;

    /// Writes the key of a slot that is busy by this CPU's doing.
    fn set_key(self, slot: usize, key: u64);

    /// Replaces the meta word if it is still `old`; `false` if another CPU was faster. Reads and
    /// writes are ordered by it.
    fn swap_meta(self, slot: usize, old: u64, new: u64) -> bool;
}
