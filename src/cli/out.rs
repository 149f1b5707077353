//! Lines onto stdout. A closed pipe (`| head`) is the reader's choice: nothing more is wanted, and that is no failure.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// Prints a line; see [`say!`].
pub(super) fn line(text: Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_fmt(text).and_then(|()| out.write_all(b"\n"))
        && error.kind() == ErrorKind::BrokenPipe
    {
        std::process::exit(0);
    }
}

/// `println!` for commands whose output may be cut short.
macro_rules! say {
    () => { $crate::cli::out::line(format_args!("")) };
    ($($text:tt)*) => { $crate::cli::out::line(format_args!($($text)*)) };
}

pub(super) use say;
