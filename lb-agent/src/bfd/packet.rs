// SPDX-License-Identifier: MIT OR Apache-2.0
//! BFD control packets as bytes (RFC 5880 §4.1).
//!
//! In: a [`Control`], or what a socket received. Out: bytes, or a packet, or the one [`Counter`]
//! that says why it is refused. Invariants: `decode` returns for any bytes;
//! `decode(encode(c)) == c`.
//!
//! ```text
//!  0               1               2               3
//! +-----+---------+---+-+-+-+-+-+-+---------------+---------------+
//! |vers | diag    |Sta|P|F|C|A|D|M| detect mult   | length        |
//! +-----+---------+---+-+-+-+-+-+-+---------------+---------------+
//! | my discriminator                                              |
//! | your discriminator                                            |
//! | desired min TX interval, µs                                   |
//! | required min RX interval, µs                                  |
//! | required min echo RX interval, µs                             |
//! +---------------------------------------------------------------+
//! ```

use std::fmt;
use std::time::Duration;

use super::counters::Counter;

/// RFC 5881 §4: where single-hop control packets go.
pub const PORT: u16 = 3784;
/// RFC 5883 §5: where multihop control packets go.
pub const PORT_MULTIHOP: u16 = 4784;
/// Length without authentication.
pub const LENGTH: usize = 24;
const VERSION: u8 = 1;

const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const AUTH: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// State of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Held down by an administrator.
    AdminDown,
    /// The neighbour is not heard, or says so of us.
    #[default]
    Down,
    /// The neighbour is heard; whether it hears us is not known.
    Init,
    /// Both hear each other.
    Up,
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::AdminDown => "AdminDown",
            Self::Down => "Down",
            Self::Init => "Init",
            Self::Up => "Up",
        })
    }
}

/// Why a session went down last; a number that the neighbour may have chosen freely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Diag(u8);

impl Diag {
    /// No reason.
    pub const NONE: Self = Self(0);
    /// Nothing was heard for the detection time.
    pub const EXPIRED: Self = Self(1);
    /// The neighbour said that it is down.
    pub const NEIGHBOR_DOWN: Self = Self(3);
    /// An administrator, or the end of the agent.
    pub const ADMIN_DOWN: Self = Self(7);
}

impl fmt::Display for Diag {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.0 {
            0 => "none",
            1 => "control detection time expired",
            2 => "echo function failed",
            3 => "neighbor signaled session down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            other => return write!(out, "unknown ({other})"),
        })
    }
}

/// A control packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// Why the sender's session went down last.
    pub diag: Diag,
    /// The sender's state.
    pub state: State,
    /// It wants an answer with `fin`.
    pub poll: bool,
    /// It is the answer to a poll.
    pub fin: bool,
    /// The sender wants to hear nothing while both are up.
    pub demand: bool,
    /// Detection multiplier.
    pub multiplier: u8,
    /// The sender's discriminator.
    pub mine: u32,
    /// The receiver's discriminator; 0 when not known.
    pub yours: u32,
    /// How often the sender would like to send at most, to the microsecond.
    pub min_tx: Duration,
    /// How often the sender can receive; 0 for not at all.
    pub min_rx: Duration,
}

/// The bytes of a packet. An interval too long for its field is cut down to it.
pub fn encode(control: &Control) -> [u8; LENGTH] {
    let micros = |interval: Duration| u32::try_from(interval.as_micros()).unwrap_or(u32::MAX);
    let state = match control.state {
        State::AdminDown => 0,
        State::Down => 1,
        State::Init => 2,
        State::Up => 3,
    };
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    let flags = flag(control.poll, POLL) | flag(control.fin, FINAL) | flag(control.demand, DEMAND);
    let head = [
        VERSION << 5 | control.diag.0 & 0x1f,
        state << 6 | flags,
        control.multiplier,
        LENGTH as u8,
    ];
    let words = [
        control.mine,
        control.yours,
        micros(control.min_tx),
        micros(control.min_rx),
        0,
    ];
    let mut bytes = [0; LENGTH];
    let all = head
        .into_iter()
        .chain(words.into_iter().flat_map(u32::to_be_bytes));
    for (byte, value) in bytes.iter_mut().zip(all) {
        *byte = value;
    }
    bytes
}

