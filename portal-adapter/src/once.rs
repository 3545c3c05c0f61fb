//! A form counts once, however often it is sent: by a double click, a reload, the back button or a second tab. What its key made
//! first is found again, and a command goes to the engine under a number that is kept with the key.

use frokost_engine::{Asked, Outcome, Sequence};
use frokost_persistence::keys;

use crate::Portal;
use crate::error::PortalError;
use crate::session::{Parent, blocking, digest};

/// The key of a form, bound to whoever sent it: nobody finds another's by guessing.
pub(crate) fn key(parent: &Parent, form: &str) -> String {
    digest(&format!("{}/{form}", parent.login.mail.to_lowercase()))
}

/// Has the engine carry out what a form asks for, once.
pub(crate) async fn command(
    portal: &Portal,
    parent: &Parent,
    form: &str,
    asked: impl Into<Asked>,
) -> Result<Outcome, PortalError> {
    let fresh = portal.engine.next_number().await?;
    let (records, key) = (portal.setup.records.clone(), keys::form(&format!("command/{}", key(parent, form))));
    let number = blocking(move || {
        records.change(|change| {
            if let Some(known) = change.get::<u64>(&key)? {
                return Ok(known);
            }
            change.put(&key, &fresh.0)?;
            Ok(fresh.0)
        })
    })
    .await?;
    Ok(portal.engine.command_as(Sequence(number), asked).await?)
}
