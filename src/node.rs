//! A running installation: engine, till listener, portal and payment sandbox, wired together and shut down in order.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use frokost_engine::{CallerId, Clock, Config, Engine, Fatal, Ports, ReadAhead, Role, SchoolId, Timestamp};
use frokost_net::server::Desks;
use frokost_net::{Authority, Bundle, Server};
use frokost_persistence::Records;
use frokost_persistence::priority::step_back;
use frokost_portal::payment::sandbox::Sandbox;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::data_folder::{DataFolder, sealing_key};
use crate::exit;
use crate::monitoring::Monitoring;
use crate::say;
use crate::settings::Settings;
use crate::store::Store;

/// The system's clock.
pub(crate) struct SystemClock;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Clock for SystemClock {
    fn running(&self) -> Duration {
        STARTED.elapsed()
    }

    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The engine and its till listener.
pub(crate) struct Core {
    pub(crate) engine: Engine,
    pub(crate) server: Server,
    pub(crate) authority: Authority,
    pub(crate) operator: Bundle,
}

impl Core {
    /// Recovers from the journal and listens for tills on `listen`.
    pub(crate) async fn start(
        folder: &DataFolder,
        store: Store,
        listen: SocketAddr,
        desks: impl FnOnce(&Engine) -> Desks,
    ) -> anyhow::Result<Core> {
        let authority = folder.authority()?;
        let operator = folder.own_bundle(&authority, "operator", Role::Operator)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let config = Config {
            snapshot_every: store.snapshot_every,
            hung_after: store.hung_after,
            step_back: Some(Arc::new(step_back)),
            ..Config::default()
        };
        let ports = Ports {
            journal: store.journal,
            projection: Box::new(store.statements.clone()),
            statements: Arc::new(store.statements),
            snapshots: store.snapshots,
            room: store.room,
            clock: Arc::clone(&clock),
            on_fatal: Arc::new(stop_at_once),
        };
        let ahead = store.ahead.unwrap_or_else(|| ReadAhead::begin(Arc::clone(&ports.snapshots)));
        let engine = Engine::start_with(ahead, ports, config).await.context("the engine does not start")?;
        let desks = desks(&engine);
        let server = Server::start(listen, &authority, engine.clone(), clock, desks)?;
        Ok(Core { engine, server, authority, operator })
    }

