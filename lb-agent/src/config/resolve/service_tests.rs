// SPDX-License-Identifier: MIT OR Apache-2.0
//! What virtual servers, real servers and checks mean, and what is said about them.

use std::net::SocketAddr;

use super::super::super::model::{SorryServer, Tunnel};
use super::super::super::{Loaded, parse};
use super::*;

const CHECKED: &str = "real_server 192.0.2.2 80 {\nTCP_CHECK {\n}\n}";

fn service(settings: &str) -> Loaded {
    at(
        "192.0.2.1 80",
        "lb_algo wrr\nlb_kind DR\nprotocol TCP",
        settings,
    )
}

fn at(head: &str, forwarding: &str, settings: &str) -> Loaded {
    let text = format!("virtual_server {head} {{\n{forwarding}\n{settings}\n}}\n");
    parse("t", &text)
}

fn codes(loaded: &Loaded) -> Vec<&'static str> {
    loaded.diagnostics.iter().map(|d| d.code.as_str()).collect()
}

fn only(loaded: &Loaded) -> &VirtualServer {
    assert_eq!(
        loaded.config.virtual_servers.len(),
        1,
        "{:?}",
        loaded.diagnostics
    );
    &loaded.config.virtual_servers[0]
}

#[test]
fn a_check_inherits_from_its_real_server_and_that_from_its_virtual_server() {
    let loaded = service(
        "delay_loop 6\nretry 2\nconnect_timeout 9\nalpha\nreal_server 192.0.2.2 80 {\n\
         retry 3\nTCP_CHECK {\nconnect_timeout 4\n}\n}",
    );
    let check = &only(&loaded).real_servers[0].checks[0];
    assert_eq!(check.retry, 3);
    assert_eq!(check.connect_timeout, Duration::from_secs(4));
    assert_eq!(check.delay_loop, Duration::from_secs(6));
    assert_eq!(check.warmup, check.delay_loop);
    assert_eq!(check.delay_before_retry, Duration::from_secs(1));
    assert!(check.alpha);
    assert_eq!(check.target, "192.0.2.2:80".parse().unwrap());
    assert_eq!(codes(&loaded), Vec::<&str>::new());
}

#[test]
fn dr_keeps_the_services_port_and_probes_the_written_one() {
    for (kind, port, said) in [
        ("DR", 80, &["conflict"][..]),
        ("TUN", 80, &["conflict"][..]),
        ("NAT", 8080, &[][..]),
    ] {
        let forwarding = format!("lb_algo rr\nlb_kind {kind}\nprotocol TCP");
        let servers = "real_server 192.0.2.2 8080 {\nTCP_CHECK {\n}\n}";
        let loaded = at("192.0.2.1 80", &forwarding, servers);
        let server = &only(&loaded).real_servers[0];
        assert_eq!(server.addr.port(), port, "{kind}");
        assert_eq!(server.checks[0].target.port(), 8080, "{kind}");
        assert_eq!(codes(&loaded), said, "{kind}");
    }
}

#[test]
fn a_real_servers_own_method_comes_before_the_services() {
    let loaded = service(
        "real_server 192.0.2.2 8080 {\nlvs_method NAT\nTCP_CHECK {\n}\n}\n\
         real_server 192.0.2.3 80 {\nlvs_method TUN type gre csum\nTCP_CHECK {\n}\n}\n\
         real_server 192.0.2.4 80 {\nTCP_CHECK {\n}\n}",
    );
    let methods: Vec<_> = only(&loaded)
        .real_servers
        .iter()
        .map(|rs| rs.method)
        .collect();
    let gre = ForwardMethod::Tun(Tunnel::Gre { checksum: true });
    assert_eq!(methods, [ForwardMethod::Nat, gre, ForwardMethod::Dr]);
    assert_eq!(codes(&loaded), Vec::<&str>::new());
}

#[test]
fn sctp_has_no_sum_for_gre() {
    let servers = "real_server 192.0.2.2 80 {\nTCP_CHECK {\n}\n}";
    for (protocol, tunnel, fits) in [
        ("SCTP", "gre csum", false),
        ("SCTP", "gre nocsum", true),
        ("SCTP", "gue port 6080 csum", true),
        ("TCP", "gre csum", true),
    ] {
        let head = format!("lb_algo rr\nlb_kind TUN type {tunnel}\nprotocol {protocol}");
        let loaded = at("192.0.2.1 80", &head, servers);
        assert_eq!(loaded.is_applicable(), fits, "{protocol} by {tunnel}");
    }
}

