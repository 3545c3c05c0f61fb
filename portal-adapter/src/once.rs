//! A form counts once, however often it is sent: by a double click, a reload, the back button or a second tab. What its key made
//! first is found again, and a command goes to the engine under a number that is kept with the key.

use frokost_engine::{Asked, Command, Details, Outcome, PersonId, Sequence};
use frokost_persistence::records::Login;
use frokost_persistence::{Records, keys};

use crate::Portal;
use crate::error::PortalError;
use crate::session::{Parent, blocking, digest};

/// The key of a form, bound to whoever sent it: nobody finds another's by guessing.
pub(crate) fn key(parent: &Parent, form: &str) -> String {
    digest(&format!("{}/{form}", parent.login.mail.to_lowercase()))
}

/// A command that a login asks for; the journal keeps who it was.
pub(crate) fn by(login: &Login, command: Command) -> Asked {
    Asked { command, details: Details { by: PersonId(login.number), ..Details::default() } }
}

/// The same of a login that is known by its mail address; nobody in particular if it is gone.
pub(crate) async fn by_mail(portal: &Portal, mail: &str, command: Command) -> Result<Asked, PortalError> {
    let (records, mail) = (portal.setup.records.clone(), mail.to_owned());
    let login = blocking(move || records.login(&mail)).await?;
    Ok(login.map_or(Asked::from(command), |login| by(&login, command)))
}

/// The number under which a form was sent to the engine, if it was.
pub(crate) async fn number_of(portal: &Portal, parent: &Parent, form: &str) -> Result<Option<Sequence>, PortalError> {
    let (records, key) = (portal.setup.records.clone(), command_key(parent, form));
    Ok(blocking(move || records.get::<u64>(&key)).await?.map(Sequence))
}

fn command_key(parent: &Parent, form: &str) -> String {
    keys::form(&format!("command/{}", key(parent, form)))
}

/// Has the engine carry out what a form asks for, once.
pub(crate) async fn command(
    portal: &Portal,
    parent: &Parent,
    form: &str,
    command: Command,
) -> Result<Outcome, PortalError> {
    let (records, key) = (portal.setup.records.clone(), command_key(parent, form));
    let number = |fresh, instead_of| numbered(records.clone(), key.clone(), fresh, instead_of);
    portal.engine.command_numbered(by(&parent.login, command), number).await
}

/// The number of the form with that key: the one it has, unless that is `instead_of`, or `fresh`, which it has from now on.
async fn numbered(
    records: Records,
    key: String,
    fresh: Sequence,
    instead_of: Option<Sequence>,
) -> Result<Sequence, PortalError> {
    let number = blocking(move || {
        records.change(|change| {
            if let Some(known) = change.get::<u64>(&key)?.filter(|known| Some(Sequence(*known)) != instead_of) {
                return Ok(known);
            }
            change.put(&key, &fresh.0)?;
            Ok(fresh.0)
        })
    });
    Ok(Sequence(number.await?))
}
