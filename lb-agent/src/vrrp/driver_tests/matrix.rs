// SPDX-License-Identifier: MIT OR Apache-2.0
//! keepalived and we elect each other, in every form that an advert can have.

use super::*;
use crate::config::model::{Auth, VirtualAddress};

/// One form of adverts.
#[derive(Clone, Copy, Debug)]
struct Form {
    version: VrrpVersion,
    family: Family,
    unicast: bool,
    auth: &'static str,
}

/// Short, but no shorter than what a busy host may hold up a third of: the forms run all at once.
const V3_INTERVAL: Duration = Duration::from_millis(300);

const KEY: &[u8; 8] = b"secret\0\0";

fn forms() -> Vec<Form> {
    let mut forms = Vec::new();
    for unicast in [false, true] {
        for (version, family, auth) in [
            (VrrpVersion::V2, Family::V4, ""),
            (VrrpVersion::V2, Family::V4, "PASS"),
            (VrrpVersion::V2, Family::V4, "AH"),
            (VrrpVersion::V3, Family::V4, ""),
            (VrrpVersion::V2, Family::V6, ""),
            (VrrpVersion::V2, Family::V6, "PASS"),
            (VrrpVersion::V3, Family::V6, ""),
        ] {
            forms.push(Form {
                version,
                family,
                unicast,
                auth,
            });
        }
    }
    forms
}

impl Form {
    fn vip(self) -> &'static str {
        match self.family {
            Family::V4 => VIP,
            Family::V6 => "2001:db8::100",
        }
    }

    fn address(self, host: usize) -> IpAddr {
        let text = match self.family {
            Family::V4 => format!("192.0.2.{}", host + 1),
            Family::V6 => format!("2001:db8::{}", host + 1),
        };
        text.parse().unwrap()
    }

    /// Ours, on host 0.
    fn ours(self, priority: u8) -> VrrpInstance {
        let mut config = instance(self.version, priority);
        config.family = self.family;
        if self.version == VrrpVersion::V3 {
            config.advert_interval = V3_INTERVAL;
        }
        config.vips = vec![VirtualAddress::plain(self.vip().parse().unwrap())];
        if self.family == Family::V6 {
            config.mcast_group = "ff02::12".parse().unwrap();
        }
        config.auth = match self.auth {
            "PASS" => Auth::Pass(*KEY),
            "AH" => Auth::Ah(*KEY),
            _ => Auth::None,
        };
        if self.unicast {
            config.source = Some(self.address(0));
            config.unicast_peers = vec![UnicastPeer::anywhere(self.address(1))];
        }
        config
    }

    /// Theirs, on host 1.
    fn theirs(self) -> String {
        let mut text = match self.version {
            VrrpVersion::V2 => "version 2\n advert_int 1\n".to_owned(),
            VrrpVersion::V3 => format!("version 3\n advert_int {}\n", V3_INTERVAL.as_secs_f32()),
        };
        if !self.auth.is_empty() {
            text += &format!(
                "authentication {{\n auth_type {}\n auth_pass secret\n }}\n",
                self.auth
            );
        }
        if self.unicast {
            text += &format!(
                "unicast_src_ip {}\n unicast_peer {{\n {}\n }}\n",
                self.address(1),
                self.address(0)
            );
        }
        text + &format!("virtual_ipaddress {{\n {}\n }}", self.vip())
    }
}

/// Both directions: we take over from keepalived, it believes us, and it takes over from us; at
/// last we come back without preemption and leave it alone.
fn elect_each_other(form: Form) {
    let Some(lan) = Lan::new() else { return };
    let holds = |host: usize| lan.holds(host, form.vip());
    let Some(higher) = Keepalived::start(&lan, 1, 150, &form.theirs()) else {
        return;
    };
    eventually("keepalived is MASTER", || holds(1));
    let a = Agent::start(&lan, 0, vec![form.ours(100)]);
    eventually("its adverts", || a.counter("advert_rcvd") >= 3);
    assert_eq!(a.state(), Some(State::Backup));
    drop(higher);
    a.is(State::Master);
    assert_eq!(a.counter("pri_zero_rcvd"), 1);
    eventually("our address", || holds(0));

    let lower = Keepalived::start(&lan, 1, 50, &form.theirs()).unwrap();
    let sent = a.counter("advert_sent");
    eventually("adverts past its down interval", || {
        a.counter("advert_sent") >= sent + 6
    });
    assert_eq!((a.state(), holds(1)), (Some(State::Master), false));
    assert_eq!(a.counter("rival_rcvd"), 0, "it was never MASTER");
    a.stop();
    eventually("keepalived takes over", || holds(1));

    let polite = VrrpInstance {
        preempt: false,
        ..form.ours(200)
    };
    let a = Agent::start(&lan, 0, vec![polite]);
    eventually("its adverts again", || a.counter("advert_rcvd") >= 5);
    assert_eq!((a.state(), holds(0)), (Some(State::Backup), false));
    for refusal in ["chk_err", "auth_failure", "addr_list_err", "ip_ttl_err"] {
        assert_eq!(a.counter(refusal), 0, "{refusal}");
    }
    drop(lower);
    a.is(State::Master);
    a.stop();
}

#[test]
fn keepalived_and_we_elect_each_other_in_every_form() {
    let runs = forms().into_iter().map(|form| {
        let name = format!("{form:?}");
        let thread = std::thread::Builder::new().name(name.clone());
        (name, thread.spawn(move || elect_each_other(form)).unwrap())
    });
    let runs: Vec<_> = runs.collect();
    let failed: Vec<String> = runs
        .into_iter()
        .filter_map(|(name, run)| run.join().is_err().then_some(name))
        .collect();
    assert_eq!(failed, Vec::<String>::new());
}
