// SPDX-License-Identifier: MIT OR Apache-2.0
//! The seam to the maps: BPF maps in the kernel, collections on the host (in the tests).
//!
//! Rows are reached by reference or changed in place by a closure, because a copy costs stack and
//! instructions in the kernel. Every method takes `&self`: a map is shared by all CPUs anyway.

use lb_common::abi::{
    Dest, Fragment, FragmentKey, Hop, Link, Load, MemberLine, Service, ServiceKey, Settings,
    Traffic, Tunnel,
};
use lb_common::hash::HashKey;
use lb_common::verdict::Verdict;
use lb_common::wire::Mac;

use crate::Outcome;
use crate::packet::Packet;
use crate::schedule::Scan;

/// What the pipeline asks of the maps. Names follow `lb_common::abi::maps`.
pub trait Tables {
    /// A line of the connection table.
    type Line<'t>: Line
    where
        Self: 't;

    /// Monotonic time in ticks, modulo `CONN_TICK_MASK + 1`.
    fn now(&self) -> u32;

    /// Key of the hash that chooses lines.
    fn hash_key(&self) -> HashKey;

    /// The part of it that IPv4 takes.
    #[inline(always)]
    fn hash_key4(&self) -> [u64; 4] {
        let [a, b, c, d, ..] = self.hash_key();
        [a, b, c, d]
    }

    /// What holds for all services. `None` never happens (the verifier cannot know).
    fn settings(&self) -> Option<&Settings>;

    /// True if an address with this fold (see `lb_common::abi::filter_bit`) may be a virtual one or
    /// a masqueraded server's.
    fn of_interest(&self, fold: u32) -> bool;

    /// The line of the IPv4 table for half a hash. `None` never happens.
    fn line4(&self, half: u32) -> Option<Self::Line<'_>>;

    /// The line of the IPv6 table for half a hash. `None` never happens.
    fn line6(&self, half: u32) -> Option<Self::Line<'_>>;

    /// The director's interface of this index.
    fn link(&self, ifindex: u32) -> Option<&Link>;

    /// True for a virtual MAC address that is held here, see `lb_common::abi::mac_key`.
    fn is_virtual_mac(&self, key: u64) -> bool;

    /// The row of the virtual service of this key.
    fn service_row(&self, key: &ServiceKey) -> Option<u32>;

    /// A row of the services.
    fn service(&self, row: u32) -> Option<&Service>;

    /// A line of a service's server list.
    fn member_line(&self, row: u32) -> Option<&MemberLine>;

    /// One entry of a service's hash table: `entry` counted from line `first_line`.
    fn hash_entry(&self, first_line: u32, entry: u32) -> Option<u16>;

    /// The real server of this id.
    fn dest(&self, id: u32) -> Option<&Dest>;

    /// What the outer header towards this real server needs.
    fn tunnel(&self, dest: u32) -> Option<&Tunnel>;

    /// What schedulers weigh of this real server. Other CPUs change it meanwhile.
    fn load(&self, dest: u32) -> Option<Load>;

    /// Adds to `Load::conns` (wrapping), atomically.
    fn add_conns(&self, dest: u32, delta: u64);

    /// Marks a real server as overloaded or not.
    fn set_overloaded(&self, dest: u32, overloaded: bool);

    /// The scheduler's cursor of a service.
    fn cursor(&self, service: u32) -> Option<u64>;

    /// Replaces the cursor if it is still `old`; `false` if another CPU was faster.
    fn swap_cursor(&self, service: u32, old: u64, new: u64) -> bool;

    /// lblcr: the rank of a real server in its service's set, see `lb_common::sched::locality`.
    fn rank(&self, dest: u32) -> u32;

    /// Replaces it.
    fn set_rank(&self, dest: u32, rank: u32);

    /// Adds to a real server's counters.
    fn count_dest(&self, dest: u32, add: impl Fn(&mut Traffic));

    /// The remembered way to a client with this hash; `None` while another CPU writes it.
    fn hop(&self, hash: u32) -> Option<Hop>;

    /// Remembers a way, unless another CPU does so at the same time.
    fn set_hop(&self, hash: u32, hop: &Hop);

    /// Of which datagram the packet on its way is a fragment; for the two below.
    ///
    /// VERIFIER: a key that stays on the stack until the server is known is too much beside what
    /// scheduling takes of it.
    fn set_fragment_key(&self, key: FragmentKey);

    /// Where the first fragment of the datagram went.
    fn fragment(&self) -> Option<Fragment>;

