// SPDX-License-Identifier: MIT OR Apache-2.0
//! What belongs to VRRP alone, as the file says it.

use std::net::IpAddr;
use std::time::Duration;

use super::super::args::Spanned;
use super::super::model::{InitFile, ParamMatch, Program, RunAs};
use super::super::source::Span;
use super::RawWeight;

/// `garp_…` of an instance, or `vrrp_garp_…` of `global_defs`.
#[derive(Debug, Default)]
pub(crate) struct RawGarp {
    pub(crate) delay: Option<Spanned<Duration>>,
    pub(crate) repeat: Option<Spanned<u32>>,
    pub(crate) refresh: Option<Spanned<Duration>>,
    pub(crate) refresh_repeat: Option<Spanned<u32>>,
    pub(crate) lower_delay: Option<Spanned<Duration>>,
    pub(crate) lower_repeat: Option<Spanned<u32>>,
}

/// How adverts are exchanged, of an instance or of `global_defs`.
#[derive(Debug, Default)]
pub(crate) struct RawExchange {
    pub(crate) down_adverts: Option<Spanned<u8>>,
    pub(crate) lower_no_advert: Option<Spanned<bool>>,
    pub(crate) higher_send_advert: Option<Spanned<bool>>,
    pub(crate) owner_ignores: Option<Spanned<bool>>,
    pub(crate) check_src: Option<Spanned<bool>>,
    pub(crate) skip_addresses: Option<Spanned<bool>>,
    pub(crate) checksum_as_v2: Option<Spanned<bool>>,
}

/// `notify_fifo` and its kin, with their scripts.
#[derive(Debug, Default)]
pub(crate) struct RawFifo {
    pub(crate) path: Option<Spanned<String>>,
    pub(crate) owner: Option<RunAs>,
    pub(crate) script: Option<Spanned<Program>>,
}

/// `garp_group`, and what `global_defs` says of the same.
#[derive(Debug, Default)]
pub(crate) struct RawSpacing {
    pub(crate) garp: Option<Spanned<Duration>>,
    pub(crate) gna: Option<Spanned<Duration>>,
    pub(crate) interfaces: Vec<Spanned<String>>,
}

/// `use_vmac`.
#[derive(Debug, Default)]
pub(crate) struct RawVmac {
    pub(crate) name: Option<String>,
    pub(crate) mac: Option<[u8; 6]>,
}

/// `track_file`.
#[derive(Debug, Default)]
pub(crate) struct RawTrackFile {
    pub(crate) name: String,
    pub(crate) head: Span,
    pub(crate) path: Option<Spanned<String>>,
    pub(crate) weight: Option<Spanned<RawWeight>>,
    pub(crate) init: Option<Spanned<InitFile>>,
}

/// `vrrp_track_process`.
#[derive(Debug, Default)]
pub(crate) struct RawTrackProcess {
    pub(crate) name: String,
    pub(crate) head: Span,
    pub(crate) argv: Option<Spanned<Vec<String>>>,
    pub(crate) params: Option<Spanned<ParamMatch>>,
    pub(crate) full_command: Option<Spanned<bool>>,
    pub(crate) weight: Option<Spanned<RawWeight>>,
    pub(crate) quorum: Option<Spanned<u32>>,
    pub(crate) quorum_max: Option<Spanned<u32>>,
    pub(crate) fork_delay: Option<Spanned<Duration>>,
    pub(crate) terminate_delay: Option<Spanned<Duration>>,
}

/// `bfd_instance`.
#[derive(Debug, Default)]
pub(crate) struct RawBfd {
    pub(crate) name: String,
    pub(crate) head: Span,
    pub(crate) neighbor: Option<Spanned<IpAddr>>,
    pub(crate) source: Option<Spanned<IpAddr>>,
    pub(crate) min_rx: Option<Spanned<Duration>>,
    pub(crate) min_tx: Option<Spanned<Duration>>,
    pub(crate) idle_tx: Option<Spanned<Duration>>,
    pub(crate) multiplier: Option<Spanned<u8>>,
    pub(crate) passive: bool,
    pub(crate) ttl: Option<Spanned<u8>>,
    pub(crate) max_hops: Option<Spanned<u8>>,
    pub(crate) multihop: bool,
    pub(crate) weight: Option<Spanned<RawWeight>>,
    /// `vrrp` and `checker`, where they stand.
    pub(crate) vrrp: Option<Span>,
    pub(crate) checker: Option<Span>,
}

/// Mail, in `global_defs`.
#[derive(Debug, Default)]
pub(crate) struct RawMail {
    pub(crate) to: Vec<Spanned<String>>,
    pub(crate) from: Option<Spanned<String>>,
    /// Host and port.
    pub(crate) server: Option<Spanned<(String, u16)>>,
    pub(crate) helo: Option<Spanned<String>>,
    pub(crate) timeout: Option<Spanned<Duration>>,
    pub(crate) alert: Option<Spanned<bool>>,
    pub(crate) alert_vrrp: Option<Spanned<bool>>,
    pub(crate) no_faults: Option<Spanned<bool>>,
}
