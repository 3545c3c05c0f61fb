//! Tickets: the secrets in links that are mailed. Only their hash is kept, each is good once and for a while. Looking at one does not use
//! it up, since mail programs open links, too.

use frokost_persistence::records::{Ticket, TicketFor};

use crate::Portal;
use crate::error::PortalError;
use crate::session::{blocking, digest, secret};

pub(crate) const HOUR_MS: u64 = 3_600_000;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;

/// A new ticket; returns its secret.
pub(crate) async fn issue(portal: &Portal, good_for: TicketFor, for_ms: u64) -> Result<String, PortalError> {
    let secret = secret()?;
    let (records, hash) = (portal.setup.records.clone(), digest(&secret));
    let until_ms = portal.setup.clock.now().0 + for_ms;
    blocking(move || records.put_ticket(&hash, &Ticket { good_for, until_ms })).await?;
    Ok(secret)
}

/// What a ticket is good for, if it is still good.
pub(crate) async fn look(portal: &Portal, secret: &str) -> Result<Option<TicketFor>, PortalError> {
    let (records, hash, now) = (portal.setup.records.clone(), digest(secret), portal.setup.clock.now().0);
    blocking(move || records.ticket(&hash, now)).await
}

/// The same, and uses it up: of two who come with it at once, one gets it.
pub(crate) async fn take(portal: &Portal, secret: &str) -> Result<Option<TicketFor>, PortalError> {
    let (records, hash, now) = (portal.setup.records.clone(), digest(secret), portal.setup.clock.now().0);
    blocking(move || records.take_ticket(&hash, now)).await
}
