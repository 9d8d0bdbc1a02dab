// SPDX-License-Identifier: MIT OR Apache-2.0
//! Typed handles to the program's maps, and the writing of planned operations.

#![allow(
    unsafe_code,
    reason = "one bridge from bytemuck's Pod to aya's, see `Abi`"
)]

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use lb_common::abi::{
    Dest, HashLine, Hop, Link, Load, MAX_HOPS, MemberLine, Service, ServiceKey, Settings, Shared,
    Traffic, Tunnel, maps as names,
};

use super::DataplaneError;
use super::loads::Loads;
use super::mapped::Mapped;
use super::plan::Op;

/// A value whose bytes go to the kernel as they are.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Abi<T: bytemuck::Pod>(pub(super) T);

// SAFETY: aya::Pod asks for what bytemuck::Pod has proven: any bytes are valid, no padding.
unsafe impl<T: bytemuck::Pod> aya::Pod for Abi<T> {}

pub(super) struct Maps {
    shared_map: Array<MapData, Abi<Shared>>,
    /// What is in it, and whether something was changed here since it was written.
    shared: Box<Shared>,
    is_stale: bool,
    services: HashMap<MapData, Abi<ServiceKey>, u32>,
    service_rows: Array<MapData, Abi<Service>>,
    member_lines: Array<MapData, Abi<MemberLine>>,
    hash_lines: Array<MapData, Abi<HashLine>>,
    cursors: Array<MapData, u64>,
    ranks: Array<MapData, u32>,
    dests: Array<MapData, Abi<Dest>>,
    tunnels: Array<MapData, Abi<Tunnel>>,
    pub(super) loads: Loads,
    macs: HashMap<MapData, u64, u8>,
    hops: Array<MapData, Abi<Hop>>,
    verdicts: PerCpuArray<MapData, u64>,
    dest_traffic: PerCpuArray<MapData, Abi<Traffic>>,
}

impl Maps {
    /// Opens the maps of a loaded object.
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self, DataplaneError> {
        let shared_map = open(ebpf, names::SHARED)?;
        Ok(Self {
            shared: Box::new(get(&shared_map, names::SHARED, 0)?),
            shared_map,
            is_stale: false,
            services: open(ebpf, names::SERVICES)?,
            service_rows: open(ebpf, names::SERVICE_ROWS)?,
            member_lines: open(ebpf, names::MEMBER_LINES)?,
            hash_lines: open(ebpf, names::HASH_LINES)?,
            cursors: open(ebpf, names::CURSORS)?,
            ranks: open(ebpf, names::RANKS)?,
            dests: open(ebpf, names::DESTS)?,
            tunnels: open(ebpf, names::TUNNELS)?,
            loads: Loads::new(mapped(ebpf, names::LOADS, size_of::<Load>())?),
            macs: open(ebpf, names::MACS)?,
            hops: open(ebpf, names::HOPS)?,
            verdicts: open(ebpf, names::VERDICTS)?,
            dest_traffic: open(ebpf, names::DEST_TRAFFIC)?,
        })
    }

    /// Performs planned operations in their order, which is what keeps changes atomic.
    pub(super) fn perform(&mut self, ops: &[Op]) -> Result<(), DataplaneError> {
        for op in ops {
            let is_shared = matches!(
                op,
                Op::PutLink { .. } | Op::PutSettings { .. } | Op::PutFilter { .. }
            );
            if !is_shared {
                self.write_shared()?;
            }
            let (map, done) = self.perform_one(op);
            done.map_err(|source| DataplaneError::Map { map, source })?;
        }
        self.write_shared()
    }

    /// Changes the global data, which is written before anything else is, and once for many changes.
    fn share(&mut self, change: impl FnOnce(&mut Shared)) -> (&'static str, Result<(), MapError>) {
        change(&mut self.shared);
        self.is_stale = true;
        (names::SHARED, Ok(()))
    }

    /// Writes the global data in any case.
    pub(super) fn write_shared_anew(&mut self) -> Result<(), DataplaneError> {
        self.is_stale = true;
        self.write_shared()
    }

