// SPDX-License-Identifier: MIT OR Apache-2.0
//! What holds for the room as a whole: suggestions, the lines that keepalived complains about, and
//! no panic on any bytes.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::diag::{Code, Severity};
use super::model::{Auth, InitialState, Protocol, Scheduler, UnicastPeer};
use super::tree::Item;
use super::*;

fn codes(loaded: &Loaded) -> Vec<&'static str> {
    loaded
        .diagnostics
        .iter()
        .map(|diagnostic| diagnostic.code.as_str())
        .collect()
}

fn with_code(loaded: &Loaded, code: Code) -> Vec<&Diagnostic> {
    loaded
        .diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.code == code)
        .collect()
}

/// A file with `line` in the block where its writer meant it to be.
fn within(block: &str, line: &str) -> String {
    match block {
        "" => format!("{line}\n"),
        "vrrp_script" | "vrrp_instance" | "vrrp_sync_group" => {
            format!("{block} A {{\n{line}\n}}\n")
        }
        "authentication" => format!("vrrp_instance A {{\nauthentication {{\n{line}\n}}\n}}\n"),
        "real_server" => {
            format!("virtual_server 192.0.2.1 80 {{\nreal_server 192.0.2.2 80 {{\n{line}\n}}\n}}\n")
        }
        "TCP_CHECK" => within("real_server", &format!("TCP_CHECK {{\n{line}\n}}")),
        other => format!("{other} {{\n{line}\n}}\n"),
    }
}

#[test]
fn misspellings_of_real_files_get_the_right_suggestion() {
    for (block, line, meant) in [
        ("", "vrrp_sripts a {\n}", "`vrrp_script`"),
        ("", "vvrp_script a {\n}", "`vrrp_script`"),
        ("", "vrrp_script_chk_nginx {\n}", "`vrrp_script chk_nginx`"),
        ("", "virrp_sync_group a {\n}", "`vrrp_sync_group`"),
        (
            "",
            "virtual_server192.168.0.100 80 {\n}",
            "`virtual_server 192.168.0.100`",
        ),
        ("vrrp_script", "scripts \"x\"", "`script`"),
        ("vrrp_instance", "no_premmpt", "`nopreempt`"),
        (
            "vrrp_instance",
            "treck_interface {\neth0\n}",
            "`track_interface`",
        ),
        (
            "vrrp_instance",
            "virtual_route_id 50",
            "`virtual_router_id`",
        ),
        ("vrrp_instance", "authenication {\n}", "`authentication`"),
        ("vrrp_instance", "netify_backup x", "`notify_backup`"),
        ("vrrp_sync_group", "netify_backup x", "`notify_backup`"),
        (
            "vrrp_instance",
            "lvs_sync_daemon_inteface eth0",
            "`lvs_sync_daemon_interface`",
        ),
        ("vrrp_instance", "macast_src_ip 192.0.2.1", "`mcast_src_ip`"),
        ("authentication", "auth_typePASS", "`auth_type PASS`"),
        ("real_server", "weigth 3", "`weight`"),
        ("real_server", "SMTP_CHEKC {\n}", "`SMTP_CHECK`"),
        ("TCP_CHECK", "conect_timeout 3", "`connect_timeout`"),
        (
            "global_defs",
            "smtp_connect_time 30",
            "`smtp_connect_timeout`",
        ),
        ("global_defs", "weigth 30", "`weight`, which belongs in"),
    ] {
        let loaded = parse("t", &within(block, line));
        let unknown = with_code(&loaded, Code::UnknownKeyword);
        let hint = unknown
            .first()
            .and_then(|d| d.hint.as_deref())
            .unwrap_or("none");
        assert_eq!(unknown.len(), 1, "{line}: {:?}", codes(&loaded));
        assert!(
            hint.starts_with(&format!("did you mean {meant}")),
            "{line}: {hint}"
        );
        assert_eq!(unknown[0].severity, Severity::Warning, "{line}");
    }
}

