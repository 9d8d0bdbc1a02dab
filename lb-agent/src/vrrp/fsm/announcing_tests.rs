// SPDX-License-Identifier: MIT OR Apache-2.0
//! When addresses are announced, and what changes the exchange of adverts.

use super::*;

fn with(change: impl FnOnce(&mut Settings)) -> Bench {
    let mut settings = settings(VrrpVersion::V2, 100);
    change(&mut settings);
    let mut bench = Bench::started(settings).0;
    bench.run_to_timeout();
    assert_eq!(bench.fsm.state(), State::Master);
    bench
}

/// (second, packets) of each round, from the takeover on.
fn rounds(bench: &mut Bench, seconds: u64) -> Vec<(u64, u32)> {
    let start = bench.now;
    let mut rounds = Vec::new();
    while bench.fsm.poll_timeout().unwrap() <= start + Duration::from_secs(seconds) {
        for action in bench.run_to_timeout() {
            if let Action::Announce { repeat } = action {
                rounds.push((bench.now.since(start).as_secs(), repeat));
            }
        }
    }
    rounds
}

fn announcing() -> Announcing {
    Announcing {
        delay: Duration::from_secs(3),
        repeat: 2,
        refresh: Duration::ZERO,
        refresh_repeat: 1,
        lower_delay: Duration::from_secs(4),
        lower_repeat: 7,
    }
}

#[test]
fn keepalived_the_second_round_comes_after_the_delay_and_none_with_0() {
    let mut bench = with(|s| s.announcing = announcing());
    assert_eq!(rounds(&mut bench, 20), [(3, 2)]);
    let mut bench = with(|s| s.announcing.delay = Duration::ZERO);
    assert_eq!(rounds(&mut bench, 20), []);
}

#[test]
fn keepalived_a_refresh_goes_on_as_long_as_it_is_master() {
    let mut bench = with(|s| {
        s.announcing.refresh = Duration::from_secs(6);
        s.announcing.refresh_repeat = 2;
    });
    assert_eq!(rounds(&mut bench, 19), [(5, 5), (6, 2), (12, 2), (18, 2)]);
    let actions = bench.hear(HIGHER, 200);
    assert!(actions.contains(&Action::Release));
    bench.wait_ms(60_000);
    assert_eq!(bench.fsm.state(), State::Backup);
}

#[test]
fn keepalived_a_lower_priority_is_followed_by_rounds_of_its_own() {
    let mut bench = with(|s| s.announcing = announcing());
    assert_eq!(rounds(&mut bench, 10), [(3, 2)]);
    bench.wait_ms(500);
    let lower = bench.hear(LOWER, 50);
    assert_eq!(lower, [advert(100), Action::Announce { repeat: 7 }]);
    assert_eq!(rounds(&mut bench, 10), [(4, 7)]);
}

#[test]
fn keepalived_lower_prio_repeat_0_means_no_round_over_a_rival() {
    let mut bench = with(|s| s.announcing.lower_repeat = 0);
    bench.wait_ms(500);
    assert_eq!(bench.hear(LOWER, 50), [advert(100)]);
}

#[test]
fn keepalived_lower_prio_no_advert_leaves_a_lower_priority_without_answer() {
    let mut bench = with(|s| s.exchange.answer_lower = false);
    bench.wait_ms(1_000);
    assert_eq!(bench.hear(LOWER, 50), [ROUND]);
    // Priority 0 is no claim: RFC 9568 §6.4.3 wants the answer.
    assert_eq!(bench.hear(LOWER, 0), [advert(100)]);
}

#[test]
fn keepalived_without_higher_prio_send_advert_the_loser_yields_in_silence() {
    let mut bench = with(|s| s.exchange.last_word = false);
    let actions = bench.hear(HIGHER, 200);
    assert!(!actions.contains(&advert(100)), "{actions:?}");
    assert_eq!(bench.fsm.state(), State::Backup);
}

#[test]
fn keepalived_down_timer_adverts_counts_the_adverts_that_may_be_missing() {
    let mut settings = settings(VrrpVersion::V2, 100);
    settings.exchange.down_adverts = 10;
    let (mut bench, _) = Bench::started(settings);
    assert_eq!(bench.due_in().as_micros(), 10_609_375);
    bench.wait_ms(1_000);
    bench.hear(HIGHER, 200);
    assert_eq!(bench.due_in().as_micros(), 10_609_375);
}

/// A split heals: both hear each other at once. The winner must not leave the clients with the
/// loser's link address until some refresh.
#[test]
fn after_a_split_heals_the_winner_answers_and_announces_at_once() {
    let mut bench = with(|_| {});
    rounds(&mut bench, 60);
    bench.wait_ms(400);
    assert_eq!(bench.hear(LOWER, 90), [advert(100), ROUND]);
    assert_eq!(
        rounds(&mut bench, 6),
        [(5, 5)],
        "and once the other one had time to go"
    );
}

/// Junk makes keepalived 2.2.7 fall silent, because each datagram starts its timer anew.
#[test]
fn adverts_keep_their_pace_whatever_arrives_and_however_fast() {
    let mut bench = with(|_| {});
    let start = bench.now;
    let mut sent = Vec::new();
    for ms in 0..8_000 {
        bench.now = start + Duration::from_millis(ms);
        // What is refused never reaches the machine; what reaches it is worse.
        for (src, priority) in [(LOWER, 1), (HIGHER, 99), (LOWER, 0)] {
            bench.hear(src, priority);
        }
        if bench.fsm.poll_timeout().unwrap() <= bench.now {
            let actions = bench.give(Input::Timer);
            if actions.contains(&advert(100)) {
                sent.push(ms);
            }
        }
    }
    assert_eq!(sent, [1_000, 2_000, 3_000, 4_000, 5_000, 6_000, 7_000]);
}
