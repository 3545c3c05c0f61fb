//! User details: the pupil's, the daily cap, the card, the picture; and the login's own mail address and password (quick guide, H and J).

use axum::Form;
use axum::extract::{Multipart, Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use frokost_engine::{AccountId, AccountView, Amount, Command, Outcome, Rejection};
use frokost_persistence::keys;
use frokost_persistence::records::{Agreement, Matter, Pupil, TicketFor};
use serde::Deserialize;

use crate::Portal;
use crate::error::PortalError;
use crate::limits::Visitor;
use crate::money;
use crate::once;
use crate::password;
use crate::picture;
use crate::proof;
use crate::routes::money_out::is_new_here;
use crate::routes::{TokenForm, account_of, bare_frame, forgotten, identifier_of, parent_frame, pupil_of, see};
use crate::security_log;
use crate::session::{Parent, blocking};
use crate::tickets;
use crate::views::{self, Field, any_problem};
use crate::words::{Language, Words};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Done {
    gemt: String,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default)]
pub(super) struct Entry {
    token: String,
    name: String,
    address: String,
    postcode: String,
    city: String,
    phone: String,
    card: String,
    limit: String,
    /// What card and limit the page showed; nothing in a form of before it said so.
    shown_card: Option<String>,
    shown_limit: Option<String>,
}

/// What became of a value while a page was open and something else was typed, or was not.
enum Meanwhile {
    /// Nobody has touched it on the page.
    Untouched,
    /// It was typed over what it still is.
    Typed,
    /// It was typed over what it is not any more.
    Changed,
}

fn meanwhile<T: PartialEq>(shown: Option<T>, typed: &T, now: &T) -> Meanwhile {
    match shown {
        Some(shown) if shown == *typed => Meanwhile::Untouched,
        Some(shown) if shown != *now && *typed != *now => Meanwhile::Changed,
        Some(_) | None if *typed == *now => Meanwhile::Untouched,
        Some(_) | None => Meanwhile::Typed,
    }
}

impl Entry {
    fn of(pupil: &Pupil, view: &AccountView, language: Language) -> Entry {
        let [card, limit] = shown_of(view, language);
        Entry {
            token: String::new(),
            name: pupil.name.clone(),
            address: pupil.address.clone(),
            postcode: pupil.postcode.clone(),
            city: pupil.city.clone(),
            phone: pupil.phone.clone(),
            shown_card: None,
            shown_limit: None,
            card,
            limit,
        }
    }

    /// The cap that was typed: nothing for none.
    fn limit(&self, language: Language) -> Result<Option<Amount>, ()> {
        read_limit(&self.limit, language)
    }
}

/// Card and limit as the fields show them.
fn shown_of(view: &AccountView, language: Language) -> [String; 2] {
    let card = view.card.map(|card| card.to_string()).unwrap_or_default();
    [card, view.daily_limit.map(|limit| money::plain(limit, language)).unwrap_or_default()]
}

fn read_limit(text: &str, language: Language) -> Result<Option<Amount>, ()> {
    match text.trim() {
        "" => Ok(None),
        text => money::read(text, language).filter(|amount| *amount >= Amount::ZERO).map(Some).ok_or(()),
    }
}

fn fields(portal: &Portal, entry: &Entry, language: Language, judged: bool) -> Vec<Field> {
    let w = language.words();
    let check = |problem: Option<&'static str>| problem.filter(|_| judged);
    let optional = |text: &str, most| if text.trim().is_empty() { None } else { proof::needed(text, most, w) };
    let card = proof::card(&entry.card, portal.setup.card_length).is_none().then_some(w.card_wrong);
    let postcode = if entry.postcode.trim().is_empty() { None } else { proof::postcode(&entry.postcode, w) };
    vec![
        Field::new("name", w.name, &entry.name).problem(check(proof::needed(&entry.name, 80, w))),
        Field::new("address", w.address, &entry.address).optional().problem(check(optional(&entry.address, 120))),
        Field::new("postcode", w.postcode, &entry.postcode).numeric().optional().problem(check(postcode)),
        Field::new("city", w.city, &entry.city).optional().problem(check(optional(&entry.city, 60))),
        Field::new("phone", w.phone, &entry.phone)
            .of_kind("tel", "off")
            .optional()
            .problem(check(proof::phone(&entry.phone, w))),
        Field::new("card", w.card_number, &entry.card).hint(w.new_card_about).problem(check(card)),
        Field::new("limit", w.max_spending_daily, &entry.limit)
            .optional()
            .hint(w.max_spending_about)
            .problem(check(entry.limit(language).err().map(|()| w.limit_wrong))),
    ]
}