#[test]
fn the_second_of_two_equal_real_servers_is_left_out() {
    let loaded = service(
        "real_server 192.0.2.2 80 {\nweight 3\nTCP_CHECK {\n}\n}\nreal_server 192.0.2.2 80 {\nTCP_CHECK {\n}\n}",
    );
    let servers = &only(&loaded).real_servers;
    assert_eq!((servers.len(), servers[0].weight), (1, 3));
    assert_eq!(codes(&loaded), ["duplicate"]);
}

#[test]
fn what_would_forward_differently_is_an_error() {
    for settings in [
        format!("lb_algo twos\n{CHECKED}"),
        "real_server 192.0.2.2 80 {\nHTTP_GET {\nurl {\npath /\n}\n}\n}".to_owned(),
        "real_server 192.0.2.2 80 {\nuthreshold 5\nlthreshold 6\nTCP_CHECK {\n}\n}".to_owned(),
        "real_server 192.0.2.2 80 {\nTCP_CHECK {\nbindto 2001:db8::9\n}\n}".to_owned(),
    ] {
        assert!(!service(&settings).is_applicable(), "{settings}");
    }
    for head in ["fwmark 1", "group G", "group"] {
        let loaded = at(head, "lb_algo rr\nlb_kind DR\nprotocol TCP", CHECKED);
        assert!(!loaded.is_applicable(), "{head}");
        assert_eq!(loaded.diagnostics.len(), 1, "{head}: {:?}", codes(&loaded));
    }
}

#[test]
fn without_settings_the_defaults_of_keepalived_hold_and_are_told() {
    let loaded = at("192.0.2.1 80", "", "real_server 192.0.2.2 80 {\n}");
    assert_eq!(
        codes(&loaded),
        [
            "default-used",
            "default-used",
            "default-used",
            "default-used"
        ],
        "wlc, NAT, UDP, no check"
    );
    let vs = only(&loaded);
    assert_eq!(vs.scheduler, Scheduler::Wlc);
    assert_eq!(vs.id.protocol, Protocol::Udp);
    assert_eq!(vs.real_servers[0].method, ForwardMethod::Nat);
    assert_eq!((vs.quorum, vs.hysteresis, vs.persistence), (1, 0, None));
}

#[test]
fn every_scheduler_has_its_name() {
    for scheduler in Scheduler::ALL {
        let loaded = at(
            "192.0.2.1 80",
            &format!("lvs_sched {scheduler}\nlvs_method DR\nprotocol tcp"),
            CHECKED,
        );
        assert_eq!(only(&loaded).scheduler, scheduler);
        assert_eq!(codes(&loaded), Vec::<&str>::new());
    }
    let maglev = at(
        "192.0.2.1 80",
        "lb_algo maglev\nlb_kind DR\nprotocol TCP",
        CHECKED,
    );
    assert_eq!(only(&maglev).scheduler, Scheduler::Mh);
}

#[test]
fn flags_go_with_their_scheduler() {
    for (algo, flags, port, fallback, said) in [
        ("sh", "sh-port\nsh-fallback", true, true, 0),
        ("mh", "mh-port", true, false, 0),
        ("mh", "mh-fallback", false, true, 0),
        ("sh", "flag-1", false, true, 0),
        ("mh", "flag-2", true, false, 0),
        ("mh", "sh-port", false, false, 1),
        ("rr", "sh-port\nmh-fallback\nflag-1", false, false, 3),
        ("sh", "flag-3", false, false, 1),
    ] {
        let forwarding = format!("{flags}\nlb_algo {algo}\nlb_kind DR\nprotocol TCP");
        let loaded = at("192.0.2.1 80", &forwarding, CHECKED);
        let vs = only(&loaded);
        assert_eq!(
            vs.flags,
            SchedulerFlags { port, fallback },
            "{algo} {flags}"
        );
        assert_eq!(loaded.diagnostics.len(), said, "{algo} {flags}");
        assert!(loaded.is_applicable());
    }
}

