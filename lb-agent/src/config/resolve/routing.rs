// SPDX-License-Identifier: MIT OR Apache-2.0
//! Routes, rules and static addresses: preferences that are missing, interfaces that are.
//!
//! Comes in: raw lines. Goes out: model. Called by `resolve`.

use super::super::args::Spanned;
use super::super::diag::{Code, Diagnostic};
use super::super::keywords::RawRule;
use super::super::model::{Route, Rule, Statics, VirtualAddress, VrrpInstance};
use super::super::raw::RawConfig;

/// KEEPALIVED: the preference of the first rule without one; each further one gets one less.
const FIRST_PREFERENCE: u32 = 16384;

/// Fills in the routes and rules of the instances; what is static.
pub(super) fn routing(
    raw: &RawConfig,
    instances: &mut [VrrpInstance],
    diagnostics: &mut Vec<Diagnostic>,
) -> Statics {
    let mut next = FIRST_PREFERENCE;
    let mut rules = |rules: &[Spanned<RawRule>], diagnostics: &mut Vec<Diagnostic>| {
        let rules = rules
            .iter()
            .map(|line| preferred(line, &mut next, diagnostics));
        rules.collect::<Vec<Rule>>()
    };
    let statics = Statics {
        addresses: addresses(raw, diagnostics),
        routes: plain(&raw.static_routes),
        rules: rules(&raw.static_rules, diagnostics),
    };
    for instance in instances {
        let mut said = raw.instances.iter();
        if let Some(said) = said.find(|said| said.name == instance.name) {
            instance.routes = plain(&said.routes);
            instance.rules = rules(&said.rules, diagnostics);
        }
    }
    statics
}

fn plain(routes: &[Spanned<Route>]) -> Vec<Route> {
    routes.iter().map(|line| line.value.clone()).collect()
}

/// KEEPALIVED: rules of one preference would come in the order in which roles change.
fn preferred(line: &Spanned<RawRule>, next: &mut u32, diagnostics: &mut Vec<Diagnostic>) -> Rule {
    let preference = line.value.preference.unwrap_or_else(|| {
        diagnostics.push(
            Diagnostic::warning(
                Code::DefaultUsed,
                line.span,
                format!("this rule has no `preference`; {next} is used"),
            )
            .hint("say which rule comes first; keepalived chooses the same number"),
        );
        let this = *next;
        *next = next.saturating_sub(1);
        this
    });
    Rule {
        preference,
        ..line.value.rule.clone()
    }
}

