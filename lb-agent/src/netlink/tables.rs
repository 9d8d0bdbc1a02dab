// SPDX-License-Identifier: MIT OR Apache-2.0
//! Routes and rules of instances: add, remove.
//!
//! In: an rtnetlink handle and what the configuration says. Out: kernel state. Called by the
//! director. Invariant: what is added carries keepalived's protocol number; what is there already,
//! or gone already, is fine.

use std::net::IpAddr;

use nix::net::if_::if_nametoindex;
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteNextHop, RouteNextHopFlags,
    RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{
    RuleAction as KernelAction, RuleAttribute, RuleFlags, RuleMessage, RulePortRange, RuleUidRange,
};

use super::addrs::ADDRESS_PROTOCOL;
use crate::config::model::{
    Family, Hop, Metric, Prefix, Route, RouteKind, Rule, RuleAction, TableId,
};

/// Files in which iproute2 keeps the names of tables; the later one counts.
const TABLE_NAMES: [&str; 2] = ["/usr/share/iproute2/rt_tables", "/etc/iproute2/rt_tables"];

/// Why a route or rule is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// An interface is missing.
    #[error("cannot find interface {0}")]
    Interface(String),
    /// iproute2 knows no table of that name.
    #[error("cannot find the routing table {0}: neither a number nor a name in {files}", files = TABLE_NAMES.join(" or "))]
    Table(String),
    /// The kernel refused.
    #[error("cannot {what}: {cause}")]
    Kernel {
        /// What was to be done, to what.
        what: String,
        /// The kernel's answer.
        cause: rtnetlink::Error,
    },
}

/// Adds a route.
pub async fn add_route(handle: &Handle, route: &Route) -> Result<(), TableError> {
    let message = route_message(route)?;
    let result = handle.route().add(message).execute().await;
    judge(result, &[nix::Error::EEXIST], || {
        format!("add the route to {}", destination(route))
    })
}

/// Removes a route. Without its interface it is gone.
pub async fn remove_route(handle: &Handle, route: &Route) -> Result<(), TableError> {
    let message = match route_message(route) {
        Ok(message) => message,
        Err(TableError::Interface(_)) => return Ok(()),
        Err(other) => return Err(other),
    };
    let result = handle.route().del(message).execute().await;
    let gone = [
        nix::Error::ESRCH,
        nix::Error::ENODEV,
        nix::Error::ENETUNREACH,
    ];
    judge(result, &gone, || {
        format!("remove the route to {}", destination(route))
    })
}

/// Adds a rule.
pub async fn add_rule(handle: &Handle, rule: &Rule) -> Result<(), TableError> {
    let mut request = handle.rule().add();
    *request.message_mut() = rule_message(rule)?;
    let result = request.execute().await;
    judge(result, &[nix::Error::EEXIST], || {
        format!("add the rule of preference {}", rule.preference)
    })
}

/// Removes a rule.
pub async fn remove_rule(handle: &Handle, rule: &Rule) -> Result<(), TableError> {
    let result = handle.rule().del(rule_message(rule)?).execute().await;
    judge(result, &[nix::Error::ENOENT], || {
        format!("remove the rule of preference {}", rule.preference)
    })
}

/// `fine` are the kernel's words for what is done already.
fn judge(
    result: Result<(), rtnetlink::Error>,
    fine: &[nix::Error],
    what: impl FnOnce() -> String,
) -> Result<(), TableError> {
    match result {
        Err(rtnetlink::Error::NetlinkError(message))
            if fine
                .iter()
                .any(|errno| message.raw_code() == -(*errno as i32)) =>
        {
            Ok(())
        }
        Err(cause) => Err(TableError::Kernel {
            what: what(),
            cause,
        }),
        Ok(()) => Ok(()),
    }
}

fn destination(route: &Route) -> String {
    let to = route.to;
    to.map_or_else(
        || "default".to_owned(),
        |to| format!("{}/{}", to.addr, to.len),
    )
}

