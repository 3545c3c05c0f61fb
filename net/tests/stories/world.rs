//! A server on a loopback port, with an engine in memory behind it and one account with money.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use frokost_engine::command::Source;
use frokost_engine::memory_journal::MemoryJournal;
use frokost_engine::memory_snapshots::MemorySnapshots;
use frokost_engine::memory_statements::MemoryStatements;
use frokost_engine::{
    AccountId, Amount, Caller, CallerId, CardNumber, Clock, Command, Config, Engine, OrderNumber, Ports, Role,
    SchoolId, Sequence, Timestamp,
};
use frokost_net::server::Desks;
use frokost_net::wire::response::{Found, FoundPupil, Progress};
use frokost_net::{Authority, Bundle, Server};

pub const PUPIL: AccountId = AccountId(1);
pub const SCHOOL: SchoolId = SchoolId(1);

pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap())
    }
}

pub struct World {
    pub folder: tempfile::TempDir,
    pub authority: Authority,
    pub server: Server,
}

pub fn card() -> CardNumber {
    "12345678901234".parse().unwrap()
}

impl World {
    pub async fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(folder.path()).unwrap();
        let statements = MemoryStatements::default();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ports = Ports {
            journal: Box::new(MemoryJournal::default()),
            projection: Box::new(statements.clone()),
            statements: Arc::new(statements),
            snapshots: Arc::new(MemorySnapshots::default()),
            room: Arc::new(|| true),
            clock: Arc::clone(&clock),
            on_fatal: Arc::new(|why| panic!("{why}")),
        };
        let engine = Engine::start(ports, Config::default()).await.unwrap();
        let operator = engine.caller(Caller { id: CallerId(999), role: Role::Operator, school: SchoolId(0) });
        let order = OrderNumber(1);
        let amount = Amount::from_kroner(1000);
        operator.ask(Sequence(1), Command::Open { account: PUPIL, school: SCHOOL }).await;
        operator.ask(Sequence(2), Command::BindCard { account: PUPIL, card: card() }).await;
        operator.ask(Sequence(3), Command::TopUp { account: PUPIL, order, amount, source: Source::Counter }).await;
        let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let desks = Desks {
            backups: Arc::new(Progress::default),
            pictures: Arc::new(|account| (account == PUPIL).then(|| b"a picture".to_vec())),
            pupils: Arc::new(|school, account, text| {
                if text == "slow" {
                    std::thread::sleep(std::time::Duration::from_millis(500));
                }
                let logins = format!("{school} {account} {text}");
                let pupil = FoundPupil { account: PUPIL, school: SCHOOL, name: "Søren".to_owned(), logins };
                Some(Found { more: false, pupils: vec![pupil] })
            }),
        };
        let server = Server::start(listen, &authority, engine, clock, desks).unwrap();
        World { folder, authority, server }
    }

    pub fn bundle(&self, name: &str, role: Role, school: u32) -> Bundle {
        let (_, pem) = self.authority.enrol(name, role, SchoolId(school)).unwrap();
        Bundle::from_pem(pem.as_bytes()).unwrap()
    }
}