/// What a page says beside its forms.
#[derive(Default)]
struct Said {
    good: Option<&'static str>,
    problem: Option<String>,
    /// What card and limit were when the page was first shown, if that is not what they are now.
    shown: Option<[String; 2]>,
    mail: Vec<Field>,
    password: Vec<Field>,
}

async fn page(
    portal: &Portal,
    headers: &HeaderMap,
    parent: &Parent,
    view: &AccountView,
    fields: Vec<Field>,
    said: Said,
) -> Result<Response, PortalError> {
    let number = view.account.0;
    let (frame, bar) = parent_frame(portal, headers, parent, number, "bruger", format!("/konto/{number}/bruger"))?;
    let w = frame.w;
    let mail = if said.mail.is_empty() { mail_fields(w, "", [None; 2]) } else { said.mail };
    let password = if said.password.is_empty() { password_fields(w, [None; 3]) } else { said.password };
    let now = shown_of(view, frame.language);
    let [shown_card, shown_limit] = said.shown.unwrap_or(now);
    let wrong = said.problem.is_some() || [&fields, &mail, &password].iter().any(|fields| any_problem(fields));
    let page = views::Details {
        form_token: parent.session.form_token.clone(),
        identifier_label: portal.setup.identify_by.words(frame.w).label,
        identifier: identifier_of(portal, view.account)?,
        login_mail: parent.login.mail.clone(),
        balance: money::amount(view.balance, frame.language),
        card: view.card.map(|card| card.to_string()),
        blocked: view.blocked,
        picture: picture::is_there(portal, view.account),
        fields,
        shown_card,
        shown_limit,
        mail,
        password,
        good: said.good,
        problem: said.problem,
        frame,
        bar,
    };
    let status = if wrong { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    Ok(views::show_with(status, &page))
}

pub(super) async fn show(
    State(portal): State<Portal>,
    parent: Parent,
    headers: HeaderMap,
    Path(number): Path<u64>,
    Query(done): Query<Done>,
) -> Result<Response, PortalError> {
    let view = account_of(&portal, &parent, number).await?;
    let language = super::language_of(&headers);
    let w = language.words();
    let entry = Entry::of(&pupil_of(&portal, number)?, &view, language);
    let good = match done.gemt.as_str() {
        "1" => Some(w.saved),
        "mail" => Some(w.mail_change_sent),
        "ud" => Some(w.everywhere_out_done),
        _ => None,
    };
    let fields = fields(&portal, &entry, language, false);
    page(&portal, &headers, &parent, &view, fields, Said { good, ..Said::default() }).await
}

/// Saves what has changed: the pupil's details here, cap and card at the engine.
pub(super) async fn save(
    State(portal): State<Portal>,
    parent: Parent,
    visitor: Visitor,
    headers: HeaderMap,
    Path(number): Path<u64>,
    Form(entry): Form<Entry>,
) -> Result<Response, PortalError> {
    parent.check(&entry.token)?;
    let view = account_of(&portal, &parent, number).await?;
    let language = super::language_of(&headers);
    let w = language.words();
    let mut fields = fields(&portal, &entry, language, true);
    let card = proof::card(&entry.card, portal.setup.card_length);
    let (Ok(limit), Some(card), false) = (entry.limit(language), card, any_problem(&fields)) else {
        // What was shown at first stays what was shown: the fields may be older than what is true now.
        let shown = entry.shown_card.clone().zip(entry.shown_limit.clone()).map(|(card, limit)| [card, limit]);
        return page(&portal, &headers, &parent, &view, fields, Said { shown, ..Said::default() }).await;
    };
    let account = view.account;
    let mut refused = Vec::new();
    let mut typed_over = Vec::new();
    let shown = entry.shown_card.as_deref().map(|text| proof::card(text, portal.setup.card_length));
    let new_card = match meanwhile(shown, &Some(card), &view.card) {
        Meanwhile::Untouched => false,
        Meanwhile::Typed => {
            typed_over.push("card");
            true
        }
        Meanwhile::Changed => {
            refused.push(("card", w.changed_meanwhile));
            false
        }
    };
    if new_card {
        // A card of the newcomer's own would spend what may not be moved yet.
        if is_new_here(&portal, &parent, number) {
            refused.push(("card", w.too_new_here));
        } else if portal.limits.proof(visitor, &format!("new card of {}", parent.login.mail)).is_err() {
            refused.push(("card", w.too_many));
        } else {
            refused
                .extend(tell(&portal, &parent, Command::BindCard { account, card }, w).await?.map(|why| ("card", why)));
        }
    }
    let shown = entry.shown_limit.as_deref().and_then(|text| read_limit(text, language).ok());
    match meanwhile(shown, &limit, &view.daily_limit) {
        Meanwhile::Untouched => {}
        Meanwhile::Typed => {
            typed_over.push("limit");
            let command = Command::SetDailyLimit { account, limit };
            refused.extend(tell(&portal, &parent, command, w).await?.map(|why| ("limit", why)));
        }
        Meanwhile::Changed => refused.push(("limit", w.changed_meanwhile)),
    }
    let records = portal.setup.records.clone();
    let typed = entry.clone();
    blocking(move || {
        records.change(|change| {
            let key = keys::pupil(account);
            let Some(pupil) = change.get::<Pupil>(&key)? else { return Ok(()) };
            let trim = |text: &str| text.trim().to_owned();
            let pupil = Pupil {
                address: trim(&typed.address),
                postcode: trim(&typed.postcode),
                city: trim(&typed.city),
                phone: trim(&typed.phone),
                ..pupil.renamed(trim(&typed.name))
            };
            change.put(&key, &pupil)
        })
    })
    .await?;
    if refused.is_empty() {
        return Ok(see(&format!("/konto/{number}/bruger?gemt=1")));
    }
    let view = account_of(&portal, &parent, number).await?;
    let now = ["card", "limit"].into_iter().zip(shown_of(&view, language));
    for field in &mut fields {
        if let Some((_, why)) = refused.iter().find(|(name, _)| field.name == *name) {
            field.problem = Some((*why).to_owned());
        }
        // What was not typed over what it is now is shown as it is now.
        if let Some((_, value)) = now.clone().find(|(name, _)| field.name == *name && !typed_over.contains(name)) {
            field.value = value;
        }
    }
    page(&portal, &headers, &parent, &view, fields, Said::default()).await
}

/// Has the engine change something; what it has against it, in words.
async fn tell(
    portal: &Portal,
    parent: &Parent,
    command: Command,
    w: &Words,
) -> Result<Option<&'static str>, PortalError> {
    Ok(match portal.engine.command(once::by(&parent.login, command)).await? {
        Outcome::Approved(_) => None,
        Outcome::Rejected(Rejection::CardTaken) => Some(w.card_taken),
        Outcome::Rejected(Rejection::AmountTooLarge { .. } | Rejection::AmountNegative) => Some(w.limit_wrong),
        Outcome::Rejected(Rejection::AccountClosed) => Some(w.refusal_closed),
        Outcome::Rejected(_) | Outcome::View(_) | Outcome::Busy | Outcome::OutOfSpace | Outcome::Unavailable => {
            Some(w.refusal_other)
        }
    })
}

