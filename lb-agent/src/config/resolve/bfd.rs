// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bfd_instance`: neighbours, defaults, and what does not go together.
//!
//! Comes in: raw sessions. Goes out: model and findings. Invariant: every session has a neighbour
//! of its own, and addresses of one family.

use std::net::IpAddr;
use std::time::Duration;

use super::super::diag::{Code, Diagnostic, quoted};
use super::super::model::{BfdInstance, Tracked, VrrpInstance};
use super::super::raw::{RawBfd, RawConfig};

const MIN_RX: Duration = Duration::from_millis(10);
const MIN_TX: Duration = Duration::from_millis(10);
const IDLE_TX: Duration = Duration::from_secs(1);
const MULTIPLIER: u8 = 5;
/// RFC 5881 §5.
const TTL: u8 = 255;
/// KEEPALIVED: what it sends over IPv6 unless told otherwise, against RFC 5881 §5. We send 255,
/// which it accepts, and accept 64.
const KEEPALIVED_HOP_LIMIT: u8 = 64;
/// KEEPALIVED: as `max_hops`, hops are not counted.
const ANY_HOPS: u8 = 255;

/// All sessions. What keepalived would leave out is left out.
pub(super) fn instances(raw: &RawConfig, diagnostics: &mut Vec<Diagnostic>) -> Vec<BfdInstance> {
    let mut resolved: Vec<BfdInstance> = Vec::new();
    for bfd in &raw.bfds {
        match instance(bfd, &resolved, diagnostics) {
            Ok(instance) => resolved.push(instance),
            Err(diagnostic) => diagnostics.push(*diagnostic),
        }
    }
    resolved
}

/// A session that was left out is not tracked; that it was has been said.
pub(super) fn drop_unresolved(sessions: &[BfdInstance], instances: &mut [VrrpInstance]) {
    let is_there = |what: &Tracked| match what {
        Tracked::Bfd(name) => sessions.iter().any(|session| session.name == *name),
        _ => true,
    };
    for instance in instances {
        instance.tracks.retain(|track| is_there(&track.what));
    }
}

