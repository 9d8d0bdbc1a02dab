// SPDX-License-Identifier: MIT OR Apache-2.0
//! Collects the state of a running agent from its rooms.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddrV4;
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::app::Agent;
use crate::config::model::{
    ForwardMethod, Protocol, RealServer, Scheduler, VirtualServer, VrrpInstance, VrrpVersion,
};
use crate::control::status as wire;
use crate::dataplane::{ServerTraffic, Stats};
use crate::health::{ServerHealth, ServerKey, Snapshot};
use crate::vrrp::counters::Counter;
use crate::vrrp::priority::Condition;
use crate::vrrp::status::{InstanceStatus, TrackStatus};

/// Everything, as `xlvs status` shows it.
pub(crate) fn collect(agent: &mut Agent) -> Result<wire::Status> {
    let health = agent.runner.snapshot();
    let instances = agent.driver.snapshot();
    let stats = match agent.driver.host().dataplane() {
        Some(dataplane) => dataplane.stats()?,
        None => Stats::default(),
    };
    let services = agent
        .config
        .virtual_servers
        .iter()
        .map(|vs| service(vs, &stats, &health, agent.driver.host()))
        .collect();
    let configured: HashMap<&str, &VrrpInstance> = agent
        .config
        .vrrp_instances
        .iter()
        .map(|i| (i.name.as_str(), i))
        .collect();
    Ok(wire::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: process::id(),
        config: agent.config_path.display().to_string(),
        router_id: agent
            .config
            .global
            .router_id
            .clone()
            .unwrap_or_else(host_name),
        instances: instances
            .iter()
            .map(|i| instance(i, configured.get(i.name.as_str()).copied()))
            .collect(),
        program: program(agent),
        services,
        verdicts: stats
            .verdicts
            .iter()
            .map(|(name, n)| ((*name).to_owned(), *n))
            .collect(),
    })
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
    }
}

fn service(
    vs: &VirtualServer,
    stats: &Stats,
    health: &Snapshot,
    director: &crate::director::Director,
) -> wire::Service {
    let traffic = stats.services.iter().find(|s| s.service == vs.id);
    let servers: BTreeMap<SocketAddrV4, &ServerTraffic> = traffic
        .map(|t| t.servers.iter().map(|s| (s.server, s)).collect())
        .unwrap_or_default();
    let counts = traffic.map(|t| t.counts).unwrap_or_default();
    wire::Service {
        protocol: match vs.id.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        }
        .to_owned(),
        address: vs.id.addr,
        port: vs.id.port,
        scheduler: match vs.scheduler {
            Scheduler::Rr => "rr",
            Scheduler::Wrr => "wrr",
        }
        .to_owned(),
        method: match vs.method {
            ForwardMethod::Dr => "DR",
        }
        .to_owned(),
        conns: counts.conns,
        in_packets: counts.in_packets,
        in_bytes: counts.in_bytes,
        real_servers: vs
            .real_servers
            .iter()
            .map(|rs| {
                let key = ServerKey {
                    service: vs.id,
                    server: rs.addr,
                };
                let mac = director
                    .dataplane()
                    .and_then(|d| d.next_hop(vs.id, rs.addr));
                real_server(
                    rs,
                    health.servers.get(&key),
                    servers.get(&rs.addr).copied(),
                    mac.map(|mac| mac.to_string()),
                )
            })
            .collect(),
    }
}

fn real_server(
    rs: &RealServer,
    health: Option<&ServerHealth>,
    traffic: Option<&ServerTraffic>,
    mac: Option<String>,
) -> wire::RealServer {
    let counts = traffic.map(|traffic| traffic.counts).unwrap_or_default();
    let now = traffic.map(|traffic| traffic.conns).unwrap_or_default();
    let up = health.is_none_or(|health| health.up);
    wire::RealServer {
        address: *rs.addr.ip(),
        port: rs.addr.port(),
        weight: rs.weight,
        effective_weight: if up { rs.weight } else { 0 },
        state: if up { "UP" } else { "DOWN" }.to_owned(),
        mac,
        checks: health
            .map(|health| {
                health
                    .checks
                    .iter()
                    .map(|c| wire::Check {
                        check: c.check.clone(),
                        up: c.up,
                        last: c.last.clone(),
                    })
                    .collect()
            })
            .unwrap_or_default(),
        active_conns: now.active,
        inactive_conns: now.inactive,
        conns: counts.conns,
        in_packets: counts.in_packets,
        in_bytes: counts.in_bytes,
    }
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "unknown".to_owned())
}
