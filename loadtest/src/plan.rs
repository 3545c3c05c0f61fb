//! What a run is to do: how many tills, how fast, for how long, with which cards. The same seed makes the same plan.

use std::time::Duration;

use frokost_engine::{Amount, CardNumber};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::Zipf;

/// How sales are spread over time.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Open model: sales happen when they are due, whether or not earlier ones are answered, as pupils do.
    Open {
        /// One after the other.
        stages: Vec<Stage>,
    },
    /// Closed loop: every till keeps this many sales in flight, and sends the next when one is answered.
    Closed {
        /// In flight on each till.
        in_flight: usize,
        /// How long.
        duration: Duration,
    },
}

/// A part of an open run: so many sales per second, all tills together, rising or falling evenly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stage {
    /// How long.
    pub duration: Duration,
    /// Sales per second at its beginning.
    pub from: f64,
    /// And at its end.
    pub to: f64,
}

impl Shape {
    /// The same rate all the time.
    #[must_use]
    pub fn steady(rate: f64, duration: Duration) -> Shape {
        Shape::Open { stages: vec![Stage { duration, from: rate, to: rate }] }
    }

    /// How long it lasts.
    #[must_use]
    pub fn duration(&self) -> Duration {
        match self {
            Shape::Open { stages } => stages.iter().map(|stage| stage.duration).sum(),
            Shape::Closed { duration, .. } => *duration,
        }
    }

    /// The same, ended after so long.
    #[must_use]
    pub fn cut(self, after: Duration) -> Shape {
        match self {
            Shape::Closed { in_flight, duration } => Shape::Closed { in_flight, duration: duration.min(after) },
            Shape::Open { stages } => {
                let mut left = after;
                let mut kept = Vec::new();
                for stage in stages.into_iter().filter(|stage| !stage.duration.is_zero()) {
                    if left.is_zero() {
                        break;
                    }
                    let duration = stage.duration.min(left);
                    let to = stage.from + (stage.to - stage.from) * duration.div_duration_f64(stage.duration);
                    kept.push(Stage { duration, to, ..stage });
                    left -= duration;
                }
                Shape::Open { stages: kept }
            }
        }
    }

    /// The stages with the warm-up before them, at the mean rate of the first. None of a closed loop.
    #[must_use]
    pub fn with_warm_up(&self, warm_up: Duration) -> Vec<Stage> {
        let Shape::Open { stages } = self else { return Vec::new() };
        let warming = stages.first().map(|stage| {
            let rate = f64::midpoint(stage.from, stage.to);
            Stage { duration: warm_up, from: rate, to: rate }
        });
        warming.into_iter().filter(|stage| !stage.duration.is_zero()).chain(stages.iter().copied()).collect()
    }
}

/// How many sales are due within the first so many of stages.
#[must_use]
pub fn due_until(stages: &[Stage], until: Duration) -> f64 {
    let mut left = until;
    let mut due = 0.0;
    for stage in stages {
        let within = stage.duration.min(left);
        let seconds = within.as_secs_f64();
        let slope = (stage.to - stage.from) / stage.duration.as_secs_f64().max(f64::MIN_POSITIVE);
        due += stage.from * seconds + slope * seconds * seconds / 2.0;
        left -= within;
    }
    due
}

/// When sales are due, from the beginning on.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    stages: std::vec::IntoIter<Stage>,
    now: Option<Stage>,
    /// When the present stage began, in seconds.
    begun: f64,
    /// Sales of the present stage so far; the first of it may be due a fraction of a sale after its beginning.
    sales: f64,
}

impl Schedule {
    pub(crate) fn new(stages: Vec<Stage>) -> Schedule {
        let mut stages = stages.into_iter();
        let now = stages.next();
        Schedule { stages, now, begun: 0.0, sales: 0.0 }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        loop {
            let stage = self.now?;
            let seconds = stage.duration.as_secs_f64();
            let whole = (stage.from + stage.to) / 2.0 * seconds;
            if self.sales < whole {
                let at = stage.due(self.sales);
                self.sales += 1.0;
                return Some(Duration::from_secs_f64(self.begun + at));
            }
            self.sales -= whole;
            self.begun += seconds;
            self.now = self.stages.next();
        }
    }
}