#[test]
fn persistence_has_a_time_and_a_granularity() {
    let persistence = |head: &str, settings: &str| {
        let server = if head.contains(':') {
            "2001:db8::2"
        } else {
            "192.0.2.2"
        };
        let server = format!("real_server {server} 80 {{\nTCP_CHECK {{\n}}\n}}");
        let loaded = at(
            head,
            "lb_algo rr\nlb_kind DR\nprotocol TCP",
            &format!("{settings}\n{server}"),
        );
        let found = only(&loaded).persistence;
        (
            found.map(|p| (p.timeout.as_secs(), p.granularity)),
            codes(&loaded),
        )
    };
    let v4 = "192.0.2.1 80";
    let v6 = "2001:db8::1 80";
    for (head, settings, wanted, said) in [
        (v4, "", None, &[][..]),
        (v4, "persistence_timeout 50", Some((50, 32)), &[]),
        (v4, "persistence_timeout", Some((360, 32)), &[]),
        (v6, "persistence_timeout 50", Some((50, 128)), &[]),
        (
            v4,
            "persistence_granularity 255.255.255.0",
            Some((360, 24)),
            &[],
        ),
        (v4, "persistence_granularity 20", Some((360, 20)), &[]),
        (v6, "persistence_granularity 64", Some((360, 64)), &[]),
        (
            v6,
            "persistence_granularity 255.255.0.0",
            None,
            &["invalid-value"],
        ),
        (v4, "persistence_granularity 64", None, &["invalid-value"]),
        (
            v4,
            "persistence_granularity 255.0.255.0",
            None,
            &["invalid-value"],
        ),
        (
            v4,
            "persistence_granularity 0.0.0.0",
            None,
            &["invalid-value"],
        ),
        (v4, "persistence_granularity 0", None, &["out-of-range"]),
        (
            "192.0.2.1",
            "",
            Some((360, 32)),
            &["default-used", "conflict"],
        ),
        (
            "192.0.2.1 0",
            "persistence_timeout 9",
            Some((9, 32)),
            &["conflict"],
        ),
    ] {
        let (found, told) = persistence(head, settings);
        assert_eq!(found, wanted, "{head} {settings}");
        assert_eq!(told, said, "{head} {settings}");
    }
}

#[test]
fn a_check_of_a_server_without_a_port_needs_one_of_its_own() {
    let forwarding = "lb_algo rr\nlb_kind DR\nprotocol TCP\npersistence_timeout 9";
    let bare = at(
        "192.0.2.1",
        forwarding,
        "real_server 192.0.2.2 {\nTCP_CHECK {\n}\n}",
    );
    assert_eq!(codes(&bare), ["missing-setting"]);
    assert!(!bare.is_applicable());
    let with = "real_server 192.0.2.2 {\nTCP_CHECK {\nconnect_port 22\n}\n}";
    assert_eq!(
        codes(&at("192.0.2.1", forwarding, with)),
        Vec::<&str>::new()
    );
}

#[test]
fn one_packet_scheduling_is_for_udp() {
    let ops = |protocol: &str| {
        let forwarding = format!("lb_algo rr\nlb_kind DR\nops\nprotocol {protocol}");
        let loaded = at(
            "192.0.2.1 53",
            &forwarding,
            "real_server 192.0.2.2 53 {\nTCP_CHECK {\n}\n}",
        );
        (only(&loaded).one_packet, codes(&loaded))
    };
    assert_eq!(ops("UDP"), (true, vec![]));
    assert_eq!(ops("TCP"), (false, vec!["conflict"]));
    assert_eq!(ops("SCTP"), (false, vec!["conflict"]));
}

#[test]
fn families_are_mixed_by_tunnels_only() {
    let servers = |kind: &str, server: &str| {
        let forwarding = format!("lb_algo rr\nlb_kind {kind}\nprotocol TCP");
        let server = format!("real_server {server} 80 {{\nTCP_CHECK {{\n}}\n}}");
        let loaded = at("2001:db8::1 80", &forwarding, &server);
        (only(&loaded).real_servers.len(), codes(&loaded))
    };
    assert_eq!(servers("DR", "2001:db8::2"), (1, vec![]));
    assert_eq!(servers("DR", "192.0.2.2"), (0, vec!["conflict"]));
    assert_eq!(servers("NAT", "192.0.2.2"), (0, vec!["conflict"]));
    assert_eq!(servers("TUN", "192.0.2.2"), (1, vec![]));
}

