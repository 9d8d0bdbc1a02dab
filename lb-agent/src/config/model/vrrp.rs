// SPDX-License-Identifier: MIT OR Apache-2.0
//! What belongs to VRRP alone: when addresses are announced, how adverts are exchanged.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `authentication`, version 2 only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Auth {
    /// None (type 0).
    None,
    /// `auth_type PASS`: a plain password, cut to 8 bytes and padded with zeros (type 1).
    Pass([u8; 8]),
    /// `auth_type AH`: the key of an authentication header, likewise (type 2).
    Ah([u8; 8]),
}

/// What adverts go over. Only addresses of this family are in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Family {
    /// IPv4.
    #[default]
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `addr`.
    pub fn of(addr: IpAddr) -> Self {
        if addr.is_ipv6() { Self::V6 } else { Self::V4 }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// `use_vmac`: an interface with the virtual router's link address, on top of the instance's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Vmac {
    /// Its name.
    pub name: String,
    /// Its link address; RFC 9568 §7.3 by default.
    pub mac: [u8; 6],
    /// `vmac_xmit_base`: adverts leave from, and are heard on, the interface beneath it.
    pub xmit_base: bool,
}

/// A line of `unicast_peer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnicastPeer {
    /// Its address.
    pub addr: IpAddr,
    /// `min_ttl` to `max_ttl`: what its adverts may have on arrival.
    pub ttl: RangeInclusive<u8>,
}

impl UnicastPeer {
    /// A peer at any distance.
    pub fn anywhere(addr: IpAddr) -> Self {
        Self {
            addr,
            ttl: u8::MIN..=u8::MAX,
        }
    }
}

/// How the checksum of a version 3 advert over IPv4 is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Checksum {
    /// Over the pseudo-header, too.
    #[default]
    PseudoHeader,
    /// `v3_checksum_as_v2`: over the message alone.
    MessageOnly,
    /// `old_unicast_checksum`: over a pseudo-header with the multicast group instead of the peer.
    OldUnicast,
}

/// When an instance announces its addresses (gratuitous ARP, unsolicited neighbour
/// advertisements), and how many packets an address gets each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcing {
    /// `garp_master_delay`: when the second round after a takeover comes; zero for none.
    pub delay: Duration,
    /// `garp_master_repeat`: packets of both rounds after a takeover.
    pub repeat: u32,
    /// `garp_master_refresh`: time between rounds of a MASTER; zero for none.
    pub refresh: Duration,
    /// `garp_master_refresh_repeat`: packets of such a round.
    pub refresh_repeat: u32,
    /// `garp_lower_prio_delay`: when the second round after another MASTER was heard comes; zero
    /// for none.
    pub lower_delay: Duration,
    /// `garp_lower_prio_repeat`: packets of both rounds after another MASTER was heard; with 0
    /// there are none.
    pub lower_repeat: u32,
}

impl Default for Announcing {
    /// KEEPALIVED: its defaults.
    fn default() -> Self {
        const AGAIN: Duration = Duration::from_secs(5);
        const ROUND: u32 = 5;
        Self {
            delay: AGAIN,
            repeat: ROUND,
            refresh: Duration::ZERO,
            refresh_repeat: 1,
            lower_delay: AGAIN,
            lower_repeat: ROUND,
        }
    }
}

/// Least time between two announcements on an interface, or on several together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spacing {
    /// `garp_interval`: between two gratuitous ARP packets.
    pub garp: Duration,
    /// `gna_interval`: between two neighbour advertisements.
    pub gna: Duration,
    /// The interfaces that share it; none in the one for all others.
    pub interfaces: Vec<String>,
}

