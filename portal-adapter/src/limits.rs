//! How often something may be tried: by address, and by address and what is tried together. Never by what is tried alone, so that
//! nobody can lock somebody else out.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::Portal;
use crate::connections::Peer;
use crate::error::PortalError;
use crate::identifier::Identifier;
use crate::session::digest;

/// Every limit there is.
pub(crate) struct Limits {
    /// Log in, from one address.
    log_in: Limit,
    /// Log in with one mail address from one address.
    log_in_as: Limit,
    /// Sign-up, relations, new cards: whatever guesses card and CPR numbers, from one address.
    proof: Limit,
    /// Proof about one card from one address.
    proof_of: Limit,
    /// Proof about one card from anywhere.
    proof_anywhere: Limit,
    /// Proof with one CPR number from anywhere.
    proof_by_cpr: Limit,
    /// Proof with one birth date, which many pupils share, from anywhere.
    proof_by_birth_date: Limit,
    /// Forms that one login sends.
    forms: Limit,
    /// Calls in the provider's name that are not the provider's, from one address; only the log is spared by it.
    forged: Limit,
    /// What sends a mail, from one address.
    mail: Limit,
    /// What sends a mail to one address, from one address.
    mail_to: Limit,
}

type Limit = DefaultKeyedRateLimiter<String>;

/// `burst` at once, then one every `seconds`.
fn limit(burst: u32, seconds: u64) -> Limit {
    let burst = NonZeroU32::new(burst).expect("a limit lets at least one through");
    let quota = Quota::with_period(Duration::from_secs(seconds)).expect("a limit has a period");
    RateLimiter::keyed(quota.allow_burst(burst))
}

impl Limits {
    pub(crate) fn new() -> Limits {
        Limits {
            log_in: limit(60, 2),
            log_in_as: limit(8, 30),
            proof: limit(20, 60),
            proof_of: limit(5, 300),
            proof_anywhere: limit(20, 4_320),
            proof_by_cpr: limit(20, 4_320),
            proof_by_birth_date: limit(100, 864),
            forms: limit(60, 1),
            forged: limit(10, 60),
            mail: limit(20, 60),
            mail_to: limit(4, 600),
        }
    }

    pub(crate) fn log_in(&self, visitor: Visitor, mail: &str) -> Result<(), TooMany> {
        pass(&self.log_in, &self.log_in_as, visitor, mail)
    }

    /// Proof about a card is bounded from everywhere, too: whoever has found one tries from many addresses, and a parent who is slowed by that
    /// still logs in.
    pub(crate) fn proof(&self, visitor: Visitor, card: &str) -> Result<(), TooMany> {
        pass(&self.proof, &self.proof_of, visitor, card)?;
        self.proof_anywhere.check_key(&digest(card)).map_err(|_| too_many())
    }

    /// The same of both halves of a proof: a school's cards may be numbered one after the other, and who knows a CPR number tries them all.
    pub(crate) fn proof_with(&self, visitor: Visitor, card: &str, identifier: &Identifier) -> Result<(), TooMany> {
        self.proof(visitor, card)?;
        let by = match identifier {
            Identifier::Cpr(_) => &self.proof_by_cpr,
            Identifier::BirthDate(_) => &self.proof_by_birth_date,
        };
        by.check_key(&digest(identifier.plain())).map_err(|_| too_many())
    }

    /// A parent who is logged in may do much, and yet not fill the journal.
    pub(crate) fn form(&self, login: &str) -> Result<(), TooMany> {
        // It is counted when it is answered.
        self.forms.check_key(&login.to_lowercase()).map_err(|_| TooMany)
    }

    /// Is a forged call worth a line in the log?
    pub(crate) fn forged(&self, visitor: Visitor) -> bool {
        self.forged.check_key(&visitor.0.to_string()).is_ok()
    }

    pub(crate) fn mail(&self, visitor: Visitor, to: &str) -> Result<(), TooMany> {
        pass(&self.mail, &self.mail_to, visitor, to)
    }

    /// Forgets who has not come for a while.
    pub(crate) fn sweep(&self) {
        let all = [
            &self.log_in,
            &self.log_in_as,
            &self.proof,
            &self.proof_of,
            &self.proof_anywhere,
            &self.proof_by_cpr,
            &self.proof_by_birth_date,
            &self.forms,
            &self.forged,
            &self.mail,
            &self.mail_to,
        ];
        for limit in all {
            limit.retain_recent();
        }
    }
}

/// Who is over the first limit is not remembered in the second: what is kept in memory grows with addresses, not with what they send.
fn pass(by_address: &Limit, by_both: &Limit, visitor: Visitor, what: &str) -> Result<(), TooMany> {
    let both = || digest(&format!("{} {}", visitor.0, what.trim().to_lowercase()));
    if by_address.check_key(&visitor.0.to_string()).is_ok() && by_both.check_key(&both()).is_ok() {
        return Ok(());
    }
    Err(too_many())
}

fn too_many() -> TooMany {
    metrics::counter!("frokost_portal_too_many_total").increment(1);
    TooMany
}

/// That was tried too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

/// Where a request comes from. An IPv6 address stands for its /64, which is what one household has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Visitor(IpAddr);

impl fmt::Display for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<IpAddr> for Visitor {
    fn from(address: IpAddr) -> Visitor {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                Visitor(IpAddr::V6(network.into()))
            }
            v4 @ IpAddr::V4(_) => Visitor(v4),
        }
    }
}