#[test]
fn misspelt_values_get_a_suggestion() {
    for (block, line, meant) in [
        ("vrrp_instance", "state master", "MASTER"),
        ("vrrp_instance", "state BAKCUP", "BACKUP"),
        ("virtual_server 192.0.2.1 80", "lb_algo wwr", "wrr"),
        ("virtual_server 192.0.2.1 80", "lb_kind dr", "DR"),
        ("virtual_server 192.0.2.1 80", "protocol tcpp", "TCP"),
        ("authentication", "auth_type PAS", "PASS"),
    ] {
        let loaded = parse("t", &within(block, line));
        let invalid = with_code(&loaded, Code::InvalidValue);
        let hint = invalid
            .first()
            .and_then(|d| d.hint.as_deref())
            .unwrap_or("none");
        assert_eq!(hint, format!("did you mean `{meant}`?"), "{line}");
    }
}

#[test]
fn a_keyword_of_another_block_is_said_to_belong_there() {
    let loaded = parse("t", "virtual_router_id 5\n");
    assert_eq!(
        loaded.diagnostics[0].message,
        "`virtual_router_id` belongs in `vrrp_instance`, not at the top level; it has no effect here"
    );
}

#[test]
fn obsolete_words_are_accepted() {
    for (block, line) in [
        ("virtual_server 192.0.2.1 80", "nat_mask 255.255.255.0"),
        ("global_defs", "lvs_id A"),
    ] {
        let loaded = parse("t", &within(block, line));
        assert_eq!(with_code(&loaded, Code::NoEffect).len(), 1, "{line}");
        assert!(
            with_code(&loaded, Code::UnknownKeyword).is_empty(),
            "{line}"
        );
    }
}

#[test]
fn a_misspelt_block_is_one_finding_and_its_content_is_checked_without_effect() {
    let text = "vrrp_instance A {\ninterface eth0\nvirtual_router_id 5\n\
                authenication {\nauth_type PASS\nauth_pass abc\nauth_x 1\n}\n\
                virtual_ipaddress {\n192.0.2.9\n}\n}\n";
    let loaded = parse("t", text);
    assert_eq!(
        codes(&loaded),
        ["takeover-time", "unknown-keyword", "unknown-keyword"]
    );
    assert!(loaded.diagnostics[2].message.contains("`auth_x`"));
    assert_eq!(loaded.config.vrrp_instances[0].auth, Auth::None);
}

#[test]
fn closing_braces_are_never_unknown_keywords() {
    let loaded = parse("t", "nonsense {\na {\nb\n}\n}\n}\n");
    assert_eq!(codes(&loaded), ["unknown-keyword", "extra-close-brace"]);
}

#[test]
fn a_missing_brace_names_the_block_it_belongs_to() {
    let text = "virtual_server 192.0.2.1 80 {\nlb_algo rr\nlb_kind DR\nprotocol TCP\n\
                real_server 192.0.2.2 80 {\nTCP_CHECK {\n}\nreal_server 192.0.2.3 80 {\n}\n}\n";
    let loaded = parse("t", text);
    let missing = with_code(&loaded, Code::MissingCloseBrace);
    assert_eq!(loaded.source.locate(missing[0].span).line, 5);
    assert!(
        missing[0].message.contains("`real_server 192.0.2.2 80`"),
        "{}",
        missing[0].message
    );

    let loaded = parse(
        "t",
        "global_defs {\nrouter_id A\n}\nvrrp_script a {\nscript b\n",
    );
    let missing = with_code(&loaded, Code::MissingCloseBrace);
    assert_eq!(loaded.source.locate(missing[0].span).line, 4);
}

#[test]
fn two_directives_on_a_line_are_told_apart() {
    let loaded = parse("t", &within("vrrp_instance", "priority 50 state MASTER"));
    assert_eq!(with_code(&loaded, Code::TwoOnOneLine).len(), 1);
}

