// SPDX-License-Identifier: MIT OR Apache-2.0
//! What of the packets to virtual addresses reaches this host, as text for `nft -f`. Pure.
//!
//! In: instances and services. Out: a [`Rules`], and its text, which replaces the whole table in
//! one transaction. Invariant: equal rules have equal texts, so that what stands can be compared.
//!
//! ```text
//! to an address of an instance with no_accept?
//!   no ▸ accept      yes ▸ neighbour discovery, for a service, error about a service ▸ accept
//!                          else ▸ drop
//! ```
//!
//! The rules hold in every state of an instance: one that is not MASTER does not have its addresses,
//! and where a real server that is a director, too, has them (on `lo`), RFC 9568 §6.4.2 says that
//! they are not answered at. So a takeover need not wait for nft.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use crate::config::model::{Config, ServiceId, VirtualServer};

/// KEEPALIVED: its chains' priority, before the usual place of a host's own filter.
const PRIORITY: i32 = -1;

/// What is refused, and what of it is not. Ports and protocols are numbers of the host's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    refused: BTreeSet<IpAddr>,
    /// Link-local addresses mean something on one link only.
    refused_on: BTreeSet<(Ipv6Addr, String)>,
    /// Services at refused addresses.
    services: BTreeSet<ServiceId>,
}

impl Rules {
    /// The rules that a configuration asks for.
    pub fn of(config: &Config) -> Self {
        let mut rules = Self::default();
        let silent = config.vrrp_instances.iter().filter(|i| !i.accept);
        for (instance, vip) in silent.flat_map(|i| i.addresses().map(move |vip| (i, vip))) {
            // Beneath a virtual MAC interface, too, which may be made anew.
            for device in [instance.device_of(vip), instance.base_of(vip)] {
                rules.refuse(vip.addr, device);
            }
        }
        let services = config.virtual_servers.iter().flat_map(VirtualServer::ids);
        rules.services = services.filter(|id| rules.refuses(id.addr)).collect();
        rules
    }

    fn refuse(&mut self, addr: IpAddr, device: &str) {
        match addr {
            IpAddr::V6(addr) if addr.is_unicast_link_local() => {
                self.refused_on.insert((addr, device.to_owned()));
            }
            _ => {
                self.refused.insert(addr);
            }
        }
    }

    fn refuses(&self, addr: IpAddr) -> bool {
        let on_a_link = || self.refused_on.iter().any(|(held, _)| addr == *held);
        self.refused.contains(&addr) || on_a_link()
    }

    /// Nothing is refused: no table is needed.
    pub fn is_empty(&self) -> bool {
        self.refused.is_empty() && self.refused_on.is_empty()
    }

    /// What one of both refuses, less what is for a service of one of both.
    pub fn union(mut self, other: &Self) -> Self {
        self.refused.extend(&other.refused);
        self.refused_on.extend(other.refused_on.iter().cloned());
        self.services.extend(&other.services);
        self
    }

    /// The transaction that makes `table` of the family `inet` these rules, whatever it was before;
    /// with none of them the table goes.
    pub fn text(&self, table: &str) -> String {
        // nft before 1.0.7 has no `destroy`: made where it is missing, it can be deleted.
        let mut out = format!("table inet {table}\ndelete table inet {table}\n");
        if self.is_empty() {
            return out;
        }
        let _ = writeln!(out, "table inet {table} {{");
        let v6 = |addr: &IpAddr| addr.is_ipv6();
        let has_v4 = !self.refused.iter().all(v6);
        let has_v6 = self.refused.iter().any(v6) || !self.refused_on.is_empty();
        if has_v4 {
            self.family(&mut out, &V4);
        }
        if has_v6 {
            let held = self.refused_on.iter();
            let held = held.map(|(addr, name)| format!("{addr} . \"{name}\""));
            set(&mut out, "refused_on", "ipv6_addr . ifname", held);
            self.family(&mut out, &V6);
        }
        let _ = writeln!(
            out,
            "\tchain input {{\n\t\ttype filter hook input priority {PRIORITY}; policy accept;"
        );
        if has_v4 {
            out.push_str("\t\tip daddr @refused4 goto refused_v4\n");
        }
        if has_v6 {
            out.push_str("\t\tip6 daddr @refused6 goto refused_v6\n");
            out.push_str("\t\tip6 daddr . iifname @refused_on goto refused_v6\n");
        }
        out.push_str("\t}\n}\n");
        out
    }