    fn write_shared(&mut self) -> Result<(), DataplaneError> {
        if self.is_stale {
            let done = self.shared_map.set(0, Abi(*self.shared), 0);
            done.map_err(|source| DataplaneError::Map {
                map: names::SHARED,
                source,
            })?;
            self.is_stale = false;
        }
        Ok(())
    }

    fn perform_one(&mut self, op: &Op) -> (&'static str, Result<(), MapError>) {
        match op {
            Op::PutLink { ifindex, row } => {
                self.share(|shared| put(&mut shared.links, *ifindex, *row))
            }
            Op::PutSettings { row } => self.share(|shared| shared.settings = *row),
            Op::PutFilter { index, row } => {
                self.share(|shared| put(&mut shared.filter, *index, *row))
            }
            Op::PutMac { key } => (names::MACS, self.macs.insert(*key, 0, 0)),
            Op::RemoveMac { key } => (names::MACS, self.macs.remove(key)),
            Op::PutDest { id, row } => (names::DESTS, self.dests.set(*id, Abi(*row), 0)),
            Op::PutTunnel { id, row } => (names::TUNNELS, self.tunnels.set(*id, Abi(*row), 0)),
            Op::SetThresholds { id, upper, lower } => {
                self.loads.set_thresholds(*id, *upper, *lower);
                (names::LOADS, Ok(()))
            }
            Op::PutMembers { first, rows } => (
                names::MEMBER_LINES,
                put_rows(&mut self.member_lines, *first, rows),
            ),
            Op::PutHashLines { first, rows } => (
                names::HASH_LINES,
                put_rows(&mut self.hash_lines, *first, rows),
            ),
            Op::PutCursor { service, cursor } => {
                (names::CURSORS, self.cursors.set(*service, *cursor, 0))
            }
            Op::PutServiceRow { row, service } => (
                names::SERVICE_ROWS,
                self.service_rows.set(*row, Abi(*service), 0),
            ),
            Op::PutService { key, row } => {
                (names::SERVICES, self.services.insert(Abi(*key), *row, 0))
            }
            Op::RemoveService { key } => (names::SERVICES, self.services.remove(&Abi(*key))),
            Op::ZeroDest { id } => {
                self.loads.zero(*id);
                (names::DEST_TRAFFIC, zero(&mut self.dest_traffic, *id))
            }
        }
    }

    /// What holds for all services.
    pub(super) fn settings(&self) -> Settings {
        self.shared.settings
    }

    /// A real server's row.
    pub(super) fn dest(&self, id: u32) -> Result<Dest, DataplaneError> {
        get(&self.dests, names::DESTS, id)
    }

    /// What the outer header towards a real server needs.
    pub(super) fn tunnel(&self, id: u32) -> Result<Tunnel, DataplaneError> {
        get(&self.tunnels, names::TUNNELS, id)
    }

    /// 64 bits of the address filter.
    pub(super) fn filter_row(&self, index: u32) -> Option<u64> {
        self.shared.filter.get(index as usize).copied()
    }

    /// The row of the service of this key.
    pub(super) fn service_row(&self, key: &ServiceKey) -> Option<u32> {
        self.services.get(&Abi(*key), 0).ok()
    }

    /// A row of the services.
    pub(super) fn service(&self, row: u32) -> Result<Service, DataplaneError> {
        get(&self.service_rows, names::SERVICE_ROWS, row)
    }

    /// A row of the server lists.
    pub(super) fn member_line(&self, row: u32) -> Result<MemberLine, DataplaneError> {
        get(&self.member_lines, names::MEMBER_LINES, row)
    }

    /// Part of a hashing scheduler's table.
    pub(super) fn hash_line(&self, line: u32) -> Result<HashLine, DataplaneError> {
        get(&self.hash_lines, names::HASH_LINES, line)
    }

    /// A scheduler's cursor.
    pub(super) fn cursor(&self, service: u32) -> Result<u64, MapError> {
        self.cursors.get(&service, 0)
    }

    /// lblcr: the rank of a real server in its service's set.
    pub(super) fn rank(&self, dest: u32) -> Result<u32, MapError> {
        self.ranks.get(&dest, 0)
    }

