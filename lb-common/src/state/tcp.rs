// SPDX-License-Identifier: MIT OR Apache-2.0
//! TCP: IPVS's state tables.
//!
//! IPVS: `tcp_states` of `ip_vs_proto_tcp.c`, with its three parts INPUT, OUTPUT and INPUT_ONLY: with
//! direct routing and tunnels the director sees the client's half only.

use super::Direction;

/// No state.
pub const NONE: u8 = 0;
/// The handshake is over.
pub const ESTABLISHED: u8 = 1;
/// The server sent a SYN.
pub const SYN_SENT: u8 = 2;
/// A SYN was seen, and nothing more.
pub const SYN_RECV: u8 = 3;
/// One side has closed its half.
pub const FIN_WAIT: u8 = 4;
/// Both sides have closed.
pub const TIME_WAIT: u8 = 5;
/// Reset.
pub const CLOSE: u8 = 6;
/// The client has closed its half.
pub const CLOSE_WAIT: u8 = 7;
/// The server has closed, too.
pub const LAST_ACK: u8 = 8;
/// Not used by any transition from the states above.
pub const LISTEN: u8 = 9;
/// SYN cookies answer for the server (IPVS's `secure_tcp`); kept for the numbering.
pub const SYNACK: u8 = 10;

/// FIN bit of the TCP flags byte.
pub const FLAG_FIN: u8 = 0x01;
/// SYN bit.
pub const FLAG_SYN: u8 = 0x02;
/// RST bit.
pub const FLAG_RST: u8 = 0x04;
/// ACK bit.
pub const FLAG_ACK: u8 = 0x10;

/// One row of a table: the next state of each state, four bits each, so that a transition is a
/// shift and no load.
#[allow(
    clippy::indexing_slicing,
    reason = "a constant: what is out of bounds does not compile"
)]
const fn row(next: [u8; 11]) -> u64 {
    let mut packed = 0;
    let mut state = 0;
    while state < next.len() {
        packed |= (next[state] as u64) << (4 * state);
        state += 1;
    }
    packed
}

const ES: u8 = ESTABLISHED;
const SS: u8 = SYN_SENT;
const SR: u8 = SYN_RECV;
const FW: u8 = FIN_WAIT;
const TW: u8 = TIME_WAIT;
const CL: u8 = CLOSE;
const CW: u8 = CLOSE_WAIT;
const LA: u8 = LAST_ACK;
const LI: u8 = LISTEN;

/// Rows for a segment with SYN, FIN, ACK, RST.
type Table = [u64; 4];

//       NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
const INPUT: Table = [
    row([SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR]),
    row([CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW]),
    row([ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES]),
    row([CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR]),
];
const OUTPUT: Table = [
    row([SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR]),
    row([TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW]),
    row([ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES]),
    row([CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL]),
];
const INPUT_ONLY: Table = [
    row([SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR]),
    row([CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW]),
    row([ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES]),
    row([CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL]),
];

/// State after a segment with these TCP `flags`.
///
/// A segment without RST, SYN, FIN and ACK closes the connection, as `set_tcp_state` does.
#[inline(always)]
pub const fn next(state: u8, flags: u8, direction: Direction) -> u8 {
    let [syn, fin, ack, rst] = match direction {
        Direction::Input => INPUT,
        Direction::Output => OUTPUT,
        Direction::InputOnly => INPUT_ONLY,
    };
    let row = if flags & FLAG_RST != 0 {
        rst
    } else if flags & FLAG_SYN != 0 {
        syn
    } else if flags & FLAG_FIN != 0 {
        fin
    } else if flags & FLAG_ACK != 0 {
        ack
    } else {
        return CLOSE;
    };
    (row >> (4 * (state & 15))) as u8 & 15
}

/// See [`super::timeout_secs`].
pub const fn timeout_secs(state: u8) -> u32 {
    match state {
        ESTABLISHED => 900,
        SYN_SENT | FIN_WAIT | TIME_WAIT | LISTEN | SYNACK => 120,
        SYN_RECV | CLOSE_WAIT => 60,
        CLOSE => 10,
        LAST_ACK => 30,
        _ => 2,
    }
}

/// See [`super::name`].
pub const fn name(state: u8) -> &'static str {
    match state {
        NONE => "NONE",
        ESTABLISHED => "ESTABLISHED",
        SYN_SENT => "SYN_SENT",
        SYN_RECV => "SYN_RECV",
        FIN_WAIT => "FIN_WAIT",
        TIME_WAIT => "TIME_WAIT",
        CLOSE => "CLOSE",
        CLOSE_WAIT => "CLOSE_WAIT",
        LAST_ACK => "LAST_ACK",
        LISTEN => "LISTEN",
        SYNACK => "SYNACK",
        _ => "BUG!",
    }
}

