//! What each mail says, in both languages, as text and as HTML; and what is only found out when it is written: whether an address is known
//! here, and the codes and links that go with it. No password and no CPR number is ever in a mail.

use askama::Template;
use frokost_engine::{AccountId, Amount, OrderNumber, PayoutNumber, Timestamp};
use frokost_persistence::keys;
use frokost_persistence::records::{Letter, Matter, Purpose, SignUp, TicketFor};

use crate::Portal;
use crate::error::PortalError;
use crate::mail::transport::Text;
use crate::money;
use crate::session::{blocking, digest};
use crate::tickets::{self, DAY_MS, HOUR_MS};
use crate::words::{Language, letters};

/// A letter before it is text.
struct Draft {
    subject: String,
    paragraphs: Vec<String>,
    code: Option<String>,
    link: Option<(String, String)>,
    facts: Vec<(String, String)>,
    reply_to: Option<String>,
}

impl Draft {
    fn new(subject: &str, paragraphs: &[&str]) -> Draft {
        let paragraphs = paragraphs.iter().map(|&text| text.to_owned()).collect();
        Draft { subject: subject.to_owned(), paragraphs, code: None, link: None, facts: Vec::new(), reply_to: None }
    }

    fn link(self, label: &str, url: String) -> Draft {
        Draft { link: Some((label.to_owned(), url)), ..self }
    }

    fn fact(mut self, name: &str, value: impl Into<String>) -> Draft {
        self.facts.push((name.to_owned(), value.into()));
        self
    }
}

#[derive(Template)]
#[template(path = "letter.txt", escape = "none")]
struct Plain<'a> {
    greeting: &'a str,
    paragraphs: &'a [String],
    code: &'a Option<String>,
    link: &'a Option<(String, String)>,
    facts: &'a [(String, String)],
    farewell: &'a str,
}

#[derive(Template)]
#[template(path = "letter.html")]
struct Html<'a> {
    lang: &'a str,
    subject: &'a str,
    greeting: &'a str,
    paragraphs: &'a [String],
    code: &'a Option<String>,
    link: &'a Option<(String, String)>,
    facts: &'a [(String, String)],
    farewell: &'a str,
}

/// The text of a letter; nothing if there is nothing to say to this address.
pub(super) async fn write(portal: &Portal, letter: &Letter) -> Result<Option<Text>, PortalError> {
    let language = Language::from_code(&letter.language);
    let Some(draft) = draft(portal, letter, language).await? else { return Ok(None) };
    let l = letters(language);
    let Draft { subject, paragraphs, code, link, facts, reply_to } = draft;
    let failed = |error: askama::Error| PortalError::Internal(error.to_string());
    let (paragraphs, facts) = (&paragraphs[..], &facts[..]);
    let (greeting, farewell) = (l.greeting, l.farewell);
    let plain = Plain { greeting, paragraphs, code: &code, link: &link, facts, farewell }.render().map_err(failed)?;
    let lang = language.code();
    let html = Html { lang, subject: &subject, greeting, paragraphs, code: &code, link: &link, facts, farewell };
    let html = html.render().map_err(failed)?;
    Ok(Some(Text { subject, plain, html, reply_to }))
}

