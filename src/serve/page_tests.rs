use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::traffic::Traffic;
use crate::serve::history::{APPLICATIONS, Sample};

const SECOND: Duration = Duration::from_secs(1);

fn name(bytes: impl AsRef<[u8]>) -> Name {
    bytes.as_ref().into()
}

/// A history with traffic of each of `names`, increasing in their order.
fn history_of(names: &[Name], at: Instant) -> History {
    let mut history = History::default();
    let samples = names.iter().enumerate().map(|(n, name)| Sample {
        name,
        recent: Traffic::new(1024 * (n as u64 + 1), 512),
        total: Traffic::new(5 << 20, 17),
    });
    history.record(at, SECOND, samples);
    history
}

fn page_of(text: impl AsRef<[u8]>) -> String {
    let now = Instant::now();
    page(&history_of(&[name(text)], now), now)
}

/// Checks that nothing in the page can run or be fetched, whatever the names are.
fn assert_harmless(html: &str) {
    let lower = html.to_lowercase();
    for bad in ["<script", "<img", "<a ", "<iframe", "<link", "url(", "@import", "javascript:<"] {
        assert!(!lower.contains(bad), "{bad} in {html}");
    }
    // Every tag is one of ours.
    let tags = regex::Regex::new(r"<[^>]*").unwrap();
    let ours = regex::Regex::new(
        r#"^<(!DOCTYPE|/?(html|head|meta|title|style|body|main|h[12]|p|div|section|svg|desc|text|path|polyline|ul|li|bdi|table|caption|thead|tbody|tr|th|td))( [a-zA-Z-]+(="[^"<>]*")?)*/?$"#,
    )
    .unwrap();
    for tag in tags.find_iter(html) {
        assert!(ours.is_match(tag.as_str()), "{}", tag.as_str());
    }
}

#[test]
fn nothing_is_said_to_be_nothing() {
    let now = Instant::now();
    for history in [History::default(), history_of(&[], now)] {
        let html = page(&history, now);
        assert!(html.contains("Nothing was received or sent."));
        assert!(!html.contains("<table") && !html.contains("<polyline"));
        assert_harmless(&html);
    }
}

#[test]
fn one_application() {
    let html = page_of("curl http://example.org/?a&b");
    assert!(html.contains("<meta http-equiv=\"refresh\" content=\"5\">"));
    assert_eq!(html.matches("<polyline").count(), 2);
    assert!(html.contains(
        "<tr><td>1.0</td><td>0.5</td><td>5.0\u{a0}MiB</td><td>17\u{a0}B</td><th scope=\"row\" \
         class=\"name\"><bdi>curl http://example.org/?a&amp;b</bdi></th></tr>"
    ));
    assert_harmless(&html);
}

#[test]
fn ten_have_a_line_and_all_are_in_the_table_the_busiest_first() {
    let names: Vec<Name> = (0..25).map(|n| name(format!("app {n}."))).collect();
    let now = Instant::now();
    let html = page(&history_of(&names, now), now);
    assert_eq!(html.matches("<polyline").count(), 20);
    let legend = &html[html.find("<ul").unwrap()..html.find("</ul>").unwrap()];
    for style in 0..STYLES {
        assert_eq!(legend.matches(&format!("line s{style}\"")).count(), 1, "{style}");
    }
    assert!(
        legend.contains("app 24.") && legend.contains("app 15.") && !legend.contains("app 14.")
    );
    let table = &html[html.find("<table").unwrap()..];
    let places: Vec<usize> = (0..25).map(|n| table.find(&format!("app {n}.")).unwrap()).collect();
    assert!(places.is_sorted_by(|a, b| a > b));
}

#[test]
fn a_style_stays_with_its_application() {
    let names: Vec<Name> = (0..3).map(|n| name(format!("app {n}"))).collect();
    let start = Instant::now();
    let mut history = history_of(&names, start);
    let style_of = |history: &History, now, name: &Name| -> usize {
        let applications = history.applications(now).into_iter();
        let mut entries: Vec<Listed<'_>> = applications
            .map(|(name, application)| Listed {
                name,
                application,
                sum: application.sum(),
                rate: Rate::default(),
            })
            .collect();
        entries.sort_by(|a, b| a.name.cmp(b.name));
        let place = entries.iter().position(|entry| entry.name == name).unwrap();
        styles(&entries)[place]
    };
    let before = style_of(&history, start, &names[2]);
    let later = start + SPAN + SECOND;
    let recent = Traffic::new(1, 1);
    history.record(
        start + SECOND * 9,
        SECOND,
        names[2..].iter().map(|name| Sample { name, recent, total: Traffic::ZERO }),
    );
    history.record(later, SECOND, [Sample { name: &name("new"), recent, total: Traffic::ZERO }]);
    assert_eq!(history.applications(later).len(), 2, "two were forgotten");
    assert_eq!(style_of(&history, later, &names[2]), before);
}