    /// Remembers where the first fragment of the datagram goes.
    fn remember_fragment(&self, fragment: &Fragment);

    /// The same number, of which the compiler knows nothing: it makes no branch of what was computed
    /// without one.
    fn opaque(&self, value: u64) -> u64;

    /// Calls `step` until it returns `false`, at most `limit` times.
    ///
    /// VERIFIER: in the kernel this is `bpf_loop`, whose body is verified once; a plain loop is
    /// walked through by the verifier as many times as it can run.
    fn repeat(&self, limit: u32, step: impl FnMut() -> bool);

    /// This CPU's room for what a scheduler keeps from one member to the next. What `with` returns;
    /// `false` without room, which never happens.
    fn scan(&self, with: impl FnOnce(&mut Scan) -> bool) -> bool;

    /// [`lb_common::crc32c::of_change`]
    fn crc32c(&self, change: u32, behind: u32) -> u32;

    /// [`crate::schedule::best`]
    fn best(&self, row: u32, scheduler: u8) -> u32;

    /// [`crate::schedule::search`]
    fn search(&self, row: u32, scheduler: u8, heaviest: u32) -> u64;

    /// [`crate::schedule::next`]
    fn next(&self, row: u32) -> u64;

    /// [`crate::schedule::take`]
    fn take(&self, row: u32, index: u32, heaviest: u32) -> u32;

    /// [`crate::schedule::by_table`]
    fn by_table(&self, row: u32, client: u32, virt: u32, port: u16) -> u32;

    /// [`crate::schedule::kept`]
    fn kept(&self, row: u32) -> u64;

    /// [`crate::schedule::keep`]
    fn keep(&self, row: u32, dest: u32);

    /// [`crate::schedule::replicas`]
    fn replicas(&self, row: u32, most: bool);

    /// [`crate::schedule::leave`]
    fn leave(&self, row: u32);

    /// [`crate::conntrack::claim`] in the IPv4 table.
    fn claim4(&self, hash: u64, old: u32, key: u64, word: u64, now: u32);

    /// [`crate::conntrack::claim`] in the IPv6 table.
    fn claim6(&self, hash: u64, old: u32, key: &[u64; 3], word: u64, now: u32);
}

/// Further steps of a packet's journey.
///
/// VERIFIER: what is inlined is verified for every way that leads to it, and all frames of a call
/// share 512 bytes. So in the kernel the longer ways that not every packet takes are programs of
/// their own, which the entry point goes on in (tail calls), and steps with loops
/// ([`Tables::best`], [`Tables::claim4`], [`Tables::crc32c`]) are global functions, which are verified
/// once, on their own, for any arguments.
pub trait Steps<P: Packet>: Tables {
    /// Asks the kernel's routing table for the way from `src` to `dst` (`FAMILY_*`): interface and
    /// both MAC addresses. `None` if there is no route or the neighbour is unknown.
    fn route(&self, pkt: &P, family: u8, src: &[u32; 4], dst: &[u32; 4])
    -> Option<(u32, Mac, Mac)>;

    /// [`crate::forward::back::remember`]
    fn remember(&self, pkt: &P, ip_offset: usize, family: u8, now: u32);

    /// [`crate::ipv6`]
    fn ipv6(&self, pkt: &mut P, ip_offset: usize) -> Outcome;

    /// [`crate::other_protocol`]
    fn icmp(&self, pkt: &mut P) -> Outcome;

    /// [`crate::fragment4`]
    fn fragment4(&self, pkt: &mut P) -> Outcome;

    /// [`crate::fragment6`]
    fn fragment6(&self, pkt: &mut P) -> Outcome;

    /// [`crate::reply`]
    fn reply(&self, pkt: &mut P, verdict: Verdict) -> Outcome;

    /// [`crate::forward::tun::encapsulate`]
    fn encapsulate(
        &self,
        pkt: &mut P,
        ip_offset: usize,
        inner: u8,
        dest: u32,
        hash: u32,
    ) -> Outcome;
}

/// Words of the connection table, see `lb_common::abi::ConnLine`. All CPUs read and write
/// them at the same time.
///
/// An index beyond the line wraps around.
pub trait Line: Copy {
    /// A word.
    fn word(self, index: usize) -> u64;

    /// Writes a word of a slot that is busy by this CPU's doing.
    fn set_word(self, index: usize, word: u64);

    /// Replaces a word if it is still `old`; `false` if another CPU was faster. Reads and writes are
    /// ordered by it.
    fn swap_word(self, index: usize, old: u64, new: u64) -> bool;
}
