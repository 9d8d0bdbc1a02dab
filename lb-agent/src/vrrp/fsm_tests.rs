// SPDX-License-Identifier: MIT OR Apache-2.0
//! One test per rule of RFC 9568 §6.4 and of docs/vrrp.md, and any inputs in any order.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

#[path = "fsm/announcing_tests.rs"]
mod announcing_tests;
#[path = "fsm/handover_tests.rs"]
mod handover_tests;

const MS: u64 = 1_000_000;
const ROUND: Action = Action::Announce { repeat: 5 };
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const HIGHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 3));
const LOWER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn settings(version: VrrpVersion, priority: u8) -> Settings {
    Settings {
        version,
        priority,
        interval: Duration::from_secs(1),
        preempt: true,
        preempt_delay: Duration::ZERO,
        grouped: false,
        announcing: Announcing::default(),
        exchange: Exchange::default(),
    }
}

/// An instance and its clock, in milliseconds.
struct Bench {
    fsm: Instance,
    now: Nanos,
}

impl Bench {
    fn started(settings: Settings) -> (Self, Vec<Action>) {
        let mut bench = Self {
            fsm: Instance::new(settings),
            now: Nanos::new(0),
        };
        let actions = bench.give(Input::Start { source: Some(OWN) });
        (bench, actions)
    }

    fn backup(version: VrrpVersion, priority: u8) -> Self {
        Self::started(settings(version, priority)).0
    }

    /// A MASTER whose first actions are over; the clock is at its takeover.
    fn master(priority: u8) -> Self {
        let mut bench = Self::backup(VrrpVersion::V2, priority);
        bench.run_to_timeout();
        assert_eq!(bench.fsm.state(), State::Master);
        bench
    }

    fn give(&mut self, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        self.fsm.handle(self.now, input, &mut out);
        out
    }

    fn hear(&mut self, src: IpAddr, priority: u8) -> Vec<Action> {
        self.give(Input::Advert {
            src,
            priority,
            interval: Duration::from_secs(1),
        })
    }

    fn wait_ms(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
    }

    fn run_to_timeout(&mut self) -> Vec<Action> {
        self.now = self.fsm.poll_timeout().unwrap();
        self.give(Input::Timer)
    }

    fn due_in(&self) -> Duration {
        self.fsm.poll_timeout().unwrap().since(self.now)
    }
}

fn advert(priority: u8) -> Action {
    Action::SendAdvert { priority }
}

fn change(from: State, to: State, reason: Reason) -> Action {
    Action::StateChanged { from, to, reason }
}

#[test]
fn rfc9568_6_4_1_the_owner_is_master_at_once() {
    let (_, actions) = Bench::started(settings(VrrpVersion::V3, 255));
    assert_eq!(
        actions,
        [
            advert(255),
            Action::Claim,
            ROUND,
            change(State::Init, State::Master, Reason::Owner)
        ]
    );
}

#[test]
fn rfc9568_6_4_1_everyone_else_listens_for_the_down_interval_first() {
    let (mut bench, actions) = Bench::started(settings(VrrpVersion::V2, 150));
    assert_eq!(
        actions,
        [change(State::Init, State::Backup, Reason::Started)]
    );
    assert_eq!(bench.due_in().as_micros(), 3_414_062);
    let actions = bench.run_to_timeout();
    assert_eq!(
        actions,
        [
            advert(150),
            Action::Claim,
            ROUND,
            change(State::Backup, State::Master, Reason::Silence)
        ]
    );
}

#[test]
fn rfc9568_6_4_2_priority_zero_leaves_only_the_skew() {
    let mut bench = Bench::backup(VrrpVersion::V2, 100);
    bench.wait_ms(500);
    assert_eq!(bench.hear(HIGHER, 0), []);
    assert_eq!(bench.due_in().as_micros(), 609_375);
    let actions = bench.run_to_timeout();
    let reason = Reason::MasterReleased;
    assert_eq!(
        actions.last(),
        Some(&change(State::Backup, State::Master, reason))
    );
}

#[test]
fn rfc9568_6_4_2_an_advert_of_at_least_our_priority_restarts_the_wait() {
    for priority in [100, 101, 255] {
        let mut bench = Bench::backup(VrrpVersion::V2, 100);
        bench.wait_ms(3000);
        assert_eq!(bench.hear(LOWER, priority), []);
        assert_eq!(bench.due_in().as_micros(), 3_609_375);
    }
}