#[test]
fn checks_are_made_over_ipv6() {
    let forwarding = "lb_algo rr\nlb_kind DR\nprotocol TCP";
    let server = "real_server 2001:db8::2 80 {\nTCP_CHECK {\nbindto 2001:db8::9\n}\n\
                  TCP_CHECK {\nbind_port 99\nconnect_ip 2001:db8::5\n}\n}";
    let loaded = at("2001:db8::1 80", forwarding, server);
    let checks = &only(&loaded).real_servers[0].checks;
    let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
    assert_eq!(checks[0].target, addr("[2001:db8::2]:80"));
    assert_eq!(checks[0].source, Some(addr("[2001:db8::9]:0")));
    assert_eq!(checks[1].target, addr("[2001:db8::5]:80"));
    assert_eq!(checks[1].source, Some(addr("[::]:99")));
}

#[test]
fn ip_family_is_what_the_address_says() {
    let family = |word: &str| codes(&service(&format!("ip_family {word}\n{CHECKED}")));
    assert_eq!(family("inet"), Vec::<&str>::new());
    assert_eq!(family("inet6"), ["conflict"]);
}

#[test]
fn a_group_gives_one_virtual_server_many_addresses() {
    let text = format!(
        "virtual_server_group web {{\n192.0.2.1 80\n192.0.2.1 443\n192.0.2.8-10 80\n192.0.2.9 80\n\
         192.0.2.20-21 8000-8001\nnonsense 80\n192.0.2.30 9-8\n}}\n\
         virtual_server group web {{\nlb_algo rr\nlb_kind NAT\nprotocol TCP\n{CHECKED}\n}}\n"
    );
    let loaded = parse("t", &text);
    let ids: Vec<String> = only(&loaded).ids().map(|id| id.to_string()).collect();
    assert_eq!(
        ids,
        [
            "TCP 192.0.2.1:80",
            "TCP 192.0.2.1:443",
            "TCP 192.0.2.8:80",
            "TCP 192.0.2.9:80",
            "TCP 192.0.2.10:80",
            "TCP 192.0.2.20:8000",
            "TCP 192.0.2.20:8001",
            "TCP 192.0.2.21:8000",
            "TCP 192.0.2.21:8001"
        ]
    );
    assert_eq!(
        codes(&loaded),
        ["duplicate", "invalid-value", "invalid-value"]
    );
    assert_eq!(only(&loaded).group.as_deref(), Some("web"));
}

#[test]
fn groups_are_found_used_and_bounded() {
    let with = |group: &str, service: &str| {
        let text = format!(
            "{group}\nvirtual_server {service} {{\nlb_algo rr\nlb_kind NAT\nprotocol TCP\n{CHECKED}\n}}\n"
        );
        let loaded = parse("t", &text);
        (loaded.is_applicable(), codes(&loaded))
    };
    let web = "virtual_server_group web {\n192.0.2.1 80\n}";
    assert_eq!(with(web, "group web"), (true, vec![]));
    assert_eq!(
        with(web, "group wep"),
        (false, vec!["no-effect", "unknown-name"])
    );
    assert_eq!(with(web, "192.0.2.1 80"), (true, vec!["no-effect"]));
    let twice = format!("{web}\n{web}");
    assert_eq!(with(&twice, "group web"), (true, vec!["duplicate"]));
    let empty = "virtual_server_group web {\n}";
    assert_eq!(with(empty, "group web"), (true, vec!["empty-block"]));
    let marked = "virtual_server_group web {\n192.0.2.1 80\nfwmark 7\n}";
    assert_eq!(with(marked, "group web"), (false, vec!["not-supported"]));
    let huge = "virtual_server_group web {\n2001:db8::/32 80\n}";
    assert_eq!(with(huge, "group web"), (false, vec!["limit-exceeded"]));
    let wide = "virtual_server_group web {\n192.0.2.1-9 1-65535\n}";
    assert_eq!(with(wide, "group web"), (false, vec!["limit-exceeded"]));
    let mixed = "virtual_server_group web {\n192.0.2.1 80\n2001:db8::1 80\n}";
    assert_eq!(with(mixed, "group web"), (false, vec!["conflict"]));
}

