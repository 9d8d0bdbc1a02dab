// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keywords of the top level.

use super::super::args::Spanned;
use super::super::keyword::Status;
use super::super::keyword::{Keyword, Table, block, off, off_block, off_flag};
use super::super::raw::{
    RawBfd, RawConfig, RawGroup, RawInstance, RawScript, RawSpacing, RawTrackFile, RawTrackProcess,
};
use super::super::tree::Item;
use super::super::walk::Context;
use super::features::{LINKBEAT, NAMESPACE, TRACKING};
use super::{
    address_group, announcing, bfd, global, routing, rules, sync_group, tracking,
    virtual_ipaddress, virtual_server, vrrp_instance, vrrp_other, watched,
};

/// The top level.
pub(crate) static TOP: Table<RawConfig> = Table {
    path: "",
    groups: &[BLOCKS, OTHERS],
};

const BLOCKS: &[Keyword<RawConfig>] = &[
    block(
        "global_defs",
        "Settings of the whole program.",
        |config: &mut RawConfig, item, ctx| {
            ctx.walk(&global::GLOBAL, item, &mut config.global);
        },
    ),
    block(
        "vrrp_instance",
        "A virtual router: who holds its addresses.",
        enter_instance,
    )
    .params(1, 1),
    block(
        "virtual_server",
        "A service and its real servers.",
        |config: &mut RawConfig, item, ctx| {
            let server = virtual_server::read(item, ctx);
            config.virtual_servers.push(server);
        },
    )
    .params(1, 3),
    block(
        "virtual_server_group",
        "Addresses that share one set of real servers: lines of `ADDR`, `ADDR-N`, `ADDR-ADDR` or \
         `ADDR/BITS`, each with a port, a range of ports (`PORT-PORT`, beyond keepalived) or neither.",
        |config: &mut RawConfig, item, ctx| {
            let group = address_group::read(item, ctx);
            config.virtual_server_groups.push(group);
        },
    )
    .params(1, 1),
    block(
        "vrrp_script",
        "A script whose success counts for the priority.",
        |config: &mut RawConfig, item, ctx| {
            let mut script = RawScript {
                name: name(item),
                head: item.head(),
                ..RawScript::default()
            };
            ctx.walk(&tracking::VRRP_SCRIPT, item, &mut script);
            config.scripts.push(script);
        },
    )
    .params(1, 1),
    block(
        "vrrp_sync_group",
        "Instances that change state together.",
        |config: &mut RawConfig, item, ctx| {
            let mut group = RawGroup {
                name: name(item),
                head: item.head(),
                ..RawGroup::default()
            };
            ctx.walk(&sync_group::SYNC_GROUP, item, &mut group);
            config.groups.push(group);
        },
    )
    .params(1, 1),
    block(
        "static_ipaddress",
        "Addresses that are added at start and kept.",
        |config: &mut RawConfig, item, ctx| {
            virtual_ipaddress::read(&mut config.static_addresses, item, ctx);
        },
    ),
    block(
        "static_routes",
        "Routes that are added at start and kept.",
        |config: &mut RawConfig, item, ctx| {
            routing::routes(&mut config.static_routes, item, ctx);
        },
    ),
    block(
        "static_rules",
        "Routing rules that are added at start and kept.",
        |config: &mut RawConfig, item, ctx| rules::read(&mut config.static_rules, item, ctx),
    ),
    block(
        "track_file",
        "A file whose number counts for the priority.",
        |config: &mut RawConfig, item, ctx| {
            let mut file = RawTrackFile {
                name: name(item),
                head: item.head(),
                ..RawTrackFile::default()
            };
            ctx.walk(&watched::TRACK_FILE, item, &mut file);
            config.files.push(file);
        },
    )
    .params(1, 1),
    block(
        "vrrp_track_file",
        "Old name of `track_file`.",
        |config: &mut RawConfig, item, ctx| {
            let mut file = RawTrackFile {
                name: name(item),
                head: item.head(),
                ..RawTrackFile::default()
            };
            ctx.walk(&watched::VRRP_TRACK_FILE, item, &mut file);
            config.files.push(file);
        },
    )
    .params(1, 1),
    block(
        "vrrp_track_process",
        "Processes whose number counts for the priority.",
        |config: &mut RawConfig, item, ctx| {
            let mut process = RawTrackProcess {
                name: name(item),
                head: item.head(),
                ..RawTrackProcess::default()
            };
            ctx.walk(&watched::TRACK_PROCESS, item, &mut process);
            config.processes.push(process);
        },
    )
    .params(1, 1),
    block(
        "bfd_instance",
        "A BFD session whose state can be tracked.",
        |config: &mut RawConfig, item, ctx| {
            let mut session = RawBfd {
                name: name(item),
                head: item.head(),
                ..RawBfd::default()
            };
            ctx.walk(&bfd::BFD, item, &mut session);
            config.bfds.push(session);
        },
    )
    .params(1, 1),
    block(
        "garp_group",
        "Interfaces that share a spacing of gratuitous ARP.",
        |config: &mut RawConfig, item, ctx| {
            let mut group = RawSpacing::default();
            ctx.walk(&announcing::GARP_GROUP, item, &mut group);
            config.garp_groups.push(Spanned::new(group, item.head()));
        },
    ),
];

