// SPDX-License-Identifier: MIT OR Apache-2.0
//! The maps, and the numbers that the agent sets at load. Names are those of `lb_common::abi::maps`.

use core::cell::UnsafeCell;

use aya_ebpf::bindings::bpf_fib_lookup as FibLookup;
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf};
use aya_ebpf::macros::btf_map;
use lb_common::abi::{
    CONN6_SHARE, Conn6Line, ConnLine, DEFAULT_CONNS, Dest, FOLLOW_BYTES, FollowEvent, FollowFilter,
    FollowMeter, Fragment, FragmentKey, HashLine, Hop, Load, MAX_DESTS, MAX_FOLLOWERS,
    MAX_FRAGMENTS, MAX_HASH_LINES, MAX_HOPS, MAX_MACS, MAX_MEMBER_LINES, MAX_SERVICE_ROWS,
    MAX_SERVICES, MemberLine, Params, STEP_COUNT, Service, ServiceKey, Shared, Traffic, Tunnel,
    VERDICT_SLOTS, conn_lines,
};

#[btf_map]
pub(crate) static SERVICES: HashMap<ServiceKey, u32, { MAX_SERVICES as usize }> = HashMap::new();
#[btf_map]
pub(crate) static SERVICE_ROWS: Array<Service, { MAX_SERVICE_ROWS as usize }> = Array::new();
#[btf_map]
pub(crate) static MEMBER_LINES: Array<MemberLine, { MAX_MEMBER_LINES as usize }> = Array::new();
#[btf_map]
pub(crate) static HASH_LINES: Array<HashLine, { MAX_HASH_LINES as usize }> = Array::new();
#[btf_map]
pub(crate) static CURSORS: Array<u64, { MAX_SERVICES as usize }> = Array::new();
#[btf_map]
pub(crate) static RANKS: Array<u32, { MAX_DESTS as usize }> = Array::new();
#[btf_map]
pub(crate) static DESTS: Array<Dest, { MAX_DESTS as usize }> = Array::new();
#[btf_map]
pub(crate) static TUNNELS: Array<Tunnel, { MAX_DESTS as usize }> = Array::new();
#[btf_map]
pub(crate) static LOADS: Array<Load, { MAX_DESTS as usize }, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, Fragment, { MAX_FRAGMENTS as usize }> =
    LruHashMap::new();
#[btf_map]
pub(crate) static MACS: HashMap<u64, u8, { MAX_MACS as usize }> = HashMap::new();
#[btf_map]
pub(crate) static HOPS: Array<Hop, { MAX_HOPS as usize }> = Array::new();
#[btf_map]
pub(crate) static CONNS: Array<ConnLine, { conn_lines(DEFAULT_CONNS) as usize }, MMAPABLE> =
    Array::new();
#[btf_map]
pub(crate) static CONNS6: Array<
    Conn6Line,
    { conn_lines(DEFAULT_CONNS / CONN6_SHARE) as usize },
    MMAPABLE,
> = Array::new();
#[btf_map]
pub(crate) static VERDICTS: PerCpuArray<u64, { VERDICT_SLOTS as usize }> = PerCpuArray::new();
#[btf_map]
pub(crate) static DEST_TRAFFIC: PerCpuArray<Traffic, { MAX_DESTS as usize }> = PerCpuArray::new();

/// The key of an IPv6 connection on its way to `claim6`.
#[btf_map]
pub(crate) static KEY6: PerCpuArray<[u64; 3], 1> = PerCpuArray::new();

/// Of which datagram the packet on its way is a fragment.
#[btf_map]
pub(crate) static FRAGMENT_KEY: PerCpuArray<FragmentKey, 1> = PerCpuArray::new();

/// What a scheduler keeps from one member to the next.
#[btf_map]
pub(crate) static SCAN: PerCpuArray<lb_ebpf::schedule::Scan, 1> = PerCpuArray::new();

/// The question to the kernel's routing table, and its answer.
#[btf_map]
pub(crate) static WAY: PerCpuArray<FibLookup, 1> = PerCpuArray::new();

/// What the next program is to do.
#[btf_map]
pub(crate) static ORDER: PerCpuArray<Order, 1> = PerCpuArray::new();

/// Programs that others go on in, by `STEP_*`.
#[btf_map]
pub(crate) static STEPS: ProgramArray<{ STEP_COUNT as usize }> = ProgramArray::new();

/// The same for the programs that tell followers of their packets.
#[btf_map]
pub(crate) static FOLLOW_STEPS: ProgramArray<{ STEP_COUNT as usize }> = ProgramArray::new();
/// What followers want to see.
#[btf_map]
pub(crate) static FOLLOW_FILTERS: Array<FollowFilter, { MAX_FOLLOWERS as usize }> = Array::new();
/// The packet on its way: how it arrived.
#[btf_map]
pub(crate) static FOLLOW_PACKET: PerCpuArray<FollowEvent, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static FOLLOW_METER: PerCpuArray<FollowMeter, 1> = PerCpuArray::new();
/// Of `FollowEvent`, which libbpf does not want to hear: a ring buffer has no values to it.
#[btf_map]
pub(crate) static FOLLOW_EVENTS: RingBuf<(), { FOLLOW_BYTES as usize }> = RingBuf::new();

/// The agent maps the table into its memory (`BPF_F_MMAPABLE`).
const MMAPABLE: usize = 1 << 10;

/// Global data, see [`Shared`].
#[unsafe(no_mangle)]
static SHARED: AgentWrites = AgentWrites(UnsafeCell::new(SHARED_AT_FIRST));

/// Zeros, so that it is in `.bss`.
// SAFETY: zeros are a value of it (`bytemuck::Zeroable`, whose function is none of constants).
const SHARED_AT_FIRST: Shared = unsafe { core::mem::zeroed() };

/// What the agent writes while the program reads.
#[repr(transparent)]
struct AgentWrites(UnsafeCell<Shared>);

// SAFETY: the program only reads it.
unsafe impl Sync for AgentWrites {}

/// The global data.
#[inline(always)]
pub(crate) fn shared() -> &'static Shared {
    // SAFETY: nobody writes it here. The agent does, as it writes rows of the maps to which
    // references are made, too.
    unsafe { &*SHARED.0.get() }
}

/// Set by the agent at load, constants to the verifier from then on.
#[unsafe(no_mangle)]
static PARAMS: Params = Params {
    hash_key: [0; 6],
    lines: conn_lines(DEFAULT_CONNS),
    lines6: conn_lines(DEFAULT_CONNS / CONN6_SHARE),
    tick_shift: 0,
    zero: 0,
};

/// A field of [`Params`], or a part of it.
#[inline(always)]
pub(crate) fn param<T: Copy>(field: impl FnOnce(&Params) -> &T) -> T {
    // SAFETY: a reference is a valid address. Volatile: the compiler must not take the value above
    // for the one that it finds.
    unsafe { core::ptr::from_ref(field(&PARAMS)).read_volatile() }
}

/// What the next program is to do.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Order {
    pub(crate) verdict: u32,
    pub(crate) ip_offset: u32,
    pub(crate) family: u32,
    pub(crate) dest: u32,
    pub(crate) hash: u32,
}
