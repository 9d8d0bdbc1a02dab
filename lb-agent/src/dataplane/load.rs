// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the object embedded in the binary to a verified program in the kernel.

use std::path::PathBuf;
use std::thread;

use aya::maps::{Array, Map, MapData, ProgramArray};
use aya::programs::{Program, ProgramFd, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use lb_common::abi::{
    ABI_LAYOUT, ABI_VERSION, CONN6_SHARE, DEFAULT_CONNS, MAX_CONNS, Params, STEP_PROGRAMS, Shared,
    conn_lines, maps,
};
use lb_common::hash::HashKey;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::warn;

use super::clock::Clock;
use super::conns;
use super::maps::Abi;
use super::pins::{Header, Pins};
use super::plan::{Op, Plan};
use super::{DataplaneError, ProgramInfo};

/// The object that `cargo xtask build` compiles; empty in a debug build without the BPF toolchain.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/xlvs.bpf.o"));

/// False in a debug build without the BPF toolchain.
fn embedded_object_present() -> bool {
    !OBJECT.is_empty()
}

/// Capacities that are fixed when the maps are created.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// IPv4 connections kept, 32 bytes each, and a quarter as many IPv6 ones, 64 bytes each; beyond
    /// it those that matter least make room. At most `lb_common::abi::MAX_CONNS`.
    pub max_conns: u32,
    /// Where maps and attachments are pinned so that they outlive the agent; nowhere without.
    pub pins: Option<Pins>,
    /// Key of the hash that chooses a flow's lines; a random one when absent, which is what keeps
    /// strangers from choosing them.
    pub hash_key: Option<HashKey>,
    /// The program's time stands still: nothing ages. For comparing it with the pipeline on the
    /// host.
    pub frozen_time: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            max_conns: DEFAULT_CONNS,
            pins: None,
            hash_key: None,
            frozen_time: false,
        }
    }
}

/// Jiffies shifted by so much are zero for the next thousands of years.
const FROZEN: u32 = 63;

/// What is in the kernel, and stays there for as long as this lives.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    /// The kernel empties the array when nobody holds it.
    pub(super) steps: ProgramArray<MapData>,
    pub(super) info: ProgramInfo,
    /// Key of the flow hash.
    pub(super) key: HashKey,
    /// Where the maps are pinned, and what is fixed of them.
    pub(super) pins: Option<(Pins, Header)>,
    /// What another agent left in them.
    pub(super) kept: Option<(Plan, Vec<Op>)>,
}

/// Creates the maps, or opens those that another agent left, and has the program verified. Attaches
/// nothing.
pub(super) fn load(options: &LoadOptions, clock: Clock) -> Result<Loaded, DataplaneError> {
    if !embedded_object_present() {
        return Err(DataplaneError::NoObject);
    }
    let max_conns = options.max_conns.min(MAX_CONNS);
    let mut header = Header {
        version: ABI_VERSION,
        layout: ABI_LAYOUT,
        max_conns,
        tick_shift: if options.frozen_time {
            FROZEN
        } else {
            clock.shift
        },
        key: match options.hash_key {
            Some(key) => key,
            None => conns::random_key()?,
        },
        number: fastrand::u64(..),
    };
    let pins = options.pins.clone().filter(|pins| match pins.prepare() {
        Ok(()) => true,
        Err(err) => {
            warn!("cannot pin the packet program: {err}; it ends with this agent");
            false
        }
    });
    let kept = pins.as_ref().and_then(|pins| pins.find(&header));
    let mut places = Vec::new();
    if let (Some(pins), Some(kept)) = (&pins, &kept) {
        header = kept.header.clone();
        places = pins.pinned_maps(&header).map_err(DataplaneError::Conns)?;
    }
    let mut ebpf = object(&header, &places)?;
    let pins = pins.filter(|pins| match pins.pin_maps(&header, &ebpf) {
        Ok(()) => true,
        Err(err) => {
            warn!("{err}; the packet program ends with this agent");
            false
        }
    });
    follow_packet_log(&mut ebpf);
    verify(
        &mut ebpf,
        &[&[maps::PROGRAM, maps::CLOCK], &STEP_PROGRAMS[..]].concat(),
    )?;
    let info = said_of(program(&mut ebpf)?)?;
    let steps = set_steps(&mut ebpf)?;
    Ok(Loaded {
        ebpf,
        steps,
        info,
        key: header.key,
        pins: pins.map(|pins| (pins, header)),
        kept: kept.map(|kept| (kept.plan, kept.ops)),
    })
}

