// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keywords of `global_defs`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::args::{Line, Spanned};
use super::super::diag::{Code, Diagnostic, quoted};
use super::super::keyword::{Keyword, Status, Table, flag, line, off, off_flag};
use super::super::raw::{RawFifo, RawGlobal};
use super::features::{
    CHECKER, CONNECTION_SYNC, DBUS, FILES, FIREWALL, IPVS, MAIL, NETLINK, OBSOLETE, PROCESS,
    RELOAD, RTTIME, SCRIPTS, SNMP,
};
use super::{connections, global_vrrp, mail, notify, tracking, vrrp_instance};

/// KEEPALIVED: what `startup_script_timeout` can be.
const SCRIPT_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(1000);

/// `PATH [USER [GROUP]]`.
fn fifo(raw: &mut RawFifo, line: &mut Line<'_>) {
    let (path, owner) = (
        line.text(1),
        line.word(2).and_then(|_| tracking::run_as(line, 2)),
    );
    line.set(&mut raw.path, path);
    raw.owner = owner.map(|owner| owner.value);
}

/// `global_defs`.
pub(crate) static GLOBAL: Table<RawGlobal> = Table {
    path: "global_defs",
    groups: &[
        SUPPORTED,
        mail::ROWS,
        MAIL_AND_SCRIPTS,
        global_vrrp::ROWS,
        global_vrrp::IN_COMMON,
        connections::ROWS,
        LVS,
        MONITORING,
        HOST,
    ],
};

const SUPPORTED: &[Keyword<RawGlobal>] = &[
    line(
        "router_id",
        "Name of this host in mails and status.",
        |raw: &mut RawGlobal, line| {
            if line.word(1).is_none() {
                // KEEPALIVED: the one value whose absence it survives.
                let span = line.span();
                line.ctx.report(Diagnostic::warning(
                    Code::InvalidValue,
                    span,
                    "`router_id` needs a name; the host name is used",
                ));
            }
            let value = line.text(1);
            line.set(&mut raw.router_id, value);
        },
    )
    .params(0, 1)
    .default("the host name"),
    line(
        "vrrp_mcast_group4",
        "Multicast group of adverts.",
        |raw: &mut RawGlobal, line| {
            let Some(group) = line.ipv4(1) else { return };
            if group.value.is_multicast() {
                line.set(&mut raw.mcast_group4, Some(group));
            } else {
                line.ctx.report(Diagnostic::warning(
                    Code::InvalidValue,
                    group.span,
                    format!(
                        "{} is no multicast address; it is ignored",
                        quoted(&group.value.to_string())
                    ),
                ));
            }
        },
    )
    .default("224.0.0.18"),
    line(
        "vrrp_version",
        "VRRP version of instances that give none.",
        |raw: &mut RawGlobal, line| {
            let value = vrrp_instance::version(line);
            line.set(&mut raw.version, value);
        },
    )
    .default("2")
    .range("2 or 3"),
    flag(
        "vrrp_strict",
        "Strict mode: follow the RFC to the letter.",
        |raw: &mut RawGlobal, line| {
            let value = line.boolean(1);
            line.set(&mut raw.strict, value);
        },
    ),
    flag(
        "checker_log_all_failures",
        "Log failures that are forgiven, too.",
        |raw: &mut RawGlobal, line| {
            let value = line.boolean(1);
            line.set(&mut raw.log_all_failures, value);
        },
    )
    .default("off"),
];