    /// An interface's row.
    pub(super) fn link(&self, ifindex: u32) -> Option<Link> {
        self.shared.links.get(ifindex as usize).copied()
    }

    /// True for a virtual MAC address that is held here.
    pub(super) fn is_virtual_mac(&self, key: u64) -> bool {
        self.macs.get(&key, 0).is_ok()
    }

    /// All virtual MAC addresses that are held here.
    pub(super) fn virtual_macs(&self) -> impl Iterator<Item = u64> {
        self.macs.keys().flatten()
    }

    /// The remembered way to clients with this hash.
    pub(super) fn hop(&self, hash: u32) -> Result<Hop, DataplaneError> {
        get(&self.hops, names::HOPS, hash % MAX_HOPS)
    }

    /// One verdict's counter, summed over CPUs.
    pub(super) fn verdict(&self, code: u32) -> Result<u64, DataplaneError> {
        let per_cpu = self
            .verdicts
            .get(&code, 0)
            .map_err(|source| DataplaneError::Map {
                map: names::VERDICTS,
                source,
            })?;
        Ok(per_cpu.iter().sum())
    }

    /// One real server's counters, summed over CPUs.
    pub(super) fn dest_traffic(&self, id: u32) -> Result<Traffic, DataplaneError> {
        sum(&self.dest_traffic, names::DEST_TRAFFIC, id)
    }
}

fn get<T: bytemuck::Pod>(
    map: &Array<MapData, Abi<T>>,
    name: &'static str,
    index: u32,
) -> Result<T, DataplaneError> {
    let row = map.get(&index, 0);
    row.map(|Abi(row)| row)
        .map_err(|source| DataplaneError::Map { map: name, source })
}

/// Writes a row; one that there is no room for is left out by who plans the operations.
fn put<T>(rows: &mut [T], index: u32, row: T) {
    if let Some(place) = rows.get_mut(index as usize) {
        *place = row;
    }
}

fn put_rows<T: bytemuck::Pod>(
    map: &mut Array<MapData, Abi<T>>,
    first: u32,
    rows: &[T],
) -> Result<(), MapError> {
    (first..)
        .zip(rows)
        .try_for_each(|(index, row)| map.set(index, Abi(*row), 0))
}

/// Takes an array out of the object and maps it into memory.
pub(super) fn mapped(
    ebpf: &mut Ebpf,
    name: &'static str,
    value_size: usize,
) -> Result<Mapped, DataplaneError> {
    let map = ebpf.take_map(name).ok_or(DataplaneError::Missing(name))?;
    Mapped::open(map, name, value_size)
}

/// Takes a map out of the object and checks that it is of the expected kind.
fn open<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, DataplaneError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = ebpf.take_map(name).ok_or(DataplaneError::Missing(name))?;
    M::try_from(map).map_err(|source| DataplaneError::Map { map: name, source })
}

fn zero(map: &mut PerCpuArray<MapData, Abi<Traffic>>, id: u32) -> Result<(), MapError> {
    let values: Vec<_> = map
        .get(&id, 0)?
        .iter()
        .map(|_| Abi(Traffic::default()))
        .collect();
    let values = aya::maps::PerCpuValues::try_from(values).map_err(MapError::IoError)?;
    map.set(id, values, 0)
}

fn sum(
    map: &PerCpuArray<MapData, Abi<Traffic>>,
    name: &'static str,
    id: u32,
) -> Result<Traffic, DataplaneError> {
    let per_cpu = map
        .get(&id, 0)
        .map_err(|source| DataplaneError::Map { map: name, source })?;
    Ok(per_cpu
        .iter()
        .fold(Traffic::default(), |sum, Abi(cpu)| Traffic {
            conns: sum.conns + cpu.conns,
            in_packets: sum.in_packets + cpu.in_packets,
            in_bytes: sum.in_bytes + cpu.in_bytes,
            out_packets: sum.out_packets + cpu.out_packets,
            out_bytes: sum.out_bytes + cpu.out_bytes,
        }))
}