const OTHERS: &[Keyword<RawConfig>] = &[
    off(
        "track_group",
        "Instances told of a lost static address or route.",
        TRACKING,
    )
    .within(|_, item, ctx| ctx.walk(&vrrp_other::TRACK_GROUP, item, &mut ())),
    off_block(
        "interface_up_down_delays",
        "How long an interface must be up or down to count.",
        TRACKING,
    ),
    off_block(
        "linkbeat_interfaces",
        "Interfaces whose link is polled.",
        LINKBEAT,
    ),
    off_flag(
        "linkbeat_use_polling",
        "Poll the link state of interfaces.",
        LINKBEAT,
    ),
    off_block(
        "SSL",
        "Certificates for SSL_GET.",
        Status::NoEffect("xlvs has no SSL_GET yet"),
    )
    .within(|_, item, ctx| ctx.walk(&vrrp_other::SSL, item, &mut ())),
    off("net_namespace", "Network namespace to run in.", NAMESPACE),
    off(
        "net_namespace_ipvs",
        "Network namespace of IPVS.",
        NAMESPACE,
    ),
    off_flag(
        "namespace_with_ipsets",
        "Use ipsets inside a namespace.",
        super::features::FIREWALL,
    ),
    off(
        "instance",
        "Name of this keepalived among several.",
        super::features::FILES,
    ),
    off_flag(
        "use_pid_dir",
        "Keep pid files in a directory.",
        super::features::FILES,
    ),
    off(
        "child_wait_time",
        "How long to wait for child processes to end.",
        super::features::PROCESS,
    ),
];

fn enter_instance(config: &mut RawConfig, item: &Item, ctx: &mut Context) {
    let Some(name) = item.words.get(1) else {
        return;
    };
    let mut instance = RawInstance {
        name: name.text.clone(),
        head: item.head(),
        ..RawInstance::default()
    };
    ctx.walk(&vrrp_instance::INSTANCE, item, &mut instance);
    config.instances.push(instance);
}

/// The name behind a block's keyword.
fn name(item: &Item) -> String {
    let word = item.words.get(1);
    word.map_or_else(String::new, |word| word.text.clone())
}

/// The words of a block that is a list, however they are spread over lines.
pub(super) fn words(item: &Item) -> impl Iterator<Item = Spanned<String>> {
    item.body
        .iter()
        .flatten()
        .flat_map(|line| &line.words)
        .map(|word| Spanned::new(word.text.clone(), word.span))
}