impl FromRequestParts<Portal> for Visitor {
    type Rejection = PortalError;

    async fn from_request_parts(parts: &mut Parts, portal: &Portal) -> Result<Visitor, PortalError> {
        // What stands in a header is believed only where a proxy of ours writes it; the last one is the proxy's own.
        let forwarded = portal.setup.behind_proxy.then(|| {
            let header = parts.headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
            address_in(header.rsplit(',').next()?)
        });
        if let Some(Some(address)) = forwarded {
            return Ok(address.into());
        }
        if portal.setup.behind_proxy && !UNREADABLE_SAID.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the proxy names no address in x-forwarded-for, or one that cannot be read: all visitors behind it are one"
            );
        }
        match parts.extensions.get::<ConnectInfo<Peer>>() {
            Some(ConnectInfo(Peer(address))) => Ok(address.ip().into()),
            None => Err(PortalError::Internal("a request comes from nowhere".to_owned())),
        }
    }
}

static UNREADABLE_SAID: AtomicBool = AtomicBool::new(false);

/// An address as proxies write it: alone, or with the port it came from.
fn address_in(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// Open pages that are looked after at once, of everybody and of one login. Each holds a connection: of all those there may be there have to be
/// some left for pages and the payment provider, and of the six a browser has one for the page that is asked for next.
const MOST_WATCHED: usize = 200;
const MOST_WATCHED_BY_ONE: usize = 4;

/// Who has pages open that are looked after, and how many.
#[derive(Clone, Default)]
pub(crate) struct Watching(Arc<Mutex<HashMap<String, usize>>>);

/// A place, for as long as it is held.
pub(crate) struct Watched {
    all: Watching,
    login: String,
}

impl Watching {
    /// A place for a login, if there is one left.
    pub(crate) fn place(&self, login: &str) -> Option<Watched> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.values().sum::<usize>() >= MOST_WATCHED {
            return None;
        }
        let count = open.entry(login.to_owned()).or_default();
        if *count >= MOST_WATCHED_BY_ONE {
            return None;
        }
        *count += 1;
        Some(Watched { all: self.clone(), login: login.to_owned() })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut open = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.login) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.login);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Visitor {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn a_stranger_cannot_lock_somebody_else_out() {
        let limits = Limits::new();
        let tried = (0..100).filter(|_| limits.log_in(from("192.0.2.1"), "mor@example.dk").is_ok()).count();
        assert!((5..20).contains(&tried), "{tried} guesses were let through");
        assert_eq!(limits.log_in(from("192.0.2.1"), "MOR@example.dk"), Err(TooMany), "whatever the case");
        assert_eq!(limits.log_in(from("192.0.2.2"), "mor@example.dk"), Ok(()), "the parent's own address");
        let found = (0..100).filter(|n| limits.proof(from(&format!("192.0.2.{n}")), "12345678901234").is_ok()).count();
        assert!(found <= 25, "a found card was tried {found} times from many addresses");
        let cpr = crate::identifier::IdentifyBy::Cpr.read("010112-5001").unwrap();
        let guess = |n: u32| limits.proof_with(from(&format!("198.51.{n}.1")), &format!("{n:014}"), &cpr).is_ok();
        let guessed = (0..100).filter(|n| guess(*n)).count();
        assert!((10..=25).contains(&guessed), "{guessed} cards were tried with one CPR number");
        let forms = (0..1000).filter(|_| limits.form("mor@example.dk").is_ok()).count();
        assert!((60..70).contains(&forms), "one login sent {forms} forms at once");
        let others = (0..1000).filter(|n| limits.log_in(from("192.0.2.3"), &format!("{n}@x.dk")).is_ok()).count();
        assert!(others < 100, "one address tried {others} mail addresses");
    }

    #[test]
    fn what_a_proxy_writes_is_read_with_and_without_a_port() {
        let is = |text: &str| address_in(text).map(|address| address.to_string());
        for text in ["192.0.2.7", " 192.0.2.7 ", "192.0.2.7:51234"] {
            assert_eq!(is(text).as_deref(), Some("192.0.2.7"), "{text}");
        }
        for text in ["2001:db8::7", "[2001:db8::7]", "[2001:db8::7]:51234"] {
            assert_eq!(is(text).as_deref(), Some("2001:db8::7"), "{text}");
        }
        assert_eq!(is("unknown"), None);
    }

    #[test]
    fn a_household_is_one_address() {
        assert_eq!(from("2001:db8:1:2::1"), from("2001:db8:1:2:ffff::9"));
        assert_ne!(from("2001:db8:1:2::1"), from("2001:db8:1:3::1"));
        assert_eq!(from("::ffff:192.0.2.1"), from("192.0.2.1"));
    }

    #[test]
    fn one_login_cannot_take_every_place() {
        let watching = Watching::default();
        let held: Vec<Watched> = (0..100).map_while(|_| watching.place("mor@example.dk")).collect();
        assert_eq!(held.len(), MOST_WATCHED_BY_ONE);
        assert!(watching.place("far@example.dk").is_some());
        drop(held);
        assert!(watching.place("mor@example.dk").is_some());
        assert!(watching.0.lock().unwrap().is_empty(), "who is gone is remembered");
        let many: Vec<Watched> = (0..3_000).map_while(|n| watching.place(&n.to_string())).collect();
        assert_eq!(many.len(), MOST_WATCHED);
    }
}
