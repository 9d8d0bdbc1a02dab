// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the director makes of a TCP flow of which it sees the client's half only.
//!
//! IPVS: with direct routing and tunnels the replies bypass the director, and the kernel's
//! `tcp_states` table has a part of its own for that, INPUT_ONLY (`ip_vs_proto_tcp.c`). The codes
//! are the kernel's, so that names and timeouts line up with `ipvsadm -Lc`.

/// Seconds to nanoseconds.
const NANOS: u64 = 1_000_000_000;

/// No state.
pub const NONE: u8 = 0;
/// The client has acknowledged the server's SYN.
pub const ESTABLISHED: u8 = 1;
/// A SYN was seen, and nothing more.
pub const SYN_RECV: u8 = 3;
/// The client has closed its half.
pub const FIN_WAIT: u8 = 4;
/// The client closed before the handshake was over.
pub const TIME_WAIT: u8 = 5;
/// Reset.
pub const CLOSE: u8 = 6;
/// Not TCP: a UDP flow.
pub const UDP: u8 = 11;

/// FIN bit of the TCP flags byte.
pub const FLAG_FIN: u8 = 0x01;
/// SYN bit.
pub const FLAG_SYN: u8 = 0x02;
/// RST bit.
pub const FLAG_RST: u8 = 0x04;
/// ACK bit.
pub const FLAG_ACK: u8 = 0x10;

/// State after a packet of the client with these TCP `flags`.
///
/// Only the states that one half of a flow can reach are listed; any other is left as it is, and a
/// packet without RST, SYN, FIN and ACK closes the connection, as `set_tcp_state` does.
#[inline(always)]
pub const fn next(state: u8, flags: u8) -> u8 {
    if flags & FLAG_RST != 0 {
        return match state {
            SYN_RECV => SYN_RECV,
            _ => CLOSE,
        };
    }
    if flags & FLAG_SYN != 0 {
        return match state {
            ESTABLISHED => ESTABLISHED,
            _ => SYN_RECV,
        };
    }
    if flags & FLAG_FIN != 0 {
        return match state {
            ESTABLISHED | FIN_WAIT => FIN_WAIT,
            SYN_RECV | TIME_WAIT => TIME_WAIT,
            _ => CLOSE,
        };
    }
    if flags & FLAG_ACK != 0 {
        return match state {
            SYN_RECV | ESTABLISHED => ESTABLISHED,
            FIN_WAIT => FIN_WAIT,
            TIME_WAIT => TIME_WAIT,
            _ => CLOSE,
        };
    }
    CLOSE
}

/// How long a connection in `state` is kept without a packet, nanoseconds.
///
/// IPVS: `tcp_timeouts`, and 300 s for UDP.
#[inline(always)]
pub const fn timeout_ns(state: u8) -> u64 {
    NANOS
        * match state {
            ESTABLISHED => 900,
            SYN_RECV => 60,
            FIN_WAIT | TIME_WAIT => 120,
            CLOSE => 10,
            UDP => 300,
            _ => 2,
        }
}

/// True if a SYN in this state opens a new connection that happens to reuse the client's port.
///
/// IPVS has `conn_reuse_mode` for this and is known to lose or delay such a SYN by a second; here
/// it is scheduled anew at once.
#[inline(always)]
pub const fn is_closing(state: u8) -> bool {
    matches!(state, FIN_WAIT | TIME_WAIT | CLOSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A short request as `ab` makes it: SYN, ACK, data, FIN, ACK.
    #[test]
    fn short_request_ends_in_fin_wait() {
        let mut state = next(NONE, FLAG_SYN);
        assert_eq!(state, SYN_RECV);
        state = next(state, FLAG_ACK);
        assert_eq!(state, ESTABLISHED);
        state = next(state, FLAG_ACK | 0x08);
        assert_eq!(state, ESTABLISHED);
        state = next(state, FLAG_FIN | FLAG_ACK);
        assert_eq!(state, FIN_WAIT);
        state = next(state, FLAG_ACK);
        assert_eq!(state, FIN_WAIT);
    }

    #[test]
    fn reset_closes_an_established_connection() {
        assert_eq!(next(ESTABLISHED, FLAG_RST | FLAG_ACK), CLOSE);
        assert_eq!(timeout_ns(CLOSE), 10 * NANOS);
    }

    #[test]
    fn repeated_syn_keeps_an_established_connection() {
        assert_eq!(next(ESTABLISHED, FLAG_SYN), ESTABLISHED);
        assert!(!is_closing(ESTABLISHED));
        assert!(is_closing(FIN_WAIT) && is_closing(TIME_WAIT) && is_closing(CLOSE));
    }

    #[test]
    fn packet_without_flags_closes() {
        for state in [NONE, ESTABLISHED, SYN_RECV, FIN_WAIT, TIME_WAIT, CLOSE] {
            assert_eq!(next(state, 0), CLOSE);
        }
    }
}
