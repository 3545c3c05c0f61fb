//! `frokost card`: issue one, or see what one leads to.

use std::process::ExitCode;

use frokost_engine::Command;

use crate::cli::{CardArgs, CardVerb};
use crate::commands::account::show;
use crate::operator::Operator;
use crate::say::say;
use crate::settings::Settings;

pub(crate) async fn run(args: CardArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(&args.settings, &[])?;
    let operator = Operator::connect(&settings).await?;
    let done = act(&operator, args.verb, settings.portal.card_length).await;
    operator.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn act(operator: &Operator, verb: CardVerb, card_length: usize) -> anyhow::Result<()> {
    match verb {
        CardVerb::Issue { account, card } => {
            anyhow::ensure!(
                card.as_str().len() == card_length,
                "the card number {card} has {} characters, not {card_length} (portal.card_length)",
                card.as_str().len()
            );
            let account = operator.account(&account).await?.account;
            operator.must(Command::BindCard { account, card }).await?;
            say!("card {card} belongs to account {account}; an earlier card is dead from the next scan on");
        }
        CardVerb::Show { card } => show(&operator.account_of(card).await?),
    }
    Ok(())
}
