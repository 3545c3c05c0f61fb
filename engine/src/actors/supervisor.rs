//! The supervisor: notices an account actor that has fallen and makes its account anew from the journal, while all
//! others go on. What waited in the fallen mailbox is answered `Unavailable`, which claims nothing.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

use crate::account::Account;
use crate::actors::account::Panicked;
use crate::committer::Item;
use crate::engine::Shared;
use crate::id::AccountId;
use crate::journal::JournalError;
use crate::ledger_state::rebuild_account;

/// How long a fallen account stays closed at least.
const BEFORE_REBUILDING: Duration = Duration::from_millis(200);
/// And at most between two attempts, where files cannot be read.
const LONGEST_BETWEEN: Duration = Duration::from_secs(30);

pub(crate) struct Supervisor {
    pub(crate) shared: Arc<Shared>,
}

impl Actor for Supervisor {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<()>,
        event: SupervisionEvent,
        _state: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, error) = event {
            self.shared.pool.fallen();
            match error.downcast_ref::<Panicked>() {
                Some(Panicked(account)) => {
                    let (shared, account) = (Arc::clone(&self.shared), *account);
                    tokio::spawn(async move { rebuild(&shared, account).await });
                }
                None => tracing::error!(%error, "an account actor failed outside of a decision"),
            }
        }
        Ok(())
    }
}

async fn rebuild(shared: &Arc<Shared>, account: AccountId) {
    metrics::counter!("frokost_account_panics_total").increment(1);
    tracing::error!(%account, "the account's actor panicked; rebuilding the account from the journal");
    let Some(cell) = shared.directory.by_account(account) else { return };
    cell.fallen();
    // A command that makes it fall again and again shall not read the journal in a loop.
    tokio::time::sleep(BEFORE_REBUILDING).await;
    // Everything the fallen actor did is in the committer's queue already; after this barrier it is durable.
    let (tell, durable) = oneshot::channel();
    shared.commit(Item::Barrier(tell));
    if durable.await.is_err() {
        return;
    }
    let mut pause = BEFORE_REBUILDING;
    let replayed = loop {
        let reader = Arc::clone(&shared.reader);
        let snapshots = Arc::clone(&shared.snapshots);
        let rules = shared.rules;
        let replayed = tokio::task::spawn_blocking(move || -> Result<Box<Account>, JournalError> {
            rebuild_account(account, reader.as_ref(), snapshots.as_ref(), &rules)
        })
        .await;
        let Ok(Err(JournalError::Storage(why))) = &replayed else { break replayed };
        if shared.permits.is_closed() {
            break replayed;
        }
        // A file that cannot be opened now, since too many are open for instance, may be in a moment.
        pause = (pause * 2).min(LONGEST_BETWEEN);
        tracing::error!(%account, %why, "the account cannot be rebuilt now; it is tried again");
        tokio::time::sleep(pause).await;
    };
    match replayed {
        Ok(Ok(state)) => cell.rebuilt(state),
        Ok(Err(error)) => tracing::error!(%account, %error, "the account cannot be rebuilt and stays closed"),
        Err(error) => tracing::error!(%account, %error, "rebuilding panicked; the account stays closed"),
    }
}
