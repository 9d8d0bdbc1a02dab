// SPDX-License-Identifier: MIT OR Apache-2.0
//! When addresses are announced and how adverts are exchanged: an instance's own word, else that
//! of `global_defs`, else keepalived's default; and what strict mode takes away.

use std::time::Duration;

use super::super::super::args::Spanned;
use super::super::super::diag::{Code, Diagnostic, quoted};
use super::super::super::model::{Announcing, Checksum, Exchange, Spacing, VrrpVersion};
use super::super::super::raw::{RawConfig, RawGlobal};
use super::{OWNER, Resolver};

impl Resolver<'_> {
    /// `strict_mode`, or `vrrp_strict` of `global_defs`.
    pub(super) fn strict(&self) -> bool {
        let strict = self.raw.strict.or(self.global.strict);
        strict.is_some_and(|strict| strict.value)
    }

    /// KEEPALIVED: what is not said for a lower priority is as after a takeover.
    pub(super) fn announcing(&mut self) -> Announcing {
        let (own, global) = (&self.raw.garp, &self.global.garp);
        let plain = if self.global.min_garp.is_some_and(|min| min.value) {
            Announcing {
                delay: Duration::ZERO,
                repeat: 1,
                ..Announcing::default()
            }
        } else {
            Announcing::default()
        };
        let delay = first([own.delay, global.delay]).unwrap_or(plain.delay);
        let repeat = first([own.repeat, global.repeat]).unwrap_or(plain.repeat);
        let lower = [own.lower_repeat, global.lower_repeat];
        let mut lower_repeat = first(lower).unwrap_or(repeat);
        if self.strict() {
            if let Some(said) = lower.into_iter().flatten().find(|said| said.value > 0) {
                self.not_strict(&said, "`garp_lower_prio_repeat` is 0");
            }
            lower_repeat = 0;
        }
        Announcing {
            delay,
            repeat,
            refresh: first([own.refresh, global.refresh]).unwrap_or(plain.refresh),
            refresh_repeat: first([own.refresh_repeat, global.refresh_repeat])
                .unwrap_or(plain.refresh_repeat),
            lower_delay: first([own.lower_delay, global.lower_delay]).unwrap_or(delay),
            lower_repeat,
        }
    }

    /// KEEPALIVED: strict mode keeps to RFC 3768 and RFC 5798, in which a MASTER ignores a lower
    /// priority.
    pub(super) fn exchange(&mut self) -> Exchange {
        let (own, global) = (&self.raw.exchange, &self.global.exchange);
        let plain = Exchange::default();
        let down = [own.down_adverts, global.down_adverts];
        let no_answer = [own.lower_no_advert, global.lower_no_advert];
        let last_word = [own.higher_send_advert, global.higher_send_advert];
        let on = |said: [Option<Spanned<bool>>; 2]| first(said).unwrap_or(false);
        let base = Exchange {
            check_src: on([own.check_src, global.check_src]) || self.raw.peers_bounded,
            skip_addresses: on([own.skip_addresses, global.skip_addresses]),
            checksum: match (
                self.raw.old_checksum,
                on([own.checksum_as_v2, global.checksum_as_v2]),
            ) {
                (_, true) => Checksum::MessageOnly,
                (Some(old), _) if old.value => Checksum::OldUnicast,
                _ => Checksum::PseudoHeader,
            },
            learn_checksum: self.raw.old_checksum.is_none_or(|old| old.value),
            unicast_ttl: first([self.raw.unicast_ttl]).unwrap_or(plain.unicast_ttl),
            owner_ignores: on([own.owner_ignores, global.owner_ignores]),
            ..plain
        };
        if !self.strict() {
            return Exchange {
                down_adverts: first(down).unwrap_or(plain.down_adverts),
                answer_lower: !first(no_answer).unwrap_or(!plain.answer_lower),
                last_word: first(last_word).unwrap_or(plain.last_word),
                ..base
            };
        }
        let down = down.into_iter().flatten().next();
        if let Some(said) = down.filter(|said| said.value != plain.down_adverts) {
            self.not_strict(&said, "`down_timer_adverts` is 3");
        }
        if let Some(said) = no_answer.into_iter().flatten().find(|said| !said.value) {
            self.not_strict(&said, "`lower_prio_no_advert` is on");
        }
        if let Some(said) = last_word.into_iter().flatten().find(|said| said.value) {
            self.not_strict(&said, "`higher_prio_send_advert` is off");
        }
        Exchange {
            down_adverts: plain.down_adverts,
            answer_lower: false,
            last_word: false,
            ..base
        }
    }

    /// RFC 9568 §6.1: Accept_Mode, which an owner does without.
    ///
    /// KEEPALIVED: on by default, but off in strict mode, which does not allow it with version 2.
    pub(super) fn accept(&mut self, version: VrrpVersion, priority: u8) -> bool {
        if priority == OWNER {
            return true;
        }
        match self.raw.accept {
            None => !self.strict(),
            Some(said) if said.value && self.strict() && version == VrrpVersion::V2 => {
                self.not_strict(&said, "version 2 does not answer at its addresses");
                false
            }
            Some(said) => said.value,
        }
    }

    /// A word that strict mode does not allow.
    pub(super) fn not_strict<T>(&mut self, said: &Spanned<T>, instead: &str) {
        self.diagnostics.push(Diagnostic::warning(
            Code::Conflict,
            said.span,
            format!("strict mode does not allow this: {instead}"),
        ));
    }
}

