//! Scenarios: plans in TOML files, those that come with the program and anybody's own. Every key is checked; an unknown one is refused.

use std::time::Duration;

use frokost_engine::Amount;
use serde::Deserialize;

use crate::expect::Expectation;
use crate::plan::{Cards, Plan, Readers, Shape, Stage};

/// Those that come with the program.
pub const BUILT_IN: [(&str, &str); 8] = [
    ("lunch-rush", include_str!("../scenarios/lunch-rush.toml")),
    ("steady", include_str!("../scenarios/steady.toml")),
    ("spike", include_str!("../scenarios/spike.toml")),
    ("soak", include_str!("../scenarios/soak.toml")),
    ("flaky-network", include_str!("../scenarios/flaky-network.toml")),
    ("resend-storm", include_str!("../scenarios/resend-storm.toml")),
    ("hot-card", include_str!("../scenarios/hot-card.toml")),
    ("country", include_str!("../scenarios/country.toml")),
];

/// A scenario as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// What it is for, in a line.
    pub about: String,
    /// How many tills.
    #[serde(default = "sixteen")]
    pub tills: u32,
    /// So many UDP sockets the tills share.
    #[serde(default = "one_socket")]
    sockets: u32,
    /// Makes the choices.
    #[serde(default = "one")]
    pub seed: u64,
    /// Seconds before it is measured.
    #[serde(default)]
    warm_up_s: f64,
    /// `uniform`, `one`, or `{ zipf = 1.0 }`.
    #[serde(default)]
    cards: CardsText,
    /// The least and the most a sale costs, in øre.
    #[serde(default = "some_ore")]
    price_ore: [i64; 2],
    /// How likely a sale is to be asked for twice.
    #[serde(default)]
    resend: f64,
    /// Every till loses its connection so often.
    break_every_s: Option<f64>,
    /// What share of the packets is lost, there and back.
    #[serde(default)]
    loss: f64,
    /// What share of the accounts is blocked meanwhile.
    #[serde(default)]
    blocked: f64,
    /// Parents who look at their accounts.
    readers: Option<ReadersText>,
    /// Closed loop: in flight on each till, instead of stages.
    in_flight: Option<usize>,
    /// Closed loop: how long.
    seconds: Option<f64>,
    /// Open model: one after the other.
    #[serde(default)]
    stage: Vec<StageText>,
    /// Thresholds.
    #[serde(default)]
    expect: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CardsText {
    #[default]
    Uniform,
    One,
    Zipf(f64),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct StageText {
    seconds: f64,
    /// Sales per second, at its end.
    rate: f64,
    /// Evenly from the stage before, or from nothing.
    #[serde(default)]
    ramp: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadersText {
    count: u32,
    /// How often each of them looks.
    every_s: f64,
}

fn sixteen() -> u32 {
    16
}

fn one_socket() -> u32 {
    1
}

fn one() -> u64 {
    1
}

fn some_ore() -> [i64; 2] {
    [1, 5]
}

/// Why a text is no scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAScenario(String);

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// [`NotAScenario`] that names the key and what is wrong with it.
    pub fn read(text: &str) -> Result<Scenario, NotAScenario> {
        let scenario: Scenario = toml::from_str(text).map_err(|error| NotAScenario(error.to_string()))?;
        scenario.plan(1.0).map(drop)?;
        scenario.expectations().map(drop)?;
        Ok(scenario)
    }

    /// One of those that come with the program.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Scenario> {
        BUILT_IN.iter().find(|(known, _)| *known == name).and_then(|(_, text)| Scenario::read(text).ok())
    }

    /// The plan of it, with every rate multiplied by `factor`.
    ///
    /// # Errors
    /// [`NotAScenario`] where a value is out of bounds.
    pub fn plan(&self, factor: f64) -> Result<Plan, NotAScenario> {
        let within = |key: &str, value: f64, least: f64, most: f64| {
            if value.is_finite() && (least..=most).contains(&value) {
                Ok(value)
            } else {
                Err(NotAScenario(format!("{key} is {value}; it is between {least} and {most}")))
            }
        };
        if self.in_flight.is_some() && factor.to_bits() != 1.0_f64.to_bits() {
            return Err(NotAScenario("a closed loop has no rate to be scaled".to_owned()));
        }
        let seconds =
            |key: &str, value: f64, least: f64| within(key, value, least, 604_800.0).map(Duration::from_secs_f64);
        within("tills", self.tills.into(), 1.0, 10_000.0)?;
        within("sockets", self.sockets.into(), 1.0, 10_000.0)?;
        let shape = match (self.in_flight, self.stage.is_empty()) {
            (Some(in_flight), true) => {
                let duration = self.seconds.ok_or_else(|| NotAScenario("in_flight needs seconds, too".to_owned()))?;
                if !(1..=256).contains(&in_flight) {
                    return Err(NotAScenario(format!("in_flight is {in_flight}; it is between 1 and 256")));
                }
                Shape::Closed { in_flight, duration: seconds("seconds", duration, 0.1)? }
            }
            (None, false) if self.seconds.is_none() => {
                let mut stages = Vec::new();
                let mut before = 0.0;
                for (number, stage) in (1..).zip(&self.stage) {
                    let to = within(&format!("the rate of stage {number}"), stage.rate * factor, 0.0, 10_000_000.0)?;
                    let from = if stage.ramp { before } else { to };
                    let duration = seconds(&format!("the seconds of stage {number}"), stage.seconds, 0.1)?;
                    stages.push(Stage { duration, from, to });
                    before = to;
                }
                Shape::Open { stages }
            }
            (None, false) => return Err(NotAScenario("seconds belongs to in_flight; a stage has its own".to_owned())),
            (Some(_), false) => return Err(NotAScenario("in_flight and stages exclude each other".to_owned())),
            (None, true) => return Err(NotAScenario("it has neither a [[stage]] nor in_flight".to_owned())),
        };
        let cards = match self.cards {
            CardsText::Uniform => Cards::Uniform,
            CardsText::One => Cards::One,
            CardsText::Zipf(exponent) => Cards::Zipf { exponent: within("cards.zipf", exponent, 0.0, 10.0)? },
        };
        let [least, most] = self.price_ore;
        if !(1..=most).contains(&least) {
            return Err(NotAScenario(format!("price_ore is [{least}, {most}]; write the least and then the most")));
        }
        let readers = match self.readers {
            None => None,
            Some(ReadersText { count, every_s }) => {
                within("readers.count", count.into(), 1.0, 10_000.0)?;
                Some(Readers { count, every: seconds("readers.every_s", every_s, 0.01)? })
            }
        };
        Ok(Plan {
            warm_up: seconds("warm_up_s", self.warm_up_s, 0.0)?,
            cards,
            price: (Amount::from_ore(least), Amount::from_ore(most)),
            resend: within("resend", self.resend, 0.0, 1.0)?,
            break_every: self.break_every_s.map(|every| seconds("break_every_s", every, 0.5)).transpose()?,
            // With more, hardly any till would ever be connected.
            loss: within("loss", self.loss, 0.0, 0.3)?,
            readers,
            blocked: within("blocked", self.blocked, 0.0, 1.0)?,
            sockets: self.sockets,
            seed: self.seed,
            ..Plan::new(self.name.clone(), shape)
        })
    }

    /// Its thresholds.
    ///
    /// # Errors
    /// [`NotAScenario`] naming one that is none.
    pub fn expectations(&self) -> Result<Vec<Expectation>, NotAScenario> {
        self.expect.iter().map(|text| text.parse().map_err(|error| NotAScenario(format!("{error}")))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_come_with_the_program_can_be_run() {
        for (name, text) in BUILT_IN {
            let scenario = Scenario::read(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(scenario.name, name);
            assert!(!scenario.about.is_empty() && !scenario.expectations().unwrap().is_empty(), "{name}");
            assert!(Scenario::built_in(name).is_some());
        }
        assert!(Scenario::built_in("nothing").is_none());
    }

    /// What they are for comes late in some of them, and a test that plays them all would take an hour.
    #[test]
    fn each_is_what_its_name_says() {
        let plan = |name| Scenario::built_in(name).unwrap().plan(1.0).unwrap();
        let stages = |name| match plan(name).shape {
            Shape::Open { stages } => stages,
            Shape::Closed { .. } => panic!("{name} is a closed loop"),
        };
        let [before, spike, after] = stages("spike").try_into().unwrap();
        assert_eq!((before.to * 10.0, before.to), (spike.to, after.to));
        assert!(stages("lunch-rush").iter().any(|stage| stage.from < stage.to));
        let [steady] = stages("steady").try_into().unwrap();
        assert_eq!(steady.from, steady.to);
        assert_eq!(plan("soak").shape.duration(), Duration::from_secs(3600));
        let flaky = plan("flaky-network");
        assert!(flaky.break_every.is_some() && flaky.loss > 0.0);
        assert_eq!((plan("resend-storm").resend, plan("hot-card").cards), (0.5, Cards::One));
    }

    #[test]
    fn what_is_wrong_with_one_is_named() {
        let head = "name = 'x'\nabout = 'y'\n";
        for (text, says) in [
            ("", "stage"),
            ("tils = 3\n[[stage]]\nseconds = 1\nrate = 1", "tils"),
            ("tills = 0\n[[stage]]\nseconds = 1\nrate = 1", "tills"),
            ("sockets = 0\n[[stage]]\nseconds = 1\nrate = 1", "sockets"),
            ("[[stage]]\nseconds = 1\nrate = 1\n[[stage]]\nseconds = 1\nrate = -1", "the rate of stage 2 is -1"),
            ("[[stage]]\nseconds = 0\nrate = 1", "the seconds of stage 1"),
            ("[[stage]]\nseconds = 1\nrate = nan", "the rate of stage 1"),
            ("in_flight = 4", "seconds"),
            ("in_flight = 1000\nseconds = 1", "in_flight"),
            ("in_flight = 4\nseconds = 1\n[[stage]]\nseconds = 1\nrate = 1", "exclude"),
            ("resend = 2\n[[stage]]\nseconds = 1\nrate = 1", "resend"),
            ("loss = 0.31\n[[stage]]\nseconds = 1\nrate = 1", "loss"),
            ("blocked = -1\n[[stage]]\nseconds = 1\nrate = 1", "blocked"),
            ("[readers]\ncount = 0\nevery_s = 1\n[[stage]]\nseconds = 1\nrate = 1", "readers.count"),
            ("[readers]\ncount = 1\nevery_s = 0\n[[stage]]\nseconds = 1\nrate = 1", "readers.every_s"),
            ("price_ore = [5, 1]\n[[stage]]\nseconds = 1\nrate = 1", "price_ore"),
            ("cards = 'some'\n[[stage]]\nseconds = 1\nrate = 1", "some"),
            ("expect = ['p99']\n[[stage]]\nseconds = 1\nrate = 1", "p99"),
        ] {
            let error = Scenario::read(&format!("{head}{text}")).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn rates_can_be_scaled_and_ramps_begin_where_the_stage_before_ended() {
        let text = "name = 'x'\nabout = 'y'\n[[stage]]\nseconds = 1\nrate = 100\n[[stage]]\nseconds = 2\nrate = 10\nramp = true";
        let plan = Scenario::read(text).unwrap().plan(0.5).unwrap();
        let Shape::Open { stages } = &plan.shape else { panic!() };
        assert_eq!((stages[0].from, stages[0].to, stages[1].from, stages[1].to), (50.0, 50.0, 50.0, 5.0));
        assert_eq!(plan.shape.duration(), Duration::from_secs(3));
        let closed = Scenario::read("name = 'x'\nabout = 'y'\nin_flight = 4\nseconds = 1").unwrap();
        assert!(closed.plan(1.0).is_ok());
        assert!(closed.plan(2.0).unwrap_err().to_string().contains("no rate to be scaled"));
    }
}