impl Stage {
    /// When the `n`-th sale of it is due, in seconds from its beginning: until t there are `from * t + slope * t^2 / 2`.
    fn due(&self, n: f64) -> f64 {
        let slope = (self.to - self.from) / self.duration.as_secs_f64();
        if slope.abs() < 1e-9 {
            // Next to nothing is due, and that at the end.
            return if self.from > 0.0 { n / self.from } else { self.duration.as_secs_f64() };
        }
        (-self.from + (self.from * self.from + 2.0 * slope * n).max(0.0).sqrt()) / slope
    }
}

/// Which cards buy how often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cards {
    /// All alike.
    Uniform,
    /// The n-th card buys 1/n^exponent as often as the first.
    Zipf {
        /// 0 is uniform, 1 the usual choice.
        exponent: f64,
    },
    /// All sales are one card's.
    One,
}

/// A run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it is called.
    pub name: String,
    /// How sales are spread over time.
    pub shape: Shape,
    /// How long it runs before it is measured.
    pub warm_up: Duration,
    /// Which cards buy how often.
    pub cards: Cards,
    /// The least and the most a sale costs.
    pub price: (Amount, Amount),
    /// How likely a sale is to be asked for twice, 0 to 1.
    pub resend: f64,
    /// How often every till loses its connection.
    pub break_every: Option<Duration>,
    /// What share of the tills' packets is lost on the way, there and back, 0 to 1.
    pub loss: f64,
    /// Who looks at accounts meanwhile.
    pub readers: Option<Readers>,
    /// What share of the accounts is blocked while the run lasts, 0 to 1.
    pub blocked: f64,
    /// So many UDP sockets the tills share, at most one each.
    pub sockets: u32,
    /// Makes the choices.
    pub seed: u64,
}

/// Parents who look at an account's balance and statement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Readers {
    /// How many.
    pub count: u32,
    /// How often each of them looks.
    pub every: Duration,
}

impl Plan {
    /// Sales of one to five øre with cards chosen alike, and nothing out of the ordinary.
    #[must_use]
    pub fn new(name: impl Into<String>, shape: Shape) -> Plan {
        Plan {
            name: name.into(),
            shape,
            warm_up: Duration::ZERO,
            cards: Cards::Uniform,
            price: (Amount::from_ore(1), Amount::from_ore(5)),
            resend: 0.0,
            break_every: None,
            loss: 0.0,
            readers: None,
            blocked: 0.0,
            sockets: 1,
            seed: 1,
        }
    }
}

/// Chooses cards and prices for one till.
pub(crate) struct Chooser {
    random: SmallRng,
    ranks: Ranks,
    price: (Amount, Amount),
}

/// Which of the cards.
enum Ranks {
    Any,
    First,
    /// Drawn without a table: looking through the sums of a million weights would cost the tester more than a sale's answer.
    Zipf(Zipf<f64>),
}

impl Chooser {
    /// For one till, and so many cards.
    #[expect(clippy::cast_precision_loss, reason = "a million cards are far below 2^52")]
    pub(crate) fn new(plan: &Plan, till: u64, cards: usize) -> Chooser {
        let random = SmallRng::seed_from_u64(plan.seed.wrapping_mul(1_000_003).wrapping_add(till));
        let ranks = match plan.cards {
            Cards::Uniform => Ranks::Any,
            Cards::One => Ranks::First,
            // Exponents below zero are refused where a scenario is read.
            Cards::Zipf { exponent } => Zipf::new(cards.max(1) as f64, exponent).map_or(Ranks::Any, Ranks::Zipf),
        };
        Chooser { random, ranks, price: plan.price }
    }

