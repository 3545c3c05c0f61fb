//! What a run is to do: how many tills, how fast, for how long, with which cards. The same seed makes the same plan.

use std::time::Duration;

use frokost_engine::{Amount, CardNumber};

/// How sales are spread over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// Open model: sales happen when they are due, whether or not earlier ones are answered, as pupils do. All tills
    /// together, per second.
    Open {
        /// Sales per second.
        rate: f64,
    },
    /// Closed loop: every till keeps this many sales in flight, and sends the next when one is answered.
    Closed {
        /// In flight on each till.
        in_flight: usize,
    },
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
}

/// A run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How sales are spread over time.
    pub shape: Shape,
    /// How long it is measured.
    pub duration: Duration,
    /// How long it runs before it is measured.
    pub warm_up: Duration,
    /// Which cards buy how often.
    pub cards: Cards,
    /// The least and the most a sale costs.
    pub price: (Amount, Amount),
    /// Makes the choices.
    pub seed: u64,
}

/// Chooses cards and prices for one till.
pub(crate) struct Chooser {
    random: fastrand::Rng,
    /// For Zipf: the sum of the weights up to each card.
    weights: std::sync::Arc<[f64]>,
    price: (Amount, Amount),
}

impl Chooser {
    pub(crate) fn new(plan: &Plan, till: u64, weights: std::sync::Arc<[f64]>) -> Chooser {
        let random = fastrand::Rng::with_seed(plan.seed.wrapping_mul(1_000_003).wrapping_add(till));
        Chooser { random, weights, price: plan.price }
    }

    /// The next sale.
    pub(crate) fn next(&mut self, cards: &[CardNumber]) -> Option<(CardNumber, Amount)> {
        let index = match self.weights.last() {
            Some(total) => {
                let point = self.random.f64() * total;
                self.weights.partition_point(|sum| *sum <= point).min(cards.len().saturating_sub(1))
            }
            None => self.random.usize(..cards.len().max(1)),
        };
        let price = self.random.i64(self.price.0.ore()..=self.price.1.ore());
        Some((*cards.get(index)?, Amount::from_ore(price)))
    }
}

/// The running sums of Zipf's weights; empty for uniform.
#[expect(clippy::cast_precision_loss, reason = "a million cards are far below 2^52")]
pub(crate) fn weights(cards: Cards, count: usize) -> std::sync::Arc<[f64]> {
    match cards {
        Cards::Uniform => std::sync::Arc::from([]),
        Cards::Zipf { exponent } => {
            let mut sum = 0.0;
            (1..=count)
                .map(|rank| {
                    sum += 1.0 / (rank as f64).powf(exponent);
                    sum
                })
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(cards: Cards) -> Plan {
        Plan {
            shape: Shape::Closed { in_flight: 1 },
            duration: Duration::from_secs(1),
            warm_up: Duration::ZERO,
            cards,
            price: (Amount::from_kroner(10), Amount::from_kroner(40)),
            seed: 7,
        }
    }

    fn counts(cards: Cards) -> Vec<usize> {
        let numbers: Vec<CardNumber> = (0..100).map(|n| format!("{n:014}").parse().unwrap()).collect();
        let mut chooser = Chooser::new(&plan(cards), 0, weights(cards, numbers.len()));
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
    }

    #[test]
    fn the_same_seed_makes_the_same_plan() {
        assert_eq!(counts(Cards::Uniform), counts(Cards::Uniform));
    }
}
