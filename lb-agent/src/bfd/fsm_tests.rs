// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rules of RFC 5880 one by one, then two sessions on a line that loses packets.

use fastrand::Rng;
use proptest::prelude::*;

use super::super::packet::{decode, encode};
use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn settings() -> Settings {
    Settings {
        min_rx: MS * 20,
        min_tx: MS * 10,
        idle_tx: SECOND,
        multiplier: 3,
        passive: false,
    }
}

fn at(time: Duration) -> Nanos {
    Nanos::new(1) + time
}

fn session(settings: Settings) -> Session {
    let mut session = Session::new(settings, 77, 1);
    let mut actions = Vec::new();
    session.handle(at(Duration::ZERO), Input::Start, &mut actions);
    assert_eq!(actions, []);
    session
}

/// A packet of the neighbour, which sends every 30 ms and can receive every 40 ms.
fn packet(state: State, yours: u32) -> Control {
    Control {
        diag: Diag::NONE,
        state,
        poll: false,
        fin: false,
        demand: false,
        multiplier: 5,
        mine: 99,
        yours,
        min_tx: MS * 30,
        min_rx: MS * 40,
    }
}

fn give(session: &mut Session, now: Duration, input: Input) -> Vec<Action> {
    let mut actions = Vec::new();
    session.handle(at(now), input, &mut actions);
    actions
}

fn sent(actions: &[Action]) -> Vec<Control> {
    let sent = actions.iter().filter_map(|action| match action {
        Action::Send(control) => Some(*control),
        Action::StateChanged { .. } => None,
    });
    sent.collect()
}

/// A session that is up since 1 s, its poll answered.
fn up(settings: Settings) -> Session {
    let mut session = session(settings);
    give(&mut session, SECOND, Input::Packet(packet(State::Down, 0)));
    give(&mut session, SECOND, Input::Packet(packet(State::Init, 77)));
    assert_eq!(session.state(), State::Up);
    let fin = Control {
        fin: true,
        ..packet(State::Up, 77)
    };
    give(&mut session, SECOND, Input::Packet(fin));
    session
}

#[test]
fn rfc_5880_6_2_the_table_of_states() {
    use State::{AdminDown, Down, Init, Up};
    for (state, heard, next) in [
        (Down, AdminDown, Down),
        (Down, Down, Init),
        (Down, Init, Up),
        (Down, Up, Down),
        (Init, AdminDown, Down),
        (Init, Down, Init),
        (Init, Init, Up),
        (Init, Up, Up),
        (Up, AdminDown, Down),
        (Up, Down, Down),
        (Up, Init, Up),
        (Up, Up, Up),
        (AdminDown, Down, AdminDown),
        (AdminDown, Up, AdminDown),
    ] {
        let mut session = session(settings());
        session.state = state;
        let actions = give(&mut session, SECOND, Input::Packet(packet(heard, 77)));
        assert_eq!(session.state(), next, "{state} hears {heard}");
        let told = actions.contains(&Action::StateChanged {
            from: state,
            to: next,
        });
        assert_eq!(told, state != next, "{state} hears {heard}");
        if next == Down && state != Down {
            assert_eq!(session.diag(), Diag::NEIGHBOR_DOWN);
        }
    }
}

