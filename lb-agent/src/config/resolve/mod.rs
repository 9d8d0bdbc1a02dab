// SPDX-License-Identifier: MIT OR Apache-2.0
//! Raw configuration → model: names, defaults, and what does not go together.
//!
//! Comes in: what the file says. Goes out: what it means, and findings. Invariant: the model holds
//! no invalid state; what keepalived would leave out is left out, with a warning; what xlvs cannot
//! do as asked is left out, with an error. Called by `parse`.

mod service;
mod track;
mod vrrp;

use super::diag::{Code, Diagnostic};
use super::model::{Config, Global};
use super::raw::RawConfig;
use super::suggest;

/// Gives the file its meaning; findings are added to `diagnostics`.
pub(crate) fn resolve(raw: &RawConfig, diagnostics: &mut Vec<Diagnostic>) -> Config {
    let mut global = Global {
        router_id: raw.global.router_id.as_ref().map(|id| id.value.clone()),
        ..Global::default()
    };
    if let Some(group) = raw.global.mcast_group4 {
        global.vrrp_mcast_group4 = group.value;
    }
    global.notify_fifos = [&raw.global.notify_fifo, &raw.global.vrrp_notify_fifo]
        .into_iter()
        .flatten()
        .map(|path| path.value.clone())
        .collect();
    global.script_security = raw.global.script_security.is_some();
    check_group_members(raw, diagnostics);
    let vrrp_scripts = track::scripts(raw, diagnostics);
    let vrrp_instances = vrrp::instances(raw, &global, diagnostics);
    let virtual_servers = service::virtual_servers(raw, diagnostics);
    Config {
        global,
        vrrp_scripts,
        vrrp_instances,
        virtual_servers,
    }
}

fn check_group_members(raw: &RawConfig, diagnostics: &mut Vec<Diagnostic>) {
    let names: Vec<&str> = raw
        .instances
        .iter()
        .map(|instance| instance.name.as_str())
        .collect();
    for member in &raw.group_members {
        if !names.contains(&member.value.as_str()) {
            let diagnostic = Diagnostic::warning(
                Code::UnknownName,
                member.span,
                format!(
                    "no `vrrp_instance` has the name {}",
                    super::diag::quoted(&member.value)
                ),
            );
            diagnostics.push(
                match suggest::nearest(&member.value, names.iter().copied()) {
                    Some(name) => diagnostic.hint(format!("did you mean `{name}`?")),
                    None => diagnostic,
                },
            );
        }
    }
}
