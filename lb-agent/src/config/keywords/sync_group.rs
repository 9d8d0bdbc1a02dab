// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keywords of `vrrp_sync_group`.

use super::super::keyword::{Keyword, Table, block, flag};
use super::super::raw::RawGroup;
use super::{notify, top, tracking};

/// `vrrp_sync_group`.
pub(crate) static SYNC_GROUP: Table<RawGroup> = Table {
    path: "vrrp_sync_group",
    groups: &[MEMBERS, notify::rows!(RawGroup)],
};

const MEMBERS: &[Keyword<RawGroup>] = &[
    block(
        "group",
        "Instances of the group.",
        |raw: &mut RawGroup, item, _| raw.members.extend(top::words(item)),
    ),
    block(
        "track_file",
        "Files that count for the whole group.",
        |raw, item, ctx| tracking::read(&mut raw.tracks.files, item, ctx),
    ),
    block(
        "track_process",
        "Processes that count for the whole group.",
        |raw, item, ctx| tracking::read(&mut raw.tracks.processes, item, ctx),
    ),
    block(
        "track_interface",
        "Interfaces that count for the whole group.",
        |raw, item, ctx| tracking::read(&mut raw.tracks.interfaces, item, ctx),
    ),
    block(
        "track_script",
        "Scripts that count for the whole group.",
        |raw, item, ctx| tracking::read(&mut raw.tracks.scripts, item, ctx),
    ),
    block(
        "track_bfd",
        "BFD sessions that count for the whole group.",
        |raw, item, ctx| tracking::read(&mut raw.tracks.bfds, item, ctx),
    ),
    flag(
        "global_tracking",
        "Old name of `sync_group_tracking_weight`.",
        |raw: &mut RawGroup, line| {
            let value = line.boolean(1);
            line.set(&mut raw.tracking_weight, value);
        },
    )
    .default("off"),
    flag(
        "sync_group_tracking_weight",
        "Members keep the weights of what they track themselves.",
        |raw: &mut RawGroup, line| {
            let value = line.boolean(1);
            line.set(&mut raw.tracking_weight, value);
        },
    )
    .default("off"),
];
