// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mail through a real SMTP server.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;
use crate::config::parse;

/// Debian's python3-aiosmtpd, which prints what it gets.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start() -> Option<Self> {
        let known = Command::new("/usr/bin/python3")
            .args(["-c", "import aiosmtpd"])
            .stderr(Stdio::null())
            .status();
        if !known.is_ok_and(|status| status.success()) {
            eprintln!("skipped: needs an SMTP server (run: apt-get install python3-aiosmtpd)");
            return None;
        }
        // Somebody else may take the port in between; then the test fails, and says so.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let child = Command::new("/usr/bin/python3")
            .args([
                "-u",
                "-m",
                "aiosmtpd",
                "-n",
                "-l",
                &format!("127.0.0.1:{port}"),
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { child, port })
    }

    /// The lines of what it got, up to the end of the `count`-th message.
    fn got(&mut self, count: usize) -> Vec<String> {
        let lines = BufReader::new(self.child.stdout.as_mut().unwrap()).lines();
        let mut ends = 0;
        let mut got = Vec::new();
        for line in lines {
            let line = line.unwrap();
            ends += usize::from(line.contains("END MESSAGE"));
            got.push(line);
            if ends == count {
                break;
            }
        }
        got
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(port: u16, more: &str) -> Config {
    let text = format!(
        "global_defs {{\nrouter_id LVS_1\nnotification_email {{\nadmin@example.com\n\
         root@example.org\n}}\nnotification_email_from ka@example.net\n\
         smtp_server 127.0.0.1 {port}\nsmtp_connect_timeout 3\nsmtp_helo_name lvs1\n}}\n\
         vrrp_sync_group G {{\ngroup {{\nA\n}}\nsmtp_alert\n}}\n\
         vrrp_instance A {{\ninterface e\nvirtual_router_id 5\nvirtual_ipaddress {{\n192.0.2.9\n\
         }}\n{more}\n}}\n"
    );
    parse("t", &text).config
}

fn notice(scope: Scope, name: &str, told: Told) -> Notice<'_> {
    Notice {
        scope,
        name,
        told,
        priority: 100,
    }
}

#[tokio::test]
async fn keepalived_changes_are_mailed_in_its_words() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let mut notifier = Notifier::default();
    notifier.adopt(&config(server.port, "smtp_alert"));
    notifier.tell(notice(Scope::Instance, "A", Told::Master));
    notifier.tell(notice(Scope::Group, "G", Told::Fault));
    notifier.tell(notice(Scope::Instance, "A", Told::MasterPriority));
    notifier.finish().await;
    let got = server.got(2);
    for line in [
        "From: ka@example.net",
        "Subject: [LVS_1] VRRP Instance A - Entering MASTER state",
        "To: admin@example.com, root@example.org",
        "X-Mailer: xlvs",
        "=> VRRP Instance is now owning VRRP VIPs <=",
        "Subject: [LVS_1] VRRP Group G - Entering FAULT state",
        "=> All VRRP group instances are now in FAULT state <=",
    ] {
        assert!(got.iter().any(|l| l == line), "{line} is not in {got:#?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_holds_nobody_up() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut notifier = Notifier::default();
    notifier.adopt(&config(port, "smtp_alert"));
    for _ in 0..1_000 {
        notifier.tell(notice(Scope::Instance, "A", Told::Backup));
    }
    notifier.finish().await;
}

#[test]
fn who_gets_mail_is_as_the_file_says() {
    let of = |global: &str, instance: &str| {
        let text = format!(
            "global_defs {{\n{global}\n}}\nvrrp_instance A {{\ninterface e\nvirtual_router_id 5\n\
             virtual_ipaddress {{\n192.0.2.9\n}}\n{instance}\n}}\n"
        );
        let config = parse("t", &text).config;
        (
            config.global.mail.is_some(),
            config.vrrp_instances[0].notify.mail,
        )
    };
    let to = "notification_email {\na@example.com\n}\n";
    assert_eq!(of("", "smtp_alert"), (false, true), "to nobody");
    assert_eq!(of(to, ""), (true, false));
    assert_eq!(of(to, "smtp_alert"), (true, true));
    let all = format!("{to}smtp_alert");
    assert_eq!(of(&all, ""), (true, true));
    assert_eq!(of(&all, "smtp_alert off"), (true, false));
    let not_vrrp = format!("{to}smtp_alert on\nsmtp_alert_vrrp off");
    assert_eq!(of(&not_vrrp, ""), (true, false));
}
