// SPDX-License-Identifier: MIT OR Apache-2.0
//! The generator's object, loaded for one world: what sends, what counts, what it is compared with.

#![allow(
    unsafe_code,
    reason = "bridges from bytemuck's Pod to aya's, see `Order` and `Sample`"
)]

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aya::maps::{Array, MapData};
use aya::programs::xdp::XdpMode;
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use lb_common::abi::{GENERATE_BATCH, GENERATE_CHUNKS, GENERATE_FRAME, GENERATE_SAMPLE, Generate};
use xlvs_tests::netns::Namespace;
use xlvs_tests::wait;

/// Servers whose counters are looked at: 0 is whoever sent the packets.
pub(crate) const SERVERS: u8 = 4;

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Order(Generate);

// SAFETY: aya::Pod asks for what bytemuck::Pod has proven: any bytes are valid, no padding.
unsafe impl aya::Pod for Order {}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Sample([u8; GENERATE_SAMPLE]);

// SAFETY: bytes; any are valid, and there is no padding between them.
unsafe impl aya::Pod for Sample {}

/// One loaded object.
pub(crate) struct Wire {
    ebpf: Ebpf,
    order: Array<MapData, Order>,
    chunk_ns: Array<MapData, u64>,
    arrived: Array<MapData, u64>,
    sample: Array<MapData, Sample>,
}

/// What one pass of the generator showed.
pub(crate) struct Pass {
    /// Nanoseconds a packet, of the median chunk.
    pub(crate) ns: f64,
    /// Packets that arrived, by server.
    pub(crate) servers: Vec<u64>,
}

impl Pass {
    pub(crate) fn received(&self) -> u64 {
        self.servers.iter().sum()
    }
}

/// Which packets to send: so many, of flows `first` and after.
#[derive(Clone, Copy)]
pub(crate) struct Flows {
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) packets: u32,
}

impl Wire {
    pub(crate) fn load(object: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(object).with_context(|| format!("cannot read {}", object.display()))?;
        let mut ebpf = EbpfLoader::new().btf(None).load(&bytes)?;
        for name in ["generate", "sink", "drop_all", "swap_macs"] {
            program(&mut ebpf, name)?.load()?;
        }
        let mut map = |name: &str| {
            ebpf.take_map(name)
                .with_context(|| format!("no map {name}"))
        };
        Ok(Self {
            order: Array::try_from(map("GENERATE")?)?,
            chunk_ns: Array::try_from(map("CHUNK_NS")?)?,
            arrived: Array::try_from(map("ARRIVED")?)?,
            sample: Array::try_from(map("SAMPLE")?)?,
            ebpf,
        })
    }

    /// Attaches a program to an interface of a namespace for this object's life.
    pub(crate) fn attach(&mut self, name: &str, at: &Namespace, interface: &str) -> Result<()> {
        let xdp = program(&mut self.ebpf, name)?;
        inside(at, move || {
            let ifindex = nix::net::if_::if_nametoindex(interface)?;
            xdp.attach_to_if_index(ifindex, XdpMode::Driver)?;
            Ok(())
        })
        .with_context(|| format!("cannot attach {name} to {interface}"))
    }

    /// Sends packets into `interface` and waits until `expected` of them have reached the sink, or
    /// until it is clear that they will not.
    pub(crate) fn send(
        &mut self,
        from: &Namespace,
        interface: &str,
        template: &Generate,
        flows: Flows,
        expected: u32,
    ) -> Result<Pass> {
        for server in 0..=SERVERS {
            self.arrived.set(u32::from(server), 0, 0)?;
        }
        let whole_batches = flows.packets / GENERATE_BATCH * GENERATE_BATCH;
        let chunk = whole_batches.clamp(GENERATE_BATCH, 16 * GENERATE_BATCH);
        let Self { ebpf, order, .. } = self;
        let xdp = program(ebpf, "generate")?;
        inside(from, move || {
            let row = Generate {
                ifindex: nix::net::if_::if_nametoindex(interface)?,
                first: flows.first,
                flows: flows.count,
                chunk,
                ..*template
            };
            order.set(0, Order(row), 0)?;
            let options = TestRunOptions {
                data_in: Some(&[0; GENERATE_FRAME]),
                repeat: flows.packets,
                attrs: TestRunAttrs::new().xdp_live_frames(GENERATE_BATCH),
                ..TestRunOptions::default()
            };
            xdp.test_run(options)?;
            Ok(())
        })?;
        let mut servers = self.arrived()?;
        // What is still on its way is the other CPU's doing, and comes at once or not at all.
        let patience = Duration::from_millis(200);
        let _ = wait::until(patience, "the last packets", || {
            servers = self.arrived().ok()?;
            (servers.iter().sum::<u64>() >= u64::from(expected)).then_some(())
        });
        Ok(Pass {
            ns: self.median_chunk(flows.packets, chunk)?,
            servers,
        })
    }

    /// The first frame to a server since its counter was last 0.
    pub(crate) fn sample(&self, server: u8) -> Result<[u8; GENERATE_SAMPLE]> {
        Ok(self.sample.get(&u32::from(server), 0)?.0)
    }

    fn arrived(&self) -> Result<Vec<u64>> {
        (0..=SERVERS)
            .map(|server| Ok(self.arrived.get(&u32::from(server), 0)?))
            .collect()
    }

    /// A chunk ends when the next one begins; with none ended there is no figure.
    fn median_chunk(&self, packets: u32, chunk: u32) -> Result<f64> {
        let mut ns = Vec::new();
        for ended in 0..(packets.saturating_sub(1) / chunk).min(GENERATE_CHUNKS) {
            ns.push(self.chunk_ns.get(&ended, 0)?);
        }
        ns.sort_unstable();
        let median = ns.get(ns.len() / 2).copied();
        Ok(median.map_or(f64::NAN, |ns| ns as f64 / f64::from(chunk)))
    }
}

/// Runs `work` in a thread inside a namespace: the thread's namespace decides what an interface's
/// number means. Not this thread, which must outlive the namespace.
fn inside<T: Send>(namespace: &Namespace, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            namespace.enter()?;
            work()
        });
        thread.join().unwrap_or_else(|_| bail!("a thread panicked"))
    })
}

fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}
