// SPDX-License-Identifier: MIT OR Apache-2.0
//! The closed table of what can happen to a BFD packet: one name, one sentence, one counter each.
//!
//! In: [`Counter`]s from `packet` (refusals) and `sessions` (the rest). Out: figures by name.
//! Invariant: each datagram that arrives counts exactly one of `rcvd` and the refusals.

use crate::counters::counters;

counters! {
    /// Packets received and believed.
    Rcvd = "rcvd",
    /// Packets sent.
    Sent = "sent",
    /// Packets that could not be sent.
    SendErr = "send_err",
    /// Times the session came up.
    WentUp = "went_up",
    /// Times the session was up and went down.
    WentDown = "went_down",
    /// Refused: shorter than a control packet, or than its own length.
    LenErr = "len_err",
    /// Refused: another version than 1.
    VersErr = "vers_err",
    /// Refused: a detection multiplier of 0.
    MultErr = "mult_err",
    /// Refused: the multipoint bit, which is reserved.
    MultipointErr = "multipoint_err",
    /// Refused: no discriminator of the sender.
    DiscrErr = "discr_err",
    /// Refused: no discriminator of ours although the sender claims to have heard us.
    StateErr = "state_err",
    /// Refused: poll and final at once.
    FlagsErr = "flags_err",
    /// Refused: authenticated, and no authentication is configured.
    AuthErr = "auth_err",
    /// Refused: its TTL is lower than `max_hops` allows, so it comes from further away.
    TtlErr = "ttl_err",
    /// Refused: no session has this neighbour or discriminator.
    NoSession = "no_session",
}
