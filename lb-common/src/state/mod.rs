// SPDX-License-Identifier: MIT OR Apache-2.0
//! States of connections: their codes, how long each lasts, and what moves a connection from one to
//! the next (a file a protocol).
//!
//! Codes of TCP states are the kernel's, so that names and timeouts line up with `ipvsadm -Lc`; the
//! other protocols' follow. A code says the protocol, too: a slot of the connection table has no
//! room for it elsewhere.

pub mod sctp;
pub mod tcp;

use crate::wire::{PROTO_SCTP, PROTO_TCP, PROTO_UDP};

/// A UDP flow.
pub const UDP: u8 = 11;
/// The first SCTP state; see [`sctp`].
pub const SCTP: u8 = 12;
/// A persistence template: where a client's connections go.
pub const TEMPLATE: u8 = 30;
/// A slot that is being written: nobody reads it, nobody takes it.
pub const BUSY: u8 = 31;

/// Which way a packet of a flow goes, and whether the director sees both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client; the replies pass the director, too (masquerading).
    Input,
    /// From the server.
    Output,
    /// From the client; the replies bypass the director (direct routing, tunnels).
    InputOnly,
}

/// True if `code` is a state of protocol `proto`.
#[inline(always)]
pub const fn is_of(code: u8, proto: u8) -> bool {
    match proto {
        PROTO_TCP => code < UDP,
        PROTO_UDP => code == UDP,
        _ => code >= SCTP && code < TEMPLATE,
    }
}

/// The protocol that a state belongs to; `None` for what is no connection.
pub const fn proto_of(code: u8) -> Option<u8> {
    match code {
        tcp::NONE | TEMPLATE.. => None,
        UDP => Some(PROTO_UDP),
        0..UDP => Some(PROTO_TCP),
        SCTP..TEMPLATE => Some(PROTO_SCTP),
    }
}

/// State after a packet with these TCP flags or this SCTP chunk type (`what`).
#[inline(always)]
pub const fn next(proto: u8, state: u8, what: u8, direction: Direction) -> u8 {
    match proto {
        PROTO_TCP => tcp::next(state, what, direction),
        PROTO_UDP => UDP,
        _ => sctp::next(state, what, direction),
    }
}

/// No state: what [`steady`] returns for a packet that may change any.
pub const UNSTEADY: u8 = 0xff;

/// The state in which a packet with these TCP flags (`what`) changes nothing, whatever its direction:
/// that of almost every packet.
#[inline(always)]
pub const fn steady(proto: u8, what: u8) -> u8 {
    match proto {
        PROTO_TCP if tcp::is_plain(what) => tcp::ESTABLISHED,
        PROTO_UDP => UDP,
        _ => UNSTEADY,
    }
}

/// True for connections that `ipvsadm -Ln` counts as active.
///
/// IPVS: `tcp_state_active`; a UDP flow counts as inactive (measured on Linux 6.1).
#[inline(always)]
pub const fn is_active(code: u8) -> bool {
    // One bit a state, so that no branch is needed.
    const ACTIVE: u32 =
        1 << tcp::ESTABLISHED | 1 << tcp::SYN_SENT | 1 << tcp::SYN_RECV | 1 << sctp::ESTABLISHED;
    ACTIVE >> (code & 31) & 1 != 0
}

/// How long a connection in state `code` is kept without a packet, seconds, unless configured
/// otherwise.
///
/// IPVS: `tcp_timeouts`, `udp_timeouts`, `sctp_timeouts`. Templates last as long as their service
/// says, and are ended by the agent.
pub const fn timeout_secs(code: u8) -> u32 {
    match code {
        UDP => 300,
        TEMPLATE | BUSY => u32::MAX,
        SCTP..TEMPLATE => sctp::timeout_secs(code),
        _ => tcp::timeout_secs(code),
    }
}

/// How much a connection matters when another one needs its slot: what matters less makes room.
/// Established connections are kept the longest, half-open and closing ones go first.
///
/// This is what IPVS's `drop_entry` defence is for: a flood of SYNs displaces its own half-open
/// connections.
pub const fn class(code: u8) -> u32 {
    match code {
        tcp::ESTABLISHED | sctp::ESTABLISHED => 5,
        TEMPLATE => 4,
        UDP => 3,
        tcp::SYN_RECV | tcp::SYN_SENT | sctp::INIT..sctp::ESTABLISHED => 2,
        BUSY => 0xff,
        _ => 1,
    }
}

/// Name of a state, as `ipvsadm -Lc` prints it.
pub const fn name(code: u8) -> &'static str {
    match code {
        UDP => "UDP",
        TEMPLATE => "ASSURED",
        SCTP..TEMPLATE => sctp::name(code),
        _ => tcp::name(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_belongs_to_one_protocol() {
        for code in 1..=29 {
            let of: std::vec::Vec<u8> = [PROTO_TCP, PROTO_UDP, PROTO_SCTP]
                .into_iter()
                .filter(|proto| is_of(code, *proto))
                .collect();
            assert_eq!(of, [proto_of(code).unwrap()], "{code}");
        }
    }

    #[test]
    fn a_steady_packet_changes_nothing() {
        for proto in [PROTO_TCP, PROTO_UDP, PROTO_SCTP] {
            for what in 0..=u8::MAX {
                let state = steady(proto, what);
                for direction in [Direction::Input, Direction::Output, Direction::InputOnly] {
                    if state != UNSTEADY {
                        assert!(is_of(state, proto));
                        assert_eq!(next(proto, state, what, direction), state, "{proto} {what}");
                    }
                }
            }
        }
        assert_eq!(steady(PROTO_TCP, tcp::FLAG_ACK), tcp::ESTABLISHED);
        assert_eq!(steady(PROTO_TCP, tcp::FLAG_ACK | tcp::FLAG_FIN), UNSTEADY);
    }

    #[test]
    fn a_flood_displaces_itself_first() {
        assert!(class(tcp::ESTABLISHED) > class(UDP));
        assert!(class(UDP) > class(tcp::SYN_RECV));
        assert!(class(tcp::SYN_RECV) > class(tcp::FIN_WAIT));
        assert_eq!(class(sctp::ESTABLISHED), class(tcp::ESTABLISHED));
        assert!(class(sctp::INIT) < class(UDP));
    }
}