/// Judges a packet as far as that needs no session (RFC 5880 §6.8.6).
///
/// KEEPALIVED: refuses poll and final at once, too, which §6.5 forbids to send.
pub fn decode(bytes: &[u8]) -> Result<Control, Counter> {
    let &[first, flags, multiplier, length, ref rest @ ..] = bytes else {
        return Err(Counter::LenErr);
    };
    let (words, _) = rest.as_chunks::<4>();
    let &[mine, yours, min_tx, min_rx, _echo, ..] = words else {
        return Err(Counter::LenErr);
    };
    if first >> 5 != VERSION {
        return Err(Counter::VersErr);
    }
    if usize::from(length) < LENGTH || usize::from(length) > bytes.len() {
        return Err(Counter::LenErr);
    }
    if multiplier == 0 {
        return Err(Counter::MultErr);
    }
    if flags & MULTIPOINT != 0 {
        return Err(Counter::MultipointErr);
    }
    let (mine, yours) = (u32::from_be_bytes(mine), u32::from_be_bytes(yours));
    if mine == 0 {
        return Err(Counter::DiscrErr);
    }
    let state = match flags >> 6 {
        0 => State::AdminDown,
        1 => State::Down,
        2 => State::Init,
        _ => State::Up,
    };
    if yours == 0 && !matches!(state, State::Down | State::AdminDown) {
        return Err(Counter::StateErr);
    }
    if flags & AUTH != 0 {
        return Err(Counter::AuthErr);
    }
    let (poll, fin) = (flags & POLL != 0, flags & FINAL != 0);
    if poll && fin {
        return Err(Counter::FlagsErr);
    }
    let interval = |word| Duration::from_micros(u32::from_be_bytes(word).into());
    Ok(Control {
        diag: Diag(first & 0x1f),
        state,
        poll,
        fin,
        demand: flags & DEMAND != 0,
        multiplier,
        mine,
        yours,
        min_tx: interval(min_tx),
        min_rx: interval(min_rx),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn control() -> Control {
        Control {
            diag: Diag::EXPIRED,
            state: State::Up,
            poll: true,
            fin: false,
            demand: false,
            multiplier: 5,
            mine: 0x0102_0304,
            yours: 0x0a0b_0c0d,
            min_tx: Duration::from_millis(10),
            min_rx: Duration::from_millis(20),
        }
    }

    #[test]
    fn rfc_5880_4_1_a_packet_is_24_bytes_of_which_each_has_its_place() {
        let expected = [
            0x21, 0xe0, 5, 24, 1, 2, 3, 4, 10, 11, 12, 13, 0, 0, 0x27, 0x10, 0, 0, 0x4e, 0x20, 0,
            0, 0, 0,
        ];
        assert_eq!(encode(&control()), expected);
        assert_eq!(decode(&expected), Ok(control()));
    }

    #[test]
    fn rfc_5880_6_8_6_each_rule_has_its_counter() {
        let good = encode(&control());
        let broken = |at: usize, value: u8| {
            let mut bytes = good;
            bytes[at] = value;
            decode(&bytes)
        };
        assert_eq!(broken(0, 0x41), Err(Counter::VersErr));
        assert_eq!(broken(3, 23), Err(Counter::LenErr));
        assert_eq!(broken(3, 25), Err(Counter::LenErr));
        assert_eq!(broken(2, 0), Err(Counter::MultErr));
        assert_eq!(broken(1, 0xc1), Err(Counter::MultipointErr));
        assert_eq!(broken(1, 0xc4), Err(Counter::AuthErr));
        assert_eq!(broken(1, 0xf0), Err(Counter::FlagsErr));
        assert_eq!(decode(&good[..23]), Err(Counter::LenErr));
        let without = |at: usize, state: u8| {
            let mut bytes = good;
            bytes[at..at + 4].fill(0);
            bytes[1] = state << 6;
            decode(&bytes).map(|control| control.state)
        };
        assert_eq!(without(4, 3), Err(Counter::DiscrErr));
        assert_eq!(without(8, 3), Err(Counter::StateErr));
        assert_eq!(without(8, 2), Err(Counter::StateErr));
        assert_eq!(without(8, 1), Ok(State::Down));
        assert_eq!(without(8, 0), Ok(State::AdminDown));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(control) = decode(&bytes) {
                prop_assert_eq!(decode(&encode(&control)), Ok(control));
            }
        }
    }
}
