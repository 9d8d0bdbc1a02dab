// SPDX-License-Identifier: MIT OR Apache-2.0
//! What holds for all services, from the model's terms to the row of the map.

use std::time::Duration;

use lb_common::abi::{
    SETTING_ANY_PORT, SETTING_EXPIRE_NODEST, SETTING_EXPIRE_QUIESCENT, SETTING_SLOPPY_TCP,
    STATE_TIMEOUT_BITS, STATES, Settings,
};
use lb_common::state::{self, tcp};

use super::clock::Clock;
use crate::config::model::Global;

/// The longest timeout that a row holds, ticks.
const LONGEST: u32 = (1 << STATE_TIMEOUT_BITS) - 1;

/// IPVS: `lblc_expiration` and `lblcr_expiration`, a day.
const LOCALITY: Duration = Duration::from_secs(24 * 60 * 60);

/// The row for these `global_defs`; the agent's last sign of life was at tick `now`.
pub(super) fn row(global: &Global, any_port: bool, clock: Clock, now: u32) -> Settings {
    let conns = &global.conns;
    let set = |flag, yes| if yes { flag } else { 0 };
    let mut states = [0; STATES];
    for (code, row) in (0u8..).zip(&mut states) {
        let ticks = match code {
            state::TEMPLATE | state::BUSY => LONGEST,
            _ => clock.ticks(timeout(global, code)).min(LONGEST),
        };
        *row = state::class(code) << STATE_TIMEOUT_BITS | ticks;
    }
    Settings {
        flags: set(SETTING_ANY_PORT, any_port)
            | set(SETTING_EXPIRE_NODEST, conns.expire_nodest_conn)
            | set(SETTING_EXPIRE_QUIESCENT, conns.expire_quiescent_template)
            | set(SETTING_SLOPPY_TCP, conns.sloppy_tcp),
        heartbeat: now,
        watchdog: conns.watchdog.map_or(0, |after| clock.ticks(after).max(1)),
        zero: 0,
        states,
        locality: clock.ticks(LOCALITY).min(LONGEST),
        reserved: [0; 11],
    }
}

/// How long a connection in this state is kept.
///
/// IPVS: `ipvsadm --set` changes three of them.
fn timeout(global: &Global, code: u8) -> Duration {
    let set = match code {
        tcp::ESTABLISHED => global.lvs_timeouts.tcp,
        tcp::FIN_WAIT => global.lvs_timeouts.tcp_fin,
        state::UDP => global.lvs_timeouts.udp,
        _ => None,
    };
    set.unwrap_or(Duration::from_secs(state::timeout_secs(code).into()))
}
