// SPDX-License-Identifier: MIT OR Apache-2.0
//! `real_server` blocks, the sorry server, and the checks with what they inherit.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::super::args::Spanned;
use super::super::diag::{Code, Diagnostic};
use super::super::model::{ForwardMethod, Program, RealServer, ServiceId, SorryServer, TcpCheck};
use super::super::raw::{Family, RawCheck, RawConfig, RawRealServer, RawTiming, RawVirtualServer};
use super::super::source::Span;
use super::{is_set, track};

const DEFAULT_RETRY: u32 = 1;
const DEFAULT_DELAY_BEFORE_RETRY: Duration = Duration::from_secs(1);
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_DELAY_LOOP: Duration = Duration::from_mins(1);

/// The servers of one virtual server.
pub(super) struct Resolver<'a> {
    pub(super) service: &'a RawVirtualServer,
    pub(super) config: &'a RawConfig,
    /// Its addresses, at least one.
    pub(super) ids: &'a [ServiceId],
    /// Its `lb_kind`.
    pub(super) method: ForwardMethod,
    pub(super) diagnostics: &'a mut Vec<Diagnostic>,
}

impl Resolver<'_> {
    /// The real servers, and the sorry server.
    pub(super) fn resolve(mut self) -> (Vec<RealServer>, Option<SorryServer>) {
        let servers = self.real_servers();
        let sorry = self.sorry_server(&servers);
        (servers, sorry)
    }

    fn real_servers(&mut self) -> Vec<RealServer> {
        let mut servers: Vec<(RealServer, Span)> = Vec::new();
        for raw in &self.service.real_servers {
            let Some(server) = self.real_server(raw) else {
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

    fn real_server(&mut self, raw: &RawRealServer) -> Option<RealServer> {
        let method = raw.method.map_or(self.method, |method| method.value);
        let written = raw.target(self.port())?;
        self.check_family(written, method, "real server")?;
        let addr = self.forwarded(written, method, true);
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
        let service = self.service;
        let (upper_threshold, lower_threshold) = self.thresholds(raw);
        Some(RealServer {
            addr,
            method,
            weight: raw
                .weight
                .or(service.weight)
                .map_or(1, |weight| weight.value),
            upper_threshold,
            lower_threshold,
            inhibit_on_failure: is_set(raw.inhibit_on_failure.or(service.inhibit_on_failure)),
            checks,
            notify_up: self.program(raw.notify_up.as_ref()),
            notify_down: self.program(raw.notify_down.as_ref()),
        })
    }

    fn sorry_server(&mut self, servers: &[RealServer]) -> Option<SorryServer> {
        let raw = self.service;
        let Some(line) = raw.sorry_server else {
            let useless = [
                raw.sorry_inhibit.map(|said| said.span),
                raw.sorry_method.map(|said| said.span),
            ];
            for span in useless.into_iter().flatten() {
                let message = "this is ignored: there is no `sorry_server`";
                self.diagnostics
                    .push(Diagnostic::warning(Code::NoEffect, span, message));
            }
            return None;
        };
        let port = self.port();
        let written = line.map(|(ip, given)| SocketAddr::new(ip, given.unwrap_or(port)));
        let method = raw.sorry_method.map_or(self.method, |method| method.value);
        self.check_family(written, method, "sorry server")?;
        let addr = self.forwarded(written, method, false);
        let twin = servers.iter().find(|rs| rs.addr == addr);
        if twin.is_some_and(|twin| twin.method != method) {
            self.diagnostics.push(Diagnostic::warning(
                Code::Conflict,
                written.span,
                format!("{addr} is a real server, too, with another forwarding method"),
            ));
        }
        Some(SorryServer {
            addr,
            method,
            inhibit: is_set(raw.sorry_inhibit),
        })
    }

    /// Port of the service; of a group, that of its first address.
    fn port(&self) -> u16 {
        self.ids.first().map_or(0, |id| id.port)
    }

    /// KEEPALIVED: a server of another address family is left out unless it is reached by TUN.
    fn check_family(
        &mut self,
        written: Spanned<SocketAddr>,
        method: ForwardMethod,
        what: &str,
    ) -> Option<()> {
        let own = Family::of(written.value.ip());
        let other = self.ids.iter().find(|id| Family::of(id.addr) != own);
        let Some(other) = other.filter(|_| !method.mixes_families()) else {
            return Some(());
        };
        let mixed = self.ids.iter().any(|id| Family::of(id.addr) == own);
        self.diagnostics.push(if mixed {
            Diagnostic::error(
                Code::Conflict,
                written.span,
                format!("this {what} is {own}, and cannot serve {} by {method}", other.addr),
            )
            .hint("a group of both families needs TUN; or make two virtual servers of it")
        } else {
            Diagnostic::warning(
                Code::Conflict,
                written.span,
                format!(
                    "this {what} is {own}, and its service is not; it is left out, as with keepalived"
                ),
            )
            .hint("only TUN leads from one address family to the other")
        });
        None
    }

    /// Where packets go: with DR and TUN the port stays the service's.
    fn forwarded(
        &mut self,
        written: Spanned<SocketAddr>,
        method: ForwardMethod,
        checked: bool,
    ) -> SocketAddr {
        let Some(service) = self.ids.first() else {
            return written.value;
        };
        let addr = method.target(written.value, *service);
        if addr != written.value {
            let port = written.value.port();
            let service = match service.port {
                0 => "every port as it is".to_owned(),
                port => format!("the service's, {port}"),
            };
            let diagnostic = Diagnostic::warning(
                Code::Conflict,
                written.span,
                format!("{method} does not change ports: port {port} becomes {service}"),
            );
            self.diagnostics.push(if checked {
                diagnostic.hint(format!("checks still connect to port {port}"))
            } else {
                diagnostic
            });
        }
        addr
    }

    /// IPVS refuses a server whose lower threshold is above its upper one (ERANGE).
    fn thresholds(&mut self, raw: &RawRealServer) -> (u32, u32) {
        let upper = raw.upper_threshold.map_or(0, |upper| upper.value);
        let lower = raw.lower_threshold.map_or(0, |lower| lower.value);
        if let Some(said) = raw.lower_threshold
            && lower > upper
        {
            let message = format!("`lthreshold` {lower} is above `uthreshold`, {upper}");
            self.diagnostics.push(
                Diagnostic::error(Code::Conflict, said.span, message)
                    .hint("IPVS would not take this real server"),
            );
        }
        (upper, lower)
    }

    /// A check has its own settings, else its real server's, else its virtual server's.
    fn check(&mut self, raw: &RawCheck, server: &RawRealServer, written: SocketAddr) -> TcpCheck {
        let levels = [&raw.timing, &server.timing, &self.service.timing];
        let delay_loop = inherited(levels, |t| t.delay_loop).unwrap_or(DEFAULT_DELAY_LOOP);
        let log_all = raw.log_all_failures.or(self.config.global.log_all_failures);
        // KEEPALIVED: probes the port as written, also where DR changed it for forwarding.
        let target = SocketAddr::new(
            raw.connect_ip.map_or(written.ip(), |ip| ip.value),
            raw.connect_port.map_or(written.port(), |port| port.value),
        );
        if target.port() == 0 {
            self.diagnostics.push(
                Diagnostic::error(
                    Code::MissingSetting,
                    server.head,
                    "the check of this real server has no port to connect to",
                )
                .hint("write `connect_port` in it"),
            );
        }
        TcpCheck {
            target,
            source: self.source(raw, target.ip()),
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
            log_all_failures: is_set(log_all),
        }
    }

    /// Source of the probe; none if the kernel is to choose.
    fn source(&mut self, raw: &RawCheck, target: IpAddr) -> Option<SocketAddr> {
        if raw.bindto.is_none() && raw.bind_port.is_none() {
            return None;
        }
        if let Some(bindto) = raw.bindto
            && Family::of(bindto.value) != Family::of(target)
        {
            self.diagnostics.push(Diagnostic::error(
                Code::Conflict,
                bindto.span,
                format!(
                    "`bindto` is {}, and the check connects to {target}",
                    Family::of(bindto.value)
                ),
            ));
        }
        let any = match target {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Some(SocketAddr::new(
            raw.bindto.map_or(any, |ip| ip.value),
            raw.bind_port.map_or(0, |port| port.value),
        ))
    }

    fn program(&self, line: Option<&Spanned<Program>>) -> Option<Program> {
        line.map(|line| track::with_default_user(line.value.clone(), &self.config.global))
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