/// The object with its maps: those at `places`, the others new. No program is loaded yet.
pub(super) fn object(
    header: &Header,
    places: &[(String, PathBuf)],
) -> Result<Ebpf, DataplaneError> {
    let lines = conn_lines(header.max_conns);
    let lines6 = conn_lines(header.max_conns / CONN6_SHARE);
    let params = Abi(Params {
        hash_key: header.key,
        lines,
        lines6,
        tick_shift: header.tick_shift,
        zero: 0,
    });
    let mut loader = EbpfLoader::new();
    // The program has no CO-RE relocations, so the kernel's BTF (tens of milliseconds to read) is
    // not needed.
    loader
        .btf(None)
        .map_max_entries(maps::CONNS, lines)
        .map_max_entries(maps::CONNS6, lines6)
        .override_global(maps::PARAMS, &params, true);
    // The loader writes global data anew, also to a map that is there already and that programs look
    // at meanwhile: so it is given what is in it.
    let shared = shared_of(places)?;
    if let Some(shared) = &shared {
        loader.override_global(maps::SHARED_SYMBOL, shared.as_ref(), true);
    }
    for (name, path) in places {
        loader.map_pin_path(name, path.as_path());
    }
    Ok(loader.load(OBJECT)?)
}

/// What the global data pinned in one of these places holds.
fn shared_of(places: &[(String, PathBuf)]) -> Result<Option<Box<Abi<Shared>>>, DataplaneError> {
    let Some((_, path)) = places.iter().find(|(name, _)| name == maps::SHARED) else {
        return Ok(None);
    };
    let read = || {
        let map = Array::try_from(Map::Array(MapData::from_pin(path)?))?;
        Array::<_, Abi<Shared>>::get(&map, &0, 0)
    };
    let shared = read().map_err(|source| DataplaneError::Map {
        map: maps::SHARED,
        source,
    })?;
    Ok(Some(Box::new(shared)))
}

/// What the verifier said of a loaded program.
fn said_of(program: &Xdp) -> Result<ProgramInfo, DataplaneError> {
    let info = program.info()?;
    Ok(ProgramInfo {
        verified_instructions: info.verified_instruction_count(),
        translated_bytes: info.size_translated(),
    })
}

/// The same of several.
pub(super) fn infos(
    ebpf: &Ebpf,
    names: impl Iterator<Item = &'static str>,
) -> Result<Vec<(&'static str, ProgramInfo)>, DataplaneError> {
    let info = |name| {
        let program = ebpf.program(name).ok_or(DataplaneError::Missing(name))?;
        Ok((name, said_of(program.try_into()?)?))
    };
    names.map(info).collect()
}

/// Loads programs, each in a thread of its own: the verifier needs up to half a second of processor
/// time for one, and looks at several at once.
pub(super) fn verify(ebpf: &mut Ebpf, names: &[&'static str]) -> Result<(), DataplaneError> {
    if let Some(missing) = names.iter().find(|name| ebpf.program(name).is_none()) {
        return Err(DataplaneError::Missing(missing));
    }
    let programs = ebpf.programs_mut();
    let programs = programs.filter(|(name, _)| names.contains(name));
    thread::scope(|scope| {
        let load = |program: &mut Program| -> Result<(), DataplaneError> {
            let xdp: &mut Xdp = program.try_into()?;
            Ok(xdp.load()?)
        };
        let loads = programs.map(|(_, program)| scope.spawn(move || load(program)));
        let loads: Vec<_> = loads.collect();
        let ended = |load: thread::ScopedJoinHandle<'_, _>| {
            let panicked = |panic| std::panic::resume_unwind(panic);
            load.join().unwrap_or_else(panicked)
        };
        loads.into_iter().try_for_each(ended)
    })
}