async fn draft(portal: &Portal, letter: &Letter, language: Language) -> Result<Option<Draft>, PortalError> {
    let l = letters(language);
    let w = language.words();
    let url = |path: &str| format!("{}{path}", portal.setup.public_url);
    let show = |ore: i64| money::amount(Amount::from_ore(ore), language);
    let name = |account: u64| name_of(portal, account);
    Ok(Some(match &letter.matter {
        Matter::SignUp { secret } => return sign_up(portal, letter, secret, language).await,
        Matter::Forgotten => {
            let (records, mail) = (portal.setup.records.clone(), letter.to.clone());
            let Some(login) = blocking(move || records.login(&mail)).await? else { return Ok(None) };
            let ticket = tickets::issue(portal, TicketFor::Password { login: login.mail }, HOUR_MS).await?;
            Draft::new(l.reset_subject, &[l.reset_about, l.not_you])
                .link(l.reset_link, url(&format!("/nulstil/{ticket}")))
        }
        Matter::PasswordChanged => Draft::new(l.changed_subject, &[l.changed_about]).link(w.forgotten, url("/glemt")),
        Matter::RelationAdded { account, login } => {
            let ticket =
                tickets::issue(portal, TicketFor::Revoke { login: login.clone(), account: *account }, DAY_MS).await?;
            Draft::new(l.relation_subject, &[l.relation_about])
                .fact(w.account, name(*account)?)
                .fact(w.mail, login)
                .link(l.relation_link, url(&format!("/tilbagekald/{ticket}")))
        }
        Matter::Receipt { order } => {
            let (records, number) = (portal.setup.records.clone(), OrderNumber(*order));
            let Some(order) = blocking(move || records.order(number)).await? else { return Ok(None) };
            let kind = match order.purpose {
                Purpose::PayIn => w.kind_pay_in,
                Purpose::Agreement => w.kind_agreement,
                Purpose::Automatic { .. } => w.kind_automatic,
            };
            Draft::new(l.receipt_subject, &[l.receipt_about])
                .fact(w.text, kind)
                .fact(w.account, name(order.account)?)
                .fact(w.order, order.number.to_string())
                .fact(w.date, money::moment(Timestamp(order.at_ms), language))
                .fact(w.amount, show(order.amount_ore))
                .fact(l.holder, format!("{} (CVR {})", portal.setup.holder.name, portal.setup.holder.cvr))
        }
        Matter::PaymentReturned { order } => {
            let (records, number) = (portal.setup.records.clone(), OrderNumber(*order));
            let Some(order) = blocking(move || records.order(number)).await? else { return Ok(None) };
            Draft::new(l.returned_subject, &[w.order_returned])
                .fact(w.account, name(order.account)?)
                .fact(w.order, order.number.to_string())
                .fact(w.amount, show(order.amount_ore))
                .link(w.support, url("/support"))
        }
        Matter::ChargeFailed { account, why } => Draft::new(l.charge_subject, &[w.trouble(why)])
            .fact(w.account, name(*account)?)
            .link(w.auto_top_up, url(&format!("/konto/{account}/auto-optank"))),
        Matter::PayoutAsked { payout } => {
            let Some(payout) = payout_of(portal, *payout).await? else { return Ok(None) };
            Draft::new(l.payout_subject, &[l.payout_about, l.not_you])
                .fact(w.account, name(payout.0)?)
                .fact(w.amount, show(payout.1))
                .link(w.payouts, url(&format!("/konto/{}/udbetal", payout.0)))
        }
        Matter::Transferred { from, to, amount_ore, login } => {
            Draft::new(l.transferred_subject, &[l.transferred_about])
                .fact(w.transfer_from, name(*from)?)
                .fact(w.transfer_to, name(*to)?)
                .fact(w.amount, show(*amount_ore))
                .fact(w.mail, login)
                .link(w.statement, url(&format!("/konto/{from}/kontoudtog")))
        }
        Matter::PayoutReturned { payout } => {
            let Some(payout) = payout_of(portal, *payout).await? else { return Ok(None) };
            Draft::new(l.payout_back_subject, &[l.payout_back_about])
                .fact(w.account, name(payout.0)?)
                .fact(w.amount, show(payout.1))
                .link(w.pay_out, url(&format!("/konto/{}/udbetal", payout.0)))
        }
        Matter::ConfirmMail { login } => {
            let (login, mail) = (login.clone(), letter.to.clone());
            let ticket = tickets::issue(portal, TicketFor::Mail { login, mail }, HOUR_MS).await?;
            Draft::new(l.mail_subject, &[l.mail_about]).link(l.mail_link, url(&format!("/ny-mail/{ticket}")))
        }
        Matter::MailChanging { mail } => Draft::new(l.mail_changing_subject, &[l.mail_changing_about, l.not_you])
            .fact(w.mail_new, mail)
            .link(w.support, url("/support")),
        Matter::Support { from, subject, text } => Draft {
            reply_to: Some(from.clone()),
            ..Draft::new(&format!("Support: {subject}"), &text.lines().collect::<Vec<_>>())
        },
    }))
}

/// Is the address new here? Then the code goes out; else a word to its owner, who learns that somebody tried.
async fn sign_up(
    portal: &Portal,
    letter: &Letter,
    secret: &str,
    language: Language,
) -> Result<Option<Draft>, PortalError> {
    let l = letters(language);
    let url = |path: &str| format!("{}{path}", portal.setup.public_url);
    let (records, mail, hash) = (portal.setup.records.clone(), letter.to.clone(), digest(secret));
    let code = code()?;
    let code_hash = digest(&format!("{secret}/{code}"));
    let known = blocking(move || {
        records.change(|change| {
            if records.login(&mail)?.is_some() {
                return Ok(Some(true));
            }
            let Some(sign_up) = change.get::<SignUp>(&keys::sign_up(&hash))? else { return Ok(None) };
            change.put(&keys::sign_up(&hash), &SignUp { code_hash, ..sign_up })?;
            Ok(Some(false))
        })
    })
    .await?;
    Ok(match known {
        None => None,
        Some(true) => Some(Draft::new(l.known_subject, &[l.known_about, l.not_you]).link(l.known_link, url("/glemt"))),
        Some(false) => {
            let draft = Draft::new(l.activation_subject, &[l.activation_about])
                .link(l.activation_link, url(&format!("/aktiver/{secret}")));
            Some(Draft { code: Some(code), ..draft })
        }
    })
}

/// Six digits, each as likely as any other.
fn code() -> Result<String, PortalError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| PortalError::Internal(error.to_string()))?;
    Ok(format!("{:06}", u64::from_le_bytes(bytes) % 1_000_000))
}

fn name_of(portal: &Portal, account: u64) -> Result<String, PortalError> {
    let pupil = portal.setup.records.pupil(AccountId(account));
    let pupil = pupil.map_err(|error| PortalError::Internal(error.to_string()))?;
    Ok(pupil.map_or_else(|| account.to_string(), |pupil| pupil.name))
}

/// A pay-out's account and amount.
async fn payout_of(portal: &Portal, number: u64) -> Result<Option<(u64, i64)>, PortalError> {
    let records = portal.setup.records.clone();
    let payout = blocking(move || records.payout(PayoutNumber(number))).await?;
    Ok(payout.map(|payout| (payout.account, payout.amount_ore)))
}
