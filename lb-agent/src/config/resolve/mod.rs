// SPDX-License-Identifier: MIT OR Apache-2.0
//! Raw configuration → model: names, defaults, and what does not go together.
//!
//! Comes in: what the file says. Goes out: what it means, and findings. Invariant: the model holds
//! no invalid state; what keepalived would leave out is left out, with a warning; what xlvs cannot
//! do as asked is left out, with an error. Called by `parse`.

mod bfd;
mod group;
mod identity;
mod real_server;
mod routing;
mod service;
mod track;
mod vrrp;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::args::Spanned;
use super::diag::{Code, Diagnostic};
use super::model::{
    Config, ConnSettings, Global, Notify, NotifyFifo, OnceScript, Program, Scheduling, VrrpInstance,
};
use super::raw::{RawConfig, RawGlobal};

/// How long a script of start or end may run.
const ONCE_TIMEOUT: Duration = Duration::from_secs(10);

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
    global.notify_fifos = notify_fifos(&raw.global, diagnostics);
    global.fifo_states_on_reload = is_set(raw.global.fifo_states_on_reload);
    let said = &raw.global;
    global.startup_script = once(said.startup_script.as_ref(), said.startup_timeout, said);
    global.shutdown_script = once(said.shutdown_script.as_ref(), said.shutdown_timeout, said);
    global.rs_init_notifies = is_set(raw.global.init_notifies);
    global.lvs_timeouts = raw
        .global
        .lvs_timeouts
        .map(|said| said.value)
        .unwrap_or_default();
    global.conns = conns(&raw.global);
    global.script_security = raw.global.script_security.is_some();
    let seconds = |said: Option<Spanned<Duration>>| said.map_or(Duration::ZERO, |said| said.value);
    global.startup_delay = seconds(raw.global.startup_delay);
    global.scheduling = Scheduling {
        rt_priority: raw.global.rt_priority.map(|said| said.value),
        nice: raw.global.nice.map(|said| said.value),
        no_swap: is_set(raw.global.no_swap),
    };
    global.delay_after_boot = seconds(raw.global.delay_after_boot);
    global.mail = track::mail(&raw.global);
    global.spacings = vrrp::exchange::spacings(raw, diagnostics);
    let vrrp_scripts = track::scripts(raw, diagnostics);
    let track_files = track::files(raw, diagnostics);
    let track_processes = track::processes(raw, diagnostics);
    let bfd_instances = bfd::instances(raw, diagnostics);
    let mut vrrp_instances = vrrp::instances(raw, &global, diagnostics);
    let statics = routing::routing(raw, &mut vrrp_instances, diagnostics);
    let sync_groups = group::groups(raw, &mut vrrp_instances, diagnostics);
    bfd::drop_unresolved(&bfd_instances, &mut vrrp_instances);
    share_notify(&mut vrrp_instances);
    let virtual_servers = service::virtual_servers(raw, diagnostics);
    Config {
        global,
        vrrp_scripts,
        track_files,
        track_processes,
        bfd_instances,
        vrrp_instances: vrrp_instances.into_iter().map(Arc::new).collect(),
        sync_groups,
        virtual_servers,
        statics,
    }
}

/// Instances one after the other that notify alike, as all do that notify nobody, share what says so: with
/// a thousand of them it is the largest part of a configuration.
fn share_notify(instances: &mut [VrrpInstance]) {
    let mut before: Option<Arc<Notify>> = None;
    for instance in instances {
        match &before {
            Some(known) if *known == instance.notify => instance.notify = Arc::clone(known),
            _ => before = Some(Arc::clone(&instance.notify)),
        }
    }
}

/// A flag that is off by default.
fn is_set(flag: Option<Spanned<bool>>) -> bool {
    flag.is_some_and(|said| said.value)
}

/// One pipe each, however many lines name it.
fn notify_fifos(raw: &RawGlobal, diagnostics: &mut Vec<Diagnostic>) -> Vec<NotifyFifo> {
    let mut fifos: Vec<NotifyFifo> = Vec::new();
    for (said, instances, services) in [
        (&raw.notify_fifo, true, true),
        (&raw.vrrp_notify_fifo, true, false),
        (&raw.lvs_notify_fifo, false, true),
    ] {
        let program = |script: &Spanned<Program>| script.value.clone();
        let script = said.script.as_ref().map(program);
        let script = script.map(|script| track::with_default_user(script, raw));
        let Some(path) = said.path.as_ref().map(|path| path.value.clone()) else {
            diagnostics.extend(said.script.as_ref().map(|script| {
                Diagnostic::warning(
                    Code::MissingSetting,
                    script.span,
                    "there is no FIFO that it could read; it is not run",
                )
                .hint("name one in the same place, without `_script`")
            }));
            continue;
        };
        match fifos.iter_mut().find(|known| known.path == path) {
            Some(known) => {
                known.instances |= instances;
                known.services |= services;
                known.script = known.script.take().or(script);
            }
            None => {
                let default = || raw.script_user.as_ref().map(|user| user.value.clone());
                fifos.push(NotifyFifo {
                    path,
                    instances,
                    services,
                    owner: said.owner.clone().or_else(default),
                    script,
                });
            }
        }
    }
    fifos
}

/// `startup_script` or `shutdown_script`.
fn once(
    script: Option<&Spanned<Program>>,
    timeout: Option<Spanned<Duration>>,
    raw: &RawGlobal,
) -> Option<OnceScript> {
    Some(OnceScript {
        program: track::with_default_user(script?.value.clone(), raw),
        timeout: timeout.map_or(ONCE_TIMEOUT, |timeout| timeout.value),
    })
}

fn conns(raw: &RawGlobal) -> ConnSettings {
    let default = ConnSettings::default();
    ConnSettings {
        capacity: raw.connections.map_or(default.capacity, |n| n.value),
        expire_nodest_conn: is_set(raw.expire_nodest_conn),
        expire_quiescent_template: is_set(raw.expire_quiescent_template),
        sloppy_tcp: is_set(raw.sloppy_tcp),
        watchdog: raw.watchdog.map(|time| time.value),
    }
}
