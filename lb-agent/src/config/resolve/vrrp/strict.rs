// SPDX-License-Identifier: MIT OR Apache-2.0
//! What strict mode does not allow beyond what `exchange`, `auth`, `family` and `vmac` say.

use std::net::IpAddr;
use std::time::Duration;

use super::super::super::diag::{Code, Diagnostic, quoted};
use super::super::super::model::{Family, InitialState};
use super::family::Ends;
use super::{OWNER, Resolver};

impl Resolver<'_> {
    /// KEEPALIVED: `state` follows the priority, and there is no `preempt_delay`; nor is there one
    /// with `nopreempt`, strict or not. A broken rule about addresses costs the whole instance.
    pub(super) fn strictly(
        &mut self,
        ends: &Ends,
        priority: u8,
        state: InitialState,
        preempt: bool,
        delay: Duration,
    ) -> (InitialState, Duration) {
        let raw = self.raw;
        let mut kept = delay;
        if let Some(said) = raw.preempt_delay.filter(|_| !delay.is_zero()) {
            if self.strict() {
                self.not_strict(&said, "there is no `preempt_delay`");
                kept = Duration::ZERO;
            } else if !preempt {
                self.diagnostics.push(Diagnostic::warning(
                    Code::Conflict,
                    said.span,
                    "`preempt_delay` does not work with `nopreempt`; it is ignored",
                ));
                kept = Duration::ZERO;
            }
        }
        if !self.strict() {
            return (state, kept);
        }
        let first = ends.vips.first().map(|vip| vip.addr);
        let broken = match (first, ends.family) {
            (None, _) => Some("has no `virtual_ipaddress`"),
            (Some(IpAddr::V6(addr)), Family::V6) if !addr.is_unicast_link_local() => {
                Some("does not begin with an IPv6 link-local address")
            }
            _ => None,
        };
        if let Some(broken) = broken {
            self.diagnostics.push(
                Diagnostic::error(
                    Code::Conflict,
                    raw.head,
                    format!(
                        "strict mode does not allow this: {} {broken}",
                        quoted(&raw.name)
                    ),
                )
                .hint("leave strict mode, or change this"),
            );
        }
        let owner = if priority == OWNER {
            InitialState::Master
        } else {
            InitialState::Backup
        };
        if let Some(said) = raw.state.filter(|_| state != owner) {
            self.not_strict(&said, "`state` is MASTER with priority 255 and only then");
        }
        (owner, kept)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::parse;

    fn file(instance: &str) -> (bool, usize) {
        let text = format!(
            "vrrp_instance A {{\ninterface e\nvirtual_router_id 5\npriority 100\n\
             strict_mode\n{instance}\n}}\n"
        );
        let loaded = parse("t", &text);
        let conflicts = loaded.diagnostics.iter();
        let conflicts = conflicts
            .filter(|d| d.code == super::Code::Conflict)
            .count();
        (loaded.is_applicable(), conflicts)
    }

    #[test]
    fn keepalived_strict_mode_has_rules_for_states_delays_and_addresses() {
        let vips = |lines: &str| format!("virtual_ipaddress {{\n{lines}\n}}");
        let v4 = vips("192.0.2.9");
        assert_eq!(file(&v4), (true, 0));
        assert_eq!(file(&format!("state MASTER\n{v4}")), (true, 1));
        assert_eq!(file(&format!("preempt_delay 5\n{v4}")), (true, 1));
        assert_eq!(file(""), (false, 1));
        assert_eq!(file(&vips("2001:db8::9")), (false, 1));
        assert_eq!(file(&vips("fe80::9/64\n2001:db8::9")), (true, 0));
    }
}