    /// The sets of one family, and the chain for packets to its refused addresses.
    fn family(&self, out: &mut String, family: &Family) {
        let Family { n, ip, addr, .. } = family;
        let fits = |addr: &IpAddr| addr.is_ipv6() == family.is_v6;
        let services = || self.services.iter().filter(|id| fits(&id.addr));
        let name = |id: &ServiceId| id.protocol.to_string().to_lowercase();
        let refused = self.refused.iter().filter(|addr| fits(addr));
        set(out, &format!("refused{n}"), addr, refused);
        let with_port = services().filter(|id| id.port != 0);
        let with_port = with_port.map(|id| format!("{} . {} . {}", id.addr, name(id), id.port));
        let kind = format!("{addr} . inet_proto . inet_service");
        set(out, &format!("services{n}"), &kind, with_port);
        let any_port = services().filter(|id| id.port == 0);
        let any_port = any_port.map(|id| format!("{} . {}", id.addr, name(id)));
        let kind = format!("{addr} . inet_proto");
        set(out, &format!("any_port{n}"), &kind, any_port);
        let served: BTreeSet<IpAddr> = services().map(|id| id.addr).collect();
        set(out, &format!("served{n}"), addr, &served);
        let _ = writeln!(
            out,
            "\tchain refused_v{n} {{\n{before}\
             \t\t{ip} daddr . meta l4proto . th dport @services{n} accept\n\
             \t\t{ip} daddr . meta l4proto @any_port{n} accept\n\
             \t\t{ip} daddr @served{n} {errors} accept\n\
             \t\tcounter drop\n\t}}",
            before = family.before,
            errors = family.errors,
        );
    }
}

/// What differs between the families.
struct Family {
    is_v6: bool,
    /// Ends the names of sets and chains.
    n: &'static str,
    ip: &'static str,
    /// nft's type of an address.
    addr: &'static str,
    /// Rules that come first.
    before: &'static str,
    /// ICMP errors: the stack looks for the connection that they are about.
    errors: &'static str,
}

/// The stack has put fragments together before its filter sees them.
const V4: Family = Family {
    is_v6: false,
    n: "4",
    ip: "ip",
    addr: "ipv4_addr",
    before: "",
    errors: "icmp type { destination-unreachable, time-exceeded, parameter-problem }",
};

/// Neighbours are told, and asked, whatever is refused. The stack puts fragments together behind
/// its filter; of a packet that is refused the first one is dropped, so that the others are nothing.
const V6: Family = Family {
    is_v6: true,
    n: "6",
    ip: "ip6",
    addr: "ipv6_addr",
    before: "\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n\
             \t\tip6 daddr @served6 frag frag-off != 0 accept\n",
    errors: "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }",
};