#[test]
fn what_needs_a_preprocessor_is_an_error_and_never_misread() {
    let instance = "vrrp_instance A {\ninterface eth0\nvirtual_router_id 5\nvirtual_ipaddress {\n192.0.2.9\n}\n";
    for line in [
        "include /etc/x.conf",
        "@main priority 7",
        "$P=7\npriority $P",
        "~SEQ(x, 1, 3) priority 7",
    ] {
        let loaded = parse("t", &format!("{instance}{line}\n}}\n"));
        assert!(!loaded.is_applicable(), "{line}");
        assert_eq!(with_code(&loaded, Code::NotSupported).len(), 1, "{line}");
        assert!(
            with_code(&loaded, Code::UnknownKeyword).is_empty(),
            "{line}"
        );
        assert_eq!(loaded.config.vrrp_instances[0].priority, 100, "{line}");
    }
}

#[test]
fn a_missing_parameter_is_an_error_wherever_keepalived_stops() {
    for (block, line) in [
        ("vrrp_instance", "mcast_src_ip"),
        ("vrrp_instance", "garp_master_delay"),
        ("vrrp_instance", "virtual_router_id"),
        ("real_server", "weight"),
        ("", "vrrp_script {\n}"),
        ("", "vrrp_instance {\n}"),
    ] {
        let loaded = parse("t", &within(block, line));
        let missing = with_code(&loaded, Code::MissingParameter);
        assert_eq!(
            missing.first().map(|d| d.severity),
            Some(Severity::Error),
            "{line}"
        );
    }
}

#[test]
fn garp_spacing_of_0_is_accepted_in_silence() {
    let loaded = parse(
        "t",
        "global_defs {\nvrrp_garp_interval 0\nvrrp_gna_interval 0\n}\n",
    );
    assert_eq!(codes(&loaded), Vec::<&str>::new());
    let loaded = parse("t", "global_defs {\nvrrp_garp_interval 0.1\n}\n");
    assert_eq!(codes(&loaded), Vec::<&str>::new());
}

#[test]
fn a_password_that_ends_at_a_comment_character_is_pointed_out() {
    let auth = within("authentication", "auth_type PASS\nauth_pass abc!def");
    assert_eq!(with_code(&parse("t", &auth), Code::CommentInValue).len(), 1);
}

#[test]
fn two_instances_with_one_router_id_on_one_interface_are_an_error() {
    let one = |name: &str, interface: &str| {
        format!("vrrp_instance {name} {{\ninterface {interface}\nvirtual_router_id 5\n}}\n")
    };
    let same = parse("t", &(one("A", "eth0") + &one("B", "eth0")));
    assert_eq!(with_code(&same, Code::DuplicateVrid).len(), 1);
    assert!(!same.is_applicable());
    assert!(parse("t", &(one("A", "eth0") + &one("B", "eth1"))).is_applicable());
    let twice = parse("t", &(one("A", "eth0") + &one("A", "eth0")));
    assert_eq!(with_code(&twice, Code::Duplicate).len(), 1);
    assert_eq!(twice.config.vrrp_instances.len(), 1);
}

#[test]
fn virtual_addresses_have_their_options() {
    let text = within(
        "vrrp_instance",
        "interface eth0\nvirtual_router_id 5\nvirtual_ipaddress {\n\
         192.0.2.9/24 brd + dev eth1 label eth1:1 scope link\n192.0.2.10\n2001:db8::1\nfoo\n}",
    );
    let loaded = parse("t", &text);
    let vips = &loaded.config.vrrp_instances[0].vips;
    assert_eq!(vips.len(), 2);
    assert_eq!(vips[0].broadcast, Some("192.0.2.255".parse().unwrap()));
    assert_eq!(
        (vips[0].dev.as_deref(), vips[0].label.as_deref()),
        (Some("eth1"), Some("eth1:1"))
    );
    assert_eq!(
        (vips[0].scope, vips[1].scope, vips[1].prefix_len),
        (253, 0, 32)
    );
    assert_eq!(
        with_code(&loaded, Code::Conflict).len(),
        1,
        "another family"
    );
    assert_eq!(with_code(&loaded, Code::InvalidValue).len(), 1);
}