#[test]
fn hostile_names_are_text() {
    let cases: &[(&[u8], &str)] = &[
        (b"<script>alert(1)</script>", "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;</bdi>"),
        (b"\"' onload='x", "<bdi>&quot;' onload='x</bdi>"),
        (b"&lt;", "<bdi>&amp;lt;</bdi>"),
        (
            b"</bdi></table><img src=x onerror=y>",
            "&lt;/bdi&gt;&lt;/table&gt;&lt;img src=x onerror=y&gt;",
        ),
        (b"\x1b]0;x\x07\0\xff\n", "<bdi>\\x1b]0;x\\x07\\x00\\xff\\n</bdi>"),
        ("user\u{202e}gpj.exe".as_bytes(), "<bdi>user\\u{202e}gpj.exe</bdi>"),
        (
            "\u{5e9}\u{5dc}\u{5d5}\u{5dd} <b>".as_bytes(),
            "<bdi>\u{5e9}\u{5dc}\u{5d5}\u{5dd} &lt;b&gt;</bdi>",
        ),
        (b"", "(no name)"),
    ];
    for (bytes, expected) in cases {
        let html = page_of(bytes);
        assert!(html.contains(expected), "{expected} in {html}");
        assert_harmless(&html);
    }
}

#[test]
fn a_long_name_is_cut_and_said() {
    let html = page_of("\"<".repeat(100_000));
    let shown = "&quot;&lt;".repeat(48) + "&quot;...";
    let said = "&quot;&lt;".repeat(248) + "&quot;...";
    assert!(html.contains(&format!("<bdi title=\"{said}\">{shown}</bdi>")), "{html}");
    assert_harmless(&html);
}

#[test]
fn a_page_is_never_large() {
    let now = Instant::now();
    let names: Vec<Name> =
        (0..APPLICATIONS + 3).map(|n| name(format!("{n}{}", "\"".repeat(9000)))).collect();
    let html = page(&history_of(&names, now), now);
    assert!(html.len() < 5_000_000, "{}", html.len());
    assert!(html.contains("<p>3 more carried less.</p>"));
}

#[test]
fn amounts() {
    let cases = [
        (0, "0\u{a0}B"),
        (1023, "1023\u{a0}B"),
        (1024, "1.0\u{a0}KiB"),
        (5 << 30, "5.0\u{a0}GiB"),
        (u64::MAX, "16.0\u{a0}EiB"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(amount(bytes), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn numbers_are_finite_and_names_are_text(
        records in prop::collection::vec(
            (
                0u64..9000,
                any::<Duration>(),
                prop::collection::vec((any::<Vec<u8>>(), any::<[u64; 2]>(), any::<u64>()), 0..15),
            ),
            1..20,
        ),
        wait in 0u64..70,
    ) {
        let mut history = History::default();
        let mut now = Instant::now();
        for (millis, elapsed, samples) in records {
            now += Duration::from_millis(millis);
            let samples: Vec<(Name, [u64; 2], u64)> =
                samples.into_iter().map(|(bytes, recent, total)| (name(bytes), recent, total)).collect();
            history.record(now, elapsed, samples.iter().map(|(name, [received, sent], total)| Sample {
                name,
                recent: Traffic::new(*received, *sent),
                total: Traffic::new(*total, *total),
            }));
        }
        let html = page(&history, now + Duration::from_secs(wait));
        assert_harmless(&html);
        let numbers = regex::Regex::new(r#"(points="|<td>|d="|[xy]=")[^"<]*(NaN|inf)"#).unwrap();
        prop_assert!(!numbers.is_match(&html));
    }
}

/// Writes a page for viewing: `BWMON_PAGE=/tmp/page.html cargo test --lib page_to_look_at`.
#[test]
fn page_to_look_at() {
    let start = Instant::now();
    let mut history = History::default();
    let names = [
        "/usr/bin/rsync -a /srv backup:/srv", "firefox", "sshd: alice", "nginx: worker process",
        "postgres: replication", "/usr/lib/apt/methods/http", "chronyd -F 2",
        "curl -fsSL 'https://example.org/?a=1&b=<2>'", "\u{5e9}\u{5dc}\u{5d5}\u{5dd} server", "node server.js",
        "transmission-daemon", "evil\u{1b}[2J\u{202e}gpj.exe <script>alert(1)</script>",
        "java -Xmx4g -cp /opt/app/lib/a.jar:/opt/app/lib/b.jar:/opt/app/lib/c.jar org.example.application.Main --config /etc/app.conf",
    ]
    .map(name);
    for tick in 0..=60u32 {
        let t = f64::from(tick);
        let samples = names.iter().enumerate().map(|(n, name)| {
            let n = n as f64;
            let wave = 1.0 + (t / (3.0 + n) + n).sin();
            let on = n % 3.0 != 1.0 || (t + 7.0 * n) % 40.0 < 17.0;
            let rate = if on { wave * 90_000.0 / (1.0 + n * 0.6) } else { 0.0 };
            let recent = Rate { received: rate, sent: rate * 0.1 * (n + 1.0) }.floor();
            Sample {
                name,
                recent,
                total: Traffic::new(1 << (20 + n as u32), 777_777 * tick as u64),
            }
        });
        history.record(start + SECOND * tick, SECOND, samples);
    }
    let html = page(&history, start + Duration::from_secs(60));
    assert_harmless(&html);
    if let Some(path) = std::env::var_os("BWMON_PAGE") {
        std::fs::write(path, html).unwrap();
    }
}
