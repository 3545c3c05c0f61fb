//! What a run was asked to do, as it stands in its report: enough to ask for it again, and to see whether two runs can be compared.

use serde::{Deserialize, Serialize};

use crate::plan::{Cards, Plan, Shape};

/// A plan as it is written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// Closed loop: in flight on each till; `null` in the open model.
    pub in_flight: Option<usize>,
    /// Open model: one after the other.
    pub stages: Vec<AskedStage>,
    /// How long was to be measured.
    pub seconds: f64,
    /// How long it warmed up before.
    pub warm_up_s: f64,
    /// `uniform`, `one`, or `zipf` with its exponent.
    pub cards: String,
    /// The least and the most a sale costs, in øre.
    pub price_ore: [i64; 2],
    /// How likely a sale was to be asked for twice.
    pub resend: f64,
    /// Every till lost its connection so often.
    pub break_every_s: Option<f64>,
    /// What share of the packets was lost on purpose.
    #[serde(default)]
    pub loss: f64,
    /// What share of the accounts was blocked meanwhile.
    pub blocked: f64,
    /// Parents who looked on.
    pub readers: u32,
    /// How often each of them looked, in seconds.
    pub readers_every_s: Option<f64>,
}

/// So many sales a second, rising or falling evenly.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AskedStage {
    /// How long.
    pub seconds: f64,
    /// Sales a second at its beginning.
    pub from: f64,
    /// And at its end.
    pub to: f64,
}

impl From<&Plan> for Asked {
    fn from(plan: &Plan) -> Asked {
        let (in_flight, stages) = match &plan.shape {
            Shape::Closed { in_flight, .. } => (Some(*in_flight), Vec::new()),
            Shape::Open { stages } => {
                let stages = stages.iter();
                let written = stages.map(|stage| AskedStage {
                    seconds: stage.duration.as_secs_f64(),
                    from: stage.from,
                    to: stage.to,
                });
                (None, written.collect())
            }
        };
        let cards = match plan.cards {
            Cards::Uniform => "uniform".to_owned(),
            Cards::One => "one".to_owned(),
            Cards::Zipf { exponent } => format!("zipf {exponent}"),
        };
        Asked {
            in_flight,
            stages,
            seconds: plan.shape.duration().as_secs_f64(),
            warm_up_s: plan.warm_up.as_secs_f64(),
            cards,
            price_ore: [plan.price.0.ore(), plan.price.1.ore()],
            resend: plan.resend,
            break_every_s: plan.break_every.map(|every| every.as_secs_f64()),
            loss: plan.loss,
            blocked: plan.blocked,
            readers: plan.readers.map_or(0, |readers| readers.count),
            readers_every_s: plan.readers.map(|readers| readers.every.as_secs_f64()),
        }
    }
}
