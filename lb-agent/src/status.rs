// SPDX-License-Identifier: MIT OR Apache-2.0
//! Collects the state of a running agent from its rooms.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::process;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::app::Agent;
use crate::bfd;
use crate::bfd::sessions::SessionStatus;
use crate::config::model::{ForwardMethod, ServiceId, VirtualServer, VrrpInstance, VrrpVersion};
use crate::control::status as wire;
use crate::dataplane::rates::Estimator;
use crate::dataplane::{Dataplane, ServerTraffic, Stats};
use crate::health::{Quorums, ServerHealth, ServerKey, Snapshot};
use crate::supervisor::link::Link;
use crate::vrrp::counters::Counter;
use crate::vrrp::priority::Condition;
use crate::vrrp::status::{InstanceStatus, TrackStatus, unix_ms};

/// Everything, as `xlvs status` shows it.
pub(crate) fn collect(agent: &mut Agent) -> Result<wire::Status> {
    let health = agent.runner.snapshot();
    let instances = agent.driver.snapshot();
    let stats = match agent.driver.host().dataplane() {
        Some(dataplane) => dataplane.stats()?,
        None => Stats::default(),
    };
    let known = Known {
        stats: &stats,
        health: &health,
        quorums: &agent.quorums,
        rates: &agent.rates,
        dataplane: agent.driver.host().dataplane(),
    };
    let services = agent.config.virtual_servers.iter();
    let services = services.flat_map(|vs| vs.ids().map(|id| known.service(vs, id)));
    let services = services.collect();
    let configured: HashMap<&str, &VrrpInstance> = agent
        .config
        .vrrp_instances
        .iter()
        .map(|i| (i.name.as_str(), &**i))
        .collect();
    Ok(wire::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: process::id(),
        supervisor: agent.link.as_ref().map(Link::supervisor),
        rt_priority: agent.realtime.priority,
        memory_locked: agent.realtime.locked,
        crashes: agent.link.as_ref().map_or(0, Link::crashes),
        config: agent.config_path.display().to_string(),
        router_id: agent
            .config
            .global
            .router_id
            .clone()
            .unwrap_or_else(host_name),
        instances: instances
            .iter()
            .map(|i| wire::Instance {
                accept_mode: !agent.firewall.stands()
                    || configured.get(i.name.as_str()).is_none_or(|c| c.accept),
                ..instance(i, configured.get(i.name.as_str()).copied())
            })
            .collect(),
        bfd: agent.bfd.snapshot().iter().map(session).collect(),
        bfd_strangers: figures(&agent.bfd.strangers()),
        program: program(agent),
        services,
        verdicts: stats
            .verdicts
            .iter()
            .map(|(name, n)| ((*name).to_owned(), *n))
            .collect(),
    })
}

fn session(session: &SessionStatus) -> wire::Bfd {
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    let config = &session.config;
    wire::Bfd {
        name: config.name.clone(),
        state: session.state.to_string(),
        diagnostic: session.diag.to_string(),
        since_seconds: unix_ms().saturating_sub(session.since_unix_ms) as f64 / 1000.0,
        neighbor: config.neighbor,
        source: config.source,
        port: config.port(),
        remote_state: session.remote_state.to_string(),
        remote_diagnostic: session.remote_diag.to_string(),
        discriminator: session.discriminators.0,
        remote_discriminator: session.discriminators.1,
        tx_interval_ms: millis(session.tx_interval),
        detection_time_ms: session.detection_time.map(millis),
        counters: figures(&session.counters),
    }
}

fn figures(counters: &bfd::counters::Counters) -> BTreeMap<String, u64> {
    let figures = counters.iter();
    figures.map(|(name, n)| (name.to_owned(), n)).collect()
}

fn instance(i: &InstanceStatus, configured: Option<&VrrpInstance>) -> wire::Instance {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64;
    let seconds_since = |unix_ms: u64| now.saturating_sub(unix_ms) as f64 / 1000.0;
    wire::Instance {
        name: i.name.clone(),
        state: i.state.to_string(),
        interface: i.interface.clone(),
        vrid: i.vrid,
        version: match i.version {
            VrrpVersion::V2 => 2,
            VrrpVersion::V3 => 3,
        },
        priority: i.priority,
        effective_priority: i.effective_priority,
        advert_interval_seconds: configured.map_or(0.0, |c| c.advert_interval.as_secs_f64()),
        master: i.master,
        since_seconds: seconds_since(i.since_unix_ms),
        vips: configured
            .into_iter()
            .flat_map(VrrpInstance::addresses)
            .map(|vip| format!("{}/{}", vip.addr, vip.prefix_len))
            .collect(),
        accept_mode: true,
        counters: Counter::ALL
            .iter()
            .map(|counter| (counter.name().to_owned(), i.counters.of(*counter)))
            .collect(),
        rivals: i
            .rivals
            .iter()
            .map(|rival| wire::Rival {
                address: rival.address,
                priority: rival.priority,
                heard_seconds_ago: rival.heard_seconds_ago,
                claims_seconds: rival.claims_seconds,
                adverts: rival.adverts,
                split_brain: rival.split_brain,
                refused: rival.refused.map(str::to_owned),
            })
            .collect(),
        tracks: i.tracks.iter().map(track).collect(),
        group: configured.and_then(|c| c.group.clone()),
    }
}

