//! What is printed: a terminal gets no control characters of what was read, and standard output that
//! takes nothing more gets a sentence and no panic.

use std::{
    fmt,
    io::{self, ErrorKind, IsTerminal, StdoutLock, Write},
    process,
};

use bunny_base::escape::lines_for_terminal;

/// As std's, but where nothing can be written the program ends with a sentence.
macro_rules! println {
    () => { $crate::print::text(format_args!(""), b"\n") };
    ($($text:tt)*) => { $crate::print::text(format_args!($($text)*), b"\n") };
}

/// The same without the end of a line.
macro_rules! print {
    ($($text:tt)*) => { $crate::print::text(format_args!($($text)*), b"") };
}

/// Writes a text and its end, as [`require`] has it.
pub fn text(text: fmt::Arguments<'_>, end: &[u8]) {
    if io::stdout().is_terminal() {
        drawn(&lines_for_terminal(&text.to_string()), end);
    } else {
        write(|out| out.write_fmt(text), end);
    }
}

/// As [`text`], where the control characters are the program's own.
pub fn drawn(text: &str, end: &[u8]) {
    write(|out| out.write_all(text.as_bytes()), end);
}

fn write(text: impl FnOnce(&mut StdoutLock<'_>) -> io::Result<()>, end: &[u8]) {
    let mut out = io::stdout().lock();
    let written = text(&mut out)
        .and_then(|()| out.write_all(end))
        .and_then(|()| out.flush());
    require(written);
}

/// What writing to standard output came to: who reads it may be gone, which changes nothing; anything
/// else ends the program with a sentence.
pub fn require(written: io::Result<()>) {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "error: standard output: {error}");
            process::exit(1);
        }
        _ => {}
    }
}
