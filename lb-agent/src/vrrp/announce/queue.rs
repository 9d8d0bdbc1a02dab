// SPDX-License-Identifier: MIT OR Apache-2.0
//! Announcements that wait for their turn: which may leave when.
//!
//! In: rounds of announcements, the clock. Out: those that may leave now, in the order in which
//! they came. Called by the driver. Pure. Invariant: on interfaces that share a spacing, two
//! packets of one kind are at least that far apart; without a spacing none ever waits.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::super::time::Nanos;
use crate::config::model::Spacing;

/// One packet to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The instance that holds the address.
    pub instance: String,
    /// Where it holds it.
    pub device: String,
    /// The address.
    pub addr: IpAddr,
}

/// Announcements on their way.
#[derive(Debug, Default)]
pub struct Queue {
    spacings: Vec<Spacing>,
    /// By what shares a spacing (a group's place, or the interface itself), and IPv6 or not.
    lanes: BTreeMap<(Sharing, bool), Lane>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sharing {
    Group(usize),
    Alone(String),
}

#[derive(Debug, Default)]
struct Lane {
    spacing: Duration,
    waiting: VecDeque<Announcement>,
    /// Nothing leaves before.
    free_at: Nanos,
}

impl Queue {
    /// Takes over the configured spacings; what waits keeps the old ones.
    pub fn set_spacings(&mut self, spacings: Vec<Spacing>) {
        self.spacings = spacings;
        self.lanes.retain(|_, lane| !lane.waiting.is_empty());
    }

    /// Puts one packet at the end.
    pub fn push(&mut self, packet: Announcement) {
        let mut groups = self.spacings.iter().enumerate();
        let group = groups.find(|(_, spacing)| spacing.interfaces.contains(&packet.device));
        let all = || self.spacings.iter().find(|s| s.interfaces.is_empty());
        let (sharing, spacing) = match group {
            Some((at, spacing)) => (Sharing::Group(at), Some(spacing)),
            None => (Sharing::Alone(packet.device.clone()), all()),
        };
        let is_v6 = packet.addr.is_ipv6();
        let spacing = spacing.map_or(Duration::ZERO, |s| if is_v6 { s.gna } else { s.garp });
        let lane = self.lanes.entry((sharing, is_v6)).or_default();
        lane.spacing = spacing;
        lane.waiting.push_back(packet);
    }

    /// Forgets what an instance still wanted to say: it gave its addresses up.
    pub fn cancel(&mut self, instance: &str) {
        for lane in self.lanes.values_mut() {
            lane.waiting.retain(|packet| packet.instance != instance);
        }
    }

    /// When the next one may leave.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        let lanes = self.lanes.values().filter(|lane| !lane.waiting.is_empty());
        lanes.map(|lane| lane.free_at).min()
    }

    /// Takes those that may leave now.
    pub fn due(&mut self, now: Nanos) -> Vec<Announcement> {
        let mut due = Vec::new();
        for lane in self.lanes.values_mut() {
            while lane.free_at <= now
                && let Some(packet) = lane.waiting.pop_front()
            {
                due.push(packet);
                if !lane.spacing.is_zero() {
                    lane.free_at = now + lane.spacing;
                }
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn packet(instance: &str, device: &str, addr: &str) -> Announcement {
        Announcement {
            instance: instance.to_owned(),
            device: device.to_owned(),
            addr: addr.parse().unwrap(),
        }
    }

    fn spacing(garp: u32, gna: u32, interfaces: &[&str]) -> Spacing {
        Spacing {
            garp: MS * garp,
            gna: MS * gna,
            interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// When each packet leaves, in milliseconds.
    fn drain(queue: &mut Queue) -> Vec<(u64, String)> {
        let mut now = Nanos::new(0);
        let mut left = Vec::new();
        while let Some(at) = queue.poll_timeout() {
            now = now.max(at);
            for packet in queue.due(now) {
                left.push((now.as_nanos() / 1_000_000, packet.addr.to_string()));
            }
        }
        left
    }

    fn times(queue: &mut Queue) -> Vec<u64> {
        drain(queue).into_iter().map(|(at, _)| at).collect()
    }

    #[test]
    fn without_a_spacing_nothing_waits() {
        let mut queue = Queue::default();
        for _ in 0..5 {
            queue.push(packet("A", "eth0", "192.0.2.1"));
        }
        assert_eq!(times(&mut queue), [0; 5]);
    }

    #[test]
    fn packets_of_one_kind_on_one_interface_keep_their_distance() {
        let mut queue = Queue::default();
        queue.set_spacings(vec![spacing(100, 10, &[])]);
        for _ in 0..3 {
            queue.push(packet("A", "eth0", "192.0.2.1"));
            queue.push(packet("A", "eth0", "2001:db8::1"));
            queue.push(packet("B", "eth1", "192.0.2.2"));
        }
        assert_eq!(times(&mut queue), [0, 0, 0, 10, 20, 100, 100, 200, 200]);
    }

    #[test]
    fn interfaces_of_a_group_share_the_distance() {
        let mut queue = Queue::default();
        queue.set_spacings(vec![spacing(0, 0, &[]), spacing(50, 0, &["eth0", "eth1"])]);
        for device in ["eth0", "eth1", "eth0", "eth2"] {
            queue.push(packet("A", device, "192.0.2.1"));
        }
        assert_eq!(times(&mut queue), [0, 0, 50, 100]);
    }

    #[test]
    fn an_instance_that_gave_up_says_no_more() {
        let mut queue = Queue::default();
        queue.set_spacings(vec![spacing(100, 0, &[])]);
        for _ in 0..3 {
            queue.push(packet("A", "eth0", "192.0.2.1"));
            queue.push(packet("B", "eth0", "192.0.2.2"));
        }
        assert_eq!(queue.due(Nanos::new(0)).len(), 1);
        queue.cancel("A");
        let rest = drain(&mut queue);
        assert_eq!(rest.len(), 3);
        assert!(rest.iter().all(|(_, addr)| addr == "192.0.2.2"));
        assert_eq!(queue.poll_timeout(), None);
    }
}
