// SPDX-License-Identifier: MIT OR Apache-2.0
//! xlvs and Debian's keepalived as a pair, in both roles and both versions of VRRP.
//!
//! In: one director of each kind. Out: who is MASTER, what either logs, what tshark says of ours.

use std::time::Duration;

use anyhow::Result;
use xlvs_tests::capture::{Capture, tshark};
use xlvs_tests::config::{DirectorConfig, Speed};
use xlvs_tests::director::Software;
use xlvs_tests::experiment::{self, Departure, ELECTION};
use xlvs_tests::observer::Moment;
use xlvs_tests::site::{Site, VIP};
use xlvs_tests::wait;

/// Longer than any backup of these tests waits before it takes over.
const LONG_ENOUGH: Duration = Duration::from_secs(5);

/// `first` is MASTER beside `second`: the backup stays quiet, takes over, and gives the role back.
fn pair(name: &str, first: Software, second: Software, speed: Speed) -> Result<()> {
    let mut site = Site::raise_directors(name, [first, second])?;
    let configs = [
        DirectorConfig::first(VIP, speed),
        DirectorConfig::second(VIP, speed),
    ];
    let port = if first == Software::Xlvs { "d1" } else { "d2" };
    let capture = Capture::start(&site.lab, port, "ip proto 112")?;
    experiment::elect(&mut site, &configs)?;
    let since = Moment::now();
    wait::holds(LONG_ENOUGH, "the backup believes the MASTER", || {
        site.observer.adverts(since, "d2").is_empty()
    })?;
    for departure in [Departure::Stop, Departure::Kill] {
        let ms = experiment::takeover(&mut site, departure)?;
        let bound = departure.bound_ms(speed, configs[1].priority);
        assert!(
            ms <= bound,
            "takeover {ms:.1} ms after {}, bound {bound:.1}",
            departure.name()
        );
        experiment::come_back(&mut site)?;
    }
    for director in &site.directors {
        let log = director.log().to_lowercase();
        let complaint = log.lines().find(|line| {
            let words = [
                "invalid",
                "bogus",
                "checksum",
                "mismatch",
                "incorrect",
                "malformed",
            ];
            words.iter().any(|word| line.contains(word))
        });
        assert_eq!(complaint, None, "{} complains", director.name());
    }
    judge(capture, port, speed)
}

/// tshark decodes all our adverts, with a good checksum and nothing to remark.
fn judge(capture: Capture, port: &str, speed: Speed) -> Result<()> {
    let ours = if port == "d1" {
        "192.0.2.1"
    } else {
        "192.0.2.2"
    };
    let file = capture.finish();
    let fields = [
        "vrrp.version",
        "vrrp.checksum.status",
        "ip.ttl",
        "_ws.expert.message",
    ];
    let packets = tshark(&file, &format!("vrrp && ip.src == {ours}"), &fields)?;
    assert!(
        packets.len() >= 5,
        "only {} adverts of ours were captured",
        packets.len()
    );
    let all = tshark(
        &file,
        &format!("ip.proto == 112 && ip.src == {ours}"),
        &["frame.number"],
    )?;
    assert_eq!(
        all.len(),
        packets.len(),
        "every packet of ours decodes as VRRP"
    );
    let version = speed.version().to_string();
    for packet in &packets {
        // Checksum status 1 is "good". The last field is there only if tshark has a remark.
        assert_eq!(packet[..3], [version.as_str(), "1", "255"], "{packet:?}");
        assert!(
            packet.get(3).is_none_or(String::is_empty),
            "tshark remarks: {packet:?}"
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn keepalived_believes_our_v2_master() -> Result<()> {
    pair(
        "interop-v2-ours",
        Software::Xlvs,
        Software::Keepalived,
        Speed::V2Second,
    )
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn we_believe_keepalived_as_v2_master() -> Result<()> {
    pair(
        "interop-v2-theirs",
        Software::Keepalived,
        Software::Xlvs,
        Speed::V2Second,
    )
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn keepalived_believes_our_v3_master() -> Result<()> {
    pair(
        "interop-v3-ours",
        Software::Xlvs,
        Software::Keepalived,
        Speed::V3Tenth,
    )
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn we_believe_keepalived_as_v3_master() -> Result<()> {
    pair(
        "interop-v3-theirs",
        Software::Keepalived,
        Software::Xlvs,
        Speed::V3Tenth,
    )
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn keepalived_s_password_is_checked() -> Result<()> {
    let mut site =
        Site::raise_directors("interop-password", [Software::Keepalived, Software::Xlvs])?;
    let [first, second] = &mut site.directors;
    first.start(&DirectorConfig::first(VIP, Speed::V2Second).text())?;
    first.await_address(VIP, ELECTION)?;
    let wrong = DirectorConfig::second(VIP, Speed::V2Second)
        .text()
        .replace("1111", "2222");
    second.start(&wrong)?;
    // Its adverts do not count, so the second sees no MASTER; the log says why.
    second.await_address(VIP, ELECTION)?;
    assert!(
        second.log().to_lowercase().contains("auth"),
        "{}",
        second.log_tail()
    );
    Ok(())
}