/// KEEPALIVED: `default_interface`, eth0 by default.
fn addresses(raw: &RawConfig, diagnostics: &mut Vec<Diagnostic>) -> Vec<VirtualAddress> {
    const DEFAULT: &str = "eth0";
    let default = raw.global.default_interface.as_ref();
    let mut resolved = Vec::new();
    for line in &raw.static_addresses {
        let mut address = line.value.clone();
        if address.dev.is_none() {
            let name = default.map_or(DEFAULT, |name| name.value.as_str());
            if default.is_none() {
                diagnostics.push(Diagnostic::warning(
                    Code::DefaultUsed,
                    line.span,
                    format!("{} names no `dev`; {DEFAULT} is used", address.addr),
                ));
            }
            address.dev = Some(name.to_owned());
        }
        resolved.push(address);
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::super::super::model::{Hop, Metric, RouteKind, RuleAction, TableId};
    use super::super::super::{Loaded, parse};
    use super::*;

    fn instance(block: &str) -> (VrrpInstance, Vec<&'static str>) {
        let text = format!(
            "vrrp_instance A {{\ninterface eth0\nvirtual_router_id 5\nvirtual_ipaddress {{\n\
             192.0.2.9\n}}\n{block}\n}}\n"
        );
        let loaded = parse("t", &text);
        (
            VrrpInstance::clone(&loaded.config.vrrp_instances[0]),
            codes(&loaded),
        )
    }

    fn codes(loaded: &Loaded) -> Vec<&'static str> {
        let all = loaded.diagnostics.iter().map(|d| d.code);
        all.filter(|code| *code != Code::TakeoverTime)
            .map(Code::as_str)
            .collect()
    }

    fn route(line: &str) -> Result<Route, Vec<&'static str>> {
        let (instance, codes) = instance(&format!("virtual_routes {{\n{line}\n}}"));
        instance.routes.into_iter().next().ok_or(codes)
    }

    fn rule(line: &str) -> Result<Rule, Vec<&'static str>> {
        let (instance, codes) = instance(&format!("virtual_rules {{\n{line}\n}}"));
        instance.rules.into_iter().next().ok_or(codes)
    }

    fn hops(line: &str) -> Vec<(String, String, u16)> {
        let say = |hop: &Hop| {
            let via = hop.via.map_or("-".to_owned(), |via| via.to_string());
            (via, hop.dev.clone().unwrap_or("-".to_owned()), hop.weight)
        };
        route(line).unwrap().hops.iter().map(say).collect()
    }

    fn hop(via: &str, dev: &str, weight: u16) -> (String, String, u16) {
        (via.to_owned(), dev.to_owned(), weight)
    }

    #[test]
    fn routes_of_the_manual_are_read() {
        let one = route("src 10.9.0.1 to 10.60.0.0/16 via 192.0.2.2 dev e0 metric 7").unwrap();
        assert_eq!(
            one.to.map(|to| (to.addr.to_string(), to.len)),
            Some(("10.60.0.0".to_owned(), 16))
        );
        assert_eq!(
            (one.source, one.metric),
            (Some("10.9.0.1".parse().unwrap()), Some(7))
        );
        assert_eq!(
            hops("10.60.0.0/16 via 192.0.2.2 dev e0"),
            [hop("192.0.2.2", "e0", 1)]
        );
        assert_eq!(
            hops("10.61.0.0/24 via 192.0.2.2 or 192.0.2.3 dev e0"),
            [hop("192.0.2.2", "e0", 1), hop("192.0.2.3", "e0", 1)]
        );
        assert_eq!(
            hops(
                "10.66.0.0/24 nexthop via 192.0.2.2 weight 2 nexthop via 10.9.0.2 dev d1 weight 3"
            ),
            [hop("192.0.2.2", "-", 2), hop("10.9.0.2", "d1", 3)]
        );
        let default = route("0.0.0.0/0 gw 192.0.2.2 table 100").unwrap();
        assert_eq!(
            (default.to, default.table),
            (None, Some(TableId::Number(100)))
        );
        assert_eq!(
            route("blackhole 10.63.0.0/24").unwrap().kind,
            RouteKind::Blackhole
        );
        let six = route("2001:db8:1::/48 dev d1 mtu 1400 scope link proto bird no_track").unwrap();
        assert_eq!(six.metrics, [(Metric::Mtu, 1400)]);
        assert_eq!((six.scope, six.protocol), (Some(253), Some(12)));
    }

    #[test]
    fn a_route_that_xlvs_cannot_make_is_an_error() {
        for (line, code) in [
            ("via 192.0.2.2", "missing-parameter"),
            ("10.0.0.0/33 dev e0", "not-supported"),
            ("10.0.0.0/8 encap mpls 100 via 192.0.2.2", "not-supported"),
            ("10.0.0.0/8 via 2001:db8::1", "conflict"),
            ("10.0.0.0/8 via x", "invalid-value"),
            ("10.0.0.0/8 via", "missing-parameter"),
        ] {
            assert_eq!(route(line), Err(vec![code]), "{line}");
        }
    }

    #[test]
    fn rules_of_the_manual_are_read() {
        let one = rule("to 192.168.2.0/24 table 1 priority 500").unwrap();
        assert_eq!(
            (one.preference, one.action),
            (500, RuleAction::Table(TableId::Number(1)))
        );
        let marked = rule("from 10.0.0.1 iif e0 fwmark 0x5/0xff table small pref 3 no_track");
        assert_eq!(
            marked,
            Err(vec!["not-supported"]),
            "short names are not read"
        );
        let marked = rule("from 10.0.0.1 iif e0 fwmark 0x5/0xff table small order 3").unwrap();
        assert_eq!(
            (marked.fwmark, marked.preference),
            (Some((5, Some(255))), 3)
        );
        let ports = rule("ipproto UDP sport 10-20 dport 30 blackhole order 4").unwrap();
        assert_eq!(
            (ports.ip_protocol, ports.sport, ports.dport),
            (Some(17), Some((10, 20)), Some((30, 30)))
        );
        assert_eq!(rule("from 10.0.0.1"), Err(vec!["missing-parameter"]));
    }

    #[test]
    fn keepalived_rules_without_preference_count_down_from_16384_in_the_order_of_the_file() {
        let text = "static_rules {\nfrom 10.0.0.1 table 1\n}\nvrrp_instance A {\ninterface e\n\
                    virtual_router_id 5\nvirtual_ipaddress {\n192.0.2.9\n}\nvirtual_rules {\n\
                    from 10.0.0.2 table 1\nfrom 10.0.0.3 table 1 preference 7\n\
                    from 10.0.0.4 table 1\n}\n}\n";
        let loaded = parse("t", text);
        assert_eq!(loaded.config.statics.rules[0].preference, 16384);
        let rules = loaded.config.vrrp_instances[0].rules.iter();
        let preferences: Vec<u32> = rules.map(|rule| rule.preference).collect();
        assert_eq!(preferences, [16383, 7, 16382]);
        assert_eq!(codes(&loaded), ["default-used"; 3]);
    }

    #[test]
    fn static_addresses_go_to_the_default_interface() {
        let text = "global_defs {\ndefault_interface e9\n}\nstatic_ipaddress {\n\
                    192.0.2.1/24 brd + dev e1\n192.0.2.2\n2001:db8::1/64\n}\n";
        let loaded = parse("t", text);
        let addresses = loaded.config.statics.addresses.iter();
        let devices: Vec<_> = addresses.map(|a| a.dev.as_deref().unwrap()).collect();
        assert_eq!(devices, ["e1", "e9", "e9"]);
        assert_eq!(codes(&loaded), Vec::<&str>::new());
    }
}
