//! The server dies: killed at any moment under load, a bit of its disk flipped, a till's answer lost on the way. What could go
//! wrong: an acknowledged sale that is not there afterwards, one that is there twice, a resend that counts again.

use std::time::Duration;

use frokost_engine::{Amount, Command, Lsn, Outcome, Sequence};
use frokost_net::wire::Request;
use frokost_net::{Bundle, Client};

use crate::installation::*;
use crate::rush::*;

/// Fifty times in CI; `FROKOST_KILLS` for more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_again_and_again_no_acknowledged_sale_is_lost_or_doubled() {
    let kills: u32 = std::env::var("FROKOST_KILLS").ok().map_or(50, |kills| kills.parse().unwrap());
    // Snapshots are made, and the journal is cut behind them, in the middle of it, too.
    let home = Installation::new().with("JOURNAL__SNAPSHOT_EVERY", "40");
    home.import(PUPILS, 10_000);
    let mut tills = tills(&home);
    let known = Ledger::default();
    for round in 0..kills {
        let mut server = home.serve();
        let rush = Rush::begin(tills, server.tills, &known);
        // Anywhere from before the first sale to well into the rush.
        tokio::time::sleep(Duration::from_millis(u64::from(round * 53 % 240))).await;
        server.kill();
        tills = rush.end().await;
        if round == 0 {
            // From now on there is a snapshot, and the journal has been cut.
            tills = sell_until_cut(&home, tills, &known).await;
        } else if round % 10 == 9 {
            // Once in order, so that statements are made durable, behind which alone the journal is cut.
            let server = home.serve();
            tokio::time::sleep(Duration::from_millis(1_200)).await;
            assert_eq!(server.stop(), 0);
            hold_against_journal(&home.data(), &known);
        }
    }
    let answered = hold_against_journal(&home.data(), &known);
    assert!(answered > kills as usize * 20, "only {answered} sales were answered: this shows nothing");
    assert!(journal_of(&home.data()).0 > Lsn(1), "the journal was never cut: this shows less than it should");
    let verified = home.must(&["verify"]);
    assert!(verified.ends_with("everything holds\n"), "{verified}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resend_after_a_lost_answer_gets_the_first_answer() {
    let home = Installation::new();
    home.import(1, 100);
    let bundle = Bundle::read(&home.enrol("till-1")).unwrap();
    let mut server = home.serve();
    let sale = Command::Purchase { card: card(1).parse().unwrap(), amount: Amount::from_kroner(25) };
    let request = Request::Command { sequence: Sequence(1), asked: sale.into() };
    // The sale arrives and is carried out, but the till never hears of it.
    let (client, _) = Client::connect(server.tills, &bundle).await.unwrap();
    let _never_read = client.send(&request).unwrap();
    for attempt in 0.. {
        if home.must(&["account", "show", "1"]).contains("75,00 kr.") {
            break;
        }
        assert!(attempt < 100, "the sale never arrived");
    }
    drop(client);
    for restart in [false, true] {
        if restart {
            server.kill();
            server = home.serve();
        }
        let (client, _) = Client::connect(server.tills, &bundle).await.unwrap();
        let outcome = client.command(Sequence(1), sale).await.unwrap();
        assert!(
            matches!(outcome, Outcome::Approved(receipt) if receipt.balance == Amount::from_kroner(75)),
            "{outcome:?}"
        );
    }
    let shown = home.must(&["account", "show", "1"]);
    assert!(shown.contains("balance       75,00 kr."), "{shown}");
}

#[test]
fn a_flipped_or_truncated_journal_is_refused_and_the_place_named() {
    let home = Installation::new();
    home.import(40, 100);
    let sound = home.must(&["verify"]);
    assert!(sound.ends_with("everything holds\n"));
    let db = home.data().join("journal/db");
    let whole = std::fs::read(&db).unwrap();
    // A name that stands in a record on disk: the number of the last card.
    let needle = card(40).into_bytes();
    let place =
        whole.windows(needle.len()).rposition(|window| window == needle).expect("the journal has the card in it");
    let mut flipped = whole.clone();
    flipped[place] ^= 0x10;
    std::fs::write(&db, &flipped).unwrap();
    let refused = Server::try_start(&mut home.command(&["serve"])).err().expect("a damaged journal is served");
    assert_eq!(refused.code, 1, "{refused:?}");
    let named = refused.err.split("journal is damaged at LSN ").nth(1).and_then(|rest| rest.split(':').next());
    let named: u64 = named.unwrap_or_else(|| panic!("no LSN: {}", refused.err)).parse().unwrap();
    assert!((1..=120).contains(&named), "40 pupils make 120 records, and LSN {named} is named");

    // And cut off there.
    std::fs::write(&db, &whole[..place]).unwrap();
    let refused = Server::try_start(&mut home.command(&["serve"])).err().expect("a truncated journal is served");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("journal is damaged at LSN"), "{}", refused.err);
}
