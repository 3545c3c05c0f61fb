//! An installation in a folder of its own, and the program run on it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub const FROKOST: &str = env!("CARGO_BIN_EXE_frokost");

pub struct Installation {
    folder: TempDir,
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
        Installation { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
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
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
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
    pub ready: String,
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
        let word = |after: &str| ready.split(after).nth(1).unwrap().split([' ', ',', ';']).next().unwrap().to_owned();
        // Its log has to go somewhere, or it would stop at a full pipe.
        let log = process.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                if std::env::var_os("SHOW_LOG").is_some() {
                    eprintln!("{line}");
                }
            }
        });
        Ok(Server { tills: word("tills on ").parse().unwrap(), portal: word("portal on "), process, ready })
    }

    /// As a power switch would.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
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
        drop(self.process.kill());
        drop(self.process.wait());
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
