//! `frokost backup`: has the running server copy everything, or does it itself where none runs.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use frokost_engine::journal::JournalError;
use frokost_engine::{Lsn, Record, Role};
use frokost_net::Client;
use indicatif::{ProgressBar, ProgressStyle};

use crate::backup;
use crate::cli::FolderArgs;
use crate::data_folder::DataFolder;
use crate::node::loopback_of;
use crate::say::say;
use crate::settings::Settings;
use crate::store::Store;

const ASKS_EVERY: Duration = Duration::from_millis(200);

pub(crate) async fn run(args: FolderArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(&args.settings, &[])?;
    let folder = DataFolder::existing(&settings.data)?;
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} records {eta}").context("the bar's template")?;
    let bar = ProgressBar::new(0).with_style(style);
    let name = match Store::open(&folder, &settings) {
        Ok(store) => {
            let records = folder.records()?;
            bar.set_length(store.head.0);
            let source = |from: Lsn| store.history(from).take(512).collect::<Result<Vec<Record>, JournalError>>();
            backup::make(&folder, &records, store.head, &source, store.room.as_ref(), &|done| bar.set_position(done))?
        }
        Err(JournalError::InUse) => by_the_server(&folder, &settings, &bar).await?,
        Err(error) => return Err(error).with_context(|| format!("{}", folder.path().display())),
    };
    bar.finish_and_clear();
    let path = folder.path().join("backups").join(&name);
    let head = backup::check(&path)?.head;
    say!("{}: everything up to LSN {head}, checked", path.display());
    say!(
        "keep {} apart from it: without that key nobody can read CPR numbers, and it is not in the backup",
        settings.key_file().display()
    );
    Ok(ExitCode::SUCCESS)
}

async fn by_the_server(folder: &DataFolder, settings: &Settings, bar: &ProgressBar) -> anyhow::Result<String> {
    let bundle = folder.own_bundle(&folder.authority()?, "operator", Role::Operator)?;
    let address = folder.serving_at().unwrap_or(loopback_of(settings.tills.listen));
    let (client, _) = Client::connect(address, &bundle).await?;
    let name = loop {
        let progress = client.backup().await?;
        bar.set_length(progress.all);
        bar.set_position(progress.done);
        if !progress.error.is_empty() {
            bail!("the server could not make it: {}", progress.error);
        }
        if !progress.name.is_empty() {
            break progress.name;
        }
        tokio::time::sleep(ASKS_EVERY).await;
    };
    client.close().await;
    Ok(name)
}
