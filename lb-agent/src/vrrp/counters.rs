// SPDX-License-Identifier: MIT OR Apache-2.0
//! The closed table of what can happen to an advert: one name, one sentence, one counter each.
//!
//! KEEPALIVED: names that its statistics have are kept.
//!
//! In: [`Counter`]s from `packet` (refusals) and `driver` (the rest). Out: figures by name, for
//! status, metrics and logs. Invariant: nothing that arrives on a VRRP socket for an instance
//! leaves without having counted exactly one of `advert_rcvd` or a refusal.

use crate::counters::counters;

counters! {
    /// Adverts received and believed.
    AdvertRcvd = "advert_rcvd",
    /// Adverts sent, by datagram.
    AdvertSent = "advert_sent",
    /// Adverts of priority 0 received: a MASTER gave up.
    PriZeroRcvd = "pri_zero_rcvd",
    /// Adverts of priority 0 sent.
    PriZeroSent = "pri_zero_sent",
    /// Times the instance became MASTER.
    BecomeMaster = "become_master",
    /// Times the instance stopped being MASTER.
    ReleaseMaster = "release_master",
    /// Refused: shorter than its headers, or its length does not fit its address count.
    PacketLenErr = "packet_len_err",
    /// Refused: TTL is not 255 (unicast: not within the peer's bounds), so a router may have
    /// forwarded it.
    IpTtlErr = "ip_ttl_err",
    /// Refused: another version than the one configured.
    VersErr = "vers_err",
    /// Refused: another virtual router id.
    VridErr = "vrid_err",
    /// Refused: an authentication type that does not exist.
    InvalidAuthtype = "invalid_authtype",
    /// Refused: another authentication type than the one configured.
    AuthtypeMismatch = "authtype_mismatch",
    /// Refused: another password.
    AuthFailure = "auth_failure",
    /// Refused: version 2 with another advert interval than the one configured.
    AdvertIntervalErr = "advert_interval_err",
    /// Refused: a type other than 1 (advertisement).
    InvalidTypeRcvd = "invalid_type_rcvd",
    /// Refused: wrong checksum.
    ChkErr = "chk_err",
    /// Refused: sent to the group although unicast peers are configured, or the reverse.
    DeliveryErr = "delivery_err",
    /// Refused: carries this instance's own source address, so it looped or was forged.
    OwnAddrErr = "own_addr_err",
    /// Refused: its authentication header was heard before, so it was recorded and replayed.
    AuthReplay = "auth_replay",
    /// Refused: its sender is none of the unicast peers.
    UnicastSrcErr = "unicast_src_err",
    /// Believed, but its addresses differ from the ones configured.
    AddrListErr = "addr_list_err",
    /// Believed, although its version 3 checksum leaves out the IPv4 pseudo-header.
    ChkMessageOnly = "chk_message_only",
    /// Believed, although its version 3 checksum covers the multicast group instead of the peer.
    ChkOldUnicast = "chk_old_unicast",
    /// Adverts of another MASTER heard while this one was MASTER, refused ones included.
    RivalRcvd = "rival_rcvd",
    /// Times another MASTER was still there an interval after it was heard first.
    SplitBrain = "split_brain",
    /// Adverts that could not be sent.
    SendErr = "send_err",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_own_name_and_figure() {
        let mut counters = Counters::default();
        for (i, counter) in Counter::ALL.iter().enumerate() {
            for _ in 0..=i {
                counters.bump(*counter);
            }
        }
        let json = serde_json::to_value(&counters).unwrap();
        assert_eq!(json.as_object().unwrap().len(), Counter::ALL.len());
        for (i, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(json[counter.name()], i + 1);
            assert!(counter.doc().ends_with('.'), "{}", counter.doc());
        }
    }
}
