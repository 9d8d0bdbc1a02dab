// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which addresses a virtual server has: its own, or those of a `virtual_server_group`.

use std::collections::HashSet;

use lb_common::abi::MAX_SERVICES;

use super::super::args::Spanned;
use super::super::diag::{Code, Diagnostic, quoted};
use super::super::keywords;
use super::super::model::{Protocol, ServiceId};
use super::super::raw::{
    AddressRange, Family, RawAddressGroup, RawConfig, RawIdentity, RawVirtualServer,
};
use super::super::suggest;

/// All services of a virtual server, at least one. None if it can have none, which was reported.
pub(super) fn services(
    service: &RawVirtualServer,
    protocol: Protocol,
    raw: &RawConfig,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<ServiceId>> {
    let identity = service.identity.as_ref()?;
    let ids = match &identity.value {
        RawIdentity::Address(addr, port) => vec![ServiceId {
            addr: *addr,
            port: *port,
            protocol,
        }],
        RawIdentity::Group(name) => {
            let name = Spanned::new(name.as_str(), identity.span);
            let group = find(name, &raw.virtual_server_groups, diagnostics)?;
            of_group(group, protocol, diagnostics)?
        }
    };
    if let Some(asked) = service.ip_family
        && let Some(other) = ids.iter().find(|id| Family::of(id.addr) != asked.value)
    {
        diagnostics.push(Diagnostic::warning(
            Code::Conflict,
            asked.span,
            format!("`ip_family` is ignored: {} is its address", other.addr),
        ));
    }
    Some(ids)
}

fn find<'a>(
    name: Spanned<&str>,
    groups: &'a [RawAddressGroup],
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<&'a RawAddressGroup> {
    let found = groups.iter().find(|group| group.name == name.value);
    if found.is_none() {
        let diagnostic = Diagnostic::error(
            Code::UnknownName,
            name.span,
            format!("there is no `virtual_server_group` {}", quoted(name.value)),
        );
        let names = groups.iter().map(|group| group.name.as_str());
        diagnostics.push(match suggest::nearest(name.value, names) {
            Some(meant) => diagnostic.hint(format!("did you mean `{meant}`?")),
            None => diagnostic,
        });
    }
    found
}

/// What there is to say about the groups themselves.
pub(super) fn check_groups(raw: &RawConfig, diagnostics: &mut Vec<Diagnostic>) {
    let used = |name: &str| {
        raw.virtual_servers.iter().any(|service| {
            let identity = service.identity.as_ref().map(|identity| &identity.value);
            matches!(identity, Some(RawIdentity::Group(group)) if group == name)
        })
    };
    let mut names = HashSet::new();
    for group in &raw.virtual_server_groups {
        let name = quoted(&group.name);
        diagnostics.push(if !names.insert(&group.name) {
            let message =
                format!("`virtual_server_group` {name} is defined twice; the first one counts");
            Diagnostic::warning(Code::Duplicate, group.head, message)
        } else if group.ranges.is_empty() && !group.incomplete {
            let message = format!("`virtual_server_group` {name} has no addresses");
            Diagnostic::warning(Code::EmptyBlock, group.head, message)
        } else if !used(&group.name) {
            let message = format!("no virtual server uses the group {name}");
            Diagnostic::info(Code::NoEffect, group.head, message)
        } else {
            continue;
        });
    }
}

fn of_group(
    group: &RawAddressGroup,
    protocol: Protocol,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<ServiceId>> {
    let mut ids = Vec::new();
    let mut seen = HashSet::new();
    for range in &group.ranges {
        // Before it is spread out: a prefix of IPv6 would not fit in memory.
        let services = range.value.count.saturating_mul(range.value.ports.into());
        let total = services.saturating_add(ids.len() as u128);
        if total > u128::from(MAX_SERVICES) {
            diagnostics.push(Diagnostic::error(
                Code::LimitExceeded,
                range.span,
                format!(
                    "the group {} has {total} addresses and ports up to here; the data plane has \
                     room for {MAX_SERVICES}",
                    quoted(&group.name)
                ),
            ));
            return None;
        }
        for id in spread(range.value, protocol) {
            if seen.insert(id) {
                ids.push(id);
            } else {
                diagnostics.push(Diagnostic::warning(
                    Code::Duplicate,
                    range.span,
                    format!("{id} is in the group {} twice", quoted(&group.name)),
                ));
            }
        }
    }
    (!ids.is_empty()).then_some(ids)
}

fn spread(range: AddressRange, protocol: Protocol) -> impl Iterator<Item = ServiceId> {
    let ports = range.port..=range.port.saturating_add((range.ports - 1) as u16);
    (0..range.count).flat_map(move |n| {
        ports.clone().map(move |port| ServiceId {
            addr: keywords::offset(range.first, n),
            port,
            protocol,
        })
    })
}
