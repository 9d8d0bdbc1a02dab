// SPDX-License-Identifier: MIT OR Apache-2.0
//! SCTP: IPVS's state tables.
//!
//! IPVS: `sctp_states` of `ip_vs_proto_sctp.c`. The states are those of the real server, as the
//! packets of both sides tell; a packet counts as its first chunk.

use super::{Direction, SCTP};

/// No state.
pub const NONE: u8 = SCTP;
/// The first INIT was seen.
pub const INIT1: u8 = SCTP + 1;
/// A further INIT was seen.
pub const INIT: u8 = SCTP + 2;
/// The server has answered with a cookie.
pub const COOKIE_SENT: u8 = SCTP + 3;
/// The client has sent the cookie back.
pub const COOKIE_REPLIED: u8 = SCTP + 4;
/// The server has sent an INIT of its own.
pub const COOKIE_WAIT: u8 = SCTP + 5;
/// The client has answered that with a cookie.
pub const COOKIE: u8 = SCTP + 6;
/// The server has sent the client's cookie back.
pub const COOKIE_ECHOED: u8 = SCTP + 7;
/// The association stands.
pub const ESTABLISHED: u8 = SCTP + 8;
/// The server has begun to close.
pub const SHUTDOWN_SENT: u8 = SCTP + 9;
/// The client has begun to close.
pub const SHUTDOWN_RECEIVED: u8 = SCTP + 10;
/// The server has acknowledged that.
pub const SHUTDOWN_ACK_SENT: u8 = SCTP + 11;
/// The server has refused the association.
pub const REJECTED: u8 = SCTP + 12;
/// Closed.
pub const CLOSED: u8 = SCTP + 13;

/// Chunk type of INIT (RFC 9260 section 3.2), the only one that opens a connection.
pub const CHUNK_INIT: u8 = 1;

/// One row of a table: the next state of each state, four bits each.
#[allow(
    clippy::indexing_slicing,
    reason = "a constant: what is out of bounds does not compile"
)]
const fn row(next: [u8; 14]) -> u64 {
    let mut packed = 0;
    let mut state = 0;
    while state < next.len() {
        packed |= ((next[state] - SCTP) as u64) << (4 * state);
        state += 1;
    }
    packed
}

const I1: u8 = INIT1;
const IN: u8 = INIT;
const CS: u8 = COOKIE_SENT;
const CR: u8 = COOKIE_REPLIED;
const CW: u8 = COOKIE_WAIT;
const CO: u8 = COOKIE;
const CE: u8 = COOKIE_ECHOED;
const ES: u8 = ESTABLISHED;
const SS: u8 = SHUTDOWN_SENT;
const SR: u8 = SHUTDOWN_RECEIVED;
const SA: u8 = SHUTDOWN_ACK_SENT;
const RJ: u8 = REJECTED;
const CL: u8 = CLOSED;

/// Rows for a packet whose first chunk is DATA (or any other), INIT, INIT ACK, COOKIE ECHO, COOKIE
/// ACK, SHUTDOWN, SHUTDOWN ACK, SHUTDOWN COMPLETE, ERROR, ABORT.
type Table = [u64; 10];

//   NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
const INPUT: Table = [
    row([ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]),
    row([I1, IN, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, IN, IN]),
    row([CW, CW, CW, CS, CR, CO, CO, CE, ES, SS, SR, SA, RJ, CL]),
    row([CR, IN, IN, CR, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]),
    row([ES, I1, IN, CS, CR, CW, CO, ES, ES, SS, SR, SA, RJ, CL]),
    row([SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL]),
    row([CL, IN, IN, CS, CR, CW, CO, CE, ES, CL, SR, CL, RJ, CL]),
    row([CL, CL, CL, CS, CR, CW, CO, CE, ES, SS, SR, CL, RJ, CL]),
    row([CL, I1, IN, CS, CR, CW, CO, CL, ES, SS, SR, SA, RJ, CL]),
    row([CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL]),
];
const OUTPUT: Table = [
    row([ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]),
    row([CW, CW, CW, CW, CW, CW, CW, CW, ES, CW, CW, CW, CW, CW]),
    row([CS, CS, CS, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]),
    row([CE, CE, CE, CE, CE, CE, CE, CE, ES, SS, SR, SA, RJ, CL]),
    row([ES, ES, ES, ES, ES, ES, ES, ES, ES, SS, SR, SA, RJ, CL]),
    row([SS, SS, SS, SS, SS, SS, SS, SS, SS, SS, SR, SA, RJ, CL]),
    row([SA, SA, SA, SA, SA, CW, CO, CE, ES, SA, SA, SA, RJ, CL]),
    row([CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]),
    row([CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, SR, SA, RJ, CL]),
    row([CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL]),
];
const INPUT_ONLY: Table = [
    row([ES, I1, IN, CS, CR, ES, CO, CE, ES, SS, SR, SA, RJ, CL]),
    row([I1, IN, IN, IN, IN, IN, CO, CE, ES, SS, SR, SA, IN, IN]),
    row([CE, CE, CE, CE, CE, CE, CO, CE, ES, SS, SR, SA, RJ, CL]),
    row([ES, ES, ES, ES, ES, ES, CO, CE, ES, SS, SR, SA, RJ, CL]),
    row([ES, I1, IN, ES, ES, CW, ES, ES, ES, SS, SR, SA, RJ, CL]),
    row([SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL]),
    row([CL, IN, IN, CS, CR, CW, CO, CE, CL, CL, SR, CL, RJ, CL]),
    row([CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, CL, CL, RJ, CL]),
    row([CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]),
    row([CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL]),
];