/// Tells the packet program of those that it goes on in.
fn set_steps(ebpf: &mut Ebpf) -> Result<ProgramArray<MapData>, DataplaneError> {
    let failed = |source| DataplaneError::Map {
        map: maps::STEPS,
        source,
    };
    let map = ebpf
        .take_map(maps::STEPS)
        .ok_or(DataplaneError::Missing(maps::STEPS))?;
    let mut steps = ProgramArray::try_from(map).map_err(failed)?;
    for (index, name) in (0..).zip(STEP_PROGRAMS) {
        let program = named(ebpf, name)?;
        steps.set(index, program.fd()?, 0).map_err(failed)?;
    }
    Ok(steps)
}

/// Hands the log records of a program built with `packet-log` to the agent's own log; any other
/// program has none.
fn follow_packet_log(ebpf: &mut Ebpf) {
    let logger = match aya_log::EbpfLogger::init(ebpf) {
        Ok(logger) => logger,
        Err(aya_log::Error::MapNotFound) => return,
        Err(err) => {
            warn!("cannot follow the packet log: {err}");
            return;
        }
    };
    #[expect(
        deprecated,
        reason = "its successor is unsafe; the logger owns its descriptor"
    )]
    match AsyncFd::with_interest(logger, Interest::READABLE) {
        Ok(mut logger) => {
            tokio::spawn(async move {
                while let Ok(mut guard) = logger.readable_mut().await {
                    guard.get_inner_mut().flush();
                    guard.clear_ready();
                }
            });
        }
        Err(err) => warn!("cannot follow the packet log: {err}"),
    }
}

/// An XDP program of an object.
pub(super) fn named<'e>(
    ebpf: &'e mut Ebpf,
    name: &'static str,
) -> Result<&'e mut Xdp, DataplaneError> {
    Ok(ebpf
        .program_mut(name)
        .ok_or(DataplaneError::Missing(name))?
        .try_into()?)
}

/// The XDP program of a loaded object.
pub(super) fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, DataplaneError> {
    Ok(ebpf
        .program_mut(maps::PROGRAM)
        .ok_or(DataplaneError::Missing("program xlvs"))?
        .try_into()?)
}

/// The connection table's time, asked of the program that knows jiffies.
pub(super) fn now(ebpf: &Ebpf) -> Result<u32, DataplaneError> {
    let program: &Xdp = ebpf
        .program(maps::CLOCK)
        .ok_or(DataplaneError::Missing("program xlvs_clock"))?
        .try_into()?;
    let options = TestRunOptions {
        data_in: Some(&[0; 14]),
        ..TestRunOptions::default()
    };
    Ok(program.test_run(options)?.return_value)
}

/// Descriptor of the loaded XDP program.
pub(super) fn program_fd(ebpf: &Ebpf) -> Result<&ProgramFd, DataplaneError> {
    let program = ebpf
        .program(maps::PROGRAM)
        .ok_or(DataplaneError::Missing("program xlvs"))?;
    Ok(program.fd()?)
}

/// Room for what a test run may put before the frame: outer headers, or those of an answer.
const TEST_RUN_ROOM: usize = 256;

/// See `Dataplane::test_run`.
pub(super) fn test_run(ebpf: &mut Ebpf, frame: &[u8]) -> Result<(u32, Vec<u8>), DataplaneError> {
    let xdp = program(ebpf)?;
    let mut out = vec![0; frame.len() + TEST_RUN_ROOM];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ..TestRunOptions::default()
    };
    let result = xdp.test_run(options)?;
    out.truncate(result.data_size_out as usize);
    Ok((result.return_value, out))
}
