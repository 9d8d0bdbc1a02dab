// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blocks around the instances that xlvs does not act on yet: their words are known and checked.

use super::super::keyword::{Status, Table, off, off_block, off_flag};
use super::features::{HMAC, TRACKING};

/// `auth_hmac`.
pub(super) static AUTH_HMAC: Table<()> = Table {
    path: "vrrp_instance/auth_hmac",
    groups: &[&[
        off("key", "A key.", HMAC),
        off("active_key", "The key that signs.", HMAC),
        off("time_window", "Seconds an advert is good for.", HMAC),
        off_flag("anti_replay", "Refuse repeated adverts.", HMAC),
        off("mode", "What is done with unsigned adverts.", HMAC),
    ]],
};

/// `track_group`.
pub(super) static TRACK_GROUP: Table<()> = Table {
    path: "track_group",
    groups: &[&[off_block("group", "Instances of the group.", TRACKING)]],
};

const NO_TLS: Status = Status::NoEffect("xlvs has no SSL_GET yet");

/// `SSL`.
pub(super) static SSL: Table<()> = Table {
    path: "SSL",
    groups: &[&[
        off("password", "Password of the key.", NO_TLS),
        off("ca", "File with the authority's certificate.", NO_TLS),
        off("certificate", "File with the own certificate.", NO_TLS),
        off("key", "File with the own key.", NO_TLS),
    ]],
};

/// Views of all of these for the registry.
pub(super) static TABLES: [&Table<()>; 3] = [&AUTH_HMAC, &TRACK_GROUP, &SSL];
