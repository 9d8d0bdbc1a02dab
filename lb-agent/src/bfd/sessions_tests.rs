// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose packet it is, and what is told. What they send goes to a port of loopback that nobody
//! has to listen on.

use std::net::IpAddr;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::bfd::packet::{Control, encode};

const SECOND: Duration = Duration::from_secs(1);

fn config(name: &str, last: u8) -> BfdInstance {
    BfdInstance {
        name: name.to_owned(),
        neighbor: IpAddr::from([127, 0, 0, last]),
        source: None,
        min_rx: Duration::from_millis(10),
        min_tx: Duration::from_millis(10),
        idle_tx: SECOND,
        multiplier: 5,
        passive: false,
        ttl: 255,
        ttl_min: 255,
        multihop: false,
    }
}

fn control(state: State, yours: u32) -> Control {
    Control {
        diag: Diag::NONE,
        state,
        poll: false,
        fin: false,
        demand: false,
        multiplier: 3,
        mine: 9,
        yours,
        min_tx: SECOND,
        min_rx: SECOND,
    }
}

fn hear(sessions: &mut Sessions, last: u8, ttl: u8, bytes: &[u8]) {
    let src = IpAddr::from([127, 0, 0, last]);
    sessions.receive(Nanos::new(1), &Arrived { src, ttl, bytes });
}

fn told(events: &mut UnboundedReceiver<WatchEvent>) -> Vec<(String, Condition)> {
    let all = std::iter::from_fn(|| events.try_recv().ok());
    all.map(|event| (event.what.name().to_owned(), event.condition))
        .collect()
}

#[test]
fn rfc_5880_6_8_6_a_packet_finds_its_session_by_our_discriminator_or_by_its_sender() {
    let (sender, mut events) = unbounded_channel();
    let mut sessions = Sessions::new(sender);
    let known = sessions.reconfigure(Nanos::new(1), &[config("a", 2), config("b", 3)]);
    assert!(known.iter().all(|event| event.condition == Condition::Down));
    let mine = sessions.snapshot()[1].discriminators.0;
    hear(&mut sessions, 3, 255, &encode(&control(State::Down, 0)));
    assert_eq!(sessions.snapshot()[1].state, State::Init);
    // From another address of the same neighbour.
    hear(&mut sessions, 77, 255, &encode(&control(State::Up, mine)));
    assert_eq!(sessions.snapshot()[1].state, State::Up);
    assert_eq!(told(&mut events), [("b".to_owned(), Condition::Up)]);
    hear(&mut sessions, 3, 255, &encode(&control(State::Down, 0)));
    assert_eq!(told(&mut events), [("b".to_owned(), Condition::Down)]);
    assert_eq!(sessions.snapshot()[0].state, State::Down);
    assert_eq!(sessions.inlets(), [(false, 3784)]);
}

#[test]
fn what_is_refused_is_counted_where_it_belongs() {
    let (sender, _events) = unbounded_channel();
    let mut sessions = Sessions::new(sender);
    sessions.reconfigure(Nanos::new(1), &[config("a", 2)]);
    let down = encode(&control(State::Down, 0));
    hear(&mut sessions, 2, 254, &down);
    hear(&mut sessions, 2, 255, &down[..9]);
    hear(&mut sessions, 99, 255, &down);
    hear(&mut sessions, 99, 255, &[]);
    hear(&mut sessions, 2, 255, &encode(&control(State::Up, 123)));
    let of = |counters: &Counters| -> Vec<(&'static str, u64)> {
        counters.iter().filter(|(_, n)| *n > 0).collect()
    };
    let status = &sessions.snapshot()[0];
    assert_eq!(of(&status.counters), [("len_err", 1), ("ttl_err", 1)]);
    assert_eq!(
        of(&sessions.strangers()),
        [("len_err", 1), ("no_session", 2)]
    );
    assert_eq!(status.state, State::Down);
}

#[test]
fn a_reload_leaves_a_session_up_unless_its_path_changes() {
    let (sender, mut events) = unbounded_channel();
    let mut sessions = Sessions::new(sender);
    sessions.reconfigure(Nanos::new(1), &[config("a", 2)]);
    let mine = sessions.snapshot()[0].discriminators.0;
    hear(&mut sessions, 2, 255, &encode(&control(State::Init, mine)));
    assert_eq!(told(&mut events), [("a".to_owned(), Condition::Up)]);
    let slower = BfdInstance {
        min_tx: SECOND,
        ..config("a", 2)
    };
    assert_eq!(sessions.reconfigure(Nanos::new(2), &[slower]), []);
    assert_eq!(sessions.snapshot()[0].state, State::Up);
    assert_eq!(told(&mut events), []);
    let known = sessions.reconfigure(Nanos::new(3), &[config("a", 4)]);
    assert_eq!(known.len(), 1, "another neighbour is another session");
    assert_eq!(sessions.snapshot()[0].state, State::Down);
}