#[test]
fn the_pair_of_hosts_in_ok_means_what_its_writer_meant() {
    let read = |name: &str| read(&golden::cases().join("ok").join(name)).expect("a case");
    let master = read("003-keepalived-master.conf");
    let instance = &master.config.vrrp_instances[0];
    assert_eq!(
        (instance.state, instance.priority, instance.vrid),
        (InitialState::Master, 200, 33)
    );
    assert_eq!(instance.auth, Auth::Pass(*b"123456\0\0"));
    assert_eq!(
        instance.unicast_peers,
        [UnicastPeer::anywhere("172.20.128.3".parse().unwrap())]
    );
    assert_eq!(instance.source, Some("172.20.128.2".parse().unwrap()));
    assert_eq!(master.worst(), Some(Severity::Info));

    let service = &read("001-virtual_server-closed.conf")
        .config
        .virtual_servers[0];
    assert_eq!(
        (service.id.protocol, service.scheduler),
        (Protocol::Tcp, Scheduler::Wrr)
    );
    assert_eq!(service.real_servers.len(), 2);
    assert_eq!(
        service.real_servers[1].checks[0].retry, 3,
        "nb_get_retry counts as retry"
    );
}

/// Lines that `keepalived -t` 2.2.7 complains about, by case.
const ORACLE: [(&str, &[usize]); 13] = [
    ("ok/000-flat.conf", &[]),
    ("ok/000-reflowed.conf", &[20, 26]),
    // 29 is left out: it is a consequence of keepalived's having lost its place at line 25.
    (
        "err/001-annotated-misspelled.conf",
        &[2, 3, 4, 5, 15, 18, 23, 25, 26, 28, 30, 31, 32, 33, 34],
    ),
    ("ok/001-host5-active-active.conf", &[22, 45]),
    ("ok/001-host6-active-active.conf", &[22, 45]),
    ("err/001-http_get-wrapped.conf", &[10]),
    ("ok/001-virtual_server-closed.conf", &[11, 20]),
    ("ok/001-virtual_server-unclosed.conf", &[11, 20]),
    // 13 and 14 of it set a spacing of 0, which xlvs accepts on purpose.
    ("ok/002-fixed.conf", &[11]),
    (
        "ok/002-verbatim-no-global_defs-open.conf",
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15],
    ),
    ("err/003-annotated-full.conf", &[25, 39]),
    ("ok/004-back-translated-master.conf", &[23]),
    (
        "ok/004-machine-translated-master.conf",
        &[
            3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26,
            27, 28,
        ],
    ),
];

/// Lines with a finding, and lines of blocks whose head has one.
fn covered_lines(loaded: &Loaded) -> BTreeSet<usize> {
    fn blocks(items: &[Item], source: &Source, heads: &BTreeSet<usize>, out: &mut BTreeSet<usize>) {
        for item in items {
            let (first, last) = (
                source.line_of(item.span.start),
                source.line_of(item.span.end),
            );
            if item.body.is_some() && heads.contains(&first) {
                out.extend(first..=last);
            }
            blocks(item.body.as_deref().unwrap_or_default(), source, heads, out);
        }
    }
    let lines: BTreeSet<usize> = loaded
        .diagnostics
        .iter()
        .map(|d| loaded.source.line_of(d.span.start))
        .collect();
    let mut ignored = Vec::new();
    let tokens = lexer::tokens(&loaded.source, &mut ignored);
    let tree = tree::build(tokens, keywords::always_opens_block, &mut ignored);
    let mut covered = lines.clone();
    blocks(&tree.items, &loaded.source, &lines, &mut covered);
    covered
}

#[test]
fn every_line_that_keepalived_complains_about_is_covered() {
    for (name, lines) in ORACLE {
        let loaded = read(&golden::cases().join(name)).expect("a case");
        let covered = covered_lines(&loaded);
        let missed: Vec<&usize> = lines
            .iter()
            .filter(|line| !covered.contains(line))
            .collect();
        assert_eq!(missed, Vec::<&usize>::new(), "{name}");
    }
}

