//! A lunch rush that remembers: tills that sell as fast as they are answered until the server dies, know what they were told, and ask
//! again for what had no answer; and the journal held against what they know.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use frokost_engine::journal::{Journal, JournalReader};
use frokost_engine::statement::Statements;
use frokost_engine::{Amount, Command, Entry, Lsn, Outcome, RequestKey, Sequence};
use frokost_net::wire::{Request, Response};
use frokost_net::{Bundle, Client};
use frokost_persistence::{FileJournal, LoggedStatements, SledJournal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::installation::*;

pub const TILLS: u64 = 4;
pub const PUPILS: u64 = 20;

/// What tills know for certain: sales by number, with their command and, once answered, the answer.
pub type Ledger = Arc<Mutex<HashMap<RequestKey, (Command, Option<Outcome>)>>>;

pub struct Till {
    pub bundle: Bundle,
    next: u64,
}

pub fn tills(home: &Installation) -> Vec<Till> {
    (1..=TILLS).map(|n| Till { bundle: Bundle::read(&home.enrol(&format!("till-{n}"))).unwrap(), next: 1 }).collect()
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
                    let card = card(self.next * 7 % PUPILS + 1).parse().unwrap();
                    let key = RequestKey { caller: welcome.caller, sequence };
                    let command = Command::Purchase { card, amount: Amount::from_ore((self.next % 50 + 1) as i64) };
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

/// Every answer that was given is in the journal, once, as it was given.
pub fn hold_against_journal(data: &Path, known: &Ledger) -> usize {
    let (first, head, reader) = journal_of(data);
    // What the journal has let go of is in the statements.
    let old = (first > Lsn(1)).then(|| {
        let statements = LoggedStatements::open(&data.join("statements"), first, head).unwrap();
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
        assert!(found.len() <= 1, "{key} is there {} times", found.len());
        let Command::Purchase { amount, .. } = *command else { unreachable!() };
        match answer {
            Some(Outcome::Approved(receipt)) => {
                assert_eq!(found, [(receipt.lsn, Entry::Purchased { amount })], "{key} was acknowledged");
                answered += 1;
            }
            Some(Outcome::Rejected(rejection)) => {
                assert!(
                    matches!(found, [(_, Entry::Refused { rejection: why })] if why == rejection),
                    "{key}: {found:?}"
                );
                answered += 1;
            }
            _ => {}
        }
    }
    answered
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