const MAIL_AND_SCRIPTS: &[Keyword<RawGlobal>] = &[
    off_flag("smtp_alert_checker", "Send mail for real servers.", MAIL),
    off_flag("no_checker_emails", "Send mail for services only.", MAIL),
    line(
        "notify_fifo",
        "FIFO that is told of all changes; user and group may follow, as for scripts.",
        |raw: &mut RawGlobal, line| fifo(&mut raw.notify_fifo, line),
    )
    .params(1, 3),
    line(
        "notify_fifo_script",
        "Program that reads it: gets its path as last argument, is started again when it ends.",
        |raw: &mut RawGlobal, line| {
            let value = notify::program(line);
            line.set(&mut raw.notify_fifo.script, value);
        },
    )
    .params(1, 3),
    line(
        "vrrp_notify_fifo",
        "FIFO that is told of instances' changes.",
        |raw: &mut RawGlobal, line| fifo(&mut raw.vrrp_notify_fifo, line),
    )
    .params(1, 3),
    line(
        "vrrp_notify_fifo_script",
        "Program that reads it: gets its path as last argument, is started again when it ends.",
        |raw: &mut RawGlobal, line| {
            let value = notify::program(line);
            line.set(&mut raw.vrrp_notify_fifo.script, value);
        },
    )
    .params(1, 3),
    flag(
        "vrrp_notify_priority_changes",
        "Tell the FIFO of priority changes.",
        |raw: &mut RawGlobal, line| {
            let value = line.boolean(1);
            line.set(&mut raw.priority_changes, value);
        },
    )
    .default("off"),
    line(
        "lvs_notify_fifo",
        "FIFO that is told of services' and real servers' changes.",
        |raw: &mut RawGlobal, line| fifo(&mut raw.lvs_notify_fifo, line),
    )
    .params(1, 3),
    line(
        "lvs_notify_fifo_script",
        "Program that reads it: gets its path as last argument, is started again when it ends.",
        |raw: &mut RawGlobal, line| {
            let value = notify::program(line);
            line.set(&mut raw.lvs_notify_fifo.script, value);
        },
    )
    .params(1, 3),
    flag(
        "fifo_write_vrrp_states_on_reload",
        "The FIFOs are told the states of all instances and groups after a reload.",
        |raw: &mut RawGlobal, line| {
            let value = line.boolean(1);
            line.set(&mut raw.fifo_states_on_reload, value);
        },
    )
    .default("off"),
    flag(
        "rs_init_notifies",
        "Run `notify_up` at the start, too, for real servers that are taken as up.",
        |raw: &mut RawGlobal, line| {
            let value = Spanned::new(true, line.span());
            line.set(&mut raw.init_notifies, Some(value));
        },
    )
    .default("off"),
    line(
        "script_user",
        "User, and group, that scripts run as.",
        |raw: &mut RawGlobal, line| {
            let value = tracking::run_as(line, 1);
            line.set(&mut raw.script_user, value);
        },
    )
    .params(1, 2)
    .default("keepalived_script if there is such a user, else root"),
    flag(
        "enable_script_security",
        "Do not run as root what others than root can change.",
        |raw: &mut RawGlobal, line| {
            let value = Spanned::new(true, line.span());
            line.set(&mut raw.script_security, Some(value));
        },
    )
    .default("off"),
    line(
        "startup_script",
        "Program to run before anything else is done.",
        |raw: &mut RawGlobal, line| {
            let value = notify::program(line);
            line.set(&mut raw.startup_script, value);
        },
    )
    .params(1, 3),
    line(
        "startup_script_timeout",
        "Seconds it may run.",
        |raw: &mut RawGlobal, line| {
            let value = line.seconds(1, SCRIPT_TIMEOUT);
            line.set(&mut raw.startup_timeout, value);
        },
    )
    .default("10")
    .range("1 to 1000 seconds"),
    line(
        "shutdown_script",
        "Program to run when all else has ended.",
        |raw: &mut RawGlobal, line| {
            let value = notify::program(line);
            line.set(&mut raw.shutdown_script, value);
        },
    )
    .params(1, 3),
    line(
        "shutdown_script_timeout",
        "Seconds it may run.",
        |raw: &mut RawGlobal, line| {
            let value = line.seconds(1, SCRIPT_TIMEOUT);
            line.set(&mut raw.shutdown_timeout, value);
        },
    )
    .default("10")
    .range("1 to 1000 seconds"),
];

const LVS: &[Keyword<RawGlobal>] = &[
    off(
        "lvs_sync_daemon",
        "Interface and instance of connection synchronisation.",
        CONNECTION_SYNC,
    ),
    off_flag("lvs_flush", "Clear IPVS at start.", IPVS),
    off_flag("lvs_flush_on_stop", "Clear IPVS at the end.", IPVS),
    off_flag("lvs_flush_onstop", "Old name of `lvs_flush_on_stop`.", IPVS),
    off_flag("lvs_id", "Name of this host in old tutorials.", OBSOLETE),
];

