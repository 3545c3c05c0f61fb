//! A lunch rush that remembers: tills that sell and parents who transfer as fast as they are answered until the server dies, know what
//! they were told, and ask again for what had no answer; and the journal held against what they know.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use frokost_engine::journal::{Journal, JournalReader};
use frokost_engine::snapshot::Snapshots;
use frokost_engine::statement::Statements;
use frokost_engine::{AccountId, Amount, Command, Entry, Lsn, Outcome, RequestKey, Role, SchoolId, Sequence};
use frokost_net::wire::{Request, Response};
use frokost_net::{Authority, Bundle, Client};
use frokost_persistence::{FileJournal, FileSnapshots, LoggedStatements, SledJournal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::installation::*;

pub const TILLS: u64 = 4;
pub const PUPILS: u64 = 20;

/// What tills and parents know for certain: what they asked for by number, with the command and, once answered, the answer.
pub type Ledger = Arc<Mutex<Known>>;
pub type Known = HashMap<RequestKey, (Command, Option<Outcome>)>;

/// A till, or parents who move money between their children.
pub struct Till {
    pub bundle: Bundle,
    next: u64,
    asks: fn(u64) -> Command,
}

fn sale(n: u64) -> Command {
    let card = card(n * 7 % PUPILS + 1).parse().unwrap();
    Command::Purchase { card, amount: Amount::from_ore((n % 50 + 1) as i64) }
}

fn transfer(n: u64) -> Command {
    let from = n * 3 % PUPILS;
    let to = (from + 1 + n % (PUPILS - 1)) % PUPILS;
    Command::Transfer {
        from: AccountId(from + 1),
        to: AccountId(to + 1),
        amount: Amount::from_ore((n % 90 + 1) as i64),
    }
}

/// What an approved command leaves in the journal, one record after the other.
fn entries(command: Command) -> Vec<Entry> {
    match command {
        Command::Purchase { amount, .. } => vec![Entry::Purchased { amount }],
        Command::Transfer { from, to, amount } => {
            vec![Entry::TransferredOut { to, amount }, Entry::TransferredIn { from, amount }]
        }
        other => unreachable!("{other:?}"),
    }
}

/// Tills, and one portal beside them.
pub fn tills(home: &Installation) -> Vec<Till> {
    let till = |n| Till { bundle: Bundle::read(&home.enrol(&format!("till-{n}"))).unwrap(), next: 1, asks: sale };
    let mut all: Vec<Till> = (1..=TILLS).map(till).collect();
    let authority = Authority::load_or_create(&home.data().join("pki")).unwrap();
    let (_, pem) = authority.enrol("parents", Role::Portal, SchoolId(0)).unwrap();
    all.push(Till { bundle: Bundle::from_pem(pem.as_bytes()).unwrap(), next: 1, asks: transfer });
    all
}

impl Till {
    /// Sells, a few in flight at a time, until the server dies. First asks again for what had no answer.
    pub async fn sell(&mut self, server: SocketAddr, known: Ledger, dead: watch::Receiver<bool>) {
        let mut noticed = dead.clone();
        // A client finds out that a server is dead when nothing has come for a while; here it is told, to save the time.
        tokio::select! {
            () = self.sell_until_the_end(server, known) => {}
            _ = noticed.wait_for(|dead| *dead) => {}
        }
    }

    async fn sell_until_the_end(&mut self, server: SocketAddr, known: Ledger) {
        let Ok((client, welcome)) = Client::connect(server, &self.bundle).await else { return };
        let mut unanswered: Vec<(RequestKey, Command)> = {
            let known = known.lock().unwrap();
            let mine = known.iter().filter(|(key, (_, answer))| key.caller == welcome.caller && answer.is_none());
            mine.map(|(key, (command, _))| (*key, *command)).collect()
        };
        unanswered.sort_by_key(|(key, _)| *key);
        loop {
            let mut flying = Vec::new();
            for _ in 0..8 {
                let (key, command) = unanswered.pop().unwrap_or_else(|| {
                    let sequence = Sequence(self.next);
                    self.next += 1;
                    let key = RequestKey { caller: welcome.caller, sequence };
                    let command = (self.asks)(self.next);
                    known.lock().unwrap().insert(key, (command, None));
                    (key, command)
                });
                let request = Request::Command { sequence: key.sequence, asked: command.into() };
                let Ok(answer) = client.send(&request) else { return };
                flying.push((key, answer));
            }
            for (key, answer) in flying {
                match answer.await {
                    Ok(Response::Outcome(outcome @ (Outcome::Approved(_) | Outcome::Rejected(_)))) => {
                        let mut known = known.lock().unwrap();
                        let slot = &mut known.get_mut(&key).unwrap().1;
                        assert!(slot.is_none_or(|before| before == outcome), "{key}: {slot:?}, and now {outcome:?}");
                        *slot = Some(outcome);
                    }
                    // Not let in, or let in and given back undecided: asked again one day.
                    Ok(Response::Outcome(Outcome::Busy | Outcome::OutOfSpace | Outcome::Unavailable)) => {}
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => return,
                }
            }
        }
    }
}

/// Every answer that was given is in the journal, once, as it was given; and what was not answered is there whole or not at all.
pub fn hold_against_journal(data: &Path, known: &Ledger) -> usize {
    let (first, head, reader) = journal_of(data);
    // What the journal has let go of is in the statements.
    let old = (first > Lsn(1)).then(|| {
        let statements = LoggedStatements::open(&data.join("statements"), first, head, |_| Ok(())).unwrap();
        statements.records_from(Lsn(1)).take_while(|r| r.as_ref().unwrap().lsn < first).collect::<Vec<_>>()
    });
    let mut records: HashMap<RequestKey, Vec<(Lsn, Entry)>> = HashMap::new();
    for record in old.into_iter().flatten().chain(reader.read_from(first)) {
        let record = record.unwrap();
        records.entry(record.key).or_default().push((record.lsn, record.entry));
    }
    let known = known.lock().unwrap();
    let mut answered = 0;
    for (key, (command, answer)) in known.iter() {
        let found = records.get(key).map(Vec::as_slice).unwrap_or_default();
        match (answer, found) {
            (None | Some(Outcome::Rejected(_)), [(_, Entry::Refused { rejection })]) => {
                assert!(
                    answer.is_none_or(|answer| answer == Outcome::Rejected(*rejection)),
                    "{key}: {answer:?}, {found:?}"
                );
            }
            (None, []) => {}
            (None | Some(Outcome::Approved(_)), [(first, _), ..]) => {
                let whole: Vec<_> = (first.0..).map(Lsn).zip(entries(*command)).collect();
                assert_eq!(found, whole, "{key} was answered with {answer:?}");
                if let Some(Outcome::Approved(receipt)) = answer {
                    assert_eq!(receipt.lsn, *first, "{key}");
                }
            }
            _ => panic!("{key} was answered with {answer:?}, and the journal has {found:?}"),
        }
        answered += usize::from(answer.is_some());
    }
    answered
}

/// Every answer that was given is in the mirror, which answers have waited for. It is only looked at.
pub fn hold_against_mirror(data: &Path, known: &Ledger) {
    let (head, reader) = FileJournal::peek(&data.join("mirror")).unwrap();
    let keys: HashSet<RequestKey> = reader.read_from(Lsn(1)).map(|record| record.unwrap().key).collect();
    let known = known.lock().unwrap();
    let mut answered = known.iter().filter(|(_, (_, answer))| answer.is_some());
    let missing = answered.find(|(key, _)| !keys.contains(key));
    assert!(missing.is_none(), "the mirror ends with LSN {head}, and {missing:?} was answered");
}

/// The power was cut when no more than `heard` was known: whatever was answered later was answered by nobody.
pub fn forget_what_came_later(known: &Ledger, heard: &Known) {
    for (key, (_, answer)) in known.lock().unwrap().iter_mut() {
        *answer = heard.get(key).and_then(|(_, answer)| *answer);
    }
}

/// The journal of a data folder that nobody uses: its first record, its last, and how it is read.
pub fn journal_of(data: &Path) -> (Lsn, Lsn, Arc<dyn JournalReader>) {
    let files = data.join("journal.files");
    let (head, reader) = if files.exists() {
        let journal = FileJournal::open(&files).unwrap();
        (journal.head(), journal.reader())
    } else {
        let journal = SledJournal::open(&data.join("journal")).unwrap();
        (journal.head(), journal.reader())
    };
    (reader.first().unwrap(), head, reader)
}

/// A server that sells until the journal was cut behind a snapshot, and what was cut is durable; then it is stopped in order.
pub async fn sell_until_cut(home: &Installation, tills: Vec<Till>, known: &Ledger) -> Vec<Till> {
    let snapshots = FileSnapshots::open(&home.data().join("snapshots")).unwrap();
    let server = home.serve();
    // Statements are made durable, behind which alone the journal is cut, when nothing has come for a second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let rush = Rush::begin(tills, server.tills, known);
    let mut made = 0;
    let mut last = snapshots.list().unwrap().first().copied();
    // The journal is cut behind the older of two snapshots, after the newer is made and before the next begins.
    for attempt in 0.. {
        assert!(attempt < 3_000, "only {made} snapshots in thirty seconds: {}", server.log.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
        let newest = snapshots.list().unwrap().first().copied();
        made += u32::from(newest != last);
        last = newest;
        if made == 4 {
            break;
        }
    }
    assert_eq!(server.stop(), 0);
    rush.end().await
}

/// Tills at work.
pub struct Rush {
    selling: Vec<JoinHandle<Till>>,
    over: watch::Sender<bool>,
}

impl Rush {
    /// Every till sells to `server` from now on.
    pub fn begin(tills: Vec<Till>, server: SocketAddr, known: &Ledger) -> Rush {
        let (over, dead) = watch::channel(false);
        let selling = tills.into_iter().map(|mut till| {
            let (known, dead) = (Arc::clone(known), dead.clone());
            tokio::spawn(async move {
                till.sell(server, known, dead).await;
                till
            })
        });
        Rush { selling: selling.collect(), over }
    }

    /// The tills, each as far as it has come; whoever still waits for an answer waits no longer.
    pub async fn end(self) -> Vec<Till> {
        self.over.send_replace(true);
        let mut tills = Vec::new();
        for till in self.selling {
            tills.push(till.await.unwrap());
        }
        tills
    }
}

/// How many sales were asked for and not answered, and how many were answered.
pub fn count(known: &Ledger) -> (usize, usize) {
    let known = known.lock().unwrap();
    let open = known.values().filter(|(_, answer)| answer.is_none()).count();
    (open, known.len() - open)
}
