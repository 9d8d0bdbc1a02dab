// SPDX-License-Identifier: MIT OR Apache-2.0
//! The closed table of what can happen to a BFD packet: one name, one sentence, one counter each.
//!
//! In: [`Counter`]s from `packet` (refusals) and `sessions` (the rest). Out: figures by name.
//! Invariant: each datagram that arrives counts exactly one of `rcvd` and the refusals.

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// One thing that can happen to a BFD packet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Counter {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Name in status output.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it counts, in a sentence.
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii_start(),)+ }
            }
        }
    };
}

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

/// A figure for every [`Counter`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters([u64; Counter::ALL.len()]);

impl Counters {
    /// Counts one.
    pub fn bump(&mut self, counter: Counter) {
        if let Some(figure) = self.0.get_mut(counter as usize) {
            *figure = figure.saturating_add(1);
        }
    }

    /// The figure of `counter`.
    pub fn of(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or_default()
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let all = Counter::ALL.iter();
        all.map(|counter| (counter.name(), self.of(*counter)))
    }
}
