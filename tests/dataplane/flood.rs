// SPDX-License-Identifier: MIT OR Apache-2.0
//! Malformed and truncated packets by the million, to services of all kinds at once: host and kernel
//! come to the same end, an independent parser finds it right, and the counters add up.
//!
//! `XLVS_FUZZ_PACKETS` and `XLVS_FUZZ_SEED` say how many and which.

use std::collections::BTreeMap;

use lb_common::verdict::Verdict;

use crate::damage::Generator;
use crate::lab::{INGRESS, Lab};
use crate::oracle::{Judgement, Oracle};
use crate::world;

/// Packets where nothing is said: seconds.
const PACKETS: u64 = 20_000;

/// How often the verdict counters of both are compared.
const BATCH: u64 = 1000;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| {
        text.replace('_', "")
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number"))
    })
}

#[test]
fn malformed_packets_get_no_wrong_verdict() {
    let packets = number("XLVS_FUZZ_PACKETS", PACKETS);
    let seed = number("XLVS_FUZZ_SEED", 1);
    let kinds = world::services();
    let services = kinds.iter().map(|kind| kind.service.clone()).collect();
    let mut lab = Lab::in_frozen_time(services);
    lab.route(|addr| Some(world::next_hop(addr)));
    let oracle = Oracle::new(kinds.clone());
    let mut generator = Generator::new(seed, kinds);
    let (mut verdicts, mut judgements) = (BTreeMap::new(), BTreeMap::new());
    let mut in_kernel = BTreeMap::new();
    for n in 0..packets {
        let frame = generator.frame();
        let failed = |why: &str, verdict: Verdict| {
            panic!("packet {n} of XLVS_FUZZ_SEED={seed}: {why}\n{verdict:?}\n{frame:02x?}")
        };
        let (verdict, after) = lab.host.run(&frame, INGRESS);
        *verdicts.entry(verdict).or_insert(0u64) += 1;
        match lab.in_kernel(&frame, verdict, &after) {
            Ok(true) => *in_kernel.entry(verdict.name()).or_insert(0u64) += 1,
            Ok(false) => {}
            Err(why) => failed(&why, verdict),
        }
        match oracle.judge(&frame, verdict, &after) {
            Ok(judgement) => *judgements.entry(judgement).or_insert(0u64) += 1,
            Err(why) => failed(&why, verdict),
        }
        if n % BATCH == BATCH - 1 || n + 1 == packets {
            let counted = lab.verdicts();
            assert!(
                counted.is_none_or(|counted| counted == in_kernel),
                "counters after packet {n} of XLVS_FUZZ_SEED={seed}"
            );
        }
    }
    assert_eq!(verdicts.values().sum::<u64>(), packets);
    lab.assert_same_counters();
    for judgement in [Judgement::Refused, Judgement::Opens, Judgement::Depends] {
        assert!(judgements[&judgement] > packets / 20, "{judgements:?}");
    }
    println!(
        "{packets} packets of seed {seed}, {} in the kernel",
        in_kernel.values().sum::<u64>()
    );
    println!("{judgements:?}");
    for (verdict, count) in verdicts {
        println!("{count:>8} {}", verdict.name());
    }
}
