// SPDX-License-Identifier: MIT OR Apache-2.0
//! xlvs and Debian's keepalived as a pair, in both roles and both versions of VRRP.
//!
//! In: one director of each kind. Out: who is MASTER, what either logs, what tshark says of ours.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use xlvs_tests::capture::tshark;
use xlvs_tests::config::{DirectorConfig, Speed};
use xlvs_tests::director::Software;
use xlvs_tests::experiment::{self, Departure, ELECTION};
use xlvs_tests::observer::Moment;
use xlvs_tests::outcome::Outcome;
use xlvs_tests::site::{DIRECTORS, Site, VIP};
use xlvs_tests::wait;

/// Longer than any backup of these tests waits before it takes over.
const LONG_ENOUGH: Duration = Duration::from_secs(5);

/// `first` is MASTER beside `second`: the backup stays quiet, takes over, and gives the role back.
fn pair(name: &str, first: Software, second: Software, speed: Speed) -> Outcome {
    let mut site = Site::raise_directors(name, [first, second])?;
    let configs = [
        DirectorConfig::first(VIP, speed),
        DirectorConfig::second(VIP, speed),
    ];
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
    let ours = usize::from(first != Software::Xlvs);
    let [first, second] = site.captures;
    let file = if ours == 0 {
        first.finish()
    } else {
        second.finish()
    };
    judge(&file, DIRECTORS[ours], speed)?;
    Ok(())
}

/// tshark decodes all our adverts, with a good checksum and nothing to remark.
fn judge(file: &Path, ours: Ipv4Addr, speed: Speed) -> Outcome {
    let fields = [
        "vrrp.version",
        "vrrp.checksum.status",
        "ip.ttl",
        "_ws.expert.message",
    ];
    let packets = tshark(file, &format!("vrrp && ip.src == {ours}"), &fields)?;
    assert!(
        packets.len() >= 5,
        "only {} adverts of ours were captured",
        packets.len()
    );
    let all = tshark(
        file,
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
fn keepalived_believes_our_v2_master() -> Outcome {
    pair(
        "interop-v2-ours",
        Software::Xlvs,
        Software::Keepalived,
        Speed::V2Second,
    )
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn we_believe_keepalived_as_v2_master() -> Outcome {
    pair(
        "interop-v2-theirs",
        Software::Keepalived,
        Software::Xlvs,
        Speed::V2Second,
    )
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn keepalived_believes_our_v3_master() -> Outcome {
    pair(
        "interop-v3-ours",
        Software::Xlvs,
        Software::Keepalived,
        Speed::V3Tenth,
    )
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn we_believe_keepalived_as_v3_master() -> Outcome {
    pair(
        "interop-v3-theirs",
        Software::Keepalived,
        Software::Xlvs,
        Speed::V3Tenth,
    )
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn keepalived_s_password_is_checked() -> Outcome {
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
