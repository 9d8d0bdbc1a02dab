// SPDX-License-Identifier: MIT OR Apache-2.0
//! Closed tables of what can happen to a packet: one name, one sentence, one counter each. A protocol
//! that counts (VRRP, BFD) lists its own and gets the types `Counter` and `Counters`.

/// Makes `Counter` and `Counters` of a list of documented variants with their names.
macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// One thing that can happen to a packet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Counter {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Counter {
            /// All of them, in the order in which a packet meets them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Name in status output and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it counts, in a sentence.
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii_start(),)+ }
            }
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

        /// A map from name to figure, in the table's order.
        impl serde::Serialize for Counters {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.iter())
            }
        }
    };
}

pub(crate) use counters;
