// SPDX-License-Identifier: MIT OR Apache-2.0
//! `virtual_server` blocks: scheduling, persistence, quorum; limits of all of them together.

use std::collections::HashMap;
use std::time::Duration;

use lb_common::abi::{MAX_DESTS, MAX_SERVICE_DESTS, MAX_SERVICES};

use super::super::args::Spanned;
use super::super::diag::{Code, Diagnostic};
use super::super::model::{
    ForwardMethod, Persistence, Program, Protocol, Scheduler, SchedulerFlags, ServiceId, Tunnel,
    VirtualServer,
};
use super::super::raw::{
    Choice, FlagBit, Granularity, RawConfig, RawFlag, RawIdentity, RawVirtualServer,
};
use super::super::source::Span;
use super::{identity, is_set, real_server, track};

/// IPVS: `IP_VS_PERSISTENT_TIMEOUT`.
const DEFAULT_PERSISTENCE: Duration = Duration::from_mins(6);

/// Resolves all services.
pub(super) fn virtual_servers(
    raw: &RawConfig,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<VirtualServer> {
    identity::check_groups(raw, diagnostics);
    let mut resolved: Vec<(VirtualServer, Span)> = Vec::new();
    let mut heads: HashMap<ServiceId, Span> = HashMap::new();
    for service in &raw.virtual_servers {
        let mut one = Resolver {
            raw: service,
            config: raw,
            diagnostics,
        };
        let Some(model) = one.resolve() else { continue };
        let taken = model.ids().find_map(|id| Some((id, *heads.get(&id)?)));
        if let Some((id, first)) = taken {
            diagnostics.push(
                Diagnostic::error(
                    Code::Duplicate,
                    service.head,
                    format!("the virtual server {id} is defined twice"),
                )
                .related(first, "first defined here"),
            );
            continue;
        }
        heads.extend(model.ids().map(|id| (id, service.head)));
        resolved.push((model, service.head));
    }
    check_limits(&resolved, diagnostics);
    resolved.into_iter().map(|(service, _)| service).collect()
}

fn check_limits(services: &[(VirtualServer, Span)], diagnostics: &mut Vec<Diagnostic>) {
    let mut exceeded = |span: Span, what: &str, count: usize, limit: u32| {
        if count > limit as usize {
            diagnostics.push(Diagnostic::error(
                Code::LimitExceeded,
                span,
                format!("{count} {what}; the data plane has room for {limit}"),
            ));
        }
    };
    let last = services.last().map(|(_, head)| *head).unwrap_or_default();
    // The sorry server needs room of its own. Each address of a group has all servers for itself.
    let size = |service: &VirtualServer| {
        service.real_servers.len() + usize::from(service.sorry_server.is_some())
    };
    let addresses = services.iter().map(|(service, _)| service.ids().count());
    let servers = services
        .iter()
        .map(|(service, _)| service.ids().count() * size(service));
    exceeded(last, "virtual servers", addresses.sum(), MAX_SERVICES);
    exceeded(last, "real servers in all", servers.sum(), MAX_DESTS);
    for (service, head) in services {
        exceeded(*head, "real servers", size(service), MAX_SERVICE_DESTS);
    }
}

struct Resolver<'a> {
    raw: &'a RawVirtualServer,
    config: &'a RawConfig,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Resolver<'_> {
    fn resolve(&mut self) -> Option<VirtualServer> {
        let raw = self.raw;
        // A head that says no address was reported; what the block lacks is not the point.
        raw.identity.as_ref()?;
        let scheduler = self.scheduler();
        let method = self.method();
        let protocol = self.protocol();
        let ids = identity::services(raw, protocol, self.config, self.diagnostics)?;
        if raw.real_servers.is_empty() {
            self.diagnostics.push(Diagnostic::warning(
                Code::EmptyBlock,
                raw.head,
                "this virtual server has no real servers; it is ignored",
            ));
            return None;
        }
        let persistence = self.persistence(&ids);
        let real_servers = real_server::Resolver {
            service: raw,
            config: self.config,
            ids: &ids,
            method,
            diagnostics: self.diagnostics,
        };
        let (real_servers, sorry_server) = real_servers.resolve();
        if protocol == Protocol::Sctp {
            let sorry = sorry_server.iter().map(|server| server.method);
            self.no_sum_of_sctp(real_servers.iter().map(|rs| rs.method).chain(sorry));
        }
        let weight = real_servers.iter().map(|rs| u64::from(rs.weight)).sum();
        let (quorum, hysteresis) = self.quorum(weight);
        let one_packet = self.one_packet(protocol);
        let flags = scheduler.map(|scheduler| self.flags(scheduler));
        let (id, also) = ids.split_first()?;
        Some(VirtualServer {
            id: *id,
            also: also.to_vec(),
            group: self.group(),
            scheduler: scheduler?,
            flags: flags.unwrap_or_default(),
            persistence,
            one_packet,
            real_servers,
            quorum,
            hysteresis,
            quorum_up: self.program(raw.quorum_up.as_ref()),
            quorum_down: self.program(raw.quorum_down.as_ref()),
            omega: is_set(raw.omega),
            sorry_server,
        })
    }

    /// The packet program derives GRE's checksum from that of TCP or UDP, which is the same kind of
    /// sum; SCTP's is another.
    fn no_sum_of_sctp(&mut self, mut methods: impl Iterator<Item = ForwardMethod>) {
        if methods.any(|method| method == ForwardMethod::Tun(Tunnel::Gre { checksum: true })) {
            let message = "SCTP through GRE with checksums is not supported";
            self.diagnostics.push(
                Diagnostic::error(Code::NotSupported, self.raw.head, message)
                    .hint("write `type gre nocsum`: SCTP has a checksum of its own"),
            );
        }
    }

    fn group(&self) -> Option<String> {
        match &self.raw.identity.as_ref()?.value {
            RawIdentity::Group(name) => Some(name.clone()),
            RawIdentity::Address(..) => None,
        }
    }

    fn scheduler(&mut self) -> Option<Scheduler> {
        match self.raw.scheduler.map(|asked| (asked.value, asked.span)) {
            Some((Choice::Done(scheduler), _)) => Some(scheduler),
            Some((Choice::NotYet(name), span)) => {
                let message = format!("the scheduler {name} is not supported");
                self.diagnostics.push(
                    Diagnostic::error(Code::NotSupported, span, message)
                        .hint("wlc looks at all servers where it looks at two"),
                );
                None
            }
            None => {
                self.default_used("no `lb_algo` is set: the scheduler is wlc, as with keepalived");
                Some(Scheduler::Wlc)
            }
        }
    }

    fn method(&mut self) -> ForwardMethod {
        if let Some(asked) = self.raw.method {
            return asked.value;
        }
        let each = |rs: &super::super::raw::RawRealServer| rs.method.is_some();
        if !self.raw.real_servers.iter().all(each) {
            self.default_used(
                "no `lb_kind` is set: packets are forwarded by NAT, as with keepalived",
            );
        }
        ForwardMethod::Nat
    }

    fn protocol(&mut self) -> Protocol {
        if let Some(asked) = self.raw.protocol {
            return asked.value;
        }
        self.diagnostics.push(
            Diagnostic::warning(
                Code::DefaultUsed,
                self.raw.head,
                "no `protocol` is set: the service is UDP, as with keepalived",
            )
            .hint("write `protocol TCP` if it is not"),
        );
        Protocol::Udp
    }

    fn default_used(&mut self, message: &str) {
        self.diagnostics.push(Diagnostic::warning(
            Code::DefaultUsed,
            self.raw.head,
            message,
        ));
    }

    fn flags(&mut self, scheduler: Scheduler) -> SchedulerFlags {
        let mut flags = SchedulerFlags::default();
        for Spanned { value: flag, span } in &self.raw.flags {
            let RawFlag { name, only, bit } = flag;
            let has_flags = matches!(scheduler, Scheduler::Sh | Scheduler::Mh);
            let applies = match only {
                Some(only) => *only == scheduler,
                None => has_flags && *bit != FlagBit::Third,
            };
            match bit {
                _ if !applies => self.diagnostics.push(Diagnostic::warning(
                    Code::NoEffect,
                    *span,
                    format!("`{name}` is ignored: the scheduler {scheduler} has no such flag"),
                )),
                FlagBit::Port => flags.port = true,
                FlagBit::Fallback => flags.fallback = true,
                FlagBit::Third => {}
            }
        }
        flags
    }

    fn one_packet(&mut self, protocol: Protocol) -> bool {
        let Some(asked) = self.raw.one_packet else {
            return false;
        };
        // KEEPALIVED: cleared.
        if protocol != Protocol::Udp {
            self.diagnostics.push(Diagnostic::warning(
                Code::Conflict,
                asked.span,
                format!("`ops` is ignored: it is for UDP, and this service is {protocol}"),
            ));
        }
        protocol == Protocol::Udp
    }

    fn persistence(&mut self, ids: &[ServiceId]) -> Option<Persistence> {
        let asked = self.raw.persistence_timeout.map(|timeout| timeout.value);
        let granularity = self.granularity(ids);
        if ids.iter().any(|id| id.port == 0)
            && asked.or(granularity.map(|_| Duration::ZERO)).is_none()
        {
            // KEEPALIVED: its own words and number.
            let span = self
                .raw
                .identity
                .as_ref()
                .map_or(self.raw.head, |identity| match identity.value {
                    RawIdentity::Address(..) => identity.span,
                    RawIdentity::Group(_) => self.raw.head,
                });
            self.diagnostics.push(
                Diagnostic::warning(
                    Code::DefaultUsed,
                    span,
                    "port 0, all ports, is for persistent services only: \
                     `persistence_timeout 360` is taken as said",
                )
                .hint("write it down, or give the service a port"),
            );
        } else if asked.or(granularity.map(|_| Duration::ZERO)).is_none() {
            return None;
        }
        let widest = ids.iter().map(|id| width(*id)).max().unwrap_or(32);
        Some(Persistence {
            timeout: asked.unwrap_or(DEFAULT_PERSISTENCE),
            granularity: granularity.unwrap_or(widest),
        })
    }

    /// `persistence_granularity`, if it fits the addresses.
    fn granularity(&mut self, ids: &[ServiceId]) -> Option<u8> {
        let asked = self.raw.persistence_granularity?;
        let any_v6 = ids.iter().any(|id| id.addr.is_ipv6());
        let why = match asked.value {
            Granularity::Mask(_) if any_v6 => "IPv6 wants a prefix length, 1 to 128",
            Granularity::Prefix(bits) if bits > 32 && !any_v6 => {
                "an IPv4 prefix has 32 bits at most"
            }
            Granularity::Mask(bits) | Granularity::Prefix(bits) => return Some(bits),
        };
        self.diagnostics.push(Diagnostic::warning(
            Code::InvalidValue,
            asked.span,
            format!("`persistence_granularity` is ignored: {why}"),
        ));
        None
    }

    fn quorum(&mut self, weight: u64) -> (u32, u32) {
        let mut quorum = self.raw.quorum.map_or(1, |quorum| quorum.value);
        if let Some(asked) = self.raw.quorum
            && (1..u64::from(quorum)).contains(&weight)
        {
            // KEEPALIVED: does the same, and likewise with the hysteresis below.
            quorum = u32::try_from(weight).unwrap_or(quorum).max(1);
            self.diagnostics.push(Diagnostic::warning(
                Code::OutOfRange,
                asked.span,
                format!(
                    "`quorum` {} is more than all real servers weigh, {weight}; {quorum} is taken",
                    asked.value
                ),
            ));
        }
        let mut hysteresis = self.raw.hysteresis.map_or(0, |hysteresis| hysteresis.value);
        if let Some(asked) = self.raw.hysteresis
            && hysteresis >= quorum
        {
            hysteresis = quorum - 1;
            self.diagnostics.push(Diagnostic::warning(
                Code::OutOfRange,
                asked.span,
                format!(
                    "`hysteresis` {} is not below the quorum of {quorum}; {hysteresis} is taken",
                    asked.value
                ),
            ));
        }
        let needed = u64::from(quorum) + u64::from(hysteresis);
        if let Some(asked) = self.raw.quorum.or(self.raw.hysteresis)
            && needed > weight
        {
            self.diagnostics.push(Diagnostic::warning(
                Code::Conflict,
                asked.span,
                format!(
                    "quorum is gained at a weight of {needed}, but the real servers weigh {weight} \
                     in all: it is never there"
                ),
            ));
        }
        (quorum, hysteresis)
    }

    fn program(&self, line: Option<&Spanned<Program>>) -> Option<Program> {
        line.map(|line| track::with_default_user(line.value.clone(), &self.config.global))
    }
}

/// Bits of an address of a service.
fn width(id: ServiceId) -> u8 {
    if id.addr.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
