// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vrrp_instance` blocks: defaults, what excludes what, and how long a takeover takes.

mod auth;
pub(super) mod exchange;
mod family;
mod strict;
pub(super) mod vmac;

use std::sync::Arc;
use std::time::Duration;

use super::super::diag::{Code, Diagnostic, quoted};
use super::super::model::{Global, InitialState, VrrpInstance, VrrpVersion};
use super::super::raw::{AuthType, RawConfig, RawGlobal, RawInstance};
use super::track;

/// RFC 3768 §5.3.4, RFC 9568 §5.2.4: the priority of the addresses' owner.
pub(super) const OWNER: u8 = 255;
const DEFAULT_PRIORITY: u8 = 100;
/// RFC 9568 §5.2.5: the count of addresses is one byte.
const MAX_ADDRESSES: usize = 255;
const DEFAULT_ADVERT: Duration = Duration::from_secs(1);

/// Resolves all instances. Of two with one name the second is left out, as keepalived does.
pub(super) fn instances(
    raw: &RawConfig,
    global: &Global,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<VrrpInstance> {
    let mut resolved: Vec<VrrpInstance> = Vec::new();
    for (index, instance) in raw.instances.iter().enumerate() {
        let earlier = raw.instances.get(..index).unwrap_or_default();
        if let Some(first) = earlier.iter().find(|other| other.name == instance.name) {
            diagnostics.push(
                Diagnostic::warning(
                    Code::Duplicate,
                    instance.head,
                    format!(
                        "`vrrp_instance` {} is defined twice; the first one counts",
                        quoted(&instance.name)
                    ),
                )
                .related(first.head, "first defined here"),
            );
            continue;
        }
        let mut one = Resolver {
            raw: instance,
            global: &raw.global,
            diagnostics,
        };
        if let Some(mut model) = one.resolve(global) {
            vmac::choose_name(&mut model, &resolved, instance, &raw.global, diagnostics);
            let tracks = track::tracks(&instance.tracks, raw, diagnostics);
            model.tracks = tracks.iter().map(|(track, _)| track.clone()).collect();
            track::check_weights(&model, &tracks, &raw.instances, diagnostics);
            check_vrid(&model, instance, earlier, diagnostics);
            check_addresses(&model, instance, &resolved, diagnostics);
            // Of many instances most are told of alike.
            if let Some(last) = resolved.last().filter(|last| last.notify == model.notify) {
                model.notify = Arc::clone(&last.notify);
            }
            resolved.push(model);
        }
    }
    resolved
}

/// Two virtual routers with one id on one link would answer each other's adverts.
fn check_vrid(
    model: &VrrpInstance,
    instance: &RawInstance,
    earlier: &[RawInstance],
    diagnostics: &mut Vec<Diagnostic>,
) {
    let clash = earlier.iter().find(|other| {
        let interface = other.interface.as_ref().map(|name| name.value.as_str());
        other.vrid.map(|vrid| vrid.value) == Some(model.vrid)
            && interface == Some(model.interface.as_str())
    });
    if let (Some(other), Some(vrid)) = (clash, instance.vrid) {
        diagnostics.push(
            Diagnostic::error(
                Code::DuplicateVrid,
                vrid.span,
                format!(
                    "{} and {} both use virtual_router_id {} on {}",
                    quoted(&other.name),
                    quoted(&model.name),
                    model.vrid,
                    quoted(&model.interface)
                ),
            )
            .related(
                other.vrid.map_or(other.head, |vrid| vrid.span),
                "first used here",
            )
            .hint("each virtual router of a network needs its own id, 1 to 255"),
        );
    }
}

fn check_addresses(
    model: &VrrpInstance,
    instance: &RawInstance,
    resolved: &[VrrpInstance],
    diagnostics: &mut Vec<Diagnostic>,
) {
    for vip in instance.vips.iter().chain(&instance.excluded) {
        let holder = resolved
            .iter()
            .find(|other| other.addresses().any(|known| known.addr == vip.value.addr));
        if let Some(holder) = holder {
            diagnostics.push(Diagnostic::warning(
                Code::Duplicate,
                vip.span,
                format!(
                    "{} is an address of both {} and {}",
                    vip.value.addr,
                    quoted(&holder.name),
                    quoted(&model.name)
                ),
            ));
        }
    }
}

struct Resolver<'a> {
    raw: &'a RawInstance,
    global: &'a RawGlobal,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Resolver<'_> {
    fn resolve(&mut self, global: &Global) -> Option<VrrpInstance> {
        let raw = self.raw;
        let vrid = self.required(raw.vrid, "virtual_router_id");
        let interface = self.required(raw.interface.as_ref(), "interface");
        let ends = self.ends(global);
        let version = self.version(ends.family);
        let priority = self.priority();
        let state = self.state(priority);
        let preempt = self.preempt(state, priority);
        let preempt_delay = self.preempt_delay(state, priority);
        let advert_interval = self.advert_interval(version);
        let auth = self.auth(version, ends.family);
        let (state, preempt_delay) = self.strictly(&ends, priority, state, preempt, preempt_delay);
        let announcing = self.announcing();
        let exchange = self.exchange();
        let accept = self.accept(version, priority);
        if ends.vips.is_empty() {
            self.diagnostics.push(Diagnostic::warning(
                Code::EmptyBlock,
                raw.head,
                format!("{} has no `virtual_ipaddress` to hold", quoted(&raw.name)),
            ));
        }
        if raw.vips.len() > MAX_ADDRESSES {
            self.diagnostics.push(Diagnostic::error(
                Code::LimitExceeded,
                raw.head,
                format!(
                    "{} has {} addresses; an advert has room for {MAX_ADDRESSES}",
                    quoted(&raw.name),
                    raw.vips.len()
                ),
            ));
        }
        let instance = VrrpInstance {
            name: raw.name.clone(),
            state,
            interface: interface?.value.clone(),
            vrid: vrid?.value,
            priority,
            version,
            advert_interval,
            preempt,
            preempt_delay,
            auth,
            family: ends.family,
            mcast_group: ends.group,
            source: ends.source,
            unicast_peers: ends.peers,
            vips: ends.vips,
            excluded: raw.excluded.iter().map(|vip| vip.value.clone()).collect(),
            routes: Vec::new(),
            rules: Vec::new(),
            vmac: self.vmac(ends.family),
            promote_secondaries: raw.promote_secondaries.is_some(),
            accept,
            announcing,
            exchange,
            track_primary: raw.track_primary.is_none(),
            tracks: Vec::new(),
            notify: Arc::new(track::notify(&raw.notify, self.global)),
            group: None,
        };
        self.takeover_time(&instance);
        Some(instance)
    }

    fn required<T>(&mut self, setting: Option<T>, name: &str) -> Option<T> {
        if setting.is_none() {
            self.diagnostics.push(
                Diagnostic::error(
                    Code::MissingSetting,
                    self.raw.head,
                    format!("{} has no valid `{name}`", quoted(&self.raw.name)),
                )
                .hint("every `vrrp_instance` needs its own; keepalived would leave this one out"),
            );
        }
        setting
    }

    /// KEEPALIVED: without `priority`, `state MASTER` makes the instance the address owner.
    fn priority(&mut self) -> u8 {
        match (self.raw.priority, self.raw.state) {
            (Some(priority), _) => priority.value,
            (None, Some(state)) if state.value == InitialState::Master => {
                self.diagnostics.push(
                    Diagnostic::warning(
                        Code::DefaultUsed,
                        state.span,
                        "`state MASTER` without `priority` means priority 255, the address owner",
                    )
                    .hint("give it a `priority` above its backup's"),
                );
                OWNER
            }
            (None, _) => DEFAULT_PRIORITY,
        }
    }

    /// KEEPALIVED: who authenticates by AH listens first, so that it knows the sequence number.
    fn state(&mut self, priority: u8) -> InitialState {
        let ah = self.raw.auth_type.filter(|kind| kind.value == AuthType::Ah);
        let master = self
            .raw
            .state
            .filter(|state| state.value == InitialState::Master);
        if let (Some(ah), Some(state)) = (ah, master) {
            self.diagnostics.push(
                Diagnostic::warning(
                    Code::Conflict,
                    state.span,
                    "`state MASTER` does not work with `auth_type AH`; BACKUP is used",
                )
                .related(ah.span, "the authentication"),
            );
            return InitialState::Backup;
        }
        let default = if priority == OWNER {
            InitialState::Master
        } else {
            InitialState::Backup
        };
        self.raw.state.map_or(default, |state| state.value)
    }

    /// KEEPALIVED: `nopreempt` is cleared when the instance starts as master or owns its addresses.
    fn preempt(&mut self, state: InitialState, priority: u8) -> bool {
        let Some(nopreempt) = self.raw.preempt.filter(|preempt| !preempt.value) else {
            return true;
        };
        let because = match (state, priority) {
            (InitialState::Master, _) => "`state MASTER`",
            (_, OWNER) => "`priority 255`",
            _ => return false,
        };
        let mut diagnostic = Diagnostic::warning(
            Code::Conflict,
            nopreempt.span,
            format!("`nopreempt` does not work with {because}; it is ignored"),
        )
        .hint("use `state BACKUP` and different priorities on both hosts");
        if let (InitialState::Master, Some(state)) = (state, self.raw.state) {
            diagnostic = diagnostic.related(state.span, "the state");
        }
        self.diagnostics.push(diagnostic);
        true
    }

    /// KEEPALIVED: `preempt_delay` is cleared as `nopreempt` is.
    fn preempt_delay(&mut self, state: InitialState, priority: u8) -> Duration {
        let Some(asked) = self.raw.preempt_delay else {
            return Duration::ZERO;
        };
        let because = match (state, priority) {
            (InitialState::Master, _) => "`state MASTER`",
            (_, OWNER) => "`priority 255`",
            _ => return asked.value,
        };
        self.diagnostics.push(
            Diagnostic::warning(
                Code::Conflict,
                asked.span,
                format!("`preempt_delay` does not work with {because}; it is ignored"),
            )
            .hint("use `state BACKUP` and different priorities on both hosts"),
        );
        Duration::ZERO
    }

    /// Fits `advert_int` to what the version's advert can say; half a unit rounds up.
    fn advert_interval(&mut self, version: VrrpVersion) -> Duration {
        let Some(asked) = self.raw.advert_int else {
            return DEFAULT_ADVERT;
        };
        let (unit_ms, longest_units, unit) = match version {
            VrrpVersion::V2 => (1_000, 255, "whole seconds"),
            VrrpVersion::V3 => (10, 4_095, "hundredths of a second, at most 40.95 s"),
        };
        let unit_us = unit_ms * 1_000;
        let micros = u64::try_from(asked.value.as_micros()).unwrap_or(u64::MAX);
        let units = (micros.saturating_add(unit_us / 2) / unit_us).clamp(1, longest_units);
        let interval = Duration::from_millis(units * unit_ms);
        if interval != asked.value {
            self.diagnostics.push(Diagnostic::warning(
                Code::Rounded,
                asked.span,
                format!(
                    "`advert_int` {} s becomes {} s: version {} counts {unit}",
                    asked.value.as_secs_f64(),
                    interval.as_secs_f64(),
                    if version == VrrpVersion::V2 { 2 } else { 3 },
                ),
            ));
        }
        interval
    }

    fn takeover_time(&mut self, instance: &VrrpInstance) {
        if instance.priority == OWNER {
            return;
        }
        let (total, skew) = takeover(instance);
        let span = self
            .raw
            .advert_int
            .map_or(self.raw.head, |interval| interval.span);
        self.diagnostics.push(Diagnostic::info(
            Code::TakeoverTime,
            span,
            format!(
                "as a backup, {} takes over {} after the last advert ({} x {} + {} for priority {})",
                quoted(&instance.name),
                seconds(total),
                instance.exchange.down_adverts,
                seconds(instance.advert_interval),
                seconds(skew),
                instance.priority
            ),
        ));
    }
}

/// Master_Down_Interval and the skew in it.
///
/// RFC 3768 §6.1: skew = (256 - priority) / 256 s. RFC 9568 §6.1: of the advert interval.
fn takeover(instance: &VrrpInstance) -> (Duration, Duration) {
    let base = match instance.version {
        VrrpVersion::V2 => Duration::from_secs(1),
        VrrpVersion::V3 => instance.advert_interval,
    };
    let skew = base * (256 - u32::from(instance.priority)) / 256;
    let adverts = u32::from(instance.exchange.down_adverts);
    (instance.advert_interval * adverts + skew, skew)
}

/// `3.609 s`: to the millisecond, without zeros at the end.
fn seconds(duration: Duration) -> String {
    let text = format!("{}.{:03}", duration.as_secs(), duration.subsec_millis());
    format!("{} s", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::super::super::model::Auth;
    use super::super::super::parse;
    use super::*;

    fn instance(settings: &str) -> (VrrpInstance, Vec<String>) {
        let text = format!(
            "vrrp_instance A {{\ninterface eth0\nvirtual_router_id 5\nvirtual_ipaddress {{\n192.0.2.9\n}}\n{settings}\n}}\n"
        );
        let loaded = parse("t", &text);
        let codes = loaded
            .diagnostics
            .iter()
            .filter(|d| d.code != Code::TakeoverTime)
            .map(|d| d.code.as_str().to_owned())
            .collect();
        (
            VrrpInstance::clone(loaded.config.vrrp_instances.first().expect("one instance")),
            codes,
        )
    }

    #[test]
    fn takeover_is_three_adverts_and_the_skew() {
        for (settings, total) in [
            ("priority 100\nadvert_int 1", "3.609 s"),
            ("priority 90\nadvert_int 5", "15.648 s"),
            ("priority 150\nadvert_int 1", "3.414 s"),
            ("version 3\npriority 100\nadvert_int 0.1", "0.36 s"),
        ] {
            assert_eq!(
                seconds(takeover(&instance(settings).0).0),
                total,
                "{settings}"
            );
        }
    }

    #[test]
    fn version_2_adverts_count_whole_seconds() {
        for (asked, got, warned) in [
            ("1.4", 1, true),
            ("1.5", 2, true),
            ("0.2", 1, true),
            ("255", 255, false),
        ] {
            let (instance, codes) = instance(&format!("advert_int {asked}"));
            assert_eq!(
                instance.advert_interval,
                Duration::from_secs(got),
                "{asked}"
            );
            assert_eq!(codes.contains(&"rounded".to_owned()), warned, "{asked}");
        }
    }

    #[test]
    fn version_3_adverts_count_hundredths_up_to_40_95_s() {
        for (asked, got_ms) in [("0.255", 260), ("0.254", 250), ("0.01", 10), ("50", 40_950)] {
            let (instance, _) = instance(&format!("version 3\nadvert_int {asked}"));
            assert_eq!(
                instance.advert_interval,
                Duration::from_millis(got_ms),
                "{asked}"
            );
        }
    }

    #[test]
    fn nopreempt_needs_state_backup_and_a_priority_below_255() {
        assert!(!instance("nopreempt\npriority 100").0.preempt);
        for settings in [
            "nopreempt\nstate MASTER\npriority 100",
            "nopreempt\npriority 255",
        ] {
            let (instance, codes) = instance(settings);
            assert!(instance.preempt, "{settings}");
            assert!(codes.contains(&"conflict".to_owned()), "{settings}");
        }
    }

    #[test]
    fn preempt_delay_needs_state_backup_and_a_priority_below_255() {
        let delay = |settings: &str| instance(&format!("preempt_delay 300\n{settings}"));
        assert_eq!(delay("priority 100").0.preempt_delay.as_secs(), 300);
        for settings in ["state MASTER\npriority 100", "priority 255"] {
            let (instance, codes) = delay(settings);
            assert!(instance.preempt_delay.is_zero(), "{settings}");
            assert_eq!(codes, ["conflict"], "{settings}");
        }
    }

    #[test]
    fn master_without_priority_owns_its_addresses() {
        let (instance, codes) = instance("state MASTER");
        assert_eq!(
            (instance.priority, codes),
            (OWNER, vec!["default-used".to_owned()])
        );
    }

    #[test]
    fn an_advert_has_room_for_255_addresses() {
        for (count, refused) in [(254, false), (255, true)] {
            // One more is there already.
            let lines: Vec<String> = (0..count).map(|n| format!("198.51.100.{n}")).collect();
            let (_, codes) = instance(&format!("virtual_ipaddress {{\n{}\n}}", lines.join("\n")));
            assert_eq!(
                codes == ["limit-exceeded"],
                refused,
                "{count} more: {codes:?}"
            );
        }
    }

    #[test]
    fn passwords_are_cut_to_eight_bytes() {
        let auth = "authentication {\nauth_type PASS\nauth_pass server123\n}";
        let (instance, codes) = instance(auth);
        assert_eq!(instance.auth, Auth::Pass(*b"server12"));
        assert_eq!(codes, ["password-truncated"]);
    }

    #[test]
    fn there_is_no_authentication_in_version_3_in_strict_mode_or_without_both_halves() {
        let pass = "authentication {\nauth_type PASS\nauth_pass abc\n}";
        for settings in [
            format!("version 3\n{pass}"),
            format!("strict_mode\n{pass}"),
            "authentication {\nauth_type PASS\n}".to_owned(),
            "authentication {\nauth_pass abc\n}".to_owned(),
        ] {
            let (instance, codes) = instance(&settings);
            assert_eq!(instance.auth, Auth::None, "{settings}");
            assert!(codes.contains(&"conflict".to_owned()), "{settings}");
        }
        assert_eq!(instance(pass).0.auth, Auth::Pass(*b"abc\0\0\0\0\0"));
    }
}
