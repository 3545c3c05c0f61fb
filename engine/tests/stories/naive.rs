//! A ledger so plain that it cannot be wrong - one field a fact, no cleverness - and random requests to hold the engine against it.

use std::collections::BTreeMap;

use frokost_engine::command::{ChargeFailure, Reason, Source};
use frokost_engine::{
    AccountId, AgreementNumber, Amount, Asked, Attempt, CardNumber, Command, Currency, Details, OrderNumber,
    PayoutNumber, PersonId, RequestKey,
};

use crate::harness::{SCHOOL, card};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pupil {
    pub balance: i64,
    pub card: u32,
    pub blocked: bool,
    pub closed: bool,
    pub limit: Option<i64>,
    pub credit: i64,
    pub spent: BTreeMap<i32, i64>,
    pub orders: Vec<u64>,
    pub paid_in: i64,
    /// Amount, and whether it is settled.
    pub payouts: BTreeMap<u64, (i64, bool)>,
    pub agreed: Option<i64>,
    pub attempts: u32,
    pub charging: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Naive {
    pub pupils: BTreeMap<u64, Pupil>,
    /// Every sale: whose, on which day, when, how much, how much of it given back.
    pub sales: BTreeMap<RequestKey, (u64, i32, u64, i64, i64)>,
    /// How often an automatic top-up was wished for.
    pub wishes: u32,
    pub taken_cards: BTreeMap<u32, u64>,
}

const MOST_HELD: i64 = 5_000_000;
const TWO_WEEKS: u64 = 14 * 86_400_000;

fn amount_is_sound(ore: i64, most: i64) -> Result<(), u16> {
    match ore {
        0 => Err(17),
        ..0 => Err(18),
        _ if ore > most => Err(1),
        _ => Ok(()),
    }
}

impl Naive {
    fn owner(&self, number: CardNumber) -> Option<u64> {
        self.taken_cards.iter().find(|(n, _)| card(**n) == number).map(|(_, owner)| *owner)
    }

    fn pupil(&mut self, account: AccountId) -> Result<&mut Pupil, u16> {
        self.pupils.get_mut(&account.0).ok_or(6)
    }

    /// What should come of a request: the balance after it, or the refusal's number. `now` in milliseconds, `day` its day.
    pub fn expect(&mut self, key: RequestKey, asked: &Asked, now: u64, day: i32) -> Result<i64, u16> {
        let by_card = match asked.command {
            Command::Purchase { card, .. } | Command::Refund { card, .. } => Some(self.owner(card)),
            _ => None,
        };
        if by_card == Some(None) {
            return Err(2);
        }
        if asked.details.currency != Currency::DKK && !matches!(asked.command, Command::Transfer { .. }) {
            return Err(19);
        }
        match asked.command {
            Command::Open { account, .. } => match self.pupils.insert(account.0, Pupil::default()) {
                None => Ok(0),
                Some(old) => {
                    self.pupils.insert(account.0, old);
                    Err(7)
                }
            },
            Command::BindCard { account, card } => {
                let number = card.as_str().parse().unwrap();
                let owner = self.taken_cards.get(&number).copied();
                let pupil = self.pupil(account)?;
                if pupil.closed {
                    return Err(20);
                }
                if owner.is_some_and(|owner| owner != account.0) {
                    return Err(8);
                }
                pupil.card = number;
                let balance = pupil.balance;
                self.taken_cards.insert(number, account.0);
                Ok(balance)
            }
            Command::Purchase { card, amount } => self.purchase(key, card, amount.ore(), now, day),
            Command::Refund { card: number, sale, amount } => {
                let id = self.owner(number).ok_or(2u16)?;
                let pupil = &self.pupils[&id];
                if pupil.closed {
                    return Err(2);
                }
                amount_is_sound(amount.ore(), i64::from(u32::MAX))?;
                if card(pupil.card) != number {
                    return Err(2);
                }
                let (_, on, _, sold, back) = self
                    .sales
                    .get_mut(&sale)
                    .filter(|sale| sale.0 == id && now.saturating_sub(sale.2 / 1000 * 1000) <= TWO_WEEKS)
                    .ok_or(9u16)?;
                if amount.ore() > *sold - *back {
                    return Err(10);
                }
                *back += amount.ore();
                let pupil = self.pupils.get_mut(&id).unwrap();
                pupil.balance += amount.ore();
                *pupil.spent.get_mut(on).unwrap() -= amount.ore();
                Ok(pupil.balance)
            }
            Command::TopUp { account, order, amount, source } => {
                let pupil = self.pupil(account)?;
                let taken_already = matches!(source, Source::Provider | Source::Automatic);
                if pupil.closed && !taken_already {
                    return Err(20);
                }
                amount_is_sound(amount.ore(), 1_000_000)?;
                if pupil.orders.contains(&order.0) {
                    return Err(11);
                }
                if !taken_already && pupil.balance + amount.ore() > MOST_HELD {
                    return Err(12);
                }
                pupil.orders.push(order.0);
                pupil.balance += amount.ore();
                pupil.paid_in += if source == Source::Opening { 0 } else { amount.ore() };
                pupil.charging &= source != Source::Automatic;
                Ok(pupil.balance)
            }
            Command::Transfer { from, to, amount } => self.transfer(asked, from, to, amount.ore()),
            _ => self.other(asked),
        }
    }

    fn purchase(&mut self, key: RequestKey, number: CardNumber, ore: i64, now: u64, day: i32) -> Result<i64, u16> {
        let id = self.owner(number).ok_or(2u16)?;
        let pupil = self.pupils.get_mut(&id).unwrap();
        if pupil.closed {
            return Err(2);
        }
        amount_is_sound(ore, 500_000)?;
        if card(pupil.card) != number {
            return Err(2);
        }
        if pupil.blocked {
            return Err(3);
        }
        let spent = pupil.spent.entry(day).or_default();
        if pupil.limit.is_some_and(|limit| *spent + ore > limit) {
            return Err(4);
        }
        let covered = ore <= pupil.balance + pupil.credit;
        if covered {
            pupil.balance -= ore;
            *spent += ore;
            self.sales.insert(key, (id, day, now, ore, 0));
        }
        if (!covered || pupil.balance < 5_000) && pupil.agreed.is_some() && !pupil.charging && pupil.paid_in >= 10_000 {
            pupil.charging = true;
            pupil.attempts += 1;
            self.wishes += 1;
        }
        if covered { Ok(pupil.balance) } else { Err(5) }
    }

    fn transfer(&mut self, asked: &Asked, from: AccountId, to: AccountId, ore: i64) -> Result<i64, u16> {
        let payer = self.pupil(from)?.clone();
        let paid = self.pupil(to)?.clone();
        let pays = || -> Result<(), u16> {
            if asked.details.currency != Currency::DKK {
                return Err(19);
            }
            if from == to {
                return Err(25);
            }
            amount_is_sound(ore, MOST_HELD)?;
            if ore > payer.balance { Err(5) } else { Ok(()) }
        };
        let is_paid = || -> Result<(), u16> {
            if paid.closed {
                return Err(20);
            }
            amount_is_sound(ore, MOST_HELD)?;
            if paid.balance + ore > MOST_HELD { Err(12) } else { Ok(()) }
        };
        if from <= to {
            pays()?;
            is_paid()?;
        } else {
            is_paid()?;
            pays()?;
        }
        self.pupil(to)?.balance += ore;
        let payer = self.pupil(from)?;
        payer.balance -= ore;
        Ok(payer.balance)
    }

    fn other(&mut self, asked: &Asked) -> Result<i64, u16> {
        let account = match asked.command {
            Command::Block { account }
            | Command::Activate { account }
            | Command::SetDailyLimit { account, .. }
            | Command::SetCreditLimit { account, .. }
            | Command::RequestPayout { account, .. }
            | Command::MarkPayoutSent { account, .. }
            | Command::MarkPayoutDone { account, .. }
            | Command::ReturnPayout { account, .. }
            | Command::Correct { account, .. }
            | Command::AgreeAutoTopUp { account, .. }
            | Command::CancelAutoTopUp { account }
            | Command::ReportChargeFailed { account, .. }
            | Command::Close { account } => account,
            other => panic!("{other:?} is somebody else's"),
        };
        let pupil = self.pupil(account)?;
        let shut = pupil.closed;
        let open_payout = |pupil: &Pupil, payout: PayoutNumber| match pupil.payouts.get(&payout.0) {
            None => Err(22u16),
            Some((_, true)) => Err(23),
            Some((amount, false)) => Ok(*amount),
        };
        match asked.command {
            Command::Block { .. } | Command::Activate { .. } if shut => return Err(20),
            Command::Block { .. } => pupil.blocked = true,
            Command::Activate { .. } => pupil.blocked = false,
            Command::SetDailyLimit { .. }
            | Command::SetCreditLimit { .. }
            | Command::AgreeAutoTopUp { .. }
            | Command::CancelAutoTopUp { .. }
            | Command::Close { .. }
                if shut =>
            {
                return Err(20);
            }
            Command::SetDailyLimit { limit, .. } => {
                if limit.is_some_and(|limit| limit != Amount::ZERO) {
                    amount_is_sound(limit.unwrap().ore(), MOST_HELD)?;
                }
                pupil.limit = limit.map(Amount::ore);
            }
            Command::SetCreditLimit { limit, .. } => {
                if limit != Amount::ZERO {
                    amount_is_sound(limit.ore(), 100_000)?;
                }
                pupil.credit = limit.ore();
            }
            Command::RequestPayout { payout, amount, .. } => {
                amount_is_sound(amount.ore(), MOST_HELD)?;
                if pupil.payouts.contains_key(&payout.0) {
                    return Err(24);
                }
                if amount.ore() > pupil.balance {
                    return Err(5);
                }
                pupil.balance -= amount.ore();
                pupil.payouts.insert(payout.0, (amount.ore(), false));
            }
            Command::MarkPayoutSent { payout, .. } => drop(open_payout(pupil, payout)?),
            Command::MarkPayoutDone { payout, .. } => {
                let amount = open_payout(pupil, payout)?;
                pupil.payouts.insert(payout.0, (amount, true));
            }
            Command::ReturnPayout { payout, .. } => {
                let amount = open_payout(pupil, payout)?;
                pupil.payouts.insert(payout.0, (amount, true));
                pupil.balance += amount;
            }
            Command::Correct { amount, .. } => {
                let ore = amount.ore();
                if ore == i64::MIN {
                    return Err(18);
                }
                amount_is_sound(ore.abs(), MOST_HELD)?;
                if ore < 0 && -ore > pupil.balance + pupil.credit {
                    return Err(5);
                }
                if ore > 0 && pupil.balance + ore > MOST_HELD {
                    return Err(12);
                }
                pupil.balance += ore;
            }
            Command::AgreeAutoTopUp { amount, .. } => {
                amount_is_sound(amount.ore(), 1_000_000)?;
                pupil.agreed = Some(amount.ore());
            }
            Command::CancelAutoTopUp { .. } => drop(pupil.agreed.take().ok_or(26u16)?),
            Command::ReportChargeFailed { attempt, .. } => {
                if !pupil.charging || pupil.attempts != attempt.0 {
                    return Err(27);
                }
                pupil.charging = false;
            }
            Command::Close { .. } => {
                let open = pupil.charging || pupil.payouts.values().any(|(_, settled)| !settled);
                if pupil.balance != 0 || open {
                    return Err(21);
                }
                pupil.closed = true;
                pupil.agreed = None;
            }
            other => panic!("{other:?} is somebody else's"),
        }
        Ok(pupil.balance)
    }

    /// A random request: mostly lunch, now and then anything else, and sometimes nonsense.
    pub fn request(&self, rng: &mut fastrand::Rng, pupils: u64) -> Asked {
        let account = AccountId(rng.u64(1..=pupils));
        let pupil = &self.pupils[&account.0];
        let ore = match rng.u32(0..40) {
            0 => 0,
            1 => -5,
            2 => i64::MAX,
            3 => i64::MIN,
            _ => rng.i64(1..20_000),
        };
        let amount = Amount::from_ore(ore);
        let payout = PayoutNumber(rng.u64(1..8));
        let number = if rng.u32(0..20) == 0 { rng.u32(100..130) } else { pupil.card };
        let command = match rng.u32(0..100) {
            0..35 => Command::Purchase { card: card(number), amount },
            35..52 => {
                let order = OrderNumber(rng.u64(1..60));
                let source = [Source::Provider, Source::Counter, Source::Opening, Source::Automatic][rng.usize(0..4)];
                Command::TopUp { account, order, amount, source }
            }
            52..60 => {
                let sales: Vec<_> = self.sales.keys().copied().collect();
                let sale = if sales.is_empty() { RequestKey::default() } else { sales[rng.usize(0..sales.len())] };
                Command::Refund { card: card(number), sale, amount }
            }
            60..68 => Command::Transfer { from: account, to: AccountId(rng.u64(1..=pupils + 1)), amount },
            68..71 => Command::RequestPayout { account, payout, amount },
            71..73 => Command::MarkPayoutSent { account, payout },
            73..75 => Command::MarkPayoutDone { account, payout },
            75..77 => Command::ReturnPayout { account, payout },
            77..80 => Command::Correct {
                account,
                amount: if rng.bool() { amount } else { Amount::from_ore(-(ore / 2)) },
                reason: Reason::Other,
            },
            80..84 => Command::AgreeAutoTopUp { account, agreement: AgreementNumber(rng.u64(..)), amount },
            84 => Command::CancelAutoTopUp { account },
            85..88 => {
                let attempt = Attempt(pupil.attempts + rng.u32(0..2) / 2);
                Command::ReportChargeFailed { account, attempt, failure: ChargeFailure::NoCover }
            }
            88 => Command::Close { account },
            89..91 => Command::Block { account },
            91..94 => Command::Activate { account },
            94..96 => {
                let limit = rng.bool().then(|| Amount::from_ore(rng.i64(0..30_000)));
                Command::SetDailyLimit { account, limit }
            }
            96 => Command::SetCreditLimit { account, limit: Amount::from_ore(rng.i64(0..110_000)) },
            // The second behind the last is never opened: only refusals name it.
            97 => Command::Open { account: if rng.bool() { account } else { AccountId(pupils + 2) }, school: SCHOOL },
            _ => Command::BindCard { account, card: card(rng.u32(100..130)) },
        };
        let mut details = Details::default();
        if rng.u32(0..10) == 0 {
            details.by = PersonId(rng.u64(..));
            details.text = "2 sandwich, 1 mælk".parse().unwrap();
        }
        if rng.u32(0..50) == 0 {
            details.currency = Currency::from_bytes(*b"EUR").unwrap();
        }
        if command == (Command::Open { account: AccountId(pupils + 2), school: SCHOOL }) {
            details.currency = Currency::from_bytes(*b"EUR").unwrap();
        }
        Asked { command, details }
    }
}
