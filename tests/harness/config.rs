// SPDX-License-Identifier: MIT OR Apache-2.0
//! keepalived.conf texts as an operator would write them, for both kinds of director.
//!
//! In: the few things the experiments vary. Out: the text. Both xlvs and keepalived read it, so
//! nothing in it may be special to either.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// Which VRRP the pair speaks, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// VRRPv2 with `advert_int 1`, the default of nearly every installation.
    V2Second,
    /// VRRPv3 with `advert_int 1`.
    V3Second,
    /// VRRPv3 with `advert_int 0.1`.
    V3Tenth,
    /// VRRPv3 with `advert_int 0.01`.
    V3Hundredth,
}

impl Speed {
    /// 2 or 3.
    pub fn version(self) -> u8 {
        if self == Self::V2Second { 2 } else { 3 }
    }

    /// The interval between adverts, in milliseconds.
    pub fn advert_ms(self) -> f64 {
        match self {
            Self::V2Second | Self::V3Second => 1000.0,
            Self::V3Tenth => 100.0,
            Self::V3Hundredth => 10.0,
        }
    }

    /// The skew time of a backup, in milliseconds.
    ///
    /// RFC 3768 §6.1: (256 − priority) / 256 seconds. RFC 9568 §6.1: the same share of the
    /// MASTER's interval.
    pub fn skew_ms(self, priority: u8) -> f64 {
        let unit = if self.version() == 2 {
            1000.0
        } else {
            self.advert_ms()
        };
        (256.0 - f64::from(priority)) / 256.0 * unit
    }

    /// As the configuration spells the interval, in seconds.
    fn advert_int(self) -> &'static str {
        match self {
            Self::V2Second | Self::V3Second => "1",
            Self::V3Tenth => "0.1",
            Self::V3Hundredth => "0.01",
        }
    }
}

/// One director's file.
#[derive(Debug, Clone)]
pub struct DirectorConfig {
    /// The director's own name.
    pub router_id: String,
    /// The state that it is configured to begin with.
    pub state: &'static str,
    /// 1 to 254.
    pub priority: u8,
    /// Version and interval.
    pub speed: Speed,
    /// Whether the address is on an interface with the virtual router's MAC address.
    pub vmac: bool,
    /// Whether a higher priority takes the MASTER role from a running MASTER.
    pub preempt: bool,
    /// The other directors' addresses where adverts go by unicast, with this one's own.
    pub unicast: Option<(Ipv4Addr, Vec<Ipv4Addr>)>,
    /// The virtual address.
    pub vip: Ipv4Addr,
    /// Real servers with their weights; empty for a pair that only moves the address.
    pub real_servers: Vec<(Ipv4Addr, u32)>,
}

impl DirectorConfig {
    /// The usual first of a pair: MASTER with priority 100.
    pub fn first(vip: Ipv4Addr, speed: Speed) -> Self {
        Self {
            router_id: "d1".to_owned(),
            state: "MASTER",
            priority: 100,
            speed,
            vmac: false,
            preempt: true,
            unicast: None,
            vip,
            real_servers: Vec::new(),
        }
    }

    /// The usual second of a pair: BACKUP with priority 90.
    pub fn second(vip: Ipv4Addr, speed: Speed) -> Self {
        Self {
            router_id: "d2".to_owned(),
            state: "BACKUP",
            priority: 90,
            ..Self::first(vip, speed)
        }
    }

    /// The same with real servers behind port 80.
    #[must_use]
    pub fn with_real_servers(mut self, servers: &[(Ipv4Addr, u32)]) -> Self {
        self.real_servers = servers.to_vec();
        self
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = format!(
            "! Configuration File for keepalived\n\nglobal_defs {{\n    router_id {}\n}}\n\n",
            self.router_id
        );
        self.instance(&mut text);
        if !self.real_servers.is_empty() {
            self.virtual_server(&mut text);
        }
        text
    }

    fn instance(&self, text: &mut String) {
        let _ = write!(
            text,
            "vrrp_instance VI_1 {{\n    state {}\n    interface eth0\n    virtual_router_id 51\n    \
             priority {}\n    advert_int {}\n",
            self.state,
            self.priority,
            self.speed.advert_int()
        );
        if self.speed.version() == 3 {
            text.push_str("    version 3\n");
        } else {
            text.push_str(
                "    authentication {\n        auth_type PASS\n        auth_pass 1111\n    }\n",
            );
        }
        if self.vmac {
            text.push_str("    use_vmac\n");
        }
        if !self.preempt {
            text.push_str("    nopreempt\n");
        }
        if let Some((own, peers)) = &self.unicast {
            let _ = write!(text, "    unicast_src_ip {own}\n    unicast_peer {{\n");
            for peer in peers {
                let _ = writeln!(text, "        {peer}");
            }
            text.push_str("    }\n");
        }
        let _ = write!(
            text,
            "    virtual_ipaddress {{\n        {}\n    }}\n}}\n",
            self.vip
        );
    }

    fn virtual_server(&self, text: &mut String) {
        let _ = write!(
            text,
            "\nvirtual_server {} 80 {{\n    delay_loop 1\n    lb_algo wrr\n    lb_kind DR\n    \
             protocol TCP\n",
            self.vip
        );
        for (address, weight) in &self.real_servers {
            let _ = write!(
                text,
                "\n    real_server {address} 80 {{\n        weight {weight}\n        TCP_CHECK {{\n            \
                 connect_timeout 1\n            retry 1\n            delay_before_retry 1\n            \
                 connect_port 80\n        }}\n    }}\n"
            );
        }
        text.push_str("}\n");
    }
}
