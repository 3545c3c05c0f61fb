//! A mail server of the tests' own: aiosmtpd, run by `tests/smtp/server.py`. Ended when dropped.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct MailServer {
    process: Child,
    pub port: u16,
    maildir: PathBuf,
}

impl MailServer {
    /// Nothing, and one line that says why, where there is no aiosmtpd. The first `refusals` mails are put off.
    pub fn start(maildir: &Path, port: u16, refusals: u32) -> Option<MailServer> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/smtp/server.py");
        let mut process = Command::new("/usr/bin/python3")
            .args([script, &port.to_string()])
            .arg(maildir)
            .arg(refusals.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Some(port) = line.trim().strip_prefix("listening on ") else {
            assert!(std::env::var_os("CI").is_none(), "there is no aiosmtpd, and CI skips nothing");
            eprintln!("skipped: mails to a real server; python3-aiosmtpd is not there (scripts/test installs it)");
            drop(process.wait());
            return None;
        };
        Some(MailServer { process, port: port.parse().unwrap(), maildir: maildir.to_owned() })
    }

    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Waits until there are `count` mails, and returns them, the oldest first.
    pub fn mails(&self, count: usize, within: Duration) -> Vec<String> {
        let begin = Instant::now();
        loop {
            let mut names: Vec<PathBuf> = std::fs::read_dir(self.maildir.join("new"))
                .map(|files| files.map(|file| file.unwrap().path()).collect())
                .unwrap_or_default();
            names.sort();
            if names.len() >= count || begin.elapsed() > within {
                assert!(names.len() >= count, "{} mails came, not {count}", names.len());
                return names.iter().map(|name| std::fs::read_to_string(name).unwrap()).collect();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// How the portal is told of a mail server on that port.
pub fn url(port: u16) -> String {
    format!("smtp://frokost:en%20hemmelighed@127.0.0.1:{port}")
}

impl Drop for MailServer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
