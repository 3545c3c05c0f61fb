//! The portal dies, and the payment provider's sandbox with it: killed again and again while parents pay in, move money, have money paid out and
//! saved cards are charged. What could go wrong: money that a provider has taken and no account has, or that an account has twice; a
//! form that counts twice because its answer was lost; a receipt that never comes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use frokost_engine::{AccountId, Amount, Command, Entry, Lsn, Sequence};
use frokost_net::wire::Request;
use frokost_net::{Bundle, Client};
use frokost_persistence::Records;
use frokost_persistence::records::{Order, OrderState, Purpose};
use futures_util::future::join_all;
use reqwest::StatusCode;
use reqwest::header::LOCATION;

use crate::browser::{Browser, PASSWORD};
use crate::installation::*;
use crate::payments::GOOD_CARD;
use crate::rush::journal_of;

/// Parents who do everything by hand, each with two children.
const BUSY: u64 = 4;
/// Accounts that are topped up by themselves, of one parent.
const AUTOMATIC: [u64; 2] = [9, 10];

/// A parent at work. Every amount is used once, so that it names what was done.
struct Parent {
    browser: Browser,
    from: u64,
    next: u64,
    /// The form whose answer was lost: it is sent again as it was.
    unanswered: Option<Form>,
    told: Told,
}

struct Form {
    page: String,
    fields: Vec<(&'static str, String)>,
    kind: Kind,
    ore: i64,
}

#[derive(Clone, Copy)]
enum Kind {
    Transfer,
    PayOut,
}

/// What a parent was told, by amount.
#[derive(Default)]
struct Told {
    paid: BTreeSet<i64>,
    moved: BTreeSet<i64>,
    paid_out: BTreeSet<i64>,
    /// How often the answer to a form was lost.
    lost: usize,
}

impl Parent {
    async fn work(&mut self) {
        // Whatever fails does because the server is gone.
        drop(self.work_until_the_end().await);
    }