/// State after a packet whose first chunk is of type `chunk`.
#[inline(always)]
pub const fn next(state: u8, chunk: u8, direction: Direction) -> u8 {
    let [
        data,
        init,
        init_ack,
        echo,
        cookie_ack,
        down,
        down_ack,
        complete,
        error,
        abort,
    ] = match direction {
        Direction::Input => INPUT,
        Direction::Output => OUTPUT,
        Direction::InputOnly => INPUT_ONLY,
    };
    let row = match chunk {
        1 => init,
        2 => init_ack,
        6 => abort,
        7 => down,
        8 => down_ack,
        9 => error,
        10 => echo,
        11 => cookie_ack,
        14 => complete,
        _ => data,
    };
    SCTP + ((row >> (4 * (state.wrapping_sub(SCTP) & 15))) as u8 & 15)
}

/// See [`super::timeout_secs`].
pub const fn timeout_secs(state: u8) -> u32 {
    match state {
        NONE => 2,
        INIT1 | REJECTED => 4,
        ESTABLISHED => 900,
        // The longest time between two transmissions, and one more second.
        _ => 61,
    }
}

/// See [`super::name`].
pub const fn name(state: u8) -> &'static str {
    match state {
        NONE => "NONE",
        INIT1 => "INIT1",
        INIT => "INIT",
        COOKIE_SENT => "C-SENT",
        COOKIE_REPLIED => "C-REPLIED",
        COOKIE_WAIT => "C-WAIT",
        COOKIE => "COOKIE",
        COOKIE_ECHOED => "C-ECHOED",
        ESTABLISHED => "ESTABLISHED",
        SHUTDOWN_SENT => "S-SENT",
        SHUTDOWN_RECEIVED => "S-RECEIVED",
        SHUTDOWN_ACK_SENT => "S-ACK-SENT",
        REJECTED => "REJECTED",
        CLOSED => "CLOSED",
        _ => "BUG!",
    }
}

/// True if an INIT in this state opens a new association that happens to reuse the client's port.
#[inline(always)]
pub const fn is_closing(state: u8) -> bool {
    matches!(state, SHUTDOWN_ACK_SENT | REJECTED | CLOSED)
}

#[cfg(test)]
mod tests {
    use super::Direction::{Input, InputOnly, Output};
    use super::*;

    fn walk(steps: &[(u8, Direction)]) -> std::vec::Vec<u8> {
        let mut state = NONE;
        let step = |(chunk, direction): &(u8, Direction)| {
            state = next(state, *chunk, *direction);
            state
        };
        steps.iter().map(step).collect()
    }

    #[test]
    fn an_association_is_opened_and_closed_by_the_client() {
        let both = [
            (1, Input),
            (2, Output),
            (10, Input),
            (11, Output),
            (0, Input),
            (7, Input),
            (8, Output),
            (14, Input),
        ];
        assert_eq!(walk(&both), [I1, CS, CR, ES, ES, SR, SA, CL]);
        let half = [1, 10, 0, 7, 14].map(|chunk| (chunk, InputOnly));
        assert_eq!(walk(&half), [I1, ES, ES, SR, CL]);
    }

    #[test]
    fn any_state_and_chunk_give_a_state() {
        for state in 0..=u8::MAX {
            for chunk in 0..=u8::MAX {
                for direction in [Input, Output, InputOnly] {
                    assert!((SCTP..=SCTP + 15).contains(&next(state, chunk, direction)));
                }
            }
        }
    }
}
