// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzz target: whatever frames come in whatever order and at whatever times, the pipeline on the
//! host does not panic, no arithmetic overflows, and the oracle of the packet cases agrees.
//!
//! Input: packets one after another, each with two bytes for its length (little endian), one for the
//! time that passes before it (seconds), and the frame. `XLVS_FUZZ_SEEDS=DIR` writes seeds there.

#![no_main]

// The world, its packets and its oracle are those of the packet cases.
#[path = "../dataplane/damage.rs"]
mod damage;
#[allow(dead_code, reason = "the packet cases use the rest")]
#[path = "../dataplane/frames.rs"]
mod frames;
#[allow(dead_code, reason = "the packet cases use the rest")]
#[path = "../dataplane/host.rs"]
mod host;
#[allow(dead_code, reason = "the packet cases use the rest")]
#[path = "../dataplane/lab.rs"]
mod lab;
#[path = "../dataplane/oracle.rs"]
mod oracle;
mod seeds;
#[path = "../dataplane/world.rs"]
mod world;

use damage::Generator;
use lab::{INGRESS, Lab};
use libfuzzer_sys::fuzz_target;
use oracle::Oracle;

/// So few connections that inputs of a few packets make room for one another.
const CONNECTIONS: u32 = 32;

/// The most packets of an input.
const PACKETS: usize = 16;

thread_local! {
    static WORLD: (Lab, Oracle) = world();
}

fn world() -> (Lab, Oracle) {
    let kinds = world::services();
    let services = kinds.iter().map(|kind| kind.service.clone()).collect();
    let mut lab = Lab::serving_on_the_host(services);
    lab.route(|addr| Some(world::next_hop(addr)));
    lab.host.shrink(CONNECTIONS);
    (lab, Oracle::new(kinds))
}

/// Inputs of one to four packets, and some of one client's.
fn write_seeds() {
    let mut generator = Generator::new(1, world::services());
    seeds::write((0..400).map(|n| {
        (0..=n % 4).fold(Vec::new(), |mut input, _| {
            let frame = generator.frame();
            input.extend((frame.len() as u16).to_le_bytes());
            input.push(n as u8 % 3);
            input.extend(frame);
            input
        })
    }));
}

fuzz_target!(
    init: write_seeds(),
    |input: &[u8]| WORLD.with(|(lab, oracle)| {
        lab.host.forget();
        let mut rest = input;
        for _ in 0..PACKETS {
            let &[low, high, seconds, ref frames @ ..] = rest else {
                break;
            };
            let len = usize::from(u16::from_le_bytes([low, high])).min(frames.len());
            let (frame, behind) = frames.split_at(len);
            let later = lab.host.now_ns.get() + u64::from(seconds) * 1_000_000_000;
            lab.host.now_ns.set(later);
            let (verdict, after) = lab.host.run(frame, INGRESS);
            if let Err(why) = oracle.judge(frame, verdict, &after) {
                panic!("{why}\n{verdict:?}\n{frame:02x?}");
            }
            rest = behind;
        }
    })
);
