// SPDX-License-Identifier: MIT OR Apache-2.0
//! The seam to the maps: BPF maps in the kernel, collections on the host (in the tests).
//!
//! Rows are reached by reference or changed in place by a closure, because a copy costs stack and
//! instructions in the kernel. Every method takes `&self`: a map is shared by all CPUs anyway.

use lb_common::abi::{Conn, ConnKey, Dest, Link, Member, Service, ServiceKey, Traffic};

/// What the pipeline asks of the maps. Names follow `lb_common::abi::maps`.
pub trait Tables {
    /// Monotonic time, nanoseconds.
    fn now_ns(&self) -> u64;

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

    /// Changes a connection in place; `None` if there is none.
    fn with_conn<R>(&self, key: &ConnKey, change: impl FnOnce(&mut Conn) -> R) -> Option<R>;

    /// Keeps a connection, replacing one of the same key.
    fn put_conn(&self, key: &ConnKey, conn: &Conn);

    /// Adds to a service's counters.
    fn count_service(&self, service: u32, add: impl Fn(&mut Traffic));

    /// Adds to a real server's counters.
    fn count_dest(&self, dest: u32, add: impl Fn(&mut Traffic));

    /// Calls `step` until it returns `false`, at most `limit` times.
    ///
    /// VERIFIER: in the kernel this is `bpf_loop`, whose body is verified once; a plain loop is
    /// walked through by the verifier as many times as it can run.
    fn repeat(&self, limit: u32, step: impl FnMut() -> bool);
}
