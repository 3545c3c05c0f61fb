//! An installation in a folder of its own, and the program run on it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use frokost_persistence::affinity::Affinity;
use tempfile::TempDir;

pub const FROKOST: &str = env!("CARGO_BIN_EXE_frokost");

pub struct Installation {
    folder: TempDir,
    data: PathBuf,
    settings: Vec<(String, String)>,
}

/// What came of running the program once.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Installation {
    pub fn new() -> Installation {
        let folder = tempfile::tempdir().unwrap();
        Installation { data: folder.path().join("data"), folder, settings: Vec::new() }
    }

    /// With its data folder somewhere else.
    pub fn on(data: &Path) -> Installation {
        Installation { data: data.to_owned(), ..Installation::new() }
    }

    /// Sets a setting by its name in the environment, without `FROKOST_`.
    pub fn with(mut self, name: &str, value: &str) -> Installation {
        self.settings.push((format!("FROKOST_{name}"), value.to_owned()));
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(FROKOST);
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("FROKOST_DATA", self.data())
            .env("FROKOST_TILLS__LISTEN", "127.0.0.1:0")
            .env("FROKOST_PORTAL__LISTEN", "127.0.0.1:0")
            .env("FROKOST_PAYMENT__SANDBOX_LISTEN", "127.0.0.1:0")
            .env("FROKOST_METRICS__LISTEN", "127.0.0.1:0")
            .env_remove("FROKOST_KILLS")
            .env_remove("FROKOST_CUTS")
            .envs(self.settings.iter().cloned())
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }

    /// Gives a parent a login with [`PASSWORD`](crate::browser::PASSWORD).
    pub fn add_parent(&self, mail: &str, accounts: &str) {
        let password = self.write("password", &format!("{}\n", crate::browser::PASSWORD));
        let password = lossy(&password);
        self.must(&["parent", "add", mail, "--name", "X", "--accounts", accounts, "--password-file", password]);
    }

    /// Runs what must succeed, and returns what it printed.
    pub fn must(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "frokost {}: {ran:?}", args.join(" "));
        ran.out
    }

    /// A school with `count` pupils who have `kroner` each; pupil n has account n and card [`card`]`(n)`.
    pub fn import(&self, count: u64, kroner: u64) {
        let mut list = "name,cpr,card,balance\n".to_owned();
        for n in 1..=count {
            list.push_str(&format!("Pupil {n},{},{},{kroner}\n", cpr(n), card(n)));
        }
        let path = self.write("pupils.csv", &list);
        self.must(&["import", path.to_str().unwrap(), "--school-name", "Sct. Ib"]);
    }

    pub fn serve(&self) -> Server {
        Server::start(self.command(&["serve"]))
    }

    /// Another program that runs ours: in the same folder, with the same settings.
    pub fn other(&self, program: &str) -> Command {
        let ours = self.command(&[]);
        let mut command = Command::new(program);
        command.current_dir(self.path("")).stdin(Stdio::null());
        command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    }

    /// A server with something between it and the kernel: strace, which injects faults into its system calls.
    pub fn traced(&self, inject: &[&str]) -> Command {
        let mut command = self.other("strace");
        command.args(["-f", "-qq", "-o"]).arg(self.path("trace"));
        // Not measured: faults are counted by thread, and one that measures would have them all.
        let processors = Affinity::processors().unwrap();
        command.env("FROKOST_JOURNAL__PROCESSOR", processors.last().unwrap().to_string());
        for fault in inject {
            command.args(["-e", fault]);
        }
        command.arg(FROKOST).arg("serve");
        command
    }

    /// How many faults strace injected.
    pub fn injected(&self) -> usize {
        let trace = std::fs::read_to_string(self.path("trace")).unwrap_or_default();
        trace.matches("(INJECTED").count() + trace.matches("(DELAYED").count()
    }

    pub fn enrol(&self, name: &str) -> PathBuf {
        let bundle = self.path(&format!("{name}.pem"));
        self.must(&["till", "add", name, "--out", bundle.to_str().unwrap()]);
        bundle
    }
}

