//! One till in one task: sells according to plan, asks again when it has no answer, comes back when its connection breaks, and remembers
//! what it was told for the audit.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use frokost_engine::{Amount, CallerId, CardNumber, Command, Lsn, Outcome, Sequence};
use frokost_net::client::Dialer;
use frokost_net::conversation::{Asker, Listener};
use frokost_net::wire::{Request, Response};
use frokost_net::{Bundle, ClientError, numbers};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::coming::{BACK_WITHIN, come_in};
use crate::plan::{Chooser, Plan};
use crate::stats::Board;

/// How often a sale that is turned away is sent again.
const TRIES: u32 = 20;
/// How long to wait before the first time; each time after that it is twice as long.
const PAUSE: Duration = Duration::from_millis(20);
/// And at most so long: all of them are eight to fifteen seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often a till looks after what has had no answer.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// Longer than anything the server lets a request wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Begun later than this after it was due, a sale was not made when it was planned.
const LATE: Duration = Duration::from_millis(50);
/// Who could not send for so long was kept by the server.
const NOTICED: Duration = Duration::from_millis(1);
/// Nobody waits longer for a sale to begin. What is older is not begun and is missing in the report.
const WORTH_BEGINNING: Duration = Duration::from_secs(60);

/// What a till was told about one sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Nothing,
    Approved(Lsn),
    Refused,
}

/// A sale of this run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sale {
    pub(crate) card: CardNumber,
    pub(crate) amount: Amount,
    pub(crate) told: Told,
}

impl Sale {
    /// False if it contradicts what was told before.
    fn tell(&mut self, told: Told) -> bool {
        let before = std::mem::replace(&mut self.told, told);
        before == Told::Nothing || before == told
    }
}

/// Everything a till sold: the sale with sequence `first + n` is the n-th.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) caller: CallerId,
    pub(crate) first: u64,
    pub(crate) sales: Vec<Sale>,
    /// Sales that were asked for twice and answered in two ways.
    pub(crate) contradictions: Vec<u64>,
    /// The till could not come back to its server, and sold no more.
    pub(crate) gone: bool,
}

/// When a run begins and ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hours {
    pub(crate) open: Instant,
    /// What is planned from here on is measured.
    pub(crate) measure: Instant,
    pub(crate) close: Instant,
}

impl Hours {
    /// Does a sale that is decided now belong to the rate of the measured time? By a plan, if it was planned in it and is decided before its
    /// end; without one, what a second has is what is answered in it, whenever it was begun.
    fn in_time(&self, by_plan: bool, planned: Instant, now: Instant) -> bool {
        let counts_from = if by_plan { planned } else { now };
        counts_from >= self.measure && now < self.close
    }
}

/// Where a till's sales come from.
pub(crate) enum Work {
    /// The pacer says when one is due.
    Due(mpsc::UnboundedReceiver<Instant>),
    /// So many are kept in flight.
    Loops(usize),
}

/// A sale that is on its way.
#[derive(Debug, Clone, Copy)]
struct Flight {
    sale: usize,
    planned: Instant,
    /// The first time it was asked.
    sent: Instant,
    /// The last time it was asked.
    asked: Instant,
    tries: u32,
    /// The second of two that ask for the same: it must be answered like the first, and is not counted.
    repeat: bool,
}

/// Sales on their way, by their tags. Each is begun behind all others and most are answered in that order, so a line of them is enough, and
/// one that is alone in it is in one place.
#[derive(Debug, Default)]
struct Flights(VecDeque<(u64, Flight)>);

impl Flights {
    /// `tag` is above every other.
    fn add(&mut self, tag: u64, flight: Flight) {
        self.0.push_back((tag, flight));
    }

    fn find(&self, tag: u64) -> Option<usize> {
        self.0.binary_search_by_key(&tag, |(tag, _)| *tag).ok()
    }

    fn get_mut(&mut self, tag: u64) -> Option<&mut Flight> {
        let at = self.find(tag)?;
        self.0.get_mut(at).map(|(_, flight)| flight)
    }

    fn remove(&mut self, tag: u64) -> Option<Flight> {
        let at = self.find(tag)?;
        self.0.remove(at).map(|(_, flight)| flight)
    }
}

