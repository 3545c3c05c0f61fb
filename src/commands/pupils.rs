//! Taking pupils in: a record with a name and a sealed CPR number, an account in the engine, a card, an opening balance. Every
//! step can be done again without doing anything twice, so that an import that broke off is simply run once more.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use frokost_engine::command::Source;
use frokost_engine::{AccountId, Amount, CardNumber, Command, OrderNumber, Outcome, Query, Rejection, SchoolId};
use frokost_persistence::records::{Pupil, RecordsError};
use frokost_persistence::{Records, SealingKey};
use frokost_portal::identifier::Identifier;
use tokio::sync::Semaphore;

use crate::cli::Lang;
use crate::operator::Operator;
use crate::outcome_text::explain;

/// Opening balances have order numbers of their own, far above those of payments.
const OPENING_ORDERS: u64 = 1 << 62;
/// How many pupils are taken in at the same time.
const AT_ONCE: usize = 64;

/// A pupil as a list names one.
#[derive(Debug, Clone)]
pub(crate) struct NewPupil {
    pub(crate) name: String,
    pub(crate) identifier: Identifier,
    pub(crate) card: CardNumber,
    pub(crate) balance: Amount,
}

/// What became of one pupil.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Taken in with this account.
    New(AccountId),
    /// Was there before, and nothing was missing.
    Unchanged,
    /// Was there before, and what was missing has been done.
    Completed,
    /// Cannot be taken in, and why.
    Refused(String),
}

/// Takes pupils in and says what became of each, in order. `done` is told after each.
pub(crate) async fn take_in(
    records: &Records,
    key: &SealingKey,
    operator: Arc<Operator>,
    school: SchoolId,
    pupils: &[NewPupil],
    done: impl Fn() + Send + Sync + 'static,
) -> anyhow::Result<Vec<Taken>> {
    let mut taken: HashMap<usize, Taken> = HashMap::new();
    let mut accounts: Vec<(usize, AccountId, bool)> = Vec::new();
    let mut fresh: Vec<(usize, Pupil)> = Vec::new();
    let mut otherwise = None;
    for (index, pupil) in pupils.iter().enumerate() {
        let lookup = pupil.identifier.lookup(key, school.0, &pupil.name);
        let found = match records.account_of_cpr(&lookup)? {
            Some(account) => Some(account),
            None => {
                if otherwise.is_none() {
                    otherwise = Some(KeptOtherwise::read(records, key, school, &pupil.identifier)?);
                }
                match otherwise.as_ref().map_or(&[][..], |otherwise| otherwise.find(key, school, pupil)) {
                    [] => None,
                    [account] => {
                        identify(records, key, *account, &lookup, pupil)?;
                        Some(*account)
                    }
                    [..] => {
                        let why = "several pupils with this name and birth date are kept; give them different names";
                        taken.insert(index, Taken::Refused(why.to_owned()));
                        continue;
                    }
                }
            }
        };
        match found {
            Some(account) => {
                let known = records.pupil(account)?.context("an identifier leads to no pupil")?;
                let called = [known.list_name(), &known.name].map(str::to_lowercase);
                if !called.contains(&pupil.name.to_lowercase()) {
                    let why = "this CPR number is known with another name; if the name has changed, write the new one among the pupil's \
                               details on the portal first";
                    taken.insert(index, Taken::Refused(why.to_owned()));
                } else if known.school != school.0 {
                    let why = format!("this pupil is at school {}", known.school);
                    taken.insert(index, Taken::Refused(why));
                } else {
                    accounts.push((index, account, false));
                }
            }
            None => fresh.push((
                index,
                Pupil {
                    account: 0,
                    school: school.0,
                    name: pupil.name.clone(),
                    listed_as: String::new(),
                    cpr_sealed: String::new(),
                    cpr_lookup: lookup,
                    address: String::new(),
                    postcode: String::new(),
                    city: String::new(),
                    phone: String::new(),
                },
            )),
        }
    }
    // Records first: a pupil without an account is completed by the next import, an account without a pupil would be lost.
    let (indexes, mut new): (Vec<usize>, Vec<Pupil>) = fresh.into_iter().unzip();
    let digits: HashMap<&str, &str> = new
        .iter()
        .zip(&indexes)
        .filter_map(|(record, index)| Some((record.cpr_lookup.as_str(), pupils.get(*index)?.identifier.plain())))
        .collect();
    let digits: HashMap<String, String> = digits.into_iter().map(|(l, d)| (l.to_owned(), d.to_owned())).collect();
    if !new.is_empty() {
        records.add_pupils(&mut new, |pupil| {
            let plain = digits.get(&pupil.cpr_lookup).map(String::as_str).unwrap_or_default();
            pupil.cpr_sealed =
                key.seal(&place_of(pupil.account), plain).map_err(|error| RecordsError::Storage(error.to_string()))?;
            Ok(())
        })?;
    }
    accounts.extend(indexes.iter().zip(&new).map(|(index, record)| (*index, AccountId(record.account), true)));

    let places = Arc::new(Semaphore::new(AT_ONCE));
    let done = Arc::new(done);
    let mut working = tokio::task::JoinSet::new();
    for (index, account, is_new) in accounts {
        let Some(pupil) = pupils.get(index).cloned() else { continue };
        let place = Arc::clone(&places).acquire_owned().await?;
        let (operator, done) = (Arc::clone(&operator), Arc::clone(&done));
        working.spawn(async move {
            let result = open(&operator, account, school, &pupil).await;
            drop(place);
            done();
            (index, account, is_new, result)
        });
    }
    while let Some(finished) = working.join_next().await {
        let (index, account, is_new, result) = finished?;
        let outcome = match result? {
            Err(why) => Taken::Refused(why),
            Ok(_) if is_new => Taken::New(account),
            Ok(true) => Taken::Completed,
            Ok(false) => Taken::Unchanged,
        };
        taken.insert(index, outcome);
    }
    Ok((0..pupils.len()).filter_map(|index| taken.remove(&index)).collect())
}