pub fn card(n: u64) -> String {
    format!("{n:014}")
}

/// A CPR number that can exist, another for every n below 10,000.
pub fn cpr(n: u64) -> String {
    format!("{:02}{:02}{:02}{:04}", n % 28 + 1, n / 28 % 12 + 1, n / 336 % 30 + 5, 5000 + n % 1000)
}

/// A running server. Killed when dropped.
pub struct Server {
    pub process: Child,
    pub tills: SocketAddr,
    pub portal: String,
    pub metrics: String,
    pub ready: String,
    /// What it has logged so far.
    pub log: Arc<Mutex<String>>,
}

impl Server {
    pub fn start(mut command: Command) -> Server {
        Server::try_start(&mut command).unwrap_or_else(|ran| panic!("the server did not start: {ran:?}"))
    }

    pub fn try_start(command: &mut Command) -> Result<Server, Ran> {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        if !ready.starts_with("ready: ") {
            return Err(process.wait_with_output().unwrap().into());
        }
        // Its log has to go somewhere, or it would stop at a full pipe.
        let stderr = process.stderr.take().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let keeping = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                keeping.lock().unwrap().push_str(&format!("{line}\n"));
                if std::env::var_os("SHOW_LOG").is_some() {
                    eprintln!("{line}");
                }
            }
        });
        let mut server = Server::ready(process, ready);
        server.log = log;
        Ok(server)
    }

    /// One that has said so, and where it listens.
    pub fn ready(process: Child, ready: String) -> Server {
        let word = |after: &str| ready.split(after).nth(1).unwrap().split([' ', ',', ';']).next().unwrap().to_owned();
        Server {
            tills: word("tills on ").parse().unwrap(),
            portal: word("portal on "),
            metrics: word("metrics on "),
            process,
            ready,
            log: Arc::default(),
        }
    }

    /// As a power switch would.
    pub fn kill(&mut self) {
        // Where strace runs it, strace's end would not be its own; and strace ends when all of it has gone, which may take a while where a thread
        // of it comes behind all others.
        let children = self.children();
        for child in &children {
            drop(Command::new("kill").args(["-KILL", child]).status());
        }
        if children.is_empty() {
            drop(self.process.kill());
        }
        self.process.wait().unwrap();
    }

    fn children(&self) -> Vec<String> {
        let pid = self.process.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().map(str::to_owned).collect()
    }

    /// What it has in memory now, in megabytes.
    pub fn resident_mb(&self) -> u64 {
        let pid = self.children().first().cloned().unwrap_or_else(|| self.process.id().to_string());
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    /// What its metrics say of `name`, with its labels; 0 where they say nothing.
    pub async fn metric(&self, name: &str) -> u64 {
        let metrics = reqwest::get(&self.metrics).await.unwrap().text().await.unwrap();
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or(0)
    }

    /// Stops it in the middle of whatever it does, or lets it go on. Stopped, no thread of it is in the kernel any more.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let stands_still = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
        };
        while frozen && !std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().all(stands_still) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// As Ctrl-C would; must end in order, and soon.
    pub fn stop(mut self) -> i32 {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        self.wait(Duration::from_secs(20)).expect("the server does not stop")
    }

    pub fn wait(&mut self, within: Duration) -> Option<i32> {
        let begin = Instant::now();
        while begin.elapsed() < within {
            if let Some(status) = self.process.try_wait().unwrap() {
                return Some(status.code().unwrap_or(-1));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// Is a program of the machine there? Says in one line if it is not.
pub fn has(program: &str, what_is_skipped: &str) -> bool {
    let there = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|p| p.join(program).is_file());
    assert!(there || std::env::var_os("CI").is_none(), "there is no {program}, and CI skips nothing");
    if !there {
        eprintln!("skipped: {what_is_skipped}; there is no {program} (scripts/test installs it)");
    }
    there
}

pub fn lossy(path: &Path) -> &str {
    path.to_str().unwrap()
}