#[test]
fn an_address_is_in_one_virtual_server_only() {
    let text = format!(
        "virtual_server_group web {{\n192.0.2.1-3 80\n}}\n\
         virtual_server 192.0.2.2 80 {{\nlb_algo rr\nlb_kind DR\nprotocol TCP\n{CHECKED}\n}}\n\
         virtual_server group web {{\nlb_algo rr\nlb_kind DR\nprotocol TCP\n{CHECKED}\n}}\n\
         virtual_server 192.0.2.2 80 {{\nlb_algo rr\nlb_kind DR\nprotocol UDP\n{CHECKED}\n}}\n"
    );
    let loaded = parse("t", &text);
    assert_eq!(codes(&loaded), ["duplicate"]);
    assert_eq!(loaded.config.virtual_servers.len(), 2);
}

#[test]
fn the_sorry_server_is_one_of_the_service() {
    let loaded = service(&format!(
        "sorry_server 192.0.2.9\nsorry_server_inhibit\nsorry_server_lvs_method TUN\n{CHECKED}"
    ));
    let sorry = SorryServer {
        addr: "192.0.2.9:80".parse().unwrap(),
        method: ForwardMethod::Tun(Tunnel::Ipip),
        inhibit: true,
    };
    assert_eq!(only(&loaded).sorry_server, Some(sorry));
    assert_eq!(codes(&loaded), Vec::<&str>::new());
    for (settings, there, said) in [
        ("sorry_server 192.0.2.9 8080", true, &["conflict"][..]),
        ("sorry_server 2001:db8::9 80", false, &["conflict"]),
        ("sorry_server nowhere", false, &["invalid-value"]),
        ("sorry_server_inhibit", false, &["no-effect"]),
        ("sorry_server_lvs_method NAT", false, &["no-effect"]),
    ] {
        let loaded = service(&format!("{settings}\n{CHECKED}"));
        assert_eq!(only(&loaded).sorry_server.is_some(), there, "{settings}");
        assert_eq!(codes(&loaded), said, "{settings}");
    }
}

#[test]
fn quorum_can_be_reached() {
    for (settings, quorum, hysteresis, said) in [
        ("", 1, 0, &[][..]),
        ("quorum 2\nhysteresis 1", 2, 1, &[]),
        ("quorum 2\nhysteresis 2", 2, 1, &["out-of-range"]),
        ("quorum 3\nhysteresis 1", 3, 1, &["conflict"]),
        ("quorum 5", 3, 0, &["out-of-range"]),
        ("quorum 0", 1, 0, &["out-of-range"]),
    ] {
        let server = "real_server 192.0.2.2 80 {\nweight 3\nTCP_CHECK {\n}\n}";
        let loaded = service(&format!("{settings}\n{server}"));
        let vs = only(&loaded);
        assert_eq!(
            (vs.quorum, vs.hysteresis),
            (quorum, hysteresis),
            "{settings}"
        );
        assert_eq!(codes(&loaded), said, "{settings}");
    }
}

#[test]
fn scripts_of_services_run_as_script_user_unless_they_say_whom() {
    let text = "global_defs {\nscript_user nobody\n}\nvirtual_server 192.0.2.1 80 {\nlb_algo rr\n\
         lb_kind DR\nprotocol TCP\nquorum_up \"/bin/up 1\"\nquorum_down /bin/down root\n\
         real_server 192.0.2.2 80 {\nnotify_up /bin/a\nnotify_down /bin/b\nTCP_CHECK {\n}\n}\n}\n";
    let loaded = parse("t", text);
    let vs = only(&loaded);
    let user = |program: &Option<Program>| {
        let program = program.clone().expect("a program");
        (program.argv.join(" "), program.user.expect("a user").user)
    };
    let pair = |argv: &str, user: &str| (argv.to_owned(), user.to_owned());
    assert_eq!(user(&vs.quorum_up), pair("/bin/up 1", "nobody"));
    assert_eq!(user(&vs.quorum_down), pair("/bin/down", "root"));
    assert_eq!(
        user(&vs.real_servers[0].notify_up),
        pair("/bin/a", "nobody")
    );
    assert_eq!(
        user(&vs.real_servers[0].notify_down),
        pair("/bin/b", "nobody")
    );
}