const MONITORING: &[Keyword<RawGlobal>] = &[
    off("snmp_socket", "Socket of the SNMP master agent.", SNMP),
    off_flag("enable_traps", "Send SNMP traps.", SNMP),
    off_flag("enable_snmp_vrrp", "SNMP for VRRP.", SNMP),
    off_flag(
        "enable_snmp_keepalived",
        "Old name of `enable_snmp_vrrp`.",
        SNMP,
    ),
    off_flag("enable_snmp_rfc", "SNMP as the RFCs say.", SNMP),
    off_flag("enable_snmp_rfcv2", "SNMP as RFC 2787 says.", SNMP),
    off_flag("enable_snmp_rfcv3", "SNMP as RFC 6527 says.", SNMP),
    off_flag("enable_snmp_checker", "SNMP for services.", SNMP),
    off(
        "snmp_vs_stats_update_interval",
        "Seconds between SNMP figures of services.",
        SNMP,
    ),
    off(
        "snmp_rs_stats_update_interval",
        "Seconds between SNMP figures of real servers.",
        SNMP,
    ),
    off_flag("enable_dbus", "D-Bus interface.", DBUS),
    off("dbus_service_name", "Its name.", DBUS),
    off(
        "dbus_no_interface_name",
        "Name of instances without interface.",
        DBUS,
    ),
    off("json_version", "Form of the JSON dump.", FILES),
    off("state_dump_file", "Where the state is written.", FILES),
    off("stats_dump_file", "Where the figures are written.", FILES),
    off("json_dump_file", "Where JSON is written.", FILES),
    off(
        "state_file_location",
        "Name of `state_dump_file` in the manual.",
        FILES,
    ),
    off(
        "stats_file_location",
        "Name of `stats_dump_file` in the manual.",
        FILES,
    ),
    off(
        "json_file_location",
        "Name of `json_dump_file` in the manual.",
        FILES,
    ),
];