#[test]
fn a_translated_file_is_said_to_be_one_and_stays_readable() {
    let loaded =
        read(&golden::cases().join("ok/004-machine-translated-master.conf")).expect("a case");
    assert_eq!(with_code(&loaded, Code::TranslatedFile).len(), 1);
    assert!(loaded.diagnostics.len() <= 8, "{:?}", codes(&loaded));
}

#[test]
fn a_file_that_cannot_be_read_is_not_applicable() {
    let loaded = load(Path::new("/nonexistent/keepalived.conf"));
    assert_eq!(codes(&loaded), ["unreadable"]);
    assert!(!loaded.is_applicable());
}

#[test]
fn bytes_that_are_not_utf8_are_a_warning_only_where_they_are_read() {
    let level = |bytes: &[u8]| parse_bytes("t", bytes).worst();
    assert_eq!(
        level(b"global_defs {\nrouter_id a # \xb1\xb8\n}\n"),
        Some(Severity::Info)
    );
    assert_eq!(
        level(b"global_defs {\nrouter_id a\xb1\n}\n"),
        Some(Severity::Warning)
    );
}

#[test]
fn an_empty_file_is_clean_and_a_commented_one_is_not() {
    assert_eq!(codes(&parse("t", " \n\n")), Vec::<&str>::new());
    assert_eq!(
        codes(&parse("t", "! all { of it }\n# comment\n")),
        ["defines-nothing"]
    );
}

/// Everything a caller may do with what was read.
fn exercise(bytes: &[u8]) {
    let loaded = parse_bytes("fuzz.conf", bytes);
    for diagnostic in &loaded.diagnostics {
        render::snippet(&loaded.source, diagnostic, true);
        render::snippet(&loaded.source, diagnostic, false);
        render::line(&loaded.source, diagnostic);
        let row: serde_json::Value =
            serde_json::from_str(&render::json(&loaded.source, diagnostic)).expect("JSON");
        assert!(
            row["line"].as_u64() <= Some(loaded.source.text().lines().count().max(1) as u64 + 1)
        );
    }
    for instance in &loaded.config.vrrp_instances {
        assert!(instance.vrid > 0 && instance.priority > 0 && !instance.advert_interval.is_zero());
    }
    let (mut ids, mut count) = (BTreeSet::new(), 0);
    for service in &loaded.config.virtual_servers {
        let all_ports = service.ids().any(|id| id.port == 0);
        assert!(!all_ports || service.persistence.is_some());
        assert!(service.quorum > service.hysteresis);
        for server in &service.real_servers {
            let v4 = server.addr.is_ipv4();
            let same = service.ids().all(|id| id.addr.is_ipv4() == v4);
            assert!(same || server.method.mixes_families());
        }
        let mut addrs = BTreeSet::new();
        let mut servers = service.real_servers.iter();
        assert!(servers.all(|server| addrs.insert(server.addr)));
        ids.extend(service.ids());
        count += service.ids().count();
    }
    assert_eq!(ids.len(), count, "an address belongs to one service");
    assert!(with_code(&loaded, Code::Unreadable).is_empty());
}

