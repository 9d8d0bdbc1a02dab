// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every way a packet can leave the data plane: one table of name, fate and sentence.
//!
//! The pipeline never logs and never fails: it returns one of these.
//! `lb-ebpf/src/bpf/programs.rs` turns it into an XDP code and a counter; `xlvs status` prints the
//! name, and the sentence when asked.

/// What becomes of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// To a real server.
    Forward,
    /// To the director's own network stack.
    Pass,
    /// Nowhere.
    Drop,
}

macro_rules! verdicts {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $name:literal, $fate:ident;)+) => {
        /// The outcome of one packet.
        #[must_use = "a verdict that nobody turns into an XDP code loses the packet silently"]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Verdict {
            $($(#[doc = $doc])+ $variant = $code,)+
        }

        impl Verdict {
            /// All verdicts, by code.
            pub const ALL: &'static [Verdict] = &[$(Verdict::$variant),+];

            /// Name of the counter, as in `xlvs status`.
            pub const fn name(self) -> &'static str {
                match self { $(Verdict::$variant => $name,)+ }
            }

            /// The verdict of this code; `DropInternal` for a code that is none.
            #[inline(always)]
            pub const fn from_code(code: u8) -> Self {
                match code { $($code => Verdict::$variant,)+ _ => Verdict::DropInternal }
            }

            /// What becomes of the frame.
            #[inline(always)]
            pub const fn fate(self) -> Fate {
                match self { $(Verdict::$variant => Fate::$fate,)+ }
            }

            /// The sentence that explains it.
            pub const fn sentence(self) -> &'static str {
                match self { $(Verdict::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

verdicts! {
    /// Sent out of the interface it came in by.
    Transmit = 0, "transmit", Forward;
    /// Sent out of another interface.
    Redirect = 1, "redirect", Forward;

    /// Neither IPv4 nor IPv6 (ARP, LLDP …): the director's stack handles it.
    PassNotIp = 2, "pass_not_ip", Pass;
    /// The frame is addressed to another host, or to all (flooded, broadcast, multicast).
    PassOtherHost = 3, "pass_other_host", Pass;
    /// Neither TCP, UDP nor SCTP (VRRP …), or ICMP about no flow of ours.
    PassOtherProtocol = 4, "pass_other_protocol", Pass;
    /// A fragment of a datagram whose first fragment was not seen, or of no service.
    PassFragment = 5, "pass_fragment", Pass;
    /// No virtual service has this address, port and protocol.
    PassNoService = 6, "pass_no_service", Pass;
    /// A packet that opens no connection, of no known one: the stack answers with a reset, as it
    /// does behind IPVS.
    PassNoConnection = 7, "pass_no_connection", Pass;
    /// The service has no real server that takes new connections: the stack refuses the packet.
    PassNoDest = 8, "pass_no_dest", Pass;

    /// The frame ends inside the Ethernet or VLAN header, or right behind the former.
    DropTruncatedFrame = 9, "drop_truncated_frame", Drop;
    /// The frame ends inside the IP header, or the header's lengths contradict the frame's.
    DropMalformedIp = 10, "drop_malformed_ip", Drop;
    /// The datagram ends inside the TCP, UDP or SCTP header, or the length in that header
    /// contradicts the datagram's.
    DropTruncatedTransport = 11, "drop_truncated_transport", Drop;
    /// The time to live is used up; the director counts as a hop, as IPVS does.
    DropTtlExpired = 12, "drop_ttl_expired", Drop;
    /// The connection's real server is gone from the configuration or failed its check.
    DropDestGone = 13, "drop_dest_gone", Drop;
    /// The MAC address of the next hop is not known (yet): see `ip neigh`.
    DropNoNeighbor = 14, "drop_no_neighbor", Drop;
    /// The frame could not be written to: a bug, please report it.
    DropInternal = 15, "drop_internal", Drop;

    /// For a real server on the director itself.
    PassLocal = 16, "pass_local", Pass;
    /// The agent has shown no sign of life for the time that the watchdog allows.
    PassUnattended = 17, "pass_unattended", Pass;
    /// Too big for the tunnel, and may be fragmented: nobody here does that.
    DropTooBig = 18, "drop_too_big", Drop;
    /// Too big for the tunnel: the sender is told ("fragmentation needed", "packet too big").
    ReplyTooBig = 19, "reply_too_big", Forward;
    /// IPv6 with more extension headers than are looked through.
    PassExtensionHeaders = 20, "pass_extension_headers", Pass;
    /// Echo to a virtual address: the director's stack answers.
    PassEcho = 21, "pass_echo", Pass;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::VERDICT_SLOTS;

    #[test]
    fn codes_count_up_and_fit_the_counter_map() {
        for (i, v) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*v as usize, i);
        }
        assert!(Verdict::ALL.len() <= VERDICT_SLOTS as usize);
    }

    #[test]
    fn name_says_the_fate() {
        for v in Verdict::ALL {
            match v.fate() {
                Fate::Forward => {
                    assert!(!v.name().starts_with("drop_") && !v.name().starts_with("pass_"));
                }
                Fate::Pass => assert!(v.name().starts_with("pass_")),
                Fate::Drop => assert!(v.name().starts_with("drop_")),
            }
        }
    }
}