fn track(status: &TrackStatus) -> wire::Track {
    let what = &status.track.what;
    let (state, up) = match status.condition {
        Condition::Up => ("up", Some(true)),
        Condition::Down => ("down", Some(false)),
        Condition::Unknown => ("unknown", None),
        Condition::Disabled => ("disabled", None),
        Condition::Value(0) => ("0", Some(true)),
        Condition::Value(_) => ("value", Some(false)),
    };
    wire::Track {
        kind: what.kind().to_owned(),
        name: what.name().to_owned(),
        up,
        state: match status.condition {
            Condition::Value(number) => number.to_string(),
            _ => state.to_owned(),
        },
        weight: status.track.weight,
        reverse: status.track.reverse,
    }
}

fn program(agent: &mut Agent) -> wire::Program {
    let followers = agent.followers.count();
    let Some(dataplane) = agent.driver.host().dataplane() else {
        return wire::Program::default();
    };
    wire::Program {
        loaded: true,
        attached: dataplane
            .attached()
            .into_iter()
            .map(|a| wire::Attached {
                interface: a.interface,
                mode: a.mode.to_string(),
            })
            .collect(),
        verified_instructions: dataplane.info().verified_instructions,
        followers,
    }
}

/// What the rooms know, for the services.
struct Known<'a> {
    stats: &'a Stats,
    health: &'a Snapshot,
    quorums: &'a Quorums,
    rates: &'a Estimator,
    dataplane: Option<&'a Dataplane>,
}

impl Known<'_> {
    /// One of the services of `vs`: each address of a group is one.
    fn service(&self, vs: &VirtualServer, id: ServiceId) -> wire::Service {
        let traffic = self.stats.services.iter().find(|s| s.service == id);
        let servers = traffic.map_or(&[][..], |traffic| &traffic.servers);
        let counts = traffic.map(|t| t.counts).unwrap_or_default();
        let holds = self.quorums.holds(vs.id);
        let replaced = vs.sorry_server.is_some() && !holds;
        wire::Service {
            protocol: id.protocol.to_string(),
            address: id.addr,
            port: id.port,
            scheduler: vs.scheduler.to_string(),
            flags: vs.flags.names(vs.scheduler),
            persistence: vs.persistence.map(|persistence| wire::Persistence {
                timeout_seconds: persistence.timeout.as_secs(),
                granularity: persistence.granularity,
            }),
            one_packet: vs.one_packet,
            group: vs.group.clone(),
            quorum: wire::Quorum {
                holds,
                wanted: vs.quorum,
                hysteresis: vs.hysteresis,
            },
            conns: counts.conns,
            in_packets: counts.in_packets,
            in_bytes: counts.in_bytes,
            out_packets: counts.out_packets,
            out_bytes: counts.out_bytes,
            rates: self.rates.rates(id, None),
            real_servers: vs
                .real_servers
                .iter()
                .map(|rs| {
                    let key = ServerKey {
                        service: vs.id,
                        server: rs.addr,
                    };
                    let health = self.health.servers.get(&key);
                    let up = health.is_none_or(|health| health.up);
                    wire::RealServer {
                        weight: rs.weight,
                        effective_weight: if up && !replaced { rs.weight } else { 0 },
                        upper_threshold: rs.upper_threshold,
                        lower_threshold: rs.lower_threshold,
                        state: if up { "UP" } else { "DOWN" }.to_owned(),
                        checks: health.map(checks).unwrap_or_default(),
                        ..self.server(id, rs.addr_for(id), rs.method, servers)
                    }
                })
                .collect(),
            sorry_server: vs.sorry_server.as_ref().map(|sorry| {
                let addr = sorry.method.target(sorry.addr, id);
                wire::RealServer {
                    weight: 1,
                    effective_weight: u32::from(replaced),
                    state: if replaced { "IN USE" } else { "STANDBY" }.to_owned(),
                    ..self.server(id, addr, sorry.method, servers)
                }
            }),
        }
    }

    /// What all servers have; the rest is for the caller to fill in.
    fn server(
        &self,
        service: ServiceId,
        addr: SocketAddr,
        method: ForwardMethod,
        traffic: &[ServerTraffic],
    ) -> wire::RealServer {
        let traffic = traffic.iter().find(|traffic| traffic.server == addr);
        let counts = traffic.map(|traffic| traffic.counts).unwrap_or_default();
        let now = traffic.map(|traffic| traffic.conns).unwrap_or_default();
        let mac = self.dataplane.and_then(|d| d.next_hop(service, addr));
        wire::RealServer {
            address: addr.ip(),
            port: addr.port(),
            method: method.to_string(),
            tunnel: match method {
                ForwardMethod::Tun(tunnel) => Some(tunnel.to_string()),
                ForwardMethod::Nat | ForwardMethod::Dr => None,
            },
            weight: 0,
            effective_weight: 0,
            upper_threshold: 0,
            lower_threshold: 0,
            state: String::new(),
            mac: mac.map(|mac| mac.to_string()),
            checks: Vec::new(),
            active_conns: now.active,
            inactive_conns: now.inactive,
            conns: counts.conns,
            in_packets: counts.in_packets,
            in_bytes: counts.in_bytes,
            out_packets: counts.out_packets,
            out_bytes: counts.out_bytes,
            rates: self.rates.rates(service, Some(addr)),
        }
    }
}

fn checks(health: &ServerHealth) -> Vec<wire::Check> {
    let checks = health.checks.iter().map(|check| wire::Check {
        check: check.check.clone(),
        up: check.up,
        last: check.last.clone(),
    });
    checks.collect()
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "unknown".to_owned())
}