fn instance(
    raw: &RawBfd,
    others: &[BfdInstance],
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<BfdInstance, Box<Diagnostic>> {
    let name = quoted(&raw.name);
    let warning = |code, span, text: String| Box::new(Diagnostic::warning(code, span, text));
    if others.iter().any(|other| other.name == raw.name) {
        let text = format!("`bfd_instance` {name} is defined twice; the first one counts");
        return Err(warning(Code::Duplicate, raw.head, text));
    }
    let Some(neighbor) = raw.neighbor else {
        let text = format!("`bfd_instance` {name} has no `neighbor_ip`; it is left out");
        return Err(warning(Code::MissingSetting, raw.head, text));
    };
    let twin =
        |other: &&BfdInstance| (other.neighbor, other.multihop) == (neighbor.value, raw.multihop);
    if let Some(other) = others.iter().find(twin) {
        let text = format!(
            "`bfd_instance` {name} has the neighbour of {}; it is left out",
            quoted(&other.name)
        );
        return Err(warning(Code::Duplicate, neighbor.span, text));
    }
    if let IpAddr::V6(address) = neighbor.value
        && address.is_unicast_link_local()
    {
        let text = format!(
            "`bfd_instance` {name}: a link-local address needs an interface, for which there is \
             no keyword; it is left out"
        );
        return Err(warning(Code::InvalidValue, neighbor.span, text));
    }
    if let Some(source) = raw.source
        && source.value.is_ipv4() != neighbor.value.is_ipv4()
    {
        let text = format!(
            "`bfd_instance` {name}: `source_ip` and `neighbor_ip` are of two families; it is left \
             out"
        );
        return Err(warning(Code::Conflict, source.span, text));
    }
    let ttl_min = lowest_ttl(raw, neighbor.value, diagnostics);
    Ok(BfdInstance {
        name: raw.name.clone(),
        neighbor: neighbor.value,
        source: raw.source.map(|said| said.value),
        min_rx: raw.min_rx.map_or(MIN_RX, |said| said.value),
        min_tx: raw.min_tx.map_or(MIN_TX, |said| said.value),
        idle_tx: raw.idle_tx.map_or(IDLE_TX, |said| said.value),
        multiplier: raw.multiplier.map_or(MULTIPLIER, |said| said.value),
        passive: raw.passive,
        ttl: raw.ttl.map_or(TTL, |said| said.value),
        ttl_min,
        multihop: raw.multihop,
    })
}

/// KEEPALIVED: the neighbour is taken to send with the TTL that is configured here.
fn lowest_ttl(raw: &RawBfd, neighbor: IpAddr, diagnostics: &mut Vec<Diagnostic>) -> u8 {
    let default = if neighbor.is_ipv4() {
        TTL
    } else {
        KEEPALIVED_HOP_LIMIT
    };
    let own = raw.ttl.map_or(default, |said| said.value);
    let Some(hops) = raw.max_hops else {
        return own;
    };
    if hops.value == ANY_HOPS {
        return 0;
    }
    if hops.value > own {
        let text = format!(
            "`bfd_instance` {}: `max_hops` is more than the TTL; {own} is used",
            quoted(&raw.name)
        );
        diagnostics.push(Diagnostic::warning(Code::OutOfRange, hops.span, text));
    }
    own.saturating_sub(hops.value)
}

#[cfg(test)]
mod tests {
    use super::super::super::model::Config;
    use super::super::super::{Loaded, parse};
    use super::*;

    fn load(bfd: &str, track: &str) -> Loaded {
        let text = format!(
            "{bfd}\nvrrp_instance A {{\ninterface eth0\nvirtual_router_id 5\npriority 100\n\
             virtual_ipaddress {{\n192.0.2.9\n}}\n{track}\n}}\n"
        );
        parse("t", &text)
    }

    fn found(loaded: &Loaded) -> Vec<&'static str> {
        let all = loaded.diagnostics.iter();
        all.filter(|d| d.code != Code::TakeoverTime && d.code != Code::TrackWeight)
            .map(|d| d.code.as_str())
            .collect()
    }

    fn one(settings: &str) -> BfdInstance {
        let loaded = load(&format!("bfd_instance b {{\n{settings}\n}}"), "");
        assert_eq!(found(&loaded), Vec::<&str>::new(), "{settings}");
        loaded.config.bfd_instances[0].clone()
    }

    #[test]
    fn sessions_have_keepalived_s_defaults() {
        let bfd = one("neighbor_ip 192.0.2.7");
        assert_eq!(
            (bfd.min_rx, bfd.min_tx, bfd.idle_tx),
            (MIN_RX, MIN_TX, IDLE_TX)
        );
        assert_eq!((bfd.multiplier, bfd.passive, bfd.port()), (5, false, 3784));
        assert_eq!((bfd.ttl, bfd.ttl_min), (255, 255));
        let bfd = one("neighbour_ip 2001:db8::7\nsource_ip 2001:db8::1");
        assert_eq!((bfd.ttl, bfd.ttl_min), (255, 64));
    }

    #[test]
    fn what_is_said_is_taken() {
        let bfd = one(
            "neighbor_ip 192.0.2.7\nmin_rx 3.312\nmin_tx 50\nidle_tx 2000\nmultiplier 3\npassive\n\
             ttl 200\nmax_hops 5\nmultihop",
        );
        assert_eq!(bfd.min_rx, Duration::from_micros(3_312));
        assert_eq!(bfd.min_tx, Duration::from_millis(50));
        assert_eq!(bfd.idle_tx, Duration::from_secs(2));
        assert_eq!((bfd.multiplier, bfd.passive), (3, true));
        assert_eq!((bfd.ttl, bfd.ttl_min, bfd.port()), (200, 195, 4784));
        assert_eq!(one("neighbor_ip 192.0.2.7\nmax_hops 255").ttl_min, 0);
    }

    #[test]
    fn what_cannot_be_a_session_is_left_out_and_said() {
        for (settings, code) in [
            ("min_rx 10", "missing-setting"),
            ("neighbor_ip fe80::1", "invalid-value"),
            ("neighbor_ip 192.0.2.7\nsource_ip 2001:db8::1", "conflict"),
        ] {
            let loaded = load(&format!("bfd_instance b {{\n{settings}\n}}"), "");
            assert_eq!(found(&loaded), [code], "{settings}");
            assert_eq!(loaded.config.bfd_instances, []);
        }
        let two = |second: &str| {
            let text =
                format!("bfd_instance b {{\nneighbor_ip 192.0.2.7\n}}\nbfd_instance {second}\n}}");
            let loaded = load(&text, "");
            (found(&loaded), loaded.config.bfd_instances.len())
        };
        assert_eq!(two("b {\nneighbor_ip 192.0.2.8"), (vec!["duplicate"], 1));
        assert_eq!(two("c {\nneighbor_ip 192.0.2.7"), (vec!["duplicate"], 1));
        assert_eq!(two("c {\nneighbor_ip 192.0.2.8"), (vec![], 2));
    }

    fn tracks(config: &Config) -> Vec<(Tracked, i32, bool)> {
        let tracks = config.vrrp_instances[0].tracks.iter();
        tracks
            .map(|t| (t.what.clone(), t.weight, t.reverse))
            .collect()
    }

    #[test]
    fn a_track_inherits_the_session_s_weight_unless_it_has_its_own() {
        let bfd = "bfd_instance b {\nneighbor_ip 192.0.2.7\nweight 20 reverse\n}";
        let what = Tracked::Bfd("b".to_owned());
        for (line, weight, reverse) in [
            ("b", 20, true),
            ("b weight -5", -5, true),
            ("b weight 7 noreverse", 7, false),
        ] {
            let loaded = load(bfd, &format!("track_bfd {{\n{line}\n}}"));
            assert_eq!(tracks(&loaded.config), [(what.clone(), weight, reverse)]);
        }
    }

    #[test]
    fn a_session_that_instances_may_not_follow_is_told() {
        let bfd = "bfd_instance b {\nneighbor_ip 192.0.2.7\nchecker\n}";
        let loaded = load(bfd, "track_bfd {\nb\n}");
        assert_eq!(found(&loaded), ["conflict"]);
        assert_eq!(tracks(&loaded.config), []);
        let loaded = load("", "track_bfd {\nb\n}");
        assert_eq!(found(&loaded), ["unknown-name"]);
    }
}