#[test]
fn rfc9568_6_4_2_a_lower_advert_is_waited_out_unless_nopreempt() {
    let mut bench = Bench::backup(VrrpVersion::V2, 100);
    bench.wait_ms(3000);
    bench.hear(HIGHER, 99);
    assert_eq!(bench.due_in().as_micros(), 609_375);
    let actions = bench.run_to_timeout();
    // The lower one serves until it hears of us: by then the addresses are here.
    assert_eq!(
        actions,
        [
            Action::Claim,
            advert(100),
            Action::Announce { repeat: 5 },
            change(State::Backup, State::Master, Reason::Preempted),
        ]
    );

    let (mut bench, _) = Bench::started(Settings {
        preempt: false,
        ..settings(VrrpVersion::V2, 100)
    });
    bench.wait_ms(3000);
    bench.hear(HIGHER, 99);
    assert_eq!(bench.due_in().as_micros(), 3_609_375);
}

#[test]
fn keepalived_preempt_delay_counts_from_the_first_lower_advert_and_anew_after_a_higher_one() {
    let (mut bench, _) = Bench::started(Settings {
        preempt_delay: Duration::from_secs(10),
        ..settings(VrrpVersion::V2, 100)
    });
    for _ in 0..5 {
        bench.wait_ms(1000);
        bench.hear(HIGHER, 99);
        assert_eq!(bench.due_in().as_micros(), 3_609_375);
    }
    bench.hear(HIGHER, 101);
    for _ in 0..10 {
        bench.wait_ms(1000);
        bench.hear(HIGHER, 99);
        assert_eq!(bench.due_in().as_micros(), 3_609_375);
    }
    // The delay is over: adverts of the lower one count no more.
    bench.wait_ms(1000);
    bench.hear(HIGHER, 99);
    assert_eq!(bench.due_in().as_micros(), 2_609_375);
    assert_eq!(
        bench.run_to_timeout().last(),
        Some(&change(State::Backup, State::Master, Reason::Preempted))
    );
}

#[test]
fn a_master_that_dies_within_the_preempt_delay_is_succeeded_as_ever() {
    let (mut bench, _) = Bench::started(Settings {
        preempt_delay: Duration::from_secs(1000),
        ..settings(VrrpVersion::V2, 100)
    });
    bench.hear(HIGHER, 99);
    assert_eq!(bench.due_in().as_micros(), 3_609_375);
    bench.run_to_timeout();
    assert_eq!(bench.fsm.state(), State::Master);
}

#[test]
fn rfc9568_6_4_2_v3_learns_the_masters_interval_and_v2_does_not() {
    for (version, micros) in [(VrrpVersion::V2, 3_609_375), (VrrpVersion::V3, 360_937)] {
        let mut bench = Bench::backup(version, 100);
        bench.give(Input::Advert {
            src: HIGHER,
            priority: 200,
            interval: Duration::from_millis(100),
        });
        assert_eq!(bench.due_in().as_micros(), micros);
    }
}

#[test]
fn rfc9568_6_4_3_a_master_yields_to_the_higher_and_waits_for_its_silence() {
    for (src, priority, reason) in [
        (
            LOWER,
            101,
            Reason::HigherPriority {
                src: LOWER,
                priority: 101,
            },
        ),
        (HIGHER, 100, Reason::HigherAddress { src: HIGHER }),
    ] {
        let mut bench = Bench::master(100);
        bench.wait_ms(300);
        let expected = [
            Action::Release,
            advert(100),
            change(State::Master, State::Backup, reason),
        ];
        assert_eq!(bench.hear(src, priority), expected);
        assert_eq!(bench.hear(src, priority), [Action::Detach]);
        assert_eq!(bench.due_in().as_micros(), 3_609_375);
    }
}

#[test]
fn rfc9568_6_4_3_a_master_answers_the_lower_at_once_and_announces_once_an_interval() {
    let mut bench = Bench::master(100);
    bench.wait_ms(6000);
    bench.give(Input::Timer);
    assert_eq!(
        bench.fsm.state(),
        State::Backup,
        "six seconds are overslept"
    );

    let mut bench = Bench::master(100);
    for _ in 0..7 {
        bench.run_to_timeout();
    }
    bench.wait_ms(100);
    assert_eq!(bench.hear(LOWER, 99), [advert(100), ROUND]);
    bench.wait_ms(100);
    assert_eq!(bench.hear(LOWER, 100), [advert(100)]);
    bench.wait_ms(905);
    assert_eq!(bench.hear(LOWER, 100), [advert(100), ROUND]);
}

#[test]
fn rfc9568_6_4_3_a_master_answers_priority_zero_at_once() {
    let mut bench = Bench::master(100);
    bench.wait_ms(100);
    assert_eq!(bench.hear(HIGHER, 0), [advert(100)]);
    assert_eq!(bench.fsm.state(), State::Master);
}