    /// The next sale.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank is from one to the number of cards"
    )]
    pub(crate) fn next(&mut self, cards: &[CardNumber]) -> Option<(CardNumber, Amount)> {
        let index = match &self.ranks {
            Ranks::Any => self.random.random_range(..cards.len().max(1)),
            Ranks::First => 0,
            Ranks::Zipf(zipf) => (self.random.sample(zipf) as usize).clamp(1, cards.len().max(1)) - 1,
        };
        let price = self.random.random_range(self.price.0.ore()..=self.price.1.ore());
        Some((*cards.get(index)?, Amount::from_ore(price)))
    }

    /// A number from 0 to 1.
    pub(crate) fn random(&mut self) -> f64 {
        self.random.random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(cards: Cards) -> Plan {
        let shape = Shape::Closed { in_flight: 1, duration: Duration::from_secs(1) };
        Plan { cards, price: (Amount::from_kroner(10), Amount::from_kroner(40)), seed: 7, ..Plan::new("test", shape) }
    }

    fn counts(cards: Cards) -> Vec<usize> {
        let numbers: Vec<CardNumber> = (0..100).map(|n| format!("{n:014}").parse().unwrap()).collect();
        let mut chooser = Chooser::new(&plan(cards), 0, numbers.len());
        let mut counts = vec![0; numbers.len()];
        for _ in 0..20_000 {
            let (card, price) = chooser.next(&numbers).unwrap();
            assert!((10_00..=40_00).contains(&price.ore()));
            counts[card.as_str().parse::<usize>().unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn zipf_prefers_the_first_and_uniform_none() {
        let uniform = counts(Cards::Uniform);
        assert!(uniform.iter().all(|count| (100..320).contains(count)), "{uniform:?}");
        let zipf = counts(Cards::Zipf { exponent: 1.0 });
        // The weights of 1/n over 100 cards sum to 5.187: the first gets about 19 % of them.
        assert!((3500..4300).contains(&zipf[0]), "{}", zipf[0]);
        assert!(zipf[0] > zipf[9] * 7, "{} {}", zipf[0], zipf[9]);
        assert_eq!(counts(Cards::One)[0], 20_000);
    }

    #[test]
    fn the_same_seed_makes_the_same_plan() {
        assert_eq!(counts(Cards::Uniform), counts(Cards::Uniform));
    }

    #[test]
    fn ramps_and_bursts_are_due_when_the_rate_says_so() {
        let stage = |seconds, from, to| Stage { duration: Duration::from_secs(seconds), from, to };
        let stages = [stage(10, 0.0, 100.0), stage(5, 100.0, 100.0), stage(1, 1_000.0, 1_000.0), stage(4, 50.0, 0.0)];
        let due: Vec<f64> = Schedule::new(stages.to_vec()).map(|at| at.as_secs_f64()).collect();
        assert!(due.is_sorted());
        let between = |from: f64, to: f64| due.iter().filter(|at| (from..to).contains(*at)).count();
        // A ramp has half of what its end would have; the second half of it three quarters.
        assert!((498..=502).contains(&between(0.0, 10.0)), "{}", between(0.0, 10.0));
        assert!((373..=377).contains(&between(5.0, 10.0)), "{}", between(5.0, 10.0));
        assert!((498..=502).contains(&between(10.0, 15.0)));
        assert!((998..=1_002).contains(&between(15.0, 16.0)));
        assert!((98..=102).contains(&between(16.0, 20.1)));
        let hardly = Schedule::new(vec![stage(3_600, 0.0, 1e-6)]).collect::<Vec<_>>();
        assert_eq!(hardly, [Duration::from_secs(3_600)]);
        // What is said to be due is.
        for until in [3_u32, 10, 12, 16, 19] {
            let said = due_until(&stages, Duration::from_secs(until.into()));
            assert!((said - between(0.0, f64::from(until)) as f64).abs() < 2.0, "{until} s: {said}");
        }
    }

    #[test]
    fn a_plan_warms_up_at_the_mean_rate_of_its_first_stage_and_can_be_cut() {
        let stage = |seconds, from, to| Stage { duration: Duration::from_secs(seconds), from, to };
        let plan = Shape::Open { stages: vec![stage(10, 0.0, 100.0), stage(20, 100.0, 100.0)] };
        let warm = plan.with_warm_up(Duration::from_secs(2));
        assert_eq!(warm[0], stage(2, 50.0, 50.0));
        assert_eq!((warm.len(), plan.with_warm_up(Duration::ZERO).len()), (3, 2));
        let cut = |seconds| plan.clone().cut(Duration::from_secs(seconds));
        assert_eq!(cut(4), Shape::Open { stages: vec![stage(4, 0.0, 40.0)] });
        assert_eq!(cut(15), Shape::Open { stages: vec![stage(10, 0.0, 100.0), stage(5, 100.0, 100.0)] });
        assert_eq!((cut(30), cut(90)), (plan.clone(), plan.clone()));
        let closed = |seconds| Shape::Closed { in_flight: 3, duration: Duration::from_secs(seconds) };
        assert_eq!(
            (closed(9).cut(Duration::from_secs(2)), closed(1).cut(Duration::from_secs(2))),
            (closed(2), closed(1))
        );
    }
}