    /// Lets nobody in, answers everyone inside, closes every connection.
    pub(crate) async fn shutdown(&self) {
        self.engine.shutdown().await;
        self.server.shutdown().await;
    }
}

/// The journal failed: nothing more can be promised, so nothing more is said. A restart recovers.
fn stop_at_once(why: Fatal) {
    say::last_words(format!(
        "frokost: {why}; stopping at once, nothing that was not answered counts; start again to recover"
    ));
    std::process::exit(exit::STORAGE);
}

/// Everything that serves: the core, the portal, the sandbox.
pub(crate) struct Node {
    pub(crate) core: Core,
    pub(crate) records: Records,
    pub(crate) settings: Settings,
    /// What browsers call the portal.
    pub(crate) public_url: String,
    /// Where metrics are served.
    pub(crate) metrics: SocketAddr,
    stop: watch::Sender<bool>,
    serving: Vec<JoinHandle<std::io::Result<()>>>,
}

impl Node {
    /// Starts everything. Every TCP address and every folder is tried before the first till is served.
    pub(crate) async fn start(settings: Settings) -> anyhow::Result<Node> {
        let folder = DataFolder::make(&settings.data)?;
        let portal_listener = listen(settings.portal.listen, "browsers").await?;
        let sandbox_listener = listen(settings.payment.sandbox_listen, "the payment sandbox").await?;
        let metrics_listener = listen(settings.metrics.listen, "metrics").await?;
        let store = Store::open_to_serve(&folder, &settings).with_context(|| format!("{}", folder.path().display()))?;
        let records = folder.records()?;
        let key = sealing_key(&settings, &records)?;
        let monitoring = Monitoring::begin()?;
        let pictures = folder.pictures();
        let pupils = crate::lookup::desk(records.clone(), key.clone());
        crate::backup::clear_unfinished(&folder)?;
        let room = Arc::clone(&store.room);
        let desks = |engine: &Engine| Desks {
            backups: crate::backup::desk(folder.clone(), records.clone(), engine.clone(), room),
            pictures: Arc::new(move |account| std::fs::read(frokost_portal::picture_file(&pictures, account)).ok()),
            pupils,
        };
        let core = Core::start(&folder, store, settings.tills.listen, desks).await?;

        let engine_address = loopback_of(core.server.address());
        folder.note_serving(engine_address)?;
        let public_url = match settings.portal.public_url.as_str() {
            "" => format!("http://{}", portal_listener.local_addr()?),
            url => url.to_owned(),
        };

        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let origin = match settings.payment.sandbox_url.as_str() {
            "" => format!("http://{}", sandbox_listener.local_addr()?),
            url => url.to_owned(),
        };
        let metrics = metrics_listener.local_addr()?;
        let callbacks = settings.payment.sandbox_callbacks;
        let sandbox = Sandbox::open(&folder.sandbox_book(), origin, Arc::clone(&clock), callbacks)
            .context("the payment sandbox")?;
        let setup = frokost_portal::Setup {
            records: records.clone(),
            key,
            engine: engine_address,
            bundle: folder.own_bundle(&core.authority, "portal", Role::Portal)?,
            provider: Arc::new(sandbox.clone()),
            clock,
            public_url: public_url.clone(),
            holder: frokost_portal::Holder {
                name: settings.portal.holder_name.clone(),
                cvr: settings.portal.holder_cvr.clone(),
            },
            min_top_up: settings.min_top_up(),
            identify_by: settings.portal.identify_by,
            card_length: settings.portal.card_length,
            mail: settings.mail_setup(),
            pictures: folder.pictures(),
            till_names: till_names(&folder)?,
            behind_proxy: settings.portal.behind_proxy,
        };
        let (stop, stopped) = watch::channel(false);
        let serving = vec![
            tokio::spawn(frokost_portal::serve(portal_listener, setup, told(stopped.clone()))),
            tokio::spawn(sandbox.serve(sandbox_listener, told(stopped.clone()))),
            tokio::spawn(monitoring.serve(metrics_listener, core.engine.clone(), told(stopped))),
        ];
        Ok(Node { core, records, settings, public_url, metrics, stop, serving })
    }

    /// Stops in order: browsers first, then tills, then the engine, everything durable.
    pub(crate) async fn shutdown(self) {
        self.stop.send_replace(true);
        for serving in self.serving {
            let ended = tokio::time::timeout(std::time::Duration::from_secs(5), serving).await;
            if !matches!(ended, Ok(Ok(Ok(())))) {
                tracing::warn!("a listener did not close in order");
            }
        }
        self.core.shutdown().await;
    }
}

/// What tills are called, from the list of those enrolled; read again for one that is not known yet.
fn till_names(folder: &DataFolder) -> anyhow::Result<frokost_portal::TillNames> {
    let authority = folder.authority()?;
    let known: Mutex<HashMap<CallerId, Option<(String, SchoolId)>>> = Mutex::new(HashMap::new());
    Ok(Arc::new(move |caller| {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains_key(&caller) {
            for enrolled in authority.callers().enrolled().unwrap_or_default() {
                known.insert(enrolled.caller.id, Some((enrolled.name, enrolled.caller.school)));
            }
            // Numbers are given out once: who is not in the list now is in an entry of another installation.
            known.entry(caller).or_default();
        }
        known.get(&caller).cloned().flatten()
    }))
}

async fn told(mut stopped: watch::Receiver<bool>) {
    // If nobody is left who could say stop, it has stopped.
    drop(stopped.wait_for(|stopped| *stopped).await);
}

async fn listen(address: SocketAddr, whom: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen for {whom} on {address} (TCP)"))
}

/// Where a server that listens on `address` is reached from the same machine.
pub(crate) fn loopback_of(address: SocketAddr) -> SocketAddr {
    match (address.ip().is_unspecified(), address.is_ipv4()) {
        (false, _) => address,
        (true, true) => (std::net::Ipv4Addr::LOCALHOST, address.port()).into(),
        (true, false) => (std::net::Ipv6Addr::LOCALHOST, address.port()).into(),
    }
}