#[test]
fn rfc_5880_6_8_3_a_session_that_is_not_up_sends_slowly_and_says_so() {
    let mut session = session(settings());
    let actions = give(&mut session, SECOND, Input::Timer);
    let [first] = sent(&actions)[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(
        (first.state, first.min_tx, first.yours),
        (State::Down, SECOND, 0)
    );
    let wait = session.poll_timeout().unwrap().since(at(SECOND));
    assert!((MS * 750..=SECOND).contains(&wait), "{wait:?}");
}

#[test]
fn rfc_5880_6_5_coming_up_is_polled_until_the_neighbour_answers() {
    let mut session = session(settings());
    let actions = give(&mut session, SECOND, Input::Packet(packet(State::Init, 77)));
    let [said] = sent(&actions)[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(
        (said.state, said.poll, said.min_tx),
        (State::Up, true, MS * 10)
    );
    assert_eq!((said.yours, said.diag), (99, Diag::NONE));
    let later = SECOND + MS * 40;
    assert!(sent(&give(&mut session, later, Input::Timer))[0].poll);
    let fin = Control {
        fin: true,
        ..packet(State::Up, 77)
    };
    give(&mut session, later, Input::Packet(fin));
    let later = later + MS * 40;
    assert!(!sent(&give(&mut session, later, Input::Timer))[0].poll);
}

#[test]
fn rfc_5880_6_5_a_poll_is_answered_at_once() {
    let mut session = up(settings());
    let poll = Control {
        poll: true,
        ..packet(State::Up, 77)
    };
    let answer = sent(&give(&mut session, SECOND + MS, Input::Packet(poll)));
    assert_eq!(answer.len(), 1);
    assert!(answer[0].fin && !answer[0].poll);
}

#[test]
fn rfc_5880_6_8_4_silence_for_the_detection_time_ends_the_session() {
    let mut session = up(settings());
    // The neighbour's multiplier times the slower of its sending and our receiving.
    assert_eq!(session.detection_time(), Some(MS * 150));
    assert_eq!(give(&mut session, SECOND + MS * 149, Input::Timer).len(), 1);
    assert_eq!(session.state(), State::Up);
    let actions = give(&mut session, SECOND + MS * 150, Input::Timer);
    assert_eq!(session.state(), State::Down);
    assert_eq!(session.diag(), Diag::EXPIRED);
    let [said] = sent(&actions)[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(
        (said.state, said.diag, said.yours),
        (State::Down, Diag::EXPIRED, 0)
    );
    assert_eq!(said.min_tx, SECOND, "it sends slowly again");
    assert_eq!(session.detection_time(), None);
}

#[test]
fn rfc_5880_6_8_7_it_sends_no_faster_than_the_neighbour_can_receive_less_jitter() {
    for (multiplier, most) in [(3, MS * 40), (1, MS * 36)] {
        let mut session = up(Settings {
            multiplier,
            ..settings()
        });
        assert_eq!(session.tx_interval(), MS * 40);
        let mut now = SECOND;
        let mut seen = Vec::new();
        for _ in 0..200 {
            let due = session.poll_timeout().unwrap().since(at(Duration::ZERO));
            give(&mut session, due, Input::Packet(packet(State::Up, 77)));
            assert_eq!(sent(&give(&mut session, due, Input::Timer)).len(), 1);
            seen.push(due.saturating_sub(now));
            now = due;
        }
        let (least, longest) = (
            *seen[1..].iter().min().unwrap(),
            *seen.iter().max().unwrap(),
        );
        assert!(
            least >= MS * 30 && longest <= most,
            "{least:?} to {longest:?}"
        );
        assert!(
            least < MS * 31 && longest + MS > most,
            "it uses the whole range"
        );
    }
}

#[test]
fn rfc_5880_6_8_7_nothing_is_sent_to_a_neighbour_that_cannot_receive() {
    let mut session = up(settings());
    let deaf = Control {
        min_rx: Duration::ZERO,
        ..packet(State::Up, 77)
    };
    give(&mut session, SECOND, Input::Packet(deaf));
    let only = session.poll_timeout();
    assert_eq!(
        only,
        Some(at(SECOND + MS * 150)),
        "the detection time alone"
    );
}

#[test]
fn rfc_5880_6_6_nothing_is_sent_to_a_neighbour_that_demands_silence_while_both_are_up() {
    let mut session = up(settings());
    let demand = Control {
        demand: true,
        ..packet(State::Up, 77)
    };
    give(&mut session, SECOND, Input::Packet(demand));
    assert_eq!(session.poll_timeout(), Some(at(SECOND + MS * 150)));
    give(&mut session, SECOND, Input::Packet(packet(State::Up, 77)));
    assert!(session.poll_timeout() < Some(at(SECOND + MS * 150)));
}

#[test]
fn rfc_5880_6_1_a_passive_session_waits_to_be_spoken_to() {
    let mut session = session(Settings {
        passive: true,
        ..settings()
    });
    assert_eq!(session.poll_timeout(), None);
    let heard = Input::Packet(packet(State::Down, 0));
    let said = sent(&give(&mut session, SECOND, heard));
    assert_eq!(said[0].state, State::Init);
    let silence = SECOND * 100;
    assert_eq!(sent(&give(&mut session, silence, Input::Timer)).len(), 0);
    assert_eq!(
        (session.state(), session.poll_timeout()),
        (State::Down, None)
    );
}

#[test]
fn rfc_5880_6_8_3_slower_sending_and_quicker_detection_wait_for_the_poll_s_end() {
    let mut session = up(settings());
    let other = Settings {
        min_tx: MS * 500,
        min_rx: MS,
        ..settings()
    };
    give(&mut session, SECOND, Input::Configure(other));
    assert_eq!(session.tx_interval(), MS * 40);
    assert_eq!(session.detection_time(), Some(MS * 150));
    let said = sent(&give(&mut session, SECOND + MS * 40, Input::Timer))[0];
    assert_eq!((said.poll, said.min_tx, said.min_rx), (true, MS * 500, MS));
    let fin = Control {
        fin: true,
        ..packet(State::Up, 77)
    };
    give(&mut session, SECOND + MS * 41, Input::Packet(fin));
    assert_eq!(session.tx_interval(), MS * 500);
    // Its sending, every 30 ms, is the slower of the two.
    assert_eq!(session.detection_time(), Some(MS * 150));
}

#[test]
fn an_end_is_said() {
    let mut session = up(settings());
    let said = sent(&give(&mut session, SECOND, Input::Stop));
    assert_eq!(
        (said[0].state, said[0].diag),
        (State::AdminDown, Diag::ADMIN_DOWN)
    );
    assert_eq!(session.poll_timeout(), None);
    assert_eq!(give(&mut session, SECOND, Input::Timer), []);
}

/// Two sessions and what is on its way between them.
struct Pair {
    sessions: [Session; 2],
    on_the_way: Vec<(Nanos, usize, Control)>,
    now: Nanos,
    rng: Rng,
    loss: f64,
    /// When each was up first and went down last.
    downs: [u32; 2],
}

impl Pair {
    fn new(settings: [Settings; 2], seed: u64, loss: f64) -> Self {
        let [first, second] = settings;
        let mut pair = Self {
            sessions: [
                Session::new(first, 1, seed),
                Session::new(second, 2, seed ^ 1),
            ],
            on_the_way: Vec::new(),
            now: Nanos::new(1),
            rng: Rng::with_seed(seed),
            loss,
            downs: [0; 2],
        };
        for at in 0..2 {
            pair.step(at, Input::Start);
        }
        pair
    }

    fn step(&mut self, at: usize, input: Input) {
        let mut actions = Vec::new();
        self.sessions[at].handle(self.now, input, &mut actions);
        for action in actions {
            match action {
                Action::Send(control) => {
                    if self.rng.f64() >= self.loss {
                        let delay = Duration::from_micros(self.rng.u64(50..1000));
                        let control = decode(&encode(&control)).unwrap();
                        self.on_the_way.push((self.now + delay, 1 - at, control));
                    }
                }
                Action::StateChanged { from, .. } => {
                    self.downs[at] += u32::from(from == State::Up);
                }
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let timers = self.sessions.iter().filter_map(Session::poll_timeout);
            let arrivals = self.on_the_way.iter().map(|(at, ..)| *at);
            let Some(next) = timers.chain(arrivals).min().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            let due = self.on_the_way.iter().position(|(at, ..)| *at <= self.now);
            if let Some((_, to, control)) = due.map(|at| self.on_the_way.swap_remove(at)) {
                self.step(to, Input::Packet(control));
                continue;
            }
            for at in 0..2 {
                if self.sessions[at]
                    .poll_timeout()
                    .is_some_and(|due| due <= self.now)
                {
                    self.step(at, Input::Timer);
                }
            }
        }
    }

    fn states(&self) -> [State; 2] {
        [self.sessions[0].state(), self.sessions[1].state()]
    }
}

#[test]
fn two_sessions_come_up_stay_up_and_notice_a_cut_line_within_the_detection_time() {
    for seed in 0..100 {
        let passive = Settings {
            passive: seed % 2 == 1,
            ..settings()
        };
        let mut pair = Pair::new([settings(), passive], seed, 0.0);
        pair.run(SECOND * 4);
        assert_eq!(pair.states(), [State::Up; 2], "seed {seed}");
        pair.run(SECOND * 60);
        assert_eq!(
            (pair.states(), pair.downs),
            ([State::Up; 2], [0; 2]),
            "seed {seed}"
        );
        pair.loss = 1.0;
        pair.run(MS * 62);
        assert_eq!(pair.states(), [State::Down; 2], "seed {seed}");
        pair.loss = 0.0;
        pair.run(SECOND * 4);
        assert_eq!(pair.states(), [State::Up; 2], "seed {seed}");
    }
}

proptest! {
    /// Whatever comes, in whatever order: it does not panic, and keeps its promises.
    #[test]
    fn any_input_in_any_state(
        seed: u64,
        inputs in prop::collection::vec((0u8..8, 0u64..2_000, any::<[u8; 24]>()), 0..200),
    ) {
        let mut session = Session::new(settings(), 5, seed);
        let mut now = Nanos::new(1);
        for (kind, wait, bytes) in inputs {
            now = now + MS * u32::try_from(wait).unwrap_or_default();
            let mut head = bytes;
            (head[0], head[3]) = (0x20 | head[0] & 0x1f, 24);
            head[1] &= 0xfa;
            let input = match (kind, decode(&head)) {
                (0, _) => Input::Start,
                (1, _) => Input::Configure(settings()),
                (2, _) if wait > 1_990 => Input::Stop,
                (3..8, Ok(control)) => Input::Packet(control),
                _ => Input::Timer,
            };
            let mut actions = Vec::new();
            session.handle(now, input, &mut actions);
            for control in sent(&actions) {
                prop_assert!(!(control.poll && control.fin));
                prop_assert!(control.mine == 5 && control.multiplier == 3);
            }
            if session.state() == State::Up {
                prop_assert!(session.detection_time().is_some());
            }
        }
    }
}