pub(crate) struct Till {
    pub(crate) number: usize,
    asker: Asker,
    listener: Listener,
    log: Log,
    chooser: Chooser,
    cards: Arc<[CardNumber]>,
    board: Arc<Board>,
    flights: Flights,
    next_tag: u64,
    /// When to ask again for what, in order.
    again: BTreeSet<(Instant, u64)>,
    resend: f64,
    hours: Hours,
    /// Is it told when a sale is due?
    planned: bool,
    /// Sales that were due within the measured time and were begun, and how many of them late.
    begun: u64,
    begun_late: u64,
    /// Since when not everything is sent.
    sends_since: Option<Instant>,
    /// When its server or its connection kept it from beginning anything, in order.
    kept: VecDeque<(Instant, Instant)>,
    rare: Box<Rare>,
}

/// What few sales need, apart from what each of them touches.
struct Rare {
    dialer: Dialer,
    server: SocketAddr,
    bundle: Bundle,
    /// When the connection is next to be lost on purpose.
    breaks: Option<(Duration, Instant)>,
}

/// What a till is to do.
pub(crate) struct Brief<'a> {
    pub(crate) number: usize,
    pub(crate) plan: &'a Plan,
    pub(crate) chooser: Chooser,
    pub(crate) cards: Arc<[CardNumber]>,
    pub(crate) board: Arc<Board>,
}

impl Till {
    pub(crate) async fn connect(
        dialer: &Dialer,
        server: SocketAddr,
        bundle: Bundle,
        brief: Brief<'_>,
    ) -> Result<Till, ClientError> {
        let Brief { number, plan, chooser, cards, board } = brief;
        let (asker, listener, welcome) = come_in(dialer, server, &bundle, plan, &board).await?;
        let log = Log {
            caller: welcome.caller,
            // Above every number an earlier run of the same till can have used.
            first: numbers::first(welcome.now).0,
            sales: Vec::new(),
            contradictions: Vec::new(),
            gone: false,
        };
        let now = Instant::now();
        Ok(Till {
            number,
            asker,
            listener,
            log,
            chooser,
            cards,
            board,
            flights: Flights::default(),
            next_tag: 0,
            again: BTreeSet::new(),
            resend: plan.resend,
            hours: Hours { open: now, measure: now, close: now },
            planned: false,
            begun: 0,
            begun_late: 0,
            sends_since: None,
            kept: VecDeque::new(),
            rare: Box::new(Rare {
                dialer: dialer.clone(),
                server,
                bundle,
                breaks: plan.break_every.map(|every| (every, now + every)),
            }),
        })
    }