fn mail_fields(w: &'static Words, mail: &str, problems: [Option<&'static str>; 2]) -> Vec<Field> {
    vec![
        Field::new("new_mail", w.mail_new, mail).of_kind("email", "email").problem(problems[0]),
        Field::password("mail_password", w.password_now, "current-password").problem(problems[1]),
    ]
}

fn password_fields(w: &'static Words, problems: [Option<&'static str>; 3]) -> Vec<Field> {
    vec![
        Field::password("old", w.password_now, "current-password").problem(problems[0]),
        Field::password("password", w.new_password, "new-password").hint(w.password_rules).problem(problems[1]),
        Field::password("again", w.new_password_again, "new-password").problem(problems[2]),
    ]
}

/// The page as it is, with what is wrong in one of the small forms.
async fn again(
    portal: &Portal,
    headers: &HeaderMap,
    parent: &Parent,
    number: u64,
    said: Said,
) -> Result<Response, PortalError> {
    let view = account_of(portal, parent, number).await?;
    let language = super::language_of(headers);
    let entry = Entry::of(&pupil_of(portal, number)?, &view, language);
    let fields = fields(portal, &entry, language, false);
    page(portal, headers, parent, &view, fields, said).await
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct NewMail {
    token: String,
    new_mail: String,
    mail_password: String,
}

/// Another mail address: asked for with the password, told to the old one, and in force once the new one is confirmed.
pub(super) async fn change_mail(
    State(portal): State<Portal>,
    parent: Parent,
    visitor: Visitor,
    headers: HeaderMap,
    Path(number): Path<u64>,
    Form(typed): Form<NewMail>,
) -> Result<Response, PortalError> {
    parent.check(&typed.token)?;
    let w = super::language_of(&headers).words();
    let mut problems = [proof::mail(&typed.new_mail, w), None];
    if portal.limits.log_in(visitor, &parent.login.mail).is_err() {
        problems[1] = Some(w.too_many);
    } else if !portal.hashing.check(typed.mail_password, Some(parent.login.password.clone())).await {
        problems[1] = Some(w.password_not_yours);
    } else if portal.limits.mail(visitor, &typed.new_mail).is_err() {
        problems[0] = Some(w.too_many);
    }
    if problems.iter().any(Option::is_some) {
        let said = Said { mail: mail_fields(w, &typed.new_mail, problems), ..Said::default() };
        return again(&portal, &headers, &parent, number, said).await;
    }
    let (records, login, mail) = (portal.setup.records.clone(), parent.login, typed.new_mail.trim().to_owned());
    blocking(move || {
        records.change(|change| {
            change.post(&mail, &login.language, Matter::ConfirmMail { login: login.mail.clone() })?;
            change.post(&login.mail, &login.language, Matter::MailChanging { mail: mail.clone() })
        })
    })
    .await?;
    Ok(see(&format!("/konto/{number}/bruger?gemt=mail")))
}

fn new_mail(found: Option<TicketFor>) -> Option<(String, String)> {
    match found? {
        TicketFor::Mail { login, mail } => Some((login, mail)),
        TicketFor::Password { .. } | TicketFor::Revoke { .. } => None,
    }
}

pub(super) async fn confirm_mail_form(
    State(portal): State<Portal>,
    headers: HeaderMap,
    Path(ticket): Path<String>,
) -> Result<Response, PortalError> {
    let frame = bare_frame(&headers, &format!("/ny-mail/{ticket}"));
    let w = frame.w;
    let mail = new_mail(tickets::look(&portal, &ticket).await?).map(|(_, mail)| mail);
    Ok(views::confirm(frame, w.mail_change, w.mail_confirm_about, mail, w.save))
}

pub(super) async fn confirm_mail(
    State(portal): State<Portal>,
    parent: Parent,
    visitor: Visitor,
    headers: HeaderMap,
    Path(ticket): Path<String>,
    Form(_): Form<TokenForm>,
) -> Result<Response, PortalError> {
    let frame = bare_frame(&headers, "/");
    let w = frame.w;
    // An address that was mistyped is somebody's; who opens the mail there is not the parent.
    let theirs = new_mail(tickets::look(&portal, &ticket).await?);
    if theirs.is_none_or(|(login, _)| login.to_lowercase() != parent.login.mail.to_lowercase()) {
        return Ok(views::confirm(frame, w.mail_change, w.mail_confirm_about, None, w.save));
    }
    security_log::note("mail_changed", Some(&parent.login), visitor);
    let Some((old, new)) = new_mail(tickets::take(&portal, &ticket).await?) else {
        return Ok(views::confirm(frame, w.mail_change, w.mail_confirm_about, None, w.save));
    };
    let records = portal.setup.records.clone();
    let changed = blocking(move || {
        let address = new.clone();
        let changed = records.change(|change| {
            let Some(mut login) = records.login(&old)? else { return Ok(false) };
            if new.to_lowercase() != old.to_lowercase() && records.login(&new)?.is_some() {
                return Ok(false);
            }
            change.remove_login(&login);
            login.mail = new;
            // What is charged for this parent, and what is under way, is told to this parent.
            change.hand_over(&login.accounts, &old, &login.mail)?;
            for account in &login.accounts {
                let key = keys::agreement(AccountId(*account));
                if let Some(agreement) = change.get::<Agreement>(&key)?.filter(|agreement| agreement.login == old) {
                    change.put(&key, &Agreement { login: login.mail.clone(), ..agreement })?;
                }
            }
            change.put_login(&login)?;
            Ok(true)
        })?;
        if changed {
            records.rename_in_tickets(&old, &address)?;
            records.end_tickets_of(&old)?;
            records.end_sessions_of(&old, None)?;
        }
        Ok::<_, frokost_persistence::records::RecordsError>(changed)
    })
    .await?;
    if changed {
        return Ok(views::said(frame, w.mail_change, w.mail_changed));
    }
    // Who reads this has opened the mail there: the address is theirs, and so is the other login.
    Ok(views::said(frame, w.mail_change, w.mail_of_another))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct NewPassword {
    token: String,
    old: String,
    password: String,
    again: String,
}

pub(super) async fn change_password(
    State(portal): State<Portal>,
    parent: Parent,
    visitor: Visitor,
    headers: HeaderMap,
    Path(number): Path<u64>,
    Form(typed): Form<NewPassword>,
) -> Result<Response, PortalError> {
    parent.check(&typed.token)?;
    let w = super::language_of(&headers).words();
    let about = [parent.login.mail.as_str(), parent.login.name.as_str()];
    let [new, repeated] = password::problems(&typed.password, &typed.again, &about, w);
    let mut problems = [None, new, repeated];
    if portal.limits.log_in(visitor, &parent.login.mail).is_err() {
        problems[0] = Some(w.too_many);
    } else if !portal.hashing.check(typed.old, Some(parent.login.password.clone())).await {
        problems[0] = Some(w.password_not_yours);
    }
    if problems.iter().any(Option::is_some) {
        let said = Said { password: password_fields(w, problems), ..Said::default() };
        return again(&portal, &headers, &parent, number, said).await;
    }
    security_log::note("password_changed", Some(&parent.login), visitor);
    forgotten::set(&portal, &parent.login.mail, typed.password, Some(parent.hash)).await?;
    Ok(see(&format!("/konto/{number}/bruger?gemt=1")))
}

/// Ends every other session of the login.
pub(super) async fn others_out(
    State(portal): State<Portal>,
    parent: Parent,
    Path(number): Path<u64>,
    Form(form): Form<TokenForm>,
) -> Result<Response, PortalError> {
    parent.check(&form.token)?;
    parent.account(number)?;
    let (records, mail, hash) = (portal.setup.records.clone(), parent.login.mail, parent.hash);
    blocking(move || records.end_sessions_of(&mail, Some(&hash))).await?;
    Ok(see(&format!("/konto/{number}/bruger?gemt=ud")))
}

pub(super) async fn show_picture(
    State(portal): State<Portal>,
    parent: Parent,
    Path(number): Path<u64>,
) -> Result<Response, PortalError> {
    let account = parent.account(number)?;
    let bytes = picture::read(&portal, account).await?.ok_or(PortalError::NotFound)?;
    Ok(([(CONTENT_TYPE, "image/jpeg"), (CACHE_CONTROL, "no-store")], bytes).into_response())
}

/// A slow line takes this long for five megabytes.
const UPLOAD_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

/// A picture of the pupil, drawn anew: what else was in the file is not kept.
pub(super) async fn save_picture(
    State(portal): State<Portal>,
    parent: Parent,
    headers: HeaderMap,
    Path(number): Path<u64>,
    mut form: Multipart,
) -> Result<Response, PortalError> {
    let account = parent.account(number)?;
    let w = super::language_of(&headers).words();
    // Each is held in memory until its last byte is there.
    let _place = portal.uploads.try_acquire().map_err(|_| PortalError::TooMany)?;
    let reading = async {
        let (mut token, mut bytes) = (String::new(), None);
        while let Ok(Some(part)) = form.next_field().await {
            match part.name() {
                Some("token") => token = part.text().await.unwrap_or_default(),
                Some("picture") => bytes = part.bytes().await.ok(),
                Some(_) | None => {}
            }
        }
        (token, bytes)
    };
    let (token, bytes) = tokio::time::timeout(UPLOAD_WITHIN, reading).await.map_err(|_| PortalError::TooMany)?;
    parent.check(&token)?;
    let kept = match bytes {
        Some(bytes) => picture::keep(&portal, account, bytes.to_vec()).await?,
        None => false,
    };
    if kept {
        return Ok(see(&format!("/konto/{number}/bruger?gemt=1")));
    }
    let said = Said { problem: Some(w.picture_wrong.to_owned()), ..Said::default() };
    again(&portal, &headers, &parent, number, said).await
}

pub(super) async fn delete_picture(
    State(portal): State<Portal>,
    parent: Parent,
    Path(number): Path<u64>,
    Form(form): Form<TokenForm>,
) -> Result<Response, PortalError> {
    parent.check(&form.token)?;
    picture::delete(&portal, parent.account(number)?).await?;
    Ok(see(&format!("/konto/{number}/bruger?gemt=1")))
}