/// How adverts are exchanged with other routers, beyond what the protocol demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// `down_timer_adverts`: adverts that must be missing before a BACKUP claims.
    pub down_adverts: u8,
    /// False with `lower_prio_no_advert`: a MASTER answers one of lower priority with an advert.
    pub answer_lower: bool,
    /// `higher_prio_send_advert`: a MASTER that yields sends a last advert, so that the winner
    /// announces its addresses again.
    pub last_word: bool,
    /// `check_unicast_src`: unicast adverts must come from a peer.
    pub check_src: bool,
    /// `skip_check_adv_addr`: addresses of adverts are compared only when the sender changes.
    pub skip_addresses: bool,
    /// Checksum of version 3 adverts.
    pub checksum: Checksum,
    /// False with `old_unicast_checksum never`: a peer that uses the old one gets it, too.
    pub learn_checksum: bool,
    /// `unicast_ttl`.
    pub unicast_ttl: u8,
    /// `owner_ignore_adverts`: an owner hears no adverts.
    pub owner_ignores: bool,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            down_adverts: 3,
            answer_lower: true,
            last_word: true,
            check_src: false,
            skip_addresses: false,
            checksum: Checksum::PseudoHeader,
            learn_checksum: true,
            unicast_ttl: 255,
            owner_ignores: false,
        }
    }
}

/// One line of `virtual_ipaddress`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct VirtualAddress {
    /// The address.
    pub addr: IpAddr,
    /// Prefix length; 32 or 128 when the line gives none.
    pub prefix_len: u8,
    /// `dev`; the instance's interface when absent.
    pub dev: Option<String>,
    /// `label`.
    pub label: Option<String>,
    /// `brd`, when given.
    pub broadcast: Option<Ipv4Addr>,
    /// `scope` as the kernel's number; 0 (global) by default.
    pub scope: u8,
    /// `peer`: the other end of a point-to-point link; the prefix length is then its.
    pub peer: Option<IpAddr>,
    /// `-nodad` (cleared), `home`, `mngtmpaddr`, `noprefixroute`, `autojoin` as the kernel's bits.
    pub flags: u32,
    /// IPv6: not chosen as the source of the host's own connections (`preferred_lft 0`).
    pub deprecated: bool,
}

impl VirtualAddress {
    /// The kernel's `IFA_F_NODAD`. KEEPALIVED: virtual addresses are used without a check for
    /// duplicates, which would take a second.
    pub const NO_DAD: u32 = 0x02;

    /// `addr` alone, as a line with nothing else means it.
    pub fn plain(addr: IpAddr) -> Self {
        let v6 = addr.is_ipv6();
        Self {
            addr,
            prefix_len: if v6 { 128 } else { 32 },
            dev: None,
            label: None,
            broadcast: None,
            scope: 0,
            peer: None,
            flags: if v6 { Self::NO_DAD } else { 0 },
            deprecated: v6,
        }
    }
}

/// `track_file NAME { … }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrackFile {
    /// Its name.
    pub name: String,
    /// `file`: its path.
    pub path: String,
    /// `init_file`: what is written to it at start.
    pub init: Option<InitFile>,
}

/// `init_file [VALUE] [overwrite]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct InitFile {
    /// The number.
    pub value: i64,
    /// Also to a file that is there.
    pub overwrite: bool,
}

/// `vrrp_track_process NAME { … }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrackProcess {
    /// Its name.
    pub name: String,
    /// `process`: command and parameters; never empty.
    pub argv: Vec<String>,
    /// `param_match`.
    pub params: Option<ParamMatch>,
    /// `full_command`: the whole command line is compared.
    pub full_command: bool,
    /// `quorum`: least number of processes, 1 by default.
    pub quorum: u32,
    /// `quorum_max`: greatest number of processes.
    pub quorum_max: Option<u32>,
    /// `fork_delay`: how long a gained quorum must last to count.
    pub fork_delay: Duration,
    /// `terminate_delay`: how long a lost quorum must last to count.
    pub terminate_delay: Duration,
}

/// How the parameters of a process are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ParamMatch {
    /// There are none.
    None,
    /// The first ones are equal.
    Partial,
    /// All are equal, but the last one may go on.
    Initial,
}

/// Where mail goes, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mail {
    /// `router_id`, which subjects begin with; the host name when absent.
    pub router: Option<String>,
    /// `notification_email`; never empty.
    pub to: Vec<String>,
    /// `notification_email_from`; keepalived@ the host name when absent.
    pub from: Option<String>,
    /// Host of `smtp_server`.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// `smtp_helo_name`; the host name when absent.
    pub helo: Option<String>,
    /// `smtp_connect_timeout`.
    pub timeout: Duration,
    /// `no_email_faults`.
    pub no_faults: bool,
}
