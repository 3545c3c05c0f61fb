//! What is said to people on standard output and standard error. Nobody may be listening any more: a pipe whose reader has ended, a terminal that
//! was closed, a disk that is full; or be there and not read. The standard library's own macros panic then, which in a server is a task or a thread that is gone.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

/// Why something could not be said that somebody may have wanted to keep.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// Was standard output a terminal when the program began? One that was closed is none any more.
static TERMINAL: LazyLock<bool> = LazyLock::new(|| io::stdout().is_terminal());

/// Nobody waits longer than this for somebody to take the last words of a program.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// To be called before anything else is done.
pub(crate) fn begin() {
    LazyLock::force(&TERMINAL);
}

/// Says it on standard output. A reader who has heard enough is no failure, nor is a terminal that was closed; anything else is told of when the command is done.
pub(crate) fn out(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_fmt(text).and_then(|()| out.flush())
        && error.kind() != ErrorKind::BrokenPipe
        && !*TERMINAL
    {
        // The first is the reason.
        let _ = FAILED.set(error);
    }
}

/// Says it on standard error, if anybody listens.
pub(crate) fn err(text: Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(text);
}

/// Says a line on standard error before the program ends, which it does also where somebody is there and does not read.
pub(crate) fn last_words(text: String) {
    before_the_end(move || err(format_args!("{text}\n")));
}

/// Does something that may wait for somebody who does not come, in a thread of its own: that it does not hold up the end of the program.
pub(crate) fn before_the_end(last: impl FnOnce() + Send + 'static) {
    let (done, is_done) = channel();
    let thread = std::thread::Builder::new().spawn(move || {
        last();
        // Who has stopped waiting does not care.
        let _ = done.send(());
    });
    if thread.is_ok() {
        let _ = is_done.recv_timeout(LAST_WORDS);
    }
}

/// A path as it can be typed in a shell.
pub(crate) fn typed(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Why standard output has not got everything, if it has not.
pub(crate) fn failed() -> Option<&'static io::Error> {
    FAILED.get()
}

/// A line on standard output, as `println!`.
macro_rules! say {
    ($($text:tt)+) => { $crate::say::out(format_args!("{}\n", format_args!($($text)+))) };
}

/// A line on standard error, as `eprintln!`.
macro_rules! complain {
    ($($text:tt)+) => { $crate::say::err(format_args!("{}\n", format_args!($($text)+))) };
}

pub(crate) use {complain, say};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_can_be_typed_as_it_is_said() {
        for (path, said) in [
            ("/srv/frokost", "/srv/frokost"),
            ("/srv/skole 2", "'/srv/skole 2'"),
            ("it's", "'it'\\''s'"),
            ("børn", "børn"),
            ("", "''"),
        ] {
            assert_eq!(typed(Path::new(path)), said);
        }
    }
}