    /// Room for about so many sales.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is not negative, and it need not be exact"
    )]
    pub(crate) fn make_room(&mut self, sales: f64) {
        /// More than any till has sold in a run.
        const MOST: f64 = 1e6;
        self.log.sales.reserve(sales.min(MOST) as usize + 1);
    }

    /// Sells until there is no more work and everything is answered or given up, or nobody is there who would sell.
    pub(crate) async fn sell(mut self, mut work: Work, hours: Hours, stop: watch::Receiver<bool>) -> Log {
        self.hours = hours;
        self.planned = matches!(work, Work::Due(_));
        if let Some((every, next)) = &mut self.rare.breaks {
            // Not all of them in the same moment.
            *next = hours.open + every.mul_f64(self.chooser.random());
        }
        tokio::time::sleep_until(hours.open).await;
        let (mut due, mut answers) = (Vec::new(), Vec::new());
        let mut stopped = *stop.borrow();
        let mut no_more = false;
        let mut now = Instant::now();
        // One timer for all the time: setting it for every answer would cost more than the answer.
        let alarm = tokio::time::sleep_until(self.next_wake());
        tokio::pin!(alarm);
        loop {
            if self.log.gone {
                return self.go_home();
            }
            // Who looks whether there is news writes nothing; who borrows writes what all tills look at.
            stopped = stopped || (stop.has_changed().unwrap_or(true) && *stop.borrow());
            if let Work::Loops(most) = work {
                no_more = now >= hours.close || stopped;
                while !no_more && self.flights.0.len() < most {
                    no_more = !self.begin(now, now);
                }
            }
            if no_more && self.flights.0.is_empty() {
                self.asker.close();
                return self.go_home();
            }
            let mut sends = self.asker.has_unsent();
            if sends {
                // Nearly always there is room for all of it.
                match self.send_now().await {
                    Some(Ok(())) => {
                        self.all_sent();
                        sends = false;
                    }
                    Some(Err(error)) => {
                        self.come_back(Some(error)).await;
                        now = Instant::now();
                        continue;
                    }
                    None => drop(self.sends_since.get_or_insert_with(Instant::now)),
                }
            }
            if self.again.first().is_some_and(|(at, _)| *at < alarm.deadline()) {
                alarm.as_mut().reset(self.next_wake());
            }
            // In this order: nothing is begun before all that was begun is sent. What comes is heard even then: a server whose answers
            // nobody takes, takes nothing itself.
            now = tokio::select! {
                biased;
                sent = self.asker.send(), if sends => {
                    match sent {
                        Ok(()) => self.all_sent(),
                        Err(error) => self.come_back(Some(error)).await,
                    }
                    Instant::now()
                }
                heard = self.listener.hear(&mut answers) => {
                    let now = Instant::now();
                    match heard {
                        Ok(()) => {
                            self.take(&mut answers, now);
                            // Answers that never end do not keep the rest from being looked after.
                            if now < alarm.deadline() {
                                now
                            } else {
                                self.after_a_while().await;
                                alarm.as_mut().reset(self.next_wake());
                                Instant::now()
                            }
                        }
                        Err(error) => {
                            self.come_back(Some(error)).await;
                            Instant::now()
                        }
                    }
                }
                () = &mut alarm => {
                    self.after_a_while().await;
                    alarm.as_mut().reset(self.next_wake());
                    Instant::now()
                }
                many = next_due(&mut work, &mut due), if !no_more && !sends => {
                    let now = Instant::now();
                    no_more = many == 0 || *stop.borrow();
                    if no_more {
                        due.clear();
                    }
                    let waits = |planned: &Instant| now.saturating_duration_since(*planned);
                    for planned in due.drain(..).filter(|planned| waits(planned) < WORTH_BEGINNING) {
                        no_more |= !self.begin(planned, now);
                    }
                    now
                }
            };
        }
    }

    /// Sends what there is room for now; nothing if that is not all of it.
    async fn send_now(&mut self) -> Option<Result<(), ClientError>> {
        tokio::select! {
            biased;
            sent = self.asker.send() => Some(sent),
            () = std::future::ready(()) => None,
        }
    }

    fn all_sent(&mut self) {
        if let Some(since) = self.sends_since.take()
            && since.elapsed() > NOTICED
        {
            // The server took no more for a while.
            self.kept.push_back((since, Instant::now()));
        }
    }

    /// Counts what is counted once, and gives back what it was told.
    fn go_home(self) -> Log {
        let mut seat = self.board.seat();
        seat.of(true).begun += self.begun;
        seat.of(true).begun_late += self.begun_late;
        drop(seat);
        self.log
    }

    /// Does what happens now belong to the measured time?
    fn measures(&self) -> bool {
        Instant::now() >= self.hours.measure
    }

    /// Begins a sale; false if nobody can buy.
    fn begin(&mut self, planned: Instant, now: Instant) -> bool {
        let Some((card, amount)) = self.chooser.next(&self.cards) else { return false };
        if planned >= self.hours.measure {
            self.begun += 1;
            // Whose connection was away is late through no fault of the tester's; the sale's latency has it.
            let kept = kept_since(planned, &mut self.kept);
            self.begun_late += u64::from(now.saturating_duration_since(planned).saturating_sub(kept) > LATE);
        }
        self.log.sales.push(Sale { card, amount, told: Told::Nothing });
        let sale = self.log.sales.len() - 1;
        let twice = self.resend > 0.0 && self.chooser.random() < self.resend;
        for repeat in [false, true].into_iter().take(1 + usize::from(twice)) {
            let tag = self.next_tag;
            self.next_tag += 1;
            self.flights.add(tag, Flight { sale, planned, sent: now, asked: now, tries: 0, repeat });
            self.ask(tag, sale);
        }
        true
    }

    fn ask(&mut self, tag: u64, sale: usize) {
        let Some(Sale { card, amount, .. }) = self.log.sales.get(sale).copied() else { return };
        let asked = Command::Purchase { card, amount }.into();
        self.asker.ask(tag, &Request::Command { sequence: Sequence(self.log.first + sale as u64), asked });
    }

    fn take(&mut self, answers: &mut Vec<(u64, Response)>, now: Instant) {
        let measure = self.hours.measure;
        let mut seat = self.board.seat();
        for (tag, response) in answers.drain(..) {
            let Response::Outcome(outcome) = response else { continue };
            match outcome {
                Outcome::Approved(_) | Outcome::Rejected(_) => {
                    let Some(flight) = self.flights.remove(tag) else { continue };
                    let told = match outcome {
                        Outcome::Approved(receipt) => Told::Approved(receipt.lsn),
                        Outcome::Rejected(_)
                        | Outcome::View(_)
                        | Outcome::Busy
                        | Outcome::OutOfSpace
                        | Outcome::Unavailable => Told::Refused,
                    };
                    let alike = self.log.sales.get_mut(flight.sale).is_none_or(|sale| sale.tell(told));
                    if !alike {
                        self.log.contradictions.push(self.log.first + flight.sale as u64);
                    }
                    if flight.repeat {
                        seat.of(flight.planned >= measure).repeated += u64::from(alike);
                    } else {
                        let (latency, raw) = (now - flight.planned, now - flight.sent);
                        let stats = seat.of(flight.planned >= measure);
                        stats.decided(&outcome, latency, raw, self.board.last_slow.disturbs(flight.planned, now));
                        seat.of(true).in_time += u64::from(self.hours.in_time(self.planned, flight.planned, now));
                    }
                }
                Outcome::Busy | Outcome::OutOfSpace | Outcome::Unavailable | Outcome::View(_) => {
                    let Some(flight) = self.flights.get_mut(tag) else { continue };
                    flight.tries += 1;
                    let Flight { planned, tries, repeat, .. } = *flight;
                    if tries > TRIES {
                        self.flights.remove(tag);
                        // The second of two is no sale of its own.
                        if !repeat {
                            seat.of(planned >= measure).abandoned(now - planned);
                        }
                    } else {
                        seat.of(planned >= measure).resent += 1;
                        // Waited for from then on.
                        flight.asked = now + pause(tries);
                        self.again.insert((flight.asked, tag));
                    }
                }
            }
        }
    }

    /// When there will be something to do even if nothing comes.
    fn next_wake(&self) -> Instant {
        let again = self.again.first().map(|(at, _)| *at);
        let breaks = self.rare.breaks.map(|(_, at)| at);
        let latest = Instant::now() + LOOK_AFTER;
        again.into_iter().chain(breaks).fold(latest, Instant::min)
    }

    async fn after_a_while(&mut self) {
        let now = Instant::now();
        if let Some((every, next)) = &mut self.rare.breaks
            && *next <= now
        {
            *next = now + *every;
            self.asker.close();
            self.board.seat().of(now >= self.hours.measure).broken += 1;
            return self.come_back(None).await;
        }
        while let Some((at, tag)) = self.again.first().copied()
            && at <= now
        {
            self.again.pop_first();
            if let Some(flight) = self.flights.get_mut(tag) {
                flight.asked = now;
                let sale = flight.sale;
                self.ask(tag, sale);
            }
        }
        if self.flights.0.iter().any(|(_, flight)| now.saturating_duration_since(flight.asked) > ANSWER_WITHIN) {
            self.come_back(Some(ClientError::TimedOut)).await;
        }
    }

    /// Connects again and asks again for everything that is open; if it cannot in time, that is given up, and so is the till.
    async fn come_back(&mut self, error: Option<ClientError>) {
        let begin = Instant::now();
        let kept = self.sends_since.take().unwrap_or(begin);
        let mut error = error;
        loop {
            if let Some(error) = error.take() {
                let mut seat = self.board.seat();
                *seat.of(self.measures()).errors.entry(error.to_string()).or_default() += 1;
            }
            match self.rare.dialer.converse(self.rare.server, &self.rare.bundle).await {
                Ok((asker, listener, _)) => {
                    (self.asker, self.listener) = (asker, listener);
                    break;
                }
                Err(last) if last.is_final() || begin.elapsed() > BACK_WITHIN => {
                    let mut seat = self.board.seat();
                    for (_, flight) in self.flights.0.drain(..).filter(|(_, flight)| !flight.repeat) {
                        seat.of(flight.planned >= self.hours.measure).abandoned(flight.planned.elapsed());
                    }
                    let what = if last.is_final() {
                        format!("a till sells no more: {last}")
                    } else {
                        format!("a till tried for {BACK_WITHIN:?} to come back and sells no more")
                    };
                    *seat.of(self.measures()).errors.entry(what).or_default() += 1;
                    self.log.gone = true;
                    return;
                }
                Err(again) => error = Some(again),
            }
            tokio::time::sleep(PAUSE).await;
        }
        let back = Instant::now();
        self.kept.push_back((kept, back));
        self.again.clear();
        let mut open = Vec::with_capacity(self.flights.0.len());
        let mut seat = self.board.seat();
        for (tag, flight) in &mut self.flights.0 {
            flight.asked = back;
            seat.of(flight.planned >= self.hours.measure).resent += 1;
            open.push((*tag, flight.sale));
        }
        drop(seat);
        for (tag, sale) in open {
            self.ask(tag, sale);
        }
    }
}

