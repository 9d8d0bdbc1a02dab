// SPDX-License-Identifier: MIT OR Apache-2.0
//! `virtual_server` blocks: identity, forwarding, real servers, and what their checks inherit.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use lb_common::abi::{MAX_DESTS, MAX_SERVICE_DESTS, MAX_SERVICES};

use super::super::args::Spanned;
use super::super::diag::{Code, Diagnostic};
use super::super::model::{
    ForwardMethod, Persistence, Protocol, RealServer, Scheduler, SchedulerFlags, ServiceId,
    TcpCheck, VirtualServer,
};
use super::super::raw::{
    Choice, RawCheck, RawConfig, RawGlobal, RawRealServer, RawTiming, RawVirtualServer,
};
use super::super::source::Span;

const DEFAULT_RETRY: u32 = 1;
const DEFAULT_DELAY_BEFORE_RETRY: Duration = Duration::from_secs(1);
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_DELAY_LOOP: Duration = Duration::from_mins(1);

/// Resolves all services.
pub(super) fn virtual_servers(
    raw: &RawConfig,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<VirtualServer> {
    let mut resolved: Vec<(VirtualServer, Span)> = Vec::new();
    let mut heads: HashMap<ServiceId, Span> = HashMap::new();
    for service in &raw.virtual_servers {
        let mut one = Resolver {
            raw: service,
            global: &raw.global,
            diagnostics,
        };
        let Some(model) = one.resolve() else { continue };
        if let Some(first) = heads.insert(model.id, service.head) {
            diagnostics.push(
                Diagnostic::error(
                    Code::Duplicate,
                    service.head,
                    format!("the virtual server {} is defined twice", model.id),
                )
                .related(first, "first defined here"),
            );
            continue;
        }
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
    let servers = services
        .iter()
        .map(|(service, _)| service.real_servers.len())
        .sum();
    exceeded(last, "virtual servers", services.len(), MAX_SERVICES);
    exceeded(last, "real servers in all", servers, MAX_DESTS);
    for (service, head) in services {
        exceeded(
            *head,
            "real servers",
            service.real_servers.len(),
            MAX_SERVICE_DESTS,
        );
    }
}

struct Resolver<'a> {
    raw: &'a RawVirtualServer,
    global: &'a RawGlobal,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Resolver<'_> {
    fn resolve(&mut self) -> Option<VirtualServer> {
        let raw = self.raw;
        let scheduler = self.scheduler();
        let method = self.method();
        let protocol = self.protocol();
        let addr = raw.addr?;
        let (ip, port) = addr.value;
        if port == 0 {
            self.not_supported(
                addr.span,
                "a virtual server for all ports (port 0)",
                "give it a port",
            );
            return None;
        }
        if raw.real_servers.is_empty() {
            self.diagnostics.push(Diagnostic::warning(
                Code::EmptyBlock,
                raw.head,
                "this virtual server has no real servers; it is ignored",
            ));
            return None;
        }
        let id = ServiceId {
            addr: IpAddr::V4(ip),
            port,
            protocol: protocol?,
        };
        Some(VirtualServer {
            id,
            also: Vec::new(),
            scheduler: scheduler?,
            flags: SchedulerFlags::default(),
            persistence: raw.persistence_timeout.map(|timeout| Persistence {
                timeout: timeout.value,
                granularity: 32,
            }),
            one_packet: false,
            real_servers: self.real_servers(port, method?),
        })
    }

    fn scheduler(&mut self) -> Option<Scheduler> {
        match self.raw.scheduler.map(|asked| (asked.value, asked.span)) {
            Some((Choice::Done(scheduler), _)) => Some(scheduler),
            Some((Choice::NotYet(name), span)) => {
                self.not_supported(
                    span,
                    &format!("the scheduler {name}"),
                    "rr and wrr are there",
                );
                None
            }
            // A head that says no address was reported; what the block lacks is not the point.
            None if self.raw.addr.is_none() => None,
            None => {
                self.not_supported(
                    self.raw.head,
                    "without `lb_algo` the scheduler is wlc, which",
                    "write `lb_algo wrr` or `lb_algo rr`",
                );
                None
            }
        }
    }

    fn method(&mut self) -> Option<ForwardMethod> {
        if let Some(asked) = self.raw.method {
            return self.one_method(asked);
        }
        self.raw.addr?;
        self.not_supported(
            self.raw.head,
            "without `lb_kind` packets are forwarded by NAT, which",
            "write `lb_kind DR` if the real servers hold the virtual address, too",
        );
        None
    }

    fn one_method(&mut self, asked: Spanned<Choice<ForwardMethod>>) -> Option<ForwardMethod> {
        match asked.value {
            Choice::Done(method) => Some(method),
            Choice::NotYet(name) => {
                self.not_supported(asked.span, &format!("forwarding by {name}"), "DR is there");
                None
            }
        }
    }

    fn protocol(&mut self) -> Option<Protocol> {
        match self.raw.protocol.map(|asked| (asked.value, asked.span)) {
            Some((Choice::Done(protocol), _)) => Some(protocol),
            Some((Choice::NotYet(name), span)) => {
                self.not_supported(
                    span,
                    &format!("the protocol {name}"),
                    "TCP and UDP are there",
                );
                None
            }
            None if self.raw.addr.is_none() => None,
            None => {
                self.diagnostics.push(
                    Diagnostic::warning(
                        Code::DefaultUsed,
                        self.raw.head,
                        "no `protocol` is set: the service is UDP, as with keepalived",
                    )
                    .hint("write `protocol TCP` if it is not"),
                );
                Some(Protocol::Udp)
            }
        }
    }

    fn not_supported(&mut self, span: Span, what: &str, hint: &str) {
        self.diagnostics.push(
            Diagnostic::error(
                Code::NotSupported,
                span,
                format!("{what} is not supported yet"),
            )
            .hint(hint),
        );
    }

    fn real_servers(&mut self, service_port: u16, method: ForwardMethod) -> Vec<RealServer> {
        let mut servers: Vec<(RealServer, Span)> = Vec::new();
        for raw in &self.raw.real_servers {
            let Some(server) = self.real_server(raw, service_port, method) else {
                continue;
            };
            if let Some((_, first)) = servers.iter().find(|(known, _)| known.addr == server.addr) {
                self.diagnostics.push(
                    Diagnostic::warning(
                        Code::Duplicate,
                        raw.head,
                        format!(
                            "the real server {} is listed twice; the first counts",
                            server.addr
                        ),
                    )
                    .related(*first, "first listed here"),
                );
                continue;
            }
            servers.push((server, raw.head));
        }
        servers.into_iter().map(|(server, _)| server).collect()
    }

    fn real_server(
        &mut self,
        raw: &RawRealServer,
        service_port: u16,
        method: ForwardMethod,
    ) -> Option<RealServer> {
        let method = match raw.method {
            Some(method) => self.one_method(method)?,
            None => method,
        };
        let written = raw.target(service_port)?;
        let mut addr = written.value;
        if addr.port() != service_port {
            self.diagnostics.push(
                Diagnostic::warning(
                    Code::Conflict,
                    written.span,
                    format!(
                        "DR does not change ports: port {} becomes the service's, {service_port}",
                        addr.port()
                    ),
                )
                .hint(format!("checks still connect to port {}", addr.port())),
            );
            addr.set_port(service_port);
        }
        if raw.checks.is_empty() {
            self.diagnostics.push(Diagnostic::info(
                Code::DefaultUsed,
                raw.head,
                "this real server has no check that xlvs can do: it counts as up for ever",
            ));
        }
        let checks = raw
            .checks
            .iter()
            .map(|check| self.check(check, raw, written.value))
            .collect();
        let inhibit = raw.inhibit_on_failure.or(self.raw.inhibit_on_failure);
        Some(RealServer {
            addr: SocketAddr::V4(addr),
            method,
            weight: raw
                .weight
                .or(self.raw.weight)
                .map_or(1, |weight| weight.value),
            upper_threshold: 0,
            lower_threshold: 0,
            inhibit_on_failure: inhibit.is_some_and(|inhibit| inhibit.value),
            checks,
        })
    }

    /// A check has its own settings, else its real server's, else its virtual server's.
    fn check(&self, raw: &RawCheck, server: &RawRealServer, written: SocketAddrV4) -> TcpCheck {
        let levels = [&raw.timing, &server.timing, &self.raw.timing];
        let delay_loop = inherited(levels, |t| t.delay_loop).unwrap_or(DEFAULT_DELAY_LOOP);
        let log_all = raw.log_all_failures.or(self.global.log_all_failures);
        TcpCheck {
            // KEEPALIVED: probes the port as written, also where DR changed it for forwarding.
            target: SocketAddr::new(
                raw.connect_ip.map_or(*written.ip(), |ip| ip.value).into(),
                raw.connect_port.map_or(written.port(), |port| port.value),
            ),
            source: source(raw),
            bind_if: raw.bind_if.as_ref().map(|name| name.value.clone()),
            connect_timeout: inherited(levels, |t| t.connect_timeout)
                .unwrap_or(DEFAULT_CONNECT_TIMEOUT),
            fwmark: raw.fwmark.map_or(0, |mark| mark.value),
            retry: inherited(levels, |t| t.retry).unwrap_or(DEFAULT_RETRY),
            delay_before_retry: inherited(levels, |t| t.delay_before_retry)
                .unwrap_or(DEFAULT_DELAY_BEFORE_RETRY),
            delay_loop,
            warmup: inherited(levels, |t| t.warmup).unwrap_or(delay_loop),
            alpha: inherited(levels, |t| t.alpha).unwrap_or(false),
            log_all_failures: log_all.is_some_and(|log| log.value),
        }
    }
}

fn inherited<T>(
    levels: [&RawTiming; 3],
    setting: impl Fn(&RawTiming) -> Option<Spanned<T>>,
) -> Option<T> {
    levels
        .into_iter()
        .find_map(setting)
        .map(|found| found.value)
}

fn source(raw: &RawCheck) -> Option<SocketAddr> {
    if raw.bindto.is_none() && raw.bind_port.is_none() {
        return None;
    }
    Some(SocketAddr::new(
        raw.bindto
            .map_or(Ipv4Addr::UNSPECIFIED, |ip| ip.value)
            .into(),
        raw.bind_port.map_or(0, |port| port.value),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::super::{Loaded, parse};
    use super::*;

    fn service(settings: &str) -> Loaded {
        parse(
            "t",
            &format!(
                "virtual_server 192.0.2.1 80 {{\nlb_algo wrr\nlb_kind DR\nprotocol TCP\n{settings}\n}}\n"
            ),
        )
    }

    fn codes(loaded: &Loaded) -> Vec<&'static str> {
        loaded.diagnostics.iter().map(|d| d.code.as_str()).collect()
    }

    #[test]
    fn a_check_inherits_from_its_real_server_and_that_from_its_virtual_server() {
        let loaded = service(
            "delay_loop 6\nretry 2\nconnect_timeout 9\nalpha\nreal_server 192.0.2.2 80 {\n\
             retry 3\nTCP_CHECK {\nconnect_timeout 4\n}\n}",
        );
        let check = &loaded.config.virtual_servers[0].real_servers[0].checks[0];
        assert_eq!(check.retry, 3);
        assert_eq!(check.connect_timeout, Duration::from_secs(4));
        assert_eq!(check.delay_loop, Duration::from_secs(6));
        assert_eq!(check.warmup, check.delay_loop);
        assert_eq!(check.delay_before_retry, Duration::from_secs(1));
        assert!(check.alpha);
        assert_eq!(check.target, "192.0.2.2:80".parse().unwrap());
        assert_eq!(codes(&loaded), Vec::<&str>::new());
    }

    #[test]
    fn dr_keeps_the_services_port_and_probes_the_written_one() {
        let loaded = service("real_server 192.0.2.2 8080 {\nTCP_CHECK {\n}\n}");
        let server = &loaded.config.virtual_servers[0].real_servers[0];
        assert_eq!(server.addr.port(), 80);
        assert_eq!(server.checks[0].target.port(), 8080);
        assert_eq!(codes(&loaded), ["conflict"]);
    }

    #[test]
    fn the_second_of_two_equal_real_servers_is_left_out() {
        let loaded = service(
            "real_server 192.0.2.2 80 {\nweight 3\nTCP_CHECK {\n}\n}\nreal_server 192.0.2.2 80 {\nTCP_CHECK {\n}\n}",
        );
        let servers = &loaded.config.virtual_servers[0].real_servers;
        assert_eq!((servers.len(), servers[0].weight), (1, 3));
        assert_eq!(codes(&loaded), ["duplicate"]);
    }

    #[test]
    fn what_would_forward_differently_is_an_error() {
        let check = "real_server 192.0.2.2 80 {\nTCP_CHECK {\n}\n}";
        for settings in [
            format!("lb_kind NAT\n{check}"),
            format!("lb_kind TUN\n{check}"),
            format!("lb_algo wlc\n{check}"),
            format!("protocol SCTP\n{check}"),
            format!("sorry_server 192.0.2.9 80\n{check}"),
            format!("ops\n{check}"),
            "real_server 192.0.2.2 80 {\nHTTP_GET {\nurl {\npath /\n}\n}\n}".to_owned(),
            "real_server 2001:db8::1 80 {\nTCP_CHECK {\n}\n}".to_owned(),
            "real_server 192.0.2.2 80 {\nlvs_method NAT\nTCP_CHECK {\n}\n}".to_owned(),
        ] {
            assert!(!service(&settings).is_applicable(), "{settings}");
        }
        for head in [
            "192.0.2.1 0",
            "192.0.2.1",
            "fwmark 1",
            "group G",
            "2001:db8::1 80",
        ] {
            let text = format!(
                "virtual_server {head} {{\nlb_algo rr\nlb_kind DR\nprotocol TCP\n{check}\n}}\n"
            );
            assert!(!parse("t", &text).is_applicable(), "{head}");
        }
    }

    #[test]
    fn defaults_that_xlvs_cannot_do_are_errors() {
        let loaded = parse(
            "t",
            "virtual_server 192.0.2.1 80 {\nreal_server 192.0.2.2 80 {\n}\n}\n",
        );
        assert_eq!(
            codes(&loaded),
            ["not-supported", "not-supported", "default-used"],
            "wlc, NAT, UDP"
        );
        assert!(loaded.config.virtual_servers.is_empty());
    }

    #[test]
    fn limits_have_a_diagnostic() {
        let servers: Vec<String> = (0..=MAX_SERVICE_DESTS)
            .map(|n| {
                let (high, low) = (n / 200, n % 200);
                format!("real_server 10.0.{high}.{low} 80 {{\nTCP_CHECK {{\n}}\n}}")
            })
            .collect();
        assert_eq!(codes(&service(&servers.join("\n"))), ["limit-exceeded"]);
    }
}
