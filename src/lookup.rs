//! Who is meant: the pupils that a secretary looks for by name, birth date, the mail address of a login, or account (quick guide, item 34).

use std::sync::Arc;

use frokost_engine::{AccountId, SchoolId};
use frokost_net::server::PupilDesk;
use frokost_net::wire::response::{FOUND_LIMIT, Found, FoundPupil};
use frokost_persistence::records::{Pupil, RecordsError};
use frokost_persistence::{Records, SealingKey};
use frokost_portal::identifier::{BirthDate, Identifier};

use crate::commands::pupils::place_of;
use crate::data_folder::{DataFolder, sealing_key};
use crate::settings::Settings;

/// Looks in the records of a running server.
pub(crate) fn desk(records: Records, key: SealingKey) -> PupilDesk {
    Arc::new(move |school, account, text| match find(&records, &key, school, account, text) {
        Ok(found) => Some(found),
        Err(error) => {
            tracing::error!(%error, "the records cannot be searched");
            None
        }
    })
}

/// Opens the records for each question: for an engine that runs as long as one subcommand.
pub(crate) fn desk_in(folder: &DataFolder, settings: &Settings) -> PupilDesk {
    let (folder, settings) = (folder.clone(), settings.clone());
    Arc::new(move |school, account, text| {
        let records = folder.records().and_then(|records| Ok((sealing_key(&settings, &records)?, records)));
        match records {
            Ok((key, records)) => desk(records, key)(school, account, text),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "the records cannot be opened");
                None
            }
        }
    })
}

fn find(
    records: &Records,
    key: &SealingKey,
    school: SchoolId,
    account: AccountId,
    text: &str,
) -> Result<Found, RecordsError> {
    let text = text.trim();
    let wanted = text.to_lowercase();
    // One record that cannot be read hides nobody else.
    let each = || {
        records.each_pupil().filter_map(|pupil| {
            pupil.inspect_err(|error| tracing::error!(%error, "a pupil's record cannot be read")).ok()
        })
    };
    let here = |pupil: &Pupil| school == SchoolId(0) || pupil.school == school.0;
    let waiting = records.sign_ups()?;
    let of_accounts = |accounts: &[u64]| -> Result<Vec<Pupil>, RecordsError> {
        let pupils = accounts.iter().map(|account| records.pupil(AccountId(*account)));
        pupils.filter_map(Result::transpose).collect()
    };
    let mut pupils: Vec<Pupil> = if account != AccountId(0) {
        of_accounts(&[account.0])?.into_iter().filter(here).collect()
    } else if text.contains('@') {
        let mut accounts = records.login(text)?.map_or(Vec::new(), |login| login.accounts);
        let signing_up = waiting.iter().filter(|sign_up| sign_up.mail.to_lowercase() == wanted);
        accounts.extend(signing_up.map(|sign_up| sign_up.account));
        of_accounts(&accounts)?.into_iter().filter(here).collect()
    } else if let Some(born) = Born::read(text) {
        let is_born = |pupil: &Pupil| {
            let plain = key.open(&place_of(pupil.account), &pupil.cpr_sealed).ok();
            plain.and_then(|plain| Identifier::from_plain(&plain)).is_some_and(|known| born.is(&known))
        };
        each().filter(here).filter(is_born).take(FOUND_LIMIT + 1).collect()
    } else {
        let is_called = |pupil: &Pupil| pupil.name.to_lowercase().contains(&wanted);
        each().filter(here).filter(is_called).take(FOUND_LIMIT + 1).collect()
    };
    pupils.sort_unstable_by_key(|pupil| pupil.account);
    pupils.dedup_by_key(|pupil| pupil.account);
    let more = pupils.len() > FOUND_LIMIT;
    pupils.truncate(FOUND_LIMIT);
    let shown = |pupil: Pupil| {
        let account = AccountId(pupil.account);
        let mut logins = records.logins_on(account)?;
        let signing_up = waiting.iter().filter(|sign_up| sign_up.account == account.0);
        logins.extend(signing_up.map(|sign_up| format!("{} (not activated)", sign_up.mail)));
        Ok(FoundPupil { account, school: SchoolId(pupil.school), name: pupil.name, logins: logins.join(" ") })
    };
    Ok(Found { more, pupils: pupils.into_iter().map(shown).collect::<Result<_, RecordsError>>()? })
}

/// A birth date as it was typed: of one without its century the century is not asked for.
enum Born {
    On(BirthDate),
    Short(String),
}

impl Born {
    fn read(text: &str) -> Option<Born> {
        if let Ok(date) = text.parse() {
            return Some(Born::On(date));
        }
        let short: String = text.split(['-', '.', '/', ' ']).map(|part| format!("{part:0>2}")).collect();
        (short.len() == 6 && short.bytes().all(|b| b.is_ascii_digit())).then_some(Born::Short(short))
    }

    fn is(&self, known: &Identifier) -> bool {
        let known = known.birth_date();
        match self {
            Born::On(date) => *date == known,
            Born::Short(short) => known.is_short(short),
        }
    }
}