/// How much of the time since then a till was kept from beginning anything. Asked for later and later moments; what was over before is forgotten.
fn kept_since(planned: Instant, kept: &mut VecDeque<(Instant, Instant)>) -> Duration {
    while kept.pop_front_if(|(_, until)| *until <= planned).is_some() {}
    kept.iter().map(|(from, until)| until.saturating_duration_since(planned.max(*from))).sum()
}

/// How long to wait before asking for the `tries`th time again: longer each time, and not the same for all, so that those who were turned away
/// together do not come back together.
fn pause(tries: u32) -> Duration {
    let longest = PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// The sales that are due by now; waits for the first. None when the pacer has ended.
async fn next_due(work: &mut Work, due: &mut Vec<Instant>) -> usize {
    match work {
        Work::Due(receiver) => receiver.recv_many(due, 256).await,
        Work::Loops(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_till_is_not_late_with_what_it_was_kept_from() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut kept = VecDeque::from([(at(0), at(100)), (at(150), at(180))]);
        for (planned, since) in [(0, 130), (50, 80), (120, 30), (160, 20), (180, 0), (200, 0)] {
            assert_eq!(kept_since(at(planned), &mut kept), Duration::from_millis(since), "{planned} ms");
        }
        assert!(kept.is_empty());
    }

    #[test]
    fn a_rate_is_of_what_was_planned_or_without_a_plan_of_what_was_answered() {
        let open = Instant::now();
        let at = |millis| open + Duration::from_millis(millis);
        let hours = Hours { open, measure: at(100), close: at(200) };
        for (planned, decided, by_plan, without) in
            [(0, 99, false, false), (99, 100, false, true), (100, 199, true, true), (199, 200, false, false)]
        {
            let in_time = |plan| hours.in_time(plan, at(planned), at(decided));
            assert_eq!((in_time(true), in_time(false)), (by_plan, without), "{planned} to {decided} ms");
        }
    }

    #[test]
    fn who_is_turned_away_comes_back_later_each_time() {
        let within = |tries, from, to| {
            let pauses: Vec<Duration> = (0..200).map(|_| pause(tries)).collect();
            let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
            assert!(*least >= Duration::from_millis(from) && *most <= Duration::from_millis(to), "{least:?} {most:?}");
            assert!(least < most);
        };
        within(1, 10, 20);
        within(2, 20, 40);
        within(4, 80, 160);
        within(7, 500, 1_000);
        within(TRIES, 500, 1_000);
    }
}