/// True if a segment with these flags opens a connection.
///
/// IPVS: `tcp_conn_schedule` opens one for a SYN only (unless `sloppy_tcp`), with ACK or without.
#[inline(always)]
pub const fn opens(flags: u8) -> bool {
    flags & (FLAG_SYN | FLAG_RST) == FLAG_SYN
}

/// True for a segment in the middle of a connection: ACK, and neither SYN, FIN nor RST.
#[inline(always)]
pub const fn is_plain(flags: u8) -> bool {
    flags & (FLAG_SYN | FLAG_FIN | FLAG_RST | FLAG_ACK) == FLAG_ACK
}

/// True if a segment with these flags asks for a connection of its own, whatever went before.
#[inline(always)]
pub const fn asks(flags: u8) -> bool {
    flags & (FLAG_SYN | FLAG_RST | FLAG_ACK) == FLAG_SYN
}

/// True if a SYN in this state opens a new connection that happens to reuse the client's port.
///
/// IPVS has `conn_reuse_mode` for this and is known to lose or delay such a SYN by a second; here
/// it is scheduled anew at once.
#[inline(always)]
pub const fn is_closing(state: u8) -> bool {
    matches!(state, FIN_WAIT | TIME_WAIT | CLOSE | CLOSE_WAIT | LAST_ACK)
}

#[cfg(test)]
mod tests {
    use super::Direction::{Input, InputOnly, Output};
    use super::*;

    fn walk(steps: &[(u8, Direction)]) -> std::vec::Vec<u8> {
        let mut state = NONE;
        let step = |(flags, direction): &(u8, Direction)| {
            state = next(state, *flags, *direction);
            state
        };
        steps.iter().map(step).collect()
    }

    /// A short request as `ab` makes it: SYN, ACK, data, FIN, ACK.
    #[test]
    fn client_half_of_a_short_request_ends_in_fin_wait() {
        let flags = [
            FLAG_SYN,
            FLAG_ACK,
            FLAG_ACK | 8,
            FLAG_FIN | FLAG_ACK,
            FLAG_ACK,
        ];
        let steps = flags.map(|flags| (flags, InputOnly));
        assert_eq!(walk(&steps), [SR, ES, ES, FW, FW]);
    }

    /// Recorded from the IPVS of Linux 6.1: a masqueraded request that the client closes first ends
    /// in TIME_WAIT, and one that the server closes first, too.
    #[test]
    fn both_halves_end_in_time_wait() {
        let begin = [
            (FLAG_SYN, Input),
            (FLAG_SYN | FLAG_ACK, Output),
            (FLAG_ACK, Input),
        ];
        let fin = FLAG_FIN | FLAG_ACK;
        let client_first = [(fin, Input), (fin, Output), (FLAG_ACK, Input)];
        let server_first = [(fin, Output), (fin, Input), (FLAG_ACK, Output)];
        let of = |end: [(u8, Direction); 3]| walk(&[begin, end].concat());
        assert_eq!(of(client_first), [SR, SR, ES, CW, TW, TW]);
        assert_eq!(of(server_first), [SR, SR, ES, FW, TW, TW]);
    }

    #[test]
    fn reset_closes_an_established_connection() {
        for direction in [Input, Output, InputOnly] {
            assert_eq!(next(ESTABLISHED, FLAG_RST | FLAG_ACK, direction), CLOSE);
        }
        assert_eq!(timeout_secs(CLOSE), 10);
    }

    #[test]
    fn repeated_syn_keeps_an_established_connection() {
        assert_eq!(next(ESTABLISHED, FLAG_SYN, InputOnly), ESTABLISHED);
        assert!(!is_closing(ESTABLISHED));
        assert!(is_closing(FIN_WAIT) && is_closing(TIME_WAIT) && is_closing(CLOSE));
    }

    #[test]
    fn any_state_and_flags_give_a_state() {
        for state in 0..=u8::MAX {
            for flags in 0..=u8::MAX {
                for direction in [Input, Output, InputOnly] {
                    assert!(next(state, flags, direction) <= SYNACK);
                }
            }
        }
        assert_eq!(next(ESTABLISHED, 0, Input), CLOSE);
    }
}