const HOST: &[Keyword<RawGlobal>] = &[
    off("process_names", "Names of the processes.", PROCESS).params(0, usize::MAX),
    off("process_name", "Name of the parent process.", PROCESS),
    off("vrrp_process_name", "Name of the VRRP process.", PROCESS),
    off(
        "checker_process_name",
        "Name of the checker process.",
        PROCESS,
    ),
    off(
        "lvs_process_name",
        "Old name of `checker_process_name`.",
        PROCESS,
    ),
    off("bfd_process_name", "Name of the BFD process.", PROCESS),
    off_flag(
        "vrrp_cpu_affinity",
        "Processors of the VRRP process.",
        PROCESS,
    ),
    off(
        "vrrp_rlimit_rttime",
        "Real-time limit of the VRRP process.",
        RTTIME,
    ),
    off(
        "vrrp_rlimit_rtime",
        "Old name of `vrrp_rlimit_rttime`.",
        RTTIME,
    ),
    off(
        "checker_priority",
        "Nice value of the checker process.",
        CHECKER,
    ),
    off_flag(
        "checker_no_swap",
        "Keep the checker process in memory.",
        CHECKER,
    ),
    off_flag(
        "checker_rt_priority",
        "Real-time priority of the checker process.",
        CHECKER,
    ),
    off_flag(
        "checker_cpu_affinity",
        "Processors of the checker process.",
        PROCESS,
    ),
    off(
        "checker_rlimit_rttime",
        "Real-time limit of the checker process.",
        CHECKER,
    ),
    off(
        "checker_rlimit_rtime",
        "Old name of `checker_rlimit_rttime`.",
        CHECKER,
    ),
    off("bfd_priority", "Nice value of the BFD process.", PROCESS),
    off_flag("bfd_no_swap", "Keep the BFD process in memory.", PROCESS),
    off_flag(
        "bfd_rt_priority",
        "Real-time priority of the BFD process.",
        PROCESS,
    ),
    off_flag(
        "bfd_cpu_affinity",
        "Processors of the BFD process.",
        PROCESS,
    ),
    off(
        "bfd_rlimit_rttime",
        "Real-time limit of the BFD process.",
        PROCESS,
    ),
    off(
        "bfd_rlimit_rtime",
        "Old name of `bfd_rlimit_rttime`.",
        PROCESS,
    ),
    off(
        "max_auto_priority",
        "Highest priority set by itself.",
        PROCESS,
    )
    .params(0, usize::MAX),
    off(
        "min_auto_priority_delay",
        "Microseconds before it is raised.",
        PROCESS,
    ),
    off_flag(
        "set_supplementary_groups",
        "Scripts keep their user's groups.",
        SCRIPTS,
    ),
    off_flag(
        "use_symlink_paths",
        "Scripts run under the path as written.",
        SCRIPTS,
    ),
    off_flag("vrrp_iptables", "Filter with iptables.", FIREWALL),
    off_flag("vrrp_ipsets", "Filter with ipsets.", FIREWALL),
    off_flag("nftables", "Filter with nftables.", FIREWALL),
    off("nftables_priority", "Priority of the chains.", FIREWALL),
    off_flag("nftables_counters", "Counters in the rules.", FIREWALL),
    off_flag(
        "nftables_ifindex",
        "Interfaces by number in the rules.",
        FIREWALL,
    ),
    off_flag("nftables_ipvs", "Table for fwmark services.", FIREWALL),
    off(
        "nftables_ipvs_priority",
        "Priority of its chains.",
        FIREWALL,
    ),
    off(
        "nftables_ipvs_start_fwmark",
        "First mark it uses.",
        FIREWALL,
    ),
    off(
        "vrrp_netlink_cmd_rcv_bufs",
        "Buffer of the VRRP command socket.",
        NETLINK,
    ),
    off_flag(
        "vrrp_netlink_cmd_rcv_bufs_force",
        "Exceed the system's limit.",
        NETLINK,
    ),
    off(
        "vrrp_netlink_monitor_rcv_bufs",
        "Buffer of the VRRP monitor socket.",
        NETLINK,
    ),
    off_flag(
        "vrrp_netlink_monitor_rcv_bufs_force",
        "Exceed the system's limit.",
        NETLINK,
    ),
    off(
        "lvs_netlink_cmd_rcv_bufs",
        "Buffer of the LVS command socket.",
        NETLINK,
    ),
    off_flag(
        "lvs_netlink_cmd_rcv_bufs_force",
        "Exceed the system's limit.",
        NETLINK,
    ),
    off(
        "lvs_netlink_monitor_rcv_bufs",
        "Buffer of the LVS monitor socket.",
        NETLINK,
    ),
    off_flag(
        "lvs_netlink_monitor_rcv_bufs_force",
        "Exceed the system's limit.",
        NETLINK,
    ),
    off(
        "process_monitor_rcv_bufs",
        "Buffer of the process monitor.",
        NETLINK,
    ),
    off_flag(
        "process_monitor_rcv_bufs_force",
        "Exceed the system's limit.",
        NETLINK,
    ),
    off("umask", "Mode bits that new files lack.", FILES),
    off(
        "random_seed",
        "Seed of random numbers, for tests.",
        Status::NoEffect("it is for keepalived's own tests"),
    ),
    off("reload_time_file", "When to reload.", RELOAD),
    off_flag("reload_repeat", "Reload again.", RELOAD),
    off_flag("reload_file", "Reload when a file changes.", RELOAD),
    off_flag(
        "reload_check_config",
        "Check before a reload.",
        Status::NoEffect("xlvs always does"),
    ),
    off_flag(
        "include_check",
        "How strict `include` is.",
        Status::NoEffect("`include` is not there yet"),
    ),
    off(
        "config_save_dir",
        "Where read configurations are kept.",
        FILES,
    ),
    off(
        "tmp_config_directory",
        "Where a working copy is kept.",
        FILES,
    ),
    off_flag("data_use_instance", "Name dumps after the instance.", FILES),
    off("iproute_usr_dir", "Where iproute2's names are.", FILES),
    off("iproute_etc_dir", "Where iproute2's names are.", FILES),
];