    async fn work_until_the_end(&mut self) -> reqwest::Result<()> {
        if let Some(form) = self.unanswered.take() {
            self.send(form).await?;
        }
        loop {
            match self.next % 4 {
                0 => self.pay_in().await?,
                1 => self.fill_in(Kind::PayOut).await?,
                _ => self.fill_in(Kind::Transfer).await?,
            }
            // More than sixty forms in a minute are refused.
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// A number that was not used before.
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    async fn pay_in(&mut self) -> reqwest::Result<()> {
        // Whole kroner, two hundred at least.
        let kroner = 200 + self.number();
        let (ore, amount) = (kroner as i64 * 100, kroner.to_string());
        let page = format!("/konto/{}/indbetal", self.from);
        let form = self.form_of(&page).await?;
        let fields = [
            ("form", form),
            ("amount", amount),
            ("consent", "yes".into()),
            ("receipt", "kvittering@example.dk".into()),
        ];
        let posted = self.post(&page, &fields).await;
        self.told.lost += usize::from(posted.is_err());
        let answer = posted?;
        if answer.status() == StatusCode::UNPROCESSABLE_ENTITY {
            // After hundreds of kills: no account holds more.
            let page = answer.text().await?;
            assert!(page.contains("Lige nu kan der højst indbetales"), "{page}");
            return Ok(());
        }
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{}", answer.text().await?);
        let window = answer.headers()[LOCATION].to_str().unwrap();
        let fields = [("number", GOOD_CARD), ("expiry", "12/39"), ("check", "123"), ("do", "pay")];
        let paid = reqwest::Client::new().post(window).form(&fields).send().await;
        self.told.lost += usize::from(paid.is_err());
        let answer = paid?.text().await?;
        assert!(answer.contains("Betalingen er gennemført."), "{answer}");
        self.told.paid.insert(ore);
        Ok(())
    }

    async fn fill_in(&mut self, kind: Kind) -> reqwest::Result<()> {
        let ore = 100 + self.number();
        let (ore, amount) = (ore as i64, format!("{},{:02}", ore / 100, ore % 100));
        let page = match kind {
            Kind::Transfer => format!("/konto/{}/overfoer", self.from),
            Kind::PayOut => format!("/konto/{}/udbetal", self.from),
        };
        let mut fields = vec![("form", self.form_of(&page).await?), ("amount", amount)];
        match kind {
            Kind::Transfer => fields.push(("to", (self.from + 1).to_string())),
            Kind::PayOut => fields.extend(
                [("name", "Mor Jensen"), ("reg", "0040"), ("account", "0440116243"), ("password", PASSWORD)]
                    .map(|(name, value)| (name, value.to_owned())),
            ),
        }
        self.send(Form { page, fields, kind, ore }).await
    }

    async fn send(&mut self, form: Form) -> reqwest::Result<()> {
        let answered = match self.post(&form.page, &form.fields).await {
            Ok(answer) => answer,
            Err(lost) => {
                self.told.lost += 1;
                self.unanswered = Some(form);
                return Err(lost);
            }
        };
        assert_eq!(answered.status(), StatusCode::SEE_OTHER, "{}: {}", form.page, answered.text().await?);
        match form.kind {
            Kind::Transfer => self.told.moved.insert(form.ore),
            Kind::PayOut => self.told.paid_out.insert(form.ore),
        };
        Ok(())
    }

    async fn form_of(&self, page: &str) -> reqwest::Result<String> {
        Ok(Browser::hidden(&self.browser.try_get(page).await?.text().await?, "form"))
    }

    async fn post(&self, page: &str, fields: &[(&str, String)]) -> reqwest::Result<reqwest::Response> {
        let mut all = vec![("token", self.browser.token.as_str())];
        all.extend(fields.iter().map(|(name, value)| (*name, value.as_str())));
        self.browser.try_post(page, &all).await
    }
}

/// Sells on the accounts that top themselves up, so that they keep running low. Most is refused.
async fn sell(server: SocketAddr, bundle: Bundle, sequence: Arc<AtomicU64>) {
    let Ok((client, _)) = Client::connect(server, &bundle).await else { return };
    loop {
        for account in AUTOMATIC {
            let sequence = Sequence(sequence.fetch_add(1, Ordering::Relaxed) + 1);
            let command = Command::Purchase { card: card(account).parse().unwrap(), amount: Amount::from_kroner(105) };
            let Ok(answer) = client.send(&Request::Command { sequence, asked: command.into() }) else { return };
            if answer.await.is_err() {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Twenty times in CI; `FROKOST_KILLS` for more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_the_portal_credits_once_what_was_paid() {
    let kills: u64 = std::env::var("FROKOST_KILLS").ok().map_or(20, |kills| kills.parse().unwrap());
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let home = Installation::new().with("PAYMENT__SANDBOX_LISTEN", &free()).with("PORTAL__LISTEN", &free());
    home.import(10, 3_000);
    for n in 1..=BUSY {
        home.add_parent(&format!("mor-{n}@example.dk"), &format!("{},{}", 2 * n - 1, 2 * n));
    }
    home.add_parent("far@example.dk", "9,10");
    let bundle = Bundle::read(&home.enrol("till-1")).unwrap();
    let mut parents = Vec::new();
    let server = home.serve();
    for n in 1..=BUSY {
        let from = 2 * n - 1;
        let browser = Browser::logged_in(&server, &format!("mor-{n}@example.dk"), from).await;
        parents.push(Parent { browser, from, next: 0, unanswered: None, told: Told::default() });
    }
    for account in AUTOMATIC {
        let far = Browser::logged_in(&server, "far@example.dk", account).await;
        far.pay(&far.open_agreement(account, "250").await, GOOD_CARD).await;
    }
    assert_eq!(server.stop(), 0);

    let sequence = Arc::new(AtomicU64::new(0));
    for round in 0..kills {
        let mut server = home.serve();
        let selling = tokio::spawn(sell(server.tills, bundle.clone(), Arc::clone(&sequence)));
        let kill = async {
            tokio::time::sleep(Duration::from_millis(300 + round * 397 % 1_900)).await;
            server.kill();
            // It would hear late that nobody is there.
            selling.abort();
        };
        tokio::join!(join_all(parents.iter_mut().map(Parent::work)), kill);
    }

    // What is left to be done, a server does by itself.
    for attempt in 0.. {
        assert!(attempt < 5, "something is never settled: {:?}", orders(&home));
        let server = home.serve();
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(server.stop(), 0);
        let taken = taken(&home);
        let settled = |order: &Order| match order.state {
            OrderState::Paid | OrderState::Returning => false,
            OrderState::Started => !taken.contains_key(&order.number),
            OrderState::Credited | OrderState::Failed | OrderState::Returned => true,
        };
        if orders(&home).iter().all(settled) {
            break;
        }
    }
    let verified = home.must(&["verify"]);
    assert!(verified.ends_with("everything holds\n"), "{verified}");
    hold_against_provider(&home);
    let lost = hold_against_parents(&home, &parents);
    assert!(lost as u64 * 4 > kills, "only {lost} answers were lost: this shows little");
}

fn orders(home: &Installation) -> Vec<Order> {
    let records = Records::open(&home.data().join("records")).unwrap();
    (1..=10).flat_map(|account| records.orders_of(AccountId(account)).unwrap()).collect()
}

/// What the provider has taken, by order.
fn taken(home: &Installation) -> BTreeMap<u64, i64> {
    let book = std::fs::read(home.data().join("sandbox.json")).unwrap();
    let book: serde_json::Value = serde_json::from_slice(&book).unwrap();
    let mut taken = BTreeMap::new();
    for payment in book["payments"].as_object().unwrap().values() {
        if payment["state"] == "paid" {
            let order = payment["order"].as_u64().unwrap();
            assert_eq!(taken.insert(order, payment["amount_ore"].as_i64().unwrap()), None, "paid twice: {payment}");
        }
    }
    taken
}

/// Everything in the journal: what happened on which account.
fn entries(home: &Installation) -> Vec<(u64, Entry)> {
    let (_, _, reader) = journal_of(&home.data());
    let records = reader.read_from(Lsn(1)).map(|record| record.unwrap());
    records.map(|record| (record.account.0, record.entry)).collect()
}

/// Whatever the provider has taken is on the account of its order, once, and nothing else is; and whoever paid has a receipt.
fn hold_against_provider(home: &Installation) {
    let (taken, orders) = (taken(home), orders(home));
    let mut credited = BTreeMap::new();
    for (account, entry) in entries(home) {
        if let Entry::ToppedUp { order, amount, .. } = entry {
            // What the list brought along has no order of the portal's.
            if orders.iter().any(|known| known.number == order.0) {
                assert_eq!(credited.insert(order.0, (account, amount.ore())), None, "order {order} is credited twice");
            }
        }
    }
    for order in &orders {
        let paid = taken.get(&order.number);
        assert_eq!(order.state == OrderState::Credited, paid.is_some(), "{order:?}");
        assert_eq!(credited.get(&order.number), paid.map(|paid| (order.account, *paid)).as_ref(), "{order:?}");
        assert!(paid.is_none_or(|paid| *paid == order.amount_ore), "{order:?}, {paid:?}");
    }
    assert!(taken.keys().all(|number| orders.iter().any(|order| order.number == *number)), "{taken:?}");
    let charges = orders.iter().filter(|order| matches!(order.purpose, Purpose::Automatic { .. }));
    assert!(charges.clone().count() > 5, "only {} saved cards were charged: this shows little", charges.count());
    // A machine that stops between sending a mail and noting that it was sent sends it again, as the same mail.
    assert_eq!(receipts(home).len(), credited.len(), "a receipt for each");
}

/// The receipts that have come, by what names them.
fn receipts(home: &Installation) -> BTreeSet<String> {
    let mails = std::fs::read_dir(home.data().join("mail/new")).unwrap().flatten();
    let texts = mails.map(|mail| std::fs::read_to_string(mail.path()).unwrap());
    let receipts = texts.filter(|text| text.contains("Kvittering for indbetaling"));
    let name = |text: String| text.lines().find(|line| line.starts_with("Message-ID: ")).unwrap().to_owned();
    receipts.map(name).collect()
}

/// What parents were told is in the journal, and what they were not told is there whole or not at all. Returns how many answers were lost.
fn hold_against_parents(home: &Installation, parents: &[Parent]) -> usize {
    let entries = entries(home);
    for parent in parents {
        let of = |pick: fn(&Entry) -> Option<Amount>| -> Vec<i64> {
            let mine = entries.iter().filter(|(account, _)| *account == parent.from);
            mine.filter_map(|(_, entry)| pick(entry)).map(Amount::ore).collect()
        };
        let paid = of(|entry| if let Entry::ToppedUp { amount, .. } = entry { Some(*amount) } else { None });
        let moved = of(|entry| if let Entry::TransferredOut { amount, .. } = entry { Some(*amount) } else { None });
        let out = of(|entry| if let Entry::PayoutReserved { amount, .. } = entry { Some(*amount) } else { None });
        for (done, told) in [(paid, &parent.told.paid), (moved, &parent.told.moved), (out, &parent.told.paid_out)] {
            let once: BTreeSet<i64> = done.iter().copied().collect();
            assert_eq!(once.len(), done.len(), "something was done twice: {done:?}");
            assert!(once.is_superset(told), "{told:?} was told, {done:?} was done");
        }
    }
    let told = |of: fn(&Told) -> usize| parents.iter().map(|parent| of(&parent.told)).sum::<usize>();
    let counts = [told(|told| told.paid.len()), told(|told| told.moved.len()), told(|told| told.paid_out.len())];
    assert!(counts.iter().all(|count| *count > 5), "only {counts:?} were answered: this shows little");
    told(|told| told.lost)
}