#[test]
fn a_rival_that_answers_our_answers_cannot_start_a_storm() {
    let mut bench = Bench::master(100);
    let mut sent = 0;
    for _ in 0..999 {
        bench.wait_ms(1);
        let actions = bench.hear(LOWER, 99);
        sent += actions.iter().filter(|a| **a == advert(100)).count();
    }
    assert_eq!(sent, 9, "one for each tenth of the interval");
}

#[test]
fn keepalived_announces_again_five_seconds_after_a_takeover() {
    let mut bench = Bench::master(100);
    let start = bench.now;
    let mut announced = Vec::new();
    for _ in 0..12 {
        for action in bench.run_to_timeout() {
            if action == ROUND {
                announced.push(bench.now.since(start));
            }
        }
    }
    assert_eq!(announced, [Duration::from_secs(5)]);
}

#[test]
fn a_masters_pace_is_moved_by_nothing_it_hears() {
    let mut bench = Bench::master(100);
    let start = bench.now;
    let mut regular = Vec::new();
    while bench.now.since(start) < Duration::from_secs(4) {
        bench.wait_ms(10);
        bench.hear(LOWER, 1);
        bench.hear(LOWER, 0);
        let due = bench.fsm.poll_timeout().unwrap();
        if bench.now >= due {
            assert_eq!(bench.give(Input::Timer)[0], advert(100));
            regular.push(bench.now.since(start).as_secs());
        }
    }
    assert_eq!(regular, [1, 2, 3, 4]);
}

#[test]
fn a_late_timer_keeps_to_the_grid_and_a_very_late_one_starts_a_new_grid() {
    let mut bench = Bench::master(100);
    bench.wait_ms(1200);
    assert_eq!(bench.give(Input::Timer), [advert(100)]);
    assert_eq!(bench.due_in(), Duration::from_millis(800));
    bench.wait_ms(2500);
    assert_eq!(bench.give(Input::Timer), [advert(100)]);
    assert_eq!(bench.due_in(), Duration::from_secs(1));
}

#[test]
fn a_master_that_overslept_steps_down_before_anything_else() {
    let step_down = [
        Action::Release,
        Action::Detach,
        change(State::Master, State::Backup, Reason::Overslept),
    ];
    for input in [
        Input::Timer,
        Input::Advert {
            src: LOWER,
            priority: 1,
            interval: Duration::from_secs(1),
        },
    ] {
        let mut bench = Bench::master(100);
        bench.wait_ms(3610);
        assert_eq!(bench.give(input), step_down);
        assert_eq!(bench.due_in().as_micros(), 3_609_375);
    }
}

#[test]
fn a_backup_that_overslept_listens_again_before_it_claims() {
    let mut bench = Bench::backup(VrrpVersion::V2, 100);
    bench.wait_ms(8000);
    assert_eq!(bench.give(Input::Timer), []);
    assert_eq!(bench.due_in().as_micros(), 3_609_375);
}

#[test]
fn stopping_a_master_removes_the_addresses_tells_the_peers_and_detaches() {
    let mut bench = Bench::master(100);
    assert_eq!(
        bench.give(Input::Shutdown),
        [
            Action::Release,
            advert(0),
            Action::Detach,
            change(State::Master, State::Init, Reason::Stopped)
        ]
    );
    assert_eq!(bench.fsm.poll_timeout(), None);
    assert_eq!(bench.hear(LOWER, 1), []);
}

#[test]
fn losing_the_interface_is_a_fault_until_it_is_back() {
    let mut bench = Bench::master(100);
    assert_eq!(
        bench.give(Input::InterfaceDown),
        [
            Action::Release,
            advert(0),
            Action::Detach,
            change(State::Master, State::Fault, Reason::InterfaceDown)
        ]
    );
    assert_eq!(bench.fsm.poll_timeout(), None);
    assert_eq!(
        bench.give(Input::InterfaceUp { source: OWN }),
        [change(State::Fault, State::Backup, Reason::InterfaceUp)]
    );
    assert_eq!(bench.due_in().as_micros(), 3_609_375);
}

