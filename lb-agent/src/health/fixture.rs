// SPDX-License-Identifier: MIT OR Apache-2.0
//! Virtual servers, real servers and checks for this room's tests, with keepalived's defaults.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::model::{
    ForwardMethod, Protocol, RealServer, Scheduler, SchedulerFlags, ServiceId, TcpCheck,
    VirtualServer,
};

pub(crate) fn check(target: SocketAddr) -> TcpCheck {
    TcpCheck {
        target,
        source: None,
        bind_if: None,
        connect_timeout: Duration::from_secs(5),
        fwmark: 0,
        retry: 1,
        delay_before_retry: Duration::from_secs(1),
        delay_loop: Duration::from_mins(1),
        warmup: Duration::from_mins(1),
        alpha: false,
        log_all_failures: false,
    }
}

pub(crate) fn real_server(addr: SocketAddr) -> RealServer {
    RealServer {
        addr,
        method: ForwardMethod::Dr,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
        inhibit_on_failure: false,
        checks: vec![check(addr)],
        notify_up: None,
        notify_down: None,
    }
}

pub(crate) fn service(n: u8) -> ServiceId {
    ServiceId {
        addr: IpAddr::from([198, 51, 100, n]),
        port: 80,
        protocol: Protocol::Tcp,
    }
}

pub(crate) fn virtual_server(n: u8, real_servers: Vec<RealServer>) -> VirtualServer {
    VirtualServer {
        id: service(n),
        also: Vec::new(),
        group: None,
        scheduler: Scheduler::Rr,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        real_servers,
        quorum: 1,
        hysteresis: 0,
        quorum_up: None,
        quorum_down: None,
        omega: false,
        sorry_server: None,
    }
}

pub(crate) fn server(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 80))
}