fn family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn index(interface: &str) -> Result<u32, TableError> {
    if_nametoindex(interface).map_err(|_| TableError::Interface(interface.to_owned()))
}

/// A table's number.
fn number(table: &TableId) -> Result<u32, TableError> {
    let name = match table {
        TableId::Number(number) => return Ok(*number),
        TableId::Name(name) => name,
    };
    let by_name = TABLE_NAMES.iter().rev().find_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        text.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let number = words.next()?.parse().ok()?;
            (words.next() == Some(name.as_str())).then_some(number)
        })
    });
    // Also where iproute2 is not installed.
    let fixed = || match name.as_str() {
        "default" => Some(253),
        "main" => Some(254),
        "local" => Some(255),
        _ => None,
    };
    by_name
        .or_else(fixed)
        .ok_or_else(|| TableError::Table(name.clone()))
}

fn route_message(route: &Route) -> Result<RouteMessage, TableError> {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(route.family);
    header.tos = route.tos;
    header.protocol = RouteProtocol::from(route.protocol.unwrap_or(ADDRESS_PROTOCOL));
    header.scope = RouteScope::from(route.scope.unwrap_or(0));
    header.kind = match route.kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Local => RouteType::Local,
        RouteKind::Blackhole => RouteType::BlackHole,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Prohibit => RouteType::Prohibit,
        RouteKind::Throw => RouteType::Throw,
    };
    let attributes = &mut message.attributes;
    // RT_TABLE_UNSPEC, and the number in the attribute, which has room for all.
    let table = route.table.as_ref().map_or(Ok(254), number)?;
    attributes.push(RouteAttribute::Table(table));
    if let Some(to) = route.to {
        header.destination_prefix_length = to.len;
        attributes.push(RouteAttribute::Destination(address(to.addr)));
    }
    if let Some(source) = route.source {
        attributes.push(RouteAttribute::PrefSource(address(source)));
    }
    attributes.extend(route.metric.map(RouteAttribute::Priority));
    if !route.metrics.is_empty() {
        let metrics = route
            .metrics
            .iter()
            .map(|(metric, value)| kernel_metric(*metric, *value));
        attributes.push(RouteAttribute::Metrics(metrics.collect()));
    }
    match route.hops.as_slice() {
        [] => {}
        [hop] => {
            attributes.extend(hop.via.map(|via| RouteAttribute::Gateway(address(via))));
            if let Some(dev) = &hop.dev {
                attributes.push(RouteAttribute::Oif(index(dev)?));
            }
            if hop.onlink {
                header.flags |= rtnetlink::packet_route::route::RouteFlags::Onlink;
            }
        }
        hops => {
            let hops: Result<Vec<RouteNextHop>, TableError> = hops.iter().map(next_hop).collect();
            attributes.push(RouteAttribute::MultiPath(hops?));
        }
    }
    Ok(message)
}

fn next_hop(hop: &Hop) -> Result<RouteNextHop, TableError> {
    let mut next = RouteNextHop::default();
    // The kernel counts weights from 0.
    next.hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
    if let Some(dev) = &hop.dev {
        next.interface_index = index(dev)?;
    }
    next.attributes
        .extend(hop.via.map(|via| RouteAttribute::Gateway(address(via))));
    if hop.onlink {
        next.flags |= RouteNextHopFlags::Onlink;
    }
    Ok(next)
}

fn address(addr: IpAddr) -> RouteAddress {
    match addr {
        IpAddr::V4(addr) => RouteAddress::Inet(addr),
        IpAddr::V6(addr) => RouteAddress::Inet6(addr),
    }
}

