//! Sign-up: the form about the pupil, the code that was mailed, and the login that comes of it (quick guide, section A).

use std::collections::BTreeMap;

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use frokost_engine::AccountId;
use frokost_persistence::keys;
use frokost_persistence::records::{Login, Matter, Pupil, SignUp};
use serde::Deserialize;

use crate::Portal;
use crate::error::PortalError;
use crate::limits::Visitor;
use crate::password;
use crate::proof::{self, Typed};
use crate::routes::{bare_frame, language_of, see};
use crate::session::{self, blocking, digest, secret};
use crate::views::{self, Field, any_problem};
use crate::words::Words;

/// How long a sign-up waits for its code.
const GOOD_FOR_MS: u64 = 2 * 3_600_000;
/// Wrong codes until it is over.
const TRIES: u32 = 5;
/// Codes that are mailed for one sign-up.
const MOST_SENT: u32 = 5;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Entry {
    name: String,
    address: String,
    cpr: String,
    postcode: String,
    phone: String,
    city: String,
    mail: String,
    card: String,
}

/// The form's fields, with what is wrong with them if they are judged.
fn fields(portal: &Portal, entry: &Entry, w: &'static Words, judged: bool) -> Vec<Field> {
    let check = |problem: Option<&'static str>| problem.filter(|_| judged);
    let card = proof::card(&entry.card, portal.setup.card_length);
    let identifier = portal.setup.identify_by.words(w);
    vec![
        Field::new("name", w.pupil_name, &entry.name).of_kind("text", "name").problem(check(proof::needed(
            &entry.name,
            80,
            w,
        ))),
        Field::new("address", w.address, &entry.address)
            .of_kind("text", "street-address")
            .problem(check(proof::needed(&entry.address, 120, w))),
        Field::new("cpr", identifier.label, &entry.cpr)
            .numeric()
            .hint(identifier.hint)
            .problem(check(proof::identifier(portal, &entry.cpr).err().map(|why| why.words(w)))),
        Field::new("postcode", w.postcode, &entry.postcode)
            .of_kind("text", "postal-code")
            .numeric()
            .problem(check(proof::postcode(&entry.postcode, w))),
        Field::new("phone", w.phone, &entry.phone)
            .of_kind("tel", "tel")
            .optional()
            .problem(check(proof::phone(&entry.phone, w))),
        Field::new("city", w.city, &entry.city).of_kind("text", "address-level2").problem(check(proof::needed(
            &entry.city,
            60,
            w,
        ))),
        Field::new("mail", w.mail, &entry.mail).of_kind("email", "email").problem(check(proof::mail(&entry.mail, w))),
        Field::new("card", w.card_number, &entry.card)
            .hint(w.card_number_where)
            .problem(check(card.is_none().then_some(w.card_wrong))),
    ]
}

