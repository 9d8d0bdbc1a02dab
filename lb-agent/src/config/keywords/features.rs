// SPDX-License-Identifier: MIT OR Apache-2.0
//! Features of keepalived that xlvs does not have yet, and reasons why a keyword has nothing to do.
//!
//! A feature is reported once per file. It is an error where running without it would forward,
//! announce or configure something else than the file asks; a warning where the rest is as asked.

use super::super::diag::Severity;
use super::super::keyword::{Feature, Status};

macro_rules! features {
    ($($severity:ident $ident:ident: $name:literal => $instead:literal;)+) => {
        $(
            static $ident: Feature = Feature {
                name: $name,
                instead: $instead,
                severity: Severity::$severity,
            };
        )+
    };
}

features! {
    Warning MAIL_FEATURE: "mail alerts of real servers" => "no mail is sent about them";
    Warning TRACKING_FEATURE: "rarer things to track"
        => "they do not count for the priority";
    Warning VMAC_FEATURE: "other virtual interfaces" => "the interface's own MAC address is used";
    Warning CONNECTION_SYNC_FEATURE: "connection synchronisation"
        => "a new master does not know the connections of the old one";
    Warning ENGINE_FEATURE: "persistence engines" => "a client is recognised by its address";
    Warning ADVERT_FEATURE: "changes to the exchange of adverts" => "keepalived's defaults hold";
    Warning RELOAD_FEATURE: "reload options" => "a reload happens only when asked for";
    Warning CHECKING_FEATURE: "suspending checks" => "checks run on the backup too";
    Error NAMESPACE_FEATURE: "network namespaces" => "xlvs would run in the wrong one";
    Error HMAC_FEATURE: "auth_hmac" => "adverts would go out without it";
}

pub(super) const MAIL: Status = Status::NotYet(&MAIL_FEATURE);
pub(super) const TRACKING: Status = Status::NotYet(&TRACKING_FEATURE);
pub(super) const VMAC: Status = Status::NotYet(&VMAC_FEATURE);
pub(super) const CONNECTION_SYNC: Status = Status::NotYet(&CONNECTION_SYNC_FEATURE);
pub(super) const ENGINE: Status = Status::NotYet(&ENGINE_FEATURE);
pub(super) const ADVERT: Status = Status::NotYet(&ADVERT_FEATURE);
pub(super) const RELOAD: Status = Status::NotYet(&RELOAD_FEATURE);
pub(super) const CHECKING: Status = Status::NotYet(&CHECKING_FEATURE);
pub(super) const NAMESPACE: Status = Status::NotYet(&NAMESPACE_FEATURE);
pub(super) const HMAC: Status = Status::NotYet(&HMAC_FEATURE);

pub(super) const PROCESS: Status =
    Status::NoEffect("xlvs has no such process; use systemd's settings for names and limits");
pub(super) const CHECKER: Status = Status::NoEffect(
    "checks run in the same thread as VRRP: `vrrp_priority`, `vrrp_rt_priority` and `vrrp_no_swap` hold \
     for them, too",
);
pub(super) const RTTIME: Status =
    Status::NoEffect("the kernel would kill the agent while it loads the packet program");
pub(super) const SNMP: Status = Status::NoEffect("xlvs has no SNMP agent");
pub(super) const DBUS: Status = Status::NoEffect("xlvs has no D-Bus interface");
pub(super) const FIREWALL: Status =
    Status::NoEffect("what xlvs writes is a table of nftables, `inet xlvs`, for `no_accept`");
pub(super) const IPVS: Status = Status::NoEffect("xlvs does not use the kernel's IPVS");
pub(super) const NETLINK: Status = Status::NoEffect("xlvs sizes its netlink buffers itself");
pub(super) const LINKBEAT: Status = Status::NoEffect(
    "the kernel tells at once when a link goes up or down; drivers that have to be polled for it are \
     none of those that run XDP",
);
pub(super) const FILES: Status = Status::NoEffect("xlvs writes no such file");
pub(super) const LOGGING: Status = Status::NoEffect("xlvs logs what it needs to");
pub(super) const OBSOLETE: Status =
    Status::NoEffect("it is obsolete, keepalived has no such keyword");
pub(super) const SCRIPTS: Status =
    Status::NoEffect("scripts run under the path as written, in one group");
