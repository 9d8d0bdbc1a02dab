// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real programs and pipes: arguments, order, patience.

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use super::*;
use crate::config::parse;
use crate::health::Subject;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("tr-{}-notify-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn config(global: &str, more: &str) -> Config {
    let text = format!(
        "global_defs {{\n{global}\n}}\nvrrp_instance VI_1 {{\ninterface eth0\nvirtual_router_id 5\n\
         virtual_ipaddress {{\n192.0.2.9\n}}\n{more}\n}}\n"
    );
    parse("t", &text).config
}

fn notice(told: Told, priority: u8) -> Notice<'static> {
    Notice {
        scope: Scope::Instance,
        name: "VI_1",
        told,
        priority,
    }
}

/// `KEYWORD "sh -c '… ' WORD"`, writing its arguments into `file`.
fn writer(keyword: &str, file: &str, word: &str) -> String {
    format!("{keyword} \"sh -c 'echo $0 $* >> {file}' {word}\"\n")
}

#[tokio::test]
async fn keepalived_the_specific_script_runs_before_the_general_one_and_only_that_gets_arguments() {
    let scratch = Scratch::new("order");
    let file = scratch.path("told");
    let keywords = ["master", "backup", "fault", "stop"];
    let mut more: String = keywords
        .iter()
        .map(|word| writer(&format!("notify_{word}"), &file, word))
        .collect();
    more += &writer("notify", &file, "any");
    let mut notifier = Notifier::default();
    notifier.adopt(&config("", &more));
    for (told, priority) in [
        (Told::Backup, 100),
        (Told::Master, 102),
        (Told::MasterPriority, 100),
        (Told::Fault, 100),
        (Told::Deleted, 100),
        (Told::Stop, 100),
    ] {
        notifier.tell(notice(told, priority));
    }
    notifier.finish().await;
    assert_eq!(
        fs::read_to_string(file).unwrap(),
        "backup\nany INSTANCE VI_1 BACKUP 100\n\
         master\nany INSTANCE VI_1 MASTER 102\n\
         fault\nany INSTANCE VI_1 FAULT 100\n\
         fault\nany INSTANCE VI_1 FAULT 100\n\
         stop\nany INSTANCE VI_1 STOP 100\n"
    );
}

#[tokio::test]
async fn keepalived_a_lower_master_is_told_to_its_own_script_alone() {
    let scratch = Scratch::new("lower");
    let file = scratch.path("told");
    let more =
        writer("notify_master_rx_lower_pri", &file, "lower") + &writer("notify", &file, "any");
    let mut notifier = Notifier::default();
    notifier.adopt(&config("", &more));
    for _ in 0..1000 {
        notifier.tell(notice(Told::MasterRxLowerPri, 100));
    }
    notifier.tell(notice(Told::Backup, 100));
    notifier.finish().await;
    assert_eq!(
        fs::read_to_string(file).unwrap(),
        "lower\nany INSTANCE VI_1 BACKUP 100\n",
        "a flood of adverts starts it once at a time"
    );
}