#[test]
fn failed_claims_hand_over_and_wait_twice_as_long_each_time() {
    let mut bench = Bench::master(100);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        assert_eq!(
            bench.give(Input::ClaimFailed),
            [
                Action::Release,
                advert(0),
                Action::Detach,
                change(State::Master, State::Fault, Reason::ClaimFailed)
            ]
        );
        pauses.push(bench.due_in().as_secs());
        let retry = [change(State::Fault, State::Backup, Reason::Retry)];
        assert_eq!(bench.run_to_timeout(), retry);
        bench.run_to_timeout();
        assert_eq!(bench.fsm.state(), State::Master);
    }
    assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 640, 640]);
    bench.run_to_timeout();
    bench.give(Input::ClaimFailed);
    assert_eq!(
        bench.due_in().as_secs(),
        10,
        "an interval as MASTER forgives"
    );
}

#[test]
fn inputs_and_actions_survive_a_recording() {
    let input = Input::Advert {
        src: HIGHER,
        priority: 9,
        interval: Duration::from_secs(1),
    };
    let action = change(State::Backup, State::Master, Reason::Silence);
    let text = serde_json::to_string(&(input, action)).unwrap();
    assert_eq!(
        serde_json::from_str::<(Input, Action)>(&text).unwrap(),
        (input, action)
    );
}

fn tracks(priority: u8, standing: Standing) -> Input {
    Input::Tracks(Verdict { priority, standing })
}

fn priority_change(from: u8, to: u8) -> Action {
    Action::PriorityChanged { from, to }
}

#[test]
fn keepalived_a_backups_timer_moves_by_the_difference_of_the_skews() {
    let mut bench = Bench::backup(VrrpVersion::V2, 100);
    bench.wait_ms(3000);
    assert_eq!(bench.due_in().as_micros(), 609_375);
    let raised = bench.give(tracks(150, Standing::Ready));
    assert_eq!(raised, [priority_change(100, 150)]);
    assert_eq!(bench.due_in().as_micros(), 414_062);
    bench.give(tracks(100, Standing::Ready));
    assert_eq!(bench.due_in().as_micros(), 609_375);
    assert_eq!(bench.give(tracks(100, Standing::Ready)), []);
}

#[test]
fn a_backup_whose_timer_moves_into_the_past_claims_at_the_next_timer() {
    let mut bench = Bench::backup(VrrpVersion::V2, 1);
    bench.wait_ms(3900);
    bench.give(tracks(254, Standing::Ready));
    assert_eq!(bench.due_in(), Duration::ZERO);
    assert_eq!(bench.give(Input::Timer).first(), Some(&advert(254)));
}

#[test]
fn keepalived_a_masters_next_advert_carries_the_new_priority_and_not_before_its_time() {
    let mut bench = Bench::master(100);
    bench.wait_ms(300);
    let lowered = bench.give(tracks(98, Standing::Ready));
    assert_eq!(lowered, [priority_change(100, 98)]);
    assert_eq!(bench.due_in(), Duration::from_millis(700));
    assert_eq!(bench.run_to_timeout(), [advert(98)]);
    let reason = Reason::HigherPriority {
        src: LOWER,
        priority: 99,
    };
    assert_eq!(
        bench.hear(LOWER, 99).last(),
        Some(&change(State::Master, State::Backup, reason))
    );
}

#[test]
fn keepalived_a_failed_track_without_weight_is_a_fault_until_it_is_good() {
    let mut bench = Bench::master(100);
    assert_eq!(
        bench.give(tracks(100, Standing::Failed)),
        [
            Action::Release,
            advert(0),
            Action::Detach,
            change(State::Master, State::Fault, Reason::TrackFailed)
        ]
    );
    assert_eq!(bench.fsm.poll_timeout(), None);
    assert_eq!(bench.give(Input::InterfaceUp { source: OWN }), []);
    assert_eq!(
        bench.give(tracks(100, Standing::Ready)),
        [change(State::Fault, State::Backup, Reason::TracksReady)]
    );
    assert_eq!(bench.due_in().as_micros(), 3_609_375);
}

#[test]
fn keepalived_an_instance_waits_in_init_for_the_first_results_of_its_scripts() {
    let mut bench = Bench {
        fsm: Instance::new(settings(VrrpVersion::V2, 100)),
        now: Nanos::new(0),
    };
    assert_eq!(bench.give(tracks(100, Standing::Pending)), []);
    assert_eq!(bench.give(Input::Start { source: Some(OWN) }), []);
    assert_eq!(bench.fsm.state(), State::Init);
    assert_eq!(bench.hear(LOWER, 1), []);
    let ready = bench.give(tracks(100, Standing::Ready));
    assert_eq!(
        ready,
        [change(State::Init, State::Backup, Reason::TracksReady)]
    );
}

