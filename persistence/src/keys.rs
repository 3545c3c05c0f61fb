//! Every key of every database, in one place. Numbers are big-endian, so that keys sort as their numbers do.

use frokost_engine::{AccountId, Lsn, OrderNumber, PayoutNumber};

/// Journal: a part of a group, by its first LSN. Eight bytes; the only eight-byte keys there.
#[must_use]
pub fn part(first: Lsn) -> [u8; 8] {
    first.0.to_be_bytes()
}

/// Journal: the claim. Sorts after every part, whose first byte would only be so high after 10^18 records.
pub const CLAIM: &[u8] = b"claim";

/// Records: a school.
#[must_use]
pub fn school(number: u32) -> String {
    format!("school/{number:010}")
}

/// Records: the pupil an account belongs to.
#[must_use]
pub fn pupil(account: AccountId) -> String {
    format!("pupil/{:020}", account.0)
}

/// Records: from the keyed hash of a CPR number to the account.
#[must_use]
pub fn cpr(lookup: &str) -> String {
    format!("cpr/{lookup}")
}

/// Records: a login, by its mail address in lower case.
#[must_use]
pub fn login(mail: &str) -> String {
    format!("login/{}", mail.to_lowercase())
}

/// Records: a payment order.
#[must_use]
pub fn order(number: OrderNumber) -> String {
    format!("order/{:020}", number.0)
}

/// Records: an order that is not settled.
#[must_use]
pub fn open_order(number: OrderNumber) -> String {
    format!("open/{:020}", number.0)
}

/// Records: what every key of an account's orders begins with.
#[must_use]
pub fn orders_of(account: AccountId) -> String {
    format!("of/{:020}/", account.0)
}

/// Records: from the provider's name for a payment to its order.
#[must_use]
pub fn payment(session: &str) -> String {
    format!("payment/{session}")
}

/// Records: from the key of a form that was sent to the order it made.
#[must_use]
pub fn form(key: &str) -> String {
    format!("form/{key}")
}

/// Records: an open browser session, by the hash of its secret.
#[must_use]
pub fn session(hash: &str) -> String {
    format!("session/{hash}")
}

/// Records: what every key from an account to a login that manages it begins with.
#[must_use]
pub fn logins_on(account: AccountId) -> String {
    format!("on/{:020}/", account.0)
}

/// Records: from an account to a login that manages it.
#[must_use]
pub fn login_on(account: AccountId, mail: &str) -> String {
    format!("{}{}", logins_on(account), mail.to_lowercase())
}

/// Records: the automatic top-up of an account.
#[must_use]
pub fn agreement(account: AccountId) -> String {
    format!("agreement/{:020}", account.0)
}

/// Records: a sign-up, by the hash of the secret in its address.
#[must_use]
pub fn sign_up(hash: &str) -> String {
    format!("signup/{hash}")
}

/// Records: what is good once, by the hash of its secret.
#[must_use]
pub fn ticket(hash: &str) -> String {
    format!("ticket/{hash}")
}

/// Records: a mail on its way.
#[must_use]
pub fn letter(number: u64) -> String {
    format!("letter/{number:020}")
}

/// Records: a pay-out.
#[must_use]
pub fn payout(number: PayoutNumber) -> String {
    format!("payout/{:020}", number.0)
}

/// Records: what every key of an account's pay-outs begins with.
#[must_use]
pub fn payouts_of(account: AccountId) -> String {
    format!("out/{:020}/", account.0)
}

/// Records: the last number given out of a kind.
#[must_use]
pub fn last_number(kind: &str) -> String {
    format!("last/{kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_numbers_do() {
        assert!(part(Lsn(255)) < part(Lsn(256)));
        assert!(part(Lsn(u64::MAX >> 8)).as_slice() < CLAIM);
        assert!(order(OrderNumber(9)) < order(OrderNumber(10)));
    }
}