#[tokio::test]
async fn keepalived_notify_deleted_tells_a_removed_instance_from_a_faulty_one() {
    let scratch = Scratch::new("deleted");
    let file = scratch.path("told");
    let more = writer("notify_deleted", &file, "deleted") + &writer("notify", &file, "any");
    let mut notifier = Notifier::default();
    notifier.adopt(&config("", &more));
    notifier.adopt(&Config::default());
    notifier.tell(notice(Told::Deleted, 100));
    notifier.forget_others(&Config::default());
    // Forgotten, it is not told of any more.
    notifier.tell(notice(Told::Master, 100));
    let expected = "deleted\nany INSTANCE VI_1 DELETED 100\n";
    let start = std::time::Instant::now();
    while fs::read_to_string(&file).unwrap_or_default() != expected {
        assert!(start.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_script_that_hangs_holds_up_neither_the_agent_nor_for_ever_its_end() {
    let scratch = Scratch::new("hang");
    let pid = scratch.path("pid");
    let more =
        format!("notify_backup \"sh -c 'echo $$ > {pid}; exec sleep 600'\"\nnotify /no/such");
    let mut notifier = Notifier::default();
    notifier.adopt(&config("", &more));
    for _ in 0..1000 {
        notifier.tell(notice(Told::Backup, 100));
    }
    notifier.finish().await;
    // It goes on after the agent, as with keepalived, but not after this test.
    let pid = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it goes on");
}

#[tokio::test]
async fn keepalived_fifos_get_a_line_for_each_change_and_for_priorities_when_asked() {
    let scratch = Scratch::new("fifo");
    let (one, two) = (scratch.path("all"), scratch.path("vrrp"));
    let global = format!("notify_fifo {one}\nvrrp_notify_fifo {two}");
    for (more, expected) in [
        (
            "",
            "INSTANCE \"VI_1\" BACKUP 100\nINSTANCE \"VI_1\" STOP 98\n",
        ),
        (
            "notify_priority_changes",
            "INSTANCE \"VI_1\" BACKUP 100\nINSTANCE \"VI_1\" BACKUP_PRIORITY 98\n\
             INSTANCE \"VI_1\" STOP 98\n",
        ),
    ] {
        let mut notifier = Notifier::default();
        notifier.adopt(&config(&global, more));
        let mut readers = [&one, &two].map(|path| fs::File::open(path).unwrap());
        notifier.tell(notice(Told::Backup, 100));
        notifier.tell(notice(Told::BackupPriority, 98));
        notifier.tell(notice(Told::Stop, 98));
        drop(notifier);
        for reader in &mut readers {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, expected);
        }
        assert!(!PathBuf::from(&one).exists(), "it is removed in the end");
    }
}

#[tokio::test]
async fn a_fifo_that_nobody_reads_fills_up_without_harm() {
    let scratch = Scratch::new("full");
    let path = scratch.path("fifo");
    let mut notifier = Notifier::default();
    notifier.adopt(&config(&format!("notify_fifo {path}"), ""));
    for _ in 0..10_000 {
        notifier.tell(notice(Told::Backup, 100));
    }
    let fifo = &notifier.fifos[0].fifo;
    assert!(fifo.lost() > 0 && fifo.lost() < 10_000);
}

#[tokio::test]
async fn the_program_that_reads_a_fifo_reads_all_of_it_and_then_ends() {
    let scratch = Scratch::new("reader");
    let (pipe, file) = (scratch.path("fifo"), scratch.path("read"));
    // The last one closes nothing, and does not end by itself.
    for (script, lines) in [
        (format!("sh -c 'cat $0 >> {file}'"), 3),
        (format!("sh -c 'cat $0 >> {file}; sleep 60'"), 6),
    ] {
        let global = format!(
            "script_user root\nvrrp_notify_fifo {pipe}\nvrrp_notify_fifo_script \"{script}\""
        );
        let config = config(&global, "");
        let mut notifier = Notifier::default();
        notifier.adopt(&config);
        notifier.tell(notice(Told::Backup, 100));
        let read = || fs::read_to_string(&file).unwrap_or_default();
        while read().lines().count() < lines - 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // As after a reload: the reader stays.
        notifier.adopt(&config);
        notifier.write(notice(Told::Backup, 100));
        notifier.tell(notice(Told::Stop, 100));
        let begun = Instant::now();
        notifier.finish().await;
        assert!(begun.elapsed() < FAREWELL);
        let read = read();
        assert_eq!(read.lines().count(), lines, "{read}");
        assert!(read.ends_with("INSTANCE \"VI_1\" STOP 100\n"), "{read}");
        assert!(!std::path::Path::new(&pipe).exists());
    }
}

#[test]
fn a_file_that_is_no_fifo_is_refused_and_left_alone() {
    let scratch = Scratch::new("file");
    let path = scratch.path("file");
    fs::write(&path, "text").unwrap();
    let error = Fifo::open(&path, None).unwrap_err().to_string();
    assert!(error.contains("cannot open FIFO"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "text");
}

#[tokio::test]
async fn keepalived_services_run_their_own_scripts_and_fifos_get_a_line_each() {
    let scratch = Scratch::new("services");
    let (file, both, lvs, vrrp) = (
        scratch.path("told"),
        scratch.path("both"),
        scratch.path("lvs"),
        scratch.path("vrrp"),
    );
    let one = |head: &str, n: u8| {
        format!(
            "virtual_server {head} {{\nlb_algo rr\nlb_kind DR\nprotocol TCP\n{}{}\
             real_server 192.0.2.2{n} 80 {{\n{}{}}}\n}}\n",
            writer("quorum_up", &file, &format!("gained{n}")),
            writer("quorum_down", &file, &format!("lost{n}")),
            writer("notify_up", &file, &format!("up{n}")),
            writer("notify_down", &file, &format!("down{n}")),
        )
    };
    let text = format!(
        "global_defs {{\nnotify_fifo {both}\nlvs_notify_fifo {lvs}\nvrrp_notify_fifo {vrrp}\n}}\n\
         virtual_server_group web {{\n2001:db8::1 80\n192.0.2.8 80\n}}\n{}{}",
        one("192.0.2.1 80", 1),
        one("group web", 2).replace("lb_kind DR", "lb_kind TUN"),
    );
    let config = parse("t", &text).config;
    let ids: Vec<_> = config.virtual_servers.iter().map(|vs| vs.id).collect();
    let server = |n: usize| Subject::Server(config.virtual_servers[n].real_servers[0].addr);
    let quorum = Subject::Quorum {
        weight: 1,
        threshold: 1,
    };
    let mut notifier = Notifier::default();
    notifier.adopt(&config);
    for (n, what, up) in [
        (0, server(0), true),
        (0, quorum, true),
        (0, server(0), false),
        (0, quorum, false),
    ] {
        let service = ids[n];
        notifier.tell_of_service(ServiceNotice { service, what, up });
    }
    notifier.tell(notice(Told::Master, 100));
    for what in [server(1), quorum] {
        let (service, up) = (ids[1], true);
        notifier.tell_of_service(ServiceNotice { service, what, up });
    }
    let read = |path: &str| {
        let mut bytes = vec![0; 4096];
        let mut file = fs::File::open(path).unwrap();
        let length = file.read(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    let services = "RS [192.0.2.21]:tcp:80 [192.0.2.1]:tcp:80 UP\nVS [192.0.2.1]:tcp:80 UP\n\
                    RS [192.0.2.21]:tcp:80 [192.0.2.1]:tcp:80 DOWN\nVS [192.0.2.1]:tcp:80 DOWN\n";
    let group = "RS [192.0.2.22]:tcp:80 [web]:0 UP\nVS [web]:0 UP\n";
    let instance = "INSTANCE \"VI_1\" MASTER 100\n";
    assert_eq!(read(&lvs), format!("{services}{group}"));
    assert_eq!(read(&vrrp), instance);
    assert_eq!(read(&both), format!("{services}{instance}{group}"));
    notifier.finish().await;
    let told = fs::read_to_string(file).unwrap();
    let of = |n: &str| -> Vec<&str> { told.lines().filter(|line| line.ends_with(n)).collect() };
    assert_eq!(of("1"), ["up1", "gained1", "down1", "lost1"]);
    assert_eq!(of("2"), ["up2", "gained2"]);
}