/// The first that is said.
fn first<T: Copy, const N: usize>(said: [Option<Spanned<T>>; N]) -> Option<T> {
    said.into_iter().flatten().next().map(|said| said.value)
}

/// The spacing of all interfaces, then that of each group.
pub(in super::super) fn spacings(
    raw: &RawConfig,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Spacing> {
    let global: &RawGlobal = &raw.global;
    let all = Spacing {
        garp: first([global.spacing.garp]).unwrap_or_default(),
        gna: first([global.spacing.gna]).unwrap_or_default(),
        interfaces: Vec::new(),
    };
    let mut spacings = vec![all];
    for group in &raw.garp_groups {
        let said = &group.value;
        if said.interfaces.is_empty() {
            diagnostics.push(Diagnostic::warning(
                Code::EmptyBlock,
                group.span,
                "`garp_group` names no interface; it is left out",
            ));
            continue;
        }
        let mut interfaces: Vec<String> = Vec::new();
        for interface in &said.interfaces {
            let mut known = spacings.iter().flat_map(|spacing| &spacing.interfaces);
            if known.any(|name| *name == interface.value) {
                diagnostics.push(Diagnostic::warning(
                    Code::Duplicate,
                    interface.span,
                    format!(
                        "{} is in a `garp_group` already; the first one counts",
                        quoted(&interface.value)
                    ),
                ));
            } else {
                interfaces.push(interface.value.clone());
            }
        }
        if interfaces.is_empty() {
            continue;
        }
        spacings.push(Spacing {
            garp: first([said.garp, global.spacing.garp]).unwrap_or_default(),
            gna: first([said.gna, global.spacing.gna]).unwrap_or_default(),
            interfaces,
        });
    }
    spacings
}

#[cfg(test)]
mod tests {
    use super::super::super::super::{Loaded, parse};
    use super::*;

    fn file(global: &str, instance: &str) -> Loaded {
        let text = format!(
            "global_defs {{\n{global}\n}}\nvrrp_instance A {{\ninterface eth0\n\
             virtual_router_id 5\nvirtual_ipaddress {{\n192.0.2.9\n}}\n{instance}\n}}\n"
        );
        parse("t", &text)
    }

    fn codes(loaded: &Loaded) -> Vec<&'static str> {
        let all = loaded.diagnostics.iter().map(|d| d.code);
        all.filter(|code| *code != Code::TakeoverTime)
            .map(Code::as_str)
            .collect()
    }

    fn announcing(global: &str, instance: &str) -> (Announcing, Vec<&'static str>) {
        let loaded = file(global, instance);
        (loaded.config.vrrp_instances[0].announcing, codes(&loaded))
    }

    #[test]
    fn an_instance_inherits_what_it_does_not_say_itself() {
        assert_eq!(announcing("", ""), (Announcing::default(), vec![]));
        let global =
            "vrrp_garp_master_delay 10\nvrrp_garp_master_repeat 2\nvrrp_garp_master_refresh 60";
        let (said, _) = announcing(global, "garp_master_repeat 3");
        assert_eq!((said.delay.as_secs(), said.repeat), (10, 3));
        assert_eq!((said.refresh.as_secs(), said.refresh_repeat), (60, 1));
        // KEEPALIVED: what is not said for a lower priority is as after a takeover.
        assert_eq!((said.lower_delay.as_secs(), said.lower_repeat), (10, 3));
        let (said, _) = announcing(global, "garp_lower_prio_repeat 0\ngarp_lower_prio_delay 1");
        assert_eq!((said.lower_delay.as_secs(), said.lower_repeat), (1, 0));
    }

    #[test]
    fn keepalived_a_round_has_one_packet_at_least_and_min_garp_makes_it_one() {
        let (said, codes) = announcing("", "garp_master_repeat 0\ngarp_master_refresh_repeat 0");
        assert_eq!((said.repeat, said.refresh_repeat), (1, 1));
        assert_eq!(codes, ["out-of-range", "out-of-range"]);
        let (said, _) = announcing("vrrp_min_garp", "");
        assert_eq!(
            (said.delay, said.repeat, said.lower_repeat),
            (Duration::ZERO, 1, 1)
        );
    }

    #[test]
    fn the_exchange_of_adverts_can_be_changed() {
        let loaded = file(
            "vrrp_down_timer_adverts 5\nvrrp_lower_prio_no_advert",
            "higher_prio_send_advert off",
        );
        let expected = Exchange {
            down_adverts: 5,
            answer_lower: false,
            last_word: false,
            ..Exchange::default()
        };
        assert_eq!(loaded.config.vrrp_instances[0].exchange, expected);
        assert_eq!(codes(&loaded), Vec::<&str>::new());
        let loaded = file("", "down_timer_adverts 0");
        assert_eq!(
            loaded.config.vrrp_instances[0].exchange,
            Exchange::default()
        );
        assert_eq!(codes(&loaded), ["out-of-range"]);
    }

    #[test]
    fn rfc9568_6_1_accept_mode_is_on_unless_said_otherwise_or_strict() {
        for (instance, accepts, said) in [
            ("", true, vec![]),
            ("no_accept", false, vec![]),
            ("strict_mode", false, vec![]),
            ("strict_mode\nversion 3\naccept", true, vec![]),
            ("strict_mode\naccept", false, vec!["conflict"]),
            ("strict_mode\npriority 255", true, vec![]),
            ("no_accept\npriority 255", true, vec![]),
        ] {
            let loaded = file("", instance);
            let accept = loaded.config.vrrp_instances[0].accept;
            assert_eq!((accept, codes(&loaded)), (accepts, said), "{instance}");
        }
        let global = file("vrrp_strict", "");
        assert!(!global.config.vrrp_instances[0].accept);
    }

    #[test]
    fn keepalived_strict_mode_takes_away_what_it_does_not_allow() {
        let said = "strict_mode\ndown_timer_adverts 5\nlower_prio_no_advert no\n\
                    higher_prio_send_advert\ngarp_lower_prio_repeat 2";
        let loaded = file("", said);
        let instance = &loaded.config.vrrp_instances[0];
        let strict = Exchange {
            down_adverts: 3,
            answer_lower: false,
            last_word: false,
            ..Exchange::default()
        };
        assert_eq!(instance.exchange, strict);
        assert_eq!(instance.announcing.lower_repeat, 0);
        let conflicts = codes(&loaded)
            .into_iter()
            .filter(|code| *code == "conflict");
        assert_eq!(conflicts.count(), 4);
    }

    #[test]
    fn interfaces_of_a_group_share_a_spacing_and_the_others_have_the_global_one() {
        let text = "global_defs {\nvrrp_garp_interval 0.5\nvrrp_gna_interval 0\n}\n\
                    garp_group {\ngarp_interval 0.1\ninterfaces {\neth0\neth1\n}\n}\n\
                    garp_group {\ngna_interval 0.2\ninterface eth1\n}\ngarp_group {\n}\n";
        let loaded = parse("t", text);
        let spacings = &loaded.config.global.spacings;
        let ms: Vec<_> = spacings
            .iter()
            .map(|s| (s.garp.as_millis(), s.gna.as_millis(), s.interfaces.len()))
            .collect();
        assert_eq!(ms, [(500, 0, 0), (100, 0, 2)]);
        assert_eq!(codes(&loaded), ["duplicate", "empty-block"]);
    }
}
