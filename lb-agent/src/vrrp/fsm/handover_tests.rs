// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a MASTER that hands over does, action by action.

use super::*;

#[test]
fn it_says_priority_0_first_and_holds_on_until_its_successor_is_heard() {
    let mut bench = Bench::master(100);
    bench.wait_ms(300);
    let stays = true;
    assert_eq!(bench.give(Input::HandOver { stays }), [advert(0)]);
    assert_eq!(bench.give(Input::HandOver { stays }), []);
    assert_eq!(bench.hear(LOWER, 0), [], "another one that gives up");
    bench.wait_ms(700);
    let reason = Reason::HandedOver { src: LOWER };
    let expected = [
        Action::Release,
        change(State::Master, State::Backup, reason),
    ];
    assert_eq!(bench.hear(LOWER, 90), expected);
    bench.wait_ms(100);
    assert_eq!(bench.hear(LOWER, 90), [Action::Detach]);
    // It does not take the role back while its successor lives.
    assert_eq!(bench.due_in().as_micros(), 3_609_375);
}

#[test]
fn the_program_goes_at_the_latest_a_quarter_of_a_second_after_the_addresses() {
    let mut bench = Bench::master(100);
    bench.give(Input::HandOver { stays: false });
    let expected = [
        Action::Release,
        change(State::Master, State::Init, Reason::Stopped),
    ];
    assert_eq!(bench.hear(LOWER, 90), expected);
    assert_eq!(bench.due_in(), DETACH_LATEST);
    assert_eq!(bench.run_to_timeout(), [Action::Detach]);
    assert_eq!(bench.fsm.poll_timeout(), None);
}

#[test]
fn without_a_successor_it_goes_on_or_stops() {
    let mut bench = Bench::master(100);
    bench.give(Input::HandOver { stays: true });
    assert_eq!(bench.due_in().as_micros(), 1_096_093);
    assert_eq!(bench.run_to_timeout(), [advert(100)]);
    assert_eq!(bench.fsm.state(), State::Master);
    bench.give(Input::HandOver { stays: true });
    // Told to stop meanwhile.
    assert_eq!(bench.give(Input::HandOver { stays: false }), []);
    let expected = [
        Action::Release,
        Action::Detach,
        change(State::Master, State::Init, Reason::Stopped),
    ];
    assert_eq!(bench.run_to_timeout(), expected);
}

#[test]
fn a_fault_between_release_and_detach_releases_nothing_twice() {
    let mut bench = Bench::master(100);
    bench.give(Input::HandOver { stays: true });
    bench.hear(LOWER, 90);
    // Its interface goes before the program does.
    let actions = bench.give(Input::InterfaceDown);
    assert!(!actions.contains(&Action::Release));
    assert_eq!(bench.due_in(), DETACH_LATEST);
    assert_eq!(bench.run_to_timeout(), [Action::Detach]);
}
