// SPDX-License-Identifier: MIT OR Apache-2.0
//! IPv4 or IPv6: what an instance's adverts go over, and what does not belong to it.
//!
//! KEEPALIVED: the first address of the block decides, be it a source, a group, a peer or a virtual
//! address; what is of the other family after it is left out.

use std::net::IpAddr;

use super::super::super::args::Spanned;
use super::super::super::diag::{Code, Diagnostic};
use super::super::super::model::{Family, Global, UnicastPeer, VirtualAddress, VrrpVersion};
use super::super::super::source::Span;
use super::Resolver;

/// Addresses of one family.
pub(super) struct Ends {
    pub(super) family: Family,
    pub(super) group: IpAddr,
    pub(super) source: Option<IpAddr>,
    pub(super) peers: Vec<UnicastPeer>,
    pub(super) vips: Vec<VirtualAddress>,
}

impl Resolver<'_> {
    pub(super) fn ends(&mut self, global: &Global) -> Ends {
        let raw = self.raw;
        let family = self.family();
        let group = raw
            .mcast_dst
            .filter(|group| self.fits(family, group.span, group.value));
        let plain = match family {
            Family::V4 => global.vrrp_mcast_group4.into(),
            Family::V6 => global.vrrp_mcast_group6.into(),
        };
        // KEEPALIVED: one setting under two names; the later line counts.
        let source = [raw.mcast_src, raw.unicast_src]
            .into_iter()
            .flatten()
            .filter(|source| self.fits(family, source.span, source.value))
            .max_by_key(|source| source.span.start);
        let peers = raw.unicast_peers.iter();
        let peers: Vec<UnicastPeer> = peers
            .filter(|peer| self.fits(family, peer.span, peer.value.addr))
            .map(|peer| peer.value.clone())
            .collect();
        let vips = raw.vips.iter();
        let vips = vips
            .filter(|vip| self.fits(family, vip.span, vip.value.addr))
            .map(|vip| vip.value.clone())
            .collect();
        if peers.is_empty() {
            self.no_peers();
        }
        Ends {
            family,
            group: group.map_or(plain, |group| group.value),
            source: source.map(|source| source.value),
            peers,
            vips,
        }
    }

    /// KEEPALIVED: unicast settings without a peer mean multicast.
    fn no_peers(&mut self) {
        let raw = self.raw;
        let said = [
            raw.unicast_src.map(|said| said.span),
            raw.unicast_ttl.map(|said| said.span),
            raw.old_checksum
                .filter(|said| said.value)
                .map(|said| said.span),
        ];
        let Some(span) = said.into_iter().flatten().min_by_key(|span| span.start) else {
            return;
        };
        let text = "a unicast setting without `unicast_peer`: adverts go to the multicast group";
        self.diagnostics
            .push(if let Some(fault) = raw.fault_no_peer {
                Diagnostic::error(
                Code::MissingSetting,
                fault.span,
                "`unicast_fault_no_peer` without `unicast_peer`: the instance would be in FAULT",
            )
            .hint("name the other hosts in `unicast_peer`")
            } else {
                Diagnostic::warning(Code::DefaultUsed, span, text)
                    .hint("name the other hosts in `unicast_peer`, or delete the line")
            });
    }

    fn family(&self) -> Family {
        let raw = self.raw;
        let of = |said: Spanned<IpAddr>| (said.span.start, Family::of(said.value));
        let vip = |vip: &Spanned<VirtualAddress>| (vip.span.start, Family::of(vip.value.addr));
        let peer = raw.unicast_peers.first();
        let said = [
            raw.native_ipv6.map(|said| (said.span.start, Family::V6)),
            raw.mcast_src.map(of),
            raw.unicast_src.map(of),
            raw.mcast_dst.map(of),
            peer.map(|peer| (peer.span.start, Family::of(peer.value.addr))),
            raw.vips.first().map(vip),
        ];
        let first = said.into_iter().flatten().min_by_key(|(start, _)| *start);
        let excluded = || raw.excluded.first().map(vip);
        first
            .or_else(excluded)
            .map_or(Family::V4, |(_, family)| family)
    }

    fn fits(&mut self, family: Family, span: Span, address: IpAddr) -> bool {
        let fits = Family::of(address) == family;
        if !fits {
            self.diagnostics.push(
                Diagnostic::warning(
                    Code::Conflict,
                    span,
                    format!("{address} is left out: this instance speaks {family}"),
                )
                .hint("virtual addresses of both families: put these into `virtual_ipaddress_excluded`"),
            );
        }
        fits
    }

    /// KEEPALIVED: over IPv6 it is version 3 unless the instance itself says 2, and strict mode
    /// does not allow even that.
    pub(super) fn version(&mut self, family: Family) -> VrrpVersion {
        let (own, strict) = (self.raw.version, self.strict());
        if family == Family::V4 {
            let said = own.or(self.global.version);
            return said.map_or(VrrpVersion::V2, |said| said.value);
        }
        match own {
            Some(said) if said.value == VrrpVersion::V2 && strict => {
                self.not_strict(&said, "over IPv6 it is version 3");
                VrrpVersion::V3
            }
            own => own.map_or(VrrpVersion::V3, |said| said.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::model::VrrpInstance;
    use super::super::super::super::parse;
    use super::*;

    fn instance(text: &str) -> (VrrpInstance, Vec<&'static str>) {
        let text = format!("vrrp_instance A {{\ninterface eth0\nvirtual_router_id 5\n{text}\n}}\n");
        let loaded = parse("t", &text);
        let codes = loaded.diagnostics.iter().map(|d| d.code);
        let codes = codes.filter(|code| *code != Code::TakeoverTime);
        let codes = codes.map(Code::as_str).collect();
        (VrrpInstance::clone(&loaded.config.vrrp_instances[0]), codes)
    }

    fn vips(lines: &str) -> String {
        format!("virtual_ipaddress {{\n{lines}\n}}")
    }

    #[test]
    fn keepalived_the_first_address_decides_and_the_other_family_is_left_out() {
        for (text, family, count, codes) in [
            (vips("192.0.2.9"), Family::V4, 1, vec![]),
            (vips("2001:db8::9"), Family::V6, 1, vec![]),
            (
                vips("192.0.2.9\n2001:db8::9"),
                Family::V4,
                1,
                vec!["conflict"],
            ),
            (
                vips("2001:db8::9\n192.0.2.9"),
                Family::V6,
                1,
                vec!["conflict"],
            ),
            (
                format!("mcast_src_ip 192.0.2.1\n{}", vips("2001:db8::9\n192.0.2.9")),
                Family::V4,
                1,
                vec!["conflict"],
            ),
            (
                format!("native_ipv6\n{}", vips("192.0.2.9\n2001:db8::9")),
                Family::V6,
                1,
                vec!["conflict"],
            ),
        ] {
            let (instance, found) = instance(&text);
            assert_eq!(
                (instance.family, instance.vips.len()),
                (family, count),
                "{text}"
            );
            assert_eq!(found, codes, "{text}");
        }
    }

    #[test]
    fn families_mix_through_the_excluded_addresses() {
        let text = vips("2001:db8::9/64") + "\nvirtual_ipaddress_excluded {\n192.0.2.9\n}";
        let (instance, codes) = instance(&text);
        assert_eq!((instance.addresses().count(), codes), (2, vec![]));
        assert_eq!(instance.mcast_group, "ff02::12".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn keepalived_ipv6_is_version_3_unless_the_instance_itself_says_2() {
        let v6 = vips("2001:db8::9");
        assert_eq!(instance(&v6).0.version, VrrpVersion::V3);
        let two = format!("version 2\n{v6}");
        assert_eq!(instance(&two).0.version, VrrpVersion::V2);
        let (strict, codes) = instance(&format!("strict_mode\n{two}"));
        assert_eq!(strict.version, VrrpVersion::V3);
        assert!(codes.contains(&"conflict"));
        let global = format!(
            "global_defs {{\nvrrp_version 2\n}}\nvrrp_instance A {{\ninterface e\n\
             virtual_router_id 5\n{v6}\n}}\n"
        );
        let loaded = parse("t", &global);
        assert_eq!(loaded.config.vrrp_instances[0].version, VrrpVersion::V3);
    }

    #[test]
    fn an_ipv6_address_without_a_network_is_deprecated_and_none_is_checked_for_duplicates() {
        let lines = "2001:db8::9\n2001:db8::a/64\n2001:db8::b/64 -nodad home\n\
                     2001:db8::c preferred_lft forever\n2001:db8::d/64 preferred_lft 0";
        let (instance, codes) = instance(&vips(lines));
        let seen: Vec<_> = instance
            .vips
            .iter()
            .map(|vip| (vip.prefix_len, vip.flags, vip.deprecated))
            .collect();
        assert_eq!(
            seen,
            [
                (128, 2, true),
                (64, 2, false),
                (64, 0x10, false),
                (128, 2, false),
                (64, 2, true)
            ]
        );
        assert_eq!(codes, Vec::<&str>::new());
        let (instance, codes) = super::tests::instance(&vips("2001:db8::9 brd 192.0.2.255"));
        assert_eq!((instance.vips.len(), codes.len()), (0, 2));
    }

    #[test]
    fn unicast_peers_have_bounds_and_a_setting_without_peers_means_multicast() {
        let peers = "unicast_peer {\n192.0.2.2 min_ttl 250\n192.0.2.3 max_ttl 9 min_ttl x\n\
                     192.0.2.4 192.0.2.5\n2001:db8::2\n}\nunicast_ttl 64\n";
        let (one, codes) = instance(&(peers.to_owned() + &vips("192.0.2.9")));
        let bounds: Vec<_> = one
            .unicast_peers
            .iter()
            .map(|peer| peer.ttl.clone())
            .collect();
        assert_eq!(bounds, [250..=255, 0..=9, 0..=255]);
        assert_eq!(codes, ["out-of-range", "extra-words", "conflict"]);
        assert!(one.exchange.check_src, "KEEPALIVED: bounds turn it on");
        assert_eq!(one.exchange.unicast_ttl, 64);
        let (_, codes) = instance(&("unicast_ttl 64\n".to_owned() + &vips("192.0.2.9")));
        assert_eq!(codes, ["default-used"]);
        let fault = "unicast_ttl 64\nunicast_fault_no_peer\n".to_owned() + &vips("192.0.2.9");
        assert_eq!(instance(&fault).1, ["missing-setting"]);
    }
}
