//! What is said to people on standard output and standard error. Nobody may be listening any more: a pipe whose reader has ended, a terminal that
//! was closed, a disk that is full. The standard library's own macros panic then, which in a server is a task or a thread that is gone.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

/// Why something could not be said that somebody may have wanted to keep.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// Says it on standard output. A reader who has heard enough is no failure; anything else is told of when the command is done.
pub(crate) fn out(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_fmt(text).and_then(|()| out.flush())
        && error.kind() != ErrorKind::BrokenPipe
    {
        // The first is the reason.
        let _ = FAILED.set(error);
    }
}

/// Says it on standard error, if anybody listens.
pub(crate) fn err(text: Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(text);
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
