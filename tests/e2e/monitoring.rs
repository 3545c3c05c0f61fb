//! What a server tells whoever watches over it, and whether the page about it says the same.

use std::collections::BTreeSet;

use frokost_engine::{Amount, Command, Outcome, Rejection, Sequence};
use frokost_net::{Bundle, Client};

use crate::installation::{Installation, card};

/// Names of a page's table: what stands between backticks in a row's first column.
fn documented() -> BTreeSet<String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/monitoring.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| {
        row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    })
    .collect()
}

#[tokio::test]
async fn what_a_server_tells_is_explained_by_it_and_by_the_page() {
    let home = Installation::new();
    home.import(50, 9_000);
    let server = home.serve();
    let ran = home.run(&["load", "--tills", "3", "--in-flight", "20", "--seconds", "1", "--warm-up", "0", "--json"]);
    let sold = serde_json::from_str::<serde_json::Value>(&ran.out).unwrap()["audit"]["approved"].as_u64();
    let told = reqwest::get(&server.metrics).await.unwrap().text().await.unwrap();

    let explained: BTreeSet<String> = told
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '))
        .filter(|(_, what)| what.len() > 5)
        .map(|(name, _)| name.to_owned())
        .collect();
    let there: BTreeSet<String> =
        told.lines().filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split_once(' ')?.0.to_owned())).collect();
    assert_eq!(explained, there, "{told}");
    assert_eq!(documented(), there);

    let of = |name: &str| -> f64 {
        let value = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("nothing is told of {name}: {told}"))
    };
    assert_eq!(Some(server.metric("frokost_answers_total{outcome=\"approved\"}").await), sold);
    // Groups of one and of sixty are not in the same bucket.
    let groups = of("frokost_journal_group_records_count");
    assert!(of("frokost_journal_group_records_bucket{le=\"1\"}") < groups, "{told}");
    assert_eq!(of("frokost_journal_group_records_bucket{le=\"1024\"}"), groups);
    assert_eq!(of("frokost_journal_groups_total"), groups);
    assert_eq!(of("frokost_out_of_space"), 0.0);
    assert_eq!(of("frokost_connections{role=\"till\"}"), 0.0, "they have gone");
    // In megabytes, which a moment later are not many more or fewer.
    let resident = of("process_resident_memory_bytes") / f64::from(1 << 20);
    assert!((resident / server.resident_mb() as f64 - 1.0).abs() < 0.5, "{resident}");
    assert!(of("process_cpu_seconds_total") > 0.0 && of("process_open_fds") > 5.0);
}

/// What no account answers is counted, too, and who is there.
#[tokio::test]
async fn answers_of_the_door_and_connections_are_counted() {
    let home = Installation::new().with("JOURNAL__KIND", "file");
    home.import(2, 100);
    let bundle = Bundle::read(&home.enrol("till-1")).unwrap();
    let server = home.serve();
    let client = Client::connect(server.tills, &bundle).await.unwrap().0;
    let buy = |kroner| Command::Purchase { card: card(1).parse().unwrap(), amount: Amount::from_kroner(kroner) };
    let sequence = Sequence(u64::MAX >> 1);
    let sold = client.command(sequence, buy(5)).await.unwrap();
    assert_eq!(client.command(sequence, buy(5)).await.unwrap(), sold);
    let reused = client.command(sequence, buy(6)).await.unwrap();
    assert_eq!(reused, Outcome::Rejected(Rejection::KeyReused));
    let forbidden = client.command(Sequence(sequence.0 + 1), Command::Block { account: frokost_engine::AccountId(1) });
    assert_eq!(forbidden.await.unwrap(), Outcome::Rejected(Rejection::NotAllowed));
    for outcome in ["approved", "again", "key_reused", "not_allowed"] {
        assert_eq!(server.metric(&format!("frokost_answers_total{{outcome=\"{outcome}\"}}")).await, 1, "{outcome}");
    }
    assert_eq!(server.metric("frokost_connections{role=\"till\"}").await, 1);
    // Groups of plain files are groups of the journal, and no mirror's.
    assert_eq!(server.metric("frokost_journal_flush_seconds_count").await, 1);
    let told = reqwest::get(&server.metrics).await.unwrap().text().await.unwrap();
    assert!(!told.contains("frokost_mirror_write_seconds"), "{told}");
}