#[test]
fn limits_have_a_diagnostic() {
    let servers: Vec<String> = (0..=MAX_SERVICE_DESTS)
        .map(|n| {
            let (high, low) = (n / 200, n % 200);
            format!("real_server 10.0.{high}.{low} 80 {{\nTCP_CHECK {{\n}}\n}}")
        })
        .collect();
    assert_eq!(codes(&service(&servers.join("\n"))), ["limit-exceeded"]);
    let sorry = format!("sorry_server 10.1.1.1\n{}", servers[1..].join("\n"));
    assert_eq!(
        codes(&service(&sorry)),
        ["limit-exceeded"],
        "it needs room, too"
    );
}

#[test]
fn settings_of_connections_are_read() {
    let loaded = parse(
        "t",
        "global_defs {\nlvs_timeouts tcp 7200 udp 30\nxlvs_connections 4096\nxlvs_watchdog 5\n\
         expire_nodest_conn\nexpire_quiescent_template on\nsloppy_tcp off\n}\n",
    );
    let global = &loaded.config.global;
    assert_eq!(global.lvs_timeouts.tcp, Some(Duration::from_hours(2)));
    assert_eq!(global.lvs_timeouts.tcp_fin, None);
    assert_eq!(global.lvs_timeouts.udp, Some(Duration::from_secs(30)));
    assert_eq!(global.conns.capacity, 4096);
    assert_eq!(global.conns.watchdog, Some(Duration::from_secs(5)));
    assert!(global.conns.expire_nodest_conn && global.conns.expire_quiescent_template);
    assert!(!global.conns.sloppy_tcp);
    assert_eq!(codes(&loaded), Vec::<&str>::new());
    for (line, code) in [
        ("lvs_timeouts tcp 0", "out-of-range"),
        ("lvs_timeouts tcp 5 fin 6", "invalid-value"),
        ("lvs_timeouts tcp 5 udp", "invalid-value"),
        ("xlvs_connections 0", "out-of-range"),
        ("xlvs_connections 16777217", "out-of-range"),
        ("xlvs_watchdog 0.5", "out-of-range"),
        ("sloppy_tcp maybe", "invalid-value"),
    ] {
        let loaded = parse("t", &format!("global_defs {{\n{line}\n}}\n"));
        assert_eq!(codes(&loaded), [code], "{line}");
    }
}

#[test]
fn the_agents_scheduling_is_read() {
    let text = "global_defs {\nvrrp_rt_priority 50\nvrrp_priority -15\nvrrp_no_swap\n}\n";
    let loaded = parse("t", text);
    let scheduling = loaded.config.global.scheduling;
    assert_eq!(
        (scheduling.rt_priority, scheduling.nice),
        (Some(50), Some(-15))
    );
    assert!(scheduling.no_swap);
    assert_eq!(codes(&loaded), Vec::<&str>::new());
    let loaded = parse("t", "global_defs {\nvrrp_rt_priority\n}\n");
    assert_eq!(loaded.config.global.scheduling.rt_priority, Some(1));
    for line in ["vrrp_rt_priority 100", "vrrp_priority 20"] {
        let loaded = parse("t", &format!("global_defs {{\n{line}\n}}\n"));
        assert_eq!(codes(&loaded), ["out-of-range"], "{line}");
    }
}

#[test]
fn each_fifo_is_opened_once_and_knows_whom_it_is_told_of() {
    let loaded = parse(
        "t",
        "global_defs {\nvrrp_notify_fifo /run/a\nlvs_notify_fifo /run/a\nnotify_fifo /run/b\n}\n",
    );
    let fifos = &loaded.config.global.notify_fifos;
    let told: Vec<_> = fifos
        .iter()
        .map(|f| (f.path.as_str(), f.instances, f.services))
        .collect();
    assert_eq!(told, [("/run/b", true, true), ("/run/a", true, true)]);
    let loaded = parse("t", "global_defs {\nlvs_notify_fifo /run/a\n}\n");
    let fifo = &loaded.config.global.notify_fifos[0];
    assert!(!fifo.instances && fifo.services);
}