/// A named set.
fn set(
    out: &mut String,
    name: &str,
    kind: &str,
    elements: impl IntoIterator<Item = impl ToString>,
) {
    let elements: Vec<String> = elements.into_iter().map(|e| e.to_string()).collect();
    let _ = write!(out, "\tset {name} {{\n\t\ttype {kind}\n");
    if !elements.is_empty() {
        let _ = writeln!(out, "\t\telements = {{ {} }}", elements.join(", "));
    }
    out.push_str("\t}\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn rules(text: &str) -> Rules {
        Rules::of(&parse("t", text).config)
    }

    fn instance(name: &str, vrid: u8, more: &str, vips: &str) -> String {
        format!(
            "vrrp_instance {name} {{\ninterface eth0\nvirtual_router_id {vrid}\n{more}\n\
             virtual_ipaddress {{\n{vips}\n}}\n}}\n"
        )
    }

    fn service(addr: &str, port: &str, more: &str) -> String {
        format!(
            "virtual_server {addr} {port} {{\nlb_algo rr\nlb_kind DR\n{more}\n\
             real_server 192.0.2.11 {port} {{\nweight 1\n}}\n}}\n"
        )
    }

    #[test]
    fn an_instance_that_accepts_or_owns_its_addresses_needs_no_rules() {
        for more in ["", "accept", "no_accept\npriority 255\nstate MASTER"] {
            let rules = rules(&instance("A", 1, more, "192.0.2.9"));
            assert!(rules.is_empty(), "{more}");
            assert_eq!(rules.text("x"), "table inet x\ndelete table inet x\n");
        }
    }

    #[test]
    fn only_services_at_refused_addresses_are_in_the_table() {
        let file = instance("A", 1, "no_accept", "192.0.2.9\n192.0.2.10")
            + &instance("B", 2, "", "192.0.2.8")
            + &service("192.0.2.9", "80", "protocol TCP")
            + &service("192.0.2.8", "80", "protocol TCP")
            + &service("192.0.2.9", "0", "protocol UDP\npersistence_timeout 60");
        let text = rules(&file).text("xlvs");
        let expected = "table inet xlvs\n\
            delete table inet xlvs\n\
            table inet xlvs {\n\
            \tset refused4 {\n\t\ttype ipv4_addr\n\t\telements = { 192.0.2.9, 192.0.2.10 }\n\t}\n\
            \tset services4 {\n\t\ttype ipv4_addr . inet_proto . inet_service\n\
            \t\telements = { 192.0.2.9 . tcp . 80 }\n\t}\n\
            \tset any_port4 {\n\t\ttype ipv4_addr . inet_proto\n\
            \t\telements = { 192.0.2.9 . udp }\n\t}\n\
            \tset served4 {\n\t\ttype ipv4_addr\n\t\telements = { 192.0.2.9 }\n\t}\n\
            \tchain refused_v4 {\n\
            \t\tip daddr . meta l4proto . th dport @services4 accept\n\
            \t\tip daddr . meta l4proto @any_port4 accept\n\
            \t\tip daddr @served4 icmp type { destination-unreachable, time-exceeded, parameter-problem } accept\n\
            \t\tcounter drop\n\t}\n\
            \tchain input {\n\
            \t\ttype filter hook input priority -1; policy accept;\n\
            \t\tip daddr @refused4 goto refused_v4\n\
            \t}\n}\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_link_local_address_is_refused_on_its_interface_alone() {
        let more = "no_accept\nversion 3\nvirtual_ipaddress_excluded {\n192.0.2.9\n}";
        let file = instance("A", 1, more, "fe80::9/64 dev eth1\n2001:db8::9");
        let text = rules(&file).text("xlvs");
        for line in [
            "elements = { fe80::9 . \"eth1\" }",
            "elements = { 2001:db8::9 }",
            "elements = { 192.0.2.9 }",
            "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept",
            "ip6 daddr . iifname @refused_on goto refused_v6",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn while_a_configuration_replaces_another_both_are_refused() {
        let old = instance("A", 1, "no_accept", "192.0.2.9")
            + &service("192.0.2.9", "80", "protocol TCP");
        let new = instance("A", 1, "no_accept", "192.0.2.8")
            + &service("192.0.2.8", "443", "protocol TCP");
        let both = rules(&old).union(&rules(&new)).text("x");
        for part in [
            "{ 192.0.2.8, 192.0.2.9 }",
            "192.0.2.8 . tcp . 443, 192.0.2.9 . tcp . 80",
        ] {
            assert!(both.contains(part), "{part} is not in\n{both}");
        }
        assert_eq!(rules(&old).union(&rules(&old)), rules(&old));
    }
}
