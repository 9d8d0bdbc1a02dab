// SPDX-License-Identifier: MIT OR Apache-2.0
//! `use_vmac`: name and link address of the interface, and what it does not go together with.

use super::super::super::diag::{Code, Diagnostic, quoted};
use super::super::super::model::{Family, Vmac, VrrpInstance};
use super::super::super::raw::{RawGlobal, RawInstance, RawVmac};
use super::Resolver;

impl Resolver<'_> {
    /// The interface, still without a name where the line gives none.
    pub(super) fn vmac(&mut self, family: Family) -> Option<Vmac> {
        let raw = self.raw;
        let Some(said) = &raw.vmac else {
            if let Some(base) = raw.vmac_xmit_base {
                self.diagnostics.push(Diagnostic::warning(
                    Code::Conflict,
                    base.span,
                    "`vmac_xmit_base` without `use_vmac` has nothing to do",
                ));
            }
            return None;
        };
        let mut xmit_base = raw.vmac_xmit_base.is_some();
        if let (Some(base), true) = (raw.vmac_xmit_base, self.strict()) {
            self.not_strict(&base, "adverts leave from the virtual MAC interface");
            xmit_base = false;
        }
        if !xmit_base && !raw.unicast_peers.is_empty() {
            self.diagnostics.push(
                Diagnostic::warning(
                    Code::Conflict,
                    said.span,
                    "`use_vmac` with unicast peers: adverts leave from the base interface",
                )
                .hint("add `vmac_xmit_base`"),
            );
            xmit_base = true;
        }
        let vrid = raw.vrid.map_or(0, |vrid| vrid.value);
        // RFC 9568 §7.3.
        let kind = match family {
            Family::V4 => 1,
            Family::V6 => 2,
        };
        let RawVmac { name, mac } = &said.value;
        Some(Vmac {
            name: name.clone().unwrap_or_default(),
            mac: mac.unwrap_or([0, 0, 0x5e, 0, kind, vrid]),
            xmit_base,
        })
    }
}

/// KEEPALIVED: `vrrp.VRID`, and `vrrp6.VRID` (or 4) for the second one of that number.
pub(super) fn choose_name(
    model: &mut VrrpInstance,
    resolved: &[VrrpInstance],
    raw: &RawInstance,
    global: &RawGlobal,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let Some(vmac) = &mut model.vmac else {
        return;
    };
    let taken = |name: &str| {
        let mut others = resolved.iter().filter_map(|other| other.vmac.as_ref());
        others.any(|other| other.name == name)
    };
    let said = raw.vmac.as_ref();
    if vmac.name.is_empty() {
        let prefix = global.vmac_prefix.as_ref();
        let prefix = prefix.map_or("vrrp", |prefix| prefix.value.as_str());
        let number = match model.family {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        let plain = format!("{prefix}.{}", model.vrid);
        let more = format!("{prefix}{number}.{}", model.vrid);
        vmac.name = if taken(&plain) { more } else { plain };
    }
    if let Some(said) = said.filter(|_| taken(&vmac.name)) {
        diagnostics.push(
            Diagnostic::error(
                Code::Duplicate,
                said.span,
                format!(
                    "the interface {} is another instance's already",
                    quoted(&vmac.name)
                ),
            )
            .hint("give each `use_vmac` a name of its own"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::parse;
    use super::*;

    fn vmac(text: &str) -> (Option<Vmac>, Vec<&'static str>) {
        let text = format!(
            "vrrp_instance A {{\ninterface eth0\nvirtual_router_id 5\nvirtual_ipaddress {{\n\
             192.0.2.9\n}}\n{text}\n}}\n"
        );
        let loaded = parse("t", &text);
        let codes = loaded.diagnostics.iter().map(|d| d.code);
        let codes = codes.filter(|code| *code != Code::TakeoverTime);
        let codes = codes.map(Code::as_str).collect();
        (loaded.config.vrrp_instances[0].vmac.clone(), codes)
    }

    #[test]
    fn rfc9568_7_3_the_link_address_ends_with_the_virtual_router_id() {
        let (found, codes) = vmac("use_vmac");
        let expected = Vmac {
            name: "vrrp.5".to_owned(),
            mac: [0, 0, 0x5e, 0, 1, 5],
            xmit_base: false,
        };
        assert_eq!((found, codes), (Some(expected), vec![]));
    }

    #[test]
    fn name_and_link_address_can_be_given_but_no_reserved_one() {
        let (found, _) = vmac("use_vmac vip0 02:00:00:00:00\nvmac_xmit_base");
        let found = found.unwrap();
        assert_eq!(
            (found.name.as_str(), found.mac),
            ("vip0", [2, 0, 0, 0, 0, 5])
        );
        assert!(found.xmit_base);
        let (found, codes) = vmac("use_vmac vip0 00:00:5e:00:01:05");
        assert_eq!(found.unwrap().mac, [0, 0, 0x5e, 0, 1, 5]);
        assert_eq!(codes, ["invalid-value"]);
    }

    #[test]
    fn keepalived_the_second_of_one_number_is_named_after_its_family() {
        let instance = |name: &str, more: &str| {
            format!(
                "vrrp_instance {name} {{\ninterface e{name}\nvirtual_router_id 5\nuse_vmac\n\
                 virtual_ipaddress {{\n{more}\n}}\n}}\n"
            )
        };
        let text = instance("A", "192.0.2.9") + &instance("B", "2001:db8::9");
        let loaded = parse("t", &text);
        let names = loaded.config.vrrp_instances.iter();
        let names: Vec<_> = names.map(|i| i.vmac.clone().unwrap()).collect();
        assert_eq!(names[0].name, "vrrp.5");
        assert_eq!((names[1].name.as_str(), names[1].mac[4]), ("vrrp6.5", 2));
    }

    #[test]
    fn what_does_not_go_together_is_said() {
        assert_eq!(vmac("vmac_xmit_base").1, ["conflict"]);
        let (found, codes) = vmac("use_vmac\nunicast_peer {\n192.0.2.2\n}");
        assert!(found.unwrap().xmit_base);
        assert_eq!(codes, ["conflict"]);
    }
}
