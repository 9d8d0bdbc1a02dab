// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rates of connections, packets and bytes, estimated from the counters.
//!
//! IPVS: `ip_vs_est.c`. Every two seconds an average moves by a quarter towards what the last two
//! seconds were. Fixed point: rates of connections and packets carry 10 bits of fraction, those of
//! bytes 5. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Stats, TrafficCounts};
use crate::config::model::ServiceId;

/// How often counters are looked at.
pub const EVERY: Duration = Duration::from_secs(2);

/// Bits of fraction of connections and packets a second.
const PACKET_BITS: u32 = 10;
/// Bits of fraction of bytes a second.
const BYTE_BITS: u32 = 5;

/// Per second, as `ipvsadm -L --rate` shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Connections scheduled.
    pub cps: u64,
    /// Packets from clients.
    pub inpps: u64,
    /// Packets to clients.
    pub outpps: u64,
    /// Bytes from clients.
    pub inbps: u64,
    /// Bytes to clients.
    pub outbps: u64,
}

/// What is known of one service or server.
#[derive(Clone, Copy, Debug, Default)]
struct Estimate {
    last: TrafficCounts,
    rates: Rates,
}

impl Estimate {
    fn of(first: TrafficCounts) -> Self {
        Self {
            last: first,
            rates: Rates::default(),
        }
    }

    /// Moves on to the counters of a moment later.
    fn step(&mut self, counts: TrafficCounts) {
        let Self { last, rates } = self;
        let packets = |rate: &mut u64, before: u64, now: u64| step(rate, before, now, PACKET_BITS);
        let bytes = |rate: &mut u64, before: u64, now: u64| step(rate, before, now, BYTE_BITS);
        packets(&mut rates.cps, last.conns, counts.conns);
        packets(&mut rates.inpps, last.in_packets, counts.in_packets);
        packets(&mut rates.outpps, last.out_packets, counts.out_packets);
        bytes(&mut rates.inbps, last.in_bytes, counts.in_bytes);
        bytes(&mut rates.outbps, last.out_bytes, counts.out_bytes);
        *last = counts;
    }

    fn rates(&self) -> Rates {
        let packets = |rate| whole(rate, PACKET_BITS);
        let bytes = |rate| whole(rate, BYTE_BITS);
        Rates {
            cps: packets(self.rates.cps),
            inpps: packets(self.rates.inpps),
            outpps: packets(self.rates.outpps),
            inbps: bytes(self.rates.inbps),
            outbps: bytes(self.rates.outbps),
        }
    }
}

/// IPVS: `estimation_timer`: the difference of two seconds is shifted by one bit less.
fn step(rate: &mut u64, before: u64, now: u64, bits: u32) {
    // A server that was removed and is back counts from zero.
    let lately = (now.saturating_sub(before) << (bits - 1)).cast_signed();
    let old = rate.cast_signed();
    *rate = (old + ((lately - old) >> 2)) as u64;
}

/// IPVS: `ip_vs_read_estimator`.
fn whole(rate: u64, bits: u32) -> u64 {
    (rate + ((1 << (bits - 1)) - 1)) >> bits
}

/// Of all services and servers.
#[derive(Clone, Debug, Default)]
pub struct Estimator(BTreeMap<(ServiceId, Option<SocketAddr>), Estimate>);

impl Estimator {
    /// Takes the counters in; call it every [`EVERY`].
    pub fn step(&mut self, stats: &Stats) {
        let mut next = BTreeMap::new();
        for service in &stats.services {
            let mut put = |server, counts| {
                let key = (service.service, server);
                let mut estimate = match self.0.get(&key) {
                    Some(known) => *known,
                    None => Estimate::of(counts),
                };
                estimate.step(counts);
                next.insert(key, estimate);
            };
            put(None, service.counts);
            for server in &service.servers {
                put(Some(server.server), server.counts);
            }
        }
        self.0 = next;
    }

    /// Of a service, or of one of its servers.
    pub fn rates(&self, service: ServiceId, server: Option<SocketAddr>) -> Rates {
        let known = self.0.get(&(service, server));
        known.map(Estimate::rates).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel's arithmetic gives for a steady 1,000 a second, step by step.
    #[test]
    fn a_steady_rate_is_approached_by_quarters() {
        let mut estimate = Estimate::default();
        let mut seen = Vec::new();
        for n in 1..=20 {
            estimate.step(TrafficCounts {
                conns: n * 2000,
                in_bytes: n * 2_000_000,
                ..TrafficCounts::default()
            });
            seen.push(estimate.rates().cps);
        }
        assert_eq!(&seen[..4], [250, 437, 578, 684]);
        assert!(seen[19] >= 996 && seen[19] <= 1000, "{seen:?}");
        let bytes = estimate.rates().inbps;
        assert!((995_000..=1_000_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn what_was_counted_before_is_no_rate() {
        let counts = TrafficCounts {
            conns: 1 << 40,
            ..TrafficCounts::default()
        };
        let mut estimate = Estimate::of(counts);
        estimate.step(counts);
        assert_eq!(estimate.rates(), Rates::default());
        // Counters that start anew.
        estimate.step(TrafficCounts::default());
        assert_eq!(estimate.rates(), Rates::default());
    }
}