/// Services that are put together of sensible and of foolish lines.
fn services() -> impl Strategy<Value = String> {
    const HEADS: &[&str] = &[
        "192.0.2.1 80",
        "192.0.2.1",
        "192.0.2.1 0",
        "2001:db8::1 80",
        "2001:db8::1",
        "group four",
        "group both",
        "group none",
        "fwmark 1",
    ];
    const LINES: &[&str] = &[
        "lb_algo wlc",
        "lb_algo mh",
        "lb_algo sh",
        "lb_algo x",
        "sh-port",
        "mh-fallback",
        "flag-3",
        "lb_kind DR",
        "lb_kind NAT",
        "lb_kind TUN",
        "lb_kind TUN type gue port 6080 remcsum",
        "lb_kind TUN type gre remcsum",
        "lb_kind TUN type",
        "protocol tcp",
        "protocol UDP",
        "protocol SCTP",
        "ops",
        "persistence_timeout 9",
        "persistence_timeout",
        "persistence_granularity 255.255.0.0",
        "persistence_granularity 64",
        "ip_family inet6",
        "quorum 4",
        "quorum 2147483647",
        "hysteresis 3",
        "hysteresis 2147483647",
        "weight 0",
        "weight 2147483647",
        "sorry_server 192.0.2.9 80",
        "sorry_server 2001:db8::9",
        "sorry_server_inhibit",
        "sorry_server_lvs_method TUN",
    ];
    const SERVERS: &[&str] = &[
        "192.0.2.2 80 {\nTCP_CHECK {\n}\n}",
        "192.0.2.2 {\nweight 2\nTCP_CHECK {\nbindto 2001:db8::7\n}\n}",
        "192.0.2.3 8080 {\nlvs_method TUN type gre\nuthreshold 3\nlthreshold 9\n}",
        "2001:db8::2 80 {\nTCP_CHECK {\nbind_port 9\n}\n}",
        "2001:db8::3 {\nlvs_method TUN\n}",
        "nowhere 80 {\n}",
    ];
    let some = |of: &'static [&'static str], most| {
        proptest::collection::vec(proptest::sample::select(of), 0..most)
    };
    let one = (
        proptest::sample::select(HEADS),
        some(LINES, 9),
        some(SERVERS, 5),
    )
        .prop_map(|(head, lines, servers)| {
            let servers = servers.iter().map(|server| format!("real_server {server}"));
            let lines = lines.iter().map(|line| (*line).to_owned());
            let body: Vec<String> = lines.chain(servers).collect();
            format!("virtual_server {head} {{\n{}\n}}\n", body.join("\n"))
        });
    proptest::collection::vec(one, 1..5).prop_map(|services| {
        "virtual_server_group four {\n192.0.2.1-9 80\n192.0.2.1\n}\n\
         virtual_server_group both {\n192.0.2.8/31 80\n2001:db8::1-f 443\n}\n"
            .to_owned()
            + &services.concat()
    })
}

/// Words and signs of the language, for texts that get further than random ones.
fn fragments() -> impl Strategy<Value = String> {
    let words: Vec<String> = keywords::registry()
        .iter()
        .flat_map(|block| block.infos.iter().map(|info| info.name.to_owned()))
        .chain(
            [
                "{",
                "}",
                "\n",
                "\n",
                " ",
                "\"",
                "\\",
                "#",
                "!",
                "$A=",
                "${A}",
                "@x",
                "~SEQ(",
                "80",
                "-1",
                "1.5",
                "192.0.2.1",
                "192.0.2.0/24",
                "2001:db8::1",
                "MASTER",
                "rr",
                "DR",
                "優先度",
                "\u{feff}",
                "99999999999999999999",
                "PASS",
                "\t",
                "\r\n",
                "\u{1b}[2J",
                "on",
            ]
            .map(str::to_owned),
        )
        .collect();
    proptest::collection::vec((proptest::sample::select(words), any::<bool>()), 0..60).prop_map(
        |pieces| {
            pieces
                .into_iter()
                .map(|(word, blank)| if blank { word + " " } else { word + "\n" })
                .collect()
        },
    )
}

fn cases() -> Vec<Vec<u8>> {
    ["ok", "err"]
        .into_iter()
        .flat_map(golden::conf_files)
        .map(|path| std::fs::read(path).expect("a readable case"))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        exercise(&bytes);
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        exercise(text.as_bytes());
    }

    #[test]
    fn no_service_breaks_the_rules_of_the_model(text in services()) {
        exercise(text.as_bytes());
    }

    #[test]
    fn no_words_of_the_language_make_it_panic(text in fragments()) {
        exercise(text.as_bytes());
    }

    #[test]
    fn no_mutation_of_a_real_file_makes_it_panic(
        file in proptest::sample::select(cases()),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..4u8, any::<u8>()), 1..12),
    ) {
        let mut bytes = file;
        for (index, kind, byte) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => { bytes.remove(at); }
                2 => bytes.insert(at, *b"{}\"#!\\\n$@~".get(usize::from(byte) % 10).unwrap()),
                _ => bytes.truncate(at),
            }
        }
        exercise(&bytes);
    }
}
