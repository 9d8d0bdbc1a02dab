// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long a takeover takes.

use std::fmt::Write;

use expect_test::expect;

use super::*;

/// Milliseconds from an event to the next MASTER, by simulated clock on a perfect link.
#[test]
fn takeover_table() {
    let mut table = String::from(
        "version interval priority | starts alone  crash, latest  crash, earliest  stopped  preempts\n",
    );
    for (version, interval) in [
        (VrrpVersion::V2, 1000),
        (VrrpVersion::V2, 5000),
        (VrrpVersion::V3, 40),
        (VrrpVersion::V3, 100),
        (VrrpVersion::V3, 1000),
    ] {
        for priority in [1, 100, 150, 254] {
            takeover_row(
                &mut table,
                version,
                Duration::from_millis(interval),
                priority,
            );
        }
    }
    expect![[r"
        version interval priority | starts alone  crash, latest  crash, earliest  stopped  preempts
        V2         1000        1 |     3996.094       3996.094         2996.094  996.094         -
        V2         1000      100 |     3609.375       3609.375         2609.375  609.375  3609.375
        V2         1000      150 |     3414.062       3414.062         2414.063  414.062  3414.062
        V2         1000      254 |     3007.812       3007.812         2007.813    7.812  3007.812
        V2         5000        1 |    15996.094      15996.094        10996.094  996.094         -
        V2         5000      100 |    15609.375      15609.375        10609.375  609.375  15609.375
        V2         5000      150 |    15414.062      15414.062        10414.063  414.062  15414.062
        V2         5000      254 |    15007.812      15007.812        10007.813    7.812  15007.812
        V3           40        1 |      159.844        159.844          119.844   39.844         -
        V3           40      100 |      144.375        144.375          104.375   24.375   144.375
        V3           40      150 |      136.562        136.562           96.563   16.562   136.562
        V3           40      254 |      120.312        120.312           80.313    0.312   120.312
        V3          100        1 |      399.609        399.609          299.609   99.609         -
        V3          100      100 |      360.938        360.938          260.938   60.938   360.938
        V3          100      150 |      341.406        341.406          241.406   41.406   341.406
        V3          100      254 |      300.781        300.781          200.781    0.781   300.781
        V3         1000        1 |     3996.094       3996.094         2996.094  996.094         -
        V3         1000      100 |     3609.375       3609.375         2609.375  609.375  3609.375
        V3         1000      150 |     3414.062       3414.062         2414.063  414.062  3414.062
        V3         1000      254 |     3007.812       3007.812         2007.813    7.812  3007.812
    "]]
    .assert_eq(&table);
}

fn takeover_row(table: &mut String, version: VrrpVersion, interval: Duration, priority: u8) {
    let backup = settings(version, priority, interval);
    let master = settings(version, 255, interval);
    let weaker = settings(version, priority.saturating_sub(1).max(1), interval);
    // The MASTER's first advert leaves at 0, so its adverts leave at multiples of the interval.
    let with_master = |extra: Duration| {
        let mut lan = Lan::new(0, &[master, backup]);
        lan.start_all();
        lan.run_for(interval * 20 + extra);
        lan
    };
    let alone = {
        let mut lan = Lan::new(0, &[backup]);
        lan.start_all();
        lan.takeover()
    };
    let after_advert = {
        let mut lan = with_master(Duration::ZERO);
        lan.crash(0);
        lan.takeover()
    };
    let before_advert = {
        let mut lan = with_master(interval.saturating_sub(Duration::from_nanos(1)));
        lan.crash(0);
        lan.takeover()
    };
    let stopped = {
        let mut lan = with_master(interval / 2);
        lan.stop(0);
        lan.takeover()
    };
    let preempts = {
        let mut lan = Lan::new(0, &[weaker, backup]);
        lan.start(0);
        lan.run_for(interval * 20);
        lan.start(1);
        (weaker.priority < priority).then(|| lan.takeover())
    };
    let ms = |span: Duration| format!("{:.3}", span.as_nanos() as f64 / 1e6);
    writeln!(
        table,
        "{version:?}      {:>7}  {priority:>7} | {:>12}  {:>13}  {:>15}  {:>7}  {:>8}",
        interval.as_millis(),
        ms(alone),
        ms(after_advert),
        ms(before_advert),
        ms(stopped),
        preempts.map_or("-".to_owned(), ms),
    )
    .unwrap();
}
