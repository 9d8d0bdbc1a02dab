//! tcp_state