/// Pupils of a school that were taken in when the installation identified pupils in the other way, by school, name and birth date.
struct KeptOtherwise(HashMap<String, Vec<AccountId>>);

impl KeptOtherwise {
    /// Those that `now` is not the kind of.
    fn read(records: &Records, key: &SealingKey, school: SchoolId, now: &Identifier) -> anyhow::Result<KeptOtherwise> {
        let mut kept: HashMap<String, Vec<AccountId>> = HashMap::new();
        for pupil in records.pupils()?.into_iter().filter(|pupil| pupil.school == school.0) {
            let plain = key.open(&place_of(pupil.account), &pupil.cpr_sealed)?;
            let other = Identifier::from_plain(&plain)
                .filter(|kept| std::mem::discriminant(kept) != std::mem::discriminant(now));
            if let Some(other) = other {
                let day = Identifier::BirthDate(other.birth_date());
                kept.entry(day.lookup(key, school.0, pupil.list_name())).or_default().push(AccountId(pupil.account));
            }
        }
        Ok(KeptOtherwise(kept))
    }

    fn find(&self, key: &SealingKey, school: SchoolId, pupil: &NewPupil) -> &[AccountId] {
        let day = Identifier::BirthDate(pupil.identifier.birth_date());
        self.0.get(&day.lookup(key, school.0, &pupil.name)).map_or(&[], Vec::as_slice)
    }
}

/// From now on the list's identifier leads to a pupil. A CPR number is kept in place of a birth date; a birth date takes nothing away, the CPR
/// number says it, too.
fn identify(
    records: &Records,
    key: &SealingKey,
    account: AccountId,
    lookup: &str,
    pupil: &NewPupil,
) -> anyhow::Result<()> {
    let sealed = match &pupil.identifier {
        Identifier::Cpr(cpr) => Some(key.seal(&place_of(account.0), cpr.digits())?),
        Identifier::BirthDate(_) => None,
    };
    Ok(records.identify_pupil(account, lookup, sealed)?)
}

/// Where an identifier is sealed for.
pub(crate) fn place_of(account: u64) -> String {
    format!("pupil/{account}/cpr")
}

/// Opens an account as far as it is not. Says whether anything was missing, or what the engine refused.
async fn open(
    operator: &Operator,
    account: AccountId,
    school: SchoolId,
    pupil: &NewPupil,
) -> anyhow::Result<Result<bool, String>> {
    let mut changed = false;
    let has_card = match operator.query(Query::AccountBalance { account }).await? {
        Outcome::View(view) => view.card.is_some(),
        Outcome::Approved(_) | Outcome::Rejected(_) | Outcome::Busy | Outcome::OutOfSpace | Outcome::Unavailable => {
            operator.must(Command::Open { account, school }).await?;
            changed = true;
            false
        }
    };
    // A card that was replaced since the list was made is not brought back.
    if !has_card {
        let bound = operator.command(Command::BindCard { account, card: pupil.card }).await?;
        if !matches!(bound, Outcome::Approved(_)) {
            return Ok(Err(explain(&bound, Lang::En)));
        }
        changed = true;
    }
    if pupil.balance.is_positive() {
        let order = OrderNumber(OPENING_ORDERS + account.0);
        let opening = Command::TopUp { account, order, amount: pupil.balance, source: Source::Opening };
        match operator.command(opening).await? {
            Outcome::Approved(_) => changed = true,
            Outcome::Rejected(Rejection::OrderCredited) => {}
            other @ (Outcome::Rejected(_)
            | Outcome::View(_)
            | Outcome::Busy
            | Outcome::OutOfSpace
            | Outcome::Unavailable) => {
                return Ok(Err(explain(&other, Lang::En)));
            }
        }
    }
    Ok(Ok(changed))
}
