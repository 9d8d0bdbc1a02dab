// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver program and the programs of comparison, loaded and timed.

#![allow(
    unsafe_code,
    reason = "one bridge from bytemuck's Pod to aya's, see `Row`"
)]

use std::path::Path;

use anyhow::{Context, Result, bail};
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{ProgramFd, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use lb_common::abi::{DRIVE_CHUNK, DRIVE_CHUNKS, DRIVE_IN_ORDER, DRIVE_RANDOM, DRIVE_V6, Drive};

use crate::world::Frame;

/// XDP code that the driver returns if it could not make its packet or find the program.
const XDP_ABORTED: u32 = 0;

/// What runs behind the driver.
#[allow(
    dead_code,
    reason = "`bench connections` compares with no other program"
)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Transmit,
    SwapMacs,
    TouchLine,
    Xlvs,
}

/// How the driver goes through the flows.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    InOrder,
    Random,
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Row(Drive);

// SAFETY: aya::Pod asks for what bytemuck::Pod has proven: any bytes are valid, no padding.
unsafe impl aya::Pod for Row {}

/// The loaded driver.
pub(crate) struct Driver {
    ebpf: Ebpf,
    drive: Array<MapData, Row>,
    chunk_ns: Array<MapData, u64>,
    under_test: ProgramArray<MapData>,
    xlvs: ProgramFd,
    behind: Option<Program>,
    random: u64,
}

impl Driver {
    /// Loads the object and remembers the packet program.
    pub(crate) fn load(object: &Path, xlvs: &ProgramFd) -> Result<Self> {
        let bytes =
            std::fs::read(object).with_context(|| format!("cannot read {}", object.display()))?;
        let mut ebpf = EbpfLoader::new().btf(None).load(&bytes)?;
        for name in ["drive", "transmit", "swap_macs", "touch_line"] {
            program(&mut ebpf, name)?.load()?;
        }
        let drive = Array::try_from(ebpf.take_map("DRIVE").context("no map DRIVE")?)?;
        let chunks = ebpf.take_map("CHUNK_NS").context("no map CHUNK_NS")?;
        let jump = ebpf.take_map("UNDER_TEST").context("no map UNDER_TEST")?;
        Ok(Self {
            ebpf,
            drive,
            chunk_ns: Array::try_from(chunks)?,
            under_test: ProgramArray::try_from(jump)?,
            xlvs: xlvs.try_clone()?,
            behind: None,
            random: 0x9e37_79b9_7f4a_7c15,
        })
    }

    /// Which flows the next run's packets belong to.
    pub(crate) fn order(
        &mut self,
        frame: &Frame,
        order: Order,
        first: u32,
        flows: u32,
    ) -> Result<()> {
        let word = |at: usize| -> Result<u32> {
            let bytes = frame.bytes.get(at..at + 4).context("short frame")?;
            Ok(u32::from_ne_bytes(bytes.try_into()?))
        };
        let (order, state) = match order {
            Order::InOrder => (DRIVE_IN_ORDER, 0),
            Order::Random => (DRIVE_RANDOM, self.random),
        };
        self.random = self.random.rotate_left(7) ^ 0xd6e8_feb8_6659_fd93;
        // Where the driver writes it, see lb-ebpf/src/bench.rs.
        let hop = if frame.family == DRIVE_V6 { 18 } else { 22 };
        let row = Drive {
            state,
            first,
            flows,
            order,
            macs: [word(0)?, word(4)?, word(8)?],
            hop: word(hop)?,
            ethertype: u16::from_ne_bytes([frame.bytes[12], frame.bytes[13]]),
            virt_port: frame.virt_port.to_be(),
            virt_base: frame.virt_base,
            services: frame.services,
            family: frame.family,
            length: frame.bytes.len() as u32,
            packets: 0,
            chunk_began_ns: 0,
        };
        Ok(self.drive.set(0, Row(row), 0)?)
    }

    /// Runs `packets` packets through a program.
    pub(crate) fn run(&mut self, behind: Program, frame: &Frame, packets: u32) -> Result<()> {
        if self.behind != Some(behind) {
            self.place(behind)?;
        }
        let options = TestRunOptions {
            data_in: Some(&frame.bytes),
            repeat: packets,
            ..TestRunOptions::default()
        };
        let result = program(&mut self.ebpf, "drive")?.test_run(options)?;
        if result.return_value == XDP_ABORTED {
            bail!("the driver could not run the program under test");
        }
        Ok(())
    }

    /// The same after [`Driver::order`], timed: nanoseconds a packet, the median over chunks, so
    /// that a chunk during which something else had this CPU does not count.
    pub(crate) fn time(&mut self, behind: Program, frame: &Frame, packets: u32) -> Result<f64> {
        self.run(behind, frame, packets)?;
        // A chunk ends when the next one begins.
        let chunks = (packets.saturating_sub(1) / DRIVE_CHUNK).min(DRIVE_CHUNKS);
        let mut ns = Vec::new();
        for chunk in 0..chunks {
            ns.push(self.chunk_ns.get(&chunk, 0)?);
        }
        ns.sort_unstable();
        let median = ns
            .get(ns.len() / 2)
            .context("too few packets to take the time")?;
        Ok(*median as f64 / f64::from(DRIVE_CHUNK))
    }

    fn place(&mut self, behind: Program) -> Result<()> {
        let name = match behind {
            Program::Xlvs => return self.put(behind, None),
            Program::Transmit => "transmit",
            Program::SwapMacs => "swap_macs",
            Program::TouchLine => "touch_line",
        };
        let fd = program(&mut self.ebpf, name)?.fd()?.try_clone()?;
        self.put(behind, Some(&fd))
    }

    fn put(&mut self, behind: Program, fd: Option<&ProgramFd>) -> Result<()> {
        self.under_test.set(0, fd.unwrap_or(&self.xlvs), 0)?;
        self.behind = Some(behind);
        Ok(())
    }
}

fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}