fn kernel_metric(metric: Metric, value: u32) -> RouteMetric {
    match metric {
        Metric::Mtu => RouteMetric::Mtu(value),
        Metric::Advmss => RouteMetric::Advmss(value),
        Metric::Hoplimit => RouteMetric::Hoplimit(value),
        Metric::Window => RouteMetric::Window(value),
        Metric::Cwnd => RouteMetric::Cwnd(value),
        Metric::Ssthresh => RouteMetric::SsThresh(value),
        Metric::Reordering => RouteMetric::Reordering(value),
        Metric::Initcwnd => RouteMetric::InitCwnd(value),
        Metric::Initrwnd => RouteMetric::InitRwnd(value),
        Metric::Quickack => RouteMetric::QuickAck(value),
    }
}

fn rule_message(rule: &Rule) -> Result<RuleMessage, TableError> {
    let mut message = RuleMessage::default();
    let header = &mut message.header;
    header.family = family(rule.family);
    header.tos = rule.tos;
    if rule.invert {
        header.flags |= RuleFlags::Invert;
    }
    let attributes = &mut message.attributes;
    let length = |prefix: Option<Prefix>| prefix.map_or(0, |prefix| prefix.len);
    (header.src_len, header.dst_len) = (length(rule.from), length(rule.to));
    attributes.extend(rule.from.map(|from| RuleAttribute::Source(from.addr)));
    attributes.extend(rule.to.map(|to| RuleAttribute::Destination(to.addr)));
    attributes.extend(rule.iif.clone().map(RuleAttribute::Iifname));
    attributes.extend(rule.oif.clone().map(RuleAttribute::Oifname));
    if let Some((mark, mask)) = rule.fwmark {
        attributes.push(RuleAttribute::FwMark(mark));
        attributes.extend(mask.map(RuleAttribute::FwMask));
    }
    if let Some((start, end)) = rule.uids {
        attributes.push(RuleAttribute::UidRange(RuleUidRange { start, end }));
    }
    let protocol = rule.ip_protocol.map(i32::from).map(Into::into);
    attributes.extend(protocol.map(RuleAttribute::IpProtocol));
    let ports = |(start, end)| RulePortRange { start, end };
    attributes.extend(rule.sport.map(|p| RuleAttribute::SourcePortRange(ports(p))));
    attributes.extend(
        rule.dport
            .map(|p| RuleAttribute::DestinationPortRange(ports(p))),
    );
    attributes.extend(
        rule.suppress_prefix_len
            .map(RuleAttribute::SuppressPrefixLen),
    );
    attributes.push(RuleAttribute::Priority(rule.preference));
    attributes.push(RuleAttribute::Protocol(RouteProtocol::from(
        ADDRESS_PROTOCOL,
    )));
    header.action = match &rule.action {
        RuleAction::Table(table) => {
            attributes.push(RuleAttribute::Table(number(table)?));
            KernelAction::ToTable
        }
        RuleAction::Goto(preference) => {
            attributes.push(RuleAttribute::Goto(*preference));
            KernelAction::Goto
        }
        RuleAction::Blackhole => KernelAction::Blackhole,
        RuleAction::Unreachable => KernelAction::Unreachable,
        RuleAction::Prohibit => KernelAction::Prohibit,
        RuleAction::Nop => KernelAction::Nop,
    };
    Ok(message)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::config::parse;

    /// The routes and rules that a file's instance has, in a namespace with two interfaces.
    fn in_namespace(
        text: &'static str,
        test: impl AsyncFnOnce(Handle, Vec<Route>, Vec<Rule>) + Send + 'static,
    ) {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root (run: sudo -E cargo test -p lb-agent --lib netlink)");
            return;
        }
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link add e0 type veth peer name e1");
            for (name, address) in [("e0", "192.0.2.1/24"), ("e1", "10.9.0.1/24")] {
                ip(&format!("addr add {address} dev {name}"));
                ip(&format!("link set {name} up"));
            }
            let loaded = parse("t", text);
            let instance = loaded.config.vrrp_instances[0].clone();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection().unwrap();
                tokio::spawn(connection);
                test(handle, instance.routes.clone(), instance.rules.clone()).await;
            });
        });
        thread.join().unwrap();
    }

    fn ip(words: &str) -> String {
        let output = Command::new("ip").args(words.split(' ')).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {words}: {stderr}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    const FILE: &str = "vrrp_instance A {\ninterface e0\nvirtual_router_id 5\n\
        virtual_ipaddress {\n192.0.2.9\n}\nvirtual_routes {\n\
        src 10.9.0.1 to 10.60.0.0/16 via 192.0.2.2 dev e0\n\
        10.61.0.0/24 via 192.0.2.2 or 192.0.2.3\n\
        blackhole 10.63.0.0/24\n\
        0.0.0.0/0 gw 192.0.2.2 table 100\n\
        10.66.0.0/24 nexthop via 192.0.2.2 weight 2 nexthop via 10.9.0.2 dev e1 weight 3\n\
        2001:db8:1::/48 dev e1 metric 7 mtu 1400\n\
        10.67.0.0/24 via 172.16.0.1 dev e0 onlink\n}\nvirtual_rules {\n\
        from 192.168.2.0/24 table 100\n\
        to 192.168.2.0/24 fwmark 0x5/0xff iif e0 table main preference 500\n\
        from 2001:db8::/32 ipproto tcp dport 80-90 prohibit preference 501\n}\n}\n";

    #[test]
    fn routes_are_as_ip_route_would_make_them_and_both_ways_may_be_repeated() {
        in_namespace(FILE, async |handle, routes, _| {
            assert_eq!(routes.len(), 7);
            for _ in 0..2 {
                for route in &routes {
                    add_route(&handle, route).await.unwrap();
                }
            }
            let shown = ip("route show table all proto 18") + &ip("-6 route show proto 18");
            for part in [
                "10.60.0.0/16 via 192.0.2.2 dev e0 src 10.9.0.1",
                "10.61.0.0/24 nexthop via 192.0.2.2 dev e0 weight 1 nexthop via 192.0.2.3 dev e0 weight 1",
                "blackhole 10.63.0.0/24",
                "default via 192.0.2.2 dev e0 table 100",
                "nexthop via 192.0.2.2 dev e0 weight 2 nexthop via 10.9.0.2 dev e1 weight 3",
                "2001:db8:1::/48 dev e1 metric 7 mtu 1400",
                "10.67.0.0/24 via 172.16.0.1 dev e0 onlink",
            ] {
                assert!(shown.contains(part), "{part} is not in {shown}");
            }
            for _ in 0..2 {
                for route in &routes {
                    remove_route(&handle, route).await.unwrap();
                }
            }
            assert_eq!(ip("route show table all proto 18"), "");
        });
    }

    #[test]
    fn rules_are_as_ip_rule_would_make_them_and_both_ways_may_be_repeated() {
        in_namespace(FILE, async |handle, _, rules| {
            for _ in 0..2 {
                for rule in &rules {
                    add_rule(&handle, rule).await.unwrap();
                }
            }
            let shown = ip("rule") + &ip("-6 rule");
            for part in [
                "16384: from 192.168.2.0/24 lookup 100 proto keepalived",
                "500: from all to 192.168.2.0/24 fwmark 0x5/0xff iif e0 lookup main proto keepalived",
                "501: from 2001:db8::/32 ipproto tcp dport 80-90 prohibit proto keepalived",
            ] {
                assert!(shown.contains(part), "{part} is not in {shown}");
            }
            for _ in 0..2 {
                for rule in &rules {
                    remove_rule(&handle, rule).await.unwrap();
                }
            }
            assert!(!(ip("rule") + &ip("-6 rule")).contains("keepalived"));
        });
    }

    #[test]
    fn what_is_missing_is_named() {
        let table = TableId::Name("no-such-table".to_owned());
        assert!(
            number(&table)
                .unwrap_err()
                .to_string()
                .contains("no-such-table")
        );
        assert_eq!(number(&TableId::Name("main".to_owned())).unwrap(), 254);
        let error = index("no-such-if").unwrap_err();
        assert_eq!(error.to_string(), "cannot find interface no-such-if");
    }
}