fn page(headers: &HeaderMap, fields: Vec<Field>, problem: Option<&'static str>) -> Response {
    let status =
        if problem.is_some() || any_problem(&fields) { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    views::show_with(status, &views::SignUp { frame: bare_frame(headers, "/opret"), fields, problem })
}

pub(super) async fn form(State(portal): State<Portal>, headers: HeaderMap) -> Response {
    let w = language_of(&headers).words();
    page(&headers, fields(&portal, &Entry::default(), w, false), None)
}

/// Checks what was typed, and whether CPR and card number belong together. What is wrong with that has one answer, whatever
/// it is; whether the mail address is known has none.
pub(super) async fn start(
    State(portal): State<Portal>,
    visitor: Visitor,
    headers: HeaderMap,
    Form(entry): Form<Entry>,
) -> Result<Response, PortalError> {
    let language = language_of(&headers);
    let w = language.words();
    let wrong = portal.setup.identify_by.words(w).proof_wrong;
    let fields = fields(&portal, &entry, w, true);
    let (Ok(identifier), Some(card), false) = (
        proof::identifier(&portal, &entry.cpr),
        proof::card(&entry.card, portal.setup.card_length),
        any_problem(&fields),
    ) else {
        return Ok(page(&headers, fields, None));
    };
    let slow =
        portal.limits.proof_with(visitor, card.as_str(), &identifier).and(portal.limits.mail(visitor, &entry.mail));
    if slow.is_err() {
        return Ok(page(&headers, fields, Some(w.too_many)));
    }
    let Typed::Proved(account) = proof::of_account(&portal, &identifier, card).await? else {
        return Ok(page(&headers, fields, Some(wrong)));
    };
    let records = portal.setup.records.clone();
    if !blocking(move || records.logins_on(account)).await?.is_empty() {
        return Ok(page(&headers, fields, Some(wrong)));
    }
    let secret = secret()?;
    let sign_up = SignUp {
        mail: entry.mail.trim().to_owned(),
        account: account.0,
        name: entry.name.trim().to_owned(),
        address: entry.address.trim().to_owned(),
        postcode: entry.postcode.trim().to_owned(),
        city: entry.city.trim().to_owned(),
        phone: entry.phone.trim().to_owned(),
        language: language.code().to_owned(),
        code_hash: String::new(),
        tries_left: TRIES,
        sent: 1,
        until_ms: portal.setup.clock.now().0 + GOOD_FOR_MS,
    };
    let (records, kept) = (portal.setup.records.clone(), secret.clone());
    blocking(move || {
        records.change(|change| {
            change.put(&keys::sign_up(&digest(&kept)), &sign_up)?;
            change.post(&sign_up.mail, &sign_up.language, Matter::SignUp { secret: kept })
        })
    })
    .await?;
    Ok(see(&format!("/aktiver/{secret}")))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Activation {
    code: String,
    password: String,
    again: String,
}

/// The sign-up behind a secret, if it still waits.
async fn waiting(portal: &Portal, secret: &str) -> Result<Option<SignUp>, PortalError> {
    let (records, key, now) =
        (portal.setup.records.clone(), keys::sign_up(&digest(secret)), portal.setup.clock.now().0);
    let found: Option<SignUp> = blocking(move || records.get(&key)).await?;
    Ok(found.filter(|sign_up| sign_up.until_ms >= now && sign_up.tries_left > 0))
}

fn activation_page(
    headers: &HeaderMap,
    secret: &str,
    sign_up: Option<&SignUp>,
    problems: [Option<&'static str>; 3],
    typed: &str,
    sent_again: bool,
) -> Response {
    let frame = bare_frame(headers, &format!("/aktiver/{secret}"));
    let w = frame.w;
    let [code, password, again] = problems;
    let fields = vec![
        Field::new("code", w.activation_code, typed).of_kind("text", "one-time-code").numeric().problem(code),
        Field::password("password", w.new_password, "new-password").hint(w.password_rules).problem(password),
        Field::password("again", w.new_password_again, "new-password").problem(again),
    ];
    let status = match (sign_up, any_problem(&fields)) {
        (None, _) => StatusCode::GONE,
        (Some(_), true) => StatusCode::UNPROCESSABLE_ENTITY,
        (Some(_), false) => StatusCode::OK,
    };
    let mail = sign_up.map(|sign_up| sign_up.mail.clone());
    views::show_with(status, &views::Activate { frame, secret: secret.to_owned(), mail, sent_again, fields })
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Again {
    sendt: String,
}

pub(super) async fn activation(
    State(portal): State<Portal>,
    headers: HeaderMap,
    Path(secret): Path<String>,
    Query(again): Query<Again>,
) -> Result<Response, PortalError> {
    let sign_up = waiting(&portal, &secret).await?;
    Ok(activation_page(&headers, &secret, sign_up.as_ref(), [None; 3], "", again.sendt == "1"))
}

/// The code again, as another one.
pub(super) async fn again(
    State(portal): State<Portal>,
    visitor: Visitor,
    Path(secret): Path<String>,
) -> Result<Response, PortalError> {
    let Some(sign_up) = waiting(&portal, &secret).await? else { return Ok(see(&format!("/aktiver/{secret}"))) };
    if sign_up.sent < MOST_SENT && portal.limits.mail(visitor, &sign_up.mail).is_ok() {
        let (records, kept) = (portal.setup.records.clone(), secret.clone());
        let sent = blocking(move || {
            records.change(|change| {
                let key = keys::sign_up(&digest(&kept));
                let Some(sign_up) = change.get::<SignUp>(&key)?.filter(|now| now.sent < MOST_SENT) else {
                    return Ok(false);
                };
                change.put(&key, &SignUp { sent: sign_up.sent + 1, ..sign_up.clone() })?;
                change.post(&sign_up.mail, &sign_up.language, Matter::SignUp { secret: kept })?;
                Ok(true)
            })
        })
        .await?;
        if sent {
            return Ok(see(&format!("/aktiver/{secret}?sendt=1")));
        }
    }
    Ok(see(&format!("/aktiver/{secret}")))
}

/// The right code makes the login, the relation and the pupil's details, together, and logs in.
pub(super) async fn activate(
    State(portal): State<Portal>,
    headers: HeaderMap,
    Path(secret): Path<String>,
    Form(typed): Form<Activation>,
) -> Result<Response, PortalError> {
    let Some(sign_up) = waiting(&portal, &secret).await? else {
        return Ok(activation_page(&headers, &secret, None, [None; 3], "", false));
    };
    let w = language_of(&headers).words();
    let problems = password::problems(&typed.password, &typed.again, &[&sign_up.mail, &sign_up.name], w);
    if problems.iter().any(Option::is_some) {
        return Ok(activation_page(
            &headers,
            &secret,
            Some(&sign_up),
            [None, problems[0], problems[1]],
            &typed.code,
            false,
        ));
    }
    let code: String = typed.code.chars().filter(char::is_ascii_digit).collect();
    let typed_hash = digest(&format!("{secret}/{code}"));
    let password = portal.hashing.make(typed.password).await?;
    let (records, key) = (portal.setup.records.clone(), keys::sign_up(&digest(&secret)));
    let made = blocking(move || {
        records.change(|change| {
            let Some(sign_up) = change.get::<SignUp>(&key)? else { return Ok(Err(None)) };
            if sign_up.tries_left == 0 || sign_up.code_hash != typed_hash {
                let left = sign_up.tries_left.saturating_sub(1);
                let sign_up = SignUp { tries_left: left, ..sign_up };
                change.put(&key, &sign_up)?;
                return Ok(Err(Some(sign_up)));
            }
            change.remove(&key);
            let account = AccountId(sign_up.account);
            // Somebody may have been quicker, with the address or with the account.
            if records.login(&sign_up.mail)?.is_some() || !records.logins_on(account)?.is_empty() {
                return Ok(Err(None));
            }
            let login = Login {
                number: 0,
                mail: sign_up.mail,
                name: sign_up.name.clone(),
                password,
                accounts: vec![sign_up.account],
                pending: Vec::new(),
                proofs: BTreeMap::new(),
                since: BTreeMap::new(),
                language: sign_up.language,
            };
            change.put_login(&login)?;
            if let Some(pupil) = records.pupil(account)? {
                let SignUp { name, address, postcode, city, phone, .. } = sign_up;
                change.put(&keys::pupil(account), &Pupil { address, postcode, city, phone, ..pupil.renamed(name) })?;
            }
            Ok(Ok(login))
        })
    })
    .await?;
    match made {
        Ok(login) => {
            let (cookie, _) = session::open(&portal, &login).await?;
            Ok(([(SET_COOKIE, cookie)], see(&format!("/konto/{}?oprettet=1", sign_up.account))).into_response())
        }
        Err(left) => {
            let left = left.filter(|sign_up| sign_up.tries_left > 0);
            let problems = [Some(w.activation_wrong), None, None];
            Ok(activation_page(&headers, &secret, left.as_ref(), problems, &typed.code, false))
        }
    }
}