#[test]
fn a_fault_ends_only_when_interface_and_tracks_are_good() {
    let mut bench = Bench::master(100);
    bench.give(Input::InterfaceDown);
    assert_eq!(bench.give(tracks(100, Standing::Failed)), []);
    assert_eq!(bench.give(Input::InterfaceUp { source: OWN }), []);
    assert_eq!(bench.fsm.state(), State::Fault);
    bench.give(tracks(100, Standing::Ready));
    assert_eq!(bench.fsm.state(), State::Backup);
}

#[test]
fn an_owner_can_be_in_fault_and_is_master_at_once_afterwards() {
    let (mut bench, _) = Bench::started(settings(VrrpVersion::V2, 255));
    bench.give(tracks(255, Standing::Failed));
    assert_eq!(bench.fsm.state(), State::Fault);
    bench.give(tracks(255, Standing::Ready));
    assert_eq!(bench.fsm.state(), State::Master);
}

fn any_input() -> impl Strategy<Value = Input> {
    let source = prop_oneof![Just(OWN), Just(HIGHER), Just(LOWER)];
    let advert =
        (source.clone(), any::<u8>(), 0u64..5000).prop_map(|(src, priority, ms)| Input::Advert {
            src,
            priority,
            interval: Duration::from_millis(ms),
        });
    prop_oneof![
        2 => prop::option::of(source.clone()).prop_map(|source| Input::Start { source }),
        6 => advert,
        8 => Just(Input::Timer),
        2 => source.prop_map(|source| Input::InterfaceUp { source }),
        1 => Just(Input::InterfaceDown),
        1 => Just(Input::ClaimFailed),
        1 => Just(Input::Group(Order::Master)),
        1 => Just(Input::Group(Order::Backup)),
        1 => Just(Input::Group(Order::Hold(Standing::Failed))),
        1 => Just(Input::Group(Order::Hold(Standing::Ready))),
        3 => (1u8..=254, 0..3).prop_map(|(priority, standing)| Input::Tracks(Verdict {
            priority,
            standing: match standing {
                0 => Standing::Ready,
                1 => Standing::Pending,
                _ => Standing::Failed,
            },
        })),
        1 => any::<bool>().prop_map(|stays| Input::HandOver { stays }),
        1 => Just(Input::Shutdown),
    ]
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let version = prop_oneof![Just(VrrpVersion::V2), Just(VrrpVersion::V3)];
    (version, 1u8..=255, 1u64..300, any::<bool>(), any::<bool>()).prop_map(
        |(version, priority, tenths, preempt, grouped)| Settings {
            version,
            priority,
            interval: Duration::from_millis(tenths * 100),
            preempt,
            preempt_delay: Duration::from_secs(tenths % 9),
            grouped,
            announcing: Announcing::default(),
            exchange: Exchange::default(),
        },
    )
}

proptest! {
    /// Total over (state × input), and the actions tell one consistent story.
    #[test]
    fn any_inputs_in_any_order_are_survived(
        settings in any_settings(),
        inputs in prop::collection::vec((any_input(), 0u64..8000), 0..80),
    ) {
        let mut fsm = Instance::new(settings);
        let mut now = Nanos::new(0);
        let (mut holds, mut state) = (false, State::Init);
        for (input, ms) in inputs {
            now = match (input, fsm.poll_timeout()) {
                (Input::Timer, Some(at)) if ms % 2 == 0 => now.max(at),
                _ => now + Duration::from_nanos(ms * MS),
            };
            let mut out = Vec::new();
            let priority = fsm.priority();
            fsm.handle(now, input, &mut out);
            for action in out {
                match action {
                    Action::Claim => { prop_assert!(!holds); holds = true; }
                    Action::Release => { prop_assert!(holds); holds = false; }
                    Action::Detach => prop_assert!(!holds),
                    Action::Announce { .. } => prop_assert!(holds),
                    Action::StateChanged { from, to, .. } => {
                        prop_assert_eq!(from, state);
                        prop_assert_ne!(from, to);
                        state = to;
                    }
                    Action::PriorityChanged { from, to } => {
                        prop_assert_eq!((from, to), (priority, fsm.priority()));
                    }
                    Action::SendAdvert { .. } => {}
                }
            }
            prop_assert_eq!(state, fsm.state());
            prop_assert_eq!(holds, state == State::Master);
            match state {
                State::Backup | State::Master => {
                    let due = fsm.poll_timeout().unwrap();
                    // A timer that fires again at once for ever would be a busy loop.
                    prop_assert!(due > now || !matches!(input, Input::Timer));
                    prop_assert!(due.since(now) <= Duration::from_secs(121));
                }
                State::Init => {
                    prop_assert_eq!(fsm.poll_timeout().is_some(), fsm.is_leaving());
                }
                State::Fault => {}
            }
        }
    }
}
