// SPDX-License-Identifier: MIT OR Apache-2.0
//! Raw configuration → model: names, defaults, and what does not go together.
//!
//! Comes in: what the file says. Goes out: what it means, and findings. Invariant: the model holds
//! no invalid state; what keepalived would leave out is left out, with a warning; what xlvs cannot
//! do as asked is left out, with an error. Called by `parse`.

mod group;
mod routing;
mod service;
mod track;
mod vrrp;

use std::net::IpAddr;
use std::time::Duration;

use super::args::Spanned;
use super::diag::Diagnostic;
use super::model::{Config, Global};
use super::raw::RawConfig;

/// Gives the file its meaning; findings are added to `diagnostics`.
pub(crate) fn resolve(raw: &RawConfig, diagnostics: &mut Vec<Diagnostic>) -> Config {
    let mut global = Global {
        router_id: raw.global.router_id.as_ref().map(|id| id.value.clone()),
        ..Global::default()
    };
    if let Some(group) = raw.global.mcast_group4 {
        global.vrrp_mcast_group4 = group.value;
    }
    if let Some(IpAddr::V6(group)) = raw.global.mcast_group6.map(|group| group.value) {
        global.vrrp_mcast_group6 = group;
    }
    global.notify_fifos = [&raw.global.notify_fifo, &raw.global.vrrp_notify_fifo]
        .into_iter()
        .flatten()
        .map(|path| path.value.clone())
        .collect();
    global.script_security = raw.global.script_security.is_some();
    let seconds = |said: Option<Spanned<Duration>>| said.map_or(Duration::ZERO, |said| said.value);
    global.startup_delay = seconds(raw.global.startup_delay);
    global.delay_after_boot = seconds(raw.global.delay_after_boot);
    global.mail = track::mail(&raw.global);
    global.spacings = vrrp::exchange::spacings(raw, diagnostics);
    let vrrp_scripts = track::scripts(raw, diagnostics);
    let track_files = track::files(raw, diagnostics);
    let track_processes = track::processes(raw, diagnostics);
    let mut vrrp_instances = vrrp::instances(raw, &global, diagnostics);
    let statics = routing::routing(raw, &mut vrrp_instances, diagnostics);
    let sync_groups = group::groups(raw, &mut vrrp_instances, diagnostics);
    let virtual_servers = service::virtual_servers(raw, diagnostics);
    vrrp::vmac::services(raw, &vrrp_instances, &virtual_servers, diagnostics);
    Config {
        global,
        vrrp_scripts,
        track_files,
        track_processes,
        vrrp_instances,
        sync_groups,
        virtual_servers,
        statics,
    }
}
